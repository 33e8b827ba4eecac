//! 25 relays, a listener, and a client whose configuration knows the listener as [`NAME`].

use qsocket::config::{Config, Raida, RelayAddresses};
use qsocket::provision::Provision;
use qsocket::resolve::{ConfigNames, Target};
use qsocket::{Endpoint, Principal, QSocketListener};
use raida_relay::{LocalRaida, LocalServer};

/// What the configuration calls the listener, at every port.
pub(crate) const NAME: &str = "web.example";

pub(crate) struct Network {
    pub(crate) raida: LocalRaida,
    pub(crate) client: Endpoint,
    pub(crate) client_principal: Principal,
    pub(crate) server_principal: Principal,
}

pub(crate) async fn start() -> (Network, QSocketListener) {
    const NETWORK: u16 = 1;
    let mut keys = Provision::generate(NETWORK, 1, 1).unwrap();
    let none = std::iter::empty::<LocalServer>();
    let raida = LocalRaida::builder().network(NETWORK).start_with_keys(keys.keys(), none).unwrap();
    let relays = RelayAddresses::from_list(&raida.addresses()).unwrap();
    let config = |key| Config::new(Raida { network: NETWORK, relays: relays.clone() }, key).unwrap();
    let (client, server) = (keys.clients.remove(0), keys.servers.remove(0));
    let (client_principal, server_principal) = (client.principal(), server.principal());

    let listener = QSocketListener::bind_with(config(server), "127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    raida.register((server_principal, address, *listener.ports())).unwrap();
    let mut names = ConfigNames::new();
    assert!(names.insert(NAME, Target { server: server_principal, address }).unwrap());
    let client = Endpoint::client(config(client).with_names(names)).unwrap();
    (Network { raida, client, client_principal, server_principal }, listener)
}
