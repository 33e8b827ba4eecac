//! Streams and connections that one side takes back.

use super::*;

/// A stream that is open on both sides, with unread bytes at the server and a reader that waits at the client.
fn opened(pair: &mut Pair) -> (Handle, Handle, StreamId) {
    let client = pair.open();
    let stream = pair.client(client).open(b"wiki").unwrap().unwrap();
    pair.client(client).write(stream, b"a question").unwrap();
    pair.run_until(|p| p.has_accepted());
    let (server, id, _) = pair.accepted().unwrap();
    assert_eq!(pair.client(client).read(stream, &mut [0; 8]), Ok(None));
    (client, server, id)
}

#[test]
fn a_stream_that_is_taken_back_ends_with_the_reason_on_both_sides() {
    let mut pair = Pair::new(31);
    let (client, server, id) = opened(&mut pair);
    let other = pair.client(client).open(b"other").unwrap().unwrap();
    pair.client(client).write(other, b"goes on").unwrap();

    pair.server(server).revoke(id, Refusal::Revoked);
    // What was there is not read any more, and no end looks clean.
    assert_eq!(pair.server(server).read(id, &mut [0; 8]), Err(ReadError::Revoked(Refusal::Revoked)));
    assert_eq!(pair.server(server).write(id, b"x"), Err(WriteError::Revoked(Refusal::Revoked)));
    assert_eq!(pair.server(server).finish(id), Err(WriteError::Revoked(Refusal::Revoked)));

    let code = Refusal::Revoked as u32;
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.client(client).read(id, &mut [0; 8]), Err(ReadError::Reset(code)));
    assert_eq!(pair.client(client).write(id, b"x"), Err(WriteError::Stopped(code)));
    // The connection stands, and the other stream with it.
    let (_, other_at_server, _) = pair.accepted().unwrap();
    assert_eq!(pair.server(server).read(other_at_server, &mut [0; 8]), Ok(Some(7)));
    pair.server(server).release(id);
    pair.client(client).release(id);
    pair.run_for(Duration::from_secs(1));
    assert_eq!((pair.server(server).stream_count(), pair.client(client).stream_count()), (1, 1));
}

#[test]
fn a_stream_that_waits_to_finish_hears_of_it() {
    let mut pair = Pair::new(32);
    let (_, server, id) = opened(&mut pair);
    pair.server(server).write(id, b"an answer").unwrap();
    pair.server(server).finish(id).unwrap();
    pair.server(server).revoke(id, Refusal::Revoked);
    assert!(!pair.server(server).is_finished(id));
    assert_eq!(pair.server(server).finish(id), Err(WriteError::Revoked(Refusal::Revoked)));
}

#[test]
fn a_connection_that_is_taken_back_closes_with_the_reason() {
    let mut pair = Pair::new(33);
    let (client, server, id) = opened(&mut pair);
    let now = pair.now;
    pair.server(server).revoke_all(now);
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server(server).read(id, &mut [0; 8]), Err(ReadError::Revoked(Refusal::Revoked)));
    let error = pair.client(client).error().cloned().unwrap();
    assert!(matches!(error, ConnectionError::ClosedByPeer { code: CLOSE_REVOKED, .. }), "{error}");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let error = pair.client(client).read(id, &mut [0; 8]).unwrap_err();
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::ConnectionRefused);
    pair.run_for(Duration::from_secs(5));
    assert!(pair.client(client).is_closed());
}
