use super::*;
use crate::stripe::{BlockHeader, BlockKind, Payload};
use proptest::prelude::*;
use serde_json::Value;

fn header() -> OpenHeader {
    let client = Principal { network: 1, denomination: 0, serial: 1042 };
    OpenHeader {
        client,
        server: Principal { serial: 7, ..client },
        connection: ConnectionId([3; 16]),
        nonce: [4; 32],
        encryption_key: Some(KeyId([5; 16])),
        ml_kem: MlKem::On,
        source: "127.0.0.1:40000".parse().unwrap(),
        destination: "192.0.2.7:53".parse().unwrap(),
        relay_set: [6; 32],
        root: [7; 32],
        commitment: [8; 32],
    }
}

#[test]
fn headers_round_trip_in_both_address_families() {
    let v4 = header();
    let v6 = OpenHeader {
        source: "[::1]:40000".parse().unwrap(),
        destination: "[2001:db8::7]:53".parse().unwrap(),
        encryption_key: None,
        ..header()
    };
    for h in [v4, v6] {
        assert_eq!(OpenHeader::decode(&h.encode().unwrap()), Ok(h));
    }
}

#[test]
fn the_encapsulated_headers_are_those_of_a_syn() {
    let bytes = header().encode().unwrap();
    let at = 2 + 1 + 7 + 7 + 16 + 32 + 17 + 1;
    assert_eq!(bytes[at], 40, "IPv4 and TCP headers without options");
    let packet = &bytes[at + 1..at + 41];
    assert_eq!(packet[0], 0x45);
    assert_eq!(packet[9], 6, "TCP");
    assert_eq!(&packet[16..20], &[192, 0, 2, 7]);
    assert_eq!(packet[20 + 13], 0x02, "SYN");
}

#[test]
fn bytes_behind_the_encapsulated_headers_are_refused() {
    let v6 = OpenHeader {
        source: "[::1]:40000".parse().unwrap(),
        destination: "[2001:db8::7]:53".parse().unwrap(),
        ..header()
    };
    for h in [header(), v6] {
        let mut bytes = h.encode().unwrap();
        let at = 2 + 1 + 7 + 7 + 16 + 32 + 17 + 1;
        let len = usize::from(bytes[at]);
        bytes[at] += 1;
        bytes.insert(at + 1 + len, 0);
        assert_eq!(OpenHeader::decode(&bytes), Err(Malformed::Value("encapsulated headers")));
    }
}

#[test]
fn mixed_families_are_refused() {
    let h = OpenHeader { source: "[::1]:1".parse().unwrap(), ..header() };
    assert_eq!(h.encode(), Err(MixedFamilies));
}

#[test]
fn the_commitment_ends_the_header() {
    let mut bytes = header().encode().unwrap();
    assert_eq!(OpenHeader::without_commitment(&bytes), &bytes[..bytes.len() - 32]);
    OpenHeader::set_commitment(&mut bytes, &[1; 32]);
    assert_eq!(OpenHeader::decode(&bytes), Ok(OpenHeader { commitment: [1; 32], ..header() }));
}

