//! One relay: its configuration, its handle, its numbers.

use crate::names;
use crate::posts::{PostQuota, Posts};
use crate::principals::Principals;
use crate::roster::Roster;
use crate::state::{Core, read_header};
use crate::stats::Stats;
use qsocket_net::{Listener, Transport};
use qsocket_proto::hop::{HANDSHAKE_TIMEOUT, HopLimits};
use qsocket_proto::ids::{PathId, Principal, Role};
use qsocket_proto::raida_key::RelayTable;
use qsocket_proto::relay::{
    EgressLimits, MAX_HOPS_PER_ADDRESS, RegisterError, Registration, Router, RouterConfig,
};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::runtime::Handle;

/// What waits sealed for one socket: less than the protocol's cap, because the kernel takes another 128 KiB unsent
/// and control frames wait behind both.
pub const OUTBOX: usize = 128 * 1024;

/// How long a peer may take no byte at all before its hop is closed: as long as it may be silent.
pub const STALLED_AFTER: Duration = Duration::from_secs(45);

/// TCP connections that a relay accepts in all, below the open files that servers usually may have with room for
/// the dialled ones. At most 4 MiB wait for each, but only connections that are authenticated have a queue.
pub const MAX_CONNECTIONS: usize = 16_384;

/// TCP connections whose handshake is not over: more than honest clients have under way at once, and
/// about 32 MiB. Beyond it the
/// oldest is closed for the newest, so that a flood from very many addresses shortens the time that each has, to a
/// third of a second at 3,000 connections a second, and keeps nobody out who is quicker.
pub const MAX_HANDSHAKES: usize = 1024;

/// New TCP connections a second that one address may make, sustained: in two seconds all the hops that it may hold,
/// so that everybody behind it returns soon after an outage, and too little to keep a core busy with handshakes.
pub const HANDSHAKES_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(31);

/// The bounds of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections that one address (IPv6: a /64) may hold; [`MAX_HOPS_PER_ADDRESS`].
    pub hops_per_address: u32,
    /// New TCP connections a second from one address, sustained; [`HANDSHAKES_PER_SECOND`]. As many as it may hold
    /// are accepted at once.
    pub handshakes_per_second: NonZeroU32,
    /// TCP connections accepted in all; [`MAX_CONNECTIONS`].
    pub connections: usize,
    /// TCP connections whose handshake is not over; [`MAX_HANDSHAKES`]. Beyond it the oldest of them is closed.
    pub handshakes: usize,
    /// Time from the TCP connection to the last byte of the handshake, at most the protocol's
    /// [`HANDSHAKE_TIMEOUT`].
    pub handshake: Duration,
    /// [`STALLED_AFTER`].
    pub stalled: Duration,
    /// What waits for a route and for a hop.
    pub egress: EgressLimits,
    /// How long record keys are used.
    pub records: HopLimits,
    /// Posts of keys that are kept.
    pub posts: PostQuota,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hops_per_address: MAX_HOPS_PER_ADDRESS,
            handshakes_per_second: HANDSHAKES_PER_SECOND,
            connections: MAX_CONNECTIONS,
            handshakes: MAX_HANDSHAKES,
            handshake: HANDSHAKE_TIMEOUT,
            stalled: STALLED_AFTER,
            egress: EgressLimits { outbox: OUTBOX, ..EgressLimits::default() },
            records: HopLimits::default(),
            posts: PostQuota::default(),
        }
    }
}

/// A server's address as one relay knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Who is reached.
    pub principal: Principal,
    /// The address that clients name.
    pub service: SocketAddr,
    /// Where this relay dials; `None` if the server dials the relay.
    pub dial: Option<SocketAddr>,
}

/// Where a relay listens.
#[derive(Debug)]
pub enum Listen {
    /// Bind this address; port 0 takes a free one.
    Address(SocketAddr),
    /// Take a socket that listens already. It is made non-blocking.
    Listener(std::net::TcpListener),
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl From<std::net::TcpListener> for Listen {
    fn from(listener: std::net::TcpListener) -> Self {
        Self::Listener(listener)
    }
}

/// What a relay is.
///
/// # Security
/// `table` holds the relay's half of every RAIDA key. `Debug` does not show the numbers.
#[derive(Debug)]
pub struct RelayConfig {
    /// Which of the 25.
    pub path: PathId,
    /// Of which RAIDA.
    pub network: u16,
    /// The authenticity numbers of all principals.
    pub table: RelayTable,
    /// The servers that are known from the start; more with [`Relay::register`].
    pub servers: Vec<Server>,
    /// Where to listen.
    pub listen: Listen,
    /// Dial loopback and private addresses too: for tests and closed networks only.
    pub dial_any_address: bool,
    /// Bounds.
    pub limits: Limits,
    /// Where it keeps the shares of keys that principals leave for each other.
    pub posts: Arc<dyn Posts>,
    /// The names that it keeps.
    pub names: names::Registry,
    /// Where it keeps what principals change over their hops. `None`: they change nothing.
    pub principals: Option<Arc<dyn Principals>>,
}

/// One running relay (`docs/protocol.md`, section 7).
///
/// Dropping it aborts its tasks and ends its connections; [`Relay::stop`] also waits until all of it is gone.
#[derive(Debug)]
pub struct Relay {
    core: Arc<Core>,
    address: SocketAddr,
    network: u16,
    dial_any_address: bool,
}

impl Relay {
    /// Starts a relay on the current tokio runtime, of any flavour.
    ///
    /// # Errors
    /// When the address cannot be bound, or a server cannot be registered ([`io::ErrorKind::InvalidInput`], with the
    /// [`RegisterError`] inside).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(config: RelayConfig) -> io::Result<Self> {
        Self::spawn_on(config, &Handle::current())
    }

