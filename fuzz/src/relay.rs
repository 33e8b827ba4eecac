//! A relay: router and egress under any list of hops, frames, deadlines and changes of its operator.
//!
//! A model beside it knows which routes there are. What a client sends on a route arrives at the server that its OPEN
//! named, and at nobody else; what waits stays within its bounds.

use crate::Input;
use qsocket_proto::codec::Malformed;
use qsocket_proto::crypto::secret::Secret;
use qsocket_proto::frame::{CloseReason, Frame, Frames, Proof, RouteError};
use qsocket_proto::hop::{CONTROL_RESERVE, DialledBy, Outbox};
use qsocket_proto::ids::{ConnectionId, PathId, Principal, Role, RouteId};
use qsocket_proto::open::{MlKem, OpenHeader};
use qsocket_proto::relay::{
    Action, Congestion, Egress, EgressLimits, HopId, HopInfo, MAX_CONNECTIONS_PER_CLIENT, OpenFacts, Quota,
    Registration, Router, RouterConfig, Verdict, WAITING_BYTES,
};
use qsocket_proto::share::{Tree, split};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Operations of one run.
const MOST: usize = 400;

/// Hops of one run.
const HOPS: usize = 12;

const LIMITS: EgressLimits = EgressLimits { route: 4_000, hop: 10_000, outbox: 3_000 };
const OUTBOX: usize = 20_000;

fn client(i: usize) -> Principal {
    Principal { network: 1, denomination: 0, serial: 100 + (i % 3) as u32 }
}

fn server(i: usize) -> Principal {
    Principal { network: 1, denomination: 0, serial: 200 + (i % 3) as u32 }
}

fn address(i: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 5000 + (i % 3) as u16))
}

fn relay() -> PathId {
    PathId::new(3).expect("below 25")
}

/// A connection that a client may open.
struct Opening {
    client: Principal,
    header: Vec<u8>,
    share: [u8; 32],
    proof: Proof,
}

fn openings() -> &'static [Opening] {
    static ALL: OnceLock<Vec<Opening>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut make = |i: usize| {
            let connection = ConnectionId([i as u8; 16]);
            let shares = split(&Secret::new([7; 32]), &mut rng);
            let tree = Tree::new(connection, &shares);
            let header = OpenHeader {
                client: client(i),
                server: server(i / 3),
                connection,
                nonce: [1; 32],
                encryption_key: None,
                ml_kem: MlKem::Off,
                source: address(0),
                destination: address(i / 3),
                relay_set: [2; 32],
                root: tree.root(),
                commitment: [3; 32],
            };
            Opening {
                client: header.client,
                header: header.encode().expect("one family"),
                share: *shares.get(relay()).expose(),
                proof: tree.proof(relay()),
            }
        };
        (0..9).map(&mut make).collect()
    })
}

fn read_header(bytes: &[u8]) -> Result<OpenFacts, Malformed> {
    let OpenHeader { client, server, connection, destination, root, .. } = OpenHeader::decode(bytes)?;
    Ok(OpenFacts { client, server, connection, destination, root })
}

struct Shell {
    now: Instant,
    router: Router,
    rng: ChaCha8Rng,
    hops: BTreeMap<HopId, (HopInfo, Egress)>,
    next: u64,
    /// Who asked for whom on a client's route.
    asked: BTreeMap<(HopId, RouteId), Principal>,
    /// Where a server's route leads.
    down: BTreeMap<(HopId, RouteId), (HopId, RouteId)>,
}

impl Shell {
    fn hop_up(&mut self, principal: Principal, role: Role) {
        if self.hops.len() >= HOPS {
            return;
        }
        let id = HopId(self.next);
        self.next += 1;
        let info = HopInfo { principal, role, dialled_by: DialledBy::Principal };
        self.hops.insert(id, (info, Egress::new(Outbox::new(OUTBOX), LIMITS)));
        self.router.hop_up(id, info);
    }

    fn hop_down(&mut self, id: HopId) {
        self.hops.remove(&id);
        self.router.hop_down(self.now, id, &mut self.rng);
    }

