use super::*;
use crate::crypto::secret::Secret;
use crate::frame::Frames;
use crate::share::{self, Tree};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const MS: Duration = Duration::from_millis(1);

fn client(serial: u32) -> Principal {
    Principal { network: 1, denomination: 0, serial }
}

fn server(serial: u32) -> Principal {
    Principal { network: 1, denomination: 1, serial }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn relay() -> PathId {
    PathId::new(4).unwrap()
}

/// A test's header: client, server, connection, port of the destination, root.
fn header(facts: &OpenFacts) -> Vec<u8> {
    let mut out = Vec::new();
    facts.client.encode(&mut out);
    facts.server.encode(&mut out);
    out.extend_from_slice(&facts.connection.0);
    out.extend_from_slice(&facts.destination.port().to_be_bytes());
    out.extend_from_slice(&facts.root);
    out
}

fn read_header(bytes: &[u8]) -> Result<OpenFacts, Malformed> {
    let mut r = crate::codec::Reader::new(bytes);
    let facts = OpenFacts {
        client: Principal::decode(&mut r)?,
        server: Principal::decode(&mut r)?,
        connection: ConnectionId(r.array("connection")?),
        destination: address(r.u16("port")?),
        root: r.array("root")?,
    };
    r.finish()?;
    Ok(facts)
}

struct Fixture {
    router: Router,
    now: Instant,
    rng: ChaCha20Rng,
}

impl Fixture {
    fn new() -> Self {
        let config = RouterConfig { relay: relay(), network: 1, dial_any_address: true, read_header };
        Self { router: Router::new(config), now: Instant::now(), rng: ChaCha20Rng::seed_from_u64(1) }
    }

    /// With server 9 registered at port 80 and up at hop 100, and client 5 at hop 1.
    fn connected() -> Self {
        let mut this = Self::new();
        this.register(9);
        this.up(100, server(9), Role::Server);
        this.up(1, client(5), Role::Client);
        this.actions();
        this
    }

    fn register(&mut self, serial: u32) {
        let registration = Registration { destination: address(80), dial: Some(address(84)) };
        self.router.register(self.now, server(serial), registration).unwrap();
    }

    fn up(&mut self, hop: u64, principal: Principal, role: Role) {
        self.router.hop_up(HopId(hop), HopInfo { principal, role, dialled_by: DialledBy::Principal });
    }

    fn down(&mut self, hop: u64) {
        self.router.hop_down(self.now, HopId(hop), &mut self.rng);
    }

    fn actions(&mut self) -> Vec<Action> {
        self.router.handle_timeout(self.now);
        std::iter::from_fn(|| self.router.poll_action()).collect()
    }

    fn open(&mut self, hop: u64, route: u32, edit: impl FnOnce(&mut OpenFacts, &mut [u8; 32])) -> Verdict {
        let shares = share::split(&Secret::new([1; 32]), &mut self.rng);
        let connection = ConnectionId([route as u8; 16]);
        let tree = Tree::new(connection, &shares);
        let mut share = *shares.get(relay()).expose();
        let mut facts = OpenFacts {
            client: client(5),
            server: server(9),
            connection,
            destination: address(80),
            root: tree.root(),
        };
        edit(&mut facts, &mut share);
        let header = header(&facts);
        let proof = tree.proof(relay());
        let frame = Frame::Open { route: RouteId(route), header: &header, share: &share, proof: &proof };
        self.router.handle_frame(self.now, HopId(hop), &frame)
    }

    fn data(&mut self, hop: u64, route: u32, len: usize) -> Verdict {
        let mut payload = vec![0; len];
        let frame = Frame::Data { route: RouteId(route), offset: 0, payload: &mut payload };
        self.router.handle_frame(self.now, HopId(hop), &frame)
    }
}

fn refused(route: u32, reason: RouteError) -> Verdict {
    Verdict::Reply(Frame::RouteError { route: RouteId(route), reason })
}

fn forward(hop: u64, route: u32) -> Verdict {
    Verdict::Forward { hop: HopId(hop), route: RouteId(route) }
}

#[test]
fn a_route_joins_the_two_hops_until_one_end_leaves() {
    let mut f = Fixture::connected();
    assert_eq!(f.open(1, 7, |_, _| ()), forward(100, 1));
    assert_eq!(f.data(1, 7, 10), forward(100, 1));
    assert_eq!(f.data(100, 1, 10), forward(1, 7));
    assert_eq!(f.router.lookup(HopId(100), RouteId(1)), Some((HopId(1), RouteId(7))));
    assert_eq!(f.data(1, 8, 10), Verdict::Done, "an unknown route goes nowhere");
    assert_eq!(f.router.routes_of(client(5)), 1);
    assert_eq!(f.router.handle_frame(f.now, HopId(1), &Frame::Detach { route: RouteId(7) }), forward(100, 1));
    assert_eq!(f.data(100, 1, 10), Verdict::Done);
    assert_eq!(f.router.routes_of(client(5)), 0);
    // The server ends the next one.
    assert_eq!(f.open(1, 7, |_, _| ()), forward(100, 2));
    let unknown = Frame::RouteError { route: RouteId(2), reason: RouteError::UnknownConnection };
    assert_eq!(f.router.handle_frame(f.now, HopId(100), &unknown), forward(1, 7));
    assert_eq!((f.data(1, 7, 1), f.router.routes_of(client(5))), (Verdict::Done, 0));
}

#[test]
fn only_the_own_principal_in_role_client_with_a_true_share_gets_to_registered_destinations() {
    let mut f = Fixture::connected();
    assert_eq!(f.open(1, 1, |h, _| h.client = client(6)), refused(1, RouteError::NotYours));
    assert_eq!(f.open(100, 1, |h, _| h.client = server(9)), refused(1, RouteError::NotYours));
    assert_eq!(f.open(1, 1, |_, share| share[31] ^= 1), refused(1, RouteError::BadShare));
    assert_eq!(f.open(1, 1, |h, _| h.root[0] ^= 1), refused(1, RouteError::BadShare));
    assert_eq!(f.open(1, 1, |h, _| h.connection.0[0] ^= 1), refused(1, RouteError::BadShare));
    assert_eq!(f.open(1, 1, |h, _| h.server = server(10)), refused(1, RouteError::NoSuchServer));
    let elsewhere = refused(1, RouteError::DestinationNotRegistered);
    assert_eq!(f.open(1, 1, |h, _| h.destination = address(81)), elsewhere);
    assert_eq!(f.router.routes_of(client(5)), 0, "nothing remains of a refusal");
    assert_eq!(f.actions(), []);
    let attach = Frame::Attach { route: RouteId(1), header: &[1, 2, 3] };
    assert_eq!(f.router.handle_frame(f.now, HopId(1), &attach), Verdict::Close(CloseReason::Protocol));
}

#[test]
fn attach_takes_the_same_checks_without_a_share() {
    let mut f = Fixture::connected();
    let facts = OpenFacts {
        client: client(5),
        server: server(9),
        connection: ConnectionId([1; 16]),
        destination: address(80),
        root: [0; 32],
    };
    let good = header(&facts);
    let attach = Frame::Attach { route: RouteId(3), header: &good };
    assert_eq!(f.router.handle_frame(f.now, HopId(1), &attach), forward(100, 1));
    let foreign = header(&OpenFacts { client: client(6), ..facts });
    let attach = Frame::Attach { route: RouteId(4), header: &foreign };
    assert_eq!(f.router.handle_frame(f.now, HopId(1), &attach), refused(4, RouteError::NotYours));
}

#[test]
fn a_client_holds_256_routes_over_all_its_hops_and_others_are_not_affected() {
    let mut f = Fixture::connected();
    f.up(2, client(5), Role::Client);
    f.up(3, client(6), Role::Client);
    for i in 0..MAX_CONNECTIONS_PER_CLIENT as u32 {
        assert!(matches!(f.open(1 + u64::from(i % 2), i, |_, _| ()), Verdict::Forward { .. }), "{i}");
    }
    assert_eq!(f.open(1, 999, |_, _| ()), refused(999, RouteError::Busy));
    assert!(matches!(f.open(3, 1, |h, _| h.client = client(6)), Verdict::Forward { .. }));
    f.down(2);
    assert_eq!(f.actions().len(), MAX_CONNECTIONS_PER_CLIENT / 2, "each is detached at the server");
    assert!(matches!(f.open(1, 999, |_, _| ()), Verdict::Forward { .. }));
}

#[test]
fn a_route_id_in_use_and_frames_that_only_relays_send_close_the_hop() {
    let mut f = Fixture::connected();
    f.open(1, 7, |_, _| ());
    assert_eq!(f.open(1, 7, |_, _| ()), Verdict::Close(CloseReason::Protocol));
    for frame in [
        Frame::Congested { route: RouteId(7), bytes: 1 },
        Frame::RouteError { route: RouteId(7), reason: RouteError::Lost },
    ] {
        assert_eq!(f.router.handle_frame(f.now, HopId(1), &frame), Verdict::Close(CloseReason::Protocol));
    }
    assert_eq!(
        f.router.handle_frame(f.now, HopId(1), &Frame::Ping { token: 3 }),
        Verdict::Reply(Frame::Pong { token: 3 })
    );
}

#[test]
fn frames_wait_while_the_server_is_dialled_and_keep_their_order() {
    let mut f = Fixture::new();
    f.register(9);
    assert_eq!(f.actions(), [Action::Dial { server: server(9), address: address(84) }], "on its own account");
    f.router.dial_failed(f.now, server(9), &mut f.rng);
    f.up(1, client(5), Role::Client);
    f.now += REDIAL_AT_MOST - MS;
    assert_eq!(f.open(1, 7, |_, _| ()), Verdict::Done);
    assert_eq!(f.data(1, 7, 1000), Verdict::Done);
    assert_eq!(f.actions(), [], "at most once in 250 ms");
    f.now += MS;
    assert_eq!(f.actions(), [Action::Dial { server: server(9), address: address(84) }]);
    assert_eq!(f.open(1, 8, |_, _| ()), Verdict::Done);
    assert_eq!(f.actions(), [], "one dial for all");
    f.up(100, server(9), Role::Server);
    let actions = f.actions();
    let [Action::Deliver { hop, route, frames }, Action::Deliver { .. }] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!((*hop, *route), (HopId(100), RouteId(1)));
    let mut frames = frames.clone();
    let kinds: Vec<_> = Frames::new(&mut frames).map(|frame| format!("{:?}", frame.unwrap())).collect();
    assert!(kinds[0].starts_with("Open(7") && kinds[1].starts_with("Data(7") && kinds.len() == 2);
    assert_eq!(f.router.waiting_bytes(), 0);
    assert_eq!(f.data(1, 7, 10), forward(100, 1));
    f.now += WAIT_FOR_SERVER * 2;
    assert_eq!(f.actions(), [], "no deadline remains");
    assert_eq!(f.router.poll_timeout(), None);
}

#[test]
fn waiting_is_bounded_in_bytes_and_time() {
    let mut f = Fixture::new();
    f.register(9);
    f.up(1, client(5), Role::Client);
    f.actions();
    assert_eq!(f.open(1, 7, |_, _| ()), Verdict::Done);
    let full = Verdict::Reply(Frame::Congested { route: RouteId(7), bytes: 60_000 });
    assert_eq!(f.data(1, 7, 60_000), Verdict::Done);
    assert_eq!(f.data(1, 7, 60_000), full);
    assert!(f.router.waiting_bytes() <= WAITING_BYTES_PER_ROUTE);
    assert_eq!(f.router.poll_timeout(), Some(f.now + WAIT_FOR_SERVER));
    f.now += WAIT_FOR_SERVER;
    let unreachable = Frame::RouteError { route: RouteId(7), reason: RouteError::ServerUnreachable };
    assert_eq!(f.actions(), [Action::Send { hop: HopId(1), frame: unreachable }]);
    assert_eq!((f.router.waiting_bytes(), f.router.routes_of(client(5))), (0, 0));
    // The sum over all routes is bounded as well.
    for route in 0..200 {
        f.open(1, route, |_, _| ());
        f.data(1, route, 64_000);
        assert!(f.router.waiting_bytes() <= WAITING_BYTES);
    }
    f.down(1);
    assert_eq!((f.router.waiting_bytes(), f.router.waiting.len()), (0, 0));
}

#[test]
fn routes_that_come_and_go_while_their_server_is_away_leave_nothing() {
    let mut f = Fixture::new();
    f.register(9);
    f.up(1, client(5), Role::Client);
    f.actions();
    for route in 0..1000 {
        assert_eq!(f.open(1, route, |_, _| ()), Verdict::Done);
        assert_eq!(
            f.router.handle_frame(f.now, HopId(1), &Frame::Detach { route: RouteId(route) }),
            Verdict::Done
        );
        assert_eq!((f.router.waiting.len(), f.router.waiting_bytes(), f.router.routes()), (0, 0, 0));
    }
    assert_eq!(f.open(1, 7, |_, _| ()), Verdict::Done);
    f.up(100, server(9), Role::Server);
    assert_eq!(f.router.waiting.len(), 0, "what waited is on its way");
}

#[test]
fn a_lost_server_ends_its_routes_and_is_dialled_with_growing_jittered_waits() {
    let mut f = Fixture::connected();
    f.open(1, 7, |_, _| ());
    f.down(100);
    let lost = Frame::RouteError { route: RouteId(7), reason: RouteError::Lost };
    assert_eq!(f.actions(), [Action::Send { hop: HopId(1), frame: lost }]);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let due = f.router.poll_timeout().unwrap();
        waits.push(due - f.now);
        f.now = due;
        assert!(matches!(f.actions()[..], [Action::Dial { .. }]));
        assert_eq!(f.router.poll_timeout(), None, "one at a time");
        f.router.dial_failed(f.now, server(9), &mut f.rng);
    }
    assert!(waits.iter().all(|w| (REDIAL_AT_MOST..=Duration::from_secs(30)).contains(w)), "{waits:?}");
    assert!(waits[6..].iter().any(|w| *w > Duration::from_secs(5)), "{waits:?}");
}

