//! What runs met: a simulation that stops meeting something stops testing it.

use qsocket_proto::fault_points::Point;
use std::collections::BTreeMap;

/// What a run met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// A hash over every event; of one run, not of a sum.
    pub digest: u64,
    pub hits: [u64; Point::ALL.len()],
    met: BTreeMap<&'static str, u64>,
}

impl Summary {
    pub fn count(&mut self, what: &'static str, n: u64) {
        *self.met.entry(what).or_default() += n;
    }

    pub fn add(&mut self, other: &Self) {
        self.hits.iter_mut().zip(other.hits).for_each(|(sum, n)| *sum += n);
        other.met.iter().for_each(|(what, n)| self.count(what, *n));
    }

    /// What a sum over many runs must have met.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        const EXPECTED: [&str; 12] = [
            "connections completed",
            "streams completed",
            "blocks",
            "stripes sent again",
            "data stripes recovered",
            "key phases",
            "opened too late",
            "unreachable",
            "reset after a crash of the server",
            "more than nine liars",
            "lies",
            "payloads that did not open",
        ];
        EXPECTED.into_iter().map(|what| (what, self.met.get(what).copied().unwrap_or(0)))
    }
}
