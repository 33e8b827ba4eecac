//! What principals tell a relay about themselves over their hops, kept for good: `docs/protocol.md`, section 20.

use crate::Server;
use crate::state::lock;
use async_trait::async_trait;
use qsocket_proto::ids::Principal;
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

/// A store failed, and what it said.
#[derive(Debug, thiserror::Error)]
#[error("the store of principals: {0}")]
pub struct RegistryFailed(pub String);

/// Where a relay keeps what principals change over their hops.
///
/// Every method is one step: of two processes that share a store, or two calls at once, one comes first. `apply` is
/// called when the change is kept and before the next one, or a [`Roster`](crate::Roster) that was read from the same
/// store, is taken; so what the relay knows is never older than what it said.
///
/// # Cancel safety
/// The relay does not cancel calls; a store may finish what was begun.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Puts the addresses that a server registers itself in the place of those that it registered before.
    ///
    /// # Errors
    /// When the store fails; nothing has changed then.
    async fn register(
        &self,
        server: Principal,
        claims: &[Registration],
        apply: Apply<'_>,
    ) -> Result<Registered, RegistryFailed>;
}

/// A registry that lives as long as this value: for relays inside of tests and examples.
#[derive(Debug, Default)]
pub struct MemoryRegistry(Mutex<BTreeMap<Principal, Vec<Registration>>>);

impl MemoryRegistry {
    /// All that servers registered.
    pub fn claims(&self) -> Vec<Server> {
        let all = lock(&self.0);
        let of = |(server, claims): (&Principal, &Vec<Registration>)| {
            let server = *server;
            let one =
                move |r: Registration| Server { principal: server, service: r.destination, dial: r.dial };
            claims.iter().copied().map(one).collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn register(
        &self,
        server: Principal,
        claims: &[Registration],
        apply: Apply<'_>,
    ) -> Result<Registered, RegistryFailed> {
        let mut all = lock(&self.0);
        let mut others = all.iter().filter(|(other, _)| **other != server).flat_map(|(_, claims)| claims);
        if others.any(|other| claims.iter().any(|claim| claim.destination == other.destination)) {
            return Ok(Registered::Taken);
        }
        all.insert(server, claims.to_vec());
        apply();
        Ok(Registered::Kept)
    }
}
