//! The riskiest assumption: shared hops stay flowing for everybody else, whatever some of their users do.

use crate::sim::Speed;
use crate::sim::net::{Net, SERVER_A, SERVER_B};
use crate::sim::program::{Job, Kind};
use crate::sim::relay::Numbers;
use qsocket_proto::connection::Config;
use qsocket_proto::relay::{OUTBOX_TARGET, ROUTE_QUEUE};
use rand_core::Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// A client's link to a relay; those to servers are four times as fast.
const SPEED: Speed = Speed { rate: 250_000, delay: Duration::from_millis(10) };

/// What every writer offers in bytes a second: three quarters of what sixteen links carry.
const OFFERED: u64 = 3_000_000;

/// When the disturbance and measuring begin, and when measuring ends.
const FROM: Duration = Duration::from_millis(1500);
const TO: Duration = Duration::from_millis(5500);

/// More than any writer gets rid of.
const ENDLESS: u64 = 1 << 40;

#[derive(Debug)]
struct Run {
    /// Bytes a second that each reader took, by (server, client).
    goodput: BTreeMap<(u32, u32), f64>,
    /// The most that one relay's queues ever held.
    relay_bytes: usize,
    /// The most that a server's connections ever held.
    server_bytes: u64,
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
    let mut net = Net::new(seed, SPEED);
    // Relays are near and far, and any nine of them become slow.
    for relay in net.relays.clone() {
        let delay = SPEED.delay / 2 + Duration::from_millis(u64::from(net.world.net.rng.next_u32() % 15));
        net.world.set_speed(relay.id, Speed { delay, ..SPEED });
    }
    let nine = net.some(9);
    let servers = [SERVER_A, SERVER_B].map(|serial| net.server(serial, Config::default()));
    for server in &servers {
        net.world.set_speed(server.id, Speed { rate: SPEED.rate * 4, ..SPEED });
    }
    let clients = [1, 2, 3].map(|serial| net.client(serial, Config::default(), Numbers::default()));
    net.settle();
    let job = |key| Job { kind: Kind::Sink, pace: Some(OFFERED), ..Job::echo(key, ENDLESS) };
    for (serial, client) in (1..=3).zip(&clients) {
        let to: &[u32] = match (serial, scenario.others) {
            (2, false) => &[],
            (2, true) | (_, false) => &[SERVER_A],
            (_, true) => &[SERVER_A, SERVER_B],
        };
        for server in to {
            net.connect(client, *server, vec![job(serial)]);
        }
    }
    let queued = net.queued.clone();
    let (mut relay_bytes, mut server_bytes) = (0, 0);
    let mut check = |net: &mut Net, until| {
        while net.world.elapsed() < until {
            let next = net.world.elapsed() + Duration::from_millis(20);
            net.world.run(next, |_| {
                relay_bytes = queued.iter().map(|q| q.get()).max().unwrap_or(0).max(relay_bytes);
            });
            let held = servers.iter().map(|s| s.node.borrow().memory()).max();
            server_bytes = server_bytes.max(held.unwrap_or(0));
        }
    };
    check(&mut net, FROM);
    if scenario.disturbed {
        net.world.freeze(servers[1].id);
        servers[0].node.borrow_mut().stalled.insert(2);
    }
    for relay in nine {
        let id = net.relays[relay].id;
        if scenario.slow {
            net.world.set_speed(id, Speed { rate: SPEED.rate / 20, delay: Duration::from_millis(200) });
        }
        if scenario.broken {
            net.world.reset(id);
        }
    }
    let taken = || {
        let mut all = BTreeMap::new();
        for (serial, server) in [SERVER_A, SERVER_B].into_iter().zip(&servers) {
            all.extend((1..=3).map(|client| ((serial, client), server.node.borrow().taken(client))));
        }
        all
    };
    let (before, timers) = (taken(), net.world.timer_events);
    check(&mut net, TO);
    let seconds = (TO - FROM).as_secs_f64();
    let goodput = taken().into_iter().map(|(key, n)| (key, (n - before[&key]) as f64 / seconds)).collect();
    let timers = (net.world.timer_events - timers) as f64 / seconds;
    Run { goodput, relay_bytes, server_bytes, timers }
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
            assert!(is > 0.9 * OFFERED as f64, "seed {seed}: {is} B/s of {OFFERED}");
        }
        assert_eq!(disturbed.goodput[&(SERVER_B, 1)], 0.0, "seed {seed}: B is frozen");
        assert_eq!(disturbed.goodput[&(SERVER_A, 2)], 0.0, "seed {seed}: the reader has stopped");
        // Five routes lead to the servers, and each of five hops has an outbox.
        let cap = 5 * (ROUTE_QUEUE + OUTBOX_TARGET);
        assert!(disturbed.relay_bytes <= cap, "seed {seed}: a relay held {} bytes", disturbed.relay_bytes);
        // A window of each of three connections, and what its path counters cannot see yet.
        let cap = 3 * (Config::default().stream_window + (256 << 10));
        assert!(disturbed.server_bytes <= cap, "seed {seed}: a server held {} bytes", disturbed.server_bytes);
        // Each of five connections is paced, acknowledges at most 200 times a second on each side, and waits for
        // data stripes of at most every block.
        let bound = 5.0 * (100.0 + 2.0 * 200.0 + 100.0);
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
            assert!(is > 0.9 * OFFERED as f64, "seed {seed}: client {client}: {is} B/s of {OFFERED}");
        }
    }
}
