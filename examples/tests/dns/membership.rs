//! Who answers behind a name, as the ordinary DNS says it: read from real DNS servers, over QSocket too, and never believed
//! in whom keys are exchanged with.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::rr::RData;
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::TXT;
use qsocket::config::Config;
use qsocket::exchange::{ExchangeError, KeyReceiver, Terms};
use qsocket::keys::{EncryptionKey, KeyId, KeyInfo, KeyStore, LiveKeys, Origin, StoredKey};
use qsocket::names::{Dns, Found, LookupError, Settled};
use qsocket::resolve::ConfigNames;
use qsocket::testing::{Raida, target};
use qsocket::{Endpoint, Principal, QSocketListener};
use qsocket_examples::dns::server::{Limits, serve};
use qsocket_examples::dns::upstream::Upstream;
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::support::{LOOPBACK, RealServer, ScriptedServer, answer, bytes, soon};

const NAME: &str = "wiki.raida.example";

/// Relays, and a server that takes keys, with another one that would like to be it.
struct Scene {
    raida: Raida,
    folder: TempDir,
    server: Taker,
    other: Taker,
}

/// A server that takes keys.
struct Taker {
    principal: Principal,
    receiver: KeyReceiver,
    listener: QSocketListener,
}

impl Taker {
    async fn start(raida: &Raida, folder: &TempDir, name: &str) -> Self {
        let keys = LiveKeys::of(KeyStore::create(folder.path().join(name)).unwrap()).unwrap();
        let receiver = KeyReceiver::new(keys);
        let config = raida.server_config().unwrap().with_key_receiver(receiver.clone());
        let listener = raida.listener_with(&format!("{name}.example"), config).await.unwrap();
        Self { principal: target(&listener).unwrap().server, receiver, listener }
    }

    /// How many keys came.
    fn keys(&self) -> usize {
        self.receiver.keys().store().keyring().unwrap().len()
    }
}

impl Scene {
    async fn start() -> Self {
        let (raida, folder) = (Raida::start_on_loopback().unwrap(), TempDir::new().unwrap());
        let server = Taker::start(&raida, &folder, "server").await;
        let other = Taker::start(&raida, &folder, "other").await;
        Self { raida, folder, server, other }
    }

    fn client(&self, setup: impl FnOnce(Config) -> Config) -> Endpoint {
        Endpoint::client(setup(self.raida.client_config().unwrap())).unwrap()
    }

    fn asking(&self, dns: SocketAddr) -> Endpoint {
        self.client(|config| config.with_dns(Dns::Server(dns)))
    }

    /// A client whose configuration says who the server is.
    fn pinned(&self, dns: SocketAddr) -> Endpoint {
        let mut names = ConfigNames::new();
        assert_eq!(names.pin(NAME, self.server.principal), Ok(true));
        self.client(|config| config.with_dns(Dns::Server(dns)).with_names(names))
    }
}

fn membership(server: Principal) -> String {
    format!("v=rke1; network={}; server={server}; number=7", server.network)
}

/// What the owner of the name puts into the DNS.
fn records(server: Principal, signalling: SocketAddr) -> Vec<String> {
    vec![
        format!("{NAME}. 60 IN A 127.0.0.1"),
        format!("{NAME}. 60 IN TXT \"v=spf1 -all\""),
        format!("{NAME}. 60 IN TXT \"{}\"", membership(server)),
        format!("_rke._tcp.{NAME}. 60 IN SRV 0 0 {} signals.raida.example.", signalling.port()),
        format!("signals.raida.example. 60 IN A {}", signalling.ip()),
    ]
}

/// A DNS server that says of every name that this server answers behind it.
async fn poisoned(server: Principal) -> ScriptedServer {
    ScriptedServer::start(move |_, query| {
        let data = match query.queries[0].query_type() {
            RecordType::TXT => vec![RData::TXT(TXT::new(vec![membership(server)]))],
            RecordType::A => vec![RData::A("127.0.0.1".parse().unwrap())],
            _ => vec![],
        };
        vec![bytes(&answer(&query, data))]
    })
    .await
}

