//! A client by hand: it holds its keys, opens a connection as it should, and then says whatever one likes under its own
//! seal.

use crate::hop::Hop;
use anyhow::{Context, Result, ensure};
use qsocket::rng::OsRng;
use qsocket::{PathId, Principal};
use qsocket_proto::codec::Reader;
use qsocket_proto::control::ControlFrame;
use qsocket_proto::crypto::schedule::{HeaderHash, Keyed, PhaseKeys, Root, TranscriptHash};
use qsocket_proto::crypto::secret::Secret;
use qsocket_proto::frame::{Frame, Proof};
use qsocket_proto::grid::{ParitySet, StripeId, StripeSet, parity, placement, stripe_len};
use qsocket_proto::ids::{ConnectionId, Direction, RELAYS, RouteId, SIXTEEN, StreamId};
use qsocket_proto::open::{Hello, MlKem, OpenHeader, Parameters, Reply, SealedReply};
use qsocket_proto::share::{Shares, Tree, split};
use qsocket_proto::stripe::{
    BlockHeader, BlockKind, CONTROL_HEADER_BYTES, ControlHeader, STRIPE_HEADER_BYTES, StripeHeader, TAG_BYTES,
};
use std::io;
use std::net::SocketAddr;

/// The kind of a reply's payload.
const REPLY: u8 = 3;

/// What OPEN says on each path.
pub(crate) struct Opening {
    pub(crate) header: Vec<u8>,
    id: ConnectionId,
    keyed: Keyed,
    shares: Shares,
    proofs: Vec<Proof>,
}

impl Opening {
    /// What one path is given.
    pub(crate) fn share(&self, path: PathId) -> (&[u8; 32], &Proof) {
        (self.shares.get(path).expose(), &self.proofs[path.index()])
    }
}

/// Draws a secret and what follows from it.
pub(crate) fn opening(client: Principal, server: Principal, destination: SocketAddr) -> Result<Opening> {
    let id = ConnectionId(*Secret::<16>::random(&mut OsRng).expose());
    let root = Root::random(&mut OsRng);
    let shares = split(root.secret(), &mut OsRng);
    let tree = Tree::new(id, &shares);
    let header = OpenHeader {
        client,
        server,
        connection: id,
        nonce: *Secret::<32>::random(&mut OsRng).expose(),
        encryption_key: None,
        ml_kem: MlKem::Off,
        source: ([127, 0, 0, 1], 40_000).into(),
        destination,
        relay_set: [9; 32],
        root: tree.root(),
        commitment: [0; 32],
    };
    let mut encoded = header.encode()?;
    let keyed = root.early(HeaderHash::of(OpenHeader::without_commitment(&encoded), &[])).mix(None);
    OpenHeader::set_commitment(&mut encoded, &keyed.commitment());
    let proofs = PathId::all().map(|path| tree.proof(path)).collect();
    Ok(Opening { header: encoded, id, keyed, shares, proofs })
}

/// A connection that stands.
pub(crate) struct Client {
    id: ConnectionId,
    route: RouteId,
    keys: PhaseKeys,
    control: u64,
    offsets: [u32; RELAYS],
}

/// Which block, and how long it says that it is.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) stream: u32,
    pub(crate) number: u64,
    pub(crate) len: u32,
}

impl Client {
    /// Opens a connection over 25 hops, and confirms it.
    pub(crate) fn open(
        hops: &mut [Hop],
        route: u32,
        (client, server): (Principal, Principal),
        destination: SocketAddr,
    ) -> Result<Self> {
        let opening = opening(client, server, destination)?;
        let parameters =
            Parameters { max_data: 1 << 40, max_stream_data: 1 << 40, max_streams: 100, idle_ms: 60_000 };
        let content = Hello { parameters, kem_key: None }.encode();
        let head = BlockHeader { kind: BlockKind::Hello, fin: false, offset: 0, len: content.len() as u32 };
        let hello = [&head.encode()[..], &content].concat();
        let mut this = Self {
            id: opening.id,
            route: RouteId(route),
            keys: opening.keyed.client_zero(),
            control: 1,
            offsets: [0; RELAYS],
        };
        for (path, hop) in PathId::all().zip(hops.iter_mut()) {
            let (share, proof) = opening.share(path);
            hop.queue(&Frame::Open { route: this.route, header: &opening.header, share, proof });
        }
        let block = Block { stream: StreamId::HELLO.0, number: 0, len: hello.len() as u32 };
        this.queue_block(hops, block, 0, &hello, |_| true);
        hops.iter_mut().try_for_each(Hop::flush)?;
        let [hop, ..] = hops else { return Err(anyhow::anyhow!("no hops")) };
        let payload = hop
            .wait(|frame| match frame {
                Frame::Data { route: at, payload, .. }
                    if at == this.route && payload.first() == Some(&REPLY) =>
                {
                    Some(payload.to_vec())
                }
                _ => None,
            })
            .context("no reply")?;
        let sealed = SealedReply::decode(&mut Reader::new(&payload[1..]))?;
        let key = opening.keyed.reply_key(&sealed.nonce);
        let mut plain = sealed.sealed.to_vec();
        let (body, tag) = plain.split_last_chunk_mut::<TAG_BYTES>().context("no tag")?;
        let aad = [b"reply ".as_slice(), &this.id.0].concat();
        key.key
            .open_in_place(key.iv.xor_number(0), &aad, body, tag)
            .ok()
            .context("not the server's reply")?;
        ensure!(matches!(Reply::decode(body)?, Reply::Accepted { .. }), "refused");
        let transcript = TranscriptHash::of(&opening.header, &hello, &sealed.nonce, body);
        this.keys = opening.keyed.master(None).phase_one(transcript).client.keys();
        this.say(hops, &[ControlFrame::Ping], RELAYS)?;
        Ok(this)
    }

