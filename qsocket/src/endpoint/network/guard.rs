//! What was permitted is looked at again when that may have changed.

use super::Network;
use crate::access::Permit;
use crate::connection::{Held, State};
use crate::error::ConnectError;
use qsocket_net::clock::now;
use qsocket_proto::ids::{Principal, Role, StreamId};
use qsocket_proto::open::Refusal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// How often streams are looked at whose permission has an end: such a stream is closed well within a second of it, also
/// when this host's clock is set.
const LOOK_AT_ENDS: Duration = Duration::from_millis(250);

impl Network {
    /// Whether a stream to a server may be opened.
    pub(in crate::endpoint) fn permit(
        &self,
        server: Principal,
        resource: &str,
    ) -> Result<Permit, ConnectError> {
        self.gate.permit(server, resource, SystemTime::now()).map_err(ConnectError::NotPermitted)
    }

    /// Notes a permitted stream, so that the permission can be taken back.
    pub(in crate::endpoint) fn hold(&self, state: &mut State, id: StreamId, held: Held) {
        if self.gate.can_change() {
            self.ends_exist.fetch_or(held.until.is_some(), Ordering::AcqRel);
            state.hold(id, held);
        }
    }

    /// Takes back what is not permitted any more, for as long as the endpoint lives. Whatever changes from this call on
    /// is seen, even if the future is polled later.
    pub(in crate::endpoint) fn guard(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        let changes = self.gate.changes();
        async move {
            let Some(mut changes) = changes else {
                return self.guard_ends(std::future::pending()).await;
            };
            loop {
                let changed = async {
                    // A directory whose sender is gone changes no more.
                    if changes.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                };
                self.guard_ends(changed).await;
                self.take_back(|_| true);
            }
        }
    }

    /// Takes back what comes to its end, until `changed`.
    async fn guard_ends(&self, changed: impl Future<Output = ()>) {
        tokio::pin!(changed);
        loop {
            tokio::select! {
                () = &mut changed => return,
                () = tokio::time::sleep(LOOK_AT_ENDS) => {}
            }
            if self.ends_exist.swap(false, Ordering::AcqRel) {
                let now = SystemTime::now();
                self.take_back(|held| held.until.is_some_and(|until| until <= now));
            }
        }
    }

    /// Asks again about the streams that `doubtful` names, and about every connection.
    fn take_back(&self, doubtful: impl Fn(&Held) -> bool) {
        let (now, at) = (now(), SystemTime::now());
        for conn in self.connections() {
            let mut state = conn.lock();
            let peer = match self.membership.role() {
                Role::Client => state.connection.server(),
                Role::Server => state.connection.client(),
            };
            if let Err(denial) = self.gate.admit(peer) {
                tracing::info!(%peer, %denial, "took a connection back");
                state.connection.revoke_all(now);
            } else {
                for (id, held) in state.held() {
                    let permit = doubtful(&held).then(|| self.gate.permit(peer, &held.resource, at));
                    match permit {
                        None => self.hold(&mut state, id, held),
                        Some(Ok(permit)) => self.hold(&mut state, id, Held { until: permit.until, ..held }),
                        Some(Err(denial)) => {
                            tracing::info!(%peer, resource = ?held.resource, %denial, "took a stream back");
                            state.connection.revoke(id, Refusal::Revoked);
                        }
                    }
                }
            }
            conn.dispatch(self, &mut state);
            drop(state);
            conn.wake();
        }
    }
}
