//! What a stream can do now, and what its owner may choose while it is open.

use super::buffers::Buffers;
use super::recv::ReadOutcome;
use super::{Connection, ReadError, WriteError};
use crate::ids::StreamId;

/// What a stream can do now without waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read of at least one byte gives bytes, the end, or an error.
    pub readable: bool,
    /// Nothing arrives any more beyond what is here.
    pub read_closed: bool,
    /// A write of at least one byte takes some, or gives an error.
    pub writable: bool,
    /// Every further write fails.
    pub write_closed: bool,
}

impl Connection {
    /// Reads up to `limit` bytes that arrived, and hands them to `take` piece by piece. The result is that of
    /// [`read`](Self::read) with a buffer of `limit` bytes.
    ///
    /// # Errors
    /// [`ReadError`] if the stream ended in any other way than by its end.
    pub fn read_with(
        &mut self,
        id: StreamId,
        limit: usize,
        take: impl FnMut(&[u8]),
    ) -> Result<Option<usize>, ReadError> {
        let read = self.look(id, |stream, buffers| stream.read(limit, buffers, take));
        if let Ok(Some(1..)) = read {
            self.update_windows(id);
        }
        read
    }

    /// As [`read_with`](Self::read_with), and leaves the bytes where they are: the next read gives them again.
    ///
    /// # Errors
    /// As [`read_with`](Self::read_with).
    pub fn peek_with(
        &mut self,
        id: StreamId,
        limit: usize,
        take: impl FnMut(&[u8]),
    ) -> Result<Option<usize>, ReadError> {
        self.look(id, |stream, _| stream.peek(limit, take))
    }

    fn look(
        &mut self,
        id: StreamId,
        look: impl FnOnce(&mut super::RecvStream, &mut Buffers) -> ReadOutcome,
    ) -> Result<Option<usize>, ReadError> {
        let Some(stream) = self.streams.get(&id) else {
            return self.error.clone().map_or(Ok(Some(0)), |cause| Err(ReadError::Lost(cause)));
        };
        if let Some(reason) = stream.revoked {
            return Err(ReadError::Revoked(reason));
        }
        if stream.recv.is_stopped() {
            return Ok(Some(0));
        }
        // The stream was there just now.
        match self.with_recv(id, look).unwrap_or(ReadOutcome::Blocked) {
            ReadOutcome::Bytes(n) => Ok(Some(n)),
            ReadOutcome::Fin => Ok(Some(0)),
            ReadOutcome::Reset(code) => Err(ReadError::Reset(code)),
            ReadOutcome::Blocked => match &self.error {
                Some(error) => Err(ReadError::Lost(error.clone())),
                None => Ok(None),
            },
        }
    }

    /// What the stream can do now.
    pub fn readiness(&self, id: StreamId) -> Readiness {
        let over = self.error.is_some();
        let Some(stream) = self.streams.get(&id) else {
            return Readiness { readable: true, read_closed: true, writable: true, write_closed: true };
        };
        let (recv, send) = (&stream.recv, &stream.send);
        let read_closed = over || recv.is_stopped() || recv.has_fin() || recv.is_finished();
        let write_closed = over || !send.is_open();
        Readiness {
            readable: over || recv.is_stopped() || recv.has_waiting() || recv.is_finished(),
            read_closed,
            writable: write_closed || send.room(self.config.send_buffer) > 0,
            write_closed,
        }
    }

    /// Asks for an [`Event::Readable`](super::Event::Readable) when a read is worth a try, as a read that found
    /// nothing does.
    pub fn want_readable(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.recv.reader_waits = true;
        }
    }

    /// Asks for an [`Event::Writable`](super::Event::Writable) when a write is worth a try, as a write that found
    /// no room does.
    pub fn want_writable(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send.writer_waits = true;
        }
    }

    /// What ended the stream other than its own ends: the peer gave it up or refused it, or the connection ended.
    pub fn failure(&self, id: StreamId) -> Option<StreamFailure> {
        let stream = self.streams.get(&id);
        if let Some(reason) = stream.and_then(|s| s.revoked) {
            return Some(StreamFailure::Read(ReadError::Revoked(reason)));
        }
        if let Some(code) = stream.and_then(|s| s.recv.reset_code()) {
            return Some(StreamFailure::Read(ReadError::Reset(code)));
        }
        if let Some(code) = stream.and_then(|s| s.send.reset_code()) {
            return Some(StreamFailure::Write(WriteError::Stopped(code)));
        }
        self.error.clone().map(|cause| StreamFailure::Read(ReadError::Lost(cause)))
    }

    /// Whether small writes of the stream leave at once; see [`set_nodelay`](Self::set_nodelay).
    pub fn nodelay(&self, id: StreamId) -> bool {
        self.streams.get(&id).map_or(self.config.nodelay, |s| s.send.nodelay())
    }

    /// Sends small writes of the stream at once (`true`), or gathers them while an earlier block is
    /// unacknowledged, for at most [`MAX_HOLD`](super::MAX_HOLD) (`false`). A stream begins with
    /// [`Config::nodelay`](super::Config::nodelay). What is held already leaves with the next
    /// [`transmit`](Self::transmit).
    pub fn set_nodelay(&mut self, id: StreamId, nodelay: bool) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send.set_nodelay(nodelay);
            self.holding.insert(id);
        }
    }
}

/// What ended a stream other than its own ends, for [`Connection::failure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamFailure {
    /// Reads give this.
    Read(ReadError),
    /// Writes give this.
    Write(WriteError),
}

impl From<StreamFailure> for std::io::Error {
    fn from(failure: StreamFailure) -> Self {
        match failure {
            StreamFailure::Read(error) => error.into(),
            StreamFailure::Write(error) => error.into(),
        }
    }
}
