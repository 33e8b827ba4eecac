//! Keys that a client and a server exchange by way of 25 relays, some of which fail or lie.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsocket::access::AccessList;
use qsocket::config::{Config, Listen, Raida as Addresses, RelayAddresses};
use qsocket::exchange::{ExchangeError, Exchanged, KeyReceiver, MAX_MEMO, Status, Terms};
use qsocket::keys::{EncryptionKey, KeyId, KeyInfo, KeyStore, LiveKeys, Origin, StoredKey};
use qsocket::resolve::Target;
use qsocket::testing::{Raida, target};
use qsocket::{Endpoint, PathId, Principal, QSocketListener, QSocketStream, RaidaKey, Role, rng::OsRng};
use qsocket_proto::exchange::Get;
use qsocket_proto::raida_key::Strength;
use raida_relay::posts::{Got, MemoryPosts, NewPost, PostQuota, Posted, Posts, PostsFailed, Released};
use raida_relay::{LocalRaida, LocalServer};
use std::io;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server that takes keys, and a client.
struct Scene {
    raida: Raida,
    folder: TempDir,
    receiver: KeyReceiver,
    listener: QSocketListener,
    client: Endpoint,
}

impl Scene {
    async fn new() -> io::Result<Self> {
        Self::with(|server, _| server).await
    }

    async fn with(setup: impl FnOnce(Config, Principal) -> Config) -> io::Result<Self> {
        let (raida, folder) = (Raida::start()?, TempDir::new()?);
        let receiver = KeyReceiver::new(folder_of_keys(&folder, "keys"));
        let client = raida.client_config()?.with_keys(folder_of_keys(&folder, "client"));
        let server = setup(raida.server_config()?.with_key_receiver(receiver.clone()), client.identity().0);
        let listener = raida.listener_with("server.example", server).await?;
        Ok(Self { raida, folder, receiver, listener, client: Endpoint::client(client)? })
    }

    fn server(&self) -> Principal {
        target(&self.listener).unwrap().server
    }

    async fn exchange(&self) -> Result<Exchanged, ExchangeError> {
        self.client.exchange(self.server(), Terms { memo: b"hello".to_vec(), ..Terms::default() }).await
    }

    /// What the server holds.
    fn kept(&self, id: KeyId) -> Option<StoredKey> {
        self.receiver.keys().store().get(id).unwrap()
    }
}

fn folder_of_keys(folder: &TempDir, name: &str) -> Arc<LiveKeys> {
    LiveKeys::of(KeyStore::create(folder.path().join(name)).unwrap()).unwrap()
}

/// Whether both sides hold the same key.
fn same(ours: &Exchanged, theirs: &StoredKey) -> bool {
    theirs.secret().is_some_and(|secret| secret.expose() == ours.key.key().expose())
}

