//! Lets a request through if the program says so, after asking whomever it asks.

mod decide;
mod future;
mod layer;
mod service;

pub use decide::Decide;
pub use future::ResponseFuture;
pub use layer::{AccessLayer, DECISION_TIMEOUT};
pub use service::Access;

#[cfg(test)]
mod tests;
