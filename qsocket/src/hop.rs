//! The 25 hops of an endpoint: sockets, records, keepalive, reconnecting.
//!
//! A hop has two halves. The sending half ([`Sending`]) stands behind a short mutex: whoever has frames writes them
//! into its outbox, seals them and tries the socket at once; only what the socket does not take is left to the
//! hop's own task. The receiving half belongs to that task alone.

use crate::endpoint::{Network, Reply};
use crate::health::Health;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use qsocket_files::rng::OsRng;
use qsocket_net::{Place, Socket, clock};
use qsocket_proto::call::{Calls, MAX_CALLS};
use qsocket_proto::crypto::schedule::hop::ImportedKey;
use qsocket_proto::frame::{CloseReason, Frame};
use qsocket_proto::hop::{
    Beat, Dial, Dialer, DialledBy, Established, HANDSHAKE_TIMEOUT, HopLimits, Inbox, Keepalive, Opener,
    Outbox, Principals, Responder, Sealer,
};
use qsocket_proto::ids::{HopAt, MAX_HOPS_PER_PATH, PathId, Principal, Role};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

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
    /// Cancelled when the hop ends, or has to.
    over: CancellationToken,
}

/// The hops of one path: one of a client; of a server one for each process that its relay is.
pub(crate) struct Hops {
    hops: Box<[Hop]>,
    /// Which of them are in use, the oldest first. Held while one comes or goes, so that the endpoint knows what stands.
    taken: Mutex<Vec<u8>>,
    /// A hop is gone.
    down: Notify,
    error: Mutex<Option<String>>,
}

impl Hops {
    pub(crate) fn new(role: Role) -> Self {
        let most = if role == Role::Server { MAX_HOPS_PER_PATH } else { 1 };
        Self {
            hops: (0..most).map(|_| Hop::new()).collect(),
            taken: Mutex::default(),
            down: Notify::new(),
            error: Mutex::new(None),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Vec<u8>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `nth` is what a hop was given when it was built.
    pub(crate) fn get(&self, nth: u8) -> &Hop {
        &self.hops[usize::from(nth)]
    }

    /// One that stands.
    pub(crate) fn any(&self) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.is_up())
    }

    pub(crate) fn is_up(&self) -> bool {
        self.any().is_some()
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

    /// Why the last hop was lost or could not be built.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_error(&self, error: impl ToString) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    /// Whether the socket of one takes no more for now.
    pub(crate) fn is_stuck(&self) -> bool {
        self.hops.iter().any(Hop::is_stuck)
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.hops.iter().find_map(Hop::local_addr)
    }

    /// Takes a hop into use. If the path has as many as it may have, the oldest gives way. The others are asked for a
    /// sign of life: a relay that builds another hop may be one that lost the one before.
    fn enter(&self, network: &Network, path: PathId, sending: Sending) -> HopAt {
        let mut taken = self.taken();
        let free = (0..).zip(&self.hops).map(|(nth, _)| nth).find(|nth| !taken.contains(nth));
        let nth = free.unwrap_or_else(|| taken.remove(0));
        let (at, hop) = (HopAt { path, nth }, self.get(nth));
        if let Some(old) = hop.sending().replace(sending) {
            old.over.cancel();
            hop.asked().clear();
            network.hop_is_down(at);
        }
        for other in taken.iter() {
            self.get(*other).doubted.notify_one();
        }
        taken.push(nth);
        network.hop_is_up(at);
        at
    }

    /// Takes a hop out of use, unless another one has its place.
    fn leave(&self, network: &Network, at: HopAt, socket: &Arc<Socket>) {
        let mut taken = self.taken();
        let hop = self.get(at.nth);
        {
            let mut sending = hop.sending();
            if !sending.as_ref().is_some_and(|s| Arc::ptr_eq(&s.socket, socket)) {
                return;
            }
            *sending = None;
        }
        hop.asked().clear();
        network.hop_is_down(at);
        taken.retain(|nth| *nth != at.nth);
        drop(taken);
        self.down.notify_waiters();
    }
}

/// One hop.
pub(crate) struct Hop {
    sending: Mutex<Option<Sending>>,
    /// There is something for the hop's task to send.
    stuck: Notify,
    /// The hop's task finds out whether the other end still lives.
    doubted: Notify,
    /// Calls to the relay that it has not answered.
    asked: Mutex<Calls<oneshot::Sender<Reply>>>,
    /// Places for calls of the relay that are not answered.
    places: Arc<Semaphore>,
}

impl Hop {
    fn new() -> Self {
        Self {
            sending: Mutex::new(None),
            stuck: Notify::new(),
            doubted: Notify::new(),
            asked: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_CALLS)),
        }
    }

    fn sending(&self) -> MutexGuard<'_, Option<Sending>> {
        // What a panicking thread left is a hop that will fail its next record: no worse than a broken one.
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_up(&self) -> bool {
        self.sending().is_some()
    }

    /// Whether the socket takes no more for now.
    fn is_stuck(&self) -> bool {
        self.sending().as_ref().is_some_and(|s| s.stuck)
    }

    fn local_addr(&self) -> Option<SocketAddr> {
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
                network.hops(path).set_error(error);
            }
            Err(error) => {
                tracing::debug!(%path, %error, "hop could not be built");
                network.hops(path).set_error(error);
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
        network.hops(path).is_down().await;
        let began = clock::now();
        let error = match dial(&network, path).await {
            Ok(hop) => {
                tracing::debug!(%path, "hop up");
                run(&network, path, hop).await
            }
            Err(error) => error,
        };
        tracing::debug!(%path, %error, "hop down");
        network.hops(path).set_error(error);
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
            network.hops(path).set_error(error);
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
    let before = inbox.len();
    while inbox.len() == before {
        socket.readable().await?;
        take_bytes(socket, inbox)?;
    }
    Ok(())
}

