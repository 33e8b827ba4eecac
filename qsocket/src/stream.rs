//! The stream: what a program holds instead of a TCP stream.

mod split;

pub use split::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};

use crate::connection::Conn;
use crate::endpoint::{Owner, default_client};
use qsocket_proto::connection::{Connection, Side, Stats};
use qsocket_proto::ids::{KeyId, Principal, Role, StreamId};
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream over 25 relays, as [`tokio::net::TcpStream`] is one over TCP.
///
/// Reading `Ok(0)` means that the peer shut its side down and every byte before that was read. Dropping the stream
/// without [`shutdown`](tokio::io::AsyncWriteExt::shutdown) aborts it: the peer reads an error.
///
/// # Cancel safety
/// As with a TCP stream: a dropped `read` took no bytes, a dropped `write` sent none.
pub struct QSocketStream {
    inner: Arc<Inner>,
}

/// What the stream and its halves share.
pub(crate) struct Inner {
    conn: Arc<Conn>,
    id: StreamId,
    local: SocketAddr,
    remote: SocketAddr,
    peer: Peer,
    resource: String,
    // Dropped last: it may be what keeps the endpoint's tasks alive.
    _owner: Arc<Owner>,
}

/// Who is at the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The principal: a client that 16 relays vouch for, or a server that proved itself by the key. Its network is
    /// the one that the stream runs in.
    pub principal: Principal,
    /// What it is in this connection.
    pub role: Role,
    /// The id of the Encryption key of both principals that is mixed into the keys, if there is one.
    pub encryption_key: Option<KeyId>,
    /// An ML-KEM-768 secret is mixed into the keys: recorded traffic stays sealed if long-term keys leak later.
    pub ml_kem: bool,
}

impl fmt::Debug for QSocketStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.describe("QSocketStream", f)
    }
}

impl QSocketStream {
    /// Opens a stream to `name:port` with this runtime's endpoint, which the first call builds from the
    /// configuration that [`Config::load`](crate::config::Config::load) finds.
    ///
    /// # Errors
    /// What stands in the way: the configuration, the name, or a [`ConnectError`](crate::ConnectError) inside the
    /// [`io::Error`]. [`refusal`](crate::refusal) tells the server's reason. Nothing was sent.
    ///
    /// # Cancel safety
    /// Safe: a dropped attempt leaves at most a connection that the next one uses.
    pub async fn connect(name: impl AsRef<str>) -> io::Result<Self> {
        default_client()?.connect(name).await
    }

    pub(crate) fn new(owner: Arc<Owner>, conn: Arc<Conn>, id: StreamId) -> Self {
        let inner = {
            let state = conn.lock();
            Inner::new(owner, conn.clone(), &state.connection, id, String::new())
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes a stream that the peer opened; the caller holds the connection's lock.
    pub(crate) fn accepted(
        owner: Arc<Owner>,
        conn: Arc<Conn>,
        connection: &Connection,
        id: StreamId,
        resource: Vec<u8>,
    ) -> Self {
        let resource = String::from_utf8_lossy(&resource).into_owned();
        Self { inner: Arc::new(Inner::new(owner, conn, connection, id, resource)) }
    }

    /// The address of the other side: for a client the server's registered address, for a server the address that
    /// the client stated.
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.remote)
    }

    /// The address of this side, as the other side sees it.
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.local)
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.inner.peer
    }

    /// What the client said the stream is for: the name that it connected to. Empty at the client itself.
    pub fn resource(&self) -> &str {
        &self.inner.resource
    }

    /// Counters of the connection that carries the stream, with a view of its 25 paths.
    pub fn stats(&self) -> Stats {
        self.inner.conn.lock().connection.stats()
    }

    /// Splits the stream in two halves that can live in different tasks.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split::split(self.inner)
    }
}

impl Inner {
    fn new(
        owner: Arc<Owner>,
        conn: Arc<Conn>,
        connection: &Connection,
        id: StreamId,
        resource: String,
    ) -> Self {
        let stats = connection.security();
        let (principal, role, local, remote) = match connection.side() {
            Side::Client => {
                (connection.server(), Role::Server, connection.source(), connection.destination())
            }
            Side::Server => {
                (connection.client(), Role::Client, connection.destination(), connection.source())
            }
        };
        let peer = Peer { principal, role, encryption_key: stats.encryption_key, ml_kem: stats.ml_kem };
        Self { conn, id, local, remote, peer, resource, _owner: owner }
    }

    fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name).field("peer", &self.peer.principal).field("peer_addr", &self.remote).finish()
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.conn.lock();
        match state.connection.read(self.id, buf.initialize_unfilled()) {
            Ok(Some(n)) => {
                let due = state.connection.wants_transmit();
                drop(state);
                buf.advance(n);
                if due {
                    self.conn.wake();
                }
                Poll::Ready(Ok(()))
            }
            Ok(None) => {
                state.wait_readable(self.id, cx.waker());
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn poll_write<'a>(
        &self,
        cx: &mut Context<'_>,
        slices: impl IntoIterator<Item = &'a [u8]> + Clone,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.conn.lock();
        match state.connection.write_vectored(self.id, slices.clone()) {
            Ok(0) if slices.into_iter().any(|s| !s.is_empty()) => {
                state.wait_writable(self.id, cx.waker());
                Poll::Pending
            }
            Ok(n) => {
                drop(state);
                self.conn.wake();
                Poll::Ready(Ok(n))
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.conn.lock();
        if let Err(error) = state.connection.finish(self.id) {
            return Poll::Ready(Err(error.into()));
        }
        if state.connection.is_finished(self.id) {
            return Poll::Ready(Ok(()));
        }
        state.wait_writable(self.id, cx.waker());
        drop(state);
        self.conn.wake();
        Poll::Pending
    }

    /// Says that no more follows, without waiting for the peer.
    fn finish(&self) {
        // A stream that is over already needs no end.
        let _ = self.conn.lock().connection.finish(self.id);
        self.conn.wake();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut state = self.conn.lock();
        state.forget(self.id);
        state.connection.release(self.id);
        drop(state);
        self.conn.wake();
    }
}

impl AsyncRead for QSocketStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_read(cx, buf)
    }
}

impl AsyncWrite for QSocketStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_write(cx, std::iter::once(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_write(cx, bufs.iter().map(|b| &**b))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: bytes leave as soon as they are written. [`shutdown`](tokio::io::AsyncWriteExt::shutdown)
    /// tells when they arrived.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the stream in this direction; ready when the peer has every byte and the end.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx)
    }
}
