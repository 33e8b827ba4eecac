//! A client that opens a connection as it should and then says anything at all under its own seal.
//!
//! What is not sealed costs a path; what is sealed is the peer's own. A server must take the one and end with an error
//! at the other, within its bounds, whatever blocks, numbers, lengths, phases and control frames come.

use crate::Input;
use crate::hop::CLIENT;
use crate::wires::{End, SERVER, Wires};
use qsocket_proto::connection::{Config, KeyLimits};
use qsocket_proto::control::{Ack, ControlFrame, PartialAck, PathCount, StreamAck};
use qsocket_proto::crypto::schedule::{HeaderHash, PhaseKeys, PhaseOne, PhaseSecret, Root, TranscriptHash};
use qsocket_proto::frame::Frame;
use qsocket_proto::grid::{MAX_BLOCK_BYTES, ParitySet, StripeId, StripeSet, parity, placement, stripe_len};
use qsocket_proto::ids::{ConnectionId, Direction, PathId, RELAYS, RouteId, SIXTEEN, StreamId};
use qsocket_proto::open::{Hello, MlKem, OpenHeader, Parameters, Refusal, Reply, SealedReply};
use qsocket_proto::share::{Tree, split};
use qsocket_proto::stripe::{
    BlockHeader, BlockKind, CONTROL_HEADER_BYTES, ControlHeader, STRIPE_HEADER_BYTES, StripeHeader,
};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::collections::BTreeMap;
use std::time::Duration;

/// Operations of one run.
const MOST: usize = 150;

const ROUTE: RouteId = RouteId(1);
const ID: ConnectionId = ConnectionId([8; 16]);
const WINDOW: u64 = 64 * 1024;
const STREAMS: u32 = 8;

/// What the server may hold: a window with its books, blocks that close gaps, one whose parity is being opened, and a
/// mebibyte of parity for each path.
const MOST_MEMORY: u64 =
    WINDOW * 4 * 17 / 16 + (1 << 20) + (4 << 20) + MAX_BLOCK_BYTES as u64 + RELAYS as u64 * (1 << 20);

struct Peer {
    wires: Wires,
    phases: Vec<PhaseKeys>,
    control: u64,
    offsets: [u32; RELAYS],
    /// What was sealed under each name. It is sent again as it is: the audit of nonces is for the server, and two
    /// contents of one block come in different stripes.
    sealed: BTreeMap<Name, Vec<u8>>,
}

/// What a nonce is made of.
type Name = (u32, Option<(StreamId, StripeId)>, u64);

impl Peer {
    /// Opens a connection by hand, the sum of what `docs/protocol.md`, section 8, says of a client.
    fn open(config: Config) -> Self {
        let wires = Wires::new(3, Config::default(), config);
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let root = Root::random(&mut rng);
        let shares = split(root.secret(), &mut rng);
        let tree = Tree::new(ID, &shares);
        let header = OpenHeader {
            client: CLIENT,
            server: SERVER,
            connection: ID,
            nonce: [4; 32],
            encryption_key: None,
            ml_kem: MlKem::Off,
            source: ([127, 0, 0, 1], 40_000).into(),
            destination: ([127, 0, 0, 1], 5300).into(),
            relay_set: [9; 32],
            root: tree.root(),
            commitment: [0; 32],
        };
        let mut encoded = header.encode().expect("one family");
        let hash = HeaderHash::of(OpenHeader::without_commitment(&encoded), &[]);
        let keyed = root.early(hash).mix(None);
        OpenHeader::set_commitment(&mut encoded, &keyed.commitment());
        let parameters =
            Parameters { max_data: 1 << 30, max_stream_data: 1 << 30, max_streams: 100, idle_ms: 60_000 };
        let content = Hello { parameters, kem_key: None }.encode();
        let head = BlockHeader { kind: BlockKind::Hello, fin: false, offset: 0, len: content.len() as u32 };
        let hello = [&head.encode()[..], &content].concat();
        let mut peer = Self {
            wires,
            phases: vec![keyed.client_zero()],
            control: 1,
            offsets: [0; RELAYS],
            sealed: BTreeMap::new(),
        };
        for path in PathId::all() {
            let (share, proof) = (shares.get(path).expose(), &tree.proof(path));
            peer.wires.send(path, &Frame::Open { route: ROUTE, header: &encoded, share, proof });
        }
        let block = Block { stream: StreamId::HELLO, number: 0, phase: 0, set: ParitySet::Mds };
        peer.send_block(&block, &hello, hello.len() as u32, |_| true);
        peer.wires.run_for(Duration::from_millis(25));
        let payload = peer.wires.reply().expect("a reply to an honest opening");
        let sealed =
            SealedReply::decode(&mut qsocket_proto::codec::Reader::new(&payload[1..])).expect("a reply");
        let key = keyed.reply_key(&sealed.nonce);
        let mut plain = sealed.sealed.to_vec();
        let (body, tag) = plain.split_last_chunk_mut::<16>().expect("a tag");
        let aad = [b"reply ".as_slice(), &ID.0].concat();
        key.key.open_in_place(key.iv.xor_number(0), &aad, body, tag).expect("the server's own reply");
        assert!(matches!(Reply::decode(body), Ok(Reply::Accepted { .. })));
        let transcript = TranscriptHash::of(&encoded, &hello, &sealed.nonce, body);
        let PhaseOne { client, .. } = keyed.master(None).phase_one(transcript);
        // As many phases as any run needs.
        let mut secret: Option<PhaseSecret> = Some(client);
        while let Some(phase) = secret.take().filter(|_| peer.phases.len() < 6) {
            peer.phases.push(phase.keys());
            secret = phase.next();
        }
        peer
    }

