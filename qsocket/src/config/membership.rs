//! Who a principal is in one RAIDA.

use super::{Raida, SettingError};
use qsocket_proto::ids::{Principal, Role};
use qsocket_proto::raida_key::RaidaKey;
use std::net::SocketAddr;
use std::sync::Arc;

/// A RAIDA with one's own key in it.
///
/// Each network knows its members by keys of its own: nothing of one membership is used in another.
#[derive(Clone, Debug)]
pub struct Membership {
    raida: Raida,
    key: Arc<RaidaKey>,
    listen: Option<SocketAddr>,
}

impl Membership {
    /// Puts relays and key together.
    ///
    /// # Errors
    /// [`SettingError::KeyNetwork`] when the key is for another network.
    pub fn new(raida: Raida, key: impl Into<Arc<RaidaKey>>) -> Result<Self, SettingError> {
        let key = key.into();
        let found = key.principal().network;
        if found != raida.network {
            return Err(SettingError::KeyNetwork { found, network: raida.network });
        }
        Ok(Self { raida, key, listen: None })
    }

    /// Sets where a server listens for the relays of this network: at this port and the 24 that follow, port 0 for
    /// any 25 free ports. For every network but the first, which is served at the address that the program binds.
    #[must_use]
    pub fn with_listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// The network's number.
    pub fn network(&self) -> u16 {
        self.raida.network
    }

    /// The network and its relays.
    pub fn raida(&self) -> &Raida {
        &self.raida
    }

    /// The principal's key in it.
    pub fn key(&self) -> &Arc<RaidaKey> {
        &self.key
    }

    /// Who one is in it.
    pub fn principal(&self) -> Principal {
        self.key.principal()
    }

    /// What one's key is for.
    pub fn role(&self) -> Role {
        self.key.role()
    }

    /// Where a server listens for the relays of this network, when it is not the first.
    pub fn listen(&self) -> Option<SocketAddr> {
        self.listen
    }
}
