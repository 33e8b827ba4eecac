//! The product: streams over 25 relays.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use qsocket::config::{Config, Parity, Raida, Redundancy, RelayAddresses, Tuning};
use qsocket::provision::Provision;
use qsocket::resolve::Target;
use qsocket::{Endpoint, PathId, QSocketListener, QSocketStream};
use raida_relay::names::{MemoryNames, Registry, Terms};
use raida_relay::posts::MemoryPosts;
use raida_relay::{Limits, Listen, LocalRaida, LocalServer, Relay, RelayConfig, Server};
use tokio::runtime::{self, Handle};
use tokio::time::timeout;

use super::late;
use crate::compare::figures::Mode;
use crate::compare::peer::Peer;
use crate::party::Relays;

/// QSocket with everything but the redundancy as a user gets it: no Encryption key, ML-KEM-768 mixed in.
pub(crate) struct QSocket {
    mode: Mode,
    over: Over,
}

/// Where the relays are.
enum Over {
    /// In this process, on loopback.
    Loopback,
    /// There, and the way from the client to the first of them is long.
    LateLoopback { paths: usize, by: Duration },
    /// In this process, each at an address of its own.
    Addresses(Vec<IpAddr>),
    /// In other processes.
    Elsewhere(Arc<Relays>),
}

impl QSocket {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, over: Over::Loopback }
    }

    /// What the client and each of the first relays say to each other arrives so much later, in either direction.
    pub(crate) fn late(mode: Mode, paths: usize, by: Duration) -> Self {
        Self { mode, over: Over::LateLoopback { paths, by } }
    }

    /// With one relay at each address.
    pub(crate) fn at(mode: Mode, addresses: Vec<IpAddr>) -> Self {
        Self { mode, over: Over::Addresses(addresses) }
    }

    /// With relays that are processes of their own.
    pub(crate) fn over(mode: Mode, relays: Arc<Relays>) -> Self {
        Self { mode, over: Over::Elsewhere(relays) }
    }
}

/// How a mode is asked for.
pub(crate) fn tuning(mode: Mode) -> Tuning {
    let tuning = Tuning::default();
    match mode {
        Mode::Full => tuning.with_redundancy(Redundancy::Full),
        Mode::Adaptive => tuning.with_redundancy(Redundancy::Adaptive),
        Mode::Mds => tuning.with_redundancy(Redundancy::Full).with_parity(Parity::Mds),
    }
}

/// Where the server is, and what the client needs to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    config: Config,
    /// Of another principal, for clients that start from nothing.
    cold: Config,
    target: Target,
}

/// The listener, and the relays that serve it for as long.
pub(crate) struct Listener {
    listener: QSocketListener,
    _relays: Standing,
}

/// What lives as long as a listener.
enum Standing {
    Local { _raida: LocalRaida },
    Single { _relays: Vec<Relay> },
    Elsewhere,
}

/// The client's hops and the server it connects to.
pub(crate) struct Client {
    endpoint: Endpoint,
    target: Target,
    config: Config,
    cold: Option<Endpoint>,
}

/// The network's number; any would do.
pub(crate) const NETWORK: u16 = 1;

/// As many threads for the relays as there are cores, so that none of them is a bottleneck of its own: in the
/// field each relay has a machine.
pub(crate) fn relay_threads() -> Result<Vec<Handle>> {
    let count = thread::available_parallelism().map_or(1, usize::from);
    (0..count).map(|_| relay_thread()).collect()
}

