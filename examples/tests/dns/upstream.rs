//! An ordinary DNS server behind the stream: one of the test's own, unbound, and dnsmasq.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{RData, RecordType};
use qsocket_examples::dns::upstream::{MAX_STRAY_DATAGRAMS, Patience, Upstream};
use tokio::net::UdpSocket;

use crate::support::{
    LOOPBACK, LocalStub, Over, RealServer, ScriptedServer, TcpServer, answer, bytes, data, query, with_edns,
};

fn patience(udp: Duration, udp_attempts: u32, total: Duration) -> Patience {
    Patience { udp, udp_attempts, total }
}

fn address(last: u8) -> Vec<RData> {
    vec![RData::A(A::new(192, 0, 2, last))]
}

async fn ask_through(server: SocketAddr, query: &Message) -> Message {
    TcpServer::start(Arc::new(Upstream::new(server))).await.connect().await.ask(query).await
}

#[tokio::test]
async fn answers_come_back_with_the_clients_id() {
    let ids = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&ids);
    let server = ScriptedServer::start(move |_, query| {
        seen.lock().unwrap().insert(query.metadata.id);
        vec![bytes(&answer(&query, address(80)))]
    })
    .await;
    let front = TcpServer::start(Arc::new(Upstream::new(server.address))).await;
    let mut stream = front.connect().await;
    for _ in 0..8 {
        let answer = stream.ask(&query(7, "www", RecordType::A)).await;
        assert_eq!((answer.metadata.id, data(&answer)), (7, vec!["192.0.2.80".to_owned()]));
    }
    assert!(ids.lock().unwrap().len() > 1, "the ids upstream are drawn, not copied");
}

#[tokio::test]
async fn answers_to_something_else_are_passed_over() {
    let server = ScriptedServer::start(|_, query| {
        let mut wrong_id = answer(&query, address(66));
        wrong_id.metadata.id ^= 1;
        let mut wrong_name = answer(&query, address(66));
        wrong_name.queries[0].set_name("evil.example.".parse().unwrap());
        let right = answer(&query, address(80));
        vec![bytes(&wrong_id), bytes(&wrong_name), bytes(&query), "x".into(), bytes(&right)]
    })
    .await;
    let answer = ask_through(server.address, &query(7, "www", RecordType::A)).await;
    assert_eq!(data(&answer), ["192.0.2.80"]);
}

#[tokio::test]
async fn cut_answers_are_fetched_over_tcp() {
    let server = ScriptedServer::start(|over, query| {
        let whole = answer(&query, (0..9).map(|i| RData::TXT(TXT::new(vec![format!("{i:0200}")]))).collect());
        vec![bytes(&if over == Over::Udp { whole.truncate() } else { whole })]
    })
    .await;
    let answer = ask_through(server.address, &query(7, "big", RecordType::TXT)).await;
    assert!(!answer.metadata.truncation);
    assert_eq!((answer.metadata.id, answer.answers.len()), (7, 9));
}

#[tokio::test]
async fn the_edns_size_upstream_is_what_crosses_without_fragments() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    let server = ScriptedServer::start(move |_, query| {
        seen.lock().unwrap().push(query.edns.as_ref().map(|edns| edns.max_payload()));
        vec![bytes(&answer(&query, address(80)))]
    })
    .await;
    let front = TcpServer::start(Arc::new(Upstream::new(server.address))).await;
    let mut stream = front.connect().await;
    stream.ask(&with_edns(query(1, "www", RecordType::A), 65535)).await;
    stream.ask(&with_edns(query(2, "www", RecordType::A), 600)).await;
    stream.ask(&query(3, "www", RecordType::A)).await;
    assert_eq!(*sizes.lock().unwrap(), [Some(1232), Some(600), None]);
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = ScriptedServer::start(move |_, query| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        if first { vec![] } else { vec![bytes(&answer(&query, address(80)))] }
    })
    .await;
    let patience = patience(Duration::from_millis(50), 3, Duration::from_secs(20));
    let backend = Upstream::with_patience(server.address, patience);
    let front = TcpServer::start(Arc::new(backend)).await;
    let answer = front.connect().await.ask(&query(7, "www", RecordType::A)).await;
    assert_eq!(data(&answer), ["192.0.2.80"]);
    assert!(asked.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn silence_upstream_becomes_servfail() {
    let server = ScriptedServer::start(|_, _| vec![]).await;
    let patience = patience(Duration::from_millis(20), 2, Duration::from_secs(20));
    let front = TcpServer::start(Arc::new(Upstream::with_patience(server.address, patience))).await;
    let query = with_edns(query(7, "www", RecordType::A), 1232);
    let answer = front.connect().await.ask(&query).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert_eq!((answer.metadata.id, &answer.queries), (7, &query.queries));
    assert!(answer.edns.is_some());
}

#[tokio::test]
async fn nobody_upstream_becomes_servfail() {
    let nobody = UdpSocket::bind(LOOPBACK).await.unwrap().local_addr().unwrap();
    let answer = ask_through(nobody, &query(7, "www", RecordType::A)).await;
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (7, ResponseCode::ServFail));
}

