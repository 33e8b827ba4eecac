//! What a network tells about itself.

use super::Network;
use crate::endpoint::HopStatus;
use crate::stats::EndpointStats;
use qsocket_proto::ids::{PathId, RELAYS};

impl Network {
    /// Of openings and of exchanged keys together.
    fn false_shares(&self, of_openings: [u64; RELAYS]) -> [u64; RELAYS] {
        let posted = self.receiving.liars();
        std::array::from_fn(|i| of_openings[i] + posted[i])
    }

    pub(crate) fn hop_status(&self) -> HopStatus {
        let up = PathId::all().filter(|p| self.hops(*p).is_up()).collect();
        let errors = PathId::all().filter_map(|p| Some((p, self.hops(p).last_error()?))).collect();
        let [false_shares, other_headers] = {
            let core = self.lock();
            [self.false_shares(core.endpoint.liars()), core.endpoint.other_headers()]
        };
        let counted = |counts: [u64; RELAYS]| PathId::all().zip(counts).filter(|(_, n)| *n > 0).collect();
        HopStatus { up, errors, false_shares: counted(false_shares), other_headers: counted(other_headers) }
    }

    pub(in crate::endpoint) fn stats(&self) -> EndpointStats {
        let (mut stats, connections, false_shares, other_headers) = {
            let core = self.lock();
            let connections: Vec<_> = core.connections.values().cloned().collect();
            // Taken together, so that a connection counts once, as one that stands or as one that is over.
            (
                core.ended.clone(),
                connections,
                self.false_shares(core.endpoint.liars()),
                core.endpoint.other_headers(),
            )
        };
        stats.health = *self.health.borrow();
        let contrary = self.names_known().contrary();
        for conn in connections {
            let counted = conn.lock().connection.stats();
            stats.count(&counted);
            stats.stands(&counted);
        }
        for path in PathId::all() {
            let relay = &mut stats.relays[path.index()];
            relay.hop_up = self.hops(path).is_up();
            relay.false_shares = false_shares[path.index()];
            relay.other_headers = other_headers[path.index()];
            relay.contrary_answers = contrary[path.index()];
        }
        stats
    }
}
