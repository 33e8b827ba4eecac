//! A client and a server endpoint, and 25 wires between them that lose, delay, repeat, swap and spoil what they carry.
//!
//! There are no relays: a wire hands frames over as they are. Each wire is a hop with keys and records of its own,
//! since that is how an outbox gives its bytes away. Time is simulated; chance comes from one seed.

use crate::hop::CLIENT;
use qsocket_proto::connection::{Config, Connection, Dial, Event, Hops};
use qsocket_proto::crypto::schedule::EncryptionKey;
use qsocket_proto::crypto::schedule::hop::{AuthenticityNumber, HopKeys, HopTranscript, ImportedKey};
use qsocket_proto::endpoint::{Admission, Endpoint, Handle, Routed};
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::{HopLimits, Inbox, Opener, Outbox, Sealer};
use qsocket_proto::ids::{HopAt, KeyId, PathId, PathSet, Principal, RELAYS, Role, RouteId};
use qsocket_proto::open::Refusal;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whose end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client's.
    Client = 0,
    /// The server's.
    Server = 1,
}

pub(crate) const SERVER: Principal = Principal { network: 1, denomination: 0, serial: 7 };

/// What an outbox takes.
const OUTBOX: usize = 1 << 17;

/// The kind of a reply's payload.
const REPLY: u8 = 3;

/// Events of one run after which it is taken to hang.
const MOST_EVENTS: u32 = 60_000;

struct Everyone;

impl Admission for Everyone {
    fn admit(&self, _: Principal) -> Result<(), Refusal> {
        Ok(())
    }

    fn holds_key(&self, _: Principal) -> bool {
        false
    }

    fn encryption_key(&self, _: Principal, _: KeyId) -> Option<Arc<EncryptionKey>> {
        None
    }
}

/// What a wire does to DATA frames: each of these to one in so many, 0 for none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    /// It loses the frame.
    pub(crate) lose: u8,
    /// It hands the frame over twice.
    pub(crate) repeat: u8,
    /// It flips a bit of the payload.
    pub(crate) flip: u8,
    /// It hands the frame over behind the next one.
    pub(crate) hold: u8,
}

/// The sending side of one direction of a wire.
struct Half {
    outbox: Outbox,
    sealer: Sealer,
    /// At the other end.
    inbox: Inbox,
    opener: Opener,
    held: Option<(RouteId, u32, Vec<u8>)>,
    /// When the last bytes arrive: later ones do not overtake them.
    arrives: Duration,
}

impl Half {
    fn new(now: Instant, path: PathId, way: usize, generation: u32) -> Self {
        let number = AuthenticityNumber::new(&[0x33; 32]).expect("32 bytes, not zero");
        let keys = || -> HopKeys {
            let name = [path.get(), way as u8];
            let transcript = HopTranscript::of(&name, &generation.to_be_bytes());
            ImportedKey::new(&number, CLIENT, path, Role::Client).hop(transcript)
        };
        Self {
            outbox: Outbox::new(OUTBOX),
            sealer: Sealer::new(now, keys().initiator, HopLimits::default()),
            inbox: Inbox::new(),
            opener: Opener::new(keys().initiator, HopLimits::default()),
            held: None,
            arrives: Duration::ZERO,
        }
    }
}

/// The outboxes of one end.
struct Boxes {
    halves: Vec<Half>,
    up: PathSet,
}

impl Hops for Boxes {
    fn room(&mut self, HopAt { path, .. }: HopAt) -> usize {
        if self.up.contains(path) { self.halves[path.index()].outbox.room_for_data() } else { 0 }
    }

    fn outbox<R>(&mut self, HopAt { path, .. }: HopAt, write: impl FnOnce(&mut Outbox) -> R) -> Option<R> {
        self.up.contains(path).then(|| write(&mut self.halves[path.index()].outbox))
    }
}

struct Side {
    endpoint: Endpoint,
    connections: BTreeMap<Handle, Connection>,
    boxes: Boxes,
}

#[derive(Clone, Copy)]
struct Wire {
    habits: Habits,
    delay: Duration,
    dead: bool,
}

/// Bytes on their way.
struct Travelling {
    to: usize,
    path: PathId,
    generation: u32,
    bytes: Vec<u8>,
}

/// Both ends and the wires.
pub(crate) struct Wires {
    start: Instant,
    /// Since the beginning.
    pub(crate) now: Duration,
    sides: [Side; 2],
    wires: [Wire; RELAYS],
    queue: BTreeMap<(Duration, u64), Travelling>,
    sequence: u64,
    generation: u32,
    /// The generation of each path's hops.
    generations: [u32; RELAYS],
    rng: ChaCha8Rng,
    events: u32,
    /// The first reply that arrived at the client.
    reply: Option<Vec<u8>>,
}

const DELAY: Duration = Duration::from_millis(10);

