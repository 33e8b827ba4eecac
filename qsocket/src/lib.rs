//! Byte streams over the 25 relays of a RAIDA, for tokio.

pub mod access;
pub mod config;

pub mod keys;
pub mod provision;
pub mod resolve;
pub mod rng;
mod text;

pub use qsocket_proto::ids::{Principal, Role};
pub use qsocket_proto::raida_key::RaidaKey;
