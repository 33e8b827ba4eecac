//! Arithmetic in GF(2^8) with the polynomial 0x11B, without tables and branches. `docs/protocol.md` 3.1.
//!
//! A table indexed by a secret byte shows that byte to whoever shares the cache. The erasure code works on public
//! bytes and has fast kernels of its own.

use super::BYTES;

/// The product. Takes the same time for all inputs.
pub(super) const fn mul(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 8 {
        product ^= a & (b & 1).wrapping_neg();
        a = (a << 1) ^ (0x1b & (a >> 7).wrapping_neg());
        b >>= 1;
        bit += 1;
    }
    product
}

/// The inverse, `a^254`; 0 for 0.
pub(super) const fn invert(a: u8) -> u8 {
    let (mut power, mut result) = (a, 1);
    let mut bit = 1;
    while bit < 8 {
        power = mul(power, power);
        result = mul(result, power);
        bit += 1;
    }
    result
}

/// `to += from`, byte by byte.
pub(super) fn add(to: &mut [u8; BYTES], from: &[u8; BYTES]) {
    for (t, f) in to.iter_mut().zip(from) {
        *t ^= f;
    }
}

/// `to *= factor`, byte by byte.
pub(super) fn scale(to: &mut [u8; BYTES], factor: u8) {
    for t in to {
        *t = mul(*t, factor);
    }
}

/// `to += from * factor`, byte by byte.
pub(super) fn add_scaled(to: &mut [u8; BYTES], from: &[u8; BYTES], factor: u8) {
    for (t, f) in to.iter_mut().zip(from) {
        *t ^= mul(*f, factor);
    }
}
