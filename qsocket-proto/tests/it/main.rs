//! The state machines together, over a simulated network.

#![allow(unreachable_pub, reason = "a test binary has no API")]

mod disturbed;
mod sim;
