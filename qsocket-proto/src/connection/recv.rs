//! The receiving half of a stream: blocks on their way in, and bytes that wait for the reader.

use crate::codec::Malformed;
use crate::control::{MAX_ACK_RANGES, PartialAck, StreamAck};
use crate::fault_points::{Point, hit};
use crate::grid::{Plan, StripeId, StripeSet, placement, stripe_len};
use crate::ids::{SIXTEEN, StreamId};
use crate::stripe::{BlockHeader, BlockKind};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Instant;

use super::buffers::Buffers;
use super::stats::Repairs;

/// How far beyond the first incomplete block a sender may number its blocks. Bounds the bookkeeping for many
/// tiny blocks, as the byte window bounds the memory for large ones.
pub(crate) const BLOCK_WINDOW: u64 = 1024;

/// What a block is charged besides its bytes, so that many tiny ones count: its entry and its share of the map.
const ENTRY_BYTES: u64 = 128;

/// Memory that a stream's blocks may take beyond its byte window: entries, heads and padding of a full
/// [`BLOCK_WINDOW`], 128, 14 and at most 15 bytes each, and one resource name. A sixteenth of the window comes on top,
/// for blocks above [`JOINED_BELOW`].
const OVERHEAD_BYTES: u64 = BLOCK_WINDOW * (ENTRY_BYTES + 32) + 256;

/// Data of blocks up to this size is copied behind that of the block before once it is in order: a reader that takes
/// its time with many small messages holds their bytes, and not a block for each.
const JOINED_BELOW: usize = 4 * 1024;

/// Nothing is copied behind so many bytes.
const JOINED: usize = 16 * 1024;

/// What the other end did wrong under its own seal. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misbehaved(pub(crate) &'static str);

impl From<Malformed> for Misbehaved {
    fn from(_: Malformed) -> Self {
        Self("a sealed message is malformed")
    }
}

/// One block of which stripes arrive.
#[derive(Debug)]
pub(crate) struct Assembly {
    block_len: u32,
    /// 16 stripes of room; those in `have` are filled, the others may hold anything.
    bytes: Vec<u8>,
    have: StripeSet,
    /// Opened parity, kept until the block is whole.
    parity: Vec<(StripeId, Vec<u8>)>,
    /// When the stripes at hand, opened or not, first determined the whole block.
    pub(crate) solvable_since: Option<Instant>,
}

impl Assembly {
    /// Makes room for a block. Only after one of its stripes opened: the length is then the sender's own word.
    pub(crate) fn new(block_len: u32, buffers: &mut Buffers) -> Self {
        Self {
            block_len,
            bytes: buffers.filled(stripe_len(block_len as usize) * SIXTEEN),
            have: StripeSet::EMPTY,
            parity: Vec::new(),
            solvable_since: None,
        }
    }

    pub(crate) fn block_len(&self) -> u32 {
        self.block_len
    }

    pub(crate) fn have(&self) -> StripeSet {
        self.have
    }

    /// Puts an opened stripe in its place.
    pub(crate) fn insert(&mut self, stripe: StripeId, plaintext: &[u8]) {
        let len = plaintext.len();
        match stripe.data_index() {
            Some(k) => {
                if let Some(slot) = self.bytes.get_mut(k * len..(k + 1) * len) {
                    slot.copy_from_slice(plaintext);
                    self.have.insert(stripe);
                }
            }
            None => {
                if self.have.insert(stripe) {
                    self.parity.push((stripe, plaintext.to_vec()));
                }
            }
        }
    }

    /// Fills the missing data stripes from opened ones. True if the block is whole now.
    pub(crate) fn solve(&mut self, block: u64, repairs: &mut Repairs) -> bool {
        if self.have.contains_all(StripeSet::DATA) {
            return true;
        }
        let plan = Plan::new(self.have);
        let whole = self.have.union(plan.recovered()).contains_all(StripeSet::DATA);
        let parity = &self.parity;
        let find = |id| parity.iter().find(|(p, _)| *p == id).map(|(_, bytes)| bytes.as_slice());
        if !whole || plan.apply(&mut self.bytes, find).is_err() {
            return false;
        }
        for step in plan.steps() {
            repairs.record(placement(step.target(), block), step.sources());
        }
        self.have = self.have.union(StripeSet::DATA);
        true
    }

