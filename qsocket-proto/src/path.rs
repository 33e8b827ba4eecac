//! The path layer: how much a connection has in flight on each path (`docs/protocol.md`, section 6).
//!
//! A relay is a router that may drop. Nothing between the two ends of a connection acknowledges anything, so the
//! ends count: the sender numbers the DATA payload bytes of each path ([`PathFlow`]), the receiver reports per
//! path how far the numbers got and how many bytes arrived ([`PathCounter`]). The difference is what was lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The window of a path that nothing is known about: as much as a relay queues for a route, so that a first
/// burst is never dropped by an idle relay.
pub const INITIAL_WINDOW: u64 = 256 * 1024;

/// The smallest window: two stripes of the largest block with their heads, so that a path that was bad can prove itself again
/// and a slow link has the next one when the one before has left.
pub const MIN_WINDOW: u64 = 33 * 1024;

/// The largest window: 8 MiB is 1 Gbit/s at 67 ms on one path of 25.
pub const MAX_WINDOW: u64 = 8 * 1024 * 1024;

/// What the window grows by in a round trip once it has been halved: one stripe of the largest block.
pub const STEP: u64 = 16 * 1024;

/// The queue of its own bytes that a path is given: more than acknowledgements wait for company (11.1) and schedulers are late,
/// so that a link never runs dry, and less than links usually buffer, so that the hop's TCP need not lose anything to find
/// its rate.
pub const OWN_QUEUE: Duration = Duration::from_millis(30);

/// A window up to which a path's round trip is compared with that of all paths: six stripes of the largest block, so that a
/// connection that shares its links with others is not left without. What is longer than this on all paths alike is a queue of
/// its own.
const COMMON_WINDOW: u64 = 96 * 1024;

/// How long the least round trip of a path is believed. Then the path sends little until it is measured anew.
const BASE_LASTS: Duration = Duration::from_secs(10);

/// The round trip that a path is assumed to have before the first sample (RFC 9002, section 6.2.2).
pub const INITIAL_RTT: Duration = Duration::from_millis(333);

/// The shortest wait for an acknowledgement. Acknowledgements travel on other paths, so a path's own round trip
/// says little about delays below this.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(200);

/// The longest wait for an acknowledgement, after doubling.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(10);

/// Round trips without loss before a path counts as well.
const CLEAN_ROUND_TRIPS: u32 = 8;

/// What a path's round trip may differ from twice the median and still count as well: the noise of schedulers.
const WELL_FLOOR: Duration = Duration::from_millis(20);

/// How much longer than usual an acknowledgement may take at least before what it is for counts as late: the peer's own
/// delay ([`MAX_ACK_DELAY`](crate::connection::MAX_ACK_DELAY)) and the noise of schedulers.
const LATE_FLOOR: Duration = Duration::from_millis(10);

/// Send times kept for round-trip samples: about four of what is in flight, and more while that grows.
const MARKERS: usize = 16;

/// What an acknowledgement said about a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckOutcome {
    /// Bytes that left the network, arrived or lost.
    pub newly_acked: u64,
    /// Bytes that are known to be lost since the last acknowledgement.
    pub lost_bytes: u64,
    /// A new round-trip sample.
    pub rtt: Option<Duration>,
}

/// The sending side of one (connection, path).
///
/// Numbers from the peer are believed only as far as they can be true: an acknowledgement of bytes never sent
/// changes nothing.
#[derive(Clone, Debug)]
pub struct PathFlow {
    window: u64,
    /// Growth by what is acknowledged, until the first halving.
    slow_start: bool,
    /// Payload bytes ever sent.
    sent: u64,
    /// The highest byte number that the peer reported.
    end: u64,
    /// Bytes that the peer reported as arrived; never above `end`.
    received: u64,
    /// Up to here bytes count as out of flight although nobody reported them: a timeout or a broken hop.
    released: u64,
    /// Bytes lost for good, so far.
    lost: u64,
    /// Losses below this number belong to a halving that has happened.
    recovery: u64,
    halved: Option<Instant>,
    lost_at: Option<Instant>,
    srtt: Option<Duration>,
    rttvar: Duration,
    /// The last sample: a queue that grows shows in it before it shows in the smoothed time.
    latest: Duration,
    /// The least sample and when it was, as long as [`BASE_LASTS`].
    base: Option<(Duration, Instant)>,
    /// Bytes a second: the most that it carried in a round trip lately.
    rate: Option<f64>,
    /// The median of what the connection's paths have for a base: no path is held to less.
    usual: Duration,
    /// The median of their round trips.
    median: Duration,
    /// The least sample is too old: little is sent until something behind this byte number was measured.
    measuring: Option<u64>,
    /// Round trips of what was sent below this number have had their effect on the window.
    shrunk: u64,
    markers: VecDeque<Marker>,
    /// The highest byte number that the peer is expected to report. ACKs alone are answered by nobody.
    awaited: u64,
    /// When the wait for an acknowledgement began; `None` while nothing is awaited.
    waiting_since: Option<Instant>,
    /// Timeouts in a row.
    backoff: u32,
}

