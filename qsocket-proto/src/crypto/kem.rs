//! ML-KEM-768, which makes a connection forward secret. `docs/protocol.md` 2.10, FIPS 203.
//!
//! The randomness is an argument, as everywhere in this crate: 64 bytes for a key, 32 for an encapsulation.

use super::secret::Secret;
use ml_kem::{Decapsulate, KeyExport, MlKem768, kem::Kem};
use rand_core::CryptoRng;
use std::fmt;
use zeroize::Zeroize;

/// Length of an encapsulation key in bytes.
pub const KEY_BYTES: usize = 1184;

/// Length of a ciphertext in bytes.
pub const CIPHERTEXT_BYTES: usize = 1088;

/// The peer's encapsulation key fails the modulus check of FIPS 203, section 7.2.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the ML-KEM-768 key is malformed: a coefficient is not below 3329")]
pub struct BadKey;

/// The receiving half of one exchange: made for one connection, used once, erased when dropped.
pub struct DecapsulationKey(Box<<MlKem768 as Kem>::DecapsulationKey>);

impl DecapsulationKey {
    /// Draws a seed of 64 bytes and computes the key pair from it.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut seed = ml_kem::Seed::default();
        rng.fill_bytes(&mut seed);
        let key = Self(Box::new(ml_kem::DecapsulationKey::from_seed(seed)));
        seed.as_mut_slice().zeroize();
        key
    }

    /// The public half, as it goes to the peer.
    pub fn encapsulation_key(&self) -> [u8; KEY_BYTES] {
        self.0.encapsulation_key().to_bytes().into()
    }

    /// The secret inside `ciphertext`, and the end of this key.
    ///
    /// A ciphertext that was not made for this key yields an unrelated secret, not an error (FIPS 203 calls it
    /// implicit rejection): the keys derived from it then open nothing.
    pub fn decapsulate(self, ciphertext: &[u8; CIPHERTEXT_BYTES]) -> Secret<32> {
        #[cfg(feature = "aws-lc-rs")]
        if let Some(secret) = aws_lc::decapsulate(&self.0, ciphertext) {
            return secret;
        }
        self.decapsulate_portably(ciphertext)
    }

    fn decapsulate_portably(&self, ciphertext: &[u8; CIPHERTEXT_BYTES]) -> Secret<32> {
        let mut shared = self.0.decapsulate(ciphertext.into());
        let secret = Secret::build(|out| out.copy_from_slice(&shared));
        shared.as_mut_slice().zeroize();
        secret
    }
}

impl fmt::Debug for DecapsulationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kem::DecapsulationKey(..)")
    }
}

/// The same with AWS-LC, in a fifth of the time, while a connection waits for it. Keys and ciphertexts are made portably: there
/// AWS-LC takes its randomness from the system and not from the caller.
#[cfg(feature = "aws-lc-rs")]
#[expect(
    deprecated,
    reason = "the expanded form is discouraged for files; here it goes from one implementation to the other"
)]
mod aws_lc {
    use super::{CIPHERTEXT_BYTES, Kem, MlKem768, Secret, Zeroize};
    use aws_lc_rs::kem::{DecapsulationKey, ML_KEM_768};
    use ml_kem::ExpandedKeyEncoding;

    /// `None` if AWS-LC has no memory.
    pub(super) fn decapsulate(
        key: &<MlKem768 as Kem>::DecapsulationKey,
        ciphertext: &[u8; CIPHERTEXT_BYTES],
    ) -> Option<Secret<32>> {
        let mut expanded = key.to_expanded_bytes();
        let key = DecapsulationKey::new(&ML_KEM_768, &expanded);
        expanded.as_mut_slice().zeroize();
        let shared = key.ok()?.decapsulate(ciphertext[..].into()).ok()?;
        let shared: &[u8; 32] = shared.as_ref().try_into().ok()?;
        Some(Secret::build(|out| out.copy_from_slice(shared)))
    }
}

