use super::*;
use crate::grid::StripeSet;
use crate::open::ReplyKey;
use proptest::prelude::*;
use serde_json::Value;

const ID: ConnectionId = ConnectionId([0xc1; 16]);

fn header() -> StripeHeader {
    StripeHeader { phase: 1, stream: StreamId(5), block: 7, stripe: id(12), block_len: 100 }
}

fn id(stripe: u8) -> StripeId {
    StripeId::new(stripe).unwrap()
}

/// The payload of a stripe: clear bytes, then ciphertext and tag that nobody sealed.
fn stripe_payload(header: &StripeHeader) -> Vec<u8> {
    let mut clear = [0; STRIPE_HEADER_BYTES];
    header.encode(&mut clear);
    [&clear[..], &vec![0xab; header.stripe_len()], &[0xcd; TAG_BYTES]].concat()
}

fn control_payload(header: &ControlHeader, len: usize) -> Vec<u8> {
    let mut clear = [0; CONTROL_HEADER_BYTES];
    header.encode(&mut clear);
    [&clear[..], &vec![0xab; len], &[0xcd; TAG_BYTES]].concat()
}

/// What was decoded, in its wire form again.
fn encode_again(payload: &Payload<'_>) -> Vec<u8> {
    match payload {
        Payload::Stripe { header, ciphertext, tag } => {
            let mut clear = [0; STRIPE_HEADER_BYTES];
            header.encode(&mut clear);
            [&clear[..], ciphertext, tag].concat()
        }
        Payload::Control { header, ciphertext, tag } => {
            let mut clear = [0; CONTROL_HEADER_BYTES];
            header.encode(&mut clear);
            [&clear[..], ciphertext, tag].concat()
        }
        Payload::Reply { whole, reply } => {
            let encoded = Payload::encode_reply(reply);
            assert_eq!(encoded, *whole);
            encoded
        }
    }
}

#[test]
fn stripes_round_trip_at_their_extremes() {
    let largest = StripeHeader {
        phase: u32::MAX,
        stream: StreamId(u32::MAX),
        block: MAX_BLOCK_NUMBER,
        stripe: id(33),
        block_len: MAX_BLOCK_BYTES as u32,
    };
    let smallest = StripeHeader {
        phase: 0,
        stream: StreamId::HELLO,
        block: 0,
        stripe: id(0),
        block_len: BlockHeader::BYTES as u32,
    };
    for h in [largest, smallest, header()] {
        let mut bytes = stripe_payload(&h);
        let copy = bytes.clone();
        let payload = Payload::decode(&mut bytes).unwrap();
        assert_eq!(encode_again(&payload), copy);
        let Payload::Stripe { header, ciphertext, tag } = payload else { panic!("not a stripe") };
        assert_eq!((header, ciphertext.len(), tag), (h, h.stripe_len(), [0xcd; TAG_BYTES]));
    }
}

#[test]
fn control_packets_round_trip_at_their_extremes() {
    for (phase, number, len) in [(0, 0, 0), (1, 1, 1), (u32::MAX, u64::MAX, MAX_CONTROL_BYTES)] {
        let mut bytes = control_payload(&ControlHeader { phase, number }, len);
        let copy = bytes.clone();
        let payload = Payload::decode(&mut bytes).unwrap();
        assert_eq!(encode_again(&payload), copy);
        let Payload::Control { header, ciphertext, .. } = payload else { panic!("not a control packet") };
        assert_eq!((header, ciphertext.len()), (ControlHeader { phase, number }, len));
    }
}

#[test]
fn replies_round_trip_at_their_extremes() {
    let longest = [7; SealedReply::MAX_SEALED_BYTES];
    for (key, sealed) in [(ReplyKey::Reply, &longest[..]), (ReplyKey::Refuse, &longest[..17])] {
        let mut bytes = Payload::encode_reply(&SealedReply { nonce: [9; 32], key, sealed });
        let copy = bytes.clone();
        let Ok(Payload::Reply { whole, reply }) = Payload::decode(&mut bytes) else { panic!("not a reply") };
        assert_eq!((reply.nonce, reply.key, reply.sealed, whole), ([9; 32], key, sealed, &copy[..]));
    }
}

