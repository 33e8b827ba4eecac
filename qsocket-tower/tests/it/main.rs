//! The adapters over 25 relays on loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod axum;
mod hyper;
mod layers;
mod network;
mod postgres;
mod program;
mod recipes;
mod redis;
#[path = "../../../tests/programs/postgres.rs"]
mod server;
mod tonic;
