use super::*;
use crate::grid::{STRIPES, StripeId};
use crate::stripe::MAX_CONTROL_BYTES;
use proptest::prelude::*;
use serde_json::Value;

fn path(index: u8) -> PathId {
    PathId::new(index).unwrap()
}

fn encode(frame: &ControlFrame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    out
}

/// The largest acknowledgement that there can be.
fn full_ack() -> Ack {
    let streams = (0..MAX_ACK_STREAMS as u32).map(|s| StreamAck {
        stream: StreamId(u32::MAX - s),
        next: (1 << 56) - 1,
        ranges: (0..MAX_ACK_RANGES as u16).map(|r| (1 + 2 * r, 1)).collect(),
    });
    let partial = (1..=MAX_ACK_PARTIAL as u32).map(|s| PartialAck {
        stream: StreamId(s),
        block: (1 << 56) - 1,
        have: StripeSet::ALL,
    });
    Ack {
        paths: [Some(PathCount { end: u32::MAX, received: u32::MAX }); RELAYS],
        control: u64::MAX,
        control_before: u64::MAX,
        streams: streams.collect(),
        partial: partial.collect(),
    }
}

fn examples() -> Vec<ControlFrame> {
    let ack = Ack {
        paths: std::array::from_fn(|i| (i % 3 == 0).then_some(PathCount { end: i as u32, received: 1 })),
        control: 9,
        control_before: 5,
        streams: vec![StreamAck { stream: StreamId(3), next: 4, ranges: vec![(1, 1), (2, u16::MAX)] }],
        partial: vec![PartialAck { stream: StreamId(3), block: 4, have: StripeSet::DATA }],
    };
    vec![
        ControlFrame::Ack(Box::default()),
        ControlFrame::Ack(Box::new(ack)),
        ControlFrame::Ack(Box::new(full_ack())),
        ControlFrame::MaxData(0),
        ControlFrame::MaxData(u64::MAX),
        ControlFrame::MaxStreamData(StreamId(u32::MAX), u64::MAX),
        ControlFrame::MaxStreams(u32::MAX),
        ControlFrame::Reset { stream: StreamId(u32::MAX), code: u32::MAX, final_size: u64::MAX },
        ControlFrame::Stop { stream: StreamId(1), code: 0 },
        ControlFrame::Ping,
        ControlFrame::Path(path(0)),
        ControlFrame::Path(path(24)),
        ControlFrame::PhaseDone(u32::MAX),
        ControlFrame::Close { code: 0, reason: String::new() },
        ControlFrame::Close { code: u32::MAX, reason: "x".repeat(MAX_REASON_BYTES) },
    ]
}

#[test]
fn every_frame_round_trips_at_its_extremes_alone_and_behind_others() {
    let mut all = Vec::new();
    for frame in examples() {
        let bytes = encode(&frame);
        assert_eq!(ControlFrame::decode_all(&bytes), Ok(vec![frame.clone()]));
        all.extend_from_slice(&bytes);
    }
    assert_eq!(ControlFrame::decode_all(&all), Ok(examples()));
}

#[test]
fn every_truncation_is_refused() {
    for frame in examples() {
        let bytes = encode(&frame);
        for len in 0..bytes.len() {
            assert!(ControlFrame::decode_all(&bytes[..len]).is_err(), "{frame:?} cut to {len} bytes");
        }
    }
}

#[test]
fn an_acknowledgement_alone_asks_for_none() {
    for frame in examples() {
        assert_eq!(frame.is_ack_eliciting(), !matches!(frame, ControlFrame::Ack(_)));
    }
}

#[test]
fn types_that_do_not_exist_are_refused() {
    for kind in (0..=u8::MAX).filter(|k| !(1..=10).contains(k)) {
        let bytes = [&[kind][..], &[0; 64]].concat();
        assert_eq!(ControlFrame::decode_all(&bytes), Err(Malformed::Value("control frame type")));
    }
    for index in 25..=u8::MAX {
        assert_eq!(ControlFrame::decode_all(&[8, index]), Err(Malformed::Value("relay index")));
    }
}

