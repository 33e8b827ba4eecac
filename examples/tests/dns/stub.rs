//! The stub's own behaviour towards its clients, and towards a stream that fails it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, RecordType};
use qsocket_examples::dns::stub::{MAX_UDP_QUERIES, Stub, StubConfig};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::support::{
    LocalStub, Messages, TcpServer, UdpClient, answer, bytes, data, example_zone, query, soon, with_edns,
};

/// A configuration whose deadline tests can wait for.
fn impatient() -> StubConfig {
    StubConfig { deadline: Duration::from_millis(300), ..StubConfig::default() }
}

/// A stub whose streams end in the test's own hands.
async fn stub_by_hand() -> (LocalStub, mpsc::UnboundedReceiver<Messages<DuplexStream>>) {
    let (far_ends, accepted) = mpsc::unbounded_channel();
    let connector = move || {
        let (near, far) = duplex(1 << 20);
        let sent = far_ends.send(Messages::on(far));
        std::future::ready(sent.map(|()| near).map_err(|_| io::ErrorKind::ConnectionRefused.into()))
    };
    (LocalStub::start(StubConfig::default(), connector).await, accepted)
}

#[tokio::test]
async fn concurrent_clients_share_one_stream() {
    let connects = Arc::new(AtomicUsize::new(0));
    let server = TcpServer::start(example_zone()).await;
    let (count, address) = (Arc::clone(&connects), server.address);
    let stub = LocalStub::start(StubConfig::default(), move || {
        count.fetch_add(1, Ordering::Relaxed);
        TcpStream::connect(address)
    })
    .await;
    let clients: Vec<_> = (0..50)
        .map(|i| {
            let address = stub.address;
            tokio::spawn(async move {
                let client = UdpClient::to(address).await;
                // All with one id, half for a name that does not exist.
                let name = if i % 2 == 0 { format!("n{i}.any") } else { format!("n{i}.nowhere") };
                let (answer, _) = client.ask(&query(7, &name, RecordType::A)).await;
                assert_eq!(answer.metadata.id, 7);
                assert_eq!(answer.queries, query(7, &name, RecordType::A).queries);
                let code = if i % 2 == 0 { ResponseCode::NoError } else { ResponseCode::NXDomain };
                assert_eq!(answer.metadata.response_code, code);
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(connects.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn answers_that_do_not_fit_udp_are_cut_and_whole_over_tcp() {
    let server = TcpServer::start(example_zone()).await;
    let stub = LocalStub::to(server.address).await;
    let udp = stub.udp().await;
    for (size, records) in [(None, 0), (Some(0), 0), (Some(512), 0), (Some(1232), 4), (Some(4096), 4)] {
        let plain = query(1, "medium", RecordType::TXT);
        let asked = size.map_or_else(|| plain.clone(), |size| with_edns(plain.clone(), size));
        let (answer, length) = udp.ask(&asked).await;
        assert_eq!((answer.answers.len(), answer.metadata.truncation), (records, records == 0), "{size:?}");
        assert!(length <= usize::from(size.unwrap_or(512).max(512)));
        assert_eq!(answer.queries, asked.queries);
        assert_eq!(answer.edns.is_some(), size.is_some());
    }
    let (cut, _) = udp.ask(&with_edns(query(2, "large", RecordType::TXT), u16::MAX)).await;
    assert!(cut.metadata.truncation, "more than the stub sends to anybody over UDP");
    let whole = stub.tcp().await.ask(&query(3, "large", RecordType::TXT)).await;
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (18, false));
}

#[tokio::test]
async fn an_answer_of_almost_64_kib_comes_whole_over_tcp() {
    let (stub, mut accepted) = stub_by_hand().await;
    let mut client = stub.tcp().await;
    let asked = query(7, "huge", RecordType::TXT);
    client.send(&asked).await;
    let mut far = soon(accepted.recv()).await.unwrap();
    let carried = far.receive().await.unwrap();
    let huge = answer(&carried, (0..240).map(|_| RData::TXT(TXT::new(vec!["x".repeat(240)]))).collect());
    assert!(bytes(&huge).len() > 60_000);
    far.send(&huge).await;
    let whole = client.receive().await.unwrap();
    assert_eq!((whole.metadata.id, whole.answers.len(), whole.metadata.truncation), (7, 240, false));
}

#[tokio::test]
async fn a_dead_stream_becomes_servfail_within_the_deadline() {
    // Connected, and silent for ever.
    let (ends, mut kept) = mpsc::unbounded_channel();
    let silent = move || {
        let (near, far) = duplex(1 << 16);
        let kept = ends.send(far).map_err(|_| io::ErrorKind::ConnectionRefused.into());
        std::future::ready(kept.map(|()| near))
    };
    // Nobody there at all.
    let refused = || std::future::ready(Err::<DuplexStream, _>(io::ErrorKind::ConnectionRefused.into()));
    // A connection that never comes about.
    let hanging = std::future::pending::<io::Result<DuplexStream>>;
    let stubs = [
        LocalStub::start(impatient(), silent).await,
        LocalStub::start(impatient(), refused).await,
        LocalStub::start(impatient(), hanging).await,
    ];
    for stub in &stubs {
        let start = Instant::now();
        let asked = with_edns(query(77, "wWw", RecordType::A), 1232);
        let (answer, _) = stub.udp().await.ask(&asked).await;
        assert_eq!((answer.metadata.id, answer.metadata.response_code), (77, ResponseCode::ServFail));
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert!(answer.queries[0].name().eq_case(asked.queries[0].name()));
        assert!(answer.edns.is_some() && answer.metadata.recursion_desired);
        let over_tcp = stub.tcp().await.ask(&query(78, "www", RecordType::A)).await;
        assert_eq!((over_tcp.metadata.id, over_tcp.metadata.response_code), (78, ResponseCode::ServFail));
        assert!(start.elapsed() >= 2 * impatient().deadline);
    }
    assert!(kept.recv().await.is_some());
}

#[tokio::test]
async fn a_stream_that_breaks_in_the_middle_is_replaced_unnoticed() {
    let (stub, mut accepted) = stub_by_hand().await;
    let client = stub.udp().await;
    client.send(&bytes(&query(7, "www", RecordType::A))).await;
    let mut first = soon(accepted.recv()).await.unwrap();
    first.receive().await.unwrap();
    drop(first);
    let mut second = soon(accepted.recv()).await.unwrap();
    let again = second.receive().await.unwrap();
    second.send(&answer(&again, vec![])).await;
    let answer = Message::from_vec(&client.receive().await).unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (7, ResponseCode::NoError));
}

#[tokio::test]
async fn garbage_gets_formerr_and_responses_get_silence() {
    let server = TcpServer::start(example_zone()).await;
    let stub = LocalStub::to(server.address).await;
    let udp = stub.udp().await;
    let whole = bytes(&query(0x0102, "www", RecordType::A));

    let mut response = query(3, "www", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    // A flood of responses, scraps and nothing at all: the next answer is the one to the next query. In rounds
    // that fit the socket's buffer, so that none is lost on the way.
    for round in 0..20 {
        for _ in 0..10 {
            udp.send(&bytes(&response)).await;
            udp.send(&whole[..11]).await;
            udp.send(b"").await;
        }
        assert_eq!(udp.ask(&query(round, "www", RecordType::A)).await.0.metadata.id, round);
    }
    // Garbage behind a header: one FORMERR each, no longer than what it answers.
    for length in [12, 13, whole.len() - 1] {
        udp.send(&whole[..length]).await;
        let error = udp.receive().await;
        assert!(error.len() <= length);
        let error = Message::from_vec(&error).unwrap();
        assert_eq!((error.metadata.id, error.metadata.response_code), (0x0102, ResponseCode::FormErr));
    }
    let mut notify = query(4, "www", RecordType::SOA);
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(udp.ask(&notify).await.0.metadata.response_code, ResponseCode::NotImp);
    // The first answer since is the answer to this.
    let (answer, _) = udp.ask(&query(5, "www", RecordType::A)).await;
    assert_eq!((answer.metadata.id, data(&answer).len()), (5, 2));

    // Over TCP the same, on one connection.
    let mut tcp = stub.tcp().await;
    tcp.send(&response).await;
    tcp.0.send(whole.slice(..13)).await.unwrap();
    assert_eq!(tcp.receive().await.unwrap().metadata.response_code, ResponseCode::FormErr);
    assert_eq!(tcp.ask(&query(6, "www", RecordType::A)).await.metadata.id, 6);
}

#[tokio::test]
async fn pipelined_tcp_queries_are_answered_as_they_are_ready() {
    let (stub, mut accepted) = stub_by_hand().await;
    let mut client = stub.tcp().await;
    for (id, name) in [(1, "slow"), (2, "quick")] {
        client.send(&query(id, name, RecordType::A)).await;
    }
    let mut far = soon(accepted.recv()).await.unwrap();
    let (one, two) = (far.receive().await.unwrap(), far.receive().await.unwrap());
    let is_slow = |m: &Message| m.queries == query(1, "slow", RecordType::A).queries;
    let (slow, quick) = if is_slow(&one) { (one, two) } else { (two, one) };
    far.send(&answer(&quick, vec![])).await;
    assert_eq!(client.receive().await.unwrap().metadata.id, 2);
    far.send(&answer(&slow, vec![])).await;
    assert_eq!(client.receive().await.unwrap().metadata.id, 1);
}

#[tokio::test]
async fn shutdown_answers_what_is_in_the_works_and_closes_the_stream() {
    let (stub, mut accepted) = stub_by_hand().await;
    let (udp, mut tcp) = (stub.udp().await, stub.tcp().await);
    udp.send(&bytes(&query(1, "a", RecordType::A))).await;
    tcp.send(&query(2, "b", RecordType::A)).await;
    let mut far = soon(accepted.recv()).await.unwrap();
    let (one, two) = (far.receive().await.unwrap(), far.receive().await.unwrap());
    stub.stop.cancel();
    far.send(&answer(&one, vec![])).await;
    far.send(&answer(&two, vec![])).await;
    assert_eq!(Message::from_vec(&udp.receive().await).unwrap().metadata.id, 1);
    assert_eq!(tcp.receive().await.unwrap().metadata.id, 2);
    assert!(tcp.receive().await.is_none());
    soon(stub.task).await.unwrap().unwrap();
    assert!(soon(far.0.next()).await.is_none(), "the server sees an orderly end");
    let refused = TcpStream::connect(stub.address).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn idle_tcp_clients_are_let_go() {
    let server = TcpServer::start(example_zone()).await;
    let mut config = StubConfig::default();
    config.tcp.idle = Duration::from_millis(50);
    let address = server.address;
    let stub = LocalStub::start(config, move || TcpStream::connect(address)).await;
    let mut client = stub.tcp().await;
    assert_eq!(client.ask(&query(1, "www", RecordType::A)).await.metadata.id, 1);
    let mut rest = Vec::new();
    soon(client.0.get_mut().read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn more_queries_than_can_wait_get_servfail_at_once() {
    let (stub, mut accepted) = stub_by_hand().await;
    let client = stub.udp().await;
    let mut far = soon(accepted.recv()).await.unwrap();
    for id in 0..MAX_UDP_QUERIES {
        client.send(&bytes(&query(id as u16, "www", RecordType::A))).await;
        far.receive().await.unwrap();
    }
    let (refused, _) = client.ask(&query(u16::MAX, "www", RecordType::A)).await;
    assert_eq!((refused.metadata.id, refused.metadata.response_code), (u16::MAX, ResponseCode::ServFail));
}

#[tokio::test]
async fn only_loopback_unless_asked() {
    let error = Stub::bind("0.0.0.0:0".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("use a loopback address"), "{error}");
    assert!(Stub::bind("[::ffff:127.0.0.1]:0".parse().unwrap()).await.is_ok());
}
