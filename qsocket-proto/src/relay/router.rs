//! Hops, servers and routes of a relay, and the decision where a frame goes.

mod address;
mod change;
mod servers;

pub use address::is_public_unicast;
pub use servers::{ClaimError, MAX_ADDRESSES, REDIAL_AT_MOST, RegisterError, Registration};

use crate::codec::Malformed;
use crate::crypto::secret::Secret;
use crate::fault_points::{Point, hit};
use crate::frame::{CloseReason, Frame, Proof, RouteError};
use crate::hop::DialledBy;
use crate::ids::{ConnectionId, PathId, Principal, Role, RouteId};
use crate::share;
use rand_core::CryptoRng;
use servers::Servers;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Routes that one client principal may hold on a relay, over all its hops, unless it has a quota of its own.
pub const MAX_CONNECTIONS_PER_CLIENT: usize = 256;

/// How long OPEN and what follows it wait for the hop to their server.
pub const WAIT_FOR_SERVER: Duration = Duration::from_secs(5);

/// The most that waits for one route while its server is dialled: OPEN and a hello stripe, and what a client that
/// cannot know better sends in its first window.
pub const WAITING_BYTES_PER_ROUTE: usize = 64 * 1024;

/// The most that waits for servers that are dialled, in all routes.
pub const WAITING_BYTES: usize = 8 * 1024 * 1024;

/// Names a hop of this relay. Given by the shell, never used again for another hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopId(pub u64);

/// What the handshake of a hop found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopInfo {
    /// Who is at the other end.
    pub principal: Principal,
    /// In which role.
    pub role: Role,
    /// Who dialled.
    pub dialled_by: DialledBy,
}

/// What a relay reads in a connection header; the rest is none of its business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFacts {
    /// Who opens.
    pub client: Principal,
    /// Who is to be reached.
    pub server: Principal,
    /// Drawn by the client.
    pub connection: ConnectionId,
    /// The address that the client's program asked for.
    pub destination: SocketAddr,
    /// The root over the leaves of all shares.
    pub root: [u8; 32],
}

/// Reads [`OpenFacts`] from a connection header.
pub type ReadHeader = fn(&[u8]) -> Result<OpenFacts, Malformed>;

/// What a relay is.
#[derive(Clone, Copy, Debug)]
pub struct RouterConfig {
    /// Which of the 25.
    pub relay: PathId,
    /// Of which RAIDA.
    pub network: u16,
    /// Dial loopback and private addresses too. For tests and closed networks only: a relay that does this can be
    /// used to knock at doors behind it.
    pub dial_any_address: bool,
    /// Reads connection headers.
    pub read_header: ReadHeader,
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it on over this hop, under this route. If the egress of that hop is full, a control frame is dropped; an
    /// OPEN or ATTACH is then answered with [`RouteError::Busy`], after [`Router::abandon`].
    Forward {
        /// Over which hop.
        hop: HopId,
        /// Under which route.
        route: RouteId,
    },
    /// Answer with this frame on the hop that it came from.
    Reply(Frame<'static>),
    /// Nothing is to be done: it is queued, dropped, or about the hop itself.
    Done,
    /// Close the hop that it came from.
    Close(CloseReason),
}

/// What a relay's shell has to do besides forwarding.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial this server and build a hop in which it has role server; report [`Router::hop_up`] or
    /// [`Router::dial_failed`].
    Dial {
        /// The server's principal, which the handshake must prove.
        server: Principal,
        /// Where it listens for this relay.
        address: SocketAddr,
    },
    /// Send a control frame over a hop.
    Send {
        /// Over which hop.
        hop: HopId,
        /// The frame, with its route on that hop.
        frame: Frame<'static>,
    },
    /// Send frames that waited for a hop, each under this route.
    Deliver {
        /// Over which hop.
        hop: HopId,
        /// Under which route; the frames themselves still hold the client's.
        route: RouteId,
        /// The frames, one behind the other.
        frames: Vec<u8>,
    },
    /// Send CLOSE with this reason and close a hop. The router has forgotten it.
    Close {
        /// Which hop.
        hop: HopId,
        /// Why.
        reason: CloseReason,
    },
}

#[derive(Debug)]
struct Hop {
    info: HopInfo,
    routes: BTreeMap<RouteId, Link>,
    /// The next route that the relay chooses on a server's hop. Never repeats while the hop lives.
    next_route: u32,
}

