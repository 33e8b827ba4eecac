//! Turns requests away while too few paths of their connection are well.

mod future;
mod layer;
mod service;

pub use future::ResponseFuture;
pub use layer::{HealthShedLayer, MINIMUM, RETRY_AFTER, SETTLING};
pub use service::HealthShed;

#[cfg(test)]
mod tests;
