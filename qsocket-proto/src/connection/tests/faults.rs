//! What rare orders of events must not do. Most of these were found by the simulation in `tests/it`.

use super::pair::{DELAY, Pair, Verdict};
use super::{MIB, pattern};
use crate::connection::*;

#[test]
fn more_control_packets_than_a_peer_remembers_do_not_repeat_each_other_for_ever() {
    let mut pair = Pair::new(456);
    let client = pair.open();
    let streams: Vec<_> = (0..1500).map(|_| pair.client(client).open(b"").unwrap().unwrap()).collect();
    // Each RESET in a packet of its own, and all of them within one round trip.
    let mut calls = 0;
    for stream in streams {
        pair.client(client).reset(stream, 7);
        while pair.transmit_once(client).more {
            calls += 1;
            assert!(calls < 100, "what was said is said again and again, and nothing was lost");
        }
    }
    pair.run_for(Duration::from_secs(2));
    // Every RESET arrived: what the application saw of a stream, it can let go of, and nothing is left.
    while let Some((server, id, _)) = pair.accepted() {
        assert_eq!(pair.server(server).read(id, &mut [0; 8]), Err(ReadError::Reset(7)));
        pair.server(server).release(id);
    }
    assert_eq!(pair.server_stream_count(), 0);
}

#[test]
fn a_block_that_forged_parity_made_look_complete_is_waited_for_without_spinning() {
    let mut pair = Pair::new(552);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    // Of block 0, slot i is on path i. Three data stripes are lost, three parity stripes arrive, one of them is forged.
    let paths = |all: &[u8]| all.iter().map(|i| PathId::new(*i).unwrap()).collect::<PathSet>();
    let lost = paths(&[0, 1, 2, 9, 14, 19, 20, 21, 22]);
    pair.cut(lost);
    pair.mangle(paths(&[4]), |_, payload| {
        *payload.last_mut().unwrap() ^= 1;
        Verdict::Pass
    });
    let up = pattern(100_000);
    pair.client(client).write(stream, &up).unwrap();
    pair.client(client).finish(stream).unwrap();
    let (begin, mut steps) = (pair.now, 0);
    while !pair.client(client).is_finished(stream) {
        assert!(pair.step(), "nothing more happens");
        steps += 1;
        assert!(steps < 2_000, "{steps} wake-ups within {:?}", pair.now - begin);
    }
    let (server, id, _) = pair.accepted().unwrap();
    assert!(pair.read_all(server, id) == up);
    assert!(pair.server(server).stats().paths[4].forged > 0);
}

#[test]
fn streams_that_their_reader_lets_go_of_give_their_part_of_the_window_back() {
    let window = 128 * 1024;
    let mut pair = Pair::with(457, |c| c.connection_window = window, |_| ());
    let client = pair.open();
    // Together eight times what the client allows over all streams.
    for round in 0..16 {
        let stream = pair.client(client).open(b"").unwrap().unwrap();
        pair.run_until(|p| p.has_accepted());
        let (server, id, _) = pair.accepted().unwrap();
        pair.server(server).write(id, &pattern(window as usize / 2)).unwrap();
        if round % 2 == 0 {
            // Some of the bytes are on their way, some are here and not read.
            pair.run_for(Duration::from_millis(round));
        }
        pair.client(client).release(stream);
        pair.run_for(Duration::from_secs(1));
        let written = pair.server(server).write(id, b"more");
        assert_eq!(written, Err(WriteError::Stopped(0)), "round {round}");
        pair.server(server).release(id);
        pair.run_for(Duration::from_secs(1));
        assert_eq!((pair.client(client).stream_count(), pair.server(server).stream_count()), (0, 0));
    }
    let report = pair.transfer(client, b"ask", &pattern(MIB));
    assert_eq!(report.down, pattern(MIB));
}

