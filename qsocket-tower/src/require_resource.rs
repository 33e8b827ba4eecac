//! Lets a request through if the peer may dial a resource of a directory.

mod future;
mod layer;
mod service;

pub use future::ResponseFuture;
pub use layer::RequireResourceLayer;
pub use service::RequireResource;

#[cfg(test)]
mod tests;
