//! Single faults of relays and links, one at a time: the rows of `docs/faults.md` that are about them.
//!
//! The simulation in `chaos` has them all at once. Here each stands alone, so that it is plain what follows from it.

use crate::connection::{BYTES, LONG, SPEED, midway, two};
use crate::sim::endpoint::EndpointNode;
use crate::sim::liar::{Liar, Lie};
use crate::sim::net::{Kept, Net, SERVER_A};
use crate::sim::program::Job;
use crate::sim::relay::Numbers;
use qsocket_proto::connection::{Config, ConnectionError, PathStatus, Stats};
use qsocket_proto::endpoint::Handle;
use qsocket_proto::ids::RELAYS;
use std::time::Duration;

/// Any nine relays begin to lie, about every frame.
fn corrupt(net: &mut Net, lies: &[Lie]) -> Vec<usize> {
    let nine = net.some(9);
    for relay in &nine {
        net.relays[*relay].node.borrow_mut().liar = Some(Liar::new(lies.to_vec(), 1));
    }
    nine
}

fn stats(of: &Kept<EndpointNode>, handle: Handle) -> Stats {
    of.with(handle, |live| live.connection.stats())
}

/// The server's end of its one connection.
fn server_stats(server: &Kept<EndpointNode>) -> Stats {
    server.node.borrow().connections.values().next_back().unwrap().connection.stats()
}

/// An echo while nine relays lie in this way from its middle on. Who lied is known, and nobody else.
fn echo_past(seed: u64, lies: &[Lie]) {
    let (mut net, server, client) = two(seed);
    let handle = midway(&mut net, &client, 6 * BYTES);
    let liars = corrupt(&mut net, lies);
    net.finish(&client, handle, LONG);
    let ends = [stats(&client, handle), server_stats(&server)];
    for relay in 0..RELAYS {
        let seen: u64 = ends.iter().map(|stats| stats.paths[relay].forged).sum();
        assert_eq!(seen > 0, liars.contains(&relay), "seed {seed}: relay {relay} was caught {seen} times");
        for path in ends.iter().map(|stats| stats.paths[relay]) {
            // Eight times are enough.
            let distrusted = path.status == PathStatus::Distrusted;
            assert_eq!(distrusted, path.forged >= 8, "seed {seed}: relay {relay}: {path:?}");
        }
    }
}

#[test]
fn nine_relays_that_flip_a_bit_of_everything_are_known_and_done_without() {
    for seed in 600..603 {
        echo_past(seed, &[Lie::Flip]);
    }
}

#[test]
fn nine_relays_that_corrupt_in_different_ways_are_known_and_done_without() {
    for seed in 603..606 {
        echo_past(seed, &[Lie::Flip, Lie::Shorten, Lie::Junk]);
    }
}

#[test]
fn nine_relays_that_swap_stripes_of_blocks_streams_and_directions_change_nothing() {
    for seed in 610..615 {
        let (mut net, _server, client) = two(seed);
        let jobs = (0..4).map(|key| Job::echo(seed * 8 + key, BYTES)).collect();
        let handle = net.connect(&client, SERVER_A, jobs);
        corrupt(&mut net, &[Lie::Swap]);
        net.finish(&client, handle, LONG);
    }
}

#[test]
fn relays_that_reorder_repeat_and_replay_are_not_even_suspected() {
    for (seed, lie) in [(620, Lie::Hold), (621, Lie::Twice), (622, Lie::Replay)] {
        let (mut net, server, client) = two(seed);
        let handle = midway(&mut net, &client, 3 * BYTES);
        for relay in &net.relays {
            relay.node.borrow_mut().liar = Some(Liar::new(vec![lie], 2));
        }
        net.finish(&client, handle, LONG);
        for stats in [stats(&client, handle), server_stats(&server)] {
            let forged: u64 = stats.paths.iter().map(|path| path.forged).sum();
            assert_eq!(forged, 0, "{lie:?}: what arrives twice is what was sealed once");
        }
    }
}

#[test]
fn stripes_that_arrive_ten_times_are_taken_once_and_cost_no_memory() {
    let memory = |lies: &[Lie]| {
        let (mut net, server, client) = two(625);
        let handle = midway(&mut net, &client, 3 * BYTES);
        for relay in &net.relays {
            relay.node.borrow_mut().liar = Some(Liar::new(lies.to_vec(), 1));
        }
        let mut most = 0;
        while !client.is_done(handle) {
            net.run_for(Duration::from_millis(5));
            most = most.max(server.node.borrow().memory());
            assert!(net.world.elapsed() < LONG, "it ends");
        }
        let taken = server.node.borrow().taken(1);
        assert_eq!(taken, 3 * BYTES);
        most
    };
    let (once, often) = (memory(&[]), memory(&[Lie::Often]));
    assert!(often <= once * 2 + (1 << 20), "{often} bytes instead of {once}");
}

