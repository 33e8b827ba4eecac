//! The egress buffer of a hop: frames are written behind record headroom and sealed where they lie.

use super::{MAX_PAYLOAD, MAX_PLAINTEXT, RECORD_HEADER, RECORD_TAG};
use crate::codec::Write;
use crate::fault_points::{Point, hit};
use crate::frame::{DATA_OVERHEAD, Frame, MAX_CALL, MAX_OPEN_HEADER, data_header};
use crate::ids::RouteId;
use std::fmt;
use thiserror::Error;

/// Room for control frames above an outbox's limit: a full data lane never keeps a DETACH or a PONG out.
/// A peer that does not even take this much has stopped reading, and its hop is to be closed.
pub const CONTROL_RESERVE: usize = 256 * 1024;

/// The memory that an emptied outbox keeps; what a burst took above it is given back.
const KEPT: usize = 1024 * 1024;

/// The smallest buffer: one full stripe of a small block with its headroom.
const FIRST: usize = 16 * 1024;

/// The outbox of a hop holds its limit, or the frame is longer than a record.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the outbox of the hop is full")]
pub struct Full;

/// Frames on their way to the socket of one hop.
///
/// The life of a byte: written behind headroom by [`Outbox::data`] or [`Outbox::frame`], sealed in place by the
/// hop's sealer, shown by [`Outbox::wire`], dropped by [`Outbox::consume`]. Nothing is copied on the way, and the
/// memory is reused: a busy hop allocates nothing.
pub struct Outbox {
    /// Initialised over its whole length, so that handing out room clears nothing.
    buf: Vec<u8>,
    /// The first byte that the socket has not taken.
    start: usize,
    /// The end of the sealed bytes and the beginning of the first record that is not.
    sealed: usize,
    /// Where the record that takes frames begins, if there is one.
    open: Option<usize>,
    /// The end of what is written.
    end: usize,
    limit: usize,
}

impl Outbox {
    /// Makes an empty outbox that takes DATA frames up to `limit` queued bytes.
    pub fn new(limit: usize) -> Self {
        Self { buf: Vec::new(), start: 0, sealed: 0, open: None, end: 0, limit }
    }

