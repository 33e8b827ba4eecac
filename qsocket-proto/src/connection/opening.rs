//! The client's side of opening a connection, and the two ways in which a [`Connection`] begins.

use super::buffers::Buffers;
use super::keys::{RecvKeys, SendKeys};
use super::packets::Topic;
use super::parking::Parking;
use super::paths::{Path, Paths};
use super::stats::Stats;
use super::{
    CONFIRM_DEADLINE, Config, Connection, ConnectionError, Event, Flow, Hops, OPEN_DEADLINE, OPENING_HOLD,
    Side, State,
};
use crate::control::ControlFrame;
use crate::crypto::kem;
use crate::crypto::schedule::{EncryptionKey, HeaderHash, Keyed, PhaseKeys, PhaseOne, Root, TranscriptHash};
use crate::frame::Proof;
use crate::grid::{self, ParitySet, placement, stripe_len};
use crate::ids::{ConnectionId, KeyId, PathId, PathSet, Principal, RouteId, SIXTEEN, StreamId};
use crate::open::{
    Hello, MixedFamilies, MlKem, OpenHeader, Parameters, Refusal, Reply, ReplyKey, SealedReply,
};
use crate::share::{self, Shares, Tree};
use crate::stripe::{BlockHeader, BlockKind, STRIPE_HEADER_BYTES, StripeHeader, TAG_BYTES};
use rand_core::CryptoRng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// What a client decides about one attempt to open a connection.
#[derive(Debug)]
pub struct Dial {
    /// Who opens it.
    pub client: Principal,
    /// Whom it is for.
    pub server: Principal,
    /// Where the client's application is; of the same address family as `destination`.
    pub source: SocketAddr,
    /// An address that the server registered.
    pub destination: SocketAddr,
    /// Hash over the client's list of relays.
    pub relay_set: [u8; 32],
    /// The Encryption key that both hold, if they hold one: it is always used.
    pub encryption_key: Option<(KeyId, EncryptionKey)>,
}

/// The reply as it travels, and what it granted.
#[derive(Debug)]
pub(crate) struct ReplyBytes {
    pub(crate) payload: Vec<u8>,
    pub(crate) peer: Parameters,
}

/// What a server's connection begins with.
#[derive(Debug)]
pub(crate) struct Accept {
    pub(crate) header: OpenHeader,
    pub(crate) encoded: Arc<[u8]>,
    pub(crate) phases: PhaseOne,
    pub(crate) reply: ReplyBytes,
    pub(crate) ml_kem: bool,
}

/// What a client holds until the reply is opened. Dropping it erases K, the shares and the ML-KEM key.
#[derive(Debug)]
pub(super) struct Opening {
    connection: ConnectionId,
    keyed: Keyed,
    /// For the refusal of an unknown Encryption key: known without that key.
    refusing: crate::crypto::schedule::Early,
    shares: Shares,
    proofs: Vec<Proof>,
    named_key: bool,
    ml_kem: MlKem,
    kem: Option<kem::DecapsulationKey>,
    /// Hello block, padded, and its parity.
    hello: Vec<u8>,
    hello_parity: Vec<u8>,
    hello_len: u32,
    zero: PhaseKeys,
}

impl Opening {
    /// This path's share and its way up the tree: for this path and no other.
    pub(super) fn share(&self, path: PathId) -> (&[u8; 32], &Proof) {
        (self.shares.get(path).expose(), &self.proofs[path.index()])
    }

