//! Attacks on a server.

use crate::World;
use crate::client::{Block, Client};
use crate::hop::{Hop, Who, address};
use crate::measure::{Honest, MIB, Row, Watch};
use crate::party::{BLAST, ECHO, Role};
use crate::relay::{await_relay, key};
use anyhow::{Context, Result};
use qsocket::config::Config;
use qsocket::resolve::Target;
use qsocket::{Endpoint, PathId};
use qsocket_proto::control::{Ack, ControlFrame};
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::DialledBy;
use qsocket_proto::ids::{ConnectionId, RELAYS, RouteId, StreamId};
use qsocket_proto::open::{MlKem, OpenHeader};
use qsocket_tests::process::Process;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// An honest stream opens, and echoes, within this.
const HONEST: Duration = Duration::from_secs(1);

/// What the hops of a server may keep beside what is attacked: an inbox and an outbox for each relay.
const HOPS: u64 = RELAYS as u64 * (5 << 18);

/// A server process, and somebody honest who uses it.
struct Served {
    process: Process,
    runtime: Runtime,
    endpoint: Endpoint,
    target: Target,
    longest: Duration,
    uses: u32,
}

impl Served {
    fn start(world: &World) -> Result<Self> {
        let address = world.raida.server_address(0);
        let mut process = world.raida.party("server", "server-1", &Role::Serve { address }.arguments())?;
        process.says("listening")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let config = Config::from_file(world.raida.config("client-1"))?;
        let target = Target { server: key(world, "server-1")?.principal(), address };
        let endpoint = runtime.block_on(async {
            let endpoint = Endpoint::client(config)?;
            endpoint.hops_up(RELAYS).await;
            Ok::<_, std::io::Error>(endpoint)
        })?;
        let mut this = Self { process, runtime, endpoint, target, longest: Duration::ZERO, uses: 0 };
        // Once for the memory that is taken at the first time and kept.
        this.use_it()?;
        this.uses = 0;
        this.longest = Duration::ZERO;
        Ok(this)
    }

    /// Opens a connection with a stream, and has five bytes sent back.
    fn use_it(&mut self) -> Result<()> {
        let begun = Instant::now();
        let echo = async {
            let mut stream = self.endpoint.connect_fresh(self.target, ECHO).await?;
            let mut answer = [0; 5];
            stream.write_all(b"hello").await?;
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(())
        };
        self.runtime
            .block_on(async { tokio::time::timeout(crate::hop::HANG, echo).await })
            .context("an honest stream hangs")?
            .context("an honest stream fails")?;
        self.longest = self.longest.max(begun.elapsed());
        self.uses += 1;
        Ok(())
    }

    fn fared(&self) -> Honest {
        let what = format!("{} new connections, each with an echo, within", self.uses);
        Honest::took(&what, self.longest, HONEST)
    }
}

/// 25 hops of the client that is not honest.
fn hops(world: &World, from: usize) -> Result<Vec<Hop>> {
    let key = key(world, "client-2")?;
    PathId::all()
        .map(|path| Hop::dial(address(from), world.raida.relay_address(path.index()), &Who::of(&key, path)))
        .collect()
}

fn attacker(world: &World, hops: &mut [Hop], route: u32) -> Result<Client> {
    let principals = (key(world, "client-2")?.principal(), key(world, "server-1")?.principal());
    Client::open(hops, route, principals, world.raida.server_address(0))
}

