//! Tells a backend by headers who asks, and lets no client do so.

mod future;
pub mod header;
mod layer;
mod service;
mod strip;

pub use future::ResponseFuture;
pub use layer::IdentityHeadersLayer;
pub use service::IdentityHeaders;

#[cfg(test)]
mod tests;
