//! Everything at once, by chance, for some simulated seconds; then sixteen relays are well and all must come right.

use crate::connection::{BYTES, LONG, SPEED};
use crate::sim::Speed;
use crate::sim::net::{Net, SERVER_A, SERVER_B};
use crate::sim::program::Job;
use crate::sim::relay::Numbers;
use qsocket_proto::connection::Config;
use qsocket_proto::ids::{RELAYS, SIXTEEN};
use std::ops::Range;
use std::time::Duration;

/// Which runs: `QSOCKET_SEEDS=from..to`, or a few.
fn seeds() -> Range<u64> {
    const ORDINARY: Range<u64> = 0..30;
    let Ok(text) = std::env::var("QSOCKET_SEEDS") else { return ORDINARY };
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.unwrap_or_else(|| panic!("QSOCKET_SEEDS={text}: write two numbers, as in QSOCKET_SEEDS=0..30"))
}

fn disturb(net: &mut Net) {
    let relay = net.chance(RELAYS as u32) as usize;
    let id = net.relays[relay].id;
    match net.chance(8) {
        0 => net.crash(relay),
        1 | 2 => net.restart(relay),
        3 => net.world.freeze(id),
        4 => net.world.thaw(id),
        5 => net.world.break_a_link(),
        6 => {
            let rate = SPEED.rate / [1, 4, 20, 80][net.chance(4) as usize];
            let delay = Duration::from_millis(net.chance(150).into());
            net.world.set_speed(id, Speed { rate, delay });
        }
        _ => net.world.set_speed(id, SPEED),
    }
}

fn run(seed: u64) {
    let mut net = Net::new(seed, SPEED);
    let servers = [SERVER_A, SERVER_B].map(|serial| net.server(serial, Config::default()));
    let clients = [1, 2].map(|serial| net.client(serial, Config::default(), Numbers::default()));
    net.settle();
    let mut open = Vec::new();
    for (client, server) in clients.iter().zip([SERVER_A, SERVER_B]) {
        let jobs = vec![Job::echo(seed, 2 * BYTES), Job::echo(seed + 1, BYTES / 3), Job::echo(seed + 2, 0)];
        open.push((client, net.connect(client, server, jobs)));
    }
    // Opening is not what this is about: it may fail while more than nine relays are away.
    net.run_until(LONG, "open", |_| open.iter().all(|(c, h)| c.with(*h, |live| live.established.is_some())));
    for _ in 0..150 {
        disturb(&mut net);
        let wait = net.chance(40);
        net.run_for(Duration::from_millis(wait.into()));
    }
    for relay in net.some(SIXTEEN) {
        net.world.thaw(net.relays[relay].id);
        net.restart(relay);
        net.world.set_speed(net.relays[relay].id, SPEED);
    }
    for (client, handle) in &open {
        net.finish(client, *handle, LONG);
    }
    for server in &servers {
        net.run_until(LONG, "the server's end", |_| server.all_done());
        let node = server.node.borrow();
        assert_eq!(node.memory(), 0, "seed {seed}: something is left");
    }
}

#[test]
fn streams_survive_chaos() {
    for seed in seeds() {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = result {
            println!(
                "replay: QSOCKET_SEEDS={seed}..{} cargo test -p qsocket-proto --test it chaos -- --nocapture",
                seed + 1
            );
            std::panic::resume_unwind(panic);
        }
    }
}
