//! Attacks on a relay.

use crate::World;
use crate::client::opening;
use crate::hop::{Hop, Who, address, connect, ended};
use crate::measure::{Honest, MIB, Row, Watch};
use anyhow::{Context, Result, ensure};
use qsocket::config::Config;
use qsocket::{PathId, RaidaKey};
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::HopLimits;
use qsocket_proto::ids::RouteId;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

/// The relay that is attacked.
const VICTIM: usize = 0;

/// The one that may have few files.
const FEW_FILES: usize = 24;

/// A new hop and a round trip over it take somebody honest no longer than this.
const HONEST: Duration = Duration::from_secs(1);

/// Connections of each address: a few below what it may hold.
const OF_AN_ADDRESS: usize = 60;

pub(crate) fn key(world: &World, name: &str) -> Result<Arc<RaidaKey>> {
    Ok(Config::from_file(world.raida.config(name))?.key().clone())
}

fn path(number: usize) -> Result<PathId> {
    PathId::new(number as u8).context("below 25")
}

/// The longest that somebody honest waited for a new hop to a relay and a round trip over it.
struct Visitor<'a> {
    key: Arc<RaidaKey>,
    world: &'a World,
    relay: usize,
    longest: Duration,
    visits: u32,
}

impl<'a> Visitor<'a> {
    fn new(world: &'a World, relay: usize) -> Result<Self> {
        Ok(Self { key: key(world, "client-1")?, world, relay, longest: Duration::ZERO, visits: 0 })
    }

    fn visit(&mut self) -> Result<()> {
        let (at, begun) = (self.world.raida.relay_address(self.relay), Instant::now());
        Hop::dial(Ipv4Addr::LOCALHOST, at, &Who::of(&self.key, path(self.relay)?))
            .and_then(|mut hop| hop.ping())
            .context("somebody honest gets no hop")?;
        self.longest = self.longest.max(begun.elapsed());
        self.visits += 1;
        Ok(())
    }

    /// Visits until the attack is over, a few times a second.
    fn visit_during<T>(&mut self, attack: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
        loop {
            self.visit()?;
            if attack.is_finished() {
                return attack.join().map_err(|_| anyhow::anyhow!("the attack panicked"))?;
            }
            sleep(Duration::from_millis(100));
        }
    }

    fn fared(self) -> Honest {
        Honest::took(
            &format!("{} new hops, each with a round trip, within", self.visits),
            self.longest,
            HONEST,
        )
    }
}

/// Begins with a relay that nobody has attacked yet.
fn watch(world: &World) -> Result<Watch> {
    world.raida.kill_relay(VICTIM)?;
    world.raida.start_relay(VICTIM)?;
    await_relay(world, VICTIM)?;
    world.raida.with_relay(VICTIM, Watch::begin)
}

/// Waits until a relay that was started serves; a hop to it.
pub(crate) fn await_relay(world: &World, relay: usize) -> Result<Hop> {
    const START: Duration = Duration::from_secs(20);
    let (at, key, begun) = (world.raida.relay_address(relay), key(world, "client-2")?, Instant::now());
    loop {
        match Hop::dial(Ipv4Addr::LOCALHOST, at, &Who::of(&key, path(relay)?)) {
            Ok(hop) => return Ok(hop),
            Err(e) => ensure!(begun.elapsed() < START, "relay {relay} does not start: {e:#}"),
        }
        sleep(Duration::from_millis(50));
    }
}

