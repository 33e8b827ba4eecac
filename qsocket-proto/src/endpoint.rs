//! One principal's set of 25 hops, and which frame on them belongs to which connection.
//!
//! An [`Endpoint`] owns no connection: the caller does, so that each can have its own lock. It names them by
//! [`Handle`], opens them ([`Endpoint::dial`]) or finds that 16 relays brought one ([`Routed::New`]), and says of
//! every frame whose it is ([`Endpoint::handle_frame`]).

mod acceptor;

pub use acceptor::{Admission, MAX_UNCONFIRMED, PENDING_BYTES, PENDING_IDS, QUORUM_DEADLINE};

use crate::connection::{Config, Connection, Dial, Hops};
use crate::frame::{Frame, RouteError};
use crate::ids::{ConnectionId, HopAt, PathId, PathSet, Principal, RELAYS, Role, RouteId};
use crate::open::{MixedFamilies, OpenHeader};
use crate::path::PathCounter;
use acceptor::{Acceptor, Offer, Outcome};
use rand_core::CryptoRng;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Names a connection of an endpoint; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u32);

/// Something that a frame tells a connection.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes from the other end.
    Data {
        /// The frame's place in the path's byte count.
        offset: u32,
        /// Opened in place.
        payload: &'a mut [u8],
    },
    /// A relay dropped bytes of the connection.
    Congested {
        /// How many.
        bytes: u32,
    },
    /// The route on this path is gone.
    RouteError {
        /// Why.
        reason: RouteError,
    },
    /// The relay let go of the route on this path.
    Detached,
    /// The client joins this path (server).
    Join {
        /// Which of the path's hops brought it.
        nth: u8,
        /// What the relay calls the connection on this hop.
        route: RouteId,
        /// By OPEN, not by ATTACH.
        opened: bool,
        /// What of the connection arrived on this path before it was one: the stripe of the hello block.
        before: PathCounter,
    },
}

/// Whose a frame is.
#[derive(Debug)]
pub enum Routed<'a> {
    /// Nobody's, or the endpoint's own.
    Nothing,
    /// Hand this to [`Connection::handle_input`].
    To(Handle, Input<'a>),
    /// A connection that 16 relays brought. It is not open before its [`Event::Established`].
    ///
    /// [`Event::Established`]: crate::connection::Event::Established
    New(Handle, Box<Connection>),
}

#[derive(Debug)]
struct Entry {
    key: Key,
    header: Arc<[u8]>,
    unconfirmed: bool,
}

/// What names a connection at a server: ids of different clients never meet.
type Key = (Principal, ConnectionId);