#[test]
fn the_largest_acknowledgement_fits_a_packet_with_a_window_behind_it() {
    let mut out = encode(&ControlFrame::Ack(Box::new(full_ack())));
    assert_eq!(out.len(), 1 + 4 + 25 * 8 + 16 + 1 + 16 * (12 + 32 * 4) + 1 + 16 * 19);
    ControlFrame::MaxStreamData(StreamId(1), u64::MAX).encode(&mut out);
    assert!(out.len() <= MAX_CONTROL_BYTES, "{} bytes", out.len());
}

#[test]
fn an_acknowledgement_never_grows_beyond_what_a_receiver_takes() {
    let mut ack = full_ack();
    for stream in &mut ack.streams {
        stream.ranges.extend((0..100).map(|r| (200 + 2 * r, 1)));
    }
    ack.streams.extend(ack.streams.clone());
    ack.partial.extend(ack.partial.clone());
    let decoded = ControlFrame::decode_all(&encode(&ControlFrame::Ack(Box::new(ack)))).unwrap();
    assert_eq!(decoded, vec![ControlFrame::Ack(Box::new(full_ack()))]);
}

/// An ACK without paths, up to the count of its streams.
fn ack_head() -> Vec<u8> {
    [&[1u8][..], &[0; 4 + 16]].concat()
}

#[test]
fn counts_above_their_maxima_are_refused_before_any_entry_is_read() {
    let stream = [&[0, 0, 0, 1][..], &[0; 7]].concat();
    let cases = [
        (ack_head(), MAX_ACK_STREAMS, "ACK streams"),
        ([&ack_head()[..], &[1], &stream].concat(), MAX_ACK_RANGES, "ACK ranges"),
        ([&ack_head()[..], &[0]].concat(), MAX_ACK_PARTIAL, "ACK partial blocks"),
    ];
    for (head, max, field) in cases {
        // Nothing follows the count, so that a reader who believes it finds the end of the input instead.
        for len in [max + 1, 255] {
            let bytes = [&head[..], &[len as u8]].concat();
            assert_eq!(ControlFrame::decode_all(&bytes), Err(Malformed::TooLong { field, len, max }));
        }
        let bytes = [&head[..], &[max as u8]].concat();
        assert!(matches!(ControlFrame::decode_all(&bytes), Err(Malformed::Short(_))), "{field}");
    }
}

#[test]
fn path_bits_above_24_and_stripe_bits_above_33_are_refused() {
    for bit in RELAYS..32 {
        let mut bytes = ack_head();
        bytes[1..5].copy_from_slice(&(1u32 << bit).to_be_bytes());
        bytes.extend_from_slice(&[0; 64]);
        assert_eq!(ControlFrame::decode_all(&bytes), Err(Malformed::Value("ACK paths")), "bit {bit}");
    }
    for bit in STRIPES..64 {
        let stripes = (1u64 << bit).to_be_bytes();
        let bytes = [&ack_head()[..], &[0, 1, 0, 0, 0, 1], &[0; 7], &stripes].concat();
        assert_eq!(ControlFrame::decode_all(&bytes), Err(Malformed::Value("stripes")), "bit {bit}");
    }
}

#[test]
fn frames_that_name_the_hello_as_a_stream_are_refused() {
    let hello = StreamId::HELLO;
    let partial = PartialAck { stream: hello, block: 0, have: StripeSet::EMPTY };
    let stream = StreamAck { stream: hello, next: 1, ranges: Vec::new() };
    for frame in [
        ControlFrame::MaxStreamData(hello, 1),
        ControlFrame::Reset { stream: hello, code: 0, final_size: 0 },
        ControlFrame::Stop { stream: hello, code: 0 },
        ControlFrame::Ack(Box::new(Ack { streams: vec![stream], ..Ack::default() })),
        ControlFrame::Ack(Box::new(Ack { partial: vec![partial], ..Ack::default() })),
    ] {
        assert_eq!(ControlFrame::decode_all(&encode(&frame)), Err(Malformed::Value("stream")), "{frame:?}");
    }
}

