//! 25 relays, a server and a client on loopback: everything real but the distance.

use crate::transport::{Differences, Ending, Transport};
use qsocket::access::LiveDirectory;
use qsocket::config::{Config, Listen, Raida, RelayAddresses, Tuning};
use qsocket::keys::SharedKey;
use qsocket::provision::Provision;
use qsocket::resolve::Target;
use qsocket::{Endpoint, QSocketListener, QSocketStream};
use raida_relay::LocalRaida;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use tokio::sync::Mutex;

/// What a test may set before the network starts.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) client: Tuning,
    pub(crate) server: Tuning,
    pub(crate) listen: Listen,
    pub(crate) client_keys: Vec<Arc<SharedKey>>,
    pub(crate) server_keys: Vec<Arc<SharedKey>>,
    pub(crate) client_directory: Option<Arc<LiveDirectory>>,
    pub(crate) server_directory: Option<Arc<LiveDirectory>>,
}

/// A RAIDA with one server and one client.
pub(crate) struct Network {
    pub(crate) raida: LocalRaida,
    pub(crate) listener: QSocketListener,
    pub(crate) client: Endpoint,
    pub(crate) target: Target,
}

impl Network {
    pub(crate) async fn start() -> io::Result<Self> {
        Self::with(|_, _| Setup::default()).await
    }

    /// Starts with what `setup` makes of the provisioned client's and server's principals.
    pub(crate) async fn with(
        setup: impl FnOnce(qsocket::Principal, qsocket::Principal) -> Setup,
    ) -> io::Result<Self> {
        const NETWORK: u16 = 1;
        let mut keys = Provision::generate(NETWORK, 1, 1).map_err(io::Error::other)?;
        let raida = LocalRaida::builder()
            .network(NETWORK)
            .start_with_keys(keys.keys(), std::iter::empty::<raida_relay::LocalServer>())?;
        let relays = RelayAddresses::from_list(&raida.addresses()).map_err(io::Error::other)?;
        let config = |key| {
            Config::new(Raida { network: NETWORK, relays: relays.clone() }, key).map_err(io::Error::other)
        };
        let (client_key, server_key) = (keys.clients.remove(0), keys.servers.remove(0));
        let principal = server_key.principal();
        let setup = setup(client_key.principal(), principal);
        let mut server = config(server_key)?.with_tuning(setup.server).with_listen(setup.listen);
        for key in setup.server_keys {
            server = server.with_encryption_key(key).map_err(io::Error::other)?;
        }
        if let Some(directory) = setup.server_directory {
            server = server.with_live_directory(directory);
        }
        let listener = QSocketListener::bind_with(server, "127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        raida.register((principal, address, *listener.ports())).map_err(io::Error::other)?;
        let mut client = config(client_key)?.with_tuning(setup.client);
        for key in setup.client_keys {
            client = client.with_encryption_key(key).map_err(io::Error::other)?;
        }
        if let Some(directory) = setup.client_directory {
            client = client.with_live_directory(directory);
        }
        let client = Endpoint::client(client)?;
        Ok(Self { raida, listener, client, target: Target { server: principal, address } })
    }

    pub(crate) async fn connect(&self) -> io::Result<QSocketStream> {
        self.client.connect_to(self.target, "test").await
    }
}

/// The behaviour suite's transport: streams of one client to one server.
pub(crate) struct QSocket {
    network: Network,
    /// One pair at a time, so that its two ends belong together.
    turn: Mutex<()>,
}

impl Transport for QSocket {
    type Stream = QSocketStream;

    const DIFFERENCES: Differences = Differences {
        // A stream that nobody shut down never ends cleanly.
        after_drop: Ending::Error(&[ErrorKind::ConnectionReset]),
        after_drop_unread: Ending::Error(&[ErrorKind::ConnectionReset]),
        after_write_half_drop: Ending::Eof,
        write_after_shutdown: &[ErrorKind::BrokenPipe],
        write_to_dropped: &[ErrorKind::BrokenPipe, ErrorKind::ConnectionReset],
        // The reader's window and the writer's buffer.
        in_flight: 8 << 20,
    };

    async fn start() -> io::Result<Self> {
        Ok(Self { network: Network::start().await?, turn: Mutex::new(()) })
    }

    async fn pair(&self) -> io::Result<(QSocketStream, QSocketStream)> {
        let _turn = self.turn.lock().await;
        let (client, accepted) = tokio::join!(self.network.connect(), self.network.listener.accept());
        Ok((client?, accepted?.0))
    }
}
