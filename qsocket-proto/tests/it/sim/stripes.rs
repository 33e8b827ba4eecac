//! Endpoints that move opaque stripes: the path layer and the relays without any cryptography end to end.
//!
//! A client sends blocks of 25 stripes; a server has a block when it has any 16 of them, and reports blocks, path
//! counters and a window of blocks. This is what a connection does, without its formats.

use super::hop::{HopEnd, State, outbox};
use super::relay::{Everybody, encode_header, imported};
use super::{End, Io, Node};
use qsocket_proto::codec::{Reader, Write};
use qsocket_proto::crypto::secret::Secret;
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::{Dial, Dialer, DialledBy, HopLimits, Responder};
use qsocket_proto::ids::{ConnectionId, PathId, Principal, RELAYS, Role, RouteId, SIXTEEN};
use qsocket_proto::path::{PathCounter, PathFlow};
use qsocket_proto::relay::OpenFacts;
use qsocket_proto::share::{self, Shares, Tree};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Payload of a stripe.
pub const STRIPE: usize = 4096;

/// Payload of a block.
pub const BLOCK: u64 = (SIXTEEN * STRIPE) as u64;

/// Blocks that may be sent beyond what the reader took.
const WINDOW: u32 = 64;

/// What a client leaves in its own socket queue before it skips the path.
const LOCAL_QUEUE: usize = 64 * 1024;

/// Time between two blocks of a writer: 6 MB/s, three quarters of what sixteen links of the tests carry.
const PACE: Duration = Duration::from_nanos(BLOCK * 1_000_000_000 / 6_000_000);

/// A block without acknowledgement for so long is sent again, over other paths; doubled with each try.
const STALL: Duration = Duration::from_millis(600);

/// An acknowledgement waits at most so long for more to report.
const ACK_DELAY: Duration = Duration::from_millis(25);

const DATA: u8 = 1;
const ACK: u8 = 2;

/// What a test sees and steers: bytes that readers took, by (server, client), and readers that have stopped.
#[derive(Default)]
pub struct Board {
    pub taken: BTreeMap<(u32, u32), u64>,
    pub stalled: BTreeSet<(u32, u32)>,
}

pub type Shared = Rc<RefCell<Board>>;

struct Sending {
    route: RouteId,
    header: Vec<u8>,
    shares: Shares,
    tree: Tree,
    paths: Vec<(bool, PathFlow)>,
    next: u32,
    /// One past the last block that may be sent.
    limit: u32,
    unacked: BTreeMap<u32, (Instant, u32)>,
    /// The last sign of life from the server.
    heard: Instant,
    /// When the next block may be sent at the offered rate.
    paced: Instant,
}

pub struct ClientNode {
    principal: Principal,
    relays: Vec<SocketAddr>,
    hops: BTreeMap<u64, (PathId, HopEnd)>,
    by_path: [Option<u64>; RELAYS],
    sendings: Vec<Sending>,
    /// When it last sent what it could.
    pumped: Instant,
}

impl ClientNode {
    pub fn new(principal: Principal, relays: Vec<SocketAddr>, now: Instant) -> Self {
        let (hops, by_path, sendings) = (BTreeMap::new(), [None; RELAYS], Vec::new());
        Self { principal, relays, hops, by_path, sendings, pumped: now }
    }

    /// Dials all relays, and sends to these servers.
    pub fn start(&mut self, io: &mut Io<'_>, to: &[(Principal, SocketAddr)]) {
        for (i, (server, destination)) in to.iter().enumerate() {
            let shares = share::split(&Secret::random(&mut io.net.rng), &mut io.net.rng);
            let mut connection = ConnectionId([i as u8; 16]);
            connection.0[..4].copy_from_slice(&self.principal.serial.to_be_bytes());
            let tree = Tree::new(connection, &shares);
            let facts = OpenFacts {
                client: self.principal,
                server: *server,
                connection,
                destination: *destination,
                root: tree.root(),
            };
            self.sendings.push(Sending {
                route: RouteId(i as u32 + 1),
                header: encode_header(&facts),
                shares,
                tree,
                paths: vec![(false, PathFlow::new()); RELAYS],
                next: 0,
                limit: WINDOW,
                unacked: BTreeMap::new(),
                heard: io.now(),
                paced: io.now(),
            });
        }
        for at in self.relays.clone() {
            io.dial(at);
        }
    }