impl Wires {
    /// Two ends with these settings.
    pub(crate) fn new(seed: u64, client: Config, server: Config) -> Self {
        let start = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let client = Endpoint::client(CLIENT, Arc::new(client), Box::new(ChaCha8Rng::from_rng(&mut rng)));
        let server = Endpoint::server(
            SERVER,
            Arc::new(server),
            Box::new(ChaCha8Rng::from_rng(&mut rng)),
            Box::new(Everyone),
        );
        let side = |endpoint, way: usize| {
            let halves = PathId::all().map(|path| Half::new(start, path, way, 0)).collect();
            Side { endpoint, connections: BTreeMap::new(), boxes: Boxes { halves, up: PathSet::ALL } }
        };
        let mut this = Self {
            start,
            now: Duration::ZERO,
            sides: [side(client, 0), side(server, 1)],
            wires: [Wire { habits: Habits::default(), delay: DELAY, dead: false }; RELAYS],
            queue: BTreeMap::new(),
            sequence: 0,
            generation: 0,
            generations: [0; RELAYS],
            rng,
            events: 0,
            reply: None,
        };
        for side in &mut this.sides {
            PathId::all().for_each(|path| side.endpoint.path_up(path));
        }
        this
    }

    /// The time now.
    pub(crate) fn instant(&self) -> Instant {
        self.start + self.now
    }

    /// Opens a connection from the client.
    pub(crate) fn dial(&mut self) -> Handle {
        let dial = Dial {
            client: CLIENT,
            server: SERVER,
            source: ([127, 0, 0, 1], 40_000).into(),
            destination: ([127, 0, 0, 1], 5300).into(),
            relay_set: [9; 32],
            encryption_key: None,
        };
        let now = self.instant();
        let (handle, connection) = self.sides[0].endpoint.dial(now, dial).expect("one family");
        self.sides[0].connections.insert(handle, connection);
        handle
    }

    /// Puts frames of a client that is no [`Connection`] on a path, as its hop would.
    pub(crate) fn send(&mut self, path: PathId, frame: &Frame<'_>) {
        // What does not fit is lost; a path may lose things.
        let _ = self.sides[0].boxes.outbox(path.into(), |out| out.frame(frame));
    }

    /// The one connection of an end, if it is there.
    pub(crate) fn connection(&mut self, end: End) -> Option<&mut Connection> {
        self.sides[end as usize].connections.values_mut().next_back()
    }

    /// The payload of the first reply that arrived at the client, for a client that is no [`Connection`].
    pub(crate) fn reply(&self) -> Option<Vec<u8>> {
        self.reply.clone()
    }

    /// Gives a wire its habits.
    pub(crate) fn set_habits(&mut self, path: PathId, habits: Habits) {
        self.wires[path.index()].habits = habits;
    }

    /// Sets how long a wire takes.
    pub(crate) fn set_delay(&mut self, path: PathId, delay: Duration) {
        self.wires[path.index()].delay = delay;
    }

    /// Lets a wire swallow everything, or nothing more.
    pub(crate) fn set_dead(&mut self, path: PathId, dead: bool) {
        self.wires[path.index()].dead = dead;
    }

    /// Breaks both hops of a path: both ends learn of it, and new ones stand at once or later.
    pub(crate) fn break_hops(&mut self, path: PathId) {
        let now = self.instant();
        self.generation += 1;
        self.generations[path.index()] = self.generation;
        for (way, side) in self.sides.iter_mut().enumerate() {
            side.boxes.up.remove(path);
            side.boxes.halves[path.index()] = Half::new(now, path, way, self.generation);
            side.endpoint.path_down(path);
            side.connections.values_mut().for_each(|c| c.handle_path_down(now, path));
        }
    }

    /// The hops of a path stand again.
    pub(crate) fn restore_hops(&mut self, path: PathId) {
        let now = self.instant();
        for side in &mut self.sides {
            if side.boxes.up.contains(path) {
                return;
            }
            side.boxes.up.insert(path);
            side.endpoint.path_up(path);
        }
        self.sides[0].connections.values_mut().for_each(|c| c.handle_path_up(now, path));
    }

    /// Says something unsealed to an end, as a relay may.
    pub(crate) fn advise(&mut self, end: End, path: PathId, say: impl FnOnce(RouteId) -> Frame<'static>) {
        let now = self.instant();
        // Without a relay both ends call the route what the client calls it.
        let route = RouteId(1);
        let Side { endpoint, connections, boxes } = &mut self.sides[end as usize];
        give(endpoint, connections, boxes, now, path, say(route));
    }

    /// Every wire is as it was in the beginning.
    pub(crate) fn heal(&mut self) {
        for path in PathId::all() {
            self.wires[path.index()] = Wire { habits: Habits::default(), delay: DELAY, dead: false };
            self.restore_hops(path);
        }
    }