/// The one end of a route.
#[derive(Debug)]
enum Link {
    /// The other end: over this hop, under this route.
    Up(HopId, RouteId),
    /// On a client's hop: frames that wait for the server's hop.
    Waiting { server: Principal, until: Instant, frames: Vec<u8> },
}

/// The routing state of one relay.
///
/// Feed it hops and frames; send what [`Verdict`] and [`Router::poll_action`] say. All of it is bounded by the limits
/// of this module; nothing is kept for anybody who did not finish a handshake.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    hops: BTreeMap<HopId, Hop>,
    servers: Servers,
    /// Routes of each client.
    held: BTreeMap<Principal, usize>,
    /// Routes that clients may hold, where that is not the default.
    most_routes: BTreeMap<Principal, usize>,
    draining: bool,
    /// Deadlines of the routes that wait, earliest first.
    waiting: BTreeSet<(Instant, HopId, RouteId)>,
    waiting_bytes: usize,
    actions: VecDeque<Action>,
}

impl Router {
    /// Makes a relay without hops and servers.
    pub fn new(config: RouterConfig) -> Self {
        Self {
            config,
            hops: BTreeMap::new(),
            servers: Servers::default(),
            held: BTreeMap::new(),
            most_routes: BTreeMap::new(),
            draining: false,
            waiting: BTreeSet::new(),
            waiting_bytes: 0,
            actions: VecDeque::new(),
        }
    }

    /// Registers an address of a server; the relay dials it from now on if the registration says where.
    pub fn register(
        &mut self,
        now: Instant,
        server: Principal,
        registration: Registration,
    ) -> Result<(), RegisterError> {
        if server.network != self.config.network {
            return Err(RegisterError::Network { expected: self.config.network });
        }
        self.servers.register(now, server, registration, self.config.dial_any_address)
    }

    /// Adds a hop whose handshake is finished. A server's newer hop replaces its older one.
    pub fn hop_up(&mut self, id: HopId, info: HopInfo) {
        if self.draining {
            self.actions.push_back(Action::Close { hop: id, reason: CloseReason::Done });
            return;
        }
        self.hops.insert(id, Hop { info, routes: BTreeMap::new(), next_route: 1 });
        if info.role != Role::Server {
            return;
        }
        if let Some(old) = self.servers.hop_up(info.principal, id) {
            self.actions.push_back(Action::Close { hop: old, reason: CloseReason::Replaced });
            self.remove(old);
        }
        self.deliver(id, info.principal);
    }

    /// Removes a hop that broke or was closed.
    pub fn hop_down<R: CryptoRng + ?Sized>(&mut self, now: Instant, id: HopId, rng: &mut R) {
        if let Some(info) = self.hops.get(&id).map(|hop| hop.info) {
            if info.role == Role::Server {
                self.servers.hop_down(now, info.principal, id, rng);
            }
            self.remove(id);
        }
    }

    /// Notes that a dial of [`Action::Dial`] did not lead to a hop.
    pub fn dial_failed<R: CryptoRng + ?Sized>(&mut self, now: Instant, server: Principal, rng: &mut R) {
        self.servers.dial_failed(now, server, rng);
    }

    /// Where DATA of a route goes, without changing anything: for shells that share the router among readers.
    /// `None` means to ask [`Router::handle_frame`].
    pub fn lookup(&self, hop: HopId, route: RouteId) -> Option<(HopId, RouteId)> {
        match self.hops.get(&hop)?.routes.get(&route)? {
            Link::Up(hop, route) => Some((*hop, *route)),
            Link::Waiting { .. } => None,
        }
    }

    /// The hop to a server, if one stands.
    pub fn server_hop(&self, server: Principal) -> Option<HopId> {
        self.servers.hop(server)
    }

