//! The QSocket protocol as pure state machines.
//!
//! This crate holds everything that two QSocket implementations must agree on: the wire formats, the 5x5 grid
//! and its recovery, the secret sharing, the key schedule, and the state machines of a hop, a relay and a
//! connection. It opens no socket, reads no clock and draws no randomness of its own: time and randomness are
//! arguments, so that every run can be repeated from a seed.
//!
//! The section numbers in the documentation refer to `docs/protocol.md`.

pub mod call;
pub mod codec;
pub mod connection;
pub mod control;
pub mod crypto;
pub mod endpoint;
pub mod enrol;
pub mod exchange;
#[cfg(feature = "fault-points")]
pub mod fault_points;
#[cfg(not(feature = "fault-points"))]
#[expect(unreachable_pub, reason = "public with its feature")]
mod fault_points;
pub mod frame;
pub mod gf256;
pub mod grid;
pub mod hop;
pub mod ids;
pub mod names;
pub mod open;
pub mod operators;
pub mod path;
pub mod raida_key;
pub mod register;
pub mod relay;
pub mod rotate;
pub mod share;
pub mod sponsor;
pub mod stripe;
