//! Ten thousand idle streams, and a thousand clients that come back at once.

use crate::World;
use crate::measure::{Honest, MIB, Row, Watch};
use crate::party::{ECHO, Role};
use anyhow::{Context, Result, ensure};
use qsocket::config::Config;
use qsocket::testing::Raida;
use qsocket::{Endpoint, PathId, QSocketStream, Stats};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// How many streams lie idle.
const STREAMS: usize = 10_000;

/// How long.
const IDLE: Duration = Duration::from_secs(60);

/// Streams that are opened or used at a time: below what may wait to be accepted.
const AT_ONCE: usize = 500;

/// Bytes that one end of a connection puts on its 25 paths in an idle minute: four times a PING, its acknowledgement,
/// and the answer to both, three copies each.
const MOST_BYTES: u64 = 16 * 1024;

/// What an idle stream may cost one end, tasks of the programs included.
const A_STREAM: u64 = 8 * 1024;

/// How many clients come back.
const CLIENTS: usize = 1_000;

/// How long their relays were away.
const AWAY: u64 = 30;

/// Everybody is back within this.
const ALL_BACK: Duration = Duration::from_secs(60);

/// Attempts of one client at one relay within a second: one because another hop has returned, and seldom one of its own.
const ATTEMPTS: f64 = 1.25;

/// What a client with its 25 hops, and the relays' ends of them, may take, memory in place of sockets included.
const A_CLIENT: u64 = 25 * 160 * 1024;

pub(crate) fn idle_streams(world: &World) -> Result<Vec<Row>> {
    let address = world.raida.server_address(0);
    let mut server = world.raida.party("server", "server-1", &Role::Serve { address }.arguments())?;
    server.says("listening")?;
    let arguments = Role::Idle { address, streams: STREAMS }.arguments();
    let mut client = world.raida.party("client", "client-1", &arguments)?;
    client.says("ready")?;
    let (at_server, at_client) = (Watch::begin(&server)?, Watch::begin(&client)?);
    client.says("open")?;
    let (held_server, held_client) = (at_server.now()?, at_client.now()?);
    let deadline = std::time::Instant::now() + 3 * IDLE;
    let bytes: u64 = client.tells("idle bytes ", deadline)?.parse()?;
    let used = client.tells("used again in ms ", deadline)?;
    let (seen_server, seen_client) = (at_server.end()?, at_client.end()?);
    let (status, _) = client.finish(deadline)?;
    ensure!(status.success(), "the client: {}", client.errors());
    let honest = |held: u64, before: u64| Honest {
        what: format!(
            "all {STREAMS} used again in {used} ms; {} bytes for a stream; {bytes} bytes in an idle minute (at most {MOST_BYTES})",
            held.saturating_sub(before) / STREAMS as u64
        ),
        well: bytes <= MOST_BYTES,
    };
    let size = format!("{STREAMS} streams of one connection, idle for {} s", IDLE.as_secs());
    let row = |victim, seen, honest| Row {
        attack: "idle streams",
        size: size.clone(),
        victim,
        seen,
        bound: STREAMS as u64 * A_STREAM + 24 * MIB,
        honest,
    };
    let (before_server, before_client) = (seen_server.before, seen_client.before);
    Ok(vec![
        row("server", seen_server, honest(held_server, before_server)),
        row("client", seen_client, honest(held_client, before_client)),
    ])
}

fn traffic(stats: &Stats) -> u64 {
    stats.paths.iter().map(|path| path.sent_bytes).sum()
}

async fn echo(stream: &mut QSocketStream) -> Result<()> {
    let mut answer = [0; 1];
    stream.write_all(b"x").await?;
    stream.read_exact(&mut answer).await?;
    Ok(())
}

async fn echo_all(streams: &mut [QSocketStream]) -> Result<()> {
    for some in streams.chunks_mut(AT_ONCE) {
        for stream in some.iter_mut() {
            stream.write_all(b"x").await?;
        }
        for stream in some {
            stream.read_exact(&mut [0; 1]).await?;
        }
    }
    Ok(())
}

