//! What hops ask of the relay beside streams: keys that are left, fetched and released, and signals that are passed
//! on (`docs/protocol.md`, sections 17 and 18).

use crate::hop::{End, Hop};
use crate::names::{NamesFailed, is_about_names};
use crate::posts::{Got, NewPost, Posted, Released};
use crate::principals::{Enrolled, Registered, Rotated};
use crate::state::{Batch, Core, lock};
use qsocket_files::rng::OsRng;
use qsocket_net::clock::now;
use qsocket_proto::call::{CALL_DEADLINE, Service, Status};
use qsocket_proto::codec::Reader;
use qsocket_proto::enrol::{RequestId, Subject};
use qsocket_proto::exchange::{Get, admit, receipt};
use qsocket_proto::frame::Frame;
use qsocket_proto::ids::{CallId, Principal, Role};
use qsocket_proto::register::Register;
use qsocket_proto::relay::ClaimError;
use qsocket_proto::rotate;
use qsocket_proto::sponsor;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use tracing::{debug, warn};
use zeroize::Zeroizing;

/// How often lapsed posts are removed. They are not given out meanwhile; this is about their room.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Signals of one client, over all its hops, that may be with servers at once: so many exchanges of it does a server work
/// on, and no client takes all the places for calls of a server's hop.
const SIGNALS_PER_CLIENT: usize = 4;

/// How often one principal in one role may change what the relay keeps of it: each change is written for good.
const CHANGE_EVERY: Duration = Duration::from_secs(1);

/// An answer as it comes from the other end of a hop.
pub(crate) type Reply = (u8, Vec<u8>);

/// Seconds since 1970: the time that stores keep.
fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
}

impl Core {
    /// Takes a call of a hop; a task of its own answers it, so that a slow store holds up no stripe.
    pub(crate) fn on_call(
        self: &Arc<Self>,
        hop: &Hop,
        call: CallId,
        service: u8,
        body: &[u8],
        batch: &mut Batch,
    ) -> Result<(), End> {
        let Some(hop) = self.hop(hop.id) else { return Ok(()) };
        let place =
            hop.within_quota(now(), body.len()).then(|| Arc::clone(&hop.calls).try_acquire_owned().ok());
        let Some(place) = place.flatten() else {
            let busy = Frame::Answer { call, status: Status::Busy as u8, body: &[] };
            return self.reply(&hop, &busy, batch);
        };
        // It may hold a share.
        let body = Zeroizing::new(body.to_vec());
        let core = Arc::clone(self);
        self.spawn(async move {
            let (status, answer) = core.serve_call(&hop, service, &body).await;
            drop(place);
            core.thawed().await;
            // A peer that takes no answers is closed by the stall limit.
            let _ = hop.control(&Frame::Answer { call, status: status as u8, body: &answer });
            hop.flush(now());
        });
        Ok(())
    }

    async fn serve_call(
        self: &Arc<Self>,
        hop: &Hop,
        service: u8,
        body: &[u8],
    ) -> (Status, Zeroizing<Vec<u8>>) {
        let done = match (Service::from_u8(service), hop.role) {
            (Some(Service::PostKey), Role::Client) => self.post_key(hop.principal, body).await,
            (Some(Service::GetKey), Role::Server) => self.get_key(hop.principal, body).await,
            (Some(Service::ReleaseKey), Role::Server) => self.release_key(hop.principal, body).await,
            (Some(Service::RotateKey), role) => self.rotate_key((hop.principal, role), body).await,
            (Some(Service::Enrol), role) => self.enrol((hop.principal, role), body).await,
            (Some(Service::Register), Role::Server) => self.register_itself(hop.principal, body).await,
            (Some(Service::Signal), Role::Client) => return self.pass_on(hop.principal, body).await,
            (Some(service), _) if is_about_names(service) => {
                self.serve_name(service, hop.principal, body).await
            }
            (Some(_), _) => Err(Refused(Status::NotPermitted)),
            (None, _) => Err(Refused(Status::NoSuchService)),
        };
        match done {
            Ok(answer) => (Status::Ok, answer),
            Err(Refused(status)) => (status, Zeroizing::default()),
        }
    }

    async fn post_key(&self, poster: Principal, body: &[u8]) -> Done {
        let admitted = admit(body, poster, self.path).map_err(Refused)?;
        let header = &admitted.header;
        let Some(key) = self.keys.import(header.receiver, Role::Server) else {
            return Err(Refused(Status::NotFound));
        };
        let now = wall_clock();
        let post = NewPost {
            poster,
            receiver: header.receiver,
            key: header.key,
            entry: admitted.entry,
            until: now.saturating_add(header.ttl.into()),
        };
        match self.posts.post(now, self.post_quota, post).await.map_err(|e| self.failed(&e))? {
            // Given only now that it is kept for good.
            Posted::Kept => Ok(Zeroizing::new(receipt(&key.receipt_key(), admitted.encoded).to_vec())),
            Posted::Exists => Err(Refused(Status::Exists)),
            Posted::Quota => Err(Refused(Status::Quota)),
        }
    }

