//! What principals may ask a relay about names, over real hops.

use super::calls::Scene;
use super::peer::{Got, Peer};
use crate::names::{NAMES_PER_OWNER, PAYMENTS_PER_OWNER};
use crate::{Limits, LocalRaida, LocalServer};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name as DnsName, RecordType};
use qsocket_proto::call::{Service, Status};
use qsocket_proto::frame::{Frame, MAX_CALL};
use qsocket_proto::ids::{PathId, Principal, RELAYS};
use qsocket_proto::names::{
    Description, Name, PutName, Record, Reference, RenewName, Standing, State, encode_name,
};
use qsocket_proto::raida_key::RaidaKey;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

fn name(label: &str) -> Name {
    Name::parse(label).unwrap()
}

fn put(label: &str, number: u32, owner: Principal, begin: u64) -> PutName {
    let record = Record {
        name: name(label),
        number: NonZeroU32::new(number).unwrap(),
        owner,
        version: NonZeroU32::MIN,
        begin,
        ttl: 300,
        server: None,
        service: Some("192.0.2.7:443".parse().unwrap()),
        signalling: None,
        endpoints: BTreeMap::new(),
    };
    PutName { record, years: 1, reference: Reference([number as u8; 16]) }
}

fn next(put: &PutName, ttl: u32) -> PutName {
    let version = put.record.version.checked_add(1).unwrap();
    PutName { record: Record { version, ttl, ..put.record.clone() }, ..put.clone() }
}

/// What the relay says of a name in the language of the DNS.
async fn resolve(peer: &mut Peer, text: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let mut message = Message::new(9, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(DnsName::from_ascii(text).unwrap(), kind));
    let (status, answer) = peer.ask(Service::Resolve, &message.to_vec().unwrap()).await;
    assert_eq!(status, Status::Ok);
    let answer = Message::from_vec(&answer).unwrap();
    (answer.response_code, answer.answers.iter().map(|record| record.data.to_string()).collect())
}

async fn describe(peer: &mut Peer, label: &str) -> Description {
    let (status, body) = peer.ask(Service::DescribeName, &encode_name(&name(label))).await;
    assert_eq!(status, Status::Ok);
    Description::decode(&body).unwrap()
}

/// Alice is a client and Bob a server: either role owns names and asks for them.
#[tokio::test]
async fn an_owner_registers_changes_renews_and_withdraws_and_nobody_else_does() {
    let scene = Scene::new(Limits::default()).await;
    let (mut alice, mut mallory, mut bob) = (scene.dial(0).await, scene.dial(1).await, scene.dial(2).await);
    let registry = scene.relay.names();
    let first = put("cloudcoin", 7, scene.who(0), registry.now());
    let (status, body) = alice.ask(Service::PutName, &first.encode()).await;
    assert_eq!((status, Standing::decode(&body).unwrap().state), (Status::Ok, State::Pending));
    let nothing = (ResponseCode::NXDomain, vec![]);
    for peer in [&mut alice, &mut mallory, &mut bob] {
        assert_eq!(resolve(peer, "cloudcoin.raida.", RecordType::A).await, nothing, "nobody has paid");
        assert_eq!(resolve(peer, "7.number.raida.", RecordType::PTR).await, nothing);
        assert_eq!(resolve(peer, "example.com.", RecordType::A).await, (ResponseCode::Refused, vec![]));
    }
    assert!(registry.confirm(first.reference, "operator").await.unwrap().is_ok());
    for peer in [&mut alice, &mut mallory, &mut bob] {
        let found = (ResponseCode::NoError, vec!["192.0.2.7".to_owned()]);
        assert_eq!(resolve(peer, "cloudcoin.raida.", RecordType::A).await, found);
        let found = (ResponseCode::NoError, vec!["cloudcoin.raida.".to_owned()]);
        assert_eq!(resolve(peer, "7.number.raida.", RecordType::PTR).await, found);
    }

    // A stranger: another record, the owner's next one in the owner's name, a transfer to himself, a renewal, the end.
    let second = next(&first, 600);
    let mut mine = second.clone();
    mine.record.owner = scene.who(1);
    for stolen in [&second, &mine] {
        assert_eq!(mallory.status(Service::PutName, &stolen.encode()).await, Status::Exists);
    }
    let renewal = RenewName { name: name("cloudcoin"), years: 1, reference: Reference([9; 16]) };
    assert_eq!(mallory.status(Service::RenewName, &renewal.encode()).await, Status::NotPermitted);
    let encoded = encode_name(&name("cloudcoin"));
    assert_eq!(mallory.status(Service::WithdrawName, &encoded).await, Status::NotPermitted);
    let mut same_number = put("another", 7, scene.who(1), registry.now());
    same_number.reference = Reference([8; 16]);
    assert_eq!(mallory.status(Service::PutName, &same_number.encode()).await, Status::Taken);
    assert_eq!(describe(&mut mallory, "cloudcoin").await.payments, vec![]);
    assert_eq!(describe(&mut alice, "cloudcoin").await.payments.len(), 1);

    // The owner; what was said before is no change, and neither is another thing under the same version.
    assert_eq!(alice.status(Service::PutName, &second.encode()).await, Status::Ok);
    assert_eq!(alice.status(Service::PutName, &second.encode()).await, Status::Ok);
    assert_eq!(alice.status(Service::PutName, &first.encode()).await, Status::Outdated, "a replay");
    let mut other = second.clone();
    other.record.ttl = 601;
    assert_eq!(alice.status(Service::PutName, &other.encode()).await, Status::Outdated);
    assert_eq!(describe(&mut mallory, "cloudcoin").await.record, Some(second.record.clone()));
    assert_eq!(alice.status(Service::RenewName, &renewal.encode()).await, Status::Ok);

    // It goes to the server, whom the relay knows, and to nobody whom it does not.
    let mut away = next(&second, 600);
    away.record.owner = Principal { serial: 99, ..scene.who(0) };
    assert_eq!(alice.status(Service::PutName, &away.encode()).await, Status::NotFound);
    away.record.owner = scene.who(2);
    assert_eq!(alice.status(Service::PutName, &away.encode()).await, Status::Ok);
    assert_eq!(alice.status(Service::WithdrawName, &encoded).await, Status::NotPermitted);
    assert_eq!(bob.ask(Service::WithdrawName, &encoded).await, (Status::Ok, vec![]));
    assert_eq!(bob.status(Service::WithdrawName, &encoded).await, Status::NotFound);
    assert_eq!(resolve(&mut alice, "cloudcoin.raida.", RecordType::A).await, nothing);
    assert_eq!(describe(&mut mallory, "cloudcoin").await.state, State::Free);
}

