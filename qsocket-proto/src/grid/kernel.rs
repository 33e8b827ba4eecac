//! The inner loops: everything that touches every byte of a block.
//!
//! Written over small fixed arrays, which the compiler turns into vector instructions of whatever target it
//! builds for. Slices of unequal length never panic: the shortest decides how far a loop goes.

use super::{PARITY, STRIPES};
use crate::gf256::times_x;
use crate::ids::SIXTEEN;

/// Bytes that one turn of a loop handles. Four SSE or two AVX2 registers.
const LANE: usize = 64;

/// Bytes for the rest of a stripe, so that short stripes are not handled byte by byte.
const SHORT_LANE: usize = 8;

/// A stripe and the coefficient that it is multiplied with.
pub(super) type Term<'a> = (&'a [u8], u8);

/// Adds `coefficient * source` to `sum`, all of one small fixed length.
pub(super) fn mul_add_into<const N: usize>(sum: &mut [u8; N], source: &[u8; N], coefficient: u8) {
    let mut power = *source;
    let mut bits = coefficient;
    while bits != 0 {
        let mask = 0u8.wrapping_sub(bits & 1);
        for (s, p) in sum.iter_mut().zip(&power) {
            *s ^= p & mask;
        }
        double(&mut power);
        bits >>= 1;
    }
}

/// Sets `out` to the sum of the terms.
///
/// Goes through the bits of the coefficients from the highest: double the sum, add the sources whose coefficient
/// has the bit (Horner's scheme). So 16 sources cost 7 doublings, not 16 times 7, coefficients that are all 1
/// cost no more than XOR, and no table is looked up.
pub(super) fn combine(out: &mut [u8], terms: &[Term<'_>]) {
    let program = Program::new(terms);
    let len = terms.iter().fold(out.len(), |len, (source, _)| len.min(source.len()));
    let (whole, rest) = out[..len].as_chunks_mut::<LANE>();
    for (i, chunk) in whole.iter_mut().enumerate() {
        *chunk = program.run(i * LANE);
    }
    let done = whole.len() * LANE;
    let (short, rest) = rest.as_chunks_mut::<SHORT_LANE>();
    for (i, chunk) in short.iter_mut().enumerate() {
        *chunk = program.run(done + i * SHORT_LANE);
    }
    let done = done + short.len() * SHORT_LANE;
    for (i, byte) in rest.iter_mut().enumerate() {
        [*byte] = program.run(done + i);
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

    /// The sum of the terms at offset `at`.
    fn run<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut sum = [0; N];
        for bit in (0..self.width).rev() {
            double(&mut sum);
            for &i in &self.with_bit[bit][..self.counts[bit]] {
                if let Some(source) = chunk(self.terms[usize::from(i)].0, at) {
                    xor(&mut sum, source);
                }
            }
        }
        sum
    }
}

/// Writes row, column and diagonal parity in one pass over the data.
pub(super) fn grid_parity(data: &[&[u8]; SIXTEEN], parity: &mut [&mut [u8]; PARITY]) {
    let done = grid_lanes::<LANE>(data, parity, 0);
    let done = grid_lanes::<SHORT_LANE>(data, parity, done);
    grid_lanes::<1>(data, parity, done);
}

/// Does whole lanes of `N` bytes from offset `at`; returns the offset behind the last.
fn grid_lanes<const N: usize>(
    data: &[&[u8]; SIXTEEN],
    parity: &mut [&mut [u8]; PARITY],
    mut at: usize,
) -> usize {
    let len = data.iter().fold(usize::MAX, |len, d| len.min(d.len()));
    while at + N <= len {
        let (mut columns, mut diagonal) = ([[0; N]; 4], [0; N]);
        for r in 0..4 {
            let mut row = [0; N];
            for c in 0..4 {
                let Some(cell) = chunk::<N>(data[r * 4 + c], at) else { continue };
                xor(&mut row, cell);
                xor(&mut columns[c], cell);
                if r == c {
                    xor(&mut diagonal, cell);
                }
            }
            store(parity[r], at, &row);
        }
        for (c, column) in columns.iter().enumerate() {
            store(parity[4 + c], at, column);
        }
        store(parity[8], at, &diagonal);
        at += N;
    }
    at
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

fn store<const N: usize>(bytes: &mut [u8], at: usize, value: &[u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut()) {
        *place = *value;
    }
}

fn xor<const N: usize>(sum: &mut [u8; N], source: &[u8; N]) {
    for (s, b) in sum.iter_mut().zip(source) {
        *s ^= b;
    }
}

/// Multiplies every byte by x.
fn double<const N: usize>(bytes: &mut [u8; N]) {
    for b in bytes {
        *b = times_x(*b);
    }
}
