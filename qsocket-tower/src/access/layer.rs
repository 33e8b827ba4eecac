use super::{Access, Decide};
use std::time::Duration;
use tower_layer::Layer;

/// Long enough for a question to a database in another city, short enough that a client still waits.
pub const DECISION_TIMEOUT: Duration = Duration::from_secs(5);

/// Lets a request through if an asynchronous decision says so. Otherwise the client reads 403 with the code of the
/// decision, in gRPC `PermissionDenied` ([`refusal`](crate::refusal)); and 503 if it takes longer than
/// [`DECISION_TIMEOUT`]. Nothing gets through undecided.
///
/// ```
/// use http::request::Parts;
/// use http::{Request, Response};
/// use qsocket_tower::PeerInfo;
/// use qsocket_tower::access::AccessLayer;
/// use std::convert::Infallible;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Everyone has a folder of its own.
/// let own_folder = |peer: PeerInfo, request: &Parts| {
///     let own = request.uri.path().starts_with(&format!("/{}/", peer.principal));
///     async move { if own { Ok(()) } else { Err("another-folder".into()) } }
/// };
/// let service = ServiceBuilder::new()
///     .layer(AccessLayer::new(own_folder))
///     .service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(String::from("a file"))));
/// for (path, status) in [("/1.0.7/a", 200), ("/1.0.8/a", 403)] {
///     let mut request = Request::get(path).body(String::new())?;
///     request.extensions_mut().insert(PeerInfo::new("1.0.7".parse()?, "files:80", "127.0.0.1:1".parse()?));
///     let response = service.clone().oneshot(request).await?;
///     assert_eq!(response.status(), status);
///     if status == 403 {
///         assert_eq!(response.headers()["x-qsocket-reason"], "another-folder");
///     }
/// }
/// # Ok(()) }
/// ```
///
/// # Security
/// A path may be written in many ways (`/1.0.7/../1.0.8/a`). A decision by path has to read it as the handler does.
/// A [`RevocationGuard`](crate::revocation_guard::RevocationGuard) does not ask it again. Each request that waits for its
/// decision is held in memory: a [`PerPeerConcurrencyLimit`](crate::per_peer_concurrency_limit::PerPeerConcurrencyLimit)
/// outside bounds how many a peer may have.
#[derive(Clone, Copy, Debug)]
pub struct AccessLayer<D> {
    decider: D,
    timeout: Duration,
}

impl<D: Decide> AccessLayer<D> {
    /// Takes what decides.
    pub const fn new(decider: D) -> Self {
        Self { decider, timeout: DECISION_TIMEOUT }
    }

    /// Sets how long a decision may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<S, D: Clone> Layer<S> for AccessLayer<D> {
    type Service = Access<S, D>;

    fn layer(&self, inner: S) -> Access<S, D> {
        Access { inner, decider: self.decider.clone(), timeout: self.timeout }
    }
}
