//! hyper's client: what goes over QSocket, what over TCP, and what nowhere.

use crate::axum::{client, serve, uri};
use crate::network::{NAME, start};
use axum::Router;
use axum::body::Bytes;
use axum::http::{Uri, Version};
use axum::routing::get;
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use qsocket::PathId;
use qsocket::resolve::NameError;
use qsocket_tower::PeerInfo;
use qsocket_tower::hyper::Connector;
use std::error::Error;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

type Body = Full<Bytes>;

fn router(answer: &'static str) -> Router {
    Router::new().route("/", get(async move || answer))
}

/// A server on TCP of this machine, as plain as can be.
async fn plain(answer: &'static str) -> Uri {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, router(answer)).await });
    uri
}

/// The error of this type in the chain of causes.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An `io::Error` leaves the error within it out of its chain.
        let inner = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        if let Some(found) = error.downcast_ref().or_else(|| inner?.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_knows_is_refused() {
    let (network, _listener) = start().await;
    let plain = plain("plain").await;
    let error = client(&network, false).get(plain.clone()).await.unwrap_err();
    assert!(matches!(cause(&error), Some(NameError::Unknown { .. })), "{error:?}");
    // Nor does a fallback take what it was not allowed for.
    let connector =
        Connector::new(network.client.clone()).with_tcp_fallback(|uri| uri.host() == Some("other"));
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    let error = client.get(plain).await.unwrap_err();
    assert!(matches!(cause(&error), Some(NameError::Unknown { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_takes_what_it_was_allowed_for() {
    let (network, listener) = start().await;
    let (_stop, _server) = serve(listener, router("sealed"));
    let plain = plain("plain").await;
    let connector = Connector::new(network.client.clone()).with_tcp_fallback(|_| true);
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    for (uri, expected) in [(plain.clone(), "plain"), (uri("/"), "sealed")] {
        let response = client.get(uri).await.unwrap();
        assert_eq!(response.extensions().get::<PeerInfo>().is_some(), expected == "sealed");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), expected);
    }
    // Nothing would seal `https` there.
    let https = plain.to_string().replace("http", "https").parse().unwrap();
    assert!(client.get(https).await.is_err());
}

/// The attack: whoever stops the relays wants the bytes to go out in plain.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_network_does_not_lead_to_the_fallback() {
    let (network, listener) = start().await;
    let plain = plain("plain").await;
    // Known to the configuration, and gone.
    drop(listener);
    for path in PathId::all() {
        network.raida.stop_relay(path).await;
    }
    let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let connector = Connector::new(network.client.clone()).with_fallback(
        ToPlain(plain.clone(), hyper_util::client::legacy::connect::HttpConnector::new()),
        move |_| {
            seen.store(true, std::sync::atomic::Ordering::SeqCst);
            true
        },
    );
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    let error = client.get(uri("/")).await.unwrap_err();
    assert!(cause::<qsocket::ConnectError>(&error).is_some(), "{error:?}");
    assert!(!asked.load(std::sync::atomic::Ordering::SeqCst));
    // The fallback itself works: with an unknown name it answers.
    let response = client.get(plain).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "plain");
}

/// Connects every URI to one server.
#[derive(Clone)]
struct ToPlain(Uri, hyper_util::client::legacy::connect::HttpConnector);

impl tower_service::Service<Uri> for ToPlain {
    type Response = hyper_util::rt::TokioIo<tokio::net::TcpStream>;
    type Error = qsocket_tower::hyper::BoxError;
    type Future = std::pin::Pin<
        Box<dyn Future<Output = Result<Self::Response, qsocket_tower::hyper::BoxError>> + Send>,
    >;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), qsocket_tower::hyper::BoxError>> {
        self.1.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = self.1.call(self.0.clone());
        Box::pin(async { connecting.await.map_err(Into::into) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_as_if_negotiated() {
    let (network, listener) = start().await;
    let (_stop, _server) = serve(listener, router("two"));
    let connector = Connector::new(network.client.clone()).with_http2(true);
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    assert_eq!(client.get(uri("/")).await.unwrap().version(), Version::HTTP_2);
}

/// The attack: whoever cuts the stream wants a body without a length to look complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_cut_is_an_error() {
    for cut in [false, true] {
        let (network, listener) = start().await;
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The request ends with an empty line; here it fits into one read.
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\npart").await.unwrap();
            wait.await.unwrap();
            if !cut {
                stream.shutdown().await.unwrap();
            }
        });
        let mut body = client(&network, false).get(uri("/")).await.unwrap().into_body();
        let part = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(part, "part");
        go.send(()).unwrap();
        assert_eq!(body.collect().await.is_err(), cut);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_inside() {
    let (network, listener) = start().await;
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate ends here.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ntwice";
                stream.write_all(answer).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
    });

    let mut trusted = RootCertStore::empty();
    trusted.add(made.cert.der().clone()).unwrap();
    for (roots, trusts) in [(trusted, true), (RootCertStore::empty(), false)] {
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1();
        let connector = connector.wrap_connector(Connector::new(network.client.clone()));
        let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
        let answer = client.get(format!("https://{NAME}/").parse().unwrap()).await;
        assert_eq!(answer.is_ok(), trusts, "{answer:?}");
        if let Ok(response) = answer {
            assert_eq!(response.extensions().get::<PeerInfo>().unwrap().principal, network.server_principal);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "twice");
        }
    }
}
