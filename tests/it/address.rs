//! A client whose address changes keeps its streams.
//!
//! In front of each relay stands somebody who passes TCP connections on as they are. Once they come to the relays from
//! another address of 127.0.0.0/8 and are cut with a reset, as by a network that changed; once they stay, and the
//! address of the client's own interface changes in a network namespace, so that no connection hears of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::data::Pattern;
use qsocket::config::{Config, Raida as Addresses, RelayAddresses, Tuning};
use qsocket::testing::{NETWORK, Raida, principal, target};
use qsocket::{Endpoint, PathId, QSocketListener, QSocketStream, Role};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// After this a test counts as hung. Generous: the machine may be slow and shared.
const HANG: Duration = Duration::from_secs(240);

const PART: usize = 4 << 20;

/// Who passes connections on to the 25 relays.
struct Doors {
    /// In the order of the relays.
    addresses: Vec<SocketAddr>,
    /// From which address they go on.
    source: watch::Sender<Ipv4Addr>,
    /// From which they came, and from which they went on.
    seen: Arc<Mutex<[BTreeSet<IpAddr>; 2]>>,
    /// Ends with this value.
    _tasks: JoinSet<()>,
}

impl Doors {
    async fn open(raida: &Raida, at: Ipv4Addr, source: Ipv4Addr) -> io::Result<Self> {
        let source = watch::Sender::new(source);
        let seen = Arc::<Mutex<[BTreeSet<IpAddr>; 2]>>::default();
        let (mut addresses, mut tasks) = (Vec::new(), JoinSet::new());
        for relay in raida.relays().addresses() {
            let door = TcpListener::bind((at, 0)).await?;
            addresses.push(door.local_addr()?);
            let (source, seen) = (source.clone(), Arc::clone(&seen));
            tasks.spawn(async move {
                let mut passing = JoinSet::new();
                while let Ok((client, from)) = door.accept().await {
                    // What changes from here on cuts this connection.
                    let mut source = source.subscribe();
                    let ip = *source.borrow_and_update();
                    seen.lock().unwrap()[0].insert(from.ip());
                    seen.lock().unwrap()[1].insert(ip.into());
                    passing.spawn(async move { pass(client, relay, ip, source).await });
                }
            });
        }
        Ok(Self { addresses, source, seen, _tasks: tasks })
    }

    /// Resets every connection; those that follow go on from another address.
    fn change(&self, source: Ipv4Addr) {
        self.source.send_replace(source);
    }

    fn seen(&self) -> [BTreeSet<IpAddr>; 2] {
        self.seen.lock().unwrap().clone()
    }
}

async fn pass(
    mut client: TcpStream,
    relay: SocketAddr,
    source: Ipv4Addr,
    mut changed: watch::Receiver<Ipv4Addr>,
) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let mut relay = socket.connect(relay).await?;
    for stream in [&client, &relay] {
        stream.set_nodelay(true)?;
    }
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut relay) => {}
        _ = changed.changed() => {
            for stream in [&client, &relay] {
                socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
            }
        }
    }
    Ok(())
}

/// 25 relays and a server on loopback, doors before the relays, and the configuration of a client that goes through.
struct World {
    _raida: Raida,
    listener: QSocketListener,
    doors: Doors,
    client: Config,
}

impl World {
    async fn start(at: Ipv4Addr, source: Ipv4Addr) -> io::Result<Self> {
        let raida = Raida::start_on_loopback()?;
        let tuning = Tuning::default().with_idle_timeout(Duration::from_secs(180));
        let server = raida.server_config()?.with_tuning(tuning.clone());
        let listener = raida.listener_with("server.example", server).await?;
        let doors = Doors::open(&raida, at, source).await?;
        let relays = RelayAddresses::from_list(&doors.addresses).map_err(io::Error::other)?;
        let key = raida.config(principal(7), Role::Client)?.key().clone();
        let client = Config::new(Addresses { network: NETWORK, relays }, key)?.with_tuning(tuning);
        Ok(Self { _raida: raida, listener, doors, client })
    }
}