    fn control(&mut self, hop: HopId, frame: &Frame<'_>) {
        if let Some((_, egress)) = self.hops.get_mut(&hop) {
            let _ = egress.control(frame);
        }
    }

    fn data(&mut self, to: HopId, route: RouteId, frame: &Frame<'_>, origin: (HopId, RouteId)) {
        let Frame::Data { offset, payload, .. } = frame else { return };
        let Some((_, egress)) = self.hops.get_mut(&to) else { return };
        if let Some(Congestion { hop, route, bytes }) = egress.data(self.now, route, *offset, payload, origin)
        {
            self.control(hop, &Frame::Congested { route, bytes });
        }
    }

    /// A frame of `from` goes on: to whom it should?
    fn check(&mut self, from: HopId, route: RouteId, to: HopId, down: RouteId, frame: &Frame<'_>) {
        let Some((info, _)) = self.hops.get(&from) else { panic!("a frame of a hop that is gone") };
        let Some((target, _)) = self.hops.get(&to) else { panic!("a frame for a hop that is gone") };
        match info.role {
            Role::Client => {
                let server = self.asked.get(&(from, route)).copied();
                assert_eq!((Some(target.principal), target.role), (server, Role::Server), "{frame:?}");
                if matches!(frame, Frame::Open { .. } | Frame::Attach { .. }) {
                    self.down.insert((to, down), (from, route));
                }
                assert_eq!(self.down.get(&(to, down)), Some(&(from, route)), "{frame:?}");
            }
            Role::Server => {
                assert_eq!(self.down.get(&(from, route)), Some(&(to, down)), "{frame:?}");
            }
        }
    }

