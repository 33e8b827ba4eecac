//! The inner loops: everything that touches every byte of a block.
//!
//! Two operations exist: the parity of the grid, which is XOR alone, and sums of stripes times coefficients, which
//! serve MDS parity and every recovery. Each [`Kernel`] does both in one pass over its sources. They differ in
//! speed, never in a byte of what they make.
//!
//! Lengths never make anything panic: the shortest slice decides how far a loop goes.

use super::{PARITY, STRIPES};
use crate::gf256;
use crate::ids::SIXTEEN;
use std::fmt;
use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod simd;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use portable::mul_add;

/// The most sums that one pass makes: as many as a set has parity stripes.
pub(super) const ROWS: usize = PARITY;

/// The most bytes that a kernel needs to fill its shortest lane.
const LONGEST_LANE: usize = 64;

/// Bytes of every stripe that vector kernels work on together: those of 25 stripes stay in a first-level cache.
/// Stripes a multiple of 4 KiB apart would evict each other from it, so tiles are copied together.
const TILE: usize = 1024;

/// A stripe, and what it is multiplied with in each of the sums of a pass. Factors of absent sums do not matter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Term<'a> {
    pub(super) source: &'a [u8],
    pub(super) factors: [u8; ROWS],
}

/// One of the implementations of the arithmetic on stripes.
///
/// Encoding and recovery use [`Kernel::detect`] by themselves. The others are for tests and measurements, with
/// [`parity_with`](super::parity_with) and [`Plan::apply_with`](super::Plan::apply_with). A value exists only
/// where its instructions do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Isa);

/// The instructions that a kernel is written in, with the proof that this processor has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512Gfni(x86::avx512_gfni::Present),
    #[cfg(target_arch = "x86_64")]
    Avx2Gfni(x86::avx2_gfni::Present),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::avx2::Present),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Present),
    Portable,
}

impl Kernel {
    /// The fastest kernel of this processor. Looked for once.
    pub fn detect() -> Self {
        static FASTEST: OnceLock<Kernel> = OnceLock::new();
        *FASTEST.get_or_init(|| Self::available().next().unwrap_or(Self(Isa::Portable)))
    }

