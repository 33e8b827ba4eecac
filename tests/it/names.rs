//! Names under `.raida` over real relays, some of which lie: who answers behind a name, and that nobody else decides it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::logs::Logs;
use qsocket::exchange::{ExchangeError, KeyReceiver, Terms};
use qsocket::keys::{KeyStore, LiveKeys};
use qsocket::names::{
    Contrary, Found, LookupError, Name, NoReply, PutName, Record, Reference, Settled, State, Vouched,
};
use qsocket::resolve::ConfigNames;
use qsocket::testing::{Raida, target};
use qsocket::{Endpoint, PathId, Principal, QSocketListener};
use qsocket_proto::call::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::time::sleep;

const NAME: &str = "cloudcoin.raida";
const TTL: u32 = 300;

/// Relays, a server that takes keys and has a name, its owner, and a client.
struct Scene {
    raida: Raida,
    receiver: KeyReceiver,
    listener: QSocketListener,
    owner: Endpoint,
    client: Endpoint,
    record: Record,
    _folder: TempDir,
}

impl Scene {
    /// The name is registered and paid.
    async fn new() -> io::Result<Self> {
        let scene = Self::unnamed().await?;
        scene.register().await;
        assert_eq!(scene.raida.relays().confirm_payment(REFERENCE).await, 25);
        Ok(scene)
    }

    async fn unnamed() -> io::Result<Self> {
        let (raida, folder) = (Raida::start()?, TempDir::new()?);
        let keys = KeyStore::create(folder.path().join("keys")).unwrap();
        let receiver = KeyReceiver::new(LiveKeys::of(keys).unwrap());
        let server = raida.server_config()?.with_key_receiver(receiver.clone());
        let listener = raida.listener_with("server.example", server).await?;
        let (owner, client) = (raida.client()?, raida.client()?);
        let at = target(&listener)?;
        let signalling = listener.endpoint().serve_signals((at.address.ip(), 7075).into())?;
        let record = Record {
            name: NAME.parse().unwrap(),
            number: NonZeroU32::new(305_419_896).unwrap(),
            owner: owner.principal(),
            version: NonZeroU32::MIN,
            begin: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
            ttl: TTL,
            server: Some(at.server),
            service: Some(at.address),
            signalling: signalling.port().try_into().ok(),
            endpoints: BTreeMap::new(),
        };
        Ok(Self { raida, receiver, listener, owner, client, record, _folder: folder })
    }

    async fn register(&self) {
        let told = self.owner.put_name(&put(self.record.clone())).await;
        assert_eq!(told.done().count(), 25, "{told:?}");
        assert!(
            told.done().all(|(_, standing)| standing.state == State::Pending && standing.due.amount == 2000)
        );
    }

    fn server(&self) -> Principal {
        self.record.server.unwrap()
    }

    /// These relays say of the name what its owner never said.
    async fn lie(&self, relays: impl IntoIterator<Item = u8>, server: Principal) {
        let version = NonZeroU32::new(2).unwrap();
        let false_record = Record { version, server: Some(server), ..self.record.clone() };
        for relay in relays {
            let names = self.raida.relays().names(PathId::new(relay).unwrap());
            let put = put(false_record.clone());
            names.put(self.owner.principal(), &put, |_| true).await.unwrap().unwrap();
        }
    }

    async fn vouched(&self, client: &Endpoint) -> Result<Vouched, LookupError> {
        match client.lookup(NAME).await? {
            Found::Vouched(vouched) => Ok(vouched),
            other => panic!("{other:?}"),
        }
    }

    fn keys(&self) -> usize {
        self.receiver.keys().store().keyring().unwrap().len()
    }
}

const REFERENCE: Reference = Reference([7; 16]);

fn put(record: Record) -> PutName {
    PutName { record, years: 1, reference: REFERENCE }
}

fn mallory() -> Principal {
    Principal { network: 1, denomination: 0, serial: 666 }
}

/// What sixteen relays say leads to a stream and to a key, and says so.
#[tokio::test(start_paused = true)]
async fn a_name_leads_to_its_server() -> io::Result<()> {
    let scene = Scene::new().await?;
    let found = scene.vouched(&scene.client).await.unwrap();
    assert_eq!(
        found.membership.to_string(),
        format!("v=rke1; network=1; server={}; number=305419896", scene.server())
    );
    assert_eq!((found.relays.len(), &found.contrary[..]), (25, &[][..]));
    let at = target(&scene.listener)?.address;
    assert_eq!((found.places.addresses.clone(), found.places.port), (vec![at.ip()], Some(at.port())));
    assert_eq!(found.places.signalling, [(at.ip(), 7075).into()]);
    let server = scene.client.find("CloudCoin.RAIDA.").await.unwrap();
    assert_eq!((server.principal(), server.settled()), (scene.server(), Settled::Relays(found.relays)));

    let opening = scene.client.connect(format!("{NAME}:{}", at.port()));
    let (stream, accepted) = tokio::join!(opening, scene.listener.accept());
    assert_eq!(stream?.peer().principal, scene.server());
    assert_eq!(accepted?.0.peer().principal, scene.client.principal());
    let exchanged = scene.client.exchange_with(NAME, Terms::default()).await.unwrap();
    assert_eq!((exchanged.key.with(), scene.keys()), (scene.server(), 1));
    Ok(())
}

