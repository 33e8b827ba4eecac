//! Links between nodes: each behaves like a TCP connection, its faults included.
//!
//! Bytes of a link arrive in order, once, and as they were sent, or the link is closed: what a network loses or
//! reorders, TCP repairs. What is left of its faults is time (a link is slow, stalls, is cut for a while), pieces of
//! any size, an end in the middle of a message, and the rare bit that flips under the checksum.

use super::{End, Event, Network, NodeId, Speed};
use rand_core::Rng;
use std::collections::VecDeque;
use std::time::Duration;

/// One direction of a link, named by the end that writes.
#[derive(Debug, Default)]
pub struct Pipe {
    pub to_send: VecDeque<u8>,
    in_flight: VecDeque<Vec<u8>>,
    in_flight_bytes: usize,
    pub received: VecDeque<u8>,
    sending: bool,
    /// Takes bytes and passes none on.
    stalled: bool,
    /// Chunks whose time has come while the link was cut.
    late: usize,
    /// A bit of the next chunk flips.
    corrupt: bool,
}

#[derive(Debug)]
pub struct Link {
    pub nodes: [NodeId; 2],
    pub pipes: [Pipe; 2],
    pub rate: u64,
    pub delay: Duration,
    /// The most that travels as one event, and so what a reader finds at once.
    chunk: usize,
    pub open: bool,
    /// Nothing gets through, and neither end can tell.
    cut: bool,
}

impl Link {
    pub fn new(nodes: [NodeId; 2], speed: Speed, chunk: usize, open: bool) -> Self {
        let pipes = Default::default();
        Self { nodes, pipes, rate: speed.rate, delay: speed.delay, chunk, open, cut: false }
    }
}

impl Network {
    /// Starts the next chunk from `end` if there is one and the reader has room.
    pub(super) fn kick(&mut self, end: End) {
        let room_at_most = self.sizes.receive_buffer;
        let link = &mut self.links[end.link];
        let pipe = &mut link.pipes[end.side];
        let room = room_at_most.saturating_sub(pipe.in_flight_bytes + pipe.received.len());
        let n = pipe.to_send.len().min(link.chunk).min(room);
        if pipe.sending || pipe.stalled || link.cut || n == 0 || !link.open {
            return;
        }
        pipe.in_flight.push_back(pipe.to_send.drain(..n).collect());
        pipe.in_flight_bytes += n;
        pipe.sending = true;
        let takes = Duration::from_nanos(n as u64 * 1_000_000_000 / link.rate);
        let arrives = takes + link.delay;
        self.at(takes, Event::Sent(end));
        self.at(arrives, Event::Arrived(end.other()));
    }

    /// The chunk at the head of the pipe into `end` arrives. False if nobody can see it yet.
    pub(super) fn arrive(&mut self, end: End) -> bool {
        let link = &mut self.links[end.link];
        let pipe = &mut link.pipes[1 - end.side];
        if link.cut {
            pipe.late += 1;
            return false;
        }
        if let Some(mut chunk) = pipe.in_flight.pop_front() {
            pipe.in_flight_bytes -= chunk.len();
            if std::mem::take(&mut pipe.corrupt) {
                let at = self.rng.next_u64() as usize % chunk.len();
                chunk[at] ^= 1 << (self.rng.next_u32() % 8);
            }
            pipe.received.extend(chunk);
        }
        true
    }

    /// The pipe out of `end` may take the next chunk. False if nobody can see it.
    pub(super) fn sent(&mut self, end: End) -> bool {
        self.links[end.link].pipes[end.side].sending = false;
        self.kick(end);
        !self.links[end.link].cut
    }

    /// Closes a link at one end; the other end hears of it after the delay, unless the link is cut.
    pub(super) fn close(&mut self, end: End) {
        let link = &mut self.links[end.link];
        if std::mem::replace(&mut link.open, false) && !link.cut {
            let delay = link.delay;
            self.at(delay, Event::Closed(end.other()));
        }
    }

    /// Breaks a link: both ends hear of it, and what was under way is lost in the middle of a message.
    pub fn break_link(&mut self, link: usize) {
        self.links[link].open = false;
        if !self.links[link].cut {
            for side in 0..2 {
                self.at(Duration::ZERO, Event::Closed(End { link, side }));
            }
        }
    }

    /// Lets nothing through any more, and tells nobody.
    pub fn cut_link(&mut self, link: usize) {
        self.links[link].cut = true;
    }

    /// Stops the bytes in one direction.
    pub fn stall_pipe(&mut self, end: End) {
        self.links[end.link].pipes[end.side].stalled = true;
    }

    /// Flips a bit of what arrives next in one direction.
    pub fn corrupt_pipe(&mut self, end: End) {
        self.links[end.link].pipes[end.side].corrupt = true;
    }

    /// Ends a cut and all stalls. What was held up arrives; who did not hear of the end hears of it now.
    pub fn mend_link(&mut self, link: usize) {
        let was_cut = std::mem::replace(&mut self.links[link].cut, false);
        for side in 0..2 {
            let (end, pipe) = (End { link, side }, &mut self.links[link].pipes[side]);
            (pipe.stalled, pipe.corrupt) = (false, false);
            let late = std::mem::take(&mut pipe.late);
            if self.links[link].open {
                for _ in 0..late {
                    self.at(Duration::ZERO, Event::Arrived(end.other()));
                }
                self.kick(end);
            } else if was_cut {
                self.at(Duration::ZERO, Event::Closed(end));
            }
        }
    }

    /// The links that stand, for all that their ends know.
    pub fn open_links(&self) -> Vec<usize> {
        (0..self.links.len()).filter(|link| self.links[*link].open).collect()
    }

    /// All links of a node that stand or ended while they were cut.
    pub fn links_of(&self, node: NodeId) -> Vec<usize> {
        let is_its = |link: &Link| (link.open || link.cut) && link.nodes.contains(&node);
        (0..self.links.len()).filter(|link| is_its(&self.links[*link])).collect()
    }

    /// One direction of an open link, by chance.
    pub fn some_end(&mut self) -> Option<End> {
        let open = self.open_links();
        if open.is_empty() {
            return None;
        }
        let link = open[self.rng.next_u32() as usize % open.len()];
        Some(End { link, side: (self.rng.next_u32() % 2) as usize })
    }
}
