//! AES-256-GCM in place, with detached tags. `docs/protocol.md` 2.5, NIST SP 800-38D.
//!
//! Two backends with one interface: AWS-LC (feature `aws-lc-rs`, the default) and RustCrypto's
//! portable code (feature `aes-gcm`). Both yield the same bytes.

#[cfg(any(feature = "aes-gcm", test))]
pub(crate) mod aes_gcm;
#[cfg(feature = "aws-lc-rs")]
pub(crate) mod aws_lc;
#[cfg(test)]
mod tests;

#[cfg(not(any(feature = "aes-gcm", feature = "aws-lc-rs")))]
compile_error!("qsocket-proto needs an AEAD backend: enable the feature `aws-lc-rs` or `aes-gcm`");

#[cfg(all(not(feature = "aws-lc-rs"), any(feature = "aes-gcm", test)))]
use self::aes_gcm as backend;
#[cfg(feature = "aws-lc-rs")]
use self::aws_lc as backend;

#[cfg(feature = "nonce-audit")]
use super::nonce_audit;
use super::secret::Secret;
use std::fmt;

/// Length of a tag in bytes.
pub const TAG: usize = 16;

/// Length of a nonce in bytes.
pub const NONCE: usize = 12;

/// The bytes were not sealed with this key, nonce and associated data.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the sealed bytes were changed or sealed under another key")]
pub struct Forged;

/// A sealing key.
///
/// Not `Clone`: limits count the uses of a key, and two copies would count apart. The backend erases its key
/// schedule when the key is dropped.
///
/// # Security
///
/// A pair of key and nonce must never seal two different inputs: one such pair reveals the XOR of the plaintexts
/// and the key that authenticates. With the feature `nonce-audit` each seal checks this and panics.
pub struct Key {
    inner: backend::Key,
    #[cfg(feature = "nonce-audit")]
    log: nonce_audit::Log,
}

impl Key {
    /// Prepares the key schedule.
    pub fn new(secret: &Secret<32>) -> Self {
        Self {
            inner: backend::Key::new(secret.expose()),
            #[cfg(feature = "nonce-audit")]
            log: nonce_audit::Log::of(secret),
        }
    }

    /// Encrypts `buf` where it stands and returns the tag over `aad` and the ciphertext.
    pub fn seal_in_place(&self, nonce: [u8; NONCE], aad: &[u8], buf: &mut [u8]) -> [u8; TAG] {
        #[cfg(feature = "nonce-audit")]
        self.log.record(nonce, aad, buf);
        self.inner.seal_in_place(nonce, aad, buf)
    }

    /// Decrypts `buf` where it stands, if `tag` fits it and `aad`.
    ///
    /// # Errors
    ///
    /// [`Forged`] if anything differs from what was sealed. `buf` is then all zero.
    pub fn open_in_place(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), Forged> {
        let opened = self.inner.open_in_place(nonce, aad, buf, tag);
        if opened.is_err() {
            buf.fill(0);
        }
        opened
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("aead::Key(..)")
    }
}

/// The secret, fixed part of a key's nonces, XORed with what distinguishes one message from the next.
///
/// A key uses one of the two forms, never both.
#[derive(Debug)]
pub struct Iv(Secret<NONCE>);

impl Iv {
    /// Wraps derived bytes.
    pub fn new(secret: Secret<NONCE>) -> Self {
        Self(secret)
    }

    /// The nonce of message `number`: the number stands in the last eight bytes.
    pub fn xor_number(&self, number: u64) -> [u8; NONCE] {
        let mut nonce = *self.0.expose();
        xor(&mut nonce[4..], &number.to_be_bytes());
        nonce
    }

    /// The nonce of a stripe: the twelve bytes are stream number (4), block number (7) and stripe id (1).
    ///
    /// `block` is a number below 2^56, which is all that the wire format can hold.
    pub fn xor_stripe(&self, stream: u32, block: u64, stripe: u8) -> [u8; NONCE] {
        debug_assert!(block < 1 << 56, "block number {block} does not fit its seven bytes");
        let mut nonce = *self.0.expose();
        xor(&mut nonce[..4], &stream.to_be_bytes());
        xor(&mut nonce[4..11], &block.to_be_bytes()[1..]);
        nonce[11] ^= stripe;
        nonce
    }
}

fn xor(to: &mut [u8], from: &[u8]) {
    for (t, f) in to.iter_mut().zip(from) {
        *t ^= f;
    }
}
