//! What the tasks of one relay share.

use crate::Server;
use crate::calls::{Changes, Signals};
use crate::handshake::{self, Up};
use crate::hop::{self, End, Hop};
use crate::meter::Meters;
use crate::names;
use crate::posts::{PostQuota, Posts};
use crate::principals::{Enrolled, Principals, Rotated};
use crate::rate::Rate;
use crate::relay::Limits;
use crate::roster::Roster;
use crate::stats::{Counters, Forwarded, Refusal, Stats};
use qsocket_files::rng::OsRng;
use qsocket_net::clock::now;
use qsocket_net::{Listener, Lobby, Transport};
use qsocket_proto::codec::Malformed;
use qsocket_proto::crypto::schedule::hop::{AuthenticityNumber, ImportedKey};
use qsocket_proto::frame::{CloseReason, Frame, Frames, RouteError};
use qsocket_proto::hop::{DialledBy, Established, Inbox, Keepalive, Opener};
use qsocket_proto::ids::{PathId, Principal, Role, RouteId};
use qsocket_proto::open::OpenHeader;
use qsocket_proto::raida_key::{RelayTable, duplicate, equal, outdated};
use qsocket_proto::relay::{
    Action, Admission, Congestion, Egress, HopId, HopInfo, OpenFacts, RegisterError, Registration, Router,
    Verdict,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, trace, warn};

/// How long the accept loop rests after an error that is not about one connection, such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Such an error is logged at most this often: it comes back with every rest.
const ACCEPT_LOGGED: Duration = Duration::from_secs(10);

/// For how long it is known whose number changed: longer than a handshake takes, with the store behind it.
const REMEMBERED: Duration = Duration::from_secs(60);

/// State behind a lock is consistent between calls, so a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The authenticity numbers that this relay knows.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) path: PathId,
    pub(crate) table: Arc<RwLock<RelayTable>>,
    /// Those that are to take the place of the others. Locked behind `table` where both are.
    pub(crate) next: RwLock<RelayTable>,
    /// Who was enrolled by another principal and has not been here yet. Locked last of the three.
    awaited: RwLock<BTreeSet<(Principal, Role)>>,
}

impl Keys {
    pub(crate) fn import(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(&(principal, role)).map(|number| ImportedKey::new(number, principal, self.path, role))
    }

    pub(crate) fn import_next(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        let next = self.next.read().unwrap_or_else(PoisonError::into_inner);
        next.get(&(principal, role)).map(|number| ImportedKey::new(number, principal, self.path, role))
    }

    pub(crate) fn is_awaited(&self, who: (Principal, Role)) -> bool {
        self.awaited.read().unwrap_or_else(PoisonError::into_inner).contains(&who)
    }

    fn next_number(&self, who: (Principal, Role)) -> Option<AuthenticityNumber> {
        self.next.read().unwrap_or_else(PoisonError::into_inner).get(&who).map(duplicate)
    }
}

/// Reads what a relay needs to know of a connection header.
pub(crate) fn read_header(header: &[u8]) -> Result<OpenFacts, Malformed> {
    let OpenHeader { client, server, connection, destination, root, .. } = OpenHeader::decode(header)?;
    Ok(OpenFacts { client, server, connection, destination, root })
}

#[derive(Debug)]
struct Routing {
    router: Router,
    /// What the timer task waits for.
    armed: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) path: PathId,
    pub(crate) limits: Limits,
    pub(crate) keys: Keys,
    pub(crate) transport: Transport,
    listener: Listener,
    handle: Handle,
    routing: Mutex<Routing>,
    /// The routing's next timeout is earlier than what the timer task waits for.
    timer: Notify,
    rate: Rate,
    admission: Mutex<Admission>,
    lobby: Arc<Lobby>,
    connections: AtomicUsize,
    hops: RwLock<BTreeMap<HopId, Arc<Hop>>>,
    next_hop: AtomicU64,
    /// `None` when the relay is stopped.
    tasks: Mutex<Option<JoinSet<()>>>,
    frozen: watch::Sender<bool>,
    counters: Counters,
    pub(crate) posts: Arc<dyn Posts>,
    pub(crate) post_quota: PostQuota,
    pub(crate) signals: Signals,
    pub(crate) names: names::Registry,
    /// `None`: principals change nothing over their hops.
    pub(crate) principals: Option<Arc<dyn Principals>>,
    pub(crate) changes: Changes,
    meters: Mutex<Meters>,
    /// Counts the times that somebody left the table or got another number. Changes under the routing lock only.
    generation: AtomicU64,
    /// Who it was, each with the count and when, for [`REMEMBERED`].
    changed: Mutex<BTreeMap<(Principal, Role), (u64, Instant)>>,
    draining: AtomicBool,
    accepting: Mutex<Option<AbortHandle>>,
    /// A hop has gone.
    gone: Notify,
}

