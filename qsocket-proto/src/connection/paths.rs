//! The 25 paths of one connection.

use super::stats::{PathStats, PathStatus};
use crate::fault_points::{Point, hit};
use crate::frame::RouteError;
use crate::ids::{HopAt, PathId, PathSet, RELAYS, RouteId, SIXTEEN};
use crate::path::{PathCounter, PathFlow};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Failed opens from one path within [`FAILURE_SPAN`] after which it is no longer listened to.
const MAX_FAILURES: usize = 8;

/// See [`MAX_FAILURES`].
const FAILURE_SPAN: Duration = Duration::from_secs(60);

/// First wait before a path that a relay refused is announced again.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Longest wait between two announcements.
const MAX_RETRY: Duration = Duration::from_secs(10);

/// How far a path has joined the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// No route.
    No,
    /// OPEN went out or came in on it. The client may use it; the server waits for a sealed frame.
    Opened,
    /// ATTACH went out or came in on it; nobody uses it before a sealed frame arrived.
    Attached,
    /// A sealed frame arrived on it.
    Live,
}

/// One path.
#[derive(Debug)]
pub(crate) struct Path {
    /// The hop to the relay stands.
    pub(crate) hop_up: bool,
    /// Which of the path's hops carries the connection.
    pub(crate) nth: u8,
    pub(crate) route: Option<RouteId>,
    pub(crate) joined: Joined,
    /// The client is to announce the connection on it, not before `retry_at`.
    pub(crate) announce: bool,
    pub(crate) retry_at: Option<Instant>,
    retries: u32,
    pub(crate) flow: PathFlow,
    pub(crate) counter: PathCounter,
    /// Something arrived since the last ACK that said so.
    pub(crate) counted: bool,
    /// What was sent on it is overdue.
    pub(crate) suspect: bool,
    pub(crate) distrusted: bool,
    /// When it was last seen not to be well.
    pub(crate) ill_at: Option<Instant>,
    failures: VecDeque<Instant>,
    pub(crate) forged: u64,
    pub(crate) received_bytes: u64,
    pub(crate) lost_bytes: u64,
    /// Bytes from it that lie unopened.
    pub(crate) parked: usize,
    pub(crate) last_error: Option<RouteError>,
}

impl Path {
    fn new() -> Self {
        Self {
            hop_up: false,
            nth: 0,
            route: None,
            joined: Joined::No,
            announce: false,
            retry_at: None,
            retries: 0,
            flow: PathFlow::new(),
            counter: PathCounter::default(),
            counted: false,
            suspect: false,
            distrusted: false,
            ill_at: None,
            failures: VecDeque::new(),
            forged: 0,
            received_bytes: 0,
            lost_bytes: 0,
            parked: 0,
            last_error: None,
        }
    }

    /// The hop that carries the connection on this path, whose id is `path`.
    pub(crate) fn at(&self, path: PathId) -> HopAt {
        HopAt { path, nth: self.nth }
    }

    /// The hop or the route is gone.
    pub(crate) fn down(&mut self) {
        self.joined = Joined::No;
        self.route = None;
        self.suspect = false;
        self.flow.on_down();
    }

    /// Waits longer each time before the path is announced again.
    pub(crate) fn back_off(&mut self, now: Instant) {
        let wait = FIRST_RETRY.saturating_mul(1 << self.retries.min(8)).min(MAX_RETRY);
        self.retries += 1;
        self.announce = true;
        self.retry_at = Some(now + wait);
    }

    /// A sealed frame arrived on it: the best evidence there is.
    pub(crate) fn alive(&mut self) -> bool {
        self.retries = 0;
        if self.joined == Joined::Live || self.route.is_none() {
            return false;
        }
        self.joined = Joined::Live;
        true
    }

