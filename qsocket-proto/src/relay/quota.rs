//! What one principal may use of a relay: routes at once, bytes a second.

use super::egress::{CONGESTED_EVERY, ROUTE_QUEUE};
use super::{Congestion, HopId, MAX_CONNECTIONS_PER_CLIENT};
use crate::ids::RouteId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The most routes at once that an operator can allow a client. A route with a full queue holds 256 KiB, so more
/// would let one client fill its share of every server's hop many times over.
pub const MAX_ROUTES: usize = 4_096;

/// The lowest rate that can be set: below it the longest DATA frame would take over a minute.
pub const MIN_BYTES_PER_SECOND: u64 = 1_024;

/// The highest rate that can be set, 8 Tbit/s: above it there is nothing to limit, and sums stay far inside 64 bits.
pub const MAX_BYTES_PER_SECOND: u64 = 1 << 40;

/// The least that may come at once when nothing came before: the first window of a path, so that a slow rate does
/// not cut the beginning of every connection.
pub const QUOTA_BURST: u64 = ROUTE_QUEUE as u64;

/// A faster rate may come at once for as long as this.
pub const QUOTA_BURST_TIME: Duration = Duration::from_millis(250);

/// What a principal in one role may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Routes at once over all hops of a client, at most [`MAX_ROUTES`]; larger values count as that.
    pub routes: usize,
    /// DATA payload bytes a second that the principal may send, over all its hops; `None` for no limit. Values
    /// outside of [`MIN_BYTES_PER_SECOND`] to [`MAX_BYTES_PER_SECOND`] count as the nearer of the two.
    pub bytes_per_second: Option<u64>,
}

impl Default for Quota {
    fn default() -> Self {
        Self { routes: MAX_CONNECTIONS_PER_CLIENT, bytes_per_second: None }
    }
}

/// The bytes of one principal: a token bucket that all its hops share.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: u64,
    /// What may be taken now.
    tokens: u64,
    /// Up to when tokens were given.
    filled: Instant,
}

impl Bucket {
    /// A full bucket for a rate in bytes a second.
    pub fn new(now: Instant, rate: u64) -> Self {
        let rate = rate.clamp(MIN_BYTES_PER_SECOND, MAX_BYTES_PER_SECOND);
        Self { rate, tokens: burst(rate), filled: now }
    }

    /// Changes the rate from now on. What is in the bucket stays, up to the new burst.
    pub fn set_rate(&mut self, now: Instant, rate: u64) {
        self.fill(now);
        self.rate = rate.clamp(MIN_BYTES_PER_SECOND, MAX_BYTES_PER_SECOND);
        self.tokens = self.tokens.min(burst(self.rate));
    }

    /// Takes `bytes` if they are there.
    pub fn take(&mut self, now: Instant, bytes: usize) -> bool {
        self.fill(now);
        let enough = self.tokens >= bytes as u64;
        if enough {
            self.tokens -= bytes as u64;
        }
        enough
    }

    /// Gives whole bytes for whole steps of time, so that nothing is lost to rounding however often it is asked.
    fn fill(&mut self, now: Instant) {
        const SECOND: u128 = 1_000_000_000;
        let passed = now.saturating_duration_since(self.filled).as_nanos();
        let given = passed * u128::from(self.rate) / SECOND;
        if given >= u128::from(burst(self.rate) - self.tokens.min(burst(self.rate))) {
            self.tokens = burst(self.rate);
            self.filled = self.filled.max(now);
        } else if given > 0 {
            self.tokens += given as u64;
            // Rounded up, so that the bucket never gives more than its rate.
            self.filled += Duration::from_nanos((given * SECOND).div_ceil(u128::from(self.rate)) as u64);
        }
    }
}

fn burst(rate: u64) -> u64 {
    QUOTA_BURST.max(rate / 1_000 * QUOTA_BURST_TIME.as_millis() as u64)
}

