//! Writes first inputs for every target to `corpus/`: well-formed messages for the parsers, and bytes by chance for
//! lists of operations. Fuzzing begins from them; run it after a format changed.

use qsocket_fuzz::TARGETS;
use qsocket_proto::control::{Ack, ControlFrame, PartialAck, PathCount, StreamAck};
use qsocket_proto::exchange::{FetchId, Get, Post, PostTerms};
use qsocket_proto::frame::{CloseReason, Frame, RouteError};
use qsocket_proto::grid::{StripeId, StripeSet};
use qsocket_proto::hop::{Accept, DialledBy, Hello as HopHello};
use qsocket_proto::ids::{ConnectionId, KeyId, PathId, Principal, Role, RouteId, StreamId};
use qsocket_proto::names::{
    Currency, Description, Due, Fees, Name, Payment, PaymentKind, PaymentState, PutName, Record, Reference,
    RenewName, Standing, State, encode_name,
};
use qsocket_proto::open::{Hello, MlKem, OpenHeader, Parameters, Refusal, Reply, ReplyKey, SealedReply};
use qsocket_proto::register::Register;
use qsocket_proto::relay::Registration;
use qsocket_proto::stripe::{BlockHeader, BlockKind, ControlHeader, Payload, StripeHeader};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

const CLIENT: Principal = Principal { network: 1, denomination: 0, serial: 1000 };
const SERVER: Principal = Principal { network: 1, denomination: 1, serial: 7 };

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (target, _) in TARGETS {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        let mut seeds = messages(target);
        // Operations: any bytes are some.
        for len in if seeds.is_empty() { [20, 60, 150, 300, 300] } else { [0; 5] } {
            let mut bytes = vec![0; len];
            rng.fill_bytes(&mut bytes);
            seeds.push(bytes);
        }
        for (i, bytes) in seeds.iter().filter(|bytes| !bytes.is_empty()).enumerate() {
            fs::write(folder.join(format!("seed-{i}")), bytes)?;
        }
    }
    Ok(())
}

