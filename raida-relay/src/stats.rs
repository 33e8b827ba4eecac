//! What a relay counts.

use crate::handshake::Failed;
use qsocket_proto::hop::HandshakeError;
use qsocket_proto::ids::Role;
use std::ops::{Add, AddAssign};
use std::sync::atomic::{AtomicU64, Ordering};

/// Why an incoming TCP connection did not become a hop. The peer cannot tell the causes of a refused handshake apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The address connects too often; [`Limits::handshakes_per_second`](crate::Limits::handshakes_per_second).
    Rate,
    /// The relay holds all the connections that it may; [`Limits::connections`](crate::Limits::connections).
    Connections,
    /// The address holds all the connections that it may;
    /// [`Limits::hops_per_address`](crate::Limits::hops_per_address).
    Address,
    /// Something else than a handshake of a version and suite that this relay speaks.
    Malformed,
    /// The relay has no authenticity number of the principal in this role.
    UnknownPrincipal,
    /// The peer did not prove that it has the number, or meant another relay.
    NotAuthentic,
    /// The handshake took too long.
    TimedOut,
    /// It was the oldest of more handshakes than may be under way;
    /// [`Limits::handshakes`](crate::Limits::handshakes).
    GaveWay,
    /// The peer closed the connection before its handshake was finished, or the socket failed.
    Closed,
}

impl Refusal {
    /// All causes, in their order.
    pub const ALL: [Self; 9] = [
        Self::Rate,
        Self::Connections,
        Self::Address,
        Self::Malformed,
        Self::UnknownPrincipal,
        Self::NotAuthentic,
        Self::TimedOut,
        Self::GaveWay,
        Self::Closed,
    ];

    /// A short name, for labels of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Malformed => "malformed",
            Self::UnknownPrincipal => "unknown_principal",
            Self::NotAuthentic => "not_authentic",
            Self::TimedOut => "timed_out",
            Self::GaveWay => "gave_way",
            Self::Closed => "closed",
        }
    }
}

impl From<&Failed> for Refusal {
    fn from(failed: &Failed) -> Self {
        match failed {
            Failed::Io(_) | Failed::Closed => Self::Closed,
            Failed::TimedOut | Failed::Handshake(HandshakeError::TimedOut) => Self::TimedOut,
            Failed::GaveWay => Self::GaveWay,
            Failed::NoKey => Self::UnknownPrincipal,
            Failed::Handshake(HandshakeError::NotAuthentic | HandshakeError::Rejected) => Self::NotAuthentic,
            Failed::Handshake(
                HandshakeError::Malformed(_) | HandshakeError::Incompatible | HandshakeError::Over,
            ) => Self::Malformed,
        }
    }
}

/// Refused connections by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused([u64; Refusal::ALL.len()]);

impl Refused {
    /// Those of one cause.
    pub fn get(&self, cause: Refusal) -> u64 {
        self.0[cause as usize]
    }

    /// Every cause with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().zip(self.0)
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// What was taken for forwarding in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// DATA payload bytes.
    pub bytes: u64,
    /// Frames of all kinds.
    pub frames: u64,
}

impl AddAssign for Flow {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.frames += other.frames;
    }
}

/// A snapshot of a relay's counters. Those in `u64` only grow while the relay runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Hops whose handshake is finished.
    pub hops: usize,
    /// Of these, hops of servers.
    pub server_hops: usize,
    /// Accepted TCP connections, with those whose handshake is not finished.
    pub connections: usize,
    /// Routes of all clients.
    pub routes: usize,
    /// Bytes that wait for sockets and for servers that are dialled.
    pub queued_bytes: usize,
    /// From clients to servers.
    pub to_servers: Flow,
    /// From servers to clients.
    pub to_clients: Flow,
    /// DATA payload bytes dropped and reported with CONGESTED.
    pub dropped_bytes: u64,
    /// Incoming TCP connections that did not become a hop.
    pub refused: Refused,
    /// Attempts to dial a server.
    pub dials: u64,
    /// Of these, attempts that did not lead to a hop.
    pub dial_failures: u64,
    /// Dials that failed since the last one that led to a hop, over all servers.
    pub dial_failures_in_a_row: u64,
}

