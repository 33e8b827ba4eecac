//! Listeners: the same as tokio's, and a stream of what comes in.

use crate::network::Network;
use futures_util::StreamExt;
use futures_util::stream::FusedStream;
use qsocket::testing::Raida;
use qsocket::{Health, PathId};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Both kinds of listener, used by the same words.
macro_rules! polls_and_accepts {
    ($listener:expr, $connect:expr) => {{
        let listener = $listener;
        assert_ne!(listener.local_addr()?.port(), 0);
        // One who polls and two who wait, none of whom may miss what is for it.
        let polled = poll_fn(|cx| listener.poll_accept(cx));
        let (one, two, three, clients) = tokio::join!(polled, listener.accept(), listener.accept(), async {
            let mut clients = Vec::new();
            for number in 1..=3 {
                let mut client = $connect.await?;
                client.write_u8(number).await?;
                clients.push(client);
            }
            io::Result::Ok(clients)
        });
        // Kept: a dropped stream takes its bytes with it.
        let _clients = clients?;
        let mut sum = 0;
        for (mut stream, address) in [one?, two?, three?] {
            assert_eq!(stream.peer_addr()?, address);
            sum += stream.read_u8().await?;
        }
        assert_eq!(sum, 6);
        io::Result::Ok(())
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_polls_and_accepts() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    polls_and_accepts!(&listener, TcpStream::connect(listener.local_addr()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qsocket_polls_and_accepts() -> io::Result<()> {
    let network = Network::start().await?;
    polls_and_accepts!(&network.listener, network.connect())
}

#[tokio::test]
async fn a_dropped_accept_takes_nothing() -> io::Result<()> {
    let network = Network::start().await?;
    let mut accept = pin!(network.listener.accept());
    assert!(futures_util::poll!(accept.as_mut()).is_pending());
    let mut client = network.connect().await?;
    client.write_u8(1).await?;
    let (mut other, _) = network.listener.accept().await?;
    assert_eq!(other.read_u8().await?, 1);
    assert!(futures_util::poll!(accept.as_mut()).is_pending(), "another took it");
    Ok(())
}

#[tokio::test]
async fn incoming_gives_streams_and_ends_after_close() -> io::Result<()> {
    let network = Network::start().await?;
    {
        let mut incoming = network.listener.incoming();
        for number in 0..3 {
            let mut client = network.connect().await?;
            client.write_u8(number).await?;
            let mut server = incoming.next().await.ok_or(ErrorKind::UnexpectedEof)??;
            assert_eq!(server.read_u8().await?, number);
        }
        assert!(!incoming.is_terminated());
    }
    let (endpoint, client) = (network.listener.endpoint().clone(), network.client);
    let waiting = client.connect_to(network.target, "waits in the queue").await?;
    let mut incoming = network.listener.into_incoming();
    let waits = incoming.next().await.ok_or(ErrorKind::UnexpectedEof)??;
    assert_eq!(waits.resource(), "waits in the queue");
    let (end, ()) = tokio::join!(incoming.next(), endpoint.close());
    assert!(end.is_none(), "{end:?}");
    assert!(incoming.is_terminated());
    assert!(incoming.next().await.is_none(), "fused");
    let listener = incoming.into_inner();
    assert_eq!(listener.accept().await.err().map(|e| e.kind()), Some(ErrorKind::NotConnected));
    drop(waiting);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_of_a_new_connection_is_known_when_its_stream_is_given() -> io::Result<()> {
    let network = Network::start().await?;
    // Which task comes first is chance.
    for _ in 0..50 {
        let client = network.client.connect_fresh(network.target, "test").await?;
        assert_ne!(*client.health().borrow(), Health::Lost);
        let (server, _) = network.listener.accept().await?;
        assert_ne!(*server.health().borrow(), Health::Lost);
    }
    Ok(())
}

#[tokio::test]
async fn strangers_who_say_nothing_keep_no_relay_out() {
    const SILENT: usize = 300;
    let raida = Raida::start_on_loopback().unwrap();
    let listener = raida.listener("quiet.example").await.unwrap();
    let mut health = listener.endpoint().health();
    listener.endpoint().hops_up(25).await;
    let path = PathId::new(3).unwrap();
    raida.stop_relay(path).await;
    health.wait_for(|health| health.well() == 24).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(listener.ports()[path.index()]).await.unwrap());
    }
    raida.start_relay(path).unwrap();
    // Well before the deadline at which the strangers go by themselves.
    let up = timeout(Duration::from_secs(3), listener.endpoint().hops_up(25));
    up.await.expect("the relay finds no room to show who it is");
}

#[test]
fn a_burst_of_streams_is_accepted_by_a_task_that_does_nothing_else() {
    /// More than a task may take in one turn.
    const BURST: usize = 300;
    // In a thread of its own: what never rests lets no timeout beside it come.
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Where `main` waits beside the workers, a wake is not put off until it rests.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let raida = Raida::start().unwrap();
            let listener = raida.listener("burst.example").await.unwrap();
            let client = raida.client().unwrap();
            let mut streams = Vec::new();
            for _ in 0..BURST {
                let mut stream = client.connect("burst.example:7").await.unwrap();
                stream.shutdown().await.unwrap();
                streams.push(stream);
            }
            for _ in 0..BURST {
                listener.accept().await.unwrap();
            }
        });
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(30)).expect("accept goes round for ever");
}
