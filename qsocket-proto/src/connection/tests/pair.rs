//! A client endpoint, a server endpoint, and 25 wires between them that tests may cut, delay and spoil.

use crate::connection::*;
use crate::crypto::nonce_audit;
use crate::crypto::schedule::EncryptionKey;
use crate::endpoint::{Admission, Endpoint, Handle, Routed};
use crate::frame::{Frame, Frames};
use crate::grid::StripeId;
use crate::hop::{Outbox, RECORD_HEADER, RECORD_TAG};
use crate::ids::{ConnectionId, HopAt, KeyId};
use crate::open::{MlKem, OpenHeader};
use crate::stripe::{STRIPE_HEADER_BYTES, StripeHeader, TAG_BYTES};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One way on every wire unless a test says otherwise.
pub(super) const DELAY: Duration = Duration::from_millis(10);

/// Steps after which a test is taken to hang.
const MAX_STEPS: usize = 300_000;

/// What becomes of a payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Drop,
    Twice,
}

type Mangle = Box<dyn Fn(&mut dyn FnMut() -> u64, &mut [u8]) -> Verdict>;

struct Wire {
    /// The hops of this path stand.
    up: bool,
    /// Bytes get through.
    alive: bool,
    delay: Duration,
    mangle: Option<Mangle>,
    lie: bool,
    forge: bool,
}

#[derive(Default)]
pub(super) struct Decisions {
    pub(super) refuse: Option<Refusal>,
    pub(super) keys: Vec<(KeyId, EncryptionKey)>,
}

/// Leaked so that a key can be lent out of a mutex; tests are short.
struct SharedAdmission(Arc<Mutex<&'static mut Decisions>>);

impl Admission for SharedAdmission {
    fn admit(&self, _: Principal) -> Result<(), Refusal> {
        self.0.lock().unwrap().refuse.map_or(Ok(()), Err)
    }

    fn holds_key(&self, _: Principal) -> bool {
        !self.0.lock().unwrap().keys.is_empty()
    }

    fn encryption_key(&self, _: Principal, id: KeyId) -> Option<Arc<EncryptionKey>> {
        let guard = self.0.lock().unwrap();
        let found = guard.keys.iter().find(|(k, _)| *k == id);
        found.map(|(_, key)| Arc::new(EncryptionKey::import(key.expose()).unwrap()))
    }
}

/// One end: its endpoint, its connections, the outboxes of its hops.
struct End {
    endpoint: Endpoint,
    connections: BTreeMap<Handle, Connection>,
    boxes: Boxes,
    /// Paths that its connections said they read no more.
    distrusted: PathSet,
}

struct Boxes {
    outboxes: Vec<Outbox>,
    up: PathSet,
    /// Their queues take no more.
    full: PathSet,
}

impl Hops for Boxes {
    fn room(&mut self, HopAt { path, .. }: HopAt) -> usize {
        if self.up.contains(path) && !self.full.contains(path) {
            self.outboxes[path.index()].room_for_data()
        } else {
            0
        }
    }

    fn outbox<R>(&mut self, HopAt { path, .. }: HopAt, write: impl FnOnce(&mut Outbox) -> R) -> Option<R> {
        self.up.contains(path).then(|| write(&mut self.outboxes[path.index()]))
    }
}

impl End {
    fn new(endpoint: Endpoint) -> Self {
        let boxes = Boxes {
            outboxes: (0..RELAYS).map(|_| Outbox::new(4 << 20)).collect(),
            up: PathSet::EMPTY,
            full: PathSet::EMPTY,
        };
        Self { endpoint, connections: BTreeMap::new(), boxes, distrusted: PathSet::EMPTY }
    }
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) client_key: Option<(KeyId, [u8; 32])>,
    pub(super) record: bool,
    ends: [End; 2],
    wires: Vec<Wire>,
    queue: BTreeMap<(Instant, u64), (usize, PathId, Vec<u8>)>,
    sequence: u64,
    rng: ChaCha12Rng,
    decisions: Arc<Mutex<&'static mut Decisions>>,
    server_config: Arc<Config>,
    recorded: Vec<(PathId, Vec<u8>)>,
    accepted: VecDeque<(Handle, StreamId, Vec<u8>)>,
    steps: usize,
}