/// Reads what there is, if there is something.
fn take_bytes(socket: &Socket, inbox: &mut Inbox) -> io::Result<()> {
    match socket.try_read(inbox.spare()) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(n) => {
            inbox.advance(n);
            Ok(())
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(e) => Err(e),
    }
}

/// Takes the hop into use and runs it until it ends; returns why it did.
async fn run(network: &Arc<Network>, path: PathId, ready: Ready) -> io::Error {
    let Ready { established, mut inbox, outbox, socket } = ready;
    let Established { sealer, mut opener, role, dialled_by, .. } = established;
    let (socket, over, left) = (Arc::new(socket), CancellationToken::new(), CancellationToken::new());
    let _over = over.clone().drop_guard();
    let now = clock::now();
    let sending = Sending { outbox, sealer, socket: socket.clone(), stuck: false, over: over.clone() };
    let hops = network.hops(path);
    let at = hops.enter(network, path, sending);
    let hop = network.hop(at);
    if role == Role::Server {
        let leave = (dialled_by == DialledBy::Principal).then(|| left.clone());
        network.register(at, over.clone(), leave);
    }
    hop.flush(now);
    let mut keepalive = Keepalive::new(now);
    // They stand from turn to turn. Most turns are a read; what is rare has a waker of its own, so that such a turn does not
    // look at it.
    let (sleep, readable) = (tokio::time::sleep_until(keepalive.poll_timeout().into()), socket.readable());
    tokio::pin!(sleep, readable);
    let mut rare = FuturesUnordered::from_iter([rare(hop, &socket, &over, &left)]);
    let error = loop {
        let now = clock::now();
        match take_records(network, at, &mut inbox, &mut opener, &mut keepalive, now) {
            Ok(true) => {
                tokio::task::yield_now().await;
                continue;
            }
            Ok(false) => {}
            Err(error) => break error,
        }
        // The read comes last: it may be ready for ever.
        tokio::select! {
            biased;
            Some(what) = rare.next() => match what {
                Rare::Newer => break io::Error::other("the relay built newer hops"),
                Rare::Leave => {
                    control(hop, &Frame::Close { reason: CloseReason::Done });
                    break io::Error::other("the relay dials from now on");
                }
                Rare::Doubted => {
                    control(hop, &Frame::Ping { token: keepalive.doubt(clock::now()) });
                    sleep.as_mut().reset(keepalive.poll_timeout().into());
                    rare.push(self::rare(hop, &socket, &over, &left));
                }
                Rare::Drained => {
                    match hop.resume(clock::now()) {
                        Ok(true) => network.drained(),
                        Ok(false) => {}
                        Err(error) => break error,
                    }
                    rare.push(self::rare(hop, &socket, &over, &left));
                }
            },
            () = &mut sleep => {
                match keepalive.handle_timeout(clock::now()) {
                    Beat::Nothing => {}
                    Beat::Ping(token) => control(hop, &Frame::Ping { token }),
                    Beat::Dead => break io::ErrorKind::TimedOut.into(),
                }
                sleep.as_mut().reset(keepalive.poll_timeout().into());
            }
            ready = &mut readable => {
                readable.set(socket.readable());
                if let Err(error) = ready.and_then(|()| take_bytes(&socket, &mut inbox)) {
                    break error;
                }
            }
        }
    };
    hops.leave(network, at, &socket);
    error
}

/// What happens to a hop beside what it reads.
enum Rare {
    /// It has to make way for newer ones.
    Newer,
    /// It is not needed any more.
    Leave,
    /// The socket takes more of what is stuck.
    Drained,
    /// Somebody doubts that the other end lives.
    Doubted,
}

async fn rare(hop: &Hop, socket: &Socket, over: &CancellationToken, left: &CancellationToken) -> Rare {
    tokio::select! {
        biased;
        () = over.cancelled() => Rare::Newer,
        () = left.cancelled() => Rare::Leave,
        () = drain(hop, socket) => Rare::Drained,
        () = hop.doubted.notified() => Rare::Doubted,
    }
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
    at: HopAt,
    inbox: &mut Inbox,
    opener: &mut Opener,
    keepalive: &mut Keepalive,
    now: Instant,
) -> io::Result<bool> {
    let mut batch = network.batch(at, now);
    for _ in 0..RECORDS_PER_TURN {
        let Some(frames) = opener.next_record(inbox).map_err(io::Error::other)? else { return Ok(false) };
        keepalive.on_record(now);
        for frame in frames {
            match frame.map_err(io::Error::other)? {
                Frame::Ping { token } => control(network.hop(at), &Frame::Pong { token }),
                Frame::Pong { token } => _ = keepalive.on_pong(now, token),
                Frame::Close { reason } => return Err(closed(reason)),
                Frame::Call { call, service, body } => network.on_call(at, call, service, body),
                Frame::Answer { call, status, body } => network.on_answer(at, call, status, body),
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
