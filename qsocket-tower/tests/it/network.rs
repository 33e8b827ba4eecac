//! 25 relays, a listener, and a client whose configuration knows the listener as [`NAME`].

use qsocket::{Endpoint, Principal, QSocketListener};
use qsocket_tower::testing::Raida;

/// What the configuration calls the listener, at every port.
pub(crate) const NAME: &str = "web.example";

pub(crate) struct Network {
    pub(crate) raida: Raida,
    pub(crate) client: Endpoint,
    pub(crate) client_principal: Principal,
    pub(crate) server_principal: Principal,
}

pub(crate) async fn start() -> (Network, QSocketListener) {
    let raida = Raida::start_on_loopback().unwrap();
    let listener = raida.listener(NAME).await.unwrap();
    let client = raida.client().unwrap();
    let (client_principal, server_principal) = (client.principal(), listener.endpoint().principal());
    (Network { raida, client, client_principal, server_principal }, listener)
}
