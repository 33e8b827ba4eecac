//! A relay as a node: router, an egress for each hop, nothing else.

use super::hop::{HopEnd, State, Tuning, outbox};
use super::liar::{Liar, Said};
use super::{End, Io, Node};
use qsocket_proto::codec::Malformed;
use qsocket_proto::crypto::schedule::hop::{AuthenticityNumber, ImportedKey};
use qsocket_proto::frame::{CloseReason, Frame, Frames, RouteError};
use qsocket_proto::hop::{Dial, Dialer, DialledBy, Principals, Responder};
use qsocket_proto::ids::{PathId, Principal, Role, RouteId};
use qsocket_proto::open::OpenHeader;
use qsocket_proto::relay::{
    Action, Congestion, Egress, HopId, HopInfo, OpenFacts, Registration, Router, RouterConfig, Verdict,
};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

/// Whom relays know, and whose numbers are wrong on which of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// This end's own numbers are wrong for relays below this index.
    pub wrong_below: u8,
}

/// Serials from here on nobody issued.
pub const UNKNOWN: u32 = 9000;

/// The authenticity number that a principal shares with a relay.
pub fn number(numbers: Numbers, principal: Principal, relay: PathId) -> AuthenticityNumber {
    let mut bytes = [0x5a; 16];
    bytes[..4].copy_from_slice(&principal.serial.to_be_bytes());
    bytes[4] = relay.get();
    bytes[5] = if relay.get() < numbers.wrong_below { 0xff } else { 0 };
    AuthenticityNumber::new(&bytes).expect("sixteen bytes, not zero")
}

pub fn imported(numbers: Numbers, principal: Principal, relay: PathId, role: Role) -> ImportedKey {
    ImportedKey::new(&number(numbers, principal, relay), principal, relay, role)
}

/// Everybody who has a number, seen from one end of a hop.
pub struct Known(pub Numbers, pub PathId);

impl Principals for Known {
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        (principal.serial < UNKNOWN).then(|| imported(self.0, principal, self.1, role))
    }
}

fn read_header(bytes: &[u8]) -> Result<OpenFacts, Malformed> {
    let header = OpenHeader::decode(bytes)?;
    let OpenHeader { client, server, connection, destination, root, .. } = header;
    Ok(OpenFacts { client, server, connection, destination, root })
}

/// A frame that a relay passed to a server.
struct Recorded(Principal, Vec<u8>);

pub struct RelayNode {
    relay: PathId,
    router: Router,
    /// `None` while a hop's own frames are handled.
    hops: BTreeMap<HopId, Option<HopEnd>>,
    dialling: BTreeMap<HopId, Principal>,
    /// Bytes that all queues hold, for the test to look at.
    queued: Rc<Cell<usize>>,
    servers: Vec<(Principal, Registration)>,
    server_hops: BTreeMap<HopId, Principal>,
    /// What went to servers, if this relay keeps it.
    recorded: Option<Vec<Recorded>>,
    /// Its habits, if it is not honest.
    pub liar: Option<Liar>,
    tuning: Tuning,
}

impl RelayNode {
    pub fn new(
        relay: PathId,
        servers: &[(Principal, Registration)],
        tuning: Tuning,
        now: Instant,
    ) -> (Self, Rc<Cell<usize>>) {
        let router = Self::router(relay, servers, now);
        let queued = Rc::new(Cell::new(0));
        let node = Self {
            relay,
            router,
            hops: BTreeMap::new(),
            dialling: BTreeMap::new(),
            queued: Rc::clone(&queued),
            servers: servers.to_vec(),
            server_hops: BTreeMap::new(),
            recorded: None,
            liar: None,
            tuning,
        };
        (node, queued)
    }

    fn router(relay: PathId, servers: &[(Principal, Registration)], now: Instant) -> Router {
        let mut router = Router::new(RouterConfig { relay, network: 1, dial_any_address: true, read_header });
        for (server, registration) in servers {
            router.register(now, *server, *registration).expect("a valid registration");
        }
        router
    }

    /// The process is replaced by a fresh one.
    pub fn restart(&mut self, io: &mut Io<'_>) {
        self.router = Self::router(self.relay, &self.servers, io.now());
        self.hops.clear();
        self.dialling.clear();
        self.server_hops.clear();
        self.liar.iter_mut().for_each(Liar::restart);
        self.timeout(io);
    }

