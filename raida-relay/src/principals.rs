//! What principals tell a relay about themselves over their hops, kept for good: `docs/protocol.md`, section 20.

use crate::Server;
use crate::state::lock;
use async_trait::async_trait;
use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
use qsocket_proto::ids::{Principal, Role};
use qsocket_proto::raida_key::{RelayTable, duplicate, duplicate_table, equal};
use qsocket_proto::relay::Registration;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

/// Takes into use what was kept.
pub type Apply<'a> = &'a (dyn Fn() + Send + Sync);

/// What became of addresses that a server registers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// They are kept, for good even if the process ends now.
    Kept,
    /// Another server has one of them.
    Taken,
    /// With those that the operator registered they are too many.
    TooMany,
    /// The server is not known, or not any more.
    Unknown,
}

/// What became of a number that is to take the place of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// It is kept, for good even if the process ends now.
    Kept,
    /// The principal is not known, or not any more, or no number waits for it.
    Unknown,
}

/// A store failed, and what it said.
#[derive(Debug, thiserror::Error)]
#[error("the store of principals: {0}")]
pub struct PrincipalsFailed(pub String);

/// Where a relay keeps what principals change over their hops.
///
/// Every method is one step: of two processes that share a store, or two calls at once, one comes first. `apply` is
/// called when the change is kept and before the next one, or a [`Roster`](crate::Roster) that was read from the same
/// store, is taken; so what the relay knows is never older than what it said.
///
/// # Cancel safety
/// The relay does not cancel calls; a store may finish what was begun.
#[async_trait]
pub trait Principals: fmt::Debug + Send + Sync + 'static {
    /// Puts the addresses that a server registers itself in the place of those that it registered before.
    ///
    /// # Errors
    /// When the store fails; nothing has changed then.
    async fn register(
        &self,
        server: Principal,
        claims: &[Registration],
        apply: Apply<'_>,
    ) -> Result<Registered, PrincipalsFailed>;

    /// Keeps a number beside the one that a principal has, until it is used; another one that waits is forgotten.
    ///
    /// # Errors
    /// When the store fails; nothing has changed then.
    async fn rotate(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed>;

    /// Puts the number that waits in the place of the other one, which is forgotten. `next` is the one that was used: if
    /// another one waits meanwhile, nothing changes.
    ///
    /// # Errors
    /// When the store fails; nothing has changed then.
    async fn settle(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed>;
}

/// What principals change, for as long as this value lives: for relays inside of tests and examples.
#[derive(Debug, Default)]
pub struct MemoryPrincipals {
    claims: Mutex<BTreeMap<Principal, Vec<Registration>>>,
    next: Mutex<RelayTable>,
}

impl MemoryPrincipals {
    /// All that servers registered.
    pub fn claims(&self) -> Vec<Server> {
        let all = lock(&self.claims);
        let of = |(server, claims): (&Principal, &Vec<Registration>)| {
            let server = *server;
            let one =
                move |r: Registration| Server { principal: server, service: r.destination, dial: r.dial };
            claims.iter().copied().map(one).collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    }

    /// The numbers that wait to be used.
    pub(crate) fn next(&self) -> RelayTable {
        duplicate_table(&lock(&self.next))
    }
}

#[async_trait]
impl Principals for MemoryPrincipals {
    async fn register(
        &self,
        server: Principal,
        claims: &[Registration],
        apply: Apply<'_>,
    ) -> Result<Registered, PrincipalsFailed> {
        let mut all = lock(&self.claims);
        let mut others = all.iter().filter(|(other, _)| **other != server).flat_map(|(_, claims)| claims);
        if others.any(|other| claims.iter().any(|claim| claim.destination == other.destination)) {
            return Ok(Registered::Taken);
        }
        all.insert(server, claims.to_vec());
        apply();
        Ok(Registered::Kept)
    }

    async fn rotate(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed> {
        let mut all = lock(&self.next);
        all.insert(who, duplicate(next));
        apply();
        Ok(Rotated::Kept)
    }

    async fn settle(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed> {
        let mut all = lock(&self.next);
        if !all.get(&who).is_some_and(|n| equal(n, next)) {
            return Ok(Rotated::Unknown);
        }
        all.remove(&who);
        apply();
        Ok(Rotated::Kept)
    }
}