/// Read by a real resolver from a real server; a hint, with which nothing is done until somebody settles who it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_membership_is_read_from_unbound_and_is_a_hint() {
    let scene = Scene::start().await;
    let signalling = scene.server.listener.endpoint().serve_signals(LOOPBACK).unwrap();
    let Some(dns) = RealServer::unbound(&records(scene.server.principal, signalling)).await else { return };
    let client = scene.asking(dns.address);
    let found = soon(client.lookup(NAME)).await.unwrap();
    let Found::Hint(hint) = &found else { panic!("{found:?}") };
    assert_eq!(hint.texts().collect::<Vec<_>>(), [membership(scene.server.principal)]);
    assert_eq!(hint.places().addresses, [signalling.ip()]);
    assert_eq!(hint.places().signalling, [signalling]);
    let error = soon(client.exchange_with(NAME, Terms::default())).await.unwrap_err();
    assert!(matches!(&error, ExchangeError::Name(LookupError::Unproven { .. })), "{error}");
    let said = error.to_string();
    let line = format!("\"{NAME}\" = {{ server = \"NETWORK.DENOMINATION.SERIAL\" }}");
    assert!(said.contains(&line) && said.contains(&membership(scene.server.principal)), "{said}");
    assert_eq!(scene.server.keys(), 0);

    // Confirmed by who knows better.
    assert_eq!(hint.confirm(scene.server.principal).unwrap().settled(), Settled::Pin);
    let error = hint.confirm(scene.other.principal).unwrap_err();
    assert!(matches!(error, LookupError::Contradicted { .. }), "{error}");
    let client = scene.pinned(dns.address);
    let exchanged = soon(client.exchange_with(NAME, Terms::default())).await.unwrap();
    assert_eq!(exchanged.key.with(), scene.server.principal);
    assert_eq!((scene.server.keys(), scene.other.keys()), (1, 0));
}

/// dnsmasq is another program with another mind about TXT and SRV.
#[tokio::test(flavor = "multi_thread")]
async fn a_membership_is_read_from_dnsmasq() {
    let scene = Scene::start().await;
    let text = membership(scene.server.principal);
    let arguments = vec![
        format!("--host-record={NAME},127.0.0.1"),
        format!("--txt-record={NAME},{text}"),
        format!("--srv-host=_rke._tcp.{NAME},{NAME},7075,0,0"),
    ];
    let Some(dns) = RealServer::dnsmasq(&arguments).await else { return };
    let server = soon(scene.pinned(dns.address).find(NAME)).await.unwrap();
    assert_eq!(server.principal(), scene.server.principal);
    assert_eq!(server.places().signalling, ["127.0.0.1:7075".parse().unwrap()]);
    let none = soon(scene.asking(dns.address).lookup("nothing.raida.example")).await.unwrap_err();
    assert!(matches!(&none, LookupError::NoMembership { .. }), "{none}");
    assert!(none.to_string().contains("v=rke1; network=1; server=1.0.7; number=1"), "{none}");
}

/// The attack: whoever can change an answer of the DNS names a server of his own.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_answer_leads_to_no_exchange() {
    let scene = Scene::start().await;
    let dns = poisoned(scene.other.principal).await;
    let error = soon(scene.asking(dns.address).exchange_with(NAME, Terms::default())).await.unwrap_err();
    assert!(matches!(error, ExchangeError::Name(LookupError::Unproven { .. })), "{error}");
    let error = soon(scene.pinned(dns.address).exchange_with(NAME, Terms::default())).await.unwrap_err();
    let ExchangeError::Name(LookupError::Contradicted { found, pin, .. }) = &error else { panic!("{error}") };
    assert_eq!((found, *pin), (&scene.other.principal.to_string(), scene.server.principal));
    let connected = soon(scene.pinned(dns.address).connect(format!("{NAME}:7"))).await;
    assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!((scene.server.keys(), scene.other.keys()), (0, 0));
}

