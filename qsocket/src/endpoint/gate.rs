//! Who may have a connection or a stream of one endpoint, asked when it comes and again when that may have changed.

use crate::access::{AccessList, Action, Denial, Directory, Permit, Resource};
use crate::config::Config;
use crate::keys::Keys;
use qsocket_proto::crypto::schedule::EncryptionKey;
use qsocket_proto::endpoint::Admission;
use qsocket_proto::ids::{KeyId, Principal, Role};
use qsocket_proto::open::Refusal;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;

/// What decides for one principal of an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    own: Principal,
    role: Role,
    lists: AccessList,
    directory: Option<Arc<dyn Directory>>,
}

impl Gate {
    pub(super) fn new(config: &Config, (own, role): (Principal, Role)) -> Self {
        let (lists, directory) = (config.listen().access.clone(), config.directory().cloned());
        Self { own, role, lists, directory }
    }

    /// Whether the peer may have a connection with this endpoint.
    pub(super) fn admit(&self, peer: Principal) -> Result<(), Denial> {
        if self.role == Role::Client {
            return Ok(());
        }
        self.lists.check(peer)?;
        self.directory.as_ref().map_or(Ok(()), |directory| directory.admit(peer))
    }

    /// Whether there may be a stream with this peer that names this resource. A server asks whether the client may dial
    /// it and whether it may itself host it, a client whether the server may host it.
    pub(super) fn permit(&self, peer: Principal, resource: &str, at: SystemTime) -> Result<Permit, Denial> {
        let Some(directory) = &self.directory else { return Ok(Permit::default()) };
        let resource = Resource::Named(resource);
        match self.role {
            Role::Client => directory.decide(peer, Action::Host, resource, at),
            Role::Server => {
                let dial = directory.decide(peer, Action::Dial, resource, at)?;
                let host = directory.decide(self.own, Action::Host, resource, at).inspect_err(|denial| {
                    tracing::warn!(server = %self.own, %resource, %denial, "a client may dial what this server may not host");
                })?;
                let until = [dial.until, host.until].into_iter().flatten().min();
                Ok(Permit { until, ..dial })
            }
        }
    }

    /// Whether what was permitted may be taken back.
    pub(super) fn can_change(&self) -> bool {
        self.directory.is_some()
    }

    /// Changes whenever what was permitted may not be any more.
    pub(super) fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.directory.as_ref()?.changes()
    }
}

/// What a server's core asks before it accepts a connection.
pub(super) struct Door {
    pub(super) gate: Gate,
    pub(super) keys: Keys,
}

impl Admission for Door {
    fn admit(&self, client: Principal) -> Result<(), Refusal> {
        self.gate.admit(client).map_err(|denial| {
            tracing::info!(%client, %denial, "refused a connection");
            denial.reason.refusal()
        })
    }

    fn holds_key(&self, client: Principal) -> bool {
        self.keys.knows(self.gate.own, client)
    }

    fn encryption_key(&self, client: Principal, id: KeyId) -> Option<Arc<EncryptionKey>> {
        self.keys.accepting(self.gate.own, client, id, SystemTime::now())
    }
}
