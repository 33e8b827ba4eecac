//! Several clients that send through the same relays at once.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use qsocket::config::{Config, Raida, RelayAddresses};
use qsocket::resolve::Target;
use qsocket::{Endpoint, QSocketListener, QSocketStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Curve;
use crate::compare::figures::{Mode, Summary};
use crate::compare::peers::qsocket::{NETWORK, client, tuning};
use crate::party::Relays;

/// What both ends read and write at once.
const BUFFER: usize = 256 * 1024;

/// A number of clients takes seconds; after this it counts as hung.
const HANG: Duration = Duration::from_secs(300);

/// The curves of both plots.
pub(super) struct Curves {
    pub(super) cpu: Vec<Curve>,
    pub(super) goodput: Vec<Curve>,
}

/// What one round cost.
struct Cost {
    /// Nanoseconds of CPU of one relay for each byte that it forwarded.
    cpu: f64,
    /// GB/s of all clients.
    goodput: f64,
}

/// All rounds for each number of clients.
pub(super) fn measure(rounds: usize, clients: &[u16], bytes: u64) -> Result<Curves> {
    let (mut cpu, mut goodput) = (Vec::new(), Vec::new());
    for mode in [Mode::Full, Mode::Adaptive] {
        let (mut of_cpu, mut of_goodput) = (Vec::new(), Vec::new());
        for count in clients {
            let costs = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(async { timeout(HANG, crowd(mode, *count, rounds, bytes)).await })
                .map_err(|_| anyhow!("{count} clients: no progress for {HANG:?}"))??;
            let of = |value: fn(&Cost) -> f64| Summary::of(costs.iter().map(value)).context("no rounds");
            of_cpu.push((f64::from(*count), of(|cost| cost.cpu)?));
            of_goodput.push((f64::from(*count), of(|cost| cost.goodput)?));
            eprintln!("{mode}: {count} clients");
        }
        cpu.push(Curve { name: mode.to_string(), points: of_cpu });
        goodput.push(Curve { name: mode.to_string(), points: of_goodput });
    }
    Ok(Curves { cpu, goodput })
}

async fn crowd(mode: Mode, count: u16, rounds: usize, bytes: u64) -> Result<Vec<Cost>> {
    let relays = Relays::start(count, 1, &[1, 24])?;
    let mut keys = relays.keys()?;
    let config = |key| {
        let relays = RelayAddresses::from_list(relays.addresses())?;
        anyhow::Ok(Config::new(Raida { network: NETWORK, relays }, key)?.with_tuning(tuning(mode)))
    };
    let server = keys.servers.pop().context("no server's key")?;
    let principal = server.principal();
    let listener = QSocketListener::bind_with(config(server)?, (Ipv4Addr::LOCALHOST, 0)).await?;
    let target = Target { server: principal, address: listener.local_addr()? };
    relays.register(principal, target.address, listener.ports())?;
    let mut serving = JoinSet::new();
    serving.spawn(serve(listener));
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for key in keys.clients {
        endpoints.push(client(config(key)?).await?);
    }

    let look = || {
        let all = relays.each(|process| {
            let forwarded: u64 = process.ask("forwarded")?.parse()?;
            Ok((process.cpu()?, forwarded))
        })?;
        all.into_iter().next().context("no relay")
    };
    let block: Arc<[u8]> = (0..BUFFER).map(|index| (index * 31 % 251) as u8).collect();
    let each = bytes / u64::from(count);
    let mut costs = Vec::new();
    // The first round does not count.
    for round in 0..=rounds {
        let mut streams = Vec::new();
        for endpoint in &endpoints {
            streams.push(endpoint.connect_to(target, "bench").await?);
        }
        let (cpu, forwarded) = look()?;
        let (start, mut sending) = (Instant::now(), JoinSet::new());
        for stream in streams {
            sending.spawn(send(stream, each, Arc::clone(&block)));
        }
        while let Some(sent) = sending.join_next().await {
            sent??;
        }
        let elapsed = start.elapsed().as_secs_f64();
        let (cpu_after, forwarded_after) = look()?;
        if round > 0 {
            costs.push(Cost {
                cpu: (cpu_after - cpu).as_nanos() as f64 / (forwarded_after - forwarded) as f64,
                goodput: (each * u64::from(count)) as f64 / elapsed / 1e9,
            });
        }
    }
    Ok(costs)
}

/// Swallows every stream, and says at its end how much it was.
async fn serve(listener: QSocketListener) -> Result<()> {
    let mut reading = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await?;
        reading.spawn(async move {
            let (mut buffer, mut total) = (vec![0; BUFFER], 0_u64);
            loop {
                match stream.read(&mut buffer).await? {
                    0 => break,
                    n => total += n as u64,
                }
            }
            stream.write_all(&total.to_le_bytes()).await?;
            stream.shutdown().await
        });
    }
}

async fn send(mut stream: QSocketStream, bytes: u64, block: Arc<[u8]>) -> Result<()> {
    let mut left = bytes;
    while left > 0 {
        let len = left.min(block.len() as u64) as usize;
        stream.write_all(&block[..len]).await?;
        left -= len as u64;
    }
    stream.shutdown().await?;
    let received = stream.read_u64_le().await?;
    ensure!(received == bytes, "the server read {received} of {bytes} bytes");
    Ok(())
}
