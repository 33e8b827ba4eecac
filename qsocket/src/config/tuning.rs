//! How a connection works, not with whom.

pub use qsocket_proto::open::MlKem;
use std::time::Duration;

/// Shortest idle timeout: a connection outlives a pause of the network of this length.
pub const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest idle timeout, one day: after it a peer that vanished no longer takes memory.
pub const MAX_IDLE_TIMEOUT: Duration = Duration::from_secs(86_400);

/// How many of a block's 25 stripes are sent unasked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redundancy {
    /// All 25.
    #[default]
    Full,
    /// 16, and parity when paths are down, late or suspect, or were a moment ago.
    Adaptive,
}

/// Which parity a block gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// The grid while all 25 paths are known to be well, MDS otherwise.
    #[default]
    Auto,
    /// Rows, columns and the diagonal of the 5x5 grid.
    Grid,
    /// A code that recovers every loss of 9 stripes.
    Mds,
}

/// Settings that change how a connection works, not with whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// What this side demands of ML-KEM-768, which gives forward secrecy.
    pub ml_kem: MlKem,
    /// Stripes that are sent unasked.
    pub redundancy: Redundancy,
    /// Kind of parity.
    pub parity: Parity,
    idle_timeout: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            ml_kem: MlKem::default(),
            redundancy: Redundancy::default(),
            parity: Parity::default(),
            // Four keepalive intervals of 15 s.
            idle_timeout: Duration::from_secs(60),
        }
    }
}

impl Tuning {
    /// Sets how ML-KEM is used.
    #[must_use]
    pub fn with_ml_kem(mut self, ml_kem: MlKem) -> Self {
        self.ml_kem = ml_kem;
        self
    }

    /// Sets how many stripes are sent unasked.
    #[must_use]
    pub fn with_redundancy(mut self, redundancy: Redundancy) -> Self {
        self.redundancy = redundancy;
        self
    }

    /// Sets the kind of parity.
    #[must_use]
    pub fn with_parity(mut self, parity: Parity) -> Self {
        self.parity = parity;
        self
    }

    /// Sets after how long without a sign of the peer a connection is given up; brought into
    /// [`MIN_IDLE_TIMEOUT`]..=[`MAX_IDLE_TIMEOUT`].
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout.clamp(MIN_IDLE_TIMEOUT, MAX_IDLE_TIMEOUT);
        self
    }

    /// After how long without a sign of the peer a connection is given up. 60 s by default.
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }
}
