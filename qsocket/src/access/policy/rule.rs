//! Grants and denials.

use super::{Object, Subject};
use crate::access::Action;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

/// A grant or a denial: to whom, on what, which actions, until when.
///
/// Groups are looked up when a question is asked: who joins a group later is meant too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) name: Arc<str>,
    pub(super) to: BTreeSet<Subject>,
    pub(super) on: BTreeSet<Object>,
    pub(super) may: BTreeSet<Action>,
    pub(super) until: Option<SystemTime>,
}

impl Rule {
    /// A rule about nothing yet. The name is what people find it by; each rule of a policy has another.
    pub fn new(
        name: impl Into<Arc<str>>,
        to: impl IntoIterator<Item = Subject>,
        on: impl IntoIterator<Item = Object>,
        may: impl IntoIterator<Item = Action>,
    ) -> Self {
        Self {
            name: name.into(),
            to: to.into_iter().collect(),
            on: on.into_iter().collect(),
            may: may.into_iter().collect(),
            until: None,
        }
    }

    /// Sets when it ends: from this moment on it is as if it were not there.
    #[must_use]
    pub fn until(mut self, until: SystemTime) -> Self {
        self.until = Some(until);
        self
    }

    /// What people find it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// To whom.
    pub fn to(&self) -> &BTreeSet<Subject> {
        &self.to
    }

    /// On what.
    pub fn on(&self) -> &BTreeSet<Object> {
        &self.on
    }

    /// Which actions.
    pub fn may(&self) -> &BTreeSet<Action> {
        &self.may
    }

    /// When it ends.
    pub fn ends(&self) -> Option<SystemTime> {
        self.until
    }

    pub(super) fn is_over(&self, at: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= at)
    }
}

/// Rules by name, and which of them are about what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    by_name: BTreeMap<Arc<str>, Rule>,
    on: BTreeMap<Object, BTreeSet<Arc<str>>>,
}

impl Rules {
    pub(super) fn get(&self, name: &str) -> Option<&Rule> {
        self.by_name.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.by_name.values()
    }

    pub(super) fn insert(&mut self, rule: Rule) {
        for object in &rule.on {
            self.on.entry(object.clone()).or_default().insert(rule.name.clone());
        }
        self.by_name.insert(rule.name.clone(), rule);
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Rule> {
        let rule = self.by_name.remove(name)?;
        for object in &rule.on {
            if let Some(names) = self.on.get_mut(object) {
                names.remove(name);
                if names.is_empty() {
                    self.on.remove(object);
                }
            }
        }
        Some(rule)
    }

    /// Changes every rule; one that is about nobody or nothing afterwards goes.
    pub(super) fn rewrite(&mut self, mut change: impl FnMut(&mut Rule)) {
        for mut rule in std::mem::take(self).by_name.into_values() {
            change(&mut rule);
            if !rule.to.is_empty() && !rule.on.is_empty() {
                self.insert(rule);
            }
        }
    }

    /// The rules about one of `objects`, for this action and one of `subjects`, in the order of their names.
    pub(super) fn matching<'a>(
        &'a self,
        objects: &'a [Object],
        action: Action,
        subjects: &'a [Subject],
    ) -> impl Iterator<Item = &'a Rule> {
        let names: BTreeSet<&Arc<str>> = objects.iter().filter_map(|o| self.on.get(o)).flatten().collect();
        names
            .into_iter()
            .filter_map(|name| self.by_name.get(name))
            .filter(move |rule| rule.may.contains(&action) && subjects.iter().any(|s| rule.to.contains(s)))
    }
}
