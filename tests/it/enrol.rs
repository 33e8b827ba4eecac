//! A principal that the relays know enrols another one over its hops.

use qsocket::config::{Config, Raida as Addresses, RelayAddresses};
use qsocket::keys::PartialKey;
use qsocket::keys::enrol::{Failure, ask};
use qsocket::provision::Provision;
use qsocket::testing::principal;
use qsocket::{Endpoint, PathId, Role};
use raida_relay::{LocalRaida, LocalServer};
use std::time::Duration;
use tokio::time::timeout;

/// Longer than anything here takes.
const HANG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_principal_is_enrolled_over_the_hops_of_another_and_connects() {
    let keys = Provision::generate(1, 2, 0).unwrap();
    let (sponsor, stranger) = (&keys.clients[0], &keys.clients[1]);
    let relays =
        LocalRaida::builder().start_with_keys([sponsor, stranger], Vec::<LocalServer>::new()).unwrap();
    let addresses = RelayAddresses::from_list(&relays.addresses()).unwrap();
    let raida = Addresses { network: 1, relays: addresses };
    let config = |key| Config::new(raida.clone(), key).unwrap();
    let (who, role) = (principal(1042), Role::Client);
    let mut key = PartialKey::new(who, role);

    // Nobody permits it, and then not to this one.
    let failures = ask(sponsor, &mut key, &raida, HANG).await;
    assert_eq!(failures.len(), 25);
    assert!(failures.iter().all(|(_, e)| *e == Failure::NotPermitted));
    relays.permit(sponsor.principal(), who, role, HANG);
    let failures = ask(stranger, &mut key, &raida, HANG).await;
    assert!(failures.iter().all(|(_, e)| *e == Failure::NotPermitted));
    assert_eq!(key.missing().len(), 25);

    // A relay is missing: the others are asked no more when it is back.
    let gone = PathId::new(3).unwrap();
    relays.stop_relay(gone).await;
    let failures = ask(sponsor, &mut key, &raida, HANG).await;
    assert!(matches!(&failures[..], [(relay, Failure::Silent(_))] if *relay == gone), "{failures:?}");
    assert_eq!(key.missing(), [gone]);
    let other = PathId::new(4).unwrap();
    let had = key.number(other).unwrap().expose().to_vec();
    relays.start_relay(gone).unwrap();
    let of_sponsor = Endpoint::client(config(keys.clients.into_iter().next().unwrap())).unwrap();
    assert_eq!(of_sponsor.enrol(&mut key, HANG).await, []);
    assert_eq!(key.number(other).unwrap().expose(), had, "it was not drawn again");

    let enrolled = Endpoint::client(config(key.complete().unwrap())).unwrap();
    timeout(HANG, enrolled.hops_up(25)).await.unwrap();
    // Its first hops used the permits up, and it stays who it is.
    let mut again = PartialKey::new(who, role);
    let failures = of_sponsor.enrol(&mut again, HANG).await;
    assert!(failures.iter().all(|(_, e)| *e == Failure::NotPermitted) && failures.len() == 25);
    assert_eq!(enrolled.hops().up.len(), 25);
}
