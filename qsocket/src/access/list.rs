//! A white list and a black list of principals.

use super::{Action, Denial, Directory, Permit, Reason, Resource, User};
use qsocket_proto::ids::Principal;
use std::collections::BTreeSet;
use std::time::SystemTime;
use tokio::sync::watch;

/// A white list and a black list. The default admits every authenticated principal, to everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    /// When present, only these principals are admitted. An empty list admits nobody.
    pub allow: Option<BTreeSet<Principal>>,
    /// These principals are never admitted, even when they stand on the white list.
    pub deny: BTreeSet<Principal>,
}

impl AccessList {
    /// Whether a principal may connect. The black list wins.
    ///
    /// # Errors
    /// Which list refuses it.
    pub fn check(&self, principal: Principal) -> Result<(), Reason> {
        if self.deny.contains(&principal) {
            return Err(Reason::BlackListed);
        }
        match &self.allow {
            Some(allow) if !allow.contains(&principal) => Err(Reason::NotWhiteListed),
            _ => Ok(()),
        }
    }
}

impl Directory for AccessList {
    fn admit(&self, who: Principal) -> Result<(), Denial> {
        self.check(who).map_err(Denial::from)
    }

    /// Whoever is admitted may dial everything, and everyone may host.
    fn decide(
        &self,
        who: Principal,
        action: Action,
        _: Resource<'_>,
        _: SystemTime,
    ) -> Result<Permit, Denial> {
        match action {
            Action::Dial => self.admit(who).map(|()| Permit::default()),
            Action::Host => Ok(Permit::default()),
        }
    }

    fn user(&self, _: Principal) -> Option<User> {
        None
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
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
        assert_eq!(AccessList::default().check(p(1)), Ok(()));
    }

    #[test]
    fn the_black_list_wins() {
        let list = AccessList { allow: Some([p(1), p(2)].into()), deny: [p(2), p(3)].into() };
        assert_eq!(list.check(p(1)), Ok(()));
        assert_eq!(list.check(p(2)), Err(Reason::BlackListed));
        assert_eq!(list.check(p(3)), Err(Reason::BlackListed));
        assert_eq!(list.check(p(4)), Err(Reason::NotWhiteListed));
    }

    #[test]
    fn the_same_serial_elsewhere_is_another_principal() {
        let list = AccessList { allow: Some([p(1)].into()), deny: BTreeSet::new() };
        for other in [Principal { network: 2, ..p(1) }, Principal { denomination: 1, ..p(1) }] {
            assert_eq!(list.check(other), Err(Reason::NotWhiteListed));
        }
        let nobody = AccessList { allow: Some(BTreeSet::new()), deny: BTreeSet::new() };
        assert_eq!(nobody.check(p(1)), Err(Reason::NotWhiteListed));
    }

    #[test]
    fn whom_the_lists_refuse_may_dial_nothing() {
        let list = AccessList { allow: None, deny: [p(2)].into() };
        let dial = |who| list.decide(who, Action::Dial, Resource::Named("a:1"), SystemTime::UNIX_EPOCH);
        assert_eq!(dial(p(1)), Ok(Permit::default()));
        assert_eq!(dial(p(2)), Err(Reason::BlackListed.into()));
    }
}