    fn send(&mut self, path: PathId, payload: &mut [u8]) {
        let offset = &mut self.offsets[path.index()];
        let frame = Frame::Data { route: ROUTE, offset: *offset, payload };
        self.wires.send(path, &frame);
        if let Frame::Data { payload, .. } = frame {
            *offset = offset.wrapping_add(payload.len() as u32);
        }
    }

    /// Cuts a block, whatever it holds, and sends those of its stripes that are asked for.
    fn send_block(
        &mut self,
        block: &Block,
        plain: &[u8],
        block_len: u32,
        mut wanted: impl FnMut(StripeId) -> bool,
    ) {
        let len = stripe_len(block_len as usize);
        let mut bytes = plain.to_vec();
        bytes.resize(len * SIXTEEN, 0);
        let mut extra = vec![0; block.set.parity().len() * len];
        parity(block.set, &bytes, &mut extra).expect("sixteen stripes");
        for stripe in StripeSet::DATA.union(block.set.parity()).iter().filter(|s| wanted(*s)) {
            let plain = match stripe.data_index() {
                Some(k) => &bytes[k * len..(k + 1) * len],
                None => {
                    let at = block.set.parity().iter().position(|s| s == stripe).expect("of this set");
                    &extra[at * len..(at + 1) * len]
                }
            };
            let header = StripeHeader {
                phase: block.phase,
                stream: block.stream,
                block: block.number,
                stripe,
                block_len,
            };
            let name = (block.phase, Some((block.stream, stripe)), block.number);
            let keys = &self.phases[(block.phase as usize).min(self.phases.len() - 1)].stripe;
            let sealed = self.sealed.entry(name).or_insert_with(|| {
                let mut clear = [0; STRIPE_HEADER_BYTES];
                header.encode(&mut clear);
                let mut payload = [&clear, plain].concat();
                let nonce = keys.iv.xor_stripe(block.stream.0, block.number, stripe.get());
                let aad = header.associated_data(ID, Direction::ToServer);
                let tag = keys.key.seal_in_place(nonce, &aad, &mut payload[STRIPE_HEADER_BYTES..]);
                payload.extend(tag);
                payload
            });
            let mut payload = sealed.clone();
            self.send(placement(stripe, block.number), &mut payload);
        }
    }

    /// Seals control frames, or what looks like them, and sends them on some paths.
    fn send_control(&mut self, phase: u32, number: u64, plain: &[u8], first: usize, copies: usize) {
        let header = ControlHeader { phase, number };
        let keys = &self.phases[(phase as usize).min(self.phases.len() - 1)].control;
        let sealed = self.sealed.entry((phase, None, number)).or_insert_with(|| {
            let mut clear = [0; CONTROL_HEADER_BYTES];
            header.encode(&mut clear);
            let mut payload = [&clear, plain].concat();
            let aad = header.associated_data(ID, Direction::ToServer);
            let nonce = keys.iv.xor_number(number);
            let tag = keys.key.seal_in_place(nonce, &aad, &mut payload[CONTROL_HEADER_BYTES..]);
            payload.extend(tag);
            payload
        });
        let payload = sealed.clone();
        for path in PathId::all().cycle().skip(first).take(copies) {
            self.send(path, &mut payload.clone());
        }
    }

    fn confirm(&mut self) {
        let mut plain = Vec::new();
        ControlFrame::Ping.encode(&mut plain);
        let number = self.take_number();
        self.send_control(1, number, &plain, 0, RELAYS);
        self.wires.run_for(Duration::from_millis(15));
    }

