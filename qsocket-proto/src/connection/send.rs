//! The sending half of a stream: bytes that wait, and frozen blocks that wait for their acknowledgement.

use crate::fault_points::{Point, hit};
use crate::grid::{MAX_BLOCK_BYTES, ParitySet, StripeId, StripeSet, is_complete, stripe_len};
use crate::ids::{PathId, SIXTEEN};
use crate::path::PathFlow;
use crate::stripe::{BlockHeader, BlockKind};
use std::collections::VecDeque;
use std::time::Instant;

use super::buffers::Buffers;
use super::recv::BLOCK_WINDOW;
use super::{MAX_HOLD, OPENING_HOLD};

/// Where a stripe went last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) stripe: StripeId,
    pub(crate) path: PathId,
    /// End of its frame in the path's byte count.
    pub(crate) end: u64,
    /// What the path had lost when it was sent.
    pub(crate) lost: u64,
}

impl Sent {
    /// Whether it arrived by all that its path, `flow`, reports: what was lost on the path since may be this stripe.
    pub(crate) fn arrived(&self, flow: &PathFlow) -> bool {
        flow.acked() >= self.end && flow.lost() == self.lost
    }
}

/// A block whose bytes, length, offset, FIN and padding are settled for good.
#[derive(Debug)]
pub(crate) struct SentBlock {
    pub(crate) number: u64,
    pub(crate) phase: u32,
    /// Plaintext, zero-padded to 16 stripes: the send buffer is the retransmission buffer.
    pub(crate) bytes: Vec<u8>,
    pub(crate) block_len: u32,
    pub(crate) data_len: u32,
    pub(crate) set: ParitySet,
    pub(crate) sent: Vec<Sent>,
    /// Stripes that are yet to go out and without which the receiver cannot complete the block.
    pub(crate) due: StripeSet,
    /// Stripes that the receiver said it holds.
    pub(crate) peer_has: StripeSet,
    pub(crate) first_sent: Option<Instant>,
    pub(crate) last_sent: Option<Instant>,
    pub(crate) resent: bool,
    /// When to look whether something of it is late.
    pub(crate) look_at: Option<Instant>,
    /// A probe found it overdue although the path counters said that it arrived.
    pub(crate) doubted: bool,
    pub(crate) acked: bool,
}

impl SentBlock {
    pub(crate) fn stripe_len(&self) -> usize {
        self.bytes.len() / SIXTEEN
    }

    /// The stripes on their way that `alive` still believes in, and those that the receiver holds.
    pub(crate) fn outstanding(&self, mut alive: impl FnMut(&Sent) -> bool) -> StripeSet {
        self.sent.iter().filter(|s| alive(s)).fold(self.peer_has.union(self.due), |mut set, s| {
            set.insert(s.stripe);
            set
        })
    }

    /// Schedules data stripes until what is outstanding determines the block. True if anything was missing.
    pub(crate) fn mend(&mut self, mut outstanding: StripeSet) -> bool {
        let before = self.due;
        for stripe in StripeSet::DATA.iter() {
            if is_complete(outstanding) {
                break;
            }
            if outstanding.insert(stripe) {
                self.due.insert(stripe);
            }
        }
        self.due != before
    }

    /// If the receiver said that it holds enough and never that it is done, schedules one stripe that it holds: it
    /// acknowledges again what it is sent for nothing. True if that was the case.
    pub(crate) fn ask_again(&mut self) -> bool {
        is_complete(self.peer_has)
            && StripeSet::DATA.iter().next().is_some_and(|stripe| self.due.insert(stripe))
    }

    /// Notes that a stripe went out on `path`, as the last that `flow` counted.
    pub(crate) fn record(&mut self, stripe: StripeId, path: PathId, flow: &PathFlow, now: Instant) {
        let sent = Sent { stripe, path, end: flow.sent(), lost: flow.lost() };
        self.due.remove(stripe);
        self.first_sent.get_or_insert(now);
        self.last_sent = Some(now);
        match self.sent.iter_mut().find(|s| s.stripe == stripe) {
            Some(s) => {
                *s = sent;
                self.resent = true;
            }
            None => self.sent.push(sent),
        }
    }
}

/// How far the end of a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    /// The application may write more.
    Open,
    /// The application wants no more; the FIN is not in a block yet.
    Wanted,
    /// The FIN is in this block.
    Frozen,
    /// The receiver has every byte and the FIN.
    Acked,
}

