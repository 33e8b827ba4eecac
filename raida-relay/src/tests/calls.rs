//! What principals may ask a relay, and what they may not: keys that are left and fetched, and signals.

use super::peer::{GUARD, Got, Peer, key};
use super::{path, port, relay, server};
use crate::posts::PostQuota;
use crate::{Limits, Relay};
use qsocket_files::rng::OsRng;
use qsocket_proto::call::{MAX_CALLS, Service, Status};
use qsocket_proto::crypto::schedule::hop::ImportedKey;
use qsocket_proto::exchange::{FetchId, Get, Post, PostTerms, receipt};
use qsocket_proto::frame::{CloseReason, Frame, MAX_CALL, RouteError};
use qsocket_proto::hop::{FINISH, REQUEST_HEADER};
use qsocket_proto::ids::{CallId, Principal, Role};
use qsocket_proto::raida_key::RaidaKey;
use qsocket_proto::register::Register;
use qsocket_proto::relay::Registration;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

impl Peer {
    /// Asks, and waits for the answer.
    pub(super) async fn ask(&mut self, service: Service, body: &[u8]) -> (Status, Vec<u8>) {
        let call = CallId(7);
        self.send(Frame::Call { call, service: service as u8, body }).await;
        match self.recv().await {
            Got::Answer(of, status, body) if of == call => (Status::from_u8(status), body),
            other => panic!("no answer: {other:?}"),
        }
    }

    pub(super) async fn status(&mut self, service: Service, body: &[u8]) -> Status {
        self.ask(service, body).await.0
    }
}

fn post_for(poster: Principal, receiver: Principal) -> Post {
    let terms = PostTerms { poster, receiver, ttl: 600, lifetime: 0, relay_set: [0; 32] };
    Post::new(terms, b"memo", &mut OsRng)
}

fn get(post: &Post, fetch: u8) -> Vec<u8> {
    Get { poster: post.header().poster, key: post.header().key, fetch: FetchId([fetch; 16]) }.encode()
}

/// A relay with a client, another client, a server, and another server.
pub(super) struct Scene {
    pub(super) relay: Relay,
    pub(super) listener: TcpListener,
    pub(super) keys: [RaidaKey; 4],
}

impl Scene {
    pub(super) async fn new(limits: Limits) -> Self {
        let keys = [key(1, Role::Client), key(2, Role::Client), key(7, Role::Server), key(8, Role::Server)];
        let listener = port().await;
        let relay = relay(&keys.each_ref(), vec![server(&keys[2], &listener)], limits);
        Self { relay, listener, keys }
    }

    pub(super) async fn dial(&self, who: usize) -> Peer {
        Peer::dial(self.relay.local_addr(), path(), &self.keys[who]).await.unwrap()
    }

    pub(super) fn who(&self, who: usize) -> Principal {
        self.keys[who].principal()
    }
}

