//! Keys: secrets, key derivation, sealing, and the schedule that leads from one secret to all others.
//!
//! There is one suite per protocol version and nothing to negotiate in it: AES-256-GCM seals, HMAC-SHA256
//! derives and authenticates, ML-KEM-768 adds forward secrecy. `docs/protocol.md` 2.

pub mod aead;
pub mod hkdf;
pub mod kem;
#[cfg(feature = "nonce-audit")]
pub mod nonce_audit;
pub mod schedule;
pub mod secret;

use sha2::{Digest, Sha256};

/// SHA-256 of the parts, one behind the other.
///
/// Nothing separates the parts: they must have fixed widths or carry their lengths.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
