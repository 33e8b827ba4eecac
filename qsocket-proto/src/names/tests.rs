use super::*;
use crate::ids::{PathId, Principal};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn full() -> Record {
    let owner = Principal { network: 1, denomination: 0, serial: 7 };
    let endpoint = |path: PathId| SocketAddr::new([192, 0, 2, 7].into(), 10_000 + u16::from(path.get()));
    Record {
        name: name("cloudcoin"),
        number: NonZeroU32::new(305_419_896).unwrap(),
        owner,
        version: NonZeroU32::new(3).unwrap(),
        begin: 1_800_000_000,
        ttl: 300,
        server: Some(Principal { serial: 8, ..owner }),
        service: Some("[2001:db8::7]:443".parse().unwrap()),
        signalling: NonZeroU16::new(8443),
        endpoints: PathId::all().map(|path| (path, endpoint(path))).collect(),
    }
}

fn bare() -> Record {
    Record { server: None, service: None, signalling: None, endpoints: BTreeMap::new(), ..full() }
}

#[test]
fn a_name_is_written_in_many_ways_and_is_one() {
    for text in ["cloudcoin", "CloudCoin", "cloudcoin.raida", "CLOUDCOIN.RAIDA"] {
        assert_eq!(name(text).label(), "cloudcoin", "{text}");
    }
    assert_eq!(name("cloudcoin").to_string(), "cloudcoin.raida");
    assert_eq!("Cloudcoin".parse(), Ok(name("cloudcoin")));
    for text in ["bücher", "BÜCHER.raida", "xn--bcher-kva", "XN--BCHER-KVA.raida", "bu\u{308}cher"] {
        assert_eq!(name(text).label(), "xn--bcher-kva", "{text}");
    }
    assert_eq!(name("bücher").unicode(), "bücher.raida");
    assert_eq!(name("cloudcoin").unicode(), "cloudcoin.raida");
    // Figures alone, and a hyphen where one may be.
    assert_eq!(name("123").label(), "123");
    assert_eq!(name("a-b").label(), "a-b");
    assert_eq!(name(&"a".repeat(63)).label().len(), 63);
}

#[test]
fn what_is_no_name_is_refused() {
    let refused = |text: &str| Name::parse(text).unwrap_err();
    for text in ["", "a", "ab", ".raida", "raida.raida.raida", &"a".repeat(64), &"ü".repeat(200)] {
        assert!(matches!(refused(text), NameError::Length | NameError::Label), "{text}");
    }
    for text in ["-abc", "abc-", "ab--c", "a_b", "a b", "a.b", "a/b", "abc.", "abc\0", "a\u{ad}\u{200d}--"] {
        assert_eq!(refused(text), NameError::Label, "{text}");
    }
    // A-labels that are none, that stand for plain letters, or that are written in another way.
    for text in ["xn--", "xn--a", "xn--abc-", "xn--cloudcoin-", "xn--bcher-kvaa\u{7f}", "xn--0"] {
        assert!(Name::parse(text).is_err(), "{text}");
    }
}

/// UTS 39: nothing that stands in for another name.
#[test]
fn names_that_look_like_others_are_refused() {
    // Cyrillic letters among Latin ones; all Cyrillic, as a word of plain letters.
    assert_eq!(Name::parse("clоudcoin"), Err(NameError::Mixed));
    assert_eq!(Name::parse("сосо"), Err(NameError::Confusable));
    assert_eq!(Name::parse("арех"), Err(NameError::Confusable));
    // Greek among Latin.
    assert_eq!(Name::parse("αlpha"), Err(NameError::Mixed));
    // Words that look like themselves.
    for text in ["привет", "δοκιμή", "日本語です", "bücher", "한국어"] {
        assert!(Name::parse(text).is_ok(), "{text}");
    }
    // The A-label of one that is refused is refused as well: the wire is no way around.
    let (label, _) = idna::uts46::Uts46::new().to_unicode(
        b"xn--80ak6aa92e",
        idna::uts46::AsciiDenyList::STD3,
        idna::uts46::Hyphens::Check,
    );
    assert_eq!(label, "аррӏе");
    assert!(Name::from_label(b"xn--80ak6aa92e").is_err());
}

#[test]
fn the_wire_knows_canonical_labels_alone() {
    for label in [&b"cloudcoin"[..], b"xn--bcher-kva", b"123"] {
        assert_eq!(Name::from_label(label).unwrap().label().as_bytes(), label);
    }
    for label in ["Cloudcoin", "cloudcoin.raida", "bücher", "XN--BCHER-KVA", "ab", "", "a.b"] {
        assert!(Name::from_label(label.as_bytes()).is_err(), "{label}");
    }
    assert!(Name::from_label(&[0xff, 0xfe, 0xfd]).is_err());
}