    /// The block's plaintext, padded; meaningful once [`solve`](Self::solve) said so.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn memory(&self) -> u64 {
        (self.bytes.len() + self.parity.iter().map(|(_, b)| b.len()).sum::<usize>()) as u64 + ENTRY_BYTES
    }
}

/// A whole block that waits for its turn or its reader.
#[derive(Debug)]
struct Whole {
    bytes: Vec<u8>,
    header: BlockHeader,
    resource: Range<usize>,
    data: Range<usize>,
}

impl Whole {
    fn memory(&self) -> u64 {
        self.bytes.len() as u64 + ENTRY_BYTES
    }

    /// Copies the data of the next block behind its own, if that is worth it.
    fn join(&mut self, next: &Self) -> bool {
        if next.data.len() > JOINED_BELOW || self.data.end > JOINED {
            return false;
        }
        self.bytes.truncate(self.data.end);
        self.bytes.extend_from_slice(next.bytes.get(next.data.clone()).unwrap_or_default());
        self.data.end = self.bytes.len();
        if self.data.end > JOINED {
            self.bytes.shrink_to_fit();
        }
        true
    }
}

/// The receiving half of one stream.
#[derive(Debug)]
pub(crate) struct RecvStream {
    /// Every block below is complete.
    next: u64,
    /// Complete blocks from `next` on.
    early: BTreeMap<u64, Whole>,
    pub(crate) assemblies: BTreeMap<u64, Assembly>,
    /// In order, not yet read to the end.
    queue: VecDeque<Whole>,
    /// End of the bytes in `queue`.
    end: u64,
    /// First byte that the application has not taken.
    read: u64,
    /// Bytes credited to the connection's window.
    credited: u64,
    /// Highest stream offset of any complete block: what counts against the windows.
    highest: u64,
    /// What the sender may use.
    max: u64,
    window: u64,
    /// What the window grows to while its reader keeps up.
    most: u64,
    /// The reader has had all there was since the window was raised last.
    kept_up: bool,
    /// Bytes of blocks held, whole or not.
    memory: u64,
    fin: Option<u64>,
    reset: Option<u32>,
    stopped: bool,
    resource: Vec<u8>,
    /// The reader found nothing and is to be told when that changes.
    pub(crate) reader_waits: bool,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// So many bytes.
    Bytes(usize),
    /// The verified end of the stream.
    Fin,
    /// Nothing yet.
    Blocked,
    /// The sender gave the stream up.
    Reset(u32),
}

impl RecvStream {
    /// A stream whose sender may be `window` bytes ahead of the reader at first, and `most` of one that keeps up.
    pub(crate) fn new(window: u64, most: u64) -> Self {
        Self {
            next: 0,
            early: BTreeMap::new(),
            assemblies: BTreeMap::new(),
            queue: VecDeque::new(),
            end: 0,
            read: 0,
            credited: 0,
            highest: 0,
            max: window,
            window,
            most: most.max(window),
            kept_up: false,
            memory: 0,
            fin: None,
            reset: None,
            stopped: false,
            resource: Vec::new(),
            reader_waits: false,
        }
    }

    /// Whether stripes of this block are still of use.
    pub(crate) fn wants(&self, block: u64) -> bool {
        block >= self.next
            && block < self.next + BLOCK_WINDOW
            && self.reset.is_none()
            && !self.early.contains_key(&block)
    }

    /// What `block` is charged when its first stripe comes; nothing if it is there.
    pub(crate) fn charge(&self, block: u64, block_len: u32) -> u64 {
        let room = stripe_len(block_len as usize) * SIXTEEN;
        if self.assemblies.contains_key(&block) { 0 } else { room as u64 + ENTRY_BYTES }
    }

    /// Whether this is the block for which the stream waits.
    pub(crate) fn is_next(&self, block: u64) -> bool {
        block == self.next
    }

