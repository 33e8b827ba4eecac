//! What a party does.

use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use qsocket::config::{Config, Raida, RelayAddresses};
use qsocket::keys::load_raida_key;
use qsocket::provision::Provision;
use qsocket::resolve::Target;
use qsocket::{Endpoint, PathId, Principal, QSocketListener, QSocketStream, RaidaKey};
use raida_relay::{Limits, Relay, Server};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::runtime;
use tokio::sync::mpsc;

use super::{join, parse_addresses};
use crate::compare::figures::Mode;
use crate::compare::peer::Peer as _;
use crate::compare::peers::qsocket::{NETWORK, client, relay, relay_threads, tuning};
use crate::compare::peers::tls::{KeyExchange, Tls};

/// Which party.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Party {
    /// Some of the 25 relays, with the keys in a folder
    Relays { folder: PathBuf, first: usize, count: usize },
    /// The first of the 25 alone, with so many threads
    Relay { folder: PathBuf, threads: usize },
    /// A server that keeps every stream after the echo of its first byte
    Server { folder: PathBuf, relays: String },
    /// Clients of that server, one for each of so many keys
    Client { folder: PathBuf, relays: String, server: Principal, service: SocketAddr, keys: usize },
    /// Both ends of idle TLS connections
    Tls,
}

impl Party {
    /// Runs until the orders end.
    pub(crate) fn run(self) -> Result<()> {
        let (send, mut orders) = mpsc::channel(1);
        thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if send.blocking_send(line).is_err() {
                    return;
                }
            }
            // Whoever gave the orders is gone.
            std::process::exit(0);
        });
        let outcome = runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            match self {
                Self::Relays { folder, first, count } => {
                    relays(&folder, first..first + count, &mut orders).await
                }
                Self::Relay { folder, threads } => {
                    let own =
                        runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
                    let outcome = match relays_on(&folder, 0..1, &[own.handle().clone()]) {
                        Ok(relays) => obey(&relays, &mut orders).await,
                        Err(error) => Err(error),
                    };
                    // Not dropped: that would wait, which a task must not.
                    own.shutdown_background();
                    outcome
                }
                Self::Server { folder, relays } => server(&folder, &relays).await,
                Self::Client { folder, relays, server, service, keys } => {
                    let target = Target { server, address: service };
                    clients(&folder, &relays, target, keys, &mut orders).await
                }
                Self::Tls => tls(&mut orders).await,
            }
        });
        if let Err(error) = &outcome {
            say(&format!("failed: {error:#}"))?;
        }
        outcome
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// All keys of a folder that [`Provision::save`] wrote.
pub(crate) fn keys(folder: &Path) -> Result<Provision> {
    let of = |role: &str| {
        let mut keys: Vec<RaidaKey> = Vec::new();
        loop {
            let path = folder.join(format!("{role}-{}.key.toml", keys.len() + 1));
            if !path.exists() {
                return anyhow::Ok(keys);
            }
            keys.push(load_raida_key(path)?);
        }
    };
    Ok(Provision { clients: of("client")?, servers: of("server")? })
}

async fn relays(
    folder: &Path,
    range: std::ops::Range<usize>,
    orders: &mut mpsc::Receiver<String>,
) -> Result<()> {
    // One relay has one thread, as a peer that forwards has.
    let threads = if range.len() == 1 { vec![runtime::Handle::current()] } else { relay_threads()? };
    obey(&relays_on(folder, range, &threads)?, orders).await
}

fn relays_on(
    folder: &Path,
    range: std::ops::Range<usize>,
    threads: &[runtime::Handle],
) -> Result<Vec<Relay>> {
    let keys = keys(folder)?;
    let paths = PathId::all().skip(range.start).take(range.len());
    paths
        .zip(threads.iter().cycle())
        .map(|(path, on)| relay(&keys, path, Ipv4Addr::LOCALHOST.into(), on, Limits::default()))
        .collect()
}

