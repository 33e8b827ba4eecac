//! prometheus-client 0.26: how many requests, how they ended, how long they took.

mod future;
mod layer;
mod measure;
mod service;

pub use future::ResponseFuture;
pub use layer::MetricsLayer;
pub use measure::{BUCKETS, Measure};
pub use service::Metrics;

#[cfg(test)]
mod tests;
