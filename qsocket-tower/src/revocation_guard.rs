//! Ends what is in progress when access is taken back.

mod body;
mod future;
mod layer;
mod revocation;
mod service;

pub use body::{GuardedBody, Revoked};
pub use future::ResponseFuture;
pub use layer::RevocationGuardLayer;
pub use revocation::{ASK_AGAIN, ASK_AT_MOST};
pub use service::RevocationGuard;

#[cfg(test)]
mod tests;