/// The sending half of one stream.
#[derive(Debug)]
pub(crate) struct SendStream {
    /// Bytes that are in no block yet, gathered where they will be sealed: each vector begins with room for
    /// the block's head.
    pending: VecDeque<Vec<u8>>,
    pending_bytes: usize,
    /// Name of the resource, which the first block carries.
    resource: Vec<u8>,
    next_block: u64,
    /// Stream offset of the first pending byte.
    offset: u64,
    /// What the receiver allows.
    max: u64,
    /// Frozen and not acknowledged, by number; acknowledged ones leave from the front.
    blocks: VecDeque<SentBlock>,
    in_flight_bytes: usize,
    fin: Fin,
    reset: Option<u32>,
    /// The writer found no room and is to be told when there is some.
    pub(crate) writer_waits: bool,
    /// Small writes leave at once.
    nodelay: bool,
    /// When the last block was frozen; before the first, when it might have been for the first time.
    frozen_at: Option<Instant>,
}

impl SendStream {
    pub(crate) fn new(resource: Vec<u8>, max: u64, nodelay: bool) -> Self {
        Self {
            pending: VecDeque::new(),
            pending_bytes: 0,
            resource,
            next_block: 0,
            offset: 0,
            max,
            blocks: VecDeque::new(),
            in_flight_bytes: 0,
            fin: Fin::Open,
            reset: None,
            writer_waits: false,
            nodelay,
            frozen_at: None,
        }
    }

    /// Room in the send buffer of `capacity` bytes, which holds bytes until they are acknowledged. Where more is on its way,
    /// it is as large as that and a half more, so that what leaves next is there, and at most twice as large.
    pub(crate) fn room(&self, capacity: usize) -> usize {
        let capacity = (self.in_flight_bytes + capacity / 2).clamp(capacity, capacity.saturating_mul(2));
        capacity.saturating_sub(self.pending_bytes + self.in_flight_bytes)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.fin == Fin::Open && self.reset.is_none()
    }

    pub(crate) fn reset_code(&self) -> Option<u32> {
        self.reset
    }