#[tokio::test]
async fn guesses_at_ids_do_not_get_in_and_do_not_go_on() {
    let server = ScriptedServer::start(|_, query| {
        let guess = |i: u16| {
            let mut guess = answer(&query, address(66));
            guess.metadata.id = query.metadata.id.wrapping_add(1 + i);
            bytes(&guess)
        };
        let mut flood: Vec<_> = (0..MAX_STRAY_DATAGRAMS as u16).map(guess).collect();
        flood.push(bytes(&answer(&query, address(66))));
        flood
    })
    .await;
    let answer = ask_through(server.address, &query(7, "www", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn a_cut_answer_without_tcp_becomes_servfail() {
    let server = ScriptedServer::start(|over, query| {
        if over == Over::Udp { vec![bytes(&answer(&query, vec![]).truncate())] } else { vec![] }
    })
    .await;
    let patience = patience(Duration::from_secs(10), 1, Duration::from_millis(200));
    let front = TcpServer::start(Arc::new(Upstream::with_patience(server.address, patience))).await;
    let answer = front.connect().await.ask(&query(7, "www", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

/// 18 texts of 200 bytes, as a DNS server's configuration wants them.
fn texts() -> impl Iterator<Item = String> {
    (0..18).map(|i| format!("{i:0200}"))
}

/// What both real servers hold, asked through server and stub.
async fn check_real_server(server: &RealServer) {
    let front = TcpServer::start(Arc::new(Upstream::new(server.address))).await;
    let stub = LocalStub::to(front.address).await;
    let (udp, mut tcp) = (stub.udp().await, stub.tcp().await);

    let (found, _) = udp.ask(&query(1, "www", RecordType::A)).await;
    assert_eq!((found.metadata.id, data(&found)), (1, vec!["192.0.2.80".to_owned()]));

    let (missing, _) = udp.ask(&query(2, "nowhere", RecordType::A)).await;
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    let (nodata, _) = udp.ask(&query(3, "www", RecordType::MX)).await;
    assert_eq!((nodata.metadata.response_code, nodata.answers.len()), (ResponseCode::NoError, 0));

    let (elsewhere, _) = udp.ask(&query(4, "www.example.org.", RecordType::A)).await;
    assert_eq!(elsewhere.metadata.response_code, ResponseCode::Refused);

    let (cut, length) = udp.ask(&with_edns(query(5, "large", RecordType::TXT), 1232)).await;
    assert!(cut.metadata.truncation && length <= 1232);
    let whole = tcp.ask(&with_edns(query(6, "large", RecordType::TXT), 1232)).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(data(&whole), texts().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn unbound_behind_the_stream() {
    let mut records = vec!["www.raida.example. 60 IN A 192.0.2.80".to_owned()];
    records.extend(texts().map(|text| format!("large.raida.example. 60 IN TXT \"{text}\"")));
    let Some(server) = RealServer::unbound(&records).await else { return };
    check_real_server(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dnsmasq_behind_the_stream() {
    let mut arguments = vec!["--host-record=www.raida.example,192.0.2.80".to_owned()];
    arguments.extend(texts().map(|text| format!("--txt-record=large.raida.example,{text}")));
    let Some(server) = RealServer::dnsmasq(&arguments).await else { return };
    check_real_server(&server).await;
}
