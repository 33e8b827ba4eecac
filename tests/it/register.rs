//! Servers that tell relays their addresses themselves, over hops that they dial.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsocket::config::{
    Config, DialledBy, Membership, Raida as Addresses, Registration, RelayAddresses, SettingError,
};
use qsocket::keys::Strength;
use qsocket::resolve::Target;
use qsocket::rng::OsRng;
use qsocket::testing::{Raida, principal};
use qsocket::{Endpoint, Health, PathId, QSocketListener, QSocketStream, RaidaKey, Role};
use raida_relay::posts::MemoryPosts;
use raida_relay::{Limits, LocalRaida, LocalServer, Relay, RelayConfig, Server};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Longer than anything here may take by its own clock.
const HANG: Duration = Duration::from_secs(600);

/// What clients know. Nothing listens there where the server dials.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 7, 1)), 7000);

fn registered(config: Config, dialled_by: DialledBy) -> io::Result<Config> {
    Ok(config.with_registration(Registration { address: ADDRESS, dialled_by })?)
}

/// A client that opens a stream to the server at [`ADDRESS`], and both ends of the stream.
async fn open(raida: &Raida, listener: &QSocketListener) -> io::Result<(Endpoint, [QSocketStream; 2])> {
    let client = Endpoint::client(raida.client_config()?)?;
    let to = Target { server: listener.endpoint().principal(), address: ADDRESS };
    timeout(HANG, listener.endpoint().registered(25)).await?;
    let opened = async { tokio::try_join!(client.connect_to(to, "test"), listener.accept()) };
    let (here, (there, _)) = timeout(HANG, opened).await??;
    Ok((client, [here, there]))
}

async fn exchange([here, there]: &mut [QSocketStream; 2], word: &[u8]) -> io::Result<()> {
    let mut got = vec![0; word.len()];
    here.write_all(word).await?;
    timeout(HANG, there.read_exact(&mut got)).await??;
    assert_eq!(got, word);
    there.write_all(word).await?;
    timeout(HANG, here.read_exact(&mut got)).await??;
    assert_eq!(got, word);
    Ok(())
}

async fn intact(stream: &QSocketStream) -> io::Result<()> {
    let mut health = stream.health();
    timeout(HANG, health.wait_for(|health| *health == Health::Intact)).await?.map_err(io::Error::other)?;
    Ok(())
}

async fn behind_a_translator(raida: Raida) -> io::Result<()> {
    let config = registered(raida.server_config()?, DialledBy::Server)?;
    let listener = QSocketListener::bind_with(config, ("127.0.0.1", 0)).await?;
    assert_eq!(listener.local_addr()?, ADDRESS, "what clients are told");
    assert!(listener.ports().iter().all(|at| at.port() == 0), "no port is open");
    timeout(HANG, listener.endpoint().hops_up(25)).await?;
    let (_client, mut ends) = open(&raida, &listener).await?;
    intact(&ends[0]).await?;
    exchange(&mut ends, b"over hops that the server dialled").await?;
    let stats = raida.relays().stats();
    assert_eq!((stats.server_hops, stats.dials), (25, 0), "no relay dialled anybody");
    Ok(())
}

#[tokio::test]
async fn a_server_that_opens_no_port_is_reached_over_the_hops_that_it_dials() -> io::Result<()> {
    behind_a_translator(Raida::start_on_loopback()?).await
}

#[tokio::test(start_paused = true)]
async fn a_server_that_opens_no_port_is_reached_in_memory_too() -> io::Result<()> {
    behind_a_translator(Raida::start()?).await
}

