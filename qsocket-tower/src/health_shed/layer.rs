use super::HealthShed;
use crate::PeerInfo;
use std::time::Duration;
use tower_layer::Layer;

/// With fewer paths a block needs more than one round, and a new connection does not open.
pub const MINIMUM: usize = 16;
/// A hop is dialled again after 250 ms at first, and the first one that returns hurries the others.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
/// What the core gives the relays of a new connection to agree, once more for its paths to join.
pub const SETTLING: Duration = Duration::from_secs(5);

/// Turns requests away with 503 and `Retry-After`, in gRPC with `Unavailable`, while fewer than a minimum of the 25 paths
/// of their connection are well ([`PeerInfo::health`]). For services that would rather refuse than go on without
/// redundancy, such as one that takes orders.
///
/// ```
/// use http::{Request, Response};
/// use qsocket::Health;
/// use qsocket_tower::health_shed::HealthShedLayer;
/// use qsocket_tower::{LiveHealth, PeerInfo};
/// use std::convert::Infallible;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = ServiceBuilder::new()
///     .layer(HealthShedLayer::new().with_minimum(20))
///     .service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(String::from("ordered"))));
/// for (well, status) in [(25, 200), (20, 200), (19, 503)] {
///     let mut peer = PeerInfo::new("1.0.7".parse()?, "shop:80", "127.0.0.1:1".parse()?);
///     peer.health = LiveHealth::fixed(Health::of(well));
///     let mut request = Request::new(String::new());
///     request.extensions_mut().insert(peer);
///     assert_eq!(service.clone().oneshot(request).await?.status(), status);
/// }
/// # Ok(()) }
/// ```
///
/// A stream often comes before all paths of a new connection have joined. While enough of them are announced, its
/// requests get through for a time to settle, though not enough are well yet. A stream that comes when paths are down,
/// and not joining, has no such time.
///
/// A request that was let through is not turned away later.
#[derive(Clone, Copy, Debug)]
pub struct HealthShedLayer {
    minimum: usize,
    retry_after: Duration,
    settling: Duration,
}

impl Default for HealthShedLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl HealthShedLayer {
    /// [`MINIMUM`], [`RETRY_AFTER`] and [`SETTLING`].
    pub const fn new() -> Self {
        Self { minimum: MINIMUM, retry_after: RETRY_AFTER, settling: SETTLING }
    }

    /// Sets how many paths have to be well; more than 25 count as 25.
    #[must_use]
    pub fn with_minimum(mut self, paths: usize) -> Self {
        self.minimum = paths.min(PeerInfo::PATHS);
        self
    }

    /// Sets when the client is asked to try again, in whole seconds, rounded up.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Sets how long the paths of a new connection may take to join.
    #[must_use]
    pub fn with_settling(mut self, settling: Duration) -> Self {
        self.settling = settling;
        self
    }

    /// Whether a request of this peer gets through.
    pub(super) fn allows(&self, peer: &PeerInfo) -> bool {
        peer.health.now().well() >= self.minimum || peer.health.is_settling(self.minimum, self.settling)
    }

    /// In whole seconds.
    pub(super) fn retry_after(&self) -> u64 {
        self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0)
    }
}

impl<S> Layer<S> for HealthShedLayer {
    type Service = HealthShed<S>;

    fn layer(&self, inner: S) -> HealthShed<S> {
        HealthShed::new(inner, *self)
    }
}
