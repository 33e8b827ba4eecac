//! Two endpoints, 25 paths between them, one fake clock. No relay and no hop encryption: those have their own
//! tests, and the simulation in `tests/` has everything together.

mod faults;
mod latency;
mod pair;
mod readiness;
mod revoked;

use super::*;
use crate::crypto::schedule::EncryptionKey;
use crate::endpoint::Handle;
use crate::ids::KeyId;
use crate::open::MlKem;
use pair::{Pair, Verdict};

const MIB: usize = 1 << 20;

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
fn one_round_trip_opens_and_data_follows_at_once() {
    let mut pair = Pair::new(1);
    let start = pair.now;
    let client = pair.dial();
    pair.run_until(|p| p.client(client).is_open());
    assert_eq!(pair.now - start, pair.round_trip(), "hello there, reply back");
    let stream = pair.client(client).open(b"echo").unwrap().unwrap();
    pair.client(client).write(stream, b"hello").unwrap();
    pair.run_until(|p| p.has_accepted());
    assert_eq!(pair.now - start, pair.round_trip() * 3 / 2);
    let (server, id, resource) = pair.accepted().unwrap();
    assert_eq!(resource, b"echo");
    let mut buf = [0; 16];
    assert_eq!(pair.server(server).read(id, &mut buf), Ok(Some(5)));
    assert_eq!(&buf[..5], b"hello");
    assert_eq!(pair.server(server).client(), pair.client(client).client());
}

#[test]
fn a_stream_opens_with_its_first_bytes_or_soon_without() {
    let mut pair = Pair::new(3);
    let client = pair.open();
    let blocks = |pair: &mut Pair| pair.client(client).stats().blocks_sent;
    let before = blocks(&mut pair);
    let stream = pair.client(client).open(b"echo").unwrap().unwrap();
    pair.transmit_once(client);
    assert_eq!(blocks(&mut pair), before, "the opening waits for bytes");
    pair.client(client).write(stream, b"hello").unwrap();
    pair.run_until(|p| p.has_accepted());
    assert_eq!(blocks(&mut pair), before + 1, "one block for the opening and the bytes");
    pair.accepted().unwrap();

    // Nobody writes: the peer is to speak first, and hears of the stream.
    let start = pair.now;
    pair.client(client).open(b"greets").unwrap().unwrap();
    pair.run_until(|p| p.has_accepted());
    assert_eq!(pair.now - start, OPENING_HOLD + pair.round_trip() / 2);
    assert_eq!(blocks(&mut pair), before + 2);
    pair.accepted().unwrap();

    // The end is as good as bytes.
    let start = pair.now;
    let stream = pair.client(client).open(b"nothing").unwrap().unwrap();
    pair.client(client).finish(stream).unwrap();
    pair.run_until(|p| p.has_accepted());
    assert_eq!(pair.now - start, pair.round_trip() / 2);
}

#[test]
fn a_client_confirms_with_its_first_bytes_or_soon_without() {
    let sent = |pair: &mut Pair, client| -> u64 {
        pair.client(client).stats().paths.iter().map(|path| path.sent_bytes).sum()
    };
    let mut pair = Pair::new(5);
    let client = pair.open();
    let (start, before) = (pair.now, sent(&mut pair, client));
    pair.transmit_once(client);
    assert_eq!(sent(&mut pair, client), before, "the confirmation waits for a stream");
    let stream = pair.client(client).open(b"echo").unwrap().unwrap();
    pair.client(client).write(stream, b"hello").unwrap();
    pair.transmit_once(client);
    // Each stripe and each copy of the PING in one turn, and nothing is left for a second one.
    let both = sent(&mut pair, client);
    assert!(both > before);
    pair.run_until(|p| p.has_accepted());
    assert_eq!(pair.now - start, pair.round_trip() / 2);
    assert_eq!(sent(&mut pair, client), both);

    // Nobody opens a stream: the server need not wait long, and not forget the connection.
    let mut pair = Pair::new(6);
    let client = pair.open();
    let (start, before) = (pair.now, sent(&mut pair, client));
    pair.run_until(|p| sent(p, client) > before);
    assert_eq!(pair.now - start, OPENING_HOLD);
    pair.run_for(CONFIRM_DEADLINE * 2);
    assert_eq!(pair.server_count(), 1);
}

