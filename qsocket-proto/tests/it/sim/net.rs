//! 25 relays, and the servers and clients that a test adds.

use super::endpoint::EndpointNode;
use super::hop::Tuning;
use super::live::Live;
use super::program::Job;
use super::relay::{Numbers, RelayNode};
use super::{Io, NodeId, Speed, World};
use qsocket_proto::connection::Config;
use qsocket_proto::crypto::nonce_audit;
use qsocket_proto::endpoint::Handle;
use qsocket_proto::ids::{PathId, Principal, RELAYS, Role};
use qsocket_proto::relay::Registration;
use rand_core::Rng;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

pub const SERVER_A: u32 = 101;
pub const SERVER_B: u32 = 102;

/// Time that hops get to stand.
const SETTLE: Duration = Duration::from_millis(500);

pub fn principal(serial: u32) -> Principal {
    Principal { network: 1, denomination: 0, serial }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Where a server is reached: the base of its 25 ports.
pub fn base(server: u32) -> SocketAddr {
    address(10_000 + server as u16 * 100)
}

/// A node that is still at hand.
pub struct Kept<N> {
    pub id: NodeId,
    pub node: Rc<RefCell<N>>,
}

impl<N> Clone for Kept<N> {
    fn clone(&self) -> Self {
        Self { id: self.id, node: Rc::clone(&self.node) }
    }
}

impl Kept<EndpointNode> {
    /// Looks at a connection of the node.
    pub fn with<R>(&self, handle: Handle, look: impl FnOnce(&Live) -> R) -> R {
        look(&self.node.borrow().connections[&handle])
    }

    pub fn error(&self, handle: Handle) -> Option<qsocket_proto::connection::ConnectionError> {
        self.with(handle, |live| live.error().cloned())
    }

    pub fn all_done(&self) -> bool {
        self.node.borrow().connections.values().all(Live::is_done)
    }

    pub fn is_done(&self, handle: Handle) -> bool {
        self.with(handle, Live::is_done)
    }
}

pub struct Net {
    pub seed: u64,
    pub world: World,
    pub relays: Vec<Kept<RelayNode>>,
    /// Bytes in the queues of each relay.
    pub queued: Vec<Rc<Cell<usize>>>,
    at: Vec<SocketAddr>,
    tuning: Tuning,
}

impl Net {
    /// Relays that know servers A, which they dial, and B, which dials them.
    pub fn new(seed: u64, speed: Speed) -> Self {
        Self::tuned(seed, speed, Tuning::default())
    }

    pub fn tuned(seed: u64, speed: Speed, tuning: Tuning) -> Self {
        // Two runs from one seed draw the same keys.
        nonce_audit::forget();
        let mut world = World::new(seed, speed);
        let at: Vec<_> = (0..RELAYS as u16).map(|i| address(1000 + i)).collect();
        let (mut relays, mut queued) = (Vec::new(), Vec::new());
        for path in PathId::all() {
            let a = Registration::at_base(base(SERVER_A), path).expect("a low port");
            let b = Registration { destination: base(SERVER_B), dial: None };
            let servers = [(principal(SERVER_A), a), (principal(SERVER_B), b)];
            let (node, bytes) = RelayNode::new(path, &servers, tuning, world.start());
            let node = Rc::new(RefCell::new(node));
            let id = world.add(Box::new(Rc::clone(&node)));
            world.listen(id, at[path.index()]);
            relays.push(Kept { id, node });
            queued.push(bytes);
        }
        Self { seed, world, relays, queued, at, tuning }
    }

    fn endpoint(&mut self, node: EndpointNode) -> Kept<EndpointNode> {
        let node = Rc::new(RefCell::new(node));
        let id = self.world.add(Box::new(Rc::clone(&node)));
        Kept { id, node }
    }

    pub fn server(&mut self, serial: u32, config: Config) -> Kept<EndpointNode> {
        let dials = if serial == SERVER_B { self.at.clone() } else { Vec::new() };
        let (seed, tuning) = (self.world.net.rng.next_u64(), self.tuning);
        let places = (dials, base(serial));
        let numbers = Numbers::default();
        let server = self.endpoint(EndpointNode::new(
            Role::Server,
            principal(serial),
            config,
            numbers,
            places,
            tuning,
            seed,
        ));
        if serial == SERVER_A {
            for path in PathId::all() {
                self.world.listen(server.id, address(base(serial).port() + u16::from(path.get())));
            }
            for relay in self.relays.clone() {
                self.world.with(relay.id, |node, io| node.timeout(io));
            }
        }
        self.call(&server, EndpointNode::start);
        server
    }

    pub fn client(&mut self, serial: u32, config: Config, numbers: Numbers) -> Kept<EndpointNode> {
        let (seed, tuning) = (self.world.net.rng.next_u64(), self.tuning);
        let places = (self.at.clone(), address(0));
        let client = self.endpoint(EndpointNode::new(
            Role::Client,
            principal(serial),
            config,
            numbers,
            places,
            tuning,
            seed,
        ));
        self.call(&client, EndpointNode::start);
        client
    }

    /// Lets a test act as the node.
    pub fn call<N, R>(&mut self, kept: &Kept<N>, act: impl FnOnce(&mut N, &mut Io<'_>) -> R) -> R {
        let mut result = None;
        self.world.with(kept.id, |_, io| result = Some(act(&mut kept.node.borrow_mut(), io)));
        result.expect("not within a callback")
    }

    pub fn connect(&mut self, client: &Kept<EndpointNode>, server: u32, jobs: Vec<Job>) -> Handle {
        self.call(client, |node, io| node.connect(io, principal(server), base(server), jobs))
    }

    pub fn settle(&mut self) {
        self.run_for(SETTLE);
    }

    pub fn run_for(&mut self, span: Duration) {
        let until = self.world.elapsed() + span;
        self.world.run(until, |_| ());
    }

    /// Runs until `done`, looking every few milliseconds; panics with the seed if `limit` passes first.
    pub fn run_until(&mut self, limit: Duration, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.world.elapsed() + limit;
        while !done(self) {
            assert!(self.world.elapsed() < end, "seed {}: {what}: not within {limit:?}", self.seed);
            self.run_for(Duration::from_millis(5));
        }
    }

    /// Runs until all jobs of a connection are done.
    pub fn finish(&mut self, client: &Kept<EndpointNode>, handle: Handle, limit: Duration) {
        self.run_until(limit, "all bytes and the end", |net| {
            assert_eq!(client.error(handle), None, "seed {}", net.seed);
            client.is_done(handle)
        });
    }

    /// `count` relays by chance.
    pub fn some(&mut self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..RELAYS).collect();
        all.sort_by_cached_key(|_| self.world.net.rng.next_u32());
        all.truncate(count);
        all
    }

    pub fn chance(&mut self, below: u32) -> u32 {
        self.world.net.rng.next_u32() % below
    }

    pub fn crash(&mut self, relay: usize) {
        self.world.crash(self.relays[relay].id);
    }

    pub fn restart(&mut self, relay: usize) {
        let kept = self.relays[relay].clone();
        if self.world.is_dead(kept.id) {
            self.world.revive(kept.id);
            self.call(&kept, RelayNode::restart);
        }
    }
}
