//! A policy: users, groups, resources, lists, grants and denials, and how they answer a question.

mod edit;
mod explain;
mod file;
mod names;
mod rule;
#[cfg(test)]
mod tests;

pub use explain::{Explanation, Step};
pub use names::{MAX_NAME, Object, Service, Subject};
pub use rule::Rule;

use super::{Action, Denial, Permit, Reason, Resource, User};
use qsocket_proto::ids::Principal;
use rule::Rules;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Who there is, what there is, and who may do what. By default nobody may do anything.
///
/// # The order of the questions
/// The first that has the wrong answer decides:
/// 1. Does the **black list** name the principal, its user or a group of its user? Refused, whatever else is granted.
/// 2. Is there a **white list** that names none of them? Refused. Asked of who dials, not of who hosts.
/// 3. Does the principal belong to a **user**?
/// 4. Does the name belong to a **resource**?
/// 5. Does a **denial** that is not over name them, the resource and the action? Refused.
/// 6. Does a **grant** that is not over? Allowed, by the one that lasts longest.
///
/// Otherwise it is refused: [`Reason::Expired`] where a grant was there and is over, else [`Reason::NotGranted`].
///
/// # Editing
/// Every edit leaves the policy consistent: rules name only what there is. Removing something never allows more: a
/// group on the black list or in a denial is replaced there by its members when it goes, a user on the black list by its
/// principals; grants simply forget. A new user, group or resource of an old name begins without what the old one had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    users: BTreeMap<Arc<str>, Member>,
    owners: BTreeMap<Principal, Arc<str>>,
    groups: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    resources: BTreeMap<Arc<str>, Offer>,
    services: BTreeMap<Service, Arc<str>>,
    resource_groups: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    white: Option<BTreeSet<Subject>>,
    black: BTreeSet<Subject>,
    grants: Rules,
    denials: Rules,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Member {
    principals: BTreeSet<Principal>,
    groups: BTreeSet<Arc<str>>,
}

/// A resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Offer {
    services: BTreeSet<Service>,
    groups: BTreeSet<Arc<str>>,
}

/// Which kind of thing a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A user.
    User,
    /// A group of users.
    Group,
    /// A resource.
    Resource,
    /// A group of resources.
    ResourceGroup,
    /// A grant or a denial.
    Rule,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Group => "user group",
            Self::Resource => "resource",
            Self::ResourceGroup => "resource group",
            Self::Rule => "rule",
        })
    }
}

/// Why an edit is refused, or a text is not what it should be. The policy is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not a name.
    #[error(
        "{0:?} is not a name: begin with a letter, use letters, digits, '-', '_', '.', '@' and '+', at most {MAX_NAME}"
    )]
    Name(String),
    /// Not a name of a rule.
    #[error("{0:?} is not a name of a rule: use 1 to {MAX_NAME} bytes without control characters")]
    RuleName(String),
    /// Not a name of a service.
    #[error(
        "{0:?} is not a name that clients connect to: write HOST or HOST:PORT, for example wiki.example:443"
    )]
    Service(String),
    /// Something of the same kind has the name.
    #[error("there is a {0} {1:?} already; use another name")]
    Taken(Kind, Arc<str>),
    /// Nothing of this kind has the name.
    #[error("there is no {0} {1:?}; add it first, or correct the name")]
    Unknown(Kind, Arc<str>),
    /// A principal is one user's alone.
    #[error("{0} belongs to user {1:?}; a principal belongs to one user")]
    Owned(Principal, Arc<str>),
    /// A service leads to one resource alone.
    #[error("{0} leads to resource {1:?}; a name leads to one resource")]
    Led(Service, Arc<str>),
    /// A rule that names nobody, nothing or no action.
    #[error("the rule {0:?} is about nothing: it needs somebody, something and an action")]
    Empty(Arc<str>),
}

/// Hears of each question, by the reason that its wrong answer would be, with the answer.
type Note<'a> = dyn FnMut(Reason, fmt::Arguments<'_>) + 'a;

/// What one question is about, looked up.
struct Asked<'a> {
    user: Option<(&'a Arc<str>, &'a Member)>,
    /// The principal, its user, the groups of its user.
    subjects: Vec<Subject>,
}

impl Policy {
    /// A policy in which there is nobody and nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whom the principal belongs to.
    pub fn user(&self, who: Principal) -> Option<User> {
        self.asked(who).user.map(|(name, member)| User::new(name.clone(), member.groups.iter().cloned()))
    }

    /// The principals of a user, if there is one of this name.
    pub fn principals(&self, user: &str) -> Option<&BTreeSet<Principal>> {
        self.users.get(user).map(|member| &member.principals)
    }

    /// All grants.
    pub fn grants(&self) -> impl Iterator<Item = &Rule> {
        self.grants.iter()
    }

    /// All denials.
    pub fn denials(&self) -> impl Iterator<Item = &Rule> {
        self.denials.iter()
    }

    /// The white list, if there is one.
    pub fn white_list(&self) -> Option<&BTreeSet<Subject>> {
        self.white.as_ref()
    }

    /// The black list.
    pub fn black_list(&self) -> &BTreeSet<Subject> {
        &self.black
    }