    fn pump(&mut self, io: &mut Io<'_>) {
        let now = io.now();
        self.pumped = now;
        let Self { hops, by_path, sendings, .. } = self;
        for sending in sendings {
            let Sending { route, paths, next, limit, unacked, heard, paced, .. } = sending;
            let mut out: Vec<(usize, u32, u8)> = Vec::new();
            // Again over whatever is free; each try shifts the stripes by one path. A server that is silent gets its
            // oldest block only: the whole window again would take the links from everybody else.
            let silent = now - *heard > STALL;
            for (i, (block, (due, tries))) in unacked.iter_mut().enumerate() {
                if *due > now {
                    continue;
                }
                *due = now + STALL * (1 << (*tries).min(4));
                if silent && i > 0 {
                    continue;
                }
                *tries += 1;
                let well = well(now, paths);
                let mut free = ready(hops, by_path, paths);
                free.sort_by_key(|i| !well[*i]);
                for i in free.into_iter().take(SIXTEEN) {
                    out.push((i, *block, ((i + *tries as usize) % RELAYS) as u8));
                }
            }
            loop {
                for (path, block, id) in out.drain(..) {
                    let offset = paths[path].1.on_sent(now, STRIPE);
                    let Some((_, hop)) = by_path[path].and_then(|n| hops.get_mut(&n)) else {
                        continue;
                    };
                    let put = hop.egress.outbox().data(*route, offset, STRIPE, |to| {
                        to.fill(id);
                        to[0] = DATA;
                        to[1..5].copy_from_slice(&block.to_be_bytes());
                        to[5] = id;
                    });
                    put.expect("the local queue is far below the outbox's limit");
                    hop.flush(io);
                }
                let free = ready(hops, by_path, paths);
                // A block counts on paths that are well, where there are enough: else it waits for a slow one.
                let well = well(now, paths);
                let counted = match well.iter().filter(|w| **w).count() {
                    SIXTEEN.. => free.iter().filter(|i| well[**i]).count(),
                    _ => free.len(),
                };
                if *next >= *limit || counted < SIXTEEN || *paced > now {
                    break;
                }
                out.extend(free.into_iter().map(|i| (i, *next, i as u8)));
                unacked.insert(*next, (now + STALL, 0));
                *next += 1;
                // A writer that was held up may catch up a little.
                *paced = (*paced).max(now - PACE * 16) + PACE;
            }
        }
    }

    fn serve(&mut self, io: &mut Io<'_>, end: End) {
        let Some((path, hop)) = self.hops.get_mut(&end.number()) else { return };
        if let Some(done) = hop.handshake(io, &Everybody(*path)).expect("a true relay") {
            hop.up(io.now(), done.sealer, done.opener);
            for sending in &mut self.sendings {
                let proof = sending.tree.proof(*path);
                let share = sending.shares.get(*path).expose();
                let open =
                    Frame::Open { route: sending.route, header: &sending.header, share, proof: &proof };
                hop.egress.control(&open).expect("an empty outbox");
                sending.paths[path.index()].0 = true;
            }
        }
        let (sendings, i) = (&mut self.sendings, path.index());
        let ok = hop.frames(io, |io, egress, frame| {
            let now = io.now();
            let of = |route: RouteId| (route.0 as usize).wrapping_sub(1);
            match frame {
                Frame::Ping { token } => egress.control(&Frame::Pong { token }).is_ok(),
                Frame::Pong { .. } => true,
                Frame::Congested { route, bytes } => {
                    if let Some(s) = sendings.get_mut(of(route)) {
                        s.paths[i].1.on_congested(now, bytes);
                    }
                    true
                }
                Frame::RouteError { route, .. } => {
                    if let Some(s) = sendings.get_mut(of(route)) {
                        s.paths[i].0 = false;
                        s.paths[i].1.on_down();
                    }
                    true
                }
                Frame::Data { route, payload, .. } => {
                    if let Some(s) = sendings.get_mut(of(route)) {
                        acknowledged(s, now, payload);
                    }
                    true
                }
                _ => false,
            }
        });
        assert!(ok, "a true relay");
    }
}

