//! prometheus-client 0.26: how many requests, how they ended, how long they took; and what an endpoint knows of its
//! relays.

mod endpoint;
mod future;
mod layer;
mod measure;
mod service;

pub use endpoint::EndpointMetrics;
pub use future::ResponseFuture;
pub use layer::MetricsLayer;
pub use measure::{BUCKETS, Measure};
pub use service::Metrics;

#[cfg(test)]
mod tests;
