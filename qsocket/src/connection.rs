//! A connection in the shell: the state machine behind its own lock, those who wait for it, and its driver.

use crate::endpoint::Network;
use crate::health::Health;
use qsocket_net::clock;
use qsocket_proto::connection::{Connection, ConnectionError, Event, Hops};
use qsocket_proto::endpoint::Handle;
use qsocket_proto::hop::Outbox;
use qsocket_proto::ids::{HopAt, MAX_HOPS_PER_PATH, PathId, RELAYS, StreamId};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, watch};

/// How long DETACH waits for other frames to travel with: relays need the room of a route that is over no sooner, and an
/// endpoint that opens one connection after the other saves a record on every hop.
const DETACH_HOLD: Duration = Duration::from_millis(5);

/// What ends a connection that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// The idle limit or the endpoint: further streams may come.
    Shared,
    /// The end of its first stream.
    OneStream,
}

/// One connection.
pub(crate) struct Conn {
    pub(crate) handle: Handle,
    lifetime: Lifetime,
    /// New streams go elsewhere: it ends with the last of those that it has.
    retired: AtomicBool,
    state: Mutex<State>,
    /// The driver has something to do.
    wake: Notify,
    /// The connection opened, ended, or may open further streams.
    changed: Notify,
    health: watch::Sender<Health>,
}

/// What the lock protects.
pub(crate) struct State {
    pub(crate) connection: Connection,
    waits: HashMap<StreamId, Waits>,
    /// Streams that a directory permitted, which it may take back.
    held: BTreeMap<StreamId, Held>,
}

/// A permitted stream.
pub(crate) struct Held {
    /// What it is for.
    pub(crate) resource: String,
    /// When the permission ends.
    pub(crate) until: Option<SystemTime>,
}

/// Who waits for a stream. As with a TCP stream, one task polls for reading and one for writing, the last that
/// asked; any number may wait for readiness.
#[derive(Default)]
struct Waits {
    reader: Option<Waker>,
    writer: Option<Waker>,
    ready: Option<Arc<Notify>>,
}

impl Waits {
    fn wake(&mut self, direction: fn(&mut Self) -> &mut Option<Waker>) {
        direction(self).take().into_iter().for_each(Waker::wake);
        if let Some(ready) = &self.ready {
            ready.notify_waiters();
        }
    }
}

impl State {
    pub(crate) fn wait_readable(&mut self, id: StreamId, waker: &Waker) {
        self.waits.entry(id).or_default().reader = Some(waker.clone());
    }

    pub(crate) fn wait_writable(&mut self, id: StreamId, waker: &Waker) {
        self.waits.entry(id).or_default().writer = Some(waker.clone());
    }

    /// Notifies `ready` of everything that happens to the stream from now on.
    pub(crate) fn watch(&mut self, id: StreamId, ready: &Arc<Notify>) {
        self.waits.entry(id).or_default().ready.get_or_insert_with(|| ready.clone());
    }

    pub(crate) fn hold(&mut self, id: StreamId, held: Held) {
        self.held.insert(id, held);
    }

    /// Takes them out, to be held again or not.
    pub(crate) fn held(&mut self) -> BTreeMap<StreamId, Held> {
        std::mem::take(&mut self.held)
    }

    pub(crate) fn forget(&mut self, id: StreamId) {
        self.waits.remove(&id);
        self.held.remove(&id);
    }

    fn wake(&mut self, id: StreamId, direction: fn(&mut Waits) -> &mut Option<Waker>) {
        self.waits.get_mut(&id).into_iter().for_each(|waits| waits.wake(direction));
    }
}

impl Conn {
    pub(crate) fn new(handle: Handle, connection: Connection, lifetime: Lifetime) -> Arc<Self> {
        Arc::new(Self {
            handle,
            lifetime,
            retired: AtomicBool::new(false),
            state: Mutex::new(State { connection, waits: HashMap::new(), held: BTreeMap::new() }),
            wake: Notify::new(),
            changed: Notify::new(),
            health: watch::Sender::new(Health::Lost),
        })
    }

