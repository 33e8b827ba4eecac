//! An unchanged `dig` asks the stub about names under `.raida`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use qsocket::names::{PutName, Record, Reference};
use qsocket::testing::Raida;
use qsocket::{Endpoint, PathId};
use qsocket_examples::dns::Backend;
use qsocket_examples::dns::raida;
use qsocket_examples::dns::stub::{Stub, StubConfig};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::dig::{dig, sorted};
use crate::support::{LOOPBACK, TcpServer, example_zone, program, soon};

/// The name that `owner` registers, paid at all relays.
async fn register(raida: &Raida, owner: &Endpoint) -> PutName {
    let base = 50_000;
    let endpoint =
        |path: PathId| (path, (std::net::Ipv4Addr::new(192, 0, 2, 10), base + u16::from(path.get())).into());
    let record = Record {
        name: "cloudcoin".parse().unwrap(),
        number: NonZeroU32::new(305_419_896).unwrap(),
        owner: owner.principal(),
        version: NonZeroU32::MIN,
        begin: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
        ttl: 300,
        server: Some("1.0.7".parse().unwrap()),
        service: Some("192.0.2.7:7000".parse().unwrap()),
        signalling: NonZeroU32::new(7075).and_then(|port| port.try_into().ok()),
        endpoints: PathId::all().map(endpoint).collect::<BTreeMap<_, _>>(),
    };
    let put = PutName { record, years: 1, reference: Reference([7; 16]) };
    assert_eq!(owner.put_name(&put).await.done().count(), 25);
    assert_eq!(raida.relays().confirm_payment(put.reference).await, 25);
    put
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_and_a_raida_name() {
    let Some(dig_program) = program("dig", "dnsutils") else { return };
    let raida = Raida::start_on_loopback().unwrap();
    let (owner, client) = (raida.client().unwrap(), raida.client().unwrap());
    let put = register(&raida, &owner).await;

    // Other names go where they went before.
    let server = TcpServer::start(example_zone()).await;
    let stub = Stub::bind(LOOPBACK).await.unwrap();
    let (address, stop) = (stub.local_addr(), CancellationToken::new());
    let _stop = stop.clone().drop_guard();
    let front = {
        let client = client.clone();
        move |carried| -> Arc<dyn Backend> { Arc::new(raida::Raida::new(client, carried)) }
    };
    let far = server.address;
    tokio::spawn(stub.run_behind(front, move || TcpStream::connect(far), StubConfig::default(), stop));
    let ask = async |what: &str| dig(&dig_program, address, what).await;

    for transport in ["+notcp", "+tcp"] {
        let short = async |what: &str| ask(&format!("{what} +short {transport}")).await.trim().to_owned();
        assert_eq!(short("cloudcoin.raida A").await, "192.0.2.7");
        assert_eq!(short("ClOuDcOiN.RaIdA A").await, "192.0.2.7");
        assert_eq!(
            short("cloudcoin.raida TXT").await,
            r#""v=rke1; network=1; server=1.0.7; number=305419896""#
        );
        assert_eq!(short("_rke._tcp.cloudcoin.raida SRV").await, "0 0 7075 cloudcoin.raida.");
        assert_eq!(short("r3.cloudcoin.raida A").await, "192.0.2.10");
        assert_eq!(short("305419896.number.raida PTR").await, "cloudcoin.raida.");
        let ipv6 = ask(&format!("cloudcoin.raida AAAA {transport}")).await;
        assert!(ipv6.contains("status: NOERROR") && ipv6.contains("SOA"), "{ipv6}");
        let missing = ask(&format!("nothing.raida A {transport}")).await;
        assert!(missing.contains("status: NXDOMAIN") && missing.contains("hostmaster.raida."), "{missing}");
        let other = short("www.raida.example A").await;
        assert_eq!(sorted(&other), ["192.0.2.80", "198.51.100.80"]);
        let transfer = ask(&format!("cloudcoin.raida ANY {transport}")).await;
        assert!(transfer.contains("status: NOTIMP"), "{transfer}");
    }
    // 25 endpoints fit what crosses without fragments, and are asked for over TCP where less is taken.
    let all = ask("_raida._tcp.cloudcoin.raida SRV +notcp").await;
    assert!(!all.contains("TCP mode") && all.contains("ANSWER: 25,"), "{all}");
    let all = ask("_raida._tcp.cloudcoin.raida SRV +bufsize=512").await;
    assert!(all.contains("retrying in TCP mode") && all.contains("ANSWER: 25,"), "{all}");

    // Nine relays lie, and one more.
    let version = NonZeroU32::new(2).unwrap();
    let service = Some("203.0.113.66:7000".parse().unwrap());
    let lie = PutName { record: Record { version, service, ttl: 60, ..put.record.clone() }, ..put };
    let lies = async |path: PathId| {
        let names = raida.relays().names(path);
        names.put(owner.principal(), &lie, |_| true).await.unwrap().unwrap();
    };
    for path in PathId::all().take(9) {
        lies(path).await;
    }
    assert_eq!(ask("cloudcoin.raida A +short").await.trim(), "192.0.2.7", "remembered");
    let fresh = raida.client().unwrap();
    soon(fresh.hops_up(25)).await;
    let front = raida::Raida::new(fresh, example_zone());
    let server = TcpServer::start(Arc::new(front)).await;
    let ask_fresh = async |what: &str| dig(&dig_program, server.address, &format!("{what} +tcp")).await;
    assert_eq!(ask_fresh("cloudcoin.raida A +short").await.trim(), "192.0.2.7");
    lies(PathId::new(9).unwrap()).await;
    let fresh = raida.client().unwrap();
    soon(fresh.hops_up(25)).await;
    let server = TcpServer::start(Arc::new(raida::Raida::new(fresh, example_zone()))).await;
    let none = dig(&dig_program, server.address, "cloudcoin.raida A +tcp").await;
    assert!(none.contains("status: SERVFAIL") && !none.contains("203.0.113.66"), "{none}");
}
