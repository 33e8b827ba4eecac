//! Messages of the DNS, well-formed and not.

use super::{ALICE, DAY, record};
use crate::names::{MAX_QUESTION, Question, Reading, Subject};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as DnsName, RData, Record as DnsRecord, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use qsocket_proto::frame::MAX_CALL;
use qsocket_proto::ids::{PathId, Principal};
use qsocket_proto::names::{Membership, Name, Record};
use serde_json::Value;
use std::num::NonZeroU16;

fn full() -> Record {
    let endpoint = |path: PathId| {
        let address = if path.get().is_multiple_of(2) { "192.0.2.7:100" } else { "[2001:db8::7]:101" };
        (path, address.parse().unwrap())
    };
    Record {
        server: Some(Principal { serial: 9, ..ALICE }),
        service: Some("192.0.2.1:443".parse().unwrap()),
        signalling: NonZeroU16::new(8443),
        endpoints: PathId::all().filter(|path| path.get() != 4).map(endpoint).collect(),
        ..record("cloudcoin", 305_419_896, ALICE, 3, DAY)
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    // Any bytes may stand in a label, and not only what this library takes for text.
    let labels = name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
    message.add_query(Query::query(DnsName::from_labels(labels).unwrap(), kind));
    message
}

fn reading(message: &Message) -> Reading {
    Question::read(&message.to_vec().unwrap())
}

/// The answer of a relay that has this record and no other.
fn ask_with(record: &Record, message: &Message) -> Message {
    let answer = match reading(message) {
        Reading::NoMessage => panic!("a message has an answer"),
        Reading::Answer(answer) => answer,
        Reading::Question(question) => {
            let found = match question.subject() {
                Subject::Name(name) => *name == record.name,
                Subject::Number(number) => number == record.number,
                Subject::Zone => false,
            };
            question.answer(found.then_some(record))
        }
    };
    assert!(answer.len() <= MAX_CALL);
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!((answer.id, answer.message_type), (message.id, MessageType::Response));
    answer
}

fn ask(name: &str, kind: RecordType) -> Message {
    ask_with(&full(), &query(name, kind))
}

fn data(message: &Message) -> Vec<String> {
    assert_eq!(message.response_code, ResponseCode::NoError);
    assert!(message.authoritative && !message.recursion_available && message.recursion_desired);
    assert!(message.authorities.is_empty());
    assert!(message.answers.iter().all(|answer| answer.ttl == 300));
    message.answers.iter().map(|answer| answer.data.to_string()).collect()
}

/// The code, and that the answer says for how long there is nothing.
fn nothing(message: &Message) -> ResponseCode {
    assert!(message.answers.is_empty() && message.authoritative);
    let [soa] = &message.authorities[..] else { panic!("no SOA") };
    let RData::SOA(data) = &soa.data else { panic!("no SOA") };
    assert_eq!((soa.ttl, data.minimum, soa.name.to_ascii()), (60, 60, "raida.".to_owned()));
    message.response_code
}

#[test]
fn a_name_has_an_address_services_a_membership_and_endpoints() {
    assert_eq!(data(&ask("cloudcoin.raida.", RecordType::A)), ["192.0.2.1"]);
    assert_eq!(data(&ask("CloudCoin.RAIDA.", RecordType::A)), ["192.0.2.1"]);
    let txt = data(&ask("cloudcoin.raida.", RecordType::TXT));
    assert_eq!(txt.len(), 1);
    assert_eq!(txt[0].trim_matches('"').parse::<Membership>(), Ok(full().membership()));
    assert_eq!(data(&ask("_qsocket._tcp.cloudcoin.raida.", RecordType::SRV)), ["0 0 443 cloudcoin.raida."]);
    assert_eq!(data(&ask("_rke._tcp.cloudcoin.raida.", RecordType::SRV)), ["0 0 8443 cloudcoin.raida."]);
    let all = data(&ask("_raida._tcp.cloudcoin.raida.", RecordType::SRV));
    assert_eq!(all.len(), 24);
    assert_eq!(all[0], "0 0 100 r0.cloudcoin.raida.");
    assert_eq!(data(&ask("r0.cloudcoin.raida.", RecordType::A)), ["192.0.2.7"]);
    assert_eq!(data(&ask("r1.cloudcoin.raida.", RecordType::AAAA)), ["2001:db8::7"]);
    assert_eq!(data(&ask("305419896.number.raida.", RecordType::PTR)), ["cloudcoin.raida."]);
    let soa = ask("raida.", RecordType::SOA);
    assert_eq!((soa.answers.len(), soa.answers[0].ttl), (1, 60));
}

#[test]
fn what_is_not_there_is_told_from_what_has_no_such_record() {
    let there = [
        ("cloudcoin.raida.", RecordType::AAAA),
        ("cloudcoin.raida.", RecordType::SRV),
        ("cloudcoin.raida.", RecordType::CNAME),
        ("cloudcoin.raida.", RecordType::Unknown(65_280)),
        ("_tcp.cloudcoin.raida.", RecordType::SRV),
        ("_raida._tcp.cloudcoin.raida.", RecordType::A),
        ("r0.cloudcoin.raida.", RecordType::AAAA),
        ("r0.cloudcoin.raida.", RecordType::TXT),
        ("305419896.number.raida.", RecordType::A),
        ("number.raida.", RecordType::A),
        ("raida.", RecordType::NS),
    ];
    for (name, kind) in there {
        assert_eq!(nothing(&ask(name, kind)), ResponseCode::NoError, "{name} {kind}");
    }
    let gone = [
        "another.raida.",
        "r4.cloudcoin.raida.",
        "r25.cloudcoin.raida.",
        "r00.cloudcoin.raida.",
        "r+1.cloudcoin.raida.",
        "r.cloudcoin.raida.",
        "_udp.cloudcoin.raida.",
        "_raida._udp.cloudcoin.raida.",
        "_other._tcp.cloudcoin.raida.",
        "www.cloudcoin.raida.",
        "a._raida._tcp.cloudcoin.raida.",
        "r0._tcp.cloudcoin.raida.",
        "1.number.raida.",
        "0.number.raida.",
        "0305419896.number.raida.",
        "4294967296.number.raida.",
        "1.305419896.number.raida.",
        "localhost.raida.",
        "xn--a.raida.",
        "über.raida.",
    ];
    for name in gone {
        assert_eq!(nothing(&ask(name, RecordType::A)), ResponseCode::NXDomain, "{name}");
    }
    // A name without a service and endpoints.
    let bare = record("cloudcoin", 1, ALICE, 1, DAY);
    for (name, kind) in [
        ("cloudcoin.raida.", RecordType::A),
        ("_qsocket._tcp.cloudcoin.raida.", RecordType::SRV),
        ("_rke._tcp.cloudcoin.raida.", RecordType::SRV),
        ("_raida._tcp.cloudcoin.raida.", RecordType::SRV),
    ] {
        assert_eq!(nothing(&ask_with(&bare, &query(name, kind))), ResponseCode::NoError, "{name}");
    }
}

#[test]
fn other_domains_and_operations_are_refused() {
    for name in [".", "com.", "example.com.", "raida.com.", "cloudcoin.raidax.", "number."] {
        let answer = ask(name, RecordType::A);
        assert_eq!(answer.response_code, ResponseCode::Refused, "{name}");
        assert!(answer.answers.is_empty() && answer.authorities.is_empty());
    }
    for kind in
        [RecordType::ANY, RecordType::AXFR, RecordType::IXFR, RecordType::OPT, RecordType::Unknown(254)]
    {
        assert_eq!(ask("cloudcoin.raida.", kind).response_code, ResponseCode::Refused, "{kind}");
    }
    let mut chaos = query("cloudcoin.raida.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(ask_with(&full(), &chaos).response_code, ResponseCode::Refused);
    for operation in [OpCode::Status, OpCode::Notify, OpCode::Update] {
        let mut message = query("cloudcoin.raida.", RecordType::SOA);
        message.metadata.op_code = operation;
        assert_eq!(ask_with(&full(), &message).response_code, ResponseCode::NotImp, "{operation}");
    }
}

#[test]
fn messages_that_are_no_questions_are_malformed() {
    let formerr = |message: &[u8]| {
        let Reading::Answer(answer) = Question::read(message) else {
            panic!("{message:?} is answered at once")
        };
        assert_eq!(answer.len(), 12);
        assert_eq!(answer[..2], message[..2]);
        Message::from_vec(&answer).unwrap().response_code
    };
    let good = query("cloudcoin.raida.", RecordType::A);
    let bytes = good.to_vec().unwrap();
    for len in 0..12 {
        assert!(matches!(Question::read(&bytes[..len]), Reading::NoMessage), "{len}");
    }
    for len in 12..bytes.len() {
        assert_eq!(formerr(&bytes[..len]), ResponseCode::FormErr, "{len}");
    }
    assert_eq!(formerr(&[&bytes[..], &[0]].concat()), ResponseCode::FormErr);
    assert_eq!(formerr(&[&bytes[..], &[0; MAX_QUESTION]].concat()), ResponseCode::FormErr);
    // An answer, no question, two of them, a record with it.
    let mut answer = good.clone();
    answer.metadata.message_type = MessageType::Response;
    assert_eq!(formerr(&answer.to_vec().unwrap()), ResponseCode::FormErr);
    let mut none = good.clone();
    none.queries.clear();
    assert_eq!(formerr(&none.to_vec().unwrap()), ResponseCode::FormErr);
    let mut two = good.clone();
    two.add_query(good.queries[0].clone());
    assert_eq!(formerr(&two.to_vec().unwrap()), ResponseCode::FormErr);
    let record = ask("cloudcoin.raida.", RecordType::A).answers.remove(0);
    for section in 0..3 {
        let mut with = good.clone();
        match section {
            0 => with.add_answer(record.clone()),
            1 => with.add_authority(record.clone()),
            _ => with.add_additional(record.clone()),
        };
        assert_eq!(formerr(&with.to_vec().unwrap()), ResponseCode::FormErr, "{section}");
    }
    // A name that points to itself.
    let mut looped = bytes[..12].to_vec();
    looped.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(formerr(&looped), ResponseCode::FormErr);
}

#[test]
fn edns_is_answered_and_of_its_first_version_only() {
    let mut message = query("cloudcoin.raida.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns.clone());
    let answer = ask_with(&full(), &message);
    assert_eq!(data(&answer), ["192.0.2.1"]);
    assert_eq!(answer.edns.as_ref().map(Edns::version), Some(0));
    edns.set_version(1);
    message.set_edns(edns);
    let answer = ask_with(&full(), &message);
    assert_eq!(u16::from(answer.response_code), u16::from(ResponseCode::BADVERS));
    assert!(answer.answers.is_empty());
}

/// The longest name with all endpoints still fits into a call.
#[test]
fn every_answer_fits() {
    let long = Record {
        name: Name::parse(&"a".repeat(63)).unwrap(),
        endpoints: PathId::all().map(|path| (path, "[2001:db8::7]:101".parse().unwrap())).collect(),
        ..full()
    };
    let name = format!("_raida._tcp.{}.", long.name);
    let answer = ask_with(&long, &query(&name, RecordType::SRV));
    assert_eq!(data(&answer).len(), 25);
}

/// A question with any byte changed is answered somehow, and the answer can be read.
#[test]
fn no_byte_makes_it_panic() {
    let mut message = query("_raida._tcp.cloudcoin.raida.", RecordType::SRV);
    message.set_edns(Edns::new());
    let bytes = message.to_vec().unwrap();
    for at in 0..bytes.len() {
        for value in 0..=u8::MAX {
            let mut changed = bytes.clone();
            changed[at] = value;
            match Question::read(&changed) {
                Reading::NoMessage => panic!("it has a header"),
                Reading::Answer(answer) => assert!(Message::from_vec(&answer).is_ok()),
                Reading::Question(question) => {
                    for record in [None, Some(&full())] {
                        assert!(Message::from_vec(&question.answer(record)).is_ok(), "{at} {value}");
                    }
                }
            }
        }
    }
}

/// Known answers: the data of every record at every place below three names, from a program written from the text.
#[test]
fn known_answers() {
    let vectors: Value = serde_json::from_str(include_str!("../../../../vectors/names.json")).unwrap();
    let bytes = |value: &Value| -> Vec<u8> {
        let text = value.as_str().unwrap();
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    };
    // As it stands, without pointers into the message.
    let raw = |record: &DnsRecord| {
        let mut out = Vec::new();
        let mut encoder = BinEncoder::new(&mut out);
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        record.data.emit(&mut encoder).unwrap();
        out
    };
    let mut asked = 0;
    for v in vectors.as_array().unwrap() {
        let record = Record::decode(&bytes(&v["record"])).unwrap();
        for known in v["answers"].as_array().unwrap() {
            let question = Message::from_vec(&bytes(&known["question"])).unwrap();
            let answer = ask_with(&record, &question);
            assert_eq!(
                u64::from(answer.response_code.low()),
                known["code"].as_u64().unwrap(),
                "{question:?}"
            );
            let mut data: Vec<Vec<u8>> = answer.answers.iter().map(raw).collect();
            data.sort();
            let expected: Vec<_> = known["data"].as_array().unwrap().iter().map(bytes).collect();
            assert_eq!(data, expected, "{question:?}");
            let ttl = known["ttl"].as_u64();
            assert!(answer.answers.iter().all(|answer| Some(u64::from(answer.ttl)) == ttl));
            let name = question.queries[0].name();
            assert!(
                answer.answers.iter().all(|answer| answer.name == *name && answer.dns_class == DNSClass::IN)
            );
            let soa: Vec<_> = answer.authorities.iter().map(raw).collect();
            assert_eq!(
                soa,
                known["soa"].as_str().map(|_| bytes(&known["soa"])).into_iter().collect::<Vec<_>>()
            );
            asked += 1;
        }
    }
    assert!(asked > 200, "{asked}");
}
