//! One connection between a client and a server: streams, blocks, acknowledgements, recovery.
//!
//! A [`Connection`] does no I/O. Frames and time go in, frames and deadlines come out:
//!
//! - `&self` getters tell how it stands;
//! - `handle_*` take what happened: a frame on a path, a path that came or went, a deadline that passed;
//! - plain verbs ([`write`](Connection::write), [`read`](Connection::read), [`finish`](Connection::finish), ..)
//!   are commands of the application; they never wait, "not now" is a value;
//! - [`transmit`](Connection::transmit), [`poll_event`](Connection::poll_event) and
//!   [`poll_timeout`](Connection::poll_timeout) give what follows from it.
//!
//! After any input or command, drain in this order: `transmit` until it changes nothing, `poll_event` until it is
//! `None`, then sleep until `poll_timeout` or the next input.
//!
//! The way of the bytes: `egress.rs` from the send buffer to the hops, `ingress.rs` from a hop to the reader.

mod buffers;
mod config;
mod egress;
mod error;
mod ingress;
mod keys;
mod opening;
mod packets;
mod parking;
mod paths;
mod readiness;
mod recv;
mod rtt;
mod send;
mod stats;

pub use config::{Config, ParityPolicy, Redundancy};
pub use egress::Transmitted;
pub use error::{ConnectionError, Delivery, ReadError, WriteError};
pub use keys::KeyLimits;
pub use opening::Dial;
pub(crate) use opening::{Accept, ReplyBytes, read_hello, reply_aad};
pub use readiness::{Readiness, StreamFailure};
pub(crate) use recv::Assembly;
pub use stats::{PathStats, PathStatus, Repairs, Stats};

#[cfg(test)]
mod tests;

use crate::control::ControlFrame;
use crate::endpoint::Input;
use crate::frame::RouteError;
use crate::hop::Outbox;
use crate::ids::{
    ConnectionId, Direction, HopAt, KeyId, PathId, PathSet, Principal, RELAYS, RouteId, SIXTEEN, StreamId,
};
use crate::open::{Parameters, Refusal};
use crate::path::PathCounter;
pub(crate) use buffers::Buffers;
use keys::{RecvKeys, SendKeys};
use opening::Opening;
use packets::{Heard, Speaker, Topic};
use parking::Parking;
use paths::{Joined, Paths};
use recv::RecvStream;
use rtt::Rtt;
use send::SendStream;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client gives an open up after this long.
pub const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// A server forgets a connection that its client does not confirm within this time.
pub const CONFIRM_DEADLINE: Duration = Duration::from_secs(10);

/// An acknowledgement waits at most this long for company.
pub const MAX_ACK_DELAY: Duration = Duration::from_millis(5);

/// Small writes wait at most this long for company where [`Config::nodelay`] is off: about what TCP's own
/// delayed acknowledgement costs at worst, so that a program tuned for TCP finds nothing slower.
pub const MAX_HOLD: Duration = Duration::from_millis(200);

/// A stream that was opened and not written to waits this long for its first bytes before an empty block opens it:
/// whoever writes at once saves a block of 25 stripes and its acknowledgement, and whoever waits for the peer to speak first
/// loses a millisecond. The client's confirmation of a connection waits as long, for the first stream to go with it.
pub const OPENING_HOLD: Duration = Duration::from_millis(1);

/// Relays whose word ends something: one more than may be missing or lie.
pub(crate) const TEN: usize = RELAYS - SIXTEEN + 1;

/// Code of a CLOSE that takes back a client's permission; 0 is a planned end, 1 a breach of the protocol.
pub const CLOSE_REVOKED: u32 = 2;

/// Streams that wait for `accept` before further ones are refused.
pub const ACCEPT_BACKLOG: usize = 1024;

/// Memory that the blocks of all streams may take beyond the window of the connection: entries, heads and padding. A
/// sixteenth of the window comes on top, as for a stream.
const OVERHEAD_BYTES: u64 = 1 << 20;

/// Further memory that only blocks for which their streams wait may take, so that blocks behind gaps never keep the gaps from
/// being closed: sixteen of the largest.
const GAP_BYTES: u64 = 4 << 20;

/// Where a connection puts its frames: the outboxes of the 25 hops.
pub trait Hops {
    /// Bytes that the outbox of a hop takes now; 0 if the hop is down or its queue is full.
    fn room(&mut self, at: HopAt) -> usize;