/// What one batch of records leaves to do.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Hops with something to write.
    dirty: Vec<Arc<Hop>>,
    congested: Vec<Congestion>,
    /// The target of the last DATA frame: stripes of one connection come in rows.
    last: Option<(RouteId, RouteId, Arc<Hop>)>,
    forwarded: Forwarded,
}

impl Batch {
    fn touch(&mut self, hop: &Arc<Hop>) {
        if !self.dirty.iter().any(|h| h.id == hop.id) {
            self.dirty.push(Arc::clone(hop));
        }
    }
}

/// A place in [`Admission`], given back when dropped.
struct Place {
    core: Arc<Core>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.core.admission).leave(self.address);
        self.core.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Core {
    pub(crate) fn new(
        path: PathId,
        limits: Limits,
        table: Arc<RwLock<RelayTable>>,
        (transport, listener): (Transport, Listener),
        handle: Handle,
        router: Router,
        (posts, names, principals): (Arc<dyn Posts>, names::Registry, Option<Arc<dyn Principals>>),
    ) -> Arc<Self> {
        let burst = NonZeroU32::new(limits.hops_per_address).unwrap_or(NonZeroU32::MIN);
        Arc::new(Self {
            path,
            limits,
            keys: Keys { path, table, next: RwLock::default(), awaited: RwLock::default() },
            transport,
            listener,
            handle,
            routing: Mutex::new(Routing { router, armed: None }),
            timer: Notify::new(),
            rate: Rate::new(limits.handshakes_per_second, burst),
            admission: Mutex::new(Admission::new(limits.hops_per_address)),
            lobby: Lobby::new(limits.handshakes),
            connections: AtomicUsize::new(0),
            hops: RwLock::default(),
            next_hop: AtomicU64::new(0),
            tasks: Mutex::new(Some(JoinSet::new())),
            frozen: watch::Sender::new(false),
            counters: Counters::default(),
            posts,
            post_quota: limits.posts,
            signals: Signals::default(),
            names,
            principals,
            changes: Changes::default(),
            meters: Mutex::default(),
            generation: AtomicU64::new(0),
            changed: Mutex::default(),
            draining: AtomicBool::new(false),
            accepting: Mutex::new(None),
            gone: Notify::new(),
        })
    }

    /// Starts the tasks that every relay has.
    pub(crate) fn start(self: &Arc<Self>) {
        *lock(&self.accepting) = self.spawn(Arc::clone(self).accept());
        self.spawn(Arc::clone(self).keep_time());
        self.spawn(Arc::clone(self).sweep_posts());
        self.spawn(Arc::clone(self).sweep_names());
    }

    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Runs a task until the relay stops; drops it if that has happened.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut tasks = lock(&self.tasks);
        let tasks = tasks.as_mut()?;
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn_on(task, &self.handle))
    }

    /// Exchanges whom the relay knows, as one step: whoever left, or has another number, loses its hops, and a
    /// handshake with the old number does not become one.
    pub(crate) fn replace(self: &Arc<Self>, roster: Roster) -> Result<(), RegisterError> {
        let Roster { table, next, awaited, servers, claims, quotas } = roster;
        let (registrations, claims) = (by_server(servers), by_server(claims));
        let now = now();
        let mut batch = Batch::default();
        let done = self.route(now, &mut batch, |router| {
            lock(&self.meters).set(now, &quotas, &table);
            let gone = {
                let mut current = self.keys.table.write().unwrap_or_else(PoisonError::into_inner);
                let gone = outdated(&current, &table);
                *current = table;
                *self.keys.next.write().unwrap_or_else(PoisonError::into_inner) = next;
                *self.keys.awaited.write().unwrap_or_else(PoisonError::into_inner) = awaited;
                gone
            };
            self.note_changed(now, &gone);
            router.set_quotas(&quotas);
            let done = router.set_servers(now, &registrations);
            router.set_claims(now, &claims);
            for (principal, role) in gone {
                router.expel(now, principal, role, &mut OsRng);
            }
            done
        });
        self.flush(now, &mut batch);
        done
    }

    /// Handshakes of these that began before now do not count. Only under the routing lock.
    fn note_changed(&self, now: Instant, gone: &[(Principal, Role)]) -> u64 {
        let count = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let mut changed = lock(&self.changed);
        changed.retain(|_, (_, at)| now.duration_since(*at) < REMEMBERED);
        changed.extend(gone.iter().map(|who| (*who, (count, now))));
        count
    }

    /// Keeps a number for a principal until it is used.
    pub(crate) fn set_next(&self, who: (Principal, Role), next: &AuthenticityNumber) {
        self.keys.next.write().unwrap_or_else(PoisonError::into_inner).insert(who, duplicate(next));
    }

    /// A principal used the number that waited: it takes the place of the other one, here and in the store, and the hops
    /// that were built with that one end. Returns what [`Core::serve`] compares with, `None` if another number counts
    /// by now.
    async fn settle(self: &Arc<Self>, who: (Principal, Role)) -> Option<u64> {
        let next = self.keys.next_number(who)?;
        // Where nothing can be kept, both numbers stay.
        let Some(principals) = &self.principals else { return Some(self.generation.load(Ordering::Acquire)) };
        let generation = Mutex::new(None);
        let apply = || {
            let (now, mut batch) = (now(), Batch::default());
            self.route(now, &mut batch, |router| {
                let mut table = self.keys.table.write().unwrap_or_else(PoisonError::into_inner);
                let mut waiting = self.keys.next.write().unwrap_or_else(PoisonError::into_inner);
                // Who was banned meanwhile is in neither.
                if table.contains_key(&who) && waiting.get(&who).is_some_and(|n| equal(n, &next)) {
                    waiting.remove(&who);
                    table.insert(who, duplicate(&next));
                    *lock(&generation) = Some(self.note_changed(now, &[who]));
                    drop((table, waiting));
                    router.expel(now, who.0, who.1, &mut OsRng);
                }
            });
            self.flush(now, &mut batch);
        };
        match principals.settle(who, &next, &apply).await {
            Ok(Rotated::Kept) => {}
            Ok(Rotated::Unknown) => return None,
            // Both numbers stay, and the next handshake tries again.
            Err(error) => {
                warn!(relay = %self.path, %error, "a new authenticity number is used, and the old one not forgotten yet");
                return Some(self.generation.load(Ordering::Acquire));
            }
        }
        *lock(&generation)
    }

    /// Takes the number of a principal into use that another one enrolled.
    pub(crate) fn set_enrolled(self: &Arc<Self>, who: (Principal, Role), number: &AuthenticityNumber) {
        let (now, mut batch) = (now(), Batch::default());
        self.route(now, &mut batch, |router| {
            let replaced = {
                let mut table = self.keys.table.write().unwrap_or_else(PoisonError::into_inner);
                self.keys.awaited.write().unwrap_or_else(PoisonError::into_inner).insert(who);
                table.insert(who, duplicate(number)).is_some()
            };
            if replaced {
                // A handshake with the number before does not become a hop.
                self.note_changed(now, &[who]);
                router.expel(now, who.0, who.1, &mut OsRng);
            }
        });
        self.flush(now, &mut batch);
    }

    /// A principal that another one enrolled is here for the first time: the permit is used up before the hop is served.
    /// Returns `generation`, `None` if another number counts by now.
    async fn arrive(self: &Arc<Self>, who: (Principal, Role), generation: u64) -> Option<u64> {
        let Some(principals) = &self.principals else { return Some(generation) };
        // The number of this handshake, unless it was changed since the handshake began.
        let used = self.route(now(), &mut Batch::default(), |_| {
            let changed = lock(&self.changed).get(&who).map_or(0, |(count, _)| *count);
            let table = self.keys.table.read().unwrap_or_else(PoisonError::into_inner);
            table.get(&who).filter(|_| changed <= generation).map(duplicate)
        })?;
        let apply = || {
            self.keys.awaited.write().unwrap_or_else(PoisonError::into_inner).remove(&who);
        };
        match principals.arrive(who, &used, &apply).await {
            Ok(Enrolled::Kept) => Some(generation),
            Ok(Enrolled::NotPermitted) => None,
            // A hop that is served is the end of the permit, for good: where that cannot be kept there is none.
            Err(error) => {
                warn!(relay = %self.path, %error, "a principal that was enrolled is refused its first hop");
                None
            }
        }
    }

    /// Accepts and dials no more, and has every hop let out what waits and end; waits for that at most so long.
    pub(crate) async fn drain(self: &Arc<Self>, within: Duration) {
        self.draining.store(true, Ordering::Release);
        if let Some(accepting) = lock(&self.accepting).take() {
            accepting.abort();
        }
        self.listener.shut_down();
        let mut batch = Batch::default();
        self.route(now(), &mut batch, Router::drain);
        let empty = async {
            loop {
                let gone = self.gone.notified();
                if self.hops.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
                    return;
                }
                gone.await;
            }
        };
        // Late or not, the end is the same.
        let _ = tokio::time::timeout(within, empty).await;
    }

    /// Aborts every task and ends every connection. The tasks are returned to be waited for.
    pub(crate) fn close(&self) -> Option<JoinSet<()>> {
        let mut tasks = lock(&self.tasks).take();
        if let Some(tasks) = &mut tasks {
            tasks.abort_all();
        }
        let hops = std::mem::take(&mut *self.hops.write().unwrap_or_else(PoisonError::into_inner));
        for hop in hops.values() {
            hop.shut_down();
        }
        // The task may still hold the listener.
        self.listener.shut_down();
        tasks
    }

    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Returns at once unless the relay is frozen.
    pub(crate) async fn thawed(&self) {
        if *self.frozen.borrow() {
            // The sender lives in `self`.
            let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
        }
    }

    /// The hop to a server, if one stands.
    pub(crate) fn server_hop(&self, server: Principal) -> Option<Arc<Hop>> {
        let id = lock(&self.routing).router.server_hop(server)?;
        self.hop(id)
    }

    pub(crate) fn hop(&self, id: HopId) -> Option<Arc<Hop>> {
        self.hops.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn stats(&self) -> Stats {
        let (hops, server_hops, queued_bytes) = {
            let hops = self.hops.read().unwrap_or_else(PoisonError::into_inner);
            let servers = hops.values().filter(|hop| hop.role == Role::Server).count();
            (hops.len(), servers, hops.values().map(|hop| hop.queued_bytes()).sum::<usize>())
        };
        let (routes, waiting) = {
            let routing = lock(&self.routing);
            (routing.router.routes(), routing.router.waiting_bytes())
        };
        Stats {
            hops,
            server_hops,
            connections: self.connections.load(Ordering::Relaxed),
            routes,
            queued_bytes: queued_bytes + waiting,
            ..self.counters.stats()
        }
    }

    async fn accept(self: Arc<Self>) {
        let mut logged: Option<Instant> = None;
        loop {
            let accepted = self.listener.accept().await;
            self.thawed().await;
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
                    if !matches!(e.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
                        if logged.is_none_or(|at| now().duration_since(at) >= ACCEPT_LOGGED) {
                            logged = Some(now());
                            warn!(relay = %self.path, error = %e, "accepting failed");
                        }
                        // Where files ran out, strangers give theirs back first.
                        self.lobby.make_room();
                        tokio::time::sleep(ACCEPT_REST).await;
                    }
                    continue;
                }
            };
            let Some(place) = self.admit(peer.ip()) else { continue };
            let (core, guest) = (Arc::clone(&self), self.lobby.enter());
            self.spawn(async move {
                let generation = core.generation.load(Ordering::Acquire);
                let done = tokio::select! {
                    biased;
                    done = handshake::respond(&core, stream) => done,
                    () = guest.asked_to_leave() => Err(handshake::Failed::GaveWay),
                };
                drop(guest);
                match done {
                    Ok(up) => core.serve(up, generation).await,
                    Err(e) => {
                        core.counters.refused(Refusal::from(&e));
                        debug!(relay = %core.path, %peer, error = %e, "refused a hop");
                    }
                }
                drop(place);
            });
        }
    }

    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        if !self.rate.admits(address) {
            self.counters.refused(Refusal::Rate);
            trace!(relay = %self.path, "an address connects too often");
            return None;
        }
        if self.connections.load(Ordering::Relaxed) >= self.limits.connections && !self.lobby.make_room() {
            self.counters.refused(Refusal::Connections);
            debug!(relay = %self.path, "holds all the connections that it may");
            return None;
        }
        if let Err(e) = lock(&self.admission).enter(address) {
            self.counters.refused(Refusal::Address);
            debug!(relay = %self.path, error = %e, "refused a connection");
            return None;
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { core: Arc::clone(self), address })
    }

    async fn dial(self: Arc<Self>, server: Principal, address: SocketAddr) {
        self.thawed().await;
        let generation = self.generation.load(Ordering::Acquire);
        let dialled = handshake::dial(&self, server, address).await;
        self.counters.dialled(dialled.is_ok());
        match dialled {
            Ok(up) => self.serve(up, generation).await,
            Err(e) => {
                debug!(relay = %self.path, %server, %address, error = %e, "dialling a server failed");
                let now = now();
                self.route(now, &mut Batch::default(), |r| r.dial_failed(now, server, &mut OsRng));
            }
        }
    }

    /// Makes a hop known, serves it until it ends, and forgets it.
    ///
    /// `generation` is from before the handshake: if somebody left the table since, the peer may be the one.
    async fn serve(self: &Arc<Self>, up: Up, generation: u64) {
        let Up { stream, established, inbox, outbox } = up;
        let Established { principal, role, dialled_by, rotated, sealer, opener, .. } = established;
        let generation = if rotated { self.settle((principal, role)).await } else { Some(generation) };
        let generation = match generation {
            Some(generation) if self.keys.is_awaited((principal, role)) => {
                self.arrive((principal, role), generation).await
            }
            generation => generation,
        };
        let info = HopInfo { principal, role, dialled_by };
        let id = HopId(self.next_hop.fetch_add(1, Ordering::Relaxed));
        let meter = lock(&self.meters).of(now(), (principal, role));
        let egress = Egress::new(outbox, self.limits.egress);
        let hop = Arc::new(Hop::new(id, (principal, role), stream, egress, sealer, meter));
        self.hops.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&hop));
        debug!(relay = %self.path, hop = id.0, %principal, ?role, "hop up");
        let mut batch = Batch::default();
        let current = self.route(now(), &mut batch, |r| {
            let changed = lock(&self.changed).get(&(principal, role)).map_or(0, |(count, _)| *count);
            let current = generation.is_some_and(|began| changed <= began);
            if current {
                r.hop_up(id, info);
            } else if dialled_by == DialledBy::Relay {
                r.dial_failed(now(), principal, &mut OsRng);
            }
            current
        });
        self.flush(now(), &mut batch);
        if !current {
            self.hops.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
            debug!(relay = %self.path, %principal, ?role, "refused a hop: the principals changed meanwhile");
            return;
        }
        let end = hop::run(self, &hop, opener, inbox).await;
        hop.forget_calls();
        debug!(relay = %self.path, hop = id.0, %principal, ?role, %end, "hop down");
        self.hops.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let now = now();
        self.route(now, &mut batch, |r| r.hop_down(now, id, &mut OsRng));
        self.flush(now, &mut batch);
        self.gone.notify_waiters();
    }

    async fn keep_time(self: Arc<Self>) {
        loop {
            let due = {
                let mut routing = lock(&self.routing);
                routing.armed = routing.router.poll_timeout();
                routing.armed
            };
            let reached = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.timer.notified() => continue,
                () = reached => {}
            }
            self.thawed().await;
            let now = now();
            let mut batch = Batch::default();
            self.route(now, &mut batch, |r| r.handle_timeout(now));
            self.flush(now, &mut batch);
        }
    }

    /// Asks the router, and does what it wants done, under its lock: so frames of a route keep their order.
    pub(crate) fn route<T>(
        self: &Arc<Self>,
        now: Instant,
        batch: &mut Batch,
        ask: impl FnOnce(&mut Router) -> T,
    ) -> T {
        let mut routing = lock(&self.routing);
        let answer = ask(&mut routing.router);
        while let Some(action) = routing.router.poll_action() {
            self.act(&mut routing.router, action, now, batch);
        }
        let next = routing.router.poll_timeout();
        if next.is_some_and(|at| routing.armed.is_none_or(|armed| at < armed)) {
            routing.armed = next;
            self.timer.notify_one();
        }
        answer
    }

    fn act(self: &Arc<Self>, router: &mut Router, action: Action, now: Instant, batch: &mut Batch) {
        match action {
            Action::Dial { server, address } => {
                self.spawn(Arc::clone(self).dial(server, address));
            }
            Action::Send { hop, frame } => self.send(hop, &frame, batch),
            Action::Close { hop, reason } => {
                if let Some(hop) = self.hop(hop) {
                    if self.draining.load(Ordering::Acquire) {
                        hop.drain();
                    } else {
                        hop.close(reason);
                    }
                }
            }
            Action::Deliver { hop, route, mut frames } => {
                let (Some(target), Some(origin)) = (self.hop(hop), router.lookup(hop, route)) else { return };
                batch.touch(&target);
                for frame in Frames::new(&mut frames) {
                    // They were encoded by the router itself.
                    let Ok(mut frame) = frame else { return };
                    frame.set_route(route);
                    if let Frame::Data { offset, payload, .. } = &frame {
                        let congested = target.data(now, route, *offset, payload, origin);
                        batch.congested.extend(congested);
                        batch.forwarded.frame(Role::Client, payload.len());
                        continue;
                    }
                    if target.control(&frame).is_err() {
                        router.abandon(origin.0, origin.1);
                        let refusal = Frame::RouteError { route: origin.1, reason: RouteError::Busy };
                        self.send(origin.0, &refusal, batch);
                        return;
                    }
                    batch.forwarded.frame(Role::Client, 0);
                }
            }
        }
    }

    /// Queues a control frame for a hop. One that finds no room is dropped (7.9): keepalives end hops, not this.
    fn send(&self, hop: HopId, frame: &Frame<'_>, batch: &mut Batch) {
        if let Some(hop) = self.hop(hop)
            && hop.control(frame).is_ok()
        {
            batch.touch(&hop);
        }
    }

    /// Opens and forwards all records at hand, then writes once to every hop that got something.
    pub(crate) fn forward(
        self: &Arc<Self>,
        hop: &Hop,
        opener: &mut Opener,
        inbox: &mut Inbox,
        keepalive: &mut Keepalive,
        batch: &mut Batch,
    ) -> Result<(), End> {
        let now = now();
        let done = self.forward_all(now, hop, opener, inbox, keepalive, batch);
        batch.last = None;
        self.flush(now, batch);
        done
    }

    fn forward_all(
        self: &Arc<Self>,
        now: Instant,
        hop: &Hop,
        opener: &mut Opener,
        inbox: &mut Inbox,
        keepalive: &mut Keepalive,
        batch: &mut Batch,
    ) -> Result<(), End> {
        while let Some(frames) = opener.next_record(inbox)? {
            keepalive.on_record(now);
            for frame in frames {
                let frame = frame.map_err(|_| End::Reason(CloseReason::Protocol))?;
                match frame {
                    Frame::Pong { token } => {
                        keepalive.on_pong(now, token);
                    }
                    Frame::Close { .. } => return Err(End::Closed),
                    Frame::Call { call, service, body } => self.on_call(hop, call, service, body, batch)?,
                    Frame::Answer { call, status, body } => Self::on_answer(hop, call, status, body),
                    Frame::Data { route, offset, payload } => {
                        self.on_data(now, hop, route, offset, payload, batch)?;
                    }
                    frame => {
                        batch.last = None;
                        self.on_control(now, hop, frame, batch)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn on_data(
        self: &Arc<Self>,
        now: Instant,
        hop: &Hop,
        route: RouteId,
        offset: u32,
        payload: &mut [u8],
        batch: &mut Batch,
    ) -> Result<(), End> {
        if !hop.within_quota(now, payload.len()) {
            let stands = batch.last.as_ref().is_some_and(|(from, ..)| *from == route)
                || lock(&self.routing).router.lookup(hop.id, route).is_some();
            if stands {
                batch.congested.extend(hop.over_quota(now, route, payload.len()));
            }
            return Ok(());
        }
        if batch.last.as_ref().is_none_or(|(from, ..)| *from != route) {
            batch.last = None;
            let found = lock(&self.routing).router.lookup(hop.id, route);
            let Some((id, to)) = found else {
                return self.on_control(now, hop, Frame::Data { route, offset, payload }, batch);
            };
            let Some(target) = self.hop(id) else { return Ok(()) };
            batch.touch(&target);
            batch.last = Some((route, to, target));
        }
        let Some((_, to, target)) = &batch.last else { return Ok(()) };
        let congested = target.data(now, *to, offset, payload, (hop.id, route));
        batch.forwarded.frame(hop.role, payload.len());
        batch.congested.extend(congested);
        Ok(())
    }

    /// Has the router decide about a frame that is not DATA of a route that stands.
    fn on_control(
        self: &Arc<Self>,
        now: Instant,
        hop: &Hop,
        mut frame: Frame<'_>,
        batch: &mut Batch,
    ) -> Result<(), End> {
        if let Frame::Detach { route } | Frame::RouteError { route, .. } = frame {
            hop.forget(route);
        }
        match self.route(now, batch, |r| r.handle_frame(now, hop.id, &frame)) {
            Verdict::Done => Ok(()),
            Verdict::Close(reason) => Err(End::Reason(reason)),
            Verdict::Reply(reply) => {
                if let Frame::Congested { bytes, .. } = reply {
                    self.counters.dropped(bytes);
                }
                self.reply(hop, &reply, batch)
            }
            Verdict::Forward { hop: id, route: to } => {
                let Some(target) = self.hop(id) else { return Ok(()) };
                let from = frame.route().unwrap_or(to);
                frame.set_route(to);
                if let Frame::Data { offset, payload, .. } = &frame {
                    batch.congested.extend(target.data(now, to, *offset, payload, (hop.id, from)));
                } else if target.control(&frame).is_err() {
                    if matches!(frame, Frame::Open { .. } | Frame::Attach { .. }) {
                        self.route(now, batch, |r| r.abandon(hop.id, from));
                        let refusal = Frame::RouteError { route: from, reason: RouteError::Busy };
                        return self.reply(hop, &refusal, batch);
                    }
                    return Ok(());
                }
                let bytes = if let Frame::Data { payload, .. } = &frame { payload.len() } else { 0 };
                batch.forwarded.frame(hop.role, bytes);
                batch.touch(&target);
                Ok(())
            }
        }
    }

    /// Answers on the hop that asked. A peer that asks and does not read its answers loses its own hop.
    pub(crate) fn reply(&self, hop: &Hop, frame: &Frame<'_>, batch: &mut Batch) -> Result<(), End> {
        hop.control(frame).map_err(|_| End::Reason(CloseReason::Unresponsive))?;
        if let Some(hop) = self.hop(hop.id) {
            batch.touch(&hop);
        }
        Ok(())
    }

    /// Tells senders of dropped frames, and writes to every hop of the batch.
    pub(crate) fn flush(&self, now: Instant, batch: &mut Batch) {
        for Congestion { hop, route, bytes } in std::mem::take(&mut batch.congested) {
            self.counters.dropped(bytes);
            self.send(hop, &Frame::Congested { route, bytes }, batch);
        }
        self.counters.forwarded(&mut batch.forwarded);
        for hop in batch.dirty.drain(..) {
            hop.flush(now);
        }
    }

    /// Has exactly these addresses at the word of their servers, these numbers that are to be used, and awaits these
    /// principals.
    pub(crate) fn set_claims(
        self: &Arc<Self>,
        claims: Vec<Server>,
        next: RelayTable,
        awaited: BTreeSet<(Principal, Role)>,
    ) {
        *self.keys.awaited.write().unwrap_or_else(PoisonError::into_inner) = awaited;
        *self.keys.next.write().unwrap_or_else(PoisonError::into_inner) = next;
        let now = now();
        self.route(now, &mut Batch::default(), |r| r.set_claims(now, &by_server(claims)));
    }

    /// Registers where a server is reached.
    pub(crate) fn register(
        self: &Arc<Self>,
        server: Principal,
        registration: Registration,
    ) -> Result<(), RegisterError> {
        let now = now();
        let mut batch = Batch::default();
        let done = self.route(now, &mut batch, |r| r.register(now, server, registration));
        self.flush(now, &mut batch);
        done
    }
}

fn by_server(servers: Vec<Server>) -> BTreeMap<Principal, Vec<Registration>> {
    let mut registrations: BTreeMap<Principal, Vec<Registration>> = BTreeMap::new();
    for Server { principal, service, dial } in servers {
        registrations.entry(principal).or_default().push(Registration { destination: service, dial });
    }
    registrations
}
