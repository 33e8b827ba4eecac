//! What slow, stalled and full paths cost: nothing beyond the sixteenth fastest.

use super::pair::{DELAY, Pair, Verdict};
use super::pattern;
use crate::connection::*;
use crate::endpoint::Handle;
use crate::grid::StripeId;

/// Above this size a block waits [`PATIENCE`] for its data stripes (`docs/protocol.md`, 9.7, item 5).
const EAGER: usize = 16 * 1024;
const PATIENCE: Duration = Duration::from_millis(2);

/// What `nodelay` and the first bytes of a stream may wait, and the grain of timers.
const SLACK: Duration = Duration::from_micros(10);

const MS: Duration = Duration::from_millis(1);

/// A connection with a stream over which something went, and time for round trips to be measured.
fn warm(pair: &mut Pair) -> (Handle, StreamId, Handle, StreamId) {
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    pair.client(client).write(stream, b"first").unwrap();
    pair.run_until(|p| p.has_accepted());
    let (server, id, _) = pair.accepted().unwrap();
    read(pair, server, id, 5);
    for _ in 0..20 {
        time(pair, (client, stream, server, id), 2_000);
        pair.run_for(Duration::from_millis(500));
    }
    (client, stream, server, id)
}

/// Reads so many bytes; the time that it took.
fn read(pair: &mut Pair, server: Handle, id: StreamId, bytes: usize) -> Duration {
    let (begin, mut left) = (pair.now, bytes);
    let mut buffer = vec![0; bytes];
    while left > 0 {
        match pair.server(server).read(id, &mut buffer).unwrap() {
            Some(n) => left -= n,
            None => assert!(pair.step(), "nothing more happens"),
        }
    }
    pair.now - begin
}

/// From the write of a block to its last byte at the reader.
fn time(pair: &mut Pair, ends: (Handle, StreamId, Handle, StreamId), bytes: usize) -> Duration {
    let (client, stream, server, id) = ends;
    assert_eq!(pair.client(client).write(stream, &pattern(bytes)).unwrap(), bytes);
    read(pair, server, id, bytes)
}