    /// Decides about one frame of a hop.
    pub fn handle_frame(&mut self, now: Instant, id: HopId, frame: &Frame<'_>) -> Verdict {
        let Some(hop) = self.hops.get(&id) else { return Verdict::Done };
        match *frame {
            Frame::Ping { token } => Verdict::Reply(Frame::Pong { token }),
            Frame::Pong { .. } | Frame::Rekey => Verdict::Done,
            // Calls are the shell's: they are not about routes.
            Frame::Call { .. } | Frame::Answer { .. } => Verdict::Done,
            Frame::Close { .. } => Verdict::Close(CloseReason::Done),
            Frame::Open { route, header, share, proof } => {
                self.open(now, id, hop.info, route, header, Some((share, proof)), frame)
            }
            Frame::Attach { route, header } => self.open(now, id, hop.info, route, header, None, frame),
            Frame::Data { route, .. } => match hop.routes.get(&route) {
                Some(Link::Up(hop, route)) => Verdict::Forward { hop: *hop, route: *route },
                Some(Link::Waiting { .. }) => self.wait(id, route, frame),
                // What was in flight when a route ended.
                None => Verdict::Done,
            },
            Frame::Detach { route } => self.end(id, route),
            Frame::RouteError { route, .. } if hop.info.role == Role::Server => self.end(id, route),
            // Only relays say that.
            Frame::RouteError { .. } | Frame::Congested { .. } => Verdict::Close(CloseReason::Protocol),
        }
    }

    /// Takes back a [`Verdict::Forward`] of an OPEN or ATTACH that could not be queued.
    pub fn abandon(&mut self, hop: HopId, route: RouteId) {
        self.end(hop, route);
    }

