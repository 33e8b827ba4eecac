//! tonic 0.14: the streams that a server is served with, and who calls.
//!
//! A client gives the connector of the feature `hyper-client` to `Endpoint::connect_with_connector`.

use crate::{PeerInfo, Stream};
use qsocket::QSocketListener;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::transport::server::Connected;

/// Accepted streams, for `serve_with_incoming` and `serve_with_incoming_shutdown`.
///
/// Clients were authenticated, and the lists applied, before. The stream ends after its first error, which only a
/// closed endpoint gives; tonic then serves what is open to its end.
///
/// A service finds the [`PeerInfo`] in `request.extensions()`. Settings of tonic's server for TCP, such as
/// `tcp_nodelay`, have no effect.
///
/// ```no_run
/// # async fn run<S>(listener: qsocket::QSocketListener, service: S) -> Result<(), tonic::transport::Error>
/// # where
/// #     S: tower_service::Service<http::Request<tonic::body::Body>, Response = http::Response<tonic::body::Body>>
/// #         + Clone + Send + 'static,
/// #     S::Future: Send,
/// #     S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
/// # {
/// use qsocket_tower::tonic::Incoming;
///
/// tonic::transport::Server::builder().serve_with_incoming(service, Incoming::new(listener)).await
/// # }
/// ```
#[derive(Debug)]
pub struct Incoming {
    /// `None` after the error that ended it.
    listener: Option<QSocketListener>,
}

impl Incoming {
    /// Takes a listener.
    pub fn new(listener: QSocketListener) -> Self {
        Self { listener: Some(listener) }
    }
}

impl futures_core::Stream for Incoming {
    type Item = io::Result<Stream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Stream>>> {
        let Some(listener) = &mut self.listener else { return Poll::Ready(None) };
        let accepted = ready!(listener.poll_accept(cx)).and_then(|(stream, _)| Stream::new(stream));
        if accepted.is_err() {
            self.listener = None;
        }
        Poll::Ready(Some(accepted))
    }
}

impl Connected for Stream {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer().clone()
    }
}