/// Draws a secret and locks it for the holder of `key`.
///
/// # Errors
///
/// [`BadKey`] if the key fails the modulus check; nothing is drawn then.
pub fn encapsulate<R: CryptoRng + ?Sized>(
    key: &[u8; KEY_BYTES],
    rng: &mut R,
) -> Result<([u8; CIPHERTEXT_BYTES], Secret<32>), BadKey> {
    let key = <MlKem768 as Kem>::EncapsulationKey::new(key.into()).map_err(|_| BadKey)?;
    let mut message = ml_kem::B32::default();
    rng.fill_bytes(&mut message);
    let (ciphertext, mut shared) = key.encapsulate_deterministic(&message);
    message.as_mut_slice().zeroize();
    let secret = Secret::build(|out| out.copy_from_slice(&shared));
    shared.as_mut_slice().zeroize();
    Ok((ciphertext.into(), secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    #[test]
    fn both_sides_share_a_secret_that_depends_on_all_randomness() {
        let secret = |a, b| {
            let key = DecapsulationKey::generate(&mut rng(a));
            let (ciphertext, ours) = encapsulate(&key.encapsulation_key(), &mut rng(b)).unwrap();
            assert!(key.decapsulate(&ciphertext).ct_eq(&ours));
            ours
        };
        assert!(secret(1, 2).ct_eq(&secret(1, 2)), "the same randomness repeats the exchange");
        assert!(!secret(1, 2).ct_eq(&secret(3, 2)));
        assert!(!secret(1, 2).ct_eq(&secret(1, 3)));
    }

    /// Whichever code runs, the secret is one, that of a ciphertext for another key too.
    #[cfg(feature = "aws-lc-rs")]
    #[test]
    fn both_ways_to_decapsulate_agree() {
        for seed in 0..32 {
            let key = DecapsulationKey::generate(&mut rng(seed));
            let (mut ciphertext, secret) = encapsulate(&key.encapsulation_key(), &mut rng(!seed)).unwrap();
            assert!(aws_lc::decapsulate(&key.0, &ciphertext).unwrap().ct_eq(&secret));
            ciphertext[usize::from(seed) * 34] ^= 1;
            let rejected = aws_lc::decapsulate(&key.0, &ciphertext).unwrap();
            assert!(rejected.ct_eq(&key.decapsulate_portably(&ciphertext)) && !rejected.ct_eq(&secret));
        }
    }

    #[test]
    fn a_changed_ciphertext_yields_another_secret() {
        let make = || DecapsulationKey::generate(&mut rng(1));
        let (ciphertext, secret) = encapsulate(&make().encapsulation_key(), &mut rng(2)).unwrap();
        for byte in [0, 500, CIPHERTEXT_BYTES - 1] {
            let mut wrong = ciphertext;
            wrong[byte] ^= 1;
            assert!(!make().decapsulate(&wrong).ct_eq(&secret), "byte {byte}");
        }
    }

    /// FIPS 203, section 7.2: every one of the 768 coefficients must be below 3329.
    #[test]
    fn a_coefficient_out_of_range_is_refused_wherever_it_stands() {
        let good = DecapsulationKey::generate(&mut rng(1)).encapsulation_key();
        let with = |i: usize, value: u16| {
            let mut key = good;
            let at = i / 2 * 3;
            let [low, high] = value.to_le_bytes();
            if i.is_multiple_of(2) {
                key[at] = low;
                key[at + 1] = key[at + 1] & 0xf0 | high;
            } else {
                key[at + 1] = key[at + 1] & 0x0f | low << 4;
                key[at + 2] = low >> 4 | high << 4;
            }
            encapsulate(&key, &mut rng(2)).map(drop)
        };
        for i in 0..768 {
            assert_eq!(with(i, 3328), Ok(()), "coefficient {i}");
            assert_eq!(with(i, 3329), Err(BadKey), "coefficient {i}");
        }
        assert_eq!(with(5, 4095), Err(BadKey));
        assert_eq!(encapsulate(&[0xff; KEY_BYTES], &mut rng(2)).map(drop), Err(BadKey));
    }

    /// Both directions against an implementation that shares no code with ours.
    #[cfg(feature = "aws-lc-rs")]
    #[test]
    fn interoperates_with_aws_lc() {
        use aws_lc_rs::kem;
        for seed in 0..8 {
            let ours = DecapsulationKey::generate(&mut rng(seed));
            let theirs = kem::EncapsulationKey::new(&kem::ML_KEM_768, &ours.encapsulation_key()).unwrap();
            let (ciphertext, secret) = theirs.encapsulate().unwrap();
            let opened = ours.decapsulate(ciphertext.as_ref().try_into().unwrap());
            assert_eq!(opened.expose()[..], *secret.as_ref());

            let theirs = kem::DecapsulationKey::generate(&kem::ML_KEM_768).unwrap();
            let public = theirs.encapsulation_key().unwrap().key_bytes().unwrap();
            let (ciphertext, secret) =
                encapsulate(public.as_ref().try_into().unwrap(), &mut rng(seed)).unwrap();
            let opened = theirs.decapsulate(ciphertext[..].into()).unwrap();
            assert_eq!(secret.expose()[..], *opened.as_ref());
        }
    }
}