#[test]
fn bytes_arrive_exactly_in_both_directions_with_a_verified_end() {
    let mut pair = Pair::new(2);
    let (up, down) = (pattern(5 * MIB + 17), pattern(3 * MIB + 1));
    let report = pair.exchange(&up, &down);
    assert_eq!(report.up, up);
    assert_eq!(report.down, down);
    let stats = pair.client(report.client).stats();
    assert_eq!(stats.stripes_resent, 0, "nothing was lost, nothing is sent twice");
    assert!(stats.ml_kem);
}

#[test]
fn any_nine_silent_paths_cost_no_resend_before_anything_is_known() {
    for seed in 0..20 {
        let mut pair = Pair::new(seed);
        let dead = pair.random_paths(9);
        pair.cut(dead);
        let up = pattern(2 * MIB);
        let report = pair.exchange(&up, b"ok");
        assert_eq!(report.up, up, "seed {seed}, dead {dead:?}");
    }
}

#[test]
fn nine_paths_die_in_mid_stream() {
    for seed in 0..20 {
        let mut pair = Pair::new(100 + seed);
        let up = pattern(4 * MIB);
        let mut transfer = pair.start(&up, b"done");
        pair.run_for_bytes(&mut transfer, MIB);
        let dead = pair.random_paths(9);
        if seed % 2 == 0 {
            pair.cut(dead)
        } else {
            pair.break_hops(dead)
        }
        let report = pair.finish(transfer);
        assert_eq!(report.up, up, "seed {seed}, dead {dead:?}");
    }
}

#[test]
fn twenty_four_paths_die_and_the_stream_still_finishes() {
    for seed in 0..6 {
        let mut pair = Pair::new(200 + seed);
        let up = pattern(2 * MIB);
        let mut transfer = pair.start(&up, b"done");
        pair.run_for_bytes(&mut transfer, MIB / 2);
        let dead = pair.random_paths(24);
        if seed % 2 == 0 {
            pair.cut(dead)
        } else {
            pair.break_hops(dead)
        }
        let report = pair.finish(transfer);
        assert_eq!(report.up, up, "seed {seed}");
    }
}

#[test]
fn all_paths_die_and_come_back() {
    for breaks in [false, true] {
        let mut pair = Pair::new(300);
        let up = pattern(2 * MIB);
        let mut transfer = pair.start(&up, b"done");
        pair.run_for_bytes(&mut transfer, MIB / 2);
        if breaks {
            pair.break_hops(PathSet::ALL)
        } else {
            pair.cut(PathSet::ALL)
        }
        pair.run_for(Duration::from_secs(20));
        assert!(pair.client(transfer.client).error().is_none(), "waiting is not an error");
        pair.restore(PathSet::ALL);
        let report = pair.finish(transfer);
        assert_eq!(report.up, up);
    }
}

#[test]
fn all_paths_stay_dead_and_the_idle_limit_ends_it() {
    let mut pair = Pair::new(301);
    let mut transfer = pair.start(&pattern(2 * MIB), b"done");
    pair.run_for_bytes(&mut transfer, MIB / 2);
    pair.cut(PathSet::ALL);
    pair.run_for(Duration::from_secs(70));
    assert_eq!(pair.client(transfer.client).error(), Some(&ConnectionError::Idle));
    let stream = transfer.stream;
    let lost = pair.client(transfer.client).write(stream, b"x");
    assert!(matches!(lost, Err(WriteError::Lost { delivery: Delivery::MaybeDelivered, .. })), "{lost:?}");
}

