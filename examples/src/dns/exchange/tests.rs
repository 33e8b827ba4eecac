use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_util::codec::Framed;

use super::*;
use crate::dns::wire::Screened;

const DEADLINE: Duration = Duration::from_secs(4);

fn query(id: u16, name: &str) -> Query {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Question::query(Name::from_ascii(name).unwrap(), RecordType::A));
    match wire::screen(message.to_vec().unwrap().into()) {
        Screened::Query(query) => query,
        other => panic!("not a query: {other:?}"),
    }
}

/// An answer to a query as it came over the stream: the same, but for the flag QR.
fn answer_to(query: &[u8]) -> Bytes {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer.into()
}

type Far = Framed<DuplexStream, tokio_util::codec::LengthDelimitedCodec>;

/// A connector of in-memory streams, and the far ends in the order of connecting.
fn streams() -> (impl Connector, mpsc::UnboundedReceiver<Far>) {
    let (far_ends, accepted) = mpsc::unbounded_channel();
    let connector = move || {
        let (near, far) = duplex(1 << 16);
        let sent = far_ends.send(Framed::new(far, wire::framing(MAX_MESSAGE_LEN)));
        std::future::ready(sent.map(|()| near).map_err(|_| io::ErrorKind::ConnectionRefused.into()))
    };
    (connector, accepted)
}

async fn message(far: &mut Far) -> Bytes {
    far.next().await.unwrap().unwrap().freeze()
}

#[tokio::test(start_paused = true)]
async fn equal_ids_and_answers_out_of_order() {
    let (connector, mut accepted) = streams();
    let (exchange, _task) = Exchange::spawn(connector, DEADLINE, CancellationToken::new());
    let names = ["a.example.", "b.example.", "c.example."];
    let asked = names.map(|name| {
        let exchange = exchange.clone();
        tokio::spawn(async move { exchange.ask(&query(7, name)).await })
    });
    let mut far = accepted.recv().await.unwrap();
    let mut received = Vec::new();
    for _ in names {
        received.push(message(&mut far).await);
    }
    let mut ids: Vec<_> = received.iter().map(|m| wire::id_of(m).unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each query on a stream has an id of its own");
    for query in received.iter().rev() {
        far.send(answer_to(query)).await.unwrap();
    }
    for (task, name) in asked.into_iter().zip(names) {
        let answer = task.await.unwrap().unwrap();
        assert_eq!(answer, answer_to(query(7, name).bytes()));
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_fit_no_query_are_ignored() {
    let (connector, mut accepted) = streams();
    let (exchange, _task) = Exchange::spawn(connector, DEADLINE, CancellationToken::new());
    let asked = tokio::spawn(async move { exchange.ask(&query(7, "a.example.")).await });
    let mut far = accepted.recv().await.unwrap();
    let sent = message(&mut far).await;
    let id = wire::id_of(&sent).unwrap();
    far.send(answer_to(query(id, "evil.example.").bytes())).await.unwrap();
    far.send(answer_to(query(id.wrapping_add(1), "a.example.").bytes())).await.unwrap();
    far.send(sent.clone()).await.unwrap();
    far.send(Bytes::from_static(b"x")).await.unwrap();
    far.send(Bytes::new()).await.unwrap();
    far.send(answer_to(&sent)).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), answer_to(query(7, "a.example.").bytes()));
}

#[tokio::test(start_paused = true)]
async fn queries_of_a_lost_stream_are_asked_on_the_next() {
    let (connector, mut accepted) = streams();
    let (exchange, _task) = Exchange::spawn(connector, DEADLINE, CancellationToken::new());
    let asked = tokio::spawn(async move { exchange.ask(&query(7, "a.example.")).await });
    let mut first = accepted.recv().await.unwrap();
    message(&mut first).await;
    drop(first);
    let mut second = accepted.recv().await.unwrap();
    let again = message(&mut second).await;
    second.send(answer_to(&again)).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), answer_to(query(7, "a.example.").bytes()));
}

