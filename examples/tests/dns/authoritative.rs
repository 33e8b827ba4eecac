//! The zone file, asked over a stream.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use qsocket_examples::dns::zone::{Zone, ZoneError};

use crate::support::{TcpServer, data, example_zone, query, with_edns};

#[tokio::test]
async fn every_kind_of_record_is_answered_with_authority() {
    let server = TcpServer::start(example_zone()).await;
    let mut stream = server.connect().await;
    let cases: [(&str, RecordType, &[&str]); 9] = [
        ("www", RecordType::A, &["192.0.2.80", "198.51.100.80"]),
        ("WwW", RecordType::AAAA, &["2001:db8::80"]),
        ("raida.example.", RecordType::MX, &["10 mail.raida.example.", "20 mail2.raida.example."]),
        ("raida.example.", RecordType::TXT, &["v=spf1 mx -all"]),
        ("_imaps._tcp", RecordType::SRV, &["0 0 993 mail.raida.example."]),
        ("docs", RecordType::CNAME, &["www.example.net."]),
        ("deep.down.any", RecordType::A, &["203.0.113.7"]),
        ("raida.example.", RecordType::NS, &["ns1.raida.example.", "ns2.raida.example."]),
        ("ns2", RecordType::AAAA, &["2001:db8::53"]),
    ];
    for (id, (name, record_type, expected)) in cases.into_iter().enumerate() {
        let answer = stream.ask(&query(id as u16, name, record_type)).await;
        assert_eq!(answer.metadata.id, id as u16, "{name}");
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
        assert!(answer.metadata.authoritative, "{name}");
        assert_eq!(data(&answer), expected, "{name} {record_type}");
    }
}

#[tokio::test]
async fn aliases_are_followed_inside_the_zone() {
    let server = TcpServer::start(example_zone()).await;
    let answer = server.connect().await.ask(&query(1, "files", RecordType::A)).await;
    let types: Vec<_> = answer.answers.iter().map(|record| record.record_type()).collect();
    assert_eq!(types.iter().filter(|t| **t == RecordType::CNAME).count(), 2, "{types:?}");
    assert_eq!(types.iter().filter(|t| **t == RecordType::A).count(), 2, "{types:?}");
}

#[tokio::test]
async fn names_and_types_that_do_not_exist() {
    let server = TcpServer::start(example_zone()).await;
    let mut stream = server.connect().await;

    let nxdomain = stream.ask(&query(1, "nowhere", RecordType::A)).await;
    assert_eq!(nxdomain.metadata.response_code, ResponseCode::NXDomain);
    assert!(nxdomain.metadata.authoritative && nxdomain.answers.is_empty());
    assert_eq!(nxdomain.authorities[0].record_type(), RecordType::SOA);

    let nodata = stream.ask(&query(2, "www", RecordType::MX)).await;
    assert_eq!(nodata.metadata.response_code, ResponseCode::NoError);
    assert!(nodata.answers.is_empty());
    assert_eq!(nodata.authorities[0].record_type(), RecordType::SOA);

    let refused = stream.ask(&query(3, "www.example.org.", RecordType::A)).await;
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);

    let transfer = stream.ask(&query(4, "raida.example.", RecordType::AXFR)).await;
    assert_eq!(transfer.metadata.response_code, ResponseCode::Refused);
    assert!(transfer.answers.is_empty());
}

#[tokio::test]
async fn large_answers_are_whole_on_a_stream_whatever_the_edns_size() {
    let server = TcpServer::start(example_zone()).await;
    let mut stream = server.connect().await;
    for query in [
        query(1, "large", RecordType::TXT),
        with_edns(query(2, "large", RecordType::TXT), 512),
        with_edns(query(3, "large", RecordType::TXT), 4096),
    ] {
        let answer = stream.ask(&query).await;
        assert!(!answer.metadata.truncation);
        assert_eq!(answer.answers.len(), 18);
        assert_eq!(answer.edns.is_some(), query.edns.is_some());
        let text: usize = data(&answer).iter().map(String::len).sum();
        assert!(text > 2048, "{text} bytes");
    }
}

#[test]
fn wrong_zone_files_are_explained() {
    let zone = |text| Zone::from_text(text).unwrap_err();
    assert!(matches!(zone("$ORIGIN example.\nwww 60 IN A 192.0.2.1\n"), ZoneError::NoSoa { .. }));
    assert!(matches!(zone("$ORIGIN example.\n@ 60 IN SOA nonsense\n"), ZoneError::Parse(_)));
    assert!(matches!(zone("\u{0}\u{1} garbage"), ZoneError::Parse(_)));
    let missing = Zone::from_file("/nonexistent/zone".as_ref()).unwrap_err();
    assert_eq!(missing.to_string(), "cannot read zone file /nonexistent/zone");
}
