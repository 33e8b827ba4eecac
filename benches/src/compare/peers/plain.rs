//! TCP without any protection: what the kernel and the runtime cost by themselves.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};

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
        bind().await
    }

    async fn accept(&self, listener: &mut TcpListener) -> Result<TcpStream> {
        accept(listener).await
    }

    async fn endpoint(&self, server: SocketAddr) -> Result<SocketAddr> {
        Ok(server)
    }

    async fn connect(&self, server: &mut SocketAddr) -> Result<TcpStream> {
        connect(*server).await
    }

    async fn open(&self, _: &mut SocketAddr) -> Result<Option<TcpStream>> {
        Ok(None)
    }
}

/// A listener on a free port of the loopback interface.
pub(super) async fn bind() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Accepts without Nagle's delay, which would distort every echo.
pub(super) async fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects without Nagle's delay.
pub(super) async fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
