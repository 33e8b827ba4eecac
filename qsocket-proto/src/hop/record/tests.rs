use super::*;
use crate::crypto::schedule::hop::{AuthenticityNumber, HopTranscript, ImportedKey};
use crate::frame::Frame;
use crate::ids::{PathId, Principal, Role, RouteId};
use proptest::prelude::*;

/// The same secret twice: one half for each end.
fn secret() -> TrafficSecret {
    let number = AuthenticityNumber::new(&[7; 16]).unwrap();
    let principal = Principal { network: 1, denomination: 0, serial: 5 };
    let key = ImportedKey::new(&number, principal, PathId::new(3).unwrap(), Role::Client);
    key.hop(HopTranscript::of(b"hello", b"accept")).initiator
}

fn pair(limits: HopLimits) -> (Sealer, Opener, Outbox, Inbox) {
    crate::crypto::nonce_audit::forget();
    let sealer = Sealer::new(Instant::now(), secret(), limits);
    (sealer, Opener::new(secret(), limits), Outbox::new(usize::MAX), Inbox::new())
}

/// Seals one record for each token.
fn sealed(sealer: &mut Sealer, outbox: &mut Outbox, tokens: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for token in tokens {
        outbox.frame(&Frame::Ping { token }).unwrap();
        sealer.seal(Instant::now(), outbox).unwrap();
        records.push(outbox.wire().to_vec());
        outbox.consume(usize::MAX / 2);
    }
    records
}

fn tokens(opener: &mut Opener, inbox: &mut Inbox) -> Result<Vec<u64>, RecordError> {
    let mut seen = Vec::new();
    while let Some(frames) = opener.next_record(inbox)? {
        for frame in frames {
            match frame? {
                Frame::Ping { token } => seen.push(token),
                other => panic!("{other:?}"),
            }
        }
    }
    Ok(seen)
}

#[test]
fn records_open_in_order_whatever_pieces_they_arrive_in() {
    let (mut sealer, mut opener, mut outbox, mut inbox) = pair(HopLimits::default());
    let wire = sealed(&mut sealer, &mut outbox, 0..50).concat();
    let mut seen = Vec::new();
    for piece in wire.chunks(7) {
        inbox.extend(piece);
        seen.extend(tokens(&mut opener, &mut inbox).unwrap());
    }
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    assert!(inbox.is_empty());
}

#[test]
fn every_flipped_bit_of_a_record_is_refused_and_ends_the_hop() {
    let (mut sealer, _, mut outbox, _) = pair(HopLimits::default());
    let record = sealed(&mut sealer, &mut outbox, 0..1).concat();
    for bit in 0..record.len() * 8 {
        let mut bad = record.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let (mut opener, mut inbox) = (Opener::new(secret(), HopLimits::default()), Inbox::new());
        inbox.extend(&bad);
        // A longer length waits for bytes that complete it, and then fails.
        inbox.extend(&[0; 70_000]);
        let error = tokens(&mut opener, &mut inbox).unwrap_err();
        let mut again = Inbox::new();
        again.extend(&record);
        assert_eq!(tokens(&mut opener, &mut again), Err(error), "bit {bit}: a failed opener opens nothing");
    }
}

#[test]
fn replayed_reordered_and_missing_records_are_refused_by_number() {
    let (mut sealer, _, mut outbox, _) = pair(HopLimits::default());
    let records = sealed(&mut sealer, &mut outbox, 0..3);
    for (order, expected, got) in [(vec![0, 0], 1, 0), (vec![1], 0, 1), (vec![0, 2], 1, 2)] {
        let (mut opener, mut inbox) = (Opener::new(secret(), HopLimits::default()), Inbox::new());
        for i in order {
            inbox.extend(&records[i]);
        }
        assert_eq!(tokens(&mut opener, &mut inbox), Err(RecordError::Number { expected, got }));
    }
}

