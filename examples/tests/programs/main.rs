//! The examples as programs: 25 relays here, everything else in a process of its own, and real clients.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod echo;
mod grpc;
mod readme;
mod site;
mod twins;
mod wiki;
mod world;
