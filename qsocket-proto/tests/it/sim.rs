//! A simulated network: a virtual clock, an event queue, and links that behave like TCP connections.
//!
//! One seed gives one run. A link is an ordered pipe each way with a rate, a delay and bounded buffers: a reader that
//! does not read stops its writer. Nodes see only bytes and time, as sockets would give them.

pub mod endpoint;
pub mod hop;
pub mod hub;
pub mod liar;
pub mod link;
pub mod live;
pub mod net;
pub mod program;
pub mod relay;
pub mod talk;

use link::Link;
use qsocket_proto::hop::{Inbox, Outbox};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Bytes that sockets hold and that travel at once.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub send_buffer: usize,
    pub receive_buffer: usize,
    /// What travels as one event.
    pub chunk: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { send_buffer: 64 * 1024, receive_buffer: 128 * 1024, chunk: 16 * 1024 }
    }
}

pub type NodeId = usize;

/// One end of a link: the number of the link and which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    link: usize,
    side: usize,
}

impl End {
    fn other(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }

    /// The number of the link.
    pub fn link(self) -> usize {
        self.link
    }

    /// A number that no other end has.
    pub fn number(self) -> u64 {
        (self.link * 2 + self.side) as u64
    }
}

/// Something with sockets and a timer.
pub trait Node {
    /// A link is up: one that this node dialled (`at` is where), or one that was dialled at its listener `at`.
    fn connected(&mut self, io: &mut Io<'_>, end: End, at: SocketAddr, dialled: bool);
    /// Bytes arrived, or room for more bytes appeared.
    fn ready(&mut self, io: &mut Io<'_>, end: End);
    /// The link broke.
    fn closed(&mut self, io: &mut Io<'_>, end: End);
    /// When [`Node::timeout`] is due.
    fn poll_timeout(&self) -> Option<Instant>;
    /// The timer fired.
    fn timeout(&mut self, io: &mut Io<'_>);
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Connected(End, SocketAddr, bool),
    /// The chunk at the head of the pipe into this end arrives.
    Arrived(End),
    /// The pipe out of this end may take the next chunk.
    Sent(End),
    Closed(End),
    /// What a frozen node did not look at.
    Ready(End),
    Timer(NodeId),
}

/// Rate in bytes a second and one-way delay of a link.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    pub rate: u64,
    pub delay: Duration,
}

/// Everything but the nodes.
pub struct Network {
    base: Instant,
    now: Duration,
    sequence: u64,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    links: Vec<Link>,
    listeners: BTreeMap<SocketAddr, NodeId>,
    frozen: Vec<bool>,
    /// What happened to frozen nodes, in order.
    held: Vec<Vec<Event>>,
    dead: Vec<bool>,
    /// Speed of links to a listener.
    speeds: BTreeMap<(NodeId, SocketAddr), Speed>,
    default_speed: Speed,
    pub sizes: Sizes,
    pub rng: ChaCha20Rng,
}

impl Network {
    fn at(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + after, self.sequence, event)));
    }
}

/// What a node may do during a callback.
pub struct Io<'a> {
    pub net: &'a mut Network,
    node: NodeId,
}

impl Io<'_> {
    pub fn now(&self) -> Instant {
        self.net.base + self.net.now
    }

    /// Dials a listener. [`Node::connected`] or [`Node::closed`] follows after a round trip.
    pub fn dial(&mut self, to: SocketAddr) -> End {
        let target = self.net.listeners.get(&to).copied().filter(|node| !self.net.dead[*node]);
        let speed = self.net.speeds.get(&(self.node, to)).copied().unwrap_or(self.net.default_speed);
        let end = End { link: self.net.links.len(), side: 0 };
        let nodes = [self.node, target.unwrap_or(self.node)];
        let chunk = self.net.sizes.chunk;
        self.net.links.push(Link::new(nodes, speed, chunk, target.is_some()));
        if target.is_some() {
            self.net.at(speed.delay, Event::Connected(end.other(), to, false));
            self.net.at(speed.delay * 2, Event::Connected(end, to, true));
        } else {
            self.net.at(speed.delay * 2, Event::Closed(end));
        }
        end
    }

    /// Moves arrived bytes into `inbox`; true if any did.
    pub fn read(&mut self, end: End, inbox: &mut Inbox) -> bool {
        let pipe = &mut self.net.links[end.link].pipes[1 - end.side];
        let mut total = 0;
        while !pipe.received.is_empty() {
            let (head, _) = pipe.received.as_slices();
            let n = inbox.extend(head);
            pipe.received.drain(..n);
            total += n;
            if n == 0 {
                break;
            }
        }
        self.net.kick(end.other());
        total > 0
    }

    /// Moves sealed bytes from `outbox` into the socket's buffer; true if any did.
    pub fn write(&mut self, end: End, outbox: &mut Outbox) -> bool {
        let holds = self.net.sizes.send_buffer;
        let link = &mut self.net.links[end.link];
        let pipe = &mut link.pipes[end.side];
        let wire = outbox.wire();
        let n = wire.len().min(holds.saturating_sub(pipe.to_send.len()));
        if n == 0 || !link.open {
            return false;
        }
        pipe.to_send.extend(&wire[..n]);
        outbox.consume(n);
        self.net.kick(end);
        true
    }

    /// Closes a link; the other end hears of it after the delay.
    pub fn close(&mut self, end: End) {
        self.net.close(end);
    }
}