    /// Takes bytes, as many as `room` says.
    pub(crate) fn write(&mut self, mut bytes: &[u8], buffers: &mut Buffers) {
        self.pending_bytes += bytes.len();
        while !bytes.is_empty() {
            if self.pending.back().is_none_or(|b| b.len() >= MAX_BLOCK_BYTES) || hit(Point::SmallBlock) {
                let begin = self.fresh();
                self.pending.push_back(begin);
            }
            let Some(back) = self.pending.back_mut() else { return };
            let (now, later) = bytes.split_at(bytes.len().min(MAX_BLOCK_BYTES - back.len()));
            // Large writes get a whole block at once; small ones grow it as Vec does.
            if back.capacity() - back.len() < now.len() && now.len() > MAX_BLOCK_BYTES / 4 {
                let begun = std::mem::replace(back, buffers.room(MAX_BLOCK_BYTES));
                back.extend_from_slice(&begun);
            }
            back.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Begins the vector of the next block that will be frozen after all pending ones.
    fn fresh(&self) -> Vec<u8> {
        let mut begin = vec![0; BlockHeader::BYTES];
        if self.next_block == 0 && self.pending.is_empty() {
            begin.push(self.resource.len() as u8);
            begin.extend_from_slice(&self.resource);
        }
        begin
    }

    /// Says that no more bytes follow.
    pub(crate) fn finish(&mut self) {
        if self.fin == Fin::Open {
            self.fin = Fin::Wanted;
        }
    }

    /// Whether the receiver acknowledged everything and the FIN.
    pub(crate) fn is_acked(&self) -> bool {
        self.fin == Fin::Acked
    }

    /// Whether nothing is left to do for the sender.
    pub(crate) fn is_finished(&self) -> bool {
        self.fin == Fin::Acked || self.reset.is_some()
    }

    /// Whether a frozen block may still be on its way, so that its bytes may have been delivered.
    pub(crate) fn was_used(&self) -> bool {
        self.next_block > 0
    }

    /// Whether there is something to freeze. The first block goes out even when it is empty: it opens the stream.
    pub(crate) fn has_pending(&self) -> bool {
        self.reset.is_none() && (self.pending_bytes > 0 || self.fin == Fin::Wanted || self.next_block == 0)
    }

    /// Whether a block is unacknowledged.
    pub(crate) fn has_unacked(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// Settles the next block: as much of the pending bytes as the windows allow. `None` unless
    /// [`can_freeze`](Self::can_freeze).
    pub(crate) fn freeze(
        &mut self,
        now: Instant,
        connection_room: u64,
        phase: u32,
        set: ParitySet,
    ) -> Option<&mut SentBlock> {
        if !self.can_freeze(now, connection_room) {
            return None;
        }
        self.frozen_at = Some(now);
        let allowed = self.max.saturating_sub(self.offset).min(connection_room);
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        let mut bytes = self.pending.pop_front().unwrap_or_else(|| self.fresh());
        let head = if self.next_block == 0 { self.resource.len() + 1 } else { 0 } + BlockHeader::BYTES;
        let mut data_len = bytes.len() - head;
        if data_len > allowed {
            // The rest becomes the next block; its head is made anew.
            let mut rest = vec![0; BlockHeader::BYTES];
            rest.extend_from_slice(bytes.get(head + allowed..).unwrap_or_default());
            bytes.truncate(head + allowed);
            data_len = allowed;
            self.pending.push_front(rest);
        }
        self.pending_bytes -= data_len;
        let fin = self.fin == Fin::Wanted && self.pending_bytes == 0;
        if fin {
            self.fin = Fin::Frozen;
        }
        let kind = if self.next_block == 0 { BlockKind::First } else { BlockKind::Data };
        let header = BlockHeader { kind, fin, offset: self.offset, len: data_len as u32 };
        if let Some(begin) = bytes.first_chunk_mut() {
            *begin = header.encode();
        }
        let block_len = bytes.len();
        bytes.resize(stripe_len(block_len) * SIXTEEN, 0);
        self.offset += data_len as u64;
        self.in_flight_bytes += data_len;
        self.blocks.push_back(SentBlock {
            number: self.next_block,
            phase,
            bytes,
            block_len: block_len as u32,
            data_len: data_len as u32,
            set,
            sent: Vec::with_capacity(set.stripes().len()),
            due: StripeSet::EMPTY,
            peer_has: StripeSet::EMPTY,
            first_sent: None,
            last_sent: None,
            resent: false,
            look_at: None,
            doubted: false,
            acked: false,
        });
        self.next_block += 1;
        self.blocks.back_mut()
    }

    /// Stream bytes that are in blocks: what counts against the windows.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn set_max(&mut self, max: u64) {
        self.max = self.max.max(max);
    }

    pub(crate) fn blocks_mut(&mut self) -> impl Iterator<Item = &mut SentBlock> {
        self.blocks.iter_mut().filter(|b| !b.acked)
    }

    pub(crate) fn block_mut(&mut self, number: u64) -> Option<&mut SentBlock> {
        let first = self.blocks.front()?.number;
        let at = usize::try_from(number.checked_sub(first)?).ok()?;
        self.blocks.get_mut(at).filter(|b| !b.acked)
    }

    /// Marks the blocks from `start` to below `end` as acknowledged. Calls `each` for every newly acknowledged one.
    pub(crate) fn acknowledge(
        &mut self,
        start: u64,
        end: u64,
        buffers: &mut Buffers,
        mut each: impl FnMut(&SentBlock),
    ) {
        let Some(first) = self.blocks.front().map(|b| b.number) else { return };
        let from = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
        let to = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX).min(self.blocks.len());
        for block in self.blocks.iter_mut().take(to).skip(from).filter(|b| !b.acked) {
            block.acked = true;
            self.in_flight_bytes -= block.data_len as usize;
            each(block);
            // The bytes go at once; the entry stays until its turn to leave.
            buffers.give(std::mem::take(&mut block.bytes));
            block.sent = Vec::new();
            block.due = StripeSet::EMPTY;
        }
        while self.blocks.front().is_some_and(|b| b.acked) {
            self.blocks.pop_front();
        }
        if self.fin == Fin::Frozen && self.blocks.is_empty() {
            self.fin = Fin::Acked;
        }
    }

    /// Whether an unacknowledged block was sealed in this phase.
    pub(crate) fn uses_phase(&self, phase: u32) -> bool {
        self.blocks.iter().any(|b| !b.acked && b.phase == phase)
    }

    /// Whether a frozen block has stripes that no path took yet: newer blocks wait for it.
    pub(crate) fn owes(&self) -> bool {
        self.blocks.iter().any(|b| !b.due.is_empty())
    }

    /// Whether [`freeze`](Self::freeze) makes a block now: there is something to say, nothing older is owed, and
    /// the windows are open. A small block may be held.
    pub(crate) fn can_freeze(&self, now: Instant, connection_room: u64) -> bool {
        self.is_due(connection_room) && self.held_until().is_none_or(|until| until <= now)
    }

    /// When the small block leaves that is held and that nothing else hinders; `None` if there is none.
    pub(crate) fn next_release(&self, now: Instant, connection_room: u64) -> Option<Instant> {
        self.held_until().filter(|until| *until > now && self.is_due(connection_room))
    }

    fn is_due(&self, connection_room: u64) -> bool {
        let numbers = self.blocks.front().is_none_or(|b| self.next_block < b.number + BLOCK_WINDOW);
        let bytes = self.max > self.offset && connection_room > 0;
        self.has_pending() && !self.owes() && numbers && (self.pending_bytes == 0 || bytes)
    }

    /// Whether the next block takes all that waits.
    pub(crate) fn is_last(&self) -> bool {
        self.pending.len() <= 1
    }

    /// Whether a block may be held that is frozen next.
    pub(crate) fn may_hold(&self) -> bool {
        !self.nodelay || self.next_block == 0
    }

    /// Notes when the first block might have been frozen for the first time.
    pub(crate) fn look(&mut self, now: Instant) {
        self.frozen_at.get_or_insert(now);
    }

    /// A first block without bytes waits for some, and not for long. With `nodelay` off, a block that is neither full
    /// nor the last one waits while an earlier one is unacknowledged, and not for long.
    fn held_until(&self) -> Option<Instant> {
        if self.next_block == 0 && self.pending_bytes == 0 && self.fin == Fin::Open {
            return self.frozen_at.map(|at| at + OPENING_HOLD);
        }
        let small = self.fin == Fin::Open
            && self.pending.len() == 1
            && self.pending.front().is_some_and(|b| b.len() < MAX_BLOCK_BYTES);
        if self.nodelay || !small || self.blocks.is_empty() {
            return None;
        }
        self.frozen_at.map(|at| at + MAX_HOLD)
    }

    pub(crate) fn nodelay(&self) -> bool {
        self.nodelay
    }

    pub(crate) fn set_nodelay(&mut self, nodelay: bool) {
        self.nodelay = nodelay;
    }

    /// Gives the stream up. Returns what the RESET says: the bytes that count against the windows.
    pub(crate) fn reset(&mut self, code: u32) -> Option<u64> {
        if self.is_finished() {
            return None;
        }
        self.reset = Some(code);
        self.pending.clear();
        self.blocks.clear();
        self.pending_bytes = 0;
        self.in_flight_bytes = 0;
        Some(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_send_buffer_grows_with_what_is_on_its_way_and_no_further_than_twofold() {
        const CAPACITY: usize = 1 << 20;
        let mut stream = SendStream::new(Vec::new(), 1 << 40, true);
        let fill = |stream: &mut SendStream| {
            let bytes = vec![1; stream.room(CAPACITY)];
            stream.write(&bytes, &mut Buffers::default());
            bytes.len()
        };
        assert_eq!(fill(&mut stream), CAPACITY);
        assert_eq!(fill(&mut stream), 0, "nothing is on its way");
        // A peer that lets all of it leave and acknowledges nothing.
        let mut taken = CAPACITY;
        for _ in 0..5 {
            while stream.freeze(Instant::now(), 1 << 40, 1, ParitySet::Mds).is_some() {}
            taken += fill(&mut stream);
        }
        assert_eq!(taken, 2 * CAPACITY);
    }

    #[test]
    fn a_receiver_that_has_enough_and_does_not_say_so_is_asked_again() {
        let mut stream = SendStream::new(Vec::new(), 1 << 20, true);
        stream.write(b"bytes", &mut Buffers::default());
        let block = stream.freeze(Instant::now(), 1 << 20, 1, ParitySet::Mds).unwrap();
        assert!(!block.ask_again(), "nothing is known yet");
        block.peer_has = StripeSet::DATA;
        // Nothing is missing, and nothing else would ever be sent.
        assert!(!block.mend(block.peer_has));
        assert!(block.ask_again());
        assert_eq!(block.due.len(), 1);
        assert!(!block.ask_again(), "once is enough");
    }
}