/// One after the other, every relay starts again; it knows what was registered, and the server comes back by itself.
#[tokio::test(start_paused = true)]
async fn relays_that_start_again_know_the_server_that_dials_them() -> io::Result<()> {
    let raida = Raida::start()?;
    let config = registered(raida.server_config()?, DialledBy::Server)?;
    let listener = QSocketListener::bind_with(config, ADDRESS).await?;
    let (client, mut ends) = open(&raida, &listener).await?;
    for path in PathId::all() {
        intact(&ends[0]).await?;
        raida.stop_relay(path).await;
        exchange(&mut ends, b"without one").await?;
        raida.start_relay(path)?;
        timeout(HANG, async { tokio::join!(client.hops_up(25), listener.endpoint().hops_up(25)) }).await?;
    }
    intact(&ends[0]).await?;
    exchange(&mut ends, b"with all").await
}

/// The server dials once to say where it is; from then on the relays dial it, after an outage too.
#[tokio::test(start_paused = true)]
async fn relays_dial_where_the_server_said() -> io::Result<()> {
    let raida = Raida::start()?;
    let config = registered(raida.server_config()?, DialledBy::Relays)?;
    let listener = QSocketListener::bind_with(config, ADDRESS).await?;
    assert_eq!(listener.ports()[24].port(), 7024);
    let dialled = async {
        while raida.relays().stats().dials < 25 || raida.relays().stats().server_hops < 25 {
            tokio::time::advance(Duration::from_millis(100)).await;
        }
    };
    timeout(HANG, dialled).await?;
    let (client, mut ends) = open(&raida, &listener).await?;
    intact(&ends[0]).await?;
    exchange(&mut ends, b"dialled by relays").await?;
    for path in PathId::all() {
        raida.stop_relay(path).await;
    }
    for path in PathId::all() {
        raida.start_relay(path)?;
    }
    timeout(HANG, async { tokio::join!(client.hops_up(25), listener.endpoint().hops_up(25)) }).await?;
    exchange(&mut ends, b"after an outage").await
}

#[tokio::test]
async fn what_cannot_be_registered_is_refused_when_it_is_set() -> io::Result<()> {
    let raida = Raida::start()?;
    let client = raida.config(principal(5), Role::Client)?;
    let one = Registration { address: ADDRESS, dialled_by: DialledBy::Server };
    assert_eq!(client.with_registration(one).err(), Some(SettingError::RegistrationOfClient));
    let server = raida.config(principal(6), Role::Server)?;
    let with = |address: &str, dialled_by| {
        server.clone().with_registration(Registration { address: address.parse().unwrap(), dialled_by })
    };
    assert!(matches!(with("10.0.0.1:0", DialledBy::Server), Err(SettingError::Registration(_))));
    assert!(matches!(with("10.0.0.1:65520", DialledBy::Relays), Err(SettingError::Registration(_))));
    assert!(with("10.0.0.1:65520", DialledBy::Server).is_ok());
    let mut four = Membership::new(server.raida().clone(), server.key().clone())?;
    for port in 1..=4 {
        let address = SocketAddr::new(ADDRESS.ip(), port);
        four = four.with_registration(Registration { address, ..one })?;
        let twice = four.clone().with_registration(Registration { address, ..one });
        assert!(matches!(twice, Err(SettingError::Registration(_))));
    }
    assert_eq!(four.with_registration(one).err(), Some(SettingError::TooManyRegistrations));
    Ok(())
}

/// Keys of one server and some clients, the server first.
fn keys(clients: u32) -> Vec<std::sync::Arc<RaidaKey>> {
    let key = |serial| {
        let role = if serial == 0 { Role::Server } else { Role::Client };
        RaidaKey::generate(principal(serial + 1), role, Strength::Bits256, &mut OsRng).unwrap().into()
    };
    (0..=clients).map(key).collect()
}

fn config(relays: &LocalRaida, key: &std::sync::Arc<RaidaKey>) -> io::Result<Config> {
    let relays = RelayAddresses::from_list(&relays.addresses()).map_err(io::Error::other)?;
    Ok(Config::new(Addresses { network: 1, relays }, key.clone())?)
}

