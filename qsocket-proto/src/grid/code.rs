//! The generator of the code, and the encoder (`docs/protocol.md` 1.3 and 1.4).

use super::kernel::{Kernel, ROWS, Term};
use super::{Kind, PARITY, PARITY_CELLS, ParitySet, STRIPES, StripeId, StripeSet};
use crate::gf256::{invert, mul};
use crate::ids::{RELAYS, SIXTEEN};
use thiserror::Error;

/// Buffers that do not fit together. The caller is at fault, never the peer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Misfit {
    /// The block is not 16 slices of equal length.
    #[error("a block must be 16 stripes long, padded with zeros, not {0} bytes")]
    Block(usize),
    /// A buffer for or with parity has the wrong length.
    #[error("parity takes {expected} bytes here, not {actual}")]
    Parity {
        /// The length that fits the block.
        expected: usize,
        /// The length of the buffer.
        actual: usize,
    },
    /// A stripe that the plan needs was not handed over.
    #[error("the plan needs parity stripe {0}, which was not given")]
    Missing(StripeId),
}

/// The factor of data stripe `data_index` in `stripe`: the generator of the code.
///
/// 0 for a `data_index` above 15.
pub fn coefficient(stripe: StripeId, data_index: usize) -> u8 {
    GENERATOR.get(stripe.index()).and_then(|row| row.get(data_index)).copied().unwrap_or(0)
}

static GENERATOR: [[u8; SIXTEEN]; STRIPES] = {
    let mut rows = [[0; SIXTEEN]; STRIPES];
    let mut id = 0;
    while id < STRIPES {
        let Some(stripe) = StripeId::new(id as u8) else { unreachable!() };
        let mut k = 0;
        while k < SIXTEEN {
            let (row, column) = ((k / 4) as u8, (k % 4) as u8);
            rows[id][k] = match stripe.kind() {
                Kind::Data(index) => (index as usize == k) as u8,
                Kind::Row(r) => (r == row) as u8,
                Kind::Column(c) => (c == column) as u8,
                Kind::Diagonal => (row == column) as u8,
                Kind::Mds(j) => cauchy(j, k as u8),
            };
            k += 1;
        }
        id += 1;
    }
    rows
};

/// Entry `(j, k)` of the Cauchy matrix 1 / (x_j + y_k), x_j = 16 + j, y_k = k, with every column scaled so that
/// row 0 is all ones: the first MDS stripe is plain XOR, and repairs the commonest loss as fast.
const fn cauchy(j: u8, k: u8) -> u8 {
    const X: u8 = SIXTEEN as u8;
    mul(X ^ k, invert((X + j) ^ k))
}

/// The factors of each data stripe in the nine stripes of MDS parity: part of the generator, turned.
static MDS_FACTORS: [[u8; ROWS]; SIXTEEN] = {
    let mut columns = [[0; ROWS]; SIXTEEN];
    let mut k = 0;
    while k < SIXTEEN {
        let mut j = 0;
        while j < PARITY {
            columns[k][j] = GENERATOR[RELAYS + j][k];
            j += 1;
        }
        k += 1;
    }
    columns
};

/// For each parity cell of the grid, in the order of the ids, the stripes whose XOR is zero.
static GRID_RELATIONS: [u64; PARITY] = {
    let mut relations = [0; PARITY];
    let mut i = 0;
    while i < PARITY {
        let id = PARITY_CELLS[i];
        relations[i] = 1 << id;
        let mut k = 0;
        while k < SIXTEEN {
            if GENERATOR[id as usize][k] == 1
                && let Some(data) = StripeId::from_data_index(k)
            {
                relations[i] |= 1 << data.get();
            }
            k += 1;
        }
        i += 1;
    }
    relations
};

