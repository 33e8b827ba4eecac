use super::Metrics;
use super::measure::Families;
use prometheus_client::registry::Registry;
use tower_layer::Layer;

/// Counts and times requests.
///
/// | metric | labels | |
/// |---|---|---|
/// | `qsocket_http_requests_total` | `method`, `status` | requests that are over |
/// | `qsocket_http_request_duration_seconds` | `method`, `status` | until the response's body ended or was dropped |
/// | `qsocket_http_requests_in_flight` | | requests that are not over |
///
/// `method` is one of those of RFC 9110, `PATCH` or `other`; `status` is `1xx` to `5xx`, `error` when the service failed,
/// `dropped` when nobody waited for the answer.
///
/// ```
/// use http::{Request, Response};
/// use prometheus_client::registry::Registry;
/// use qsocket_tower::metrics::MetricsLayer;
/// use std::convert::Infallible;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut registry = Registry::default();
/// let service = ServiceBuilder::new()
///     .layer(MetricsLayer::new(&mut registry))
///     .service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(String::new())));
/// service.oneshot(Request::new(String::new())).await?;
///
/// let mut text = String::new();
/// prometheus_client::encoding::text::encode(&mut text, &registry)?;
/// assert!(text.contains(r#"qsocket_http_requests_total{method="GET",status="2xx"} 1"#));
/// # Ok(()) }
/// ```
///
/// # Security
/// No label says who asked, or anything that a client may choose freely: whoever reads the metrics learns of no peer,
/// and no client can make them grow.
#[derive(Clone, Debug)]
pub struct MetricsLayer {
    families: Families,
}

impl MetricsLayer {
    /// Registers the metrics. Services of this layer and its clones count together.
    pub fn new(registry: &mut Registry) -> Self {
        Self { families: Families::new(registry) }
    }
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Metrics<S>;

    fn layer(&self, inner: S) -> Metrics<S> {
        Metrics { inner, families: self.families.clone() }
    }
}