    /// Writes this path's stripe of the hello block, directly behind its OPEN.
    pub(super) fn send_hello<H: Hops>(
        &self,
        now: Instant,
        id: PathId,
        path: &mut Path,
        hops: &mut H,
        stats: &mut Stats,
    ) {
        let Some(stripe) = ParitySet::Mds.stripes().iter().find(|s| placement(*s, 0) == id) else { return };
        let len = stripe_len(self.hello_len as usize);
        let header =
            StripeHeader { phase: 0, stream: StreamId::HELLO, block: 0, stripe, block_len: self.hello_len };
        let plain = match stripe.data_index() {
            Some(k) => self.hello.get(k * len..(k + 1) * len),
            None => {
                let at = ParitySet::Mds.parity().iter().position(|s| s == stripe).unwrap_or_default();
                self.hello_parity.get(at * len..(at + 1) * len)
            }
        };
        let (Some(plain), Some(route)) = (plain, path.route) else { return };
        let total = STRIPE_HEADER_BYTES + len + TAG_BYTES;
        let offset = path.flow.on_sent(now, total);
        let aad = header.associated_data(self.connection, Side::Client.direction());
        let nonce = self.zero.stripe.iv.xor_stripe(header.stream.0, header.block, stripe.get());
        hops.outbox(path.at(id), |out| {
            out.data(route, offset, total, |buf| {
                let mut clear = [0; STRIPE_HEADER_BYTES];
                header.encode(&mut clear);
                let (head, rest) = buf.split_at_mut(STRIPE_HEADER_BYTES);
                let (body, end) = rest.split_at_mut(len);
                head.copy_from_slice(&clear);
                body.copy_from_slice(plain);
                end.copy_from_slice(&self.zero.stripe.key.seal_in_place(nonce, &aad, body));
            })
        });
        stats.stripes_sent += 1;
    }
}

impl Connection {
    /// Opens a connection. Its first frames go out as hops come up ([`Connection::handle_path_up`]).
    ///
    /// `route` names it on every hop. Everything secret is drawn from `rng` afresh, for every attempt.
    ///
    /// # Errors
    /// [`MixedFamilies`] if source and destination are of different address families.
    pub fn dial<R: CryptoRng + ?Sized>(
        now: Instant,
        route: RouteId,
        dial: Dial,
        config: Arc<Config>,
        rng: &mut R,
    ) -> Result<Self, MixedFamilies> {
        let (mut id, mut nonce) = ([0; 16], [0; 32]);
        rng.fill_bytes(&mut id);
        rng.fill_bytes(&mut nonce);
        let id = ConnectionId(id);
        let root = Root::random(rng);
        let shares = share::split(root.secret(), rng);
        let tree = Tree::new(id, &shares);
        let kem = (config.ml_kem != MlKem::Off).then(|| kem::DecapsulationKey::generate(rng));
        let (key_id, key) = dial.encryption_key.map_or((None, None), |(id, key)| (Some(id), Some(key)));
        let header = OpenHeader {
            client: dial.client,
            server: dial.server,
            connection: id,
            nonce,
            encryption_key: key_id,
            ml_kem: config.ml_kem,
            source: dial.source,
            destination: dial.destination,
            relay_set: dial.relay_set,
            root: tree.root(),
            commitment: [0; 32],
        };
        let mut encoded = header.encode()?;
        let hh = HeaderHash::of(OpenHeader::without_commitment(&encoded), &[]);
        let early = root.early(hh);
        let keyed = early.mix(key.as_ref());
        OpenHeader::set_commitment(&mut encoded, &keyed.commitment());

        let content = Hello {
            parameters: config.parameters(),
            kem_key: kem.as_ref().map(|k| Box::new(k.encapsulation_key())),
        }
        .encode();
        let block = BlockHeader { kind: BlockKind::Hello, fin: false, offset: 0, len: content.len() as u32 };
        let mut hello = block.encode().to_vec();
        hello.extend_from_slice(&content);
        let hello_len = hello.len() as u32;
        hello.resize(stripe_len(hello.len()) * SIXTEEN, 0);
        let mut hello_parity = vec![0; ParitySet::Mds.parity().len() * (hello.len() / SIXTEEN)];
        // Both lengths are made to fit two lines above.
        let _ = grid::parity(ParitySet::Mds, &hello, &mut hello_parity);

        let opening = Opening {
            connection: id,
            zero: keyed.client_zero(),
            keyed,
            refusing: early,
            proofs: PathId::all().map(|p| tree.proof(p)).collect(),
            shares,
            named_key: key_id.is_some(),
            ml_kem: config.ml_kem,
            kem,
            hello,
            hello_parity,
            hello_len,
        };
        let mut connection = Self::begin(
            now,
            Side::Client,
            &header,
            encoded.into(),
            config,
            State::Opening(Box::new(opening)),
        );
        connection.route = route;
        connection.deadline = Some(now + OPEN_DEADLINE);
        Ok(connection)
    }

