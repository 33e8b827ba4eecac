//! The inner loops: everything that touches every byte of a block.
//!
//! Written over short arrays of 64-bit words, eight bytes of a stripe in each, which the compiler turns into vector
//! instructions of the target that it builds for. The order of the bytes in a word does not matter. Slices of
//! unequal length never panic: the shortest decides how far a loop goes.

use super::{PARITY, STRIPES};
use crate::gf256::REDUCTION;
use crate::ids::SIXTEEN;

/// Bytes in a word.
const WORD: usize = 8;

/// Words that one turn of the multiplying loop handles: four SSE or two AVX2 registers.
const LANE: usize = 8;

/// Words that one turn of the XOR loop handles: enough that stripes whose length is a multiple of the cache's page
/// stride do not evict each other's lines half used.
const GRID_LANE: usize = 32;

/// Words that one turn handles in stripes too short for the others.
const SHORT_LANE: usize = 2;

/// Bytes of a short lane. Shorter stripes are padded to it.
const PADDED: usize = SHORT_LANE * WORD;

/// A stripe and the coefficient that it is multiplied with.
pub(super) type Term<'a> = (&'a [u8], u8);

/// `sum + coefficient * source`, byte by byte.
pub(super) fn mul_add<const W: usize>(mut sum: [u64; W], source: &[u64; W], coefficient: u8) -> [u64; W] {
    let mut power = *source;
    let mut bits = coefficient;
    while bits != 0 {
        let mask = 0u64.wrapping_sub(u64::from(bits & 1));
        for (s, p) in sum.iter_mut().zip(&power) {
            *s ^= p & mask;
        }
        double(&mut power);
        bits >>= 1;
    }
    sum
}

/// Sets `out` to the sum of the terms.
///
/// Goes through the bits of the coefficients from the highest: double the sum, add the sources whose coefficient
/// has the bit (Horner's scheme). So 16 sources cost 7 doublings, not 16 times 7, coefficients that are all 1
/// cost no more than XOR, and no table is looked up.
pub(super) fn combine(out: &mut [u8], terms: &[Term<'_>]) {
    let len = terms.iter().fold(out.len(), |len, (source, _)| len.min(source.len()));
    let out = &mut out[..len];
    if len >= LANE * WORD {
        Program::new(terms).run_over::<LANE>(out);
    } else if len >= PADDED {
        Program::new(terms).run_over::<SHORT_LANE>(out);
    } else {
        let mut padded = [[0; PADDED]; STRIPES];
        for (pad, (source, _)) in padded.iter_mut().zip(terms) {
            pad[..len].copy_from_slice(&source[..len]);
        }
        let mut short: [Term<'_>; STRIPES] = [(&[], 0); STRIPES];
        for ((term, pad), (_, coefficient)) in short.iter_mut().zip(&padded).zip(terms) {
            *term = (pad, *coefficient);
        }
        let mut sum = [0; PADDED];
        Program::new(&short[..terms.len().min(STRIPES)]).run_over::<SHORT_LANE>(&mut sum);
        out.copy_from_slice(&sum[..len]);
    }
}

/// The terms of a sum, by the bits of their coefficients.
struct Program<'a> {
    terms: &'a [Term<'a>],
    /// For each bit, which terms have it in their coefficient.
    with_bit: [[u8; STRIPES]; 8],
    /// For each bit, how many terms that are.
    counts: [usize; 8],
    /// How many bits the largest coefficient has.
    width: usize,
}

impl<'a> Program<'a> {
    fn new(terms: &'a [Term<'a>]) -> Self {
        let mut program = Self { terms, with_bit: [[0; STRIPES]; 8], counts: [0; 8], width: 0 };
        for (i, (_, coefficient)) in terms.iter().enumerate().take(STRIPES) {
            program.width = program.width.max(8 - coefficient.leading_zeros() as usize);
            let mut bits = *coefficient;
            while bits != 0 {
                let bit = bits.trailing_zeros() as usize;
                program.with_bit[bit][program.counts[bit]] = i as u8;
                program.counts[bit] += 1;
                bits &= bits - 1;
            }
        }
        program
    }

    /// Sets `out`, of at least `W` words, to the sum of the terms.
    fn run_over<const W: usize>(&self, out: &mut [u8]) {
        for at in lanes::<W>(out.len()) {
            let mut sum = [0; W];
            for bit in (0..self.width).rev() {
                double(&mut sum);
                for &i in &self.with_bit[bit][..self.counts[bit]] {
                    add(&mut sum, self.terms[usize::from(i)].0, at);
                }
            }
            store(out, at, &sum);
        }
    }
}

