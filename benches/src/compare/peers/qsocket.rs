//! The product: streams over 25 relays of this process.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use qsocket::config::{Config, Raida, Redundancy, RelayAddresses, Tuning};
use qsocket::provision::Provision;
use qsocket::resolve::Target;
use qsocket::{Endpoint, PathId, QSocketListener, QSocketStream};
use raida_relay::LocalRaida;
use tokio::runtime::{self, Handle};
use tokio::time::timeout;

use crate::compare::figures::Mode;
use crate::compare::peer::Peer;

/// QSocket with everything but the redundancy as a user gets it: no Encryption key, ML-KEM-768 mixed in.
pub(crate) struct QSocket {
    mode: Mode,
}

impl QSocket {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode }
    }

    fn tuning(&self) -> Tuning {
        Tuning::default().with_redundancy(match self.mode {
            Mode::Full => Redundancy::Full,
            Mode::Adaptive => Redundancy::Adaptive,
        })
    }
}

/// Where the server is, and what the client needs to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    config: Config,
    target: Target,
}

/// The listener, and the relays that serve it for as long.
pub(crate) struct Listener {
    listener: QSocketListener,
    _raida: LocalRaida,
}

/// The client's hops and the server it connects to.
pub(crate) struct Client {
    endpoint: Endpoint,
    target: Target,
}

/// The network's number; any would do.
const NETWORK: u16 = 1;

/// As many threads for the relays as there are cores, so that none of them is a bottleneck of its own: in the
/// field each relay has a machine.
fn relay_threads() -> Result<Vec<Handle>> {
    let count = thread::available_parallelism().map_or(1, usize::from);
    (0..count).map(|_| relay_thread()).collect()
}

/// A thread that runs what is spawned on its handle, until the process ends.
fn relay_thread() -> Result<Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("relays".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// Hops over loopback stand within milliseconds; after this something is wrong.
const HOPS_DEADLINE: Duration = Duration::from_secs(10);

impl Peer for QSocket {
    type Address = Way;
    type Listener = Listener;
    type Endpoint = Client;
    type Stream = QSocketStream;

    fn label(&self) -> &'static str {
        match self.mode {
            Mode::Full => "QSocket, 25 stripes",
            Mode::Adaptive => "QSocket, 16 stripes",
        }
    }

    async fn bind(&self) -> Result<(Listener, Way)> {
        let mut keys = Provision::generate(NETWORK, 1, 1)?;
        let raida = LocalRaida::builder()
            .network(NETWORK)
            .runtimes(relay_threads()?)
            .start_with_keys(keys.keys(), std::iter::empty::<raida_relay::LocalServer>())?;
        let relays = RelayAddresses::from_list(&raida.addresses())?;
        let config = |key| Config::new(Raida { network: NETWORK, relays: relays.clone() }, key);
        let server = keys.servers.pop().context("no server's key was made")?;
        let client = keys.clients.pop().context("no client's key was made")?;
        let principal = server.principal();
        let listener =
            QSocketListener::bind_with(config(server)?.with_tuning(self.tuning()), "127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        raida.register((principal, address, *listener.ports()))?;
        let way = Way {
            config: config(client)?.with_tuning(self.tuning()),
            target: Target { server: principal, address },
        };
        Ok((Listener { listener, _raida: raida }, way))
    }

    async fn accept(&self, listener: &mut Listener) -> Result<QSocketStream> {
        Ok(listener.listener.accept().await?.0)
    }

    async fn endpoint(&self, Way { config, target }: Way) -> Result<Client> {
        let endpoint = Endpoint::client(config)?;
        let all = endpoint.hops_up(PathId::all().count());
        let standing = timeout(HOPS_DEADLINE, all).await;
        standing.with_context(|| format!("the client's hops: {}", endpoint.hops()))?;
        Ok(Client { endpoint, target })
    }

    async fn connect(&self, client: &mut Client) -> Result<QSocketStream> {
        Ok(client.endpoint.connect_fresh(client.target, "bench").await?)
    }

    async fn open(&self, client: &mut Client) -> Result<Option<QSocketStream>> {
        Ok(Some(client.endpoint.connect_to(client.target, "bench").await?))
    }
}
