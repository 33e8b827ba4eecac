//! Looking without taking, and small writes that wait for company.

use super::pair::Pair;
use super::*;
use crate::grid::MAX_BLOCK_BYTES;
use crate::stripe::BlockHeader;

/// A stream whose first block, which opens it, is acknowledged.
fn open_stream(pair: &mut Pair) -> (Handle, StreamId) {
    let client = pair.open();
    let stream = pair.client(client).open(b"").unwrap().unwrap();
    pair.run_until(|p| p.client(client).is_flushed(stream));
    (client, stream)
}

fn blocks(pair: &mut Pair, client: Handle) -> u64 {
    pair.transmit_once(client);
    pair.client(client).stats().blocks_sent
}

#[test]
fn small_writes_leave_at_once_by_default() {
    let mut pair = Pair::new(1);
    let (client, stream) = open_stream(&mut pair);
    let before = blocks(&mut pair, client);
    assert!(pair.client(client).nodelay(stream));
    for sent in 1..=5 {
        pair.client(client).write(stream, b"x").unwrap();
        assert_eq!(blocks(&mut pair, client), before + sent);
    }
}

#[test]
fn without_nodelay_small_writes_wait_for_the_acknowledgement_of_the_one_before() {
    let mut pair = Pair::new(2);
    let (client, stream) = open_stream(&mut pair);
    pair.client(client).set_nodelay(stream, false);
    let before = blocks(&mut pair, client);
    let start = pair.now;
    pair.client(client).write(stream, b"a").unwrap();
    assert_eq!(blocks(&mut pair, client), before + 1, "nothing is unacknowledged, nothing is held");
    for byte in [b"b", b"c", b"d"] {
        pair.client(client).write(stream, byte).unwrap();
        assert_eq!(blocks(&mut pair, client), before + 1);
    }
    pair.run_until(|p| p.client(client).stats().blocks_sent > before + 1);
    let waited = pair.now - start;
    assert!(waited >= pair.round_trip() && waited <= pair.round_trip() + MAX_ACK_DELAY, "{waited:?}");
    pair.run_until(|p| p.client(client).is_flushed(stream));
    assert_eq!(blocks(&mut pair, client), before + 2, "three writes became one block");
    let (server, id, _) = pair.accepted().unwrap();
    let mut buf = [0; 8];
    assert_eq!(pair.server(server).read(id, &mut buf), Ok(Some(4)));
    assert_eq!(&buf[..4], b"abcd");
}

#[test]
fn without_an_acknowledgement_small_writes_are_held_for_a_bounded_time() {
    let mut pair = Pair::with(3, |c| c.nodelay = false, |_| {});
    let (client, stream) = open_stream(&mut pair);
    let before = blocks(&mut pair, client);
    pair.cut(PathSet::ALL);
    pair.client(client).write(stream, b"a").unwrap();
    assert_eq!(blocks(&mut pair, client), before + 1);
    pair.client(client).write(stream, b"b").unwrap();
    pair.run_for(MAX_HOLD - Duration::from_millis(1));
    assert_eq!(pair.client(client).stats().blocks_sent, before + 1);
    pair.run_for(Duration::from_millis(1));
    assert_eq!(pair.client(client).stats().blocks_sent, before + 2);
    let next = pair.client(client).poll_timeout();
    assert!(next.is_some_and(|(at, _)| at > pair.now), "a hold that is over keeps nobody awake: {next:?}");
}

#[test]
fn full_blocks_and_last_ones_and_those_of_a_changed_mind_are_not_held() {
    for case in 0..3 {
        let mut pair = Pair::with(4, |c| c.nodelay = false, |_| {});
        let (client, stream) = open_stream(&mut pair);
        let before = blocks(&mut pair, client);
        pair.client(client).write(stream, b"a").unwrap();
        pair.client(client).write(stream, b"b").unwrap();
        assert_eq!(blocks(&mut pair, client), before + 1);
        pair.client(client).write(stream, b"c").unwrap();
        assert_eq!(blocks(&mut pair, client), before + 1, "held");
        match case {
            0 => {
                // With what waits it fills the block to its last byte.
                let rest = MAX_BLOCK_BYTES - BlockHeader::BYTES - 1;
                assert_eq!(pair.client(client).write(stream, &vec![0; rest]), Ok(rest));
            }
            1 => pair.client(client).finish(stream).unwrap(),
            _ => pair.client(client).set_nodelay(stream, true),
        }
        assert_eq!(blocks(&mut pair, client), before + 2, "case {case}");
    }
}

#[test]
fn a_peek_leaves_the_bytes_and_the_window() {
    let mut pair = Pair::new(5);
    let (client, stream) = open_stream(&mut pair);
    let sent = pattern(3 * MAX_BLOCK_BYTES);
    pair.client(client).write(stream, &sent).unwrap();
    pair.client(client).finish(stream).unwrap();
    pair.run_until(|p| p.client(client).is_finished(stream));
    let (server, id, _) = pair.accepted().unwrap();
    let server = pair.server(server);
    for limit in [1, 7, 2 * MAX_BLOCK_BYTES, sent.len(), sent.len() + 1] {
        let mut seen = Vec::new();
        let n = server.peek_with(id, limit, |piece| seen.extend_from_slice(piece)).unwrap().unwrap();
        assert_eq!(n, limit.min(sent.len()));
        assert_eq!(seen, sent[..n]);
    }
    let mut all = vec![0; sent.len()];
    assert_eq!(server.read(id, &mut all), Ok(Some(sent.len())));
    assert_eq!(all, sent);
    assert_eq!(server.peek_with(id, 1, |_| {}), Ok(Some(0)), "the end");
    assert_eq!(server.read(id, &mut all), Ok(Some(0)));
}

#[test]
fn readiness_follows_the_stream() {
    let mut pair = Pair::with(6, |c| c.send_buffer = 1000, |_| {});
    let (client, stream) = open_stream(&mut pair);
    let (server, id, _) = pair.accepted().unwrap();
    let idle = Readiness { writable: true, ..Readiness::default() };
    assert_eq!(pair.client(client).readiness(stream), idle);
    assert_eq!(pair.server(server).readiness(id), idle);
    pair.cut(PathSet::ALL);
    pair.client(client).write(stream, &[0; 2000]).unwrap();
    assert!(!pair.client(client).readiness(stream).writable, "the buffer is full");
    pair.restore(PathSet::ALL);
    pair.run_until(|p| p.client(client).readiness(stream).writable);
    assert!(pair.server(server).readiness(id).readable);
    assert_eq!(pair.server(server).read(id, &mut [0; 2000]), Ok(Some(1000)));
    assert!(!pair.server(server).readiness(id).readable);
    pair.client(client).finish(stream).unwrap();
    pair.run_until(|p| p.client(client).is_finished(stream));
    let ended = Readiness { readable: true, read_closed: true, ..idle };
    assert_eq!(pair.server(server).readiness(id), ended);
    assert!(pair.client(client).readiness(stream).write_closed);
    pair.server(server).reset(id, 0);
    pair.run_until(|p| p.client(client).readiness(stream).readable);
    assert_eq!(pair.client(client).failure(stream), Some(StreamFailure::Read(ReadError::Reset(0))));
}