/// A principal with its hops. See the [module](self).
pub struct Endpoint {
    principal: Principal,
    role: Role,
    config: Arc<Config>,
    rng: Box<dyn CryptoRng + Send>,
    /// The hops that stand, by path: bit `nth`.
    up: [u8; RELAYS],
    next: u32,
    entries: BTreeMap<Handle, Entry>,
    by_key: BTreeMap<Key, Handle>,
    /// By path, then by hop.
    routes: [BTreeMap<(u8, RouteId), Handle>; RELAYS],
    acceptor: Option<Acceptor>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("principal", &self.principal)
            .field("role", &self.role)
            .field("up", &self.up())
            .field("connections", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint that opens connections.
    pub fn client(principal: Principal, config: Arc<Config>, rng: Box<dyn CryptoRng + Send>) -> Self {
        Self::new(principal, Role::Client, config, rng, None)
    }

    /// An endpoint that takes connections, those that `admission` admits.
    pub fn server(
        principal: Principal,
        config: Arc<Config>,
        rng: Box<dyn CryptoRng + Send>,
        admission: Box<dyn Admission>,
    ) -> Self {
        let acceptor = Acceptor::new(principal, config.clone(), admission);
        Self::new(principal, Role::Server, config, rng, Some(acceptor))
    }

    fn new(
        principal: Principal,
        role: Role,
        config: Arc<Config>,
        rng: Box<dyn CryptoRng + Send>,
        acceptor: Option<Acceptor>,
    ) -> Self {
        Self {
            principal,
            role,
            config,
            rng,
            up: [0; RELAYS],
            next: 1,
            entries: BTreeMap::new(),
            by_key: BTreeMap::new(),
            routes: std::array::from_fn(|_| BTreeMap::new()),
            acceptor,
        }
    }

    /// Whose hops these are.
    pub fn principal(&self) -> Principal {
        self.principal
    }

    /// In which role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The paths with a hop that stands.
    pub fn up(&self) -> PathSet {
        PathId::all().zip(self.up).filter(|(_, hops)| *hops != 0).map(|(path, _)| path).collect()
    }

    /// Relays whose share was not the one that the client made, by path: how often.
    pub fn liars(&self) -> [u64; RELAYS] {
        self.acceptor.as_ref().map(|a| a.liars).unwrap_or_default()
    }

    /// Relays that brought another header than sixteen others for the same connection of the same client, by path: how
    /// often. The relay altered it, or the client told different relays different things; the server cannot know which.
    pub fn other_headers(&self) -> [u64; RELAYS] {
        self.acceptor.as_ref().map(|a| a.other_headers).unwrap_or_default()
    }

    /// Bytes that the openings of unknown clients hold now: for tests of bounds.
    pub fn pending_bytes(&self) -> usize {
        self.acceptor.as_ref().map_or(0, Acceptor::pending_bytes)
    }

    /// Unaccepted connections that at least ten relays announce: for tests of bounds.
    pub fn pending_slots(&self) -> usize {
        self.acceptor.as_ref().map_or(0, Acceptor::slots)
    }

    /// Begins a connection. Its caller drives it from now on.
    ///
    /// # Errors
    /// [`MixedFamilies`] if source and destination are of different address families.
    pub fn dial(&mut self, now: Instant, dial: Dial) -> Result<(Handle, Connection), MixedFamilies> {
        let handle = self.take_handle();
        let route = RouteId(handle.0);
        let client = dial.client;
        let mut connection = Connection::dial(now, route, dial, self.config.clone(), &mut *self.rng)?;
        for path in self.up().iter() {
            connection.handle_path_up(now, path);
        }
        for routes in &mut self.routes {
            routes.insert((0, route), handle);
        }
        let key = (client, connection.id());
        self.entries.insert(handle, Entry { key, header: Arc::default(), unconfirmed: false });
        Ok((handle, connection))
    }

    /// A hop of a path stands. A client's caller then tells each connection,
    /// [`Connection::handle_path_up`].
    pub fn path_up(&mut self, at: impl Into<HopAt>) {
        let HopAt { path, nth } = at.into();
        self.up[path.index()] |= bit(nth);
    }

    /// A hop of a path is gone. A client's caller then tells each connection, [`Connection::handle_path_down`], a
    /// server's those that the hop carried; these are returned.
    pub fn path_down(&mut self, at: impl Into<HopAt>) -> Vec<Handle> {
        let HopAt { path, nth } = at.into();
        self.up[path.index()] &= !bit(nth);
        let Some(acceptor) = &mut self.acceptor else { return Vec::new() };
        acceptor.hop_down(HopAt { path, nth });
        let mut carried = Vec::new();
        self.routes[path.index()].retain(|(hop, _), handle| {
            if *hop == nth {
                carried.push(*handle);
            }
            *hop != nth
        });
        carried
    }

    /// Finds out whose a frame is. Frames about the hop itself (PING, PONG, REKEY, CLOSE) and calls are the caller's.
    pub fn handle_frame<'a, H: Hops>(
        &mut self,
        now: Instant,
        at: impl Into<HopAt>,
        frame: Frame<'a>,
        hops: &mut H,
    ) -> Routed<'a> {
        let at @ HopAt { path, nth } = at.into();
        match frame {
            Frame::Data { route, offset, payload } => match self.routes[path.index()].get(&(nth, route)) {
                Some(handle) => Routed::To(*handle, Input::Data { offset, payload }),
                None => self.on_pending_data(now, at, (route, offset), payload, hops),
            },
            Frame::Congested { route, bytes } => self.to(at, route, Input::Congested { bytes }),
            Frame::RouteError { route, reason } => self.to(at, route, Input::RouteError { reason }),
            Frame::Detach { route } => {
                let handle = match self.role {
                    Role::Client => self.routes[path.index()].get(&(nth, route)).copied(),
                    Role::Server => self.routes[path.index()].remove(&(nth, route)),
                };
                if let Some(acceptor) = &mut self.acceptor {
                    acceptor.detach(at, route);
                }
                handle.map_or(Routed::Nothing, |handle| Routed::To(handle, Input::Detached))
            }
            Frame::Open { route, header, share, proof } => {
                if self.acceptor.is_none() {
                    return Routed::Nothing;
                }
                let Ok(decoded) = OpenHeader::decode(header) else {
                    return refuse(hops, at, route, RouteError::NotYours);
                };
                if let Some(joined) = self.join(at, route, &decoded, header, true, hops) {
                    if let (Routed::To(..), Some(acceptor)) = (&joined, &mut self.acceptor) {
                        acceptor.judge(path, &decoded, share, proof);
                    }
                    return joined;
                }
                let busy = self.is_busy(decoded.client);
                let Some(acceptor) = &mut self.acceptor else { return Routed::Nothing };
                let offer = Offer { at, route, header: decoded, encoded: header, share, proof };
                let outcome = acceptor.open(now, offer, busy, hops, &mut *self.rng);
                self.on_outcome(now, outcome)
            }
            Frame::Attach { route, header } => {
                if self.acceptor.is_none() {
                    return Routed::Nothing;
                }
                let Ok(decoded) = OpenHeader::decode(header) else {
                    return refuse(hops, at, route, RouteError::NotYours);
                };
                match self.join(at, route, &decoded, header, false, hops) {
                    Some(joined) => joined,
                    None => refuse(hops, at, route, RouteError::UnknownConnection),
                }
            }
            Frame::Ping { .. }
            | Frame::Pong { .. }
            | Frame::Rekey
            | Frame::Close { .. }
            | Frame::Call { .. }
            | Frame::Answer { .. } => Routed::Nothing,
        }
    }

    /// The caller saw [`Event::Established`](crate::connection::Event::Established) of a server's connection.
    pub fn confirmed(&mut self, handle: Handle) {
        if let Some(entry) = self.entries.get_mut(&handle) {
            entry.unconfirmed = false;
        }
    }

    /// Forgets a connection that is closed, and tells the relays that its routes are free.
    pub fn forget<H: Hops>(&mut self, handle: Handle, hops: &mut H) {
        let Some(entry) = self.entries.remove(&handle) else { return };
        self.by_key.remove(&entry.key);
        for (path, routes) in PathId::all().zip(&mut self.routes) {
            routes.retain(|(nth, route), of| {
                if *of == handle {
                    detach(hops, HopAt { path, nth: *nth }, *route);
                }
                *of != handle
            });
        }
    }

    /// A deadline of an opening passed.
    pub fn handle_timeout<H: Hops>(&mut self, now: Instant, hops: &mut H) {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.handle_timeout(now, hops);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.acceptor.as_ref()?.poll_timeout().map(|at| (at, "deadline of a connection without a quorum"))
    }

    fn take_handle(&mut self) -> Handle {
        let handle = Handle(self.next);
        self.next = self.next.wrapping_add(1);
        handle
    }

    /// Whether this client gets no further connection now.
    fn is_busy(&self, client: Principal) -> bool {
        self.entries.len() >= self.config.max_connections || self.unconfirmed(client) >= MAX_UNCONFIRMED
    }

    fn unconfirmed(&self, client: Principal) -> usize {
        let of_client = (client, ConnectionId([0; 16]))..=(client, ConnectionId([0xff; 16]));
        let entries = self.by_key.range(of_client).filter_map(|(_, handle)| self.entries.get(handle));
        entries.filter(|e| e.unconfirmed).count()
    }

    fn to<'a>(&self, at: HopAt, route: RouteId, input: Input<'a>) -> Routed<'a> {
        let handle = self.routes[at.path.index()].get(&(at.nth, route));
        handle.map_or(Routed::Nothing, |handle| Routed::To(*handle, input))
    }

    /// Lets a path join the connection that a header names, if there is one and the header is its own.
    fn join<'a, H: Hops>(
        &mut self,
        at @ HopAt { path, nth }: HopAt,
        route: RouteId,
        decoded: &OpenHeader,
        header: &[u8],
        opened: bool,
        hops: &mut H,
    ) -> Option<Routed<'a>> {
        let handle = *self.by_key.get(&(decoded.client, decoded.connection))?;
        let entry = self.entries.get(&handle)?;
        if *entry.header != *header {
            self.acceptor.iter_mut().for_each(|a| a.other_headers[path.index()] += 1);
            return Some(refuse(hops, at, route, RouteError::NotYours));
        }
        let routes = &mut self.routes[path.index()];
        routes.retain(|_, of| *of != handle);
        routes.insert((nth, route), handle);
        Some(Routed::To(handle, Input::Join { nth, route, opened, before: PathCounter::default() }))
    }

    fn on_pending_data<'a, H: Hops>(
        &mut self,
        now: Instant,
        at: HopAt,
        (route, offset): (RouteId, u32),
        payload: &mut [u8],
        hops: &mut H,
    ) -> Routed<'a> {
        let Some(client) = self.acceptor.as_ref().and_then(|a| a.client_of(at, route)) else {
            return Routed::Nothing;
        };
        let busy = self.is_busy(client);
        let Some(acceptor) = &mut self.acceptor else { return Routed::Nothing };
        let outcome = acceptor.hello(at, (route, offset), payload, busy, hops, &mut *self.rng);
        self.on_outcome(now, outcome)
    }

    fn on_outcome<'a>(&mut self, now: Instant, outcome: Outcome) -> Routed<'a> {
        let Outcome::Accepted(accept, joins) = outcome else { return Routed::Nothing };
        let handle = self.take_handle();
        let key = (accept.header.client, accept.header.connection);
        let header = accept.encoded.clone();
        self.entries.insert(handle, Entry { key, header, unconfirmed: true });
        self.by_key.insert(key, handle);
        let mut connection = Connection::accepted(now, *accept, self.config.clone());
        for (HopAt { path, nth }, route, before) in joins {
            self.routes[path.index()].insert((nth, route), handle);
            connection.handle_input(now, path, Input::Join { nth, route, opened: true, before });
        }
        Routed::New(handle, Box::new(connection))
    }
}

fn refuse<'a, H: Hops>(hops: &mut H, at: HopAt, route: RouteId, reason: RouteError) -> Routed<'a> {
    // A full outbox loses the advice; the client's own deadline stands behind it.
    hops.outbox(at, |out| out.frame(&Frame::RouteError { route, reason }));
    Routed::Nothing
}

/// The bit of a hop among those of its path.
fn bit(nth: u8) -> u8 {
    1u8.checked_shl(nth.into()).unwrap_or(0)
}

fn detach<H: Hops>(hops: &mut H, at: HopAt, route: RouteId) {
    // A relay that does not hear of it drops the route with the hop.
    hops.outbox(at, |out| out.frame(&Frame::Detach { route }));
}
