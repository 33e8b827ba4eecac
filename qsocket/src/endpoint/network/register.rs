//! Server: telling relays its own addresses, over hops that it dials.

use super::Network;
use crate::config::{DialledBy, Registration};
use crate::hop;
use qsocket_files::rng::OsRng;
use qsocket_proto::call::{Service, Status};
use qsocket_proto::ids::{HopAt, PathId, Role};
use qsocket_proto::register::Register;
use qsocket_proto::relay;
use std::net::SocketAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Before a relay is asked again that did not answer or had no time.
const AGAIN: Duration = Duration::from_secs(2);

/// Before a relay is asked again that refused: its operator has to do something first.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);

impl Network {
    /// Server: keeps the relays told for as long as the endpoint lives, if there is something to tell.
    pub(crate) fn keep_registered(&self) {
        if self.identity().1 != Role::Server || self.membership.registrations().is_empty() {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        for path in PathId::all() {
            self.spawn(hop::keep_registered(me.clone(), path));
        }
    }

    /// Waits until so many relays know the addresses of this server; at once if there is nothing to tell.
    pub(crate) async fn registered_at(&self, count: usize) {
        if !self.membership.registrations().is_empty() {
            // Ends only with the network, which the caller keeps.
            let _ = self.told.subscribe().wait_for(|told| told.len() >= count).await;
        }
    }

    /// Whether the server keeps the hops that it dials.
    pub(crate) fn dials_out(&self) -> bool {
        self.membership.dials_out()
    }

    /// A hop of the server stands, until `over`: says over it which addresses are the server's. One that this side dialled
    /// comes with `leave`: it is given up once the relay knows where to dial, unless the server keeps its own hops.
    pub(crate) fn register(&self, at: HopAt, over: CancellationToken, leave: Option<CancellationToken>) {
        if self.membership.registrations().is_empty() {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        let path = at.path;
        let telling = async move {
            let body = me.registered(path).encode();
            let mut refused = None;
            loop {
                let answer = me.call_over(me.hop(at), Service::Register, &body).await;
                let wait = match answer.map(|(status, _)| status) {
                    Some(Status::Ok) => {
                        tracing::debug!(%path, "the relay knows the addresses of this server");
                        me.told.send_if_modified(|told| told.insert(path));
                        if let Some(leave) = leave.filter(|_| !me.dials_out()) {
                            leave.cancel();
                        }
                        return;
                    }
                    Some(Status::Busy) | None => AGAIN,
                    Some(status) => {
                        if refused.replace(status) != Some(status) {
                            let hint = hint(status);
                            tracing::warn!(%path, %status, "the relay does not register this server: {hint}");
                        }
                        REFUSED_AGAIN
                    }
                };
                // Relays that were asked together are not asked together again.
                tokio::time::sleep(wait.mul_f64(1.0 + OsRng.unit() / 4.0)).await;
            }
        };
        self.spawn(async move {
            tokio::select! {
                // The next hop has its own.
                () = over.cancelled() => {}
                () = telling => {}
            }
        });
    }

    /// What the relay of a path is told.
    fn registered(&self, path: PathId) -> Register {
        let ports =
            if self.membership.listen().is_none() { self.config.listen().ports.as_ref() } else { None };
        let one = |Registration { address, dialled_by }: &Registration| relay::Registration {
            destination: *address,
            dial: match (dialled_by, ports) {
                (DialledBy::Server, _) => None,
                (DialledBy::Relays, Some(ports)) => {
                    Some(SocketAddr::new(address.ip(), ports.get(path).port()))
                }
                // `Membership` takes no address whose 25 ports do not exist.
                (DialledBy::Relays, None) => {
                    relay::Registration::at_base(*address, path).and_then(|r| r.dial)
                }
            },
        };
        Register { registrations: self.membership.registrations().iter().map(one).collect() }
    }
}

/// What to do about a refusal.
fn hint(status: Status) -> &'static str {
    match status {
        Status::NoSuchService => "it is too old; let its operator register the addresses",
        Status::NotPermitted => {
            "its operator does not allow it, or the address is not public; let the operator register the addresses"
        }
        Status::Exists => {
            "another server has one of the addresses; register another one, or ask its operator"
        }
        Status::Quota => "with those that its operator registered they are more than four; register fewer",
        _ => "its operator's log says why",
    }
}