    /// Starts a relay whose tasks run on the runtime of `handle`, which needs its IO and time drivers.
    ///
    /// # Errors
    /// As [`Relay::spawn`].
    pub fn spawn_on(config: RelayConfig, handle: &Handle) -> io::Result<Self> {
        let RelayConfig { path, network, table, servers, listen, dial_any_address, .. } = config;
        let RelayConfig { limits, posts, names, principals, .. } = config;
        let table = Arc::new(RwLock::new(table));
        let transport = Transport::Tcp;
        let shape = Shape { path, network, dial_any_address, limits, transport, posts, names, principals };
        Self::spawn_shared(shape, table, (&servers, Known::default()), listen, handle)
    }

    pub(crate) fn spawn_shared(
        shape: Shape,
        table: Arc<RwLock<RelayTable>>,
        (servers, known): (&[Server], Known),
        at: Listen,
        handle: &Handle,
    ) -> io::Result<Self> {
        let _runtime = handle.enter();
        let Shape { path, network, dial_any_address, limits, transport, posts, names, principals } = shape;
        let listener = match at {
            Listen::Address(address) => transport.listen(address)?,
            Listen::Listener(listener) => {
                listener.set_nonblocking(true)?;
                Listener::Tcp(tokio::net::TcpListener::from_std(listener)?)
            }
        };
        let router = Router::new(RouterConfig { relay: path, network, dial_any_address, read_header });
        let kept = (posts, names, principals);
        let core = Core::new(path, limits, table, (transport, listener), handle.clone(), router, kept);
        let relay = Self { address: core.local_addr()?, core, network, dial_any_address };
        for server in servers {
            relay.register(*server).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        }
        relay.core.set_claims(known.claims, known.next, known.awaited);
        relay.core.start();
        tracing::info!(relay = %path, address = %relay.address, "relay started");
        Ok(relay)
    }

    /// Which of the 25 it is.
    pub fn path(&self) -> PathId {
        self.core.path
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Registers one more address of a server; the relay dials it at once if there is where.
    ///
    /// # Errors
    /// [`RegisterError`]: too many addresses, another network, or an address that this relay does not dial.
    pub fn register(&self, server: Server) -> Result<(), RegisterError> {
        let Server { principal, service, dial } = server;
        self.core.register(principal, Registration { destination: service, dial })
    }

    /// Exchanges all that the relay knows about principals, as one step.
    ///
    /// Who is not in the new table, or has another number there, is unknown from now on: its hops are closed with
    /// CLOSE done, its routes end, and a handshake under way does not become a hop. Everybody else notices nothing;
    /// only handshakes that are under way when somebody leaves have to be repeated. Servers are reached at exactly
    /// the addresses of the roster. Byte quotas hold at once, a lower number of routes for new ones.
    ///
    /// # Errors
    /// As [`Roster::check`]; nothing has changed then.
    pub fn replace(&self, roster: Roster) -> Result<(), RegisterError> {
        roster.check(self.network, self.dial_any_address)?;
        self.core.replace(roster)
    }

    /// Ends the relay without haste: accepts and reads no more, lets out what waits for its peers, tells them CLOSE
    /// with reason done and waits until they have closed; after `within` at the latest it stops as
    /// [`Relay::stop`] does.
    ///
    /// # Cancel safety
    /// The relay accepts and reads no more even if this is cancelled; drop it then.
    pub async fn drain(&self, within: Duration) {
        self.core.drain(within).await;
        if let Some(mut tasks) = self.core.close() {
            while tasks.join_next().await.is_some() {}
        }
    }

    /// The names that it keeps, with what its operator may do about them.
    pub fn names(&self) -> &names::Registry {
        &self.core.names
    }

    /// Counters, consistent one by one and not with each other.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Stops reading, writing, accepting and all timers, and keeps every socket open: a relay that hangs.
    pub fn freeze(&self) {
        self.core.set_frozen(true);
    }

    /// Goes on after [`Relay::freeze`].
    pub fn thaw(&self) {
        self.core.set_frozen(false);
    }

    /// Aborts every task, closes every socket at once and waits until that is done; then the port refuses.
    ///
    /// # Cancel safety
    /// Everything is aborted before the first await; cancelling only forgoes the wait.
    pub async fn stop(self) {
        if let Some(mut tasks) = self.core.close() {
            while tasks.join_next().await.is_some() {}
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.core.close().is_some() {
            tracing::debug!(relay = %self.core.path, "relay dropped");
        }
    }
}

/// What stays the same when a relay starts again.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) path: PathId,
    pub(crate) network: u16,
    pub(crate) dial_any_address: bool,
    pub(crate) limits: Limits,
    pub(crate) transport: Transport,
    pub(crate) posts: Arc<dyn Posts>,
    pub(crate) names: names::Registry,
    pub(crate) principals: Option<Arc<dyn Principals>>,
}

/// What principals changed over their hops before a relay started.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) claims: Vec<Server>,
    pub(crate) next: RelayTable,
    pub(crate) awaited: BTreeSet<(Principal, Role)>,
}
