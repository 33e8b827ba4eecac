//! What the running program is: its relays, and how they stand.

use super::config::Config;
use super::principals::StorePrincipals;
use super::status::{self, LastReload, Process, RelayStatus};
use super::store::Store;
use raida_relay::{Relay, Stats};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::MutexGuard as MutexTurn;
use tokio::time::Instant;

/// The relays of this process: one for `run`, 25 for `cluster`. Shared between the signals, the watch on the stores
/// and the admin port.
#[derive(Debug)]
pub(crate) struct Running {
    /// In the order of their numbers.
    pub(crate) relays: Vec<Member>,
    /// When the process was ready.
    pub(crate) started: Instant,
    /// Set when the end has begun.
    draining: AtomicBool,
}

/// One relay of this process.
#[derive(Debug)]
pub(crate) struct Member {
    /// The relay itself: number, address, counters.
    pub(crate) relay: Relay,
    /// Its store.
    pub(crate) store: Store,
    /// What principals change over their hops, if they may.
    principals: Option<Arc<StorePrincipals>>,
    status: Mutex<Status>,
}

/// What changes while a relay runs.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    /// The configuration in force.
    pub(crate) config: Arc<Config>,
    /// Principals and roles that are admitted.
    pub(crate) principals: usize,
    /// Principals and roles that are banned.
    pub(crate) banned: usize,
    /// The revision of the store in force.
    pub(crate) revision: i64,
    /// The last time that configuration or store were read again.
    pub(crate) last_reload: Option<Reload>,
}

/// How reading configuration or store again went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reload {
    /// When.
    pub(crate) at: SystemTime,
    /// Why nothing changed, if so.
    pub(crate) error: Option<String>,
}

impl Running {
    /// Puts relays together that have just started.
    pub(crate) fn new(relays: Vec<Member>) -> Arc<Self> {
        Arc::new(Self { relays, started: Instant::now(), draining: AtomicBool::new(false) })
    }

    /// The counters of all relays, added up.
    pub(crate) fn stats(&self) -> Stats {
        self.relays.iter().map(|member| member.relay.stats()).fold(Stats::default(), |a, b| a + b)
    }

    /// Where the admin port is configured, if it is. All relays of a process name the same one or none.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.relays.iter().find_map(|member| member.status().config.admin)
    }

    /// Whether the end has begun.
    #[allow(dead_code, reason = "for the admin port")]
    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Says that the end has begun.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

impl status::Source for Running {
    fn status(&self) -> status::Status {
        let uptime_seconds = self.started.elapsed().as_secs();
        let relays = self.relays.iter().map(|member| {
            let Status { config, principals, banned, last_reload, .. } = member.status();
            RelayStatus {
                relay: config.relay.get(),
                network: config.network,
                listen: member.relay.local_addr(),
                operator: config.operator.clone(),
                region: config.region.clone(),
                uptime_seconds,
                // A relay listens from its start on; it stops doing so when it drains, and that is said.
                listening: !self.draining(),
                draining: self.draining(),
                principals: (principals + banned) as u64,
                banned: banned as u64,
                last_reload: last_reload.map(|Reload { at, error }| LastReload {
                    unix_seconds: at
                        .duration_since(SystemTime::UNIX_EPOCH)
                        .map_or(0, |since| since.as_secs()),
                    error,
                }),
                stats: member.relay.stats().into(),
            }
        });
        status::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: Process::now(),
            relays: relays.collect(),
        }
    }
}

impl Member {
    /// Puts a relay and its store together.
    pub(crate) fn new(
        relay: Relay,
        store: Store,
        principals: Option<Arc<StorePrincipals>>,
        status: Status,
    ) -> Self {
        Self { relay, store, principals, status: Mutex::new(status) }
    }

    /// Waits until no principal changes anything, and lets none begin.
    pub(crate) async fn turn(&self) -> Option<MutexTurn<'_, ()>> {
        match &self.principals {
            Some(principals) => Some(principals.turn().await),
            None => None,
        }
    }

    /// How it stands now.
    pub(crate) fn status(&self) -> Status {
        self.lock().clone()
    }

    /// Changes how it stands.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock());
    }

    /// Notes how reading again went.
    pub(crate) fn note(&self, error: Option<String>) {
        self.lock().last_reload = Some(Reload { at: SystemTime::now(), error });
    }

    /// Notes that the store cannot be taken over, and says so in the log unless it did last time.
    pub(crate) fn trouble(&self, error: &str) {
        let known = self.lock().last_reload.as_ref().is_some_and(|last| last.error.as_deref() == Some(error));
        if !known {
            tracing::warn!(relay = %self.relay.path(), error, "store not reloaded; the relay keeps what it knows");
        }
        self.note(Some(error.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