#[test]
fn an_open_fails_in_time_when_ten_paths_are_silent() {
    let mut pair = Pair::new(302);
    let dead = pair.random_paths(10);
    pair.cut(dead);
    let client = pair.dial();
    pair.run_for(Duration::from_secs(11));
    assert!(is_without_quorum(pair.client(client).error().cloned()));
}

#[test]
fn slow_paths_are_not_waited_for() {
    let mut pair = Pair::new(303);
    for p in pair.random_paths(9).iter() {
        pair.delay(p, Duration::from_millis(200));
    }
    let start = pair.now;
    let report = pair.exchange(b"ping", b"pong");
    assert_eq!(report.down, b"pong");
    assert!(pair.now - start < Duration::from_millis(200), "{:?}", pair.now - start);
}

#[test]
fn nine_liars_change_nothing_and_are_no_longer_listened_to() {
    for seed in 0..10 {
        let mut pair = Pair::new(400 + seed);
        let liars = pair.random_paths(9);
        let up = pattern(2 * MIB);
        let mut transfer = pair.start(&up, b"done");
        pair.mangle(liars, |rng, payload| {
            // Everything behind the payload kind may be changed.
            let at = 1 + rng() as usize % (payload.len() - 1);
            payload[at] ^= 1 << (rng() % 8);
            Verdict::Pass
        });
        pair.run_for_bytes(&mut transfer, MIB);
        let report = pair.finish(transfer);
        assert_eq!(report.up, up, "seed {seed}");
        let stats = pair.server(report.server).stats();
        for liar in liars.iter() {
            assert!(stats.paths[liar.index()].forged > 0, "{liar:?} is named");
        }
        let no_more = |stats: Stats| {
            PathSet::ALL.iter().filter(|p| stats.paths[p.index()].status == PathStatus::Distrusted).collect()
        };
        let told = [no_more(pair.client(report.client).stats()), no_more(stats.clone())];
        assert_eq!(pair.distrusted(), told, "seed {seed}: what is not read any more is told");
        assert!(told[1].len() >= 5 && told[1].iter().all(|p| liars.contains(p)), "seed {seed}: {told:?}");
        for honest in PathSet::ALL.iter().filter(|p| !liars.contains(*p)) {
            assert_eq!(stats.paths[honest.index()].forged, 0, "{honest:?} is not");
        }
    }
}

#[test]
fn duplicates_and_replays_are_of_no_effect() {
    let mut pair = Pair::new(410);
    let up = pattern(MIB);
    pair.mangle(PathSet::ALL, |_, _| Verdict::Twice);
    let report = pair.exchange(&up, b"done");
    assert_eq!(report.up, up);
}

#[test]
fn lossy_paths_are_mended_by_resends() {
    for seed in 0..10 {
        let mut pair = Pair::new(420 + seed);
        pair.mangle(PathSet::ALL, |rng, _| if rng() % 5 == 0 { Verdict::Drop } else { Verdict::Pass });
        let up = pattern(MIB);
        let report = pair.exchange(&up, &pattern(MIB / 2));
        assert_eq!(report.up, up, "seed {seed}");
    }
}

#[test]
fn a_reader_that_stops_reading_stops_the_writer_and_memory_stays_bounded() {
    let mut pair = Pair::new(430);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    let data = pattern(64 * MIB);
    let mut written = 0;
    for _ in 0..400 {
        written += pair.client(client).write(stream, &data[written..]).unwrap();
        pair.run_for(Duration::from_millis(10));
    }
    let config = Config::default();
    assert!(written <= config.stream_window as usize + config.send_buffer);
    let (server, id, _) = pair.accepted().unwrap();
    assert!(pair.server(server).memory() <= config.stream_window + 256 * 1024);
    let mut buf = vec![0; MIB];
    let mut read = 0;
    while read < 32 * MIB {
        while let Ok(Some(n)) = pair.server(server).read(id, &mut buf) {
            assert!(buf[..n] == data[read..read + n]);
            read += n;
        }
        written += pair.client(client).write(stream, &data[written..]).unwrap();
        pair.run_for(Duration::from_millis(1));
    }
}

