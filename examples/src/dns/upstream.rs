//! The back end that asks an ordinary DNS server, which need not know of any of this.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hickory_proto::op::ResponseCode;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::codec::Framed;
use tracing::debug;

use super::Backend;
use super::wire::{self, MAX_MESSAGE_LEN, OUR_UDP_LEN, Query};

/// Queries at the upstream server at once, over all streams: each holds a socket and, over UDP, a buffer of
/// 64 KiB. Others wait for their turn within their deadline.
pub const MAX_UPSTREAM_QUERIES: usize = 256;

/// Datagrams looked at for one query over UDP. Each wrong one is somebody guessing at id and port; after so
/// many the attempt is given up rather than letting the guesses go on.
pub const MAX_STRAY_DATAGRAMS: u32 = 16;

/// Waiting times towards the upstream server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For one datagram's answer. Default 1 second.
    pub udp: Duration,
    /// Datagrams sent for one query. Default 3.
    pub udp_attempts: u32,
    /// For everything, TCP included; then SERVFAIL. Default 4 seconds: below the stub's own deadline, so that
    /// the client hears the cause and not only the silence, and below the 5 seconds of `dig`.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { udp: Duration::from_secs(1), udp_attempts: 3, total: Duration::from_secs(4) }
    }
}

/// Forwards each query to one DNS server: over UDP first, over TCP when the answer was cut.
///
/// Each attempt has a socket of its own, connected to the server, on a port that the system draws, and an id
/// of its own; an answer counts only with that id and the same question (RFC 5452).
#[derive(Debug)]
pub struct Upstream {
    server: SocketAddr,
    patience: Patience,
    turns: Semaphore,
}

impl Upstream {
    /// Forwards to the DNS server at `server`.
    #[must_use]
    pub fn new(server: SocketAddr) -> Self {
        Self::with_patience(server, Patience::default())
    }

    /// Forwards to the DNS server at `server`, with other waiting times.
    #[must_use]
    pub fn with_patience(server: SocketAddr, patience: Patience) -> Self {
        Self { server, patience, turns: Semaphore::new(MAX_UPSTREAM_QUERIES) }
    }

    async fn ask(&self, query: &Query) -> io::Result<Bytes> {
        let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
        let answer = self.ask_udp(query).await?;
        if wire::is_truncated(&answer) { self.ask_tcp(query).await } else { Ok(answer) }
    }

    async fn ask_udp(&self, query: &Query) -> io::Result<Bytes> {
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for _ in 0..self.patience.udp_attempts.max(1) {
            match timeout(self.patience.udp, self.try_udp(query)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    async fn try_udp(&self, query: &Query) -> io::Result<Bytes> {
        let any: IpAddr = match self.server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(self.server).await?;
        let id = rand::random();
        // What the client takes is a matter of its stream; this hop takes what crosses without fragments.
        let message = wire::with_id(&wire::with_udp_size_at_most(query.bytes(), OUR_UDP_LEN), id);
        socket.send(&message).await?;
        let mut buffer = vec![0; MAX_MESSAGE_LEN];
        for _ in 0..MAX_STRAY_DATAGRAMS {
            let length = socket.recv(&mut buffer).await?;
            let answer = &buffer[..length];
            if wire::id_of(answer) == Some(id) && query.is_answered_by(answer) {
                return Ok(wire::with_id(answer, query.id()));
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "too many datagrams that answer something else"))
    }

    async fn ask_tcp(&self, query: &Query) -> io::Result<Bytes> {
        let stream = TcpStream::connect(self.server).await?;
        stream.set_nodelay(true)?;
        let mut messages = Framed::new(stream, wire::framing(MAX_MESSAGE_LEN));
        let id = rand::random();
        messages.send(wire::with_id(query.bytes(), id)).await?;
        match messages.next().await {
            Some(answer) => {
                let answer = answer?;
                // The only query on this connection: anything else is a broken server, not a late answer.
                if wire::id_of(&answer) == Some(id) && query.is_answered_by(&answer) {
                    Ok(wire::with_id(&answer, query.id()))
                } else {
                    Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is to another query"))
                }
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[async_trait]
impl Backend for Upstream {
    async fn answer(&self, query: &Query, _from: SocketAddr) -> Bytes {
        let asked = timeout(self.patience.total, self.ask(query)).await;
        asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).unwrap_or_else(|error| {
            debug!(server = %self.server, %error, "no answer from the upstream server");
            query.error(ResponseCode::ServFail)
        })
    }
}
