//! AES-256-GCM in portable Rust.

use super::{Forged, NONCE, TAG};
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};

/// A key schedule that erases itself when dropped; on the heap, so that moving it leaves no copy.
pub(crate) struct Key(Box<Aes256Gcm>);

impl Key {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Box::new(Aes256Gcm::new(key.into())))
    }

    pub(crate) fn seal_in_place(&self, nonce: [u8; NONCE], aad: &[u8], buf: &mut [u8]) -> [u8; TAG] {
        #[expect(
            clippy::unwrap_used,
            reason = "fails only above 2^36 bytes; blocks and records are far below"
        )]
        self.0.encrypt_inout_detached(&nonce.into(), aad, buf.into()).unwrap().into()
    }

    pub(crate) fn open_in_place(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), Forged> {
        self.0.decrypt_inout_detached(&nonce.into(), aad, buf.into(), tag.into()).map_err(|_| Forged)
    }
}