    /// Keeps what goes to servers from now on.
    pub fn record(&mut self) {
        self.recorded = Some(Vec::new());
    }

    /// Sends it to them again, over the hops that stand now.
    pub fn replay(&mut self, io: &mut Io<'_>) -> usize {
        let recorded = self.recorded.take().unwrap_or_default();
        let mut sent = 0;
        for Recorded(server, mut bytes) in recorded {
            let Some((hop, _)) = self.server_hops.iter().find(|(_, of)| **of == server) else { continue };
            let Some(Some(hop)) = self.hops.get_mut(hop) else { continue };
            for frame in Frames::new(&mut bytes) {
                sent += 1;
                hop.egress.control(&frame.expect("the relay's own encoding")).expect("little was recorded");
            }
        }
        self.finish(io);
        sent
    }

    fn control(&mut self, hop: HopId, frame: &Frame<'_>) {
        if let Some(Some(h)) = self.hops.get_mut(&hop) {
            // A control frame that does not fit is dropped; the keepalive finds a peer that does not read.
            let _ = h.egress.control(frame);
        }
    }

    fn act(&mut self, io: &mut Io<'_>) {
        while let Some(action) = self.router.poll_action() {
            match action {
                Action::Dial { server, address } => {
                    let end = io.dial(address);
                    self.dialling.insert(HopId(end.number()), server);
                }
                Action::Send { hop, frame } => self.control(hop, &frame),
                Action::Deliver { hop, route, mut frames } => {
                    let Some(origin) = self.router.lookup(hop, route) else { continue };
                    for frame in Frames::new(&mut frames) {
                        let mut frame = frame.expect("the relay's own encoding");
                        frame.set_route(route);
                        match (&frame, self.hops.get_mut(&hop)) {
                            (Frame::Data { offset, payload, .. }, Some(Some(h))) => {
                                h.egress.data(io.now(), route, *offset, payload, origin);
                            }
                            (frame, _) => self.control(hop, frame),
                        }
                    }
                }
                Action::Close { hop, reason } => {
                    self.control(hop, &Frame::Close { reason });
                    if let Some(Some(mut h)) = self.hops.remove(&hop) {
                        h.flush(io);
                        io.close(h.end);
                    }
                }
            }
        }
    }

    /// Ends a hop and tells the router.
    fn drop_hop(&mut self, io: &mut Io<'_>, id: HopId) {
        if let Some(Some(h)) = self.hops.remove(&id) {
            io.close(h.end);
        }
        if let Some(server) = self.dialling.remove(&id) {
            self.router.dial_failed(io.now(), server, &mut io.net.rng);
        }
        self.server_hops.remove(&id);
        self.router.hop_down(io.now(), id, &mut io.net.rng);
    }

    fn finish(&mut self, io: &mut Io<'_>) {
        self.act(io);
        let mut queued = self.router.waiting_bytes();
        for hop in self.hops.values_mut().flatten() {
            if !hop.egress.is_idle() {
                hop.flush(io);
            }
            queued += hop.egress.queued_bytes();
        }
        self.queued.set(queued);
    }