fn status(result: Result<Exchanged, ExchangeError>) -> Status {
    match result.unwrap_err() {
        ExchangeError::NotConfirmed(answers) => answers.most().unwrap(),
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn both_sides_hold_a_key_that_no_one_else_has() -> io::Result<()> {
    let scene = Scene::new().await?;
    let exchanged = scene.exchange().await.unwrap();
    assert_eq!(exchanged.relays.len(), 25);
    assert_eq!(exchanged.key.with(), scene.server());
    let kept = scene.kept(exchanged.key.id()).unwrap();
    assert!(same(&exchanged, &kept));
    assert_eq!(kept.info().with, scene.client.principal());
    assert!(matches!(kept.info().origin, Origin::Exchanged { network: 1, .. }));
    let mut received = scene.receiver.received();
    let received = received.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert_eq!((received.client, received.key), (scene.client.principal(), exchanged.key.id()));
    assert_eq!(received.memo, b"hello");

    // Another one is another key.
    let second = scene.exchange().await.unwrap();
    assert_ne!(second.key.id(), exchanged.key.id());
    assert!(!same(&second, &kept) && same(&second, &scene.kept(second.key.id()).unwrap()));
    Ok(())
}

/// Whoever waits for a key may end the program at once: the client has its confirmation all the same.
#[tokio::test]
async fn a_server_that_ends_with_its_last_key_has_confirmed_it() -> io::Result<()> {
    for _ in 0..5 {
        let Scene { raida, folder, receiver, listener, client } = Scene::new().await?;
        let server = target(&listener)?.server;
        let mut received = receiver.received();
        let end = async {
            received.wait_for(Option::is_some).await.unwrap();
            listener.endpoint().close().await;
            drop(listener);
        };
        let (exchanged, ()) = tokio::join!(client.exchange(server, Terms::default()), end);
        exchanged.unwrap();
        drop((raida, folder));
    }
    Ok(())
}

/// The key does its work: the next connection says that it is in force, without anything that anybody configures.
#[tokio::test(start_paused = true)]
async fn the_next_connection_mixes_the_key_in() -> io::Result<()> {
    let scene = Scene::new().await?;
    let to = target(&scene.listener)?;
    let before = scene.client.connect_to(to, "old").await?;
    assert_eq!(before.peer().encryption_key, None);
    drop(before);
    let exchanged = scene.exchange().await.unwrap();
    // A connection of its own: the one from before goes on without.
    let (stream, accepted) =
        tokio::join!(scene.client.connect_fresh(to, "new"), accept(&scene.listener, "new"));
    let (mut stream, mut accepted) = (stream?, accepted?);
    assert_eq!(stream.peer().encryption_key, Some(exchanged.key.id()));
    assert_eq!(accepted.peer().encryption_key, Some(exchanged.key.id()));
    stream.write_all(b"under both").await?;
    stream.shutdown().await?;
    let mut read = String::new();
    accepted.read_to_string(&mut read).await?;
    assert_eq!(read, "under both");
    Ok(())
}

/// The next stream for this resource.
async fn accept(listener: &QSocketListener, resource: &str) -> io::Result<QSocketStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        if stream.resource() == resource {
            return Ok(stream);
        }
    }
}

/// The server is told directly while no relay passes anything on any more; where nothing listens, relays do it.
#[tokio::test(start_paused = true)]
async fn a_signal_may_come_directly() -> io::Result<()> {
    let scene = Scene::new().await?;
    let port = scene.listener.endpoint().serve_signals("10.0.0.2:7075".parse().unwrap())?;
    for at in [port, "10.0.0.2:7076".parse().unwrap(), "10.9.9.9:1".parse().unwrap()] {
        let terms = Terms { signal_at: Some(at), ..Terms::default() };
        let exchanged = scene.client.exchange(scene.server(), terms).await.unwrap();
        assert!(same(&exchanged, &scene.kept(exchanged.key.id()).unwrap()), "{at}");
    }
    let error = scene.client.serve_signals(port).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    Ok(())
}