#[test]
fn a_reader_that_takes_its_time_holds_small_messages_and_not_a_block_for_each() {
    let mut pair = Pair::new(431);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    // Now and then a large one between them.
    let messages = (0..2_000).map(|i| pattern(if i % 100 == 7 { 6_000 } else { 1 + i % 20 }));
    let mut sent = Vec::new();
    for message in messages {
        assert_eq!(pair.client(client).write(stream, &message), Ok(message.len()));
        sent.extend(message);
        pair.run_for(Duration::from_micros(200));
    }
    pair.client(client).finish(stream).unwrap();
    pair.run_until(|p| p.client(client).is_finished(stream));
    let (server, id, _) = pair.accepted().unwrap();
    let (held, bytes) = (pair.server(server).memory(), sent.len() as u64);
    assert!(held <= bytes + bytes / 16, "{held} bytes for {bytes}");
    // Reads of odd sizes, and a look before each.
    let (mut read, mut buf) = (Vec::new(), [0; 777]);
    loop {
        let mut shown = Vec::new();
        pair.server(server).peek_with(id, buf.len(), |piece| shown.extend_from_slice(piece)).unwrap();
        let n = pair.server(server).read(id, &mut buf).unwrap().unwrap();
        assert_eq!(buf[..n], shown);
        if n == 0 {
            break;
        }
        read.extend_from_slice(&buf[..n]);
    }
    assert!(read == sent);
    assert_eq!(pair.server(server).memory(), 0);
}

#[test]
fn a_dropped_stream_is_an_error_and_never_a_clean_end() {
    let mut pair = Pair::new(440);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    pair.client(client).write(stream, b"half a message").unwrap();
    pair.run_until(|p| p.has_accepted());
    let (server, id, _) = pair.accepted().unwrap();
    pair.client(client).release(stream);
    pair.run_for(Duration::from_secs(1));
    let mut buf = [0; 64];
    assert_eq!(pair.server(server).read(id, &mut buf), Err(ReadError::Reset(0)));
    assert_eq!(pair.server(server).write(id, b"x"), Err(WriteError::Stopped(0)));
    pair.server(server).release(id);
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server(server).stream_count(), 0);
    assert_eq!(pair.client(client).stream_count(), 0);
}

#[test]
fn a_close_before_the_fin_is_an_error_for_every_unfinished_stream() {
    let mut pair = Pair::new(441);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    pair.client(client).write(stream, b"half").unwrap();
    pair.run_until(|p| p.has_accepted());
    let (server, id, _) = pair.accepted().unwrap();
    let now = pair.now;
    pair.client(client).close(now, 0, "bye");
    pair.run_for(Duration::from_secs(1));
    let mut buf = [0; 64];
    assert_eq!(pair.server(server).read(id, &mut buf), Ok(Some(4)));
    let closed = ConnectionError::ClosedByPeer { code: 0, reason: "bye".into() };
    assert_eq!(pair.server(server).read(id, &mut buf), Err(ReadError::Lost(closed)));
    assert!(pair.client(client).is_closed());
    assert!(pair.server(server).is_closed());
}

#[test]
fn the_end_of_a_stream_is_acknowledged_though_its_reader_let_go_of_it_at_once() {
    let mut pair = Pair::new(442);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    pair.client(client).write(stream, b"ask").unwrap();
    pair.client(client).finish(stream).unwrap();
    pair.run_until(|p| p.client(client).is_finished(stream));
    let (server, id, _) = pair.accepted().unwrap();
    pair.server(server).write(id, b"reply").unwrap();
    pair.server(server).finish(id).unwrap();
    // The reply arrives; its acknowledgement does not, and the reader is gone before the server asks again.
    pair.run_for(Duration::from_millis(5));
    pair.cut(PathSet::ALL);
    pair.run_for(Duration::from_millis(6));
    let mut buf = [0; 16];
    assert_eq!(pair.client(client).read(stream, &mut buf), Ok(Some(5)));
    assert_eq!(pair.client(client).read(stream, &mut buf), Ok(Some(0)));
    pair.client(client).release(stream);
    assert_eq!(pair.client(client).stream_count(), 0);
    pair.run_for(Duration::from_secs(1));
    pair.restore(PathSet::ALL);
    pair.run_for(Duration::from_secs(5));
    assert!(pair.server(server).is_finished(id));
}

