//! A client or server as a node: the endpoint, its hops, its connections, and programs that read and write streams.

use super::hop::{HopEnd, State, Tuning};
use super::hub::{Hub, WhileReading};
use super::live::Live;
use super::program::{Job, Program};
use super::relay::{Known, Numbers, imported};
use super::{End, Io, Node};
use qsocket_proto::connection::{Config, Dial};
use qsocket_proto::crypto::schedule::EncryptionKey;
use qsocket_proto::endpoint::{Admission, Endpoint, Handle, Routed};
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::{self, Dialer, DialledBy, Outbox, Responder};
use qsocket_proto::ids::{KeyId, PathId, PathSet, Principal, RELAYS, Role};
use qsocket_proto::open::Refusal;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First and longest wait before a broken hop is dialled again.
const FIRST_REDIAL: Duration = Duration::from_millis(100);
const LAST_REDIAL: Duration = Duration::from_secs(5);

/// Rounds of one turn after which a connection is taken to spin.
const MAX_ROUNDS: usize = 20_000;

struct Everyone;

impl Admission for Everyone {
    fn admit(&self, _: Principal) -> Result<(), Refusal> {
        Ok(())
    }

    fn holds_key(&self, _: Principal) -> bool {
        false
    }

    fn encryption_key(&self, _: Principal, _: KeyId) -> Option<Arc<EncryptionKey>> {
        None
    }
}

/// Gives the jobs for the next connection.
pub type OwnJobs = Box<dyn FnMut() -> Vec<Job>>;

pub struct EndpointNode {
    role: Role,
    principal: Principal,
    config: Arc<Config>,
    numbers: Numbers,
    /// The relays that this end dials; empty if they dial it.
    relays: Vec<SocketAddr>,
    base: SocketAddr,
    endpoint: Endpoint,
    hub: Hub,
    /// Links that were dialled and do not stand yet.
    dialling: BTreeMap<u64, PathId>,
    redial: [Option<Instant>; RELAYS],
    failures: [u32; RELAYS],
    pub connections: BTreeMap<Handle, Live>,
    turn: usize,
    /// Clients whose streams the application does not read.
    pub stalled: BTreeSet<u32>,
    /// What this end does of its own on a connection that it accepted.
    pub own_jobs: Option<OwnJobs>,
    tuning: Tuning,
    rng: ChaCha20Rng,
}

