//! AES-256-GCM by AWS-LC.

use super::{Forged, NONCE, TAG};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// A key schedule on the heap of AWS-LC, which erases what it frees.
pub(crate) struct Key(LessSafeKey);

impl Key {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        #[expect(clippy::unwrap_used, reason = "fails only for a key of another length")]
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap()))
    }

    pub(crate) fn seal_in_place(&self, nonce: [u8; NONCE], aad: &[u8], buf: &mut [u8]) -> [u8; TAG] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        #[expect(
            clippy::unwrap_used,
            reason = "fails only above 2^36 - 32 bytes; blocks and records are far below"
        )]
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), buf).unwrap();
        let mut out = [0; TAG];
        out.copy_from_slice(tag.as_ref());
        out
    }

    pub(crate) fn open_in_place(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), Forged> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        match self.0.open_in_place_separate_tag(nonce, Aad::from(aad), tag, buf) {
            Ok(_) => Ok(()),
            Err(_) => Err(Forged),
        }
    }
}
