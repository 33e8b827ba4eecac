//! Finds out that the other end of a hop is gone.

use std::time::{Duration, Instant};

/// Silence after which a PING goes out: below the idle limits of usual address translators.
pub const PING_AFTER: Duration = Duration::from_secs(15);

/// Silence after which a hop is given up: three pings unanswered.
pub const DEAD_AFTER: Duration = Duration::from_secs(45);

/// What [`Keepalive::handle_timeout`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing is due.
    Nothing,
    /// Send a PING with this token.
    Ping(u64),
    /// Close the hop: the peer was silent for [`DEAD_AFTER`].
    Dead,
}

/// The keepalive of one hop. Any opened record counts as a sign of life.
#[derive(Clone, Debug)]
pub struct Keepalive {
    heard: Instant,
    /// The latest ping and its token.
    pinged: Option<(Instant, u64)>,
    token: u64,
}

impl Keepalive {
    /// Starts with a peer that was heard just now.
    pub fn new(now: Instant) -> Self {
        Self { heard: now, pinged: None, token: 0 }
    }

    /// Notes that a record was opened.
    pub fn on_record(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Takes the token of a PONG; returns the round trip if it answers the latest ping.
    pub fn on_pong(&mut self, now: Instant, token: u64) -> Option<Duration> {
        let (at, sent) = self.pinged?;
        if token != sent {
            return None;
        }
        self.pinged = None;
        Some(now.saturating_duration_since(at))
    }

    /// When [`Keepalive::handle_timeout`] is due. Never earlier than [`PING_AFTER`] behind the last sign of life
    /// or ping, so that a silent hop costs three timers.
    pub fn poll_timeout(&self) -> Instant {
        let last = self.pinged.map_or(self.heard, |(at, _)| at.max(self.heard));
        (last + PING_AFTER).min(self.heard + DEAD_AFTER)
    }

    /// Says what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Beat {
        if now >= self.heard + DEAD_AFTER {
            return Beat::Dead;
        }
        if now < self.poll_timeout() {
            return Beat::Nothing;
        }
        self.token = self.token.wrapping_add(1);
        self.pinged = Some((now, self.token));
        Beat::Ping(self.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_pinged_and_then_given_up() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(start);
        let mut beats = Vec::new();
        loop {
            let due = keepalive.poll_timeout();
            let beat = keepalive.handle_timeout(due);
            beats.push((due - start, beat));
            if beat == Beat::Dead {
                break;
            }
        }
        let after = |n: u32| PING_AFTER * n;
        assert_eq!(beats, [(after(1), Beat::Ping(1)), (after(2), Beat::Ping(2)), (DEAD_AFTER, Beat::Dead)]);
    }

    #[test]
    fn life_postpones_and_only_the_latest_pong_is_measured() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(start);
        assert_eq!(keepalive.handle_timeout(start + PING_AFTER / 2), Beat::Nothing);
        assert_eq!(keepalive.handle_timeout(start + PING_AFTER), Beat::Ping(1));
        let answered = start + PING_AFTER + Duration::from_millis(30);
        keepalive.on_record(answered);
        assert_eq!(keepalive.on_pong(answered, 9), None);
        assert_eq!(keepalive.on_pong(answered, 1), Some(Duration::from_millis(30)));
        assert_eq!(keepalive.on_pong(answered, 1), None);
        assert_eq!(keepalive.poll_timeout(), answered + PING_AFTER);
    }
}