    /// Takes an opened stripe. `None` if the block has no room: its sender passes the window it was given.
    pub(crate) fn insert(
        &mut self,
        block: u64,
        block_len: u32,
        stripe: StripeId,
        plaintext: &[u8],
        buffers: &mut Buffers,
    ) -> Option<&mut Assembly> {
        let room = self.window + self.window / 16 + OVERHEAD_BYTES + u64::from(block_len);
        let assembly = match self.assemblies.entry(block) {
            std::collections::btree_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::btree_map::Entry::Vacant(slot) => {
                let assembly = Assembly::new(block_len, buffers);
                if self.memory + assembly.memory() > room {
                    buffers.give(assembly.bytes);
                    return None;
                }
                slot.insert(assembly)
            }
        };
        if assembly.block_len != block_len || hit(Point::OpenedLost) {
            return None;
        }
        let before = assembly.memory();
        let fresh = assembly.have.is_empty();
        assembly.insert(stripe, plaintext);
        self.memory += assembly.memory() - if fresh { 0 } else { before };
        Some(assembly)
    }

    /// Takes a block whose assembly is whole. Returns by how much the highest offset grew.
    pub(crate) fn complete(&mut self, block: u64) -> Result<u64, Misbehaved> {
        let Some(assembly) = self.assemblies.remove(&block) else {
            return Ok(0);
        };
        self.memory -= assembly.memory();
        let bytes = assembly.bytes;
        let (header, resource, data) = BlockHeader::decode(&bytes, assembly.block_len as usize)?;
        if header.kind == BlockKind::Hello || (header.kind == BlockKind::First) != (block == 0) {
            return Err(Misbehaved("a block is of the wrong kind"));
        }
        let end = header.offset + u64::from(header.len);
        if end > self.max {
            return Err(Misbehaved("a block passes the stream's window"));
        }
        if self.fin.is_some_and(|fin| end > fin) {
            return Err(Misbehaved("a block lies behind the end of its stream"));
        }
        let grown = end.saturating_sub(self.highest);
        self.highest = self.highest.max(end);
        let whole = Whole { bytes, header, resource, data };
        self.memory += whole.memory();
        self.early.insert(block, whole);
        while let Some(whole) = self.early.remove(&self.next) {
            self.next += 1;
            self.take_in_order(whole)?;
        }
        Ok(grown)
    }

    fn take_in_order(&mut self, whole: Whole) -> Result<(), Misbehaved> {
        if whole.header.offset != self.end {
            return Err(Misbehaved("blocks leave a gap or overlap"));
        }
        if self.fin.is_some() {
            return Err(Misbehaved("a block follows the end of its stream"));
        }
        if whole.header.kind == BlockKind::First {
            self.resource = whole.bytes.get(whole.resource.clone()).unwrap_or_default().to_vec();
        }
        self.end += u64::from(whole.header.len);
        if whole.header.fin {
            self.fin = Some(self.end);
        }
        self.memory -= whole.memory();
        if !whole.data.is_empty() && !self.stopped {
            match self.queue.back_mut() {
                Some(last) => {
                    self.memory -= last.memory();
                    let joined = last.join(&whole);
                    self.memory += last.memory();
                    if !joined {
                        self.memory += whole.memory();
                        self.queue.push_back(whole);
                    }
                }
                None => {
                    self.memory += whole.memory();
                    self.queue.push_back(whole);
                }
            }
        }
        if self.stopped {
            self.read = self.end;
        }
        Ok(())
    }

    /// Hands over waiting bytes, at most `limit`.
    pub(crate) fn read(
        &mut self,
        limit: usize,
        buffers: &mut Buffers,
        mut take: impl FnMut(&[u8]),
    ) -> ReadOutcome {
        let mut taken = 0;
        while let Some(front) = self.queue.front_mut() {
            let waiting = front.bytes.get(front.data.clone()).unwrap_or_default();
            let n = waiting.len().min(limit - taken);
            take(waiting.get(..n).unwrap_or_default());
            taken += n;
            front.data.start += n;
            if !front.data.is_empty() {
                break;
            }
            self.memory -= front.memory();
            self.queue.pop_front().into_iter().for_each(|whole| buffers.give(whole.bytes));
        }
        self.read += taken as u64;
        self.kept_up |= self.queue.is_empty();
        self.outcome(taken, limit)
    }

