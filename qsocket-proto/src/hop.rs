//! The hop between a principal and a relay (`docs/protocol.md`, section 4).
//!
//! A hop is one TCP connection. [`Outbox`] packs frames in records and holds the bytes that wait for the socket.

mod outbox;

pub use outbox::{Full, Outbox};

/// Bytes in front of a record's ciphertext: length and number.
pub const RECORD_HEADER: usize = 12;

/// Bytes behind a record's ciphertext: the AES-256-GCM tag.
pub const RECORD_TAG: usize = 16;

/// The largest value of a record's length field: ciphertext and tag.
pub const MAX_RECORD: usize = 65_536;

/// The most plaintext that a record carries.
pub const MAX_PLAINTEXT: usize = MAX_RECORD - RECORD_TAG;

/// The most payload that one DATA frame carries: it has a record of its own then.
pub const MAX_PAYLOAD: usize = MAX_PLAINTEXT - crate::frame::DATA_OVERHEAD;
