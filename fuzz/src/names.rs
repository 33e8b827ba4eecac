//! Names: their messages, what a relay answers in the language of the DNS, and its registry under any order of requests.

use crate::Input;
use qsocket_proto::frame::MAX_CALL;
use qsocket_proto::ids::Principal;
use qsocket_proto::names::{
    Description, MAX_RECORD, Membership, Name, PutName, Record, Reference, RenewName, Standing, State,
    decode_name, encode_name,
};
use raida_relay::names::{Question, Reading, Registry, Rows, Terms};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Records, requests, results, memberships and names as people write them.
pub fn messages(data: &[u8]) {
    if let Ok(record) = Record::decode(data) {
        assert!(data.len() <= MAX_RECORD && record.check().is_ok());
        assert_eq!(record.encode(), data);
        let membership = record.membership();
        assert_eq!(membership.to_string().parse(), Ok(membership));
    }
    if let Ok(put) = PutName::decode(data) {
        assert_eq!(put.encode(), data);
    }
    if let Ok(renew) = RenewName::decode(data) {
        assert_eq!(renew.encode(), data);
    }
    if let Ok(standing) = Standing::decode(data) {
        assert_eq!(standing.encode(), data);
    }
    if let Ok(description) = Description::decode(data) {
        assert_eq!(description.encode(), data);
    }
    if let Ok(name) = decode_name(data) {
        assert_eq!(encode_name(&name), data);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = Name::parse(text) {
        assert_eq!(Name::from_label(name.label().as_bytes()), Ok(name.clone()));
        assert_eq!(Name::parse(&name.unicode()), Ok(name));
    }
    if let Ok(membership) = text.parse::<Membership>() {
        assert_eq!(membership.to_string(), text);
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text.to_ascii_lowercase());
    }
}

/// A message of the DNS, answered by a relay that has no such name and by one that has a name with everything.
pub fn dns(data: &[u8]) {
    let bounded = |answer: &[u8]| {
        // The same question, and it says that it is an answer.
        assert!((12..=MAX_CALL).contains(&answer.len()));
        assert_eq!(answer[..2], data[..2]);
        assert_eq!(answer[2] & 0x80, 0x80);
    };
    match Question::read(data) {
        Reading::NoMessage => assert!(data.len() < 12),
        Reading::Answer(answer) => bounded(&answer),
        Reading::Question(question) => {
            bounded(&question.answer(None));
            bounded(&question.answer(Some(&whole())));
        }
    }
}

fn whole() -> Record {
    let at = "[2001:db8::7]:443".parse().expect("an address");
    Record {
        server: Some(who(1)),
        service: Some(at),
        signalling: std::num::NonZeroU16::new(8443),
        endpoints: qsocket_proto::ids::PathId::all().map(|path| (path, at)).collect(),
        ..record(0, 1, who(0), 1, 1_800_000_000)
    }
}

fn who(n: u8) -> Principal {
    Principal { network: 1, denomination: 0, serial: u32::from(n % 3) + 1 }
}

fn record(name: u8, number: u8, owner: Principal, version: u8, begin: u64) -> Record {
    const NAMES: [&str; 4] = ["cloudcoin", "xn--bcher-kva", "third", "reserved"];
    Record {
        name: Name::from_label(NAMES[usize::from(name) % NAMES.len()].as_bytes()).expect("a name"),
        number: NonZeroU32::MIN.saturating_add(u32::from(number % 4)),
        owner,
        version: NonZeroU32::MIN.saturating_add(u32::from(version % 4)),
        begin,
        ttl: 60,
        server: None,
        service: None,
        signalling: None,
        endpoints: BTreeMap::new(),
    }
}

/// The registry in memory never waits.
fn done<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("memory waits for nothing"),
    }
}

/// Three principals and an operator at one relay, while years pass: whatever they say, a number is one name's, quotas
/// hold, what resolves is confirmed, and a stranger changes nothing.
pub fn registry(data: &[u8]) {
    const YEARS: u64 = 365 * 24 * 3600;
    let mut input = Input::new(data);
    let terms = Terms {
        names_per_owner: 2,
        payments_per_owner: 3,
        reserved: [Name::from_label(b"reserved").expect("a name")].into(),
        ..Terms::default()
    };
    let registry = Registry::new(Arc::new(raida_relay::names::MemoryNames::default()), terms.clone());
    let begin = registry.now();
    let mut ahead = 0;
    for _ in 0..64 {
        let (verb, caller, name, reference) =
            (input.u8(), who(input.u8()), input.u8(), Reference([input.u8() % 8; 16]));
        let (number, owner, version) = (input.u8(), who(input.u8()), input.u8());
        let before = done(registry.list()).expect("memory does not fail");
        let said = record(name, number, owner, version, begin);
        let years = version % 3 + 1;
        match verb % 8 {
            0..=2 => {
                let put = PutName { record: said.clone(), years, reference };
                let _ =
                    done(registry.put(caller, &put, |who| who.serial != 3)).expect("memory does not fail");
            }
            3 => {
                let renew = RenewName { name: said.name.clone(), years, reference };
                let _ = done(registry.renew(caller, &renew)).expect("memory does not fail");
            }
            4 => {
                let _ = done(registry.withdraw(Some(caller), &said.name)).expect("memory does not fail");
            }
            5 => {
                let _ = done(registry.confirm(reference, "operator")).expect("memory does not fail");
            }
            6 => {
                let _ = done(registry.refuse(reference, "operator")).expect("memory does not fail");
            }
            _ => {
                ahead += u64::from(number) * YEARS / 100;
                registry.set_ahead(Duration::from_secs(ahead));
            }
        }
        let after = done(registry.list()).expect("memory does not fail");
        let numbers: BTreeSet<_> = after.iter().map(|entry| entry.held.record.number).collect();
        assert_eq!(numbers.len(), after.len(), "a number is one name's");
        for owner in [0, 1, 2].map(who) {
            let held = after.iter().filter(|entry| entry.held.record.owner == owner).count();
            assert!(held <= terms.names_per_owner as usize, "names of one principal");
        }
        for entry in &after {
            let found = done(registry.resolve(&entry.held.record.name)).expect("memory does not fail");
            assert_eq!(found.is_some(), entry.state == State::Active);
            assert!(found.is_none() || entry.held.years > 0, "what is not confirmed does not resolve");
        }
        // Requests change what is the caller's and nothing else.
        if verb % 8 <= 4 {
            for entry in before.iter().filter(|entry| entry.held.record.owner != caller) {
                assert!(after.contains(entry), "a stranger changes nothing");
            }
        }
        let ledger = done(registry.ledger(Rows::All)).expect("memory does not fail");
        assert!(ledger.len() <= 8, "there are eight references");
    }
}
