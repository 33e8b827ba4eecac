use super::super::message::{MAX_HELLO, MAX_OFFERS};
use super::*;
use crate::frame::Frame;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const PRINCIPAL: Principal = Principal { network: 1, denomination: 0, serial: 1042 };

fn path(index: u8) -> PathId {
    PathId::new(index).unwrap()
}

fn number(byte: u8) -> AuthenticityNumber {
    AuthenticityNumber::new(&[byte; 16]).unwrap()
}

/// A relay, or a server, that knows one principal in one role.
struct Known(Role, PathId);

impl Principals for Known {
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        (principal == PRINCIPAL && role == self.0)
            .then(|| ImportedKey::new(&number(7), principal, self.1, role))
    }
}

struct Attempt {
    dial: Dial,
    key: ImportedKey,
    /// At which port it arrives.
    port: PathId,
    known: Known,
    expected: DialledBy,
}

impl Attempt {
    fn good(role: Role, dialled_by: DialledBy) -> Self {
        let relay = path(3);
        Self {
            dial: Dial { principal: PRINCIPAL, role, relay, dialled_by, limits: HopLimits::default() },
            key: ImportedKey::new(&number(7), PRINCIPAL, relay, role),
            port: relay,
            known: Known(role, relay),
            expected: dialled_by,
        }
    }

    /// Runs the handshake; `tamper` may change each message: 0 HELLO, 1 answer, 2 FINISH.
    fn run(self, mut tamper: impl FnMut(usize, &mut Vec<u8>)) -> Outcome {
        let now = Instant::now();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let (mut out, mut back) = (Outbox::new(1 << 20), Outbox::new(1 << 20));
        let (mut at_dialer, mut at_responder) = (Inbox::new(), Inbox::new());
        let mut dialer = Dialer::new(now, self.dial, self.key, &mut rng, &mut out);
        let mut responder = Responder::new(now, self.port, self.expected, HopLimits::default());
        let mut outcome = Outcome::default();
        for message in [0, 2] {
            let mut bytes = out.wire().to_vec();
            out.consume(bytes.len());
            tamper(message, &mut bytes);
            at_responder.extend(&bytes);
            let result = responder.handle(now, &mut at_responder, &mut back, &self.known, &mut rng);
            match result {
                Ok(done) => outcome.responder = done,
                Err(error) => outcome.responder_error = Some(error),
            }
            if message == 2 {
                break;
            }
            let mut bytes = back.wire().to_vec();
            back.consume(bytes.len());
            tamper(1, &mut bytes);
            outcome.answer.clone_from(&bytes);
            at_dialer.extend(&bytes);
            match dialer.handle(now, &mut at_dialer, &mut out) {
                Ok(done) => outcome.dialer = done,
                Err(error) => {
                    outcome.dialer_error = Some(error);
                    break;
                }
            }
        }
        outcome
    }
}

#[derive(Default)]
struct Outcome {
    dialer: Option<Established>,
    responder: Option<Established>,
    dialer_error: Option<HandshakeError>,
    responder_error: Option<HandshakeError>,
    answer: Vec<u8>,
}

impl Outcome {
    fn refused(&self, why: &str) {
        assert!(self.responder.is_none(), "{why}");
        assert_eq!(self.responder_error, Some(HandshakeError::NotAuthentic), "{why}");
        assert_eq!(self.dialer_error, Some(HandshakeError::Rejected), "{why}");
        assert_eq!(self.answer, REJECT, "{why}: the one constant answer");
    }
}

#[test]
fn both_ends_may_dial_and_then_understand_each_other() {
    for (role, dialled_by) in [
        (Role::Client, DialledBy::Principal),
        (Role::Server, DialledBy::Principal),
        (Role::Server, DialledBy::Relay),
    ] {
        let outcome = Attempt::good(role, dialled_by).run(|_, _| ());
        let (mut a, mut b) = (outcome.dialer.unwrap(), outcome.responder.unwrap());
        for end in [&a, &b] {
            assert_eq!((end.principal, end.role, end.dialled_by), (PRINCIPAL, role, dialled_by));
            assert_eq!((end.relay, end.version, end.suite), (path(3), 1, 1));
        }
        let now = Instant::now();
        for (from, to) in [(&mut a.sealer, &mut b.opener), (&mut b.sealer, &mut a.opener)] {
            let (mut outbox, mut inbox) = (Outbox::new(1 << 20), Inbox::new());
            outbox.frame(&Frame::Ping { token: 5 }).unwrap();
            from.seal(now, &mut outbox).unwrap();
            inbox.extend(outbox.wire());
            let frames: Vec<_> = to.next_record(&mut inbox).unwrap().unwrap().collect();
            assert_eq!(frames, [Ok(Frame::Ping { token: 5 })]);
        }
    }
}

