use super::*;
use qsocket_files::rng::OsRng;
use qsocket_proto::crypto::schedule::hop::{AuthenticityNumber, ImportedKey};
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::{Dial, Dialer, DialledBy, Established, HopLimits, Inbox, Outbox};
use qsocket_proto::ids::{PathId, Principal, Role};
use qsocket_proto::raida_key::{RaidaKey, Strength, relay_table};
use raida_relay::names::Registry;
use raida_relay::posts::MemoryPosts;
use raida_relay::{Limits, Relay, RelayConfig};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Everything that was logged.
#[derive(Clone, Debug, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }
}

fn captured(level: &str, format: Format) -> (impl Subscriber + Send + Sync, Log, Captured) {
    let output = Captured::default();
    let writer = output.clone();
    let (subscriber, log) = subscriber(level, format, move || writer.clone()).unwrap();
    (subscriber, log, output)
}

/// Whether eight bytes of `secret` in a row stand in `log`, as they are, in hexadecimal or as numbers.
fn shows(log: &[u8], secret: &[u8]) -> bool {
    let text = String::from_utf8_lossy(log).to_lowercase();
    let dense: String = text.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    secret.windows(8).any(|part| {
        let hex: String = part.iter().map(|b| format!("{b:02x}")).collect();
        let list: Vec<String> = part.iter().map(u8::to_string).collect();
        log.windows(8).any(|window| window == part) || dense.contains(&hex) || text.contains(&list.join(", "))
    })
}

/// Every byte that crossed a socket, in both directions.
#[derive(Default)]
struct Wire {
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Wire {
    async fn send(&mut self, stream: &mut TcpStream, outbox: &mut Outbox) {
        stream.write_all(outbox.wire()).await.unwrap();
        self.sent.extend_from_slice(outbox.wire());
        outbox.consume(outbox.wire().len());
    }

    async fn receive(&mut self, stream: &mut TcpStream, inbox: &mut Inbox) {
        let spare = inbox.spare();
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read(spare));
        let n = read.await.expect("the relay is silent").unwrap();
        assert_ne!(n, 0, "the relay closed the connection");
        self.received.extend_from_slice(&spare[..n]);
        inbox.advance(n);
    }
}

/// Builds a hop, sends PING with this token over it and waits for the answer.
async fn visit(at: SocketAddr, key: &RaidaKey, path: PathId, token: u64) -> Wire {
    let (principal, role) = (key.principal(), key.role());
    let limits = HopLimits::default();
    let dial = Dial { principal, role, relay: path, dialled_by: DialledBy::Principal, limits };
    let mut stream = TcpStream::connect(at).await.unwrap();
    let (mut wire, mut inbox, mut outbox) = (Wire::default(), Inbox::new(), Outbox::new(usize::MAX));
    let imported = ImportedKey::new(key.number(path), principal, path, role);
    let mut dialer = Dialer::new(Instant::now(), dial, imported, &mut OsRng, &mut outbox);
    let Established { mut sealer, mut opener, .. } = loop {
        wire.send(&mut stream, &mut outbox).await;
        wire.receive(&mut stream, &mut inbox).await;
        if let Some(up) = dialer.handle(Instant::now(), &mut inbox, &mut outbox).unwrap() {
            break up;
        }
    };
    outbox.frame(&Frame::Ping { token }).unwrap();
    sealer.seal(Instant::now(), &mut outbox).unwrap();
    wire.send(&mut stream, &mut outbox).await;
    loop {
        wire.receive(&mut stream, &mut inbox).await;
        if let Some(mut frames) = opener.next_record(&mut inbox).unwrap() {
            assert!(matches!(frames.next(), Some(Ok(Frame::Pong { token: t })) if t == token));
            return wire;
        }
    }
}

fn key(serial: u32) -> RaidaKey {
    let principal = Principal { network: 1, denomination: 0, serial };
    RaidaKey::generate(principal, Role::Client, Strength::Bits256, &mut OsRng).unwrap()
}

fn raw(number: &AuthenticityNumber) -> Vec<u8> {
    match number {
        AuthenticityNumber::Bits128(number) => number.expose().to_vec(),
        AuthenticityNumber::Bits256(number) => number.expose().to_vec(),
    }
}

