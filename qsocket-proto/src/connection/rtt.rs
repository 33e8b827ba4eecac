//! How long a block takes to be acknowledged, and so when to worry.

use std::time::Duration;

/// Before anything was measured (RFC 9002 section 6.2.2).
const INITIAL: Duration = Duration::from_millis(333);

/// Below this a timer only measures the scheduler.
const GRANULARITY: Duration = Duration::from_millis(5);

/// Longest wait between two attempts, so that a stream goes on soon after relays return.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// Smoothed time and its variation (RFC 9002 section 5.3).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rtt {
    estimate: Option<(Duration, Duration)>,
}

impl Rtt {
    /// Takes what the paths say as the first sample, when no block was acknowledged yet: a side that only answered so
    /// far knows how long its first block will take. It only makes the first wait shorter: one sample may be that of a
    /// peer that was frozen, and the next comes with the next block.
    pub(crate) fn assume(&mut self, paths: Duration) {
        if self.estimate.is_none() && paths * 3 < INITIAL {
            self.sample(paths);
        }
    }

    pub(crate) fn sample(&mut self, sample: Duration) {
        self.estimate = Some(match self.estimate {
            None => (sample, sample / 2),
            Some((smoothed, variation)) => {
                ((smoothed * 7 + sample) / 8, (variation * 3 + smoothed.abs_diff(sample)) / 4)
            }
        });
    }

    /// The probe timeout after `attempts` in vain: above [`MAX_WAIT`] only as far as the round trip itself is. One
    /// outlier, from a peer that was frozen for a while, holds up nothing for longer.
    pub(crate) fn timeout(&self, attempts: u32, ack_delay: Duration) -> Duration {
        let (smoothed, base) = match self.estimate {
            None => (INITIAL, INITIAL),
            Some((smoothed, variation)) => {
                (smoothed, smoothed + (variation * 4).max(GRANULARITY) + ack_delay)
            }
        };
        base.saturating_mul(1 << attempts.min(10)).min(MAX_WAIT.max(smoothed * 5 / 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_how_long_the_first_block_will_take_and_nothing_after_it() {
        let ms = Duration::from_millis;
        let mut rtt = Rtt::default();
        rtt.assume(ms(25_000));
        assert_eq!(rtt.timeout(0, Duration::ZERO), INITIAL, "the peer was frozen");
        rtt.assume(ms(20));
        assert_eq!(rtt.timeout(0, Duration::ZERO), ms(60));
        rtt.assume(ms(2_000));
        assert_eq!(rtt.timeout(0, Duration::ZERO), ms(60));
    }

    #[test]
    fn one_outlier_does_not_hold_up_resends() {
        let mut rtt = Rtt::default();
        for _ in 0..50 {
            rtt.sample(Duration::from_millis(50));
        }
        let usual = rtt.timeout(0, Duration::ZERO);
        assert!(usual < Duration::from_millis(60), "{usual:?}");
        // A peer that was frozen for a while.
        rtt.sample(Duration::from_secs(20));
        for attempts in 0..12 {
            // And not the minute that four times its variation is.
            assert!(rtt.timeout(attempts, Duration::ZERO) < Duration::from_secs(4));
        }
        // A round trip that is long is waited for.
        for _ in 0..50 {
            rtt.sample(Duration::from_secs(5));
        }
        assert!(rtt.timeout(0, Duration::ZERO) >= Duration::from_secs(5));
    }
}
