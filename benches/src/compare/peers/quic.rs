//! QUIC by quinn with aws-lc-rs, with a certificate at both ends.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use tokio::io::Join;

use super::tls::{KeyExchange, SERVER, ends};
use crate::compare::peer::Peer;

/// QUIC with its server at an address.
pub(crate) struct Quic {
    at: IpAddr,
    server: ServerConfig,
    client: ClientConfig,
}

impl Quic {
    pub(crate) fn at(at: IpAddr) -> Result<Self> {
        let ends = ends(KeyExchange::PostQuantum)?;
        let server = QuicServerConfig::try_from(ends.server).context("the server's ciphers")?;
        let client = QuicClientConfig::try_from(ends.client).context("the client's ciphers")?;
        let server = ServerConfig::with_crypto(Arc::new(server));
        Ok(Self { at, server, client: ClientConfig::new(Arc::new(client)) })
    }
}

impl Peer for Quic {
    type Address = SocketAddr;
    /// With what was accepted: a connection that is let go of takes with it what is still on its way.
    type Listener = (Endpoint, Vec<Connection>);
    type Endpoint = (Endpoint, SocketAddr);
    type Stream = Join<RecvStream, SendStream>;

    fn label(&self) -> &'static str {
        "quinn"
    }

    async fn bind(&self) -> Result<(Self::Listener, SocketAddr)> {
        let endpoint = Endpoint::server(self.server.clone(), (self.at, 0).into())?;
        let address = endpoint.local_addr()?;
        Ok(((endpoint, Vec::new()), address))
    }

    async fn accept(&self, (endpoint, accepted): &mut Self::Listener) -> Result<Self::Stream> {
        let connection = endpoint.accept().await.context("the endpoint is closed")?.await?;
        let (send, receive) = connection.accept_bi().await?;
        accepted.push(connection);
        Ok(tokio::io::join(receive, send))
    }

    async fn endpoint(&self, server: SocketAddr) -> Result<Self::Endpoint> {
        let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let mut endpoint = Endpoint::client((any, 0).into())?;
        endpoint.set_default_client_config(self.client.clone());
        Ok((endpoint, server))
    }

    async fn connect(&self, (endpoint, server): &mut Self::Endpoint) -> Result<Self::Stream> {
        let connection = endpoint.connect(*server, SERVER)?.await?;
        let (send, receive) = connection.open_bi().await?;
        Ok(tokio::io::join(receive, send))
    }

    async fn open(&self, _: &mut Self::Endpoint) -> Result<Option<Self::Stream>> {
        Ok(None)
    }
}