    async fn get_key(&self, receiver: Principal, body: &[u8]) -> Done {
        let get = Get::decode(body).map_err(|_| Refused(Status::Malformed))?;
        match self.posts.get(wall_clock(), receiver, get).await.map_err(|e| self.failed(&e))? {
            Got::Entry(entry) => Ok(entry),
            Got::NotFound => Err(Refused(Status::NotFound)),
            Got::Taken => Err(Refused(Status::Taken)),
        }
    }

    async fn release_key(&self, receiver: Principal, body: &[u8]) -> Done {
        let get = Get::decode(body).map_err(|_| Refused(Status::Malformed))?;
        match self.posts.release(wall_clock(), receiver, get).await.map_err(|e| self.failed(&e))? {
            Released::Done => Ok(Zeroizing::default()),
            Released::NotFound => Err(Refused(Status::NotFound)),
            Released::Taken => Err(Refused(Status::Taken)),
        }
    }

    async fn serve_name(&self, service: Service, caller: Principal, body: &[u8]) -> Done {
        let knows =
            |who| [Role::Client, Role::Server].iter().any(|role| self.keys.import(who, *role).is_some());
        let done = self.names.serve(service, caller, body, knows).await;
        done.map_err(|error: NamesFailed| self.failed(&error))?.map(Zeroizing::new).map_err(Refused)
    }

    /// Takes the addresses that a server registers itself.
    async fn register_itself(self: &Arc<Self>, server: Principal, body: &[u8]) -> Done {
        let Some(principals) = &self.principals else { return Err(Refused(Status::NotPermitted)) };
        let Register { registrations } = Register::decode(body).map_err(|_| Refused(Status::Malformed))?;
        let may = self.route(now(), &mut Batch::default(), |r| {
            r.may_claim(server, &registrations).map(|()| r.has_claimed(server, &registrations))
        });
        match may {
            // As after every new hop of this server: nothing is written.
            Ok(true) => return Ok(Zeroizing::default()),
            Ok(false) => {}
            Err(error) => {
                debug!(relay = %self.path, %server, %error, "a server may not register what it wants");
                return Err(Refused(match error {
                    ClaimError::Taken(_) => Status::Exists,
                    ClaimError::TooMany => Status::Quota,
                    ClaimError::NotPublic(_) => Status::NotPermitted,
                }));
            }
        }
        if !self.changes.admits(now(), (server, Role::Server)) {
            return Err(Refused(Status::Busy));
        }
        let apply = || {
            let (now, mut batch) = (now(), Batch::default());
            // What the store took the router may refuse only where the operator was faster.
            let _ = self.route(now, &mut batch, |r| r.claim(now, server, &registrations));
            self.flush(now, &mut batch);
        };
        match principals.register(server, &registrations, &apply).await.map_err(|e| self.failed(&e))? {
            Registered::Kept => Ok(Zeroizing::default()),
            Registered::Taken => Err(Refused(Status::Exists)),
            Registered::TooMany => Err(Refused(Status::Quota)),
            Registered::Unknown => Err(Refused(Status::NotPermitted)),
        }
    }

