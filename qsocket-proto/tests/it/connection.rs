//! Connections over relays that die, lie still, come back or never were.

use crate::sim::Speed;
use crate::sim::endpoint::EndpointNode;
use crate::sim::net::{Kept, Net, SERVER_A, SERVER_B, base, principal};
use crate::sim::program::{Job, Kind};
use crate::sim::relay::{Numbers, RelayNode, UNKNOWN};
use qsocket_proto::connection::{Config, ConnectionError, ReadError};
use qsocket_proto::endpoint::Handle;
use qsocket_proto::frame::RouteError;
use qsocket_proto::ids::RELAYS;
use std::time::Duration;

/// A link to or from a relay.
pub const SPEED: Speed = Speed { rate: 2_000_000, delay: Duration::from_millis(5) };

/// Bytes of a transfer: many blocks of many sizes.
pub const BYTES: u64 = 700_001;

pub const LONG: Duration = Duration::from_secs(40);

pub fn two(seed: u64) -> (Net, Kept<EndpointNode>, Kept<EndpointNode>) {
    let mut net = Net::new(seed, SPEED);
    let server = net.server(SERVER_A, Config::default());
    let client = net.client(1, Config::default(), Numbers::default());
    net.settle();
    (net, server, client)
}

/// Starts an echo and lets it run for a while that the seed decides.
pub fn midway(net: &mut Net, client: &Kept<EndpointNode>, bytes: u64) -> Handle {
    let handle = net.connect(client, SERVER_A, vec![Job::echo(net.seed, bytes)]);
    net.run_until(LONG, "open", |_| client.with(handle, |live| live.established.is_some()));
    // A server that never heard the client's confirmation forgets the connection, and fewer than ten relays cannot
    // tell the client so: that is not what these tests are about.
    let span = SPEED.delay * 4 + Duration::from_millis(u64::from(net.chance(120)));
    net.run_for(span);
    handle
}

#[test]
fn one_round_trip_opens_and_data_follows_right_behind() {
    let seed = 1;
    // Fast links: what is measured is the delay.
    let mut net = Net::new(seed, Speed { rate: 1_000_000_000, ..SPEED });
    let server = net.server(SERVER_A, Config::default());
    let client = net.client(1, Config::default(), Numbers::default());
    net.settle();
    assert_eq!(client.node.borrow().up().len(), RELAYS);
    let handle = net.connect(&client, SERVER_A, vec![Job::echo(5, 100)]);
    let begin = net.world.start() + net.world.elapsed();
    let one_way = SPEED.delay * 2;
    let slack = Duration::from_millis(1);
    net.finish(&client, handle, LONG);
    let established = client.with(handle, |live| live.established).unwrap() - begin;
    assert!(established >= one_way * 2 && established < one_way * 2 + slack, "{established:?}");
    let read = |kept: &Kept<EndpointNode>| {
        let node = kept.node.borrow();
        let live = node.connections.values().next().unwrap();
        live.programs.values().next().unwrap().first_read.unwrap() - begin
    };
    let (there, back) = (read(&server), read(&client));
    assert!(there < one_way * 3 + slack, "{there:?}: data right behind the confirmation");
    assert!(back < one_way * 4 + slack, "{back:?}");
}

#[test]
fn any_nine_relays_crash_at_any_moment() {
    for seed in 0..30 {
        let mut net = Net::new(100 + seed, SPEED);
        let server = net.server(SERVER_A, Config::default());
        let client = net.client(1, Config::default(), Numbers::default());
        let nine = net.some(9);
        // Some are dead before anything begins, the others die while hops, connection or stream come to be.
        let wait = net.chance(600);
        net.run_for(Duration::from_millis(wait.into()));
        for relay in &nine[..3] {
            net.crash(*relay);
        }
        let handle = net.connect(&client, SERVER_A, vec![Job::echo(seed, BYTES), Job::echo(seed + 1, 1)]);
        for relay in &nine[3..] {
            let wait = net.chance(40);
            net.run_for(Duration::from_millis(wait.into()));
            net.crash(*relay);
        }
        net.finish(&client, handle, LONG);
        net.run_until(LONG, "the server's end", |_| server.all_done());
    }
}

