//! A principal has its number replaced, and what happens where either side stops in between.

use super::calls::{Scene, ask_until_free};
use super::peer::{Dialling, Got, Peer};
use super::{path, port, server};
use crate::principals::{MemoryPrincipals, Principals, Rotated};
use crate::{Limits, Roster};
use qsocket_files::rng::OsRng;
use qsocket_proto::call::{Service, Status};
use qsocket_proto::enrol::Request;
use qsocket_proto::frame::{CloseReason, Frame};
use qsocket_proto::hop::HandshakeError;
use qsocket_proto::ids::PathId;
use qsocket_proto::raida_key::{RaidaKey, duplicate, relay_table};
use qsocket_proto::rotate;

/// Has the number of `key` replaced over `hop`, and returns the key with the new one.
async fn rotated(hop: &mut Peer, key: &RaidaKey) -> RaidaKey {
    let request = Request::new(key.principal(), key.role(), path(), &mut OsRng);
    let body = rotate::encode_request(&request);
    let (status, answer) = ask_until_free(hop, Service::RotateKey, &body).await;
    assert_eq!(status, Status::Ok);
    let answer = rotate::decode_answer(request.subject, &answer).unwrap();
    let number = request.finish(&answer).unwrap();
    let one = |of: PathId| duplicate(if of == path() { &number } else { key.number(of) });
    RaidaKey::new(key.principal(), key.role(), PathId::all().map(one).collect()).unwrap()
}

async fn is_served(hop: &mut Peer) {
    hop.send(Frame::Ping { token: 9 }).await;
    assert_eq!(hop.recv().await, Got::Pong(9));
}

#[tokio::test]
async fn the_old_number_counts_until_the_new_one_is_used_and_then_no_more() {
    let scene = Scene::new(Limits::default()).await;
    let (at, old) = (scene.relay.local_addr(), &scene.keys[0]);
    let mut first = scene.dial(0).await;
    let new = rotated(&mut first, old).await;
    // The principal may have stopped before it kept the new one.
    let mut second = Peer::dial(at, path(), old).await.unwrap();
    is_served(&mut second).await;
    // A handshake that begins with the old one and ends after the new one was used.
    let half = Dialling::hello(at, path(), old).await;
    half.answered().await;

    let mut hop = Peer::dial(at, path(), &new).await.unwrap();
    is_served(&mut hop).await;
    for mut of_old in [first, second] {
        assert_eq!(of_old.recv().await, Got::Close(CloseReason::Done), "it is forgotten with its hops");
    }
    assert_eq!(half.finish().await.unwrap().recv().await, Got::Eof);
    assert_eq!(Peer::dial(at, path(), old).await.err(), Some(HandshakeError::Rejected));
    is_served(&mut Peer::dial(at, path(), &new).await.unwrap()).await;
    is_served(&mut hop).await;
    // Nobody else's handshake or hop is touched.
    is_served(&mut scene.dial(1).await).await;
    // And again.
    let newer = rotated(&mut hop, &new).await;
    is_served(&mut Peer::dial(at, path(), &newer).await.unwrap()).await;
    assert_eq!(Peer::dial(at, path(), &new).await.err(), Some(HandshakeError::Rejected));
}

#[tokio::test]
async fn an_answer_that_was_lost_is_forgotten_when_another_one_is_asked_for() {
    let scene = Scene::new(Limits::default()).await;
    let (at, old) = (scene.relay.local_addr(), &scene.keys[0]);
    let mut hop = scene.dial(0).await;
    let (lost, kept) = (rotated(&mut hop, old).await, rotated(&mut hop, old).await);
    assert_eq!(Peer::dial(at, path(), &lost).await.err(), Some(HandshakeError::Rejected));
    is_served(&mut Peer::dial(at, path(), old).await.unwrap()).await;
    is_served(&mut Peer::dial(at, path(), &kept).await.unwrap()).await;
    assert_eq!(Peer::dial(at, path(), old).await.err(), Some(HandshakeError::Rejected));
}

#[tokio::test]
async fn what_is_no_request_changes_nothing_and_changes_have_their_pace() {
    let scene = Scene::new(Limits::default()).await;
    let mut hop = scene.dial(0).await;
    for body in [&[][..], &[1; 47], &[1; 49], &[0; 48]] {
        assert_eq!(ask_until_free(&mut hop, Service::RotateKey, body).await.0, Status::Malformed);
    }
    _ = rotated(&mut hop, &scene.keys[0]).await;
    let body = [1; 48];
    hop.send(Frame::Call {
        call: qsocket_proto::ids::CallId(3),
        service: Service::RotateKey as u8,
        body: &body,
    })
    .await;
    let busy = Got::Answer(qsocket_proto::ids::CallId(3), Status::Busy as u8, vec![]);
    assert_eq!(hop.recv().await, busy);
}

#[tokio::test]
async fn a_server_is_dialled_with_the_number_that_it_has() {
    let scene = Scene::new(Limits::default()).await;
    let old = &scene.keys[2];
    let mut dialled = Peer::accept(&scene.listener, path(), old).await;
    let new = rotated(&mut dialled, old).await;
    // It stopped before it kept the new one: the relay tries that, and then the old one.
    drop(dialled);
    let refused = async {
        let (stream, _) = scene.listener.accept().await.unwrap();
        Peer::refuse(stream, path(), old).await;
    };
    refused.await;
    let mut back = Peer::accept(&scene.listener, path(), old).await;
    is_served(&mut back).await;
    // It kept it.
    drop(back);
    let mut renewed = Peer::accept(&scene.listener, path(), &new).await;
    is_served(&mut renewed).await;
    let at = scene.relay.local_addr();
    assert_eq!(Peer::dial(at, path(), old).await.err(), Some(HandshakeError::Rejected));
}

#[tokio::test]
async fn who_is_banned_meanwhile_stays_out_with_both_numbers() {
    let scene = Scene::new(Limits::default()).await;
    let (at, old) = (scene.relay.local_addr(), &scene.keys[0]);
    let mut hop = scene.dial(0).await;
    let new = rotated(&mut hop, old).await;
    let others = relay_table(scene.keys.iter().skip(1), path());
    let servers = vec![server(&scene.keys[2], &port().await)];
    scene.relay.replace(Roster { table: others, servers, ..Roster::default() }).unwrap();
    for key in [old, &new] {
        assert_eq!(Peer::dial(at, path(), key).await.err(), Some(HandshakeError::Rejected));
    }
}

#[tokio::test]
async fn only_the_number_that_waits_is_settled() {
    let principals = MemoryPrincipals::default();
    let key = super::peer::key(1, qsocket_proto::ids::Role::Client);
    let who = (key.principal(), key.role());
    let mut numbers = PathId::all().map(|path| key.number(path));
    let (one, two) = (numbers.next().unwrap(), numbers.next().unwrap());
    let nothing = &|| {};
    assert_eq!(principals.settle(who, one, nothing).await.unwrap(), Rotated::Unknown);
    assert_eq!(principals.rotate(who, one, nothing).await.unwrap(), Rotated::Kept);
    assert_eq!(principals.rotate(who, two, nothing).await.unwrap(), Rotated::Kept);
    assert_eq!(principals.next().len(), 1);
    assert_eq!(principals.settle(who, one, nothing).await.unwrap(), Rotated::Unknown, "another one waits");
    assert_eq!(principals.settle(who, two, nothing).await.unwrap(), Rotated::Kept);
    assert_eq!(principals.settle(who, two, nothing).await.unwrap(), Rotated::Unknown, "once");
}