    /// Appends a DATA frame whose `len` payload bytes `fill` writes in place.
    ///
    /// The slice given to `fill` holds stale bytes: `fill` writes all of it.
    ///
    /// # Errors
    /// [`Full`] when it would pass the limit, or `len` is above [`MAX_PAYLOAD`]. `fill` is not called then.
    pub fn data(
        &mut self,
        route: RouteId,
        offset: u32,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Full> {
        if len > MAX_PAYLOAD || self.queued_bytes() + len > self.limit {
            return Err(Full);
        }
        let (head, payload) = self.room(DATA_OVERHEAD + len).split_at_mut(DATA_OVERHEAD);
        head.copy_from_slice(&data_header(route, offset, len));
        fill(payload);
        Ok(())
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// [`Full`] when a DATA frame would pass the limit, or a control frame the limit and [`CONTROL_RESERVE`], or
    /// a connection header is above [`MAX_OPEN_HEADER`] or the body of a call above [`MAX_CALL`].
    pub fn frame(&mut self, frame: &Frame<'_>) -> Result<(), Full> {
        match frame {
            Frame::Data { route, offset, payload } => {
                self.data(*route, *offset, payload.len(), |slot| slot.copy_from_slice(payload))
            }
            Frame::Open { header, .. } | Frame::Attach { header, .. } if header.len() > MAX_OPEN_HEADER => {
                Err(Full)
            }
            Frame::Call { body, .. } | Frame::Answer { body, .. } if body.len() > MAX_CALL => Err(Full),
            _ if self.queued_bytes() + frame.encoded_len() > self.limit.saturating_add(CONTROL_RESERVE) => {
                Err(Full)
            }
            _ => {
                frame.encode(&mut Slot(self.room(frame.encoded_len())));
                Ok(())
            }
        }
    }

    /// Appends bytes that need no sealing: the messages of the handshake, which precede all records.
    pub(super) fn plain(&mut self, bytes: &[u8]) {
        debug_assert!(self.sealed == self.end, "handshake messages precede records");
        self.reserve(bytes.len());
        self.buf[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
        self.sealed = self.end;
    }

    /// Ends the record that takes frames, and hands out the next one that is not sealed, header and tag included.
    ///
    /// Call [`Outbox::mark_sealed`] with its length when it is.
    pub(super) fn next_unsealed(&mut self) -> Option<&mut [u8]> {
        self.close_record();
        let header = self.buf[self.sealed..self.end].first_chunk::<4>()?;
        let len = 4 + 8 + u32::from_be_bytes(*header) as usize;
        self.buf[self.sealed..self.end].get_mut(..len)
    }

    pub(super) fn mark_sealed(&mut self, len: usize) {
        self.sealed = (self.sealed + len).min(self.end);
    }

    /// Appends a record that holds nothing but REKEY, whatever the limit.
    pub(super) fn rekey(&mut self) {
        self.close_record();
        let frame = Frame::Rekey;
        frame.encode(&mut Slot(self.room(frame.encoded_len())));
    }

    /// The sealed bytes that the socket has not taken.
    pub fn wire(&self) -> &[u8] {
        &self.buf[self.start..self.sealed]
    }

    /// Drops the first `n` bytes of [`Outbox::wire`]: the socket took them.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.sealed);
        if self.start == self.end {
            (self.start, self.sealed, self.end) = (0, 0, 0);
            if self.buf.len() > KEPT {
                self.buf.truncate(KEPT);
                self.buf.shrink_to_fit();
            }
        }
    }

    /// Bytes that the socket has not taken, sealed or not, record headers and tags included.
    pub fn queued_bytes(&self) -> usize {
        self.end - self.start
    }

    /// How many payload bytes one more DATA frame may hold now.
    pub fn room_for_data(&self) -> usize {
        if hit(Point::NoRoom) {
            return 0;
        }
        self.limit.saturating_sub(self.queued_bytes()).min(MAX_PAYLOAD)
    }

    /// Whether frames wait for the sealer.
    pub fn needs_sealing(&self) -> bool {
        self.sealed < self.end
    }

    /// Takes the unsealed records out, as if a sealer and a socket had.
    #[cfg(test)]
    pub(crate) fn unsealed_for_tests(&mut self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while let Some(record) = self.next_unsealed() {
            let len = record.len();
            records.push(record.to_vec());
            self.mark_sealed(len);
        }
        self.consume(self.queued_bytes());
        records
    }

    /// Makes `len` bytes of room in the current record, or in a new one where they do not fit.
    fn room(&mut self, len: usize) -> &mut [u8] {
        if self.open.is_some_and(|at| self.end - at - RECORD_HEADER + len > MAX_PLAINTEXT) {
            self.close_record();
        }
        let header = if self.open.is_none() { RECORD_HEADER } else { 0 };
        self.reserve(header + len + RECORD_TAG);
        if self.open.is_none() {
            self.open = Some(self.end);
        }
        let from = self.end + header;
        self.end = from + len;
        &mut self.buf[from..self.end]
    }

    /// Writes the length of the record that takes frames and leaves room for its tag.
    fn close_record(&mut self) {
        let Some(at) = self.open.take() else { return };
        self.reserve_tail(RECORD_TAG);
        self.end += RECORD_TAG;
        let len = (self.end - at - RECORD_HEADER) as u32;
        self.buf[at..at + 4].copy_from_slice(&len.to_be_bytes());
    }

    /// Makes room for `len` bytes behind the end: from the bytes already sent if that is most of the buffer,
    /// from the allocator otherwise. Both are amortised over the bytes written.
    fn reserve(&mut self, len: usize) {
        if self.buf.len() - self.end >= len {
            return;
        }
        if self.start > 0 && self.start >= self.buf.len() / 2 {
            self.buf.copy_within(self.start..self.end, 0);
            self.sealed -= self.start;
            self.end -= self.start;
            self.open = self.open.map(|at| at - self.start);
            self.start = 0;
        }
        self.reserve_tail(len);
    }

    fn reserve_tail(&mut self, len: usize) {
        let need = self.end + len;
        if self.buf.len() < need {
            self.buf.resize(need.next_power_of_two().max(FIRST), 0);
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("sealed", &(self.sealed - self.start))
            .field("unsealed", &(self.end - self.sealed))
            .field("limit", &self.limit)
            .finish()
    }
}

/// Writes into room that was made for exactly these bytes.
struct Slot<'a>(&'a mut [u8]);

impl Write for Slot<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (to, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        to.copy_from_slice(bytes);
        self.0 = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frames;

    /// Takes the unsealed records apart as plaintext, the tag left blank.
    fn drain(outbox: &mut Outbox) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while let Some(record) = outbox.next_unsealed() {
            let len = record.len();
            records.push(record[RECORD_HEADER..len - RECORD_TAG].to_vec());
            outbox.mark_sealed(len);
        }
        records
    }

    #[test]
    fn frames_share_records_until_one_is_full() {
        let mut outbox = Outbox::new(usize::MAX);
        for i in 0..100u32 {
            outbox.data(RouteId(i), i, 1000, |p| p.fill(i as u8)).unwrap();
            outbox.frame(&Frame::Ping { token: i.into() }).unwrap();
        }
        let mut seen = 0u32;
        let records = drain(&mut outbox);
        assert_eq!(records.len(), 2);
        for mut record in records {
            assert!(record.len() <= MAX_PLAINTEXT);
            for frame in Frames::new(&mut record) {
                match frame.unwrap() {
                    Frame::Data { route, offset, payload } => {
                        assert_eq!((route, offset), (RouteId(seen), seen));
                        assert_eq!(payload, [seen as u8; 1000]);
                    }
                    Frame::Ping { token } => {
                        assert_eq!(token, u64::from(seen));
                        seen += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(seen, 100);
    }

    #[test]
    fn the_longest_payload_fills_a_record_and_one_more_byte_is_refused() {
        let mut outbox = Outbox::new(usize::MAX);
        outbox.data(RouteId(1), 0, MAX_PAYLOAD, |p| p.fill(1)).unwrap();
        assert_eq!(outbox.data(RouteId(1), 0, MAX_PAYLOAD + 1, |_| panic!("called")), Err(Full));
        assert_eq!(drain(&mut outbox).len(), 1);
        assert_eq!(outbox.wire().len(), 4 + 8 + super::super::MAX_RECORD);
    }

    #[test]
    fn memory_and_counts_stay_bounded_while_the_socket_takes_odd_amounts() {
        let mut outbox = Outbox::new(64 * 1024);
        let (mut written, mut taken, mut refused) = (0usize, 0usize, 0usize);
        for round in 0..20_000usize {
            let len = round * 7 % 3000;
            match outbox.data(RouteId(0), 0, len, |p| p.fill(3)) {
                Ok(()) => written += 1,
                Err(Full) => refused += 1,
            }
            if round % 3 == 0 {
                drain(&mut outbox);
                let n = outbox.wire().len().min(4001);
                outbox.consume(n);
                taken += n;
            }
            assert!(outbox.queued_bytes() <= 64 * 1024 + 100);
            assert!(outbox.buf.len() <= 256 * 1024, "{}", outbox.buf.len());
        }
        assert!(written > 5000 && refused > 1000 && taken > 1_000_000);
    }

    #[test]
    fn a_full_data_lane_leaves_room_for_control() {
        let mut outbox = Outbox::new(1000);
        outbox.data(RouteId(0), 0, 900, |p| p.fill(0)).unwrap();
        assert_eq!(outbox.data(RouteId(0), 0, 900, |_| ()), Err(Full));
        outbox.frame(&Frame::Detach { route: RouteId(0) }).unwrap();
        let mut pings = 0;
        while outbox.frame(&Frame::Ping { token: 0 }).is_ok() {
            pings += 1;
        }
        assert!(pings > 20_000 && outbox.queued_bytes() <= 1000 + CONTROL_RESERVE + 1000);
    }

    #[test]
    fn a_burst_gives_its_memory_back() {
        let mut outbox = Outbox::new(usize::MAX);
        for _ in 0..100 {
            outbox.data(RouteId(0), 0, 60_000, |p| p.fill(0)).unwrap();
        }
        drain(&mut outbox);
        outbox.consume(usize::MAX >> 1);
        assert_eq!((outbox.queued_bytes(), outbox.buf.len()), (0, KEPT));
    }
}