/// The simulation.
pub struct World {
    pub net: Network,
    nodes: Vec<Option<Box<dyn Node>>>,
    /// The earliest timer event of each node that is queued.
    timers: Vec<Option<Duration>>,
    /// Timer callbacks so far.
    pub timer_events: u64,
    /// The last one, and how often it came without time going on.
    last_timer: Option<(NodeId, Duration)>,
    at_once: u32,
    /// A hash over everything that happened so far, and when.
    pub digest: u64,
}

impl World {
    pub fn new(seed: u64, default_speed: Speed) -> Self {
        let net = Network {
            base: Instant::now(),
            now: Duration::ZERO,
            sequence: 0,
            events: BinaryHeap::new(),
            links: Vec::new(),
            listeners: BTreeMap::new(),
            frozen: Vec::new(),
            held: Vec::new(),
            dead: Vec::new(),
            speeds: BTreeMap::new(),
            default_speed,
            sizes: Sizes::default(),
            rng: ChaCha20Rng::seed_from_u64(seed),
        };
        Self {
            net,
            nodes: Vec::new(),
            timers: Vec::new(),
            timer_events: 0,
            last_timer: None,
            at_once: 0,
            digest: 0,
        }
    }

    pub fn start(&self) -> Instant {
        self.net.base
    }

    pub fn add(&mut self, node: Box<dyn Node>) -> NodeId {
        self.nodes.push(Some(node));
        self.timers.push(None);
        self.net.frozen.push(false);
        self.net.held.push(Vec::new());
        self.net.dead.push(false);
        self.nodes.len() - 1
    }

    pub fn listen(&mut self, node: NodeId, at: SocketAddr) {
        self.net.listeners.insert(at, node);
    }

    /// Sets the speed of all links, present and future, at a node.
    pub fn set_speed(&mut self, node: NodeId, speed: Speed) {
        for link in self.net.links.iter_mut().filter(|link| link.nodes.contains(&node)) {
            (link.rate, link.delay) = (speed.rate, speed.delay);
        }
        let listeners: Vec<_> = self.net.listeners.iter().map(|(at, owner)| (*at, *owner)).collect();
        for (at, owner) in listeners {
            for dialler in 0..self.nodes.len() {
                if owner == node || dialler == node {
                    self.net.speeds.insert((dialler, at), speed);
                }
            }
        }
    }

    /// Stops a node: it neither reads nor runs its timer, and its sockets stay open.
    pub fn freeze(&mut self, node: NodeId) {
        self.net.frozen[node] = true;
    }

    /// Lets a frozen node go on with everything that happened meanwhile.
    pub fn thaw(&mut self, node: NodeId) {
        if std::mem::replace(&mut self.net.frozen[node], false) {
            for event in std::mem::take(&mut self.net.held[node]) {
                self.net.at(Duration::ZERO, event);
            }
            self.with(node, |_, _| ());
        }
    }

    /// Ends a node's process: its links break, nobody answers at its listeners, and it learns of nothing.
    pub fn crash(&mut self, node: NodeId) {
        self.net.dead[node] = true;
        self.net.frozen[node] = false;
        self.net.held[node].clear();
        self.reset(node);
    }