fn messages(target: &str) -> Vec<Vec<u8>> {
    match target {
        "hop_hello" => hop_hellos(),
        "hop_accept" => {
            let accept = Accept { version: 1, suite: 1, nonce: [2; 32] }.encode();
            vec![[&accept[..], &[3; 32]].concat(), [&[4, 0, 32][..], &[5; 32]].concat()]
        }
        "frames" => frames(),
        "open_header" => open_headers(),
        "hello" => [None, Some(Box::new([1; 1184]))]
            .map(|kem_key| Hello { parameters: PARAMETERS, kem_key }.encode())
            .to_vec(),
        "reply" => replies(),
        "payload" => payloads(),
        "block" => blocks(),
        "control" => control(),
        "raida_key_file" => {
            let numbers: Vec<_> = (0..25).map(|i| format!("    \"{:032x}\",", i + 1)).collect();
            let head = "kind = \"raida-key\"\nversion = 1\nnetwork = 1\ndenomination = 0\nserial = 5\nrole = \"client\"\n";
            vec![
                format!("{head}authenticity_numbers = [\n{}\n]\n", numbers.join("\n")).into_bytes(),
                b"00112233445566778899aabbccddeeff\n".to_vec(),
            ]
        }
        "encryption_key_file" => vec![
            format!(
                "kind = \"encryption-key\"\nversion = 1\nid = \"{:032x}\"\nwith = \"1.0.7\"\nkey = \"{:064x}\"\n",
                9, 10
            )
            .into_bytes(),
            format!(
                "kind = \"encryption-key\"\nversion = 1\nid = \"{:032x}\"\nwith = \"1.0.7\"\nown = \"1.0.5\"\n\
                 name = \"wiki.example:443\"\ncreated = 2026-11-26T14:34:00Z\nexpires = 2099-01-01T00:00:00+01:00\n\
                 origin = \"exchanged\"\nexchanged_over = 1\nexchanged_relays = [0, 7, 24]\nstate = \"retired\"\n\
                 receive_until = 2027-01-01T00:00:00Z\nreplaces = [\"{:032x}\"]\n\
                 replaced_until = 2026-12-01T00:00:00Z\nkey = \"{:064x}\"\n",
                9, 8, 10
            )
            .into_bytes(),
            format!(
                "kind = \"encryption-key\"\nversion = 1\nid = \"{:032x}\"\nwith = \"1.0.7\"\nstate = \"revoked\"\n",
                9
            )
            .into_bytes(),
        ],
        "sealed_key_file" => vec![
            format!(
                "kind = \"sealed-key\"\nversion = 1\nkdf = \"argon2id\"\nmemory_kib = 65536\npasses = 3\nlanes = 4\n\
                 salt = \"{:032x}\"\nnonce = \"{:024x}\"\nsealed = \"{:064x}\"\n",
                1, 2, 3
            )
            .into_bytes(),
        ],
        "coin_file" => {
            let mut coin = vec![9, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
            coin.extend_from_slice(b"Live Free or Die");
            coin.extend_from_slice(&[0, 0, 0, 0, 0, 4, 0x12]);
            (1..=25).for_each(|i| coin.extend_from_slice(&[i; 16]));
            vec![coin]
        }
        "enrolment_file" => ["request", "answer"]
            .map(|kind| {
                let mut text = format!("kind = \"enrolment-{kind}\"\nversion = 1\nprincipal = \"1.0.5\"\n");
                text += "role = \"client\"\nrelay = 3\n";
                text += &format!("request = \"{:032x}\"\nhalf = \"{:064x}\"\n", 11, 12);
                if kind == "answer" {
                    text += &format!("confirmation = \"{:064x}\"\n", 13);
                }
                text.into_bytes()
            })
            .to_vec(),
        "settings_file" => settings(),
        "exchange_messages" => exchange_messages(),
        "exchange" => exchanges(),
        "names_messages" => names_messages(),
        "names_dns" => names_dns(),
        "names" => names_registry(),
        "register" => registrations(),
        _ => Vec::new(),
    }
}

/// A header, a post, a get and a signal; receipts of nobody.
fn exchange_messages() -> Vec<Vec<u8>> {
    let server = Principal { serial: 2, ..CLIENT };
    let terms = PostTerms { poster: CLIENT, receiver: server, ttl: 600, lifetime: 0, relay_set: [3; 32] };
    let mut post = Post::new(terms, b"memo", &mut ChaCha8Rng::seed_from_u64(1));
    for path in PathId::all().take(17) {
        post.handle(path, &[path.get(); 32]).expect("it has the length of a receipt");
    }
    let get = Get { poster: CLIENT, key: post.header().key, fetch: FetchId([4; 16]) };
    let first = PathId::all().next().expect("there are 25");
    let signal = post.signal().expect("17 gave a receipt");
    vec![post.header().encode(), post.body(first).to_vec(), get.encode(), signal]
}

fn record() -> Record {
    let at = "192.0.2.7:443".parse().expect("an address");
    Record {
        name: Name::parse("cloudcoin").expect("a name"),
        number: NonZeroU32::MIN,
        owner: CLIENT,
        version: NonZeroU32::MIN,
        begin: 1_800_000_000,
        ttl: 300,
        server: Some(Principal { serial: 7, ..CLIENT }),
        service: Some("[2001:db8::7]:443".parse().expect("an address")),
        signalling: std::num::NonZeroU16::new(8443),
        endpoints: PathId::all().take(3).map(|path| (path, at)).collect(),
    }
}

/// A record, each request and result, a membership, and names as people write them.
fn names_messages() -> Vec<Vec<u8>> {
    let (record, reference) = (record(), Reference([7; 16]));
    let (name, currency) = (record.name.clone(), Currency::USD);
    let renew = RenewName { name: name.clone(), years: 2, reference };
    let due = Due { amount: 2000, currency };
    let (kind, state) = (PaymentKind::Renewal, PaymentState::Asked);
    let payment = Payment { reference, kind, years: 2, amount: 2000, currency, state };
    let description = Description {
        state: State::Active,
        until: 1_900_000_000,
        fees: Fees { first: 2000, renewal: 1000, currency },
        record: Some(record.clone()),
        payments: vec![payment],
    };
    vec![
        record.encode(),
        PutName { record: record.clone(), years: 1, reference }.encode(),
        renew.encode(),
        encode_name(&name),
        Standing { state: State::Pending, until: 0, due }.encode(),
        description.encode(),
        record.membership().to_string().into_bytes(),
        "B\u{fc}cher.raida".as_bytes().to_vec(),
        b"xn--bcher-kva".to_vec(),
        reference.to_string().into_bytes(),
    ]
}

/// Registered, confirmed, changed, renewed, passed on, lapsed and free again; the same with strangers in between; and a
/// quota that is used up.
fn names_registry() -> Vec<Vec<u8>> {
    // What, who, which name, which reference, number or time, owner, version.
    let life = [
        [0, 0, 0, 1, 1, 0, 0],
        [5, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 1],
        [3, 0, 0, 2, 0, 0, 1],
        [5, 0, 0, 2, 0, 0, 0],
        [0, 0, 0, 3, 1, 1, 2],
        [3, 1, 0, 4, 0, 0, 0],
        [6, 0, 0, 4, 0, 0, 0],
        [7, 0, 0, 0, 250, 0, 0],
        [7, 0, 0, 0, 160, 0, 0],
        [0, 0, 0, 5, 1, 0, 0],
        [4, 0, 0, 0, 0, 0, 0],
    ];
    let stranger = |step: &[u8; 7]| [*step, [step[0] % 5, 1, step[2], 7, 1, 1, 3]];
    let full = (0..6)
        .map(|n| [0, 0, n, n, n, 0, 0])
        .chain((0..4).flat_map(|n| [[4, 0, n, 0, 0, 0, 0], [0, 0, n, n, n, 0, 0]]));
    vec![life.concat(), life.iter().flat_map(stranger).flatten().collect(), full.flatten().collect()]
}

/// A question about each place of the zone, one with EDNS, and one about another domain.
fn names_dns() -> Vec<Vec<u8>> {
    let question = |name: &str, kind: u16| {
        let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend(label.bytes());
        }
        out.push(0);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out
    };
    let asked = [
        ("cloudcoin.raida", 28),
        ("cloudcoin.raida", 16),
        ("r3.cloudcoin.raida", 1),
        ("_raida._tcp.cloudcoin.raida", 33),
        ("_rke._tcp.cloudcoin.raida", 33),
        ("_qsocket._tcp.cloudcoin.raida", 33),
        ("1.number.raida", 12),
        ("raida", 6),
        ("example.com", 1),
    ];
    let mut all: Vec<_> = asked.map(|(name, kind)| question(name, kind)).to_vec();
    let mut edns = question("cloudcoin.raida", 1);
    edns[11] = 1;
    edns.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    all.push(edns);
    all
}