#[test]
fn a_newer_hop_of_a_server_replaces_the_older_one() {
    let mut f = Fixture::connected();
    f.open(1, 7, |_, _| ());
    f.up(101, server(9), Role::Server);
    let lost = Frame::RouteError { route: RouteId(7), reason: RouteError::Lost };
    assert_eq!(
        f.actions(),
        [
            Action::Close { hop: HopId(100), reason: CloseReason::Replaced },
            Action::Send { hop: HopId(1), frame: lost },
        ]
    );
    assert_eq!(f.open(1, 7, |_, _| ()), forward(101, 1));
    f.down(100);
    assert_eq!(f.data(1, 7, 1), forward(101, 1), "the end of the old hop changes nothing");
}

#[test]
fn addresses_are_public_few_and_of_this_network() {
    let config = RouterConfig { relay: relay(), network: 1, dial_any_address: false, read_header };
    let (mut router, now) = (Router::new(config), Instant::now());
    let at = |s: &str| Registration::at_base(s.parse().unwrap(), relay()).unwrap();
    assert_eq!(at("9.9.9.9:80").dial, Some("9.9.9.9:84".parse().unwrap()));
    assert_eq!(
        router.register(now, server(1), at("127.0.0.1:80")),
        Err(RegisterError::NotPublic("127.0.0.1:84".parse().unwrap()))
    );
    let foreign = Principal { network: 2, ..server(1) };
    assert_eq!(router.register(now, foreign, at("9.9.9.9:80")), Err(RegisterError::Network { expected: 1 }));
    for port in 80..84 {
        router.register(now, server(1), at(&format!("9.9.9.9:{port}"))).unwrap();
    }
    router.register(now, server(1), at("9.9.9.9:80")).unwrap();
    assert_eq!(router.register(now, server(1), at("9.9.9.9:90")), Err(RegisterError::TooMany));
    assert_eq!(Registration::at_base("9.9.9.9:65533".parse().unwrap(), relay()), None);
}

