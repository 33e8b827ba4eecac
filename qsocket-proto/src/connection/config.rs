//! What an endpoint decides about its connections.

use super::keys::KeyLimits;
use crate::open::{MlKem, Parameters};
use std::time::Duration;

/// Which parity a block gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ParityPolicy {
    /// The grid while sealed evidence shows all 25 paths well; MDS else.
    #[default]
    Auto,
    /// Row, column and diagonal parity: cheapest, any 2 losses without a resend, more with one.
    Grid,
    /// Cauchy Reed-Solomon parity: any 9 losses without a resend.
    Mds,
}

/// How much parity is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Redundancy {
    /// All 25 stripes of every block.
    #[default]
    Full,
    /// The 16 data stripes, and two of parity for each path that is down or late, or was a moment ago.
    Adaptive,
}

/// Settings of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which parity a block gets.
    pub parity: ParityPolicy,
    /// How much of it is sent.
    pub redundancy: Redundancy,
    /// What is demanded of ML-KEM-768.
    pub ml_kem: MlKem,
    /// Bytes that the peer may send on one stream before the application reads them, at first. The window doubles while the
    /// application keeps up, to half of [`connection_window`](Self::connection_window).
    pub stream_window: u64,
    /// Bytes that the peer may send over all streams before the application reads them.
    pub connection_window: u64,
    /// Streams that the peer may have open at once.
    pub max_streams: u32,
    /// Connections that a server holds at once; further ones are refused as busy.
    pub max_connections: usize,
    /// Bytes of one stream that wait for acknowledgement before a write blocks. Half of it more than what is on its way,
    /// and at most twice as much, where the peer's window lets so much be on its way.
    pub send_buffer: usize,
    /// Silence after which the connection is given up.
    pub idle: Duration,
    /// Send small writes at once. Off: hold one back while an earlier block is unacknowledged.
    pub nodelay: bool,
    /// When keys are replaced.
    pub key_limits: KeyLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            parity: ParityPolicy::default(),
            redundancy: Redundancy::default(),
            ml_kem: MlKem::default(),
            // Two bandwidth-delay products of 25 relays at 4 MB/s each over 20 ms, in whole blocks.
            stream_window: 4 << 20,
            connection_window: 16 << 20,
            max_streams: 16_384,
            // All the routes of sixteen clients, and each connection is bounded by its windows.
            max_connections: 4_096,
            send_buffer: 4 << 20,
            idle: Duration::from_secs(60),
            nodelay: true,
            key_limits: KeyLimits::default(),
        }
    }
}

impl Config {
    /// What hello and reply say of these settings.
    pub(crate) fn parameters(&self) -> Parameters {
        Parameters {
            max_data: self.connection_window,
            max_stream_data: self.stream_window,
            max_streams: self.max_streams,
            idle_ms: u32::try_from(self.idle.as_millis()).unwrap_or(u32::MAX),
        }
    }
}
