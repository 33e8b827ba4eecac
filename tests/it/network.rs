//! 25 relays, a server and a client on loopback or in memory: everything real but the distance.

use crate::transport::{Differences, Ending, Transport};
use qsocket::access::LiveDirectory;
use qsocket::config::{Listen, Tuning};
use qsocket::keys::{LiveKeys, SharedKey};
use qsocket::resolve::Target;
use qsocket::testing::{Raida, target};
use qsocket::{Endpoint, QSocketListener, QSocketStream};
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
    pub(crate) client_folder: Option<Arc<LiveKeys>>,
    pub(crate) server_folder: Option<Arc<LiveKeys>>,
    pub(crate) client_directory: Option<Arc<LiveDirectory>>,
    pub(crate) server_directory: Option<Arc<LiveDirectory>>,
}

/// A RAIDA with one server and one client.
pub(crate) struct Network {
    pub(crate) raida: Raida,
    pub(crate) listener: QSocketListener,
    pub(crate) client: Endpoint,
    pub(crate) target: Target,
}

impl Network {
    /// Starts over real sockets.
    pub(crate) async fn start() -> io::Result<Self> {
        Self::with(|_, _| Setup::default()).await
    }

    /// Starts with what `setup` makes of the client's and the server's principals.
    pub(crate) async fn with(
        setup: impl FnOnce(qsocket::Principal, qsocket::Principal) -> Setup,
    ) -> io::Result<Self> {
        Self::over(Raida::start_on_loopback()?, setup).await
    }

    pub(crate) async fn over(
        raida: Raida,
        setup: impl FnOnce(qsocket::Principal, qsocket::Principal) -> Setup,
    ) -> io::Result<Self> {
        let (mut client, mut server) = (raida.client_config()?, raida.server_config()?);
        let setup = setup(client.identity().0, server.identity().0);
        server = server.with_tuning(setup.server).with_listen(setup.listen);
        for key in setup.server_keys {
            server = server.with_encryption_key(key)?;
        }
        if let Some(folder) = setup.server_folder {
            server = server.with_keys(folder);
        }
        if let Some(directory) = setup.server_directory {
            server = server.with_live_directory(directory);
        }
        let listener = raida.listener_with("server.example", server).await?;
        client = client.with_tuning(setup.client);
        for key in setup.client_keys {
            client = client.with_encryption_key(key)?;
        }
        if let Some(folder) = setup.client_folder {
            client = client.with_keys(folder);
        }
        if let Some(directory) = setup.client_directory {
            client = client.with_live_directory(directory);
        }
        let (client, target) = (Endpoint::client(client)?, target(&listener)?);
        Ok(Self { raida, listener, client, target })
    }

    pub(crate) async fn connect(&self) -> io::Result<QSocketStream> {
        self.client.connect_to(self.target, "test").await
    }
}

/// The behaviour suite's transport: streams of one client to one server.
pub(crate) struct QSocket<const IN_MEMORY: bool> {
    network: Network,
    /// One pair at a time, so that its two ends belong together.
    turn: Mutex<()>,
}

pub(crate) type OnLoopback = QSocket<false>;
pub(crate) type InMemory = QSocket<true>;

impl<const IN_MEMORY: bool> Transport for QSocket<IN_MEMORY> {
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
        let raida = if IN_MEMORY { Raida::start() } else { Raida::start_on_loopback() };
        let network = Network::over(raida?, |_, _| Setup::default()).await?;
        Ok(Self { network, turn: Mutex::new(()) })
    }

    async fn pair(&self) -> io::Result<(QSocketStream, QSocketStream)> {
        let _turn = self.turn.lock().await;
        let (client, accepted) = tokio::join!(self.network.connect(), self.network.listener.accept());
        Ok((client?, accepted?.0))
    }
}