/// Paths that take one more stripe: attached, with room in the window and in the own socket queue.
fn ready(
    hops: &BTreeMap<u64, (PathId, HopEnd)>,
    by_path: &[Option<u64>; RELAYS],
    paths: &[(bool, PathFlow)],
) -> Vec<usize> {
    let local = |i: usize| by_path[i].and_then(|n| hops.get(&n)).map(|(_, hop)| hop.egress.queued_bytes());
    (0..RELAYS)
        .filter(|&i| {
            let (up, flow) = &paths[i];
            *up && flow.room() >= STRIPE as u64 && local(i).is_some_and(|queued| queued < LOCAL_QUEUE)
        })
        .collect()
}

/// Which paths are well, measured against the median of all.
fn well(now: Instant, paths: &[(bool, PathFlow)]) -> Vec<bool> {
    let mut trips: Vec<_> = paths.iter().filter_map(|(_, flow)| flow.srtt()).collect();
    trips.sort();
    let median = trips.get(trips.len() / 2).copied().unwrap_or_default();
    paths.iter().map(|(up, flow)| *up && flow.well(now, median)).collect()
}

/// Takes an ACK: 25 path counters, blocks taken, and a map of the blocks beyond.
fn acknowledged(sending: &mut Sending, now: Instant, payload: &[u8]) {
    let mut r = Reader::new(payload);
    assert_eq!(r.u8("kind"), Ok(ACK));
    for (_, flow) in &mut sending.paths {
        let (end, received) = (r.u32("end").unwrap(), r.u32("received").unwrap());
        flow.on_ack(now, end, received);
    }
    sending.heard = now;
    let (done, taken, map) = (r.u32("done").unwrap(), r.u32("taken").unwrap(), r.u64("map").unwrap());
    sending.unacked.retain(|block, _| {
        let beyond = block.wrapping_sub(done);
        *block >= done && (beyond >= 64 || map >> beyond & 1 == 0)
    });
    sending.limit = sending.limit.max(taken + WINDOW);
}

impl Node for ClientNode {
    fn connected(&mut self, io: &mut Io<'_>, end: End, at: SocketAddr, _dialled: bool) {
        let index = self.relays.iter().position(|r| *r == at).expect("a relay");
        let path = PathId::new(index as u8).expect("below 25");
        let mut out = outbox();
        let dial = Dial {
            principal: self.principal,
            role: Role::Client,
            relay: path,
            dialled_by: DialledBy::Principal,
            limits: HopLimits::default(),
        };
        let key = imported(self.principal, path, Role::Client);
        let dialer = Dialer::new(io.now(), dial, key, &mut io.net.rng, &mut out);
        let mut hop = HopEnd::new(end, State::Dialling(dialer), out);
        hop.flush(io);
        self.hops.insert(end.number(), (path, hop));
        self.by_path[index] = Some(end.number());
    }

    fn ready(&mut self, io: &mut Io<'_>, end: End) {
        self.serve(io, end);
        self.pump(io);
        if let Some((_, hop)) = self.hops.get_mut(&end.number()) {
            hop.flush(io);
        }
    }

