//! One relay and many principals: whether it uses all cores, and what those cost who do not send.
//!
//! The hops are made by hand, so that clients and servers cost little and one relay is enough. A client sends only what
//! the relay has room for, as windows would have it in time: nothing is dropped.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use qsocket::{PathId, Principal, RaidaKey};
use qsocket_files::rng::OsRng;
use qsocket_proto::crypto::schedule::hop::ImportedKey;
use qsocket_proto::crypto::secret::Secret;
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::{
    Dial, Dialer, DialledBy, Established, HopLimits, Inbox, Opener, Outbox, Principals, Responder, Sealer,
};
use qsocket_proto::ids::{ConnectionId, RELAYS, Role, RouteId};
use qsocket_proto::open::{MlKem, OpenHeader};
use qsocket_proto::share::{self, Tree};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::figures::{Bound, Goal, Summary};
use super::table::Row;
use crate::party::{self, Process};

/// Payload of a frame: a stripe of a large block.
const FRAME: usize = 16 * 1024;

/// Frames of a client under way: below what a relay queues for a route.
const UNDER_WAY: usize = 8;

/// Frames under way to one server: half of what a relay queues for a hop.
const UNDER_WAY_TO_ONE: usize = 128;

/// Servers, so that no hop is all that the relay has to write to.
const SERVERS: u16 = 4;

/// Principals in all.
const MANY: usize = 1000;

/// How many of them send where most are idle.
const FEW: usize = 16;

/// Bytes that all who send send together, at most.
const BYTES: u64 = 256 << 20;

/// A transfer takes seconds; after this it counts as hung.
const HANG: Duration = Duration::from_secs(120);

/// The one relay.
const PATH: usize = 0;

/// Who is there.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    sending: usize,
    idle: usize,
}

const ALONE: Crowd = Crowd { sending: FEW, idle: 0 };
const CROWDS: [Crowd; 3] =
    [ALONE, Crowd { sending: FEW, idle: MANY - FEW }, Crowd { sending: MANY, idle: 0 }];

/// What one transfer cost the relay.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Bytes forwarded for each second of CPU.
    forwarded: f64,
    /// The part of its CPU that its busiest thread had.
    busiest: f64,
}

/// The rows of `--relay` that are about one relay alone; `proxy` is what HAProxy forwards for a second of CPU, by round.
pub(super) fn measure(rounds: usize, bytes: u64, proxy: &[f64]) -> Result<Vec<Row>> {
    let (clients, path) = (u16::try_from(MANY)?, PathId::all().nth(PATH).context("no such relay")?);
    let threads = thread::available_parallelism()?.get();
    let folder = party::provision(clients, SERVERS)?;
    let keys = party::keys(folder.path())?;
    let arguments = ["relay".to_owned(), folder.path().display().to_string(), threads.to_string()];
    let (mut relay, at) = Process::start(&arguments)?;
    let at: SocketAddr = at.parse()?;

    let (told, mut servers) = mpsc::channel(usize::from(SERVERS));
    let shared: Vec<_> = (0..SERVERS).map(|_| Arc::new(Semaphore::new(UNDER_WAY_TO_ONE))).collect();
    let clients = keys.clients.iter().zip(shared.iter().cycle());
    let windows: Windows = clients.map(|(key, shared)| (key.principal(), Window::new(shared))).collect();
    let windows = Arc::new(windows);
    let (of_servers, server_keys) = (Arc::clone(&windows), keys.servers);
    thread::Builder::new().name("servers".to_owned()).spawn(move || {
        let ended = current_thread()?.block_on(serve(server_keys, path, of_servers, told));
        ended.inspect_err(|error| eprintln!("the servers stopped: {error:#}"))
    })?;
    let mut known = Vec::new();
    for _ in 0..SERVERS {
        let (principal, address) = servers.blocking_recv().context("the servers stopped")?;
        // Where a service is said to be is where its relay dials, which is as good as any.
        let dial = party::join(&[address; RELAYS]);
        relay.ask(&format!("register {principal} {address} {dial}"))?;
        known.push((principal, address));
    }

    let runtime = current_thread()?;
    let mut costs = CROWDS.map(|_| Vec::new());
    // The first round does not count.
    for round in 0..=rounds {
        for turn in 0..CROWDS.len() {
            let index = (round + turn) % CROWDS.len();
            let crowd = CROWDS[index];
            let transfer = async {
                let mut hops = Vec::new();
                for (nth, key) in keys.clients.iter().take(crowd.sending + crowd.idle).enumerate() {
                    hops.push(Hop::dial(at, path, key, nth).await.with_context(|| format!("client {nth}"))?);
                }
                let idle = hops.split_off(crowd.sending);
                let before = Before::look(&mut relay)?;
                send_all(hops, &keys.clients, path, &known, &windows, bytes.min(BYTES)).await?;
                let cost = before.until_now(&mut relay)?;
                drop(idle);
                anyhow::Ok(cost)
            };
            let cost = runtime.block_on(async { timeout(HANG, transfer).await });
            let cost = cost.map_err(|_| anyhow!("{crowd:?}: no progress for {HANG:?}"))??;
            if round > 0 {
                costs[index].push(cost);
            }
        }
        eprintln!("principals: round {round} of {rounds}");
    }
    Ok(rows(&costs, proxy, threads))
}

