//! What principals change over their hops, in the store.

use super::store::{Store, StoreError};
use async_trait::async_trait;
use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
use qsocket_proto::ids::{Principal, Role};
use qsocket_proto::relay::Registration;
use raida_relay::principals::{Apply, Enrolled, Principals, PrincipalsFailed, Registered, Rotated};
use std::time::SystemTime;
use tokio::sync::{Mutex, MutexGuard};

/// The store of a relay that runs, for writing, and whose turn it is.
#[derive(Debug)]
pub(crate) struct StorePrincipals {
    store: Store,
    /// Held from a change, or from reading the store, until the relay has taken it.
    turn: Mutex<()>,
}

impl StorePrincipals {
    /// `store` is open for writing.
    pub(crate) fn new(store: Store) -> Self {
        Self { store, turn: Mutex::new(()) }
    }

    /// Waits until no change is under way, and lets none begin.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// One change, in its turn: what was kept is applied before the next one.
    async fn step<D: PartialEq>(
        &self,
        change: impl Future<Output = Result<D, StoreError>>,
        kept: D,
        apply: Apply<'_>,
    ) -> Result<D, PrincipalsFailed> {
        let _turn = self.turn().await;
        let done = change.await.map_err(|e| PrincipalsFailed(e.to_string()))?;
        if done == kept {
            apply();
        }
        Ok(done)
    }
}

#[async_trait]
impl Principals for StorePrincipals {
    async fn register(
        &self,
        server: Principal,
        claims: &[Registration],
        apply: Apply<'_>,
    ) -> Result<Registered, PrincipalsFailed> {
        let change = self.store.register(server, claims, SystemTime::now());
        self.step(change, Registered::Kept, apply).await
    }

    async fn rotate(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed> {
        self.step(self.store.rotate(who, next), Rotated::Kept, apply).await
    }

    async fn settle(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed> {
        self.step(self.store.settle(who, next), Rotated::Kept, apply).await
    }

    async fn enrol(
        &self,
        now: u64,
        sponsor: Principal,
        who: (Principal, Role),
        number: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Enrolled, PrincipalsFailed> {
        self.step(self.store.enrol(now, sponsor, who, number), Enrolled::Kept, apply).await
    }

    async fn arrive(
        &self,
        who: (Principal, Role),
        number: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Enrolled, PrincipalsFailed> {
        self.step(self.store.arrive(who, number), Enrolled::Kept, apply).await
    }
}
