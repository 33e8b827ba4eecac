//! An endpoint: one principal's 25 hops, and every connection over them.

mod default;

use crate::access::{AccessList, Decision, Reason};
use crate::config::{self, Config};
use crate::connection::{Conn, Lifetime, Sink};
use crate::error::ConnectError;
use crate::hop::{self, Hop};
use crate::keys::SharedKey;
use crate::resolve::{Resolve, Target, parse_name_port};
use crate::stream::QSocketStream;
use qsocket_files::rng::OsRng;
use qsocket_proto::connection::{self as proto, Connection, ConnectionError, Dial};
use qsocket_proto::crypto::schedule::EncryptionKey;
use qsocket_proto::crypto::sha256;
use qsocket_proto::endpoint::{Admission, Endpoint as Core, Handle, Routed};
use qsocket_proto::frame::Frame;
use qsocket_proto::ids::{KeyId, PathId, PathSet, Principal, RELAYS, Role, StreamId};
use qsocket_proto::open::{MlKem, Refusal};
use qsocket_proto::raida_key::RaidaKey;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use default::default_client;

/// Accepted streams that wait for [`QSocketListener::accept`](crate::QSocketListener::accept); as many as a TCP
/// listener's usual backlog. Further ones are refused with [`Refusal::Busy`].
pub(crate) const ACCEPT_QUEUE: usize = 1024;

/// Time that [`Endpoint::close`] gives its connections to say goodbye.
const CLOSE_DEADLINE: Duration = Duration::from_secs(3);

/// Everything that hops, connections and streams of one endpoint share.
pub(crate) struct Shared {
    config: Config,
    relay_set: [u8; 32],
    core: Mutex<Locked>,
    hops: [Hop; RELAYS],
    /// Client: the connection to each server, which new streams use.
    peers: Mutex<HashMap<Target, Arc<Conn>>>,
    /// Server: where accepted streams go.
    accepted: Option<mpsc::Sender<(QSocketStream, SocketAddr)>>,
    /// Some connection waits for an outbox to drain.
    room_wanted: AtomicBool,
    token: CancellationToken,
    owner: OnceLock<Weak<Owner>>,
}

struct Locked {
    endpoint: Core,
    connections: BTreeMap<Handle, Arc<Conn>>,
}

/// Ends every task of the endpoint when the last handle, stream and listener is gone.
pub(crate) struct Owner {
    pub(crate) shared: Arc<Shared>,
    _cancel: DropGuard,
}

impl Drop for Owner {
    /// Tells the peers, as far as the sockets take it at once.
    fn drop(&mut self) {
        let now = Instant::now();
        let mut sink = Sink { shared: &self.shared, dirty: PathSet::EMPTY };
        for conn in self.shared.connections() {
            let mut state = conn.lock();
            state.connection.close(now, 0, "the endpoint is gone");
            state.connection.transmit(now, &mut sink);
        }
        sink.flush(now);
    }
}