#[tokio::test(start_paused = true)]
async fn a_query_is_sent_a_bounded_number_of_times() {
    let (connector, mut accepted) = streams();
    let (exchange, _task) = Exchange::spawn(connector, DEADLINE, CancellationToken::new());
    let asked = tokio::spawn(async move { exchange.ask(&query(7, "a.example.")).await });
    for _ in 0..MAX_SENDS {
        let mut far = accepted.recv().await.unwrap();
        message(&mut far).await;
    }
    assert_eq!(asked.await.unwrap(), Err(ExchangeError::StreamEnded));
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_costs_one_deadline_and_is_replaced() {
    let (connector, mut accepted) = streams();
    let (exchange, _task) = Exchange::spawn(connector, DEADLINE, CancellationToken::new());
    let silent = accepted.recv().await.unwrap();
    let start = Instant::now();
    assert_eq!(exchange.ask(&query(7, "a.example.")).await, Err(ExchangeError::Timeout));
    assert_eq!(start.elapsed().as_secs(), DEADLINE.as_secs());

    let asked = tokio::spawn(async move { exchange.ask(&query(8, "b.example.")).await });
    let mut second = accepted.recv().await.unwrap();
    let sent = message(&mut second).await;
    second.send(answer_to(&sent)).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), answer_to(query(8, "b.example.").bytes()));
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_answers_others_survives_a_timeout() {
    let (connector, mut accepted) = streams();
    let (exchange, _task) = Exchange::spawn(connector, DEADLINE, CancellationToken::new());
    let mut far = accepted.recv().await.unwrap();
    let slow = exchange.clone();
    let slow = tokio::spawn(async move { slow.ask(&query(7, "slow.example.")).await });
    message(&mut far).await;
    let quick = exchange.clone();
    let quick = tokio::spawn(async move { quick.ask(&query(8, "quick.example.")).await });
    let sent = message(&mut far).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    far.send(answer_to(&sent)).await.unwrap();
    quick.await.unwrap().unwrap();
    assert_eq!(slow.await.unwrap(), Err(ExchangeError::Timeout));

    // Still the same stream.
    let asked = tokio::spawn(async move { exchange.ask(&query(9, "c.example.")).await });
    let sent = message(&mut far).await;
    far.send(answer_to(&sent)).await.unwrap();
    asked.await.unwrap().unwrap();
    assert!(accepted.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_is_tried_with_growing_pauses() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let connector = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Err::<DuplexStream, _>(io::ErrorKind::ConnectionRefused.into()))
    };
    let (exchange, _task) = Exchange::spawn(connector, DEADLINE, CancellationToken::new());
    let start = Instant::now();
    assert_eq!(exchange.ask(&query(7, "a.example.")).await, Err(ExchangeError::Timeout));
    assert_eq!(start.elapsed().as_secs(), DEADLINE.as_secs());
    // 50, 100, ... 1600 ms, then 2 s, each at least half of that: 4 s hold 6 to 12 attempts.
    let seen = attempts.load(Ordering::Relaxed);
    assert!((6..=12).contains(&seen), "{seen} attempts");

    // Nobody asks: nothing is tried.
    tokio::time::advance(Duration::from_secs(60)).await;
    let seen = attempts.load(Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(600)).await;
    tokio::task::yield_now().await;
    assert_eq!(attempts.load(Ordering::Relaxed), seen);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_read_costs_one_deadline() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&ends);
    let connector = move || {
        // Less than one message fits.
        let (near, far) = duplex(8);
        kept.lock().unwrap().push(far);
        std::future::ready(io::Result::Ok(near))
    };
    let (exchange, _task) = Exchange::spawn(connector, DEADLINE, CancellationToken::new());
    assert_eq!(exchange.ask(&query(7, "a.example.")).await, Err(ExchangeError::Timeout));
    // The second query finds the first stream given up and a new one begun.
    assert_eq!(exchange.ask(&query(8, "b.example.")).await, Err(ExchangeError::Timeout));
    assert!(ends.lock().unwrap().len() >= 2);
}

#[tokio::test(start_paused = true)]
async fn queries_in_flight_are_bounded() {
    let (connector, mut accepted) = streams();
    let (exchange, _task) = Exchange::spawn(connector, DEADLINE, CancellationToken::new());
    let mut far = accepted.recv().await.unwrap();
    let asked: Vec<_> = (0..MAX_IN_FLIGHT)
        .map(|id| {
            let exchange = exchange.clone();
            tokio::spawn(async move { exchange.ask(&query(id as u16, "a.example.")).await })
        })
        .collect();
    let mut received = Vec::new();
    for _ in 0..MAX_IN_FLIGHT {
        received.push(message(&mut far).await);
    }
    tokio::time::advance(DEADLINE / 2).await;
    let one_more = tokio::spawn(async move { exchange.ask(&query(1, "b.example.")).await });
    tokio::task::yield_now().await;
    // It waits for its turn and gets it with the first answer.
    far.send(answer_to(&received[0])).await.unwrap();
    let sent = message(&mut far).await;
    far.send(answer_to(&sent)).await.unwrap();
    one_more.await.unwrap().unwrap();
    let mut answered = 0;
    for task in asked {
        answered += usize::from(task.await.unwrap().is_ok());
    }
    assert_eq!(answered, 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_stream_and_what_waits() {
    let (connector, mut accepted) = streams();
    let shutdown = CancellationToken::new();
    let (exchange, task) = Exchange::spawn(connector, DEADLINE, shutdown.clone());
    let asking = exchange.clone();
    let asked = tokio::spawn(async move { asking.ask(&query(7, "a.example.")).await });
    let mut far = accepted.recv().await.unwrap();
    message(&mut far).await;
    shutdown.cancel();
    task.await.unwrap();
    assert_eq!(asked.await.unwrap(), Err(ExchangeError::Closed));
    assert!(far.next().await.is_none(), "the server sees an orderly end");
    assert_eq!(exchange.ask(&query(8, "b.example.")).await, Err(ExchangeError::Closed));
}

#[tokio::test(start_paused = true)]
async fn garbage_from_the_server_ends_the_stream_only() {
    let (connector, mut accepted) = streams();
    let (exchange, _task) = Exchange::spawn(connector, DEADLINE, CancellationToken::new());
    let asked = tokio::spawn(async move { exchange.ask(&query(7, "a.example.")).await });
    let mut raw = accepted.recv().await.unwrap().into_inner();
    let mut head = [0; 2];
    raw.read_exact(&mut head).await.unwrap();
    // Half a message, then the end.
    raw.write_all(&[0x01, 0x00, 0xde, 0xad]).await.unwrap();
    drop(raw);
    let mut second = accepted.recv().await.unwrap();
    let sent = message(&mut second).await;
    second.send(answer_to(&sent)).await.unwrap();
    asked.await.unwrap().unwrap();
}

#[test]
fn pauses_grow_to_a_bound() {
    let mut backoff = Backoff::default();
    let pauses: Vec<_> = (0..100).map(|_| backoff.next_pause()).collect();
    assert!(pauses[0] >= MIN_BACKOFF / 2 && pauses[0] <= MIN_BACKOFF);
    assert!(pauses.iter().all(|pause| *pause <= MAX_BACKOFF));
    assert!(pauses[50..].iter().all(|pause| *pause >= MAX_BACKOFF / 2));
}