    /// Hands over the outbox of a hop; `None` if it is down.
    fn outbox<R>(&mut self, at: HopAt, write: impl FnOnce(&mut Outbox) -> R) -> Option<R>;
}

/// What happened that the application may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection is open: keys are agreed and both sides proved themselves.
    Established,
    /// [`Connection::open`] may succeed where it gave `None`.
    StreamsAllowed,
    /// [`Connection::accept`] has a stream.
    StreamOpened,
    /// A read that found nothing is worth another try.
    Readable(StreamId),
    /// A write that found no room, or a [`finish`](Connection::finish), is worth another look.
    Writable(StreamId),
    /// What this path brought failed to open too often: its relay alters what it carries. Nothing from it is read in
    /// this connection any more.
    Distrusted(PathId),
    /// The connection ended; [`Connection::error`] tells why.
    Closed,
}

#[derive(Debug)]
enum State {
    /// Client: OPEN is out.
    Opening(Box<Opening>),
    /// Server: the reply is out, the client's first phase-1 frame is not in.
    Unconfirmed,
    Open,
    /// CLOSE is to be said, and then nothing more.
    Closing,
    Closed,
}

/// What is mixed into a connection's keys besides the shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Security {
    /// The id of the Encryption key of both principals, if there is one.
    pub encryption_key: Option<KeyId>,
    /// An ML-KEM-768 secret, and with it forward secrecy.
    pub ml_kem: bool,
}

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

impl Side {
    /// The direction of what this end sends.
    pub const fn direction(self) -> Direction {
        match self {
            Self::Client => Direction::ToServer,
            Self::Server => Direction::ToClient,
        }
    }
}

#[derive(Debug)]
struct Stream {
    send: SendStream,
    recv: RecvStream,
    /// It was put before the application (a peer's stream).
    offered: bool,
    /// The application let go of it.
    released: bool,
    /// Taken back from the application.
    revoked: Option<Refusal>,
}

/// Windows of the whole connection.
#[derive(Debug)]
struct Flow {
    sent: u64,
    max_send: u64,
    /// Sum over the streams of the highest offset that arrived.
    arrived: u64,
    read: u64,
    max_receive: u64,
    window: u64,
    streams_opened: u32,
    max_streams: u32,
    /// What the peer may open; grows as its streams end.
    peer_max_streams: u32,
    peer_streams_ended: u32,
}

/// One connection. See the [module](self) for the order of calls.
#[derive(Debug)]
pub struct Connection {
    side: Side,
    id: ConnectionId,
    client: Principal,
    server: Principal,
    source: SocketAddr,
    destination: SocketAddr,
    /// The encoded header, for OPEN and ATTACH.
    header: Arc<[u8]>,
    config: Arc<Config>,
    state: State,
    error: Option<ConnectionError>,
    paths: Paths,
    /// The client's route id, the same on every hop.
    route: RouteId,
    send_keys: Option<SendKeys>,
    recv_keys: Option<RecvKeys>,
    reply: Option<ReplyBytes>,
    /// Paths on which the reply is still to be sent (server).
    reply_due: PathSet,
    speaker: Speaker,
    heard: Heard,
    streams: BTreeMap<StreamId, Stream>,
    /// The memory of all their blocks.
    held: u64,
    /// For the next blocks, in either direction.
    buffers: Buffers,
    /// Streams with something to send or unacknowledged.
    sending: BTreeSet<StreamId>,
    /// Behind the stream whose block was frozen last.
    sending_cursor: StreamId,
    /// Of these, streams of whose blocks stripes may be due.
    owing: BTreeSet<StreamId>,
    /// Of these, streams whose next block may be held: they are not opened yet, or small writes wait for company.
    holding: BTreeSet<StreamId>,
    /// When the first block that is held leaves at the latest; settled by every `transmit`.
    held_until: Option<Instant>,
    /// When the client confirms the connection at the latest, if it has not yet.
    confirm_at: Option<Instant>,
    /// When to look at blocks that are with the peer in part.
    late: BTreeSet<(Instant, StreamId, u64)>,
    next_local: u32,
    next_peer: u32,
    accept_queue: VecDeque<StreamId>,
    flow: Flow,
    parking: Parking,
    /// Streams of which the next ACK speaks.
    ack_streams: BTreeSet<StreamId>,
    /// Streams that are forgotten and whose last blocks are to be acknowledged: every block below the number.
    /// At most as many as one ACK names; a peer that misses one asks again.
    ack_gone: BTreeMap<StreamId, u64>,
    /// Blocks and bytes that arrived since the last ACK.
    ack_blocks: u32,
    ack_bytes: usize,
    ack_at: Option<Instant>,
    /// No path took the last control packet: only an input changes that.
    control_blocked: bool,
    /// The next ACK answers something that its peer waits for.
    ack_wide: bool,
    /// Blocks that are solvable and wait for their data stripes a moment longer.
    patience: BTreeSet<(StreamId, u64)>,
    rtt: Rtt,
    attempts: u32,
    last_progress: Instant,
    /// Since when this process has run without a long break: round trips are measured from here on.
    woke: Instant,
    last_heard: Instant,
    /// When the last ACK came.
    last_ack: Instant,
    last_ping: Instant,
    idle: Duration,
    deadline: Option<Instant>,
    unknown: PathSet,
    failed: PathSet,
    events: VecDeque<Event>,
    parity: Vec<u8>,
    stats: Stats,
}

