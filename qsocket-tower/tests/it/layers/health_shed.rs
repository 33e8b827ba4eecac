//! A connection that loses ten of its relays.

use crate::axum::{client, serve, uri};
use crate::network::start;
use axum::routing::get;
use axum::{Extension, Router};
use http::StatusCode;
use http_body_util::BodyExt as _;
use qsocket::{Health, PathId};
use qsocket_tower::axum::Peer;
use qsocket_tower::health_shed::HealthShedLayer;
use tokio::sync::{mpsc, watch};

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_turned_away_while_too_few_relays_are_left() {
    let (network, listener) = start().await;
    let (send, mut receive) = mpsc::unbounded_channel::<watch::Receiver<Health>>();
    let order =
        async |Peer(peer): Peer,
               Extension(send): Extension<mpsc::UnboundedSender<watch::Receiver<Health>>>| {
            send.send(peer.health.watch()).unwrap();
            "ordered"
        };
    let router = Router::new()
        .route("/order", get(order))
        .route_layer(HealthShedLayer::new())
        .route("/status", get(async || "up"))
        .layer(Extension(send));
    let (_stop, _server) = serve(listener, router);
    let client = client(&network, true);

    // The first of a connection, whose paths may be joining still.
    assert_eq!(client.get(uri("/order")).await.unwrap().status(), StatusCode::OK);
    let mut health = receive.recv().await.unwrap();
    health.wait_for(|health| *health == Health::Intact).await.unwrap();

    for path in PathId::all().take(10) {
        network.raida.stop_relay(path).await;
    }
    health.wait_for(|health| health.well() < 16).await.unwrap();
    let response = client.get(uri("/order")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "5");
    assert_eq!(response.headers()["x-qsocket-reason"], "too-few-paths");
    let response = client.get(uri("/status")).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "up");
}