#[test]
fn lengths_above_their_maxima_are_refused() {
    let too_long = |bytes: &mut [u8]| match Payload::decode(bytes) {
        Err(Malformed::TooLong { field, len, max }) => (field, len, max),
        other => panic!("{other:?}"),
    };
    let max = MAX_BLOCK_BYTES;
    // Only the clear bytes are there: the stated length is refused before anything is looked for behind them.
    for len in [max as u32 + 1, u32::MAX] {
        let mut clear = [0; STRIPE_HEADER_BYTES];
        StripeHeader { block_len: len, ..header() }.encode(&mut clear);
        assert_eq!(too_long(&mut clear), ("block length", len as usize, max));
    }
    let (len, max) = (MAX_CONTROL_BYTES + 1, MAX_CONTROL_BYTES);
    let mut bytes = control_payload(&ControlHeader { phase: 1, number: 1 }, len);
    assert_eq!(too_long(&mut bytes), ("control packet", len, max));

    let (len, max) = (SealedReply::MAX_SEALED_BYTES + 1, SealedReply::MAX_SEALED_BYTES);
    let sealed = vec![0; len];
    let mut bytes =
        Payload::encode_reply(&SealedReply { nonce: [0; 32], key: ReplyKey::Reply, sealed: &sealed });
    assert_eq!(too_long(&mut bytes), ("reply", len, max));
}

#[test]
fn a_block_too_short_for_its_head_is_refused() {
    for block_len in 0..BlockHeader::BYTES as u32 {
        let mut bytes = stripe_payload(&StripeHeader { block_len, ..header() });
        assert_eq!(Payload::decode(&mut bytes).unwrap_err(), Malformed::Value("block length"));
    }
}

#[test]
fn stripe_ids_above_33_kinds_and_reply_keys_that_do_not_exist_are_refused() {
    for stripe in 34..=u8::MAX {
        let mut bytes = stripe_payload(&header());
        bytes[16] = stripe;
        assert!(Payload::decode(&mut bytes).is_err(), "stripe {stripe}");
    }
    for kind in (0..=u8::MAX).filter(|k| ![KIND_STRIPE, KIND_CONTROL, KIND_REPLY].contains(k)) {
        let mut bytes = stripe_payload(&header());
        bytes[0] = kind;
        assert_eq!(Payload::decode(&mut bytes).unwrap_err(), Malformed::Value("payload kind"));
    }
    for key in 2..=u8::MAX {
        let mut bytes =
            Payload::encode_reply(&SealedReply { nonce: [0; 32], key: ReplyKey::Reply, sealed: &[0; 17] });
        bytes[33] = key;
        assert_eq!(Payload::decode(&mut bytes).unwrap_err(), Malformed::Value("reply key"));
    }
}

#[test]
fn every_truncation_of_a_stripe_is_refused() {
    let whole = stripe_payload(&header());
    for len in 0..whole.len() {
        assert!(Payload::decode(&mut whole.clone()[..len]).is_err(), "{len} bytes");
    }
    let mut longer = whole;
    longer.push(0);
    assert_eq!(Payload::decode(&mut longer).unwrap_err(), Malformed::Value("stripe length"));
}