#[test]
fn truncation_and_trailing_bytes_are_refused_at_every_length() {
    let bytes = header().encode().unwrap();
    for len in 0..bytes.len() {
        assert!(OpenHeader::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
    let mut long = bytes;
    long.push(0);
    assert_eq!(OpenHeader::decode(&long), Err(Malformed::Trailing(1)));
}

#[test]
fn every_refusal_has_its_own_number() {
    for reason in Refusal::ALL {
        assert_eq!(Reply::decode(&Reply::Refused(reason).encode()), Ok(Reply::Refused(reason)));
    }
    assert_eq!(Reply::decode(&[250]), Err(Malformed::Value("reason")));
}

#[test]
fn hello_and_reply_round_trip() {
    let parameters =
        Parameters { max_data: 1 << 40, max_stream_data: 1 << 22, max_streams: 16_384, idle_ms: 60_000 };
    for kem in [false, true] {
        let hello = Hello { parameters, kem_key: kem.then(|| Box::new([9; KEM_KEY_BYTES])) };
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        let kem_ciphertext = kem.then(|| Box::new([9; KEM_CIPHERTEXT_BYTES]));
        let reply = Reply::Accepted { parameters, kem_ciphertext };
        let encoded = reply.encode();
        assert!(encoded.len() + 16 <= SealedReply::MAX_SEALED_BYTES);
        assert_eq!(Reply::decode(&encoded), Ok(reply));
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
        let _ = OpenHeader::decode(&bytes);
        let _ = Hello::decode(&bytes);
        let _ = Reply::decode(&bytes);
        let _ = SealedReply::decode(&mut Reader::new(&bytes));
    }

    #[test]
    fn a_flipped_bit_is_refused_or_read_as_something_else(bit in 0usize..240 * 8) {
        let original = header();
        let mut bytes = original.encode().unwrap();
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
            // Checksums, hop limit and window of the encapsulated headers carry no meaning for QSocket; that
            // they cannot be changed unseen is the job of the header hash.
            if let Ok(h) = OpenHeader::decode(&bytes) {
                prop_assert!(h != original || h.encode().unwrap() != bytes);
            }
        }
    }
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../vectors/open.json")).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn parameters(value: &Value) -> Parameters {
    let n = |i: usize| value[i].as_u64().unwrap();
    Parameters { max_data: n(0), max_stream_data: n(1), max_streams: n(2) as u32, idle_ms: n(3) as u32 }
}

fn optional<const N: usize>(value: &Value) -> Option<Box<[u8; N]>> {
    value.as_str().map(|_| Box::new(array(value)))
}

#[test]
fn known_answers_of_headers() {
    let principal = |v: &Value| Principal {
        network: v[0].as_u64().unwrap() as u16,
        denomination: v[1].as_i64().unwrap() as i8,
        serial: v[2].as_u64().unwrap() as u32,
    };
    let vectors = vectors();
    let list = vectors["header"].as_array().unwrap();
    assert_eq!(list.len(), 4);
    for v in list {
        let header = OpenHeader {
            client: principal(&v["client"]),
            server: principal(&v["server"]),
            connection: ConnectionId(array(&v["connection"])),
            nonce: array(&v["nonce"]),
            encryption_key: v["encryption_key"].as_str().map(|_| KeyId(array(&v["encryption_key"]))),
            ml_kem: [MlKem::Off, MlKem::On, MlKem::Require][v["ml_kem"].as_u64().unwrap() as usize],
            source: v["source"].as_str().unwrap().parse().unwrap(),
            destination: v["destination"].as_str().unwrap().parse().unwrap(),
            relay_set: array(&v["relay_set"]),
            root: array(&v["root"]),
            commitment: array(&v["commitment"]),
        };
        assert_eq!(header.encode(), Ok(hex(&v["bytes"])));
        assert_eq!(OpenHeader::decode(&hex(&v["bytes"])), Ok(header));
    }
}

#[test]
fn known_answers_of_hellos() {
    let vectors = vectors();
    for v in vectors["hello"].as_array().unwrap() {
        let hello = Hello { parameters: parameters(&v["parameters"]), kem_key: optional(&v["kem_key"]) };
        let (content, block) = (hex(&v["content"]), hex(&v["block"]));
        assert_eq!(hello.encode(), content);
        assert_eq!(Hello::decode(&content), Ok(hello));
        let head = BlockHeader { kind: BlockKind::Hello, fin: false, offset: 0, len: content.len() as u32 };
        assert_eq!([&head.encode()[..], &content].concat(), block);
        let (decoded, _, data) = BlockHeader::decode(&block, block.len()).unwrap();
        assert_eq!((decoded, &block[data]), (head, &content[..]));
    }
}

#[test]
fn known_answers_of_replies() {
    let vectors = vectors();
    let accepted = vectors["accepted"].as_array().unwrap().iter().map(|v| {
        let kem_ciphertext = optional(&v["kem_ciphertext"]);
        (Reply::Accepted { parameters: parameters(&v["parameters"]), kem_ciphertext }, hex(&v["bytes"]))
    });
    let refused = vectors["refused"].as_array().unwrap().iter().map(|v| {
        let reason = Refusal::from_wire(v["reason"].as_u64().unwrap() as u8).unwrap();
        (Reply::Refused(reason), hex(&v["bytes"]))
    });
    let all: Vec<_> = accepted.chain(refused).collect();
    assert_eq!(all.len(), 3 + Refusal::ALL.len());
    for (reply, bytes) in all {
        assert_eq!(reply.encode(), bytes);
        assert_eq!(Reply::decode(&bytes), Ok(reply));
    }
    for v in vectors["sealed_reply"].as_array().unwrap() {
        let sealed = hex(&v["sealed"]);
        let key = [ReplyKey::Reply, ReplyKey::Refuse][v["key"].as_u64().unwrap() as usize];
        let reply = SealedReply { nonce: array(&v["nonce"]), key, sealed: &sealed };
        let mut payload = hex(&v["payload"]);
        assert_eq!(Payload::encode_reply(&reply), payload);
        let Ok(Payload::Reply { reply: decoded, .. }) = Payload::decode(&mut payload) else {
            panic!("refused")
        };
        assert_eq!((decoded.nonce, decoded.key, decoded.sealed), (reply.nonce, reply.key, reply.sealed));
    }
}