/// What one hop lost to its principal's quota and has not been told: for each route the bytes, reported at most every
/// [`CONGESTED_EVERY`].
#[derive(Debug, Default)]
pub struct Losses {
    routes: BTreeMap<RouteId, Loss>,
}

#[derive(Debug, Default)]
struct Loss {
    bytes: u32,
    reported: Option<Instant>,
}

impl Losses {
    /// Notes dropped DATA of a route that stands; returns what to tell the sender now, if anything.
    pub fn dropped(&mut self, now: Instant, hop: HopId, route: RouteId, bytes: usize) -> Option<Congestion> {
        let loss = self.routes.entry(route).or_default();
        loss.bytes = loss.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if loss.reported.is_some_and(|at| now.saturating_duration_since(at) < CONGESTED_EVERY) {
            return None;
        }
        loss.reported = Some(now);
        Some(Congestion { hop, route, bytes: std::mem::take(&mut loss.bytes) })
    }

    /// Forgets a route that ended.
    pub fn forget(&mut self, route: RouteId) {
        self.routes.remove(&route);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Takes frames of `len` bytes as often as they pass; returns the bytes.
    fn greedy(bucket: &mut Bucket, now: Instant, len: usize) -> u64 {
        let mut all = 0;
        while bucket.take(now, len) {
            all += len as u64;
        }
        all
    }

    #[test]
    fn a_principal_gets_its_rate_and_one_burst() {
        let start = Instant::now();
        for rate in [MIN_BYTES_PER_SECOND, 100_000, 1_000_003, 1_000_000_000] {
            let mut bucket = Bucket::new(start, rate);
            let first = greedy(&mut bucket, start, 1_000);
            assert!(first <= burst(rate) && first + 1_000 > burst(rate));
            let mut now = start;
            let mut sum = first;
            for step in 0..10_000 {
                now += MS + Duration::from_nanos(step % 7);
                sum += greedy(&mut bucket, now, 1_000);
            }
            let fair = (now - start).as_secs_f64() * rate as f64 + burst(rate) as f64;
            assert!(sum as f64 <= fair && sum as f64 > fair - 2_000.0 - 10_000.0, "{rate}: {sum} of {fair}");
        }
    }

    #[test]
    fn a_long_rest_gives_one_burst_and_time_that_stands_gives_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 10_000);
        greedy(&mut bucket, start, 1_000);
        assert_eq!(greedy(&mut bucket, start, 1_000), 0);
        let later = start + Duration::from_secs(1_000_000);
        assert_eq!(greedy(&mut bucket, later, 1), QUOTA_BURST);
        assert_eq!(greedy(&mut bucket, start, 1), 0, "a clock that went back gives nothing");
        let odd = Bucket::new(start, u64::MAX).take(start + Duration::from_secs(u64::from(u32::MAX)), 1);
        assert!(odd);
    }

    #[test]
    fn a_new_rate_holds_at_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 1_000_000_000);
        bucket.set_rate(start, 10_000);
        assert_eq!(greedy(&mut bucket, start, 1), QUOTA_BURST);
        assert_eq!(greedy(&mut bucket, start + Duration::from_secs(1), 1), 10_000);
    }

    #[test]
    fn losses_are_summed_and_reported_at_intervals() {
        let (start, hop) = (Instant::now(), HopId(1));
        let mut losses = Losses::default();
        let report = |route, bytes| Some(Congestion { hop, route: RouteId(route), bytes });
        assert_eq!(losses.dropped(start, hop, RouteId(1), 10), report(1, 10));
        assert_eq!(losses.dropped(start, hop, RouteId(1), 20), None);
        assert_eq!(losses.dropped(start, hop, RouteId(2), 5), report(2, 5), "each route has its own");
        assert_eq!(losses.dropped(start + CONGESTED_EVERY, hop, RouteId(1), 30), report(1, 50));
        losses.forget(RouteId(1));
        assert_eq!(losses.routes.len(), 1);
    }
}