/// Writes row, column and diagonal parity in one pass over the data.
pub(super) fn grid_parity(data: &[&[u8]; SIXTEEN], parity: &mut [&mut [u8]; PARITY]) {
    let len = data.iter().fold(usize::MAX, |len, d| len.min(d.len()));
    if len >= GRID_LANE * WORD {
        grid_over::<GRID_LANE>(data, parity, len);
    } else if len >= PADDED {
        grid_over::<SHORT_LANE>(data, parity, len);
    } else {
        let (mut cells, mut sums) = ([[0; PADDED]; SIXTEEN], [[0; PADDED]; PARITY]);
        for (cell, stripe) in cells.iter_mut().zip(data) {
            cell[..len].copy_from_slice(&stripe[..len]);
        }
        grid_over::<SHORT_LANE>(
            &cells.each_ref().map(|c| &c[..]),
            &mut sums.each_mut().map(|s| &mut s[..]),
            PADDED,
        );
        for (stripe, sum) in parity.iter_mut().zip(&sums) {
            let len = len.min(stripe.len());
            stripe[..len].copy_from_slice(&sum[..len]);
        }
    }
}

/// Does `len` bytes, which are at least `W` words.
fn grid_over<const W: usize>(data: &[&[u8]; SIXTEEN], parity: &mut [&mut [u8]; PARITY], len: usize) {
    for at in lanes::<W>(len) {
        let (mut columns, mut diagonal) = ([[0; W]; 4], [0; W]);
        for (r, cells) in data.as_chunks::<4>().0.iter().enumerate() {
            let [Some(a), Some(b), Some(c), Some(d)] = cells.map(|cell| load::<W>(cell, at)) else { return };
            // Chosen here, so that the loop has no index that depends on the row.
            let on_diagonal = [a, b, c, d][r % 4];
            let mut row = [0; W];
            let [in_a, in_b, in_c, in_d] = &mut columns;
            for i in 0..W {
                let (a, b) = (u64::from_ne_bytes(a[i]), u64::from_ne_bytes(b[i]));
                let (c, d) = (u64::from_ne_bytes(c[i]), u64::from_ne_bytes(d[i]));
                row[i] = a ^ b ^ c ^ d;
                in_a[i] ^= a;
                in_b[i] ^= b;
                in_c[i] ^= c;
                in_d[i] ^= d;
                diagonal[i] ^= u64::from_ne_bytes(on_diagonal[i]);
            }
            store(parity[r], at, &row);
        }
        for (c, column) in columns.iter().enumerate() {
            store(parity[4 + c], at, column);
        }
        store(parity[8], at, &diagonal);
    }
}

/// Where lanes of `W` words begin in `len` bytes, which are no fewer. The last overlaps the one before, so that no
/// rest remains: setting a byte twice to the same value does no harm.
fn lanes<const W: usize>(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(W * WORD).map(move |at| at.min(len - W * WORD))
}

/// The `W` words of `source` from offset `at`.
fn load<const W: usize>(source: &[u8], at: usize) -> Option<&[[u8; WORD]; W]> {
    source.get(at..)?.as_chunks().0.first_chunk()
}

/// Adds the `W` words of `source` from offset `at`.
fn add<const W: usize>(sum: &mut [u64; W], source: &[u8], at: usize) {
    if let Some(words) = load::<W>(source, at) {
        for (s, word) in sum.iter_mut().zip(words) {
            *s ^= u64::from_ne_bytes(*word);
        }
    }
}

/// Writes `W` words to `out` from offset `at`.
fn store<const W: usize>(out: &mut [u8], at: usize, words: &[u64; W]) {
    if let Some(places) = out.get_mut(at..).and_then(|o| o.as_chunks_mut::<WORD>().0.first_chunk_mut::<W>()) {
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_ne_bytes();
        }
    }
}

/// Multiplies every byte by x.
fn double<const W: usize>(words: &mut [u64; W]) {
    const ONES: u64 = u64::from_ne_bytes([1; WORD]);
    // What the reduction adds, spelt out for the shifts below.
    const { assert!(REDUCTION == 0b1_1011) };
    for word in words {
        let high = (*word >> 7) & ONES;
        *word = ((*word & !(ONES << 7)) << 1) ^ high ^ (high << 1) ^ (high << 3) ^ (high << 4);
    }
}
