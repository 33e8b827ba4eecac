//! What QSocket promises beyond TCP: relays fail, servers refuse with a reason, and errors say what is wrong.

use crate::data::{Pattern, Random, send_random};
use crate::network::{Network, Setup};
use qsocket::access::AccessList;
use qsocket::config::{Listen, MlKem, Redundancy, Tuning};
use qsocket::keys::{EncryptionKey, KeyId, SharedKey};
use qsocket::resolve::Target;
use qsocket::{PathId, Principal, QSocketStream, Refusal, refusal};
use sha2::{Digest, Sha256};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// After this a test counts as hung. Generous: the machine may be slow and shared.
const HANG: Duration = Duration::from_secs(240);

/// A stream with both its ends.
async fn pair(network: &Network) -> io::Result<(QSocketStream, QSocketStream)> {
    let (client, accepted) = tokio::join!(network.connect(), network.listener.accept());
    Ok((client?, accepted?.0))
}

/// The relays with these numbers.
fn relays(numbers: impl IntoIterator<Item = u8>) -> impl Iterator<Item = PathId> {
    numbers.into_iter().filter_map(PathId::new)
}

/// Waits until both ends have all their hops.
async fn all_hops(network: &Network) {
    let all = PathId::all().count();
    tokio::join!(network.client.hops_up(all), network.listener.endpoint().hops_up(all));
}

