//! A relay of the RAIDA on tokio.
//!
//! ```text
//! socket -> Inbox -> Opener -> Router -> Egress of the other hop -> Sealer -> its socket
//! ```
//!
//! [`Relay`] is one relay on real TCP sockets; [`LocalRaida`] is all 25 of them on loopback, for tests, examples
//! and closed networks on one machine. Every decision is taken in `qsocket_proto::relay`; this crate moves bytes
//! and time. Section numbers refer to `docs/protocol.md`.
//!
//! # Locks
//! Short mutexes, none held across an `.await`, in this order: routing, then the egress of one hop. The routing lock
//! is never held while a record is opened or sealed. A hop's own lock is, because its records are sealed where they
//! wait.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod calls;
mod handshake;
mod hop;
mod local;
mod meter;
pub mod names;
pub mod posts;
pub mod principals;
mod rate;
mod relay;
mod roster;
mod state;
mod stats;

pub use local::{LocalRaida, LocalRaidaBuilder, LocalServer};
pub use relay::{
    HANDSHAKES_PER_SECOND, Limits, Listen, MAX_CONNECTIONS, MAX_HANDSHAKES, OUTBOX, Relay, RelayConfig,
    STALLED_AFTER, Server,
};
pub use roster::Roster;
pub use stats::{Flow, Refusal, Refused, Stats};

#[cfg(test)]
mod tests;