#[test]
fn a_reset_that_is_said_again_counts_once() {
    let window = 128 * 1024;
    let mut pair = Pair::with(459, |_| (), |c| c.connection_window = window);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    pair.run_until(|p| p.has_accepted());
    let (server, id, _) = pair.accepted().unwrap();
    // Of many bytes nothing arrives but the RESET, and its acknowledgement is lost a few times.
    pair.cut(PathSet::ALL);
    pair.client(client).write(stream, &pattern(window as usize * 3 / 4)).unwrap();
    pair.run_for(Duration::from_millis(1));
    pair.client(client).reset(stream, 7);
    for _ in 0..5 {
        pair.restore(PathSet::ALL);
        let before = pair.client(client).stats().paths.map(|path| path.sent_bytes);
        pair.run_until(|p| p.client(client).stats().paths.map(|path| path.sent_bytes) != before);
        pair.cut(PathSet::ALL);
        pair.run_for(Duration::from_millis(100));
        assert_eq!(pair.server(server).read(id, &mut [0; 8]), Err(ReadError::Reset(7)));
    }
    pair.restore(PathSet::ALL);
    let report = pair.transfer(client, &pattern(MIB), b"done");
    assert_eq!(report.up, pattern(MIB));
}

#[test]
fn a_stop_that_overtakes_the_first_block_is_not_lost() {
    let mut pair = Pair::new(458);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    // The first block is held up, the STOP is not.
    pair.mangle(PathSet::ALL, |_, payload| if payload[0] == 1 { Verdict::Drop } else { Verdict::Pass });
    pair.client(client).stop(stream, 9);
    pair.run_for(Duration::from_millis(100));
    pair.mangle(PathSet::ALL, |_, _| Verdict::Pass);
    pair.run_until(|p| p.has_accepted());
    let (server, id, _) = pair.accepted().unwrap();
    assert_eq!(pair.server(server).write(id, b"unwanted"), Err(WriteError::Stopped(9)));
}

#[test]
fn a_process_that_was_stopped_for_a_while_resends_as_soon_as_before() {
    let mut pair = Pair::new(304);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    for _ in 0..20 {
        pair.client(client).write(stream, b"a block").unwrap();
        pair.run_for(Duration::from_millis(100));
    }
    // Acknowledgements are on their way, and are looked at long after they arrived: that is no round trip.
    pair.client(client).write(stream, b"a block").unwrap();
    pair.run_for(DELAY + MAX_ACK_DELAY);
    pair.client(client).write(stream, b"a block").unwrap();
    pair.run_for(DELAY / 2);
    pair.now += Duration::from_secs(20);
    pair.run_for(Duration::from_millis(100));
    // More is lost than parity repairs.
    let lossy = pair.random_paths(12);
    pair.mangle(lossy, |_, _| Verdict::Drop);
    pair.client(client).write(stream, b"lost").unwrap();
    pair.run_for(Duration::from_millis(1));
    let begin = pair.now;
    pair.run_until(|p| p.client(client).is_flushed(stream));
    assert!(pair.now - begin < Duration::from_secs(1), "{:?}", pair.now - begin);
}

#[test]
fn parked_stripes_of_an_ended_phase_are_late_and_nobody_is_blamed_for_them() {
    let limits = KeyLimits { age: Duration::from_millis(500), ..KeyLimits::default() };
    let mut pair = Pair::with(462, |c| c.key_limits = limits, |_| ());
    let client = pair.open();
    let opened = pair.now;
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    pair.run_until(|p| p.has_accepted());
    let (server, ..) = pair.accepted().unwrap();
    pair.run_for(limits.age - Duration::from_millis(1) - (pair.now - opened));
    // One data stripe is lost, so that the others and the parity wait 2 ms for it.
    pair.mangle([PathId::new(1).unwrap()].into_iter().collect(), |_, _| Verdict::Drop);
    pair.client(client).write(stream, &pattern(100_000)).unwrap();
    pair.run_for(Duration::from_micros(100));
    // The stream is given up, which the server does not hear, and so nothing is left in the phase: it ends.
    pair.cut(PathSet::ALL);
    pair.client(client).reset(stream, 1);
    pair.run_for(Duration::from_micros(100));
    pair.restore(PathSet::ALL);
    pair.run_for(Duration::from_millis(1));
    pair.transmit_once(client);
    assert_eq!(pair.client(client).stats().phase, 2);
    pair.run_for(Duration::from_millis(100));
    let forged: u64 = pair.server(server).stats().paths.iter().map(|path| path.forged).sum();
    assert_eq!(forged, 0);
}