    fn serve(&mut self, io: &mut Io<'_>, id: HopId) {
        let Some(mut hop) = self.hops.get_mut(&id).and_then(Option::take) else { return };
        match hop.handshake(io, &Known(Numbers::default(), self.relay)) {
            Ok(Some(done)) => {
                hop.up(io.now(), done.sealer, done.opener);
                self.dialling.remove(&id);
                if done.role == Role::Server {
                    self.server_hops.insert(id, done.principal);
                }
                let info =
                    HopInfo { principal: done.principal, role: done.role, dialled_by: done.dialled_by };
                // The router's actions may be about this hop.
                self.hops.insert(id, Some(hop));
                self.router.hop_up(id, info);
                self.act(io);
                match self.hops.get_mut(&id).and_then(Option::take) {
                    Some(back) => hop = back,
                    None => return,
                }
            }
            Ok(None) => {}
            Err(_) => {
                hop.flush(io);
                self.hops.insert(id, Some(hop));
                return self.drop_hop(io, id);
            }
        }
        let Self { router, hops, server_hops, recorded, liar, .. } = self;
        let ok = hop.frames(io, |io, egress, mut frame| match router.handle_frame(io.now(), id, &frame) {
            Verdict::Done => true,
            Verdict::Close(_) => false,
            Verdict::Reply(answer) => egress.control(&answer).is_ok(),
            Verdict::Forward { hop: to, route } => {
                let from = frame.route().unwrap_or(RouteId(0));
                frame.set_route(route);
                if let (Some(kept), Some(server)) = (&mut *recorded, server_hops.get(&to)) {
                    let mut bytes = Vec::new();
                    frame.encode(&mut bytes);
                    kept.push(Recorded(*server, bytes));
                }
                if let Some(liar) = liar {
                    for said in liar.tell(&mut io.net.rng, to, &frame) {
                        say(io.now(), hops, (id, egress), said, (id, from));
                    }
                    return true;
                }
                let Some(Some(target)) = hops.get_mut(&to) else { return true };
                if let Frame::Data { offset, payload, .. } = &frame {
                    let congestion = target.egress.data(io.now(), route, *offset, payload, (id, from));
                    if let Some(Congestion { hop, route, bytes }) = congestion {
                        let report = Frame::Congested { route, bytes };
                        if hop == id {
                            return egress.control(&report).is_ok();
                        } else if let Some(Some(h)) = hops.get_mut(&hop) {
                            let _ = h.egress.control(&report);
                        }
                    }
                    return true;
                }
                let full = target.egress.control(&frame).is_err();
                if full && matches!(frame, Frame::Open { .. } | Frame::Attach { .. }) {
                    router.abandon(id, from);
                    let busy = Frame::RouteError { route: from, reason: RouteError::Busy };
                    return egress.control(&busy).is_ok();
                }
                true
            }
        });
        self.hops.insert(id, Some(hop));
        if !ok {
            self.control(id, &Frame::Close { reason: CloseReason::Protocol });
            self.drop_hop(io, id);
        }
    }
}

/// Puts what a liar says on its way. `own` is the hop that is being read.
fn say(
    now: Instant,
    hops: &mut BTreeMap<HopId, Option<HopEnd>>,
    own: (HopId, &mut Egress),
    Said { hop, mut bytes }: Said,
    origin: (HopId, RouteId),
) {
    let egress = match hops.get_mut(&hop) {
        _ if hop == own.0 => own.1,
        Some(Some(other)) => &mut other.egress,
        _ => return,
    };
    for frame in Frames::new(&mut bytes).flatten() {
        match frame {
            Frame::Data { route, offset, payload } => _ = egress.data(now, route, offset, payload, origin),
            frame => _ = egress.control(&frame),
        }
    }
}

impl Node for RelayNode {
    fn connected(&mut self, io: &mut Io<'_>, end: End, _at: SocketAddr, dialled: bool) {
        let id = HopId(end.number());
        let now = io.now();
        let mut out = outbox();
        let state = if dialled {
            let Some(&principal) = self.dialling.get(&id) else { return };
            let dial = Dial {
                principal,
                role: Role::Server,
                relay: self.relay,
                dialled_by: DialledBy::Relay,
                limits: self.tuning.hop_limits,
            };
            let key = imported(Numbers::default(), principal, self.relay, Role::Server);
            State::Dialling(Dialer::new(now, dial, key, &mut io.net.rng, &mut out))
        } else {
            State::Answering(Responder::new(now, self.relay, DialledBy::Principal, self.tuning.hop_limits))
        };
        self.hops.insert(id, Some(HopEnd::new(end, state, out, self.tuning.egress)));
        self.finish(io);
    }

    fn ready(&mut self, io: &mut Io<'_>, end: End) {
        self.serve(io, HopId(end.number()));
        self.finish(io);
    }

    fn closed(&mut self, io: &mut Io<'_>, end: End) {
        self.drop_hop(io, HopId(end.number()));
        self.finish(io);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let hops = self.hops.values().flatten().filter_map(HopEnd::poll_timeout).min();
        [hops, self.router.poll_timeout()].into_iter().flatten().min()
    }

    fn timeout(&mut self, io: &mut Io<'_>) {
        let now = io.now();
        self.router.handle_timeout(now);
        let dead: BTreeSet<_> =
            self.hops.iter_mut().filter_map(|(id, h)| (!h.as_mut()?.timeout(now)).then_some(*id)).collect();
        for id in dead {
            self.drop_hop(io, id);
        }
        self.finish(io);
    }
}
