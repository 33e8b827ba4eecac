//! A RAIDA in this process, with a server and a client that use it.
//!
//! For relays, servers and clients in processes of their own there is `raida-relay init`.

use std::io;
use std::net::Ipv4Addr;

use qsocket::config::{Config, Raida as Relays, RelayAddresses};
use qsocket::provision::Provision;
use qsocket::resolve::{ConfigNames, Target};
use qsocket::{Endpoint, QSocketListener};
use raida_relay::{LocalRaida, LocalServer};

/// The network that the RAIDA here has.
pub const NETWORK: u16 = 1;

/// What the client of a [`Network`] calls its listener, at every port.
pub const NAME: &str = "server.example";

/// 25 relays, a listener and a client that knows it as [`NAME`], in one process.
#[derive(Debug)]
pub struct Network {
    /// The relays, which can be stopped and started one by one.
    pub raida: LocalRaida,
    /// The server's side; registered with the relays.
    pub listener: QSocketListener,
    /// The client's side.
    pub client: Endpoint,
    /// What the client connects to.
    pub target: Target,
}

impl Network {
    /// Starts everything on free ports of 127.0.0.1, with fresh keys.
    ///
    /// # Errors
    /// When ports or random numbers are not to be had.
    pub async fn start() -> io::Result<Self> {
        let mut keys = Provision::generate(NETWORK, 1, 1).map_err(io::Error::other)?;
        let none = std::iter::empty::<LocalServer>();
        let raida = LocalRaida::builder().network(NETWORK).start_with_keys(keys.keys(), none)?;
        let relays = RelayAddresses::from_list(&raida.addresses()).map_err(io::Error::other)?;
        let config = |key| {
            let relays = Relays { network: NETWORK, relays: relays.clone() };
            Config::new(relays, key).map_err(io::Error::other)
        };
        let (client, server) = (keys.clients.remove(0), keys.servers.remove(0));
        let principal = server.principal();
        let listener = QSocketListener::bind_with(config(server)?, (Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        raida.register((principal, address, *listener.ports())).map_err(io::Error::other)?;
        let target = Target { server: principal, address };
        let mut names = ConfigNames::new();
        names.insert(NAME, target)?;
        let client = Endpoint::client(config(client)?.with_names(names))?;
        Ok(Self { raida, listener, client, target })
    }
}
