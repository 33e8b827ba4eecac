//! axum: HTTP/1.1, HTTP/2, WebSocket, who asks, and an end in order.

use crate::network::{NAME, Network, start};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::WebSocketUpgrade;
use axum::extract::connect_info::MockConnectInfo;
use axum::extract::ws::{self, WebSocket};
use axum::http::{Request, StatusCode, Uri, Version};
use axum::routing::{any, get, post};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use qsocket::{Endpoint, QSocketListener, QSocketStream};
use qsocket_tower::PeerInfo;
use qsocket_tower::axum::{AxumListener, Peer, PeerMissing};
use qsocket_tower::hyper::Connector;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

/// More than a window and many blocks.
const LARGE: usize = 5_000_000;

fn router() -> Router {
    Router::new()
        .route("/peer", get(async |Peer(peer): Peer| format!("{peer:?}")))
        .route("/echo", post(async |body: Body| body))
        .route("/ws", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
        .route("/last", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(last)))
        .route("/panic", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(panics)))
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        // A close is answered by the next `recv`.
        if !matches!(message, ws::Message::Close(_)) {
            socket.send(message).await.unwrap();
        }
    }
}

/// Says something, and returns without a close.
async fn last(mut socket: WebSocket) {
    socket.recv().await.unwrap().unwrap();
    socket.send(vec![7; 1_000_000].into()).await.unwrap();
}

async fn panics(mut socket: WebSocket) {
    socket.recv().await.unwrap().unwrap();
    panic!("meant");
}

/// A web socket over a stream of its own.
async fn web_socket(
    endpoint: &Endpoint,
    server: &str,
    path: &str,
) -> tungstenite::Result<WebSocketStream<QSocketStream>> {
    let stream = endpoint.connect(server).await?;
    let (socket, _) = tokio_tungstenite::client_async(format!("ws://{server}{path}"), stream).await?;
    Ok(socket)
}

/// Serves until the sender is used or dropped.
pub(crate) fn serve(
    listener: QSocketListener,
    router: Router,
) -> (oneshot::Sender<()>, JoinHandle<io::Result<()>>) {
    let (stop, stopped) = oneshot::channel();
    let service = router.into_make_service_with_connect_info::<PeerInfo>();
    let server = axum::serve(AxumListener::new(listener), service);
    let server = server.with_graceful_shutdown(async { stopped.await.unwrap_or_default() });
    (stop, tokio::spawn(async { server.await }))
}

pub(crate) type HttpClient = Client<Connector, Full<Bytes>>;

pub(crate) fn client(network: &Network, http2: bool) -> HttpClient {
    Client::builder(TokioExecutor::new()).http2_only(http2).build(Connector::new(network.client.clone()))
}

pub(crate) fn uri(path: &str) -> Uri {
    format!("http://{NAME}{path}").parse().unwrap()
}

async fn get_peer_and_echo(http2: bool) {
    let (network, listener) = start().await;
    let (stop, server) = serve(listener, router());
    let client = client(&network, http2);
    let response = client.get(uri("/peer")).await.unwrap();
    let expected = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    assert_eq!((response.status(), response.version()), (StatusCode::OK, expected));
    let seen = response.extensions().get::<PeerInfo>().unwrap();
    assert_eq!((seen.principal, seen.ml_kem), (network.server_principal, true));
    assert_eq!(seen.network(), network.server_principal.network);
    assert!((1..=PeerInfo::PATHS).contains(&seen.paths_live), "{seen:?}");

    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = str::from_utf8(&text).unwrap();
    let principal = network.client_principal;
    for part in [
        format!("principal: {principal}"),
        format!("resource: \"{NAME}:80\""),
        "ml_kem: true".into(),
        "encryption_key: None".into(),
    ] {
        assert!(text.contains(&part), "{part} is not in {text}");
    }

    let large: Bytes = (0..LARGE).map(|n| (n % 251) as u8).collect();
    let request = Request::post(uri("/echo")).body(Full::new(large.clone())).unwrap();
    let response = client.request(request).await.unwrap();
    let echoed = response.into_body().collect().await.unwrap().to_bytes();
    assert!(echoed == large, "{} bytes came back", echoed.len());
    // An idle connection of the pool would keep the server.
    drop(client);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn http1() {
    get_peer_and_echo(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_with_prior_knowledge() {
    get_peer_and_echo(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_socket_messages() {
    let (network, listener) = start().await;
    let (_stop, _server) = serve(listener, router());
    let mut socket = web_socket(&network.client, &format!("{NAME}:80"), "/ws").await.unwrap();
    let large = Message::binary(vec![7; 1_000_000]);
    for message in [Message::text("hello"), large, Message::binary(Vec::new())] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    // The server's close, then a verified end: no error.
    while let Some(message) = socket.next().await {
        assert!(message.unwrap().is_close());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_that_is_dropped_ends_and_one_that_panics_is_cut() {
    let (network, listener) = start().await;
    let (_stop, _server) = serve(listener, router());
    for path in ["/last", "/panic"] {
        let mut socket = web_socket(&network.client, &format!("{NAME}:80"), path).await.unwrap();
        socket.send(Message::text("go")).await.unwrap();
        // Below the messages, to see how the stream itself ends.
        let mut stream = socket.into_inner();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest).await;
        if path == "/last" {
            ended.unwrap();
            assert!(rest.ends_with(&[7; 1_000_000]), "{} bytes", rest.len());
        } else {
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_answered_while_the_server_stops() {
    let (network, listener) = start().await;
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (seen, proceed) = (Arc::clone(&arrived), Arc::clone(&go));
    let slow = async move || {
        seen.notify_one();
        proceed.notified().await;
        "in time"
    };
    let (stop, server) = serve(listener, Router::new().route("/slow", get(slow)));
    let client = client(&network, false);
    let request = tokio::spawn(client.get(uri("/slow")));
    arrived.notified().await;
    stop.send(()).unwrap();
    // The listener goes while the request waits: its relays' connections are what the answer travels on.
    tokio::task::yield_now().await;
    assert!(!server.is_finished());
    go.notify_one();
    let response = request.await.unwrap().unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "in time");
    server.await.unwrap().unwrap();
    assert!(client.get(uri("/slow")).await.is_err(), "the server is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_endpoint_does_not_keep_the_server() {
    let (_network, listener) = start().await;
    let endpoint = listener.endpoint().clone();
    let (stop, server) = serve(listener, router());
    endpoint.close().await;
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_extractor_says_what_is_missing() {
    use axum::extract::FromRequestParts as _;
    let (mut parts, ()) = Request::new(()).into_parts();
    assert_eq!(Peer::from_request_parts(&mut parts, &()).await, Err(PeerMissing));
    let peer = PeerInfo::new("1.0.7".parse().unwrap(), "web.example:80", "127.0.0.1:1".parse().unwrap());
    parts.extensions.insert(MockConnectInfo(peer.clone()));
    assert_eq!(Peer::from_request_parts(&mut parts, &()).await, Ok(Peer(peer)));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_connect_info_a_handler_that_asks_for_the_peer_answers_500() {
    let (network, listener) = start().await;
    let _server = tokio::spawn(async { axum::serve(AxumListener::new(listener), router()).await });
    let mut request = Request::get(uri("/peer"));
    // What a client says about itself is not taken for who it is.
    request = request.header("x-forwarded-for", "1.0.7").header("forwarded", "for=1.0.7");
    let request = request.body(Full::default()).unwrap();
    let response = client(&network, false).request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
