//! Numbers about an endpoint, over all its connections: for metrics, which outlive each of them.

use crate::health::Health;
use qsocket_proto::connection::{PathStatus, Stats};
use qsocket_proto::ids::{PathId, RELAYS};
use std::time::Duration;

/// How an endpoint stands in one network, and what its connections there counted since it began, those that are over
/// included.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// The number of the network.
    pub network: u16,
    /// How many of the 25 hops stand.
    pub health: Health,
    /// Connections that are not over.
    pub connections: usize,
    /// Blocks sent, without resends.
    pub blocks_sent: u64,
    /// Blocks that were completed on arrival.
    pub blocks_received: u64,
    /// Stripes sent, first transmissions and resends.
    pub stripes_sent: u64,
    /// Stripes sent again.
    pub stripes_resent: u64,
    /// The 25 relays.
    pub relays: [RelayStats; RELAYS],
}

/// What an endpoint knows of one relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStats {
    /// The hop stands.
    pub hop_up: bool,
    /// The lowest smoothed round trip among connections that are not over, once measured. All of them go through this
    /// relay, to servers that may be near or far.
    pub rtt: Option<Duration>,
    /// DATA payload bytes sent through it.
    pub sent_bytes: u64,
    /// DATA payload bytes that arrived through it.
    pub received_bytes: u64,
    /// Bytes that were sent through it and are known to be lost.
    pub lost_bytes: u64,
    /// Data stripes that it should have brought and that were recovered from others.
    pub repaired_stripes: u64,
    /// Stripes and control packets from it that failed to open.
    pub failed_opens: u64,
    /// Connections that read it no more, because what it brought failed to open too often.
    pub distrusted: u64,
    /// At a server: shares that were not the client's. See [`HopStatus`](crate::HopStatus::false_shares).
    pub false_shares: u64,
    /// At a server: headers that sixteen others contradict. See [`HopStatus`](crate::HopStatus::other_headers).
    pub other_headers: u64,
    /// Answers about names that sixteen other relays contradict, or that are none. A relay that missed what an owner said
    /// gives such answers too.
    pub contrary_answers: u64,
    /// Of the connections that are not over, those whose path through it is [`PathStatus::Live`].
    pub live: usize,
    /// The same, [`PathStatus::Suspect`]: what was sent on it last is overdue.
    pub suspect: usize,
}

impl RelayStats {
    /// Whether the relay was caught lying, by anything that only it can have done: what it carried was altered, or it
    /// brought a false share.
    ///
    /// A single failed open may be the fault of a memory chip. Eight within a minute make a connection read the relay no
    /// more.
    pub fn lies(&self) -> bool {
        self.distrusted > 0 || self.false_shares > 0
    }
}

impl EndpointStats {
    pub(crate) fn new(network: u16) -> Self {
        Self {
            network,
            health: Health::Lost,
            connections: 0,
            blocks_sent: 0,
            blocks_received: 0,
            stripes_sent: 0,
            stripes_resent: 0,
            relays: [RelayStats::default(); RELAYS],
        }
    }

    /// What is known of one relay.
    pub fn relay(&self, path: PathId) -> &RelayStats {
        &self.relays[path.index()]
    }

    /// Adds what a connection counted.
    pub(crate) fn count(&mut self, stats: &Stats) {
        self.blocks_sent += stats.blocks_sent;
        self.blocks_received += stats.blocks_received;
        self.stripes_sent += stats.stripes_sent;
        self.stripes_resent += stats.stripes_resent;
        for ((relay, path), repaired) in self.relays.iter_mut().zip(&stats.paths).zip(stats.repairs.by_path) {
            relay.sent_bytes += path.sent_bytes;
            relay.received_bytes += path.received_bytes;
            relay.lost_bytes += path.lost_bytes;
            relay.repaired_stripes += repaired;
            relay.failed_opens += path.forged;
            // It stays so for the rest of a connection.
            relay.distrusted += u64::from(path.status == PathStatus::Distrusted);
        }
    }

    /// Adds how a connection stands.
    pub(crate) fn stands(&mut self, stats: &Stats) {
        self.connections += 1;
        for (relay, path) in self.relays.iter_mut().zip(&stats.paths) {
            relay.live += usize::from(path.status == PathStatus::Live);
            relay.suspect += usize::from(path.status == PathStatus::Suspect);
            relay.rtt = relay.rtt.into_iter().chain(path.rtt).min();
        }
    }
}
