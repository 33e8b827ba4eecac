//! Mutual TLS 1.3 by rustls with aws-lc-rs: the peer that the goals refer to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    ClientConfig, CommonState, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore, ServerConfig,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::plain::{self, Wire};
use crate::compare::peer::Peer;

/// The key exchange that both ends are expected to agree on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyExchange {
    /// X25519MLKEM768, as rustls prefers with its feature `prefer-post-quantum`.
    PostQuantum,
    /// X25519 alone, as tokio-rustls negotiates without that feature.
    Classical,
}

impl KeyExchange {
    fn group(self) -> NamedGroup {
        match self {
            Self::PostQuantum => NamedGroup::X25519MLKEM768,
            Self::Classical => NamedGroup::X25519,
        }
    }

    /// The provider's own preference for the post-quantum case: the check after each handshake then shows
    /// what a user of rustls gets.
    fn provider(self) -> CryptoProvider {
        let provider = aws_lc_rs::default_provider();
        match self {
            Self::PostQuantum => provider,
            Self::Classical => {
                let kx_groups: Vec<&'static dyn SupportedKxGroup> = vec![aws_lc_rs::kx_group::X25519];
                CryptoProvider { kx_groups, ..provider }
            }
        }
    }
}

/// Mutual TLS 1.3, with a full handshake for every connection.
pub(crate) struct Tls {
    label: &'static str,
    exchange: KeyExchange,
    wire: Wire,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

/// What programs that are no part of this one need for the same connections, in PEM.
#[derive(Debug)]
pub(super) struct Pem {
    pub(super) authority: String,
    /// Chain and key of the server, and of the client.
    pub(super) server: String,
    pub(super) client: String,
}

/// Both ends' settings, with certificates of one authority.
pub(super) struct Ends {
    pub(super) server: ServerConfig,
    pub(super) client: ClientConfig,
    pub(super) pem: Pem,
}

/// The name in the server's certificate.
pub(super) const SERVER: &str = "server.test";

impl Tls {
    /// Over loopback.
    pub(crate) fn new(exchange: KeyExchange) -> Result<Self> {
        let label = match exchange {
            KeyExchange::PostQuantum => "rustls mTLS, X25519MLKEM768",
            KeyExchange::Classical => "rustls mTLS, X25519",
        };
        Ok(Self::on(Wire::LOOPBACK, label, exchange, ends(exchange)?))
    }

    /// With its server at an address of its own, over TCP or MPTCP.
    pub(crate) fn at(at: IpAddr, multipath: bool) -> Result<Self> {
        let label = if multipath { "rustls mTLS over MPTCP" } else { "rustls mTLS" };
        let exchange = KeyExchange::PostQuantum;
        Ok(Self::on(Wire { at, multipath }, label, exchange, ends(exchange)?))
    }

    pub(super) fn on(wire: Wire, label: &'static str, exchange: KeyExchange, ends: Ends) -> Self {
        let Ends { server, client, .. } = ends;
        Self { label, exchange, wire, acceptor: Arc::new(server).into(), connector: Arc::new(client).into() }
    }

    /// Fails unless the handshake was what the table claims it to be.
    fn check(&self, state: &CommonState) -> Result<()> {
        let group = state.negotiated_key_exchange_group().map(SupportedKxGroup::name);
        ensure!(
            group == Some(self.exchange.group()),
            "negotiated {group:?} instead of {:?}: build rustls with its feature `prefer-post-quantum`",
            self.exchange.group()
        );
        ensure!(state.protocol_version() == Some(ProtocolVersion::TLSv1_3), "the peer did not use TLS 1.3");
        ensure!(
            state.handshake_kind() == Some(HandshakeKind::Full),
            "the handshake was {:?} instead of full in one round trip: check tickets and key shares",
            state.handshake_kind()
        );
        ensure!(state.peer_certificates().is_some(), "the other end showed no certificate");
        Ok(())
    }
}

/// Makes a certificate authority, a certificate for each end, and both configurations.
pub(super) fn ends(exchange: KeyExchange) -> Result<Ends> {
    let mut authority = CertificateParams::default();
    // All that are alike would be taken for self-signed.
    authority.distinguished_name.push(DnType::CommonName, "authority.test");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let roots = Arc::new(roots);
    let provider = Arc::new(exchange.provider());

    let (chain, key, server_pem) = issue(&authority, SERVER, ExtendedKeyUsagePurpose::ServerAuth)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});

    let (chain, key, client_pem) = issue(&authority, "client.test", ExtendedKeyUsagePurpose::ClientAuth)?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    client.resumption = Resumption::disabled();
    let pem = Pem { authority: authority.pem(), server: server_pem, client: client_pem };
    Ok(Ends { server, client, pem })
}

/// A certificate chain and key that `authority` issues for `name`, and both as one text.
fn issue(
    authority: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, String)> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
    Ok((vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into(), pem))
}

impl Peer for Tls {
    type Address = SocketAddr;
    type Listener = TcpListener;
    type Endpoint = (SocketAddr, ServerName<'static>);
    type Stream = TlsStream<TcpStream>;

    fn label(&self) -> &'static str {
        self.label
    }

    async fn bind(&self) -> Result<(TcpListener, SocketAddr)> {
        self.wire.bind()
    }

    async fn accept(&self, listener: &mut TcpListener) -> Result<Self::Stream> {
        let tcp = plain::accept(listener).await?;
        let stream = self.acceptor.accept(tcp).await.context("the TLS server's handshake failed")?;
        self.check(stream.get_ref().1)?;
        Ok(stream.into())
    }

    async fn endpoint(&self, server: SocketAddr) -> Result<Self::Endpoint> {
        Ok((server, ServerName::try_from(SERVER)?))
    }

    async fn connect(&self, (server, name): &mut Self::Endpoint) -> Result<Self::Stream> {
        let tcp = self.wire.connect(*server).await?;
        let handshake = self.connector.connect(name.clone(), tcp);
        let stream = handshake.await.context("the TLS client's handshake failed")?;
        self.check(stream.get_ref().1)?;
        Ok(stream.into())
    }

    async fn open(&self, _: &mut Self::Endpoint) -> Result<Option<Self::Stream>> {
        Ok(None)
    }
}