/// 25 different delays, by chance: the shortest and then one `step` more each.
fn spread(pair: &mut Pair, shortest: Duration, step: Duration) -> Vec<Duration> {
    let mut paths: Vec<_> = Vec::new();
    while paths.len() < RELAYS {
        let path = pair.random_paths(1).iter().next().unwrap();
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let delays: Vec<_> = (0..RELAYS as u32).map(|i| shortest + step * i).collect();
    paths.iter().zip(&delays).for_each(|(path, delay)| pair.delay(*path, *delay));
    delays
}

fn bound(sixteenth: Duration, bytes: usize) -> Duration {
    sixteenth + SLACK + if bytes > EAGER { PATIENCE } else { Duration::ZERO }
}

const SIZES: [usize; 4] = [1, 10_000, 100_000, 200_000];

#[test]
fn a_block_is_there_with_the_sixteenth_fastest_of_25_unequal_paths() {
    for redundancy in [Redundancy::Full, Redundancy::Adaptive] {
        for seed in 700..705 {
            let policy = |c: &mut Config| (c.parity, c.redundancy) = (ParityPolicy::Mds, redundancy);
            let mut pair = Pair::with(seed, policy, |_| ());
            // The slowest is more than twice the median and 20 ms away, which makes ten paths or so not well.
            let delays = spread(&mut pair, 10 * MS, 17 * MS);
            let ends = warm(&mut pair);
            for bytes in SIZES {
                let took = time(&mut pair, ends, bytes);
                if redundancy == Redundancy::Full {
                    assert!(took <= bound(delays[15], bytes), "seed {seed}, {bytes} bytes: {took:?}");
                    assert!(took >= delays[15], "seed {seed}, {bytes} bytes: {took:?} with fifteen stripes");
                } else {
                    // Parity is for paths that are not well: what waits for those that are waits for the slowest of them.
                    assert!(took <= bound(delays[24], bytes), "seed {seed}, {bytes} bytes: {took:?}");
                }
                pair.run_for(Duration::from_secs(2));
            }
        }
    }
}

/// The policy that is used unless another is chosen: the paths that are far slower are seen, and not waited for.
#[test]
fn nine_paths_that_are_far_slower_cost_nothing_beyond_the_sixteenth() {
    for redundancy in [Redundancy::Full, Redundancy::Adaptive] {
        for seed in 710..715 {
            let mut pair = Pair::with(seed, |c| c.redundancy = redundancy, |_| ());
            spread(&mut pair, 10 * MS, MS);
            let slow = pair.random_paths(9);
            slow.iter().for_each(|path| pair.delay(path, 300 * MS));
            let ends = warm(&mut pair);
            for bytes in SIZES {
                let took = time(&mut pair, ends, bytes);
                // The sixteen others have at most the longest of the short delays.
                assert!(
                    took <= bound(34 * MS, bytes),
                    "{redundancy:?}, seed {seed}, {bytes} bytes: {took:?}"
                );
                pair.run_for(Duration::from_secs(2));
            }
        }
    }
}

/// While all 25 are well, parity is that of the grid, which needs more than any sixteen: a block may wait for the
/// slowest path that counts as well, and no longer.
#[test]
fn with_grid_parity_a_block_is_there_with_the_slowest_path_at_the_latest() {
    for seed in 720..725 {
        let mut pair = Pair::with(seed, |c| c.parity = ParityPolicy::Grid, |_| ());
        let delays = spread(&mut pair, 10 * MS, MS);
        let ends = warm(&mut pair);
        for bytes in SIZES {
            let took = time(&mut pair, ends, bytes);
            assert!(took <= bound(delays[24], bytes), "seed {seed}, {bytes} bytes: {took:?}");
            pair.run_for(Duration::from_secs(2));
        }
    }
}

#[test]
fn nine_paths_that_stall_in_silence_cost_nothing_where_parity_is_mds() {
    for seed in 730..740 {
        let mut pair = Pair::with(seed, |c| c.parity = ParityPolicy::Mds, |_| ());
        let delays = spread(&mut pair, 10 * MS, MS);
        let ends = warm(&mut pair);
        // From one moment to the next, and the sender knows nothing of it.
        let stalled = pair.random_paths(9);
        pair.cut(stalled);
        for bytes in SIZES {
            let took = time(&mut pair, ends, bytes);
            assert!(took <= bound(delays[24], bytes), "seed {seed}, {bytes} bytes: {took:?}");
            pair.run_for(Duration::from_secs(2));
        }
    }
}

#[test]
fn paths_with_full_queues_are_skipped_while_the_block_stays_recoverable() {
    for redundancy in [Redundancy::Full, Redundancy::Adaptive] {
        for seed in 740..745 {
            let policy = |c: &mut Config| (c.parity, c.redundancy) = (ParityPolicy::Mds, redundancy);
            let mut pair = Pair::with(seed, policy, |_| ());
            let ends = warm(&mut pair);
            let full = pair.random_paths(9);
            pair.fill(full);
            let before = pair.client(ends.0).stats();
            for bytes in SIZES {
                let took = time(&mut pair, ends, bytes);
                let one_way = pair.round_trip() / 2;
                assert!(took <= bound(one_way, bytes), "{redundancy:?}, seed {seed}: {took:?}");
                pair.run_for(Duration::from_secs(1));
            }
            let after = pair.client(ends.0).stats();
            assert_eq!(after.stripes_resent, before.stripes_resent, "nothing was owed to anybody");
            let blocks = after.blocks_sent - before.blocks_sent;
            let stripes = after.stripes_sent - before.stripes_sent;
            assert_eq!(stripes, blocks * SIXTEEN as u64, "{redundancy:?}: one stripe on each path with room");
            // There is room again: these paths carry their part at once.
            pair.drain_queues();
            let before = pair.client(ends.0).stats();
            for _ in 0..RELAYS {
                time(&mut pair, ends, 10_000);
                pair.run_for(Duration::from_millis(100));
            }
            let after = pair.client(ends.0).stats();
            for path in full.iter().map(PathId::index) {
                assert!(after.paths[path].sent_bytes > before.paths[path].sent_bytes, "path {path}");
            }
        }
    }
}

#[test]
fn with_ten_full_queues_the_others_carry_two_stripes_and_nothing_waits() {
    let mut pair = Pair::with(745, |c| c.parity = ParityPolicy::Mds, |_| ());
    let ends = warm(&mut pair);
    let full = pair.random_paths(10);
    pair.fill(full);
    for bytes in SIZES {
        let took = time(&mut pair, ends, bytes);
        let one_way = pair.round_trip() / 2;
        assert!(took <= bound(one_way, bytes), "{took:?}");
        pair.run_for(Duration::from_secs(1));
    }
}

#[test]
fn stalled_paths_are_probed_and_come_back() {
    for seed in 750..755 {
        let mut pair = Pair::new(seed);
        let ends = warm(&mut pair);
        let stalled = pair.random_paths(9);
        let suspects = |pair: &mut Pair| -> PathSet {
            let paths = pair.client(ends.0).stats().paths;
            PathId::all().filter(|p| paths[p.index()].status == PathStatus::Suspect).collect()
        };
        pair.cut(stalled);
        for _ in 0..20 {
            time(&mut pair, ends, 100_000);
            pair.run_for(Duration::from_millis(100));
        }
        let seen = suspects(&mut pair);
        assert!(seen.iter().all(|path| stalled.contains(path)), "seed {seed}: {seen:?} of {stalled:?}");
        assert!(seen.len() >= 5, "seed {seed}: {seen:?} of {stalled:?}");
        pair.restore(stalled);
        for _ in 0..20 {
            time(&mut pair, ends, 100_000);
            pair.run_for(Duration::from_millis(100));
        }
        assert_eq!(suspects(&mut pair), PathSet::EMPTY, "seed {seed}");
        let before = pair.client(ends.0).stats();
        for _ in 0..10 {
            time(&mut pair, ends, 100_000);
            pair.run_for(Duration::from_millis(100));
        }
        let after = pair.client(ends.0).stats();
        let carried =
            |path: PathId| after.paths[path.index()].sent_bytes - before.paths[path.index()].sent_bytes;
        for path in stalled.iter() {
            assert!(carried(path) > 10 * 6000, "seed {seed}: {path:?} carried {} bytes", carried(path));
        }
    }
}

/// Nothing of a block arrives, so that the receiver cannot ask for it. What it says of the next one tells the sender.
#[test]
fn a_block_that_vanishes_is_mended_with_what_is_said_of_the_next() {
    for seed in 770..775 {
        let mut pair = Pair::new(seed);
        let ends = warm(&mut pair);
        for bytes in SIZES {
            let vanished = std::rc::Rc::new(std::cell::RefCell::new((None, BTreeSet::new())));
            pair.mangle(PathSet::ALL, move |_, payload| {
                let [1, header @ ..] = &*payload else { return Verdict::Pass };
                let (first, stripes) = &mut *vanished.borrow_mut();
                let block = header[8..15].to_vec();
                let is_first = *first.get_or_insert(block.clone()) == block;
                if is_first && stripes.insert(header[15]) { Verdict::Drop } else { Verdict::Pass }
            });
            let (client, stream, server, id) = ends;
            for bytes in [bytes, 2_000] {
                assert_eq!(pair.client(client).write(stream, &pattern(bytes)).unwrap(), bytes);
                pair.transmit_once(client);
            }
            let took = read(&mut pair, server, id, bytes + 2_000);
            // There, what is said of the next one back, and the block there.
            let most = 3 * DELAY + 2 * 10 * MS + 5 * MS;
            assert!(took <= most, "seed {seed}, {bytes} bytes: {took:?}");
            pair.run_for(Duration::from_secs(2));
        }
    }
}

/// Relays lose a data stripe of each block and bring junk for all parity. The receiver tries that when it needs it, and the
/// sender believes no more in what was tried.
#[test]
fn junk_in_the_place_of_parity_is_mended_within_a_round_trip() {
    for seed in 760..765 {
        let mut pair = Pair::with(seed, |c| c.parity = ParityPolicy::Mds, |_| ());
        let ends = warm(&mut pair);
        let lost = std::rc::Rc::new(std::cell::RefCell::new(BTreeSet::new()));
        pair.mangle(PathSet::ALL, move |_, payload| {
            let [1, header @ ..] = &*payload else { return Verdict::Pass };
            let (block, stripe) = (header[8..15].to_vec(), StripeId::new(header[15]).unwrap());
            if stripe.data_index().is_none() {
                *payload.last_mut().unwrap() ^= 1;
                return Verdict::Pass;
            }
            if lost.borrow_mut().insert(block) { Verdict::Drop } else { Verdict::Pass }
        });
        for bytes in SIZES {
            let took = time(&mut pair, ends, bytes);
            // There, what is here of it back, and the rest there; two waits of 10 ms, until it is said and until it is late.
            let most = 3 * DELAY + 2 * 10 * MS + 5 * MS;
            assert!(took <= most, "seed {seed}, {bytes} bytes: {took:?}");
            pair.run_for(Duration::from_secs(2));
        }
    }
}
