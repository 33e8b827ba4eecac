//! A door to QSocket for programs that know nothing of it: SOCKS 5 on loopback, and Unix sockets.
//!
//! ```text
//! curl --socks5-hostname ──TCP, loopback──▶ Proxy ───┐
//!                                                    ├─QSocketStream──▶ 25 relays ──▶ server
//! psql -h FOLDER ──────────Unix socket────▶ Forward ─┘
//! ```
//!
//! # Security
//! Whoever reaches the door acts as the principal of the endpoint. [`Proxy`] binds to loopback only, which every user
//! of this machine reaches; a [`Forward`] has mode 0600, which its own user and root reach. Names that the
//! configuration does not know are refused: nothing leaves over TCP.

mod socks;

use std::fs::{DirBuilder, Permissions};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use qsocket::Endpoint;
use socket2::SockRef;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use socks::Reply;

/// Rest after a failed `accept`, for example when files run out.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What one door takes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time: 256 by default, a quarter of the files that a process usually may open. Further ones
    /// wait in the queue of the operating system.
    pub connections: usize,
    /// Longest time until a SOCKS client has said where to: 10 s by default, what a person waits.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, handshake: Duration::from_secs(10) }
    }
}

/// A SOCKS 5 server (RFC 1928) without passwords: CONNECT to names and addresses that the configuration knows.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
}

impl Proxy {
    /// Listens at a loopback address.
    ///
    /// # Errors
    /// `InvalidInput` for an address that is not loopback, as it would open the door to the network; an address in
    /// use.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            let what = format!("{address} is not a loopback address; listen at 127.0.0.1 or [::1]");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(Self { listener: TcpListener::bind(address).await? })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, which cuts what is open.
    ///
    /// # Cancel safety
    /// Dropping it is as `stop`.
    pub async fn run(self, endpoint: Endpoint, limits: Limits, stop: CancellationToken) {
        let accept = |cx: &mut Context<'_>| self.listener.poll_accept(cx).map_ok(|(stream, _)| stream);
        let handle = |tcp| socks(tcp, endpoint.clone(), limits.handshake);
        serve(accept, handle, limits.connections, stop).await;
    }
}

/// A Unix socket of which every connection goes to one server.
///
/// A Unix socket cannot be aborted: where QSocket cuts a stream, the program sees an end. Use protocols that say
/// where their data end.
#[derive(Debug)]
pub struct Forward {
    listener: UnixListener,
    path: PathBuf,
}

impl Forward {
    /// Listens at `path`, with mode 0600. The socket goes with the value.
    ///
    /// # Errors
    /// `AlreadyExists` when there is something at `path`; a folder that cannot be written.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if path.symlink_metadata().is_ok() {
            let what = format!("{} exists; remove it if no program uses it", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        // A socket has its mode only after `bind`: until then a folder that nobody else may enter hides it.
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let hidden = path.with_file_name(name);
        DirBuilder::new().mode(0o700).create(&hidden)?;
        let socket = hidden.join("s");
        let bound = UnixListener::bind(&socket).and_then(|listener| {
            std::fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
            std::fs::rename(&socket, path)?;
            Ok(Self { listener, path: path.to_owned() })
        });
        // Whatever is left of it is of no use.
        let _ = std::fs::remove_dir_all(&hidden);
        bound
    }

    /// Serves until `stop`, which cuts what is open; every connection becomes a stream to `server`.
    ///
    /// # Cancel safety
    /// Dropping it is as `stop`.
    pub async fn run(self, endpoint: Endpoint, server: String, limits: Limits, stop: CancellationToken) {
        let accept = |cx: &mut Context<'_>| self.listener.poll_accept(cx).map_ok(|(stream, _)| stream);
        let handle = |mut unix| {
            let (endpoint, server) = (endpoint.clone(), server.clone());
            async move {
                let mut stream = endpoint.connect(&server).await?;
                copy_bidirectional(&mut unix, &mut stream).await?;
                Ok(())
            }
        };
        serve(accept, handle, limits.connections, stop).await;
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // Somebody may have removed it before.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Accepts and handles, at most `connections` at a time.
async fn serve<S, F>(
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>,
    handle: impl Fn(S) -> F,
    connections: usize,
    stop: CancellationToken,
) where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    // Dropped, it ends them all.
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(ended) = open.join_next() => {
                if let Ok(Err(error)) = ended {
                    tracing::info!(%error, "a connection ended");
                }
            }
            accepted = poll_fn(&mut accept), if open.len() < connections => match accepted {
                Ok(stream) => {
                    open.spawn(handle(stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    sleep(ACCEPT_REST).await;
                }
            },
        }
    }
}

/// Serves one SOCKS client.
async fn socks(mut tcp: TcpStream, endpoint: Endpoint, patience: Duration) -> io::Result<()> {
    let request = timeout(patience, socks::request(&mut tcp)).await;
    let server =
        request.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no SOCKS request in time"))??;
    let mut stream = match endpoint.connect(&server).await {
        Ok(stream) => stream,
        Err(error) => {
            socks::reply(&mut tcp, Reply::to(&error)).await?;
            return Err(error);
        }
    };
    socks::reply(&mut tcp, Reply::Succeeded).await?;
    tcp.set_nodelay(true)?;
    // Unless both ends were reached, closing the socket resets it: a stream that was cut must not look complete.
    SockRef::from(&tcp).set_linger(Some(Duration::ZERO))?;
    copy_bidirectional(&mut tcp, &mut stream).await?;
    SockRef::from(&tcp).set_linger(None)
}
