//! Why a policy decides as it does, for people.

use super::{Kind, Member, Policy, PolicyError};
use crate::access::{Action, Denial, Permit, Reason, Resource};
use qsocket_files::moment;
use qsocket_proto::ids::Principal;
use std::fmt;
use std::time::SystemTime;

/// A question that was asked, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The reason that the wrong answer would have been.
    pub about: Reason,
    /// The answer, as a sentence ends.
    pub answer: String,
}

/// A decision, the rule that made it, and every question on the way. `Display` is several lines for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// Who asked.
    pub who: Principal,
    /// For what.
    pub action: Action,
    /// With what, in words.
    pub resource: String,
    /// The questions in their order, up to the one that decided.
    pub steps: Vec<Step>,
    /// The decision, as [`Policy::decide`] makes it.
    pub decision: Result<Permit, Denial>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, action, resource, steps, decision } = self;
        match decision {
            Ok(permit) => {
                write!(f, "{who} may {action} {resource}")?;
                permit.rule.as_ref().map_or(Ok(()), |rule| write!(f, ", by {rule:?}"))?;
            }
            Err(denial) => write!(f, "{who} may not {action} {resource}: {denial}")?,
        }
        for (number, step) in (1..).zip(steps) {
            let question = match step.about {
                Reason::BlackListed => "black list",
                Reason::NotWhiteListed => "white list",
                Reason::UnknownUser => "user",
                Reason::UnknownResource => "resource",
                Reason::Denied => "denials",
                Reason::Expired | Reason::NotGranted => "grants",
            };
            write!(f, "\n  {number} {question}: {}", step.answer)?;
        }
        Ok(())
    }
}

impl Policy {
    /// Says how [`decide`](Self::decide) answers, and why.
    pub fn explain(
        &self,
        who: Principal,
        action: Action,
        resource: Resource<'_>,
        at: SystemTime,
    ) -> Explanation {
        let mut steps = Vec::new();
        let decision = self.answer(who, action, resource, at, &mut |about, answer| {
            steps.push(Step { about, answer: answer.to_string() });
        });
        Explanation { who, action, resource: resource.to_string(), steps, decision }
    }

    /// Says it for each principal of a user.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn explain_user(
        &self,
        user: &str,
        action: Action,
        resource: Resource<'_>,
        at: SystemTime,
    ) -> Result<Vec<Explanation>, PolicyError> {
        let principals =
            self.principals(user).ok_or_else(|| PolicyError::Unknown(Kind::User, user.into()))?;
        Ok(principals.iter().map(|who| self.explain(*who, action, resource, at)).collect())
    }
}

/// A user with its groups, in words.
pub(super) struct InGroups<'a>(pub(super) &'a str, pub(super) &'a Member);

impl fmt::Display for InGroups<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, member) = self;
        write!(f, "{name}, in ")?;
        if member.groups.is_empty() {
            return f.write_str("no group");
        }
        for (at, group) in member.groups.iter().enumerate() {
            write!(f, "{}{group}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// When something ends, in words; nothing for no end.
pub(super) struct End(pub(super) Option<SystemTime>);

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(until) = self.0 else { return Ok(()) };
        // The form that policy files use; a program may give a moment that has none.
        match moment::show(until) {
            Some(text) => write!(f, " until {text}"),
            None => write!(f, " until {until:?}"),
        }
    }
}