/// For each MDS stripe, the factors, by stripe id, with which the stripes add up to zero.
static MDS_RELATIONS: [[u8; STRIPES]; PARITY] = {
    let mut relations = [[0; STRIPES]; PARITY];
    let mut j = 0;
    while j < PARITY {
        let id = RELAYS + j;
        relations[j][id] = 1;
        let mut k = 0;
        while k < SIXTEEN {
            let Some(data) = StripeId::from_data_index(k) else { unreachable!() };
            relations[j][data.index()] = GENERATOR[id][k];
            k += 1;
        }
        j += 1;
    }
    relations
};

/// Makes the nine parity stripes of a set, one behind the other in `out`, in the order of their ids.
///
/// `data` is the whole block: 16 stripes of equal length; `out` is 9 such stripes.
///
/// # Errors
///
/// [`Misfit`] if the lengths do not fit; `out` is untouched then.
pub fn parity(set: ParitySet, data: &[u8], out: &mut [u8]) -> Result<(), Misfit> {
    parity_with(Kernel::detect(), set, data, out)
}

/// As [`parity`], with a kernel of the caller's choice.
///
/// # Errors
///
/// As [`parity`].
pub fn parity_with(kernel: Kernel, set: ParitySet, data: &[u8], out: &mut [u8]) -> Result<(), Misfit> {
    let stripes = slices(data)?;
    let len = stripes[0].len();
    check(out.len(), len * PARITY)?;
    let mut rest = out;
    let mut out: [&mut [u8]; PARITY] = std::array::from_fn(|_| {
        let (stripe, behind) = std::mem::take(&mut rest).split_at_mut(len);
        rest = behind;
        stripe
    });
    match set {
        ParitySet::Grid => kernel.grid_parity(&stripes, &mut out),
        ParitySet::Mds => kernel.combine(
            &mut out,
            &std::array::from_fn::<_, SIXTEEN, _>(|k| Term { source: stripes[k], factors: MDS_FACTORS[k] }),
        ),
    }
    Ok(())
}

/// Makes one stripe of a block, for a resend or when only some parity is wanted.
///
/// `data` is the whole block, `out` as long as one stripe. For the id of a data stripe this is a copy.
///
/// # Errors
///
/// [`Misfit`] if the lengths do not fit; `out` is untouched then.
pub fn parity_stripe(stripe: StripeId, data: &[u8], out: &mut [u8]) -> Result<(), Misfit> {
    let stripes = slices(data)?;
    let len = stripes[0].len();
    check(out.len(), len)?;
    let terms = std::array::from_fn::<_, SIXTEEN, _>(|k| {
        let mut factors = [0; ROWS];
        factors[0] = coefficient(stripe, k);
        Term { source: stripes[k], factors }
    });
    Kernel::detect().combine(&mut [out], &terms);
    Ok(())
}

/// The block cut in its 16 data stripes.
pub(super) fn slices(block: &[u8]) -> Result<[&[u8]; SIXTEEN], Misfit> {
    let len = block.len() / SIXTEEN;
    if !block.len().is_multiple_of(SIXTEEN) {
        return Err(Misfit::Block(block.len()));
    }
    Ok(std::array::from_fn(|k| &block[k * len..(k + 1) * len]))
}

/// Demands that a buffer has the length that fits.
pub(super) fn check(actual: usize, expected: usize) -> Result<(), Misfit> {
    if actual == expected { Ok(()) } else { Err(Misfit::Parity { expected, actual }) }
}

/// The stripes of `set` that a grid relation belongs to, with the relation.
pub(super) fn grid_relations(set: StripeSet) -> impl Iterator<Item = u64> {
    PARITY_CELLS
        .into_iter()
        .zip(&GRID_RELATIONS)
        .filter_map(move |(cell, relation)| (set.bits() >> cell & 1 == 1).then_some(*relation))
}

/// The MDS relations of the stripes in `set`.
pub(super) fn mds_relations(set: StripeSet) -> impl Iterator<Item = &'static [u8; STRIPES]> {
    let held = set.bits() >> RELAYS;
    MDS_RELATIONS.iter().enumerate().filter_map(move |(j, relation)| (held >> j & 1 == 1).then_some(relation))
}