fn quota(serial: u32, routes: usize) -> BTreeMap<(Principal, Role), crate::relay::Quota> {
    let quota = crate::relay::Quota { routes, ..Default::default() };
    BTreeMap::from([((client(serial), Role::Client), quota)])
}

#[test]
fn a_client_has_its_own_number_of_routes_up_to_the_cap() {
    let mut f = Fixture::connected();
    f.up(2, client(6), Role::Client);
    f.router.set_quotas(&quota(5, 2));
    assert!(matches!(f.open(1, 1, |_, _| ()), Verdict::Forward { .. }));
    assert!(matches!(f.open(1, 2, |_, _| ()), Verdict::Forward { .. }));
    assert_eq!(f.open(1, 3, |_, _| ()), refused(3, RouteError::Busy));
    for route in 1..=3 {
        assert!(matches!(f.open(2, route, |h, _| h.client = client(6)), Verdict::Forward { .. }));
    }
    f.router.set_quotas(&quota(5, 0));
    assert_eq!(f.router.routes_of(client(5)), 2, "routes that stand stay");
    assert_eq!(f.open(1, 3, |_, _| ()), refused(3, RouteError::Busy));
    f.router.set_quotas(&quota(5, usize::MAX));
    for route in 3..=crate::relay::MAX_ROUTES as u32 {
        assert!(matches!(f.open(1, route, |_, _| ()), Verdict::Forward { .. }), "{route}");
    }
    assert_eq!(f.open(1, 99_999, |_, _| ()), refused(99_999, RouteError::Busy));
}