/// Sends 1 GiB while one relay after another stops, and compares digests.
async fn bulk_with_stops(redundancy: Redundancy) -> io::Result<()> {
    const TOTAL: usize = 1 << 30;
    // Among them the corners of a rectangle, which the grid's parity alone cannot restore.
    const STOPPED: [u8; 9] = [0, 1, 5, 6, 24, 12, 18, 3, 8];
    let tuning = Tuning::default().with_redundancy(redundancy);
    let network =
        Network::with(|_, _| Setup { client: tuning.clone(), server: tuning, ..Setup::default() }).await?;
    all_hops(&network).await;
    let (mut client, mut server) = pair(&network).await?;
    let sending = tokio::spawn(async move {
        let digest = send_random(&mut client, 1, TOTAL, 1 << 18).await?;
        client.shutdown().await?;
        Ok::<_, io::Error>((digest, client.stats()))
    });
    let (mut digest, mut total) = (Sha256::new(), 0);
    let mut stops = relays(STOPPED).zip(1..);
    let mut next = stops.next();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let n = server.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        digest.update(&buffer[..n]);
        total += n;
        if let Some((path, number)) = next
            && total >= number * (TOTAL / 10)
        {
            network.raida.stop_relay(path).await;
            next = stops.next();
        }
    }
    let (sent, stats) = sending.await.map_err(io::Error::other)??;
    assert_eq!(total, TOTAL);
    assert_eq!(<[u8; 32]>::from(digest.finalize()), sent, "the bytes changed on their way");
    assert!(next.is_none(), "all nine relays were stopped");
    let down = network.client.hops();
    assert_eq!(down.up.len(), 16, "{down}");
    assert!(stats.stripes_sent > 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_arrives_while_nine_relays_stop() -> io::Result<()> {
    timeout(HANG, Box::pin(bulk_with_stops(Redundancy::Full))).await?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_arrives_while_nine_relays_stop_without_parity_unasked() -> io::Result<()> {
    timeout(HANG, Box::pin(bulk_with_stops(Redundancy::Adaptive))).await?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_that_come_back_carry_the_stream_when_others_stop() -> io::Result<()> {
    const PART: usize = 8 << 20;
    let case = async {
        let network = Network::start().await?;
        all_hops(&network).await;
        let (mut client, mut server) = pair(&network).await?;
        let pattern = Pattern::new(2);
        for (round, stopped) in [0..9, 9..18, 16..25].into_iter().enumerate() {
            for path in relays(stopped.clone()) {
                network.raida.stop_relay(path).await;
            }
            let (start, end) = (round * PART, (round + 1) * PART);
            let (sent, received) =
                tokio::join!(pattern.send(&mut client, start, end), pattern.expect(&mut server, start, end));
            sent?;
            received?;
            for path in relays(stopped) {
                network.raida.start_relay(path)?;
            }
            all_hops(&network).await;
        }
        client.shutdown().await?;
        assert_eq!(server.read(&mut [0; 16]).await?, 0);
        Ok(())
    };
    timeout(HANG, Box::pin(case)).await?
}

/// The reason for which a network with this setup refuses, or `None` if it does not.
async fn refused(setup: impl FnOnce(Principal, Principal) -> Setup) -> io::Result<Option<Refusal>> {
    let network = Network::with(setup).await?;
    match timeout(HANG, network.connect()).await? {
        Ok(_) => Ok(None),
        Err(error) => {
            let reason = refusal(&error);
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            assert!(reason.is_some_and(|r| error.to_string().contains(&r.to_string())), "{error}");
            Ok(reason)
        }
    }
}

#[tokio::test]
async fn the_lists_refuse_with_their_reason() -> io::Result<()> {
    let listen = |access| Setup { listen: Listen { access, ..Listen::default() }, ..Setup::default() };
    let black = |client, _| listen(AccessList { deny: [client].into(), ..AccessList::default() });
    let white = |client, _| listen(AccessList { allow: Some([client].into()), ..AccessList::default() });
    let nobody = |_, _| listen(AccessList { allow: Some([].into()), ..AccessList::default() });
    assert_eq!(refused(black).await?, Some(Refusal::BlackListed));
    assert_eq!(refused(nobody).await?, Some(Refusal::NotWhiteListed));
    assert_eq!(refused(white).await?, None);
    Ok(())
}

fn shared_key(with: Principal, id: u8) -> Vec<Arc<SharedKey>> {
    let key = EncryptionKey::import(&[7; 32]).expect("not zero");
    vec![Arc::new(SharedKey::new(KeyId([id; 16]), with, key).expect("not zero"))]
}

#[tokio::test]
async fn an_encryption_key_that_one_side_lacks_is_a_refusal() -> io::Result<()> {
    let only_server = |client, _| Setup { server_keys: shared_key(client, 1), ..Setup::default() };
    let only_client = |_, server| Setup { client_keys: shared_key(server, 1), ..Setup::default() };
    let both = |client, server| Setup {
        client_keys: shared_key(server, 1),
        server_keys: shared_key(client, 1),
        ..Setup::default()
    };
    let two = |client, server| Setup { server_keys: shared_key(client, 2), ..both(client, server) };
    assert_eq!(refused(only_server).await?, Some(Refusal::EncryptionKeyRequired));
    assert_eq!(refused(only_client).await?, Some(Refusal::UnknownEncryptionKey));
    assert_eq!(refused(two).await?, Some(Refusal::UnknownEncryptionKey));
    assert_eq!(refused(both).await?, None);
    Ok(())
}

#[tokio::test]
async fn ml_kem_that_one_side_requires_and_the_other_lacks_is_a_refusal() -> io::Result<()> {
    let setup = |client, server| {
        move |_, _| Setup {
            client: Tuning::default().with_ml_kem(client),
            server: Tuning::default().with_ml_kem(server),
            ..Setup::default()
        }
    };
    for (client, server, expected) in [
        (MlKem::Require, MlKem::Off, Some(Refusal::MlKemRequired)),
        (MlKem::Off, MlKem::Require, Some(Refusal::MlKemRequired)),
        (MlKem::Require, MlKem::On, None),
        (MlKem::On, MlKem::Off, None),
        (MlKem::Off, MlKem::Off, None),
    ] {
        assert_eq!(refused(setup(client, server)).await?, expected, "{client:?} to {server:?}");
    }
    Ok(())
}

#[tokio::test]
async fn both_ends_tell_their_settings_what_they_came_to_and_the_key() -> io::Result<()> {
    use MlKem::{Off, On, Require};
    for (client, server, used) in [
        (On, On, true),
        (On, Off, false),
        (Off, On, false),
        (Require, On, true),
        (On, Require, true),
        (Off, Off, false),
    ] {
        for key in [None, Some(KeyId([6; 16]))] {
            let network = Network::with(|me, other| Setup {
                client: Tuning::default().with_ml_kem(client),
                server: Tuning::default().with_ml_kem(server),
                client_keys: key.map(|_| shared_key(other, 6)).unwrap_or_default(),
                server_keys: key.map(|_| shared_key(me, 6)).unwrap_or_default(),
                ..Setup::default()
            })
            .await?;
            let (here, there) = timeout(HANG, pair(&network)).await??;
            for (stream, setting) in [(here, client), (there, server)] {
                let (stats, peer) = (stream.stats(), stream.peer());
                assert_eq!((stats.ml_kem_setting, stats.ml_kem), (setting, used), "{client} to {server}");
                assert_eq!((stats.encryption_key, peer.encryption_key), (key, key), "{client} to {server}");
                assert_eq!(peer.ml_kem, used);
                assert!(!format!("{stats:?} {peer:?}").contains("0707"), "never the key itself");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_nobody_registered_is_named_as_the_cause() -> io::Result<()> {
    let network = Network::start().await?;
    let mut elsewhere = network.target;
    elsewhere.address.set_port(9);
    let nobody = Principal { serial: 99, ..network.target.server };
    let nobody = Target { server: nobody, ..network.target };
    for (target, words) in [(elsewhere, "did not register"), (nobody, "knows no such server")] {
        let error = timeout(HANG, network.client.connect_to(target, "test")).await?.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    // The same endpoint still reaches the server that exists.
    pair(&network).await?;
    Ok(())
}

#[tokio::test]
async fn with_fifteen_relays_connecting_fails_in_time_and_says_so() -> io::Result<()> {
    let network = Network::start().await?;
    all_hops(&network).await;
    for path in relays(0..10) {
        network.raida.stop_relay(path).await;
    }
    let began = Instant::now();
    let error = timeout(HANG, network.connect()).await?.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
    // Which one depends on whether the hops were known to be down when the attempt began.
    assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::HostUnreachable), "{error}");
    assert!(error.to_string().contains("15 of 25 hops stand"), "{error}");
    // One more is enough.
    network.raida.start_relay(PathId::all().next().unwrap())?;
    network.client.hops_up(16).await;
    timeout(HANG, pair(&network)).await??;
    Ok(())
}

#[tokio::test]
async fn streams_of_a_closed_endpoint_end_in_errors_at_both_sides() -> io::Result<()> {
    let network = Network::start().await?;
    let (mut client, mut server) = pair(&network).await?;
    client.write_all(b"before").await?;
    server.read_exact(&mut [0; 6]).await?;
    network.client.close().await;
    let here = timeout(HANG, client.read(&mut [0; 16])).await?.unwrap_err();
    assert_eq!(here.kind(), ErrorKind::ConnectionAborted, "{here}");
    // Told, not timed out: the idle limit is a minute.
    let there = timeout(Duration::from_secs(20), server.read(&mut [0; 16])).await?.unwrap_err();
    assert_eq!(there.kind(), ErrorKind::UnexpectedEof, "{there}");
    let again = network.connect().await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotConnected, "{again}");
    Ok(())
}

#[tokio::test]
async fn a_stream_outlives_the_handles_of_its_endpoint() -> io::Result<()> {
    let network = Network::start().await?;
    let (mut client, mut server) = pair(&network).await?;
    let Network { raida, listener, client: endpoint, .. } = network;
    drop(endpoint);
    client.write_all(b"still here").await?;
    let mut buffer = [0; 10];
    timeout(HANG, server.read_exact(&mut buffer)).await??;
    assert_eq!(&buffer, b"still here");
    // The last handle of all: nothing drives the client any more, and the server is told.
    drop(client);
    timeout(Duration::from_secs(20), server.read(&mut buffer)).await?.unwrap_err();
    drop((raida, listener));
    Ok(())
}

#[tokio::test]
async fn a_stream_with_a_connection_of_its_own_ends_it() -> io::Result<()> {
    let network = Network::start().await?;
    all_hops(&network).await;
    let (shared, _server) = pair(&network).await?;
    let routes = network.raida.relays().stats().routes;
    let before = shared.stats().blocks_sent;
    let opening = network.client.connect_fresh(network.target, "own");
    let (own, accepted) = tokio::join!(opening, network.listener.accept());
    let (mut own, mut server) = (own?, accepted?.0);
    assert_eq!(server.resource(), "own");
    own.write_all(b"bytes").await?;
    own.shutdown().await?;
    server.read_exact(&mut [0; 5]).await?;
    assert!(network.raida.relays().stats().routes > routes);
    server.shutdown().await?;
    assert_eq!(own.read(&mut [0; 16]).await?, 0);
    drop((own, server));
    let freed = async {
        while network.raida.relays().stats().routes > routes {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), freed).await?;
    assert_eq!(shared.stats().blocks_sent, before, "the other connection carried nothing of it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_at_once() -> io::Result<()> {
    const STREAMS: usize = 200;
    const EACH: usize = 300_001;
    let network = Network::start().await?;
    let case = async {
        let mut tasks = JoinSet::new();
        for number in 0..STREAMS {
            let (endpoint, target) = (network.client.clone(), network.target);
            tasks.spawn(async move {
                let stream = endpoint.connect_to(target, &number.to_string()).await?;
                let (mut reader, mut writer) = stream.into_split();
                let bytes = Random::new(number as u64).bytes(EACH);
                let mut back = Vec::new();
                let sending = async {
                    writer.write_all(&bytes).await?;
                    writer.shutdown().await
                };
                let (sent, received) = tokio::join!(sending, reader.read_to_end(&mut back));
                sent?;
                received?;
                assert!(back == bytes, "stream {number} came back changed");
                Ok::<_, io::Error>(())
            });
        }
        let mut seen = [false; STREAMS];
        for _ in 0..STREAMS {
            let (stream, _) = network.listener.accept().await?;
            let number: usize = stream.resource().parse().map_err(io::Error::other)?;
            assert!(!std::mem::replace(&mut seen[number], true), "stream {number} came twice");
            tasks.spawn(async move {
                let (mut reader, mut writer) = stream.into_split();
                tokio::io::copy(&mut reader, &mut writer).await?;
                writer.shutdown().await
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(io::Error::other)??;
        }
        Ok(())
    };
    timeout(HANG, case).await?
}
