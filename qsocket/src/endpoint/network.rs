//! One network of an endpoint: its 25 hops, and every connection over them.

mod calls;
mod guard;
mod register;
mod stats;

pub(crate) use calls::Reply;

use super::Owner;
use super::gate::{Door, Gate};
use crate::access::Denial;
use crate::config::{self, Config, Membership};
use crate::connection::{Conn, Held, Lifetime, Sink, State};
use crate::error::ConnectError;
use crate::exchange::{KeyReceiver, Receiving, receipt_keys};
use crate::health::Health;
use crate::hop::{self, Hop, Hops};
use crate::keys::{KeyId, Keys, LiveKeys, NoUsableKey};
use crate::names::{Dns, Names};
use crate::resolve::{ConfigNames, Target};
use crate::stats::EndpointStats;
use crate::stream::QSocketStream;
use qsocket_files::rng::OsRng;
use qsocket_net::{Transport, clock};
use qsocket_proto::connection::{self as proto, Connection, Dial};
use qsocket_proto::crypto::hkdf::MacKey;
use qsocket_proto::crypto::schedule::EncryptionKey;
use qsocket_proto::crypto::sha256;
use qsocket_proto::endpoint::{Endpoint as Core, Handle, Routed};
use qsocket_proto::frame::Frame;
use qsocket_proto::ids::{HopAt, PathId, PathSet, Principal, RELAYS, Role, StreamId};
use qsocket_proto::open::Refusal;
use qsocket_proto::raida_key::RaidaKey;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Where a listener's streams wait; all networks of an endpoint share one queue.
pub(crate) type Accepted = mpsc::Sender<(QSocketStream, SocketAddr)>;

/// Everything that hops, connections and streams of one endpoint in one network share.
///
/// Networks of an endpoint have nothing in common but its settings and the queue of accepted streams: no identity, key
/// or hop of one is seen by another.
pub(crate) struct Network {
    me: Weak<Self>,
    config: Arc<Config>,
    membership: Membership,
    gate: Gate,
    keys: Keys,
    relay_set: [u8; 32],
    core: Mutex<Locked>,
    hops: [Hops; RELAYS],
    /// The tasks that build the hops run.
    hops_wanted: AtomicBool,
    /// Client: the connection to each server, which new streams use.
    peers: Mutex<HashMap<Target, Arc<Conn>>>,
    /// Server: where accepted streams go.
    accepted: Mutex<Option<Accepted>>,
    /// How many of the hops stand.
    health: watch::Sender<Health>,
    /// Server: the relays that know its addresses because it told them.
    told: watch::Sender<PathSet>,
    /// Some permitted stream has an end.
    ends_exist: AtomicBool,
    /// Some connection waits for an outbox to drain.
    room_wanted: AtomicBool,
    /// Server: keys that clients exchange with it.
    receiving: Receiving,
    /// Server: what its relays' receipts are made with, from the first one that comes.
    receipt_keys: OnceLock<Box<[MacKey]>>,
    /// What its relays said of names.
    known_names: Names,
    token: CancellationToken,
    owner: OnceLock<Weak<Owner>>,
}

struct Locked {
    endpoint: Core,
    connections: BTreeMap<Handle, Arc<Conn>>,
    /// What those that are over counted.
    ended: EndpointStats,
}

