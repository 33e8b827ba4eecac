//! Wire formats: any bytes in, no panic, and what decodes encodes to the same.

use crate::Input;
use qsocket_proto::codec::Reader;
use qsocket_proto::control::{ControlFrame, MAX_ACK_PARTIAL, MAX_ACK_RANGES, MAX_ACK_STREAMS};
use qsocket_proto::frame::Frames;
use qsocket_proto::grid::{MAX_BLOCK_BYTES, ParitySet, Plan, StripeId, StripeSet, parity, stripe_len};
use qsocket_proto::hop::{
    ACCEPT, Accept, FINISH, Hello as HopHello, MAX_HELLO, REQUEST_HEADER, RequestHeader,
};
use qsocket_proto::hop::{MAX_OFFERS, decode_finish};
use qsocket_proto::ids::SIXTEEN;
use qsocket_proto::open::{Hello, MAX_OPEN_HEADER_BYTES, OpenHeader, Reply, SealedReply};
use qsocket_proto::stripe::{
    BlockHeader, CONTROL_HEADER_BYTES, MAX_CONTROL_BYTES, Payload, STRIPE_HEADER_BYTES, TAG_BYTES,
};

/// HELLO of a hop.
pub fn hop_hello(data: &[u8]) {
    if let Some(header) = data.first_chunk::<REQUEST_HEADER>()
        && let Ok(decoded) = RequestHeader::decode(header)
    {
        assert_eq!(decoded.encode(), *header);
    }
    if let Ok(Some(len)) = HopHello::wire_len(data) {
        assert!(len <= MAX_HELLO);
    }
    if let Ok((hello, binder)) = HopHello::decode(data) {
        assert!(hello.versions.len() <= MAX_OFFERS && hello.suites.len() <= MAX_OFFERS);
        let mut again = hello.encode();
        again.extend(binder);
        assert_eq!(again, data);
    }
}

/// ACCEPT and FINISH of a hop.
pub fn hop_accept(data: &[u8]) {
    if let Some(bytes) = data.first_chunk::<ACCEPT>()
        && let Ok((accept, mac)) = Accept::decode(bytes)
    {
        assert_eq!([&accept.encode()[..], &mac].concat(), bytes);
    }
    if let Some(bytes) = data.first_chunk::<FINISH>()
        && let Ok(mac) = decode_finish(bytes)
    {
        assert!(bytes.ends_with(&mac));
    }
}

/// The frames of a record.
pub fn frames(data: &[u8]) {
    let mut plain = data.to_vec();
    let mut at = 0;
    for frame in Frames::new(&mut plain) {
        let Ok(frame) = frame else { return };
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(again.len(), frame.encoded_len());
        assert_eq!(data.get(at..at + again.len()), Some(&again[..]), "{frame:?}");
        at += again.len();
    }
    assert_eq!(at, data.len());
}

/// The header of OPEN and ATTACH.
pub fn open_header(data: &[u8]) {
    let Ok(header) = OpenHeader::decode(data) else { return };
    assert!(data.len() <= MAX_OPEN_HEADER_BYTES);
    // A reader ignores most of the IP and TCP header, so that only what it took is the same.
    let again = header.encode().expect("what was read is of one family");
    assert_eq!(OpenHeader::decode(&again), Ok(header));
}

/// The hello of a connection.
pub fn hello(data: &[u8]) {
    if let Ok(hello) = Hello::decode(data) {
        assert_eq!(hello.encode(), data);
    }
}

/// The reply, sealed and opened.
pub fn reply(data: &[u8]) {
    if let Ok(reply) = Reply::decode(data) {
        assert_eq!(reply.encode(), data);
    }
    if let Ok(sealed) = SealedReply::decode(&mut Reader::new(data)) {
        let mut again = Vec::new();
        sealed.encode(&mut again);
        assert_eq!(again, data);
        assert!(sealed.sealed.len() <= SealedReply::MAX_SEALED_BYTES);
    }
}

