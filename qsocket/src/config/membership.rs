//! Who a principal is in one RAIDA.

use super::{AddressError, Raida, RelayAddresses, SettingError};
use qsocket_proto::ids::{Principal, Role};
use qsocket_proto::raida_key::RaidaKey;
use qsocket_proto::relay::MAX_ADDRESSES;
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
    registrations: Vec<Registration>,
}

/// Which side builds the hops of a registered address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DialledBy {
    /// The relays dial the server: relay *i* at the address's port + *i*, or at the port that
    /// [`Listen::ports`](super::Listen::ports) names for it.
    #[default]
    Relays,
    /// The server dials the relays, and keeps these hops. It needs no open port: for servers behind address translators
    /// and firewalls. Nothing listens at the address then; it is the name that clients know.
    Server,
}

/// An address that a server registers itself with its relays, over hops that it dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What clients ask for.
    pub address: SocketAddr,
    /// Which side builds the hops.
    pub dialled_by: DialledBy,
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
        Ok(Self { raida, key, listen: None, registrations: Vec::new() })
    }

    /// Sets where a server listens for the relays of this network: at this port and the 24 that follow, port 0 for
    /// any 25 free ports. For every network but the first, which is served at the address that the program binds.
    #[must_use]
    pub fn with_listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Has a server register an address with the relays of this network itself, instead of their operators.
    ///
    /// It dials every relay for that, and again after each new hop. If all addresses are
    /// [dialled by the server](DialledBy::Server), it opens no port in this network.
    ///
    /// # Errors
    /// When the key is a client's, more than four addresses, one of them twice, or ports that do not exist.
    pub fn with_registration(mut self, registration: Registration) -> Result<Self, SettingError> {
        let Registration { address, dialled_by } = registration;
        if self.role() != Role::Server {
            return Err(SettingError::RegistrationOfClient);
        }
        match dialled_by {
            DialledBy::Relays => {
                _ = RelayAddresses::from_base(address).map_err(SettingError::Registration)?
            }
            DialledBy::Server if address.port() == 0 => {
                return Err(SettingError::Registration(AddressError::PortZero(address)));
            }
            DialledBy::Server => {}
        }
        if self.registrations.iter().any(|known| known.address == address) {
            return Err(SettingError::Registration(AddressError::Twice(address)));
        }
        if self.registrations.len() == MAX_ADDRESSES {
            return Err(SettingError::TooManyRegistrations);
        }
        self.registrations.push(registration);
        Ok(self)
    }

    /// What a server registers itself.
    pub fn registrations(&self) -> &[Registration] {
        &self.registrations
    }

    /// Whether a server keeps hops that it dials.
    pub(crate) fn dials_out(&self) -> bool {
        self.registrations.iter().any(|r| r.dialled_by == DialledBy::Server)
    }

    /// Where clients find a server that nobody dials; `None` if relays dial it.
    pub(crate) fn opens_no_port(&self) -> Option<SocketAddr> {
        let first = self.registrations.first()?;
        self.registrations.iter().all(|r| r.dialled_by == DialledBy::Server).then_some(first.address)
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
