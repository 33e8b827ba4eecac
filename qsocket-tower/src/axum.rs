//! axum 0.8: the listener that `axum::serve` takes, and who asks.

use crate::PeerInfo;
use axum::extract::FromRequestParts;
use axum::extract::connect_info::{ConnectInfo, Connected, MockConnectInfo};
use axum::http::request::Parts;
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use qsocket::QSocketListener;
use std::fmt;
use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Rest after the first failed `accept`; it doubles with every further one.
const FIRST_REST: Duration = Duration::from_millis(50);
/// Longest rest: a line in the log each minute tells enough.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A [`QSocketListener`] that `axum::serve` takes.
///
/// HTTP/1.1, HTTP/2 with prior knowledge and WebSocket work as over TCP. Clients were authenticated, and the lists
/// applied, before a stream gets here: nothing waits for a slow peer. `accept` cannot fail in axum: after an error,
/// which only a closed endpoint gives, it logs and tries again after a growing rest.
///
/// What axum drops ends after what was written, because upgraded connections, such as those of a WebSocket, are
/// dropped without a shutdown. A handler that panics cuts its stream.
#[derive(Debug)]
pub struct AxumListener(QSocketListener);

impl AxumListener {
    /// Takes a listener.
    pub fn new(listener: QSocketListener) -> Self {
        Self(listener)
    }

    /// The listener within: its ports, its endpoint.
    pub fn get_ref(&self) -> &QSocketListener {
        &self.0
    }
}

impl From<QSocketListener> for AxumListener {
    fn from(listener: QSocketListener) -> Self {
        Self(listener)
    }
}

impl Listener for AxumListener {
    type Io = crate::Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (crate::Stream, SocketAddr) {
        let mut rest = FIRST_REST;
        loop {
            let accepted = self.0.accept().await;
            match accepted
                .and_then(|(stream, address)| Ok((crate::Stream::new(stream)?.finishing(), address)))
            {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::error!(%error, ?rest, "cannot accept a stream");
                    tokio::time::sleep(rest).await;
                    rest = (rest * 2).min(LONGEST_REST);
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, AxumListener>> for PeerInfo {
    fn connect_info(stream: IncomingStream<'_, AxumListener>) -> Self {
        stream.io().peer().clone()
    }
}

/// Extracts who asks; answers 500 when the router was not served with `into_make_service_with_connect_info`.
///
/// ```
/// use axum::{Router, routing::get};
/// use qsocket_tower::PeerInfo;
/// use qsocket_tower::axum::{AxumListener, Peer};
///
/// # async fn run(listener: qsocket::QSocketListener) -> std::io::Result<()> {
/// let router = Router::new().route("/", get(async |Peer(peer): Peer| format!("hello, {}", peer.principal)));
/// let service = router.into_make_service_with_connect_info::<PeerInfo>();
/// axum::serve(AxumListener::new(listener), service).await
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer(pub PeerInfo);

/// The request carries no [`PeerInfo`]: a mistake in the program, not of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerMissing;

impl fmt::Display for PeerMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the request carries no peer; serve Router::into_make_service_with_connect_info::<PeerInfo>() \
             with an AxumListener",
        )
    }
}

impl std::error::Error for PeerMissing {}

impl IntoResponse for PeerMissing {
    fn into_response(self) -> Response {
        tracing::error!("{self}");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = PeerMissing;

    fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> impl Future<Output = Result<Self, PeerMissing>> + Send {
        ready(PeerInfo::find(&parts.extensions).cloned().map(Self).ok_or(PeerMissing))
    }
}

/// Where axum keeps who asks, also in its tests.
pub(crate) fn find(extensions: &Extensions) -> Option<&PeerInfo> {
    let real = extensions.get().map(|ConnectInfo(peer)| peer);
    real.or_else(|| extensions.get().map(|MockConnectInfo(peer)| peer))
}