impl EndpointNode {
    pub fn new(
        role: Role,
        principal: Principal,
        config: Config,
        numbers: Numbers,
        (relays, base): (Vec<SocketAddr>, SocketAddr),
        tuning: Tuning,
        seed: u64,
    ) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let config = Arc::new(config);
        let endpoint = Self::endpoint(role, principal, &config, &mut rng);
        Self {
            role,
            principal,
            config,
            numbers,
            relays,
            base,
            endpoint,
            hub: Hub::default(),
            dialling: BTreeMap::new(),
            redial: [None; RELAYS],
            failures: [0; RELAYS],
            connections: BTreeMap::new(),
            turn: 0,
            stalled: BTreeSet::new(),
            own_jobs: None,
            tuning,
            rng,
        }
    }

    fn endpoint(role: Role, principal: Principal, config: &Arc<Config>, rng: &mut ChaCha20Rng) -> Endpoint {
        let own = Box::new(ChaCha20Rng::from_rng(rng));
        match role {
            Role::Client => Endpoint::client(principal, config.clone(), own),
            Role::Server => Endpoint::server(principal, config.clone(), own, Box::new(Everyone)),
        }
    }

    /// The process is replaced by a fresh one: nothing of what it knew is left.
    pub fn restart(&mut self, io: &mut Io<'_>) {
        self.endpoint = Self::endpoint(self.role, self.principal, &self.config, &mut self.rng);
        self.hub = Hub::default();
        self.dialling.clear();
        self.connections.clear();
        self.redial = [None; RELAYS];
        self.start(io);
    }

    /// Dials all relays; a server that is dialled does nothing.
    pub fn start(&mut self, io: &mut Io<'_>) {
        for path in PathId::all() {
            self.dial_relay(io, path);
        }
    }

    fn dial_relay(&mut self, io: &mut Io<'_>, path: PathId) {
        self.redial[path.index()] = None;
        if let Some(at) = self.relays.get(path.index()) {
            let end = io.dial(*at);
            self.dialling.insert(end.number(), path);
        }
    }

    fn dial_later(&mut self, now: Instant, path: PathId) {
        if !self.relays.is_empty() {
            let failures = &mut self.failures[path.index()];
            let wait = FIRST_REDIAL.saturating_mul(1 << (*failures).min(8)).min(LAST_REDIAL);
            *failures += 1;
            let jitter = 512 + self.rng.next_u32() % 1024;
            self.redial[path.index()] = Some(now + wait * jitter / 1024);
        }
    }

    /// Opens a connection and, once it stands, a stream for each job.
    pub fn connect(
        &mut self,
        io: &mut Io<'_>,
        server: Principal,
        destination: SocketAddr,
        jobs: Vec<Job>,
    ) -> Handle {
        let dial = Dial {
            client: self.principal,
            server,
            source: SocketAddr::from(([127, 0, 0, 1], 40_000)),
            destination,
            relay_set: [9; 32],
            encryption_key: None,
        };
        let (handle, connection) = self.endpoint.dial(io.now(), dial).expect("one family");
        self.connections.insert(handle, Live::new(connection, jobs));
        self.drive(io);
        handle
    }

    pub fn up(&self) -> PathSet {
        self.endpoint.up()
    }

    /// Relays that brought a share that the client did not make.
    pub fn liars(&self) -> Vec<usize> {
        let counts = self.endpoint.liars();
        (0..RELAYS).filter(|relay| counts[*relay] > 0).collect()
    }

    /// Bytes that all connections hold.
    pub fn memory(&self) -> u64 {
        let held = self.connections.values().filter(|live| !live.forgotten);
        held.map(|live| live.connection.memory()).sum::<u64>() + self.endpoint.pending_bytes() as u64
    }

    /// Bytes that programs of this node took from a client's streams.
    pub fn taken(&self, client: u32) -> u64 {
        let of = self.connections.values().filter(|live| live.connection.client().serial == client);
        of.flat_map(|live| live.programs.values()).map(Program::taken).sum()
    }

    fn drop_hop(&mut self, io: &mut Io<'_>, number: u64) {
        let Some((path, hop)) = self.hub.hops.remove(&number) else { return };
        io.close(hop.end);
        let current = &mut self.hub.current[path.index()];
        if *current == Some(number) {
            *current = None;
            self.endpoint.path_down(path);
            for live in self.connections.values_mut() {
                live.connection.handle_path_down(io.now(), path);
            }
        }
        self.dial_later(io.now(), path);
    }

    fn serve(&mut self, io: &mut Io<'_>, number: u64) {
        let Some((path, hop)) = self.hub.hops.get_mut(&number) else { return };
        let path = *path;
        match hop.handshake(io, &Known(self.numbers, path)) {
            Ok(Some(done)) => {
                hop.up(io.now(), done.sealer, done.opener);
                self.failures[path.index()] = 0;
                if let Some(old) = self.hub.current[path.index()] {
                    self.drop_hop(io, old);
                    self.redial[path.index()] = None;
                }
                self.hub.current[path.index()] = Some(number);
                self.endpoint.path_up(path);
                if self.role == Role::Client {
                    for live in self.connections.values_mut() {
                        live.connection.handle_path_up(io.now(), path);
                    }
                }
            }
            Ok(None) => {}
            Err(_) => {
                hop.flush(io);
                return self.drop_hop(io, number);
            }
        }
        let Some((_, mut hop)) = self.hub.hops.remove(&number) else { return };
        let Self { endpoint, connections, hub, own_jobs, .. } = self;
        let ok = hop.frames(io, |io, egress, frame| {
            let now = io.now();
            match frame {
                Frame::Ping { token } => return egress.control(&Frame::Pong { token }).is_ok(),
                Frame::Close { .. } => return false,
                _ => {}
            }
            let mut hops = WhileReading { hub: &mut *hub, path, egress };
            match endpoint.handle_frame(now, path, frame, &mut hops) {
                Routed::Nothing => {}
                Routed::To(handle, input) => {
                    if let Some(live) = connections.get_mut(&handle) {
                        live.connection.handle_input(now, path, input);
                    }
                }
                Routed::New(handle, connection) => {
                    let jobs = own_jobs.as_mut().map_or_else(Vec::new, |own| own());
                    connections.insert(handle, Live::new(*connection, jobs));
                }
            }
            true
        });
        self.hub.hops.insert(number, (path, hop));
        if !ok {
            self.drop_hop(io, number);
        }
    }

    /// Lets all connections and programs do what they can.
    fn drive(&mut self, io: &mut Io<'_>) {
        let now = io.now();
        for round in 0.. {
            assert!(round < MAX_ROUNDS, "{:?} spins at {now:?}", self.principal);
            let (mut again, mut blocked) = (false, false);
            // Each time another connection is the first to find room.
            self.turn += 1;
            let first = self.turn % self.connections.len().max(1);
            let handles: Vec<_> = self.connections.keys().copied().collect();
            for handle in
                handles[first.min(handles.len())..].iter().chain(&handles[..first.min(handles.len())])
            {
                let Some(live) = self.connections.get_mut(handle).filter(|live| !live.forgotten) else {
                    continue;
                };
                if live.work(now, &self.stalled) {
                    self.endpoint.confirmed(*handle);
                }
                let done = live.connection.transmit(now, &mut self.hub);
                again |= done.progress || done.more;
                blocked |= done.blocked;
                if live.connection.is_closed() {
                    live.work(now, &self.stalled);
                    live.forgotten = true;
                    self.endpoint.forget(*handle, &mut self.hub);
                }
            }
            let drained = self.hub.flush(io);
            if !(again || blocked && drained) {
                return;
            }
        }
    }
}