#[test]
fn control_packets_and_replies_without_their_fixed_parts_are_refused() {
    let control = control_payload(&ControlHeader { phase: 1, number: 1 }, 0);
    for len in 0..control.len() {
        assert!(Payload::decode(&mut control.clone()[..len]).is_err(), "{len} bytes");
    }
    let reply = Payload::encode_reply(&SealedReply { nonce: [0; 32], key: ReplyKey::Reply, sealed: &[] });
    for len in 0..reply.len() {
        assert!(Payload::decode(&mut reply.clone()[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn associated_data_differs_whatever_differs() {
    let h = header();
    let ways = [
        h.associated_data(ID, Direction::ToServer),
        h.associated_data(ID, Direction::ToClient),
        h.associated_data(ConnectionId([0; 16]), Direction::ToServer),
        StripeHeader { phase: 2, ..h }.associated_data(ID, Direction::ToServer),
        StripeHeader { stream: StreamId(6), ..h }.associated_data(ID, Direction::ToServer),
        StripeHeader { block: MAX_BLOCK_NUMBER, ..h }.associated_data(ID, Direction::ToServer),
        StripeHeader { stripe: id(13), ..h }.associated_data(ID, Direction::ToServer),
        StripeHeader { block_len: 101, ..h }.associated_data(ID, Direction::ToServer),
    ];
    for (i, a) in ways.iter().enumerate() {
        assert!(ways[..i].iter().all(|b| a != b), "{i}");
    }
}

fn block(header: BlockHeader, name: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = header.encode().to_vec();
    if header.kind == BlockKind::First {
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name);
    }
    bytes.extend_from_slice(data);
    bytes
}

#[test]
fn blocks_round_trip_at_their_extremes() {
    let most = MAX_BLOCK_BYTES - BlockHeader::BYTES;
    for (kind, fin, offset, name, len) in [
        (BlockKind::Data, true, u64::MAX, 0, 0),
        (BlockKind::Data, false, u64::MAX - most as u64, 0, most),
        (BlockKind::First, true, 0, 0, 0),
        (BlockKind::First, false, 0, 255, most - 256),
        (BlockKind::Hello, false, 0, 0, 25),
    ] {
        let header = BlockHeader { kind, fin, offset, len: len as u32 };
        let (name, data) = (vec![1; name], vec![2; len]);
        let bytes = block(header, &name, &data);
        // Padding behind the block is not part of it.
        let padded = [&bytes[..], &[0; 15]].concat();
        let (decoded, name_at, data_at) = BlockHeader::decode(&padded, bytes.len()).unwrap();
        assert_eq!((decoded, &padded[name_at], &padded[data_at]), (header, &name[..], &data[..]));
    }
}

#[test]
fn blocks_that_contradict_themselves_are_refused() {
    let header = BlockHeader { kind: BlockKind::First, fin: true, offset: 3, len: 4 };
    let bytes = block(header, b"name", &[2; 4]);
    for len in 0..bytes.len() {
        assert!(BlockHeader::decode(&bytes[..len], len).is_err(), "{len} bytes");
        assert!(BlockHeader::decode(&bytes, len).is_err(), "a block length of {len}");
    }
    assert_eq!(BlockHeader::decode(&bytes, bytes.len() + 1), Err(Malformed::Short("block")));
    let refused = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        BlockHeader::decode(&bytes, bytes.len()).unwrap_err()
    };
    for value in 3..=u8::MAX {
        assert_eq!(refused(0, value), Malformed::Value("block kind"));
    }
    for value in 2..=u8::MAX {
        assert_eq!(refused(1, value), Malformed::Value("block flags"));
    }
    assert_eq!(refused(13, 5), Malformed::Value("length"));
    assert_eq!(refused(13, 3), Malformed::Value("length"));
    assert_eq!(refused(14, 9), Malformed::Short("resource"), "a name that ends behind the block");
    let overflow = BlockHeader { offset: u64::MAX, len: 1, kind: BlockKind::Data, fin: false };
    let bytes = block(overflow, b"", &[0]);
    assert_eq!(BlockHeader::decode(&bytes, bytes.len()), Err(Malformed::Value("offset")));
}

fn any_header() -> impl Strategy<Value = StripeHeader> {
    (any::<u32>(), any::<u32>(), 0..=MAX_BLOCK_NUMBER, 0u8..34, 14u32..2000).prop_map(
        |(phase, stream, block, stripe, block_len)| StripeHeader {
            phase,
            stream: StreamId(stream),
            block,
            stripe: id(stripe),
            block_len,
        },
    )
}

proptest! {
    #[test]
    fn any_payload_decodes_without_a_panic_and_to_nothing_but_itself(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..1300),
        kind in 0u8..5,
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let copy = bytes.clone();
        if let Ok(payload) = Payload::decode(&mut bytes) {
            prop_assert_eq!(encode_again(&payload), copy);
        }
    }

    #[test]
    fn a_stripe_with_any_byte_changed_is_refused_or_is_itself(
        header in any_header(), at in any::<prop::sample::Index>(), value in any::<u8>(),
    ) {
        let mut bytes = stripe_payload(&header);
        let at = at.index(bytes.len());
        bytes[at] = value;
        let copy = bytes.clone();
        if let Ok(payload) = Payload::decode(&mut bytes) {
            prop_assert_eq!(encode_again(&payload), copy);
        }
    }

    #[test]
    fn any_block_decodes_without_a_panic_and_to_nothing_but_itself(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..80), block_len in 0usize..90, likely in any::<bool>(),
    ) {
        if likely && bytes.len() >= BlockHeader::BYTES {
            // Random bytes hardly ever agree about their length.
            let rest = bytes.len() - BlockHeader::BYTES;
            bytes[0] %= 3;
            bytes[1] %= 2;
            let name = if bytes[0] == 2 && rest > 0 { 1 + usize::from(bytes[14]) % rest } else { 0 };
            if name > 0 {
                bytes[14] = name as u8 - 1;
            }
            bytes[10..14].copy_from_slice(&((rest - name) as u32).to_be_bytes());
        }
        let block_len = if likely { bytes.len() } else { block_len };
        if let Ok((header, name, data)) = BlockHeader::decode(&bytes, block_len) {
            prop_assert_eq!(block(header, &bytes[name], &bytes[data]), &bytes[..block_len]);
        } else {
            prop_assert!(!likely || bytes.len() < 16 || bytes[2..10] == [0xff; 8], "{bytes:?}");
        }
    }

    #[test]
    fn what_a_stripe_names_is_one_stripe_of_the_grid(header in any_header()) {
        let mut bytes = stripe_payload(&header);
        let Ok(Payload::Stripe { header: decoded, .. }) = Payload::decode(&mut bytes) else {
            return Err(TestCaseError::fail("refused"));
        };
        prop_assert_eq!(decoded, header);
        prop_assert!(StripeSet::ALL.contains(decoded.stripe));
    }
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../vectors/stripe.json")).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    T::try_from(value.as_u64().unwrap()).ok().unwrap()
}

fn surroundings(v: &Value) -> (ConnectionId, Direction) {
    let direction = match v["direction"].as_u64().unwrap() {
        0 => Direction::ToServer,
        _ => Direction::ToClient,
    };
    (ConnectionId(hex(&v["connection"]).try_into().unwrap()), direction)
}

#[test]
fn known_answers_of_stripes() {
    let vectors = vectors();
    let list = vectors["stripe"].as_array().unwrap();
    assert_eq!(list.len(), 4);
    for v in list {
        let header = StripeHeader {
            phase: number(&v["phase"]),
            stream: StreamId(number(&v["stream"])),
            block: number(&v["block"]),
            stripe: id(number(&v["stripe"])),
            block_len: number(&v["block_len"]),
        };
        let mut clear = [0; STRIPE_HEADER_BYTES];
        header.encode(&mut clear);
        assert_eq!(clear.to_vec(), hex(&v["clear"]));
        let (connection, direction) = surroundings(v);
        assert_eq!(header.associated_data(connection, direction).to_vec(), hex(&v["associated_data"]));
        assert_eq!(header.stripe_len(), number::<usize>(&v["stripe_len"]));
        let mut bytes = [hex(&v["clear"]), vec![0; header.stripe_len() + TAG_BYTES]].concat();
        let Payload::Stripe { header: decoded, .. } = Payload::decode(&mut bytes).unwrap() else {
            panic!("not a stripe")
        };
        assert_eq!(decoded, header);
    }
}

#[test]
fn known_answers_of_control_packets() {
    let vectors = vectors();
    let list = vectors["control"].as_array().unwrap();
    assert_eq!(list.len(), 3);
    for v in list {
        let header = ControlHeader { phase: number(&v["phase"]), number: number(&v["number"]) };
        let mut clear = [0; CONTROL_HEADER_BYTES];
        header.encode(&mut clear);
        assert_eq!(clear.to_vec(), hex(&v["clear"]));
        let (connection, direction) = surroundings(v);
        assert_eq!(header.associated_data(connection, direction).to_vec(), hex(&v["associated_data"]));
        let mut bytes = [hex(&v["clear"]), vec![0; 1 + TAG_BYTES]].concat();
        let Payload::Control { header: decoded, .. } = Payload::decode(&mut bytes).unwrap() else {
            panic!("not a control packet")
        };
        assert_eq!(decoded, header);
    }
}

#[test]
fn known_answers_of_blocks() {
    let vectors = vectors();
    let list = vectors["block"].as_array().unwrap();
    assert_eq!(list.len(), 6);
    for v in list {
        let kind = [BlockKind::Hello, BlockKind::Data, BlockKind::First][number::<usize>(&v["kind"])];
        let (name, data, bytes) = (hex(&v["resource"]), hex(&v["data"]), hex(&v["bytes"]));
        let header = BlockHeader {
            kind,
            fin: v["fin"].as_bool().unwrap(),
            offset: number(&v["offset"]),
            len: data.len() as u32,
        };
        assert_eq!(block(header, &name, &data), bytes);
        let (decoded, name_at, data_at) = BlockHeader::decode(&bytes, bytes.len()).unwrap();
        assert_eq!((decoded, &bytes[name_at], &bytes[data_at]), (header, &name[..], &data[..]));
    }
}