#[tokio::test]
async fn no_level_shows_numbers_or_records() {
    for format in [Format::Text, Format::Json] {
        // As it is: everything, of all crates.
        let (subscriber, _log, output) = captured("trace,tokio=trace", format);
        let _guard = tracing::subscriber::set_default(subscriber);
        let (known, stranger) = (key(123_456), key(654_321));
        let path = PathId::new(7).unwrap();
        let config = RelayConfig {
            path,
            network: 1,
            table: relay_table([&known], path),
            servers: vec![],
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
            dial_any_address: true,
            limits: Limits::default(),
            posts: Arc::new(MemoryPosts::default()),
            names: Registry::default(),
            principals: None,
        };
        tracing::trace!(?config, "what the program might say of its configuration");
        let relay = Relay::spawn(config).unwrap();
        let at = relay.local_addr();
        let token = 0x0123_4567_89ab_cdef;
        let wire = visit(at, &known, path, token).await;
        assert!(wire.sent.len() > 100 && wire.received.len() > 100, "a handshake and a record");

        let mut refused = TcpStream::connect(at).await.unwrap();
        let mut hello = Outbox::new(usize::MAX);
        let dial = Dial {
            principal: stranger.principal(),
            role: Role::Client,
            relay: path,
            dialled_by: DialledBy::Principal,
            limits: HopLimits::default(),
        };
        let number = stranger.number(path);
        let imported = ImportedKey::new(number, stranger.principal(), path, Role::Client);
        let _dialer = Dialer::new(Instant::now(), dial, imported, &mut OsRng, &mut hello);
        refused.write_all(hello.wire()).await.unwrap();
        refused.read_to_end(&mut Vec::new()).await.unwrap();
        relay.stop().await;

        let (log, text) = (output.bytes(), output.text());
        assert!(text.contains("relay started") && text.contains("hop up"), "{text}");
        assert!(text.contains("123456"), "from debug on the log names principals: {text}");
        for secret in [
            &raw(known.number(path)),
            &raw(number),
            &wire.sent,
            &wire.received,
            &hello.wire().to_vec(),
            &token.to_be_bytes().to_vec(),
            &token.to_le_bytes().to_vec(),
        ] {
            assert!(!shows(&log, secret), "{text}");
        }
    }
}

#[test]
fn what_shows_a_secret_is_found() {
    let secret: Vec<u8> = (100..132).collect();
    let hex: String = secret.iter().map(|b| format!("{b:02X}")).collect();
    for log in [format!("number {hex}"), format!("number {:?}", &secret[5..20]), format!("{:02x?}", &secret)]
    {
        assert!(shows(log.as_bytes(), &secret), "{log}");
    }
    assert!(shows(&secret[10..20], &secret));
    assert!(!shows(b"number 100, 101, 102", &secret));
}

#[test]
fn a_plain_level_is_about_this_project_and_changes_while_it_runs() {
    let (subscriber, log, output) = captured("info", Format::Text);
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(target: "raida_relay::relay", "ours");
        tracing::debug!(target: "raida_relay::relay", "quiet");
        tracing::info!(target: "sqlx::query", "theirs");
        tracing::warn!(target: "sqlx::query", "their warning");
        log.set_level("debug").unwrap();
        tracing::debug!(target: "raida_relay::relay", "loud");
        assert!(log.set_level("chatty").is_err());
        tracing::debug!(target: "raida_relay::relay", "still loud");
        log.set_level("error").unwrap();
        tracing::warn!(target: "raida_relay::relay", "nothing");
    });
    let text = output.text();
    let said: Vec<_> = text.lines().map(|line| line.rsplit_once(": ").unwrap().1).collect();
    assert_eq!(said, ["ours", "their warning", "loud", "still loud"]);
}

#[test]
fn json_is_an_object_a_line_and_bad_levels_are_told() {
    let (subscriber, _log, output) = captured("info", Format::Json);
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(target: "raida_relay", relay = 7, "started\nnot a line of its own");
    });
    let lines: Vec<serde_json::Value> =
        output.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["relay"], &lines[0]["level"]), (&7.into(), &"INFO".into()));

    for level in ["error", "warn", "info", "debug", "trace", "warn,raida_relay=debug"] {
        check(level).unwrap();
    }
    for level in ["", "loud", "info,=", "raida_relay=loud"] {
        let e = format!("{:#}", check(level).unwrap_err());
        assert!(e.contains("write"), "{e}");
    }
}