#[test]
fn nine_relays_after_nine_crash_and_start_again() {
    for seed in 200..210 {
        let (mut net, _server, client) = two(seed);
        let handle = midway(&mut net, &client, 3 * BYTES);
        let mut down = Vec::new();
        for _ in 0..6 {
            for relay in down {
                net.restart(relay);
            }
            // Time for the hops to stand again before the next ones go.
            net.run_for(Duration::from_millis(1500));
            down = net.some(9);
            for relay in &down {
                net.crash(*relay);
            }
            let wait = net.chance(100);
            net.run_for(Duration::from_millis(wait.into()));
        }
        net.finish(&client, handle, LONG);
    }
}

#[test]
fn twenty_four_relays_die_and_the_streams_still_finish() {
    for seed in 300..305 {
        let (mut net, _server, client) = two(seed);
        let handle = midway(&mut net, &client, BYTES);
        for relay in net.some(24) {
            net.crash(relay);
        }
        net.finish(&client, handle, LONG);
    }
}

#[test]
fn all_relays_die_and_come_back() {
    for seed in 310..314 {
        let (mut net, _server, client) = two(seed);
        let handle = midway(&mut net, &client, BYTES);
        for relay in 0..RELAYS {
            net.crash(relay);
        }
        net.run_for(Duration::from_secs(20));
        assert_eq!(client.error(handle), None, "seed {seed}: waiting is not an error");
        // Not all of them at once, and one does.
        net.restart(seed as usize % RELAYS);
        net.finish(&client, handle, LONG);
    }
}

#[test]
fn all_relays_die_for_good_and_the_idle_limit_ends_it() {
    let (mut net, server, client) = two(320);
    let handle = midway(&mut net, &client, 20 * BYTES);
    for relay in 0..RELAYS {
        net.crash(relay);
    }
    net.run_for(Duration::from_secs(65));
    assert_eq!(client.error(handle), Some(ConnectionError::Idle));
    let node = server.node.borrow();
    for live in node.connections.values() {
        assert_eq!(live.error(), Some(&ConnectionError::Idle));
        assert!(live.programs.values().all(|p| !p.saw_fin()), "never a clean end");
    }
}

#[test]
fn nine_relays_freeze_at_once() {
    for seed in 330..340 {
        let (mut net, _server, client) = two(seed);
        let handle = midway(&mut net, &client, 2 * BYTES);
        let nine = net.some(9);
        for relay in &nine {
            net.world.freeze(net.relays[*relay].id);
        }
        let frozen = net.world.elapsed();
        net.finish(&client, handle, LONG);
        let took = net.world.elapsed() - frozen;
        assert!(took < Duration::from_secs(3), "seed {seed}: {took:?}");
        // What they held back comes late, and changes nothing.
        for relay in nine {
            net.world.thaw(net.relays[relay].id);
        }
        let again = net.connect(&client, SERVER_A, vec![Job::echo(seed, BYTES)]);
        net.finish(&client, again, LONG);
    }
}

#[test]
fn a_restarted_server_is_a_reset_and_refuses_what_relays_replay() {
    for seed in 350..353 {
        let (mut net, server, client) = two(seed);
        for relay in &net.relays {
            relay.node.borrow_mut().record();
        }
        let handle = midway(&mut net, &client, 20 * BYTES);
        net.run_for(Duration::from_millis(150));
        net.world.crash(server.id);
        net.run_for(Duration::from_millis(20));
        net.world.revive(server.id);
        net.call(&server, EndpointNode::restart);
        net.run_until(LONG, "an error", |_| client.error(handle).is_some());
        assert_eq!(client.error(handle), Some(ConnectionError::Reset), "seed {seed}");
        client.with(handle, |live| {
            for program in live.programs.values() {
                assert_eq!(program.failed, Some(ReadError::Lost(ConnectionError::Reset)), "seed {seed}");
                assert!(!program.saw_fin(), "seed {seed}: never a clean end");
            }
        });
        // 25 relays say again all that they heard of the client.
        net.run_for(Duration::from_secs(5));
        let mut sent = 0;
        for relay in net.relays.clone() {
            sent += net.call(&relay, RelayNode::replay);
        }
        assert!(sent > 100, "seed {seed}: {sent} frames");
        let opened =
            || server.node.borrow().connections.values().map(|live| live.established).collect::<Vec<_>>();
        net.run_for(Duration::from_millis(100));
        assert_eq!(opened(), [None], "seed {seed}: it gets a reply that nobody can answer");
        net.run_for(Duration::from_secs(11));
        assert_eq!(opened(), [None], "seed {seed}");
        let node = server.node.borrow();
        let live = node.connections.values().next().unwrap();
        assert_eq!(live.error(), Some(&ConnectionError::Unconfirmed), "seed {seed}");
        assert!(live.programs.is_empty(), "seed {seed}: no stream reached accept");
    }
}