/// Does what relays are told.
async fn obey(relays: &[Relay], orders: &mut mpsc::Receiver<String>) -> Result<()> {
    say(&join(&relays.iter().map(Relay::local_addr).collect::<Vec<_>>()))?;
    while let Some(order) = orders.recv().await {
        let words: Vec<&str> = order.split_whitespace().collect();
        match words[..] {
            ["register", principal, service, ports] => {
                let (principal, service) = (principal.parse()?, service.parse()?);
                let ports = parse_addresses(ports)?;
                for relay in relays {
                    let dial = ports.get(relay.path().index()).copied();
                    relay.register(Server { principal, service, dial })?;
                }
                say("done")?;
            }
            ["forwarded"] => {
                let bytes = |relay: &Relay| {
                    let stats = relay.stats();
                    stats.to_servers.bytes + stats.to_clients.bytes
                };
                say(&relays.iter().map(bytes).sum::<u64>().to_string())?;
            }
            _ => bail!("relays do not understand {order:?}"),
        }
    }
    Ok(())
}

fn config(relays: &str, key: RaidaKey) -> Result<Config> {
    let relays = RelayAddresses::from_list(&parse_addresses(relays)?)?;
    Ok(Config::new(Raida { network: NETWORK, relays }, key)?.with_tuning(tuning(Mode::Full)))
}

async fn server(folder: &Path, relays: &str) -> Result<()> {
    let key = keys(folder)?.servers.pop().context("no server's key")?;
    let principal = key.principal();
    let listener = QSocketListener::bind_with(config(relays, key)?, (Ipv4Addr::LOCALHOST, 0)).await?;
    say(&format!("{principal} {} {}", listener.local_addr()?, join(listener.ports())))?;
    let mut streams = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await?;
        let byte = stream.read_u8().await?;
        stream.write_all(&[byte]).await?;
        streams.push(stream);
    }
}

/// Waits until the other end has the stream.
async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<()> {
    stream.write_all(&[7]).await?;
    stream.flush().await?;
    ensure!(stream.read_u8().await? == 7, "the echo came back changed");
    Ok(())
}

async fn clients(
    folder: &Path,
    relays: &str,
    target: Target,
    count: usize,
    orders: &mut mpsc::Receiver<String>,
) -> Result<()> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for key in keys(folder)?.clients.into_iter().take(count) {
        endpoints.push(client(config(relays, key)?).await?);
    }
    let first = endpoints.first().context("no client's key")?;
    say("ready")?;
    let mut idle: Vec<QSocketStream> = Vec::new();
    let mut routed: Vec<QSocketStream> = Vec::new();
    while let Some(order) = orders.recv().await {
        let words: Vec<&str> = order.split_whitespace().collect();
        match words[..] {
            ["streams", count] => {
                let count: usize = count.parse()?;
                while idle.len() < count {
                    let mut stream = first.connect_to(target, "bench").await?;
                    greet(&mut stream).await?;
                    idle.push(stream);
                }
            }
            ["connections", count] => {
                let count: usize = count.parse()?;
                while routed.len() < count {
                    let endpoint = endpoints.get(routed.len() % endpoints.len()).unwrap_or(first);
                    let mut stream = endpoint.connect_fresh(target, "bench").await?;
                    greet(&mut stream).await?;
                    routed.push(stream);
                }
            }
            _ => bail!("clients do not understand {order:?}"),
        }
        say("done")?;
    }
    Ok(())
}

async fn tls(orders: &mut mpsc::Receiver<String>) -> Result<()> {
    let tls = Tls::new(KeyExchange::PostQuantum)?;
    let (mut listener, address) = tls.bind().await?;
    let mut endpoint = tls.endpoint(address).await?;
    let mut open = Vec::new();
    say("ready")?;
    while let Some(order) = orders.recv().await {
        let words: Vec<&str> = order.split_whitespace().collect();
        let ["connections", count] = words[..] else { bail!("TLS does not understand {order:?}") };
        let count: usize = count.parse()?;
        while open.len() < count {
            let (one, other) = tokio::join!(tls.connect(&mut endpoint), tls.accept(&mut listener));
            let (mut one, mut other) = (one?, other?);
            let echo = async {
                let byte = other.read_u8().await?;
                other.write_all(&[byte]).await?;
                anyhow::Ok(other.flush().await?)
            };
            tokio::try_join!(greet(&mut one), echo)?;
            open.push((one, other));
        }
        say("done")?;
    }
    Ok(())
}
