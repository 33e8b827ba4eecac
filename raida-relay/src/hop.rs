//! One hop after its handshake: its socket, what waits for it, and the task that serves it.

use crate::calls::Reply;
use crate::meter::Meter;
use crate::state::{Batch, Core, lock};
use qsocket_net::Socket;
use qsocket_net::clock::now;
use qsocket_proto::call::{Calls, MAX_CALLS};
use qsocket_proto::frame::{CloseReason, Frame};
use qsocket_proto::hop::{Beat, Full, Inbox, Keepalive, Opener, RecordError, Sealer};
use qsocket_proto::ids::{Principal, Role, RouteId};
use qsocket_proto::relay::{Congestion, Egress, HopId, Losses};
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::sleep_until;

/// Why a hop ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Record(#[from] RecordError),
    #[error("closed by this side: {0:?}")]
    Reason(CloseReason),
}

impl End {
    /// What the peer is told, if it still listens.
    fn reason(&self) -> Option<CloseReason> {
        match self {
            Self::Closed | Self::Io(_) => None,
            Self::Record(_) => Some(CloseReason::Protocol),
            Self::Reason(reason) => Some(*reason),
        }
    }
}

/// A hop as others see it: they queue frames and flush.
#[derive(Debug)]
pub(crate) struct Hop {
    pub(crate) id: HopId,
    /// The peer.
    pub(crate) principal: Principal,
    /// Of the peer.
    pub(crate) role: Role,
    stream: Socket,
    out: Mutex<Out>,
    /// Tells the hop's task to look at the flags.
    wake: Notify,
    /// The socket took no more: the hop's task waits until it does, nobody else writes.
    blocked: AtomicBool,
    /// The hop's task ends.
    closing: AtomicBool,
    /// The hop's task reads no more, and ends when what waits is out.
    draining: AtomicBool,
    /// The byte quota of the principal.
    meter: Arc<Meter>,
    losses: Mutex<Losses>,
    /// Places for calls of the peer that are not answered.
    pub(crate) calls: Arc<Semaphore>,
    /// Calls to the peer that it has not answered.
    pub(crate) asked: Mutex<Calls<oneshot::Sender<Reply>>>,
}

#[derive(Debug)]
struct Out {
    egress: Egress,
    sealer: Sealer,
    /// Since when the socket takes nothing.
    stalled: Option<Instant>,
    end: Option<End>,
}