#[test]
fn ranges_that_are_empty_overlap_or_go_back_are_refused() {
    let decode = |ranges: &[(u16, u16)]| {
        let ack = Ack {
            streams: vec![StreamAck { stream: StreamId(1), next: 0, ranges: ranges.to_vec() }],
            ..Ack::default()
        };
        ControlFrame::decode_all(&encode(&ControlFrame::Ack(Box::new(ack))))
    };
    for bad in [
        &[(0, 0)][..],
        &[(5, 1), (6, 0)],
        &[(5, 2), (6, 1)],
        &[(5, 1), (5, 1)],
        &[(5, 1), (3, 1)],
        &[(1, u16::MAX), (u16::MAX, 1)],
        &[(u16::MAX, u16::MAX), (0, 1)],
    ] {
        assert_eq!(decode(bad), Err(Malformed::Value("ACK range")), "{bad:?}");
    }
    for good in [&[(0, 1)][..], &[(5, 1), (6, 1)], &[(1, u16::MAX - 1), (u16::MAX, u16::MAX)]] {
        assert!(decode(good).is_ok(), "{good:?}");
    }
}

#[test]
fn a_reason_is_cut_between_characters() {
    for (text, kept) in [
        ("e".repeat(MAX_REASON_BYTES + 1), MAX_REASON_BYTES),
        // 66 characters of three bytes are 198, and the 67th would end at 201.
        ("€".repeat(100), 198),
        // The character of two bytes begins at 199.
        ("e".repeat(199) + "é", 199),
        ("e".repeat(198) + "éé", 200),
    ] {
        let bytes = encode(&ControlFrame::Close { code: 3, reason: text.clone() });
        let whole = ControlFrame::Close { code: 3, reason: text[..kept].to_owned() };
        assert_eq!(ControlFrame::decode_all(&bytes), Ok(vec![whole]));
    }
}

#[test]
fn a_reason_that_is_too_long_is_refused() {
    let bytes = [&[10][..], &[0; 4], &[201], &[b'x'; 201]].concat();
    let refused = Malformed::TooLong { field: "reason", len: 201, max: MAX_REASON_BYTES };
    assert_eq!(ControlFrame::decode_all(&bytes), Err(refused));
}

#[test]
fn a_reason_that_is_not_text_stays_within_the_limit() {
    // Each wrong byte reads as a replacement character, which has three.
    let bytes = [&[10][..], &[0; 4], &[200], &[0xff; 200]].concat();
    let reason = "\u{fffd}".repeat(MAX_REASON_BYTES / 3);
    assert_eq!(ControlFrame::decode_all(&bytes), Ok(vec![ControlFrame::Close { code: 0, reason }]));
}

fn any_ack() -> impl Strategy<Value = Ack> {
    let counts = prop::collection::vec(prop::option::of((any::<u32>(), any::<u32>())), RELAYS);
    let ranges = prop::collection::vec((0u16..500, 1u16..500), 0..=MAX_ACK_RANGES).prop_map(|steps| {
        let mut above = 0;
        steps
            .into_iter()
            .map(|(gap, count)| {
                let start = above + gap;
                above = start + count;
                (start, count)
            })
            .collect()
    });
    let streams = prop::collection::vec((1u32.., 0..1u64 << 56, ranges), 0..=MAX_ACK_STREAMS);
    let partial = prop::collection::vec((1u32.., 0..1u64 << 56, 0..1u64 << STRIPES), 0..=MAX_ACK_PARTIAL);
    (counts, any::<u64>(), any::<u64>(), streams, partial).prop_map(
        |(counts, control, bits, streams, partial)| {
            let mut paths = [None; RELAYS];
            for (slot, count) in paths.iter_mut().zip(counts) {
                *slot = count.map(|(end, received)| PathCount { end, received });
            }
            let streams = streams
                .into_iter()
                .map(|(stream, next, ranges)| StreamAck { stream: StreamId(stream), next, ranges })
                .collect();
            let partial = partial
                .into_iter()
                .map(|(stream, block, have)| PartialAck {
                    stream: StreamId(stream),
                    block,
                    have: StripeSet::from_bits(have).unwrap(),
                })
                .collect();
            Ack { paths, control, control_before: bits, streams, partial }
        },
    )
}

/// Whether the bytes hold a CLOSE whose text is not UTF-8: the one thing that reads as something else.
fn has_other_text(frames: &[ControlFrame]) -> bool {
    frames.iter().any(|f| matches!(f, ControlFrame::Close { reason, .. } if reason.contains('\u{fffd}')))
}

