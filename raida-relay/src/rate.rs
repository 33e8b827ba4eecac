//! How many new TCP connections a second one address may make.

use crate::state::lock;
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};
use qsocket_net::clock;
use qsocket_proto::relay::network;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Addresses that are remembered at once: about 4 MiB, and four times as many as may hold a connection. An address is
/// forgotten as soon as its rate is that of one never seen, at the default rate 31 ms after a single connection and
/// 2 s after a burst of 64, so only a flood from that many addresses fills it.
const MAX_ADDRESSES: usize = 65_536;

/// A full memory is searched for addresses to forget at most this often, because that visits all of them.
const FORGET_EVERY: Duration = Duration::from_millis(100);

/// The clock of the runtime, so that tests with a paused clock hold here too.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        clock::now()
    }
}

/// Limits new connections by address (IPv6: by /64), before anybody is authenticated.
///
/// The memory is bounded. When it is full, addresses in it keep their own rate, and all others share the rate of one:
/// a flood from very many addresses keeps strangers out, and takes neither memory nor the hops that stand.
#[derive(Debug)]
pub(crate) struct Rate<C: Clock = RuntimeClock> {
    limiter: RateLimiter<IpAddr, Memory, C, NoOpMiddleware<C::Instant>>,
    max: usize,
    forgot: Mutex<C::Instant>,
}

impl Rate {
    /// Allows `burst` connections at once and `per_second` of them sustained.
    pub(crate) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self::with(per_second, burst, MAX_ADDRESSES, RuntimeClock)
    }
}

impl<C: Clock> Rate<C> {
    fn with(per_second: NonZeroU32, burst: NonZeroU32, max: usize, clock: C) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let forgot = Mutex::new(clock.now());
        Self { limiter: RateLimiter::new(quota, Memory::new(max), clock), max, forgot }
    }

    /// Counts a new connection; `false` if it comes too soon.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        if self.limiter.len() >= self.max {
            self.forget();
        }
        self.limiter.check_key(&network(address)).is_ok()
    }

    fn forget(&self) {
        let now = self.limiter.clock().now();
        let mut forgot = lock(&self.forgot);
        if now.duration_since(*forgot) >= Nanos::from(FORGET_EVERY) {
            *forgot = now;
            self.limiter.retain_recent();
        }
    }
}

/// When each address may connect again, and all addresses together that found no room.
#[derive(Debug)]
struct Memory {
    max: usize,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    addresses: BTreeMap<IpAddr, Nanos>,
    others: Option<Nanos>,
}

impl Memory {
    fn new(max: usize) -> Self {
        Self { max, times: Mutex::default() }
    }
}

impl StateStore for Memory {
    type Key = IpAddr;

    fn measure_and_replace<T, F, E>(&self, address: &IpAddr, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Times { addresses, others } = &mut *lock(&self.times);
        if let Some(time) = addresses.get_mut(address) {
            let (answer, next) = decide(Some(*time))?;
            *time = next;
            return Ok(answer);
        }
        if addresses.len() < self.max {
            let (answer, next) = decide(None)?;
            addresses.insert(*address, next);
            return Ok(answer);
        }
        let (answer, next) = decide(*others)?;
        *others = Some(next);
        Ok(answer)
    }
}

impl ShrinkableKeyedStateStore<IpAddr> for Memory {
    fn retain_recent(&self, drop_below: Nanos) {
        lock(&self.times).addresses.retain(|_, time| *time > drop_below);
    }

    fn len(&self) -> usize {
        lock(&self.times).addresses.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn limiter(max: usize) -> (Rate<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        // Time 0 is the start of the limiter, and nothing happens there in earnest.
        clock.advance(Duration::from_secs(1));
        let of = |n| NonZeroU32::new(n).unwrap();
        (Rate::with(of(32), of(64), max, clock.clone()), clock)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many of `tries` connections are admitted.
    fn admitted(rate: &Rate<FakeRelativeClock>, address: &str, tries: usize) -> usize {
        (0..tries).filter(|_| rate.admits(ip(address))).count()
    }

    #[test]
    fn an_address_has_its_burst_and_then_its_rate() {
        let (rate, clock) = limiter(8);
        assert_eq!(admitted(&rate, "192.0.2.1", 1000), 64);
        assert_eq!(admitted(&rate, "192.0.2.2", 1000), 64, "another address is not concerned");
        clock.advance(Duration::from_secs(1));
        assert_eq!(admitted(&rate, "192.0.2.1", 1000), 32);
        clock.advance(Duration::from_secs(60));
        assert_eq!(admitted(&rate, "192.0.2.1", 1000), 64, "time gives back no more than the burst");
    }

    #[test]
    fn a_64_network_of_ipv6_is_one_address() {
        let (rate, _) = limiter(8);
        let flood = (0..1000).filter(|i| rate.admits(ip(&format!("2001:db8::{i:x}")))).count();
        assert_eq!(flood, 64);
        assert!(rate.admits(ip("2001:db8:0:1::1")));
        assert_eq!(admitted(&rate, "::ffff:192.0.2.1", 40) + admitted(&rate, "192.0.2.1", 40), 64);
        assert_eq!(rate.limiter.len(), 3);
    }

    #[test]
    fn a_flood_from_many_addresses_takes_no_memory_and_shares_one_rate() {
        let (rate, clock) = limiter(100);
        assert_eq!(admitted(&rate, "192.0.2.1", 10), 10);
        // 2 s are the whole burst: after it, everything counted here is forgotten.
        let strangers = |from: u32, n: u32| {
            (from..from + n).filter(|i| rate.admits(IpAddr::V4((0x0a00_0000 + i).into()))).count()
        };
        assert_eq!(strangers(0, 10_000), 99 + 64);
        assert_eq!(rate.limiter.len(), 100, "full");
        assert!(!rate.admits(ip("198.51.100.1")), "strangers share one rate");
        assert_eq!(admitted(&rate, "192.0.2.1", 1000), 54, "who was known has its own");

        // Nothing is looked for so soon again; then single connections are forgotten, bursts are not.
        clock.advance(FORGET_EVERY);
        assert_eq!(strangers(20_000, 1), 1);
        assert_eq!(rate.limiter.len(), 2, "the known one and the new one");
        assert_eq!(admitted(&rate, "192.0.2.1", 1000), 3, "100 ms at 32 a second");
        assert_eq!(admitted(&rate, "198.51.100.1", 1000), 64);
    }
}