impl Out {
    /// Seals and writes until nothing waits (true) or the socket takes no more (false).
    fn write(&mut self, now: Instant, stream: &Socket) -> Result<bool, End> {
        loop {
            self.egress.pump();
            let outbox = self.egress.outbox();
            self.sealer.seal(now, outbox)?;
            if outbox.wire().is_empty() {
                self.stalled = None;
                return Ok(true);
            }
            match stream.try_write(outbox.wire()) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(n) => {
                    outbox.consume(n);
                    self.stalled = None;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled.get_or_insert(now);
                    return Ok(false);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Hop {
    pub(crate) fn new(
        id: HopId,
        (principal, role): (Principal, Role),
        stream: Socket,
        egress: Egress,
        sealer: Sealer,
        meter: Arc<Meter>,
    ) -> Self {
        Self {
            id,
            principal,
            role,
            stream,
            out: Mutex::new(Out { egress, sealer, stalled: None, end: None }),
            wake: Notify::new(),
            blocked: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            meter,
            losses: Mutex::default(),
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            asked: Mutex::default(),
        }
    }

    /// Queues a control frame; call [`Hop::flush`] at the end of the batch.
    pub(crate) fn control(&self, frame: &Frame<'_>) -> Result<(), Full> {
        if let Frame::Detach { route } | Frame::RouteError { route, .. } = frame {
            lock(&self.losses).forget(*route);
        }
        lock(&self.out).egress.control(frame)
    }

    /// Queues DATA or drops it; call [`Hop::flush`] at the end of the batch.
    pub(crate) fn data(
        &self,
        now: Instant,
        route: RouteId,
        offset: u32,
        payload: &[u8],
        origin: (HopId, RouteId),
    ) -> Option<Congestion> {
        lock(&self.out).egress.data(now, route, offset, payload, origin)
    }

    /// Drops what waits for a route that the peer ended.
    pub(crate) fn forget(&self, route: RouteId) {
        lock(&self.losses).forget(route);
        lock(&self.out).egress.forget(route);
    }

    /// Whether the principal may send these bytes now.
    pub(crate) fn within_quota(&self, now: Instant, bytes: usize) -> bool {
        self.meter.take(now, bytes)
    }

    /// Notes DATA of a route that stands as dropped for the quota; returns what to tell the peer.
    pub(crate) fn over_quota(&self, now: Instant, route: RouteId, bytes: usize) -> Option<Congestion> {
        lock(&self.losses).dropped(now, self.id, route, bytes)
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        lock(&self.out).egress.queued_bytes()
    }

    /// Seals and writes what waits, unless the socket is known to be full.
    pub(crate) fn flush(&self, now: Instant) {
        if !self.blocked.load(Ordering::Acquire) {
            self.write(now);
        }
    }

    fn write(&self, now: Instant) {
        let mut out = lock(&self.out);
        match out.write(now, &self.stream) {
            Ok(idle) => {
                let was = self.blocked.swap(!idle, Ordering::AcqRel);
                if !idle && !was {
                    self.wake.notify_one();
                }
            }
            Err(end) => {
                drop(out);
                self.end(end);
            }
        }
    }

    /// Has the hop's task tell the peer and end.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.end(End::Reason(reason));
    }

    /// Has the hop's task let out what waits, tell the peer and end. It reads no more.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Writes all that waits.
    async fn let_out(&self) -> Result<(), End> {
        loop {
            self.stream.writable().await?;
            let mut out = lock(&self.out);
            if out.write(now(), &self.stream)? {
                return Ok(());
            }
        }
    }

    fn end(&self, end: End) {
        lock(&self.out).end.get_or_insert(end);
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    fn ended(&self) -> Option<End> {
        self.closing.load(Ordering::Acquire).then(|| lock(&self.out).end.take().unwrap_or(End::Closed))
    }

    /// Since when the peer takes nothing.
    fn stalled(&self) -> Option<Instant> {
        if self.blocked.load(Ordering::Acquire) { lock(&self.out).stalled } else { None }
    }

    /// Tries to tell the peer why; nothing waits for it.
    fn farewell(&self, now: Instant, reason: CloseReason) {
        let mut out = lock(&self.out);
        if out.egress.control(&Frame::Close { reason }).is_ok() {
            // The hop is over either way.
            let _ = out.write(now, &self.stream);
        }
    }

    /// Gives up the calls that the peer has not answered: it will not.
    pub(crate) fn forget_calls(&self) {
        lock(&self.asked).clear();
    }

    /// Ends the connection in both directions now, whoever still holds the hop.
    pub(crate) fn shut_down(&self) {
        self.forget_calls();
        // An error says that it has ended already.
        let _ = self.stream.shut_down(Shutdown::Both);
    }
}

enum Event {
    Look,
    Read(io::Result<()>),
    Write,
    Timer,
}

/// Serves a hop until it ends. Reads whatever other hops do.
pub(crate) async fn run(core: &Arc<Core>, hop: &Hop, mut opener: Opener, mut inbox: Inbox) -> End {
    let stall_limit = core.limits.stalled;
    let mut keepalive = Keepalive::new(now());
    let mut batch = Batch::default();
    // They stand from turn to turn: most turns are a read, and what else may happen costs such a turn no more than a look.
    let (sleep, looked) = (sleep_until(keepalive.poll_timeout().into()), hop.wake.notified());
    let readable = hop.stream.readable();
    tokio::pin!(sleep, looked, readable);
    // Records may have come together with FINISH.
    let mut fresh = true;
    loop {
        if let Some(end) = hop.ended() {
            return finish(hop, end);
        }
        if hop.draining.load(Ordering::Acquire) {
            return drained(hop).await.unwrap_or_else(|end| end);
        }
        if fresh {
            fresh = false;
            if let Err(end) = core.forward(hop, &mut opener, &mut inbox, &mut keepalive, &mut batch) {
                return finish(hop, end);
            }
            tokio::task::coop::consume_budget().await;
        }
        let stalled = hop.stalled().map(|at| at + stall_limit);
        if let Some(at) = stalled
            && at < sleep.deadline().into_std()
        {
            sleep.as_mut().reset(at.into());
        }
        // The read comes last: it may be ready for ever.
        let event = tokio::select! {
            biased;
            () = &mut looked => {
                looked.set(hop.wake.notified());
                Event::Look
            }
            _ = hop.stream.writable(), if hop.blocked.load(Ordering::Acquire) => Event::Write,
            () = &mut sleep => Event::Timer,
            ready = &mut readable => {
                readable.set(hop.stream.readable());
                Event::Read(ready)
            }
        };
        core.thawed().await;
        match event {
            Event::Look => {}
            Event::Read(ready) => match ready.and_then(|()| hop.stream.try_read(inbox.spare())) {
                Ok(0) => return End::Closed,
                Ok(n) => {
                    inbox.advance(n);
                    fresh = true;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return End::Io(e),
            },
            Event::Write => hop.write(now()),
            Event::Timer => {
                let now = now();
                let beat = keepalive.handle_timeout(now);
                if beat == Beat::Dead || hop.stalled().is_some_and(|at| now >= at + stall_limit) {
                    return finish(hop, End::Reason(CloseReason::Unresponsive));
                }
                if let Beat::Ping(token) = beat {
                    // A full outbox says that the peer does not read; the stall limit deals with that.
                    let _ = hop.control(&Frame::Ping { token });
                    hop.flush(now);
                }
                sleep.as_mut().reset(next_look(&keepalive, now, hop.stalled(), stall_limit).into());
            }
        }
    }
}

/// Lets out what waits, tells the peer, and waits until it has closed: what is unread when a socket is closed makes
/// the system throw away what the peer has not read. The relay's own end bounds this.
async fn drained(hop: &Hop) -> Result<End, End> {
    let reason = CloseReason::Done;
    hop.let_out().await?;
    // Nothing waits, so there is room.
    let _ = hop.control(&Frame::Close { reason });
    hop.let_out().await?;
    hop.stream.shut_down(Shutdown::Write)?;
    let mut unread = [0; 4096];
    loop {
        hop.stream.readable().await?;
        match hop.stream.try_read(&mut unread) {
            Ok(0) => return Ok(End::Reason(reason)),
            Ok(_) => tokio::task::coop::consume_budget().await,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn next_look(keepalive: &Keepalive, now: Instant, stalled: Option<Instant>, limit: Duration) -> Instant {
    let next = keepalive.poll_timeout();
    stalled.map_or(next, |at| next.min(at + limit)).max(now)
}

fn finish(hop: &Hop, end: End) -> End {
    if let Some(reason) = end.reason() {
        hop.farewell(now(), reason);
    }
    end
}
