//! Lets a request through if the peer's user is in a group of a directory.

mod future;
mod layer;
mod service;

pub use future::ResponseFuture;
pub use layer::RequireGroupLayer;
pub use service::RequireGroup;

#[cfg(test)]
mod tests;