    /// The next thing to do, in order. Ask until `None` after every other call.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Router::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting.first().map(|w| w.0);
        [waiting, self.servers.poll_timeout()].into_iter().flatten().min()
    }

    /// Dials what is due and gives up what waited too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(until, hop, route)) = self.waiting.first()
            && until <= now
        {
            self.waiting.pop_first();
            self.unlink(hop, route);
            let frame = Frame::RouteError { route, reason: RouteError::ServerUnreachable };
            self.actions.push_back(Action::Send { hop, frame });
        }
        self.actions.extend(self.servers.handle_timeout(now));
    }

    /// Bytes that wait for servers that are dialled.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// How many routes there are, over all clients.
    pub fn routes(&self) -> usize {
        self.held.values().sum()
    }

    /// How many routes a client holds.
    pub fn routes_of(&self, client: Principal) -> usize {
        self.held.get(&client).copied().unwrap_or(0)
    }

    /// Checks an OPEN (with share) or ATTACH (without) and links the two hops.
    #[expect(clippy::too_many_arguments, reason = "the fields of two frames that take the same way")]
    fn open(
        &mut self,
        now: Instant,
        id: HopId,
        info: HopInfo,
        route: RouteId,
        header: &[u8],
        share: Option<(&[u8; 32], &Proof)>,
        frame: &Frame<'_>,
    ) -> Verdict {
        let refuse = |reason| Verdict::Reply(Frame::RouteError { route, reason });
        let Ok(facts) = (self.config.read_header)(header) else {
            return Verdict::Close(CloseReason::Protocol);
        };
        if info.role != Role::Client || facts.client != info.principal {
            return refuse(RouteError::NotYours);
        }
        if self.link(id, route).is_some() {
            return Verdict::Close(CloseReason::Protocol);
        }
        if let Some((share, proof)) = share {
            let share = Secret::new(*share);
            if !share::verify(&facts.root, facts.connection, self.config.relay, &share, proof) {
                return refuse(RouteError::BadShare);
            }
        }
        if let Err(reason) = self.servers.check(facts.server, facts.destination) {
            return refuse(reason);
        }
        if self.routes_of(info.principal) >= self.most_routes(info.principal) || hit(Point::RelayBusy) {
            return refuse(RouteError::Busy);
        }
        *self.held.entry(info.principal).or_default() += 1;
        match self.servers.hop(facts.server) {
            Some(server) => {
                let down = self.connect(id, route, server);
                Verdict::Forward { hop: server, route: down }
            }
            None => {
                let until = now + WAIT_FOR_SERVER;
                let link = Link::Waiting { server: facts.server, until, frames: Vec::new() };
                if let Some(hop) = self.hops.get_mut(&id) {
                    hop.routes.insert(route, link);
                }
                self.waiting.insert((until, id, route));
                self.actions.extend(self.servers.dial_for_open(now, facts.server));
                self.wait(id, route, frame)
            }
        }
    }

    /// Links a client's route with a new one on a server's hop, and returns that one.
    fn connect(&mut self, client: HopId, route: RouteId, server: HopId) -> RouteId {
        let mut down = RouteId(0);
        if let Some(hop) = self.hops.get_mut(&server) {
            // After 2^32 routes on one hop the number may still be in use; then the next free one is taken.
            while hop.routes.contains_key(&RouteId(hop.next_route)) {
                hop.next_route = hop.next_route.wrapping_add(1);
            }
            down = RouteId(hop.next_route);
            hop.next_route = hop.next_route.wrapping_add(1);
            hop.routes.insert(down, Link::Up(client, route));
        }
        if let Some(hop) = self.hops.get_mut(&client) {
            hop.routes.insert(route, Link::Up(server, down));
        }
        down
    }

    /// Keeps a frame for a route whose server is dialled, within the bounds.
    fn wait(&mut self, id: HopId, route: RouteId, frame: &Frame<'_>) -> Verdict {
        let len = frame.encoded_len();
        let full = self.waiting_bytes + len > WAITING_BYTES;
        let Some(Link::Waiting { frames, .. }) =
            self.hops.get_mut(&id).and_then(|hop| hop.routes.get_mut(&route))
        else {
            return Verdict::Done;
        };
        if full || frames.len() + len > WAITING_BYTES_PER_ROUTE {
            return if let Frame::Data { payload, .. } = frame {
                Verdict::Reply(Frame::Congested { route, bytes: payload.len() as u32 })
            } else {
                self.unlink(id, route);
                Verdict::Reply(Frame::RouteError { route, reason: RouteError::Busy })
            };
        }
        frame.encode(frames);
        self.waiting_bytes += len;
        Verdict::Done
    }

    /// Sends what waited for `server`, whose hop is up.
    fn deliver(&mut self, hop: HopId, server: Principal) {
        let mut ready = Vec::new();
        for (id, client) in &self.hops {
            for (route, link) in &client.routes {
                if matches!(link, Link::Waiting { server: s, .. } if *s == server) {
                    ready.push((*id, *route));
                }
            }
        }
        for (id, route) in ready {
            let taken = self.hops.get_mut(&id).and_then(|client| client.routes.remove(&route));
            if let Some(Link::Waiting { frames, until, .. }) = taken {
                self.waiting.remove(&(until, id, route));
                self.waiting_bytes -= frames.len();
                let down = self.connect(id, route, hop);
                self.actions.push_back(Action::Deliver { hop, route: down, frames });
            }
        }
    }

    /// Ends a route at the word of one end, and tells the other.
    fn end(&mut self, id: HopId, route: RouteId) -> Verdict {
        match self.unlink(id, route) {
            Some(Link::Up(hop, route)) => Verdict::Forward { hop, route },
            _ => Verdict::Done,
        }
    }

    fn link(&self, hop: HopId, route: RouteId) -> Option<&Link> {
        self.hops.get(&hop)?.routes.get(&route)
    }

    /// Removes both ends of a route, and what waits for it; returns the link at the given end.
    fn unlink(&mut self, id: HopId, route: RouteId) -> Option<Link> {
        let hop = self.hops.get_mut(&id)?;
        let link = hop.routes.remove(&route)?;
        let mut client = (hop.info.role == Role::Client).then_some(hop.info.principal);
        match &link {
            Link::Waiting { frames, until, .. } => {
                self.waiting.remove(&(*until, id, route));
                self.waiting_bytes -= frames.len();
            }
            Link::Up(other, at) => {
                if let Some(hop) = self.hops.get_mut(other) {
                    hop.routes.remove(at);
                    if hop.info.role == Role::Client {
                        client = Some(hop.info.principal);
                    }
                }
            }
        }
        if let Some(client) = client
            && let Some(held) = self.held.get_mut(&client)
        {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&client);
            }
        }
        Some(link)
    }

    /// Removes a hop and tells the other ends of its routes.
    fn remove(&mut self, id: HopId) {
        let Some(hop) = self.hops.get(&id) else { return };
        let role = hop.info.role;
        let routes: Vec<_> = hop.routes.keys().copied().collect();
        for route in routes {
            if let Some(Link::Up(hop, route)) = self.unlink(id, route) {
                let frame = match role {
                    Role::Client => Frame::Detach { route },
                    Role::Server => Frame::RouteError { route, reason: RouteError::Lost },
                };
                self.actions.push_back(Action::Send { hop, frame });
            }
        }
        self.hops.remove(&id);
    }
}

#[cfg(test)]
mod tests;
