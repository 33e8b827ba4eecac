//! The files that QSocket's programs share, and the system's random numbers.
//!
//! What a client, a server and a relay all read or write lives here, once: key files ([`keys`]), settings files in
//! TOML with errors that name file and line ([`settings`]), the key material of a whole RAIDA ([`provision`]).
//! Programs use it through `qsocket` and `raida-relay`.

pub mod harden;
pub mod keys;
pub mod moment;
#[cfg(feature = "program")]
pub mod program;
pub mod provision;
pub mod rng;
pub mod settings;
pub mod text;
