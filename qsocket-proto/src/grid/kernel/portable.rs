//! The kernel for every processor.
//!
//! Written over short arrays of 64-bit words, eight bytes of a stripe in each, which the compiler turns into vector
//! instructions of the target that it builds for. The order of the bytes in a word does not matter. No table is
//! looked up.

use super::{ROWS, Term, lanes};
use crate::gf256::REDUCTION;
use crate::grid::{PARITY, STRIPES};
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

/// Bytes of a short lane.
pub(super) const BYTES: usize = SHORT_LANE * WORD;

/// Bytes of every stripe that are worked on together when several sums are made: those of 25 stripes stay in a
/// first-level cache.
const TILE: usize = 1024;

/// `sum + coefficient * source`, byte by byte.
pub(in super::super) fn mul_add<const W: usize>(
    mut sum: [u64; W],
    source: &[u64; W],
    coefficient: u8,
) -> [u64; W] {
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

/// Sets the first `len` bytes of `outs`, at least a lane, to the sums of the terms.
///
/// Goes through the bits of the coefficients from the highest: double the sum, add the sources whose coefficient
/// has the bit (Horner's scheme). So 16 sources cost 7 doublings, not 16 times 7, and coefficients that are all 1
/// cost no more than XOR.
pub(super) fn combine(outs: &mut [&mut [u8]], terms: &[Term<'_>], len: usize) {
    let terms = &terms[..terms.len().min(STRIPES)];
    let mut sources: [&[u8]; STRIPES] = [&[]; STRIPES];
    for (source, term) in sources.iter_mut().zip(terms) {
        *source = term.source;
    }
    if let [out] = outs {
        Program::new(terms, 0).run(&mut out[..len], &sources);
        return;
    }
    let programs: [Program; ROWS] = std::array::from_fn(|row| Program::new(terms, row));
    // Sources a multiple of 4 KiB apart would evict each other from the cache between one sum and the next.
    let mut near = [[0; TILE]; STRIPES];
    for from in (0..len).step_by(TILE) {
        // The last tile begins earlier rather than being shorter than a lane.
        let from = from.min(len - BYTES);
        let to = len.min(from + TILE);
        for (near, source) in near.iter_mut().zip(&sources).take(terms.len()) {
            near[..to - from].copy_from_slice(&source[from..to]);
        }
        let near = near.each_ref().map(|tile| &tile[..]);
        for (program, out) in programs.iter().zip(outs.iter_mut()) {
            program.run(&mut out[from..to], &near);
        }
    }
}

/// The terms of a sum, by the bits of their coefficients.
struct Program {
    /// For each bit, which terms have it in their coefficient.
    with_bit: [[u8; STRIPES]; 8],
    /// For each bit, how many terms that are.
    counts: [usize; 8],
    /// How many bits the largest coefficient has.
    width: usize,
}

impl Program {
    /// For the sum `row`, below [`ROWS`].
    fn new(terms: &[Term<'_>], row: usize) -> Self {
        let mut program = Self { with_bit: [[0; STRIPES]; 8], counts: [0; 8], width: 0 };
        for (i, term) in terms.iter().enumerate().take(STRIPES) {
            let mut bits = term.factors[row];
            program.width = program.width.max(8 - bits.leading_zeros() as usize);
            while bits != 0 {
                let bit = bits.trailing_zeros() as usize;
                program.with_bit[bit][program.counts[bit]] = i as u8;
                program.counts[bit] += 1;
                bits &= bits - 1;
            }
        }
        program
    }

    /// Sets `out`, of at least a short lane, to the sum of the sources.
    fn run(&self, out: &mut [u8], sources: &[&[u8]; STRIPES]) {
        if out.len() >= LANE * WORD {
            self.run_over::<LANE>(out, sources);
        } else {
            self.run_over::<SHORT_LANE>(out, sources);
        }
    }

    /// Sets `out`, of at least `W` words, to the sum of the sources.
    fn run_over<const W: usize>(&self, out: &mut [u8], sources: &[&[u8]; STRIPES]) {
        for at in lanes(out.len(), W * WORD) {
            let mut sum = [0; W];
            for bit in (0..self.width).rev() {
                double(&mut sum);
                for &i in &self.with_bit[bit][..self.counts[bit]] {
                    add(&mut sum, sources[usize::from(i)], at);
                }
            }
            store(out, at, &sum);
        }
    }
}

/// Sets the first `len` bytes of `parity`, at least a lane.
pub(super) fn grid_parity(data: &[&[u8]; SIXTEEN], parity: &mut [&mut [u8]; PARITY], len: usize) {
    if len >= GRID_LANE * WORD {
        grid_over::<GRID_LANE>(data, parity, len);
    } else {
        grid_over::<SHORT_LANE>(data, parity, len);
    }
}

/// Does `len` bytes, which are at least `W` words.
fn grid_over<const W: usize>(data: &[&[u8]; SIXTEEN], parity: &mut [&mut [u8]; PARITY], len: usize) {
    for at in lanes(len, W * WORD) {
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