fn rows([alone, beside_idle, all]: &[Vec<Cost>; 3], proxy: &[f64], threads: usize) -> Vec<Row> {
    let of = |costs: &[Cost], value: fn(&Cost) -> f64| Summary::of(costs.iter().map(value));
    let against = |costs: &[Cost]| {
        let ratios = costs.iter().zip(alone).map(|(cost, alone)| cost.forwarded / alone.forwarded);
        Summary::of(ratios)
    };
    let row = |figure: String, costs: &[Cost], goal| Row {
        figure,
        mode: "one relay".to_owned(),
        ours: of(costs, |cost| cost.forwarded / 1e9),
        peer: of(alone, |cost| cost.forwarded / 1e9).map(|value| (Some(format!("{FEW} alone")), value)),
        ratio: against(costs),
        goal,
        beside: Vec::new(),
    };
    let idle = MANY - FEW;
    vec![
        Row {
            figure: format!(
                "P8 forwarded by one relay with all the traffic of {FEW} principals, GB a CPU second"
            ),
            mode: "one relay".to_owned(),
            ours: of(alone, |cost| cost.forwarded / 1e9),
            peer: Summary::of(proxy.iter().map(|forwarded| forwarded / 1e9)).map(|value| (None, value)),
            ratio: Summary::of(alone.iter().zip(proxy).map(|(cost, proxy)| cost.forwarded / proxy)),
            goal: Some(Goal::ratio(Bound::AtLeast(1.5))),
            beside: Vec::new(),
        },
        row(
            format!("forwarded for {FEW} principals beside {idle} idle ones, GB a CPU second"),
            beside_idle,
            Some(Goal::ratio(Bound::AtLeast(0.9))),
        ),
        row(format!("forwarded for {MANY} principals that all send, GB a CPU second"), all, None),
        Row {
            figure: format!("its busiest of {threads} threads, part of its CPU with {MANY} that send"),
            mode: "one relay".to_owned(),
            ours: of(all, |cost| cost.busiest),
            // Without a second thread there is nothing to share.
            goal: (threads > 1).then(|| Goal::value(Bound::AtMost(1.5 / threads as f64), "of all")),
            ..Row::default()
        },
    ]
}

/// What a client may send.
struct Window {
    own: Semaphore,
    /// Of all clients of the server.
    shared: Arc<Semaphore>,
}

/// By client.
type Windows = BTreeMap<Principal, Window>;

impl Window {
    fn new(shared: &Arc<Semaphore>) -> Self {
        Self { own: Semaphore::new(UNDER_WAY), shared: Arc::clone(shared) }
    }

    /// Takes room for a frame, if there is some.
    fn take(&self) -> bool {
        let (Ok(own), Ok(shared)) = (self.own.try_acquire(), self.shared.try_acquire()) else { return false };
        own.forget();
        shared.forget();
        true
    }

    /// Waits for it.
    async fn wait(&self) -> Result<()> {
        self.own.acquire().await?.forget();
        self.shared.acquire().await?.forget();
        Ok(())
    }

    fn give(&self, frames: usize) {
        self.own.add_permits(frames);
        self.shared.add_permits(frames);
    }
}

fn current_thread() -> Result<runtime::Runtime> {
    Ok(runtime::Builder::new_current_thread().enable_all().build()?)
}