    fn closed(&mut self, _io: &mut Io<'_>, end: End) {
        if let Some((path, _)) = self.hops.remove(&end.number()) {
            self.by_path[path.index()] = None;
            for sending in &mut self.sendings {
                sending.paths[path.index()].0 = false;
                sending.paths[path.index()].1.on_down();
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let hops = self.hops.values().filter_map(|(_, h)| h.poll_timeout());
        let flows = self.sendings.iter().flat_map(|s| s.paths.iter().filter_map(|p| p.1.poll_timeout()));
        let blocks = self.sendings.iter().flat_map(|s| s.unacked.values().map(|b| b.0));
        // A pace that is due and not used waits for something else: room or a window.
        let paced =
            self.sendings.iter().filter(|s| s.next < s.limit).map(|s| s.paced).filter(|at| *at > self.pumped);
        hops.chain(flows).chain(blocks).chain(paced).min()
    }

    fn timeout(&mut self, io: &mut Io<'_>) {
        let now = io.now();
        for (_, hop) in self.hops.values_mut() {
            assert!(hop.timeout(now), "a relay went silent");
            hop.flush(io);
        }
        for (_, flow) in self.sendings.iter_mut().flat_map(|s| &mut s.paths) {
            flow.on_timeout(now);
        }
        self.pump(io);
    }
}

struct Receiving {
    client: u32,
    /// Where each path ends: hop and route.
    paths: [Option<(u64, RouteId)>; RELAYS],
    counters: [PathCounter; RELAYS],
    offsets: [u32; RELAYS],
    /// Stripes of blocks that are not complete.
    partial: BTreeMap<u32, u32>,
    complete: BTreeSet<u32>,
    /// All blocks below are complete.
    done: u32,
    /// All blocks below were taken by the reader.
    taken: u32,
    ack_due: Option<Instant>,
    turn: usize,
}

pub struct ServerNode {
    principal: Principal,
    board: Shared,
    hops: BTreeMap<u64, (PathId, HopEnd)>,
    /// Which relay listens where, for a server that dials.
    relays: Vec<SocketAddr>,
    base: SocketAddr,
    connections: BTreeMap<ConnectionId, Receiving>,
    routes: BTreeMap<(u64, RouteId), (ConnectionId, PathId)>,
}

impl ServerNode {
    pub fn new(principal: Principal, base: SocketAddr, relays: Vec<SocketAddr>, board: Shared) -> Self {
        Self {
            principal,
            board,
            hops: BTreeMap::new(),
            relays,
            base,
            connections: BTreeMap::new(),
            routes: BTreeMap::new(),
        }
    }

    /// Dials all relays; a server that is dialled does nothing.
    pub fn start(&mut self, io: &mut Io<'_>) {
        for at in self.relays.clone() {
            io.dial(at);
        }
    }

    fn serve(&mut self, io: &mut Io<'_>, end: End) {
        let number = end.number();
        let Some((path, hop)) = self.hops.get_mut(&number) else { return };
        let path = *path;
        let everybody = Everybody(path);
        if let Some(done) = hop.handshake(io, &everybody).expect("a true relay") {
            hop.up(io.now(), done.sealer, done.opener);
        }
        let Self { connections, routes, board, principal, .. } = self;
        let ok = hop.frames(io, |io, egress, frame| match frame {
            Frame::Ping { token } => egress.control(&Frame::Pong { token }).is_ok(),
            Frame::Open { route, header, .. } => {
                let facts = super::relay::read_header(header).expect("a true client");
                let receiving = connections.entry(facts.connection).or_insert_with(|| Receiving {
                    client: facts.client.serial,
                    paths: [None; RELAYS],
                    counters: Default::default(),
                    offsets: [0; RELAYS],
                    partial: BTreeMap::new(),
                    complete: BTreeSet::new(),
                    done: 0,
                    taken: 0,
                    ack_due: None,
                    turn: 0,
                });
                receiving.paths[path.index()] = Some((number, route));
                routes.insert((number, route), (facts.connection, path));
                true
            }
            Frame::Data { route, offset, payload } => {
                let Some((id, path)) = routes.get(&(number, route)) else { return true };
                let Some(receiving) = connections.get_mut(id) else { return true };
                receiving.counters[path.index()].on_frame(offset, payload.len());
                receiving.stripe(payload);
                receiving.take(principal.serial, &mut board.borrow_mut());
                receiving.ack_due.get_or_insert_with(|| io.now() + ACK_DELAY);
                true
            }
            _ => true,
        });
        assert!(ok, "a true relay");
    }

    fn acknowledge(&mut self, io: &mut Io<'_>) {
        let now = io.now();
        for receiving in self.connections.values_mut() {
            if receiving.ack_due.is_none_or(|due| due > now) {
                continue;
            }
            receiving.ack_due = None;
            let mut ack = vec![ACK];
            for counter in &receiving.counters {
                ack.put_u32(counter.end);
                ack.put_u32(counter.received);
            }
            ack.put_u32(receiving.done);
            ack.put_u32(receiving.taken);
            let map = (0..64).filter(|i| receiving.complete.contains(&(receiving.done + i)));
            ack.put_u64(map.fold(0, |map, i| map | 1 << i));
            // On three paths, in rotation over all that are attached.
            let mut sent = 0;
            for _ in 0..RELAYS {
                receiving.turn = (receiving.turn + 1) % RELAYS;
                let Some((hop, route)) = receiving.paths[receiving.turn] else { continue };
                let Some((_, hop)) = self.hops.get_mut(&hop) else { continue };
                let offset = &mut receiving.offsets[receiving.turn];
                let put = hop.egress.outbox().data(route, *offset, ack.len(), |to| to.copy_from_slice(&ack));
                *offset = offset.wrapping_add(ack.len() as u32);
                if put.is_ok() {
                    hop.flush(io);
                    sent += 1;
                }
                if sent == 3 {
                    break;
                }
            }
        }
    }
}

impl Receiving {
    fn stripe(&mut self, payload: &[u8]) {
        let mut r = Reader::new(payload);
        assert_eq!(r.u8("kind"), Ok(DATA));
        let (block, id) = (r.u32("block").unwrap(), r.u8("stripe").unwrap());
        assert!(payload[6..].iter().all(|b| *b == id), "bytes arrive as they were sent");
        if block < self.done || self.complete.contains(&block) {
            return;
        }
        assert!(block < self.taken + WINDOW, "beyond the window");
        let ids = self.partial.entry(block).or_default();
        *ids |= 1 << id;
        if ids.count_ones() as usize >= SIXTEEN {
            self.partial.remove(&block);
            self.complete.insert(block);
        }
        while self.complete.remove(&self.done) {
            self.done += 1;
        }
    }

    fn take(&mut self, server: u32, board: &mut Board) {
        let key = (server, self.client);
        if !board.stalled.contains(&key) {
            *board.taken.entry(key).or_default() += u64::from(self.done - self.taken) * BLOCK;
            self.taken = self.done;
        }
    }
}

impl Node for ServerNode {
    fn connected(&mut self, io: &mut Io<'_>, end: End, at: SocketAddr, dialled: bool) {
        let mut out = outbox();
        let (now, limits) = (io.now(), HopLimits::default());
        let index = if dialled {
            self.relays.iter().position(|r| *r == at).expect("a relay") as u8
        } else {
            (at.port() - self.base.port()) as u8
        };
        let relay = PathId::new(index).expect("below 25");
        let state = if dialled {
            let (principal, role) = (self.principal, Role::Server);
            let dial = Dial { principal, role, relay, dialled_by: DialledBy::Principal, limits };
            let key = imported(principal, relay, role);
            State::Dialling(Dialer::new(now, dial, key, &mut io.net.rng, &mut out))
        } else {
            State::Answering(Responder::new(now, relay, DialledBy::Relay, limits))
        };
        let mut hop = HopEnd::new(end, state, out);
        hop.flush(io);
        self.hops.insert(end.number(), (relay, hop));
    }

    fn ready(&mut self, io: &mut Io<'_>, end: End) {
        self.serve(io, end);
        if let Some((_, hop)) = self.hops.get_mut(&end.number()) {
            hop.flush(io);
        }
    }

    fn closed(&mut self, _io: &mut Io<'_>, end: End) {
        self.hops.remove(&end.number());
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let hops = self.hops.values().filter_map(|(_, h)| h.poll_timeout());
        hops.chain(self.connections.values().filter_map(|c| c.ack_due)).min()
    }

    fn timeout(&mut self, io: &mut Io<'_>) {
        let now = io.now();
        for (_, hop) in self.hops.values_mut() {
            assert!(hop.timeout(now), "a relay went silent");
            hop.flush(io);
        }
        self.acknowledge(io);
    }
}