/// A principal with its hops to the 25 relays, over which any number of streams run.
///
/// A cheap handle: clones share everything. The hops stay for as long as a handle, a stream or a listener of it
/// does. Most programs need none: [`QSocketStream::connect`] uses one per runtime.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) owner: Arc<Owner>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("principal", &self.principal())
            .field("hops", &self.hops())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint that opens streams. Its hops are built in the background; call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError::NotAClient`], as an [`io::Error`], if the key of the configuration is a server's.
    pub fn client(config: Config) -> io::Result<Self> {
        let (_, Role::Client) = config.identity() else { return Err(ConnectError::NotAClient.into()) };
        let endpoint = Self::new(config, None);
        for path in PathId::all() {
            endpoint.spawn(hop::keep(endpoint.owner.shared.clone(), path));
        }
        Ok(endpoint)
    }

    /// The endpoint of a listener.
    pub(crate) fn server(config: Config) -> (Self, mpsc::Receiver<(QSocketStream, SocketAddr)>) {
        let (sender, receiver) = mpsc::channel(ACCEPT_QUEUE);
        (Self::new(config, Some(sender)), receiver)
    }

    fn new(config: Config, accepted: Option<mpsc::Sender<(QSocketStream, SocketAddr)>>) -> Self {
        let (principal, role) = config.identity();
        let settings = Arc::new(settings(config.tuning()));
        let core = match role {
            Role::Client => Core::client(principal, settings, Box::new(OsRng)),
            Role::Server => {
                let lists =
                    Lists { access: config.listen().access.clone(), keys: config.encryption_keys().to_vec() };
                Core::server(principal, settings, Box::new(OsRng), Box::new(lists))
            }
        };
        let token = CancellationToken::new();
        let shared = Arc::new(Shared {
            relay_set: relay_set(&config),
            config,
            core: Mutex::new(Locked { endpoint: core, connections: BTreeMap::new() }),
            hops: std::array::from_fn(|_| Hop::new()),
            peers: Mutex::new(HashMap::new()),
            accepted,
            room_wanted: AtomicBool::new(false),
            token: token.clone(),
            owner: OnceLock::new(),
        });
        let owner = Arc::new(Owner { shared: shared.clone(), _cancel: token.drop_guard() });
        // Fresh a line above: nobody set it.
        let _ = shared.owner.set(Arc::downgrade(&owner));
        Self { owner }
    }

    /// Runs a task for as long as the endpoint lives.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.owner.shared.spawn(task);
    }

    /// Opens a stream to `name:port`, as the configuration resolves it.
    ///
    /// The first stream to a server opens a connection, one round trip; further ones cost none.
    ///
    /// # Errors
    /// `NotFound` for a name that nobody knows; [`ConnectError`] inside the [`io::Error`] else. Nothing was sent.
    ///
    /// # Cancel safety
    /// Safe: a dropped attempt leaves at most a connection that the next one uses.
    pub async fn connect(&self, name: impl AsRef<str>) -> io::Result<QSocketStream> {
        self.connect_with(name, self.owner.shared.config.names()).await
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
        let target = names.resolve(host, port).await?;
        self.connect_to(target, name).await
    }

    /// Opens a stream to a server at an address that it registered. `resource` (at most 255 bytes) tells the
    /// server what the stream is for.
    ///
    /// # Errors
    /// [`ConnectError`], inside the [`io::Error`]. Nothing was sent.
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_to(&self, target: Target, resource: &str) -> io::Result<QSocketStream> {
        let shared = &self.owner.shared;
        loop {
            let (conn, fresh) = shared.peer(target)?;
            match self.open_on(&conn, resource).await {
                // A connection from before may have ended unnoticed; the next round dials a fresh one.
                Err(Opening::Ended(_)) if !fresh => shared.drop_peer(target, &conn),
                opened => return self.finish_connect(conn, opened),
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
    pub async fn connect_fresh(&self, target: Target, resource: &str) -> io::Result<QSocketStream> {
        let conn = self.owner.shared.dial(target, Lifetime::OneStream)?;
        let attempt = Attempt(Some(conn.clone()));
        let opened = self.open_on(&conn, resource).await;
        attempt.disarm();
        self.finish_connect(conn, opened)
    }

    /// Waits until the connection takes another stream.
    async fn open_on(&self, conn: &Arc<Conn>, resource: &str) -> Result<StreamId, Opening> {
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
                () = self.owner.shared.token.cancelled() => return Err(Opening::EndpointClosed),
            }
        }
    }

    fn finish_connect(
        &self,
        conn: Arc<Conn>,
        opened: Result<StreamId, Opening>,
    ) -> io::Result<QSocketStream> {
        match opened {
            Ok(id) => {
                conn.wake();
                Ok(QSocketStream::new(self.owner.clone(), conn, id))
            }
            Err(Opening::EndpointClosed) => Err(ConnectError::Closed.into()),
            Err(Opening::Ended(ConnectionError::Refused(reason))) => {
                Err(ConnectError::Refused(reason).into())
            }
            Err(Opening::Ended(cause)) => Err(ConnectError::Failed { cause, hops: self.hops() }.into()),
        }
    }

    /// Whose endpoint this is.
    pub fn principal(&self) -> Principal {
        self.owner.shared.config.identity().0
    }

    /// How the 25 hops stand.
    pub fn hops(&self) -> HopStatus {
        let shared = &self.owner.shared;
        let up = PathId::all().filter(|p| shared.hop(*p).is_up()).collect();
        let errors = PathId::all().filter_map(|p| Some((p, shared.hop(p).last_error()?))).collect();
        HopStatus { up, errors }
    }

    /// Resolves when at least `count` of the 25 hops stand: for programs that want all paths before they begin.
    /// Opening a stream does not need it. Waits for as long as relays are missing; put a time limit around it.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn hops_up(&self, count: usize) {
        /// Often enough for people; opening a stream does not need this call.
        const LOOK: Duration = Duration::from_millis(5);
        while self.hops().up.len() < count {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends every connection with a word to its peer, then every task. Streams that were not shut down end in an
    /// error on both sides.
    pub async fn close(&self) {
        let shared = &self.owner.shared;
        let connections = shared.connections();
        for conn in &connections {
            conn.lock().connection.close(Instant::now(), 0, "the endpoint closes");
            conn.wake();
        }
        let all_closed = async {
            while !shared.lock().connections.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // What takes longer is told by silence.
        let _ = tokio::time::timeout(CLOSE_DEADLINE, all_closed).await;
        shared.token.cancel();
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
            conn.lock().connection.close(Instant::now(), 0, "the attempt was given up");
            conn.wake();
        }
    }
}

/// How the 25 hops of an endpoint stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopStatus {
    /// Those that stand.
    pub up: PathSet,
    /// Why others were lost or could not be built, last time.
    pub errors: Vec<(PathId, String)>,
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

impl Shared {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let token = self.token.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Resolves when the endpoint was closed or its last owner is gone.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.token.clone().cancelled_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<Target, Arc<Conn>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hop(&self, path: PathId) -> &Hop {
        &self.hops[path.index()]
    }

    pub(crate) fn relay(&self, path: PathId) -> SocketAddr {
        self.config.raida().relays.get(path)
    }

    pub(crate) fn identity(&self) -> (Principal, Role) {
        self.config.identity()
    }

    pub(crate) fn key(&self) -> &RaidaKey {
        self.config.key()
    }

    fn connections(&self) -> Vec<Arc<Conn>> {
        self.lock().connections.values().cloned().collect()
    }

    fn me(&self) -> Option<Arc<Self>> {
        self.owner.get()?.upgrade().map(|owner| owner.shared.clone())
    }

    /// The connection to a server: the one that stands, or a fresh one.
    fn peer(&self, target: Target) -> Result<(Arc<Conn>, bool), ConnectError> {
        // Held while dialling, so that streams that are opened at once share one connection.
        let mut peers = self.peers();
        if let Some(conn) = peers.get(&target)
            && conn.error().is_none()
        {
            return Ok((conn.clone(), false));
        }
        let conn = self.dial(target, Lifetime::Shared)?;
        peers.insert(target, conn.clone());
        Ok((conn, true))
    }

    fn dial(&self, target: Target, lifetime: Lifetime) -> Result<Arc<Conn>, ConnectError> {
        if self.identity().1 != Role::Client {
            return Err(ConnectError::NotAClient);
        }
        if self.token.is_cancelled() {
            return Err(ConnectError::Closed);
        }
        let encryption_key = self.config.encryption_keys().iter().find(|k| k.with() == target.server);
        let encryption_key = encryption_key.and_then(|k| {
            // A key that was loaded is a key that imports.
            EncryptionKey::import(k.key().expose()).ok().map(|key| (k.id(), key))
        });
        let mut core = self.lock();
        let dial = Dial {
            client: self.identity().0,
            server: target.server,
            source: self.source(target.address),
            destination: target.address,
            relay_set: self.relay_set,
            encryption_key,
        };
        let dialled = core.endpoint.dial(Instant::now(), dial);
        // `source` is made for the destination's family.
        let (handle, connection) = dialled.map_err(|_| ConnectError::Closed)?;
        let conn = Conn::new(handle, connection, lifetime);
        core.connections.insert(handle, conn.clone());
        drop(core);
        self.drive(&conn);
        Ok(conn)
    }

    fn drop_peer(&self, target: Target, conn: &Arc<Conn>) {
        let mut peers = self.peers();
        if peers.get(&target).is_some_and(|c| Arc::ptr_eq(c, conn)) {
            peers.remove(&target);
        }
    }

    /// Where this side's application is: an address of this host, of the destination's family, with a port that
    /// no socket has.
    fn source(&self, destination: SocketAddr) -> SocketAddr {
        let port = 0xc000 | (OsRng.unit() * f64::from(0x4000)) as u16;
        let local = self.hops.iter().find_map(Hop::local_addr).map(|a| a.ip());
        let ip = match (destination.ip(), local) {
            (IpAddr::V4(_), Some(IpAddr::V4(ip))) => ip.into(),
            (IpAddr::V6(_), Some(IpAddr::V6(ip))) => ip.into(),
            (IpAddr::V4(_), _) => Ipv4Addr::UNSPECIFIED.into(),
            (IpAddr::V6(_), _) => Ipv6Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(ip, port)
    }

    fn drive(&self, conn: &Arc<Conn>) {
        if let Some(shared) = self.me() {
            self.spawn(conn.clone().drive(shared));
        }
    }

    pub(crate) fn path_up(&self, path: PathId) {
        self.lock().endpoint.path_up(path);
        if self.identity().1 == Role::Client {
            self.tell_all(|connection| connection.handle_path_up(Instant::now(), path));
        }
    }

    pub(crate) fn path_down(&self, path: PathId) {
        self.lock().endpoint.path_down(path);
        self.tell_all(|connection| connection.handle_path_down(Instant::now(), path));
    }

    fn tell_all(&self, tell: impl Fn(&mut Connection)) {
        for conn in self.connections() {
            tell(&mut conn.lock().connection);
            conn.wake();
        }
    }

    /// A hop's outbox drained: connections that waited for room try again.
    pub(crate) fn drained(&self) {
        if self.room_wanted.swap(false, Ordering::AcqRel) {
            self.connections().iter().for_each(|conn| conn.wake());
        }
    }

    /// A connection found no room in an outbox. True if one is still full, so that [`drained`](Self::drained)
    /// will come.
    pub(crate) fn wants_room(&self) -> bool {
        self.room_wanted.store(true, Ordering::Release);
        self.hops.iter().any(Hop::is_stuck)
    }

    pub(crate) fn confirmed(&self, handle: Handle) {
        self.lock().endpoint.confirmed(handle);
    }

    /// A connection is over.
    pub(crate) fn forget(&self, conn: &Arc<Conn>) {
        let mut sink = Sink { shared: self, dirty: PathSet::EMPTY };
        let mut core = self.lock();
        core.connections.remove(&conn.handle);
        core.endpoint.forget(conn.handle, &mut sink);
        drop(core);
        self.peers().retain(|_, c| !Arc::ptr_eq(c, conn));
        sink.flush(Instant::now());
    }

    /// Puts a stream that the peer opened before the application.
    pub(crate) fn offer(
        &self,
        conn: &Arc<Conn>,
        connection: &mut Connection,
        id: StreamId,
        resource: Vec<u8>,
    ) {
        let Some(accepted) = &self.accepted else {
            connection.refuse(id, Refusal::ShuttingDown);
            return;
        };
        let from = connection.source();
        let Ok(place) = accepted.try_reserve() else {
            let reason = if accepted.is_closed() { Refusal::ShuttingDown } else { Refusal::Busy };
            connection.refuse(id, reason);
            return;
        };
        // Taken last, and given away at once: an owner that ended here would lock the connection again.
        let Some(owner) = self.owner.get().and_then(Weak::upgrade) else {
            connection.refuse(id, Refusal::ShuttingDown);
            return;
        };
        place.send((QSocketStream::accepted(owner, conn.clone(), connection, id, resource), from));
    }

    pub(crate) fn batch(&self, path: PathId, now: Instant) -> Batch<'_> {
        Batch { sink: Sink { shared: self, dirty: PathSet::EMPTY }, path, now, touched: Vec::new() }
    }

    /// Server: ends openings that found no quorum, for as long as the endpoint lives.
    pub(crate) async fn expire(self: Arc<Self>) {
        /// Openings die after seconds; looking a few times a second is exact enough.
        const TICK: Duration = Duration::from_millis(250);
        loop {
            tokio::time::sleep(TICK).await;
            let now = Instant::now();
            let mut sink = Sink { shared: &self, dirty: PathSet::EMPTY };
            let mut core = self.lock();
            if core.endpoint.poll_timeout().is_some_and(|(at, _)| at <= now) {
                core.endpoint.handle_timeout(now, &mut sink);
            }
            drop(core);
            sink.flush(now);
        }
    }
}

/// The frames of one read: connections are woken once, at its end.
pub(crate) struct Batch<'a> {
    sink: Sink<'a>,
    path: PathId,
    now: Instant,
    touched: Vec<Arc<Conn>>,
}

impl Batch<'_> {
    pub(crate) fn frame(&mut self, frame: Frame<'_>) {
        let shared = self.sink.shared;
        let mut core = shared.lock();
        match core.endpoint.handle_frame(self.now, self.path, frame, &mut self.sink) {
            Routed::Nothing => {}
            Routed::To(handle, input) => {
                let Some(conn) = core.connections.get(&handle).cloned() else { return };
                drop(core);
                conn.lock().connection.handle_input(self.now, self.path, input);
                if !self.touched.iter().any(|c| Arc::ptr_eq(c, &conn)) {
                    self.touched.push(conn);
                }
            }
            Routed::New(handle, connection) => {
                let conn = Conn::new(handle, *connection, Lifetime::Shared);
                core.connections.insert(handle, conn.clone());
                drop(core);
                shared.drive(&conn);
                self.touched.push(conn);
            }
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for conn in &self.touched {
            conn.dispatch(self.sink.shared, &mut conn.lock());
            conn.wake();
        }
        self.sink.flush(self.now);
    }
}

/// A server's lists and Encryption keys.
struct Lists {
    access: AccessList,
    keys: Vec<Arc<SharedKey>>,
}

impl Admission for Lists {
    fn admit(&self, client: Principal) -> Result<(), Refusal> {
        match self.access.decide(client) {
            Decision::Allowed => Ok(()),
            Decision::Denied(Reason::Blacklisted) => Err(Refusal::BlackListed),
            Decision::Denied(Reason::NotWhitelisted) => Err(Refusal::NotWhiteListed),
        }
    }

    fn holds_key(&self, client: Principal) -> bool {
        self.keys.iter().any(|k| k.with() == client)
    }

    fn encryption_key(&self, client: Principal, id: KeyId) -> Option<&EncryptionKey> {
        self.keys.iter().find(|k| k.with() == client && k.id() == id).map(|k| k.key())
    }
}

fn settings(tuning: &config::Tuning) -> proto::Config {
    proto::Config {
        parity: match tuning.parity {
            config::Parity::Auto => proto::ParityPolicy::Auto,
            config::Parity::Grid => proto::ParityPolicy::Grid,
            config::Parity::Mds => proto::ParityPolicy::Mds,
        },
        redundancy: match tuning.redundancy {
            config::Redundancy::Full => proto::Redundancy::Full,
            config::Redundancy::Adaptive => proto::Redundancy::Adaptive,
        },
        ml_kem: match tuning.ml_kem {
            config::MlKem::Off => MlKem::Off,
            config::MlKem::On => MlKem::On,
            config::MlKem::Require => MlKem::Require,
        },
        idle: tuning.idle_timeout(),
        ..proto::Config::default()
    }
}

/// Hash over the network and the addresses of the relays, in order.
fn relay_set(config: &Config) -> [u8; 32] {
    let mut text = config.raida().network.to_string();
    for address in config.raida().relays.as_array() {
        text.push('\n');
        text.push_str(&address.to_string());
    }
    sha256(&[text.as_bytes()])
}