#[tokio::test]
async fn a_share_is_left_with_a_receipt_and_fetched_once_by_its_receiver() {
    let scene = Scene::new(Limits::default()).await;
    let (mut alice, mut mallory) = (scene.dial(0).await, scene.dial(1).await);
    let (mut receiver, mut stranger) = (scene.dial(2).await, scene.dial(3).await);
    let post = post_for(scene.who(0), scene.who(2));
    let body = post.body(path());
    let (status, given) = alice.ask(Service::PostKey, &body).await;
    assert_eq!(status, Status::Ok);
    let number = scene.keys[2].number(path());
    let imported = ImportedKey::new(number, scene.who(2), path(), Role::Server);
    assert_eq!(
        given,
        receipt(&imported.receipt_key(), &post.header().encode()),
        "only these two can make it"
    );

    // Somebody else's post, a stranger's fetch, wrong roles.
    assert_eq!(mallory.status(Service::PostKey, &body).await, Status::NotPermitted);
    assert_eq!(stranger.status(Service::GetKey, &get(&post, 1)).await, Status::NotFound);
    assert_eq!(alice.status(Service::GetKey, &get(&post, 1)).await, Status::NotPermitted);
    assert_eq!(mallory.status(Service::ReleaseKey, &get(&post, 1)).await, Status::NotPermitted);
    assert_eq!(stranger.status(Service::ReleaseKey, &get(&post, 1)).await, Status::NotFound);
    assert_eq!(receiver.status(Service::PostKey, &body).await, Status::NotPermitted);

    assert_eq!(receiver.ask(Service::GetKey, &get(&post, 1)).await, (Status::Ok, body.to_vec()));
    assert_eq!(receiver.status(Service::GetKey, &get(&post, 2)).await, Status::Taken, "a second fetch");
    assert_eq!(receiver.ask(Service::GetKey, &get(&post, 1)).await.0, Status::Ok, "the answer was lost");
    // A replayed post puts nothing in its place, before and after the share is erased.
    assert_eq!(alice.status(Service::PostKey, &body).await, Status::Exists);
    assert_eq!(receiver.status(Service::ReleaseKey, &get(&post, 1)).await, Status::Ok);
    assert_eq!(receiver.status(Service::GetKey, &get(&post, 1)).await, Status::Taken);
    assert_eq!(alice.status(Service::PostKey, &body).await, Status::Exists);
}

#[tokio::test]
async fn what_is_no_post_is_refused_and_the_hop_stays() {
    let scene = Scene::new(Limits::default()).await;
    let mut alice = scene.dial(0).await;
    let unknown = post_for(scene.who(0), Principal { serial: 99, ..scene.who(2) });
    assert_eq!(alice.status(Service::PostKey, &unknown.body(path())).await, Status::NotFound);
    let to_a_client = post_for(scene.who(0), scene.who(1));
    assert_eq!(alice.status(Service::PostKey, &to_a_client.body(path())).await, Status::NotFound);
    let post = post_for(scene.who(0), scene.who(2));
    let of_another_path = post.body(qsocket_proto::ids::PathId::new(4).unwrap());
    assert_eq!(alice.status(Service::PostKey, &of_another_path).await, Status::Malformed);
    let mut flipped = Zeroizing::new(post.body(path()).to_vec());
    if let Some(byte) = flipped.get_mut(180) {
        *byte ^= 1;
    }
    assert_eq!(alice.status(Service::PostKey, &flipped).await, Status::Malformed);
    for body in [&[][..], &[0; 3], &[0xff; MAX_CALL]] {
        assert_eq!(alice.status(Service::PostKey, body).await, Status::Malformed);
        alice.send(Frame::Call { call: CallId(1), service: 0xee, body }).await;
        assert_eq!(alice.recv().await, Got::Answer(CallId(1), Status::NoSuchService as u8, vec![]));
    }
    // An answer that nobody asked for.
    alice.send(Frame::Answer { call: CallId(1), status: 0, body: &[1] }).await;
    alice.send(Frame::Ping { token: 5 }).await;
    assert_eq!(alice.recv().await, Got::Pong(5));
}

#[tokio::test]
async fn a_poster_that_uses_its_quota_up_keeps_out_nobody_else() {
    let posts = PostQuota { per_poster: 3, per_receiver: 5 };
    let scene = Scene::new(Limits { posts, ..Limits::default() }).await;
    let (mut alice, mut mallory) = (scene.dial(0).await, scene.dial(1).await);
    for expected in [Status::Ok, Status::Ok, Status::Ok, Status::Quota] {
        let post = post_for(scene.who(1), scene.who(2));
        assert_eq!(mallory.status(Service::PostKey, &post.body(path())).await, expected);
    }
    for expected in [Status::Ok, Status::Ok, Status::Quota] {
        let post = post_for(scene.who(0), scene.who(2));
        assert_eq!(alice.status(Service::PostKey, &post.body(path())).await, expected);
    }
    let elsewhere = post_for(scene.who(0), scene.who(3));
    assert_eq!(alice.status(Service::PostKey, &elsewhere.body(path())).await, Status::Ok);
}

