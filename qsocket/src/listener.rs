//! The listening side.

mod incoming;
mod queue;

pub use incoming::{Incoming, IntoIncoming};

use crate::config::{Config, RelayAddresses};
use crate::endpoint::{Endpoint, Network};
use crate::hop;
use crate::stream::{QSocketStream, no_ttl};
use qsocket_net::{Listener, Lobby, Transport};
use qsocket_proto::ids::{PathId, RELAYS, Role};
use queue::Queue;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::ToSocketAddrs;

/// Dialers of one port whose handshake is not over: one relay dials each port, the rest is room for its retries
/// and for strangers. The oldest leaves for the next, so that strangers who say nothing do not keep the relay out.
const HANDSHAKES: usize = 64;

/// In the place of the ports of a server that opens none.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Rest after a failed `accept` of a socket, for example when files run out.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Listens for streams, as [`tokio::net::TcpListener`] does, on 25 ports: one for each relay.
///
/// If the configuration holds keys of several networks, it listens in all of them, in each on 25 ports of its own, and
/// gives streams from all in the order in which they came. [`QSocketStream::peer`] tells the client, and with it the
/// network.
pub struct QSocketListener {
    endpoint: Endpoint,
    first: Bound,
    /// In the further networks, by number.
    more: Vec<(u16, Bound)>,
    accepted: Queue,
}

/// Where one network is served.
#[derive(Clone, Copy, Debug)]
struct Bound {
    local: SocketAddr,
    ports: [SocketAddr; RELAYS],
}

impl fmt::Debug for QSocketListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QSocketListener").field("local_addr", &self.first.local).finish_non_exhaustive()
    }
}

impl QSocketListener {
    /// Listens at `addr` with the configuration that [`Config::load`] finds: on the ports `addr` to `addr` + 24,
    /// or on the 25 addresses that the configuration gives. Port 0 takes any 25 free ports. That is for the first
    /// network; where further ones are served stands in the configuration.
    ///
    /// Where all addresses that the configuration registers are dialled by the server, nothing is bound and `addr` does
    /// not matter: the server is reached over the hops that it dials.
    ///
    /// # Errors
    /// What stands in the way: the configuration, its key's role, an address in use.
    ///
    /// # Cancel safety
    /// Safe: a dropped attempt listens nowhere.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::bind_with(Config::load()?, addr).await
    }

    /// Listens at `addr` with the given configuration.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// # Cancel safety
    /// As [`bind`](Self::bind).
    pub async fn bind_with<A: ToSocketAddrs>(config: Config, addr: A) -> io::Result<Self> {
        if config.identity().1 != Role::Server {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the RAIDA key of this configuration has the role client; listening needs a key with the role server",
            ));
        }
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the address names nothing to listen at");
        if let Some(address) = config.first().opens_no_port() {
            return Self::start(config, (address, Vec::new()));
        }
        for addr in tokio::net::lookup_host(addr).await? {
            match sockets(&config.transport, config.listen().ports.as_ref(), addr) {
                Ok(sockets) => return Self::start(config, (addr, sockets)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn start(config: Config, (addr, sockets_of_first): (SocketAddr, Vec<Listener>)) -> io::Result<Self> {
        let first = Bound::of(addr, &sockets_of_first)?;
        let (mut all_sockets, mut more) = (vec![sockets_of_first], Vec::new());
        for membership in config.more() {
            // `Config` holds no further membership of a server without an address.
            let addr = membership.listen().unwrap_or(addr);
            let (addr, sockets) = match membership.opens_no_port() {
                Some(address) => (address, Vec::new()),
                None => (addr, sockets(&config.transport, None, addr)?),
            };
            more.push((membership.network(), Bound::of(addr, &sockets)?));
            all_sockets.push(sockets);
        }
        let (endpoint, accepted) = Endpoint::server(config);
        for (network, sockets) in endpoint.parts().zip(all_sockets) {
            for (path, socket) in PathId::all().zip(sockets) {
                network.spawn(serve(network.clone(), path, socket));
            }
            network.keep_registered();
            network.spawn(network.clone().expire());
        }
        Ok(Self { endpoint, first, more, accepted: Queue::new(accepted) })
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

    /// The address to register at the relays of the first network and to give to clients.
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.first.local)
    }

    /// The 25 addresses that the relays of the first network dial, by path; `0.0.0.0:0` each where the server dials them
    /// and opens no port.
    pub fn ports(&self) -> &[SocketAddr; RELAYS] {
        &self.first.ports
    }

    /// The address to register at the relays of one network and to give to clients there; `None` if it is not served.
    pub fn local_addr_in(&self, network: u16) -> Option<SocketAddr> {
        Some(self.bound(network)?.local)
    }

    /// The 25 addresses that the relays of one network dial, by path; `None` if it is not served.
    pub fn ports_in(&self, network: u16) -> Option<&[SocketAddr; RELAYS]> {
        Some(&self.bound(network)?.ports)
    }

    fn bound(&self, network: u16) -> Option<&Bound> {
        if self.endpoint.principal().network == network {
            return Some(&self.first);
        }
        self.more.iter().find(|(number, _)| *number == network).map(|(_, bound)| bound)
    }

    /// The endpoint under it: its hops, its principals.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the endpoint is closed")
}

impl Bound {
    fn of(addr: SocketAddr, sockets: &[Listener]) -> io::Result<Self> {
        if sockets.is_empty() {
            return Ok(Self { local: addr, ports: [NOWHERE; RELAYS] });
        }
        let mut ports = [addr; RELAYS];
        for (port, socket) in ports.iter_mut().zip(sockets) {
            *port = socket.local_addr()?;
        }
        let [first, ..] = ports;
        Ok(Self { local: if addr.port() == 0 { first } else { addr }, ports })
    }
}

/// Listens at the given addresses, else at `addr` and the 24 ports that follow.
fn sockets(
    transport: &Transport,
    given: Option<&RelayAddresses>,
    addr: SocketAddr,
) -> io::Result<Vec<Listener>> {
    let addresses = match given {
        Some(given) => *given.as_array(),
        None if addr.port() == 0 => [addr; RELAYS],
        None => *RelayAddresses::from_base(addr)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?
            .as_array(),
    };
    let mut sockets = Vec::with_capacity(RELAYS);
    for address in addresses {
        let bound = transport.listen(address);
        sockets
            .push(bound.map_err(|e| io::Error::new(e.kind(), format!("cannot listen at {address}: {e}")))?);
    }
    Ok(sockets)
}

/// Takes what dials the port of one relay.
async fn serve(network: Arc<Network>, path: PathId, listener: Listener) {
    let lobby = Lobby::new(HANDSHAKES);
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%path, %error, "cannot take a dialler");
                lobby.make_room();
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        network.spawn(hop::answer(network.clone(), path, socket, lobby.enter()));
    }
}
