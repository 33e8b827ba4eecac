//! Numbers about a connection, for people and metrics.

use crate::frame::RouteError;
use crate::grid::{STRIPES, StripeSet};
use crate::ids::{KeyId, PathId, RELAYS};
use crate::open::MlKem;
use std::time::Duration;

/// What recovery did so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repairs {
    /// Data stripes that were recovered, by the path that the default placement gives them.
    pub by_path: [u64; RELAYS],
    /// How often each parity stripe, by id, was used in a recovery.
    pub by_parity: [u64; STRIPES],
}

impl Default for Repairs {
    fn default() -> Self {
        Self { by_path: [0; RELAYS], by_parity: [0; STRIPES] }
    }
}

impl Repairs {
    pub(crate) fn record(&mut self, path: PathId, sources: StripeSet) {
        self.by_path[path.index()] += 1;
        for stripe in sources.difference(StripeSet::DATA).iter() {
            self.by_parity[stripe.index()] += 1;
        }
    }

    /// Data stripes recovered in all.
    pub fn total(&self) -> u64 {
        self.by_path.iter().sum()
    }
}

/// How one path of a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathStatus {
    /// No hop, or no route through it.
    #[default]
    Down,
    /// Announced; no sealed frame arrived on it yet.
    Joining,
    /// In use.
    Live,
    /// In use, but what was sent on it last is overdue.
    Suspect,
    /// What arrived on it failed to open too often; it is no longer listened to.
    Distrusted,
}

/// Counters of one path of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathStats {
    /// How the path stands.
    pub status: PathStatus,
    /// DATA payload bytes sent on it.
    pub sent_bytes: u64,
    /// DATA payload bytes that arrived on it.
    pub received_bytes: u64,
    /// Bytes that were sent on it and are known to be lost.
    pub lost_bytes: u64,
    /// Stripes and control packets from it that failed to open.
    pub forged: u64,
    /// Smoothed round-trip time, once measured.
    pub rtt: Option<Duration>,
    /// Why the route on it was refused or ended, last time.
    pub last_error: Option<RouteError>,
}

/// Counters of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The 25 paths.
    pub paths: [PathStats; RELAYS],
    /// Blocks frozen and sent.
    pub blocks_sent: u64,
    /// Blocks that were completed on arrival.
    pub blocks_received: u64,
    /// Stripes sent, first transmissions and resends.
    pub stripes_sent: u64,
    /// Stripes sent again.
    pub stripes_resent: u64,
    /// What recovery did.
    pub repairs: Repairs,
    /// The Encryption key that is mixed into the keys, if there is one. Its id, which both principals know it by; never
    /// the key.
    pub encryption_key: Option<KeyId>,
    /// What this side demands of ML-KEM-768. The peer's demand may be another.
    pub ml_kem_setting: MlKem,
    /// Whether an ML-KEM-768 secret is mixed into the keys, which is what both demands came to; without it there is no
    /// forward secrecy. Settled once the connection is open.
    pub ml_kem: bool,
    /// The key phase of what is sent.
    pub phase: u32,
}