/// Lists of addresses, a request for another number, and an answer.
fn registrations() -> Vec<Vec<u8>> {
    let at = |destination: &str, dial: Option<&str>| Registration {
        destination: destination.parse().expect("an address"),
        dial: dial.map(|dial| dial.parse().expect("an address")),
    };
    let all = [
        at("203.0.113.7:443", None),
        at("[2001:db8::1]:443", Some("[2001:db8::2]:50003")),
        at("203.0.113.7:444", Some("198.51.100.1:50003")),
        at("203.0.113.8:1", None),
    ];
    let mut seeds: Vec<_> =
        (0..=all.len()).map(|n| Register { registrations: all[..n].to_vec() }.encode()).collect();
    let mut enrol = CLIENT.to_bytes().to_vec();
    enrol.extend([[2; 1].as_slice(), &[7; 16], &[8; 32]].concat());
    seeds.extend([vec![5; 48], vec![6; 64], enrol]);
    seeds
}

/// An exchange without trouble, and one with some.
fn exchanges() -> Vec<Vec<u8>> {
    let run = |flag: fn(usize) -> u8| {
        let mut out = vec![5, 0, 12, 0, 0, 2, 0x58];
        for i in 0..40 {
            out.extend([i as u8, flag(i), flag(i + 1)]);
        }
        out.push(0);
        (0..60).for_each(|i| out.extend([i as u8, flag(i)]));
        out
    };
    vec![run(|_| 0), run(|i| u8::from(i % 9 == 4))]
}

const PARAMETERS: Parameters =
    Parameters { max_data: 1 << 24, max_stream_data: 1 << 22, max_streams: 100, idle_ms: 60_000 };

fn hop_hellos() -> Vec<Vec<u8>> {
    let hello = |role, dialled_by, versions: &[u16]| {
        let relay = PathId::new(7).expect("below 25");
        let hello = HopHello {
            relay,
            principal: CLIENT,
            role,
            dialled_by,
            versions: versions.to_vec(),
            suites: vec![1],
            nonce: [6; 32],
        };
        [&hello.encode()[..], &[7; 32]].concat()
    };
    vec![hello(Role::Client, DialledBy::Principal, &[1]), hello(Role::Server, DialledBy::Relay, &[2, 1])]
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    out
}

fn frames() -> Vec<Vec<u8>> {
    let route = RouteId(5);
    let all = [
        encoded(&Frame::Ping { token: 1 }),
        encoded(&Frame::Close { reason: CloseReason::Done }),
        encoded(&Frame::Open { route, header: b"header", share: &[1; 32], proof: &[[2; 32]; 5] }),
        encoded(&Frame::Attach { route, header: b"header" }),
        encoded(&Frame::Detach { route }),
        encoded(&Frame::RouteError { route, reason: RouteError::Lost }),
        encoded(&Frame::Congested { route, bytes: 9 }),
        encoded(&Frame::Data { route, offset: 3, payload: &mut [4; 20] }),
        encoded(&Frame::Rekey),
    ];
    let mut seeds = all.to_vec();
    seeds.push(all.concat());
    seeds
}