/// The relay's counts before a transfer.
struct Before {
    threads: BTreeMap<u32, Duration>,
    forwarded: u64,
}

impl Before {
    fn look(relay: &mut Process) -> Result<Self> {
        Ok(Self { forwarded: relay.ask("forwarded")?.parse()?, threads: relay.cpu_by_thread()? })
    }

    fn until_now(&self, relay: &mut Process) -> Result<Cost> {
        let now = Self::look(relay)?;
        let used = now
            .threads
            .iter()
            .map(|(thread, cpu)| *cpu - self.threads.get(thread).copied().unwrap_or_default());
        let used: Vec<f64> = used.map(|cpu| cpu.as_secs_f64()).collect();
        let all: f64 = used.iter().sum();
        ensure!(all > 0.0, "the relay did nothing");
        Ok(Cost {
            forwarded: (now.forwarded - self.forwarded) as f64 / all,
            busiest: used.iter().copied().fold(0.0, f64::max) / all,
        })
    }
}

/// An end of a hop, made by hand.
struct Hop {
    stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
    inbox: Inbox,
    outbox: Outbox,
}

fn imported(key: &RaidaKey, path: PathId) -> ImportedKey {
    ImportedKey::new(key.number(path), key.principal(), path, key.role())
}

/// The one principal that a server knows: itself.
struct Own<'a>(&'a RaidaKey, PathId);

impl Principals for Own<'_> {
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        let Self(key, path) = *self;
        ((principal, role) == (key.principal(), key.role())).then(|| imported(key, path))
    }
}

impl Hop {
    /// Dials from an address of the client's own, as clients have.
    async fn dial(at: SocketAddr, path: PathId, key: &RaidaKey, nth: usize) -> Result<Self> {
        let [.., high, low] = u32::try_from(nth + 256)?.to_be_bytes();
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into())?;
        let stream = socket.connect(at).await?;
        let (principal, role) = (key.principal(), key.role());
        let dial = Dial {
            principal,
            role,
            relay: path,
            dialled_by: DialledBy::Principal,
            limits: HopLimits::default(),
        };
        let mut outbox = Outbox::new(usize::MAX);
        let mut dialer = Dialer::new(Instant::now(), dial, imported(key, path), &mut OsRng, &mut outbox);
        let step =
            |inbox: &mut Inbox, outbox: &mut Outbox| Ok(dialer.handle(Instant::now(), inbox, outbox)?);
        Self::shake(stream, outbox, step).await
    }

    /// Answers a relay that dialled.
    async fn answer(stream: TcpStream, path: PathId, key: &RaidaKey) -> Result<Self> {
        let mut responder = Responder::new(Instant::now(), path, DialledBy::Relay, HopLimits::default());
        Self::shake(stream, Outbox::new(usize::MAX), |inbox, outbox| {
            Ok(responder.handle(Instant::now(), inbox, outbox, &Own(key, path), &mut OsRng)?)
        })
        .await
    }

    async fn shake(
        mut stream: TcpStream,
        mut outbox: Outbox,
        mut step: impl FnMut(&mut Inbox, &mut Outbox) -> Result<Option<Established>>,
    ) -> Result<Self> {
        let mut inbox = Inbox::new();
        stream.set_nodelay(true)?;
        loop {
            write(&mut stream, &mut outbox).await?;
            read(&mut stream, &mut inbox).await?;
            if let Some(Established { sealer, opener, .. }) = step(&mut inbox, &mut outbox)? {
                write(&mut stream, &mut outbox).await?;
                return Ok(Self { stream, sealer, opener, inbox, outbox });
            }
        }
    }

    /// Sends what is in the outbox.
    async fn flush(&mut self) -> Result<()> {
        self.sealer.seal(Instant::now(), &mut self.outbox)?;
        write(&mut self.stream, &mut self.outbox).await
    }

    /// Opens a route to a server. Nobody there looks at more of it than the name of the client.
    fn open(
        &mut self,
        path: PathId,
        client: Principal,
        (server, destination): (Principal, SocketAddr),
    ) -> Result<()> {
        let connection = ConnectionId(*Secret::<16>::random(&mut OsRng).expose());
        let shares = share::split(&Secret::random(&mut OsRng), &mut OsRng);
        let tree = Tree::new(connection, &shares);
        let header = OpenHeader {
            client,
            server,
            connection,
            nonce: [0; 32],
            encryption_key: None,
            ml_kem: MlKem::Off,
            source: (IpAddr::from(Ipv4Addr::LOCALHOST), 1).into(),
            destination,
            relay_set: [0; 32],
            root: tree.root(),
            commitment: [0; 32],
        };
        let (header, share, proof) = (header.encode()?, shares.get(path).expose(), &tree.proof(path));
        Ok(self.outbox.frame(&Frame::Open { route: ROUTE, header: &header, share, proof })?)
    }
}

