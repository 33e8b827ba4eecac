//! The riskiest assumption: shared hops stay flowing for everybody else, whatever some of their users do.

use crate::sim::relay::RelayNode;
use crate::sim::stripes::{Board, ClientNode, ServerNode, Shared};
use crate::sim::{Io, Node, Speed, World};
use qsocket_proto::ids::{PathId, Principal, RELAYS};
use qsocket_proto::relay::{OUTBOX_TARGET, ROUTE_QUEUE, Registration};
use rand_core::Rng;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

const SERVER_A: u32 = 101;
const SERVER_B: u32 = 102;

/// A client's link to a relay; those to servers are four times as fast.
const SPEED: Speed = Speed { rate: 500_000, delay: Duration::from_millis(10) };

/// What every writer offers in bytes a second.
const OFFERED: f64 = 6_000_000.0;

/// When the disturbance and measuring begin, and when measuring ends.
const FROM: Duration = Duration::from_millis(1000);
const TO: Duration = Duration::from_millis(5000);

/// A node that the test can still reach after the world took it.
struct Kept<N>(Rc<RefCell<N>>);

impl<N: Node> Node for Kept<N> {
    fn connected(&mut self, io: &mut Io<'_>, end: crate::sim::End, at: SocketAddr, dialled: bool) {
        self.0.borrow_mut().connected(io, end, at, dialled);
    }
    fn ready(&mut self, io: &mut Io<'_>, end: crate::sim::End) {
        self.0.borrow_mut().ready(io, end);
    }
    fn closed(&mut self, io: &mut Io<'_>, end: crate::sim::End) {
        self.0.borrow_mut().closed(io, end);
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.0.borrow().poll_timeout()
    }
    fn timeout(&mut self, io: &mut Io<'_>) {
        self.0.borrow_mut().timeout(io);
    }
}

