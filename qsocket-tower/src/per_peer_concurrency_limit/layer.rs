use super::PerPeerConcurrencyLimit;
use super::table::Table;
use tower_layer::Layer;

/// Bounds how many requests of one peer are in progress, over all its streams and connections. Further ones read 429 at
/// once, in gRPC `ResourceExhausted`; none waits.
///
/// A request is in progress until its response's body ended or was dropped. All services of one layer and its clones
/// count together.
///
/// ```
/// use http::{Request, Response};
/// use qsocket_tower::PeerInfo;
/// use qsocket_tower::per_peer_concurrency_limit::PerPeerConcurrencyLimitLayer;
/// use std::convert::Infallible;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = ServiceBuilder::new()
///     .layer(PerPeerConcurrencyLimitLayer::new(1))
///     .service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(String::from("long"))));
/// let request = |who: &str| {
///     let mut request = Request::new(String::new());
///     let peer = PeerInfo::new(who.parse().unwrap(), "wiki:80", "127.0.0.1:1".parse().unwrap());
///     request.extensions_mut().insert(peer);
///     request
/// };
/// let first = service.clone().oneshot(request("1.0.7")).await?;
/// assert_eq!(service.clone().oneshot(request("1.0.7")).await?.status(), 429);
/// assert_eq!(service.clone().oneshot(request("1.0.8")).await?.status(), 200);
/// drop(first);
/// assert_eq!(service.clone().oneshot(request("1.0.7")).await?.status(), 200);
/// # Ok(()) }
/// ```
///
/// # Security
/// It counts by principal, which a client cannot choose. A WebSocket, or another upgrade, is over for it when the response
/// was sent.
#[derive(Clone, Debug)]
pub struct PerPeerConcurrencyLimitLayer {
    max: usize,
    table: Table,
}

impl PerPeerConcurrencyLimitLayer {
    /// Lets `max` requests of a peer be in progress. 0 refuses all.
    pub fn new(max: usize) -> Self {
        Self { max, table: Table::default() }
    }
}

impl<S> Layer<S> for PerPeerConcurrencyLimitLayer {
    type Service = PerPeerConcurrencyLimit<S>;

    fn layer(&self, inner: S) -> PerPeerConcurrencyLimit<S> {
        PerPeerConcurrencyLimit { inner, max: self.max, table: self.table.clone() }
    }
}