    /// Shows waiting bytes, at most `limit`, and keeps them.
    pub(crate) fn peek(&mut self, limit: usize, mut take: impl FnMut(&[u8])) -> ReadOutcome {
        let mut shown = 0;
        for whole in &self.queue {
            let waiting = whole.bytes.get(whole.data.clone()).unwrap_or_default();
            let n = waiting.len().min(limit - shown);
            take(waiting.get(..n).unwrap_or_default());
            shown += n;
            if shown == limit {
                break;
            }
        }
        self.outcome(shown, limit)
    }

    fn outcome(&mut self, taken: usize, limit: usize) -> ReadOutcome {
        if taken > 0 || limit == 0 {
            return ReadOutcome::Bytes(taken);
        }
        if let Some(code) = self.reset {
            return ReadOutcome::Reset(code);
        }
        if self.fin == Some(self.read) {
            return ReadOutcome::Fin;
        }
        self.reader_waits = true;
        ReadOutcome::Blocked
    }

    /// The window to tell the sender, once it is worth a packet: a quarter of it has been used up. It doubles for a reader
    /// that had all there was meanwhile: then it is the network that fills it.
    pub(crate) fn window_update(&mut self) -> Option<u64> {
        let worth = if hit(Point::EagerWindow) { 1 } else { self.window / 4 };
        if self.fin.is_some() || self.reset.is_some() || self.read + self.window - self.max < worth {
            return None;
        }
        if std::mem::take(&mut self.kept_up) {
            self.window = (self.window * 2).min(self.most);
        }
        self.max = self.read + self.window;
        Some(self.max)
    }