#[test]
fn a_network_that_is_cut_right_behind_a_message_makes_no_end_of_it() {
    let mut pair = Pair::new(443);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    pair.client(client).write(stream, b"a whole message").unwrap();
    pair.run_until(|p| p.client(client).is_flushed(stream));
    let (server, id, _) = pair.accepted().unwrap();
    // Every TCP connection ends, properly, as an attacker may end it.
    pair.break_hops(PathSet::ALL);
    let mut buf = [0; 64];
    assert_eq!(pair.server(server).read(id, &mut buf), Ok(Some(15)));
    assert_eq!(pair.server(server).read(id, &mut buf), Ok(None), "more may come");
    pair.run_for(Duration::from_secs(61));
    assert_eq!(pair.server(server).read(id, &mut buf), Err(ReadError::Lost(ConnectionError::Idle)));
}

#[test]
fn ten_thousand_idle_streams_cost_little_and_all_of_them_work() {
    const STREAMS: usize = 10_000;
    let mut pair = Pair::new(444);
    let client = pair.open();
    let (mut streams, mut accepted) = (Vec::new(), Vec::new());
    while streams.len() < STREAMS {
        // No more at once than may wait for `accept`.
        streams.extend((0..ACCEPT_BACKLOG / 2).map(|_| pair.client(client).open(b"").unwrap().unwrap()));
        while accepted.len() < streams.len() {
            pair.step();
            accepted.extend(std::iter::from_fn(|| pair.accepted()));
        }
    }
    pair.run_for(Duration::from_secs(5));
    let server = accepted[0].0;
    assert_eq!(pair.server(server).memory() + pair.client(client).memory(), 0);
    // Silence costs the same whatever there is of it: a PING and its answer every quarter of the idle limit.
    let sent = |pair: &mut Pair| -> u64 {
        pair.client(client).stats().paths.iter().map(|path| path.sent_bytes).sum()
    };
    let before = sent(&mut pair);
    pair.run_for(Duration::from_secs(600));
    let spent = sent(&mut pair) - before;
    assert!(spent < 600 * 100, "{spent} bytes in ten minutes of silence");
    for (stream, (_, id, _)) in streams.iter().zip(&accepted).rev().step_by(97) {
        pair.server(server).write(*id, b"x").unwrap();
        let mut buf = [0; 8];
        pair.run_until(|p| p.client(client).read(*stream, &mut buf) == Ok(Some(1)));
    }
}

#[test]
fn relays_that_flood_a_server_with_openings_keep_no_other_out() {
    use crate::endpoint::{PENDING_BYTES, PENDING_IDS};
    let mut pair = Pair::new(543);
    // Nine relays announce, each by itself and together, what no client sent.
    let flooders = pair.random_paths(9);
    pair.invent_openings(flooders, 3 * PENDING_IDS as u32);
    let bytes = pair.pending_bytes();
    assert!(bytes > 0 && bytes <= 9 * PENDING_BYTES, "{bytes} bytes");
    assert_eq!(pair.server_count(), 0, "nine relays are not sixteen, nor ten");
    let client = pair.open();
    assert!(pair.client(client).is_open());
    pair.run_for(Duration::from_secs(11));
    assert_eq!(pair.pending_bytes(), 0, "and it is forgotten in time");
}

#[test]
fn ten_relays_that_flood_a_server_hold_no_more_slots_than_announcements() {
    use crate::endpoint::PENDING_IDS;
    let mut pair = Pair::new(544);
    let flooders = pair.random_paths(10);
    pair.invent_openings(flooders, 3 * PENDING_IDS as u32);
    let slots = pair.pending_slots();
    assert!(slots > 0 && slots <= PENDING_IDS, "{slots} slots");
    pair.break_hops(flooders.iter().take(1).collect());
    assert_eq!(pair.pending_slots(), 0, "nine announce what is left");
    pair.run_for(Duration::from_secs(11));
    assert_eq!(pair.pending_bytes(), 0);
}

#[test]
fn a_path_that_went_before_it_joined_again_is_not_spoken_of_for_ever() {
    let mut pair = Pair::new(445);
    let client = pair.open();
    pair.client(client).open(b"").unwrap().unwrap();
    pair.run_for(Duration::from_secs(1));
    let path: PathSet = [PathId::new(3).unwrap()].into_iter().collect();
    pair.break_hops(path);
    pair.restore(path);
    // ATTACH and PATH are on their way when the hop breaks once more, and this time for good.
    pair.transmit_once(client);
    pair.break_hops(path);
    pair.run_for(Duration::from_secs(10));
    let now = pair.now;
    let (at, why) = pair.client(client).poll_timeout().unwrap();
    assert!(at - now > Duration::from_secs(3), "in {:?}: {why}", at - now);
}