/// Sends what waits, a little slower than a server on this machine takes it, and throws answers away.
fn pace(hops: &mut [Hop]) -> Result<()> {
    if hops.iter().map(Hop::queued).sum::<usize>() > 1 << 20 {
        hops.iter_mut().try_for_each(Hop::flush)?;
        hops.iter_mut().try_for_each(Hop::discard)?;
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Blocks of which less than what completes them comes: data stripes, then blocks behind gaps, then parity alone.
pub(crate) fn gaps(world: &World) -> Result<Vec<Row>> {
    const BLOCK: u32 = 256 * 1024;
    const STREAMS: u32 = 2_000;
    let mut served = Served::start(world)?;
    let mut hops = hops(world, 8_000)?;
    let mut attacker = attacker(world, &mut hops, 1)?;
    let watch = Watch::begin(&served.process)?;
    // 2,000 streams, and four stripes of each one's first block: 128 MiB, were there nothing but the streams' windows.
    for n in 0..STREAMS {
        let block = Block { stream: 2 * n + 1, number: 0, len: BLOCK };
        attacker.queue_block(&mut hops, block, 1, &[7; BLOCK as usize], |stripe| stripe.get() < 4);
        pace(&mut hops)?;
        if n % 500 == 0 {
            served.use_it()?;
        }
    }
    // 1,000 blocks behind a gap, in two streams: 64 MiB.
    for n in 1..=1_000 {
        let block = Block { stream: 2 * (n as u32 % 2) + 1, number: n, len: BLOCK };
        attacker.queue_block(&mut hops, block, 1, &[7; BLOCK as usize], |stripe| stripe.get() < 4);
        pace(&mut hops)?;
    }
    served.use_it()?;
    // Parity of 300 blocks, of which nothing opens: 43 MiB.
    for n in 0..300 {
        let block = Block { stream: 1, number: 1 + n, len: BLOCK };
        attacker
            .queue_block(&mut hops, block, 1, &[7; BLOCK as usize], |stripe| stripe.data_index().is_none());
        pace(&mut hops)?;
    }
    hops.iter_mut().try_for_each(Hop::flush)?;
    served.use_it()?;
    let size = format!("235 MiB of stripes that complete nothing, in {STREAMS} streams of one connection");
    let (attack, seen) = ("gaps first", watch.end()?);
    // Window, a sixteenth, overhead, gaps; parity of 25 paths; the hops; streams and what the allocator keeps.
    let bound = 17 * MIB + MIB + 4 * MIB + 25 * MIB + HOPS + 16 * MIB;
    Ok(vec![Row { attack, size, victim: "server", seen, bound, honest: served.fared() }])
}

/// Control packets of every kind, as fast as they go.
pub(crate) fn control_packets(world: &World) -> Result<Vec<Row>> {
    const PACKETS: u32 = 200_000;
    let mut served = Served::start(world)?;
    let mut hops = hops(world, 8_100)?;
    let mut attacker = attacker(world, &mut hops, 1)?;
    attacker.open_stream(&mut hops, 1, "hold")?;
    let watch = Watch::begin(&served.process)?;
    for n in 0..PACKETS {
        let stream = StreamId(2 * (n % 16_000) + 3);
        let frame = match n % 6 {
            0 => ControlFrame::Ping,
            1 => ControlFrame::MaxData(u64::from(n) << 20),
            2 => ControlFrame::Ack(Box::<Ack>::default()),
            3 => ControlFrame::Reset { stream, code: 1, final_size: 0 },
            4 => ControlFrame::Stop { stream, code: 1 },
            _ => ControlFrame::MaxStreamData(StreamId(1), u64::from(n) << 10),
        };
        attacker.queue_control(&mut hops, &[frame], 3);
        pace(&mut hops)?;
        if n % 50_000 == 0 {
            served.use_it()?;
        }
    }
    hops.iter_mut().try_for_each(Hop::flush)?;
    served.use_it()?;
    let size =
        format!("{PACKETS} packets of PING, MAX_DATA, ACK, RESET, STOP, MAX_STREAM_DATA, 3 copies each");
    let seen = watch.end()?;
    let bound = HOPS + 32 * MIB;
    Ok(vec![Row {
        attack: "control packet flood",
        size,
        victim: "server",
        seen,
        bound,
        honest: served.fared(),
    }])
}

/// A client that has a server send, and reads nothing, at no hop.
pub(crate) fn unread(world: &World) -> Result<Vec<Row>> {
    const CONNECTIONS: u32 = 16;
    const SPAN: Duration = Duration::from_secs(8);
    let mut served = Served::start(world)?;
    let mut hops = hops(world, 8_200)?;
    let watch = Watch::begin(&served.process)?;
    let relay = world.raida.with_relay(0, Watch::begin)?;
    let mut connections = Vec::new();
    for route in 1..=CONNECTIONS {
        connections.push(attacker(world, &mut hops, route)?);
    }
    for connection in &mut connections {
        connection.open_stream(&mut hops, 1, BLAST)?;
    }
    let begun = Instant::now();
    while begun.elapsed() < SPAN {
        served.use_it()?;
        sleep(Duration::from_millis(500));
    }
    let size = format!("{CONNECTIONS} connections whose client reads at no hop for {} s", SPAN.as_secs());
    // Send buffers, and as much again for blocks on their way into hops.
    let bound = u64::from(CONNECTIONS) * 5 * MIB + HOPS + 16 * MIB;
    let (attack, seen) = ("a reader that does not read", watch.end()?);
    let at_server = Row { attack, size: size.clone(), victim: "server", seen, bound, honest: served.fared() };
    let seen = relay.end()?;
    let at_relay = Row { attack, size, victim: "relay", seen, bound: 16 * MIB, honest: served.fared() };
    Ok(vec![at_server, at_relay])
}

/// Nine relays that announce connections which nobody opened.
pub(crate) fn openings(world: &World) -> Result<Vec<Row>> {
    const EACH: u32 = 20_000;
    const LIARS: usize = 9;
    let mut served = Served::start(world)?;
    let server = key(world, "server-1")?;
    for relay in 0..LIARS {
        world.raida.kill_relay(relay)?;
    }
    let mut liars = Vec::new();
    for path in PathId::all().take(LIARS) {
        let at =
            SocketAddr::new(served.target.address.ip(), served.target.address.port() + u16::from(path.get()));
        liars.push(Hop::dial(
            address(8_300),
            at,
            &Who { dialled_by: DialledBy::Relay, ..Who::of(&server, path) },
        )?);
    }
    let watch = Watch::begin(&served.process)?;
    let mut header = OpenHeader {
        client: key(world, "client-2")?.principal(),
        server: server.principal(),
        connection: ConnectionId([0; 16]),
        nonce: [1; 32],
        encryption_key: None,
        ml_kem: MlKem::Off,
        source: ([127, 0, 0, 1], 40_000).into(),
        destination: served.target.address,
        relay_set: [2; 32],
        root: [3; 32],
        commitment: [4; 32],
    };
    for number in 0..EACH {
        header.connection.0[..4].copy_from_slice(&number.to_be_bytes());
        let encoded = header.encode()?;
        for hop in &mut liars {
            let route = RouteId(1_000_000 + number);
            hop.queue(&Frame::Open { route, header: &encoded, share: &[5; 32], proof: &[[6; 32]; 5] });
        }
        pace(&mut liars)?;
        if number % 5_000 == 0 {
            served.use_it()?;
        }
    }
    liars.iter_mut().try_for_each(Hop::flush)?;
    served.use_it()?;
    let seen = watch.end()?;
    drop(liars);
    for relay in 0..LIARS {
        world.raida.start_relay(relay)?;
        await_relay(world, relay)?;
    }
    let size = format!("{LIARS} relays announce {EACH} connections each that nobody opened");
    let bound = LIARS as u64 * 4 * MIB + HOPS + 8 * MIB;
    Ok(vec![Row { attack: "OPEN flood", size, victim: "server", seen, bound, honest: served.fared() }])
}
