//! DNS over a byte stream, as RFC 1035 section 4.2.2 and RFC 7766 describe it for TCP.
//!
//! ```text
//!  dig ──UDP/TCP──▶ stub ──one long-lived stream──▶ server ──▶ zone file
//!                 (stub.rs, exchange.rs)          (server.rs)   (zone.rs)
//!                                                           └─▶ unbound, dnsmasq, ...
//!  client ─────────────a stream a run──────────────▶             (upstream.rs)
//! (client.rs)
//! ```
//!
//! About names under `.raida` the stub asks all relays instead (raida.rs). But for that, nothing here knows which
//! stream carries the messages. What a stream must be is [`ByteStream`]; where the streams come from is a [`Listener`]
//! on the server's side and a [`Connector`] on the client's. Exchanging tokio's `TcpListener` and `TcpStream` for
//! QSocket's changes the line that makes the listener and the line that connects, and nothing else.
//!
//! A zone served over TCP, and a stub in front of it for `dig @127.0.0.1 -p 5353`:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use qsocket_examples::dns::server::{self, Limits};
//! use qsocket_examples::dns::stub::{Stub, StubConfig};
//! use qsocket_examples::dns::zone::Zone;
//! use tokio::net::{TcpListener, TcpStream};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let stop = CancellationToken::new();
//! let zone = Arc::new(Zone::from_file("zones/example.zone".as_ref())?);
//! let listener = TcpListener::bind("127.0.0.1:5300").await?;
//! let server = server::serve(listener, zone, Limits::default(), stop.clone());
//!
//! let connector = || TcpStream::connect("127.0.0.1:5300");
//! let stub = Stub::bind("127.0.0.1:5353".parse()?).await?;
//! let stub = stub.run(connector, StubConfig::default(), stop.clone());
//!
//! tokio::try_join!(server, stub)?;
//! # Ok(())
//! # }
//! ```

pub mod client;
pub mod exchange;
pub mod raida;
pub mod server;
pub mod stub;
pub mod upstream;
pub mod wire;
pub mod zone;

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use qsocket::{QSocketListener, QSocketStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use wire::Query;

/// A reliable, ordered stream of bytes in both directions; implemented for every type that fits.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> ByteStream for T {}

/// A source of accepted streams.
///
/// `accept` must be cancel safe: a call that is dropped must not lose a stream.
pub trait Listener: Send + 'static {
    /// The stream that a client of this listener gets.
    type Stream: ByteStream;

    /// Waits for the next stream and tells whose it is.
    ///
    /// # Errors
    /// The server takes an error as passing and calls again after a pause; it gives up after
    /// [`server::MAX_ACCEPT_FAILURES`] of them in a row.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // An answer is one small write: waiting for more to send only delays it.
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }
}

impl Listener for QSocketListener {
    type Stream = QSocketStream;

    async fn accept(&mut self) -> io::Result<(QSocketStream, SocketAddr)> {
        Self::accept(self).await
    }
}

/// A way to a DNS server over a stream, used again whenever the stream before it has ended.
///
/// Implemented for closures: `|| TcpStream::connect("127.0.0.1:53")` is a connector.
pub trait Connector: Send + Sync + 'static {
    /// The stream that connecting gives.
    type Stream: ByteStream;

    /// Opens a new stream.
    ///
    /// # Errors
    /// Any error is taken as passing: the caller pauses, with a growing pause, and tries again.
    fn connect(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl<F, Fut, S> Connector for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<S>> + Send,
    S: ByteStream,
{
    type Stream = S;

    fn connect(&self) -> impl Future<Output = io::Result<S>> + Send {
        self()
    }
}

/// Something that answers DNS queries: a zone, an upstream server, or a stream to a server far away.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Answers one query with one complete message that carries the query's own id.
    ///
    /// Never fails: what cannot be answered becomes SERVFAIL ([`Query::error`]), within a deadline of the
    /// back end's own. Cancel safe: dropping the future gives the query up.
    async fn answer(&self, query: &Query, from: SocketAddr) -> Bytes;
}