fn open_headers() -> Vec<Vec<u8>> {
    let header = |ip: &str, key, ml_kem| OpenHeader {
        client: CLIENT,
        server: SERVER,
        connection: ConnectionId([1; 16]),
        nonce: [2; 32],
        encryption_key: key,
        ml_kem,
        source: format!("{ip}:40000").parse().expect("an address"),
        destination: format!("{ip}:53").parse().expect("an address"),
        relay_set: [3; 32],
        root: [4; 32],
        commitment: [5; 32],
    };
    [header("127.0.0.1", None, MlKem::On), header("[2001:db8::1]", Some(KeyId([6; 16])), MlKem::Require)]
        .iter()
        .map(|header| header.encode().expect("one family"))
        .collect()
}

fn replies() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = [None, Some(Box::new([1; 1088]))]
        .into_iter()
        .map(|kem_ciphertext| Reply::Accepted { parameters: PARAMETERS, kem_ciphertext }.encode())
        .collect();
    seeds.push(Reply::Refused(Refusal::Busy).encode());
    let mut sealed = Vec::new();
    SealedReply { nonce: [1; 32], key: ReplyKey::Refuse, sealed: &[2; 17] }.encode(&mut sealed);
    seeds.push(sealed);
    seeds
}

fn payloads() -> Vec<Vec<u8>> {
    let stripe = StripeId::new(30).expect("below 34");
    let header = StripeHeader { phase: 1, stream: StreamId(1), block: 2, stripe, block_len: 100 };
    let mut clear = [0; 21];
    header.encode(&mut clear);
    let stripe = [&clear[..], &[3; 7 + 16]].concat();
    let mut clear = [0; 13];
    ControlHeader { phase: 1, number: 4 }.encode(&mut clear);
    let control = [&clear[..], &[5; 10 + 16]].concat();
    let reply =
        Payload::encode_reply(&SealedReply { nonce: [1; 32], key: ReplyKey::Reply, sealed: &[2; 42] });
    vec![stripe, control, reply]
}

fn blocks() -> Vec<Vec<u8>> {
    let block = |kind, name: &[u8], data: &[u8]| {
        let head = BlockHeader { kind, fin: true, offset: 7, len: data.len() as u32 };
        let block = [&head.encode()[..], name, data].concat();
        [&(block.len() as u16).to_be_bytes()[..], &block, &[0; 9]].concat()
    };
    vec![
        block(BlockKind::Data, b"", b"data"),
        block(BlockKind::First, b"\x04name", b"data"),
        block(BlockKind::Hello, b"", b""),
    ]
}

fn control() -> Vec<Vec<u8>> {
    let stream = StreamId(1);
    let mut ack = Ack { control: 9, control_before: 5, ..Ack::default() };
    ack.paths[3] = Some(PathCount { end: 100, received: 90 });
    ack.streams.push(StreamAck { stream, next: 4, ranges: vec![(2, 1), (6, 3)] });
    ack.partial.push(PartialAck { stream, block: 4, have: StripeSet::DATA });
    let frames = [
        ControlFrame::Ack(Box::new(ack)),
        ControlFrame::MaxData(1),
        ControlFrame::MaxStreamData(stream, 2),
        ControlFrame::MaxStreams(3),
        ControlFrame::Reset { stream, code: 4, final_size: 5 },
        ControlFrame::Stop { stream, code: 6 },
        ControlFrame::Ping,
        ControlFrame::Path(PathId::new(7).expect("below 25")),
        ControlFrame::PhaseDone(8),
        ControlFrame::Close { code: 0, reason: "bye".into() },
    ];
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for frame in &frames {
        let mut out = Vec::new();
        frame.encode(&mut out);
        seeds.push(out);
    }
    seeds.push(seeds.concat());
    seeds
}

fn settings() -> Vec<Vec<u8>> {
    let relays: Vec<_> = (0..25).map(|i| format!("\"127.0.0.1:{}\"", 5000 + i)).collect();
    let list = format!("key = \"key.toml\"\n[raida]\nnetwork = 1\nrelays = [{}]\n", relays.join(", "));
    let base = "key = \"key.toml\"\n[raida]\nnetwork = 1\nbase = \"127.0.0.1:5000\"\n";
    let more = "[names]\n\"db.raida\" = { server = \"1.0.7\", address = \"127.0.0.1:53\" }\n\
                [listen]\nallow = [\"1.0.5\"]\ndeny = [\"1.0.6\"]\n\
                [tuning]\nml_kem = \"require\"\nidle_timeout_seconds = 30\n";
    vec![list.into_bytes(), base.into(), [base, more].concat().into_bytes()]
}
