//! What a transport has to provide to be measured.

use std::future::Future;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncWrite};

/// A transport under measurement. Bulk transfer and echo are written once, over [`Peer::Stream`].
///
/// `bind` and `accept` run on the server's thread, `endpoint`, `connect` and `open` on the client's. Both
/// have a single-threaded runtime, which also drives whatever the peer spawns there, and its CPU time counts
/// for that end. Work on any other thread of the process (relays) counts only in the total.
pub(crate) trait Peer: Send + Sync + 'static {
    /// Where the server listens.
    type Address: Clone + Send + 'static;
    /// Accepts streams, on the server's thread.
    type Listener;
    /// Opens connections, on the client's thread.
    type Endpoint;
    /// A byte stream: shutdown is a half-close, a read of no bytes is the end.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Whether anything lies between client and server that works for them in this process.
    const BETWEEN: bool = false;

    /// The name in the table.
    fn label(&self) -> &'static str;

    /// Starts the server and whatever lies between (relays, on threads of their own).
    fn bind(&self) -> impl Future<Output = Result<(Self::Listener, Self::Address)>>;

    /// The next stream, ready to use: a handshake may happen inside, since clients come one at a time.
    fn accept(&self, listener: &mut Self::Listener) -> impl Future<Output = Result<Self::Stream>>;

    /// Starts the client; what this costs is in no figure.
    fn endpoint(&self, server: Self::Address) -> impl Future<Output = Result<Self::Endpoint>>;

    /// A stream over a *new* connection, with its whole handshake: nothing resumed, nothing reused.
    fn connect(&self, endpoint: &mut Self::Endpoint) -> impl Future<Output = Result<Self::Stream>>;

    /// A new stream over a connection that is open already, or `None` if a connection is one stream.
    fn open(&self, endpoint: &mut Self::Endpoint) -> impl Future<Output = Result<Option<Self::Stream>>>;

    /// A stream by a client that is started for it, with nothing open yet; `None` if that is no more than a connection.
    fn cold(&self, _: &mut Self::Endpoint) -> impl Future<Output = Result<Option<Self::Stream>>> {
        async { Ok(None) }
    }

    /// Returns when everything that the last [`Peer::cold`] started stands.
    fn settled(&self, _: &Self::Endpoint) -> impl Future<Output = Result<()>> {
        async { Ok(()) }
    }

    /// Ends the client of the last [`Peer::cold`].
    fn chill(&self, _: &mut Self::Endpoint) -> impl Future<Output = ()> {
        async {}
    }
}
