//! The words of a policy: names, subjects, objects, services.

use super::PolicyError;
use crate::resolve::{canonical, parse_name_port};
use qsocket_proto::ids::Principal;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name of a user, a group, a resource or a rule: it goes into logs, headers and labels.
pub const MAX_NAME: usize = 64;

/// How a group is told from a user or a resource of the same name.
const GROUP: &str = "group:";

/// A name of a user, a group or a resource. It begins with a letter, so that no principal looks like one.
pub(super) fn checked(text: &str) -> Result<Arc<str>, PolicyError> {
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b'+');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if begins && text.len() <= MAX_NAME && text.bytes().all(letters) {
        Ok(text.into())
    } else {
        Err(PolicyError::Name(text.chars().take(MAX_NAME).collect()))
    }
}

/// A name of a rule: what people call it.
pub(super) fn checked_rule(text: &str) -> Result<(), PolicyError> {
    if (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(PolicyError::RuleName(text.chars().take(MAX_NAME).collect()))
    }
}

/// Whom a list or a rule names. In text: `1.0.1042`, `alice`, `group:staff`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One key of somebody.
    Principal(Principal),
    /// A user, with every key.
    User(Arc<str>),
    /// Whoever is in the group when the question is asked.
    Group(Arc<str>),
}

impl FromStr for Subject {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if let Some(group) = text.strip_prefix(GROUP) {
            return checked(group).map(Self::Group);
        }
        match text.parse() {
            Ok(principal) => Ok(Self::Principal(principal)),
            Err(_) => checked(text).map(Self::User),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(principal) => fmt::Display::fmt(principal, f),
            Self::User(name) => f.write_str(name),
            Self::Group(name) => write!(f, "{GROUP}{name}"),
        }
    }
}

/// What a rule is about. In text: `wiki`, `group:internal`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A resource.
    Resource(Arc<str>),
    /// Whatever is in the resource group when the question is asked.
    Group(Arc<str>),
}

impl FromStr for Object {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text.strip_prefix(GROUP) {
            Some(group) => checked(group).map(Self::Group),
            None => checked(text).map(Self::Resource),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource(name) => f.write_str(name),
            Self::Group(name) => write!(f, "{GROUP}{name}"),
        }
    }
}

/// What a client names when it opens a stream to a resource: `wiki.example:443`, or `wiki.example` for every port that
/// has no entry of its own. Compared without regard to case or a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    host: String,
    port: Option<u16>,
}

impl Service {
    /// The same host at every port.
    pub(super) fn without_port(&self) -> Self {
        Self { host: self.host.clone(), port: None }
    }
}

impl FromStr for Service {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (host, port) = match parse_name_port(text) {
            Ok((host, port)) => (host, Some(port)),
            Err(_) => (text, None),
        };
        let host =
            canonical(host).map_err(|_| PolicyError::Service(text.chars().take(MAX_NAME).collect()))?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(&self.host),
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}
