//! The same across 25 relays: an unchanged `dig` asks the stub while relays stop.

use std::path::PathBuf;
use std::sync::Arc;

use hickory_proto::rr::RecordType;
use qsocket::testing::Raida;
use qsocket::{Endpoint, PathId};
use qsocket_examples::dns::Backend;
use qsocket_examples::dns::server::{Limits, serve};
use qsocket_examples::dns::stub::StubConfig;
use qsocket_examples::dns::upstream::Upstream;
use qsocket_examples::local::Network;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::dig::{dig, sorted};
use crate::support::{LocalStub, RealServer, data, example_zone, program, query, soon};

/// As many relays as may fail while every block still arrives without a resend; from all rows and columns.
const NINE: [u8; 9] = [0, 4, 6, 8, 12, 15, 18, 22, 24];

/// A back end behind a QSocket listener, with a stub that asks it across the relays.
struct Across {
    raida: Raida,
    client: Endpoint,
    stub: LocalStub,
    _stop: DropGuard,
}

impl Across {
    async fn start(backend: Arc<dyn Backend>) -> Self {
        let Network { raida, listener, client, target } = Network::start().await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, backend, Limits::default(), stop.clone()));
        let endpoint = client.clone();
        let connector = move || {
            let endpoint = endpoint.clone();
            async move { endpoint.connect_to(target, "dns").await }
        };
        let stub = LocalStub::start(StubConfig::default(), connector).await;
        soon(client.hops_up(25)).await;
        Self { raida, client, stub, _stop: stop.drop_guard() }
    }

    async fn stop_nine(&self) {
        for path in NINE {
            self.raida.stop_relay(PathId::new(path).unwrap()).await;
        }
    }

    fn start_nine(&self) {
        for path in NINE {
            self.raida.start_relay(PathId::new(path).unwrap()).unwrap();
        }
    }

    /// That the stopped relays are missed, and that no other is.
    async fn nine_are_missed(&self) {
        soon(async {
            while self.client.hops().up.len() != 16 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// What every server here is asked, with all relays and without nine of them.
async fn check(program: PathBuf, backend: Arc<dyn Backend>, addresses: &[&str]) {
    let across = Across::start(backend).await;
    for stopped in [0, 9] {
        if stopped == 9 {
            across.stop_nine().await;
        }
        for transport in ["+notcp", "+tcp"] {
            let ask =
                async |what: &str| dig(&program, across.stub.address, &format!("{what} {transport}")).await;
            assert_eq!(sorted(&ask("www.raida.example A +short").await), addresses, "{stopped} stopped");
            let missing = ask("nowhere.raida.example A").await;
            assert!(missing.contains("status: NXDOMAIN"), "{stopped} stopped: {missing}");
        }
        // Too long for UDP: cut, and asked for again over TCP.
        let whole = dig(&program, across.stub.address, "large.raida.example TXT").await;
        assert!(whole.contains("retrying in TCP mode") && whole.contains("ANSWER: 18,"), "{whole}");
    }
    across.nine_are_missed().await;
}

/// 18 texts of 200 bytes.
fn texts() -> impl Iterator<Item = String> {
    (0..18).map(|i| format!("{i:0200}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_and_a_zone() {
    let Some(dig) = program("dig", "dnsutils") else { return };
    check(dig, example_zone(), &["192.0.2.80", "198.51.100.80"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_and_unbound() {
    let Some(dig) = program("dig", "dnsutils") else { return };
    let mut records = vec!["www.raida.example. 60 IN A 192.0.2.80".to_owned()];
    records.extend(texts().map(|text| format!("large.raida.example. 60 IN TXT \"{text}\"")));
    let Some(server) = RealServer::unbound(&records).await else { return };
    check(dig, Arc::new(Upstream::new(server.address)), &["192.0.2.80"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_and_dnsmasq() {
    let Some(dig) = program("dig", "dnsutils") else { return };
    let mut arguments = vec!["--host-record=www.raida.example,192.0.2.80".to_owned()];
    arguments.extend(texts().map(|text| format!("--txt-record=large.raida.example,{text}")));
    let Some(server) = RealServer::dnsmasq(&arguments).await else { return };
    check(dig, Arc::new(Upstream::new(server.address)), &["192.0.2.80"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_digs_at_once_while_nine_relays_stop() {
    let Some(program) = program("dig", "dnsutils") else { return };
    let across = Across::start(example_zone()).await;
    let asked: Vec<_> = (0..24)
        .map(|i| {
            let transport = if i % 3 == 0 { "+tcp" } else { "+notcp" };
            let arguments = format!("host-{i}.any.raida.example A +short {transport}");
            let (program, stub) = (program.clone(), across.stub.address);
            tokio::spawn(async move { dig(&program, stub, &arguments).await })
        })
        .collect();
    across.stop_nine().await;
    for task in asked {
        assert_eq!(task.await.unwrap().trim(), "203.0.113.7");
    }
    across.nine_are_missed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_queries_while_nine_relays_stop_and_come_back() {
    const QUERIES: u16 = 200;
    let across = Across::start(example_zone()).await;
    let mut tcp = across.stub.tcp().await;
    let ask = |id| query(id, &format!("host-{id}.any"), RecordType::A);
    for id in 0..QUERIES {
        tcp.send(&ask(id)).await;
        match id {
            50 => across.stop_nine().await,
            150 => across.start_nine(),
            _ => {}
        }
    }
    let mut answered = std::collections::BTreeSet::new();
    for _ in 0..QUERIES {
        let answer = tcp.receive().await.expect("an answer");
        assert_eq!(data(&answer), ["203.0.113.7"]);
        assert_eq!(answer.queries, ask(answer.metadata.id).queries);
        answered.insert(answer.metadata.id);
    }
    assert_eq!(answered.len(), usize::from(QUERIES));
    soon(across.client.hops_up(25)).await;
}