    fn take_number(&mut self) -> u64 {
        self.control += 1;
        self.control - 1
    }
}

/// What names a block.
struct Block {
    stream: StreamId,
    number: u64,
    phase: u32,
    set: ParitySet,
}

fn stream(input: &mut Input<'_>) -> StreamId {
    StreamId(match input.below(16) {
        0 => 0,
        1 => input.u32(),
        2 => u32::MAX - u32::from(input.u8()),
        n => n as u32 - 2,
    })
}

fn number(input: &mut Input<'_>) -> u64 {
    match input.below(8) {
        0 => input.u64() >> 8,
        1 => 1020 + u64::from(input.u8() % 16),
        _ => u64::from(input.u8() % 6),
    }
}

fn size(input: &mut Input<'_>) -> u64 {
    match input.below(8) {
        0 => input.u64(),
        1 => u64::MAX - u64::from(input.u8()),
        2 => WINDOW + u64::from(input.u8()) - 100,
        3 => u64::from(input.u16()),
        _ => u64::from(input.u8()),
    }
}

fn control_frame(input: &mut Input<'_>) -> ControlFrame {
    match input.below(10) {
        0 | 1 => {
            let mut ack = Ack { control: size(input), control_before: input.u64(), ..Ack::default() };
            for _ in 0..input.below(3) {
                let count = PathCount { end: input.u32(), received: input.u32() };
                ack.paths[input.below(RELAYS)] = Some(count);
            }
            for _ in 0..input.below(4) {
                let ranges =
                    (0..input.below(3)).map(|i| (i as u16 * 4, 1 + u16::from(input.u8() % 3))).collect();
                ack.streams.push(StreamAck { stream: stream(input), next: number(input), ranges });
            }
            for _ in 0..input.below(3) {
                let have = StripeSet::from_bits(input.u64() & StripeSet::ALL.bits()).expect("34 bits");
                ack.partial.push(PartialAck { stream: stream(input), block: number(input), have });
            }
            ControlFrame::Ack(Box::new(ack))
        }
        2 => ControlFrame::MaxData(size(input)),
        3 => ControlFrame::MaxStreamData(stream(input), size(input)),
        4 => ControlFrame::MaxStreams(input.u32()),
        5 => ControlFrame::Reset { stream: stream(input), code: input.u32(), final_size: size(input) },
        6 => ControlFrame::Stop { stream: stream(input), code: input.u32() },
        7 => ControlFrame::Path(PathId::new(input.below(RELAYS) as u8).expect("below 25")),
        8 => ControlFrame::PhaseDone(u32::from(input.u8() % 6)),
        _ if input.one_in(8) => ControlFrame::Close { code: input.u32(), reason: "fuzz".into() },
        _ => ControlFrame::Ping,
    }
}

/// Any list of operations.
pub fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    let soft_seals = input.of(&[1 << 20, 30]);
    let config = Config {
        ml_kem: MlKem::Off,
        stream_window: WINDOW,
        connection_window: input.of(&[WINDOW * 4, WINDOW / 2]),
        max_streams: STREAMS,
        send_buffer: 100_000,
        key_limits: KeyLimits { soft_seals, ..KeyLimits::default() },
        ..Config::default()
    };
    let mut peer = Peer::open(config);
    if !input.one_in(8) {
        peer.confirm();
    }
    let mut accepted = Vec::new();
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        operation(&mut peer, &mut input, &mut accepted);
        if let Some(connection) = peer.wires.connection(End::Server) {
            assert!(connection.memory() <= MOST_MEMORY, "{} bytes", connection.memory());
            assert!(connection.stream_count() <= 2 * STREAMS as usize + 8 + accepted.len());
        }
    }
    peer.wires.run_for(Duration::from_secs(5));
}