/// The attack: nine relays name a server of theirs. The right one is found, and they are named: in the result, in the
/// counters and in the log.
#[tokio::test(start_paused = true)]
async fn nine_relays_that_lie_about_a_name_are_named() -> io::Result<()> {
    let logs = Logs::start();
    let scene = Scene::new().await?;
    let nine = [0, 1, 4, 7, 11, 12, 18, 22, 24];
    scene.lie(nine, mallory()).await;
    let found = scene.vouched(&scene.client).await.unwrap();
    assert_eq!(found.membership.server, Some(scene.server()));
    assert_eq!(found.relays.len(), 16);
    let expected = nine.map(|n| (PathId::new(n).unwrap(), Contrary::Other));
    assert_eq!(found.contrary, expected);
    let stats = scene.client.stats();
    let counted: Vec<_> = PathId::all().filter(|path| stats.relay(*path).contrary_answers > 0).collect();
    assert_eq!(counted, expected.map(|(path, _)| path));
    let text = logs.text();
    let warned: BTreeSet<u8> = (text.lines())
        .filter(|line| line.contains(" WARN ") && line.contains("answers otherwise than sixteen others"))
        .filter_map(|line| line.split_once("relay=")?.1.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(warned, nine.into(), "{text}");
    let exchanged = scene.client.exchange_with(NAME, Terms::default()).await.unwrap();
    assert_eq!(exchanged.key.with(), scene.server());
    Ok(())
}

/// With a tenth there is no answer, and above all no wrong one.
#[tokio::test(start_paused = true)]
async fn ten_relays_that_lie_about_a_name_prevent_and_decide_nothing() -> io::Result<()> {
    let scene = Scene::new().await?;
    scene.lie(5..15, mallory()).await;
    let error = scene.client.exchange_with(NAME, Terms::default()).await.unwrap_err();
    let ExchangeError::Name(LookupError::Disagreed(disagreement)) = &error else { panic!("{error}") };
    let counts: Vec<_> = disagreement.said().map(|(_, relays)| relays.len()).collect();
    assert_eq!(counts, [15, 10]);
    let said = error.to_string();
    assert!(said.contains(&format!("15: v=rke1; network=1; server={};", scene.server())), "{said}");
    assert!(said.contains("10: v=rke1; network=1; server=1.0.666;"), "{said}");
    let port = target(&scene.listener)?.address.port();
    let error = scene.client.connect(format!("{NAME}:{port}")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(scene.keys(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nine_relays_may_be_stopped() -> io::Result<()> {
    let scene = Scene::new().await?;
    for path in PathId::all().skip(3).take(9) {
        scene.raida.stop_relay(path).await;
    }
    // One that has no hops yet.
    let client = scene.raida.client()?;
    assert_eq!(scene.vouched(&client).await.unwrap().relays.len(), 16);
    scene.raida.stop_relay(PathId::new(0).unwrap()).await;
    let client = scene.raida.client()?;
    let error = scene.vouched(&client).await.unwrap_err();
    assert!(matches!(&error, LookupError::Disagreed(said) if said.silent().len() == 10), "{error}");
    Ok(())
}

/// What is not there is remembered for a minute and not longer; and nothing resolves before it is paid at sixteen relays.
#[tokio::test(start_paused = true)]
async fn a_name_is_seen_when_it_is_paid() -> io::Result<()> {
    let scene = Scene::unnamed().await?;
    let none = async |client: &Endpoint| {
        let error = scene.vouched(client).await.unwrap_err();
        matches!(error, LookupError::NotRegistered(_))
    };
    assert!(none(&scene.client).await);
    scene.register().await;
    sleep(Duration::from_secs(61)).await;
    assert!(none(&scene.client).await, "pending");
    let pending = scene.owner.describe_name(&scene.record.name).await;
    assert!(pending.done().all(|(_, there)| there.state == State::Pending && there.payments.len() == 1));
    // Fifteen operators have seen the payment.
    for path in PathId::all().take(15) {
        scene.raida.relays().names(path).confirm(REFERENCE, "test").await.unwrap().unwrap();
    }
    let early = scene.raida.client()?;
    assert!(matches!(scene.vouched(&early).await.unwrap_err(), LookupError::Disagreed(_)));
    let sixteenth = PathId::new(15).unwrap();
    scene.raida.relays().names(sixteenth).confirm(REFERENCE, "test").await.unwrap().unwrap();
    assert!(none(&scene.client).await, "remembered");
    sleep(Duration::from_secs(61)).await;
    let found = scene.vouched(&scene.client).await.unwrap();
    assert_eq!((found.relays.len(), found.contrary.len()), (16, 9));
    Ok(())
}

/// The attack: what was true once. It is believed for its time to live, and not for one that liars choose.
#[tokio::test(start_paused = true)]
async fn a_change_is_seen_after_the_time_to_live() -> io::Result<()> {
    let scene = Scene::new().await?;
    assert_eq!(scene.vouched(&scene.client).await.unwrap().membership.server, Some(scene.server()));
    let version = NonZeroU32::new(2).unwrap();
    let changed = Record { version, server: Some(mallory()), ttl: 60, ..scene.record.clone() };
    assert_eq!(scene.owner.put_name(&put(changed.clone())).await.done().count(), 25);
    sleep(Duration::from_secs(u64::from(TTL) - 10)).await;
    assert_eq!(scene.vouched(&scene.client).await.unwrap().membership.server, Some(scene.server()));
    sleep(Duration::from_secs(11)).await;
    assert_eq!(scene.vouched(&scene.client).await.unwrap().membership.server, Some(mallory()));
    // Said again it changes nothing, an older one is refused, and so is somebody else's.
    assert_eq!(scene.owner.put_name(&put(changed.clone())).await.done().count(), 25);
    let refused = |why: Status| move |(_, failed): (PathId, NoReply)| failed == NoReply::Refused(why);
    assert!(scene.owner.put_name(&put(scene.record.clone())).await.failed().all(refused(Status::Outdated)));
    let stolen = Record { owner: scene.client.principal(), version: NonZeroU32::MAX, ..changed };
    let told = scene.client.put_name(&put(stolen)).await;
    assert!(told.done().count() == 0 && told.failed().all(refused(Status::Exists)), "{told:?}");
    Ok(())
}

/// The user's own configuration counts more than all relays.
#[tokio::test(start_paused = true)]
async fn a_pin_counts_more_than_relays() -> io::Result<()> {
    let scene = Scene::new().await?;
    let mut names = ConfigNames::new();
    names.pin(NAME, mallory()).unwrap();
    let client = Endpoint::client(scene.raida.client_config()?.with_names(names))?;
    let error = client.find(NAME).await.unwrap_err();
    assert!(matches!(&error, LookupError::Contradicted { pin, .. } if *pin == mallory()), "{error}");
    assert!(matches!(client.exchange_with(NAME, Terms::default()).await, Err(ExchangeError::Name(_))));
    let mut names = ConfigNames::new();
    names.pin(NAME, scene.server()).unwrap();
    let client = Endpoint::client(scene.raida.client_config()?.with_names(names))?;
    assert_eq!(client.find(NAME).await.unwrap().settled(), Settled::Pin);
    let port = target(&scene.listener)?.address.port();
    assert!(client.connect(format!("{NAME}:{port}")).await.is_ok(), "the relays say where it is");
    // Whatever letters it is asked for in, and though it is not registered.
    let name: Name = "münze".parse().unwrap();
    let mut names = ConfigNames::new();
    names.pin(&name.to_string(), mallory()).unwrap();
    let client = Endpoint::client(scene.raida.client_config()?.with_names(names))?;
    let found = client.find("MÜNZE.raida").await.unwrap();
    assert_eq!((found.principal(), found.settled()), (mallory(), Settled::Pin));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_no_name_is_said() -> io::Result<()> {
    let scene = Scene::new().await?;
    for bad in [
        "raida",
        "a.raida",
        "r1.cloudcoin.raida",
        "cloud_coin.raida",
        "-cloud.raida",
        "cloud\u{441}oin.raida",
    ] {
        let error = scene.client.lookup(bad).await.unwrap_err();
        assert!(matches!(&error, LookupError::Name { .. }), "{bad}: {error}");
        assert_eq!(
            scene.client.connect(format!("{bad}:7")).await.unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
    // A name whose owner named nobody.
    let name: Name = "nobody".parse().unwrap();
    let number = NonZeroU32::new(5).unwrap();
    let record = Record { name, number, server: None, ..scene.record.clone() };
    let paid = Reference([8; 16]);
    let told = scene.owner.put_name(&PutName { record, years: 1, reference: paid }).await;
    assert_eq!(told.done().count(), 25);
    assert_eq!(scene.raida.relays().confirm_payment(paid).await, 25);
    let error = scene.client.find("nobody.raida").await.unwrap_err();
    assert!(matches!(error, LookupError::NoServer(_)), "{error}");
    Ok(())
}
