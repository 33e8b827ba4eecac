//! Servers that tell relays their addresses themselves, over hops that they dial.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsocket::config::{Config, DialledBy, Membership, Registration, SettingError};
use qsocket::resolve::Target;
use qsocket::testing::{Raida, principal};
use qsocket::{Endpoint, Health, PathId, QSocketListener, QSocketStream, Role};
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
    let both = async { tokio::try_join!(client.connect_to(to, "test"), listener.accept()) };
    let (here, (there, _)) = timeout(HANG, both).await??;
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
            tokio::time::sleep(Duration::from_millis(100)).await;
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
