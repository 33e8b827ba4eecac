//! The loops that all vector kernels share, over the few operations in which they differ.

/// Writes the kernel of the module it stands in: `Present`, the proof that the processor has its instructions, with
/// `combine` and `grid_parity`.
///
/// The module gives: `BYTES`, how many a vector holds; `zero`, `xor`, `load` and `store`; `split`, which prepares a
/// vector for multiplying, and `times`, which multiplies it by one factor. All but `BYTES` are functions with the
/// same `target_feature`s. A macro, not a trait, because a method of a trait cannot have those.
macro_rules! kernel {
    (features: $features:literal, has: $has:expr, wide: $wide:literal, grid: $grid:literal) => {
        /// Exists only where the processor has this kernel's instructions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in super::super) struct Present(());

        impl Present {
            /// The proof, if this processor gives it.
            pub(in super::super) fn detect() -> Option<Self> {
                $has.then_some(Self(()))
            }

            /// Sets the first `len` bytes of `outs` to the sums of the terms.
            pub(in super::super) fn combine(self, outs: &mut [&mut [u8]], terms: &[Term<'_>], len: usize) {
                // SAFETY: `self` exists only where the processor has the features.
                unsafe { combine(outs, terms, len) }
            }

            /// Sets the first `len` bytes of `parity`.
            pub(in super::super) fn grid_parity(
                self,
                data: &[&[u8]; SIXTEEN],
                parity: &mut [&mut [u8]; PARITY],
                len: usize,
            ) {
                // SAFETY: `self` exists only where the processor has the features.
                unsafe { grid_parity(data, parity, len) }
            }
        }

        #[target_feature(enable = $features)]
        fn combine(outs: &mut [&mut [u8]], terms: &[Term<'_>], len: usize) {
            match outs.len() {
                1 => rows::<1>(outs, terms, len),
                2 => rows::<2>(outs, terms, len),
                3 => rows::<3>(outs, terms, len),
                4 => rows::<4>(outs, terms, len),
                5 => rows::<5>(outs, terms, len),
                6 => rows::<6>(outs, terms, len),
                7 => rows::<7>(outs, terms, len),
                8 => rows::<8>(outs, terms, len),
                _ => rows::<9>(outs, terms, len),
            }
        }

        /// `R` sums at once: each source is loaded once, and the sums stay in registers.
        #[target_feature(enable = $features)]
        fn rows<const R: usize>(outs: &mut [&mut [u8]], terms: &[Term<'_>], len: usize) {
            if len >= $wide * BYTES {
                rows_over::<R, $wide>(outs, terms, len);
            } else {
                rows_over::<R, 1>(outs, terms, len);
            }
        }

        /// `R` sums, `V` vectors of each in one turn.
        #[target_feature(enable = $features)]
        fn rows_over<const R: usize, const V: usize>(outs: &mut [&mut [u8]], terms: &[Term<'_>], len: usize) {
            let Some(outs) = outs.first_chunk_mut::<R>() else { return };
            for at in lanes(len, V * BYTES) {
                let mut sums = [[zero(); V]; R];
                for term in terms {
                    let Some(lane) = lane::<V>(term.source, at) else { return };
                    let mut source = [split(zero()); V];
                    for v in 0..V {
                        source[v] = split(load(&lane[v]));
                    }
                    for r in 0..R {
                        for v in 0..V {
                            sums[r][v] = xor(sums[r][v], times(source[v], term.factors[r]));
                        }
                    }
                }
                for r in 0..R {
                    put::<V>(outs[r], at, &sums[r]);
                }
            }
        }

        #[target_feature(enable = $features)]
        fn grid_parity(data: &[&[u8]; SIXTEEN], parity: &mut [&mut [u8]; PARITY], len: usize) {
            if len >= $grid * BYTES {
                grid_over::<$grid>(data, parity, len);
            } else {
                grid_over::<1>(data, parity, len);
            }
        }

        /// `V` vectors of each stripe in one turn.
        #[target_feature(enable = $features)]
        fn grid_over<const V: usize>(data: &[&[u8]; SIXTEEN], parity: &mut [&mut [u8]; PARITY], len: usize) {
            for at in lanes(len, V * BYTES) {
                let mut columns = [[zero(); V]; 4];
                let mut diagonal = [zero(); V];
                for r in 0..4 {
                    let mut row = [zero(); V];
                    for c in 0..4 {
                        let Some(lane) = lane::<V>(data[4 * r + c], at) else { return };
                        for v in 0..V {
                            let cell = load(&lane[v]);
                            row[v] = xor(row[v], cell);
                            columns[c][v] = xor(columns[c][v], cell);
                            if r == c {
                                diagonal[v] = xor(diagonal[v], cell);
                            }
                        }
                    }
                    put::<V>(parity[r], at, &row);
                }
                for c in 0..4 {
                    put::<V>(parity[4 + c], at, &columns[c]);
                }
                put::<V>(parity[8], at, &diagonal);
            }
        }

        /// `V` vectors of `source` from offset `at`.
        #[inline]
        fn lane<const V: usize>(source: &[u8], at: usize) -> Option<&[[u8; BYTES]; V]> {
            source.get(at..at + V * BYTES)?.as_chunks().0.first_chunk()
        }

        /// Writes `V` vectors to `out` from offset `at`.
        #[inline]
        #[target_feature(enable = $features)]
        fn put<const V: usize>(out: &mut [u8], at: usize, vectors: &[Vector; V]) {
            if let Some(lane) =
                out.get_mut(at..at + V * BYTES).and_then(|o| o.as_chunks_mut().0.first_chunk_mut::<V>())
            {
                for v in 0..V {
                    store(&mut lane[v], vectors[v]);
                }
            }
        }
    };
}

pub(super) use kernel;
