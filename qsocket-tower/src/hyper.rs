//! hyper: the connector that hyper-util's client, hyper-rustls and tonic's client take.

pub use crate::BoxError;

use crate::Stream;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use qsocket::Endpoint;
use qsocket::resolve::NameError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_service::Service;

/// Whether a URI may go to the fallback.
type Allowed = Arc<dyn Fn(&Uri) -> bool + Send + Sync>;

/// Opens a stream to the host of a URI: a [`Service`] for hyper-util's client, hyper-rustls and tonic.
///
/// ```no_run
/// use hyper_util::client::legacy::Client;
/// use hyper_util::rt::TokioExecutor;
/// use qsocket_tower::hyper::Connector;
///
/// # fn client(endpoint: qsocket::Endpoint) -> Client<Connector, String> {
/// Client::builder(TokioExecutor::new()).build(Connector::new(endpoint))
/// # }
/// ```
///
/// A URI without a port means 80, with `https` and `wss` 443. What the scheme says changes nothing else: TLS inside
/// comes with hyper-rustls' `HttpsConnectorBuilder::wrap_connector`. The [`PeerInfo`](crate::PeerInfo) of a stream
/// is in the extensions of every response.
///
/// # Errors
/// Those of [`Endpoint::connect`] as an [`io::Error`], or those of the fallback.
///
/// # Cancel safety
/// That of [`Endpoint::connect`].
///
/// # Security
/// A host that the configuration does not know is refused, so that a name with a mistake in it does not leave this
/// machine unsealed. A fallback changes this for the URIs that it was allowed for, and for these only while the
/// configuration does not know them: where QSocket fails, so does the connect.
#[derive(Clone)]
pub struct Connector<F = HttpConnector> {
    endpoint: Endpoint,
    http2: bool,
    fallback: Option<(F, Allowed)>,
}

impl<F> fmt::Debug for Connector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("endpoint", &self.endpoint)
            .field("http2", &self.http2)
            .field("fallback", &self.fallback.is_some())
            .finish()
    }
}

impl Connector {
    /// A connector that refuses what the configuration of the endpoint does not know.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, http2: false, fallback: None }
    }

    /// Connects over TCP where the configuration does not know the host and `allowed` says so. A URI with `https`
    /// is refused there, because nothing would seal it; give [`with_fallback`](Self::with_fallback) a connector
    /// with TLS for it.
    ///
    /// # Security
    /// A name that is known for one port is unknown for the others. `allowed` should name hosts.
    #[must_use]
    pub fn with_tcp_fallback(self, allowed: impl Fn(&Uri) -> bool + Send + Sync + 'static) -> Self {
        // It refuses schemes other than `http` by itself.
        self.with_fallback(HttpConnector::new(), allowed)
    }

    /// Connects with `fallback` where the configuration does not know the host and `allowed` says so.
    ///
    /// # Security
    /// As [`with_tcp_fallback`](Self::with_tcp_fallback).
    #[must_use]
    pub fn with_fallback<F>(
        self,
        fallback: F,
        allowed: impl Fn(&Uri) -> bool + Send + Sync + 'static,
    ) -> Connector<F> {
        Connector {
            endpoint: self.endpoint,
            http2: self.http2,
            fallback: Some((fallback, Arc::new(allowed))),
        }
    }
}

impl<F> Connector<F> {
    /// Has the client speak HTTP/2 with prior knowledge over QSocket, as if it had been negotiated. Not by default.
    #[must_use]
    pub fn with_http2(mut self, http2: bool) -> Self {
        self.http2 = http2;
        self
    }
}

impl<F> Service<Uri> for Connector<F>
where
    F: Service<Uri> + Clone + Send + 'static,
    F::Response: Send,
    F::Error: Into<BoxError>,
    F::Future: Send,
{
    type Response = Io<F::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { endpoint, http2, fallback } = self.clone();
        Box::pin(async move {
            let error = match endpoint.connect(name_and_port(&uri)?).await {
                Ok(stream) => {
                    let io = TokioIo::new(Stream::new(stream)?);
                    return Ok(Io(Either::QSocket { io, http2 }));
                }
                Err(error) => error,
            };
            match fallback {
                Some((mut fallback, allowed)) if is_unknown(&error) && allowed(&uri) => {
                    poll_fn(|cx| fallback.poll_ready(cx)).await.map_err(Into::into)?;
                    let io = fallback.call(uri).await.map_err(Into::into)?;
                    Ok(Io(Either::Fallback(io)))
                }
                _ => Err(error.into()),
            }
        })
    }
}

/// The configuration has no entry: not that the server, a relay or the syntax is at fault.
fn is_unknown(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(NameError::Unknown { .. }))
}

fn name_and_port(uri: &Uri) -> io::Result<String> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{what}: {uri}"));
    let host = uri.host().ok_or_else(|| invalid("the URI has no host"))?;
    let port = match (uri.port(), uri.scheme_str()) {
        (Some(port), _) => port.as_u16(),
        (None, Some("http" | "ws") | None) => 80,
        (None, Some("https" | "wss")) => 443,
        (None, Some(_)) => return Err(invalid("write a port into a URI with this scheme")),
    };
    Ok(format!("{host}:{port}"))
}

/// What a [`Connector`] connected: a stream of QSocket, or one of the fallback.
#[derive(Debug)]
pub struct Io<T>(Either<T>);

#[derive(Debug)]
enum Either<T> {
    QSocket { io: TokioIo<Stream>, http2: bool },
    Fallback(T),
}

impl<T> Io<T> {
    /// The stream, if it is one of QSocket.
    pub fn qsocket(&self) -> Option<&Stream> {
        match &self.0 {
            Either::QSocket { io, .. } => Some(io.inner()),
            Either::Fallback(_) => None,
        }
    }
}

impl<T: Connection> Connection for Io<T> {
    fn connected(&self) -> Connected {
        match &self.0 {
            Either::QSocket { io, http2 } => {
                let connected = Connected::new().extra(io.inner().peer().clone());
                if *http2 { connected.negotiated_h2() } else { connected }
            }
            Either::Fallback(io) => io.connected(),
        }
    }
}

impl<T: Read + Unpin> Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Either::QSocket { io, .. } => Pin::new(io).poll_read(cx, buf),
            Either::Fallback(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl<T: Write + Unpin> Write for Io<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Either::QSocket { io, .. } => Pin::new(io).poll_write(cx, buf),
            Either::Fallback(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Either::QSocket { io, .. } => Pin::new(io).poll_write_vectored(cx, bufs),
            Either::Fallback(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Either::QSocket { io, .. } => io.is_write_vectored(),
            Either::Fallback(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Either::QSocket { io, .. } => Pin::new(io).poll_flush(cx),
            Either::Fallback(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Either::QSocket { io, .. } => Pin::new(io).poll_shutdown(cx),
            Either::Fallback(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_follows_from_the_scheme() {
        let name = |uri: &str| name_and_port(&uri.parse().unwrap()).ok();
        for (uri, expected) in [
            ("http://web.example/a", Some("web.example:80")),
            ("https://web.example", Some("web.example:443")),
            ("wss://web.example", Some("web.example:443")),
            ("https://web.example:8080/", Some("web.example:8080")),
            ("http://[::1]/", Some("[::1]:80")),
            ("web.example:53", Some("web.example:53")),
            ("ftp://web.example", None),
            ("/only/a/path", None),
        ] {
            assert_eq!(name(uri).as_deref(), expected, "{uri}");
        }
    }
}
