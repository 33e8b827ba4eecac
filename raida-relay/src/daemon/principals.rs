//! What principals change over their hops, in the store.

use super::store::Store;
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
}

#[async_trait]
impl Principals for StorePrincipals {
    async fn register(
        &self,
        server: Principal,
        claims: &[Registration],
        apply: Apply<'_>,
    ) -> Result<Registered, PrincipalsFailed> {
        let _turn = self.turn().await;
        let done = self.store.register(server, claims, SystemTime::now()).await;
        let done = done.map_err(|e| PrincipalsFailed(e.to_string()))?;
        if done == Registered::Kept {
            apply();
        }
        Ok(done)
    }

    async fn rotate(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed> {
        let _turn = self.turn().await;
        let done = self.store.rotate(who, next).await.map_err(|e| PrincipalsFailed(e.to_string()))?;
        if done == Rotated::Kept {
            apply();
        }
        Ok(done)
    }

    async fn settle(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed> {
        let _turn = self.turn().await;
        let done = self.store.settle(who, next).await.map_err(|e| PrincipalsFailed(e.to_string()))?;
        if done == Rotated::Kept {
            apply();
        }
        Ok(done)
    }

    async fn enrol(
        &self,
        now: u64,
        sponsor: Principal,
        who: (Principal, Role),
        number: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Enrolled, PrincipalsFailed> {
        let _turn = self.turn().await;
        let done = self.store.enrol(now, sponsor, who, number).await;
        let done = done.map_err(|e| PrincipalsFailed(e.to_string()))?;
        if done == Enrolled::Kept {
            apply();
        }
        Ok(done)
    }

    async fn arrive(
        &self,
        who: (Principal, Role),
        number: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Enrolled, PrincipalsFailed> {
        let _turn = self.turn().await;
        let done = self.store.arrive(who, number).await.map_err(|e| PrincipalsFailed(e.to_string()))?;
        if done == Enrolled::Kept {
            apply();
        }
        Ok(done)
    }
}