/// How much of a path's own bytes stands before what is sent on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    /// Less than half of what it may be.
    Short,
    /// No more than it may be.
    Enough,
    Long,
}

/// When a byte was sent.
#[derive(Clone, Copy, Debug)]
struct Marker {
    /// One past its number.
    end: u64,
    at: Instant,
    /// What was in flight then, it included.
    in_flight: u64,
}

impl Default for PathFlow {
    fn default() -> Self {
        Self::new()
    }
}

impl PathFlow {
    /// A path that nothing is known about.
    pub fn new() -> Self {
        Self {
            window: INITIAL_WINDOW,
            slow_start: true,
            sent: 0,
            end: 0,
            received: 0,
            released: 0,
            lost: 0,
            recovery: 0,
            halved: None,
            lost_at: None,
            srtt: None,
            rttvar: Duration::ZERO,
            latest: Duration::ZERO,
            base: None,
            rate: None,
            usual: Duration::ZERO,
            median: Duration::ZERO,
            measuring: None,
            shrunk: 0,
            markers: VecDeque::new(),
            awaited: 0,
            waiting_since: None,
            backoff: 0,
        }
    }

    /// How many payload bytes may be sent now.
    pub fn room(&self) -> u64 {
        self.usable_window().saturating_sub(self.in_flight())
    }

    fn usable_window(&self) -> u64 {
        if self.measuring.is_some() { MIN_WINDOW } else { self.window }
    }

    /// Counts `bytes` of DATA payload and returns the offset that their frame carries.
    pub fn on_sent(&mut self, now: Instant, bytes: usize) -> u32 {
        let offset = self.sent as u32;
        if bytes == 0 {
            return offset;
        }
        self.sent += bytes as u64;
        self.awaited = self.sent;
        self.waiting_since.get_or_insert(now);
        // Of what is in flight, not of the window: a path that is new and slow shows it in its first few frames.
        let apart = self.in_flight() / 4;
        if self.markers.len() < MARKERS
            && self.markers.back().is_none_or(|last| self.sent - last.end >= apart)
        {
            self.markers.push_back(Marker { end: self.sent, at: now, in_flight: self.in_flight() });
        }
        offset
    }

    /// Counts `bytes` of DATA payload that call for no answer: an ACK. Their report comes with a later one's.
    pub fn on_sent_unanswered(&mut self, bytes: usize) -> u32 {
        let offset = self.sent as u32;
        self.sent += bytes as u64;
        offset
    }

    /// Takes a path's counters from an ACK of the peer: the receiver's [`PathCounter`].
    ///
    /// Late and reordered acknowledgements are harmless.
    pub fn on_ack(&mut self, now: Instant, end: u32, received: u32) -> AckOutcome {
        let before = self.in_flight();
        let mut outcome = AckOutcome::default();
        // Modulo 2^32 a stale or invented number is a step beyond what was sent: no step at all then.
        let step = u64::from(end.wrapping_sub(self.end as u32));
        if step <= self.sent - self.end {
            self.end += step;
        }
        let arrived = u64::from(received.wrapping_sub(self.received as u32));
        let arrived = if arrived <= self.end - self.received { arrived } else { 0 };
        self.received += arrived;
        outcome.newly_acked = before - self.in_flight();
        let missing = self.end - self.received;
        outcome.lost_bytes = missing.saturating_sub(self.lost);
        self.lost = missing;
        let mut newest = None;
        while let Some(marker) = self.markers.front().copied()
            && marker.end <= self.end
        {
            newest = Some(marker);
            self.markers.pop_front();
        }
        if let Some(marker) = newest {
            let rtt = now.saturating_duration_since(marker.at);
            outcome.rtt = Some(rtt);
            self.sample(now, rtt, marker);
        }
        if outcome.newly_acked + arrived > 0 {
            self.backoff = 0;
            self.waiting_since = (self.awaited > self.end.max(self.released)).then_some(now);
        }
        if outcome.lost_bytes > 0 {
            self.lost_at = Some(now);
            if self.end > self.recovery {
                self.halve(now);
            }
        } else if arrived > 0 && self.end > self.recovery && before >= self.window / 2 {
            // Growth only while the window is what holds the sender back (RFC 9002, section 7.8).
            let grow = match self.queue() {
                Queue::Short if self.slow_start => arrived,
                Queue::Short | Queue::Enough => (STEP * arrived / self.window).max(1),
                Queue::Long => 0,
            };
            self.window = (self.window + grow).min(MAX_WINDOW);
        }
        outcome
    }

