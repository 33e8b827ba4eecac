//! The hop between a principal and a relay (`docs/protocol.md`, section 4).
//!
//! A hop is one TCP connection. After a handshake of three messages ([`Dialer`], [`Responder`]) both ends know each
//! other and hold fresh keys; from then on everything travels in sealed records of frames:
//!
//! ```text
//! frames -> Outbox -> Sealer -> Outbox::wire -> socket -> Inbox -> Opener -> frames
//! ```
//!
//! The first record that does not open closes the hop. Nothing here knows connections or routes.

mod handshake;
mod header;
mod inbox;
mod keepalive;
mod message;
mod outbox;
mod record;
#[cfg(test)]
mod vectors;

pub use handshake::{Dial, Dialer, Established, HANDSHAKE_TIMEOUT, HandshakeError, Principals, Responder};
pub use header::{REQUEST_HEADER, RequestHeader};
pub use inbox::{INBOX_MAX, Inbox};
pub use keepalive::{Beat, DEAD_AFTER, DOUBTED_FOR, Keepalive, PING_AFTER};
pub use message::{
    ACCEPT, Accept, DialledBy, FINISH, Hello, MAX_HELLO, MAX_OFFERS, REJECT, SUITE_AES_256_GCM_SHA256,
    VERSION_1, decode_finish,
};
pub use outbox::{CONTROL_RESERVE, Full, Outbox};
pub use record::{HopLimits, Opener, RecordError, Sealer};

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
