//! What a stream and its halves share, and everything they do with the connection under it.

use super::Peer;
use crate::access::Permit;
use crate::connection::{Conn, State};
use crate::endpoint::Owner;
use qsocket_proto::connection::{Connection, ReadError, Side, WriteError};
use qsocket_proto::ids::{Role, StreamId};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{Interest, ReadBuf, Ready};
use tokio::sync::Notify;
use tokio::task::coop::poll_proceed;

/// One stream. The last of its handles ends it.
pub(crate) struct Inner {
    pub(super) conn: Arc<Conn>,
    pub(super) id: StreamId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) peer: Peer,
    pub(super) resource: String,
    pub(super) permit: Permit,
    /// Those who wait for readiness, any number of them.
    ready: Arc<Notify>,
    /// What is not acknowledged when the stream is dropped is given up, even after `shutdown`.
    pub(super) abort_on_drop: AtomicBool,
    /// The application heard of what ended the stream.
    told: AtomicBool,
    // Dropped last: it may be what keeps the endpoint's tasks alive.
    _owner: Arc<Owner>,
}

impl Inner {
    pub(super) fn new(
        owner: Arc<Owner>,
        conn: Arc<Conn>,
        connection: &Connection,
        id: StreamId,
        (resource, permit): (String, Permit),
    ) -> Self {
        let stats = connection.security();
        let (principal, role, local, remote) = match connection.side() {
            Side::Client => {
                (connection.server(), Role::Server, connection.source(), connection.destination())
            }
            Side::Server => {
                (connection.client(), Role::Client, connection.destination(), connection.source())
            }
        };
        let peer = Peer { principal, role, encryption_key: stats.encryption_key, ml_kem: stats.ml_kem };
        Self {
            conn,
            id,
            local,
            remote,
            peer,
            resource,
            permit,
            ready: Arc::new(Notify::new()),
            abort_on_drop: AtomicBool::new(false),
            told: AtomicBool::new(false),
            _owner: owner,
        }
    }