    /// Takes a connection that 16 relays brought (server). It is unconfirmed until the client's first frame.
    pub(crate) fn accepted(now: Instant, accept: Accept, config: Arc<Config>) -> Self {
        let mut connection =
            Self::begin(now, Side::Server, &accept.header, accept.encoded, config, State::Unconfirmed);
        connection.install(now, accept.phases);
        connection.flow.max_send = accept.reply.peer.max_data;
        connection.flow.max_streams = accept.reply.peer.max_streams;
        connection.idle = shorter_idle(&connection.config, &accept.reply.peer);
        connection.reply = Some(accept.reply);
        connection.deadline = Some(now + CONFIRM_DEADLINE);
        connection.stats.ml_kem = accept.ml_kem;
        connection
    }

    fn begin(
        now: Instant,
        side: Side,
        header: &OpenHeader,
        encoded: Arc<[u8]>,
        config: Arc<Config>,
        state: State,
    ) -> Self {
        let (next_local, next_peer) = if side == Side::Client { (1, 2) } else { (2, 1) };
        let window = config.connection_window;
        let stats = Stats {
            encryption_key: header.encryption_key,
            ml_kem_setting: config.ml_kem,
            ..Stats::default()
        };
        Self {
            side,
            id: header.connection,
            client: header.client,
            server: header.server,
            source: header.source,
            destination: header.destination,
            header: encoded,
            state,
            error: None,
            paths: Paths::new(),
            route: RouteId(0),
            send_keys: None,
            recv_keys: None,
            reply: None,
            reply_due: PathSet::EMPTY,
            speaker: super::Speaker::default(),
            heard: super::Heard::default(),
            streams: BTreeMap::new(),
            buffers: Buffers::default(),
            sending: BTreeSet::new(),
            sending_cursor: StreamId(0),
            owing: BTreeSet::new(),
            holding: BTreeSet::new(),
            held_until: None,
            confirm_at: None,
            late: BTreeSet::new(),
            next_local,
            next_peer,
            accept_queue: VecDeque::new(),
            held: 0,
            flow: Flow {
                sent: 0,
                max_send: 0,
                arrived: 0,
                read: 0,
                max_receive: window,
                window,
                streams_opened: 0,
                max_streams: 0,
                peer_max_streams: config.max_streams,
                peer_streams_ended: 0,
            },
            parking: Parking::default(),
            ack_streams: BTreeSet::new(),
            ack_gone: BTreeMap::new(),
            ack_blocks: 0,
            ack_bytes: 0,
            ack_at: None,
            ack_wide: false,
            control_blocked: false,
            patience: BTreeSet::new(),
            rtt: super::Rtt::default(),
            attempts: 0,
            last_progress: now,
            woke: now,
            last_heard: now,
            last_ack: now,
            last_ping: now,
            idle: config.idle,
            deadline: None,
            unknown: PathSet::EMPTY,
            failed: PathSet::EMPTY,
            events: VecDeque::new(),
            parity: Vec::new(),
            stats,
            config,
        }
    }

    fn install(&mut self, now: Instant, phases: PhaseOne) {
        let (ours, theirs) = match self.side {
            Side::Client => (phases.client, phases.server),
            Side::Server => (phases.server, phases.client),
        };
        let direction = self.side.direction();
        let limits = self.config.key_limits;
        self.send_keys = Some(SendKeys::new(self.id, direction, ours, limits, now));
        self.recv_keys = Some(RecvKeys::new(self.id, direction.reverse(), theirs));
    }