fn signal(to: Principal, text: &[u8]) -> Vec<u8> {
    [&to.to_bytes()[..], text].concat()
}

#[tokio::test]
async fn a_signal_goes_to_its_server_and_the_answer_back() {
    let scene = Scene::new(Limits::default()).await;
    let mut alice = scene.dial(0).await;
    // A server without a hop, one that nobody knows, a client.
    for who in [scene.who(3), Principal { serial: 99, ..scene.who(2) }, scene.who(1)] {
        assert_eq!(alice.status(Service::Signal, &signal(who, b"x")).await, Status::Unreachable);
    }
    assert_eq!(alice.status(Service::Signal, b"short").await, Status::Malformed);
    let mut to = Peer::accept(&scene.listener, path(), &scene.keys[2]).await;
    // The relay learns of the hop with FINISH: a PING that is answered shows that it has.
    to.send(Frame::Ping { token: 1 }).await;
    assert_eq!(to.recv().await, Got::Pong(1));

    let body = signal(scene.who(2), b"a key waits");
    alice.send(Frame::Call { call: CallId(3), service: Service::Signal as u8, body: &body }).await;
    let Got::Call(call, service, question) = to.recv().await else { panic!("the signal does not arrive") };
    assert_eq!((service, &question[..]), (Service::Signal as u8, &b"a key waits"[..]));
    to.send(Frame::Answer { call, status: Status::Ok as u8, body: b"confirmed" }).await;
    assert_eq!(alice.recv().await, Got::Answer(CallId(3), Status::Ok as u8, b"confirmed".to_vec()));
    // A second answer, and one to nothing.
    to.send(Frame::Answer { call, status: 1, body: b"again" }).await;
    to.send(Frame::Answer { call: CallId(9999), status: 1, body: b"" }).await;
    // Servers signal nobody.
    assert_eq!(to.status(Service::Signal, &body).await, Status::NotPermitted);

    // The server goes while a signal is with it.
    alice.send(Frame::Call { call: CallId(4), service: Service::Signal as u8, body: &body }).await;
    assert!(matches!(to.recv().await, Got::Call(..)));
    drop(to);
    assert_eq!(alice.recv().await, Got::Answer(CallId(4), Status::Unreachable as u8, vec![]));
}

/// A client asks far more than it may, and the server answers nothing: the flood is answered, and others come through, to the
/// server too.
#[tokio::test]
async fn a_flood_of_calls_is_answered_busy_and_others_come_through() {
    let scene = Scene::new(Limits::default()).await;
    let (mut alice, mut mallory) = (scene.dial(0).await, scene.dial(1).await);
    let mut again = scene.dial(1).await;
    let mut to = Peer::accept(&scene.listener, path(), &scene.keys[2]).await;
    to.send(Frame::Ping { token: 1 }).await;
    assert_eq!(to.recv().await, Got::Pong(1));
    let body = signal(scene.who(2), b"noise");
    let flood = 10 * MAX_CALLS as u32;
    for n in 0..flood {
        for peer in [&mut mallory, &mut again] {
            peer.send(Frame::Call { call: CallId(n), service: Service::Signal as u8, body: &body }).await;
        }
    }
    // Four are with the server, over all hops of the client; the rest was refused at once.
    let mut with_server = Vec::new();
    for _ in 0..4 {
        let Got::Call(call, ..) = to.recv().await else { panic!("a signal is missing") };
        with_server.push(call);
    }
    let mut refused = 0;
    while refused < 2 * flood - 4 {
        let got = tokio::select! { got = mallory.recv() => got, got = again.recv() => got };
        let Got::Answer(_, status, _) = got else { panic!("an answer is missing") };
        assert_eq!(Status::from_u8(status), Status::Busy);
        refused += 1;
    }
    let post = post_for(scene.who(0), scene.who(2));
    let body = post.body(path());
    let asked = tokio::time::timeout(GUARD, alice.status(Service::PostKey, &body));
    assert_eq!(asked.await.unwrap(), Status::Ok);
    let body = signal(scene.who(2), b"a key waits");
    alice.send(Frame::Call { call: CallId(3), service: Service::Signal as u8, body: &body }).await;
    let Got::Call(of_alice, _, question) = to.recv().await else { panic!("no other client comes through") };
    assert_eq!(question, b"a key waits");
    for call in with_server.into_iter().chain([of_alice]) {
        to.send(Frame::Answer { call, status: Status::NotVouched as u8, body: &[] }).await;
    }
    assert_eq!(alice.recv().await, Got::Answer(CallId(3), Status::NotVouched as u8, vec![]));
}

