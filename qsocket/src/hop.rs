//! The 25 hops of an endpoint: sockets, records, keepalive, reconnecting.
//!
//! A hop has two halves. The sending half ([`Sending`]) stands behind a short mutex: whoever has frames writes them
//! into its outbox, seals them and tries the socket at once; only what the socket does not take is left to the
//! hop's own task. The receiving half belongs to that task alone.

use crate::endpoint::{Network, Reply};
use crate::health::Health;
use qsocket_files::rng::OsRng;
use qsocket_net::{Place, Socket, clock};
use qsocket_proto::call::{Calls, MAX_CALLS};
use qsocket_proto::crypto::schedule::hop::ImportedKey;
use qsocket_proto::frame::{CloseReason, Frame};
use qsocket_proto::hop::{
    Beat, Dial, Dialer, DialledBy, Established, HANDSHAKE_TIMEOUT, HopLimits, Inbox, Keepalive, Opener,
    Outbox, Principals, Responder, Sealer,
};
use qsocket_proto::ids::{PathId, Principal, Role};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// DATA bytes that wait in one hop's outbox: a few stripes of the largest block, so that what has to wait does so
/// where the scheduler can still choose another path.
const OUTBOX_BYTES: usize = 256 * 1024;

/// Time for the TCP connection to a relay.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Records that are taken from one read before other hops get a turn.
const RECORDS_PER_TURN: usize = 64;

/// First wait before a relay is dialled again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Least time between two attempts that another hop's success brings forward, so that a relay that comes and goes does
/// not have all others dialled at its pace.
const ENCOURAGED_AT_MOST: Duration = Duration::from_secs(1);

/// Over how long such attempts are spread: 25 handshakes in a quarter of a second are a small load.
const ENCOURAGED_WITHIN: Duration = Duration::from_millis(250);

/// How long a server waits for a relay that is to dial it before it dials that relay: the relay's own longest wait is
/// as long.
const RELAY_DIALS_WITHIN: Duration = Duration::from_secs(30);

/// The sending half.
struct Sending {
    outbox: Outbox,
    sealer: Sealer,
    socket: Arc<Socket>,
    /// The socket did not take everything; the hop's task waits until it does.
    stuck: bool,
}

/// One of the 25.
pub(crate) struct Hop {
    sending: Mutex<Option<Sending>>,
    /// There is something for the hop's task to send.
    stuck: Notify,
    /// A newer hop took this one's place.
    replaced: Notify,
    /// This side needs the hop no more.
    left: Notify,
    /// The hop is gone.
    down: Notify,
    error: Mutex<Option<String>>,
    /// Calls to the relay that it has not answered.
    asked: Mutex<Calls<oneshot::Sender<Reply>>>,
    /// Places for calls of the relay that are not answered.
    places: Arc<Semaphore>,
}

impl Hop {
    pub(crate) fn new() -> Self {
        Self {
            sending: Mutex::new(None),
            stuck: Notify::new(),
            replaced: Notify::new(),
            left: Notify::new(),
            down: Notify::new(),
            error: Mutex::new(None),
            asked: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_CALLS)),
        }
    }

    fn sending(&self) -> MutexGuard<'_, Option<Sending>> {
        // What a panicking thread left is a hop that will fail its next record: no worse than a broken one.
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.sending().is_some()
    }

    /// Ends the hop, if one stands.
    pub(crate) fn leave(&self) {
        self.left.notify_waiters();
    }

    /// Resolves when no hop stands.
    async fn is_down(&self) {
        loop {
            let down = self.down.notified();
            tokio::pin!(down);
            down.as_mut().enable();
            if !self.is_up() {
                return;
            }
            down.await;
        }
    }

    /// Whether the socket takes no more for now.
    pub(crate) fn is_stuck(&self) -> bool {
        self.sending().as_ref().is_some_and(|s| s.stuck)
    }

    /// Why the hop was lost or could not be built, last time.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_error(&self, error: impl ToString) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    pub(crate) fn local_addr(&self) -> Option<std::net::SocketAddr> {
        self.sending().as_ref().and_then(|s| s.socket.local_addr().ok())
    }

    /// The calls that wait for an answer of the relay.
    pub(crate) fn asked(&self) -> MutexGuard<'_, Calls<oneshot::Sender<Reply>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a call of the relay, until it is answered.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// DATA bytes that the outbox takes now.
    pub(crate) fn room(&self) -> usize {
        self.sending().as_ref().map_or(0, |s| s.outbox.room_for_data())
    }

    /// Writes into the outbox; nothing leaves before [`flush`](Self::flush).
    pub(crate) fn write<R>(&self, write: impl FnOnce(&mut Outbox) -> R) -> Option<R> {
        self.sending().as_mut().map(|s| write(&mut s.outbox))
    }

    /// Seals what waits and gives it to the socket. True if everything went.
    pub(crate) fn flush(&self, now: Instant) -> bool {
        let mut guard = self.sending();
        let Some(sending) = guard.as_mut() else { return true };
        if sending.stuck {
            return false;
        }
        match sending.push(now) {
            Ok(true) => true,
            Ok(false) => {
                sending.stuck = true;
                self.stuck.notify_one();
                false
            }
            // The hop's task sees the same error and cleans up.
            Err(_) => {
                self.stuck.notify_one();
                true
            }
        }
    }

    /// Goes on where [`flush`](Self::flush) stopped; for the hop's task.
    fn resume(&self, now: Instant) -> io::Result<bool> {
        let mut guard = self.sending();
        let Some(sending) = guard.as_mut() else { return Ok(true) };
        let all = sending.push(now)?;
        sending.stuck = !all;
        Ok(all)
    }
}