#[test]
fn finish_travels_with_the_first_records() {
    let now = Instant::now();
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let good = Attempt::good(Role::Client, DialledBy::Principal);
    let (mut out, mut back) = (Outbox::new(1 << 20), Outbox::new(1 << 20));
    let (mut at_dialer, mut at_responder) = (Inbox::new(), Inbox::new());
    let mut dialer = Dialer::new(now, good.dial, good.key, &mut rng, &mut out);
    let mut responder = Responder::new(now, path(3), DialledBy::Principal, HopLimits::default());
    at_responder.extend(out.wire());
    out.consume(usize::MAX / 2);
    assert!(responder.handle(now, &mut at_responder, &mut back, &good.known, &mut rng).unwrap().is_none());
    at_dialer.extend(back.wire());
    let mut end = dialer.handle(now, &mut at_dialer, &mut out).unwrap().unwrap();
    out.frame(&Frame::Ping { token: 9 }).unwrap();
    end.sealer.seal(now, &mut out).unwrap();
    at_responder.extend(out.wire());
    let mut other =
        responder.handle(now, &mut at_responder, &mut back, &good.known, &mut rng).unwrap().unwrap();
    assert_eq!(other.opener.next_record(&mut at_responder).unwrap().unwrap().count(), 1);
}

#[test]
fn whoever_lacks_the_key_for_this_relay_and_role_gets_the_same_answer() {
    let good = || Attempt::good(Role::Client, DialledBy::Principal);
    let wrong_number =
        Attempt { key: ImportedKey::new(&number(8), PRINCIPAL, path(3), Role::Client), ..good() };
    wrong_number.run(|_, _| ()).refused("wrong authenticity number");

    let mut unknown = good();
    unknown.dial.principal.serial += 1;
    unknown.run(|_, _| ()).refused("unknown principal");

    let server_file =
        Attempt { key: ImportedKey::new(&number(7), PRINCIPAL, path(3), Role::Server), ..good() };
    server_file.run(|_, _| ()).refused("a server's key under role client");

    let mut swapped = Attempt::good(Role::Server, DialledBy::Principal);
    swapped.known = Known(Role::Client, path(3));
    swapped.run(|_, _| ()).refused("role server, known as client");

    let mut other_relay = good();
    other_relay.dial.relay = path(4);
    other_relay.key = ImportedKey::new(&number(7), PRINCIPAL, path(4), Role::Client);
    other_relay.run(|_, _| ()).refused("meant for another relay");

    let posing = Attempt { port: path(5), known: Known(Role::Client, path(5)), ..good() };
    posing.run(|_, _| ()).refused("a relay that poses as another one");

    let direction = Attempt { expected: DialledBy::Relay, ..good() };
    direction.run(|_, _| ()).refused("dialled in the wrong direction");
}

