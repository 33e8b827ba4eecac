//! The reference: the code again, slowly, and by other methods than the product's.
//!
//! Multiplies bit by bit and takes the generator from the words of `docs/protocol.md` 1.3 and 1.4. What a loss leaves
//! determined is a matter of ranks here, and for the grid of its definition: a data stripe is determined unless
//! two blocks agree in every stripe at hand and differ there.

/// Multiplies polynomials over GF(2) and reduces by 0x11B.
pub(super) fn mul(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b > 0 {
        if b % 2 == 1 {
            product ^= a;
        }
        let overflow = a >= 0x80;
        a = a.wrapping_add(a);
        if overflow {
            a ^= 0x1B;
        }
        b /= 2;
    }
    product
}

/// Divides by trying.
fn divide(a: u8, b: u8) -> u8 {
    (0..=255).find(|q| mul(*q, b) == a).unwrap()
}

/// The ids of the data stripes, in order.
pub(super) const DATA: [usize; 16] = [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18];

/// The factors of the 16 data stripes in each of the 34 stripes.
pub(super) fn generator() -> [[u8; 16]; 34] {
    let mut rows = [[0; 16]; 34];
    for k in 0..16 {
        let (row, column) = (k / 4, k % 4);
        rows[DATA[k]][k] = 1;
        rows[[4, 9, 14, 19][row]][k] = 1;
        rows[[20, 21, 22, 23][column]][k] = 1;
        if row == column {
            rows[24][k] = 1;
        }
        for j in 0..9 {
            rows[25 + j][k] = divide(16 ^ k as u8, (16 + j as u8) ^ k as u8);
        }
    }
    rows
}

/// All 34 stripes of a block.
pub(super) fn encode(block: &[u8]) -> Vec<Vec<u8>> {
    let len = block.len() / 16;
    generator()
        .iter()
        .map(|row| {
            (0..len).map(|at| (0..16).fold(0, |sum, k| sum ^ mul(row[k], block[k * len + at]))).collect()
        })
        .collect()
}

/// Brings a matrix to echelon form without dividing, and drops the rows that vanish.
fn echelon(mut rows: Vec<[u8; 16]>) -> Vec<[u8; 16]> {
    let mut rank = 0;
    for column in 0..16 {
        let Some(pivot) = (rank..rows.len()).find(|r| rows[*r][column] != 0) else { continue };
        rows.swap(rank, pivot);
        for r in rank + 1..rows.len() {
            let (above, factor) = (rows[rank], rows[r][column]);
            if factor != 0 {
                rows[r] = std::array::from_fn(|c| mul(rows[r][c], above[column]) ^ mul(above[c], factor));
            }
        }
        rank += 1;
    }
    rows.truncate(rank);
    rows
}

/// The data stripes, as ids in a bit mask, that the stripes in `have` determine: those whose unit vector adds
/// nothing to the rank of the stripes at hand.
pub(super) fn determined(have: u64, generator: &[[u8; 16]; 34]) -> u64 {
    let rows = echelon((0..34).filter(|id| have >> id & 1 == 1).map(|id| generator[id]).collect());
    let mut found = 0;
    for (k, id) in DATA.iter().enumerate() {
        let mut more = rows.clone();
        let mut unit = [0; 16];
        unit[k] = 1;
        more.push(unit);
        if echelon(more).len() == rows.len() {
            found |= 1 << id;
        }
    }
    found
}

/// For the grid set with the parity cells in `parity` (bit `i` for the `i`-th of cells 4, 9, 14, 19, 20 to 24) at
/// hand: for every set of missing data stripes, the ones among them that stay open. Both by data index.
///
/// Counts all blocks of one-bit stripes: a block that is zero in all stripes at hand shows that every stripe in
/// which it is not zero is open, and nothing else does. The unions over subsets make this 16 passes.
pub(super) fn open_in_grid(parity: u16) -> Vec<u16> {
    const SUMS: [u16; 9] = [
        0x000F, 0x00F0, 0x0F00, 0xF000, // rows
        0x1111, 0x2222, 0x4444, 0x8888, // columns
        0x8421, // diagonal
    ];
    let mut open: Vec<u16> = (0..=u16::MAX)
        .map(|block| {
            let hidden =
                (0..9).all(|i| parity >> i & 1 == 0 || (block & SUMS[i]).count_ones().is_multiple_of(2));
            if hidden { block } else { 0 }
        })
        .collect();
    for bit in 0..16 {
        for pair in open.chunks_exact_mut(2 << bit) {
            let (without, with) = pair.split_at_mut(1 << bit);
            for (w, o) in with.iter_mut().zip(without) {
                *w |= *o;
            }
        }
    }
    open
}
