//! The state machines together, over a simulated network.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "a test binary has no API")]

mod chaos;
mod connection;
mod disturbed;
mod faults;
mod policy;
mod sim;
