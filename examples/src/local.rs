//! A RAIDA in this process, with a server and a client that use it.
//!
//! For relays, servers and clients in processes of their own there is `raida-relay init`.

use std::io;

use qsocket::resolve::Target;
use qsocket::testing::{Raida, target};
use qsocket::{Endpoint, QSocketListener};

/// What the client of a [`Network`] calls its listener, at every port.
pub const NAME: &str = "server.example";

/// 25 relays, a listener and a client that knows it as [`NAME`], in one process.
#[derive(Debug)]
pub struct Network {
    /// The relays, which can be stopped and started one by one.
    pub raida: Raida,
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
        let raida = Raida::start_on_loopback()?;
        let listener = raida.listener(NAME).await?;
        let (client, target) = (raida.client()?, target(&listener)?);
        Ok(Self { raida, listener, client, target })
    }
}