#[test]
fn nine_relays_that_do_not_know_the_number_are_done_without_and_ten_are_not() {
    for (wrong_below, works) in [(1, true), (9, true), (10, false), (25, false)] {
        let mut net = Net::new(360, SPEED);
        let _server = net.server(SERVER_A, Config::default());
        let client = net.client(1, Config::default(), Numbers { wrong_below });
        net.settle();
        assert_eq!(client.node.borrow().up().len(), RELAYS - usize::from(wrong_below));
        let handle = net.connect(&client, SERVER_A, vec![Job::echo(1, BYTES)]);
        if works {
            net.finish(&client, handle, LONG);
        } else {
            net.run_for(Duration::from_secs(11));
            let error = client.error(handle);
            assert!(is_without_quorum(error.as_ref()), "{wrong_below}: {error:?}");
        }
    }
}

/// Sixteen relays were not found: the deadline passed, or ten heard that the server let go of the attempt.
fn is_without_quorum(error: Option<&ConnectionError>) -> bool {
    matches!(error, Some(ConnectionError::OpenTimeout | ConnectionError::Unreachable(RouteError::Lost)))
}

#[test]
fn a_serial_that_no_relay_knows_gets_no_hop() {
    let mut net = Net::new(361, SPEED);
    let server = net.server(SERVER_A, Config::default());
    let client = net.client(UNKNOWN, Config::default(), Numbers::default());
    net.settle();
    assert_eq!(client.node.borrow().up().len(), 0);
    let handle = net.connect(&client, SERVER_A, vec![Job::echo(1, 1)]);
    net.run_for(Duration::from_secs(11));
    assert_eq!(client.error(handle), Some(ConnectionError::OpenTimeout));
    assert!(server.node.borrow().connections.is_empty());
}

#[test]
fn relays_lead_to_registered_places_only() {
    let (mut net, _server, client) = two(362);
    let cases = [
        (principal(SERVER_A), base(SERVER_B), RouteError::DestinationNotRegistered),
        (principal(777), base(SERVER_A), RouteError::NoSuchServer),
    ];
    for (server, destination, reason) in cases {
        let handle =
            net.call(&client, |node, io| node.connect(io, server, destination, vec![Job::echo(1, 1)]));
        net.run_for(SPEED.delay * 4);
        assert_eq!(client.error(handle), Some(ConnectionError::Unreachable(reason)));
    }
    // The hops are none the worse for it.
    let handle = net.connect(&client, SERVER_A, vec![Job::echo(1, BYTES)]);
    net.finish(&client, handle, LONG);
}

#[test]
fn a_registered_server_that_is_not_there_is_unreachable() {
    let mut net = Net::new(363, SPEED);
    let client = net.client(1, Config::default(), Numbers::default());
    net.settle();
    let handle = net.connect(&client, SERVER_A, vec![Job::echo(1, 1)]);
    net.run_for(Duration::from_secs(6));
    assert_eq!(client.error(handle), Some(ConnectionError::Unreachable(RouteError::ServerUnreachable)));
}

#[test]
fn clients_and_servers_on_the_same_relays_never_meet() {
    let mut net = Net::new(370, SPEED);
    let servers = [SERVER_A, SERVER_B].map(|serial| net.server(serial, Config::default()));
    let clients = [1, 2].map(|serial| net.client(serial, Config::default(), Numbers::default()));
    net.settle();
    // Both clients use the same route numbers on their hops, and the same streams in every connection.
    let mut open = Vec::new();
    for client in &clients {
        for server in [SERVER_A, SERVER_B] {
            let key = u64::from(server) << 8 | open.len() as u64;
            let jobs =
                vec![Job::echo(key, BYTES), Job { kind: Kind::Sink, ..Job::echo(key + 64, BYTES / 2) }];
            open.push((client, net.connect(client, server, jobs)));
        }
    }
    for (client, handle) in open {
        net.finish(client, handle, LONG);
    }
    for server in &servers {
        net.run_until(LONG, "the server's end", |_| server.all_done());
        let node = server.node.borrow();
        let mut from: Vec<_> =
            node.connections.values().map(|live| live.connection.client().serial).collect();
        from.sort_unstable();
        assert_eq!(from, [1, 2]);
        assert_eq!((node.taken(1), node.taken(2)), (BYTES + BYTES / 2, BYTES + BYTES / 2));
    }
}