    /// Draws a number with a principal that takes the place of its present one when it is used.
    async fn rotate_key(self: &Arc<Self>, who: (Principal, Role), body: &[u8]) -> Done {
        let Some(principals) = &self.principals else { return Err(Refused(Status::NotPermitted)) };
        let hop = Subject { principal: who.0, role: who.1, relay: self.path, id: RequestId([0; 16]) };
        let request = rotate::decode_request(hop, body).map_err(|_| Refused(Status::Malformed))?;
        if !self.changes.admits(now(), who) {
            return Err(Refused(Status::Busy));
        }
        let (answer, next) = request.answer(&mut OsRng);
        match principals.rotate(who, &next, &|| self.set_next(who, &next)).await {
            Ok(Rotated::Kept) => Ok(rotate::encode_answer(&answer)),
            Ok(Rotated::Unknown) => Err(Refused(Status::NotPermitted)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Draws the first number of a principal that the operator permitted this one to enrol. Every reason not to is one
    /// status: a stranger does not learn whom the relay knows or awaits.
    async fn enrol(self: &Arc<Self>, sponsor: (Principal, Role), body: &[u8]) -> Done {
        let Some(principals) = &self.principals else { return Err(Refused(Status::NotPermitted)) };
        let request = sponsor::decode_request(self.path, body).map_err(|_| Refused(Status::Malformed))?;
        if !self.changes.admits(now(), sponsor) {
            return Err(Refused(Status::Busy));
        }
        let who = (request.subject.principal, request.subject.role);
        if self.keys.import(who.0, who.1).is_some() && !self.keys.is_awaited(who) {
            return Err(Refused(Status::NotPermitted));
        }
        let (answer, number) = request.answer(&mut OsRng);
        let apply = || self.set_enrolled(who, &number);
        match principals.enrol(wall_clock(), sponsor.0, who, &number, &apply).await {
            Ok(Enrolled::Kept) => Ok(sponsor::encode_answer(&answer)),
            Ok(Enrolled::NotPermitted) => Err(Refused(Status::NotPermitted)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &dyn Display) -> Refused {
        warn!(relay = %self.path, %error, "a call failed");
        Refused(Status::Failed)
    }

    /// Asks the server what a client wants it to know, and answers what it says.
    async fn pass_on(self: &Arc<Self>, from: Principal, body: &[u8]) -> (Status, Zeroizing<Vec<u8>>) {
        let refuse = |status| (status, Zeroizing::default());
        let mut r = Reader::new(body);
        let Ok(server) = Principal::decode(&mut r) else { return refuse(Status::Malformed) };
        let Some(hop) = self.server_hop(server) else { return refuse(Status::Unreachable) };
        let Some(_signal) = self.signals.enter(from) else { return refuse(Status::Busy) };
        let (sender, reply) = oneshot::channel();
        let Ok(call) = lock(&hop.asked).begin(sender) else { return refuse(Status::Busy) };
        let frame = Frame::Call { call, service: Service::Signal as u8, body: r.take_rest() };
        let sent = hop.control(&frame);
        hop.flush(now());
        let reply = match sent {
            Ok(()) => tokio::time::timeout(CALL_DEADLINE, reply).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        lock(&hop.asked).end(call);
        match reply {
            Some((status, answer)) => (Status::from_u8(status), Zeroizing::new(answer)),
            None => refuse(Status::Unreachable),
        }
    }

    /// Takes an answer of a server. One that nobody waits for came too late.
    pub(crate) fn on_answer(hop: &Hop, call: CallId, status: u8, body: &[u8]) {
        if let Some(waiter) = lock(&hop.asked).end(call) {
            // Whoever waited may have gone.
            let _: Result<(), Reply> = waiter.send((status, body.to_vec()));
        }
    }

    /// Removes lapsed posts, for as long as the relay runs.
    pub(crate) async fn sweep_posts(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.thawed().await;
            if let Err(error) = self.posts.sweep(wall_clock()).await {
                warn!(relay = %self.path, %error, "lapsed posts stay");
            }
        }
    }
}

impl Core {
    /// Removes names that nobody holds any more, for as long as the relay runs.
    pub(crate) async fn sweep_names(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.thawed().await;
            if let Err(error) = self.names.sweep().await {
                warn!(relay = %self.path, %error, "names that are over stay");
            }
        }
    }
}

/// Signals of each client that are with their server.
#[derive(Debug, Default)]
pub(crate) struct Signals(Mutex<BTreeMap<Principal, usize>>);

/// One of them, until it is answered.
struct Signalling<'a> {
    signals: &'a Signals,
    from: Principal,
}

impl Signals {
    fn enter(&self, from: Principal) -> Option<Signalling<'_>> {
        let mut held = lock(&self.0);
        let count = held.entry(from).or_default();
        if *count >= SIGNALS_PER_CLIENT {
            return None;
        }
        *count += 1;
        Some(Signalling { signals: self, from })
    }
}

impl Drop for Signalling<'_> {
    fn drop(&mut self) {
        let mut held = lock(&self.signals.0);
        if let Some(count) = held.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.from);
            }
        }
    }
}

/// When principals last changed what the relay keeps of them.
#[derive(Debug, Default)]
pub(crate) struct Changes(Mutex<BTreeMap<(Principal, Role), Instant>>);

impl Changes {
    /// Whether this one may change something now.
    fn admits(&self, now: Instant, who: (Principal, Role)) -> bool {
        let mut last = lock(&self.0);
        // Who has a hop is known to the relay, so they are no more than principals.
        last.retain(|_, at| now.duration_since(*at) < CHANGE_EVERY);
        if last.contains_key(&who) {
            return false;
        }
        last.insert(who, now);
        true
    }
}

/// A call that is not done, and what to answer.
struct Refused(Status);

type Done = Result<Zeroizing<Vec<u8>>, Refused>;
