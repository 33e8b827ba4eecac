//! How well the connection of a peer stands, as requests carry it.

use qsocket::{Health, PathStatus, QSocketStream};
use std::fmt;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How many of the 25 paths of a peer's connection are well, now and whenever that changes. Cheap to clone.
///
/// ```
/// use qsocket::Health;
/// use qsocket_tower::LiveHealth;
///
/// let (now, health) = tokio::sync::watch::channel(Health::Intact);
/// let health = LiveHealth::new(health);
/// now.send_replace(Health::of(15));
/// assert_eq!(health.now(), Health::Critical(10));
/// ```
#[derive(Clone)]
pub struct LiveHealth {
    now: watch::Receiver<Health>,
    /// How many paths were well when the stream came.
    well: usize,
    /// How many were well or about to be.
    announced: usize,
    /// When the stream came.
    since: Instant,
}

impl fmt::Debug for LiveHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveHealth").field(&self.now()).finish()
    }
}

impl LiveHealth {
    /// Follows what a [`QSocketStream::health`] says, of a connection all whose paths joined.
    pub fn new(health: watch::Receiver<Health>) -> Self {
        let well = health.borrow().well();
        Self { now: health, well, announced: well, since: Instant::now() }
    }

    /// A health that stays as it is, for tests.
    pub fn fixed(health: Health) -> Self {
        Self::new(watch::channel(health).1)
    }

    /// How many paths of a stream are live, and how they go on.
    pub(crate) fn of(stream: &QSocketStream) -> (usize, Self) {
        let paths = stream.stats().paths.map(|path| path.status);
        let count = |status| paths.iter().filter(|path| **path == status).count();
        let live = count(PathStatus::Live);
        let announced = live + count(PathStatus::Joining);
        let health = Self::new(stream.health());
        // What the health says may be a moment older.
        (live, Self { well: health.well.min(live), announced, ..health })
    }

    /// Says that so many paths were announced when the stream came, whether they were well yet or not. In a new
    /// connection these are more than the health says.
    #[must_use]
    pub fn with_announced(mut self, paths: usize) -> Self {
        self.announced = paths;
        self
    }

    /// How it is now.
    pub fn now(&self) -> Health {
        *self.now.borrow()
    }

    /// For waiting until it changes.
    pub fn watch(&self) -> watch::Receiver<Health> {
        self.now.clone()
    }

    /// Whether the connection was new when its stream came and may still come to `minimum` paths that are well: enough
    /// were announced, and no longer than `within` has passed.
    pub fn is_settling(&self, minimum: usize, within: Duration) -> bool {
        self.well < minimum && self.announced >= minimum && self.since.elapsed() < within
    }
}
