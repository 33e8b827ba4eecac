//! Who may do what: the decisions that a listener enforces before it gives a stream, and that a program may ask for
//! itself.
//!
//! A [`Directory`] decides. There are two here: [`AccessList`], a white list and a black list of principals, and
//! [`LiveDirectory`], which holds a [`Policy`] of users, groups, resources and grants and may be edited, or read again
//! from its file, while listeners use it. A program may bring its own.
//!
//! # What a listener asks
//! 1. [`Directory::admit`], when a client opens a connection. A refusal reaches the client under seal, as a
//!    [`Refusal`].
//! 2. [`Directory::decide`], for each stream: may the client [`Dial`](Action::Dial) what the stream names, and may this
//!    server [`Host`](Action::Host) it? Without the second question, a client with a grant for one service could
//!    name that service to another. A stream that is refused never reaches `accept`.
//! 3. Both again whenever [`Directory::changes`] says so and when a permit runs out: streams and connections that
//!    would be refused now are closed.
//!
//! A client whose configuration has a directory asks before it opens a stream whether the server may host the name.
//!
//! # Security
//! Decisions are by [`Principal`], which 16 relays vouch for, never by what the client says of itself. The client does
//! say what it wants, so a permit is for the name that it gave: a program that serves different things decides by
//! [`QSocketStream::resource`](crate::QSocketStream::resource) or asks the directory itself.

mod list;
mod live;
pub mod policy;

pub use list::AccessList;
pub use live::LiveDirectory;
pub use policy::Policy;

use qsocket_proto::ids::Principal;
use qsocket_proto::open::Refusal;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;

/// What a principal wants to do with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Open streams to it, or use it.
    Dial,
    /// Serve it.
    Host,
}

impl Action {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Dial, Self::Host];

    /// The word for it in policy files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The name that a stream was opened with, usually `host:port`: whatever the client wrote.
    Named(&'a str),
    /// A resource of the directory, by its own name there: for a program's own questions.
    Id(&'a str),
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What a peer wrote is shown escaped.
            Self::Named(name) => write!(f, "the name {name:?}"),
            Self::Id(id) => write!(f, "the resource {id:?}"),
        }
    }
}

/// Who a directory takes a principal for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The name in the directory.
    pub name: Arc<str>,
    /// The groups that the user is in, in order.
    pub groups: Arc<[Arc<str>]>,
}

impl User {
    /// A user of these groups.
    pub fn new(name: impl Into<Arc<str>>, groups: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        let mut groups: Vec<Arc<str>> = groups.into_iter().map(Into::into).collect();
        groups.sort_unstable();
        groups.dedup();
        Self { name: name.into(), groups: groups.into() }
    }

    /// Whether the user is in this group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|name| &**name == group)
    }
}

/// That something is allowed, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Permit {
    /// Whom the directory takes the principal for; `None` from a directory without users.
    pub user: Option<User>,
    /// The resource that the name belongs to, by its name in the directory; `None` from a directory without resources.
    pub resource: Option<Arc<str>>,
    /// The rule that allows it, as people find it: `"staff-reads"` or `grant 2`. `None` where no rule is needed.
    pub rule: Option<Arc<str>>,
    /// Until when it holds; `None` for no end.
    pub until: Option<SystemTime>,
}

impl Permit {
    /// A permit that names its user and resource, without rule and end.
    pub fn new(user: User, resource: impl Into<Arc<str>>) -> Self {
        Self { user: Some(user), resource: Some(resource.into()), ..Self::default() }
    }

