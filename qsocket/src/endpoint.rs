//! An endpoint: a principal in one or more networks, with 25 hops in each, and every connection over them.

mod default;
mod gate;
mod network;

use crate::config::Config;
use crate::connection::{Conn, Held, Lifetime};
use crate::error::ConnectError;
use crate::health::Health;
use crate::keys::LiveKeys;
use crate::names::{Dns, is_raida};
use crate::resolve::{NameError, Resolve, Target, Targets, parse_name_port};
use crate::stats::EndpointStats;
use crate::stream::QSocketStream;
use qsocket_net::clock;
use qsocket_proto::connection::ConnectionError;
use qsocket_proto::ids::{PathId, PathSet, Principal, RELAYS, Role, StreamId};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use default::default_client;
pub(crate) use network::{Network, Reply};

/// Accepted streams that wait for [`QSocketListener::accept`](crate::QSocketListener::accept); as many as a TCP
/// listener's usual backlog. Further ones are refused with [`Refusal::Busy`](crate::Refusal::Busy).
pub(crate) const ACCEPT_QUEUE: usize = 1024;

/// Time that [`Endpoint::close`] gives its connections to say goodbye.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);

/// Ends every task of the endpoint when the last handle, stream and listener is gone.
pub(crate) struct Owner {
    networks: Vec<Arc<Network>>,
    _cancel: DropGuard,
}

impl Drop for Owner {
    /// Tells the peers, as far as the sockets take it at once.
    fn drop(&mut self) {
        for network in &self.networks {
            network.say_gone();
        }
    }
}