#[test]
fn reserved_names_are_sorted_names() {
    assert!(RESERVED.is_sorted());
    for label in RESERVED {
        assert!(name(label).is_reserved(), "{label}");
    }
    assert!(!name("cloudcoin").is_reserved());
}

#[test]
fn a_membership_reads_in_one_way() {
    let text = "v=rke1; network=1; server=1.0.8; number=305419896";
    let full = full().membership();
    assert_eq!(full.to_string(), text);
    assert_eq!(text.parse(), Ok(full));
    let bare = bare().membership();
    assert_eq!(bare.to_string(), "v=rke1; network=1; number=305419896");
    assert_eq!(bare.to_string().parse(), Ok(bare));
    for bad in [
        "",
        "v=rke2; network=1; number=1",
        "v=rke1;network=1; number=1",
        "v=rke1; network=01; number=1",
        "v=rke1; network=1; number=0",
        "v=rke1; network=1; number=+1",
        "v=rke1; network=1; number=1; more=1",
        "v=rke1; network=1; number=1 ",
        "v=rke1; number=1; network=1",
        "v=rke1; network=1; server=2.0.8; number=1",
        "v=rke1; network=1; server=; number=1",
        "v=rke1; network=1; server=1.0.8; server=1.0.8; number=1",
        "v=rke1; network=65536; number=1",
        "v=rke1; network=1",
    ] {
        assert_eq!(bad.parse::<Membership>(), Err(MembershipSyntax), "{bad}");
    }
}

#[test]
fn records_come_back_byte_for_byte() {
    for record in [full(), bare()] {
        assert_eq!(record.check(), Ok(()));
        assert_eq!(Record::decode(&record.encode()), Ok(record));
    }
    let longest = Record {
        name: name(&"a".repeat(63)),
        endpoints: PathId::all().map(|path| (path, "[2001:db8::1]:65535".parse().unwrap())).collect(),
        ..full()
    };
    assert_eq!(longest.encode().len(), MAX_RECORD);
    let put = PutName { record: longest, years: MAX_YEARS, reference: Reference([9; 16]) };
    assert_eq!(PutName::decode(&put.encode()), Ok(put));
}

#[test]
fn records_that_say_what_cannot_be_are_refused() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let refused = [
        Record { ttl: MIN_TTL - 1, ..full() },
        Record { ttl: MAX_TTL + 1, ..full() },
        Record { begin: MAX_BEGIN + 1, ..full() },
        Record { server: Some(Principal { network: 2, denomination: 0, serial: 8 }), ..full() },
        Record { service: None, ..full() },
        Record { service: Some(address("192.0.2.7:0")), ..full() },
        Record { service: Some(address("0.0.0.0:443")), ..full() },
        Record { service: Some(address("255.255.255.255:443")), ..full() },
        Record { service: Some(address("224.0.0.1:443")), ..full() },
        Record { service: Some(address("[::]:443")), ..full() },
        Record { service: Some(address("[ff02::1]:443")), ..full() },
        // The same place in two ways.
        Record { service: Some(address("[::ffff:192.0.2.7]:443")), ..full() },
        Record { endpoints: [(PathId::new(3).unwrap(), address("192.0.2.7:0"))].into(), ..full() },
    ];
    for record in refused {
        assert!(record.check().is_err(), "{record:?}");
        assert!(Record::decode(&record.encode()).is_err(), "{record:?}");
    }
    // Nothing behind, nothing missing, no flag but those there are, endpoints once and in order.
    let whole = full().encode();
    for len in 0..whole.len() {
        assert!(Record::decode(&whole[..len]).is_err(), "{len}");
    }
    assert!(Record::decode(&[&whole[..], &[0]].concat()).is_err());
    let mut version = whole.clone();
    version[1] = 2;
    assert!(Record::decode(&version).is_err());
    let ends = bare().encode();
    let two = |a: u8, b: u8| {
        let mut bytes = ends[..ends.len() - 1].to_vec();
        bytes.push(2);
        for path in [a, b] {
            bytes.extend([path, 4, 192, 0, 2, 7, 0, 80]);
        }
        Record::decode(&bytes)
    };
    assert!(two(3, 4).is_ok());
    for (a, b) in [(3, 3), (4, 3), (24, 25)] {
        assert!(two(a, b).is_err(), "{a} {b}");
    }
    let mut many = ends[..ends.len() - 1].to_vec();
    many.push(26);
    assert!(Record::decode(&many).is_err());
}

