//! Relays on real sockets against hand-made peers. Nothing here sleeps; timeouts only end tests that hang.

mod calls;
mod change;
mod enrol;
mod names;
mod peer;
mod rotate;

use crate::names::Registry;
use crate::posts::MemoryPosts;
use crate::principals::MemoryPrincipals;
use crate::{Flow, Limits, LocalRaida, LocalServer, Refusal, Relay, RelayConfig, Server};
use peer::{Dialling, GUARD, Got, Peer, key, principal};
use qsocket_proto::frame::{CloseReason, Frame, RouteError};
use qsocket_proto::hop::{HandshakeError, PING_AFTER, REJECT};
use qsocket_proto::ids::{PathId, RELAYS, Role, RouteId};
use qsocket_proto::raida_key::{RaidaKey, relay_table};
use qsocket_proto::relay::EgressLimits;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Far more than the sockets on the way hold.
const MOST_ROUNDS: u32 = 10_000;

const SERVICE: &str = "192.0.2.7:53";

fn path() -> PathId {
    PathId::new(3).unwrap()
}

fn service() -> SocketAddr {
    SERVICE.parse().unwrap()
}

fn relay(keys: &[&RaidaKey], servers: Vec<Server>, limits: Limits) -> Relay {
    let table = relay_table(keys.iter().copied(), path());
    let listen = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let posts = Arc::new(MemoryPosts::default());
    let config = RelayConfig {
        path: path(),
        network: 1,
        table,
        servers,
        listen,
        dial_any_address: true,
        limits,
        posts,
        names: Registry::default(),
        principals: Some(Arc::new(MemoryPrincipals::default())),
    };
    Relay::spawn(config).unwrap()
}

async fn port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn server(key: &RaidaKey, listener: &TcpListener) -> Server {
    Server { principal: key.principal(), service: service(), dial: Some(listener.local_addr().unwrap()) }
}

/// Waits until the other side has closed; says what it sent before.
async fn ended(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(GUARD, stream.read_to_end(&mut all)).await.expect("nobody closes");
    all
}

#[tokio::test]
async fn a_known_number_gets_a_hop_and_everything_else_the_same_refusal() {
    let (client, stranger) = (key(1, Role::Client), key(9, Role::Client));
    let forged = key(1, Role::Client);
    let relay = relay(&[&client], vec![], Limits::default());
    let at = relay.local_addr();

    let mut peer = Peer::dial(at, path(), &client).await.unwrap();
    peer.send(Frame::Ping { token: 77 }).await;
    assert_eq!(peer.recv().await, Got::Pong(77));
    assert_eq!(relay.stats().hops, 1);

    assert_eq!(Peer::dial(at, path(), &forged).await.err(), Some(HandshakeError::Rejected));
    for key in [&forged, &stranger] {
        assert_eq!(Dialling::hello(at, path(), key).await.raw_answer().await, REJECT);
    }
    let other = Dialling::hello(at, PathId::new(4).unwrap(), &client).await;
    assert_eq!(other.raw_answer().await, REJECT, "another relay's port");
    let stats = relay.stats();
    assert_eq!((stats.hops, stats.server_hops, stats.refused.total()), (1, 0, 4));
    // Told apart here, and nowhere on the wire.
    let (wrong, unknown) =
        (stats.refused.get(Refusal::NotAuthentic), stats.refused.get(Refusal::UnknownPrincipal));
    assert_eq!((wrong, unknown), (3, 1));
}

