use super::*;
use crate::config::{Config, RelayAddresses};
use crate::keys::AuthenticityNumber;
use crate::testing::Raida as Network;
use qsocket_proto::ids::RELAYS;

/// Long enough for a machine that is busy; the clock is stopped.
const LONG: Duration = Duration::from_secs(60);

async fn answers(config: &Config, key: &RaidaKey) -> Vec<Answer> {
    verify_over(&config.transport, key, config.raida(), LONG).await
}

/// The same key with another number for one relay.
fn with_number(key: &RaidaKey, relay: PathId) -> RaidaKey {
    let number = |path| {
        let own = key.number(path).expose();
        let other = vec![0x77; own.len()];
        AuthenticityNumber::new(if path == relay { &other } else { own }).unwrap()
    };
    RaidaKey::new(key.principal(), key.role(), PathId::all().map(number).collect()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_relay_says_whether_the_number_is_its_own() {
    let network = Network::start().unwrap();
    let config = network.client_config().unwrap();
    let all = answers(&config, config.key()).await;
    assert_eq!(all.len(), RELAYS);
    for (path, answer) in PathId::all().zip(&all) {
        assert_eq!((answer.relay, &answer.verdict), (path, &Verdict::Held));
        assert_eq!(answer.address, config.raida().relays.get(path));
    }

    let relay = |n| PathId::new(n).unwrap();
    network.stop_relay(relay(3)).await;
    network.freeze(relay(4));
    let mixed = answers(&config, &with_number(config.key(), relay(5))).await;
    let words: Vec<_> = mixed.iter().map(|answer| answer.verdict.as_str()).collect();
    assert_eq!(words[2..7], ["ok", "unreachable", "time", "refused", "ok"]);
    assert_eq!(words.iter().filter(|word| **word == "ok").count(), 22);
    assert!(mixed[4].took >= LONG);
    network.thaw(relay(4));

    // A server's key too, and nobody's.
    let server = network.server_config().unwrap();
    let held = answers(&server, server.key()).await;
    assert!(held.iter().all(|answer| answer.relay == relay(3) || answer.verdict == Verdict::Held));
    let stranger = RaidaKey::generate(
        Principal { serial: 999_999, ..config.identity().0 },
        Role::Client,
        config.key().strength(),
        &mut OsRng,
    );
    let unknown = answers(&config, &stranger.unwrap()).await;
    assert!(unknown.iter().all(|answer| answer.relay == relay(3) || answer.verdict == Verdict::Refused));
}

/// Of a server's hops a newer one replaces the older one, so this would be seen.
#[tokio::test(start_paused = true)]
async fn hops_that_stand_stay() {
    let network = Network::start().unwrap();
    let config = network.server_config().unwrap();
    let listener = network.listener_with("server.example", config.clone()).await.unwrap();
    let endpoint = listener.endpoint();
    endpoint.hops_up(RELAYS).await;
    let health = endpoint.health();
    for _ in 0..3 {
        let all = answers(&config, config.key()).await;
        assert!(all.iter().all(|answer| answer.verdict == Verdict::Held), "{all:?}");
    }
    // Whatever the relays make of a handshake that did not end, they have made it by then.
    tokio::time::sleep(LONG).await;
    assert!(!health.has_changed().unwrap(), "{:?}", endpoint.hops());
    assert_eq!(endpoint.hops().up.len(), RELAYS);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_relay_is_told_from_one_that_refuses() {
    let network = Network::start().unwrap();
    let config = network.client_config().unwrap();
    // Each relay is asked at the next one's place.
    let mut places = *config.raida().relays.as_array();
    places.rotate_left(1);
    let raida = Raida { relays: RelayAddresses::from_list(&places).unwrap(), ..config.raida().clone() };
    let all = verify_over(&config.transport, config.key(), &raida, LONG).await;
    assert!(all.iter().all(|answer| answer.verdict == Verdict::Refused), "{all:?}");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let web = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        socket
    });
    let relay = PathId::new(0).unwrap();
    let (principal, role) = config.identity();
    let imported = ImportedKey::new(config.key().number(relay), principal, relay, role);
    let verdict = ask(&Transport::default(), address, imported, (principal, role), relay).await;
    assert!(matches!(verdict, Verdict::NotARelay(_)), "{verdict:?}");
    drop(web.await.unwrap());
}
