//! What the shells of QSocket take from outside: sockets and the clock. Endpoints and relays use it alike.
//!
//! ```text
//! endpoint ── hop ── Socket ── Transport ── Socket ── hop ── relay
//! ```
//!
//! A [`Transport`] connects and listens by address and gives [`Socket`]s. The shells use tokio's readiness on them:
//! wait until [`readable`](Socket::readable) or [`writable`](Socket::writable), then try.
//!
//! With the feature `memory` a transport can be a host in [`memory`]. Without it there is TCP alone, and each choice
//! between the two compiles to nothing. A [`Lobby`] bounds the connections whose handshake is not over.

pub mod clock;
mod lobby;
#[cfg(feature = "memory")]
pub mod memory;
mod socket;

pub use lobby::{Lobby, Place};
pub use socket::{BACKLOG, Listener, Socket, Transport};

#[cfg(test)]
mod tests;