/// A pin does its work without the DNS, as long as nobody has to know where the server is.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_needs_no_answer() {
    let scene = Scene::start().await;
    // Bound, and silent.
    let silent = UdpSocket::bind(LOOPBACK).await.unwrap();
    let client = scene.pinned(silent.local_addr().unwrap());
    let exchanged = soon(client.exchange_with(NAME, Terms::default())).await.unwrap();
    assert_eq!(exchanged.key.with(), scene.server.principal);
}

/// An Encryption key that is called as the name says who the server is, whatever the DNS would like.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_names_the_principal_is_a_pin() {
    let scene = Scene::start().await;
    let dns = poisoned(scene.other.principal).await;
    let store = KeyStore::create(scene.folder.path().join("client")).unwrap();
    let mut info = KeyInfo::new(KeyId([7; 16]), scene.server.principal, Origin::PreShared);
    info.name = Some(format!("{NAME}:443").parse().unwrap());
    let key = StoredKey::new(info, EncryptionKey::import(&[9; 32]).unwrap()).unwrap();
    store.install(&key).unwrap();
    let keys = LiveKeys::of(store).unwrap();
    let client = scene.client(|config| config.with_dns(Dns::Server(dns.address)).with_keys(keys));
    let error = soon(client.find(NAME)).await.unwrap_err();
    assert!(
        matches!(&error, LookupError::Contradicted { pin, .. } if *pin == scene.server.principal),
        "{error}"
    );
}

/// A stream to a name that is pinned finds its way by the DNS.
#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_name_without_an_address_is_found() {
    let scene = Scene::start().await;
    let at = scene.server.listener.local_addr().unwrap();
    let Some(dns) = RealServer::unbound(&records(scene.server.principal, at)).await else { return };
    let client = scene.pinned(dns.address);
    let accepted = scene.server.listener.accept();
    let (stream, accepted) =
        soon(async { tokio::join!(client.connect(format!("{NAME}:{}", at.port())), accepted) }).await;
    assert_eq!(stream.unwrap().peer().principal, scene.server.principal);
    assert_eq!(accepted.unwrap().0.peer().principal, client.principal());
}

/// The DNS wrapped in QSocket: a resolver behind a QSocket server, with unbound behind it.
#[tokio::test(flavor = "multi_thread")]
async fn the_dns_is_asked_over_qsocket() {
    let scene = Scene::start().await;
    let signalling = "192.0.2.9:7075".parse().unwrap();
    let Some(dns) = RealServer::unbound(&records(scene.server.principal, signalling)).await else { return };
    let listener = scene.raida.listener("dns.example").await.unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(serve(listener, Arc::new(Upstream::new(dns.address)), Limits::default(), stop));
    let client = scene.client(|config| config.with_dns(Dns::QSocket("dns.example:53".to_owned())));
    let found = soon(client.lookup(NAME)).await.unwrap();
    let Found::Hint(hint) = &found else { panic!("{found:?}") };
    assert_eq!(hint.texts().collect::<Vec<_>>(), [membership(scene.server.principal)]);
    assert_eq!(hint.places().signalling, [signalling]);
    // Its server is one, and asks others: a hint as well.
    let error = soon(client.find(NAME)).await.unwrap_err();
    assert!(matches!(error, LookupError::Unproven { .. }), "{error}");
    let none = soon(client.lookup("nothing.raida.example")).await.unwrap_err();
    assert!(matches!(none, LookupError::NoMembership { .. }), "{none}");
}

/// Two that contradict each other are none.
#[tokio::test(flavor = "multi_thread")]
async fn two_memberships_for_one_network_are_refused() {
    let scene = Scene::start().await;
    let mut records = records(scene.server.principal, "127.0.0.1:1".parse().unwrap());
    records.push(format!("{NAME}. 60 IN TXT \"{}\"", membership(scene.other.principal)));
    let Some(dns) = RealServer::unbound(&records).await else { return };
    for client in [scene.asking(dns.address), scene.pinned(dns.address)] {
        let error = soon(client.find(NAME)).await.unwrap_err();
        assert!(matches!(error, LookupError::Ambiguous { network: 1, .. }), "{error}");
    }
}
