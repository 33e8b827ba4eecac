//! Questions to a directory, which one layer asks and a guard asks again.

use crate::refusal::{Forbidden, Refused, Why, peer};
use http::Request;
use qsocket::Principal;
use qsocket::access::{Action, Denial, Directory, Permit, Reason, Resource};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// What is asked of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// That it may have a connection.
    Admission,
    /// That it may dial the resource of this name.
    Resource(Arc<str>),
    /// That it may have a connection, and its user is in the group.
    Group(Arc<str>),
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admission => f.write_str("a connection"),
            Self::Resource(id) => Resource::Id(id).fmt(f),
            Self::Group(name) => write!(f, "what the group {name:?} may"),
        }
    }
}

/// A question and whom it goes to.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) question: Question,
}

/// In the extensions of a request: what was asked on its way here, for a guard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed(pub(crate) Vec<Check>);

impl Check {
    /// Asks about a principal, now.
    pub(crate) fn ask(&self, who: Principal) -> Result<Permit, Denial> {
        match &self.question {
            Question::Admission => self.directory.admit(who).map(|()| Permit::default()),
            Question::Resource(id) => {
                self.directory.decide(who, Action::Dial, Resource::Id(id), SystemTime::now())
            }
            Question::Group(group) => {
                self.directory.admit(who)?;
                let user = self.directory.user(who).ok_or(Reason::UnknownUser)?;
                if !user.is_in(group) {
                    return Err(Reason::NotGranted.into());
                }
                let mut permit = Permit::default();
                permit.user = Some(user);
                Ok(permit)
            }
        }
    }

    /// Asks about the peer of a request, and notes in its extensions that it was asked.
    pub(crate) fn pass<B>(&self, request: &mut Request<B>) -> Result<Permit, Refused> {
        let who = peer(request)?.principal;
        match self.ask(who) {
            Ok(permit) => {
                request.extensions_mut().get_or_insert_default::<Passed>().0.push(self.clone());
                Ok(permit)
            }
            Err(denial) => Err(refuse(who, &self.question, &denial.into(), request)),
        }
    }
}

/// Logs a refusal, and makes the answer.
pub(crate) fn refuse<B>(
    who: Principal,
    wanted: &dyn fmt::Display,
    forbidden: &Forbidden,
    request: &Request<B>,
) -> Refused {
    tracing::info!(peer = %who, %wanted, why = %forbidden, "a request is refused");
    Refused::new(Why::Forbidden(forbidden.code()), request.headers())
}