/// A principal with its hops to the relays, over which any number of streams run.
///
/// A cheap handle: clones share everything. The hops stay for as long as a handle, a stream or a listener of it
/// does. Most programs need none: [`QSocketStream::connect`] uses one per runtime.
///
/// # Several networks
/// An endpoint whose configuration holds keys of several networks is a principal in each of them. A stream to a server
/// runs in the first network, in the order of the *caller's* configuration, that the server is in too. If that network
/// fails, the attempt fails: the next one is not tried, because then whoever can disturb one network would choose
/// another. A program that wants another network says so, with [`in_network`](Self::in_network).
///
/// A client builds the hops of its first network at once, those of another with the first stream in it: 25 connections
/// each, from which the relays there would learn that this client is up.
#[derive(Clone)]
pub struct Endpoint {
    owner: Arc<Owner>,
    first: Arc<Network>,
    /// Further ones, in order of preference.
    more: Arc<[Arc<Network>]>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("principal", &self.principal())
            .field("hops", &self.hops())
            .field("networks", &self.networks())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint that opens streams. The hops of its first network are built in the background; call it inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError::NotAClient`], as an [`io::Error`], if the key of the configuration is a server's.
    pub fn client(config: Config) -> io::Result<Self> {
        let (_, Role::Client) = config.identity() else { return Err(ConnectError::NotAClient.into()) };
        let endpoint = Self::new(config, None);
        endpoint.first.want_hops();
        Ok(endpoint)
    }

    /// The endpoint of a listener.
    pub(crate) fn server(config: Config) -> (Self, mpsc::Receiver<(QSocketStream, SocketAddr)>) {
        let (sender, receiver) = mpsc::channel(ACCEPT_QUEUE);
        (Self::new(config, Some(sender)), receiver)
    }

    fn new(config: Config, accepted: Option<network::Accepted>) -> Self {
        let token = CancellationToken::new();
        let config = Arc::new(config);
        let start = |membership: &crate::config::Membership| {
            Network::new(config.clone(), membership.clone(), accepted.clone(), token.child_token())
        };
        let first = start(config.first());
        let more: Arc<[_]> = config.more().iter().map(start).collect();
        let networks: Vec<_> = std::iter::once(&first).chain(&*more).cloned().collect();
        let owner = Arc::new(Owner { networks, _cancel: token.drop_guard() });
        for network in &owner.networks {
            network.set_owner(&owner);
            if config.directory().is_some() {
                network.spawn(network.clone().guard());
            }
        }
        if let (Some(network), Some(directory)) = (owner.networks.first(), config.watched()) {
            network.spawn(directory.clone().watch());
        }
        if let (Some(network), Some(keys)) = (owner.networks.first(), config.keys()) {
            network.spawn(keys.clone().watch());
        }
        Self { owner, first, more }
    }

    /// The networks of this handle, in order of preference.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Arc<Network>> {
        std::iter::once(&self.first).chain(&*self.more)
    }

    pub(crate) fn first(&self) -> &Arc<Network> {
        &self.first
    }

    pub(crate) fn dns(&self) -> &Dns {
        self.first.dns()
    }

    /// The numbers of the networks, in order of preference; there is at least one.
    pub fn networks(&self) -> Vec<u16> {
        self.parts().map(|n| n.number()).collect()
    }

    /// A handle of this endpoint for one network: all that it does and tells is about that network alone. `None` if
    /// there is no key for it.
    pub fn in_network(&self, network: u16) -> Option<Self> {
        let first = self.parts().find(|n| n.number() == network)?.clone();
        Some(Self { owner: self.owner.clone(), first, more: Arc::new([]) })
    }

    /// The first network that both sides are in.
    fn choose(&self, to: &Targets) -> Result<(&Arc<Network>, Target), ConnectError> {
        if self.first.identity().1 != Role::Client {
            return Err(ConnectError::NotAClient);
        }
        self.parts().find_map(|n| Some((n, to.in_network(n.number())?))).ok_or_else(|| {
            let theirs = to.as_slice().iter().map(|t| t.server.network).collect();
            ConnectError::NoCommonNetwork { ours: self.networks(), theirs }
        })
    }

    /// Opens a stream to `name:port`, as [`resolve`](Self::resolve) finds it.
    ///
    /// The first stream to a server opens a connection, one round trip; further ones cost none.
    ///
    /// # Errors
    /// `NotFound` for a name that nobody knows; [`ConnectError`] inside the [`io::Error`] else. Nothing was sent.
    ///
    /// # Cancel safety
    /// Safe: a dropped attempt leaves at most a connection that the next one uses.
    pub async fn connect(&self, name: impl AsRef<str>) -> io::Result<QSocketStream> {
        let name = name.as_ref();
        let (host, port) = parse_name_port(name)?;
        let targets = self.resolve(host, port).await?;
        self.connect_to(targets, name).await
    }

    /// Finds the server behind `host:port` as [`connect`](Self::connect) does: by the configuration's names; a `.raida` name
    /// that is not among them by what sixteen relays say of it; one that is there without an address by the DNS, which tells
    /// where the server is and not who.
    ///
    /// # Errors
    /// `NotFound` for a name that nobody knows, [`LookupError`](crate::names::LookupError) inside the [`io::Error`] for what was looked up.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Targets> {
        match self.first.names().lookup(host, port) {
            Err(NameError::NoAddress { .. }) => {}
            Err(NameError::Unknown { .. } | NameError::Host(_)) if is_raida(host) => {}
            known => return Ok(known?),
        }
        // Boxed: most names need none of it, and every stream that is opened would have room for it.
        Box::pin(self.looked_up(host, port)).await
    }

    /// As [`resolve`](Self::resolve), without the DNS.
    pub(crate) async fn known(&self, host: &str, port: u16) -> io::Result<Targets> {
        match self.first.names().lookup(host, port) {
            Err(NameError::Unknown { .. } | NameError::Host(_)) if is_raida(host) => {
                let vouched = Box::pin(self.vouched(host)).await?;
                Ok(vouched.server()?.target(host, port)?.into())
            }
            known => Ok(known?),
        }
    }

    async fn looked_up(&self, host: &str, port: u16) -> io::Result<Targets> {
        let server = self.find(host).await?;
        Ok(server.target(host, port)?.into())
    }

    /// Opens a stream to `name:port`, as `names` resolves it.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_with(
        &self,
        name: impl AsRef<str>,
        names: &(impl Resolve + ?Sized),
    ) -> io::Result<QSocketStream> {
        let name = name.as_ref();
        let (host, port) = parse_name_port(name)?;
        let targets = names.resolve(host, port).await?;
        self.connect_to(targets, name).await
    }

    /// Opens a stream to a server at an address that it registered. `resource` (at most 255 bytes) tells the
    /// server what the stream is for. `to` is a [`Target`], or [`Targets`] if the server is in several networks: see
    /// [there](Self#several-networks) which one is used.
    ///
    /// # Errors
    /// [`ConnectError`], inside the [`io::Error`]. Nothing was sent.
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_to(&self, to: impl Into<Targets>, resource: &str) -> io::Result<QSocketStream> {
        let (network, target) = self.choose(&to.into())?;
        network.permit(target.server, resource)?;
        loop {
            let (conn, fresh) = network.peer(target)?;
            match open_on(network, &conn, resource).await {
                // A connection from before may have ended unnoticed; the next round dials a fresh one.
                Err(Opening::Ended(_)) if !fresh => network.drop_peer(target, &conn),
                opened => return self.finish_connect(network, conn, opened, resource),
            }
        }
    }

    /// Opens a stream over a connection of its own, which ends with the stream: it shares keys, counters and
    /// windows with no other stream. Costs the round trip of a first [`connect_to`](Self::connect_to) every time.
    ///
    /// # Errors
    /// As [`connect_to`](Self::connect_to).
    ///
    /// # Cancel safety
    /// Safe: a dropped attempt ends the connection.
    pub async fn connect_fresh(&self, to: impl Into<Targets>, resource: &str) -> io::Result<QSocketStream> {
        let (network, target) = self.choose(&to.into())?;
        network.permit(target.server, resource)?;
        let conn = network.dial(target, Lifetime::OneStream)?;
        let attempt = Attempt(Some(conn.clone()));
        let opened = open_on(network, &conn, resource).await;
        attempt.disarm();
        self.finish_connect(network, conn, opened, resource)
    }

    fn finish_connect(
        &self,
        network: &Network,
        conn: Arc<Conn>,
        opened: Result<StreamId, Opening>,
        resource: &str,
    ) -> io::Result<QSocketStream> {
        match opened {
            Ok(id) => {
                let permit = {
                    let mut state = conn.lock();
                    // Asked again with the lock held, so that a change either is known here or finds the stream.
                    let permit = network.permit(state.connection.server(), resource);
                    match &permit {
                        Ok(permit) => {
                            let held = Held { resource: resource.to_owned(), until: permit.until };
                            network.hold(&mut state, id, held);
                        }
                        Err(_) => state.connection.release(id),
                    }
                    permit
                };
                conn.wake();
                let permit = permit?;
                Ok(QSocketStream::new(self.owner.clone(), conn, id, permit))
            }
            Err(Opening::EndpointClosed) => Err(ConnectError::Closed.into()),
            Err(Opening::Ended(ConnectionError::Refused(reason))) => {
                Err(ConnectError::Refused(reason).into())
            }
            Err(Opening::Ended(cause)) => {
                let (network, hops) = (network.number(), network.hop_status());
                Err(ConnectError::Failed { cause, network, hops }.into())
            }
        }
    }

    /// Exchanges an Encryption key with a server in the first network, by way of the relays: both sides hold it then, and
    /// no relay knows it. With a folder of keys in the configuration ([`Config::with_keys`]) it is kept there, and the next
    /// connection mixes it in; without one it is the caller's to keep.
    ///
    /// # Errors
    /// [`ExchangeError`](crate::exchange::ExchangeError). This side holds no key then; the server may hold one that nobody
    /// uses. Begin another exchange: it draws another key.
    ///
    /// # Cancel safety
    /// Safe, in that a cancelled exchange leaves no key on this side. The server may have kept it.
    ///
    /// # Security
    /// Secret while fewer than 16 of the 25 relays collude at the time of the exchange (`docs/protocol.md`, section 18).
    pub async fn exchange(
        &self,
        server: Principal,
        terms: crate::exchange::Terms,
    ) -> Result<crate::exchange::Exchanged, crate::exchange::ExchangeError> {
        crate::exchange::exchange(&self.first, server, terms).await
    }

    /// Exchanges an Encryption key with the server behind a name, as [`find`](Self::find) settles who that is, in its network.
    /// Signals go to the port that the name says, unless the terms say another.
    ///
    /// # Errors
    /// [`ExchangeError`](crate::exchange::ExchangeError); for a server of which it is not settled who it is,
    /// [`ExchangeError::Name`](crate::exchange::ExchangeError::Name), and nothing was sent.
    ///
    /// # Cancel safety
    /// As [`exchange`](Self::exchange).
    pub async fn exchange_with(
        &self,
        name: &str,
        mut terms: crate::exchange::Terms,
    ) -> Result<crate::exchange::Exchanged, crate::exchange::ExchangeError> {
        let server = self.find(name).await?;
        terms.signal_at = terms.signal_at.or_else(|| server.places().signalling.first().copied());
        let server = server.principal();
        let network = self.parts().find(|network| network.number() == server.network);
        let network = network.ok_or(crate::exchange::ExchangeError::NoSuchServer(server))?;
        // Boxed, as its 25 shares are large.
        Box::pin(crate::exchange::exchange(network, server, terms)).await
    }

    /// Has the relays enrol another principal over the hops of this endpoint: those whose number `key` misses. Each has to be
    /// permitted by its operator (`docs/enrolment.md`). Takes the numbers into `key` and returns why others are missing; keep
    /// `key` and ask again until it is complete. In the first network.
    ///
    /// # Cancel safety
    /// Relays may have drawn numbers that nobody knows. They are replaced when they are asked again.
    ///
    /// # Security
    /// This machine knows the new key. Its hops have no forward secrecy: whoever records them and learns this endpoint's
    /// numbers later knows it too.
    pub async fn enrol(
        &self,
        key: &mut crate::keys::PartialKey,
        within: Duration,
    ) -> Vec<(PathId, crate::keys::enrol::Failure)> {
        crate::keys::enrol::over(&self.first, key, within).await
    }

    /// Opens a signalling port: clients that exchange keys with this server bring their signals there, and need no relay for
    /// it. In the first network. Returns where it listens; the port is open for as long as the endpoint lives.
    ///
    /// The port serves nobody but who can show that sixteen relays keep a share for this server; everybody else gets one
    /// byte of refusal. Without one, relays pass signals on.
    ///
    /// # Errors
    /// When the address cannot be bound, or the endpoint is a client's.
    pub fn serve_signals(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        if self.first.identity().1 != Role::Server {
            let what = "the RAIDA key of this endpoint has the role client; signals are for servers";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let listener = self.first.transport().listen(address)?;
        let at = listener.local_addr()?;
        self.first.spawn(crate::exchange::serve_signals(self.first.clone(), listener));
        Ok(at)
    }

    /// Who this is in the first network; [`in_network`](Self::in_network) tells of the others.
    pub fn principal(&self) -> Principal {
        self.first.identity().0
    }

    /// The folder of Encryption keys, if the configuration names one; all networks share it.
    pub fn keys(&self) -> Option<&Arc<LiveKeys>> {
        self.first.live_keys()
    }

    /// How many of the 25 hops of the first network stand, now and whenever that changes. A client's hops are built with
    /// its first stream, or before; until then they are lost.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.first.health()
    }

    /// How the 25 hops of the first network stand.
    pub fn hops(&self) -> HopStatus {
        self.first.hop_status()
    }

    /// How the endpoint stands in the first network, and what all its connections there counted so far: for metrics. It
    /// looks at each connection that is not over, so ask once in a few seconds rather than for each request.
    pub fn stats(&self) -> EndpointStats {
        self.first.stats()
    }

    /// Resolves when at least `count` of the 25 hops of the first network stand: for programs that want all paths
    /// before they begin. Opening a stream does not need it. A client's hops are built if they were not. Waits for as
    /// long as relays are missing; put a time limit around it.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn hops_up(&self, count: usize) {
        self.first.want_hops();
        // Ends only with the endpoint, which this handle keeps.
        let _ = self.health().wait_for(|health| health.well() >= count).await;
    }

    /// Server: waits until `count` relays of the first network, of 25, know the addresses that its configuration registers. No
    /// client reaches the server through a relay before. Returns at once if it registers none, for then operators did.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn registered(&self, count: usize) {
        self.first.registered_at(count).await;
    }

    /// Ends every connection in the networks of this handle with a word to its peer, then every task there. Streams
    /// that were not shut down end in an error on both sides.
    ///
    /// # Cancel safety
    /// Connections end and say goodbye even if this is cancelled. The endpoint's other tasks then end with another call or
    /// with the last handle.
    pub async fn close(&self) {
        for network in self.parts() {
            network.close_connections();
        }
        let all_closed = async {
            while self.parts().any(|network| network.has_connections()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // What takes longer is told by silence.
        let _ = tokio::time::timeout(CLOSE_DEADLINE, all_closed).await;
        for network in self.parts() {
            network.cancel();
        }
    }
}

/// Waits until the connection takes another stream.
async fn open_on(network: &Network, conn: &Arc<Conn>, resource: &str) -> Result<StreamId, Opening> {
    loop {
        let changed = conn.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let opened = conn.lock().connection.open(resource.as_bytes());
        match opened {
            Ok(None) => {}
            Ok(Some(id)) => return Ok(id),
            Err(cause) => return Err(Opening::Ended(cause)),
        }
        tokio::select! {
            () = changed => {}
            () = network.cancelled() => return Err(Opening::EndpointClosed),
        }
    }
}

/// Why a connection took no stream.
enum Opening {
    Ended(ConnectionError),
    EndpointClosed,
}

/// An attempt on a connection that nobody else uses: ends the connection if it is dropped before its end.
struct Attempt(Option<Arc<Conn>>);

impl Attempt {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(conn) = self.0.take() {
            conn.lock().connection.close(clock::now(), 0, "the attempt was given up");
            conn.wake();
        }
    }
}

/// How the 25 hops of an endpoint stand in one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopStatus {
    /// Those that stand.
    pub up: PathSet,
    /// Why others were lost or could not be built, last time.
    pub errors: Vec<(PathId, String)>,
    /// At a server, relays that brought shares which are not the ones that clients made, and how often: they lie. The
    /// openings went on without them.
    pub false_shares: Vec<(PathId, u64)>,
    /// At a server, relays that brought another header than sixteen others did for one connection, and how often. Such a
    /// relay lies, or a client did that told its relays different things.
    pub other_headers: Vec<(PathId, u64)>,
}

impl fmt::Display for HopStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {RELAYS} hops stand", self.up.len())?;
        let down = self.errors.iter().filter(|(path, _)| !self.up.contains(*path));
        for (path, error) in down.take(3) {
            write!(f, "; relay {path}: {error}")?;
        }
        Ok(())
    }
}
