//! P11: the inner loops of the grid on one core.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qsocket_proto::grid::{Kernel, ParitySet, Plan, StripeId, StripeSet, parity_with};
use qsocket_proto::ids::SIXTEEN;

use super::figures::{Bound, Goal, Summary};
use super::table::Row;

/// Bytes of one stripe.
const STRIPE: usize = 4096;

/// Stripes that are missing, and parity stripes that are there.
const LOST: usize = 9;

/// How long one loop of one kernel is run in a round.
const SPAN: Duration = Duration::from_millis(100);

/// Blocks between two looks at the clock.
const BATCH: u32 = 64;

/// What is measured of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loop {
    Grid,
    Mds,
    Decode,
}

impl Loop {
    const ALL: [Self; 3] = [Self::Grid, Self::Mds, Self::Decode];

    fn name(self) -> &'static str {
        match self {
            Self::Grid => "P11 grid encode, 4 KiB stripes, GB/s",
            Self::Mds => "P11 MDS encode, 4 KiB stripes, GB/s",
            Self::Decode => "P11 MDS decode, 9 lost, 4 KiB stripes, GB/s",
        }
    }

    /// For the best kernel of a processor; what a weaker one reaches is no goal.
    fn goal(self, kernel: Kernel) -> Option<Goal> {
        let name = kernel.name();
        let bound = match self {
            Self::Grid => 15.0,
            _ if name.contains("gfni") => 5.0,
            _ if name.contains("avx2") => 2.5,
            _ => return None,
        };
        (kernel == Kernel::detect()).then(|| Goal::value(Bound::AtLeast(bound), "GB/s"))
    }
}

/// GB/s of data for each kernel of this processor and each loop.
#[derive(Debug)]
pub(super) struct Round(Vec<(Kernel, [f64; 3])>);

/// Runs every loop with every kernel.
pub(super) fn measure() -> Result<Round> {
    let data: Vec<u8> = (0..SIXTEEN * STRIPE).map(|i| (i ^ (i >> 7) ^ (i >> 13)) as u8).collect();
    let mut round = Vec::new();
    for kernel in Kernel::available() {
        let mut parity = vec![0; LOST * STRIPE];
        let mut encode = |set| {
            rate(data.len(), || Ok(parity_with(kernel, set, black_box(&data), black_box(&mut parity))?))
        };
        let (grid, mds) = (encode(ParitySet::Grid)?, encode(ParitySet::Mds)?);
        let lost: StripeSet = StripeSet::DATA.iter().take(LOST).collect();
        let mut have = StripeSet::DATA.difference(lost);
        for id in StripeId::all().filter(|id| id.index() >= 25) {
            have.insert(id);
        }
        let mut damaged = data.clone();
        damaged[..LOST * STRIPE].fill(0);
        let decode = rate(data.len(), || {
            let bytes = |id: StripeId| parity.chunks(STRIPE).nth(id.index() - 25);
            Ok(Plan::new(black_box(have)).apply_with(kernel, black_box(&mut damaged), bytes)?)
        })?;
        ensure!(damaged == data, "{kernel:?} recovered something else");
        round.push((kernel, [grid, mds, decode]));
    }
    Ok(Round(round))
}

fn rate(bytes: usize, mut block: impl FnMut() -> Result<()>) -> Result<f64> {
    let (start, mut blocks) = (Instant::now(), 0_u32);
    while start.elapsed() < SPAN {
        for _ in 0..BATCH {
            block()?;
        }
        blocks += BATCH;
    }
    Ok(f64::from(blocks) * bytes as f64 / start.elapsed().as_secs_f64() / 1e9)
}

/// The rows of all rounds, each beside the portable kernel.
pub(super) fn rows(rounds: &[Round]) -> Result<Vec<Row>> {
    let first = rounds.first().context("no rounds")?;
    let portable = first.0.iter().position(|(kernel, _)| kernel.name() == "portable");
    let mut rows = Vec::new();
    for (which, name) in Loop::ALL.into_iter().enumerate() {
        for (index, (kernel, _)) in first.0.iter().enumerate() {
            let values = |at: usize| rounds.iter().filter_map(move |round| Some(round.0.get(at)?.1[which]));
            let peer = portable.filter(|at| *at != index);
            let ratio = peer.and_then(|at| {
                Summary::of(values(index).zip(values(at)).map(|(ours, theirs)| ours / theirs))
            });
            rows.push(Row {
                figure: name.name().to_owned(),
                mode: kernel.name().to_owned(),
                ours: Summary::of(values(index)),
                peer: peer.and_then(|at| Some((Some("portable".to_owned()), Summary::of(values(at))?))),
                ratio,
                goal: name.goal(*kernel),
                beside: Vec::new(),
            });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_its_rows_and_the_best_its_goals() {
        let rounds = [measure().unwrap(), measure().unwrap()];
        let rows = rows(&rounds).unwrap();
        assert_eq!(rows.len(), 3 * Kernel::available().count());
        assert!(rows.iter().all(|row| row.ours.is_some_and(|value| value.least > 0.0)));
        let goals = |name: &str| rows.iter().filter(|row| row.mode == name && row.goal.is_some()).count();
        assert!(goals(Kernel::detect().name()) >= 1);
    }
}