    /// What arrived on it did not open. True if that was once too often.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        self.forged += 1;
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|t| now.duration_since(*t) > FAILURE_SPAN) {
            self.failures.pop_front();
        }
        let enough = if hit(Point::Distrust) { 1 } else { MAX_FAILURES };
        if self.failures.len() >= enough && !self.distrusted {
            self.distrusted = true;
            self.failures.clear();
            return true;
        }
        false
    }

    pub(crate) fn status(&self) -> PathStatus {
        match self.joined {
            _ if self.distrusted => PathStatus::Distrusted,
            Joined::No => PathStatus::Down,
            _ if self.suspect => PathStatus::Suspect,
            Joined::Live => PathStatus::Live,
            Joined::Opened | Joined::Attached => PathStatus::Joining,
        }
    }

    pub(crate) fn stats(&self) -> PathStats {
        PathStats {
            status: self.status(),
            sent_bytes: self.flow.sent(),
            received_bytes: self.received_bytes,
            lost_bytes: self.lost_bytes,
            forged: self.forged,
            rtt: self.flow.srtt(),
            last_error: self.last_error,
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Paths {
    all: Box<[Path; RELAYS]>,
    /// Where the last control packet went: the next one begins behind it.
    cursor: u8,
}

impl Paths {
    pub(crate) fn new() -> Self {
        Self { all: Box::new(std::array::from_fn(|_| Path::new())), cursor: 0 }
    }

    pub(crate) fn get(&self, path: PathId) -> &Path {
        &self.all[path.index()]
    }

    pub(crate) fn get_mut(&mut self, path: PathId) -> &mut Path {
        &mut self.all[path.index()]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PathId, &Path)> {
        PathId::all().zip(self.all.iter())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PathId, &mut Path)> {
        PathId::all().zip(self.all.iter_mut())
    }

    /// The paths that satisfy `test`.
    pub(crate) fn set(&self, mut test: impl FnMut(&Path) -> bool) -> PathSet {
        self.iter().filter(|(_, p)| test(p)).map(|(id, _)| id).collect()
    }

    /// The median of the round trips that are measured.
    pub(crate) fn median_rtt(&self) -> Duration {
        let mut rtts: Vec<Duration> = self.all.iter().filter_map(|p| p.flow.srtt()).collect();
        let middle = rtts.len() / 2;
        if rtts.is_empty() { Duration::ZERO } else { *rtts.select_nth_unstable(middle).1 }
    }

    /// Tells each path what is usual.
    pub(crate) fn settle_usual(&mut self) {
        let mut bases: Vec<Duration> = self.all.iter().filter_map(|p| p.flow.base()).collect();
        let middle = bases.len() / 2;
        if !bases.is_empty() {
            let usual = *bases.select_nth_unstable(middle).1;
            let rtt = self.median_rtt();
            self.all.iter_mut().for_each(|p| p.flow.set_usual(usual, rtt));
        }
    }

    /// Whether most paths carry all that their links can.
    pub(crate) fn are_full(&self) -> bool {
        self.all.iter().filter(|p| p.flow.is_full()).count() > RELAYS / 2
    }

    /// The round trip of the sixteenth fastest path, once so many are measured: what a block takes.
    pub(crate) fn sixteenth_rtt(&self) -> Option<Duration> {
        let mut rtts: Vec<Duration> = self.all.iter().filter_map(|p| p.flow.srtt()).collect();
        (rtts.len() >= SIXTEEN).then(|| *rtts.select_nth_unstable(SIXTEEN - 1).1)
    }

    /// Up to `count` of `candidates` in rotation: those outside `tried` first. Never by speed, so that a few
    /// fast relays that swallow everything cannot stall the connection.
    pub(crate) fn rotate(&mut self, candidates: PathSet, tried: PathSet, count: usize) -> PathSet {
        let mut chosen = PathSet::EMPTY;
        for fresh in [true, false] {
            for step in 0..RELAYS as u8 {
                let Some(path) = PathId::new((self.cursor + step) % RELAYS as u8) else { continue };
                if chosen.len() < count && candidates.contains(path) && tried.contains(path) != fresh {
                    chosen.insert(path);
                }
            }
        }
        self.cursor = (self.cursor + count as u8) % RELAYS as u8;
        chosen
    }
}