/// The client's process.
pub(crate) async fn idle(address: SocketAddr, count: usize) -> Result<()> {
    let config = Config::load()?;
    let server = config.names().lookup("server-1.example", address.port())?;
    let endpoint = Endpoint::client(config)?;
    endpoint.hops_up(25).await;
    let mut first = endpoint.connect_to(server.clone(), ECHO).await?;
    echo(&mut first).await?;
    println!("ready");
    // Somebody begins to watch.
    sleep(Duration::from_secs(1)).await;
    let mut streams = vec![first];
    while streams.len() < count {
        let begun = streams.len();
        let mut opening = JoinSet::new();
        for _ in 0..AT_ONCE.min(count - begun) {
            let (endpoint, server) = (endpoint.clone(), server.clone());
            opening.spawn(async move { endpoint.connect_to(server, ECHO).await });
        }
        while let Some(opened) = opening.join_next().await {
            streams.push(opened??);
        }
        echo_all(&mut streams[begun..]).await?;
    }
    println!("open");
    sleep(Duration::from_secs(2)).await;
    let [first, ..] = &streams[..] else { return Ok(()) };
    let before = traffic(&first.stats());
    sleep(IDLE).await;
    println!("idle bytes {}", traffic(&first.stats()) - before);
    let begun = Instant::now();
    echo_all(&mut streams).await.context("an idle stream does not work")?;
    println!("used again in ms {}", begun.elapsed().as_millis());
    Ok(())
}

pub(crate) fn storm(world: &World) -> Result<Vec<Row>> {
    let arguments = Role::Storm { clients: CLIENTS, away: AWAY }.arguments();
    let mut process = world.raida.party("storm", "client-1", &arguments)?;
    let watch = Watch::begin(&process)?;
    let deadline = std::time::Instant::now() + Duration::from_secs(900);
    let attempts: f64 = process.tells("attempts a second ", deadline)?.parse()?;
    let enough: f64 = process.tells("sixteen hops after ms ", deadline)?.parse()?;
    let all: f64 = process.tells("all hops after ms ", deadline)?.parse()?;
    let refused: u64 = process.tells("refused ", deadline)?.parse()?;
    let seen = watch.end()?;
    process.kill()?;
    let most = CLIENTS as f64 * ATTEMPTS;
    let honest = Honest::took("everybody has 25 hops after", Duration::from_secs_f64(all / 1e3), ALL_BACK)
        .and(&format!("16 hops after {enough:.0} ms"), enough <= all)
        .and(&format!("{attempts} attempts a second at a relay (at most {most})"), attempts <= most)
        .and(&format!("{refused} refused"), refused == 0);
    let size = format!("{CLIENTS} clients, 25 relays away for {AWAY} s, clock of the runtime");
    let bound = CLIENTS as u64 * A_CLIENT;
    Ok(vec![Row { attack: "reconnect storm", size, victim: "all of them", seen, bound, honest }])
}

/// Attempts that a relay has seen since it was started.
fn attempts(raida: &Raida, path: PathId) -> (u64, u64) {
    raida
        .relays()
        .relay_stats(path)
        .map_or((0, 0), |s| (s.hops as u64 + s.refused.total(), s.refused.total()))
}

/// The process of the storm. Time is that of a clock that stands while somebody can run.
pub(crate) async fn weather(count: usize, away: u64) -> Result<()> {
    const STEP: Duration = Duration::from_millis(50);
    let raida = Raida::start()?;
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(raida.client()?);
    }
    let up = |least: usize| {
        let clients = &clients;
        async move {
            for client in clients {
                client.hops_up(least).await;
            }
        }
    };
    timeout(ALL_BACK * 10, up(25)).await.context("they do not come up")?;
    for path in PathId::all() {
        raida.stop_relay(path).await;
    }
    sleep(Duration::from_secs(away)).await;
    let begun = Instant::now();
    for path in PathId::all() {
        raida.start_relay(path)?;
    }
    let relay = PathId::all().next().context("25 of them")?;
    // The attempts of the last second, in steps.
    let (mut window, mut most, mut enough) = (VecDeque::from([0]), 0, None);
    let all = loop {
        sleep(STEP).await;
        let (now, _) = attempts(&raida, relay);
        window.push_back(now);
        if window.len() > 20 + 1 {
            window.pop_front();
        }
        most = most.max(now - window.front().copied().unwrap_or_default());
        let well = clients.iter().map(|client| client.health().borrow().well()).min().unwrap_or_default();
        if well >= 16 {
            enough.get_or_insert_with(|| begun.elapsed());
        }
        if well == 25 {
            break begun.elapsed();
        }
        ensure!(begun.elapsed() < ALL_BACK * 4, "somebody has {well} hops");
    };
    println!("attempts a second {most}");
    println!("sixteen hops after ms {}", enough.unwrap_or(all).as_millis());
    println!("all hops after ms {}", all.as_millis());
    println!("refused {}", PathId::all().map(|path| attempts(&raida, path).1).sum::<u64>());
    // Who watches looks at what is held.
    std::future::pending().await
}