/// The one route of a client's hop.
const ROUTE: RouteId = RouteId(1);

async fn write(stream: &mut TcpStream, outbox: &mut Outbox) -> Result<()> {
    let n = outbox.wire().len();
    stream.write_all(outbox.wire()).await?;
    outbox.consume(n);
    Ok(())
}

async fn read(stream: &mut TcpStream, inbox: &mut Inbox) -> Result<()> {
    let n = stream.read(inbox.spare()).await?;
    ensure!(n > 0, "the relay ended the hop");
    inbox.advance(n);
    Ok(())
}

/// Has each hop send its part, and waits until the servers have all of it.
async fn send_all(
    hops: Vec<Hop>,
    keys: &[RaidaKey],
    path: PathId,
    servers: &[(Principal, SocketAddr)],
    windows: &Arc<Windows>,
    bytes: u64,
) -> Result<()> {
    let frames = usize::try_from(bytes)? / FRAME / hops.len();
    let mut sending = JoinSet::new();
    for (nth, (mut hop, key)) in hops.into_iter().zip(keys).enumerate() {
        let (windows, client, server) = (Arc::clone(windows), key.principal(), servers[nth % servers.len()]);
        hop.open(path, client, server)?;
        sending.spawn(async move {
            let window = windows.get(&client).context("a window for each client")?;
            for frame in 0..frames {
                if !window.take() {
                    // What is not sent cannot make room.
                    hop.flush().await?;
                    window.wait().await?;
                }
                hop.outbox.data(ROUTE, (frame * FRAME) as u32, FRAME, |_| ())?;
                if hop.outbox.queued_bytes() >= UNDER_WAY * FRAME / 2 {
                    hop.flush().await?;
                }
            }
            hop.flush().await?;
            // All of it arrived when the whole window is free again.
            let _all = window.own.acquire_many(UNDER_WAY as u32).await?;
            anyhow::Ok(hop)
        });
    }
    // Kept until all are done: a hop that goes is work for the relay.
    let mut done = Vec::new();
    while let Some(hop) = sending.join_next().await {
        done.push(hop??);
    }
    Ok(())
}

/// Serves until the process ends, and tells where.
async fn serve(
    keys: Vec<RaidaKey>,
    path: PathId,
    windows: Arc<Windows>,
    told: mpsc::Sender<(Principal, SocketAddr)>,
) -> Result<()> {
    let mut serving = JoinSet::new();
    for key in keys {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        told.send((key.principal(), listener.local_addr()?)).await?;
        let windows = Arc::clone(&windows);
        serving.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                let mut hop = Hop::answer(stream, path, &key).await?;
                take(&mut hop, &windows).await?;
            }
        });
    }
    drop(told);
    serving.join_next().await.context("no servers")??
}

/// Takes what comes, and gives its sender room for as much.
async fn take(hop: &mut Hop, windows: &Windows) -> Result<()> {
    let mut routes: BTreeMap<RouteId, &Window> = BTreeMap::new();
    loop {
        let Hop { opener, inbox, outbox, .. } = hop;
        while let Some(frames) = opener.next_record(inbox)? {
            for frame in frames {
                match frame? {
                    Frame::Open { route, header, .. } => {
                        let client = OpenHeader::decode(header)?.client;
                        routes.insert(route, windows.get(&client).context("an unknown client")?);
                    }
                    Frame::Data { route, payload, .. } => {
                        let window = routes.get(&route).context("an unknown route")?;
                        window.give(payload.len() / FRAME);
                    }
                    Frame::Detach { route } => _ = routes.remove(&route),
                    Frame::Close { reason } => bail!("the relay closed the hop: {reason:?}"),
                    Frame::Ping { token } => outbox.frame(&Frame::Pong { token })?,
                    _ => {}
                }
            }
        }
        hop.flush().await?;
        read(&mut hop.stream, &mut hop.inbox).await?;
    }
}
