//! What a public async function promises of a future that is dropped before its end: each is polled once, dropped, and
//! called again. Those of streams are in [`behavior`](crate::behavior), where they run on TCP too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::behavior::poll_once;
use qsocket::access::LiveDirectory;
use qsocket::resolve::ConfigNames;
use qsocket::testing::{Raida, target};
use qsocket::{Endpoint, PathId, QSocketListener, RaidaKey};
use qsocket_net::{Socket, Transport};
use raida_relay::names::Registry;
use raida_relay::posts::MemoryPosts;
use raida_relay::{Limits, LocalRaida, LocalServer, Relay, RelayConfig};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

const HANG: Duration = Duration::from_secs(120);

/// How often a future is dropped before one is let to its end.
const DROPS: usize = 20;

const NAME: &str = "server.example:7";

async fn world() -> io::Result<(Raida, QSocketListener, Endpoint)> {
    let raida = Raida::start()?;
    let listener = raida.listener("server.example").await?;
    let client = raida.client()?;
    let hops = async { tokio::join!(client.hops_up(25), listener.endpoint().hops_up(25)) };
    timeout(HANG, hops).await?;
    Ok((raida, listener, client))
}

fn routes(raida: &Raida) -> usize {
    raida.relays().stats().routes
}

/// Waits until clients have so many routes.
async fn routes_are(raida: &Raida, count: usize) -> io::Result<()> {
    let reached = async {
        while routes(raida) != count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(HANG, reached)
        .await
        .map_err(|_| io::Error::other(format!("{} routes, not {count}", routes(raida))))
}

/// `Endpoint::connect`, `connect_with`, `connect_to`: what dropped attempts leave, the next one uses.
#[tokio::test(start_paused = true)]
async fn dropped_connects_leave_one_connection_at_most() -> io::Result<()> {
    let (raida, listener, client) = world().await?;
    let (to, mut names) = (target(&listener)?, ConfigNames::default());
    names.insert("other.example", to)?;
    for _ in 0..DROPS {
        assert!(poll_once(pin!(client.connect(NAME))).await.is_pending());
        assert!(poll_once(pin!(client.connect_with("other.example:7", &names))).await.is_pending());
        assert!(poll_once(pin!(client.connect_to(to, "dropped"))).await.is_pending());
    }
    let connect = async { tokio::try_join!(client.connect_to(to, "kept"), listener.accept()) };
    let (mut here, (mut there, _)) = timeout(HANG, connect).await??;
    assert_eq!(there.resource(), "kept", "none of those that were dropped");
    here.write_all(b"bytes").await?;
    there.read_exact(&mut [0; 5]).await?;
    routes_are(&raida, 25).await
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connect_fresh_ends_its_connection() -> io::Result<()> {
    let (raida, listener, client) = world().await?;
    let to = target(&listener)?;
    for _ in 0..DROPS {
        assert!(poll_once(pin!(client.connect_fresh(to, "dropped"))).await.is_pending());
    }
    // Later too, when the opening is on its way.
    for _ in 0..DROPS {
        let opening = client.connect_fresh(to, "dropped");
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            opened = opening => drop(opened?),
        }
    }
    routes_are(&raida, 0).await?;
    let connect = async { tokio::try_join!(client.connect_fresh(to, "kept"), listener.accept()) };
    let (_here, (there, _)) = timeout(HANG, connect).await??;
    assert_eq!(there.resource(), "kept");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dropped_accepts_lose_no_stream() -> io::Result<()> {
    let (_raida, listener, client) = world().await?;
    let to = target(&listener)?;
    let mut kept = Vec::new();
    for number in 0..DROPS {
        assert!(poll_once(pin!(listener.accept())).await.is_pending());
        kept.push(timeout(HANG, client.connect_to(to, &number.to_string())).await??);
        let (stream, _) = timeout(HANG, listener.accept()).await??;
        assert_eq!(stream.resource(), number.to_string());
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_dropped_hops_up_changes_nothing() -> io::Result<()> {
    let (raida, _listener, client) = world().await?;
    raida.stop_relay(PathId::new(3).unwrap()).await;
    timeout(HANG, client.health().wait_for(|h| h.well() == 24)).await?.map_err(io::Error::other)?;
    for _ in 0..DROPS {
        assert!(poll_once(pin!(client.hops_up(25))).await.is_pending());
    }
    raida.start_relay(PathId::new(3).unwrap())?;
    timeout(HANG, client.hops_up(25)).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_dropped_close_has_ended_the_connections_and_can_be_repeated() -> io::Result<()> {
    let (raida, listener, client) = world().await?;
    let connect =
        async { tokio::try_join!(client.connect_to(target(&listener)?, "test"), listener.accept()) };
    let (mut here, (mut there, _)) = timeout(HANG, connect).await??;
    assert!(poll_once(pin!(client.close())).await.is_pending());
    let ours = timeout(HANG, here.read(&mut [0])).await?.unwrap_err();
    assert_eq!(ours.kind(), ErrorKind::ConnectionAborted);
    // Told, and not by silence.
    let theirs = timeout(Duration::from_secs(5), there.read(&mut [0])).await?.unwrap_err();
    assert_eq!(theirs.kind(), ErrorKind::UnexpectedEof);
    routes_are(&raida, 0).await?;
    timeout(HANG, client.close()).await?;
    let closed = client.connect_to(target(&listener)?, "test").await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::NotConnected);
    Ok(())
}

/// By a name, so that there is something to wait for.
#[tokio::test]
async fn a_dropped_bind_listens_nowhere() -> io::Result<()> {
    let raida = Raida::start_on_loopback()?;
    let config = raida.server_config()?;
    let at = {
        let listener = QSocketListener::bind_with(config.clone(), "127.0.0.1:0").await?;
        *listener.ports()
    };
    let ports = qsocket::config::RelayAddresses::from_list(&at).map_err(io::Error::other)?;
    let listen = qsocket::config::Listen { ports: Some(ports), ..Default::default() };
    for _ in 0..DROPS {
        let config = config.clone().with_listen(listen.clone());
        // Where the name is found at once it is a listener, and is dropped too.
        drop(poll_once(pin!(QSocketListener::bind_with(config, "localhost:0"))).await);
    }
    let bound = timeout(HANG, async {
        loop {
            // The ports of the listener that was dropped are free a moment later.
            match QSocketListener::bind_with(config.clone().with_listen(listen.clone()), "localhost:0").await
            {
                Err(error) if error.kind() == ErrorKind::AddrInUse => tokio::task::yield_now().await,
                bound => return bound,
            }
        }
    });
    assert_eq!(*bound.await??.ports(), at);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dropped_listeners_of_testing_took_no_name() -> io::Result<()> {
    let raida = Raida::start()?;
    for _ in 0..DROPS {
        // In memory it may be done at once; then it is a listener that is dropped.
        if let Poll::Ready(done) = poll_once(pin!(raida.listener("a.example"))).await {
            drop(done?);
            break;
        }
    }
    for _ in 0..DROPS {
        assert!(poll_once(pin!(raida.pair())).await.is_pending());
        assert!(poll_once(pin!(qsocket::testing::pair())).await.is_pending());
    }
    raida.listener_with("b.example", raida.server_config()?).await?;
    let (mut here, mut there) = timeout(HANG, raida.pair()).await??;
    here.write_all(b"x").await?;
    there.read_exact(&mut [0]).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_relay_stops_though_the_wait_for_it_is_dropped() -> io::Result<()> {
    let (raida, _listener, client) = world().await?;
    for number in 0..9 {
        let path = PathId::new(number).unwrap();
        let _ = poll_once(pin!(raida.stop_relay(path))).await;
        assert!(raida.relays().relay_stats(path).is_none());
    }
    timeout(HANG, client.health().wait_for(|h| h.well() == 16)).await?.map_err(io::Error::other)?;
    PathId::all().try_for_each(|path| raida.start_relay(path))?;
    timeout(HANG, client.hops_up(25)).await?;
    Ok(())
}

fn no_one() -> (impl Iterator<Item = &'static RaidaKey>, impl Iterator<Item = LocalServer>) {
    (std::iter::empty(), std::iter::empty())
}

async fn refuses(at: SocketAddr) -> io::Result<()> {
    let refused = async {
        while tokio::net::TcpStream::connect(at).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(HANG, refused).await?;
    Ok(())
}

/// `LocalRaida::stop`, `Relay::stop`, `Relay::drain`: nothing is accepted any more, whoever waits.
#[tokio::test]
async fn relays_accept_no_more_though_their_end_is_dropped() -> io::Result<()> {
    let (keys, servers) = no_one();
    let raida = LocalRaida::builder().start_with_keys(keys, servers)?;
    let addresses = raida.addresses();
    let _ = poll_once(pin!(raida.stop())).await;
    for address in addresses {
        refuses(address).await?;
    }
    let relay = || {
        Relay::spawn(RelayConfig {
            path: PathId::new(0).unwrap(),
            network: 1,
            table: Default::default(),
            servers: Vec::new(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
            dial_any_address: true,
            posts: std::sync::Arc::new(MemoryPosts::default()),
            names: Registry::default(),
            principals: None,
            limits: Limits::default(),
        })
    };
    let stopped = relay()?;
    let at = stopped.local_addr();
    let _ = poll_once(pin!(stopped.stop())).await;
    refuses(at).await?;

    let draining = relay()?;
    let at = draining.local_addr();
    let _stranger = tokio::net::TcpStream::connect(at).await?;
    let _ = poll_once(pin!(draining.drain(HANG))).await;
    refuses(at).await?;
    timeout(HANG, draining.drain(Duration::from_millis(10))).await?;
    Ok(())
}

async fn sockets(transport: &Transport) -> io::Result<()> {
    let ip = Ipv4Addr::LOCALHOST.into();
    let listener = transport.listen(SocketAddr::new(ip, 0))?;
    let at = listener.local_addr()?;
    let mut ends: Option<(Socket, Socket)> = None;
    for _ in 0..DROPS {
        assert!(poll_once(pin!(listener.accept())).await.is_pending());
    }
    let (one, other) = tokio::join!(transport.connect(at), listener.accept());
    let (one, other) = ends.insert((one?, other?.0));
    for _ in 0..DROPS {
        // It may be ready in vain, too.
        let _ = poll_once(pin!(other.readable())).await;
        one.writable().await?;
        assert_eq!(one.try_write(b"x")?, 1);
        let (mut buffer, mut read) = ([0; 8], 0);
        // Until it says that there is no more: before, it need not wait.
        loop {
            match other.try_read(&mut buffer) {
                Ok(n) => read += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock && read == 1 => break,
                Err(e) if e.kind() == ErrorKind::WouldBlock => other.readable().await?,
                Err(e) => return Err(e),
            }
        }
    }
    // Full, until its reader reads. Kernels move bytes for a while and make room again.
    loop {
        while one.try_write(&[7; 1 << 16]).is_ok() {}
        if poll_once(pin!(one.writable())).await.is_pending() {
            break;
        }
    }
    for _ in 0..DROPS {
        let _ = poll_once(pin!(one.writable())).await;
    }
    let reading = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            other.readable().await?;
            while other.try_read(&mut buffer).is_ok() {}
        }
    };
    tokio::select! {
        writable = one.writable() => writable?,
        failed = reading => { let failed: io::Result<()> = failed; failed? }
    }
    // A connect that is dropped may have come to stand: it is closed then, and the next one is another.
    for _ in 0..DROPS {
        let _ = poll_once(pin!(transport.connect(at))).await;
    }
    let again = transport.connect(at).await?;
    again.writable().await?;
    again.try_write(b"again")?;
    loop {
        let (accepted, _) = listener.accept().await?;
        accepted.readable().await?;
        let mut buffer = [0; 8];
        if let Ok(5) = accepted.try_read(&mut buffer) {
            assert_eq!(&buffer[..5], b"again");
            return Ok(());
        }
    }
}

#[tokio::test]
async fn dropped_waits_for_sockets_take_nothing_over_tcp() -> io::Result<()> {
    timeout(HANG, sockets(&Transport::Tcp)).await?
}

#[tokio::test(start_paused = true)]
async fn dropped_waits_for_sockets_take_nothing_in_memory() -> io::Result<()> {
    let raida = Raida::start()?;
    timeout(HANG, sockets(&raida.transport(Ipv4Addr::LOCALHOST.into()))).await?
}

/// `LiveDirectory::watch`: a dropped one leaves the policy as it is, and another goes on.
#[tokio::test]
async fn a_dropped_watch_of_a_policy_leaves_it_in_force() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("policy.toml");
    fs::write(&file, "")?;
    let directory = LiveDirectory::from_file(&file).map_err(io::Error::other)?;
    for _ in 0..DROPS {
        let _ = poll_once(pin!(directory.clone().watch())).await;
    }
    let watched = tokio::spawn(directory.clone().watch());
    tokio::task::yield_now().await;
    watched.abort();
    assert!(watched.await.map_or_else(|e| e.is_cancelled(), |()| true));
    Ok(())
}

fn sources(path: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_public_async_function_says_what_cancelling_it_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for place in ["qsocket/src", "qsocket-net/src", "raida-relay/src", "qsocket-tower/src"] {
        sources(&root.join(place), &mut files);
    }
    let mut found = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut documented = false;
        for line in text.lines().map(str::trim) {
            match line {
                line if line.starts_with("pub async fn ") => {
                    found += 1;
                    assert!(documented, "{}: no `# Cancel safety`: {line}", file.display());
                }
                "/// # Cancel safety" => documented = true,
                line if line.starts_with("///") || line.starts_with("#[") => {}
                _ => documented = false,
            }
        }
    }
    assert!(found > 25, "{found} functions");
}
