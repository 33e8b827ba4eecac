//! Bounds how many requests of one peer are in progress.

mod future;
mod layer;
mod service;
mod table;

pub use future::ResponseFuture;
pub use layer::PerPeerConcurrencyLimitLayer;
pub use service::PerPeerConcurrencyLimit;
pub use table::InProgress;

#[cfg(test)]
mod tests;
