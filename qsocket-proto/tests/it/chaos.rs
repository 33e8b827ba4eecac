//! Everything at once, by chance, for some simulated seconds; then sixteen relays are well and all must come right.
//!
//! Each seed is one run of its own mixture. While faults happen nothing wrong may come of them: no byte but those that
//! were written, in their order, no clean end but behind all of them, no error but those that the protocol names for
//! what happened, no nonce that seals twice, no honest relay that is blamed. When sixteen relays are well again,
//! everything must be completed.

mod mix;
mod run;
mod summary;

use qsocket_proto::fault_points::Point;
use run::run;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use summary::Summary;

/// Seeds of the ordinary test run: a few seconds on each core.
const ORDINARY: u64 = 500;

/// Which runs: `QSOCKET_SEED=17` is one, `QSOCKET_SEEDS=100000` so many, `QSOCKET_SEEDS=500..1000` those.
fn seeds() -> Range<u64> {
    let variable = |name| std::env::var(name).ok();
    let number = |text: &str| text.replace('_', "").parse::<u64>().ok();
    if let Some(text) = variable("QSOCKET_SEED") {
        let seed = number(&text).unwrap_or_else(|| panic!("QSOCKET_SEED={text}: write a number"));
        return seed..seed + 1;
    }
    let Some(text) = variable("QSOCKET_SEEDS") else { return 0..ORDINARY };
    let range = match text.split_once("..") {
        Some((from, to)) => number(from).zip(number(to)).map(|(from, to)| from..to),
        None => number(&text).map(|count| 0..count),
    };
    range.unwrap_or_else(|| panic!("QSOCKET_SEEDS={text}: write a number, or two as in 500..1000"))
}

/// Runs all seeds on all cores and adds up what they met.
fn run_all(seeds: &Range<u64>) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let (sum, failed) = (Mutex::new(Summary::default()), Mutex::new(Vec::new()));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || !failed.lock().unwrap().is_empty() {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(one) => sum.lock().unwrap().add(&one),
                Err(_) => failed.lock().unwrap().push(seed),
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(worker);
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    for seed in &failed {
        println!("QSOCKET_SEED={seed} cargo test -p qsocket-proto --test it chaos:: -- --nocapture");
    }
    assert!(failed.is_empty(), "seeds {failed:?} failed; the lines above repeat them");
    sum.into_inner().unwrap()
}

#[test]
fn everything_comes_right_whatever_happens() {
    let seeds = seeds();
    let sum = run_all(&seeds);
    println!("{} runs: {sum:#?}", seeds.end - seeds.start);
    // A simulation that stops meeting something stops testing it.
    if seeds == (0..ORDINARY) {
        for (point, hits) in Point::ALL.into_iter().zip(sum.hits) {
            assert!(hits > 0, "{point:?} never fired");
        }
        for (what, count) in sum.counts() {
            assert!(count > 0, "no run met: {what}");
        }
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in [3, 5, 8] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
