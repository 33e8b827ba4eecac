use super::*;
use proptest::prelude::*;

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