impl Network {
    pub(super) fn new(
        config: Arc<Config>,
        membership: Membership,
        accepted: Option<Accepted>,
        token: CancellationToken,
    ) -> Arc<Self> {
        let principal = membership.principal();
        let settings = Arc::new(settings(config.tuning()));
        let gate = Gate::new(&config, (principal, membership.role()));
        let keys = Keys::new(config.encryption_keys().to_vec(), config.keys().cloned());
        let core = match membership.role() {
            Role::Client => Core::client(principal, settings, Box::new(OsRng)),
            Role::Server => {
                let door = Door { gate: gate.clone(), keys: keys.clone() };
                Core::server(principal, settings, Box::new(OsRng), Box::new(door))
            }
        };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            relay_set: relay_set(&membership),
            config,
            hops: std::array::from_fn(|_| Hops::new(membership.role())),
            membership,
            gate,
            keys,
            core: Mutex::new(Locked {
                endpoint: core,
                connections: BTreeMap::new(),
                ended: EndpointStats::new(principal.network),
            }),
            hops_wanted: AtomicBool::new(false),
            peers: Mutex::new(HashMap::new()),
            accepted: Mutex::new(accepted),
            health: watch::Sender::new(Health::Lost),
            told: watch::Sender::new(PathSet::EMPTY),
            ends_exist: AtomicBool::new(false),
            room_wanted: AtomicBool::new(false),
            receiving: Receiving::default(),
            receipt_keys: OnceLock::new(),
            known_names: Names::default(),
            token,
            owner: OnceLock::new(),
        })
    }

    /// Says whom streams keep alive. Once, before the first task.
    pub(super) fn set_owner(&self, owner: &Arc<Owner>) {
        // Nobody else sets it.
        let _ = self.owner.set(Arc::downgrade(owner));
    }

    /// Client: has the hops built, and kept for as long as the endpoint lives. Further calls do nothing.
    pub(crate) fn want_hops(&self) {
        if self.membership.role() != Role::Client || self.hops_wanted.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        for path in PathId::all() {
            self.spawn(hop::keep(me.clone(), path));
        }
    }

    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(crate) fn receiving(&self) -> &Receiving {
        &self.receiving
    }

    pub(crate) fn receipt_keys(&self) -> &[MacKey] {
        self.receipt_keys.get_or_init(|| receipt_keys(self))
    }

    pub(crate) fn key_receiver(&self) -> Option<KeyReceiver> {
        self.config.key_receiver().cloned()
    }

    /// The Encryption keys.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The folder that they are in, if there is one.
    pub(crate) fn key_folder(&self) -> Option<&Arc<LiveKeys>> {
        self.config.keys()
    }

    /// Server: whether a client may connect.
    pub(crate) fn admits(&self, client: Principal) -> Result<(), Denial> {
        self.gate.admit(client)
    }

    /// The hash over the list of relays, which goes into headers.
    pub(crate) fn relay_set(&self) -> [u8; 32] {
        self.relay_set
    }

    /// Resolves when the hop of a path stands.
    pub(crate) async fn hop_up(&self, path: PathId) {
        let mut health = self.health.subscribe();
        while !self.hops(path).is_up() {
            // The sender lives as long as this network.
            let _ = health.changed().await;
        }
    }

    pub(super) fn number(&self) -> u16 {
        self.membership.network()
    }

    /// Resolves when the endpoint closed.
    pub(crate) fn cancelled(&self) -> impl Future<Output = ()> {
        self.token.cancelled()
    }

    /// Has every connection say goodbye.
    pub(super) fn close_connections(&self) {
        self.accepted().take();
        for conn in self.connections() {
            conn.lock().connection.close(clock::now(), 0, "the endpoint closes");
            conn.wake();
        }
    }

    pub(super) fn has_connections(&self) -> bool {
        !self.lock().connections.is_empty()
    }

    /// Ends every task.
    pub(super) fn cancel(&self) {
        self.token.cancel();
    }

    /// Tells the peers that nobody drives the connections any more, as far as the sockets take it at once.
    pub(super) fn say_gone(&self) {
        let now = clock::now();
        let mut sink = Sink::new(self);
        for conn in self.connections() {
            let mut state = conn.lock();
            state.connection.close(now, 0, "the endpoint is gone");
            state.connection.transmit(now, &mut sink);
        }
        sink.flush(now);
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let token = self.token.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = task => {}
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<Target, Arc<Conn>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hops(&self, path: PathId) -> &Hops {
        &self.hops[path.index()]
    }

    pub(crate) fn hop(&self, at: HopAt) -> &Hop {
        self.hops(at.path).get(at.nth)
    }

    /// The configuration's names.
    pub(crate) fn names(&self) -> &ConfigNames {
        self.config.names()
    }

    /// What the relays said of names.
    pub(crate) fn names_known(&self) -> &Names {
        &self.known_names
    }

    pub(super) fn dns(&self) -> &Dns {
        self.config.dns()
    }

    pub(crate) fn relay(&self, path: PathId) -> SocketAddr {
        self.membership.raida().relays.get(path)
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.config.transport
    }

    pub(crate) fn identity(&self) -> (Principal, Role) {
        (self.membership.principal(), self.membership.role())
    }

    pub(super) fn live_keys(&self) -> Option<&Arc<LiveKeys>> {
        self.config.keys()
    }

    pub(crate) fn key(&self) -> &RaidaKey {
        self.membership.key()
    }

    fn connections(&self) -> Vec<Arc<Conn>> {
        self.lock().connections.values().cloned().collect()
    }

    fn accepted(&self) -> MutexGuard<'_, Option<Accepted>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to a server: the one that stands, or a fresh one.
    pub(super) fn peer(&self, target: Target) -> Result<(Arc<Conn>, bool), ConnectError> {
        // Held while dialling, so that streams that are opened at once share one connection.
        let mut peers = self.peers();
        if let Some(conn) = peers.get(&target)
            && conn.error().is_none()
        {
            let key = self.opening_key(target.server)?.map(|(id, _)| id);
            let had = conn.lock().connection.security().encryption_key;
            if had == key {
                return Ok((conn.clone(), false));
            }
            // Another key counts now. Streams that run there go on.
            conn.retire();
        }
        let conn = self.dial(target, Lifetime::Shared)?;
        peers.insert(target, conn.clone());
        Ok((conn, true))
    }

    pub(super) fn dial(&self, target: Target, lifetime: Lifetime) -> Result<Arc<Conn>, ConnectError> {
        if self.identity().1 != Role::Client {
            return Err(ConnectError::NotAClient);
        }
        if self.token.is_cancelled() {
            return Err(ConnectError::Closed);
        }
        self.want_hops();
        let encryption_key = self.opening_key(target.server)?.and_then(|(id, key)| {
            // A key that was loaded is a key that imports.
            EncryptionKey::import(key.expose()).ok().map(|key| (id, key))
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
        let dialled = core.endpoint.dial(clock::now(), dial);
        // `source` is made for the destination's family.
        let (handle, connection) = dialled.map_err(|_| ConnectError::Closed)?;
        let conn = Conn::new(handle, connection, lifetime);
        core.connections.insert(handle, conn.clone());
        drop(core);
        self.drive(&conn);
        Ok(conn)
    }

    /// The Encryption key that a connection to this server needs now.
    fn opening_key(&self, server: Principal) -> Result<Option<(KeyId, Arc<EncryptionKey>)>, NoUsableKey> {
        self.keys.opening(self.identity().0, server, SystemTime::now())
    }

    pub(super) fn drop_peer(&self, target: Target, conn: &Arc<Conn>) {
        let mut peers = self.peers();
        if peers.get(&target).is_some_and(|c| Arc::ptr_eq(c, conn)) {
            peers.remove(&target);
        }
    }

    /// Where this side's application is: an address of this host, of the destination's family, with a port that
    /// no socket has.
    fn source(&self, destination: SocketAddr) -> SocketAddr {
        let port = 0xc000 | (OsRng.unit() * f64::from(0x4000)) as u16;
        let local = self.hops.iter().find_map(Hops::local_addr).map(|a| a.ip());
        let ip = match (destination.ip(), local) {
            (IpAddr::V4(_), Some(IpAddr::V4(ip))) => ip.into(),
            (IpAddr::V6(_), Some(IpAddr::V6(ip))) => ip.into(),
            (IpAddr::V4(_), _) => Ipv4Addr::UNSPECIFIED.into(),
            (IpAddr::V6(_), _) => Ipv6Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(ip, port)
    }

    fn drive(&self, conn: &Arc<Conn>) {
        if let Some(me) = self.me.upgrade() {
            self.spawn(conn.clone().drive(me));
        }
    }

    pub(crate) fn hop_is_up(&self, at: HopAt) {
        {
            let mut core = self.lock();
            core.endpoint.path_up(at);
            self.health_is(core.endpoint.up());
        }
        if self.identity().1 == Role::Client {
            tell(self.connections(), |connection| connection.handle_path_up(clock::now(), at.path));
        }
    }

    pub(crate) fn hop_is_down(&self, at: HopAt) {
        let connections = {
            let mut core = self.lock();
            let carried = core.endpoint.path_down(at);
            self.health_is(core.endpoint.up());
            match self.identity().1 {
                Role::Client => core.connections.values().cloned().collect(),
                Role::Server => {
                    carried.iter().filter_map(|handle| core.connections.get(handle).cloned()).collect()
                }
            }
        };
        tell(connections, |connection| connection.handle_path_down(clock::now(), at));
    }

    /// Said with the lock held, so that the last word is the last truth.
    fn health_is(&self, up: PathSet) {
        let health = Health::of(up.len());
        self.health.send_if_modified(|known| std::mem::replace(known, health) != health);
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
        self.hops.iter().any(Hops::is_stuck)
    }

    pub(crate) fn confirmed(&self, handle: Handle) {
        self.lock().endpoint.confirmed(handle);
    }

    /// A connection is over. What the relays are told of it is to be flushed, at leisure.
    pub(crate) fn forget(&self, conn: &Arc<Conn>) -> Sink<'_> {
        let mut sink = Sink::new(self);
        let counted = conn.lock().connection.stats();
        let mut core = self.lock();
        if core.connections.remove(&conn.handle).is_some() {
            core.ended.count(&counted);
        }
        core.endpoint.forget(conn.handle, &mut sink);
        drop(core);
        self.peers().retain(|_, c| !Arc::ptr_eq(c, conn));
        sink
    }

    /// Puts a stream that the peer opened before the application, if the peer may have it.
    pub(crate) fn offer(&self, conn: &Arc<Conn>, state: &mut State, id: StreamId, resource: Vec<u8>) {
        let resource = String::from_utf8_lossy(&resource).into_owned();
        let connection = &mut state.connection;
        let client = connection.client();
        // Asked with the lock held, so that a change either is known here or finds the stream.
        let permit = match self.gate.permit(client, &resource, SystemTime::now()) {
            Ok(permit) => permit,
            Err(denial) => {
                tracing::info!(%client, ?resource, %denial, "refused a stream");
                connection.refuse(id, denial.reason.refusal());
                return;
            }
        };
        let Some(accepted) = self.accepted().clone() else {
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
        let stream = QSocketStream::accepted(owner, conn.clone(), connection, id, (resource, permit));
        self.hold(state, id, Held { resource: stream.resource().to_owned(), until: stream.permit().until });
        place.send((stream, from));
    }

    pub(crate) fn batch(&self, at: HopAt, now: Instant) -> Batch<'_> {
        Batch { sink: Sink::new(self), at, now, touched: Vec::new() }
    }

    /// Server: ends openings that found no quorum, and names relays that lied about shares, for as long as the endpoint
    /// lives.
    pub(crate) async fn expire(self: Arc<Self>) {
        /// Openings die after seconds; looking a few times a second is exact enough.
        const TICK: Duration = Duration::from_millis(250);
        let mut known = [[0; RELAYS]; 2];
        loop {
            tokio::time::sleep(TICK).await;
            let now = clock::now();
            let mut sink = Sink::new(&self);
            let mut core = self.lock();
            if core.endpoint.poll_timeout().is_some_and(|(at, _)| at <= now) {
                core.endpoint.handle_timeout(now, &mut sink);
            }
            let counts = [core.endpoint.liars(), core.endpoint.other_headers()];
            drop(core);
            sink.flush(now);
            for relay in PathId::all() {
                let [false_share, other_header] =
                    [0, 1].map(|of: usize| counts[of][relay.index()] > known[of][relay.index()]);
                if false_share {
                    tracing::warn!(%relay, "the relay brought a share that is not the client's: it lies");
                }
                if other_header {
                    tracing::warn!(%relay, "the relay brought another header than sixteen others: it lies, or the client");
                }
            }
            known = counts;
        }
    }
}

/// The frames of one read: connections are woken once, at its end.
pub(crate) struct Batch<'a> {
    sink: Sink<'a>,
    at: HopAt,
    now: Instant,
    touched: Vec<Arc<Conn>>,
}

impl Batch<'_> {
    pub(crate) fn frame(&mut self, frame: Frame<'_>) {
        let network = self.sink.network;
        let mut core = network.lock();
        match core.endpoint.handle_frame(self.now, self.at, frame, &mut self.sink) {
            Routed::Nothing => {}
            Routed::To(handle, input) => {
                let Some(conn) = core.connections.get(&handle).cloned() else { return };
                drop(core);
                conn.lock().connection.handle_input(self.now, self.at.path, input);
                if !self.touched.iter().any(|c| Arc::ptr_eq(c, &conn)) {
                    self.touched.push(conn);
                }
            }
            Routed::New(handle, connection) => {
                let conn = Conn::new(handle, *connection, Lifetime::Shared);
                core.connections.insert(handle, conn.clone());
                drop(core);
                network.drive(&conn);
                self.touched.push(conn);
            }
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for conn in &self.touched {
            conn.dispatch(self.sink.network, &mut conn.lock());
            conn.wake();
        }
        self.sink.flush(self.now);
    }
}

fn tell(connections: Vec<Arc<Conn>>, what: impl Fn(&mut Connection)) {
    for conn in connections {
        what(&mut conn.lock().connection);
        conn.wake();
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
        ml_kem: tuning.ml_kem,
        idle: tuning.idle_timeout(),
        ..proto::Config::default()
    }
}

/// Hash over the network and the addresses of the relays, in order.
fn relay_set(membership: &Membership) -> [u8; 32] {
    let mut text = membership.network().to_string();
    for address in membership.raida().relays.as_array() {
        text.push('\n');
        text.push_str(&address.to_string());
    }
    sha256(&[text.as_bytes()])
}
