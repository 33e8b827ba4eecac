//! The server's bounds: connections, queries of one, sizes, silence, and what it does when asked to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use qsocket_examples::dns::server::{Limits, MAX_ACCEPT_FAILURES, connection, serve};
use qsocket_examples::dns::wire::{MAX_QUERY_LEN, Query};
use qsocket_examples::dns::{Backend, Listener};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::support::{LOOPBACK, Messages, TcpServer, example_zone, query, soon};

/// Answers REFUSED, one query for each permit, and counts how many it has at once.
#[derive(Debug)]
struct Gate {
    permits: Semaphore,
    waiting: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    fn closed() -> Arc<Self> {
        Arc::new(Self { permits: Semaphore::new(0), waiting: AtomicUsize::new(0), most: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Backend for Gate {
    async fn answer(&self, query: &Query, _from: SocketAddr) -> Bytes {
        let now = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        query.error(ResponseCode::Refused)
    }
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn queries_of_one_connection_are_bounded() {
    let gate = Gate::closed();
    let (near, far) = duplex(1 << 16);
    let backend: Arc<dyn Backend> = Arc::clone(&gate) as _;
    let limits = limits(|l| l.queries_per_connection = 3);
    tokio::spawn(connection(far, LOOPBACK, backend, limits, CancellationToken::new()));
    let mut client = Messages::on(near);
    for id in 0..20 {
        client.send(&query(id, "www", RecordType::A)).await;
    }
    // On one thread and without sockets, this is time enough to take up all 20.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.waiting.load(Ordering::SeqCst), 3);
    gate.permits.add_permits(20);
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(client.receive().await.unwrap().metadata.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
    assert_eq!(gate.most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn connections_are_bounded_and_each_gets_its_turn() {
    let gate = Gate::closed();
    let server = TcpServer::start_with(Arc::clone(&gate) as _, limits(|l| l.connections = 2)).await;
    let mut clients = Vec::new();
    for id in 0..8 {
        let mut client = server.connect().await;
        client.send(&query(id, "www", RecordType::A)).await;
        clients.push(client);
    }
    gate.permits.add_permits(8);
    for (id, mut client) in clients.into_iter().enumerate() {
        assert_eq!(client.receive().await.unwrap().metadata.id, id as u16);
    }
    assert!(gate.most.load(Ordering::SeqCst) <= 2);
}

/// A listener that fails so many times before it gives its one stream, and for ever after.
struct Faulty {
    failures: u32,
    stream: Option<DuplexStream>,
}

impl Listener for Faulty {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        if self.failures == 0
            && let Some(stream) = self.stream.take()
        {
            return Ok((stream, LOOPBACK));
        }
        self.failures = self.failures.saturating_sub(1);
        Err(io::Error::other("no descriptors left"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_may_fail_for_a_while_but_not_for_ever() {
    let (near, far) = duplex(1 << 16);
    let listener = Faulty { failures: MAX_ACCEPT_FAILURES - 1, stream: Some(far) };
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, example_zone(), Limits::default(), stop));
    let mut client = Messages::on(near);
    assert_eq!(client.ask(&query(7, "www", RecordType::A)).await.metadata.id, 7);
    // The stream given up by its client, `serve` ends with what the listener said last.
    drop(client);
    assert_eq!(serving.await.unwrap().unwrap_err().to_string(), "no descriptors left");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_connection_and_half_a_message_is_silence() {
    for said in [b"".as_slice(), b"\x00", b"\x00\x40half"] {
        let (mut near, far) = duplex(1 << 16);
        let serving = connection(far, LOOPBACK, example_zone(), Limits::default(), CancellationToken::new());
        let serving = tokio::spawn(serving);
        near.write_all(said).await.unwrap();
        let start = tokio::time::Instant::now();
        let mut rest = Vec::new();
        let hour = Duration::from_secs(3600);
        tokio::time::timeout(hour, near.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.is_empty());
        assert_eq!(start.elapsed().as_secs(), Limits::default().idle.as_secs());
        serving.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_dropped() {
    // Room for the queries, none for the answers.
    let (near, far) = duplex(600);
    let mut client = Messages::on(near);
    let serving = connection(far, LOOPBACK, example_zone(), Limits::default(), CancellationToken::new());
    let serving = tokio::spawn(serving);
    client.send(&query(1, "large", RecordType::TXT)).await;
    let start = tokio::time::Instant::now();
    let error = serving.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), Limits::default().write.as_secs());
}

#[tokio::test]
async fn overlong_queries_end_the_connection() {
    let server = TcpServer::start(example_zone()).await;
    let mut stream = server.connect().await.0.into_inner();
    let length = u16::try_from(MAX_QUERY_LEN + 1).unwrap();
    stream.write_all(&length.to_be_bytes()).await.unwrap();
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
    // The server goes on.
    server.connect().await.ask(&query(1, "www", RecordType::A)).await;
}

#[tokio::test]
async fn a_client_that_is_done_asking_still_gets_its_answers() {
    let gate = Gate::closed();
    let server = TcpServer::start(Arc::clone(&gate) as _).await;
    let mut stream = server.connect().await;
    stream.send(&query(1, "www", RecordType::A)).await;
    stream.0.get_mut().shutdown().await.unwrap();
    gate.permits.add_permits(1);
    assert_eq!(stream.receive().await.unwrap().metadata.id, 1);
    assert!(stream.receive().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_answers_but_not_for_ever() {
    for (permits, answered) in [(1, true), (0, false)] {
        let gate = Gate::closed();
        let stop = CancellationToken::new();
        let (near, far) = duplex(1 << 16);
        let backend: Arc<dyn Backend> = Arc::clone(&gate) as _;
        let serving = tokio::spawn(connection(far, LOOPBACK, backend, Limits::default(), stop.clone()));
        let mut client = Messages::on(near);
        client.send(&query(1, "www", RecordType::A)).await;
        while gate.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        tokio::task::yield_now().await;
        gate.permits.add_permits(permits);
        let start = tokio::time::Instant::now();
        assert_eq!(client.receive().await.is_some(), answered);
        assert_eq!(serving.await.unwrap().is_ok(), answered);
        let waited = if answered { Duration::ZERO } else { Limits::default().drain };
        assert_eq!(start.elapsed().as_secs(), waited.as_secs());
    }
}