/// A thread that runs what is spawned on its handle, until the process ends.
pub(crate) fn relay_thread() -> Result<Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("relays".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// A relay as [`LocalRaida`] starts them, at an address.
pub(crate) fn relay(
    keys: &Provision,
    path: PathId,
    at: IpAddr,
    on: &Handle,
    limits: Limits,
) -> Result<Relay> {
    let config = RelayConfig {
        path,
        network: NETWORK,
        table: keys.relay_table(path),
        servers: Vec::new(),
        listen: Listen::Address((at, 0).into()),
        dial_any_address: true,
        limits,
        posts: Arc::new(MemoryPosts::default()),
        names: Registry::new(Arc::new(MemoryNames::default()), Terms::default()),
        principals: None,
    };
    Relay::spawn_on(config, on).with_context(|| format!("relay {path} at {at}"))
}

/// Hops stand within milliseconds, or a few of the round trips that are made longer; after this something is wrong.
pub(crate) const HOPS_DEADLINE: Duration = Duration::from_secs(10);

/// A client all of whose hops stand.
pub(crate) async fn client(config: Config) -> Result<Endpoint> {
    let endpoint = Endpoint::client(config)?;
    all_hops(&endpoint).await?;
    Ok(endpoint)
}

async fn all_hops(endpoint: &Endpoint) -> Result<()> {
    let standing = timeout(HOPS_DEADLINE, endpoint.hops_up(PathId::all().count())).await;
    standing.with_context(|| format!("the client's hops: {}", endpoint.hops()))
}

impl Peer for QSocket {
    type Address = Way;
    type Listener = Listener;
    type Endpoint = Client;
    type Stream = QSocketStream;

    const BETWEEN: bool = true;

    fn label(&self) -> &'static str {
        match self.mode {
            Mode::Full => "QSocket, 25 stripes",
            Mode::Adaptive => "QSocket, 16 stripes",
            Mode::Mds => "QSocket, 25 stripes, MDS",
        }
    }

    async fn bind(&self) -> Result<(Listener, Way)> {
        let mut keys = match &self.over {
            Over::Elsewhere(relays) => relays.keys()?,
            _ => Provision::generate(NETWORK, 2, 1)?,
        };
        let (standing, addresses) = match &self.over {
            Over::Loopback | Over::LateLoopback { .. } => {
                let raida = LocalRaida::builder()
                    .network(NETWORK)
                    .runtimes(relay_threads()?)
                    .start_with_keys(keys.keys(), std::iter::empty::<LocalServer>())?;
                let addresses = raida.addresses().to_vec();
                (Standing::Local { _raida: raida }, addresses)
            }
            Over::Addresses(at) => {
                let threads = relay_threads()?;
                let seats = PathId::all().zip(at).zip(threads.iter().cycle());
                let relays: Vec<Relay> = seats
                    .map(|((path, at), on)| relay(&keys, path, *at, on, Limits::default()))
                    .collect::<Result<_>>()?;
                let addresses = relays.iter().map(Relay::local_addr).collect();
                (Standing::Single { _relays: relays }, addresses)
            }
            Over::Elsewhere(relays) => (Standing::Elsewhere, relays.addresses().to_vec()),
        };
        let seen = match self.over {
            Over::LateLoopback { paths, by } => {
                let on = relay_thread()?;
                let mut seen = addresses.clone();
                for address in seen.iter_mut().take(paths) {
                    *address = late::listen(*address, by, &on)?;
                }
                seen
            }
            _ => addresses.clone(),
        };
        let config = |addresses: &[SocketAddr], key| {
            let relays = RelayAddresses::from_list(addresses)?;
            let config = Config::new(Raida { network: NETWORK, relays }, key)?;
            anyhow::Ok(config.with_tuning(tuning(self.mode)))
        };
        let server = keys.servers.pop().context("no server's key was made")?;
        let cold = keys.clients.pop().context("no client's key was made")?;
        let client = keys.clients.pop().context("no second client's key was made")?;
        let principal = server.principal();
        let any = (Ipv4Addr::LOCALHOST, 0);
        let listener = QSocketListener::bind_with(config(&addresses, server)?, any).await?;
        let address = listener.local_addr()?;
        let ports = *listener.ports();
        match (&standing, &self.over) {
            (Standing::Local { _raida: raida }, _) => raida.register((principal, address, ports))?,
            (Standing::Single { _relays: relays }, _) => {
                for (relay, dial) in relays.iter().zip(ports) {
                    relay.register(Server { principal, service: address, dial: Some(dial) })?;
                }
            }
            (Standing::Elsewhere, Over::Elsewhere(relays)) => relays.register(principal, address, &ports)?,
            (Standing::Elsewhere, _) => {}
        }
        let way = Way {
            config: config(&seen, client)?,
            cold: config(&seen, cold)?,
            target: Target { server: principal, address },
        };
        Ok((Listener { listener, _relays: standing }, way))
    }

    async fn accept(&self, listener: &mut Listener) -> Result<QSocketStream> {
        Ok(listener.listener.accept().await?.0)
    }

    async fn endpoint(&self, Way { config, cold, target }: Way) -> Result<Client> {
        Ok(Client { endpoint: client(config).await?, target, config: cold, cold: None })
    }

    async fn connect(&self, client: &mut Client) -> Result<QSocketStream> {
        Ok(client.endpoint.connect_fresh(client.target, "bench").await?)
    }

    async fn open(&self, client: &mut Client) -> Result<Option<QSocketStream>> {
        Ok(Some(client.endpoint.connect_to(client.target, "bench").await?))
    }

    async fn cold(&self, client: &mut Client) -> Result<Option<QSocketStream>> {
        let endpoint = Endpoint::client(client.config.clone())?;
        let stream = endpoint.connect_to(client.target, "bench").await?;
        client.cold = Some(endpoint);
        Ok(Some(stream))
    }

    async fn settled(&self, client: &Client) -> Result<()> {
        match &client.cold {
            Some(endpoint) => all_hops(endpoint).await,
            None => Ok(()),
        }
    }

    async fn chill(&self, client: &mut Client) {
        if let Some(endpoint) = client.cold.take() {
            endpoint.close().await;
        }
    }
}