    /// Has it end with the last stream that it has.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.wake();
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside the state machine leaves one connection in doubt; its peers' timers end it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the driver look at the connection.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when the connection opened, ended, or may open further streams. Create it before looking.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// How many of its paths are well.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn tell_health(&self, connection: &Connection) {
        self.health_is(Health::of(connection.paths_well().len()));
    }

    fn health_is(&self, health: Health) {
        self.health.send_if_modified(|known| std::mem::replace(known, health) != health);
    }

    /// Passes on what happened to those who wait for it.
    pub(crate) fn dispatch(self: &Arc<Self>, network: &Network, state: &mut State) {
        while let Some(event) = state.connection.poll_event() {
            match event {
                Event::Readable(id) => state.wake(id, |w| &mut w.reader),
                Event::Writable(id) => state.wake(id, |w| &mut w.writer),
                // Whoever gets a stream may ask at once, before the driver's turn.
                Event::Established => {
                    self.tell_health(&state.connection);
                    network.confirmed(self.handle);
                    self.changed.notify_waiters();
                }
                Event::StreamsAllowed => self.changed.notify_waiters(),
                Event::StreamOpened => {
                    self.tell_health(&state.connection);
                    while let Some((id, resource)) = state.connection.accept() {
                        network.offer(self, state, id, resource);
                    }
                }
                Event::Distrusted(relay) => {
                    tracing::warn!(%relay, "what the relay passed on was altered; it is not read in this connection");
                }
                Event::Closed => self.changed.notify_waiters(),
            }
        }
    }

    /// Drives the connection until it is closed.
    pub(crate) async fn drive(self: Arc<Self>, network: Arc<Network>) {
        let mut retried = false;
        let mut used = false;
        loop {
            let deadline = {
                let mut sink = Sink::new(&network);
                let now = clock::now();
                let mut state = self.lock();
                if state.connection.poll_timeout().is_some_and(|(at, _)| at <= now) {
                    state.connection.handle_timeout(now);
                }
                let streams = state.connection.stream_count();
                let last = self.lifetime == Lifetime::OneStream || self.retired.load(Ordering::Relaxed);
                if last && used && streams == 0 {
                    state.connection.close(now, 0, "its last stream is over");
                }
                used |= streams > 0;
                let done = state.connection.transmit(now, &mut sink);
                self.dispatch(&network, &mut state);
                self.tell_health(&state.connection);
                let deadline = state.connection.poll_timeout().map(|(at, _)| at);
                let closed = state.connection.is_closed();
                drop(state);
                sink.flush(now);
                if closed {
                    break;
                }
                // An outbox that drained before the wish was known is tried once more.
                retried = done.blocked && !network.wants_room() && !retried;
                if done.more || retried { Some(now) } else { deadline }
            };
            match deadline {
                Some(at) if at <= clock::now() => tokio::task::yield_now().await,
                Some(at) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(at.into()) => {}
                },
                None => self.wake.notified().await,
            }
        }
        self.health_is(Health::Lost);
        let mut told = network.forget(&self);
        drop(self);
        tokio::time::sleep(DETACH_HOLD).await;
        told.flush(clock::now());
    }

    /// Why the connection ended, if it did.
    pub(crate) fn error(&self) -> Option<ConnectionError> {
        self.lock().connection.error().cloned()
    }
}

/// The outboxes of an endpoint's hops, and which of them were written to.
pub(crate) struct Sink<'a> {
    pub(crate) network: &'a Network,
    /// By path, a bit for each hop.
    dirty: [u8; RELAYS],
}

const _: () = assert!(MAX_HOPS_PER_PATH as u32 <= u8::BITS, "each hop of a path has a bit");

impl<'a> Sink<'a> {
    pub(crate) fn new(network: &'a Network) -> Self {
        Self { network, dirty: [0; RELAYS] }
    }

    /// Gives what was written to the sockets.
    pub(crate) fn flush(&mut self, now: Instant) {
        for (path, mut hops) in PathId::all().zip(std::mem::replace(&mut self.dirty, [0; RELAYS])) {
            while hops != 0 {
                let nth = hops.trailing_zeros() as u8;
                hops &= hops - 1;
                self.network.hop(HopAt { path, nth }).flush(now);
            }
        }
    }
}

impl Hops for Sink<'_> {
    fn room(&mut self, at: HopAt) -> usize {
        self.network.hop(at).room()
    }

    fn outbox<R>(&mut self, at: HopAt, write: impl FnOnce(&mut Outbox) -> R) -> Option<R> {
        self.dirty[at.path.index()] |= 1 << at.nth;
        self.network.hop(at).write(write)
    }
}
