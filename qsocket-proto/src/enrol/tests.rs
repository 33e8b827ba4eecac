use super::*;
use crate::codec::Reader;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::Value;

const P: Principal = Principal { network: 1, denomination: 0, serial: 1042 };

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

fn relay(n: u8) -> PathId {
    PathId::new(n).unwrap()
}

fn request(n: u8) -> Request {
    Request::new(P, Role::Client, relay(n), &mut rng(n))
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn numbers_and_confirmations_match_the_known_answers() {
    let vectors: Value = serde_json::from_str(include_str!("../../../vectors/enrol.json")).unwrap();
    assert_eq!(vectors.as_array().unwrap().len(), 4);
    for v in vectors.as_array().unwrap() {
        let subject = Subject {
            principal: Principal::decode(&mut Reader::new(&bytes(&v["principal"]))).unwrap(),
            role: if v["role"] == 1 { Role::Client } else { Role::Server },
            relay: relay(v["relay"].as_u64().unwrap() as u8),
            id: RequestId(bytes(&v["id"]).try_into().unwrap()),
        };
        let half = |name| Half::new(&bytes(&v[name])).unwrap();
        let (number, confirmation) = combine(subject, &half("half"), &half("relay_half"));
        assert_eq!(number.expose(), bytes(&v["number"]));
        assert_eq!(confirmation.0[..], bytes(&v["confirmation"]));
        let request = Request { subject, half: half("half") };
        let finished = request.finish(&Answer { subject, half: half("relay_half"), confirmation }).unwrap();
        assert_eq!(finished.expose(), number.expose());
    }
}

#[test]
fn both_sides_get_one_number_of_256_bits() {
    let request = request(7);
    let (answer, kept) = request.answer(&mut rng(99));
    let number = request.finish(&answer).unwrap();
    assert_eq!(number.expose(), kept.expose());
    assert_eq!(number.bits(), 256);
    let (_, again) = request.answer(&mut rng(98));
    assert_ne!(again.expose(), kept.expose(), "the relay's half counts");
}

#[test]
fn everything_that_a_request_says_enters_the_number() {
    let (a, b) = (Half::new(&[1; 32]).unwrap(), Half::new(&[2; 32]).unwrap());
    let base = request(7).subject;
    let other = |change: fn(&mut Subject)| {
        let mut subject = base;
        change(&mut subject);
        subject
    };
    let subjects = [
        base,
        other(|s| s.principal.network = 2),
        other(|s| s.principal.denomination = 1),
        other(|s| s.principal.serial = 7),
        other(|s| s.role = Role::Server),
        other(|s| s.relay = relay(8)),
        other(|s| s.id.0[15] ^= 1),
    ];
    let mut seen = Vec::new();
    for subject in subjects {
        for (mine, theirs) in [(&a, &b), (&b, &a), (&a, &a)] {
            let (number, confirmation) = combine(subject, mine, theirs);
            for (n, c) in &seen {
                assert!(*n != number.expose() && *c != confirmation.0, "{subject:?}");
            }
            seen.push((number.expose().to_vec(), confirmation.0));
        }
    }
}

/// The attack: relay 3's answer handed in as relay 4's, under both headings.
#[test]
fn swapped_answers_do_not_fit() {
    let (three, four) = (request(3), request(4));
    let (answer, _) = three.answer(&mut rng(50));
    let e = Mismatch::Relay { asked: relay(4), got: relay(3) };
    assert_eq!(four.finish(&answer).unwrap_err(), e);
    let renamed = Answer { subject: four.subject, ..answer };
    assert_eq!(four.finish(&renamed).unwrap_err(), Mismatch::Confirmation);
}

/// The attack: an answer to an earlier request of the same principal at the same relay, whose number is perhaps known.
#[test]
fn a_replayed_answer_does_not_fit() {
    let (old, new) = (request(3), Request::new(P, Role::Client, relay(3), &mut rng(200)));
    let (answer, _) = old.answer(&mut rng(50));
    assert_eq!(
        new.finish(&answer).unwrap_err(),
        Mismatch::Request { asked: new.subject.id, got: old.subject.id }
    );
    let renamed = Answer { subject: new.subject, ..answer };
    assert_eq!(new.finish(&renamed).unwrap_err(), Mismatch::Confirmation);
}

/// The attack: one bit changed on the way, in either half or in the confirmation.
#[test]
fn tampered_halves_do_not_fit() {
    let request = request(3);
    let (answer, _) = request.answer(&mut rng(50));
    for bit in [0, 100, 255] {
        let flip = |bytes: &[u8; 32]| {
            let mut bytes = *bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        let there =
            Request { subject: request.subject, half: Half::new(&flip(request.half.expose())).unwrap() };
        let (other, _) = there.answer(&mut rng(50));
        assert_eq!(request.finish(&other).unwrap_err(), Mismatch::Confirmation);

        let half = Half::new(&flip(answer.half.expose())).unwrap();
        let back = Answer { subject: answer.subject, half, confirmation: answer.confirmation };
        assert_eq!(request.finish(&back).unwrap_err(), Mismatch::Confirmation);

        let half = Half::new(answer.half.expose()).unwrap();
        let confirmation = Confirmation(flip(&answer.confirmation.0));
        let back = Answer { subject: answer.subject, half, confirmation };
        assert_eq!(request.finish(&back).unwrap_err(), Mismatch::Confirmation);
    }
}

/// The attack: a server's request shown to the relay as a client's, so that one number would serve both roles.
#[test]
fn roles_and_principals_are_not_confused() {
    let request = request(3);
    let mut subject = request.subject;
    subject.role = Role::Server;
    let there = Request { subject, half: Half::new(request.half.expose()).unwrap() };
    let (answer, kept) = there.answer(&mut rng(50));
    assert_eq!(request.finish(&answer).unwrap_err(), Mismatch::Principal { asked: P, got: P });
    let renamed = Answer { subject: request.subject, ..answer };
    assert_eq!(request.finish(&renamed).unwrap_err(), Mismatch::Confirmation);
    let (_, wanted) = request.answer(&mut rng(50));
    assert_ne!(kept.expose(), wanted.expose());

    let mut subject = request.subject;
    subject.principal.network = 2;
    let (answer, _) = Request { subject, half: Half::new(&[1; 32]).unwrap() }.answer(&mut rng(1));
    assert!(matches!(request.finish(&answer), Err(Mismatch::Principal { .. })));
}

#[test]
fn halves_are_32_bytes_and_not_zero() {
    assert_eq!(Half::new(&[0; 32]).unwrap_err(), BadSecret::Zero);
    for len in [0, 16, 31, 33] {
        assert_eq!(Half::new(&vec![1; len]).unwrap_err(), BadSecret::Length { len, expected: "32" });
    }
}

#[test]
fn debug_shows_no_half() {
    let half = || Half::new(&[0xab; 32]).unwrap();
    let request = Request { subject: request(0).subject, half: half() };
    let answer = Answer { subject: request.subject, half: half(), confirmation: Confirmation([0; 32]) };
    let shown = format!("{request:?} {answer:?}");
    assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
}