    /// The server's answer on one path (client). The first valid one is pinned; its copies show that their paths
    /// work; anything else is junk from the path.
    pub(super) fn handle_reply(
        &mut self,
        now: Instant,
        path: PathId,
        payload: &[u8],
        reply: &SealedReply<'_>,
    ) {
        if let Some(pinned) = &self.reply {
            if pinned.payload == payload {
                self.paths.get_mut(path).alive();
            }
            return;
        }
        let State::Opening(opening) = &mut self.state else { return };
        let key = match reply.key {
            ReplyKey::Reply => opening.keyed.reply_key(&reply.nonce),
            ReplyKey::Refuse if opening.named_key => opening.refusing.refuse_key(&reply.nonce),
            ReplyKey::Refuse => return,
        };
        let mut plain = reply.sealed.to_vec();
        let opened = plain.split_last_chunk_mut::<TAG_BYTES>().and_then(|(body, tag)| {
            key.key.open_in_place(key.iv.xor_number(0), &reply_aad(self.id), body, tag).ok()?;
            Some((Reply::decode(body).ok()?, &*body))
        });
        let Some((decoded, body)) = opened else {
            self.paths.get_mut(path).failed(now);
            return;
        };
        let (parameters, ciphertext) = match decoded {
            Reply::Refused(reason) => {
                if reply.key == ReplyKey::Reply || reason == Refusal::UnknownEncryptionKey {
                    self.end(ConnectionError::Refused(reason));
                }
                return;
            }
            Reply::Accepted { .. } if reply.key == ReplyKey::Refuse => return,
            Reply::Accepted { parameters, kem_ciphertext } => (parameters, kem_ciphertext),
        };
        if ciphertext.is_none() && opening.ml_kem == MlKem::Require {
            self.end(ConnectionError::NoMlKem);
            return;
        }
        let secret = match (ciphertext, opening.kem.take()) {
            (Some(ciphertext), Some(kem)) => Some(kem.decapsulate(&ciphertext)),
            (Some(_), None) => {
                self.end(ConnectionError::Misbehaved("ML-KEM was not offered"));
                return;
            }
            (None, _) => None,
        };
        self.stats.ml_kem = secret.is_some();
        let hello = opening.hello.get(..opening.hello_len as usize).unwrap_or_default();
        let th = TranscriptHash::of(&self.header, hello, &reply.nonce, body);
        let State::Opening(opening) = std::mem::replace(&mut self.state, State::Open) else { return };
        let phases = opening.keyed.master(secret.as_ref()).phase_one(th);
        self.install(now, phases);
        self.reply = Some(ReplyBytes { payload: payload.to_vec(), peer: parameters });
        self.flow.max_send = parameters.max_data;
        self.flow.max_streams = parameters.max_streams;
        self.idle = shorter_idle(&self.config, &parameters);
        self.deadline = None;
        self.failed = PathSet::EMPTY;
        self.last_heard = now;
        self.last_progress = now;
        self.paths.get_mut(path).alive();
        self.confirm_at = Some(now + OPENING_HOLD);
        self.events.push_back(Event::Established);
    }

    /// Says the PING with which the client confirms, when something else goes out or nothing came to go with it.
    ///
    /// Who opens a connection uses it at once: frames for 25 paths are then written once and not twice, and the first
    /// block does not stand behind them.
    pub(super) fn confirm_in_company(&mut self, now: Instant) {
        let Some(at) = self.confirm_at else { return };
        let room = self.flow.max_send.saturating_sub(self.flow.sent);
        let streams = self.sending.iter().filter_map(|id| self.streams.get(id));
        let company = self.speaker.has_due()
            || self.ack_at.is_some_and(|at| at <= now)
            || streams.map(|s| &s.send).any(|send| send.can_freeze(now, room));
        if at <= now || company {
            self.confirm_at = None;
            self.speaker.say(Topic::Confirm, ControlFrame::Ping);
        }
    }

    /// The client's first phase-1 frame is in: the connection counts (server).
    pub(super) fn confirm(&mut self) {
        if matches!(self.state, State::Unconfirmed) {
            self.state = State::Open;
            self.deadline = None;
            self.events.push_back(Event::Established);
        }
    }
}

/// The associated data of a reply.
pub(crate) fn reply_aad(id: ConnectionId) -> [u8; 22] {
    let mut aad = [0; 22];
    aad[..6].copy_from_slice(b"reply ");
    aad[6..].copy_from_slice(&id.0);
    aad
}

fn shorter_idle(config: &Config, peer: &Parameters) -> std::time::Duration {
    /// A peer that allows less would make keepalives a load.
    const SHORTEST_IDLE_MS: u64 = 1_000;
    config.idle.min(std::time::Duration::from_millis(u64::from(peer.idle_ms).max(SHORTEST_IDLE_MS)))
}

/// Reads a whole hello block; for the server.
pub(crate) fn read_hello(block: &[u8]) -> Option<Hello> {
    let (header, _, data) = BlockHeader::decode(block, block.len()).ok()?;
    if header.kind != BlockKind::Hello || header.fin || header.offset != 0 {
        return None;
    }
    Hello::decode(block.get(data)?).ok()
}