    /// The application wants no more.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.memory -= self.queue.iter().map(Whole::memory).sum::<u64>();
        self.queue.clear();
        self.read = self.end;
    }

    /// Bytes that no longer count against the connection's window, since the last call: read, or never to be read.
    pub(crate) fn take_credit(&mut self) -> u64 {
        let settled = if self.stopped { self.read.max(self.highest) } else { self.read };
        let credit = settled - self.credited;
        self.credited = settled;
        credit
    }

    /// The sender gave the stream up. Returns by how much the highest offset grew: a RESET that is said again counts
    /// nothing.
    pub(crate) fn reset(&mut self, code: u32, final_size: u64) -> Result<u64, Misbehaved> {
        if self.reset.is_some() {
            return Ok(0);
        }
        if final_size < self.highest || final_size > self.max {
            return Err(Misbehaved("a reset contradicts the bytes that were sent"));
        }
        if self.fin.is_some() {
            // Every byte up to the FIN is here; the reset of a finished stream says nothing new.
            return Ok(0);
        }
        self.reset = Some(code);
        self.early.clear();
        self.assemblies.clear();
        self.queue.clear();
        self.memory = 0;
        self.read = final_size;
        let grown = final_size - self.highest;
        self.highest = final_size;
        Ok(grown)
    }

    pub(crate) fn resource(&self) -> &[u8] {
        &self.resource
    }

    /// Whether the first block is here, so that the stream can be offered to the application.
    pub(crate) fn is_named(&self) -> bool {
        self.next > 0
    }

    /// Whether bytes wait for the reader.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(crate) fn reset_code(&self) -> Option<u32> {
        self.reset
    }

    /// Whether nothing more can arrive or be read.
    pub(crate) fn is_finished(&self) -> bool {
        self.reset.is_some() || self.fin == Some(self.read)
    }

    pub(crate) fn has_fin(&self) -> bool {
        self.fin.is_some()
    }

    /// Whether a later block is whole before an earlier one.
    pub(crate) fn has_gap(&self) -> bool {
        !self.early.is_empty()
    }

    /// Whether a block is here in part.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.assemblies.is_empty()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// What an ACK says of the stream.
    pub(crate) fn ack(&self, stream: StreamId) -> StreamAck {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for block in self.early.keys() {
            let distance = (block - self.next) as u16;
            let full = ranges.len() == MAX_ACK_RANGES;
            match ranges.last_mut() {
                Some((start, count)) if *start + *count == distance => *count += 1,
                _ if full => break,
                _ => ranges.push((distance, 1)),
            }
        }
        StreamAck { stream, next: self.next, ranges }
    }

    /// The blocks of which some stripes are here, oldest first.
    pub(crate) fn partial(&self, stream: StreamId) -> impl Iterator<Item = PartialAck> {
        self.assemblies.iter().map(move |(block, a)| PartialAck { stream, block: *block, have: a.have })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{ParitySet, parity_stripe};

    const BLOCK: u64 = 200 * 1024;

    /// Puts a whole block in the stream.
    fn take(stream: &mut RecvStream, number: u64) {
        let kind = if number == 0 { BlockKind::First } else { BlockKind::Data };
        let mut bytes =
            BlockHeader { kind, fin: false, offset: number * BLOCK, len: BLOCK as u32 }.encode().to_vec();
        // The first one has a resource, of no bytes here.
        bytes.extend((number == 0).then_some(0));
        bytes.resize(bytes.len() + BLOCK as usize, number as u8);
        let (block_len, len) = (bytes.len() as u32, stripe_len(bytes.len()));
        bytes.resize(len * SIXTEEN, 0);
        for (stripe, plaintext) in StripeSet::DATA.iter().zip(bytes.chunks(len)) {
            stream.insert(number, block_len, stripe, plaintext, &mut Buffers::default()).unwrap();
        }
        assert!(stream.assemblies.get_mut(&number).unwrap().solve(number, &mut Repairs::default()));
        stream.complete(number).unwrap();
    }

    #[test]
    fn the_window_doubles_for_a_reader_that_keeps_up_and_for_no_other() {
        let window = 4 * BLOCK;
        let mut stream = RecvStream::new(window, 10 * BLOCK);
        let read = |stream: &mut RecvStream, limit| stream.read(limit, &mut Buffers::default(), |_| {});
        take(&mut stream, 0);
        for number in 1..8 {
            take(&mut stream, number);
            read(&mut stream, BLOCK as usize);
            assert_eq!(stream.window_update(), Some(number * BLOCK + window), "something is always left");
        }
        for (number, window) in
            [(8, Some(8)), (9, None), (10, Some(10)), (11, None), (12, None), (13, Some(10))]
        {
            take(&mut stream, number);
            read(&mut stream, usize::MAX);
            assert_eq!(stream.window_update(), window.map(|w| (number + 1 + w) * BLOCK), "{number}");
        }
    }

    #[test]
    fn blocks_take_no_more_memory_than_a_window_and_a_sixteenth() {
        let window = 64 * BLOCK;
        let mut stream = RecvStream::new(window, window);
        let mut buffers = Buffers::default();
        // Behind a gap, where nobody can say yet whether they pass the window.
        for block in 1.. {
            let stripe = StripeSet::DATA.iter().next().unwrap();
            let held =
                stream.insert(block, BLOCK as u32, stripe, &[0; BLOCK as usize / SIXTEEN], &mut buffers);
            if held.is_none() {
                break;
            }
        }
        assert!(stream.memory() > window);
        assert!(stream.memory() <= window + window / 16 + OVERHEAD_BYTES + BLOCK);
    }

    #[test]
    fn what_a_buffer_held_before_does_not_show_in_a_repaired_block() {
        let len = 5000;
        let block: Vec<u8> = (0..SIXTEEN * len).map(|i| (i * 31 % 251) as u8).collect();
        let mut buffers = Buffers::default();
        buffers.give(vec![0xa5; block.len()]);
        let mut assembly = Assembly::new(block.len() as u32, &mut buffers);
        assert_eq!(assembly.bytes()[0], 0xa5, "the buffer is the one that was given");
        for stripe in StripeSet::DATA.iter().skip(9) {
            let k = stripe.data_index().unwrap();
            assembly.insert(stripe, &block[k * len..(k + 1) * len]);
        }
        let mut repairs = Repairs::default();
        assert!(!assembly.solve(0, &mut repairs));
        for stripe in ParitySet::Mds.parity().iter() {
            let mut bytes = vec![0; len];
            parity_stripe(stripe, &block, &mut bytes).unwrap();
            assembly.insert(stripe, &bytes);
        }
        assert!(assembly.solve(0, &mut repairs));
        assert!(assembly.bytes() == block);
    }
}