    fn frame(&mut self, from: HopId, mut frame: Frame<'_>) {
        let Some((info, _)) = self.hops.get(&from) else { return };
        let role = info.role;
        let route = frame.route().unwrap_or(RouteId(0));
        let asks = match &frame {
            Frame::Open { header, .. } | Frame::Attach { header, .. } => OpenHeader::decode(header).ok(),
            _ => None,
        };
        match self.router.handle_frame(self.now, from, &frame) {
            Verdict::Done => {
                // What waits for a server is asked for too.
                if let (Some(header), Role::Client) = (asks, role) {
                    self.asked.insert((from, route), header.server);
                }
            }
            Verdict::Reply(answer) => self.control(from, &answer),
            Verdict::Close(_) => self.hop_down(from),
            Verdict::Forward { hop, route: to } => {
                if let Some(header) = asks {
                    self.asked.insert((from, route), header.server);
                }
                self.check(from, route, hop, to, &frame);
                frame.set_route(to);
                if matches!(frame, Frame::Data { .. }) {
                    self.data(hop, to, &frame, (from, route));
                    return;
                }
                let full = self.hops.get_mut(&hop).is_some_and(|(_, egress)| egress.control(&frame).is_err());
                if full && matches!(frame, Frame::Open { .. } | Frame::Attach { .. }) {
                    self.router.abandon(from, route);
                    self.control(from, &Frame::RouteError { route, reason: RouteError::Busy });
                }
            }
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.router.poll_action() {
            match action {
                Action::Dial { .. } => {}
                Action::Send { hop, frame } => self.control(hop, &frame),
                Action::Deliver { hop, route, mut frames } => {
                    // The hop may have gone since.
                    let Some(origin) = self.router.lookup(hop, route) else { continue };
                    self.down.insert((hop, route), origin);
                    for frame in Frames::new(&mut frames) {
                        let mut frame = frame.expect("the router's own encoding");
                        frame.set_route(route);
                        match frame {
                            Frame::Data { .. } => self.data(hop, route, &frame, origin),
                            frame => self.control(hop, &frame),
                        }
                    }
                }
                Action::Close { hop, reason } => {
                    assert!(matches!(reason, CloseReason::Done | CloseReason::Replaced));
                    self.hops.remove(&hop);
                }
            }
        }
    }

    fn check_bounds(&self) {
        assert!(self.router.waiting_bytes() <= WAITING_BYTES);
        for i in 0..3 {
            assert!(self.router.routes_of(client(i)) <= MAX_CONNECTIONS_PER_CLIENT);
        }
        let most = LIMITS.hop + OUTBOX + CONTROL_RESERVE + 70_000;
        for (_, egress) in self.hops.values() {
            assert!(egress.queued_bytes() <= most, "{} bytes wait", egress.queued_bytes());
        }
    }
}

/// Any list of operations.
pub fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    let config = RouterConfig { relay: relay(), network: 1, dial_any_address: true, read_header };
    let mut shell = Shell {
        now: Instant::now(),
        router: Router::new(config),
        rng: ChaCha8Rng::seed_from_u64(8),
        hops: BTreeMap::new(),
        next: 1,
        asked: BTreeMap::new(),
        down: BTreeMap::new(),
    };
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let hop = HopId(1 + input.below(HOPS) as u64);
        let route = RouteId(input.below(6) as u32);
        let i = input.below(9);
        match input.below(17) {
            0 => shell.hop_up(client(i), Role::Client),
            1 => shell.hop_up(server(i), Role::Server),
            2 => shell.hop_down(hop),
            3 => {
                let dial = (!input.one_in(3)).then_some(address(i));
                let registration = Registration { destination: address(i), dial };
                let _ = shell.router.register(shell.now, server(i), registration);
            }
            4 | 5 => {
                let Opening { header, share, proof, .. } = &openings()[i];
                let (mut header, mut share) = (header.clone(), *share);
                match input.below(8) {
                    1 => header[input.below(200)] ^= 1,
                    2 => share[0] ^= 1,
                    _ => {}
                }
                shell.frame(hop, Frame::Open { route, header: &header, share: &share, proof });
            }
            6 => shell.frame(hop, Frame::Attach { route, header: &openings()[i].header }),
            7 | 8 => {
                let mut payload = vec![0; input.of(&[0, 100, 1_000, 3_900, 60_000])];
                shell.frame(hop, Frame::Data { route, offset: 0, payload: &mut payload });
            }
            9 => shell.frame(hop, Frame::Detach { route }),
            10 => shell.frame(hop, Frame::RouteError { route, reason: RouteError::UnknownConnection }),
            11 => {
                let n = usize::from(input.u8());
                let mut bytes = input.take(n).to_vec();
                for frame in Frames::new(&mut bytes) {
                    match frame {
                        Ok(frame) => shell.frame(hop, frame),
                        Err(_) => shell.hop_down(hop),
                    }
                }
            }
            12 => {
                shell.now += Duration::from_millis(u64::from(input.u8()) * 40);
                if shell.router.poll_timeout().is_some_and(|at| at <= shell.now) {
                    shell.router.handle_timeout(shell.now);
                    assert!(
                        shell.router.poll_timeout().is_none_or(|at| at > shell.now),
                        "a timer that is always due"
                    );
                }
            }
            13 => shell.router.dial_failed(shell.now, server(i), &mut shell.rng),
            14 => {
                if let Some((_, egress)) = shell.hops.get_mut(&hop) {
                    // A socket takes some: the sealed bytes are those that a sealer would have left.
                    egress.pump();
                }
            }
            15 => {
                let quota = Quota { routes: input.below(5), bytes_per_second: None };
                let quotas = [((client(i), Role::Client), quota)].into();
                shell.router.set_quotas(&quotas);
            }
            _ => match input.below(4) {
                0 => shell.router.unregister(server(i)),
                1 => shell.router.expel(shell.now, server(i), Role::Server, &mut shell.rng),
                2 => shell.router.expel(shell.now, client(i), Role::Client, &mut shell.rng),
                _ if input.one_in(16) => shell.router.drain(),
                _ => {}
            },
        }
        shell.act();
        shell.check_bounds();
    }
    // When all are gone, nothing is kept for anybody.
    for id in shell.hops.keys().copied().collect::<Vec<_>>() {
        shell.hop_down(id);
    }
    shell.act();
    assert_eq!((shell.router.routes(), shell.router.waiting_bytes()), (0, 0));
    assert!(openings().iter().all(|opening| shell.router.routes_of(opening.client) == 0));
}