#[test]
fn many_streams_share_a_connection_and_leave_nothing_behind() {
    let mut pair = Pair::new(450);
    let client = pair.open();
    for round in 0..40u32 {
        let streams: Vec<_> = (0..50).map(|_| pair.client(client).open(b"").unwrap().unwrap()).collect();
        for (i, s) in streams.iter().enumerate() {
            pair.client(client).write(*s, &(round * 50 + i as u32).to_be_bytes()).unwrap();
            pair.client(client).finish(*s).unwrap();
        }
        let mut seen = 0;
        while seen < 50 {
            pair.step();
            while let Some((server, id, _)) = pair.accepted() {
                let mut buf = [0; 16];
                assert_eq!(pair.server(server).read(id, &mut buf), Ok(Some(4)));
                assert_eq!(buf[..4], (round * 50 + seen).to_be_bytes());
                pair.server(server).finish(id).unwrap();
                pair.server(server).release(id);
                seen += 1;
            }
        }
        for s in streams {
            pair.client(client).release(s);
        }
        pair.run_for(Duration::from_millis(200));
        assert_eq!(pair.client(client).stream_count(), 0, "round {round}");
    }
}

#[test]
fn streams_whose_windows_are_closed_hold_up_no_other() {
    let mut pair = Pair::new(454);
    let client = pair.open();
    let [free, full, stuck] = [(); 3].map(|()| pair.client(client).open(b"").unwrap().unwrap());
    let data = pattern(MIB);
    for _ in 0..40 {
        let _ = pair.client(client).write(full, &data).unwrap();
        let _ = pair.client(client).write(stuck, &data).unwrap();
        pair.run_for(Duration::from_millis(20));
    }
    for id in [full, stuck] {
        assert_eq!(pair.client(client).write(id, &data), Ok(0), "window and send buffer are full");
    }
    // Whoever's turn it is: one wake-up is enough.
    for _ in 0..5 {
        pair.client(client).write(free, b"small").unwrap();
        let before = pair.client(client).stats().blocks_sent;
        pair.transmit_once(client);
        assert_eq!(pair.client(client).stats().blocks_sent, before + 1);
    }
}

#[test]
fn two_hundred_streams_at_once_share_the_windows_without_starving() {
    let mut pair = Pair::new(455);
    let client = pair.open();
    let up = pattern(300_001);
    let mut streams: Vec<_> =
        (0..200).map(|_| (pair.client(client).open(b"").unwrap().unwrap(), 0)).collect();
    let mut at_server: Vec<(Handle, StreamId, usize)> = Vec::new();
    let mut done = 0;
    let mut buf = vec![0; 64 * 1024];
    while done < streams.len() {
        for (id, written) in streams.iter_mut().filter(|(_, written)| *written < up.len()) {
            *written += pair.client(client).write(*id, &up[*written..]).unwrap();
            if *written == up.len() {
                pair.client(client).finish(*id).unwrap();
            }
        }
        while let Some((handle, id, _)) = pair.accepted() {
            at_server.push((handle, id, 0));
        }
        for (handle, id, read) in &mut at_server {
            while let Some(n) = pair.server(*handle).read(*id, &mut buf).unwrap() {
                assert!(buf[..n] == up[*read..*read + n]);
                *read += n;
                if n == 0 {
                    pair.server(*handle).release(*id);
                    done += 1;
                    *read = usize::MAX;
                    break;
                }
            }
        }
        at_server.retain(|(.., read)| *read != usize::MAX);
        assert!(pair.step(), "nothing more happens, {done} streams are done");
    }
}