/// Connections that say nothing, and ones that say a byte a second of a true HELLO.
pub(crate) fn half_open(world: &World) -> Result<Vec<Row>> {
    const FLOOD: usize = 18_000;
    const A_SECOND: usize = 3_000;
    let (at, key) = (world.raida.relay_address(VICTIM), key(world, "client-2")?);
    let mut visitor = Visitor::new(world, VICTIM)?;
    let watch = watch(world)?;
    let mut old = await_relay(world, VICTIM)?;
    let hello = Who::of(&key, path(VICTIM)?).hello().1.wire().to_vec();
    scope(|scope| {
        let attack = scope.spawn(|| {
            let (mut held, begun, mut said) = (Vec::new(), Instant::now(), 0);
            for n in 0..FLOOD {
                held.push(connect(address(n / OF_AN_ADDRESS), at)?);
                let due = begun + Duration::from_secs(1).mul_f64(n as f64 / A_SECOND as f64);
                if begun.elapsed().as_secs() as usize > said {
                    // Those that were closed meanwhile take no more.
                    held.iter_mut().step_by(2).for_each(|s| _ = s.write_all(&hello[said..=said]));
                    said += 1;
                }
                sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(held)
        });
        let held = visitor.visit_during(attack)?;
        let waited = old.ping().context("a hop from before")?;
        let seen = watch.end()?;
        drop(held);
        let honest = visitor
            .fared()
            .and(&format!("an old hop answered in {:.1} ms", waited.as_secs_f64() * 1e3), true);
        let size =
            format!("{FLOOD} TCP connections of {} addresses, {A_SECOND} a second", FLOOD / OF_AN_ADDRESS);
        Ok(vec![Row {
            attack: "half-open connections",
            size,
            victim: "relay",
            seen,
            bound: 40 * MIB,
            honest,
        }])
    })
}

/// The same bytes on many connections; returns how many got an answer of at least `answer` bytes.
fn hello_flood(
    at: SocketAddr,
    count: usize,
    first: usize,
    answer: usize,
    bytes: impl Fn() -> Vec<u8>,
) -> Result<usize> {
    let mut answered = 0;
    for n in 0..count {
        let mut stream = connect(address(first + n / OF_AN_ADDRESS), at)?;
        stream.write_all(&bytes())?;
        let mut got = [0; 256];
        let n = stream.read(&mut got).unwrap_or(0);
        answered += usize::from(n >= answer);
    }
    Ok(answered)
}

fn flood_of_hellos(
    world: &World,
    attack: &'static str,
    first: usize,
    answer: usize,
    bytes: impl Fn() -> Vec<u8> + Send,
) -> Result<Vec<Row>> {
    const FLOOD: usize = 10_000;
    let at = world.raida.relay_address(VICTIM);
    let mut visitor = Visitor::new(world, VICTIM)?;
    let watch = watch(world)?;
    scope(|scope| {
        let flood = scope.spawn(move || hello_flood(at, FLOOD, first, answer, bytes));
        let answered = visitor.visit_during(flood)?;
        let seen = watch.end()?;
        ensure!(answered == FLOOD, "{answered} of {FLOOD} were answered");
        let size = format!("{FLOOD} connections");
        Ok(vec![Row { attack, size, victim: "relay", seen, bound: 24 * MIB, honest: visitor.fared() }])
    })
}

/// A HELLO that was recorded once, again and again: an ACCEPT each, which nobody can answer.
pub(crate) fn replayed_hello(world: &World) -> Result<Vec<Row>> {
    const ACCEPT: usize = 64;
    let key = key(world, "client-2")?;
    let recorded = Who::of(&key, path(VICTIM)?).hello().1.wire().to_vec();
    flood_of_hellos(world, "a true HELLO replayed", 1_000, ACCEPT, move || recorded.clone())
}

/// HELLOs of principals that the relay does not know.
pub(crate) fn strange_hello(world: &World) -> Result<Vec<Row>> {
    use qsocket::rng::OsRng;
    use qsocket_proto::raida_key::Strength;
    let serial = std::sync::atomic::AtomicU32::new(1_000_000);
    let path = path(VICTIM)?;
    let mut principal = key(world, "client-2")?.principal();
    principal.serial = 0;
    flood_of_hellos(world, "HELLOs of unknown serial numbers", 2_000, 1, move || {
        let stranger = qsocket::Principal { serial: serial.fetch_add(1, Ordering::Relaxed), ..principal };
        match RaidaKey::generate(stranger, qsocket::Role::Client, Strength::Bits256, &mut OsRng) {
            Ok(key) => Who::of(&key, path).hello().1.wire().to_vec(),
            Err(_) => Vec::new(),
        }
    })
}

/// Lengths that nobody means, in the handshake and in records, and bytes without end behind a HELLO.
pub(crate) fn lengths(world: &World) -> Result<Vec<Row>> {
    const EACH: usize = 1_000;
    let (at, key, path) = (world.raida.relay_address(VICTIM), key(world, "client-2")?, path(VICTIM)?);
    let mut visitor = Visitor::new(world, VICTIM)?;
    let watch = watch(world)?;
    scope(|scope| {
        let attack = scope.spawn(|| {
            for n in 0..EACH {
                let from = address(3_000 + n / (OF_AN_ADDRESS / 4));
                let mut giant = connect(from, at)?;
                giant.write_all(&[0xff; 64])?;
                ended(giant)?;

                let mut endless = connect(from, at)?;
                endless.write_all(Who::of(&key, path).hello().1.wire())?;
                // The relay closes in the middle of it.
                let _ = endless.write_all(&vec![0x5a; 1 << 20]);
                ended(endless)?;

                let hop = Hop::dial(from, at, &Who::of(&key, path))?;
                let mut stream = hop.stream;
                stream.write_all(&[0xff; 12])?;
                ended(stream)?;
            }
            Ok(())
        });
        visitor.visit_during(attack)?;
        let size =
            format!("{EACH} times each of 0xFFFFFFFF in HELLO, the same in a record, 1 MiB behind HELLO");
        let seen = watch.end()?;
        Ok(vec![Row {
            attack: "giant lengths, endless handshakes",
            size,
            victim: "relay",
            seen,
            bound: 16 * MIB,
            honest: visitor.fared(),
        }])
    })
}

/// PINGs whose answers nobody reads, and records that each bring a new key.
pub(crate) fn control_frames(world: &World) -> Result<Vec<Row>> {
    const PINGS: u64 = 5_000_000;
    const REKEYS: u32 = 200_000;
    let (at, key, path) = (world.raida.relay_address(VICTIM), key(world, "client-2")?, path(VICTIM)?);
    let mut visitor = Visitor::new(world, VICTIM)?;
    let pings = watch(world)?;
    let unread = scope(|scope| {
        let attack = scope.spawn(|| {
            let (mut sent, mut closed) = (0, 0);
            let mut hop = Hop::dial(address(4_000), at, &Who::of(&key, path))?;
            while sent < PINGS {
                for token in 0..5_000 {
                    hop.queue(&Frame::Ping { token });
                }
                match hop.flush() {
                    Ok(()) => sent += 5_000,
                    // It asks and does not read: the relay has closed the hop.
                    Err(_) => {
                        closed += 1;
                        hop = Hop::dial(address(4_000 + closed), at, &Who::of(&key, path))?;
                    }
                }
            }
            Ok(closed)
        });
        let closed = visitor.visit_during(attack)?;
        ensure!(closed > 0, "nobody closes a hop whose answers are not read");
        let size = format!("{PINGS} PING frames, unread; {closed} hops closed for it");
        let (attack, seen) = ("hop PING flood", pings.end()?);
        Ok::<_, anyhow::Error>(Row {
            attack,
            size,
            victim: "relay",
            seen,
            bound: 16 * MIB,
            honest: visitor.fared(),
        })
    })?;
    let mut visitor = Visitor::new(world, VICTIM)?;
    let rekeys = watch(world)?;
    scope(|scope| {
        let attack = scope.spawn(|| {
            // A sealer that takes the next key behind every record.
            let limits = HopLimits { soft_records: 1, ..HopLimits::default() };
            let mut hop = Hop::dial(address(4_900), at, &Who { limits, ..Who::of(&key, path) })?;
            for _ in 0..REKEYS {
                hop.send(&Frame::Pong { token: 1 })?;
            }
            hop.ping()
        });
        visitor.visit_during(attack)?;
        let (size, seen) = (format!("{REKEYS} keys, one for each two records"), rekeys.end()?);
        let row = Row {
            attack: "REKEY flood",
            size,
            victim: "relay",
            seen,
            bound: 4 * MIB,
            honest: visitor.fared(),
        };
        Ok(vec![unread, row])
    })
}

/// Routes to a server that is away, opened and left at once.
pub(crate) fn routes(world: &World) -> Result<Vec<Row>> {
    const ROUTES: u32 = 50_000;
    let (at, client, path) = (world.raida.relay_address(VICTIM), key(world, "client-2")?, path(VICTIM)?);
    let server = key(world, "server-2")?.principal();
    let open = opening(client.principal(), server, world.raida.server_address(1))?;
    let mut visitor = Visitor::new(world, VICTIM)?;
    let watch = watch(world)?;
    scope(|scope| {
        let attack = scope.spawn(|| {
            let mut hop = Hop::dial(address(5_000), at, &Who::of(&client, path))?;
            for route in 0..ROUTES {
                if route == 1 {
                    hop.check_routes()?;
                }
                let (share, proof) = open.share(path);
                hop.queue(&Frame::Open { route: RouteId(route), header: &open.header, share, proof });
                hop.queue(&Frame::Detach { route: RouteId(route) });
                if hop.queued() > 1 << 16 {
                    hop.flush()?;
                }
            }
            hop.ping()
        });
        visitor.visit_during(attack)?;
        let (size, seen) = (format!("{ROUTES} routes to a server that is away"), watch.end()?);
        Ok(vec![Row {
            attack: "OPEN and DETACH flood",
            size,
            victim: "relay",
            seen,
            bound: 8 * MIB,
            honest: visitor.fared(),
        }])
    })
}

/// A server that does not read, and a client that fills what waits for it with frames of all sizes, empty ones too.
pub(crate) fn stuck_server(world: &World) -> Result<Vec<Row>> {
    const FRAMES: usize = 2_000_000;
    const ROUTES: u32 = 200;
    let (at, path) = (world.raida.relay_address(VICTIM), path(VICTIM)?);
    let (client, server) = (key(world, "client-2")?, key(world, "server-2")?);
    let (principals, destination) = ((client.principal(), server.principal()), world.raida.server_address(1));
    let mut visitor = Visitor::new(world, VICTIM)?;
    let watch = watch(world)?;
    scope(|scope| {
        let attack = scope.spawn(|| {
            let stuck = Hop::dial(address(6_000), at, &Who::of(&server, path))?;
            let mut hop = Hop::dial(address(6_001), at, &Who::of(&client, path))?;
            for route in 0..ROUTES {
                let open = opening(principals.0, principals.1, destination)?;
                let (share, proof) = open.share(path);
                hop.send(&Frame::Open { route: RouteId(route), header: &open.header, share, proof })?;
            }
            hop.check_routes()?;
            for n in 0..FRAMES {
                // Mostly empty or tiny ones, which cost more to keep than to say.
                let len = if n % 100 == 0 { 16_000 } else { n % 3 };
                let route = RouteId(n as u32 % ROUTES);
                hop.queue(&Frame::Data { route, offset: 0, payload: &mut vec![1; len] });
                if hop.queued() > 1 << 16 {
                    hop.flush()?;
                    hop.discard()?;
                }
            }
            hop.flush()?;
            Ok((stuck, hop))
        });
        let held = visitor.visit_during(attack)?;
        let seen = watch.end()?;
        drop(held);
        let size = format!("{FRAMES} DATA frames on {ROUTES} routes, most of them empty or tiny");
        Ok(vec![Row {
            attack: "a server that does not read",
            size,
            victim: "relay",
            seen,
            bound: 16 * MIB,
            honest: visitor.fared(),
        }])
    })
}

/// A relay with 64 open files, and more connections than that.
pub(crate) fn files(world: &World) -> Result<Vec<Row>> {
    const FILES: u32 = 64;
    const FLOOD: usize = 500;
    const SPAN: Duration = Duration::from_secs(5);
    world.raida.kill_relay(FEW_FILES)?;
    world.raida.start_relay_with(FEW_FILES, Some(FILES))?;
    let at = world.raida.relay_address(FEW_FILES);
    let mut old = await_relay(world, FEW_FILES)?;
    let watch = world.raida.with_relay(FEW_FILES, Watch::begin)?;
    let over = AtomicBool::new(false);
    let (slowest, held) = scope(|scope| {
        let attack = scope.spawn(|| -> Result<Vec<TcpStream>> {
            let mut held = Vec::new();
            while held.len() < FLOOD && !over.load(Ordering::Relaxed) {
                held.push(connect(address(7_000 + held.len() / OF_AN_ADDRESS), at)?);
            }
            Ok(held)
        });
        let (mut slowest, begun) = (Duration::ZERO, Instant::now());
        while begun.elapsed() < SPAN {
            slowest = slowest.max(old.ping().context("a hop from before")?);
            sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
        let held = attack.join().map_err(|_| anyhow::anyhow!("the attack panicked"))??;
        Ok::<_, anyhow::Error>((slowest, held))
    })?;
    let seen = watch.end()?;
    drop(held);
    // Those behind in the queue are gone when it is looked at.
    let begun = Instant::now();
    let mut visitor = Visitor::new(world, FEW_FILES)?;
    visitor.visit()?;
    let back = begun.elapsed();
    let log = world.raida.with_relay(FEW_FILES, |relay| Ok(relay.errors()))?;
    let warned = log.lines().filter(|line| line.contains("accepting failed")).count();
    let idle = seen.busy < SPAN / 5;
    let honest = Honest::took("an old hop answered within", slowest, HONEST)
        .and(
            &format!("a new hop {:.0} ms after the flood", back.as_secs_f64() * 1e3),
            back < Duration::from_secs(10),
        )
        .and(&format!("{warned} warnings"), (1..=3).contains(&warned))
        .and("no spinning", idle);
    world.raida.kill_relay(FEW_FILES)?;
    world.raida.start_relay(FEW_FILES)?;
    let size = format!("{FLOOD} connections, a relay with {FILES} open files, {} s", SPAN.as_secs());
    Ok(vec![Row { attack: "files run out", size, victim: "relay", seen, bound: 8 * MIB, honest }])
}