    pub(super) fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name).field("peer", &self.peer.principal).field("peer_addr", &self.remote).finish()
    }

    // ---- reading --------------------------------------------------------------------------------------------

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let coop = ready!(poll_proceed(cx));
        let mut state = self.conn.lock();
        let limit = buf.remaining();
        let read = state.connection.read_with(self.id, limit, |piece| buf.put_slice(piece));
        let Some(n) = self.heard(read)? else {
            state.wait_readable(self.id, cx.waker());
            return Poll::Pending;
        };
        self.after_read(state, n);
        coop.made_progress();
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let mut state = self.conn.lock();
        let limit = buf.remaining();
        let seen = state.connection.peek_with(self.id, limit, |piece| buf.put_slice(piece));
        let Some(n) = self.heard(seen)? else {
            state.wait_readable(self.id, cx.waker());
            return Poll::Pending;
        };
        coop.made_progress();
        Poll::Ready(Ok(n))
    }

    pub(super) fn try_peek(&self, mut buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.conn.lock();
        let seen = state.connection.peek_with(self.id, buf.len(), |piece| put(&mut buf, piece));
        self.heard(seen)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Reads up to `limit` bytes that are there.
    pub(super) fn try_read_with(&self, limit: usize, take: impl FnMut(&[u8])) -> io::Result<usize> {
        let mut state = self.conn.lock();
        let read = state.connection.read_with(self.id, limit, take);
        let n = self.heard(read)?.ok_or(io::ErrorKind::WouldBlock)?;
        self.after_read(state, n);
        Ok(n)
    }

    pub(super) fn try_read(&self, mut buf: &mut [u8]) -> io::Result<usize> {
        self.try_read_with(buf.len(), |piece| put(&mut buf, piece))
    }

    pub(super) fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let limit = bufs.iter().map(|b| b.len()).fold(0, usize::saturating_add);
        let mut bufs = bufs.iter_mut();
        let mut room: &mut [u8] = &mut [];
        self.try_read_with(limit, |mut piece| {
            while !piece.is_empty() {
                while room.is_empty()
                    && let Some(next) = bufs.next()
                {
                    room = next;
                }
                let (now, later) = piece.split_at(piece.len().min(room.len()));
                put(&mut room, now);
                piece = later;
            }
        })
    }

    /// Tells the peer of a window that grew enough to be worth a packet.
    fn after_read(&self, state: std::sync::MutexGuard<'_, State>, n: usize) {
        let due = n > 0 && state.connection.wants_transmit();
        drop(state);
        if due {
            self.conn.wake();
        }
    }

    // ---- writing --------------------------------------------------------------------------------------------

    pub(super) fn poll_write<'a>(
        &self,
        cx: &mut Context<'_>,
        slices: impl IntoIterator<Item = &'a [u8]> + Clone,
    ) -> Poll<io::Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let mut state = self.conn.lock();
        let Some(n) = self.write(&mut state, slices)? else {
            state.wait_writable(self.id, cx.waker());
            return Poll::Pending;
        };
        drop(state);
        self.conn.wake();
        coop.made_progress();
        Poll::Ready(Ok(n))
    }

    pub(super) fn try_write<'a>(
        &self,
        slices: impl IntoIterator<Item = &'a [u8]> + Clone,
    ) -> io::Result<usize> {
        let mut state = self.conn.lock();
        let n = self.write(&mut state, slices)?.ok_or(io::ErrorKind::WouldBlock)?;
        drop(state);
        self.conn.wake();
        Ok(n)
    }

    /// Writes what there is room for; `None` if there is none.
    fn write<'a>(
        &self,
        state: &mut State,
        slices: impl IntoIterator<Item = &'a [u8]> + Clone,
    ) -> io::Result<Option<usize>> {
        match state.connection.write_vectored(self.id, slices.clone()) {
            Ok(0) if slices.into_iter().any(|s| !s.is_empty()) => Ok(None),
            Ok(n) => Ok(Some(n)),
            Err(error) => Err(self.unwritable(error)),
        }
    }

    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.conn.lock();
        self.end(&mut state)?;
        if state.connection.is_finished(self.id) {
            return Poll::Ready(Ok(()));
        }
        state.wait_writable(self.id, cx.waker());
        drop(state);
        self.conn.wake();
        Poll::Pending
    }

    /// Says that no more follows, without waiting for the peer.
    pub(super) fn finish(&self) {
        // A stream that is over already needs no end.
        let _ = self.end(&mut self.conn.lock());
        self.conn.wake();
    }

    fn end(&self, state: &mut State) -> io::Result<()> {
        let was_open = !state.connection.readiness(self.id).write_closed;
        state.connection.finish(self.id).map_err(|error| self.unwritable(error))?;
        if was_open {
            // No event comes of it, and a write is worth a try: it fails.
            self.ready.notify_waiters();
        }
        Ok(())
    }

    // ---- readiness ------------------------------------------------------------------------------------------

    /// What of `interest` the stream can do now; where that is nothing, asks for the event that changes it.
    fn look(&self, state: &mut State, interest: Interest) -> Ready {
        let now = state.connection.readiness(self.id);
        let mut found = Ready::EMPTY;
        let mut add = |holds: bool, what: Ready| found |= if holds { what } else { Ready::EMPTY };
        add(interest.is_readable() && now.readable, Ready::READABLE);
        add(interest.is_readable() && now.read_closed, Ready::READ_CLOSED);
        add(interest.is_writable() && now.writable, Ready::WRITABLE);
        add(interest.is_writable() && now.write_closed, Ready::WRITE_CLOSED);
        if interest.is_error() {
            add(state.connection.failure(self.id).is_some(), Ready::ERROR);
        }
        if found.is_empty() {
            if interest.is_readable() || interest.is_error() {
                state.connection.want_readable(self.id);
            }
            if interest.is_writable() || interest.is_error() {
                state.connection.want_writable(self.id);
            }
        }
        found
    }

    pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        if !(interest.is_readable() || interest.is_writable() || interest.is_error()) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a QSocket stream has no priority data; wait for Interest::READABLE or Interest::WRITABLE",
            ));
        }
        loop {
            let mut changed = pin!(self.ready.notified());
            changed.as_mut().enable();
            {
                let mut state = self.conn.lock();
                let found = self.look(&mut state, interest);
                if !found.is_empty() {
                    return Ok(found);
                }
                state.watch(self.id, &self.ready);
            }
            changed.await;
        }
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.conn.lock();
        if self.look(&mut state, Interest::READABLE).is_empty() {
            state.wait_readable(self.id, cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.conn.lock();
        if self.look(&mut state, Interest::WRITABLE).is_empty() {
            state.wait_writable(self.id, cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    // ---- errors ---------------------------------------------------------------------------------------------

    /// The failure that nobody told the application yet.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        let failure = self.conn.lock().connection.failure(self.id)?;
        (!self.told.swap(true, Ordering::Relaxed)).then(|| failure.into())
    }

    /// An error of reading, of which the application hears now.
    fn heard<T>(&self, result: Result<T, ReadError>) -> io::Result<T> {
        result.map_err(|error| {
            self.told.store(true, Ordering::Relaxed);
            error.into()
        })
    }

    fn unwritable(&self, error: WriteError) -> io::Error {
        // A write after this side's own end is a mistake of the caller and no failure of the stream.
        if error != WriteError::Finished {
            self.told.store(true, Ordering::Relaxed);
        }
        error.into()
    }
}

/// Copies `piece`, which fits, to the front of `room`.
fn put(room: &mut &mut [u8], piece: &[u8]) {
    let (to, later) = std::mem::take(room).split_at_mut(piece.len());
    to.copy_from_slice(piece);
    *room = later;
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut state = self.conn.lock();
        state.forget(self.id);
        if *self.abort_on_drop.get_mut() {
            state.connection.reset(self.id, 0);
        }
        state.connection.release(self.id);
        drop(state);
        self.conn.wake();
    }
}
