//! One user who may dial one resource, until the test says otherwise.

use qsocket::Principal;
use qsocket::access::{Action, Denial, Directory, Permit, Reason, Resource, User};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;

/// The resource.
pub(super) const ID: &str = "wiki";

#[derive(Debug)]
pub(super) struct OneUser {
    who: Principal,
    permitted: watch::Sender<bool>,
    changes: watch::Sender<u64>,
}

impl OneUser {
    /// The principal is Ann of the group staff, and is permitted.
    pub(super) fn new(who: Principal) -> Arc<Self> {
        Arc::new(Self { who, permitted: watch::Sender::new(true), changes: watch::Sender::new(0) })
    }

    pub(super) fn permit(&self, permitted: bool) {
        self.permitted.send_replace(permitted);
        self.changes.send_modify(|version| *version += 1);
    }
}

impl Directory for OneUser {
    fn admit(&self, _: Principal) -> Result<(), Denial> {
        Ok(())
    }

    fn decide(
        &self,
        who: Principal,
        action: Action,
        resource: Resource<'_>,
        _: SystemTime,
    ) -> Result<Permit, Denial> {
        assert_eq!((action, resource), (Action::Dial, Resource::Id(ID)));
        let user = self.user(who).ok_or(Reason::UnknownUser)?;
        if *self.permitted.borrow() { Ok(Permit::new(user, ID)) } else { Err(Reason::NotGranted.into()) }
    }

    fn user(&self, who: Principal) -> Option<User> {
        (who == self.who).then(|| User::new("ann", ["staff"]))
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changes.subscribe())
    }
}
