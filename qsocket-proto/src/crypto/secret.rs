//! The container of every secret.

use rand_core::CryptoRng;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `N` secret bytes: erased when dropped, never printed, compared only in constant time.
///
/// The bytes live on the heap, so that moving the secret leaves no copy of them on the stack. There is
/// deliberately no `Clone`, `PartialEq` or serialization; whoever needs a second copy writes that down.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Takes the bytes and erases the argument. The caller's own copy, if it keeps one, is the caller's to erase.
    pub fn new(mut bytes: [u8; N]) -> Self {
        let secret = Self::build(|out| out.copy_from_slice(&bytes));
        bytes.zeroize();
        secret
    }

    /// Lets `fill` write the bytes where they will stay.
    pub fn build(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0);
        secret
    }

    /// Draws uniform bytes.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self::build(|out| rng.fill_bytes(out))
    }

    /// The bytes themselves. Every use of a secret passes here, so that a search for the name finds them all.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// Whether both hold the same bytes; takes the same time for every input.
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }

    /// Whether every byte is zero; takes the same time for every input.
    pub fn is_zero(&self) -> bool {
        self.0.ct_eq(&[0; N]).into()
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> ZeroizeOnDrop for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    #[test]
    fn debug_shows_no_byte() {
        assert_eq!(format!("{:?}", Secret::new([0x41; 32])), "Secret<32>(..)");
    }

    #[test]
    fn comparison_sees_every_byte() {
        let a = Secret::new([7; 32]);
        assert!(a.ct_eq(&Secret::new([7; 32])));
        for i in 0..32 {
            let mut other = [7; 32];
            other[i] ^= 1;
            assert!(!a.ct_eq(&Secret::new(other)), "byte {i}");
        }
        assert!(!a.is_zero());
        assert!(Secret::new([0; 16]).is_zero());
    }

    #[test]
    fn random_secrets_come_from_the_generator() {
        let (a, b) = {
            let mut rng = ChaCha20Rng::from_seed([1; 32]);
            (Secret::<32>::random(&mut rng), Secret::<32>::random(&mut rng))
        };
        assert!(!a.ct_eq(&b));
        assert!(a.ct_eq(&Secret::random(&mut ChaCha20Rng::from_seed([1; 32]))));
    }
}
