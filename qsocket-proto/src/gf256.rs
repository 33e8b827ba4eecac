//! Arithmetic in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (0x11B), for the grid.
//!
//! Addition is XOR. The tables make the time depend on the operands, so nothing secret may pass through here:
//! the grid multiplies the coefficients of its code, which everybody knows.

/// The low byte of the field polynomial: what x^8 is congruent to.
pub(crate) const REDUCTION: u8 = 0x1B;

/// Powers of the generator x + 1, twice over, so that a sum of two logarithms needs no reduction.
static EXP: [u8; 510] = {
    let mut exp = [0; 510];
    let (mut power, mut i) = (1u8, 0);
    while i < 255 {
        exp[i] = power;
        exp[i + 255] = power;
        power ^= times_x(power);
        i += 1;
    }
    exp
};

/// Logarithms to the base x + 1. The entry of 0 is never used.
static LOG: [u8; 256] = {
    let mut log = [0; 256];
    let mut i = 0;
    while i < 255 {
        log[EXP[i] as usize] = i as u8;
        i += 1;
    }
    log
};

/// The product of `a` and x.
const fn times_x(a: u8) -> u8 {
    (a << 1) ^ (REDUCTION & 0u8.wrapping_sub(a >> 7))
}

/// The product of `a` and `b`.
pub const fn mul(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 { 0 } else { EXP[LOG[a as usize] as usize + LOG[b as usize] as usize] }
}

/// The element that makes 1 when multiplied with `a`; 0 for 0.
pub const fn invert(a: u8) -> u8 {
    if a == 0 { 0 } else { EXP[255 - LOG[a as usize] as usize] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Schoolbook multiplication of polynomials.
    fn bitwise(a: u8, b: u8) -> u8 {
        let mut wide = 0u16;
        for bit in 0..8 {
            wide ^= (u16::from(a) << bit) * u16::from(b >> bit & 1);
        }
        for bit in (8..16).rev() {
            wide ^= (0x11B << (bit - 8)) * (wide >> bit & 1);
        }
        wide as u8
    }

    #[test]
    fn products_equal_those_of_polynomials() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(mul(a, b), bitwise(a, b), "{a} * {b}");
            }
        }
        // FIPS 197, section 4.2.
        assert_eq!(mul(0x57, 0x83), 0xC1);
    }

    #[test]
    fn every_element_but_zero_has_an_inverse() {
        assert_eq!(invert(0), 0);
        for a in 1..=255 {
            assert_eq!(mul(a, invert(a)), 1, "{a}");
        }
    }
}