#[test]
fn keys_are_replaced_at_lowered_limits_while_data_flows() {
    let limits = KeyLimits { soft_seals: 60, hard_seals: 4000, age: Duration::from_secs(3600) };
    let mut pair = Pair::with(460, |c| c.key_limits = limits, |c| c.key_limits = limits);
    let client = pair.open();
    let up = pattern(MIB);
    for _ in 0..10 {
        let stream = pair.client(client).open(b"").unwrap().unwrap();
        pair.client(client).write(stream, &up).unwrap();
        pair.client(client).finish(stream).unwrap();
        pair.run_until(|p| p.client(client).is_finished(stream));
        let (server, id, _) = pair.accepted().unwrap();
        assert!(pair.read_all(server, id) == up);
    }
    let phase = pair.client(client).stats().phase;
    assert!(phase > 3, "phase {phase}");
}

#[test]
fn a_key_at_its_hard_limit_seals_nothing_more() {
    let limits = KeyLimits { soft_seals: 1 << 40, hard_seals: 100, age: Duration::from_secs(3600) };
    let mut pair = Pair::with(461, |c| c.key_limits = limits, |_| ());
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    for _ in 0..100 {
        let _ = pair.client(client).write(stream, b"x");
        pair.run_for(Duration::from_millis(20));
    }
    assert_eq!(pair.client(client).error(), Some(&ConnectionError::KeyExhausted));
}

#[test]
fn adaptive_redundancy_sends_sixteen_stripes_while_all_is_well() {
    let mut pair = Pair::with(470, |c| c.redundancy = Redundancy::Adaptive, |_| ());
    let up = pattern(24 * MIB);
    let mut transfer = pair.start(&up, b"ok");
    // The first flight knows nothing of its paths.
    pair.run_for_bytes(&mut transfer, 12 * MIB);
    let before = pair.client(transfer.client).stats();
    let report = pair.finish(transfer);
    assert_eq!(report.up, up);
    let after = pair.client(report.client).stats();
    let each =
        (after.stripes_sent - before.stripes_sent) as f64 / (after.blocks_sent - before.blocks_sent) as f64;
    assert!((16.0..16.5).contains(&each), "{each} stripes a block");
}

#[test]
fn every_parity_policy_survives_a_switch_of_paths_under_way() {
    for (i, parity) in [ParityPolicy::Auto, ParityPolicy::Grid, ParityPolicy::Mds].into_iter().enumerate() {
        for redundancy in [Redundancy::Full, Redundancy::Adaptive] {
            let mut pair =
                Pair::with(480 + i as u64, |c| (c.parity, c.redundancy) = (parity, redundancy), |_| ());
            let up = pattern(4 * MIB);
            let mut transfer = pair.start(&up, b"done");
            for _ in 0..3 {
                pair.run_for_bytes(&mut transfer, MIB / 2);
                let dead = pair.random_paths(9);
                pair.cut(dead);
                pair.run_for(Duration::from_millis(300));
                pair.restore(dead);
            }
            let report = pair.finish(transfer);
            assert_eq!(report.up, up, "{parity:?} {redundancy:?}");
        }
    }
}

// ---- refusals and downgrades ----------------------------------------------------------------------------------

/// Sixteen paths were never found: the client's own deadline passed, or ten relays heard the server let go.
fn is_without_quorum(error: Option<ConnectionError>) -> bool {
    matches!(error, Some(ConnectionError::OpenTimeout | ConnectionError::Unreachable(RouteError::Lost)))
}

fn refused(pair: &mut Pair) -> Option<ConnectionError> {
    let client = pair.dial();
    pair.run_for(Duration::from_secs(12));
    pair.client(client).error().cloned()
}

#[test]
fn lists_refuse_under_seal_and_with_a_reason() {
    for reason in [Refusal::BlackListed, Refusal::NotWhiteListed] {
        let mut pair = Pair::new(500);
        pair.admission().refuse = Some(reason);
        assert_eq!(refused(&mut pair), Some(ConnectionError::Refused(reason)));
        assert_eq!(pair.server_count(), 0, "nothing is left at the server");
    }
}

