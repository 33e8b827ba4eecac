//! The listening side.

mod incoming;
mod queue;

pub use incoming::{Incoming, IntoIncoming};

use crate::config::{Config, RelayAddresses};
use crate::endpoint::Endpoint;
use crate::hop;
use crate::stream::{QSocketStream, no_ttl};
use qsocket_proto::ids::{PathId, RELAYS, Role};
use queue::Queue;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::Semaphore;

/// Dialers of one port whose handshake is not over: one relay dials each port, the rest is room for its retries
/// and for strangers, who are gone within the handshake's deadline.
const HANDSHAKES: usize = 64;

/// Rest after a failed `accept` of a socket, for example when files run out.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Listens for streams, as [`tokio::net::TcpListener`] does, on 25 ports: one for each relay.
pub struct QSocketListener {
    endpoint: Endpoint,
    local: SocketAddr,
    ports: [SocketAddr; RELAYS],
    accepted: Arc<Queue>,
}

impl fmt::Debug for QSocketListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QSocketListener").field("local_addr", &self.local).finish_non_exhaustive()
    }
}

impl QSocketListener {
    /// Listens at `addr` with the configuration that [`Config::load`] finds: on the ports `addr` to `addr` + 24,
    /// or on the 25 addresses that the configuration gives. Port 0 takes any 25 free ports.
    ///
    /// # Errors
    /// What stands in the way: the configuration, its key's role, an address in use.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::bind_with(Config::load()?, addr).await
    }

    /// Listens at `addr` with the given configuration.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn bind_with<A: ToSocketAddrs>(config: Config, addr: A) -> io::Result<Self> {
        if config.identity().1 != Role::Server {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the RAIDA key of this configuration has the role client; listening needs a key with the role server",
            ));
        }
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the address names nothing to listen at");
        for addr in tokio::net::lookup_host(addr).await? {
            match sockets(&config, addr).await {
                Ok(sockets) => return Self::start(config, addr, sockets),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn start(config: Config, addr: SocketAddr, sockets: Vec<TcpListener>) -> io::Result<Self> {
        let mut ports = [addr; RELAYS];
        for (port, socket) in ports.iter_mut().zip(&sockets) {
            *port = socket.local_addr()?;
        }
        let [first, ..] = ports;
        let local = if addr.port() == 0 { first } else { addr };
        let (endpoint, accepted) = Endpoint::server(config);
        for (path, socket) in PathId::all().zip(sockets) {
            endpoint.spawn(serve(endpoint.owner.shared.clone(), path, socket));
        }
        endpoint.spawn(endpoint.owner.shared.clone().expire());
        let accepted = Queue::new(accepted, endpoint.owner.shared.clone());
        Ok(Self { endpoint, local, ports, accepted })
    }

    /// Waits for a stream. Gives it with the address that its client stated.
    ///
    /// Clients were authenticated, and the lists applied, before: nothing here waits for a slow peer.
    ///
    /// # Errors
    /// Only after the endpoint was closed.
    ///
    /// # Cancel safety
    /// Safe: a stream is given or stays in the queue. Any number of tasks may wait.
    pub async fn accept(&self) -> io::Result<(QSocketStream, SocketAddr)> {
        self.accepted.next().await.ok_or_else(closed)
    }

    /// Polls for a stream, for those who write their own futures. Only the task that polled last is woken, besides
    /// those that wait in [`accept`](Self::accept).
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(QSocketStream, SocketAddr)>> {
        self.accepted.poll_next(cx).map(|stream| stream.ok_or_else(closed))
    }

    /// The streams that come in, without their addresses. Ends after the endpoint was closed.
    ///
    /// It polls as [`poll_accept`](Self::poll_accept) does: one at a time.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming::new(self)
    }

    /// The streams that come in, as a value that owns the listener: for servers that take a
    /// [`Stream`](futures_core::Stream) of connections.
    pub fn into_incoming(self) -> IntoIncoming {
        IntoIncoming::new(self)
    }

    /// Refused: packets belong to the hops to 25 relays, which streams share.
    ///
    /// # Errors
    /// `Unsupported`, always.
    pub fn ttl(&self) -> io::Result<u32> {
        Err(no_ttl())
    }

    /// Refused, as [`ttl`](Self::ttl) is.
    ///
    /// # Errors
    /// `Unsupported`, always.
    pub fn set_ttl(&self, _ttl: u32) -> io::Result<()> {
        Err(no_ttl())
    }

    /// The address to register at the relays and to give to clients.
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    /// The 25 addresses that the relays dial, by path.
    pub fn ports(&self) -> &[SocketAddr; RELAYS] {
        &self.ports
    }

    /// The endpoint under it: its hops, its principal.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the endpoint is closed")
}

async fn sockets(config: &Config, addr: SocketAddr) -> io::Result<Vec<TcpListener>> {
    let given = config.listen().ports.as_ref().map(|p| *p.as_array());
    let addresses = match given {
        Some(given) => given,
        None if addr.port() == 0 => [addr; RELAYS],
        None => *RelayAddresses::from_base(addr)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?
            .as_array(),
    };
    let mut sockets = Vec::with_capacity(RELAYS);
    for address in addresses {
        let bound = TcpListener::bind(address).await;
        sockets
            .push(bound.map_err(|e| io::Error::new(e.kind(), format!("cannot listen at {address}: {e}")))?);
    }
    Ok(sockets)
}

/// Takes what dials the port of one relay.
async fn serve(shared: Arc<crate::endpoint::Shared>, path: PathId, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let socket: TcpStream = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%path, %error, "cannot take a dialler");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        // Without a place the socket is closed at once.
        if let Ok(place) = places.clone().try_acquire_owned() {
            shared.spawn(hop::answer(shared.clone(), path, socket, place));
        }
    }
}