impl Sending {
    fn push(&mut self, now: Instant) -> io::Result<bool> {
        self.sealer.seal(now, &mut self.outbox).map_err(io::Error::other)?;
        while !self.outbox.wire().is_empty() {
            match self.socket.try_write(self.outbox.wire()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.outbox.consume(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

/// Client: keeps the hop to one relay standing for as long as the endpoint lives.
pub(crate) async fn keep(network: Arc<Network>, path: PathId) {
    let mut wait = BACKOFF.0;
    loop {
        let began = clock::now();
        match dial(&network, path).await {
            Ok(hop) => {
                tracing::debug!(%path, "hop up");
                let error = run(&network, path, hop).await;
                tracing::debug!(%path, %error, "hop down");
                network.hop(path).set_error(error);
            }
            Err(error) => {
                tracing::debug!(%path, %error, "hop could not be built");
                network.hop(path).set_error(error);
            }
        }
        if clock::now() - began > BACKOFF.1 {
            wait = BACKOFF.0;
        }
        rest(wait, network.health()).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Server: dials one relay whenever no hop to it stands, so that it knows the addresses of this server, for as long as
/// the endpoint lives. Where the server keeps its own hops this is at once; where the relay dials, it is when the relay
/// stays away, because it may have forgotten where.
pub(crate) async fn keep_registered(network: Arc<Network>, path: PathId) {
    let mut wait = BACKOFF.0;
    loop {
        network.hop(path).is_down().await;
        let began = clock::now();
        let error = match dial(&network, path).await {
            Ok(hop) => {
                tracing::debug!(%path, "hop up");
                run(&network, path, hop).await
            }
            Err(error) => error,
        };
        tracing::debug!(%path, %error, "hop down");
        network.hop(path).set_error(error);
        if clock::now() - began > BACKOFF.1 {
            wait = BACKOFF.0;
        }
        if network.dials_out() {
            rest(wait, network.health()).await;
        } else {
            // Time for the relay to dial. With jitter: relays that went together are dialled one after the other.
            tokio::time::sleep(RELAY_DIALS_WITHIN.mul_f64(1.0 + OsRng.unit())).await;
        }
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Waits before the next attempt: up to `wait`, with full jitter, so that clients of a restarted relay do not come back
/// in step. Less if more hops stand meanwhile than now: then it was this host's network that was away, or relays
/// were restarted together, and there is no reason to stay away for as long as a failure of this relay alone would have.
async fn rest(wait: Duration, mut health: watch::Receiver<Health>) {
    let well = health.borrow_and_update().well();
    let encouraged = async {
        tokio::time::sleep(ENCOURAGED_AT_MOST).await;
        if health.wait_for(|now| now.well() > well).await.is_err() {
            // The endpoint is gone, and this task with it.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(ENCOURAGED_WITHIN.mul_f64(OsRng.unit())).await;
    };
    tokio::select! {
        () = tokio::time::sleep(wait.mul_f64(OsRng.unit())) => {}
        () = encouraged => {}
    }
}

/// A hop whose handshake is over.
pub(crate) struct Ready {
    established: Established,
    inbox: Inbox,
    outbox: Outbox,
    socket: Socket,
}

async fn dial(network: &Network, path: PathId) -> io::Result<Ready> {
    let address = network.relay(path);
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, network.transport().connect(address));
    let socket = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    socket.tune()?;
    let (principal, role) = network.identity();
    let key = ImportedKey::new(network.key().number(path), principal, path, role);
    let dial =
        Dial { principal, role, relay: path, dialled_by: DialledBy::Principal, limits: HopLimits::default() };
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(OUTBOX_BYTES));
    let mut dialer = Dialer::new(clock::now(), dial, key, &mut OsRng, &mut outbox);
    let established = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
        loop {
            send(&socket, &mut outbox).await?;
            receive(&socket, &mut inbox).await?;
            let step = dialer.handle(clock::now(), &mut inbox, &mut outbox).map_err(io::Error::other)?;
            if let Some(established) = step {
                return Ok::<_, io::Error>(established);
            }
        }
    });
    let established = established.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Ready { established, inbox, outbox, socket })
}

/// The one principal that an answering endpoint knows: itself.
struct Own<'a>(&'a Network, PathId);

impl Principals for Own<'_> {
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        let own = self.0.identity();
        (own == (principal, role))
            .then(|| ImportedKey::new(self.0.key().number(self.1), principal, self.1, role))
    }
}

/// Server: answers a relay that dialled port `path`, and runs the hop. The handshake is in this task alone, so
/// that a slow dialler holds up nobody; it keeps its `place` among the dialers until the handshake is over or somebody
/// newer needs it.
pub(crate) async fn answer(network: Arc<Network>, path: PathId, socket: Socket, place: Place) {
    let ready = tokio::select! {
        biased;
        ready = respond(&network, path, socket) => ready,
        () = place.asked_to_leave() => Err(io::Error::other("too many diallers, and this one was the slowest")),
    };
    drop(place);
    match ready {
        Ok(hop) => {
            tracing::debug!(%path, "hop up");
            let error = run(&network, path, hop).await;
            tracing::debug!(%path, %error, "hop down");
            network.hop(path).set_error(error);
        }
        Err(error) => tracing::debug!(%path, %error, "a dialler was refused"),
    }
}

async fn respond(network: &Network, path: PathId, socket: Socket) -> io::Result<Ready> {
    socket.tune()?;
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(OUTBOX_BYTES));
    let mut responder = Responder::new(clock::now(), path, DialledBy::Relay, HopLimits::default());
    let established = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
        loop {
            receive(&socket, &mut inbox).await?;
            let now = clock::now();
            let step = responder.handle(now, &mut inbox, &mut outbox, &Own(network, path), &mut OsRng);
            let refused = step.is_err();
            let step = step.map_err(io::Error::other);
            if refused {
                // The one constant answer; whether it arrives does not matter.
                let _ = send(&socket, &mut outbox).await;
            }
            if let Some(established) = step? {
                return Ok::<_, io::Error>(established);
            }
            send(&socket, &mut outbox).await?;
        }
    });
    let established = established.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Ready { established, inbox, outbox, socket })
}

