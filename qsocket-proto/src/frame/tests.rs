use super::*;
use proptest::prelude::*;

/// One of every kind; the last is DATA, over `payload`.
fn samples<'a>(
    header: &'a [u8],
    share: &'a [u8; 32],
    proof: &'a Proof,
    payload: &'a mut [u8],
) -> Vec<Frame<'a>> {
    let route = RouteId(0x0102_0304);
    vec![
        Frame::Ping { token: 7 },
        Frame::Pong { token: u64::MAX },
        Frame::Close { reason: CloseReason::Replaced },
        Frame::Open { route, header, share, proof },
        Frame::Attach { route, header },
        Frame::Detach { route },
        Frame::RouteError { route, reason: RouteError::UnknownConnection },
        Frame::Congested { route, bytes: 99 },
        Frame::Call { call: CallId(5), service: 0xff, body: header },
        Frame::Call { call: CallId(u32::MAX), service: 1, body: &[] },
        Frame::Answer { call: CallId(6), status: 3, body: share },
        Frame::Data { route, offset: u32::MAX, payload },
    ]
}

#[test]
fn every_frame_round_trips_in_one_record() {
    let (share, mut proof) = ([5; 32], [[6; 32]; PROOF_LEN]);
    proof[4] = [9; 32];
    let header: Vec<u8> = (0..MAX_OPEN_HEADER).map(|i| i as u8).collect();
    let mut payload = [1, 2, 3];
    let frames = samples(&header, &share, &proof, &mut payload);
    let mut wire = Vec::new();
    for frame in &frames {
        let before = wire.len();
        frame.encode(&mut wire);
        assert_eq!(wire.len() - before, frame.encoded_len(), "{frame:?}");
    }
    let back: Vec<_> = Frames::new(&mut wire).map(|f| f.expect("own encoding")).collect();
    assert_eq!(back, frames);
}

#[test]
fn a_call_is_at_most_so_long() {
    let body = vec![0; MAX_CALL + 1];
    for len in [MAX_CALL, MAX_CALL + 1] {
        for frame in [
            Frame::Call { call: CallId(1), service: 1, body: &body[..len] },
            Frame::Answer { call: CallId(1), status: 1, body: &body[..len] },
        ] {
            let mut wire = Vec::new();
            frame.encode(&mut wire);
            let too_long = Malformed::TooLong { field: "call", len, max: MAX_CALL };
            let expected = if len > MAX_CALL { Err(too_long) } else { Ok(frame) };
            assert_eq!(Frames::new(&mut wire).next(), Some(expected));
        }
    }
}

#[test]
fn data_is_mutable_where_it_lies() {
    let mut wire = Vec::new();
    Frame::Data { route: RouteId(1), offset: 2, payload: &mut [1, 2, 3] }.encode(&mut wire);
    for frame in Frames::new(&mut wire) {
        if let Ok(Frame::Data { payload, .. }) = frame {
            payload.fill(8);
        }
    }
    assert_eq!(wire[DATA_OVERHEAD..], [8, 8, 8]);
}

#[test]
fn unknown_types_reasons_lengths_and_trailing_bytes_are_refused_and_end_the_walk() {
    let bad: [(&[u8], Malformed); 8] = [
        (&[0x7f, 0, 0, 0x03, 0, 0], Malformed::Value("frame type")),
        (&[0x00, 0, 0], Malformed::Value("frame type")),
        (&[0x01, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0], Malformed::Trailing(1)),
        (&[0x01, 0, 7, 0, 0, 0, 0, 0, 0, 0], Malformed::Short("token")),
        (&[0x04, 0, 1, 0], Malformed::Value("close reason")),
        (&[0x13, 0, 5, 0, 0, 0, 0, 9], Malformed::Value("route error")),
        (&[0x20, 0, 7, 0, 0, 0, 0, 0, 0, 0], Malformed::Short("offset")),
        (&[0x20, 0xff, 0xff, 0], Malformed::Short("frame body")),
    ];
    for (bytes, error) in bad {
        let mut bytes = bytes.to_vec();
        let mut frames = Frames::new(&mut bytes);
        assert_eq!(frames.next(), Some(Err(error)));
        assert_eq!(frames.next(), None);
    }
    let mut long = vec![0x11, 0x08, 0x00, 0, 0, 0, 1, 0x04, 0x01];
    long.resize(FRAME_OVERHEAD + 0x800, 0);
    assert_eq!(
        Frames::new(&mut long).next(),
        Some(Err(Malformed::TooLong { field: "connection header", len: 1025, max: 1024 }))
    );
}

#[test]
fn rekey_stands_last_or_the_record_is_refused() {
    let mut wire = Vec::new();
    Frame::Ping { token: 1 }.encode(&mut wire);
    assert_eq!(split_rekey(&wire), Ok((11, false)));
    Frame::Rekey.encode(&mut wire);
    assert_eq!(split_rekey(&wire), Ok((11, true)));
    Frame::Rekey.encode(&mut wire);
    assert_eq!(split_rekey(&wire), Err(Malformed::Value("rekey")));
    assert_eq!(split_rekey(&[3, 0, 1, 0]), Err(Malformed::Value("rekey")));
}

#[test]
fn debug_shows_no_share() {
    let text = format!(
        "{:?}",
        Frame::Open { route: RouteId(1), header: &[], share: &[0xab; 32], proof: &[[0xcd; 32]; 5] }
    );
    assert_eq!(text, "Open(1, header 0 bytes)");
}

proptest! {
    #[test]
    fn any_bytes_decode_without_panic_and_what_decodes_encodes_back(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let original = bytes.clone();
        let _ = split_rekey(&original);
        let mut again = Vec::new();
        for frame in Frames::new(&mut bytes) {
            match frame {
                Ok(frame) => frame.encode(&mut again),
                Err(_) => break,
            }
        }
        prop_assert!(original.starts_with(&again));
    }

    #[test]
    fn any_body_of_any_type_decodes_without_panic(kind in prop_oneof![0u8..6, 0x0fu8..0x16, Just(0x20u8)], body in proptest::collection::vec(any::<u8>(), 0..1500)) {
        let mut wire = vec![kind, (body.len() >> 8) as u8, body.len() as u8];
        wire.extend_from_slice(&body);
        let original = wire.clone();
        if let Some(Ok(frame)) = Frames::new(&mut wire).next() {
            let mut again = Vec::new();
            frame.encode(&mut again);
            prop_assert_eq!(again, original);
        }
    }
}
