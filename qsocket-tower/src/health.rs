//! How well the connection of a peer stands, as requests carry it.

use qsocket::{Health, PathStatus, QSocketStream};
use std::fmt;
use tokio::sync::watch;

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
}

impl fmt::Debug for LiveHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveHealth").field(&self.now()).finish()
    }
}

impl LiveHealth {
    /// Follows what a [`QSocketStream::health`] says.
    pub fn new(health: watch::Receiver<Health>) -> Self {
        Self { now: health }
    }

    /// A health that stays as it is, for tests.
    pub fn fixed(health: Health) -> Self {
        Self::new(watch::channel(health).1)
    }

    /// How many paths of a stream are live, and how they go on.
    pub(crate) fn of(stream: &QSocketStream) -> (usize, Self) {
        let live = stream.stats().paths.iter().filter(|path| path.status == PathStatus::Live).count();
        (live, Self::new(stream.health()))
    }

    /// How it is now.
    pub fn now(&self) -> Health {
        *self.now.borrow()
    }

    /// For waiting until it changes.
    pub fn watch(&self) -> watch::Receiver<Health> {
        self.now.clone()
    }
}
