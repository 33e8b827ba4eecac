use super::*;
use crate::daemon::status::tests::{relay, status};
use crate::daemon::status::{self, Status};
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Ends a test that hangs.
const GUARD: Duration = Duration::from_secs(60);

async fn start(status: Status) -> SocketAddr {
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::new(status)));
    address
}

/// Sends bytes, and reads until the port closes.
async fn raw(at: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    timeout(GUARD, exchange).await.expect("the admin port does not close")
}

async fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let answer = raw(at, &format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn health_readiness_metrics_and_status_are_told() {
    let mut drains = relay(7);
    drains.draining = true;
    let busy = status([relay(3), drains]);
    let at = start(busy.clone()).await;
    assert_eq!(get(at, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(at, "/readyz").await, (503, "relay 7 is draining\n".to_owned()));
    let (code, text) = get(at, "/metrics").await;
    assert!(code == 200 && text.contains("raida_relay_draining{relay=\"7\"} 1\n"), "{text}");
    let (code, json) = get(at, "/status").await;
    assert_eq!((code, serde_json::from_str::<Status>(&json).unwrap()), (200, busy.clone()));
    assert_eq!(get(at, "/").await.0, 404);
    let post = raw(at, &format!("POST /status HTTP/1.1\r\nHost: {at}\r\nContent-Length: 0\r\n\r\n")).await;
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");

    let at = start(status([relay(3)])).await;
    assert_eq!(get(at, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(status::ask(at).await.unwrap(), status([relay(3)]), "what the command asks for");
}

#[tokio::test]
async fn another_hosts_name_gets_nothing() {
    let at = start(status([relay(3)])).await;
    let port = at.port();
    for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            let answer = raw(at, &format!("GET /status HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
        }
    }
    // What a browser sends whose page had its own name resolved to this address, and tricks with it.
    for head in [
        &format!("GET /status HTTP/1.1\r\nHost: attacker.example:{port}"),
        "GET /status HTTP/1.1\r\nHost: attacker.example",
        "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.attacker.example",
        "GET /metrics HTTP/1.1\r\nHost: localhost.attacker.example",
        "GET /status HTTP/1.1\r\nHost: 192.0.2.1",
        "GET /status HTTP/1.1\r\nHost: 0.0.0.0",
        "GET /status HTTP/1.1\r\nHost: attacker.example@127.0.0.1.attacker.example",
        "GET /status HTTP/1.1\r\nHost: localhost\r\nHost: attacker.example",
        "GET /status HTTP/1.1\r\nHost: attacker.example\r\nHost: localhost",
        "GET http://attacker.example/status HTTP/1.1\r\nHost: localhost",
        "GET /status HTTP/1.1\r\nHost:",
        "GET /status HTTP/1.1",
        "GET /status HTTP/1.0",
        "GET /nothing HTTP/1.1\r\nHost: attacker.example",
    ] {
        let answer = raw(at, &format!("{head}\r\n\r\n")).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.0 403 "),
            "{head}: {answer}"
        );
        assert!(!answer.contains("1.2.3"), "{head}: {answer}");
    }
}

#[tokio::test]
async fn slow_and_silent_clients_end_and_do_not_keep_others_out() {
    let at = start(status([relay(3)])).await;
    let mut stuck = Vec::new();
    for i in 0..MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let part = ["", "GET", "GET /status HTTP/1.1\r\nHost: localhost\r\nX: "][i % 3];
        stream.write_all(part.as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    // Served once they are given up, and not before: all places are taken.
    let asked = std::time::Instant::now();
    assert_eq!(get(at, "/healthz").await.0, 200);
    assert!(asked.elapsed() >= HEAD_TIME - Duration::from_millis(500), "the places are bounded");
    for mut stream in stuck {
        let end = timeout(GUARD, stream.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "a stuck client is not given up");
    }
}

#[tokio::test]
async fn a_head_without_end_and_a_body_without_end_are_cut_off() {
    let at = start(status([relay(3)])).await;
    let long = format!("GET /status HTTP/1.1\r\nHost: localhost\r\nX: {}", "a".repeat(4 * HEAD_BYTES));
    let answer = raw(at, &long).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");

    let mut stream = TcpStream::connect(at).await.unwrap();
    let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let pushed = async {
        let mut sent = 0u64;
        while stream.write_all(&[0; 16 * 1024]).await.is_ok() {
            sent += 16 * 1024;
        }
        sent
    };
    timeout(GUARD, pushed).await.expect("a body is read without end");
}

#[tokio::test]
async fn only_loopback_is_bound() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let e = bind(address.parse().unwrap()).await.unwrap_err();
        assert!(e.to_string().contains("write 127.0.0.1"), "{e}");
    }
}

#[tokio::test]
async fn asking_where_nobody_answers_says_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    let e = format!("{:#}", status::ask(at).await.unwrap_err());
    assert!(e.contains("raida-relay run") && e.contains("[admin] listen"), "{e}");

    // Somebody else's port, with an answer that does not end.
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = other.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = other.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b' '; 16 * 1024]).await.is_ok() {}
    });
    let e = timeout(GUARD, status::ask(at)).await.expect("the answer is read without end").unwrap_err();
    assert!(format!("{e:#}").contains("no relay program answers"), "{e:#}");
}