pub(crate) async fn send(socket: &Socket, outbox: &mut Outbox) -> io::Result<()> {
    while !outbox.wire().is_empty() {
        socket.writable().await?;
        match socket.try_write(outbox.wire()) {
            Ok(n) => outbox.consume(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Waits for bytes and reads what there is.
pub(crate) async fn receive(socket: &Socket, inbox: &mut Inbox) -> io::Result<()> {
    loop {
        socket.readable().await?;
        match socket.try_read(inbox.spare()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                inbox.advance(n);
                return Ok(());
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

/// Takes the hop into use and runs it until it ends; returns why it did.
async fn run(network: &Arc<Network>, path: PathId, ready: Ready) -> io::Error {
    let Ready { established, mut inbox, outbox, socket } = ready;
    let Established { sealer, mut opener, role, dialled_by, .. } = established;
    let socket = Arc::new(socket);
    let hop = network.hop(path);
    let now = clock::now();
    let sending = Sending { outbox, sealer, socket: socket.clone(), stuck: false };
    if hop.sending().replace(sending).is_some() {
        hop.replaced.notify_waiters();
        hop.asked().clear();
        network.path_down(path);
    }
    let (replaced, left) = (hop.replaced.notified(), hop.left.notified());
    tokio::pin!(replaced, left);
    replaced.as_mut().enable();
    left.as_mut().enable();
    network.path_up(path);
    if role == Role::Server {
        network.register(path, dialled_by == DialledBy::Principal);
    }
    hop.flush(now);
    let mut keepalive = Keepalive::new(now);
    let error = loop {
        let now = clock::now();
        match take_records(network, path, &mut inbox, &mut opener, &mut keepalive, now) {
            Ok(true) => {
                tokio::task::yield_now().await;
                continue;
            }
            Ok(false) => {}
            Err(error) => break error,
        }
        tokio::select! {
            read = receive(&socket, &mut inbox) => if let Err(error) = read { break error },
            () = drain(hop, &socket) => match hop.resume(clock::now()) {
                Ok(true) => network.drained(),
                Ok(false) => {}
                Err(error) => break error,
            },
            () = tokio::time::sleep_until(keepalive.poll_timeout().into()) => {
                match keepalive.handle_timeout(clock::now()) {
                    Beat::Nothing => {}
                    Beat::Ping(token) => control(hop, &Frame::Ping { token }),
                    Beat::Dead => break io::ErrorKind::TimedOut.into(),
                }
            }
            () = &mut replaced => return io::Error::other("the relay built a newer hop"),
            () = &mut left => {
                control(hop, &Frame::Close { reason: CloseReason::Done });
                break io::Error::other("the relay dials from now on");
            }
        }
    };
    let ours = |s: &Sending| Arc::ptr_eq(&s.socket, &socket);
    let was_ours = {
        let mut guard = hop.sending();
        let was_ours = guard.as_ref().is_some_and(ours);
        if was_ours {
            *guard = None;
        }
        was_ours
    };
    if was_ours {
        hop.asked().clear();
        network.path_down(path);
        hop.down.notify_waiters();
    }
    error
}

/// Waits until the socket takes more of what is stuck; for ever if nothing is.
async fn drain(hop: &Hop, socket: &Socket) {
    loop {
        let stuck = hop.sending().as_ref().is_some_and(|s| s.stuck);
        if stuck {
            // An error shows at the next try.
            let _ = socket.writable().await;
            return;
        }
        hop.stuck.notified().await;
        if hop.sending().as_ref().is_some_and(|s| !s.stuck && !s.outbox.wire().is_empty()) {
            return;
        }
    }
}

fn control(hop: &Hop, frame: &Frame<'_>) {
    hop.write(|out| out.frame(frame));
    hop.flush(clock::now());
}

/// Opens the records at hand and gives their frames away. True if more may wait.
fn take_records(
    network: &Network,
    path: PathId,
    inbox: &mut Inbox,
    opener: &mut Opener,
    keepalive: &mut Keepalive,
    now: Instant,
) -> io::Result<bool> {
    let mut batch = network.batch(path, now);
    for _ in 0..RECORDS_PER_TURN {
        let Some(frames) = opener.next_record(inbox).map_err(io::Error::other)? else { return Ok(false) };
        keepalive.on_record(now);
        for frame in frames {
            match frame.map_err(io::Error::other)? {
                Frame::Ping { token } => control(network.hop(path), &Frame::Pong { token }),
                Frame::Pong { token } => _ = keepalive.on_pong(now, token),
                Frame::Close { reason } => return Err(closed(reason)),
                Frame::Call { call, service, body } => network.on_call(path, call, service, body),
                Frame::Answer { call, status, body } => network.on_answer(path, call, status, body),
                frame => batch.frame(frame),
            }
        }
    }
    Ok(true)
}

fn closed(reason: CloseReason) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, format!("the relay closed the hop: {reason:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    /// Long enough for no jitter to fall below the other times here.
    const LONG: Duration = Duration::from_secs(1_000_000_000);

    #[tokio::test(start_paused = true)]
    async fn a_hop_that_returns_encourages_the_others() {
        let health = watch::Sender::new(Health::of(3));
        let begun = Instant::now();
        let resting = tokio::spawn(rest(LONG, health.subscribe()));
        sleep(Duration::from_secs(10)).await;
        // Fewer are no reason.
        health.send_replace(Health::of(2));
        sleep(Duration::from_secs(10)).await;
        assert!(!resting.is_finished());
        health.send_replace(Health::of(4));
        resting.await.unwrap();
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_secs(20) && took <= Duration::from_secs(20) + ENCOURAGED_WITHIN,
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn encouragement_has_a_pace() {
        let health = watch::Sender::new(Health::of(3));
        let begun = Instant::now();
        let resting = tokio::spawn(rest(LONG, health.subscribe()));
        tokio::task::yield_now().await;
        health.send_replace(Health::of(4));
        resting.await.unwrap();
        let took = begun.elapsed();
        assert!(took >= ENCOURAGED_AT_MOST && took <= ENCOURAGED_AT_MOST + ENCOURAGED_WITHIN, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_encouragement_the_wait_is_the_longest() {
        let health = watch::Sender::new(Health::of(3));
        let begun = Instant::now();
        rest(Duration::from_secs(8), health.subscribe()).await;
        assert!(begun.elapsed() <= Duration::from_secs(8));
    }
}
