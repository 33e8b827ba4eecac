//! Who may connect: a white list and a black list of principals.

use qsocket_proto::ids::Principal;
use std::collections::BTreeSet;
use std::fmt;

/// The white list and the black list of a listener. The default admits every authenticated principal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    /// When present, only these principals are admitted. An empty list admits nobody.
    pub allow: Option<BTreeSet<Principal>>,
    /// These principals are never admitted, even when they stand on the white list.
    pub deny: BTreeSet<Principal>,
}

impl AccessList {
    /// Whether a principal may connect. The black list wins.
    pub fn decide(&self, principal: Principal) -> Decision {
        if self.deny.contains(&principal) {
            return Decision::Denied(Reason::Blacklisted);
        }
        match &self.allow {
            Some(allow) if !allow.contains(&principal) => Decision::Denied(Reason::NotWhitelisted),
            _ => Decision::Allowed,
        }
    }
}

/// The answer of an access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// The principal may connect.
    Allowed,
    /// The principal is refused.
    Denied(Reason),
}

/// Why a principal is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It stands on the black list.
    Blacklisted,
    /// There is a white list, and it does not stand on it.
    NotWhitelisted,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blacklisted => "the client is on the server's black list",
            Self::NotWhitelisted => "the client is not on the server's white list",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(serial: u32) -> Principal {
        Principal { network: 1, denomination: 0, serial }
    }

    #[test]
    fn without_lists_everyone_is_admitted() {
        assert_eq!(AccessList::default().decide(p(1)), Decision::Allowed);
    }

    #[test]
    fn the_black_list_wins() {
        let list = AccessList { allow: Some([p(1), p(2)].into()), deny: [p(2), p(3)].into() };
        assert_eq!(list.decide(p(1)), Decision::Allowed);
        assert_eq!(list.decide(p(2)), Decision::Denied(Reason::Blacklisted));
        assert_eq!(list.decide(p(3)), Decision::Denied(Reason::Blacklisted));
        assert_eq!(list.decide(p(4)), Decision::Denied(Reason::NotWhitelisted));
    }

    #[test]
    fn the_same_serial_elsewhere_is_another_principal() {
        let list = AccessList { allow: Some([p(1)].into()), deny: BTreeSet::new() };
        for other in [Principal { network: 2, ..p(1) }, Principal { denomination: 1, ..p(1) }] {
            assert_eq!(list.decide(other), Decision::Denied(Reason::NotWhitelisted));
        }
        let nobody = AccessList { allow: Some(BTreeSet::new()), deny: BTreeSet::new() };
        assert_eq!(nobody.decide(p(1)), Decision::Denied(Reason::NotWhitelisted));
    }

    #[test]
    fn reasons_read_as_sentences() {
        assert!(Reason::Blacklisted.to_string().contains("black list"));
        assert!(Reason::NotWhitelisted.to_string().contains("white list"));
    }
}
