//! Who is at the other end, in the form that requests carry.

use crate::LiveHealth;
use qsocket::access::Permit;
use qsocket::keys::KeyId;
use qsocket::{Health, Principal, QSocketStream};
use std::net::SocketAddr;
use std::sync::Arc;

/// Who is at the other end of a stream, as it stood when the stream came; only [`health`](Self::health) follows what
/// happens. Two of them are equal if they say the same of the peer, whatever the health is.
///
/// # Security
/// [`principal`](Self::principal), [`ml_kem`](Self::ml_kem) and [`encryption_key`](Self::encryption_key) were
/// verified before a byte of the stream was read; decide access by the principal. [`resource`](Self::resource) and
/// [`address`](Self::address) are what the client said.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The principal: at a server a client that 16 relays vouch for, at a client the server.
    pub principal: Principal,
    /// At a server the name that the client says it connected to; empty at a client.
    pub resource: String,
    /// At a server the address that the client stated; at a client the address that the server registered.
    pub address: SocketAddr,
    /// An ML-KEM-768 secret is mixed into the keys.
    pub ml_kem: bool,
    /// The id of the Encryption key of both principals that is mixed into the keys, if there is one.
    pub encryption_key: Option<KeyId>,
    /// By what the directory of the listener permits the stream: user, groups, resource, rule, end. Empty without a
    /// directory, and at a client without one of its own. A stream that is not permitted any more is closed.
    pub permit: Arc<Permit>,
    /// How many of the [`PATHS`](Self::PATHS) paths of the connection were live. Few at the first stream of a
    /// connection, whose paths are just joining.
    pub paths_live: usize,
    /// How many of them are well now.
    pub health: LiveHealth,
}

impl PartialEq for PeerInfo {
    fn eq(&self, other: &Self) -> bool {
        let Self { principal, resource, address, ml_kem, encryption_key, permit, paths_live, health: _ } =
            self;
        *principal == other.principal
            && *resource == other.resource
            && *address == other.address
            && *ml_kem == other.ml_kem
            && *encryption_key == other.encryption_key
            && *permit == other.permit
            && *paths_live == other.paths_live
    }
}

impl Eq for PeerInfo {}

impl PeerInfo {
    /// How many paths a connection has at most.
    pub const PATHS: usize = 25;

    /// A peer with neither key nor path, for tests of what decides by a `PeerInfo`; the fields can be set.
    pub fn new(principal: Principal, resource: impl Into<String>, address: SocketAddr) -> Self {
        Self {
            principal,
            resource: resource.into(),
            address,
            ml_kem: false,
            encryption_key: None,
            permit: Arc::default(),
            paths_live: 0,
            health: LiveHealth::fixed(Health::Lost),
        }
    }

    /// The number of the network that the principal belongs to.
    pub fn network(&self) -> u16 {
        self.principal.network
    }

    /// Reads it off a stream.
    ///
    /// # Errors
    /// Those of [`QSocketStream::peer_addr`].
    pub fn of(stream: &QSocketStream) -> std::io::Result<Self> {
        let (peer, (paths_live, health)) = (stream.peer(), LiveHealth::of(stream));
        Ok(Self {
            ml_kem: peer.ml_kem,
            encryption_key: peer.encryption_key,
            permit: Arc::new(stream.permit().clone()),
            paths_live,
            health,
            ..Self::new(peer.principal, stream.resource(), stream.peer_addr()?)
        })
    }

    /// Finds who asks in the extensions of a request: where tonic and hyper put it, or where axum does behind
    /// `into_make_service_with_connect_info::<PeerInfo>()`, or `MockConnectInfo` in its tests.
    ///
    /// # Security
    /// Extensions are the program's. Nothing that a client sends gets there.
    #[cfg(feature = "http")]
    pub fn find(extensions: &http::Extensions) -> Option<&Self> {
        let found = extensions.get();
        #[cfg(feature = "axum-08")]
        let found = found.or_else(|| crate::axum::find(extensions));
        found
    }
}
