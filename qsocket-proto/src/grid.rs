//! The grid: a block is cut in 16 data stripes, to which 9 parity stripes are added, one stripe for each path.
//!
//! Two sets of parity exist over the same data (`docs/protocol.md` 1):
//!
//! - [`ParitySet::Grid`] is XOR along the rows, the columns and the diagonal of a 4x4 square. It is as fast as
//!   memory, recovers every loss of two stripes and most losses of a few more.
//! - [`ParitySet::Mds`] is a Reed-Solomon code. It recovers every loss of nine stripes.
//!
//! A sender makes parity with [`parity`]. A receiver asks [`is_complete`] for every stripe that arrives, then
//! makes a [`Plan`], opens the parity stripes that the plan [needs](Plan::needs) and [applies](Plan::apply) it.
//! Stripes of both sets may be mixed: one solver serves them all.
//!
//! Everything here handles bytes that the peer has authenticated; no function panics on any input.

use crate::codec::{Malformed, Reader};
use crate::ids::{PathId, RELAYS, SIXTEEN};
use std::fmt;

mod code;
mod kernel;
#[cfg(test)]
mod oracle;
mod plan;
#[cfg(test)]
mod tests;

pub use code::{Misfit, coefficient, parity, parity_stripe, parity_with};
pub use kernel::Kernel;
pub use plan::{Plan, Step, is_complete, recoverable};

/// Stripe ids: 25 cells of the grid and 9 stripes of MDS parity.
pub const STRIPES: usize = RELAYS + PARITY;

/// Parity stripes in a set.
pub const PARITY: usize = RELAYS - SIXTEEN;

/// The most bytes that a block holds (`docs/protocol.md` 1.6).
///
/// Stripes of 16 KiB spread the cost of sealing and of a record thin; larger ones would only add latency and
/// memory.
pub const MAX_BLOCK_BYTES: usize = 256 * 1024;

/// The cells that hold grid parity, in order. MDS parity `j` takes the slot of entry `j`.
const PARITY_CELLS: [u8; PARITY] = [4, 9, 14, 19, 20, 21, 22, 23, 24];

/// One of the 34 stripes of a block (`docs/protocol.md` 1.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StripeId(u8);

impl StripeId {
    /// The stripe `id`, or `None` above 33.
    pub const fn new(id: u8) -> Option<Self> {
        if (id as usize) < STRIPES { Some(Self(id)) } else { None }
    }

    /// The stripe that holds slice `index` of the block, or `None` above 15.
    pub const fn from_data_index(index: usize) -> Option<Self> {
        if index < SIXTEEN { Some(Self((index / 4 * 5 + index % 4) as u8)) } else { None }
    }

    /// Reads the one-byte form.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::new(r.u8("stripe id")?).ok_or(Malformed::Value("stripe id"))
    }

    /// All 34 stripes in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator + Clone {
        (0..STRIPES as u8).map(Self)
    }

    /// The stripe's number, 0 to 33, as it stands on the wire.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The stripe's number, 0 to 33, as an array index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Which slice of the block the stripe holds, 0 to 15, or `None` for parity.
    pub const fn data_index(self) -> Option<usize> {
        match self.kind() {
            Kind::Data(index) => Some(index as usize),
            _ => None,
        }
    }

    /// What the stripe holds.
    pub const fn kind(self) -> Kind {
        match (self.0 / 5, self.0 % 5) {
            (5.., _) => Kind::Mds(self.0 - RELAYS as u8),
            (4, 4) => Kind::Diagonal,
            (4, column) => Kind::Column(column),
            (row, 4) => Kind::Row(row),
            (row, column) => Kind::Data(row * 4 + column),
        }
    }

    /// The stripe's bit in a [`StripeSet`].
    const fn bit(self) -> u64 {
        1 << self.0
    }

    /// The lowest of the set bits, or `None` if no bit of a stripe is set.
    const fn lowest(bits: u64) -> Option<Self> {
        Self::new(bits.trailing_zeros() as u8)
    }
}

impl fmt::Debug for StripeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stripe {}", self.0)
    }
}

impl fmt::Display for StripeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a stripe holds. Rows, columns and the rest count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// This slice of the block, 0 to 15.
    Data(u8),
    /// The XOR of the four data stripes in this row, 0 to 3.
    Row(u8),
    /// The XOR of the four data stripes in this column, 0 to 3.
    Column(u8),
    /// The XOR of the four data stripes on the main diagonal.
    Diagonal,
    /// This stripe of Reed-Solomon parity, 0 to 8.
    Mds(u8),
}