fn addresses(ports: &[u16]) -> Vec<u8> {
    let one = |port: &u16| Registration { destination: ([9, 9, 9, 9], *port).into(), dial: None };
    Register { registrations: ports.iter().map(one).collect() }.encode()
}

/// Asks until the relay has time: one change a second.
pub(super) async fn ask_until_free(peer: &mut Peer, service: Service, body: &[u8]) -> (Status, Vec<u8>) {
    let free = async {
        loop {
            match peer.ask(service, body).await {
                (Status::Busy, _) => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    };
    tokio::time::timeout(GUARD, free).await.unwrap()
}

async fn register(peer: &mut Peer, body: &[u8]) -> Status {
    ask_until_free(peer, Service::Register, body).await.0
}

#[tokio::test]
async fn a_server_registers_itself_over_the_hop_that_it_dialled_and_is_reached_there() {
    let scene = Scene::new(Limits::default()).await;
    let (mut alice, mut dialled) = (scene.dial(0).await, scene.dial(3).await);
    let at = ([9, 9, 9, 9], 443).into();
    alice.open_route(1, path(), scene.who(0), scene.who(3), at).await;
    assert_eq!(alice.recv().await, Got::RouteError(1, RouteError::DestinationNotRegistered));
    assert_eq!(register(&mut dialled, &addresses(&[443, 444])).await, Status::Ok);
    alice.open_route(2, path(), scene.who(0), scene.who(3), at).await;
    assert!(matches!(dialled.recv().await, Got::Open(1, _)));
    // The newer list takes the place of the older one, and the route that stands stays.
    assert_eq!(register(&mut dialled, &addresses(&[444])).await, Status::Ok);
    alice.open_route(3, path(), scene.who(0), scene.who(3), at).await;
    assert_eq!(alice.recv().await, Got::RouteError(3, RouteError::DestinationNotRegistered));
    alice.data(2, 0, b"still there").await;
    assert_eq!(dialled.recv().await, Got::Data(1, 0, b"still there".to_vec()));
}

#[tokio::test]
async fn nobody_registers_what_is_anothers_and_no_client_registers_anything() {
    let scene = Scene::new(Limits::default()).await;
    let (mut alice, mut owner, mut stranger) =
        (scene.dial(0).await, scene.dial(2).await, scene.dial(3).await);
    assert_eq!(alice.status(Service::Register, &addresses(&[443])).await, Status::NotPermitted, "a client");
    assert_eq!(register(&mut owner, &addresses(&[443])).await, Status::Ok);
    assert_eq!(register(&mut stranger, &addresses(&[443])).await, Status::Exists, "what another registered");
    // With what the operator registered for the owner, and for the stranger's wish.
    let operators = Registration { destination: super::service(), dial: None };
    let operators = Register { registrations: vec![operators] }.encode();
    assert_eq!(register(&mut stranger, &operators).await, Status::Exists, "what an operator registered");
    assert_eq!(register(&mut stranger, &addresses(&[444])).await, Status::Ok, "what is free");
    // Only who registered it gives it up.
    assert_eq!(register(&mut owner, &addresses(&[])).await, Status::Ok);
    assert_eq!(register(&mut stranger, &addresses(&[443])).await, Status::Ok);
}

/// Passes on one connection to `to`, and keeps what the side that dialled says.
async fn recorder(to: SocketAddr) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = port().await;
    let at = listener.local_addr().unwrap();
    let recording = tokio::spawn(async move {
        let (near, far) = (listener.accept().await.unwrap().0, TcpStream::connect(to).await.unwrap());
        let ((mut from_near, mut to_near), (mut from_far, mut to_far)) =
            (near.into_split(), far.into_split());
        let back = tokio::spawn(async move { tokio::io::copy(&mut from_far, &mut to_near).await });
        let (mut said, mut bytes) = (Vec::new(), vec![0; 4096]);
        while let Ok(n @ 1..) = from_near.read(&mut bytes).await {
            said.extend_from_slice(&bytes[..n]);
            to_far.write_all(&bytes[..n]).await.unwrap();
        }
        back.abort();
        said
    });
    (at, recording)
}

/// What a server says is sealed under its hop: who recorded it all gets nowhere with it, neither on a connection of its
/// own nor in its own hop.
#[tokio::test]
async fn a_recorded_registration_says_nothing_on_another_hop() {
    let scene = Scene::new(Limits::default()).await;
    let relay = scene.relay.local_addr();
    let (at, recording) = recorder(relay).await;
    let mut victim = Peer::dial(at, path(), &scene.keys[3]).await.unwrap();
    assert_eq!(register(&mut victim, &addresses(&[443])).await, Status::Ok);
    drop(victim);
    let said = recording.await.unwrap();
    let mut victim = scene.dial(3).await;
    assert_eq!(register(&mut victim, &addresses(&[])).await, Status::Ok, "it takes it back");

    let mut stranger = TcpStream::connect(relay).await.unwrap();
    stranger.write_all(&said).await.unwrap();
    let mut answer = Vec::new();
    // The relay answers HELLO and closes at FINISH; a reset is an end too.
    let _ = tokio::time::timeout(GUARD, stranger.read_to_end(&mut answer)).await.expect("nobody closes");
    // Behind HELLO, whose body's length stands in its header, and FINISH there is one record: the call.
    let hello = REQUEST_HEADER + usize::from(u16::from_be_bytes([said[22], said[23]]));
    let record = &said[hello + FINISH..];
    let mut thief = scene.dial(2).await;
    thief.stream.write_all(record).await.unwrap();
    let end = thief.recv().await;
    assert!(matches!(end, Got::Close(CloseReason::Protocol) | Got::Eof), "{end:?}");

    // Nobody has the address: it is free for another server.
    let mut other = scene.dial(2).await;
    assert_eq!(register(&mut other, &addresses(&[443])).await, Status::Ok);
}

#[tokio::test]
async fn a_fifth_address_is_refused_in_one_list_and_beside_the_operators() {
    let scene = Scene::new(Limits::default()).await;
    let (mut owner, mut other) = (scene.dial(2).await, scene.dial(3).await);
    let mut five = addresses(&[1, 2, 3, 4]);
    five[0] = 5;
    five.extend_from_slice(&addresses(&[5])[1..]);
    assert_eq!(register(&mut other, &five).await, Status::Malformed);
    assert_eq!(register(&mut other, &addresses(&[1, 2, 3, 4])).await, Status::Ok);
    assert_eq!(
        register(&mut owner, &addresses(&[11, 12, 13, 14])).await,
        Status::Quota,
        "one is the operator's"
    );
    assert_eq!(register(&mut owner, &addresses(&[11, 12, 13])).await, Status::Ok);
    // What it has already is done at once, however often it asks; a change a second is enough.
    for _ in 0..3 {
        assert_eq!(owner.status(Service::Register, &addresses(&[11, 12, 13])).await, Status::Ok);
    }
    assert_eq!(owner.status(Service::Register, &addresses(&[11])).await, Status::Busy);
}