#[test]
fn expelling_a_client_closes_all_its_hops_and_nobody_elses() {
    let mut f = Fixture::connected();
    f.up(2, client(5), Role::Client);
    f.up(3, client(6), Role::Client);
    f.up(4, client(5), Role::Server);
    f.actions();
    f.open(1, 7, |_, _| ());
    f.open(3, 7, |h, _| h.client = client(6));
    f.router.expel(f.now, client(5), Role::Client, &mut f.rng);
    let close = |hop| Action::Close { hop: HopId(hop), reason: CloseReason::Done };
    let detach = Action::Send { hop: HopId(100), frame: Frame::Detach { route: RouteId(1) } };
    assert_eq!(f.actions(), [close(1), detach, close(2)]);
    assert_eq!(f.open(1, 8, |_, _| ()), Verdict::Done, "what was on its way goes nowhere");
    assert_eq!((f.router.routes_of(client(5)), f.router.routes_of(client(6))), (0, 1));
}

#[test]
fn a_server_that_was_taken_out_is_neither_reached_nor_dialled() {
    let mut f = Fixture::connected();
    f.open(1, 7, |_, _| ());
    f.router.set_servers(f.now, &BTreeMap::new()).unwrap();
    assert_eq!(f.actions(), [], "its hop and routes stay");
    assert_eq!(f.open(1, 8, |_, _| ()), refused(8, RouteError::DestinationNotRegistered));
    f.router.expel(f.now, server(9), Role::Server, &mut f.rng);
    let lost = Frame::RouteError { route: RouteId(7), reason: RouteError::Lost };
    let close = Action::Close { hop: HopId(100), reason: CloseReason::Done };
    assert_eq!(f.actions(), [close, Action::Send { hop: HopId(1), frame: lost }]);
    assert_eq!(f.open(1, 9, |_, _| ()), refused(9, RouteError::NoSuchServer));
    assert_eq!(f.router.poll_timeout(), None, "nothing is dialled");

    // One that is due is not dialled either, and one whose address changed is dialled at the new one.
    f.register(9);
    f.router.unregister(server(9));
    assert_eq!((f.router.poll_timeout(), f.actions()), (None, vec![]));
    f.register(9);
    let new = Registration { destination: address(80), dial: Some(address(90)) };
    f.router.set_servers(f.now, &BTreeMap::from([(server(9), vec![new])])).unwrap();
    assert_eq!(f.actions(), [Action::Dial { server: server(9), address: address(90) }]);
}