    /// Lets everything happen that happens within `span`.
    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.drain();
            match self.next_event() {
                Some(at) if at <= end => self.step(at),
                _ => break,
            }
        }
        self.now = end;
    }

    fn next_event(&self) -> Option<Duration> {
        let timer = |side: &Side| {
            let connections = side.connections.values().filter_map(Connection::poll_timeout);
            connections.chain(side.endpoint.poll_timeout()).map(|(at, _)| at).min()
        };
        let timers =
            self.sides.iter().filter_map(timer).min().map(|at| at.saturating_duration_since(self.start));
        let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
        [timers, arrival].into_iter().flatten().min()
    }

    fn step(&mut self, at: Duration) {
        self.events += 1;
        assert!(self.events < MOST_EVENTS, "the run does not come to an end");
        self.now = self.now.max(at);
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= self.now
        {
            let Travelling { to, path, generation, bytes } = entry.remove();
            if generation == self.generations[path.index()] {
                self.deliver(to, path, &bytes);
            }
        }
        let now = self.instant();
        for side in &mut self.sides {
            side.endpoint.handle_timeout(now, &mut side.boxes);
            for connection in side.connections.values_mut() {
                if connection.poll_timeout().is_some_and(|(at, _)| at <= now) {
                    connection.handle_timeout(now);
                }
            }
        }
    }

    fn drain(&mut self) {
        let now = self.instant();
        for _ in 0..1000 {
            let mut progress = false;
            for side in &mut self.sides {
                for (handle, connection) in &mut side.connections {
                    while let Some(event) = connection.poll_event() {
                        if event == Event::Established {
                            side.endpoint.confirmed(*handle);
                        }
                    }
                    let done = connection.transmit(now, &mut side.boxes);
                    progress |= done.progress || done.more;
                    if connection.is_closed() {
                        side.endpoint.forget(*handle, &mut side.boxes);
                    }
                }
            }
            progress |= self.collect();
            if !progress {
                return;
            }
        }
        panic!("it never has nothing more to say");
    }

    /// Puts what the outboxes hold on the wires.
    fn collect(&mut self) -> bool {
        let now = self.instant();
        let mut any = false;
        for from in 0..2 {
            for path in PathId::all() {
                let half = &mut self.sides[from].boxes.halves[path.index()];
                if !half.outbox.needs_sealing() {
                    continue;
                }
                any = true;
                half.sealer.seal(now, &mut half.outbox).expect("below the limits");
                let bytes = half.outbox.wire().to_vec();
                half.outbox.consume(bytes.len());
                self.sequence += 1;
                let at = half.arrives.max(self.now + self.wires[path.index()].delay);
                half.arrives = at;
                let generation = self.generations[path.index()];
                let travelling = Travelling { to: 1 - from, path, generation, bytes };
                self.queue.insert((at, self.sequence), travelling);
            }
        }
        any
    }

    fn deliver(&mut self, to: usize, path: PathId, bytes: &[u8]) {
        let now = self.instant();
        let Wire { habits, dead, .. } = self.wires[path.index()];
        let [client, server] = &mut self.sides;
        let (sender, receiver) = if to == 0 { (server, client) } else { (client, server) };
        let Half { inbox, opener, held, .. } = &mut sender.boxes.halves[path.index()];
        let Side { endpoint, connections, boxes } = receiver;
        let rng = &mut self.rng;
        let mut chance = |one_in: u8| one_in > 0 && rng.next_u32().is_multiple_of(u32::from(one_in));
        let mut rest = bytes;
        loop {
            rest = &rest[inbox.extend(rest)..];
            let Some(frames) = opener.next_record(inbox).expect("wires keep records whole") else {
                if rest.is_empty() {
                    return;
                }
                continue;
            };
            for frame in frames {
                let frame = frame.expect("what was sealed");
                if dead {
                    continue;
                }
                let Frame::Data { route, offset, payload } = frame else {
                    give(endpoint, connections, boxes, now, path, frame);
                    continue;
                };
                if to == End::Client as usize && payload.first() == Some(&REPLY) {
                    self.reply.get_or_insert_with(|| payload.to_vec());
                }
                let late = held.take();
                let mut copies = 1;
                if chance(habits.lose) {
                    copies = 0;
                } else if chance(habits.repeat) {
                    copies = 2;
                } else if chance(habits.flip) && !payload.is_empty() {
                    let at = usize::from(route.0 as u16 ^ offset as u16) % payload.len();
                    payload[at] ^= 4;
                } else if chance(habits.hold) {
                    *held = Some((route, offset, payload.to_vec()));
                    copies = 0;
                }
                for _ in 0..copies {
                    let mut copy = payload.to_vec();
                    let frame = Frame::Data { route, offset, payload: &mut copy };
                    give(endpoint, connections, boxes, now, path, frame);
                }
                if let Some((route, offset, mut payload)) = late {
                    let frame = Frame::Data { route, offset, payload: &mut payload };
                    give(endpoint, connections, boxes, now, path, frame);
                }
            }
        }
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
