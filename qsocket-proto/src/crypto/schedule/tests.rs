use super::hop::{AuthenticityNumber, HopTranscript, ImportedKey, TrafficSecret};
use super::*;
use crate::codec::Reader;
use crate::crypto::hkdf::MacKey;
use crate::ids::{PathId, RELAYS, Role};
use serde_json::Value;
use std::collections::BTreeSet;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../vectors/schedule.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn secret(value: &Value) -> Secret<32> {
    Secret::new(array(value))
}

/// A key shows nothing of itself, so it is compared by what it seals.
fn assert_key_iv(ours: &KeyAndIv, expected: &Value) {
    let iv = ours.iv.xor_number(0);
    assert_eq!(iv, array(&expected["iv"]));
    let seal = |key: &Key| {
        let mut buf = *b"a known plaintext";
        (key.seal_in_place(iv, b"data", &mut buf), buf)
    };
    assert_eq!(seal(&ours.key), seal(&Key::new(&secret(&expected["key"]))));
}

fn assert_phase(number: u32, ours: &PhaseKeys, expected: &Value) {
    assert_eq!(ours.phase, number);
    assert_key_iv(&ours.stripe, &expected["stripe"]);
    assert_key_iv(&ours.control, &expected["control"]);
}

#[test]
fn connections_match_the_known_answers() {
    let vectors = vectors();
    let cases = vectors["connections"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for v in cases {
        let input = &v["in"];
        let (before, after) = (bytes(&input["before"]), bytes(&input["after"]));
        let nonce = array(&input["server_nonce"]);
        let hh = HeaderHash::of(&before, &after);
        assert_eq!(hh.0, array(&v["hh"]));
        let early = || Root::recovered(secret(&input["k"])).early(hh);
        assert!(early().e0.ct_eq(&secret(&v["e0"])));
        assert_key_iv(&early().refuse_key(&nonce), &v["refuse"]);
        let principal = |v: &Value| Principal::decode(&mut Reader::new(&bytes(v))).unwrap();
        let (poster, receiver) = (principal(&input["poster"]), principal(&input["receiver"]));
        let stored = early().stored(poster, receiver, KeyId(array(&input["key_id"])));
        assert_eq!(*stored.expose(), array(&v["stored"]));

        let key = bytes(&input["encryption_key"]);
        let key = (!key.is_empty()).then(|| EncryptionKey::import(&key).unwrap());
        let keyed = early().mix(key.as_ref());
        assert!(keyed.e1.ct_eq(&secret(&v["e1"])));
        let commitment = keyed.commitment();
        assert_eq!(commitment, array(&v["commitment"]));
        assert!(keyed.verify_commitment(&commitment));
        assert_phase(0, &keyed.client_zero(), &v["client_0"]);
        assert_key_iv(&keyed.reply_key(&nonce), &v["reply"]);

        let kem = (input["kem"] != "").then(|| secret(&input["kem"]));
        let master = keyed.master(kem.as_ref());
        assert!(master.0.ct_eq(&secret(&v["m"])));
        let header = [&before[..], &commitment, &after].concat();
        let th = TranscriptHash::of(&header, &bytes(&input["hello"]), &nonce, &bytes(&input["reply"]));
        assert_eq!(th.0, array(&v["th"]));
        let PhaseOne { client, server } = master.phase_one(th);
        for (mut phase, names) in
            [(client, &["client_1", "client_2", "client_3"][..]), (server, &["server_1", "server_2"])]
        {
            for (number, name) in (1..).zip(names) {
                assert_eq!(phase.number(), number);
                assert!(phase.secret.ct_eq(&secret(&v[name]["secret"])), "{name}");
                assert_phase(number, &phase.keys(), &v[name]);
                phase = phase.next().unwrap();
            }
        }
    }
}

#[test]
fn hops_match_the_known_answers() {
    let vectors = vectors();
    for v in vectors["hops"].as_array().unwrap() {
        let input = &v["in"];
        let number = AuthenticityNumber::new(&bytes(&input["number"])).unwrap();
        assert_eq!(usize::from(number.bits()), 8 * bytes(&input["number"]).len());
        let principal = Principal::decode(&mut Reader::new(&bytes(&input["principal"]))).unwrap();
        let [relay] = array(&input["relay"]);
        let role = Role::decode(&mut Reader::new(&bytes(&input["role"]))).unwrap();
        let p = ImportedKey::new(&number, principal, PathId::new(relay).unwrap(), role);
        assert!(p.secret().ct_eq(&secret(&v["p"])));
        let hello = bytes(&input["hello"]);
        let binder = p.binder(&hello);
        assert_eq!(binder, array(&v["binder"]));
        assert!(p.verify_binder(&hello, &binder));
        assert!(!p.verify_binder(b"another hello", &binder));
        let keys = p.hop(HopTranscript::of(&hello, &bytes(&input["accept"])));
        let message = bytes(&input["message"]);
        let finished = |key: &MacKey| key.tag(&[&message]);
        assert_eq!(finished(&keys.initiator_finished), array(&v["initiator_finished"]));
        assert_eq!(finished(&keys.responder_finished), array(&v["responder_finished"]));
        let check = |ours: &TrafficSecret, expected: &Value| {
            assert!(ours.secret().ct_eq(&secret(&expected["secret"])));
            assert_key_iv(&ours.keys(), expected);
        };
        check(&keys.initiator, &v["initiator"]);
        check(&keys.responder, &v["responder"]);
        check(&keys.initiator.next(), &v["initiator_rekeyed"]);
    }
}

fn header() -> HeaderHash {
    HeaderHash::of(b"before", b"after")
}

#[test]
fn every_input_enters_the_commitment() {
    let (a, b) = (EncryptionKey::import(&[1; 32]).unwrap(), EncryptionKey::import(&[2; 32]).unwrap());
    let mut seen = BTreeSet::new();
    for k in [1, 2] {
        for hh in [header(), HeaderHash::of(b"before", b"After"), HeaderHash::of(b"beforea", b"fter")] {
            for key in [None, Some(&a), Some(&b)] {
                let keyed = Root::recovered(Secret::new([k; 32])).early(hh).mix(key);
                assert!(seen.iter().all(|c| !keyed.verify_commitment(c)));
                assert!(seen.insert(keyed.commitment()));
            }
        }
    }
    assert_eq!(seen.len(), 18);
}

/// Requirement: imported keys differ over network, denomination, serial number, relay, role and number.
#[test]
fn an_import_is_bound_to_all_of_its_context() {
    let numbers = [&[1; 16][..], &[1; 32], &[2; 16]].map(|b| AuthenticityNumber::new(b).unwrap());
    let mut seen = BTreeSet::new();
    for number in &numbers {
        for (network, denomination, serial) in [(1, 0, 1), (2, 0, 1), (1, 1, 1), (1, 0, 2)] {
            for relay in PathId::all() {
                for role in [Role::Client, Role::Server] {
                    let who = Principal { network, denomination, serial };
                    assert!(seen.insert(*ImportedKey::new(number, who, relay, role).secret().expose()));
                }
            }
        }
    }
    assert_eq!(seen.len(), 3 * 4 * RELAYS * 2);
}

#[test]
fn transcripts_cannot_shift_bytes_between_messages() {
    assert_ne!(HopTranscript::of(b"ab", b"c"), HopTranscript::of(b"a", b"bc"));
    let th = |header: &[u8], hello: &[u8], reply: &[u8]| TranscriptHash::of(header, hello, &[0; 32], reply);
    assert_ne!(th(b"ab", b"c", b""), th(b"a", b"bc", b""));
    assert_ne!(th(b"a", b"", b""), th(b"", b"a", b""));
    assert_ne!(th(b"", b"", b"a"), th(b"", b"a", b""));
}

#[test]
fn phase_numbers_end_instead_of_wrapping() {
    let last = PhaseSecret { number: u32::MAX, secret: Secret::new([1; 32]) };
    assert!(last.next().is_none());
}

#[test]
fn damaged_secrets_are_not_imported() {
    for len in [0, 1, 15, 17, 31, 33, 64] {
        let bytes = vec![1; len];
        assert!(matches!(AuthenticityNumber::new(&bytes), Err(BadSecret::Length { len: l, .. }) if l == len));
        assert!(matches!(EncryptionKey::import(&bytes), Err(BadSecret::Length { len: l, .. }) if l == len));
    }
    assert_eq!(EncryptionKey::import(&[1; 16]).unwrap_err(), BadSecret::Length { len: 16, expected: "32" });
    assert_eq!(EncryptionKey::import(&[0; 32]).unwrap_err(), BadSecret::Zero);
    assert_eq!(AuthenticityNumber::new(&[0; 16]).unwrap_err(), BadSecret::Zero);
    assert_eq!(AuthenticityNumber::new(&[0; 32]).unwrap_err(), BadSecret::Zero);
}

#[test]
fn debug_shows_no_secret() {
    let early = Root::recovered(Secret::new([0xab; 32])).early(header());
    let number = AuthenticityNumber::new(&[0xab; 16]).unwrap();
    let shown =
        format!("{:?} {number:?} {:?}", early, PhaseSecret { number: 1, secret: Secret::new([0xab; 32]) });
    assert!(!shown.contains("171") && !shown.contains("ab, ab") && shown.contains("(..)"), "{shown}");
}