#[test]
fn nine_relays_that_swallow_everything_from_the_start_do_not_prevent_an_opening() {
    for seed in 630..635 {
        let (mut net, _server, client) = two(seed);
        corrupt(&mut net, &[Lie::Drop]);
        let handle = net.connect(&client, SERVER_A, vec![Job::echo(seed, BYTES)]);
        net.finish(&client, handle, LONG);
    }
}

#[test]
fn nine_relays_that_bring_other_shares_and_headers_are_outvoted_and_named() {
    for seed in 640..645 {
        let (mut net, server, client) = two(seed);
        let liars = corrupt(&mut net, &[Lie::Share]);
        let handle = net.connect(&client, SERVER_A, vec![Job::echo(seed, BYTES)]);
        net.finish(&client, handle, LONG);
        let named = server.node.borrow().liars();
        assert!(
            named.len() == 9 && named.iter().all(|relay| liars.contains(relay)),
            "{named:?} of {liars:?}"
        );

        let (mut net, _server, client) = two(seed);
        corrupt(&mut net, &[Lie::Header]);
        let handle = net.connect(&client, SERVER_A, vec![Job::echo(seed, BYTES)]);
        net.finish(&client, handle, LONG);
    }
}

#[test]
fn nine_relays_that_invent_advice_end_nothing() {
    for seed in 650..655 {
        let (mut net, _server, client) = two(seed);
        let handle = midway(&mut net, &client, 3 * BYTES);
        corrupt(&mut net, &[Lie::Congested, Lie::RouteError, Lie::Detach, Lie::Offset]);
        net.finish(&client, handle, LONG);
    }
}

/// They can end it: what they say of routes is advice, and ten that say the same are believed.
#[test]
fn ten_relays_that_invent_advice_and_pass_nothing_on_make_an_error_and_no_end() {
    for seed in 656..659 {
        let (mut net, server, client) = two(seed);
        let handle = midway(&mut net, &client, 40 * BYTES);
        for relay in net.some(10) {
            net.relays[relay].node.borrow_mut().liar = Some(Liar::unknowing());
        }
        net.run_until(LONG, "an error", |_| client.error(handle).is_some());
        assert_eq!(client.error(handle), Some(ConnectionError::Reset), "seed {seed}");
        client.with(handle, |live| {
            assert!(
                live.programs.values().all(|program| !program.saw_fin()),
                "seed {seed}: never a clean end"
            );
        });
        net.run_for(Duration::from_secs(65));
        for live in server.node.borrow().connections.values() {
            assert!(live.error().is_some(), "seed {seed}");
            assert!(
                live.programs.values().all(|program| !program.saw_fin()),
                "seed {seed}: never a clean end"
            );
        }
    }
}

#[test]
fn links_that_lead_nowhere_are_noticed_and_replaced() {
    let (mut net, _server, client) = two(660);
    let nine = net.some(9);
    for relay in &nine {
        for link in net.world.net.links_of(net.relays[*relay].id) {
            net.world.net.cut_link(link);
        }
    }
    // Neither end hears of it. Nothing is sent but the keepalive.
    net.run_for(Duration::from_secs(40));
    assert_eq!(client.node.borrow().up().len(), RELAYS, "TCP itself says nothing");
    net.run_for(Duration::from_secs(20));
    assert_eq!(client.node.borrow().up().len(), RELAYS, "new links stand, as nothing keeps them from it");
    let handle = net.connect(&client, SERVER_A, vec![Job::echo(1, BYTES)]);
    net.finish(&client, handle, LONG);
    let joined = stats(&client, handle).paths.iter().filter(|path| path.status == PathStatus::Live).count();
    assert_eq!(joined, RELAYS, "and the relays had noticed too");
}

#[test]
fn two_processes_with_one_key_work_side_by_side() {
    let mut net = Net::new(670, SPEED);
    let server = net.server(SERVER_A, Config::default());
    let clients = [(); 2].map(|()| net.client(1, Config::default(), Numbers::default()));
    net.settle();
    let open: Vec<_> = clients
        .iter()
        .zip([10, 20])
        .map(|(client, key)| (client, net.connect(client, SERVER_A, vec![Job::echo(key, BYTES)])))
        .collect();
    for (client, handle) in open {
        net.finish(client, handle, LONG);
    }
    assert_eq!(server.node.borrow().taken(1), 2 * BYTES);
}
