//! What the shells of QSocket take from outside: sockets and the clock. Endpoints and relays use it alike.
//!
//! ```text
//! endpoint ── hop ── Socket ── Transport ── Socket ── hop ── relay
//! ```
//!
//! A [`Transport`] connects and listens by address and gives [`Socket`]s. The shells use tokio's readiness on them:
//! wait until [`readable`](Socket::readable) or [`writable`](Socket::writable), then try.

pub mod clock;
mod socket;

pub use socket::{Listener, Socket, Transport};
