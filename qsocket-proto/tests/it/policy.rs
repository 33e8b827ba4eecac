//! How much parity is sent, under stress: what `Adaptive` saves must not be paid for in time.

use crate::connection::LONG;
use crate::sim::Speed;
use crate::sim::net::{Net, SERVER_A};
use crate::sim::program::{Job, Kind};
use crate::sim::relay::Numbers;
use qsocket_proto::connection::{Config, ParityPolicy, Redundancy};
use qsocket_proto::ids::RELAYS;
use std::time::Duration;

/// What happens to the relays while a transfer is under way.
#[derive(Clone, Copy, Debug)]
enum Stress {
    Calm,
    /// Nine crash at once, and both ends are told.
    NineCrash,
    /// Nine lie still at once, and nobody is told.
    NineFreeze,
    /// Every 150 ms another six lie still, and those before go on.
    Flapping,
    /// Each has another speed, up to eight times another's, and another delay.
    Unequal,
    /// Both.
    UnequalAndFlapping,
}

impl Stress {
    fn is_unequal(self) -> bool {
        matches!(self, Self::Unequal | Self::UnequalAndFlapping)
    }
}

/// The same transfer in the same network: how long it takes until the reader has the last byte, and the round trip that
/// the sender measured, queues included. All is drawn from the seed, so that only the policy differs.
fn run(
    seed: u64,
    bytes: u64,
    stress: Stress,
    (parity, redundancy): (ParityPolicy, Redundancy),
) -> (Duration, Duration) {
    let mut net = Net::new(seed, Speed { rate: 2_000_000, delay: Duration::from_millis(5) });
    let config = || Config { parity, redundancy, ..Config::default() };
    let server = net.server(SERVER_A, config());
    let client = net.client(1, config(), Numbers::default());
    net.settle();
    // Drawn before the transfer, since what is drawn while it runs depends on it.
    let nine = net.some(9);
    let flaps: Vec<_> = (0..200).map(|_| net.some(6)).collect();
    if stress.is_unequal() {
        for relay in 0..net.relays.len() {
            let rate = 500_000 * u64::from(1 + net.chance(8));
            let delay = Duration::from_millis(u64::from(1 + net.chance(12)));
            net.world.set_speed(net.relays[relay].id, Speed { rate, delay });
        }
    }
    let job = Job { kind: Kind::Sink, ..Job::echo(seed, bytes) };
    let handle = net.connect(&client, SERVER_A, vec![job]);
    let begun = net.world.elapsed();
    net.run_for(Duration::from_millis(100));
    let mut took = None;
    let mut step = |net: &mut Net| {
        assert_eq!(client.error(handle), None, "seed {seed}, {stress:?}, {redundancy:?}");
        if took.is_none() && server.node.borrow().taken(1) == bytes {
            took = Some(net.world.elapsed() - begun);
        }
        net.run_for(Duration::from_millis(1));
        client.is_done(handle)
    };
    match stress {
        Stress::NineCrash => nine.iter().for_each(|relay| net.crash(*relay)),
        Stress::NineFreeze => nine.iter().for_each(|relay| net.world.freeze(net.relays[*relay].id)),
        Stress::Flapping | Stress::UnequalAndFlapping => flap(&mut net, &flaps, &mut step),
        Stress::Calm | Stress::Unequal => {}
    }
    let end = net.world.elapsed() + LONG;
    while !step(&mut net) {
        assert!(net.world.elapsed() < end, "seed {seed}, {stress:?}, {redundancy:?}: not within {LONG:?}");
    }
    let paths = client.with(handle, |live| live.connection.stats().paths);
    let mut round_trips: Vec<_> = paths.iter().filter_map(|path| path.rtt).collect();
    round_trips.sort();
    // The slowest of the sixteen fastest.
    let round_trip = round_trips.get(15).copied().unwrap_or_default();
    (took.expect("all of it was read"), round_trip)
}

/// Every 150 ms another six, until a step says that all is done.
fn flap(net: &mut Net, flaps: &[Vec<usize>], step: &mut impl FnMut(&mut Net) -> bool) {
    for six in flaps {
        six.iter().for_each(|relay| net.world.freeze(net.relays[*relay].id));
        if (0..150).any(|_| step(net)) {
            return;
        }
        six.iter().for_each(|relay| net.world.thaw(net.relays[*relay].id));
    }
}

