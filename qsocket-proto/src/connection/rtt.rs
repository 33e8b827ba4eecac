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
    pub(crate) fn sample(&mut self, sample: Duration) {
        self.estimate = Some(match self.estimate {
            None => (sample, sample / 2),
            Some((smoothed, variation)) => {
                ((smoothed * 7 + sample) / 8, (variation * 3 + smoothed.abs_diff(sample)) / 4)
            }
        });
    }

    /// The probe timeout after `attempts` in vain.
    pub(crate) fn timeout(&self, attempts: u32, ack_delay: Duration) -> Duration {
        let base = match self.estimate {
            None => INITIAL,
            Some((smoothed, variation)) => smoothed + (variation * 4).max(GRANULARITY) + ack_delay,
        };
        base.saturating_mul(1 << attempts.min(10)).min(MAX_WAIT.max(base))
    }
}