    /// A relay dropped bytes of this connection: halves the window, at most once in a round trip.
    pub fn on_congested(&mut self, now: Instant, bytes: u32) {
        let recent = self.halved.is_some_and(|at| now.saturating_duration_since(at) < self.rtt());
        if bytes > 0 && !recent {
            self.lost_at = Some(now);
            self.halve(now);
        }
    }

    /// When [`PathFlow::on_timeout`] is due: nothing was acknowledged for too long.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.waiting_since? + self.timeout())
    }

    /// Gives up the bytes in flight, and sends little until the path answers again. A no-op before
    /// [`PathFlow::poll_timeout`]; returns whether the path timed out.
    pub fn on_timeout(&mut self, now: Instant) -> bool {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return false;
        }
        self.release();
        self.backoff = (self.backoff + 1).min(16);
        self.lost_at = Some(now);
        self.halve(now);
        true
    }

    /// The hop broke: what was in flight is gone, and what the next hop can carry is unknown.
    pub fn on_down(&mut self) {
        self.release();
        self.window = INITIAL_WINDOW;
        self.slow_start = true;
        self.recovery = self.sent;
        (self.srtt, self.rttvar, self.backoff) = (None, Duration::ZERO, 0);
        (self.lost_at, self.halved) = (None, None);
        (self.base, self.rate, self.measuring, self.shrunk) = (None, None, None, self.sent);
    }

    /// Payload bytes that were sent and neither reported nor given up.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.end.max(self.released)
    }

    /// The highest byte number that the peer reported.
    pub fn acked(&self) -> u64 {
        self.end
    }

    /// Whether a frame with `bytes` of payload may be sent now; one always may on an empty path.
    pub fn takes(&self, bytes: usize) -> bool {
        self.in_flight() == 0 || self.room() >= bytes as u64
    }

    /// Whether a frame with `bytes` of payload may be sent now that belongs to what other paths take at this moment: then this
    /// one may be behind them by half a window.
    pub fn takes_behind(&self, bytes: usize) -> bool {
        let window = self.usable_window();
        self.in_flight() == 0 || self.in_flight() + bytes as u64 <= window + window / 2
    }

    /// How long what is in flight will take, roughly: the measure by which paths are compared.
    pub fn queued_time(&self) -> Duration {
        let rate = self.rate.unwrap_or_else(|| self.window as f64 / self.rtt().as_secs_f64());
        Duration::from_secs_f64((self.in_flight() as f64 / rate.max(1.0)).min(1e3))
    }

    /// Payload bytes that may be in flight.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// Payload bytes ever sent on this path.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Payload bytes that the peer reported as lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The smoothed round trip, once there was a sample.
    pub fn srtt(&self) -> Option<Duration> {
        self.srtt
    }

    /// Timeouts since the last acknowledgement.
    pub fn timeouts(&self) -> u32 {
        self.backoff
    }

    /// Whether sealed evidence shows that the path is good: measured, not [failing](Self::fails), and not much slower than
    /// `median`, the median round trip of the connection's paths.
    pub fn well(&self, now: Instant, median: Duration) -> bool {
        let Some(srtt) = self.srtt else { return false };
        let near = self.base().is_none_or(|base| base <= median * 3 / 2 + WELL_FLOOR);
        !self.fails(now) && near && srtt.max(self.latest) <= self.longest(median)
    }

    /// Whether something is overdue on the path, or was lost within some round trips.
    pub fn fails(&self, now: Instant) -> bool {
        let Some(srtt) = self.srtt else { return false };
        let since = |at: Instant| now.saturating_duration_since(at);
        let overdue = self.backoff > 0 || self.waiting_since.is_some_and(|at| since(at) > self.timeout() / 2);
        overdue || self.lost_at.is_some_and(|at| since(at) < srtt * CLEAN_ROUND_TRIPS)
    }

    /// The longest round trip with which a path is well: what the sender's own queue adds is no illness.
    pub fn longest(&self, median: Duration) -> Duration {
        median.max(self.aim()) * 3 / 2 + WELL_FLOOR
    }

    /// When the path is late if nothing more comes: the first that it owes is older than its acknowledgement usually is, and
    /// nothing came for half a round trip, because a path whose queue grows acknowledges late, but it acknowledges. What was
    /// sent behind it on the same hop comes later still. `None` while nothing is owed, or before anything was measured.
    pub fn late_at(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        // What was sent last may have no marker.
        let first = self.markers.front().map_or(since, |marker| marker.at);
        let overdue = first + self.srtt? + self.rttvar.max(LATE_FLOOR);
        Some(overdue.max(since + self.rtt() / 2))
    }

    /// Takes the medians of the paths' [`base`](Self::base) and round trips.
    pub fn set_usual(&mut self, base: Duration, rtt: Duration) {
        (self.usual, self.median) = (base, rtt);
    }

    /// The least round trip lately.
    pub fn base(&self) -> Option<Duration> {
        self.base.map(|(base, _)| base)
    }

    /// The round trip that the window aims at: bytes that wait behind others of the same sender arrive no earlier.
    fn aim(&self) -> Duration {
        let own = self.base().unwrap_or_default().max(self.usual) + OWN_QUEUE;
        // What all paths have in common may be the queue of others: who gives way to them alone gets nothing.
        if self.window <= COMMON_WINDOW { own.max(self.common()) } else { own }
    }

    /// The longest round trip that is no other than that of the connection's paths.
    fn common(&self) -> Duration {
        self.median * 5 / 4
    }

    /// Whether more is queued on the path than acknowledgements and schedulers explain: its link carries all it can.
    pub fn is_full(&self) -> bool {
        self.base().is_some_and(|base| self.latest > base + OWN_QUEUE / 2)
    }

    /// How the last sample compares with what is aimed at.
    fn queue(&self) -> Queue {
        if self.base.is_none() {
            return Queue::Short;
        }
        match self.latest {
            latest if latest > self.aim() => Queue::Long,
            latest if latest > self.aim() - OWN_QUEUE / 2 => Queue::Enough,
            _ => Queue::Short,
        }
    }

    /// Takes a sample of the round trip. Smoothing is that of RFC 9002, section 5.3.
    fn sample(&mut self, now: Instant, rtt: Duration, marker: Marker) {
        let measured = self.measuring.is_some_and(|from| marker.end > from);
        if measured || self.base().is_none_or(|base| rtt <= base) {
            self.base = Some((rtt, now));
            self.measuring = None;
        } else if self.base.is_some_and(|(_, at)| now.saturating_duration_since(at) > BASE_LASTS) {
            self.measuring.get_or_insert(self.sent);
        }
        self.latest = rtt;
        let rate = marker.in_flight as f64 / rtt.as_secs_f64().max(1e-6);
        self.rate = Some(self.rate.map_or(rate, |before| rate.max(before - (before - rate) / 8.0)));
        if self.queue() == Queue::Long && marker.end > self.shrunk {
            // What was in flight divided by how long it took is the rate; at most half at once, one sample may be noise.
            let fits = (marker.in_flight as f64 * self.aim().as_secs_f64() / rtt.as_secs_f64()) as u64;
            let least = if rtt <= self.common() { COMMON_WINDOW } else { MIN_WINDOW };
            self.window = fits.max(self.window / 2).max(least).min(self.window);
            self.shrunk = self.sent;
        }
        match self.srtt {
            None => (self.srtt, self.rttvar) = (Some(rtt), rtt / 2),
            Some(srtt) => {
                self.rttvar = (self.rttvar * 3 + srtt.abs_diff(rtt)) / 4;
                self.srtt = Some((srtt * 7 + rtt) / 8);
            }
        }
    }

    fn rtt(&self) -> Duration {
        self.srtt.map_or(INITIAL_RTT, |srtt| srtt.max(self.latest))
    }

    /// RFC 9002, section 6.2.1, between the two bounds.
    fn timeout(&self) -> Duration {
        let base = match self.srtt {
            Some(srtt) => srtt + self.rttvar * 4,
            None => INITIAL_RTT * 3,
        };
        base.max(MIN_TIMEOUT).saturating_mul(1 << self.backoff).min(MAX_TIMEOUT)
    }

    fn halve(&mut self, now: Instant) {
        self.window = (self.window / 2).max(MIN_WINDOW);
        self.slow_start = false;
        self.recovery = self.sent;
        self.halved = Some(now);
    }

    fn release(&mut self) {
        self.released = self.sent;
        self.markers.clear();
        self.waiting_since = None;
    }
}

/// The receiving side of one (connection, path): what the ACKs report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathCounter {
    /// One past the highest DATA byte number that arrived, mod 2^32.
    pub end: u32,
    /// DATA bytes that arrived, mod 2^32.
    pub received: u32,
}

impl PathCounter {
    /// Adds what was counted elsewhere before this counter began.
    pub fn add(&mut self, before: Self) {
        self.end = self.end.wrapping_add(before.end);
        self.received = self.received.wrapping_add(before.received);
    }

    /// Counts a DATA frame with `len` payload bytes that says to begin at `offset`.
    ///
    /// The offset comes from a relay and is not sealed: a wrong one spoils the counters of this path, no more.
    pub fn on_frame(&mut self, offset: u32, len: usize) {
        let end = offset.wrapping_add(len as u32);
        if end.wrapping_sub(self.end) <= u32::MAX / 2 {
            self.end = end;
        }
        self.received = self.received.wrapping_add(len as u32);
    }
}

#[cfg(test)]
mod tests;