pub(super) struct Transfer {
    pub(super) client: Handle,
    pub(super) stream: StreamId,
    up: Vec<u8>,
    written: usize,
    down: Vec<u8>,
    answered: usize,
    server: Option<(Handle, StreamId)>,
    got_up: Vec<u8>,
    got_down: Vec<u8>,
    up_done: bool,
    down_done: bool,
}

pub(super) struct Report {
    pub(super) client: Handle,
    pub(super) server: Handle,
    pub(super) up: Vec<u8>,
    pub(super) down: Vec<u8>,
}

impl Pair {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, |_| (), |_| ())
    }

    pub(super) fn with(seed: u64, client: impl Fn(&mut Config), server: impl Fn(&mut Config)) -> Self {
        // Runs of one seed draw the same keys; each is a world of its own.
        nonce_audit::forget();
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let (mut c, mut s) = (Config::default(), Config::default());
        client(&mut c);
        server(&mut s);
        let principal = Principal { network: 1, denomination: 0, serial: 1000 };
        let decisions: Arc<Mutex<&'static mut Decisions>> =
            Arc::new(Mutex::new(Box::leak(Box::new(Decisions::default()))));
        let server_config = Arc::new(s);
        let client = Endpoint::client(principal, Arc::new(c), Box::new(ChaCha12Rng::from_rng(&mut rng)));
        let server = Self::server_endpoint(&mut rng, &server_config, &decisions);
        let wires = (0..RELAYS)
            .map(|_| Wire { up: true, alive: true, delay: DELAY, mangle: None, lie: false, forge: false })
            .collect();
        let mut pair = Self {
            now: Instant::now(),
            client_key: None,
            record: false,
            ends: [End::new(client), End::new(server)],
            wires,
            queue: BTreeMap::new(),
            sequence: 0,
            rng,
            decisions,
            server_config,
            recorded: Vec::new(),
            accepted: VecDeque::new(),
            steps: 0,
        };
        for end in &mut pair.ends {
            for path in PathId::all() {
                end.endpoint.path_up(path);
                end.boxes.up.insert(path);
            }
        }
        pair
    }

    fn server_endpoint(
        rng: &mut ChaCha12Rng,
        config: &Arc<Config>,
        decisions: &Arc<Mutex<&'static mut Decisions>>,
    ) -> Endpoint {
        let principal = Principal { network: 1, denomination: 0, serial: 7 };
        let admission = Box::new(SharedAdmission(decisions.clone()));
        Endpoint::server(principal, config.clone(), Box::new(ChaCha12Rng::from_rng(rng)), admission)
    }

    // ---- what tests look at -----------------------------------------------------------------------------

    pub(super) fn client(&mut self, handle: Handle) -> &mut Connection {
        self.ends[0].connections.get_mut(&handle).unwrap()
    }

    pub(super) fn server(&mut self, handle: Handle) -> &mut Connection {
        self.ends[1].connections.get_mut(&handle).unwrap()
    }

    pub(super) fn server_count(&self) -> usize {
        self.ends[1].connections.values().filter(|c| !c.is_closed()).count()
    }

    pub(super) fn server_stream_count(&self) -> usize {
        self.ends[1].connections.values().map(Connection::stream_count).sum()
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.ends[1].endpoint.pending_bytes()
    }

    pub(super) fn pending_slots(&self) -> usize {
        self.ends[1].endpoint.pending_slots()
    }

    /// The paths that client and server said they read no more.
    pub(super) fn distrusted(&self) -> [PathSet; 2] {
        [0, 1].map(|end| self.ends[end].distrusted)
    }

    /// Who brought a share that was not the client's.
    pub(super) fn liars(&self) -> PathSet {
        let counts = self.ends[1].endpoint.liars();
        PathId::all().filter(|p| counts[p.index()] > 0).collect()
    }

    /// Who brought another header than sixteen others.
    pub(super) fn alone_with_their_header(&self) -> PathSet {
        let counts = self.ends[1].endpoint.other_headers();
        PathId::all().filter(|p| counts[p.index()] > 0).collect()
    }

    pub(super) fn round_trip(&self) -> Duration {
        DELAY * 2
    }

    pub(super) fn admission(&mut self) -> std::sync::MutexGuard<'_, &'static mut Decisions> {
        self.decisions.lock().unwrap()
    }

    /// Takes the next stream that reached the server's `accept`.
    pub(super) fn accepted(&mut self) -> Option<(Handle, StreamId, Vec<u8>)> {
        self.accepted.pop_front()
    }

    pub(super) fn has_accepted(&self) -> bool {
        !self.accepted.is_empty()
    }

    // ---- faults -----------------------------------------------------------------------------------------

    pub(super) fn random_paths(&mut self, count: usize) -> PathSet {
        let mut set = PathSet::EMPTY;
        while set.len() < count {
            set.insert(PathId::new((self.rng.next_u32() % RELAYS as u32) as u8).unwrap());
        }
        set
    }

    /// Bytes vanish, and nobody is told.
    pub(super) fn cut(&mut self, paths: PathSet) {
        paths.iter().for_each(|p| self.wires[p.index()].alive = false);
    }

    /// The client's queues for these paths take nothing.
    pub(super) fn fill(&mut self, paths: PathSet) {
        self.ends[0].boxes.full = paths;
    }

    /// They take everything again.
    pub(super) fn drain_queues(&mut self) {
        self.ends[0].boxes.full = PathSet::EMPTY;
    }

    /// The hops break: both ends learn of it.
    pub(super) fn break_hops(&mut self, paths: PathSet) {
        for path in paths.iter() {
            self.wires[path.index()].up = false;
            self.queue.retain(|_, (_, p, _)| *p != path);
            for end in &mut self.ends {
                end.boxes.up.remove(path);
                end.boxes.outboxes[path.index()] = Outbox::new(4 << 20);
                end.endpoint.path_down(path);
                end.connections.values_mut().for_each(|c| c.handle_path_down(self.now, path));
            }
        }
    }

    pub(super) fn restore(&mut self, paths: PathSet) {
        for path in paths.iter() {
            let wire = &mut self.wires[path.index()];
            wire.alive = true;
            if !std::mem::replace(&mut wire.up, true) {
                for end in &mut self.ends {
                    end.boxes.up.insert(path);
                    end.endpoint.path_up(path);
                }
                self.ends[0].connections.values_mut().for_each(|c| c.handle_path_up(self.now, path));
            }
        }
    }

    pub(super) fn delay(&mut self, path: PathId, delay: Duration) {
        self.wires[path.index()].delay = delay;
    }

    pub(super) fn mangle(
        &mut self,
        paths: PathSet,
        how: impl Fn(&mut dyn FnMut() -> u64, &mut [u8]) -> Verdict + Clone + 'static,
    ) {
        paths.iter().for_each(|p| self.wires[p.index()].mangle = Some(Box::new(how.clone())));
    }

    pub(super) fn lie_about_shares(&mut self, paths: PathSet) {
        paths.iter().for_each(|p| self.wires[p.index()].lie = true);
    }

    pub(super) fn forge_headers(&mut self, paths: PathSet) {
        paths.iter().for_each(|p| self.wires[p.index()].forge = true);
    }

    /// The server process is replaced by a fresh one.
    pub(super) fn restart_server(&mut self) {
        let endpoint = Self::server_endpoint(&mut self.rng, &self.server_config, &self.decisions);
        self.ends[1] = End::new(endpoint);
        for path in PathId::all() {
            self.ends[1].endpoint.path_up(path);
            self.ends[1].boxes.up.insert(path);
        }
    }

    /// Everything that was recorded on the way to the server is delivered again.
    pub(super) fn replay_to_server(&mut self) {
        self.record = false;
        for (path, bytes) in self.recorded.clone() {
            self.sequence += 1;
            self.queue.insert((self.now, self.sequence), (1, path, bytes));
        }
    }

    /// Relays send the server well-formed stripes that nobody sealed.
    pub(super) fn invent_stripes(&mut self, paths: PathSet, stream: StreamId, blocks: Range<u64>) {
        let route = self.ends[0].connections.keys().next().map(|h| RouteId(h.0)).unwrap();
        for path in paths.iter() {
            for block in blocks.clone() {
                for stripe in StripeId::all() {
                    for block_len in [64u32, 4096, 262_144] {
                        let header = StripeHeader { phase: 1, stream, block, stripe, block_len };
                        let len = STRIPE_HEADER_BYTES + header.stripe_len() + TAG_BYTES;
                        let mut payload = vec![0x55; len];
                        header.encode(payload.first_chunk_mut().unwrap());
                        let mut out = Outbox::new(usize::MAX);
                        out.data(route, 0, len, |buf| buf.copy_from_slice(&payload)).unwrap();
                        for record in out.unsealed_for_tests() {
                            self.sequence += 1;
                            let plain = record[RECORD_HEADER..record.len() - RECORD_TAG].to_vec();
                            self.queue.insert((self.now, self.sequence), (1, path, plain));
                        }
                    }
                }
            }
        }
        self.step();
    }

    /// Relays announce connections that no client opened, the same ones on all these paths.
    pub(super) fn invent_openings(&mut self, paths: PathSet, count: u32) {
        let mut header = OpenHeader {
            client: self.ends[0].endpoint.principal(),
            server: self.ends[1].endpoint.principal(),
            connection: ConnectionId([0; 16]),
            nonce: [1; 32],
            encryption_key: None,
            ml_kem: MlKem::Off,
            source: "127.0.0.1:40000".parse().unwrap(),
            destination: "127.0.0.1:5300".parse().unwrap(),
            relay_set: [2; 32],
            root: [3; 32],
            commitment: [4; 32],
        };
        for number in 0..count {
            header.connection.0[..4].copy_from_slice(&number.to_be_bytes());
            let encoded = header.encode().unwrap();
            let route = RouteId(1_000_000 + number);
            let open = Frame::Open { route, header: &encoded, share: &[5; 32], proof: &[[6; 32]; 5] };
            let mut bytes = Vec::new();
            open.encode(&mut bytes);
            for path in paths.iter() {
                self.sequence += 1;
                self.queue.insert((self.now, self.sequence), (1, path, bytes.clone()));
            }
        }
        self.step();
    }

    // ---- running ----------------------------------------------------------------------------------------

    pub(super) fn dial(&mut self) -> Handle {
        let dial = Dial {
            client: self.ends[0].endpoint.principal(),
            server: self.ends[1].endpoint.principal(),
            source: "127.0.0.1:40000".parse().unwrap(),
            destination: "127.0.0.1:5300".parse().unwrap(),
            relay_set: [9; 32],
            encryption_key: self.client_key.map(|(id, key)| (id, EncryptionKey::import(&key).unwrap())),
        };
        let (handle, connection) = self.ends[0].endpoint.dial(self.now, dial).unwrap();
        self.ends[0].connections.insert(handle, connection);
        handle
    }

    /// One call of `transmit`, as a shell makes it after one wake-up.
    pub(super) fn transmit_once(&mut self, client: Handle) -> Transmitted {
        let End { connections, boxes, .. } = &mut self.ends[0];
        connections.get_mut(&client).unwrap().transmit(self.now, boxes)
    }

    pub(super) fn open(&mut self) -> Handle {
        let handle = self.dial();
        self.run_until(|p| p.client(handle).is_open() || p.client(handle).error().is_some());
        assert_eq!(self.client(handle).error(), None);
        handle
    }

    /// Drains both ends, then goes on to what happens next and lets it happen. False if nothing ever does.
    pub(super) fn step(&mut self) -> bool {
        self.steps += 1;
        if self.steps >= MAX_STEPS {
            let timers: Vec<_> =
                self.ends.iter().flat_map(|e| e.connections.values().map(|c| c.poll_timeout())).collect();
            panic!(
                "the run does not come to an end; now {:?}, next {timers:?}, {} on the wires",
                self.now,
                self.queue.len()
            );
        }
        self.drain();
        let timer = |end: &End| {
            let connections = end.connections.values().filter_map(|c| c.poll_timeout());
            connections.chain(end.endpoint.poll_timeout()).map(|(at, _)| at).min()
        };
        let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
        let next = self.ends.iter().filter_map(timer).chain(arrival).min();
        let Some(next) = next else { return false };
        self.now = self.now.max(next);
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= self.now
        {
            let (to, path, mut bytes) = entry.remove();
            self.deliver(to, path, &mut bytes);
        }
        for end in &mut self.ends {
            end.endpoint.handle_timeout(self.now, &mut end.boxes);
            for connection in end.connections.values_mut() {
                if connection.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                    connection.handle_timeout(self.now);
                }
            }
        }
        self.drain();
        true
    }

    pub(super) fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        while !done(self) {
            assert!(self.step(), "nothing more happens");
        }
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.drain();
            let timer = |end: &End| {
                let connections = end.connections.values().filter_map(|c| c.poll_timeout());
                connections.chain(end.endpoint.poll_timeout()).map(|(at, _)| at).min()
            };
            let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
            match self.ends.iter().filter_map(timer).chain(arrival).min() {
                Some(next) if next <= end => _ = self.step(),
                _ => break,
            }
        }
        self.now = end;
    }

    fn drain(&mut self) {
        loop {
            let mut progress = false;
            for end in &mut self.ends {
                for (handle, connection) in &mut end.connections {
                    while let Some(event) = connection.poll_event() {
                        match event {
                            Event::Established => end.endpoint.confirmed(*handle),
                            Event::Distrusted(path) => _ = end.distrusted.insert(path),
                            _ => {}
                        }
                    }
                    let done = connection.transmit(self.now, &mut end.boxes);
                    progress |= done.progress || done.more;
                }
                let closed: Vec<Handle> =
                    end.connections.iter().filter(|(_, c)| c.is_closed()).map(|(h, _)| *h).collect();
                closed.iter().for_each(|h| end.endpoint.forget(*h, &mut end.boxes));
            }
            for (handle, connection) in &mut self.ends[1].connections {
                while let Some((id, resource)) = connection.accept() {
                    self.accepted.push_back((*handle, id, resource));
                }
            }
            for from in 0..2 {
                progress |= self.collect(from);
            }
            if !progress {
                return;
            }
        }
    }

    /// Puts what the outboxes hold on the wires.
    fn collect(&mut self, from: usize) -> bool {
        let mut any = false;
        for path in PathId::all() {
            let records = self.ends[from].boxes.outboxes[path.index()].unsealed_for_tests();
            for record in records {
                any = true;
                let mut plain = record[RECORD_HEADER..record.len() - RECORD_TAG].to_vec();
                let wire = &self.wires[path.index()];
                if !wire.alive || !wire.up {
                    continue;
                }
                if from == 0 && self.record {
                    self.recorded.push((path, plain.clone()));
                }
                if from == 0 && (wire.lie || wire.forge) {
                    plain = spoil_open(&plain, wire.lie);
                }
                let at = self.now + wire.delay;
                self.sequence += 1;
                self.queue.insert((at, self.sequence), (1 - from, path, plain));
            }
        }
        any
    }

    fn deliver(&mut self, to: usize, path: PathId, bytes: &mut [u8]) {
        if !self.wires[path.index()].up {
            return;
        }
        let now = self.now;
        let End { endpoint, connections, boxes, .. } = &mut self.ends[to];
        for frame in Frames::new(bytes) {
            let mut frame = frame.unwrap();
            let mut again = None;
            if let (Frame::Data { payload, route, offset }, Some(mangle)) =
                (&mut frame, &self.wires[path.index()].mangle)
            {
                let rng = &mut self.rng;
                match mangle(&mut || rng.next_u64(), payload) {
                    Verdict::Pass => {}
                    Verdict::Drop => continue,
                    Verdict::Twice => again = Some((*route, *offset, payload.to_vec())),
                }
            }
            give(endpoint, connections, boxes, now, path, frame);
            if let Some((route, offset, mut payload)) = again {
                let copy = Frame::Data { route, offset, payload: &mut payload };
                give(endpoint, connections, boxes, now, path, copy);
            }
        }
    }

    // ---- transfers --------------------------------------------------------------------------------------

    pub(super) fn start(&mut self, up: &[u8], down: &[u8]) -> Transfer {
        let client = self.open();
        self.begin(client, up, down)
    }

    fn begin(&mut self, client: Handle, up: &[u8], down: &[u8]) -> Transfer {
        let stream = self.client(client).open(b"").unwrap().unwrap();
        Transfer {
            client,
            stream,
            up: up.to_vec(),
            written: 0,
            down: down.to_vec(),
            answered: 0,
            server: None,
            got_up: Vec::new(),
            got_down: Vec::new(),
            up_done: false,
            down_done: false,
        }
    }

    fn pump(&mut self, t: &mut Transfer) {
        let client = self.ends[0].connections.get_mut(&t.client).unwrap();
        if t.written < t.up.len() {
            t.written += client.write(t.stream, &t.up[t.written..]).unwrap();
            if t.written == t.up.len() {
                client.finish(t.stream).unwrap();
            }
        } else if t.up.is_empty() {
            client.finish(t.stream).unwrap();
        }
        let mut buf = vec![0; 100_000];
        while let Some(n) = client.read(t.stream, &mut buf).unwrap() {
            t.got_down.extend_from_slice(&buf[..n]);
            if n == 0 {
                t.down_done = true;
                break;
            }
        }
        if t.server.is_none() {
            t.server = self.accepted().map(|(h, s, _)| (h, s));
        }
        let Some((handle, stream)) = t.server else { return };
        let server = self.ends[1].connections.get_mut(&handle).unwrap();
        while let Some(n) = server.read(stream, &mut buf).unwrap() {
            t.got_up.extend_from_slice(&buf[..n]);
            if n == 0 {
                t.up_done = true;
                break;
            }
        }
        if t.answered < t.down.len() {
            t.answered += server.write(stream, &t.down[t.answered..]).unwrap();
            if t.answered == t.down.len() {
                server.finish(stream).unwrap();
            }
        }
    }

    /// Runs until the server has read so many bytes more.
    pub(super) fn run_for_bytes(&mut self, t: &mut Transfer, bytes: usize) {
        let goal = (t.got_up.len() + bytes).min(t.up.len());
        while t.got_up.len() < goal {
            self.pump(t);
            assert!(self.step(), "nothing more happens");
        }
    }

    pub(super) fn finish(&mut self, mut t: Transfer) -> Report {
        loop {
            self.pump(&mut t);
            let acked = self.client(t.client).is_finished(t.stream);
            let (server, stream) = t.server.unwrap_or((Handle(0), StreamId(0)));
            if t.up_done && t.down_done && acked && self.server(server).is_finished(stream) {
                return Report { client: t.client, server, up: t.got_up, down: t.got_down };
            }
            assert!(self.step(), "nothing more happens");
        }
    }

    /// An exchange over a connection that is open.
    pub(super) fn transfer(&mut self, client: Handle, up: &[u8], down: &[u8]) -> Report {
        let transfer = self.begin(client, up, down);
        self.finish(transfer)
    }

    pub(super) fn exchange(&mut self, up: &[u8], down: &[u8]) -> Report {
        let transfer = self.start(up, down);
        self.finish(transfer)
    }

    pub(super) fn read_all(&mut self, server: Handle, id: StreamId) -> Vec<u8> {
        let (mut all, mut buf) = (Vec::new(), vec![0; 100_000]);
        while let Some(n) = self.server(server).read(id, &mut buf).unwrap() {
            if n == 0 {
                break;
            }
            all.extend_from_slice(&buf[..n]);
        }
        all
    }
}