#[test]
fn a_server_that_holds_as_many_connections_as_it_may_is_busy_until_one_ends() {
    let mut pair = Pair::with(502, |_| (), |server| server.max_connections = 3);
    let held: Vec<_> = (0..3).map(|_| pair.open()).collect();
    assert_eq!(refused(&mut pair), Some(ConnectionError::Refused(Refusal::Busy)));
    for client in &held {
        server_of(&mut pair, *client);
    }
    let now = pair.now;
    pair.client(held[0]).close(now, 0, "enough");
    pair.run_for(Duration::from_secs(5));
    assert_eq!(refused(&mut pair), None, "there is room again");
}

/// The server's end of a connection, found by a stream.
fn server_of(pair: &mut Pair, client: Handle) -> Handle {
    pair.client(client).open(b"").unwrap().unwrap();
    pair.run_until(|p| p.has_accepted());
    pair.accepted().unwrap().0
}

#[test]
fn an_encryption_key_is_mixed_in_and_its_absence_is_refused() {
    let key = || EncryptionKey::import(&[7; 32]).unwrap();
    let id = KeyId([1; 16]);
    // Both hold it.
    let mut pair = Pair::new(510);
    pair.client_key = Some((id, [7; 32]));
    pair.admission().keys.push((id, key()));
    let client = pair.open();
    let server = server_of(&mut pair, client);
    assert_eq!(pair.client(client).stats().encryption_key, Some(id));
    assert_eq!(pair.server(server).stats().encryption_key, Some(id));
    assert_eq!(pair.server(server).security().encryption_key, Some(id));
    // The server holds one, the client names none: a downgrade.
    let mut pair = Pair::new(511);
    pair.admission().keys.push((id, key()));
    assert_eq!(refused(&mut pair), Some(ConnectionError::Refused(Refusal::EncryptionKeyRequired)));
    // The client names one that the server does not hold.
    let mut pair = Pair::new(512);
    pair.client_key = Some((id, [7; 32]));
    assert_eq!(refused(&mut pair), Some(ConnectionError::Refused(Refusal::UnknownEncryptionKey)));
    // The same id with another key: neither side can say a word that the other believes.
    let mut pair = Pair::new(513);
    pair.client_key = Some((id, [8; 32]));
    pair.admission().keys.push((id, key()));
    assert!(is_without_quorum(refused(&mut pair)));
}

#[test]
fn ml_kem_is_used_when_both_have_it_and_never_silently_dropped_when_one_requires_it() {
    use MlKem::{Off, On, Require};
    let required = Some(ConnectionError::Refused(Refusal::MlKemRequired));
    for (client, server, expect) in [
        (On, On, Ok(true)),
        (On, Off, Ok(false)),
        (Off, On, Ok(false)),
        (Require, On, Ok(true)),
        (On, Require, Ok(true)),
        (Require, Off, Err(required.clone())),
        (Off, Require, Err(required)),
    ] {
        let mut pair = Pair::with(520, |c| c.ml_kem = client, |c| c.ml_kem = server);
        match expect {
            Ok(used) => {
                let handle = pair.open();
                let accepted = server_of(&mut pair, handle);
                for (stats, setting) in
                    [(pair.client(handle).stats(), client), (pair.server(accepted).stats(), server)]
                {
                    assert_eq!((stats.ml_kem_setting, stats.ml_kem), (setting, used), "{client} {server}");
                    assert_eq!(stats.encryption_key, None);
                }
            }
            Err(error) => assert_eq!(refused(&mut pair), error, "{client} {server}"),
        }
    }
}

// ---- attacks on the opening -----------------------------------------------------------------------------------