/// OPEN, DATA both ways under other route ids, DETACH; two clients with the same id.
async fn two_clients_reach_one_server() {
    let (a, b, s) = (key(1, Role::Client), key(2, Role::Client), key(7, Role::Server));
    let listener = port().await;
    let relay = relay(&[&a, &b, &s], vec![server(&s, &listener)], Limits::default());
    let mut to = Peer::accept(&listener, path(), &s).await;
    let mut clients = Vec::new();
    for (key, expected) in [(&a, 1), (&b, 2)] {
        let mut peer = Peer::dial(relay.local_addr(), path(), key).await.unwrap();
        let header = peer.open_route(70, path(), key.principal(), s.principal(), service()).await;
        assert_eq!(to.recv().await, Got::Open(expected, header));
        clients.push((peer, expected));
    }
    for (peer, at) in &mut clients {
        let payload = vec![*at as u8; 16_000];
        peer.data(70, 5, &payload).await;
        assert_eq!(to.recv().await, Got::Data(*at, 5, payload.clone()));
        to.data(*at, 9, &payload[..100]).await;
        assert_eq!(peer.recv().await, Got::Data(70, 9, payload[..100].to_vec()));
    }
    let stats = relay.stats();
    assert_eq!((stats.hops, stats.server_hops, stats.routes), (3, 1, 2));
    assert_eq!(stats.to_servers, Flow { bytes: 2 * 16_000, frames: 4 });
    assert_eq!(stats.to_clients, Flow { bytes: 2 * 100, frames: 2 });
    assert_eq!((stats.dials, stats.dial_failures), (1, 0));
    assert_eq!((stats.dropped_bytes, stats.queued_bytes), (0, 0));

    // One ends its route, the other its hop: the server is told of both.
    clients[0].0.send(Frame::Detach { route: RouteId(70) }).await;
    assert_eq!(to.recv().await, Got::Detach(1));
    clients.clear();
    assert_eq!(to.recv().await, Got::Detach(2));
    assert_eq!(relay.stats().routes, 0);
}