#[test]
fn every_flipped_bit_of_every_message_is_refused() {
    let mut lengths = [0; 3];
    Attempt::good(Role::Client, DialledBy::Principal).run(|i, bytes| lengths[i] = bytes.len());
    assert_eq!(lengths, [32 + 4 + 2 + 1 + 24 + 32, ACCEPT, FINISH]);
    for (message, len) in lengths.into_iter().enumerate() {
        for bit in 0..len * 8 {
            crate::crypto::nonce_audit::forget();
            let outcome = Attempt::good(Role::Client, DialledBy::Principal).run(|i, bytes| {
                if i == message {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            });
            assert!(outcome.responder.is_none(), "message {message} bit {bit}");
            assert!(message == 2 || outcome.dialer.is_none(), "message {message} bit {bit}");
        }
    }
}

#[test]
fn offers_and_choices_cannot_be_edited_on_the_way() {
    // A version or suite that is added or replaced by someone without the key breaks the binder.
    for edit in [(35, 9u8), (38, 9)] {
        let outcome = Attempt::good(Role::Client, DialledBy::Principal).run(|i, bytes| {
            if i == 0 {
                bytes[edit.0] = edit.1;
            }
        });
        assert!(outcome.responder.is_none() && outcome.dialer.is_none());
    }
    // A peer with the key that offers nothing known is refused, not served with something else.
    let now = Instant::now();
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let key = ImportedKey::new(&number(7), PRINCIPAL, path(3), Role::Client);
    for (versions, suites) in [(vec![2, 3], vec![1]), (vec![1], vec![0, 2])] {
        let mut hello = Hello {
            relay: path(3),
            principal: PRINCIPAL,
            role: Role::Client,
            dialled_by: DialledBy::Principal,
            versions,
            suites,
            nonce: [1; 32],
        }
        .encode();
        let binder = key.binder(&hello);
        hello.extend_from_slice(&binder);
        let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(1 << 20));
        inbox.extend(&hello);
        let mut responder = Responder::new(now, path(3), DialledBy::Principal, HopLimits::default());
        let known = Known(Role::Client, path(3));
        let error = responder.handle(now, &mut inbox, &mut outbox, &known, &mut rng).unwrap_err();
        assert_eq!(error, HandshakeError::Incompatible);
        assert_eq!(outbox.wire(), REJECT);
    }
}

#[test]
fn a_replayed_hello_gets_an_answer_that_nobody_can_use() {
    let now = Instant::now();
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let good = Attempt::good(Role::Client, DialledBy::Principal);
    let mut out = Outbox::new(1 << 20);
    let mut dialer = Dialer::new(now, good.dial, good.key, &mut rng, &mut out);
    let hello = out.wire().to_vec();
    out.consume(hello.len());
    let mut answers = Vec::new();
    let mut finish = Vec::new();
    for replay in 0..3 {
        let (mut inbox, mut back) = (Inbox::new(), Outbox::new(1 << 20));
        let mut responder = Responder::new(now, path(3), DialledBy::Principal, HopLimits::default());
        inbox.extend(&hello);
        assert!(responder.handle(now, &mut inbox, &mut back, &good.known, &mut rng).unwrap().is_none());
        answers.push(back.wire().to_vec());
        if replay == 0 {
            let mut at_dialer = Inbox::new();
            at_dialer.extend(back.wire());
            dialer.handle(now, &mut at_dialer, &mut out).unwrap().unwrap();
            finish = out.wire().to_vec();
        } else {
            inbox.extend(&finish);
            let error = responder.handle(now, &mut inbox, &mut back, &good.known, &mut rng).unwrap_err();
            assert_eq!(error, HandshakeError::NotAuthentic, "the recorded FINISH is for another nonce");
        }
    }
    assert!(answers[0] != answers[1] && answers[1] != answers[2]);
}

#[test]
fn the_deadline_is_for_the_whole_handshake() {
    let now = Instant::now();
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let good = Attempt::good(Role::Client, DialledBy::Principal);
    let mut out = Outbox::new(1 << 20);
    let mut dialer = Dialer::new(now, good.dial, good.key, &mut rng, &mut out);
    let mut responder = Responder::new(now, path(3), DialledBy::Principal, HopLimits::default());
    let (mut inbox, mut back) = (Inbox::new(), Outbox::new(1 << 20));
    // One byte a second: each of them in time, the message not.
    for (i, byte) in out.wire().to_vec().into_iter().enumerate() {
        let at = now + Duration::from_secs(i as u64);
        inbox.extend(&[byte]);
        let result = responder.handle(at, &mut inbox, &mut back, &good.known, &mut rng);
        if at < now + HANDSHAKE_TIMEOUT {
            assert!(matches!(result, Ok(None)), "{i}");
        } else {
            assert_eq!(result.unwrap_err(), HandshakeError::TimedOut);
            break;
        }
    }
    assert_eq!(responder.poll_timeout(), None);
    assert_eq!(dialer.poll_timeout(), Some(now + HANDSHAKE_TIMEOUT));
    assert_eq!(dialer.handle_timeout(now + HANDSHAKE_TIMEOUT), Err(HandshakeError::TimedOut));
    assert_eq!(dialer.handle_timeout(now), Err(HandshakeError::Over));
}

