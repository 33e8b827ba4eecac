//! Finds out that the other end of a hop is gone.

use std::time::{Duration, Instant};

/// Silence after which a PING goes out: below the idle limits of usual address translators.
pub const PING_AFTER: Duration = Duration::from_secs(15);

/// Silence after which a hop is given up: three pings unanswered.
pub const DEAD_AFTER: Duration = Duration::from_secs(45);

/// Silence after which a hop is given up that [`Keepalive::doubt`] asked for a sign of life: one round trip and a
/// busy peer.
pub const DOUBTED_FOR: Duration = Duration::from_secs(5);

/// What [`Keepalive::handle_timeout`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing is due.
    Nothing,
    /// Send a PING with this token.
    Ping(u64),
    /// Close the hop: the peer was silent for [`DEAD_AFTER`], or for [`DOUBTED_FOR`] after a doubt.
    Dead,
}

/// The keepalive of one hop. Any opened record counts as a sign of life.
#[derive(Clone, Debug)]
pub struct Keepalive {
    heard: Instant,
    /// The latest ping and its token.
    pinged: Option<(Instant, u64)>,
    /// Until when a doubted peer has time.
    doubted: Option<Instant>,
    token: u64,
}

impl Keepalive {
    /// Starts with a peer that was heard just now.
    pub fn new(now: Instant) -> Self {
        Self { heard: now, pinged: None, doubted: None, token: 0 }
    }

    /// Notes that a record was opened.
    pub fn on_record(&mut self, now: Instant) {
        self.heard = now;
        self.doubted = None;
    }

    /// There is reason to think that the peer is gone: returns the token of a PING to send now. What it sends next
    /// settles it.
    pub fn doubt(&mut self, now: Instant) -> u64 {
        self.doubted.get_or_insert(now + DOUBTED_FOR);
        self.ping(now)
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
        let due = (last + PING_AFTER).min(self.heard + DEAD_AFTER);
        self.doubted.map_or(due, |until| due.min(until))
    }

    /// Says what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Beat {
        if now >= self.heard + DEAD_AFTER || self.doubted.is_some_and(|until| now >= until) {
            return Beat::Dead;
        }
        if now < self.poll_timeout() {
            return Beat::Nothing;
        }
        Beat::Ping(self.ping(now))
    }

    fn ping(&mut self, now: Instant) -> u64 {
        self.token = self.token.wrapping_add(1);
        self.pinged = Some((now, self.token));
        self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_doubted_has_seconds_and_one_that_speaks_has_its_whole_time_again() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(start);
        let token = keepalive.doubt(start);
        assert_eq!(keepalive.poll_timeout(), start + DOUBTED_FOR);
        let mut other = keepalive.clone();
        // Another doubt gives no more time.
        let again = keepalive.doubt(start + DOUBTED_FOR / 2);
        assert_ne!(token, again);
        assert_eq!(keepalive.handle_timeout(start + DOUBTED_FOR), Beat::Dead);
        other.on_record(start + DOUBTED_FOR / 2);
        assert_eq!(other.handle_timeout(start + DOUBTED_FOR), Beat::Nothing);
        assert!(matches!(other.handle_timeout(other.poll_timeout()), Beat::Ping(_)));
    }

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
