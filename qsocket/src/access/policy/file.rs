//! The file form of a policy; `docs/access.md` describes it.

use super::{Object, Policy, Rule, Service, Subject};
use crate::access::Action;
use qsocket_files::moment;
use qsocket_files::settings::{Datetime, SettingsError, SettingsFile, Spanned};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

/// Names, and what each holds.
type Table = BTreeMap<Spanned<String>, Vec<Spanned<String>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    #[serde(default)]
    users: Table,
    #[serde(default)]
    user_groups: Table,
    #[serde(default)]
    resources: Table,
    #[serde(default)]
    resource_groups: Table,
    #[serde(default)]
    lists: RawLists,
    #[serde(default)]
    grants: Vec<Spanned<RawRule>>,
    #[serde(default)]
    denials: Vec<Spanned<RawRule>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLists {
    white: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    black: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: Option<Spanned<String>>,
    to: Vec<Spanned<String>>,
    on: Vec<Spanned<String>>,
    may: Vec<Spanned<String>>,
    until: Option<Spanned<Datetime>>,
}

impl Policy {
    /// Reads a policy file. Blocks on the file system.
    ///
    /// # Errors
    /// When the file cannot be read, everybody may write to it, or something in it is wrong: with file, line and what to
    /// write. There is no half of a policy.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SettingsError> {
        let file = SettingsFile::read(path)?;
        let raw: RawPolicy = file.parse()?;
        let mut policy = Self::new();
        for (name, principals) in &raw.users {
            policy.add_user(name.get_ref()).map_err(|e| file.error(name, e))?;
            for text in principals {
                let principal = file.principal(text)?;
                policy.add_principal(name.get_ref(), principal).map_err(|e| file.error(text, e))?;
            }
        }
        for (name, users) in &raw.user_groups {
            policy.add_group(name.get_ref()).map_err(|e| file.error(name, e))?;
            for user in users {
                policy.join(name.get_ref(), user.get_ref()).map_err(|e| file.error(user, e))?;
            }
        }
        for (name, services) in &raw.resources {
            policy.add_resource(name.get_ref()).map_err(|e| file.error(name, e))?;
            for text in services {
                let service: Service = text.get_ref().parse().map_err(|e| file.error(text, e))?;
                policy.add_service(name.get_ref(), service).map_err(|e| file.error(text, e))?;
            }
        }
        for (name, resources) in &raw.resource_groups {
            policy.add_resource_group(name.get_ref()).map_err(|e| file.error(name, e))?;
            for resource in resources {
                policy.gather(name.get_ref(), resource.get_ref()).map_err(|e| file.error(resource, e))?;
            }
        }
        if let Some(list) = &raw.lists.white {
            let subjects = list.iter().map(|text| policy.subject(&file, text)).collect::<Result<_, _>>()?;
            // Every subject was checked.
            policy.white = Some(subjects);
        }
        for text in &raw.lists.black {
            let subject = policy.subject(&file, text)?;
            policy.black.insert(subject);
        }
        for (kind, rules) in [("grant", &raw.grants), ("denial", &raw.denials)] {
            for spot in rules {
                let rule = policy.rule(&file, kind, spot)?;
                let added = if kind == "grant" { policy.grant(rule) } else { policy.deny(rule) };
                added.map_err(|e| match &spot.get_ref().name {
                    Some(name) => file.error(name, e),
                    None => file.error(spot, e),
                })?;
            }
        }
        Ok(policy)
    }

    fn subject(&self, file: &SettingsFile, text: &Spanned<String>) -> Result<Subject, SettingsError> {
        let subject: Subject = text.get_ref().parse().map_err(|e| file.error(text, e))?;
        self.check_subject(&subject).map_err(|e| file.error(text, e))?;
        Ok(subject)
    }

    fn object(&self, file: &SettingsFile, text: &Spanned<String>) -> Result<Object, SettingsError> {
        let object: Object = text.get_ref().parse().map_err(|e| file.error(text, e))?;
        self.check_object(&object).map_err(|e| file.error(text, e))?;
        Ok(object)
    }

    fn rule(&self, file: &SettingsFile, kind: &str, spot: &Spanned<RawRule>) -> Result<Rule, SettingsError> {
        let raw = spot.get_ref();
        let to = raw.to.iter().map(|text| self.subject(file, text)).collect::<Result<Vec<_>, _>>()?;
        let on = raw.on.iter().map(|text| self.object(file, text)).collect::<Result<Vec<_>, _>>()?;
        let may = raw.may.iter().map(|text| action(file, text)).collect::<Result<Vec<_>, _>>()?;
        let name = match &raw.name {
            Some(name) => name.get_ref().clone(),
            None => format!("{kind} in line {}", file.line(spot)),
        };
        let rule = Rule::new(name, to, on, may);
        Ok(match &raw.until {
            Some(until) => rule.until(moment(file, until)?),
            None => rule,
        })
    }
}

fn action(file: &SettingsFile, text: &Spanned<String>) -> Result<Action, SettingsError> {
    let found = Action::ALL.into_iter().find(|action| action.as_str() == text.get_ref());
    found.ok_or_else(|| {
        file.error(text, format!("{:?} is not an action; write \"dial\" or \"host\"", text.get_ref()))
    })
}

fn moment(file: &SettingsFile, text: &Spanned<Datetime>) -> Result<SystemTime, SettingsError> {
    moment::parse(&text.get_ref().to_string()).ok_or_else(|| {
        file.error(text, "until: write date, time and offset from UTC, for example 2027-01-31T00:00:00Z")
    })
}
