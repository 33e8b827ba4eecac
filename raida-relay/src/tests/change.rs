//! What changes while a relay runs: bans, quotas, the end.

use super::peer::{Dialling, Got, Peer, key};
use super::{Server, path, port, relay, server, service};
use crate::{Limits, Roster};
use qsocket_proto::frame::{CloseReason, Frame, RouteError};
use qsocket_proto::hop::{HandshakeError, REJECT};
use qsocket_proto::ids::Role;
use qsocket_proto::raida_key::{RaidaKey, relay_table};
use qsocket_proto::relay::{MIN_BYTES_PER_SECOND, QUOTA_BURST, Quota};
use std::time::Duration;

fn roster(keys: &[&RaidaKey], servers: Vec<Server>) -> Roster {
    Roster { table: relay_table(keys.iter().copied(), path()), servers, ..Roster::default() }
}

#[tokio::test]
async fn a_banned_client_loses_its_hops_cannot_return_and_looks_like_a_stranger() {
    let (c, other, s) = (key(1, Role::Client), key(2, Role::Client), key(7, Role::Server));
    let listener = port().await;
    let servers = vec![server(&s, &listener)];
    let relay = relay(&[&c, &other, &s], servers.clone(), Limits::default());
    let at = relay.local_addr();
    let mut to = Peer::accept(&listener, path(), &s).await;
    let mut banned = Peer::dial(at, path(), &c).await.unwrap();
    let mut stays = Peer::dial(at, path(), &other).await.unwrap();
    banned.open_route(1, path(), c.principal(), s.principal(), service()).await;
    assert!(matches!(to.recv().await, Got::Open(1, _)));
    // One that has begun to shake hands with the number that was still good.
    let half = Dialling::hello(at, path(), &c).await;
    half.answered().await;

    relay.replace(roster(&[&other, &s], servers.clone())).unwrap();
    assert_eq!(banned.recv().await, Got::Close(CloseReason::Done));
    assert_eq!(banned.recv().await, Got::Eof);
    assert_eq!(to.recv().await, Got::Detach(1), "its route ends");
    let mut late = half.finish().await.unwrap();
    assert_eq!(late.recv().await, Got::Eof, "a handshake under way does not become a hop");
    assert_eq!(Peer::dial(at, path(), &c).await.err(), Some(HandshakeError::Rejected));
    let answer = Dialling::hello(at, path(), &c).await.raw_answer().await;
    let stranger = Dialling::hello(at, path(), &key(9, Role::Client)).await.raw_answer().await;
    assert_eq!((&*answer, &*stranger), (&REJECT[..], &REJECT[..]));

    stays.send(Frame::Ping { token: 5 }).await;
    assert_eq!(stays.recv().await, Got::Pong(5), "nobody else notices");
    relay.replace(roster(&[&c, &other, &s], servers)).unwrap();
    let mut back = Peer::dial(at, path(), &c).await.unwrap();
    back.open_route(1, path(), c.principal(), s.principal(), service()).await;
    assert!(matches!(to.recv().await, Got::Open(2, _)));
}

#[tokio::test]
async fn another_number_ends_the_hops_that_were_built_with_the_old_one() {
    let (old, new) = (key(1, Role::Client), key(1, Role::Client));
    let relay = relay(&[&old], vec![], Limits::default());
    let mut peer = Peer::dial(relay.local_addr(), path(), &old).await.unwrap();
    relay.replace(roster(&[&old], vec![])).unwrap();
    peer.send(Frame::Ping { token: 1 }).await;
    assert_eq!(peer.recv().await, Got::Pong(1), "the same number changes nothing");
    relay.replace(roster(&[&new], vec![])).unwrap();
    assert_eq!(peer.recv().await, Got::Close(CloseReason::Done));
    assert!(Peer::dial(relay.local_addr(), path(), &new).await.is_ok());
}

#[tokio::test]
async fn a_banned_server_ends_its_routes_and_is_not_dialled() {
    let (c, s) = (key(1, Role::Client), key(7, Role::Server));
    let listener = port().await;
    let relay = relay(&[&c, &s], vec![server(&s, &listener)], Limits::default());
    let mut to = Peer::accept(&listener, path(), &s).await;
    let mut peer = Peer::dial(relay.local_addr(), path(), &c).await.unwrap();
    peer.open_route(1, path(), c.principal(), s.principal(), service()).await;
    assert!(matches!(to.recv().await, Got::Open(1, _)));
    relay.replace(roster(&[&c], vec![])).unwrap();
    assert_eq!(to.recv().await, Got::Close(CloseReason::Done));
    assert_eq!(peer.recv().await, Got::RouteError(1, RouteError::Lost));
    peer.open_route(2, path(), c.principal(), s.principal(), service()).await;
    assert_eq!(peer.recv().await, Got::RouteError(2, RouteError::NoSuchServer));
}