fn operation(peer: &mut Peer, input: &mut Input<'_>, accepted: &mut Vec<StreamId>) {
    let some = |accepted: &[StreamId], input: &mut Input<'_>| {
        if accepted.is_empty() { stream(input) } else { accepted[input.below(accepted.len())] }
    };
    let now = peer.wires.instant();
    match input.below(14) {
        0..=4 => {
            let set = input.of(&[ParitySet::Mds, ParitySet::Grid]);
            let phase = u32::from(input.of(&[1u8, 1, 1, 1, 2, 3, 0, 5]));
            let block = Block { stream: stream(input), number: number(input), phase, set };
            // Mostly what belongs there, so that more than the first check is passed.
            let kind = match input.below(8) {
                0 => BlockKind::Data,
                1 => BlockKind::Hello,
                2 => BlockKind::First,
                _ if block.number == 0 => BlockKind::First,
                _ => BlockKind::Data,
            };
            let len = input.of(&[0, 1, 30, 2_000, 17_000, 60_000]);
            let offset = if input.one_in(4) { size(input) } else { block.number.wrapping_mul(len as u64) };
            let name: &[u8] = if kind == BlockKind::First { &[1, b'n'] } else { &[] };
            let stated = if input.one_in(16) { input.u32() } else { len as u32 };
            let head = BlockHeader { kind, fin: input.one_in(6), offset, len: stated }.encode();
            let mut plain = [&head[..], name].concat();
            plain.resize(plain.len() + len, 0x42);
            let block_len = if input.one_in(16) { 1 + u32::from(input.u16()) } else { plain.len() as u32 };
            // Which stripes go out: all, some, few.
            let lost = match input.below(3) {
                0 => 0,
                1 => input.u32() & input.u32(),
                _ => input.u32(),
            };
            let mut at = 0;
            peer.send_block(&block, &plain, block_len, |_| {
                at += 1;
                lost & 1 << at == 0
            });
        }
        5 | 6 => {
            let mut plain = Vec::new();
            for _ in 0..1 + input.below(3) {
                control_frame(input).encode(&mut plain);
            }
            let phase = u32::from(input.of(&[1u8, 1, 1, 2, 3]));
            let number = if input.one_in(8) { size(input) } else { peer.take_number() };
            let (first, copies) = (input.below(RELAYS), 1 + input.below(12));
            peer.send_control(phase, number, &plain, first, copies);
        }
        7 => {
            let n = usize::from(input.u8());
            let plain = input.take(n.max(1)).to_vec();
            let number = peer.take_number();
            peer.send_control(1, number, &plain, 0, 3);
        }
        8 | 9 => peer.wires.run_for(Duration::from_millis(u64::from(input.u8()))),
        10 => {
            let Some(connection) = peer.wires.connection(End::Server) else { return };
            while let Some((id, _)) = connection.accept() {
                accepted.push(id);
            }
        }
        11 => {
            let id = some(accepted, input);
            let Some(connection) = peer.wires.connection(End::Server) else { return };
            let mut buf = vec![0; input.of(&[1, 3_000, 100_000])];
            let _ = connection.read(id, &mut buf);
        }
        12 => {
            let id = some(accepted, input);
            let Some(connection) = peer.wires.connection(End::Server) else { return };
            let _ = connection.write(id, &vec![1; input.of(&[1, 500, 30_000])]);
        }
        _ => {
            let id = some(accepted, input);
            let kind = input.below(8);
            let Some(connection) = peer.wires.connection(End::Server) else { return };
            match kind {
                0 => _ = connection.finish(id),
                1 => connection.reset(id, 3),
                2 => connection.stop(id, 4),
                3 => connection.release(id),
                4 => connection.refuse(id, Refusal::NotPermitted),
                5 => connection.revoke(id, Refusal::Revoked),
                6 => accepted.extend(connection.open(b"own").ok().flatten()),
                _ if input.one_in(8) => connection.close(now, 0, "enough"),
                _ => _ = connection.failure(id),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qsocket_proto::connection::ConnectionError;
    use qsocket_proto::crypto::nonce_audit;
    use std::time::Instant;

    fn first(peer: &mut Peer, offset: u64) {
        let head = BlockHeader { kind: BlockKind::First, fin: true, offset, len: 4 }.encode();
        let plain = [&head[..], &[1, b'n'], b"data"].concat();
        let block = Block { stream: StreamId(1), number: 0, phase: 1, set: ParitySet::Mds };
        peer.send_block(&block, &plain, plain.len() as u32, |_| true);
        peer.wires.run_for(Duration::from_millis(15));
    }

    #[test]
    fn what_this_peer_says_is_understood_and_what_it_says_wrong_ends_the_connection() {
        let mut peer = Peer::open(Config { ml_kem: MlKem::Off, ..Config::default() });
        peer.confirm();
        first(&mut peer, 0);
        let server = peer.wires.connection(End::Server).expect("it was confirmed");
        assert_eq!(server.accept(), Some((StreamId(1), b"n".to_vec())));
        let mut buf = [0; 9];
        assert_eq!(server.read(StreamId(1), &mut buf), Ok(Some(4)));
        assert_eq!(server.read(StreamId(1), &mut buf), Ok(Some(0)));

        // Another world with the same seed.
        nonce_audit::forget();
        let mut peer = Peer::open(Config { ml_kem: MlKem::Off, ..Config::default() });
        peer.confirm();
        first(&mut peer, 1);
        let server = peer.wires.connection(End::Server).expect("it was confirmed");
        assert_eq!(server.error(), Some(&ConnectionError::Misbehaved("blocks leave a gap or overlap")));
    }

    /// As many streams as a connection has by default, and small windows.
    const MANY: u32 = 4_000;

    fn many_streams() -> Config {
        Config {
            ml_kem: MlKem::Off,
            stream_window: WINDOW,
            connection_window: WINDOW * 4,
            max_streams: MANY,
            ..Config::default()
        }
    }

    /// Sends these blocks, a stripe of each; returns the most that the server held.
    fn one_stripe_of_each(peer: &mut Peer, blocks: impl Iterator<Item = (u32, u64)>, block_len: u32) -> u64 {
        let mut most = 0;
        for (at, (stream, number)) in blocks.enumerate() {
            let block = Block { stream: StreamId(stream), number, phase: 1, set: ParitySet::Mds };
            peer.send_block(&block, &[], block_len, |stripe| stripe.get() == 0);
            peer.sealed.clear();
            if at % 64 == 63 {
                peer.wires.run_for(Duration::from_millis(12));
                most = most.max(peer.wires.connection(End::Server).expect("it stands").memory());
            }
        }
        peer.wires.run_for(Duration::from_millis(50));
        let server = peer.wires.connection(End::Server).expect("it stands");
        assert_eq!(server.error(), None);
        most.max(server.memory())
    }

    /// What the blocks of a connection may take, parity aside.
    const MOST_BLOCKS: u64 = WINDOW * 4 * 17 / 16 + (1 << 20) + (4 << 20);

    #[test]
    fn blocks_of_many_streams_that_stay_incomplete_take_no_more_than_the_connection_may() {
        let mut peer = Peer::open(many_streams());
        peer.confirm();
        // 4,000 streams whose own windows would allow 64 KiB each.
        let most = one_stripe_of_each(&mut peer, (0..MANY).map(|n| (2 * n + 1, 0)), 60_000);
        assert!(most > MOST_BLOCKS / 2 && most <= MOST_BLOCKS, "{most} bytes");
        // Behind the gaps there is even less room.
        let most =
            one_stripe_of_each(&mut peer, (0..MANY).map(|n| (2 * n + 1, 1 + u64::from(n % 1000))), 60_000);
        assert!(most <= MOST_BLOCKS, "{most} bytes");
        nonce_audit::forget();
    }

    #[test]
    fn tiny_blocks_behind_gaps_are_charged_for_their_keeping() {
        let mut peer = Peer::open(many_streams());
        peer.confirm();
        let blocks = (0..20u32).flat_map(|stream| (1..1024).map(move |number| (2 * stream + 1, number)));
        let most = one_stripe_of_each(&mut peer, blocks, 16);
        // 20,460 blocks of 16 bytes, which the books know as 144 each.
        assert!(most > 1 << 20 && most <= MOST_BLOCKS - (4 << 20), "{most} bytes");
        nonce_audit::forget();
    }

    #[test]
    fn floods_of_control_packets_leave_nothing_behind() {
        let mut peer = Peer::open(many_streams());
        peer.confirm();
        first(&mut peer, 0);
        let begun = Instant::now();
        let before = peer.wires.connection(End::Server).expect("it stands").memory();
        for round in 0..5_000u32 {
            let mut plain = Vec::new();
            let stream = StreamId(2 * (round % (MANY - 2)) + 3);
            match round % 5 {
                0 => ControlFrame::Ping.encode(&mut plain),
                1 => ControlFrame::MaxData(u64::from(round) << 20).encode(&mut plain),
                2 => ControlFrame::Ack(Box::default()).encode(&mut plain),
                3 => ControlFrame::Reset { stream, code: 1, final_size: 0 }.encode(&mut plain),
                _ => ControlFrame::Stop { stream, code: 1 }.encode(&mut plain),
            }
            let number = peer.take_number();
            peer.send_control(1, number, &plain, round as usize, 3);
            peer.sealed.clear();
            if round % 64 == 0 {
                peer.wires.run_for(Duration::from_millis(5));
                let server = peer.wires.connection(End::Server).expect("it stands");
                assert!(server.memory() <= before, "{} bytes", server.memory());
                assert!(server.stream_count() <= MANY as usize);
            }
        }
        peer.wires.run_for(Duration::from_secs(1));
        let server = peer.wires.connection(End::Server).expect("it stands");
        assert_eq!(server.error(), None);
        assert!(begun.elapsed() < Duration::from_secs(30), "an event costs as much as all events before it");
        nonce_audit::forget();
    }
}