#[test]
fn a_truncated_record_waits_and_impossible_lengths_fail_at_once() {
    let (mut sealer, mut opener, mut outbox, mut inbox) = pair(HopLimits::default());
    let record = sealed(&mut sealer, &mut outbox, 0..1).concat();
    inbox.extend(&record[..record.len() - 1]);
    assert_eq!(tokens(&mut opener, &mut inbox), Ok(vec![]));
    for len in [0, 1, 16, 65_537, u32::MAX] {
        let (mut opener, mut inbox) = (Opener::new(secret(), HopLimits::default()), Inbox::new());
        inbox.extend(&len.to_be_bytes());
        assert_eq!(tokens(&mut opener, &mut inbox), Err(RecordError::Length(len)));
    }
}

#[test]
fn keys_change_at_the_soft_limit_in_records_and_in_time() {
    let limits = HopLimits { soft_records: 4, hard_records: 6, ..HopLimits::default() };
    let (mut sealer, mut opener, mut outbox, mut inbox) = pair(limits);
    let records = sealed(&mut sealer, &mut outbox, 0..40);
    // Every fourth seal brings a REKEY record along.
    assert_eq!(sealer.epoch.number, 50);
    for record in &records {
        inbox.extend(record);
    }
    assert_eq!(tokens(&mut opener, &mut inbox), Ok((0..40).collect()));
    assert_eq!(opener.epoch.number, 50);

    let (mut sealer, mut opener, mut outbox, mut inbox) = pair(HopLimits::default());
    let now = sealer.since + HopLimits::default().soft_age;
    for token in 0..3 {
        outbox.frame(&Frame::Ping { token }).unwrap();
        sealer.seal(now, &mut outbox).unwrap();
    }
    assert_eq!(sealer.epoch.number, 4, "one REKEY");
    inbox.extend(outbox.wire());
    assert_eq!(tokens(&mut opener, &mut inbox), Ok(vec![0, 1, 2]));
}

#[test]
fn a_used_up_key_neither_seals_nor_opens() {
    let careless = HopLimits { soft_records: 100, hard_records: 5, ..HopLimits::default() };
    let (mut sealer, _, mut outbox, _) = pair(careless);
    sealed(&mut sealer, &mut outbox, 0..5);
    outbox.frame(&Frame::Ping { token: 5 }).unwrap();
    assert_eq!(sealer.seal(Instant::now(), &mut outbox), Err(RecordError::Exhausted));
    assert!(outbox.wire().is_empty() && outbox.needs_sealing());

    let (mut sealer, _, mut outbox, mut inbox) = pair(HopLimits::default());
    let mut opener = Opener::new(secret(), careless);
    inbox.extend(&sealed(&mut sealer, &mut outbox, 0..6).concat());
    assert_eq!(tokens(&mut opener, &mut inbox), Err(RecordError::Exhausted));
}

#[test]
fn full_records_round_trip() {
    let (mut sealer, mut opener, mut outbox, mut inbox) = pair(HopLimits::default());
    for i in 0..8u8 {
        outbox.data(RouteId(i.into()), 1, super::super::MAX_PAYLOAD, |p| p.fill(i)).unwrap();
    }
    sealer.seal(Instant::now(), &mut outbox).unwrap();
    let mut next = 0u8;
    while !outbox.wire().is_empty() {
        let n = inbox.extend(outbox.wire());
        outbox.consume(n);
        while let Some(frames) = opener.next_record(&mut inbox).unwrap() {
            for frame in frames {
                let Ok(Frame::Data { payload, .. }) = frame else { panic!("DATA only") };
                assert!(payload.len() == super::super::MAX_PAYLOAD && payload.iter().all(|b| *b == next));
                next += 1;
            }
        }
    }
    assert_eq!(next, 8);
}

proptest! {
    #[test]
    fn any_bytes_open_to_nothing_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), len in 0u16..200) {
        let (mut opener, mut inbox) = (Opener::new(secret(), HopLimits::default()), Inbox::new());
        inbox.extend(&u32::from(len).to_be_bytes());
        inbox.extend(&bytes);
        match tokens(&mut opener, &mut inbox) {
            Ok(seen) => prop_assert!(seen.is_empty()),
            Err(error) => prop_assert_eq!(opener.failed, Some(error)),
        }
    }
}