#[test]
fn requests_and_results_come_back() {
    let renew = RenewName { name: name("cloudcoin"), years: 2, reference: Reference([1; 16]) };
    assert_eq!(RenewName::decode(&renew.encode()), Ok(renew.clone()));
    for years in [0, MAX_YEARS + 1] {
        assert!(RenewName::decode(&RenewName { years, ..renew.clone() }.encode()).is_err());
        let put = PutName { record: bare(), years, reference: Reference([1; 16]) };
        assert!(PutName::decode(&put.encode()).is_err());
    }
    assert_eq!(decode_name(&encode_name(&name("cloudcoin"))), Ok(name("cloudcoin")));
    assert!(decode_name(b"\x09cloudcoin\0").is_err());
    assert!(decode_name(b"\x09Cloudcoin").is_err());

    let states = [State::Free, State::Pending, State::Active, State::Lapsed, State::Reserved];
    for state in states {
        let standing = Standing { state, until: 5, due: Due { amount: 2000, currency: Currency::USD } };
        assert_eq!(standing.encode().len(), Standing::BYTES);
        assert_eq!(Standing::decode(&standing.encode()), Ok(standing));
    }
    let kinds = [PaymentKind::Registration, PaymentKind::Renewal];
    let decisions = [PaymentState::Asked, PaymentState::Confirmed, PaymentState::Refused];
    let payments = (0..MAX_PAYMENTS).map(|n| Payment {
        reference: Reference([n as u8; 16]),
        kind: kinds[n % 2],
        years: 1 + (n % 10) as u8,
        amount: 1000,
        currency: Currency::USD,
        state: decisions[n % 3],
    });
    let fees = Fees { first: 2000, renewal: 1000, currency: Currency::USD };
    let described = Description {
        state: State::Active,
        until: 9,
        fees,
        record: Some(full()),
        payments: payments.collect(),
    };
    assert_eq!(Description::decode(&described.encode()), Ok(described.clone()));
    let nothing = Description { record: None, payments: vec![], ..described.clone() };
    assert_eq!(Description::decode(&nothing.encode()), Ok(nothing));
    // More payments than fit are not written.
    let mut many = described.clone();
    many.payments.extend(described.payments.clone());
    assert_eq!(Description::decode(&many.encode()), Ok(described));
}

#[test]
fn fees_are_for_the_first_year_and_for_each_further_one() {
    let fees = Fees { first: 2000, renewal: 1000, currency: Currency::USD };
    for (kind, years, amount) in [
        (PaymentKind::Registration, 1, 2000),
        (PaymentKind::Registration, 3, 4000),
        (PaymentKind::Renewal, 1, 1000),
        (PaymentKind::Renewal, 10, 10_000),
    ] {
        assert_eq!(fees.amount(kind, years), amount);
    }
    let most = Fees { first: u32::MAX, renewal: u32::MAX, ..fees };
    assert_eq!(most.amount(PaymentKind::Renewal, 10), 10 * u64::from(u32::MAX));
    assert_eq!(bare().until(2), 1_800_000_000 + 2 * YEAR);
}