/// Whoever knocks at a signalling port without receipts: refused by one answer, or closed, and honest clients come through.
#[tokio::test]
async fn a_signalling_port_withstands_noise() -> io::Result<()> {
    let raida = Raida::start_on_loopback()?;
    let folder = TempDir::new()?;
    let receiver = KeyReceiver::new(folder_of_keys(&folder, "keys"));
    let server = raida.server_config()?.with_key_receiver(receiver);
    let listener = raida.listener_with("server.example", server).await?;
    let port = listener.endpoint().serve_signals("127.0.0.1:0".parse().unwrap())?;
    let ask = async |request: &[u8]| -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(port).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut answer).await;
        Ok(answer)
    };
    let refused = |status: Status| vec![status as u8, 0, 0];
    assert_eq!(ask(&[0, 0]).await?, refused(Status::Malformed));
    assert_eq!(ask(&[0, 3, 1, 2, 3]).await?, refused(Status::Malformed));
    assert!(ask(&[0xff, 0xff, 0, 0]).await?.is_empty(), "a length that no signal has");
    // One address holds four places and no more, however many it wants.
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(port).await?);
    }
    let mut closed = 0;
    for stream in &mut idle[4..] {
        closed += usize::from(stream.read(&mut [0]).await.is_ok_and(|n| n == 0));
    }
    assert_eq!(closed, 16);
    let client = Endpoint::client(raida.client_config()?)?;
    listener.endpoint().hops_up(25).await;
    let terms = Terms { signal_at: Some(port), ..Terms::default() };
    let exchanged = client.exchange(target(&listener)?.server, terms).await;
    assert!(exchanged.is_ok(), "through the relays: {exchanged:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nine_relays_may_be_stopped_and_ten_may_not() -> io::Result<()> {
    let scene = Scene::new().await?;
    for path in PathId::all().skip(5).take(9) {
        scene.raida.stop_relay(path).await;
    }
    let exchanged = scene.exchange().await.unwrap();
    assert_eq!(exchanged.relays.len(), 16);
    assert!(same(&exchanged, &scene.kept(exchanged.key.id()).unwrap()));
    scene.raida.stop_relay(PathId::new(0).unwrap()).await;
    let error = scene.exchange().await.unwrap_err();
    assert!(matches!(error, ExchangeError::TooFewRelays { taken: 15, .. }), "{error}");
    assert!(error.to_string().contains("15 relays took a share, 16 are needed"), "{error}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_server_says_why_it_takes_no_key() -> io::Result<()> {
    // It takes none at all.
    let raida = Raida::start()?;
    let listener = raida.listener("plain.example").await?;
    let exchange = raida.client()?.exchange(target(&listener)?.server, Terms::default()).await;
    assert_eq!(status(exchange), Status::NoSuchService);

    // Its list names the client.
    let scene = Scene::with(|server, client| {
        let access = AccessList { deny: [client].into(), ..AccessList::default() };
        server.with_listen(Listen { access, ..Listen::default() })
    });
    let scene = scene.await?;
    assert_eq!(status(scene.exchange().await), Status::NotPermitted);
    assert!(scene.receiver.keys().store().keyring().unwrap().is_empty());

    // It is away.
    drop(scene.listener);
    let away =
        scene.client.exchange(Principal { serial: 4242, ..scene.client.principal() }, Terms::default());
    let error = away.await.unwrap_err();
    assert!(matches!(error, ExchangeError::TooFewRelays { taken: 0, .. }), "nobody knows it: {error}");
    Ok(())
}

/// The attack: sixteen relays that collude could exchange a key in the client's name, and then connect as the client. A key
/// that both agreed on another way says more than they can, so an exchange does not stand in for it.
#[tokio::test(start_paused = true)]
async fn an_exchange_takes_no_place_beside_a_key_that_was_agreed_another_way() -> io::Result<()> {
    let scene = Scene::new().await?;
    let (client, server) = (scene.client.principal(), scene.server());
    let info = KeyInfo::new(KeyId([7; 16]), client, Origin::PreShared).with_own(server);
    let key = StoredKey::new(info, EncryptionKey::import(&[9; 32]).unwrap()).unwrap();
    scene.receiver.keys().store().install(&key).unwrap();
    scene.receiver.keys().reload().unwrap();
    assert_eq!(status(scene.exchange().await), Status::NotPermitted);
    // Revoked is not gone: only its owner's removal says that it does not count.
    scene.receiver.keys().store().revoke(KeyId([7; 16])).unwrap();
    scene.receiver.keys().reload().unwrap();
    assert_eq!(status(scene.exchange().await), Status::NotPermitted);
    scene.receiver.keys().store().remove(KeyId([7; 16])).unwrap();
    scene.receiver.keys().reload().unwrap();
    assert!(scene.exchange().await.is_ok());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_fills_no_store() -> io::Result<()> {
    let scene = Scene::new().await?;
    let mut last = Vec::new();
    for _ in 0..11 {
        last.push(scene.exchange().await.unwrap().key.id());
    }
    let ring = scene.receiver.keys().store().keyring().unwrap();
    assert_eq!(ring.len(), 8, "a client keeps no more than these");
    assert!(ring.get(*last.last().unwrap()).is_some(), "the newest among them");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_begun_says_so() -> io::Result<()> {
    let scene = Scene::new().await?;
    let own = scene.client.principal();
    let to = |server, memo| scene.client.exchange(server, Terms { memo, ..Terms::default() });
    assert!(matches!(to(own, vec![]).await, Err(ExchangeError::NoSuchServer(_))));
    let elsewhere = Principal { network: 9, ..own };
    assert!(matches!(to(elsewhere, vec![]).await, Err(ExchangeError::NoSuchServer(_))));
    let long = to(scene.server(), vec![0; MAX_MEMO + 1]).await;
    assert!(matches!(long, Err(ExchangeError::MemoTooLong(n)) if n == MAX_MEMO + 1));
    Ok(())
}

/// Nothing is kept at either side of what the store of the server refuses.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_told_and_the_next_exchange_works() -> io::Result<()> {
    let scene = Scene::new().await?;
    let (keys, hidden) = (scene.folder.path().join("keys"), scene.folder.path().join("hidden"));
    std::fs::rename(&keys, &hidden)?;
    assert_eq!(status(scene.exchange().await), Status::Failed);
    std::fs::rename(&hidden, &keys)?;
    assert!(scene.receiver.keys().store().keyring().unwrap().is_empty());
    assert!(scene.exchange().await.is_ok());
    Ok(())
}

/// How a relay's store fails when it is asked for what it took.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It gives another share.
    Lies,
    /// It gives nothing, and does not say so.
    IsSilent,
}

#[derive(Debug)]
struct Faulty(MemoryPosts, Fault);

#[async_trait::async_trait]
impl Posts for Faulty {
    async fn post(&self, now: u64, quota: PostQuota, post: NewPost<'_>) -> Result<Posted, PostsFailed> {
        self.0.post(now, quota, post).await
    }

    async fn get(&self, now: u64, receiver: Principal, get: Get) -> Result<Got, PostsFailed> {
        let mut got = self.0.get(now, receiver, get).await?;
        match (&mut got, self.1) {
            (Got::Entry(entry), Fault::Lies) => entry[180] ^= 1,
            (_, Fault::IsSilent) => std::future::pending().await,
            (_, Fault::Lies) => {}
        }
        Ok(got)
    }

    async fn release(&self, now: u64, receiver: Principal, get: Get) -> Result<Released, PostsFailed> {
        self.0.release(now, receiver, get).await
    }

    async fn sweep(&self, now: u64) -> Result<u64, PostsFailed> {
        self.0.sweep(now).await
    }
}

/// Over real sockets, relays 3 to 11 take their posts, give their receipts, and fail at the fetch. The key is the right one;
/// returns the relays that the server names.
async fn nine_fail_at_the_fetch(fault: Fault) -> io::Result<Vec<(usize, u64)>> {
    let posts = (0..25).map(|i| -> Arc<dyn Posts> {
        let kept = MemoryPosts::default();
        if FAILING.contains(&i) { Arc::new(Faulty(kept, fault)) } else { Arc::new(kept) }
    });
    let principal = |serial| Principal { network: 1, denomination: 0, serial };
    let key =
        |serial, role| RaidaKey::generate(principal(serial), role, Strength::Bits256, &mut OsRng).unwrap();
    let (client_key, server_key) = (key(1, Role::Client), key(2, Role::Server));
    let raida = LocalRaida::builder().posts(posts.collect());
    let raida = raida.start_with_keys([&client_key, &server_key], std::iter::empty::<LocalServer>())?;
    let relays = RelayAddresses::from_list(&raida.addresses()).map_err(io::Error::other)?;
    let addresses = Addresses { network: 1, relays };
    let folder = TempDir::new()?;
    let receiver = KeyReceiver::new(folder_of_keys(&folder, "keys"));
    let server = Config::new(addresses.clone(), server_key)?.with_key_receiver(receiver.clone());
    let listener = QSocketListener::bind_with(server, "127.0.0.1:0").await?;
    let Target { server, .. } = target(&listener)?;
    raida.register((server, listener.local_addr()?, *listener.ports())).unwrap();
    let client = Endpoint::client(Config::new(addresses, client_key)?)?;
    client.hops_up(25).await;
    listener.endpoint().hops_up(25).await;
    let exchanged = client.exchange(server, Terms::default()).await.unwrap();
    assert_eq!(exchanged.relays.len(), 25, "all of them took their share");
    assert!(same(&exchanged, &receiver.keys().store().get(exchanged.key.id()).unwrap().unwrap()));
    Ok(listener.endpoint().hops().false_shares.iter().map(|(path, n)| (path.index(), *n)).collect())
}

const FAILING: std::ops::Range<usize> = 3..12;

#[tokio::test]
async fn nine_relays_that_lie_about_shares_are_named_and_done_without() -> io::Result<()> {
    assert_eq!(nine_fail_at_the_fetch(Fault::Lies).await?, FAILING.map(|i| (i, 1)).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn nine_relays_that_fall_silent_after_the_post_are_done_without_and_not_blamed() -> io::Result<()> {
    assert_eq!(nine_fail_at_the_fetch(Fault::IsSilent).await?, []);
    Ok(())
}