impl Node for EndpointNode {
    fn connected(&mut self, io: &mut Io<'_>, end: End, at: SocketAddr, dialled: bool) {
        let mut out = Outbox::new(self.tuning.local_queue);
        let (now, limits) = (io.now(), self.tuning.hop_limits);
        let (relay, state) = if dialled {
            let Some(relay) = self.dialling.remove(&end.number()) else { return io.close(end) };
            let (principal, role) = (self.principal, self.role);
            let dial = hop::Dial { principal, role, relay, dialled_by: DialledBy::Principal, limits };
            let key = imported(self.numbers, principal, relay, role);
            (relay, State::Dialling(Dialer::new(now, dial, key, &mut io.net.rng, &mut out)))
        } else {
            let relay = PathId::new((at.port() - self.base.port()) as u8).expect("below 25");
            (relay, State::Answering(Responder::new(now, relay, DialledBy::Relay, limits)))
        };
        let mut hop = HopEnd::new(end, state, out, self.tuning.egress);
        hop.flush(io);
        self.hub.hops.insert(end.number(), (relay, hop));
    }

    fn ready(&mut self, io: &mut Io<'_>, end: End) {
        self.serve(io, end.number());
        self.drive(io);
    }

    fn closed(&mut self, io: &mut Io<'_>, end: End) {
        if let Some(path) = self.dialling.remove(&end.number()) {
            self.dial_later(io.now(), path);
        }
        self.drop_hop(io, end.number());
        self.drive(io);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let hops = self.hub.hops.values().filter_map(|(_, hop)| hop.poll_timeout());
        let live = || self.connections.values().filter(|live| !live.forgotten);
        let connections = live().filter_map(|live| live.connection.poll_timeout());
        let programs = live().filter_map(Live::due);
        let named = connections.chain(self.endpoint.poll_timeout()).map(|(at, _)| at);
        hops.chain(self.redial.into_iter().flatten()).chain(named).chain(programs).min()
    }

    fn timeout(&mut self, io: &mut Io<'_>) {
        let now = io.now();
        let dead: Vec<_> =
            self.hub.hops.iter_mut().filter_map(|(n, (_, hop))| (!hop.timeout(now)).then_some(*n)).collect();
        for number in dead {
            self.drop_hop(io, number);
        }
        for path in PathId::all() {
            if self.redial[path.index()].is_some_and(|at| at <= now) {
                self.dial_relay(io, path);
            }
        }
        self.endpoint.handle_timeout(now, &mut self.hub);
        for live in self.connections.values_mut().filter(|live| !live.forgotten) {
            if live.connection.poll_timeout().is_some_and(|(at, _)| at <= now) {
                live.connection.handle_timeout(now);
            }
        }
        self.drive(io);
    }
}

/// A node that the test can still reach after the world took it.
impl<N: Node> Node for Rc<RefCell<N>> {
    fn connected(&mut self, io: &mut Io<'_>, end: End, at: SocketAddr, dialled: bool) {
        self.borrow_mut().connected(io, end, at, dialled);
    }
    fn ready(&mut self, io: &mut Io<'_>, end: End) {
        self.borrow_mut().ready(io, end);
    }
    fn closed(&mut self, io: &mut Io<'_>, end: End) {
        self.borrow_mut().closed(io, end);
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.borrow().poll_timeout()
    }
    fn timeout(&mut self, io: &mut Io<'_>) {
        self.borrow_mut().timeout(io);
    }
}