#[tokio::test]
async fn a_client_over_its_byte_quota_is_told_and_does_not_slow_another() {
    let (slow, free, s) = (key(1, Role::Client), key(2, Role::Client), key(7, Role::Server));
    let listener = port().await;
    let servers = vec![server(&s, &listener)];
    let relay = relay(&[&slow, &free, &s], servers.clone(), Limits::default());
    let mut to = Peer::accept(&listener, path(), &s).await;
    let mut limited = Peer::dial(relay.local_addr(), path(), &slow).await.unwrap();
    let mut other = Peer::dial(relay.local_addr(), path(), &free).await.unwrap();
    limited.open_route(1, path(), slow.principal(), s.principal(), service()).await;
    assert!(matches!(to.recv().await, Got::Open(1, _)));
    other.open_route(1, path(), free.principal(), s.principal(), service()).await;
    assert!(matches!(to.recv().await, Got::Open(2, _)));
    // The quota comes while the hop is up.
    let mut roster = roster(&[&slow, &free, &s], servers);
    let quota = Quota { bytes_per_second: Some(MIN_BYTES_PER_SECOND), ..Quota::default() };
    roster.quotas.insert((slow.principal(), Role::Client), quota);
    relay.replace(roster).unwrap();

    let payload = vec![7; 16 * 1024];
    let mut passed = 0;
    for round in 0..100 {
        limited.data(1, round, &payload).await;
        other.data(1, round, &payload).await;
        loop {
            match to.recv().await {
                Got::Data(1, _, bytes) => passed += bytes.len(),
                got => break assert_eq!(got, Got::Data(2, round, payload.clone()), "all of it, in order"),
            }
        }
    }
    limited.send(Frame::Ping { token: 1 }).await;
    let mut congested = 0;
    loop {
        match limited.recv().await {
            Got::Congested(1, bytes) => congested += bytes as usize,
            got => break assert_eq!(got, Got::Pong(1), "control frames are not limited"),
        }
    }
    assert!(congested > 0 && passed > 0);
    assert!(passed <= QUOTA_BURST as usize + payload.len(), "{passed}");
    assert_eq!(other.arrived(), None, "the other one is not told to slow down");
}

#[tokio::test]
async fn a_client_over_its_route_quota_is_busy() {
    let (c, s) = (key(1, Role::Client), key(7, Role::Server));
    let listener = port().await;
    let servers = vec![server(&s, &listener)];
    let relay = relay(&[&c, &s], servers.clone(), Limits::default());
    let mut roster = roster(&[&c, &s], servers);
    roster.quotas.insert((c.principal(), Role::Client), Quota { routes: 1, ..Quota::default() });
    relay.replace(roster).unwrap();
    let mut to = Peer::accept(&listener, path(), &s).await;
    let mut peer = Peer::dial(relay.local_addr(), path(), &c).await.unwrap();
    peer.open_route(1, path(), c.principal(), s.principal(), service()).await;
    assert!(matches!(to.recv().await, Got::Open(1, _)));
    peer.open_route(2, path(), c.principal(), s.principal(), service()).await;
    assert_eq!(peer.recv().await, Got::RouteError(2, RouteError::Busy));
}

#[tokio::test]
async fn a_relay_that_drains_lets_out_what_waits_and_says_that_it_is_done() {
    let (c, s) = (key(1, Role::Client), key(7, Role::Server));
    let listener = port().await;
    let relay = relay(&[&c, &s], vec![server(&s, &listener)], Limits::default());
    let at = relay.local_addr();
    let mut to = Peer::accept(&listener, path(), &s).await;
    let mut peer = Peer::dial(at, path(), &c).await.unwrap();
    peer.open_route(1, path(), c.principal(), s.principal(), service()).await;
    assert!(matches!(to.recv().await, Got::Open(1, _)));
    let payload = vec![3; 16 * 1024];
    // More than the sockets hold, as long as the server reads nothing.
    let mut sent = 0;
    while relay.stats().queued_bytes < 64 * 1024 {
        peer.data(1, sent, &payload).await;
        peer.send(Frame::Ping { token: 1 }).await;
        assert_eq!(peer.recv().await, Got::Pong(1));
        sent += 1;
        assert!(sent < super::MOST_ROUNDS);
    }
    let ended = tokio::spawn(async move {
        relay.drain(super::GUARD).await;
        relay.stats()
    });
    for round in 0..sent {
        assert_eq!(to.recv().await, Got::Data(1, round, payload.clone()));
    }
    assert_eq!(to.recv().await, Got::Close(CloseReason::Done));
    assert_eq!(peer.recv().await, Got::Close(CloseReason::Done));
    assert_eq!((to.recv().await, peer.recv().await), (Got::Eof, Got::Eof));
    drop((to, peer));
    assert_eq!(ended.await.unwrap().hops, 0);
    let refused = tokio::net::TcpStream::connect(at).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_does_not_keep_a_relay_from_ending() {
    let c = key(1, Role::Client);
    let relay = relay(&[&c], vec![], Limits::default());
    let _silent = Peer::dial(relay.local_addr(), path(), &c).await.unwrap();
    while relay.stats().hops == 0 {
        tokio::task::yield_now().await;
    }
    relay.drain(Duration::from_millis(50)).await;
    assert_eq!(relay.stats().hops, 0);
}