    /// Sets the rule that allows it.
    #[must_use]
    pub fn with_rule(mut self, rule: impl Into<Arc<str>>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// Sets its end.
    #[must_use]
    pub fn with_until(mut self, until: SystemTime) -> Self {
        self.until = Some(until);
        self
    }
}

/// That something is refused, and why.
///
/// # Security
/// For this side's logs and people. A peer is told [`Reason::refusal`], which does not say what exists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{reason}{}", rule.as_deref().map(|rule| format!(", by {rule}")).unwrap_or_default())]
pub struct Denial {
    /// Which question had the wrong answer.
    pub reason: Reason,
    /// The rule that refuses it, as people find it, where one does.
    pub rule: Option<Arc<str>>,
}

impl Denial {
    /// A refusal by this rule.
    #[must_use]
    pub fn with_rule(mut self, rule: impl Into<Arc<str>>) -> Self {
        self.rule = Some(rule.into());
        self
    }
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        Self { reason, rule: None }
    }
}

/// Why something is refused. The order is the order of the questions: the first that has the wrong answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The principal stands on the black list, or its user, or a group of its user.
    BlackListed,
    /// There is a white list, and the principal does not stand on it.
    NotWhiteListed,
    /// The directory has no user with this principal.
    UnknownUser,
    /// The name belongs to no resource of the directory.
    UnknownResource,
    /// A rule denies it, whatever else grants it.
    Denied,
    /// What granted it is over.
    Expired,
    /// Nothing grants it.
    NotGranted,
}

impl Reason {
    /// Every reason, in the order of the questions.
    pub const ALL: [Self; 7] = [
        Self::BlackListed,
        Self::NotWhiteListed,
        Self::UnknownUser,
        Self::UnknownResource,
        Self::Denied,
        Self::Expired,
        Self::NotGranted,
    ];

    /// A word for programs, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::BlackListed => "black-listed",
            Self::NotWhiteListed => "not-white-listed",
            Self::UnknownUser => "unknown-user",
            Self::UnknownResource => "unknown-resource",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::NotGranted => "not-granted",
        }
    }

    /// The word for what the peer is told, for programs that answer in a protocol of their own. Unlike the
    /// [`code`](Self::code) it does not say what exists.
    pub fn public_code(self) -> &'static str {
        match self.refusal() {
            Refusal::BlackListed => Self::BlackListed.code(),
            Refusal::NotWhiteListed => Self::NotWhiteListed.code(),
            _ => "not-permitted",
        }
    }

    /// What the peer is told. Whether a user or a resource exists, is denied or is out of time is not its business.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::BlackListed => Refusal::BlackListed,
            Self::NotWhiteListed => Refusal::NotWhiteListed,
            Self::UnknownUser | Self::UnknownResource | Self::Denied | Self::Expired | Self::NotGranted => {
                Refusal::NotPermitted
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BlackListed => "the black list names it",
            Self::NotWhiteListed => "the white list does not name it",
            Self::UnknownUser => "the principal belongs to no user",
            Self::UnknownResource => "the name belongs to no resource",
            Self::Denied => "a rule denies it",
            Self::Expired => "the grant is over",
            Self::NotGranted => "nothing grants it",
        })
    }
}

/// Decides who may do what.
///
/// Decisions are quick and do not wait: they are made with a connection's lock held. A directory that asks others keeps
/// what it learnt at hand, and says with [`changes`](Self::changes) when it learnt something else.
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// Whether a principal may have a connection at all.
    ///
    /// # Errors
    /// Why not.
    fn admit(&self, who: Principal) -> Result<(), Denial>;

    /// Whether a principal may do something with a resource at a time. Whom [`admit`](Self::admit) refuses may dial
    /// nothing.
    ///
    /// # Errors
    /// Why not.
    fn decide(
        &self,
        who: Principal,
        action: Action,
        resource: Resource<'_>,
        at: SystemTime,
    ) -> Result<Permit, Denial>;

    /// Whom the principal belongs to.
    fn user(&self, who: Principal) -> Option<User>;

    /// Changes whenever decisions may have changed other than by time. `None` if they never do.
    fn changes(&self) -> Option<watch::Receiver<u64>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_has_no_public_code() {
        for reason in Reason::ALL {
            let expected = match reason {
                Reason::BlackListed => "black-listed",
                Reason::NotWhiteListed => "not-white-listed",
                _ => "not-permitted",
            };
            assert_eq!(reason.public_code(), expected);
        }
    }
}