impl Stats {
    /// DATA payload bytes taken for forwarding, in both directions.
    pub fn forwarded_bytes(&self) -> u64 {
        self.to_servers.bytes + self.to_clients.bytes
    }

    /// Frames taken for forwarding, in both directions.
    pub fn forwarded_frames(&self) -> u64 {
        self.to_servers.frames + self.to_clients.frames
    }
}

impl Add for Stats {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.hops += other.hops;
        self.server_hops += other.server_hops;
        self.connections += other.connections;
        self.routes += other.routes;
        self.queued_bytes += other.queued_bytes;
        self.to_servers += other.to_servers;
        self.to_clients += other.to_clients;
        self.dropped_bytes += other.dropped_bytes;
        for (sum, n) in self.refused.0.iter_mut().zip(other.refused.0) {
            *sum += n;
        }
        self.dials += other.dials;
        self.dial_failures += other.dial_failures;
        self.dial_failures_in_a_row += other.dial_failures_in_a_row;
        self
    }
}

/// What the tasks of a relay count while they run.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    to_servers: Moved,
    to_clients: Moved,
    dropped: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    dials: AtomicU64,
    dial_failures: AtomicU64,
    dial_failures_in_a_row: AtomicU64,
}

#[derive(Debug, Default)]
struct Moved {
    bytes: AtomicU64,
    frames: AtomicU64,
}

impl Moved {
    fn add(&self, flow: Flow) {
        self.bytes.fetch_add(flow.bytes, Ordering::Relaxed);
        self.frames.fetch_add(flow.frames, Ordering::Relaxed);
    }

    fn get(&self) -> Flow {
        Flow { bytes: self.bytes.load(Ordering::Relaxed), frames: self.frames.load(Ordering::Relaxed) }
    }
}

impl Counters {
    /// Counts what one batch took from hops of clients and of servers.
    pub(crate) fn forwarded(&self, moved: &mut Forwarded) {
        let Forwarded { from_clients, from_servers } = std::mem::take(moved);
        if from_clients != Flow::default() {
            self.to_servers.add(from_clients);
        }
        if from_servers != Flow::default() {
            self.to_clients.add(from_servers);
        }
    }

    pub(crate) fn dropped(&self, bytes: u32) {
        self.dropped.fetch_add(bytes.into(), Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, cause: Refusal) {
        self.refused[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dialled(&self, up: bool) {
        self.dials.fetch_add(1, Ordering::Relaxed);
        if up {
            self.dial_failures_in_a_row.store(0, Ordering::Relaxed);
        } else {
            self.dial_failures.fetch_add(1, Ordering::Relaxed);
            self.dial_failures_in_a_row.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counters, without what the relay knows otherwise.
    pub(crate) fn stats(&self) -> Stats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            to_servers: self.to_servers.get(),
            to_clients: self.to_clients.get(),
            dropped_bytes: of(&self.dropped),
            refused: Refused(std::array::from_fn(|i| of(&self.refused[i]))),
            dials: of(&self.dials),
            dial_failures: of(&self.dial_failures),
            dial_failures_in_a_row: of(&self.dial_failures_in_a_row),
            ..Stats::default()
        }
    }
}

/// What one batch took for forwarding.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Forwarded {
    from_clients: Flow,
    from_servers: Flow,
}

impl Forwarded {
    /// Counts one frame from a hop in this role, with its payload bytes.
    pub(crate) fn frame(&mut self, from: Role, bytes: usize) {
        let flow = match from {
            Role::Client => &mut self.from_clients,
            Role::Server => &mut self.from_servers,
        };
        flow.frames += 1;
        flow.bytes += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_stand_in_their_own_place() {
        for (i, cause) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, i);
            let counters = Counters::default();
            counters.refused(cause);
            let Stats { refused, .. } = counters.stats() + counters.stats();
            assert_eq!((refused.get(cause), refused.total()), (2, 2), "{}", cause.name());
        }
    }
}