    /// All kernels that this processor can run, the fastest first. The last one is portable.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::compiled().filter_map(|(_, kernel)| kernel)
    }

    /// All kernels of this architecture by name, `None` for those that this processor cannot run.
    pub fn compiled() -> impl Iterator<Item = (&'static str, Option<Self>)> {
        [
            #[cfg(target_arch = "x86_64")]
            ("avx512-gfni", x86::avx512_gfni::Present::detect().map(Isa::Avx512Gfni)),
            #[cfg(target_arch = "x86_64")]
            ("avx2-gfni", x86::avx2_gfni::Present::detect().map(Isa::Avx2Gfni)),
            #[cfg(target_arch = "x86_64")]
            ("avx2", x86::avx2::Present::detect().map(Isa::Avx2)),
            #[cfg(target_arch = "aarch64")]
            ("neon", neon::Present::detect().map(Isa::Neon)),
            ("portable", Some(Isa::Portable)),
        ]
        .into_iter()
        .map(|(name, isa)| (name, isa.map(Self)))
    }

    /// The kernel's name: its instructions, or `portable`.
    pub fn name(self) -> &'static str {
        Self::compiled().find_map(|(name, kernel)| (kernel == Some(self)).then_some(name)).unwrap_or_default()
    }

    /// Bytes of its shortest lane. Shorter stripes are padded to it.
    const fn lane(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Gfni(_) => x86::avx512_gfni::BYTES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2Gfni(_) => x86::avx2_gfni::BYTES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => x86::avx2::BYTES,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => neon::BYTES,
            Isa::Portable => portable::BYTES,
        }
    }

    /// Sets each of `outs`, at most [`ROWS`], to the sum of the terms, at most [`STRIPES`], in its column of factors.
    pub(super) fn combine(self, outs: &mut [&mut [u8]], terms: &[Term<'_>]) {
        debug_assert!(outs.len() <= ROWS && terms.len() <= STRIPES);
        let len = terms.iter().fold(usize::MAX, |len, term| len.min(term.source.len()));
        let len = outs.iter().fold(len, |len, out| len.min(out.len()));
        if outs.is_empty() || len == 0 {
            return;
        }
        let terms = &terms[..terms.len().min(STRIPES)];
        if len < self.lane() {
            self.combine_near::<LONGEST_LANE, STRIPES>(outs, terms, len);
        } else if len <= TILE || outs.len() == 1 || terms.len() > SIXTEEN || self.0 == Isa::Portable {
            self.combine_long(outs, terms, len);
        } else {
            self.combine_near::<TILE, SIXTEEN>(outs, terms, len);
        }
    }

    /// Does `len` bytes of at most `K` terms in copies, `N` bytes at a time, which are at least a lane.
    fn combine_near<const N: usize, const K: usize>(
        self,
        outs: &mut [&mut [u8]],
        terms: &[Term<'_>],
        len: usize,
    ) {
        let (mut near, mut sums) = ([[0; N]; K], [[0; N]; ROWS]);
        let rows = outs.len().min(ROWS);
        for from in (0..len).step_by(N) {
            let part = N.min(len - from);
            for (near, term) in near.iter_mut().zip(terms) {
                near[..part].copy_from_slice(&term.source[from..from + part]);
            }
            let mut copies = [Term::default(); K];
            for ((copy, near), term) in copies.iter_mut().zip(&near).zip(terms) {
                *copy = Term { source: near, factors: term.factors };
            }
            let mut places = sums.each_mut().map(|sum| &mut sum[..]);
            self.combine_long(&mut places[..rows], &copies[..terms.len().min(K)], part.max(self.lane()));
            for (out, sum) in outs.iter_mut().zip(&sums) {
                out[from..from + part].copy_from_slice(&sum[..part]);
            }
        }
    }

    /// Does `len` bytes, which are at least a lane and at most what each slice has.
    fn combine_long(self, outs: &mut [&mut [u8]], terms: &[Term<'_>], len: usize) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Gfni(present) => present.combine(outs, terms, len),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2Gfni(present) => present.combine(outs, terms, len),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(present) => present.combine(outs, terms, len),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(present) => present.combine(outs, terms, len),
            Isa::Portable => portable::combine(outs, terms, len),
        }
    }

    /// Writes row, column and diagonal parity in one pass over the data.
    pub(super) fn grid_parity(self, data: &[&[u8]; SIXTEEN], parity: &mut [&mut [u8]; PARITY]) {
        let len = data.iter().fold(usize::MAX, |len, stripe| len.min(stripe.len()));
        let len = parity.iter().fold(len, |len, stripe| len.min(stripe.len()));
        if len >= self.lane() && (len <= TILE || self.0 == Isa::Portable) {
            return self.grid_parity_long(data, parity, len);
        }
        if len >= self.lane() {
            let mut sums = [[0; TILE]; PARITY];
            for from in (0..len).step_by(TILE) {
                // The last tile begins earlier rather than being shorter than a lane.
                let from = from.min(len - self.lane());
                let part = TILE.min(len - from);
                let tile = data.map(|stripe| &stripe[from..from + part]);
                self.grid_parity_long(&tile, &mut sums.each_mut().map(|sum| &mut sum[..]), part);
                for (stripe, sum) in parity.iter_mut().zip(&sums) {
                    stripe[from..from + part].copy_from_slice(&sum[..part]);
                }
            }
            return;
        }
        let (mut cells, mut sums) = ([[0; LONGEST_LANE]; SIXTEEN], [[0; LONGEST_LANE]; PARITY]);
        for (cell, stripe) in cells.iter_mut().zip(data) {
            copy(cell, stripe, len);
        }
        self.grid_parity_long(
            &cells.each_ref().map(|cell| &cell[..]),
            &mut sums.each_mut().map(|sum| &mut sum[..]),
            self.lane(),
        );
        for (stripe, sum) in parity.iter_mut().zip(&sums) {
            copy(stripe, sum, len);
        }
    }

    /// Does `len` bytes, which are at least a lane and at most what each slice has.
    fn grid_parity_long(self, data: &[&[u8]; SIXTEEN], parity: &mut [&mut [u8]; PARITY], len: usize) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Gfni(present) => present.grid_parity(data, parity, len),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2Gfni(present) => present.grid_parity(data, parity, len),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(present) => present.grid_parity(data, parity, len),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(present) => present.grid_parity(data, parity, len),
            Isa::Portable => portable::grid_parity(data, parity, len),
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}", self.name())
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Copies the first `len` bytes, as far as both reach.
fn copy(to: &mut [u8], from: &[u8], len: usize) {
    for (to, from) in to.iter_mut().zip(from).take(len) {
        *to = *from;
    }
}

/// Where lanes of `bytes` begin in `len` bytes, which are no fewer. The last overlaps the one before, so that no
/// rest remains: setting a byte twice to the same value does no harm.
#[inline]
fn lanes(len: usize, bytes: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(bytes).map(move |at| at.min(len - bytes))
}

/// For each factor, its products with 0 to 15 and those with 0, 16, 32 to 240: a product by any byte is the sum of
/// one of each. A shuffle of a vector register looks up a register's worth of them at once.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static NIBBLES: [[[u8; 16]; 2]; 256] = {
    let mut tables = [[[0; 16]; 2]; 256];
    let mut factor = 0;
    while factor < 256 {
        let mut nibble = 0;
        while nibble < 16 {
            tables[factor][0][nibble] = gf256::mul(factor as u8, nibble as u8);
            tables[factor][1][nibble] = gf256::mul(factor as u8, (nibble << 4) as u8);
            nibble += 1;
        }
        factor += 1;
    }
    tables
};