#[test]
fn a_relay_that_drains_closes_every_hop_and_dials_nobody() {
    let mut f = Fixture::connected();
    f.register(8);
    f.open(1, 7, |_, _| ());
    f.open(1, 8, |h, _| h.server = server(8));
    f.router.drain();
    let close = |hop| Action::Close { hop: HopId(hop), reason: CloseReason::Done };
    assert_eq!(f.actions(), [close(1), close(100)]);
    f.up(2, client(5), Role::Client);
    assert_eq!(f.actions(), [close(2)], "nobody comes in any more");
    f.down(1);
    f.down(100);
    assert_eq!((f.actions(), f.router.poll_timeout()), (vec![], None));
    assert_eq!((f.router.waiting_bytes(), f.router.routes()), (0, 0));
}

fn at(port: u16, dial: Option<u16>) -> Registration {
    Registration { destination: address(port), dial: dial.map(address) }
}

#[test]
fn a_server_claims_what_is_free_and_nothing_of_another() {
    let mut f = Fixture::new();
    f.register(9);
    let (now, one, two) = (f.now, server(10), server(11));
    assert_eq!(
        f.router.claim(now, one, &[at(80, None)]),
        Err(ClaimError::Taken(address(80))),
        "an operator's"
    );
    assert_eq!(f.router.claim(now, one, &[at(90, None), at(91, None)]), Ok(()));
    assert_eq!(f.router.claim(now, two, &[at(92, None), at(91, None)]), Err(ClaimError::Taken(address(91))));
    assert_eq!(f.router.claims(two), &[], "nothing of a claim that is refused");
    // What is given up is free, and the newer list takes the place of the older one.
    assert_eq!(f.router.claim(now, one, &[at(90, None)]), Ok(()));
    assert_eq!(f.router.claim(now, two, &[at(91, None)]), Ok(()));
    assert_eq!(f.router.claims(one), &[at(90, None)]);
    // An operator gives it to somebody else: the claim is gone when the lists are set the next time.
    f.router.register(now, server(12), at(91, None)).unwrap();
    let lists = BTreeMap::from([(one, vec![at(90, None)]), (two, vec![at(91, None)])]);
    f.router.set_claims(now, &lists);
    assert_eq!((f.router.claims(one), f.router.claims(two)), (&[at(90, None)][..], &[][..]));
    // Two that exchange their addresses in one step.
    let lists = BTreeMap::from([(one, vec![at(95, None)]), (two, vec![at(90, None)])]);
    f.router.set_claims(now, &lists);
    assert_eq!((f.router.claims(one), f.router.claims(two)), (&[at(95, None)][..], &[at(90, None)][..]));
    f.router.set_claims(now, &BTreeMap::new());
    assert_eq!(f.router.claims(one), &[]);
}