/// A DATA payload, split in its parts.
pub fn payload(data: &[u8]) {
    let mut bytes = data.to_vec();
    match Payload::decode(&mut bytes) {
        Ok(Payload::Stripe { header, ciphertext, tag }) => {
            let mut clear = [0; STRIPE_HEADER_BYTES];
            header.encode(&mut clear);
            assert!(header.block_len as usize <= MAX_BLOCK_BYTES);
            assert_eq!(ciphertext.len(), stripe_len(header.block_len as usize));
            assert_eq!([&clear[..], ciphertext, &tag].concat(), data);
        }
        Ok(Payload::Control { header, ciphertext, tag }) => {
            let mut clear = [0; CONTROL_HEADER_BYTES];
            header.encode(&mut clear);
            assert!(ciphertext.len() <= MAX_CONTROL_BYTES);
            assert_eq!([&clear[..], ciphertext, &tag].concat(), data);
        }
        Ok(Payload::Reply { whole, reply }) => {
            assert_eq!(whole, data);
            assert_eq!(Payload::encode_reply(&reply), data);
        }
        Err(_) => {}
    }
    assert!(data.len() >= TAG_BYTES || Payload::decode(&mut data.to_vec()).is_err() || data[0] == 3);
}

/// The plaintext of a block: its length as its stripes name it, then the block.
pub fn block(data: &[u8]) {
    let mut input = Input::new(data);
    let len = usize::from(input.u16());
    let block = input.rest();
    if let Ok((header, resource, bytes)) = BlockHeader::decode(block, len) {
        assert!(len <= block.len());
        assert_eq!(bytes.len(), header.len as usize);
        assert!(resource.end <= bytes.start && bytes.end == len);
        assert!(header.offset.checked_add(u64::from(header.len)).is_some());
        assert_eq!(block.get(..BlockHeader::BYTES), Some(&header.encode()[..]));
    }
}

/// A control packet.
pub fn control(data: &[u8]) {
    let Ok(frames) = ControlFrame::decode_all(data) else { return };
    assert!(!frames.is_empty());
    let mut again = Vec::new();
    for frame in &frames {
        frame.encode(&mut again);
        if let ControlFrame::Ack(ack) = frame {
            assert!(ack.streams.len() <= MAX_ACK_STREAMS && ack.partial.len() <= MAX_ACK_PARTIAL);
            assert!(ack.streams.iter().all(|said| said.ranges.len() <= MAX_ACK_RANGES));
        }
    }
    // Text that is no UTF-8 is shown with replacement characters and so is not the same bytes; all else is.
    let is_text = |frame: &ControlFrame| matches!(frame, ControlFrame::Close { .. });
    if frames.iter().any(is_text) {
        let twice = ControlFrame::decode_all(&again).expect("its own encoding");
        assert_eq!(twice.len(), frames.len());
    } else {
        assert_eq!(again, data);
    }
}

/// Recovery from any set of stripes: what a plan says it recovers, it does.
pub fn grid(data: &[u8]) {
    let mut input = Input::new(data);
    let Some(have) = StripeSet::from_bits(input.u64() & StripeSet::ALL.bits()) else { return };
    let plan = Plan::new(have);
    let stripe = 1 + input.below(40);
    let block: Vec<u8> = input
        .take(SIXTEEN * stripe)
        .iter()
        .copied()
        .chain(std::iter::repeat(0x5a))
        .take(SIXTEEN * stripe)
        .collect();
    let parity_of = |set: ParitySet| {
        let mut out = vec![0; set.parity().len() * stripe];
        parity(set, &block, &mut out).expect("sixteen stripes");
        out
    };
    let sets = [(ParitySet::Grid, parity_of(ParitySet::Grid)), (ParitySet::Mds, parity_of(ParitySet::Mds))];
    let find = |id: StripeId| {
        sets.iter().filter(|_| have.contains(id)).find_map(|(set, bytes)| {
            let at = set.parity().iter().position(|p| p == id)?;
            bytes.get(at * stripe..(at + 1) * stripe)
        })
    };
    let mut got = block.clone();
    for k in 0..SIXTEEN {
        let id = StripeId::from_data_index(k).expect("below sixteen");
        if !have.contains(id) {
            got[k * stripe..(k + 1) * stripe].fill(0xee);
        }
    }
    assert!(plan.apply(&mut got, find).is_ok());
    for k in 0..SIXTEEN {
        let id = StripeId::from_data_index(k).expect("below sixteen");
        if have.contains(id) || plan.recovered().contains(id) {
            assert_eq!(got[k * stripe..(k + 1) * stripe], block[k * stripe..(k + 1) * stripe], "{id:?}");
        }
    }
    assert!(plan.recovered().intersection(have).is_empty());
    assert!(have.contains_all(plan.needs()));
}
