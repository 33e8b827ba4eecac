use super::*;
use crate::grid::oracle;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Bytes before and after what a kernel may write.
const FENCE: usize = 3;

/// Every kernel that this processor has; says which ran and which did not.
fn kernels() -> Vec<Kernel> {
    let mut there = Vec::new();
    for (name, kernel) in Kernel::compiled() {
        println!(
            "kernel {name}: {}",
            if kernel.is_some() { "runs" } else { "NOT RUN, this processor lacks it" }
        );
        there.extend(kernel);
    }
    assert_eq!(there.last().map(|kernel| kernel.name()), Some("portable"));
    assert_eq!(there.first(), Some(&Kernel::detect()), "the fastest is used");
    there
}

#[test]
fn every_factor_times_every_byte() {
    let bytes: Vec<u8> = (0..=255).collect();
    for kernel in kernels() {
        for factor in 0..=255u8 {
            // In one row, and in the last of nine between others.
            for rows in [1, ROWS] {
                let mut factors = [7; ROWS];
                factors[rows - 1] = factor;
                let mut buffers = [[0xEE; 256]; ROWS];
                let mut outs = buffers.each_mut().map(|out| &mut out[..]);
                kernel.combine(&mut outs[..rows], &[Term { source: &bytes, factors }]);
                for (byte, out) in bytes.iter().zip(buffers[rows - 1]) {
                    assert_eq!(out, oracle::mul(factor, *byte), "{kernel}: {factor} * {byte}, {rows} rows");
                }
            }
        }
    }
}

/// Random sources at odd addresses; the bytes around each sum stay as they are.
fn check_combine(kernel: Kernel, rng: &mut ChaCha8Rng, rows: usize, count: usize, len: usize) {
    let skew = rng.next_u32() as usize % 64;
    let mut pool = vec![0; skew + count * (len + 1)];
    rng.fill_bytes(&mut pool);
    let mut terms = [Term::default(); STRIPES];
    for (i, term) in terms.iter_mut().enumerate().take(count) {
        term.source = &pool[skew + i * (len + 1)..][..len];
        rng.fill_bytes(&mut term.factors);
    }
    let mut buffer = vec![0xEE; rows * (len + 2 * FENCE)];
    let mut outs: Vec<&mut [u8]> =
        buffer.chunks_exact_mut(len + 2 * FENCE).map(|out| &mut out[FENCE..FENCE + len]).collect();
    kernel.combine(&mut outs, &terms[..count]);
    for (row, out) in buffer.chunks_exact(len + 2 * FENCE).enumerate() {
        let (before, rest) = out.split_at(FENCE);
        let (sum, after) = rest.split_at(len);
        assert!(before.iter().chain(after).all(|byte| *byte == 0xEE), "{kernel} wrote outside");
        for (at, byte) in sum.iter().enumerate() {
            let expected =
                terms[..count].iter().fold(0, |sum, t| sum ^ oracle::mul(t.factors[row], t.source[at]));
            assert_eq!(*byte, expected, "{kernel}: {rows} rows of {count} terms, byte {at} of {len}");
        }
    }
}

#[test]
fn sums_agree_with_the_oracle_at_all_lengths() {
    for kernel in kernels() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for len in 0..=300 {
            for rows in [1 + len % ROWS, ROWS] {
                check_combine(kernel, &mut rng, rows, 1 + len % SIXTEEN, len);
            }
        }
        for rows in 1..=ROWS {
            for count in [0, 1, 16, 17, STRIPES] {
                for len in [1, 63, 129, 1023, 1024, 1025, 1088, 2049, 4099] {
                    check_combine(kernel, &mut rng, rows, count, len);
                }
            }
        }
    }
}

#[test]
fn grid_parity_agrees_with_the_oracle_at_all_lengths() {
    for kernel in kernels() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for len in (0..=300).chain([1023, 1024, 1025, 1087, 2049, 4099]) {
            let mut block = vec![0; 16 * len + 1];
            rng.fill_bytes(&mut block);
            let block = &block[1..];
            let data = std::array::from_fn(|k| &block[k * len..][..len]);
            let mut buffers = vec![vec![0xEE; len + 2 * FENCE]; PARITY];
            let mut outs = buffers.iter_mut().map(|out| &mut out[FENCE..FENCE + len]);
            kernel.grid_parity(&data, &mut std::array::from_fn(|_| outs.next().unwrap()));
            let stripes = oracle::encode(block);
            for (cell, out) in crate::grid::PARITY_CELLS.into_iter().zip(&buffers) {
                assert!(
                    out[FENCE..FENCE + len] == stripes[usize::from(cell)],
                    "{kernel}: {cell}, {len} bytes"
                );
                assert!(out[..FENCE].iter().chain(&out[FENCE + len..]).all(|byte| *byte == 0xEE), "{kernel}");
            }
        }
    }
}

#[test]
fn the_shortest_slice_decides() {
    for kernel in kernels() {
        let (long, mut out) = ([3; 100], [0xEE; 90]);
        let term = |source| Term { source, factors: [1; ROWS] };
        kernel.combine(&mut [&mut out], &[term(&long), term(&long[..70])]);
        assert!(out[..70].iter().all(|b| *b == 0) && out[70..].iter().all(|b| *b == 0xEE), "{kernel}");
        kernel.combine(&mut [], &[term(&long)]);
    }
}