#[tokio::test]
async fn what_is_no_request_about_names_is_refused_and_the_hop_stays() {
    let scene = Scene::new(Limits::default()).await;
    let mut alice = scene.dial(0).await;
    let services = [Service::PutName, Service::RenewName, Service::WithdrawName, Service::DescribeName];
    for body in [&[][..], &[0; 3], b"\x09Cloudcoin", b"\x05local\0", &[0xff; MAX_CALL]] {
        for service in services {
            assert_eq!(alice.status(service, body).await, Status::Malformed, "{service:?} {body:?}");
        }
    }
    assert_eq!(alice.status(Service::Resolve, &[0; 11]).await, Status::Malformed);
    for body in [&[0; 12][..], &[0xff; MAX_CALL], &[0; MAX_CALL]] {
        let (status, answer) = alice.ask(Service::Resolve, body).await;
        let code = Message::from_vec(&answer).unwrap().response_code;
        assert_eq!((status, code), (Status::Ok, ResponseCode::FormErr));
    }
    for label in ["raida", "number", "localhost"] {
        let reserved = put(label, 7, scene.who(0), scene.relay.names().now());
        assert_eq!(alice.status(Service::PutName, &reserved.encode()).await, Status::NotPermitted);
        assert_eq!(describe(&mut alice, label).await.state, State::Reserved);
    }
    alice.send(Frame::Ping { token: 5 }).await;
    assert_eq!(alice.recv().await, Got::Pong(5));
}

/// A client that registers all it can, gives back and registers again: others have room, and names, and the ledger ends.
#[tokio::test]
async fn a_client_that_uses_up_its_quota_of_names_keeps_out_nobody_else() {
    let scene = Scene::new(Limits::default()).await;
    let (mut alice, mut mallory) = (scene.dial(0).await, scene.dial(1).await);
    let registry = scene.relay.names();
    let most = NAMES_PER_OWNER.min(PAYMENTS_PER_OWNER);
    for n in 1..=most {
        let said = put(&format!("squat-{n}"), n, scene.who(1), registry.now());
        assert_eq!(mallory.status(Service::PutName, &said.encode()).await, Status::Ok);
    }
    for round in 0..10 {
        let said = put(&format!("more-{round}"), 100 + round, scene.who(1), registry.now());
        assert_eq!(mallory.status(Service::PutName, &said.encode()).await, Status::Quota);
        let given = encode_name(&name(&format!("squat-{}", 1 + round)));
        assert_eq!(mallory.status(Service::WithdrawName, &given).await, Status::Ok);
    }
    assert_eq!(registry.ledger(crate::names::Rows::All).await.unwrap().len(), most as usize);
    let said = put("squat-1", 200, scene.who(0), registry.now());
    assert_eq!(alice.status(Service::PutName, &said.encode()).await, Status::Ok);
}

/// All 25 in one process: each has names of its own, and one call confirms a payment at those that wait for it.
#[tokio::test]
async fn payments_are_confirmed_at_all_local_relays_that_wait_for_them() {
    let none = (std::iter::empty::<&RaidaKey>(), std::iter::empty::<LocalServer>());
    let raida = LocalRaida::builder().start_with_keys(none.0, none.1).unwrap();
    let owner = super::principal(1);
    let said = put("cloudcoin", 7, owner, raida.names(PathId::new(0).unwrap()).now());
    for path in PathId::all().skip(1) {
        assert!(raida.names(path).put(owner, &said, |_| false).await.unwrap().is_ok());
    }
    assert_eq!(raida.confirm_payment(Reference([1; 16])).await, 0);
    assert_eq!(raida.confirm_payment(said.reference).await, RELAYS - 1);
    raida.stop_relay(PathId::new(3).unwrap()).await;
    raida.start_relay(PathId::new(3).unwrap()).unwrap();
    for path in PathId::all() {
        let found = raida.names(path).resolve(&said.record.name).await.unwrap();
        assert_eq!(found.is_some(), path.get() != 0, "relay {path}");
    }
    raida.set_names_ahead(std::time::Duration::from_secs(400 * 24 * 3600));
    assert_eq!(raida.names(PathId::new(3).unwrap()).resolve(&said.record.name).await.unwrap(), None);
}