    /// Starts a node's process again. The caller makes it forget what it knew.
    pub fn revive(&mut self, node: NodeId) {
        self.net.dead[node] = false;
    }

    pub fn is_dead(&self, node: NodeId) -> bool {
        self.net.dead[node]
    }

    /// Breaks one of the open links, by chance.
    pub fn break_a_link(&mut self) {
        if let Some(end) = self.net.some_end() {
            self.net.break_link(end.link);
        }
    }

    /// Breaks all links of a node.
    pub fn reset(&mut self, node: NodeId) {
        for link in self.net.links_of(node) {
            if self.net.links[link].open {
                self.net.break_link(link);
            }
        }
    }

    /// Runs a node's callback and queues its timer.
    pub fn with(&mut self, node: NodeId, f: impl FnOnce(&mut dyn Node, &mut Io<'_>)) {
        let Some(mut taken) = self.nodes[node].take() else { return };
        f(&mut *taken, &mut Io { net: &mut self.net, node });
        if let Some(due) = taken.poll_timeout() {
            let due = due.saturating_duration_since(self.net.base).max(self.net.now);
            if self.timers[node].is_none_or(|queued| due < queued) {
                self.timers[node] = Some(due);
                self.net.at(due - self.net.now, Event::Timer(node));
            }
        }
        self.nodes[node] = Some(taken);
    }

    /// Runs until `until`; `check` sees the world after every event.
    pub fn run(&mut self, until: Duration, mut check: impl FnMut(&Network)) {
        while let Some(Reverse((at, ..))) = self.net.events.peek()
            && *at <= until
        {
            let Some(Reverse((at, _, event))) = self.net.events.pop() else { break };
            self.net.now = at;
            self.note(&event);
            self.step(event);
            check(&self.net);
        }
        self.net.now = until;
    }

    /// Takes an event into the digest.
    fn note(&mut self, event: &Event) {
        let (kind, what) = match event {
            Event::Connected(end, ..) => (1, end.number()),
            Event::Arrived(end) => (2, end.number()),
            Event::Sent(end) => (3, end.number()),
            Event::Closed(end) => (4, end.number()),
            Event::Ready(end) => (5, end.number()),
            Event::Timer(node) => (6, *node as u64),
        };
        for word in [self.net.now.as_nanos() as u64, kind, what] {
            self.digest = (self.digest ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.net.now
    }

    fn step(&mut self, event: Event) {
        // What the network does, whatever state the node is in.
        let end = match event {
            Event::Timer(node) => return self.timer(node),
            Event::Arrived(end) => {
                if !self.net.arrive(end) {
                    return;
                }
                end
            }
            Event::Sent(end) => {
                if !self.net.sent(end) {
                    return;
                }
                end
            }
            Event::Connected(end, ..) | Event::Closed(end) | Event::Ready(end) => end,
        };
        let link = &self.net.links[end.link];
        let (node, open) = (link.nodes[end.side], link.open);
        if self.net.dead[node] {
            return;
        }
        let event = match event {
            Event::Arrived(_) | Event::Sent(_) => Event::Ready(end),
            event => event,
        };
        if self.net.frozen[node] {
            let held = &mut self.net.held[node];
            if event != Event::Ready(end) || !held.contains(&event) {
                held.push(event);
            }
            return;
        }
        match event {
            Event::Connected(_, at, dialled) if open => {
                self.with(node, |n, io| n.connected(io, end, at, dialled))
            }
            Event::Ready(_) if open => self.with(node, |n, io| n.ready(io, end)),
            Event::Closed(_) => self.with(node, |n, io| n.closed(io, end)),
            _ => {}
        }
    }

    fn timer(&mut self, node: NodeId) {
        if self.timers[node] != Some(self.net.now) {
            return;
        }
        self.timers[node] = None;
        if self.net.frozen[node] || self.net.dead[node] {
            return;
        }
        self.timer_events += 1;
        self.at_once = if self.last_timer == Some((node, self.net.now)) { self.at_once + 1 } else { 0 };
        self.last_timer = Some((node, self.net.now));
        assert!(self.at_once < 1000, "node {node}: a timer that is always due, at {:?}", self.net.now);
        let now = self.net.base + self.net.now;
        self.with(node, |n, io| {
            if n.poll_timeout().is_some_and(|due| due <= now) {
                n.timeout(io);
            }
        });
    }
}