    /// Whether a principal may have a connection: the first three questions.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, who: Principal) -> Result<(), Denial> {
        self.admitted(who, Action::Dial, &mut |_, _| ()).map(|_| ())
    }

    /// Whether a principal may do something with a resource at a time: see [`Policy`].
    ///
    /// # Errors
    /// Why not.
    pub fn decide(
        &self,
        who: Principal,
        action: Action,
        resource: Resource<'_>,
        at: SystemTime,
    ) -> Result<Permit, Denial> {
        self.answer(who, action, resource, at, &mut |_, _| ())
    }

    /// As [`decide`](Self::decide), and tells `note` each question with its answer.
    fn answer(
        &self,
        who: Principal,
        action: Action,
        resource: Resource<'_>,
        at: SystemTime,
        note: &mut Note<'_>,
    ) -> Result<Permit, Denial> {
        let (asked, name, member) = self.admitted(who, action, note)?;
        let Some((id, offer)) = self.resource(resource) else {
            note(Reason::UnknownResource, format_args!("{resource} belongs to none"));
            return Err(Reason::UnknownResource.into());
        };
        note(Reason::UnknownResource, format_args!("{resource} belongs to {id}"));

        let mut objects = vec![Object::Resource(id.clone())];
        objects.extend(offer.groups.iter().cloned().map(Object::Group));
        let mut denials = self.denials.matching(&objects, action, &asked.subjects);
        if let Some(rule) = denials.find(|rule| !rule.is_over(at)) {
            note(Reason::Denied, format_args!("{:?} denies it", rule.name));
            return Err(Denial::from(Reason::Denied).with_rule(rule.name.clone()));
        }
        note(Reason::Denied, format_args!("none"));

        let grants = || self.grants.matching(&objects, action, &asked.subjects);
        // No end lasts longest; of two with one end the first by name.
        let longest = grants().filter(|rule| !rule.is_over(at)).min_by_key(|rule| {
            std::cmp::Reverse((rule.until.is_none(), rule.until.unwrap_or(SystemTime::UNIX_EPOCH)))
        });
        if let Some(rule) = longest {
            note(Reason::NotGranted, format_args!("{:?} grants it{}", rule.name, explain::End(rule.until)));
            let user = User::new(name.clone(), member.groups.iter().cloned());
            let permit = Permit::new(user, id.clone()).with_rule(rule.name.clone());
            return Ok(Permit { until: rule.until, ..permit });
        }
        if let Some(rule) = grants().max_by_key(|rule| rule.until) {
            note(Reason::Expired, format_args!("{:?} granted it{}", rule.name, explain::End(rule.until)));
            return Err(Denial::from(Reason::Expired).with_rule(rule.name.clone()));
        }
        note(Reason::NotGranted, format_args!("none"));
        Err(Reason::NotGranted.into())
    }

    /// The questions about the principal alone.
    fn admitted(
        &self,
        who: Principal,
        action: Action,
        note: &mut Note<'_>,
    ) -> Result<(Asked<'_>, &Arc<str>, &Member), Denial> {
        let asked = self.asked(who);
        let on = |list: &BTreeSet<Subject>| asked.subjects.iter().find(|s| list.contains(s)).cloned();
        if let Some(subject) = on(&self.black) {
            note(Reason::BlackListed, format_args!("names {subject}"));
            return Err(Denial::from(Reason::BlackListed).with_rule(format!("{subject} on the black list")));
        }
        note(Reason::BlackListed, format_args!("does not name it"));

        match (&self.white, action) {
            (Some(white), Action::Dial) => match on(white) {
                Some(subject) => note(Reason::NotWhiteListed, format_args!("names {subject}")),
                None => {
                    note(Reason::NotWhiteListed, format_args!("does not name it"));
                    return Err(Reason::NotWhiteListed.into());
                }
            },
            (Some(_), Action::Host) => {
                note(Reason::NotWhiteListed, format_args!("is about dialling"));
            }
            (None, _) => note(Reason::NotWhiteListed, format_args!("there is none")),
        }

        let Some((name, member)) = asked.user else {
            note(Reason::UnknownUser, format_args!("none has this principal"));
            return Err(Reason::UnknownUser.into());
        };
        note(Reason::UnknownUser, format_args!("{}", explain::InGroups(name, member)));
        Ok((asked, name, member))
    }

    fn asked(&self, who: Principal) -> Asked<'_> {
        let user = self.owners.get(&who).and_then(|name| self.users.get_key_value(name));
        let mut subjects = vec![Subject::Principal(who)];
        if let Some((name, member)) = user {
            subjects.push(Subject::User(name.clone()));
            subjects.extend(member.groups.iter().cloned().map(Subject::Group));
        }
        Asked { user, subjects }
    }

    fn resource(&self, resource: Resource<'_>) -> Option<(&Arc<str>, &Offer)> {
        let id = match resource {
            Resource::Id(id) => id,
            Resource::Named(name) => {
                let service: Service = name.parse().ok()?;
                self.services.get(&service).or_else(|| self.services.get(&service.without_port()))?
            }
        };
        self.resources.get_key_value(id)
    }
}
