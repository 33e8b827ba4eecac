//! TCP without any protection: what the kernel and the runtime cost by themselves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::compare::peer::Peer;

/// Plain TCP over loopback.
#[derive(Debug)]
pub(crate) struct Plain(());

impl Plain {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl Peer for Plain {
    type Address = SocketAddr;
    type Listener = TcpListener;
    type Endpoint = SocketAddr;
    type Stream = TcpStream;

    fn label(&self) -> &'static str {
        "plain TCP"
    }

    async fn bind(&self) -> Result<(TcpListener, SocketAddr)> {
        Wire::LOOPBACK.bind()
    }

    async fn accept(&self, listener: &mut TcpListener) -> Result<TcpStream> {
        accept(listener).await
    }

    async fn endpoint(&self, server: SocketAddr) -> Result<SocketAddr> {
        Ok(server)
    }

    async fn connect(&self, server: &mut SocketAddr) -> Result<TcpStream> {
        Wire::LOOPBACK.connect(*server).await
    }

    async fn open(&self, _: &mut SocketAddr) -> Result<Option<TcpStream>> {
        Ok(None)
    }
}

/// Where a server listens, and whether over all links that the kernel knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire {
    pub(super) at: IpAddr,
    /// MPTCP instead of TCP.
    pub(super) multipath: bool,
}

/// The queue of a listener: a thousand connections may be opened before the first is accepted.
const BACKLOG: u32 = 1024;

impl Wire {
    pub(super) const LOOPBACK: Self = Self { at: IpAddr::V4(Ipv4Addr::LOCALHOST), multipath: false };

    fn socket(self, at: IpAddr) -> Result<TcpSocket> {
        let protocol = if self.multipath { Protocol::MPTCP } else { Protocol::TCP };
        let domain = if at.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket =
            Socket::new(domain, Type::STREAM, Some(protocol)).context("this kernel has no such socket")?;
        socket.set_nonblocking(true)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }

    /// A listener on a free port.
    pub(super) fn bind(self) -> Result<(TcpListener, SocketAddr)> {
        let socket = self.socket(self.at)?;
        // Over further links it is reached at their addresses, which the kernel tells the other end.
        let unspecified: IpAddr = if self.at.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        socket.bind((if self.multipath { unspecified } else { self.at }, 0).into())?;
        let listener = socket.listen(BACKLOG)?;
        let port = listener.local_addr()?.port();
        Ok((listener, (self.at, port).into()))
    }

    /// Connects without Nagle's delay.
    pub(super) async fn connect(self, server: SocketAddr) -> Result<TcpStream> {
        let stream = self.socket(server.ip())?.connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Accepts without Nagle's delay, which would distort every echo.
pub(super) async fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