fn principal(serial: u32) -> Principal {
    Principal { network: 1, denomination: 0, serial }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[derive(Debug)]
struct Run {
    /// Bytes a second that each reader took, by (server, client).
    goodput: BTreeMap<(u32, u32), f64>,
    /// The most that one relay's queues ever held.
    relay_bytes: usize,
    /// Timer callbacks a second, over all nodes.
    timers: f64,
}

/// What happens in a run.
#[derive(Clone, Copy, Default)]
struct Scenario {
    /// Client 1 and 3 also send to B, client 2 to A.
    others: bool,
    /// B freezes and the reader of client 2 stops.
    disturbed: bool,
    /// Nine relays become slow.
    slow: bool,
    /// All links of nine relays break.
    broken: bool,
}

fn run(seed: u64, scenario: Scenario) -> Run {
    // Two runs from one seed draw the same keys.
    qsocket_proto::crypto::nonce_audit::forget();
    let mut world = World::new(seed, SPEED);
    let start = world.start();
    let board: Shared = Rc::new(RefCell::new(Board::default()));
    let (base_a, base_b) = (address(2000), address(3000));
    let mut relays = Vec::new();
    let mut queues: Vec<Rc<Cell<usize>>> = Vec::new();
    let at: Vec<_> = (0..RELAYS as u16).map(|i| address(1000 + i)).collect();
    for path in PathId::all() {
        let a = Registration::at_base(base_a, path).expect("a low port");
        // B dials the relays itself.
        let b = Registration { destination: base_b, dial: None };
        let (node, queued) =
            RelayNode::new(path, &[(principal(SERVER_A), a), (principal(SERVER_B), b)], start);
        relays.push(world.add(Box::new(node)));
        queues.push(queued);
        world.listen(relays[path.index()], at[path.index()]);
    }
    let server = |serial, base, dials: Vec<SocketAddr>| {
        Rc::new(RefCell::new(ServerNode::new(principal(serial), base, dials, Rc::clone(&board))))
    };
    let a = server(SERVER_A, base_a, Vec::new());
    let b = server(SERVER_B, base_b, at.clone());
    let (id_a, id_b) = (world.add(Box::new(Kept(a))), world.add(Box::new(Kept(Rc::clone(&b)))));
    for path in PathId::all() {
        world.listen(id_a, address(base_a.port() + u16::from(path.get())));
    }
    let fast = Speed { rate: SPEED.rate * 4, ..SPEED };
    // Relays are near and far, and any nine of them become slow.
    for &relay in &relays {
        let delay = SPEED.delay / 2 + Duration::from_millis(u64::from(world.net.rng.next_u32() % 15));
        world.set_speed(relay, Speed { delay, ..SPEED });
    }
    let mut nine = relays.clone();
    nine.sort_by_cached_key(|_| world.net.rng.next_u32());
    nine.truncate(9);
    world.set_speed(id_a, fast);
    world.set_speed(id_b, fast);
    for &relay in &relays {
        world.with(relay, |node, io| node.timeout(io));
    }
    world.with(id_b, |_, io| b.borrow_mut().start(io));
    // Registered servers have their hops before the first client comes.
    world.run(Duration::from_millis(100), |_| ());
    for serial in 1..=3 {
        let client = Rc::new(RefCell::new(ClientNode::new(principal(serial), at.clone(), start)));
        let id = world.add(Box::new(Kept(Rc::clone(&client))));
        let (to_a, to_b) = ((principal(SERVER_A), base_a), (principal(SERVER_B), base_b));
        let to = match (serial, scenario.others) {
            (2, false) => vec![],
            (2, true) | (_, false) => vec![to_a],
            (_, true) => vec![to_a, to_b],
        };
        world.with(id, |_, io| client.borrow_mut().start(io, &to));
    }
    let mut relay_bytes = 0;
    let mut check = |_: &crate::sim::Network| {
        relay_bytes = queues.iter().map(|q| q.get()).max().unwrap_or(0).max(relay_bytes);
    };
    world.run(FROM, &mut check);
    if scenario.disturbed {
        world.freeze(id_b);
        board.borrow_mut().stalled.insert((SERVER_A, 2));
    }
    if scenario.slow {
        for &relay in &nine {
            world.set_speed(relay, Speed { rate: SPEED.rate / 20, delay: Duration::from_millis(200) });
        }
    }
    if scenario.broken {
        for &relay in &nine {
            world.reset(relay);
        }
    }
    let (before, timers) = (board.borrow().taken.clone(), world.timer_events);
    world.run(TO, &mut check);
    let seconds = (TO - FROM).as_secs_f64();
    let goodput = board
        .borrow()
        .taken
        .iter()
        .map(|(key, bytes)| (*key, (bytes - before.get(key).copied().unwrap_or(0)) as f64 / seconds))
        .collect();
    Run { goodput, relay_bytes, timers: (world.timer_events - timers) as f64 / seconds }
}

#[test]
fn a_frozen_server_a_stalled_reader_and_nine_slow_relays_do_not_slow_the_others() {
    for seed in [1, 2] {
        let undisturbed = run(seed, Scenario { others: true, ..Scenario::default() });
        // What nine slow relays leave to two flows that nobody else disturbs.
        let alone = run(seed, Scenario { slow: true, ..Scenario::default() });
        let disturbed =
            run(seed, Scenario { others: true, disturbed: true, slow: true, ..Scenario::default() });
        println!("seed {seed}\nundisturbed {undisturbed:?}\nalone {alone:?}\ndisturbed {disturbed:?}");
        for client in [1, 3] {
            let key = (SERVER_A, client);
            let is = disturbed.goodput[&key];
            for was in [undisturbed.goodput[&key], alone.goodput[&key]] {
                assert!(is >= 0.9 * was, "seed {seed}: client {client} went from {was} to {is} B/s");
            }
            assert!(is > 0.9 * OFFERED, "seed {seed}: {is} B/s of {OFFERED}");
        }
        assert_eq!(disturbed.goodput.get(&(SERVER_B, 1)), Some(&0.0), "seed {seed}: B is frozen");
        assert_eq!(disturbed.goodput[&(SERVER_A, 2)], 0.0, "seed {seed}: the reader has stopped");
        // Five routes lead to the servers, and each of five hops has an outbox.
        let cap = 5 * (ROUTE_QUEUE + OUTBOX_TARGET);
        assert!(disturbed.relay_bytes <= cap, "seed {seed}: a relay held {} bytes", disturbed.relay_bytes);
        // Each of five connections is paced, acknowledges at most 40 times a second, and has 25 paths that time out
        // at most five times a second; blocks that stall share their deadlines.
        let bound = 5.0 * (92.0 + 40.0 + 125.0);
        for run in [&undisturbed, &alone, &disturbed] {
            assert!(run.timers < bound, "seed {seed}: {} timer events a second", run.timers);
        }
    }
}

#[test]
fn nine_relays_whose_links_break_slow_nobody() {
    for seed in [3, 4] {
        let broken = run(seed, Scenario { broken: true, ..Scenario::default() });
        println!("seed {seed}\nbroken {broken:?}");
        for client in [1, 3] {
            let is = broken.goodput[&(SERVER_A, client)];
            assert!(is > 0.9 * OFFERED, "seed {seed}: client {client}: {is} B/s of {OFFERED}");
        }
    }
}