#[test]
fn references_and_currencies_are_written_in_one_way() {
    let reference = Reference(*b"0123456789abcdef");
    assert_eq!(reference.to_string(), "30313233343536373839616263646566");
    assert_eq!(reference.to_string().parse(), Ok(reference));
    for bad in ["", "30", "303132333435363738396162636465667", "3031323334353637383961626364656g", "é"] {
        assert_eq!(bad.parse::<Reference>(), Err(ReferenceSyntax), "{bad}");
    }
    assert_eq!("USD".parse(), Ok(Currency::USD));
    for bad in ["usd", "US", "USDT", "U5D", "€"] {
        assert_eq!(bad.parse::<Currency>(), Err(CurrencySyntax), "{bad}");
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn address(ip: &Value, port: &Value) -> SocketAddr {
    SocketAddr::new(ip.as_str().unwrap().parse().unwrap(), number(port).try_into().unwrap())
}

/// The record that a known answer is about.
fn known(fields: &Value) -> Record {
    let principal = |value: &Value| value.as_str().map(|text| text.parse().unwrap());
    let endpoints = fields["endpoints"].as_array().unwrap().iter();
    Record {
        name: name(fields["name"].as_str().unwrap()),
        number: NonZeroU32::new(number(&fields["number"])).unwrap(),
        owner: principal(&fields["owner"]).unwrap(),
        version: NonZeroU32::new(number(&fields["version"])).unwrap(),
        begin: fields["begin"].as_u64().unwrap(),
        ttl: number(&fields["ttl"]),
        server: principal(&fields["server"]),
        service: fields["service"].as_array().map(|at| address(&at[0], &at[1])),
        signalling: NonZeroU16::new(number(&fields["signalling"]).try_into().unwrap()),
        endpoints: endpoints
            .map(|at| (PathId::new(number(&at[0]) as u8).unwrap(), address(&at[1], &at[2])))
            .collect(),
    }
}

#[test]
fn known_answers() {
    let vectors: Value = serde_json::from_str(include_str!("../../../vectors/names.json")).unwrap();
    assert_eq!(vectors.as_array().unwrap().len(), 3);
    for v in vectors.as_array().unwrap() {
        let record = known(&v["fields"]);
        assert_eq!(record.encode(), bytes(&v["record"]));
        assert_eq!(Record::decode(&bytes(&v["record"])), Ok(record.clone()));
        assert_eq!(record.membership().to_string(), v["membership"].as_str().unwrap());
        let [first, second] = [0, 16].map(|from| Reference(std::array::from_fn(|i| from + i as u8)));
        let put = PutName { record: record.clone(), years: 3, reference: first };
        assert_eq!(put.encode(), bytes(&v["put"]));
        let renew = RenewName { name: record.name.clone(), years: 10, reference: second };
        assert_eq!(renew.encode(), bytes(&v["renew"]));
        assert_eq!(encode_name(&record.name), bytes(&v["describe"]));
        let (state, until, currency) = (State::Active, record.until(3), Currency::USD);
        let standing = Standing { state, until, due: Due { amount: 4000, currency } };
        assert_eq!(standing.encode(), bytes(&v["standing"]));
        let payment = |reference, kind, years, amount, state| Payment {
            reference,
            kind,
            years,
            amount,
            currency,
            state,
        };
        let payments = vec![
            payment(second, PaymentKind::Renewal, 10, 10_000, PaymentState::Asked),
            payment(first, PaymentKind::Registration, 3, 4000, PaymentState::Confirmed),
        ];
        let fees = Fees { first: 2000, renewal: 1000, currency };
        let described = Description { state, until, fees, record: Some(record), payments };
        assert_eq!(described.encode(), bytes(&v["description"]));
    }
}

proptest! {
    /// Whatever decodes encodes to the same bytes: relays that have the same record have the same bytes.
    #[test]
    fn no_bytes_panic_and_there_is_one_form(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes.clone());
        }
        if let Ok(put) = PutName::decode(&bytes) {
            prop_assert_eq!(put.encode(), bytes.clone());
        }
        if let Ok(renew) = RenewName::decode(&bytes) {
            prop_assert_eq!(renew.encode(), bytes.clone());
        }
        if let Ok(standing) = Standing::decode(&bytes) {
            prop_assert_eq!(standing.encode(), bytes.clone());
        }
        if let Ok(described) = Description::decode(&bytes) {
            prop_assert_eq!(described.encode(), bytes.clone());
        }
        if let Ok(name) = decode_name(&bytes) {
            prop_assert_eq!(encode_name(&name), bytes);
        }
    }

    /// A flipped byte of a record is refused or seen, and never read as the same record.
    #[test]
    fn a_changed_byte_is_another_record(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = full().encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_ne!(&record, &full());
            prop_assert_eq!(record.encode(), bytes);
        }
    }

    /// What is a name is one in the form that it prints, and in no other.
    #[test]
    fn names_stay_what_they_are(text in "\\PC{0,20}") {
        if let Ok(name) = Name::parse(&text) {
            prop_assert_eq!(Name::from_label(name.label().as_bytes()), Ok(name.clone()));
            prop_assert_eq!(Name::parse(&name.to_string()), Ok(name.clone()));
            prop_assert_eq!(Name::parse(&name.unicode()), Ok(name));
        }
    }

    #[test]
    fn memberships_come_back(text in "(v=rke1; )?network=[0-9]{1,5}; (server=[0-9]{1,5}\\.0\\.[0-9]{1,3}; )?number=[0-9]{1,10}") {
        if let Ok(membership) = text.parse::<Membership>() {
            prop_assert_eq!(membership.to_string(), text);
        }
    }
}
