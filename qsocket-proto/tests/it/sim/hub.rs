//! The hops of an endpoint, as its connections write into them.

use super::Io;
use super::hop::HopEnd;
use qsocket_proto::connection::Hops;
use qsocket_proto::hop::Outbox;
use qsocket_proto::ids::{HopAt, PathId, RELAYS};
use qsocket_proto::relay::Egress;
use std::collections::BTreeMap;

/// All hops of an endpoint, by the number of their link's end.
#[derive(Default)]
pub struct Hub {
    pub hops: BTreeMap<u64, (PathId, HopEnd)>,
    /// The hop in use of each path.
    pub current: [Option<u64>; RELAYS],
}

impl Hub {
    fn egress(&mut self, path: PathId) -> Option<&mut Egress> {
        let number = self.current[path.index()]?;
        self.hops.get_mut(&number).map(|(_, hop)| &mut hop.egress)
    }

    /// Seals and writes what the links take; true if any took something.
    pub fn flush(&mut self, io: &mut Io<'_>) -> bool {
        let mut drained = false;
        for (_, hop) in self.hops.values_mut() {
            let before = hop.egress.queued_bytes();
            if before > 0 {
                hop.flush(io);
                drained |= hop.egress.queued_bytes() < before;
            }
        }
        drained
    }
}

impl Hops for Hub {
    fn room(&mut self, HopAt { path, .. }: HopAt) -> usize {
        self.egress(path).map_or(0, |e| e.outbox().room_for_data())
    }

    fn outbox<R>(&mut self, HopAt { path, .. }: HopAt, write: impl FnOnce(&mut Outbox) -> R) -> Option<R> {
        self.egress(path).map(|e| write(e.outbox()))
    }
}

/// The hops while one of them is being read.
pub struct WhileReading<'a> {
    pub hub: &'a mut Hub,
    pub path: PathId,
    pub egress: &'a mut Egress,
}

impl Hops for WhileReading<'_> {
    fn room(&mut self, at: HopAt) -> usize {
        if at.path == self.path { self.egress.outbox().room_for_data() } else { self.hub.room(at) }
    }

    fn outbox<R>(&mut self, at: HopAt, write: impl FnOnce(&mut Outbox) -> R) -> Option<R> {
        if at.path == self.path { Some(write(self.egress.outbox())) } else { self.hub.outbox(at, write) }
    }
}