#[test]
fn claims_count_with_what_the_operator_registered_and_never_stand_over_it() {
    let mut f = Fixture::new();
    let (now, s) = (f.now, server(9));
    f.register(9);
    let four = [at(81, None), at(82, None), at(83, None), at(84, None)];
    assert_eq!(f.router.claim(now, s, &four), Err(ClaimError::TooMany));
    assert_eq!(f.router.claim(now, s, &four[..3]), Ok(()));
    // Its operator's address at its own word changes nothing and costs no place.
    assert_eq!(f.router.claim(now, s, &[at(80, None), four[0], four[1], four[2]]), Ok(()));
    assert_eq!(f.router.claims(s), &four[..3]);
    assert!(
        f.router.poll_action().is_none(),
        "the operator's dial is not taken back, and is due with the timer"
    );
    f.router.handle_timeout(now);
    assert_eq!(f.router.poll_action(), Some(Action::Dial { server: s, address: address(84) }));
}

#[test]
fn a_claim_that_is_dialled_is_dialled_and_one_that_is_not_is_not() {
    let mut f = Fixture::new();
    let (now, s) = (f.now, server(9));
    f.router.claim(now, s, &[at(90, None)]).unwrap();
    assert_eq!(f.router.poll_timeout(), None);
    f.router.claim(now, s, &[at(90, Some(94))]).unwrap();
    f.router.handle_timeout(now);
    assert_eq!(f.router.poll_action(), Some(Action::Dial { server: s, address: address(94) }));
    f.router.claim(now, s, &[]).unwrap();
    f.router.dial_failed(now, s, &mut f.rng);
    assert_eq!(f.router.poll_timeout(), None, "nothing is left of it");
}

#[test]
fn private_addresses_are_not_claimed_unless_the_network_is_closed() {
    let config = RouterConfig { relay: relay(), network: 1, dial_any_address: false, read_header };
    let mut router = Router::new(config);
    let (now, s) = (Instant::now(), server(9));
    let public: SocketAddr = "9.9.9.9:443".parse().unwrap();
    let claim = |destination, dial| [Registration { destination, dial }];
    assert_eq!(router.claim(now, s, &claim(address(80), None)), Err(ClaimError::NotPublic(address(80))));
    assert_eq!(
        router.claim(now, s, &claim(public, Some(address(80)))),
        Err(ClaimError::NotPublic(address(80)))
    );
    assert_eq!(router.claim(now, s, &claim(public, Some(public))), Ok(()));
}