fn ips(last: impl IntoIterator<Item = Ipv4Addr>) -> BTreeSet<IpAddr> {
    last.into_iter().map(IpAddr::V4).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_hops_are_all_reset_and_come_from_another_address_keeps_its_streams() -> io::Result<()>
{
    let address = |last| Ipv4Addr::new(127, 0, 0, last);
    let World { _raida, listener, doors, client } = World::start(address(1), address(2)).await?;
    let client = Endpoint::client(client)?;
    timeout(HANG, client.hops_up(PathId::all().count())).await?;
    let (opened, accepted) = tokio::join!(client.connect_to(target(&listener)?, "test"), listener.accept());
    let (mut here, mut there) = (opened?, accepted?.0);
    let (up, down) = (Pattern::new(5), Pattern::new(6));
    for (round, last) in (0..).zip([3, 4]) {
        let (start, end) = (round * 2 * PART, (round + 1) * 2 * PART);
        let (mut our_reader, mut our_writer) = here.split();
        let (mut their_reader, mut their_writer) = there.split();
        // In the middle of both directions.
        let reading = async {
            up.expect(&mut their_reader, start, start + PART).await?;
            doors.change(address(last));
            up.expect(&mut their_reader, start + PART, end).await
        };
        let all = async {
            tokio::try_join!(
                up.send(&mut our_writer, start, end),
                down.send(&mut their_writer, start, end),
                reading,
                down.expect(&mut our_reader, start, end),
            )
        };
        timeout(HANG, all).await??;
    }
    timeout(HANG, client.hops_up(PathId::all().count())).await?;
    let both = async { tokio::try_join!(here.shutdown(), there.shutdown()) };
    timeout(HANG, both).await??;
    assert_eq!((here.read(&mut [0]).await?, there.read(&mut [0]).await?), (0, 0));
    assert_eq!(doors.seen()[1], ips([2, 3, 4].map(address)), "relays saw the client come from");
    Ok(())
}

/// A network namespace with an interface of its own, which goes with this value.
struct Namespace {
    name: String,
    /// The other end of its interface, here.
    link: String,
}

/// Why there is none.
enum Without {
    /// The program `ip` is not there.
    Program,
    /// The system does not permit it.
    Refused(String),
}

fn ip(arguments: &str) -> Result<(), Without> {
    let Output { status, stderr, .. } =
        Command::new("ip").args(arguments.split(' ')).output().map_err(|e| match e.kind() {
            ErrorKind::NotFound => Without::Program,
            _ => Without::Refused(e.to_string()),
        })?;
    let said = String::from_utf8_lossy(&stderr);
    if status.success() { Ok(()) } else { Err(Without::Refused(format!("ip {arguments}: {}", said.trim()))) }
}

impl Namespace {
    /// Its interface is called `inner` and has the second address, the other end has the first.
    fn new([outer, inner]: [Ipv4Addr; 2]) -> Result<Self, Without> {
        let id = std::process::id();
        let this = Self { name: format!("qsocket-{id}"), link: format!("qs{id}") };
        let Self { name, link } = &this;
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {link} type veth peer name inner netns {name}"))?;
        ip(&format!("addr add {outer}/29 dev {link}"))?;
        ip(&format!("link set {link} up"))?;
        ip(&format!("-n {name} addr add {inner}/29 dev inner"))?;
        ip(&format!("-n {name} link set inner up"))?;
        Ok(this)
    }

    /// The interface has another address from now on.
    fn change(&self, old: Ipv4Addr, new: Ipv4Addr) -> Result<(), Without> {
        let name = &self.name;
        ip(&format!("-n {name} addr del {old}/29 dev inner"))?;
        ip(&format!("-n {name} addr add {new}/29 dev inner"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What was not made is not there to be removed.
        let _ = ip(&format!("link del {}", self.link));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// The namespace, unless this machine has none to give.
fn namespace(addresses: [Ipv4Addr; 2]) -> Option<Namespace> {
    match Namespace::new(addresses) {
        Ok(namespace) => Some(namespace),
        Err(Without::Program) => {
            let required = std::env::var_os("QSOCKET_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
            assert!(!required, "ip is required by QSOCKET_REQUIRE_CLIENTS=1: apt-get install iproute2");
            eprintln!("SKIPPED: no change of address in a network namespace, since ip is not installed");
            None
        }
        Err(Without::Refused(why)) => {
            eprintln!("SKIPPED: no change of address in a network namespace, which wants root: {why}");
            None
        }
    }
}

/// Sends one part, waits for the word, and sends the other.
async fn send(config: Config, to: qsocket::resolve::Target, go_on: oneshot::Receiver<()>) -> io::Result<()> {
    let client = Endpoint::client(config)?;
    let mut stream: QSocketStream = client.connect_to(to, "test").await?;
    let pattern = Pattern::new(7);
    pattern.send(&mut stream, 0, PART).await?;
    go_on.await.map_err(io::Error::other)?;
    pattern.send(&mut stream, PART, 2 * PART).await?;
    stream.shutdown().await?;
    // A stream that is let go of before its end was read stops the other side, in the middle of its own end.
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("nothing was sent this way")),
    }
}

/// No TCP connection of the old address is told that it is gone: hops find out by their keepalive, after 45 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_interface_changes_its_address_keeps_its_streams() -> io::Result<()> {
    const NOTICED: Duration = Duration::from_secs(45);
    let address = |last| Ipv4Addr::new(10, 213, 77, last);
    let Some(namespace) = namespace([address(1), address(2)]) else { return Ok(()) };
    let World { _raida, listener, doors, client } = World::start(address(1), Ipv4Addr::LOCALHOST).await?;
    let (word, go_on) = oneshot::channel();
    let (to, file) = (target(&listener)?, format!("/run/netns/{}", namespace.name));
    let sending = std::thread::spawn(move || {
        // Sockets of this thread, and of a runtime that has no other, are there from now on.
        let there = std::fs::File::open(file)?;
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(there.as_fd(), kind)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { timeout(HANG, send(client, to, go_on)).await? })
    });
    let pattern = Pattern::new(7);
    let (mut stream, _) = timeout(HANG, listener.accept()).await??;
    timeout(HANG, pattern.expect(&mut stream, 0, PART)).await??;
    if let Err(Without::Refused(why)) = namespace.change(address(2), address(3)) {
        panic!("{why}");
    }
    let begun = Instant::now();
    word.send(()).unwrap();
    timeout(HANG, pattern.expect_all(&mut stream, PART, 2 * PART)).await??;
    let took = begun.elapsed();
    assert!(took < NOTICED + Duration::from_secs(30), "{took:?}");
    stream.shutdown().await?;
    tokio::task::spawn_blocking(move || sending.join().unwrap()).await??;
    assert_eq!(doors.seen()[0], ips([2, 3].map(address)), "the client came from");
    Ok(())
}