#[test]
fn lengths_are_capped_before_their_bytes_are_awaited() {
    let now = Instant::now();
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let good = Attempt::good(Role::Client, DialledBy::Principal);
    let mut out = Outbox::new(1 << 20);
    let _ = Dialer::new(now, good.dial, good.key, &mut rng, &mut out);
    let mut header = out.wire()[..32].to_vec();
    header[22..24].copy_from_slice(&(MAX_HELLO as u16 - 31).to_be_bytes());
    let (mut inbox, mut back) = (Inbox::new(), Outbox::new(1 << 20));
    inbox.extend(&header);
    let mut responder = Responder::new(now, path(3), DialledBy::Principal, HopLimits::default());
    let error = responder.handle(now, &mut inbox, &mut back, &good.known, &mut rng).unwrap_err();
    assert_eq!(error, Malformed::TooLong { field: "HELLO", len: MAX_HELLO + 1, max: MAX_HELLO }.into());
    assert_eq!(back.wire(), REJECT);
}

#[test]
fn debug_shows_no_key() {
    let good = Attempt::good(Role::Client, DialledBy::Principal);
    let dialer = Dialer::new(
        Instant::now(),
        good.dial,
        good.key,
        &mut ChaCha20Rng::seed_from_u64(7),
        &mut Outbox::new(0),
    );
    let text = format!("{dialer:?}");
    assert!(text.contains("1042") && !text.contains("key") && text.ends_with(".. }"), "{text}");
}

proptest! {
    #[test]
    fn hellos_round_trip(
        relay in 0u8..25,
        network: u16, denomination: i8, serial: u32, server: bool, by_relay: bool, nonce: [u8; 32],
        versions in proptest::collection::vec(any::<u16>(), 1..=MAX_OFFERS),
        suites in proptest::collection::vec(any::<u8>(), 1..=MAX_OFFERS),
        binder: [u8; 32],
    ) {
        let hello = Hello {
            relay: path(relay),
            principal: Principal { network, denomination, serial },
            role: if server { Role::Server } else { Role::Client },
            dialled_by: if by_relay { DialledBy::Relay } else { DialledBy::Principal },
            versions, suites, nonce,
        };
        let mut wire = hello.encode();
        wire.extend_from_slice(&binder);
        prop_assert_eq!(Hello::wire_len(&wire), Ok(Some(wire.len())));
        prop_assert_eq!(Hello::decode(&wire), Ok((hello, binder)));
        prop_assert!(wire.len() <= MAX_HELLO);
    }

    #[test]
    fn accepts_round_trip(version: u16, suite: u8, nonce: [u8; 32], mac: [u8; 32]) {
        let accept = Accept { version, suite, nonce };
        let wire = [&accept.encode()[..], &mac].concat();
        prop_assert_eq!(Accept::decode(wire.first_chunk().unwrap()), Ok((accept, mac)));
    }

    #[test]
    fn any_bytes_at_either_side_never_panic_and_never_authenticate(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), like: bool) {
        let now = Instant::now();
        let mut rng = ChaCha20Rng::seed_from_u64(8);
        let good = Attempt::good(Role::Client, DialledBy::Principal);
        let (mut out, mut back) = (Outbox::new(1 << 20), Outbox::new(1 << 20));
        let mut dialer = Dialer::new(now, good.dial, good.key, &mut rng, &mut out);
        if like {
            // A true header in front, so that the body is what is looked at.
            let mut framed = out.wire()[..32].to_vec();
            framed[22..24].copy_from_slice(&(bytes.len() as u16).to_be_bytes());
            framed.append(&mut bytes);
            bytes = framed;
        }
        let _ = Hello::decode(&bytes);
        if let Some(bytes) = bytes.first_chunk() {
            let _ = Accept::decode(bytes);
        }
        if let Some(bytes) = bytes.first_chunk() {
            let _ = decode_finish(bytes);
        }
        let mut inbox = Inbox::new();
        inbox.extend(&bytes);
        let mut responder = Responder::new(now, path(3), DialledBy::Principal, HopLimits::default());
        prop_assert!(!matches!(responder.handle(now, &mut inbox, &mut back, &good.known, &mut rng), Ok(Some(_))));
        let mut inbox = Inbox::new();
        inbox.extend(&bytes);
        if let Some(kind) = bytes.first() && *kind % 2 == 0 {
            inbox = Inbox::new();
            bytes[0] = KIND_ACCEPT;
            inbox.extend(&bytes);
        }
        prop_assert!(!matches!(dialer.handle(now, &mut inbox, &mut out), Ok(Some(_))));
    }
}