fn decodes_to_itself(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(frames) = ControlFrame::decode_all(bytes)
        && !has_other_text(&frames)
    {
        let again: Vec<u8> = frames.iter().flat_map(encode).collect();
        prop_assert_eq!(again, bytes);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_acknowledgement_round_trips(ack in any_ack()) {
        let frame = ControlFrame::Ack(Box::new(ack));
        prop_assert_eq!(ControlFrame::decode_all(&encode(&frame)), Ok(vec![frame]));
    }

    #[test]
    fn any_bytes_decode_without_a_panic_and_to_nothing_but_themselves(
        mut bytes in prop::collection::vec(any::<u8>(), 1..200), kind in 1u8..=10,
    ) {
        decodes_to_itself(&bytes)?;
        bytes[0] = kind;
        decodes_to_itself(&bytes)?;
        bytes.iter_mut().for_each(|b| *b %= 11);
        decodes_to_itself(&bytes)?;
    }

    #[test]
    fn an_acknowledgement_with_any_byte_changed_is_refused_or_is_itself(
        ack in any_ack(), at in any::<prop::sample::Index>(), value in any::<u8>(),
    ) {
        let mut bytes = encode(&ControlFrame::Ack(Box::new(ack)));
        let at = at.index(bytes.len());
        bytes[at] = value;
        decodes_to_itself(&bytes)?;
    }
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// The numbers of a list of lists.
fn rows(value: &Value) -> Vec<Vec<u64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().filter_map(Value::as_u64).collect()
}

fn ack_of(v: &Value) -> Ack {
    let mut ack = Ack {
        control: v["control"].as_u64().unwrap(),
        control_before: v["control_before"].as_u64().unwrap(),
        ..Ack::default()
    };
    for row in rows(&v["paths"]) {
        ack.paths[row[0] as usize] = Some(PathCount { end: row[1] as u32, received: row[2] as u32 });
    }
    for s in v["streams"].as_array().unwrap() {
        ack.streams.push(StreamAck {
            stream: StreamId(s[0].as_u64().unwrap() as u32),
            next: s[1].as_u64().unwrap(),
            ranges: rows(&s[2]).iter().map(|r| (r[0] as u16, r[1] as u16)).collect(),
        });
    }
    for row in rows(&v["partial"]) {
        let have = (0..STRIPES as u8).filter(|i| row[2] & 1 << i != 0).filter_map(StripeId::new).collect();
        ack.partial.push(PartialAck { stream: StreamId(row[0] as u32), block: row[1], have });
    }
    ack
}

#[test]
fn known_answers() {
    let vectors: Value = serde_json::from_str(include_str!("../../../vectors/stripe.json")).unwrap();
    let list = vectors["frame"].as_array().unwrap();
    let mut types = std::collections::BTreeSet::new();
    for v in list {
        let name = v["frame"].as_str().unwrap();
        types.insert(name);
        let frame = if name == "ACK" {
            ControlFrame::Ack(Box::new(ack_of(v)))
        } else {
            let n = numbers(&v["values"]);
            match name {
                "MAX_DATA" => ControlFrame::MaxData(n[0]),
                "MAX_STREAM_DATA" => ControlFrame::MaxStreamData(StreamId(n[0] as u32), n[1]),
                "MAX_STREAMS" => ControlFrame::MaxStreams(n[0] as u32),
                "RESET" => {
                    ControlFrame::Reset { stream: StreamId(n[0] as u32), code: n[1] as u32, final_size: n[2] }
                }
                "STOP" => ControlFrame::Stop { stream: StreamId(n[0] as u32), code: n[1] as u32 },
                "PING" => ControlFrame::Ping,
                "PATH" => ControlFrame::Path(path(n[0] as u8)),
                "PHASE_DONE" => ControlFrame::PhaseDone(n[0] as u32),
                "CLOSE" => {
                    ControlFrame::Close { code: n[0] as u32, reason: v["text"].as_str().unwrap().to_owned() }
                }
                other => panic!("{other}"),
            }
        };
        let bytes = hex(&v["bytes"]);
        assert_eq!(encode(&frame), bytes, "{name}");
        assert_eq!(ControlFrame::decode_all(&bytes), Ok(vec![frame]), "{name}");
    }
    assert_eq!(types.len(), 10);
}
