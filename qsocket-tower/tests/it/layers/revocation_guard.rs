//! Access that is taken back in the middle of an answer.

use super::directory::{ID, OneUser};
use crate::axum::{client, serve, uri};
use crate::network::start;
use crate::tonic::{CHUNKS, Plain, Service, channel, unary};
use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use http_body_util::BodyExt as _;
use qsocket_tower::require_resource::RequireResourceLayer;
use qsocket_tower::revocation_guard::RevocationGuardLayer;
use qsocket_tower::tonic::Incoming;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use tokio::sync::Notify;
use tonic::transport::Server;
use tonic::{Code, Request};
use tower::ServiceBuilder;

/// Begins, and goes on for ever.
async fn endless() -> Body {
    let begin = stream::once(async { Ok::<_, Infallible>("begin") });
    Body::from_stream(begin.chain(stream::pending()))
}

async fn is_cut_in_axum(http2: bool) {
    let (network, listener) = start().await;
    let directory = OneUser::new(network.client_principal);
    let arrived = Arc::new(Notify::new());
    let seen = arrived.clone();
    let slow = async move || {
        seen.notify_one();
        pending::<()>().await;
    };
    let layers = ServiceBuilder::new()
        .layer(RequireResourceLayer::new(directory.clone(), ID))
        .layer(RevocationGuardLayer::new(directory.clone()));
    let router = Router::new().route("/endless", get(endless)).route("/slow", get(slow)).route_layer(layers);
    let (_stop, _server) = serve(listener, router);
    let client = client(&network, http2);

    let response = client.get(uri("/endless")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "begin");
    let slow = tokio::spawn(client.get(uri("/slow")));
    arrived.notified().await;

    directory.permit(false);
    // An error, where a clean end would be `None`.
    body.frame().await.unwrap().unwrap_err();
    let response = slow.await.unwrap().unwrap();
    assert_eq!(
        (response.status(), &response.headers()["x-qsocket-reason"]),
        (StatusCode::FORBIDDEN, &"revoked".parse().unwrap())
    );

    // It was the request that was refused, not the client.
    directory.permit(true);
    assert_eq!(client.get(uri("/endless")).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_http1_is_cut() {
    is_cut_in_axum(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_http2_is_cut() {
    is_cut_in_axum(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_grpc_ends_with_the_status() {
    let (network, listener) = start().await;
    let directory = OneUser::new(network.client_principal);
    let server = Server::builder()
        .layer(RequireResourceLayer::new(directory.clone(), ID))
        .layer(RevocationGuardLayer::new(directory.clone()))
        // The service of this test takes bodies of tonic; what tonic generates takes any.
        .layer(tower::util::MapRequestLayer::new(|request: http::Request<_>| {
            request.map(tonic::body::Body::new)
        }))
        .serve_with_incoming(Service, Incoming::new(listener));
    let _server = tokio::spawn(server);
    let channel = channel(&network).await;
    let echo = unary(channel.clone(), "/test.Test/Echo", Bytes::from("hello")).await.unwrap();
    assert_eq!(echo, format!("{} hello", network.client_principal));

    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Test/Many");
    let response =
        grpc.server_streaming::<Bytes, Bytes, _>(Request::new(Bytes::new()), path, Plain).await.unwrap();
    let mut chunks = response.into_inner();
    assert!(chunks.message().await.unwrap().is_some());
    directory.permit(false);
    // What is on its way arrives.
    let mut count = 1;
    let status = loop {
        match chunks.message().await {
            Ok(chunk) => {
                assert!(chunk.is_some(), "a clean end");
                count += 1;
            }
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "access is refused"));
    assert_eq!(status.metadata().get("x-qsocket-reason").unwrap(), "revoked");
    assert!(count < CHUNKS, "{count}");
}