#[tokio::test]
async fn two_clients_reach_one_server_on_one_thread() {
    two_clients_reach_one_server().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn two_clients_reach_one_server_on_three_threads() {
    two_clients_reach_one_server().await;
}

#[tokio::test]
async fn what_a_server_did_not_register_is_refused() {
    let (c, s) = (key(1, Role::Client), key(7, Role::Server));
    let listener = port().await;
    let relay = relay(&[&c, &s], vec![server(&s, &listener)], Limits::default());
    let mut to = Peer::accept(&listener, path(), &s).await;
    let mut peer = Peer::dial(relay.local_addr(), path(), &c).await.unwrap();
    let other = "192.0.2.7:80".parse().unwrap();
    let (client, server) = (c.principal(), s.principal());
    peer.open_route(1, path(), client, server, other).await;
    assert_eq!(peer.recv().await, Got::RouteError(1, RouteError::DestinationNotRegistered));
    peer.open_route(2, path(), client, principal(8), service()).await;
    assert_eq!(peer.recv().await, Got::RouteError(2, RouteError::NoSuchServer));
    peer.open_route(3, path(), principal(2), server, service()).await;
    assert_eq!(peer.recv().await, Got::RouteError(3, RouteError::NotYours));
    peer.open_route(4, PathId::new(5).unwrap(), client, server, service()).await;
    assert_eq!(peer.recv().await, Got::RouteError(4, RouteError::BadShare));
    assert_eq!(relay.stats().routes, 0);
    to.send(Frame::Ping { token: 1 }).await;
    assert_eq!(to.recv().await, Got::Pong(1), "the server saw none of it");
}

#[tokio::test]
async fn a_server_that_is_down_is_reported_and_found_when_it_returns() {
    let (c, s) = (key(1, Role::Client), key(7, Role::Server));
    let listener = port().await;
    let at = listener.local_addr().unwrap();
    let known = server(&s, &listener);
    drop(listener);
    let relay = relay(&[&c, &s], vec![known], Limits::default());
    let mut peer = Peer::dial(relay.local_addr(), path(), &c).await.unwrap();
    let (client, server) = (c.principal(), s.principal());
    peer.open_route(1, path(), client, server, service()).await;
    peer.send(Frame::Ping { token: 1 }).await;
    assert_eq!(peer.recv().await, Got::Pong(1));
    assert_eq!(relay.stats().routes, 1);

    // From here on the clock runs only while everybody waits.
    tokio::time::pause();
    let asked = tokio::time::Instant::now();
    assert_eq!(peer.recv().await, Got::RouteError(1, RouteError::ServerUnreachable));
    let waited = asked.elapsed();
    assert!(waited > Duration::from_secs(4) && waited < Duration::from_secs(6), "{waited:?}");
    tokio::time::resume();

    let listener = TcpListener::bind(at).await.unwrap();
    let header = peer.open_route(2, path(), client, server, service()).await;
    peer.data(2, 0, b"early").await;
    let mut to = Peer::accept(&listener, path(), &s).await;
    assert_eq!(to.recv().await, Got::Open(1, header));
    assert_eq!(to.recv().await, Got::Data(1, 0, b"early".to_vec()));
}

#[tokio::test]
async fn a_server_that_does_not_read_costs_only_its_own_routes() {
    let (c, a, b) = (key(1, Role::Client), key(7, Role::Server), key(8, Role::Server));
    let (at_a, at_b) = (port().await, port().await);
    let relay = relay(&[&c, &a, &b], vec![server(&a, &at_a), server(&b, &at_b)], Limits::default());
    let mut stuck = Peer::accept(&at_a, path(), &a).await;
    let mut well = Peer::accept(&at_b, path(), &b).await;
    let mut peer = Peer::dial(relay.local_addr(), path(), &c).await.unwrap();
    peer.open_route(1, path(), c.principal(), a.principal(), service()).await;
    peer.open_route(2, path(), c.principal(), b.principal(), service()).await;
    assert!(matches!(stuck.recv().await, Got::Open(..)));
    assert!(matches!(well.recv().await, Got::Open(..)));

    let payload = [5; 16 * 1024];
    let (mut congested, mut after) = (0, 0);
    for round in 0..MOST_ROUNDS {
        peer.data(1, round, &payload).await;
        peer.data(2, round, &payload).await;
        assert_eq!(well.recv().await, Got::Data(1, round, payload.to_vec()), "all of it, in order");
        while let Some(got) = peer.arrived() {
            let Got::Congested(1, bytes) = got else { panic!("{got:?}") };
            congested += bytes as usize;
        }
        after += usize::from(congested > 0);
        if after == 200 {
            break;
        }
    }
    assert_eq!(after, 200, "the stuck server was not noticed");
    let stats = relay.stats();
    assert!(stats.dropped_bytes >= payload.len() as u64);
    let limits = Limits::default().egress;
    assert!(stats.queued_bytes <= limits.route + limits.outbox + 64 * 1024, "{stats:?}");
    // What was not dropped arrives when the server reads again.
    assert_eq!(stuck.recv().await, Got::Data(1, 0, payload.to_vec()));
}

#[tokio::test]
async fn a_server_that_reads_nothing_for_too_long_is_dropped() {
    let (c, s) = (key(1, Role::Client), key(7, Role::Server));
    let listener = port().await;
    let limits = Limits { stalled: Duration::from_millis(100), ..Limits::default() };
    let relay = relay(&[&c, &s], vec![server(&s, &listener)], limits);
    let mut stuck = Peer::accept(&listener, path(), &s).await;
    let mut peer = Peer::dial(relay.local_addr(), path(), &c).await.unwrap();
    peer.open_route(1, path(), c.principal(), s.principal(), service()).await;
    assert!(matches!(stuck.recv().await, Got::Open(..)));
    let mut rounds = 0;
    while !matches!(peer.arrived(), Some(Got::Congested(1, _))) {
        peer.data(1, 0, &[5; 16 * 1024]).await;
        rounds += 1;
        assert!(rounds < MOST_ROUNDS, "nothing is reported as dropped");
    }
    loop {
        match peer.recv().await {
            Got::Congested(1, _) => {}
            got => break assert_eq!(got, Got::RouteError(1, RouteError::Lost)),
        }
    }
}

#[tokio::test]
async fn a_servers_newer_hop_replaces_the_older() {
    let (c, s) = (key(1, Role::Client), key(7, Role::Server));
    let known = Server { principal: s.principal(), service: service(), dial: None };
    let relay = relay(&[&c, &s], vec![known], Limits::default());
    let at = relay.local_addr();
    let mut old = Peer::dial(at, path(), &s).await.unwrap();
    let mut peer = Peer::dial(at, path(), &c).await.unwrap();
    peer.open_route(1, path(), c.principal(), s.principal(), service()).await;
    assert!(matches!(old.recv().await, Got::Open(1, _)));

    // A HELLO alone, and a forged one, replace nothing.
    let half = Dialling::hello(at, path(), &s).await;
    let forged = Peer::dial(at, path(), &key(7, Role::Server)).await;
    assert_eq!(forged.err(), Some(HandshakeError::Rejected));
    peer.data(1, 0, b"still").await;
    assert_eq!(old.recv().await, Got::Data(1, 0, b"still".to_vec()));

    let mut new = half.finish().await.unwrap();
    assert_eq!(old.recv().await, Got::Close(CloseReason::Replaced));
    assert_eq!(old.recv().await, Got::Eof);
    assert_eq!(peer.recv().await, Got::RouteError(1, RouteError::Lost));
    peer.open_route(1, path(), c.principal(), s.principal(), service()).await;
    assert!(matches!(new.recv().await, Got::Open(1, _)));
}

#[tokio::test]
async fn strangers_are_closed_by_their_first_wrong_byte_or_by_the_deadline() {
    let limits = Limits { handshake: Duration::from_millis(200), ..Limits::default() };
    let client = key(1, Role::Client);
    let relay = relay(&[&client], vec![], limits);
    let at = relay.local_addr();

    let junk = TcpStream::connect(at).await.unwrap();
    junk.writable().await.unwrap();
    junk.try_write(&[0x47; 32]).unwrap();
    assert_eq!(ended(junk).await, REJECT);

    let silent = TcpStream::connect(at).await.unwrap();
    assert_eq!(ended(silent).await, b"");
    let half = Dialling::hello(at, path(), &client).await;
    assert!(!half.raw_answer().await.is_empty(), "ACCEPT, and then the end");
    let stats = relay.stats();
    assert_eq!((stats.refused.total(), stats.hops), (3, 0));
    assert_eq!((stats.refused.get(Refusal::Malformed), stats.refused.get(Refusal::TimedOut)), (1, 2));
}

#[tokio::test]
async fn an_address_holds_64_connections_and_gives_them_back() {
    let client = key(1, Role::Client);
    let often = NonZeroU32::new(1_000_000).unwrap();
    let limits = Limits { handshakes_per_second: often, ..Limits::default() };
    let relay = relay(&[&client], vec![], limits);
    let at = relay.local_addr();
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(TcpStream::connect(at).await.unwrap());
    }
    assert_eq!(ended(TcpStream::connect(at).await.unwrap()).await, b"");
    let stats = relay.stats();
    assert_eq!((stats.connections, stats.refused.total(), stats.refused.get(Refusal::Address)), (64, 1, 1));
    held.truncate(1);
    let again = async {
        loop {
            let stream = TcpStream::connect(at).await.unwrap();
            // A connection that is held answers wrong bytes.
            stream.writable().await.unwrap();
            let _ = stream.try_write(&[0x47; 32]);
            if ended(stream).await == REJECT {
                break;
            }
        }
    };
    tokio::time::timeout(GUARD, again).await.expect("places are not given back");
}

