//! The local proxy, with curl and reqwest in front of it and axum behind it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use qsocket::testing::Raida;
use qsocket_examples::local::{NAME, Network};
use qsocket_examples::proxy::{Forward, Limits, Proxy};
use qsocket_tower::PeerInfo;
use qsocket_tower::axum::{AxumListener, Peer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The proxy's request for `server.example:80`, with the greeting before it.
fn asking() -> Vec<u8> {
    let name = [&[NAME.len() as u8], NAME.as_bytes()].concat();
    [&[5, 1, 0, 5, 1, 0, 3], name.as_slice(), &[0, 80]].concat()
}

/// Its answer.
const ACCEPTED: [u8; 12] = [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

struct World {
    proxy: SocketAddr,
    network: Network,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl World {
    async fn start(limits: Limits) -> Self {
        let network = Network::start().await.unwrap();
        let proxy = Proxy::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, stop) = (proxy.local_addr().unwrap(), CancellationToken::new());
        let running = tokio::spawn(proxy.run(network.client.clone(), limits, stop.clone()));
        Self { proxy: address, network, stop, running }
    }

    /// The proxy in front of an axum that tells who asks.
    async fn with_axum() -> Served {
        let Self { proxy, network, stop, .. } = Self::start(Limits::default()).await;
        let Network { raida, listener, client, .. } = network;
        let router = Router::new().route("/", get(async |Peer(peer): Peer| peer.principal.to_string()));
        let service = router.into_make_service_with_connect_info::<PeerInfo>();
        let expected = client.principal().to_string();
        tokio::spawn(async { axum::serve(AxumListener::new(listener), service).await });
        Served { proxy, expected, client, stop, _raida: raida }
    }
}

struct Served {
    proxy: SocketAddr,
    expected: String,
    client: qsocket::Endpoint,
    stop: CancellationToken,
    _raida: Raida,
}

/// The body of a resource, by way of a local proxy's Unix socket.
async fn fetch(socket: &Path, path: &str) -> reqwest::Result<String> {
    let client = reqwest::Client::builder().unix_socket(socket).build()?;
    // The host is not looked up: the socket leads to one server.
    let response = client.get(format!("http://web.example{path}")).send().await?;
    response.error_for_status()?.text().await
}

/// Runs curl, and gives its exit code and what it printed.
async fn curl(arguments: &[&str]) -> Option<(i32, String)> {
    let curl = Command::new("curl").args(["--silent", "--max-time", "30"]).args(arguments).output().await;
    match curl {
        Ok(output) => Some((output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let required = std::env::var_os("QSOCKET_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
            assert!(!required, "curl is required by QSOCKET_REQUIRE_CLIENTS=1: apt-get install curl");
            // Not by `eprintln!`, which the test harness would keep to itself.
            let _unheard = writeln!(io::stderr(), "skipped: apt-get install curl");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_by_name() {
    let world = World::with_axum().await;
    let proxy = world.proxy.to_string();
    let url = format!("http://{NAME}/");
    let Some(answer) = curl(&["--socks5-hostname", &proxy, &url]).await else { return };
    assert_eq!(answer, (0, world.expected));

    // What the configuration does not know is refused, also where TCP would reach it.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for url in ["http://other.example/".to_owned(), format!("http://{}/", plain.local_addr().unwrap())] {
        // 97: the proxy refused.
        let answer = curl(&["--socks5-hostname", &proxy, &url]).await.unwrap();
        assert_eq!(answer, (97, String::new()), "{url}");
    }
    let nobody = tokio::time::timeout(Duration::ZERO, plain.accept()).await;
    assert!(nobody.is_err(), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket() {
    let world = World::with_axum().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web");
    let forward = Forward::bind(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Forward::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    // Nothing else is left in the folder.
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    let stop = world.stop.clone();
    let running = forward.run(world.client.clone(), format!("{NAME}:80"), Limits::default(), stop.clone());
    let running = tokio::spawn(running);

    assert_eq!(fetch(&path, "/").await.unwrap(), world.expected);
    assert!(fetch(&path, "/missing").await.unwrap_err().is_status());
    if let Some(answer) = curl(&["--unix-socket", path.to_str().unwrap(), "http://anything/"]).await {
        assert_eq!(answer, (0, world.expected));
    }
    stop.cancel();
    running.await.unwrap();
    assert!(!path.exists() && UnixStream::connect(&path).await.is_err());
}

#[tokio::test]
async fn only_loopback_is_listened_at() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = Proxy::bind(address.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_sent_away() {
    let limits = Limits { connections: 1, handshake: Duration::from_millis(100) };
    let world = World::start(limits).await;
    let mut silent = TcpStream::connect(world.proxy).await.unwrap();
    silent.write_all(&[5]).await.unwrap();
    // It holds the one place until its time is up, and no longer.
    let mut next = TcpStream::connect(world.proxy).await.unwrap();
    next.write_all(&asking()).await.unwrap();
    let mut answer = [0; ACCEPTED.len()];
    next.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, ACCEPTED);
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
}

/// The attack: what was cut on its way must not look complete to a program behind the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_passed_on_and_a_cut_is_a_reset() {
    let world = World::start(Limits::default()).await;
    for cut in [false, true] {
        let mut client = TcpStream::connect(world.proxy).await.unwrap();
        client.write_all(&asking()).await.unwrap();
        client.read_exact(&mut [0; ACCEPTED.len()]).await.unwrap();
        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut server, _) = world.network.listener.accept().await.unwrap();
        assert_eq!(server.resource(), format!("{NAME}:80"));
        let mut asked = String::new();
        server.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "ask");
        server.write_all(b"answer").await.unwrap();
        client.read_exact(&mut [0; 6]).await.unwrap();
        if cut {
            drop(server);
            let error = client.read(&mut [0; 1]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        } else {
            server.shutdown().await.unwrap();
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        }
    }

    // Stopping the proxy cuts what is open, too.
    let mut client = TcpStream::connect(world.proxy).await.unwrap();
    client.write_all(&asking()).await.unwrap();
    client.read_exact(&mut [0; ACCEPTED.len()]).await.unwrap();
    client.write_all(b"ask").await.unwrap();
    let (mut server, _) = world.network.listener.accept().await.unwrap();
    server.read_exact(&mut [0; 3]).await.unwrap();
    world.stop.cancel();
    world.running.await.unwrap();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_says_whose_fault_it_is() {
    let world = World::start(Limits::default()).await;
    // An address that the configuration does not know: 2, not allowed.
    let mut client = TcpStream::connect(world.proxy).await.unwrap();
    client.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 80]).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [5, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0]);
}
