//! Fuzz bodies as plain functions over the public API of the crates.
//!
//! A body takes any bytes and must neither panic nor hang; what it promises beyond that it asserts. Parsers get the
//! bytes as they are. State machines get them as a list of operations, read by [`Input`]: two connections over lossy
//! wires ([`connection`]), a peer that breaks every rule under its own seal ([`peer`]), a relay ([`relay`]), the
//! sharing of a secret ([`sharing`]), the names of a relay ([`names`]).
//!
//! The corpus in `corpus/` is replayed by `cargo test`; `fuzz/run` looks for new inputs. Both call
//! `nonce_audit::forget` before each input, since every run draws from the same seed.

pub mod connection;
pub mod exchange;
pub mod files;
pub mod formats;
pub mod hop;
mod input;
pub mod names;
pub mod peer;
pub mod register;
pub mod relay;
pub mod sharing;
mod wires;

pub use input::Input;

/// A fuzz body.
pub type Body = fn(&[u8]);

/// Every body, by the name of its corpus.
pub const TARGETS: [(&str, Body); 29] = [
    ("hop_hello", formats::hop_hello),
    ("hop_accept", formats::hop_accept),
    ("hop_handshake", hop::handshake),
    ("hop_records", hop::records),
    ("frames", formats::frames),
    ("open_header", formats::open_header),
    ("hello", formats::hello),
    ("reply", formats::reply),
    ("payload", formats::payload),
    ("block", formats::block),
    ("control", formats::control),
    ("shares", sharing::shares),
    ("sharing", sharing::operations),
    ("exchange_messages", exchange::messages),
    ("exchange", exchange::exchange),
    ("register", register::messages),
    ("grid", formats::grid),
    ("raida_key_file", files::raida_key),
    ("encryption_key_file", files::encryption_key),
    ("sealed_key_file", files::sealed_key),
    ("coin_file", files::coin),
    ("enrolment_file", files::enrolment),
    ("settings_file", files::settings),
    ("relay", relay::operations),
    ("connection", connection::operations),
    ("peer", peer::operations),
    ("names_messages", names::messages),
    ("names_dns", names::dns),
    ("names", names::registry),
];

/// The body of this name.
pub fn body(name: &str) -> Option<Body> {
    TARGETS.into_iter().find(|(target, _)| *target == name).map(|(_, body)| body)
}