fn give(
    endpoint: &mut Endpoint,
    connections: &mut BTreeMap<Handle, Connection>,
    boxes: &mut Boxes,
    now: Instant,
    path: PathId,
    frame: Frame<'_>,
) {
    match endpoint.handle_frame(now, path, frame, boxes) {
        Routed::Nothing => {}
        Routed::To(handle, input) => {
            if let Some(connection) = connections.get_mut(&handle) {
                connection.handle_input(now, path, input);
            }
        }
        Routed::New(handle, connection) => _ = connections.insert(handle, *connection),
    }
}

/// What a lying relay makes of an OPEN: another share, or another client nonce in the header.
fn spoil_open(plain: &[u8], share_only: bool) -> Vec<u8> {
    let mut copy = plain.to_vec();
    let mut out = Outbox::new(usize::MAX);
    for frame in Frames::new(&mut copy) {
        let mut frame = frame.unwrap();
        let (mut header, mut share) = (Vec::new(), [0; 32]);
        if let Frame::Open { header: h, share: s, .. } = &frame {
            (header, share) = (h.to_vec(), **s);
            if share_only { share[3] ^= 1 } else { header[40] ^= 1 }
        }
        match &mut frame {
            Frame::Open { route, proof, .. } => {
                out.frame(&Frame::Open { route: *route, header: &header, share: &share, proof }).unwrap();
            }
            Frame::Data { route, offset, payload } => {
                out.data(*route, *offset, payload.len(), |buf| buf.copy_from_slice(payload)).unwrap();
            }
            other => out.frame(other).unwrap(),
        }
    }
    out.unsealed_for_tests().iter().flat_map(|r| r[RECORD_HEADER..r.len() - RECORD_TAG].to_vec()).collect()
}