    fn queue(&mut self, hops: &mut [Hop], path: PathId, payload: &mut [u8]) {
        let offset = &mut self.offsets[path.index()];
        let len = payload.len() as u32;
        hops[path.index()].queue(&Frame::Data { route: self.route, offset: *offset, payload });
        *offset = offset.wrapping_add(len);
    }

    /// Cuts a block, whatever it holds, and queues those of its stripes that are wanted; the length may lie.
    pub(crate) fn queue_block(
        &mut self,
        hops: &mut [Hop],
        block: Block,
        phase: u32,
        plain: &[u8],
        mut wanted: impl FnMut(StripeId) -> bool,
    ) {
        let len = stripe_len(block.len as usize);
        let mut bytes = plain.to_vec();
        bytes.resize(len * SIXTEEN, 0);
        let all: Vec<StripeId> =
            StripeSet::DATA.union(ParitySet::Mds.parity()).iter().filter(|stripe| wanted(*stripe)).collect();
        let mut extra = vec![0; ParitySet::Mds.parity().len() * len];
        if all.iter().any(|stripe| stripe.data_index().is_none()) {
            // Sixteen stripes and nine are what it takes.
            let _ = parity(ParitySet::Mds, &bytes, &mut extra);
        }
        for stripe in all {
            let plain = match stripe.data_index() {
                Some(k) => &bytes[k * len..(k + 1) * len],
                None => {
                    let at = ParitySet::Mds.parity().iter().position(|s| s == stripe).unwrap_or_default();
                    &extra[at * len..(at + 1) * len]
                }
            };
            let stream = StreamId(block.stream);
            let header = StripeHeader { phase, stream, block: block.number, stripe, block_len: block.len };
            let mut payload = vec![0; STRIPE_HEADER_BYTES];
            if let Some(clear) = payload.first_chunk_mut() {
                header.encode(clear);
            }
            payload.extend_from_slice(plain);
            let keys = &self.keys.stripe;
            let nonce = keys.iv.xor_stripe(stream.0, block.number, stripe.get());
            let aad = header.associated_data(self.id, Direction::ToServer);
            let tag = keys.key.seal_in_place(nonce, &aad, &mut payload[STRIPE_HEADER_BYTES..]);
            payload.extend(tag);
            self.queue(hops, placement(stripe, block.number), &mut payload);
        }
    }

    /// Opens a stream of this name, as one should.
    pub(crate) fn open_stream(&mut self, hops: &mut [Hop], stream: u32, name: &str) -> io::Result<()> {
        let head = BlockHeader { kind: BlockKind::First, fin: false, offset: 0, len: 0 }.encode();
        let plain = [&head[..], &[name.len() as u8], name.as_bytes()].concat();
        let block = Block { stream, number: 0, len: plain.len() as u32 };
        self.queue_block(hops, block, 1, &plain, |_| true);
        hops.iter_mut().try_for_each(Hop::flush)
    }

    /// Seals control frames in one packet and sends it on so many paths.
    pub(crate) fn say(&mut self, hops: &mut [Hop], frames: &[ControlFrame], copies: usize) -> io::Result<()> {
        self.queue_control(hops, frames, copies);
        hops.iter_mut().try_for_each(Hop::flush)
    }

    /// As [`say`](Self::say), and nothing leaves yet.
    pub(crate) fn queue_control(&mut self, hops: &mut [Hop], frames: &[ControlFrame], copies: usize) {
        let header = ControlHeader { phase: 1, number: self.control };
        self.control += 1;
        let mut payload = vec![0; CONTROL_HEADER_BYTES];
        if let Some(clear) = payload.first_chunk_mut() {
            header.encode(clear);
        }
        frames.iter().for_each(|frame| frame.encode(&mut payload));
        let keys = &self.keys.control;
        let aad = header.associated_data(self.id, Direction::ToServer);
        let nonce = keys.iv.xor_number(header.number);
        let tag = keys.key.seal_in_place(nonce, &aad, &mut payload[CONTROL_HEADER_BYTES..]);
        payload.extend(tag);
        for path in PathId::all().cycle().skip(header.number as usize % RELAYS).take(copies) {
            self.queue(hops, path, &mut payload.clone());
        }
    }
}