impl Connection {
    /// Names the connection.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Which end this is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The client's principal: for a server, the peer that 16 relays vouch for.
    pub fn client(&self) -> Principal {
        self.client
    }

    /// The server's principal: for a client, the peer that proved itself by the key.
    pub fn server(&self) -> Principal {
        self.server
    }

    /// The client's address as its OPEN stated it. Stated by the peer, seen by nobody else.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// The address that the client asked for, one that the server registered.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// Whether streams can be opened and accepted.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether the connection ended and has nothing more to say.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether the peer confirmed the connection or it is this end that opened it.
    pub fn is_confirmed(&self) -> bool {
        !matches!(self.state, State::Unconfirmed | State::Opening(_))
    }

    /// Why the connection ended.
    pub fn error(&self) -> Option<&ConnectionError> {
        self.error.as_ref()
    }

    /// What is mixed into the keys; settled once the connection is open.
    pub fn security(&self) -> Security {
        Security { encryption_key: self.stats.encryption_key, ml_kem: self.stats.ml_kem }
    }

    /// Whether something is to be said that [`transmit`](Self::transmit) would write.
    pub fn wants_transmit(&self) -> bool {
        self.speaker.has_due()
    }

    /// How many streams are open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        for (id, path) in self.paths.iter() {
            stats.paths[id.index()] = path.stats();
        }
        stats.phase = self.send_keys.as_ref().map_or(0, SendKeys::phase);
        stats
    }

    /// The paths that carry the connection and owe it nothing: those that stats call [`PathStatus::Live`].
    pub fn paths_well(&self) -> PathSet {
        self.paths.set(|path| path.status() == PathStatus::Live)
    }

    /// Bytes that the connection holds for its streams: for tests of bounds.
    pub fn memory(&self) -> u64 {
        debug_assert_eq!(self.held, self.streams.values().map(|s| s.recv.memory()).sum::<u64>());
        self.parking.bytes() as u64 + self.held
    }

    /// Lets the receiving half of a stream do something that may change what it holds.
    fn with_recv<R>(
        &mut self,
        id: StreamId,
        work: impl FnOnce(&mut RecvStream, &mut Buffers) -> R,
    ) -> Option<R> {
        let recv = &mut self.streams.get_mut(&id)?.recv;
        let before = recv.memory();
        let done = work(recv, &mut self.buffers);
        self.held = self.held - before + recv.memory();
        Some(done)
    }

    /// Whether the blocks of all streams leave room for one more, or for more of one.
    fn has_room(&self, id: StreamId, block: u64, block_len: u32) -> bool {
        let Some(stream) = self.streams.get(&id) else { return false };
        let (window, charge) = (self.config.connection_window, stream.recv.charge(block, block_len));
        let gap = if stream.recv.is_next(block) { GAP_BYTES } else { 0 };
        charge == 0 || self.held + charge <= window + window / 16 + OVERHEAD_BYTES + gap
    }

    // ---- commands -------------------------------------------------------------------------------------------

    /// Opens a stream to `resource` (at most 255 bytes). `None` while the peer allows no further one. The peer hears of it
    /// with the first bytes, or after [`OPENING_HOLD`].
    ///
    /// # Errors
    /// The error of the connection, once it ended.
    pub fn open(&mut self, resource: &[u8]) -> Result<Option<StreamId>, ConnectionError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if !self.is_open() || self.flow.streams_opened >= self.flow.max_streams {
            return Ok(None);
        }
        let id = StreamId(self.next_local);
        self.next_local += 2;
        self.flow.streams_opened += 1;
        let name = resource.get(..resource.len().min(usize::from(u8::MAX))).unwrap_or_default();
        self.add_stream(id, name.to_vec());
        self.has_to_send(id);
        Ok(Some(id))
    }

    /// Takes a stream that the peer opened, with the name of its resource.
    pub fn accept(&mut self) -> Option<(StreamId, Vec<u8>)> {
        let id = self.accept_queue.pop_front()?;
        let resource = self.streams.get(&id).map(|s| s.recv.resource().to_vec()).unwrap_or_default();
        Some((id, resource))
    }

    /// Takes bytes to send, as many as the send buffer has room for; 0 means "wait for [`Event::Writable`]".
    ///
    /// # Errors
    /// [`WriteError`] once the stream takes no more.
    pub fn write(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, WriteError> {
        self.write_vectored(id, std::iter::once(bytes))
    }

    /// Takes bytes from several slices in one go.
    ///
    /// # Errors
    /// [`WriteError`] once the stream takes no more.
    pub fn write_vectored<'a>(
        &mut self,
        id: StreamId,
        slices: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<usize, WriteError> {
        let delivery = self.delivery(id);
        if let Some(error) = &self.error {
            return Err(WriteError::Lost { delivery, cause: error.clone() });
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(WriteError::Finished);
        };
        if let Some(reason) = stream.revoked {
            return Err(WriteError::Revoked(reason));
        }
        if let Some(code) = stream.send.reset_code() {
            return Err(WriteError::Stopped(code));
        }
        if !stream.send.is_open() {
            return Err(WriteError::Finished);
        }
        let mut taken = 0;
        let mut offered = false;
        for bytes in slices {
            offered |= !bytes.is_empty();
            let n = bytes.len().min(stream.send.room(self.config.send_buffer));
            let Some(now) = bytes.get(..n).filter(|b| !b.is_empty()) else { continue };
            stream.send.write(now, &mut self.buffers);
            taken += n;
        }
        // Never unset here: another may wait, for room or for its FIN.
        stream.send.writer_waits |= offered && taken == 0;
        if taken > 0 {
            self.has_to_send(id);
        }
        Ok(taken)
    }

    /// Reads bytes that arrived. `Ok(None)` means "wait for [`Event::Readable`]"; `Ok(Some(0))` for a buffer that
    /// is not empty is the end of the stream, and comes only after a sealed FIN and every byte before it.
    ///
    /// # Errors
    /// [`ReadError`] if the stream ended in any other way.
    pub fn read(&mut self, id: StreamId, buf: &mut [u8]) -> Result<Option<usize>, ReadError> {
        let mut rest = &mut *buf;
        self.read_with(id, rest.len(), |piece| {
            let (to, later) = std::mem::take(&mut rest).split_at_mut(piece.len());
            to.copy_from_slice(piece);
            rest = later;
        })
    }

    /// Says that no more bytes follow. [`is_finished`](Self::is_finished) turns true, with an
    /// [`Event::Writable`], when the peer has them all and the FIN.
    ///
    /// # Errors
    /// [`WriteError`] if that cannot happen any more.
    pub fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        let delivery = self.delivery(id);
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(WriteError::Finished);
        };
        if stream.send.is_acked() {
            return Ok(());
        }
        if let Some(reason) = stream.revoked {
            return Err(WriteError::Revoked(reason));
        }
        if let Some(code) = stream.send.reset_code() {
            return Err(WriteError::Stopped(code));
        }
        if let Some(error) = &self.error {
            return Err(WriteError::Lost { delivery, cause: error.clone() });
        }
        stream.send.finish();
        stream.send.writer_waits = true;
        self.has_to_send(id);
        Ok(())
    }

    /// Whether the peer acknowledged every byte and the FIN.
    pub fn is_finished(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|s| s.send.is_acked())
    }

    /// Whether everything written was acknowledged by the peer.
    pub fn is_flushed(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_none_or(|s| !s.send.has_unacked() && !s.send.has_pending())
    }

    /// Gives the sending half up: the peer reads an error, never a clean end.
    pub fn reset(&mut self, id: StreamId, code: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(final_size) = stream.send.reset(code) {
            self.speaker.say(Topic::Reset(id), ControlFrame::Reset { stream: id, code, final_size });
            self.sending.remove(&id);
        }
    }

    /// Wants no more of the receiving half: the peer's writes fail.
    pub fn stop(&mut self, id: StreamId, code: u32) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.recv.is_stopped() || stream.recv.is_finished() {
            return;
        }
        let has_fin = stream.recv.has_fin();
        self.with_recv(id, |recv, _| recv.stop());
        self.patience.retain(|(stream, _)| *stream != id);
        if !has_fin {
            self.speaker.say(Topic::Stop(id), ControlFrame::Stop { stream: id, code });
        }
        self.update_windows(id);
    }

    /// Refuses a stream that the peer opened: both halves end with the reason.
    pub fn refuse(&mut self, id: StreamId, reason: Refusal) {
        self.reset(id, reason as u32);
        self.stop(id, reason as u32);
        self.release(id);
    }

    /// Takes a stream back from the application: both halves end with the reason, here and at the peer. What was
    /// not read yet is not read any more. The application still lets go of it, with [`release`](Self::release).
    pub fn revoke(&mut self, id: StreamId, reason: Refusal) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.revoked = Some(reason);
        self.reset(id, reason as u32);
        self.stop(id, reason as u32);
        self.wake_reader(id);
        self.wake_writer(id);
    }

    /// Takes every stream back and ends the connection with [`CLOSE_REVOKED`]: for a peer that may not have it any
    /// more.
    pub fn revoke_all(&mut self, now: Instant) {
        let ids: Vec<_> = self.streams.keys().copied().collect();
        for id in ids {
            self.revoke(id, Refusal::Revoked);
        }
        self.close(now, CLOSE_REVOKED, "the permission was taken back");
    }

    /// The application lets go of a stream. What was not finished is given up; a FIN that is on its way, with
    /// the bytes before it, is still delivered.
    pub fn release(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.released = true;
        if stream.send.is_open() {
            self.reset(id, 0);
        }
        self.stop(id, 0);
        self.collect(id);
    }

    /// Ends the connection. Streams without an acknowledged FIN end in an error on both sides.
    pub fn close(&mut self, now: Instant, code: u32, reason: &str) {
        match self.state {
            State::Open => {
                self.speaker.say(Topic::Close, ControlFrame::Close { code, reason: reason.to_owned() });
                self.fail(ConnectionError::ClosedHere);
                self.state = State::Closing;
                self.deadline = Some(now + self.rtt.timeout(3, MAX_ACK_DELAY));
            }
            State::Opening(_) | State::Unconfirmed => {
                self.fail(ConnectionError::ClosedHere);
                self.state = State::Closed;
            }
            State::Closing | State::Closed => {}
        }
    }

    // ---- inputs ---------------------------------------------------------------------------------------------

    /// The hop to a relay stands (client): the connection announces itself on it.
    pub fn handle_path_up(&mut self, now: Instant, path: PathId) {
        let p = self.paths.get_mut(path);
        p.hop_up = true;
        p.announce = true;
        p.retry_at = Some(now);
    }

    /// The hop to a relay broke: what was under way on it is lost. Nothing happens if another hop of the path carries the
    /// connection meanwhile.
    pub fn handle_path_down(&mut self, now: Instant, at: impl Into<HopAt>) {
        let HopAt { path, nth } = at.into();
        let p = self.paths.get_mut(path);
        if p.nth != nth {
            return;
        }
        p.hop_up = false;
        p.announce = false;
        p.retry_at = None;
        p.down();
        self.speaker.forget_path(path);
        self.reply_due.remove(path);
        self.mend_path(now, path);
    }

    /// OPEN or ATTACH for this connection came in on a path (server).
    fn handle_join(
        &mut self,
        now: Instant,
        (at, route): (HopAt, RouteId),
        opened: bool,
        before: PathCounter,
    ) {
        let path = at.path;
        let p = self.paths.get_mut(path);
        if p.route.is_some() {
            p.down();
        }
        p.hop_up = true;
        p.counter.add(before);
        p.route = Some(route);
        p.nth = at.nth;
        p.joined = if opened { Joined::Opened } else { Joined::Attached };
        if self.reply.is_some() && opened {
            self.reply_due.insert(path);
        }
        self.mend_path(now, path);
    }

    /// A relay, or the server through it, ended the route on one path. Advice about that path: ten unknown
    /// connections end it, fewer never do.
    fn handle_route_error(&mut self, now: Instant, path: PathId, reason: RouteError) {
        let p = self.paths.get_mut(path);
        p.last_error = Some(reason);
        p.down();
        self.speaker.forget_path(path);
        if self.side == Side::Client && p.hop_up {
            p.back_off(now);
        }
        self.failed.insert(path);
        if reason == RouteError::UnknownConnection {
            self.unknown.insert(path);
        }
        match self.state {
            State::Opening(_) if self.failed.len() >= TEN => {
                self.end(ConnectionError::Unreachable(reason));
            }
            State::Open if self.unknown.len() >= TEN => self.end(ConnectionError::Reset),
            _ => self.mend_path(now, path),
        }
    }

    /// Takes what the endpoint found in a frame.
    pub fn handle_input(&mut self, now: Instant, path: PathId, input: Input<'_>) {
        match input {
            Input::Data { offset, payload } => self.handle_data(now, path, offset, payload),
            Input::Congested { bytes } => self.paths.get_mut(path).flow.on_congested(now, bytes),
            Input::RouteError { reason } => self.handle_route_error(now, path, reason),
            Input::Detached => self.handle_route_error(now, path, RouteError::Lost),
            Input::Join { nth, route, opened, before } => {
                self.handle_join(now, (HopAt { path, nth }, route), opened, before);
            }
        }
    }

    /// A deadline passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|t| t <= now) {
            self.deadline = None;
            match self.state {
                State::Opening(_) => self.end(ConnectionError::OpenTimeout),
                State::Unconfirmed => self.end(ConnectionError::Unconfirmed),
                State::Closing => self.state = State::Closed,
                State::Open | State::Closed => {}
            }
        }
        if !self.is_open() && !matches!(self.state, State::Closing) {
            return;
        }
        if now.duration_since(self.last_heard) >= self.idle {
            self.end(ConnectionError::Idle);
            return;
        }
        let quiet = now.duration_since(self.last_heard.max(self.last_ping));
        if quiet >= self.idle / 4 && !self.streams.is_empty() {
            self.buffers.clear();
            self.last_ping = now;
            self.speaker.say(Topic::Ping, ControlFrame::Ping);
        }
        self.lose_patience(now);
        self.notice_sleep(now);
        self.look_for_late(now);
        if self.probe_at().is_some_and(|t| t <= now) {
            self.probe(now);
        }
    }

    // ---- outputs --------------------------------------------------------------------------------------------

    /// What the application may want to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and [`transmit`](Self::transmit) at the latest, and
    /// what for. `None` when only an input changes anything.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.is_closed() {
            return None;
        }
        let established = self.is_open() || matches!(self.state, State::Closing);
        let retry =
            self.paths.iter().filter(|(_, p)| p.announce && p.hop_up).filter_map(|(_, p)| p.retry_at).min();
        let keepalive =
            (!self.streams.is_empty()).then(|| self.last_heard.max(self.last_ping) + self.idle / 4);
        [
            (self.deadline, "deadline of an open or a close"),
            (retry, "another try to join a path"),
            (self.ack_at.filter(|_| established && !self.control_blocked), "delayed acknowledgement"),
            (self.patience_at(), "patience with data stripes"),
            (self.held_until.filter(|_| established), "small writes and openings that are held"),
            (self.confirm_at.filter(|_| established), "a confirmation that waits for the first stream"),
            (self.late.first().map(|(at, ..)| *at).filter(|_| established), "something late"),
            (if established { self.probe_at() } else { None }, "something unacknowledged"),
            (if established { Some(self.last_heard + self.idle) } else { None }, "idle limit"),
            (if established { keepalive } else { None }, "keepalive"),
        ]
        .into_iter()
        .filter_map(|(at, why)| at.map(|at| (at, why)))
        .min_by_key(|(at, _)| *at)
    }

    // ---- inner parts that several files use -----------------------------------------------------------------

    /// The stream has something to send.
    fn has_to_send(&mut self, id: StreamId) {
        self.sending.insert(id);
        if self.streams.get(&id).is_some_and(|s| s.send.may_hold()) {
            self.holding.insert(id);
        }
    }

    fn add_stream(&mut self, id: StreamId, resource: Vec<u8>) {
        let peer = self.peer_parameters();
        let send = SendStream::new(resource, peer.max_stream_data, self.config.nodelay);
        // Two streams whose readers kept up and then stopped fill the connection's window, and no single one.
        let recv = RecvStream::new(self.config.stream_window, self.config.connection_window / 2);
        self.streams.insert(id, Stream { send, recv, offered: false, released: false, revoked: None });
    }

    fn peer_parameters(&self) -> Parameters {
        self.reply.as_ref().map_or_else(|| self.config.parameters(), |r| r.peer)
    }

    fn is_local(&self, id: StreamId) -> bool {
        (id.0 % 2 == 1) == (self.side == Side::Client)
    }

    fn delivery(&self, id: StreamId) -> Delivery {
        match self.streams.get(&id) {
            Some(s) if s.send.was_used() => Delivery::MaybeDelivered,
            _ => Delivery::NotSent,
        }
    }

    /// Says what the peer may send from now on, where that is worth saying.
    fn update_windows(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.flow.read += stream.recv.take_credit();
            if let Some(max) = stream.recv.window_update() {
                self.speaker.say(Topic::MaxStreamData(id), ControlFrame::MaxStreamData(id, max));
            }
        }
        let wanted = self.flow.read + self.flow.window;
        if wanted - self.flow.max_receive >= self.flow.window / 2 {
            self.flow.max_receive = wanted;
            self.speaker.say(Topic::MaxData, ControlFrame::MaxData(wanted));
        }
    }

    /// Forgets a stream that is over on both sides and in the application.
    fn collect(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        // A stream that this end stopped stays until its final size is known, by FIN or by the answer to STOP: what is
        // on its way counts against the connection's window, and must be given back.
        if !(stream.released && stream.send.is_finished() && stream.recv.is_finished()) {
            return;
        }
        // The last moment: a stream that is reset before anything of it arrived is over at once.
        self.update_windows(id);
        let Some(stream) = self.streams.get(&id) else { return };
        if self.ack_streams.remove(&id) {
            let next = stream.recv.ack(id).next;
            self.acknowledge_gone(id, next);
        }
        if let Some(stream) = self.streams.remove(&id) {
            self.held -= stream.recv.memory();
        }
        if self.streams.is_empty() {
            self.buffers.clear();
        }
        self.sending.remove(&id);
        self.patience.retain(|(stream, _)| *stream != id);
        self.parking.forget_stream(id, &mut self.paths);
        self.speaker.forget_window(id);
        if !self.is_local(id) {
            self.flow.peer_streams_ended += 1;
            let allowed = self.flow.peer_streams_ended.saturating_add(self.config.max_streams);
            if allowed - self.flow.peer_max_streams >= self.config.max_streams.div_ceil(4) {
                self.flow.peer_max_streams = allowed;
                self.speaker.say(Topic::MaxStreams, ControlFrame::MaxStreams(allowed));
            }
        }
    }

    /// Ends the connection at once, without a word to the peer.
    fn end(&mut self, error: ConnectionError) {
        self.fail(error);
        self.state = State::Closed;
        self.deadline = None;
    }

    /// Ends the connection because the peer broke a rule under its own seal, and says so.
    fn misbehaved(&mut self, now: Instant, what: &'static str) {
        if self.is_open() {
            self.speaker.say(Topic::Close, ControlFrame::Close { code: 1, reason: what.to_owned() });
            self.fail(ConnectionError::Misbehaved(what));
            self.state = State::Closing;
            self.deadline = Some(now + self.rtt.timeout(3, MAX_ACK_DELAY));
        } else {
            self.end(ConnectionError::Misbehaved(what));
        }
    }

    fn fail(&mut self, error: ConnectionError) {
        if self.error.is_none() {
            self.error = Some(error);
            for (id, stream) in &mut self.streams {
                if std::mem::take(&mut stream.recv.reader_waits) {
                    self.events.push_back(Event::Readable(*id));
                }
                if std::mem::take(&mut stream.send.writer_waits) {
                    self.events.push_back(Event::Writable(*id));
                }
            }
            self.sending.clear();
            self.owing.clear();
            self.holding.clear();
            self.patience.clear();
            self.events.push_back(Event::Closed);
        }
    }

    fn wake_reader(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && std::mem::take(&mut stream.recv.reader_waits)
        {
            self.events.push_back(Event::Readable(id));
        }
    }

    fn wake_writer(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && std::mem::take(&mut stream.send.writer_waits)
        {
            self.events.push_back(Event::Writable(id));
        }
    }
}