/// Says nothing, from the `n`-th address of many.
async fn half_open(at: SocketAddr, n: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 1, 0, n], 0))).unwrap();
    socket.connect(at).await.unwrap()
}

/// However many silent connections there are, from however many addresses: a hop that stands stays, and a new one gets
/// in.
async fn half_open_ones_give_way(limits: Limits, most: usize) {
    let client = key(1, Role::Client);
    let relay = relay(&[&client], vec![], limits);
    let at = relay.local_addr();
    let mut before = Peer::dial(at, path(), &client).await.unwrap();
    let mut silent = Vec::new();
    for n in 1..=200 {
        silent.push(half_open(at, n).await);
    }
    let mut after = Peer::dial(at, path(), &client).await.unwrap();
    for peer in [&mut before, &mut after] {
        peer.send(Frame::Ping { token: 5 }).await;
        assert_eq!(peer.recv().await, Got::Pong(5));
    }
    let stats = relay.stats();
    assert_eq!((stats.hops, stats.refused.total()), (2, stats.refused.get(Refusal::GaveWay)));
    assert!(stats.connections <= most && stats.refused.total() >= 200 - most as u64, "{stats:?}");
    // The oldest are closed, and the newest are not.
    assert_eq!(ended(silent.remove(0)).await, b"");
    let newest = silent.pop().unwrap();
    assert!(newest.try_read(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
}

#[tokio::test]
async fn the_oldest_of_too_many_handshakes_gives_way() {
    half_open_ones_give_way(Limits { handshakes: 16, ..Limits::default() }, 2 + 16).await;
}

#[tokio::test]
async fn connections_that_said_nothing_give_way_when_a_relay_is_full() {
    half_open_ones_give_way(Limits { connections: 16, ..Limits::default() }, 16).await;
}

#[tokio::test]
async fn a_flood_from_one_address_is_cut_off_and_another_address_gets_its_hop() {
    const FLOOD: u64 = 200;
    let client = key(1, Role::Client);
    let limits = Limits { handshakes_per_second: NonZeroU32::MIN, hops_per_address: 8, ..Limits::default() };
    let relay = relay(&[&client], vec![], limits);
    let at = relay.local_addr();
    let start = Instant::now();
    for _ in 0..FLOOD {
        let mut flooder = TcpStream::connect(at).await.unwrap();
        // Those that are let in are refused by their first bytes; the others may be closed already.
        let _ = flooder.write_all(&[0x47; 32]).await;
        let answer = ended(flooder).await;
        assert!(answer == REJECT || answer.is_empty(), "{answer:?}");
    }
    let refused = relay.stats().refused;
    let let_in = FLOOD - refused.get(Refusal::Rate);
    assert!((8..=8 + start.elapsed().as_secs() + 1).contains(&let_in), "{refused:?}");
    assert_eq!(refused.total(), FLOOD, "and none of them is a hop");

    let mut peer = Dialling::hello_from("127.0.0.2", at, path(), &client).await.finish().await.unwrap();
    peer.send(Frame::Ping { token: 5 }).await;
    assert_eq!(peer.recv().await, Got::Pong(5));
    let stats = relay.stats();
    assert_eq!((stats.hops, stats.refused), (1, refused));
}

#[tokio::test]
async fn dials_that_fail_are_counted_until_one_leads_to_a_hop() {
    let s = key(7, Role::Server);
    let listener = port().await;
    let relay = relay(&[&s], vec![server(&s, &listener)], Limits::default());
    for round in 1..=2 {
        // Taken and closed: no handshake.
        drop(tokio::time::timeout(GUARD, listener.accept()).await.expect("the relay does not dial"));
        while relay.stats().dial_failures < round {
            tokio::task::yield_now().await;
        }
        assert_eq!((relay.stats().dials, relay.stats().dial_failures_in_a_row), (round, round));
    }
    let mut to = Peer::accept(&listener, path(), &s).await;
    to.send(Frame::Ping { token: 1 }).await;
    assert_eq!(to.recv().await, Got::Pong(1));
    let stats = relay.stats();
    assert_eq!((stats.dials, stats.dial_failures, stats.dial_failures_in_a_row), (3, 2, 0));
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_then_closed() {
    let client = key(1, Role::Client);
    let relay = relay(&[&client], vec![], Limits::default());
    let mut peer = Peer::dial(relay.local_addr(), path(), &client).await.unwrap();
    peer.send(Frame::Ping { token: 1 }).await;
    assert_eq!(peer.recv().await, Got::Pong(1));
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    assert_eq!(peer.recv().await, Got::Ping(1));
    assert!(start.elapsed() >= PING_AFTER - Duration::from_secs(1));
    assert_eq!(peer.recv().await, Got::Ping(2));
    assert_eq!(peer.recv().await, Got::Close(CloseReason::Unresponsive));
    assert_eq!(peer.recv().await, Got::Eof);
    assert_eq!(relay.stats().hops, 0);
}

fn raida(keys: &[&RaidaKey], servers: &[LocalServer]) -> LocalRaida {
    LocalRaida::builder().start_with_keys(keys.iter().copied(), servers.iter().copied()).unwrap()
}

#[tokio::test]
async fn all_25_run_on_one_thread_and_one_stops_and_starts_at_its_port() {
    let (c, s) = (key(1, Role::Client), key(7, Role::Server));
    let mut listeners = Vec::new();
    for _ in 0..RELAYS {
        listeners.push(port().await);
    }
    let dial = std::array::from_fn(|i| listeners[i].local_addr().unwrap());
    let raida = raida(&[&c], &[]);
    raida.add_key(&s);
    raida.register((s.principal(), service(), dial)).unwrap();
    let addresses = raida.addresses();
    let mut pairs = Vec::new();
    for p in PathId::all() {
        let mut to = Peer::accept(&listeners[p.index()], p, &s).await;
        let mut peer = Peer::dial(addresses[p.index()], p, &c).await.unwrap();
        let header = peer.open_route(1, p, c.principal(), s.principal(), service()).await;
        assert_eq!(to.recv().await, Got::Open(1, header));
        pairs.push((peer, to));
    }
    assert_eq!((raida.stats().hops, raida.stats().routes), (50, 25));

    let at = addresses[path().index()];
    raida.stop_relay(path()).await;
    let (peer, to) = &mut pairs[path().index()];
    assert_eq!((peer.recv().await, to.recv().await), (Got::Eof, Got::Eof));
    let refused = TcpStream::connect(at).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!((raida.relay_stats(path()), raida.stats().hops), (None, 48));

    raida.start_relay(path()).unwrap();
    let mut to = Peer::accept(&listeners[path().index()], path(), &s).await;
    let mut peer = Peer::dial(at, path(), &c).await.unwrap();
    let header = peer.open_route(1, path(), c.principal(), s.principal(), service()).await;
    assert_eq!(to.recv().await, Got::Open(1, header));
    raida.stop().await;
    assert_eq!(peer.recv().await, Got::Eof);
}

#[tokio::test]
async fn a_frozen_relay_keeps_its_sockets_and_does_nothing_until_it_thaws() {
    let c = key(1, Role::Client);
    let raida = raida(&[&c], &[]);
    let addresses = raida.addresses();
    let mut before = Peer::dial(addresses[3], path(), &c).await.unwrap();
    before.send(Frame::Ping { token: 1 }).await;
    assert_eq!(before.recv().await, Got::Pong(1));
    raida.freeze(path());
    before.send(Frame::Ping { token: 2 }).await;
    let frozen = Dialling::hello(addresses[3], path(), &c).await;
    for p in PathId::all().filter(|p| *p != path()) {
        let mut other = Peer::dial(addresses[p.index()], p, &c).await.unwrap();
        other.send(Frame::Ping { token: 3 }).await;
        assert_eq!(other.recv().await, Got::Pong(3));
    }
    assert_eq!(before.arrived(), None);
    assert!(frozen.unanswered());
    raida.thaw(path());
    assert_eq!(before.recv().await, Got::Pong(2));
    let mut late = frozen.finish().await.unwrap();
    late.send(Frame::Ping { token: 4 }).await;
    assert_eq!(late.recv().await, Got::Pong(4));
}

#[tokio::test]
async fn relays_run_on_another_runtime_and_dropping_them_ends_their_hops() {
    let c = key(1, Role::Client);
    let own = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let raida = LocalRaida::builder()
        .runtimes(vec![own.handle().clone()])
        .start_with_keys([&c], Vec::<LocalServer>::new())
        .unwrap();
    let mut peer = Peer::dial(raida.addresses()[0], PathId::new(0).unwrap(), &c).await.unwrap();
    peer.send(Frame::Ping { token: 1 }).await;
    assert_eq!(peer.recv().await, Got::Pong(1));
    drop(raida);
    assert_eq!(peer.recv().await, Got::Eof);
    own.shutdown_background();
}

#[tokio::test]
async fn a_full_hop_drops_and_reports_but_never_closes() {
    let (c, s) = (key(1, Role::Client), key(7, Role::Server));
    let listener = port().await;
    let egress = EgressLimits { route: 32 * 1024, hop: 64 * 1024, outbox: 16 * 1024 };
    let relay = relay(&[&c, &s], vec![server(&s, &listener)], Limits { egress, ..Limits::default() });
    let mut to = Peer::accept(&listener, path(), &s).await;
    let mut peer = Peer::dial(relay.local_addr(), path(), &c).await.unwrap();
    for route in 1..=4 {
        peer.open_route(route, path(), c.principal(), s.principal(), service()).await;
        assert!(matches!(to.recv().await, Got::Open(..)));
    }
    let mut congested = [false; 5];
    let mut rounds = 0;
    while congested[1..].contains(&false) {
        rounds += 1;
        assert!(rounds < MOST_ROUNDS, "not every route is reported: {congested:?}");
        for route in 1..=4 {
            peer.data(route, 0, &[1; 8 * 1024]).await;
        }
        while let Some(got) = peer.arrived() {
            let Got::Congested(route, _) = got else { panic!("{got:?}") };
            congested[route as usize] = true;
        }
    }
    let held = relay.stats().queued_bytes;
    assert!(held <= egress.hop + egress.outbox + 16 * 1024, "{held}");
    // Control still passes, and the hop stands.
    peer.send(Frame::Detach { route: RouteId(4) }).await;
    loop {
        match to.recv().await {
            Got::Data(..) => {}
            got => break assert_eq!(got, Got::Detach(4)),
        }
    }
}
