use super::*;
#[cfg(feature = "aws-lc-rs")]
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    source: String,
    key: String,
    nonce: String,
    aad: String,
    plaintext: String,
    ciphertext: String,
    tag: String,
}

fn unhex(s: &str) -> Vec<u8> {
    assert!(s.len().is_multiple_of(2));
    (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
}

/// Runs `$body` with `$Key` as each backend's key type that is compiled in.
macro_rules! for_each_backend {
    ($Key:ident => $body:block) => {{
        {
            use super::aes_gcm::Key as $Key;
            $body
        }
        #[cfg(feature = "aws-lc-rs")]
        {
            use super::aws_lc::Key as $Key;
            $body
        }
    }};
}

#[test]
fn published_vectors() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../../../vectors/aes256gcm.json")).unwrap();
    assert!(vectors.len() >= 20);
    for v in &vectors {
        let key: [u8; 32] = unhex(&v.key).try_into().unwrap();
        let nonce: [u8; NONCE] = unhex(&v.nonce).try_into().unwrap();
        let tag: [u8; TAG] = unhex(&v.tag).try_into().unwrap();
        let (aad, plaintext, ciphertext) = (unhex(&v.aad), unhex(&v.plaintext), unhex(&v.ciphertext));
        for_each_backend!(K => {
            let mut buf = plaintext.clone();
            assert_eq!(K::new(&key).seal_in_place(nonce, &aad, &mut buf), tag, "{}", v.source);
            assert_eq!(buf, ciphertext, "{}", v.source);
            assert_eq!(K::new(&key).open_in_place(nonce, &aad, &mut buf, &tag), Ok(()), "{}", v.source);
            assert_eq!(buf, plaintext, "{}", v.source);
        });
    }
}

#[test]
fn every_changed_bit_is_noticed_and_the_buffer_is_erased() {
    for_each_backend!(K => {
        let (nonce, aad, plain) = ([1; NONCE], *b"associated", *b"some plaintext of two blocks");
        let key = K::new(&[9; 32]);
        let mut sealed = plain;
        let tag = key.seal_in_place(nonce, &aad, &mut sealed);
        let flip = |bytes: &mut [u8], bit: usize| bytes[bit / 8] ^= 1 << (bit % 8);
        let refused = |nonce, aad: &[u8], mut buf: Vec<u8>, tag| {
            assert_eq!(key.open_in_place(nonce, aad, &mut buf, &tag), Err(Forged));
            assert!(buf.iter().all(|b| *b == 0), "unauthenticated plaintext is left in the buffer");
        };
        for bit in 0..8 * sealed.len() {
            let mut s = sealed;
            flip(&mut s, bit);
            refused(nonce, &aad, s.to_vec(), tag);
        }
        for bit in 0..8 * TAG {
            let mut t = tag;
            flip(&mut t, bit);
            refused(nonce, &aad, sealed.to_vec(), t);
        }
        for bit in 0..8 * aad.len() {
            let mut a = aad;
            flip(&mut a, bit);
            refused(nonce, &a, sealed.to_vec(), tag);
        }
        for bit in 0..8 * NONCE {
            let mut n = nonce;
            flip(&mut n, bit);
            refused(n, &aad, sealed.to_vec(), tag);
        }
        refused(nonce, &aad, sealed[..sealed.len() - 1].to_vec(), tag);
        refused(nonce, &aad, [&sealed[..], &[0]].concat(), tag);
        refused(nonce, &aad, Vec::new(), tag);
        assert_eq!(key.open_in_place(nonce, &aad, &mut sealed, &tag), Ok(()));
        assert_eq!(sealed, plain);
        let other = K::new(&[8; 32]);
        assert_eq!(other.open_in_place(nonce, &aad, &mut sealed, &tag), Err(Forged));
    });
}

#[cfg(feature = "aws-lc-rs")]
proptest! {
    #[test]
    fn the_backends_agree(
        key: [u8; 32],
        nonce: [u8; NONCE],
        aad in proptest::collection::vec(any::<u8>(), 0..100),
        plain in proptest::collection::vec(any::<u8>(), 0..5000),
    ) {
        let (a, b) = (aws_lc::Key::new(&key), aes_gcm::Key::new(&key));
        let (mut x, mut y) = (plain.clone(), plain.clone());
        let (s, t) = (a.seal_in_place(nonce, &aad, &mut x), b.seal_in_place(nonce, &aad, &mut y));
        prop_assert_eq!((&x, s), (&y, t));
        prop_assert_eq!(a.open_in_place(nonce, &aad, &mut y, &t), Ok(()));
        prop_assert_eq!(b.open_in_place(nonce, &aad, &mut x, &s), Ok(()));
        prop_assert_eq!((&x, &y), (&plain, &plain));
    }
}

#[test]
fn nonces_place_their_numbers() {
    let zero = Iv::new(Secret::new([0; NONCE]));
    assert_eq!(zero.xor_number(0x0102_0304_0506_0708), [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(
        zero.xor_stripe(0x0a0b_0c0d, 0x01_0203_0405_0607, 33),
        [10, 11, 12, 13, 1, 2, 3, 4, 5, 6, 7, 33]
    );
    let iv = Iv::new(Secret::new([0xff; NONCE]));
    assert_eq!(iv.xor_number(u64::MAX), [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(iv.xor_stripe(u32::MAX, (1 << 56) - 1, 0xff), [0; NONCE]);
}

#[test]
fn debug_shows_no_key() {
    let key = Key::new(&Secret::new([0x41; 32]));
    assert_eq!(
        format!("{key:?} {:?}", Iv::new(Secret::new([0x41; NONCE]))),
        "aead::Key(..) Iv(Secret<12>(..))"
    );
}