/// Waits until something is so.
async fn until(what: impl Fn() -> bool) -> io::Result<()> {
    let done = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    Ok(timeout(Duration::from_secs(60), done).await?)
}

/// Each relay is two processes with the same numbers. Both number their routes from 1 on, so answers that took the
/// other hop would reach the other client.
#[tokio::test]
async fn two_processes_of_every_relay_reach_a_server_at_once() -> io::Result<()> {
    let keys = keys(2);
    let process = || {
        LocalRaida::builder().start_with_keys(keys.iter().map(|k| &**k), std::iter::empty::<LocalServer>())
    };
    let processes = [process()?, process()?];
    let listener = QSocketListener::bind_with(config(&processes[0], &keys[0])?, "127.0.0.1:0").await?;
    let (server, address) = (listener.endpoint().principal(), listener.local_addr()?);
    for process in &processes {
        process.register((server, address, *listener.ports())).map_err(io::Error::other)?;
    }
    until(|| processes.iter().all(|p| p.stats().server_hops == 25)).await?;
    let (mut clients, mut streams) = (Vec::new(), Vec::new());
    for (process, key) in processes.iter().zip(&keys[1..]) {
        let client = Endpoint::client(config(process, key)?)?;
        let both = async {
            tokio::try_join!(client.connect_to(Target { server, address }, "test"), listener.accept())
        };
        let (here, (there, _)) = timeout(HANG, both).await??;
        intact(&here).await?;
        clients.push(client);
        streams.push([here, there]);
    }
    for round in 0..8 {
        for (i, ends) in streams.iter_mut().enumerate() {
            exchange(ends, format!("round {round} of client {i}").repeat(1000).as_bytes()).await?;
        }
    }
    // Nobody was sent away for the other, and one process goes without the other one's client noticing.
    assert!(processes.iter().all(|p| (p.stats().server_hops, p.stats().dials) == (25, 25)));
    for path in PathId::all() {
        processes[0].stop_relay(path).await;
    }
    until(|| *streams[0][0].health().borrow() != Health::Intact).await?;
    exchange(&mut streams[1], b"over the other one").await?;
    assert_eq!(*streams[1][1].health().borrow(), Health::Intact);
    assert_eq!(*listener.endpoint().health().borrow(), Health::Intact);
    for path in PathId::all() {
        processes[0].start_relay(path)?;
    }
    intact(&streams[0][0]).await?;
    exchange(&mut streams[0], b"with both again").await?;
    exchange(&mut streams[1], b"as ever").await
}

/// Ten processes of relay 0 know the server's number: it keeps hops with eight of them.
#[tokio::test]
async fn a_server_has_a_bounded_number_of_hops_with_one_relay() -> io::Result<()> {
    let keys = keys(0);
    let nobody = LocalRaida::builder()
        .start_with_keys(keys.iter().map(|k| &**k), std::iter::empty::<LocalServer>())?;
    let listener = QSocketListener::bind_with(config(&nobody, &keys[0])?, "127.0.0.1:0").await?;
    let path = PathId::new(0).unwrap();
    let process = || {
        Relay::spawn(RelayConfig {
            path,
            network: 1,
            table: qsocket_proto::raida_key::relay_table([&*keys[0]], path),
            servers: vec![Server {
                principal: keys[0].principal(),
                service: listener.local_addr().unwrap(),
                dial: Some(listener.ports()[0]),
            }],
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
            dial_any_address: true,
            posts: std::sync::Arc::new(MemoryPosts::default()),
            names: raida_relay::names::Registry::default(),
            principals: None,
            limits: Limits::default(),
        })
    };
    let all: Vec<Relay> = (0..10).map(|_| process()).collect::<io::Result<_>>()?;
    until(|| all.iter().all(|relay| relay.stats().dials > relay.stats().dial_failures)).await?;
    let hops = || all.iter().map(|relay| relay.stats().server_hops).sum::<usize>();
    until(|| hops() <= 8).await?;
    until(|| hops() == 8).await
}
