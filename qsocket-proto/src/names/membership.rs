//! The text in the DNS that says with whom keys for a name are exchanged.

use crate::ids::Principal;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// The RKE membership of a name, as its TXT record says it:
/// `v=rke1; network=1; server=1.0.7; number=305419896`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The RAIDA through which keys are exchanged.
    pub network: u16,
    /// Who answers, if the owner named somebody.
    pub server: Option<Principal>,
    /// The number of the name.
    pub number: NonZeroU32,
}

/// A text is no RKE membership.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "an RKE membership reads v=rke1; network=1; server=1.0.7; number=305419896, without a server if there is none"
)]
pub struct MembershipSyntax;

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=rke1; network={}; ", self.network)?;
        if let Some(server) = self.server {
            write!(f, "server={server}; ")?;
        }
        write!(f, "number={}", self.number)
    }
}

impl FromStr for Membership {
    type Err = MembershipSyntax;

    /// Reads the one form that [`Membership`] prints, and no other: two texts never mean the same.
    fn from_str(text: &str) -> Result<Self, MembershipSyntax> {
        fn value<'a>(part: Option<&'a str>, key: &str) -> Result<&'a str, MembershipSyntax> {
            part.and_then(|part| part.strip_prefix(key)?.strip_prefix('=')).ok_or(MembershipSyntax)
        }
        let mut parts = text.split("; ").peekable();
        if value(parts.next(), "v")? != "rke1" {
            return Err(MembershipSyntax);
        }
        let network = value(parts.next(), "network")?.parse().map_err(|_| MembershipSyntax)?;
        let server = match parts.next_if(|part| part.starts_with("server=")) {
            None => None,
            part => Some(value(part, "server")?.parse().map_err(|_| MembershipSyntax)?),
        };
        let number = value(parts.next(), "number")?.parse().map_err(|_| MembershipSyntax)?;
        let membership = Self { network, server, number };
        if server.is_some_and(|server: Principal| server.network != network)
            || parts.next().is_some()
            || membership.to_string() != text
        {
            return Err(MembershipSyntax);
        }
        Ok(membership)
    }
}