/// `Full` and `Adaptive` in the same networks: by how much the second is slower at worst, in round trips.
fn compare(stress: Stress, bytes: u64, parity: ParityPolicy) -> f64 {
    let mut worst = f64::MIN;
    for seed in 800..805 {
        let [(full, round_trip), (adaptive, _)] =
            [Redundancy::Full, Redundancy::Adaptive].map(|r| run(seed, bytes, stress, (parity, r)));
        let later = (adaptive.as_secs_f64() - full.as_secs_f64()) / round_trip.as_secs_f64();
        println!(
            "{stress:?}, {bytes} bytes, {parity:?}, seed {seed}: full {full:?}, adaptive {adaptive:?}, {later:+.2} round trips of {round_trip:?}"
        );
        worst = worst.max(later);
    }
    worst
}

/// Of a transfer, in bytes: one flight and some more.
const SIZES: [u64; 2] = [4_000_000, 8_000_000];

const STRESSES: [Stress; 6] = [
    Stress::Calm,
    Stress::NineCrash,
    Stress::NineFreeze,
    Stress::Flapping,
    Stress::Unequal,
    Stress::UnequalAndFlapping,
];

/// `Adaptive` sends nothing for a path that is well, so that who loses by a sudden change waits until the sender knows,
/// which is a round trip at the earliest. The second of several changes it must not pay for again.
#[test]
fn adaptive_redundancy_is_no_slower_than_full_by_more_than_a_round_trip() {
    for stress in STRESSES {
        for bytes in SIZES {
            let later = compare(stress, bytes, ParityPolicy::Auto);
            assert!(later <= 1.0, "{stress:?}, {bytes} bytes: {later:.2} round trips later");
        }
    }
}

#[test]
fn every_parity_policy_is_exact_under_stress() {
    for stress in STRESSES {
        for parity in [ParityPolicy::Grid, ParityPolicy::Mds] {
            for redundancy in [Redundancy::Full, Redundancy::Adaptive] {
                run(820, 3_000_000, stress, (parity, redundancy));
            }
        }
    }
}

/// The links of the relays in bytes a second: 25 times 20 Mbit/s, or from 4 to 36 Mbit/s, to the same sum.
fn rates(unequal: bool) -> [u64; RELAYS] {
    let (least, most) = if unequal { (500_000, 4_500_000) } else { (2_500_000, 2_500_000) };
    std::array::from_fn(|link| least + (most - least) * link as u64 / (RELAYS as u64 - 1))
}

/// What part of the links' sum the application gets of what takes them two seconds, behind another second in which their rates
/// show, and how many stripes a block takes.
fn share(seed: u64, unequal: bool, redundancy: Redundancy) -> (f64, f64) {
    let delay = Duration::from_millis(2);
    let mut net = Net::new(seed, Speed { rate: 2_500_000, delay });
    let config = || Config { redundancy, ..Config::default() };
    let server = net.server(SERVER_A, config());
    let client = net.client(1, config(), Numbers::default());
    net.settle();
    let rates = rates(unequal);
    for (relay, rate) in rates.into_iter().enumerate() {
        net.world.set_speed(net.relays[relay].id, Speed { rate, delay });
    }
    let sum = rates.iter().sum::<u64>();
    let bytes = sum * 3;
    let job = Job { kind: Kind::Sink, ..Job::echo(seed, bytes) };
    let handle = net.connect(&client, SERVER_A, vec![job]);
    net.run_until(LONG, "the first second", |_| server.node.borrow().taken(1) >= sum);
    let (begun, before) = (net.world.elapsed(), server.node.borrow().taken(1));
    net.run_until(LONG, "all bytes", |_| server.node.borrow().taken(1) == bytes);
    let took = (net.world.elapsed() - begun).as_secs_f64();
    let stats = client.with(handle, |live| live.connection.stats());
    ((bytes - before) as f64 / took / sum as f64, stats.stripes_sent as f64 / stats.blocks_sent as f64)
}

/// A queue that a sender makes by itself is no illness of a path: with nothing wrong, links of any rate are filled, and what
/// parity is sent leaves room for data.
#[test]
fn links_that_are_full_of_our_own_bytes_are_well() {
    for (unequal, redundancy, least, most) in [
        // Parity for paths that were only slow took 20 stripes a block, and a third of the links.
        (false, Redundancy::Adaptive, 0.95, 16.6),
        (false, Redundancy::Full, 0.62, 25.0),
        (true, Redundancy::Adaptive, 0.75, 17.2),
        (true, Redundancy::Full, 0.6, 25.0),
    ] {
        for seed in 840..843 {
            let (share, stripes) = share(seed, unequal, redundancy);
            let what = format!(
                "unequal {unequal}, {redundancy:?}, seed {seed}: {share:.3} of the links, {stripes:.1} stripes a block"
            );
            println!("{what}");
            assert!(share >= least && stripes <= most, "{what}");
        }
    }
}