impl fmt::Display for Kind {
    /// In words: `data 7`, `row parity 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(n) => write!(f, "data {n}"),
            Self::Row(n) => write!(f, "row parity {n}"),
            Self::Column(n) => write!(f, "column parity {n}"),
            Self::Diagonal => f.write_str("diagonal parity"),
            Self::Mds(n) => write!(f, "MDS parity {n}"),
        }
    }
}

/// A set of stripes, iterated in order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StripeSet(u64);

impl StripeSet {
    /// No stripe.
    pub const EMPTY: Self = Self(0);
    /// All 34 stripes.
    pub const ALL: Self = Self((1 << STRIPES) - 1);
    /// The 16 data stripes.
    pub const DATA: Self = Self(0b01111_01111_01111_01111);
    /// The 9 parity stripes of the grid.
    pub const GRID_PARITY: Self = Self(0b11111_10000_10000_10000_10000);
    /// The 9 stripes of MDS parity.
    pub const MDS_PARITY: Self = Self(0b1_1111_1111 << RELAYS);

    /// The set with these bits, bit `n` for stripe `n`, or `None` if a bit above 33 is set.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 { Some(Self(bits)) } else { None }
    }

    /// The set as bits, bit `n` for stripe `n`.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Adds a stripe; true if it was not in the set.
    pub fn insert(&mut self, stripe: StripeId) -> bool {
        let new = !self.contains(stripe);
        self.0 |= stripe.bit();
        new
    }

    /// Removes a stripe; true if it was in the set.
    pub fn remove(&mut self, stripe: StripeId) -> bool {
        let had = self.contains(stripe);
        self.0 &= !stripe.bit();
        had
    }

    /// Whether the stripe is in the set.
    pub const fn contains(self, stripe: StripeId) -> bool {
        self.0 & stripe.bit() != 0
    }

    /// Whether every stripe of `other` is in the set.
    pub const fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The stripes in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The stripes in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The stripes in this set that are not in `other`.
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// How many stripes are in the set.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The stripes in ascending order.
    pub fn iter(self) -> impl Iterator<Item = StripeId> + Clone {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let stripe = StripeId::lowest(left)?;
            left &= left - 1;
            Some(stripe)
        })
    }
}

impl FromIterator<StripeId> for StripeSet {
    fn from_iter<I: IntoIterator<Item = StripeId>>(iter: I) -> Self {
        Self(iter.into_iter().fold(0, |bits, stripe| bits | stripe.bit()))
    }
}

impl fmt::Debug for StripeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|s| s.0)).finish()
    }
}

/// Which nine parity stripes accompany the data (`docs/protocol.md` 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParitySet {
    /// XOR along rows, columns and the diagonal: fastest; recovers every loss of two.
    Grid,
    /// Reed-Solomon: recovers every loss of nine.
    Mds,
}

impl ParitySet {
    /// The nine parity stripes.
    pub const fn parity(self) -> StripeSet {
        match self {
            Self::Grid => StripeSet::GRID_PARITY,
            Self::Mds => StripeSet::MDS_PARITY,
        }
    }

    /// The 25 stripes that are sent for a block: the data and the nine parity stripes.
    pub const fn stripes(self) -> StripeSet {
        StripeSet::DATA.union(self.parity())
    }
}

/// The path that carries a stripe unless the scheduler knows a better one (`docs/protocol.md` 1.5).
///
/// The 25 stripes of a block, under either parity set, fall on 25 different paths. The map turns by one path
/// from block to block, so that no path carries only parity.
pub fn placement(stripe: StripeId, block: u64) -> PathId {
    const PATHS: [PathId; RELAYS] = {
        let Some(first) = PathId::new(0) else { unreachable!() };
        let mut paths = [first; RELAYS];
        let mut i = 1;
        while i < RELAYS {
            let Some(path) = PathId::new(i as u8) else { unreachable!() };
            paths[i] = path;
            i += 1;
        }
        paths
    };
    let slot = match stripe.kind() {
        Kind::Mds(j) => PARITY_CELLS[usize::from(j) % PARITY],
        _ => stripe.0,
    };
    PATHS[(usize::from(slot) + (block % RELAYS as u64) as usize) % RELAYS]
}

/// The length of every stripe of a block of `block_len` bytes: the sixteenth part, rounded up
/// (`docs/protocol.md` 1.2).
///
/// The block is laid out in 16 times as many bytes, zeros behind its own; data stripe `k` is the `k`-th slice.
pub const fn stripe_len(block_len: usize) -> usize {
    block_len.div_ceil(SIXTEEN)
}
