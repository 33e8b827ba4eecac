//! The stream: what a program holds instead of a TCP stream.

mod inner;
mod io;
mod options;
mod ready;
mod split;

pub(crate) use options::no_ttl;
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};

use self::io::{async_read, async_write, common_methods, read_methods, write_methods};
use crate::access::Permit;
use crate::connection::Conn;
use crate::endpoint::{Owner, default_client};
use inner::Inner;
use qsocket_proto::connection::{Connection, Stats};
use qsocket_proto::ids::{KeyId, Principal, Role, StreamId};
use std::fmt;
use std::sync::Arc;

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

impl Peer {
    /// A peer without an Encryption key and without ML-KEM, for tests of what decides by a `Peer`; the fields can be
    /// set.
    pub fn new(principal: Principal, role: Role) -> Self {
        Self { principal, role, encryption_key: None, ml_kem: false }
    }
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
    /// [`std::io::Error`]. [`refusal`](crate::refusal) tells the server's reason. Nothing was sent.
    ///
    /// # Cancel safety
    /// Safe: a dropped attempt leaves at most a connection that the next one uses.
    pub async fn connect(name: impl AsRef<str>) -> std::io::Result<Self> {
        default_client()?.connect(name).await
    }

    pub(crate) fn new(owner: Arc<Owner>, conn: Arc<Conn>, id: StreamId, permit: Permit) -> Self {
        let inner = {
            let state = conn.lock();
            Inner::new(owner, conn.clone(), &state.connection, id, (String::new(), permit))
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes a stream that the peer opened; the caller holds the connection's lock.
    pub(crate) fn accepted(
        owner: Arc<Owner>,
        conn: Arc<Conn>,
        connection: &Connection,
        id: StreamId,
        purpose: (String, Permit),
    ) -> Self {
        Self { inner: Arc::new(Inner::new(owner, conn, connection, id, purpose)) }
    }

    /// What the client said the stream is for: the name that it connected to. Empty at the client itself.
    pub fn resource(&self) -> &str {
        &self.inner.resource
    }

    /// By what the stream is permitted: at a server who the client is in the [directory](crate::access), the resource and
    /// the grant, at a client the same of the server. An empty one without a directory. As it stood when the stream was
    /// opened; what is not permitted any more is closed.
    pub fn permit(&self) -> &Permit {
        &self.inner.permit
    }

    /// Counters of the connection that carries the stream, with a view of its 25 paths.
    pub fn stats(&self) -> Stats {
        self.inner.conn.lock().connection.stats()
    }

    /// How many of the 25 paths of the connection are well, now and whenever that changes. [`stats`](Self::stats)
    /// tells of each path.
    ///
    /// A connection begins as [`Health::Lost`](crate::Health::Lost), and its paths join one by one. After its end it is
    /// lost again.
    pub fn health(&self) -> tokio::sync::watch::Receiver<crate::Health> {
        self.inner.conn.health()
    }

    /// Splits the stream in two halves that borrow it, for reading and writing at once in one task. Costs nothing.
    ///
    /// ```no_run
    /// # async fn echo(mut stream: qsocket::QSocketStream) -> std::io::Result<()> {
    /// let (mut reader, mut writer) = stream.split();
    /// tokio::io::copy(&mut reader, &mut writer).await?;
    /// # Ok(()) }
    /// ```
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        split::split(self)
    }

    /// Splits the stream in two halves that can live in different tasks.
    ///
    /// ```no_run
    /// # async fn both(stream: qsocket::QSocketStream) -> std::io::Result<()> {
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let (mut reader, mut writer) = stream.into_split();
    /// let writing = tokio::spawn(async move {
    ///     writer.write_all(b"a question").await?;
    ///     writer.shutdown().await
    /// });
    /// let mut answer = Vec::new();
    /// reader.read_to_end(&mut answer).await?;
    /// writing.await??;
    /// # Ok(()) }
    /// ```
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split::into_split(self)
    }

    fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl AsRef<Self> for QSocketStream {
    fn as_ref(&self) -> &Self {
        self
    }
}

common_methods!(QSocketStream);
read_methods!(QSocketStream);
async_read!(QSocketStream);
write_methods!(QSocketStream);
async_write!(QSocketStream);