#[test]
fn a_recorded_opening_replayed_to_the_server_leads_nowhere() {
    let mut pair = Pair::new(530);
    pair.record = true;
    let client = pair.open();
    let now = pair.now;
    pair.client(client).close(now, 0, "");
    pair.run_for(Duration::from_secs(30));
    assert_eq!(pair.server_count(), 0);
    // To the same server, and to one that restarted.
    for restart in [false, true] {
        if restart {
            pair.restart_server();
        }
        pair.replay_to_server();
        pair.run_for(Duration::from_secs(1));
        assert!(pair.accepted().is_none(), "nothing reaches accept");
        pair.run_for(Duration::from_secs(15));
        assert_eq!(pair.server_count(), 0, "and what was held is let go");
        assert_eq!(pair.pending_bytes(), 0);
    }
}

#[test]
fn a_restarted_server_ends_the_connection_with_a_reset() {
    let mut pair = Pair::new(531);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    pair.client(client).write(stream, b"x").unwrap();
    pair.run_for(Duration::from_secs(1));
    pair.restart_server();
    pair.break_hops(PathSet::ALL);
    pair.restore(PathSet::ALL);
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.client(client).error(), Some(&ConnectionError::Reset));
    let mut buf = [0; 8];
    let read = pair.client(client).read(stream, &mut buf);
    assert_eq!(read, Err(ReadError::Lost(ConnectionError::Reset)));
}

#[test]
fn lying_shares_are_named_and_do_no_harm() {
    let mut pair = Pair::new(540);
    let liars = pair.random_paths(9);
    pair.lie_about_shares(liars);
    pair.open();
    pair.run_for(Duration::from_millis(100));
    // Those too whose share came when sixteen others had made the key.
    assert_eq!(pair.liars(), liars);
    assert_eq!(pair.alone_with_their_header(), PathSet::EMPTY);
}

#[test]
fn a_header_forged_by_nine_is_ignored() {
    let mut pair = Pair::new(541);
    let forgers = pair.random_paths(9);
    pair.forge_headers(forgers);
    let client = pair.open();
    assert!(pair.client(client).is_open());
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.alone_with_their_header(), forgers);
    assert_eq!(pair.liars(), PathSet::EMPTY, "a share under another header proves nothing");
}

#[test]
fn ten_forgers_prevent_the_opening_and_gain_nothing_else() {
    let mut pair = Pair::new(542);
    let forgers = pair.random_paths(10);
    pair.forge_headers(forgers);
    assert!(is_without_quorum(refused(&mut pair)));
    assert!(pair.accepted().is_none());
    assert_eq!(pair.pending_bytes(), 0);
}

#[test]
fn junk_before_the_true_stripes_displaces_nothing() {
    let mut pair = Pair::new(550);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    // Nine relays invent stripes of the first blocks, with every stripe id and several lengths, before the
    // client sends its own.
    let junk = pair.random_paths(9);
    pair.invent_stripes(junk, stream, 0..4);
    let up = pattern(MIB);
    pair.client(client).write(stream, &up).unwrap();
    pair.client(client).finish(stream).unwrap();
    pair.run_until(|p| p.client(client).is_finished(stream));
    let (server, id, _) = pair.accepted().unwrap();
    assert_eq!(pair.read_all(server, id), up);
}

#[test]
fn junk_is_charged_to_the_path_that_brings_it() {
    let mut pair = Pair::new(551);
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    pair.client(client).write(stream, b"x").unwrap();
    pair.run_until(|p| p.has_accepted());
    let (server, ..) = pair.accepted().unwrap();
    let junk = pair.random_paths(9);
    for from in 0..40 {
        pair.invent_stripes(junk, stream, from * 20..from * 20 + 20);
    }
    let bound = 9 * parking::MAX_PARKED_BYTES as u64;
    assert!(pair.server(server).memory() <= bound + 4096);
}

#[test]
fn nothing_secret_shows_in_debug_output() {
    let mut pair = Pair::new(560);
    pair.client_key = Some((KeyId([1; 16]), [0xa7; 32]));
    let client = pair.dial();
    let shown = format!("{:?}", pair.client(client));
    assert!(!shown.contains("167, 167, 167"), "the Encryption key shows");
    assert!(!shown.contains("a7a7a7"), "the Encryption key shows");
}
