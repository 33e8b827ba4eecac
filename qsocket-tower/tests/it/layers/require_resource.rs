//! Who may not dial a resource reads 403 in HTTP, and a typed status in gRPC.

use super::directory::{ID, OneUser};
use crate::axum::{client, serve, uri};
use crate::network::start;
use crate::tonic::{Service, channel, unary};
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use qsocket::access::Permit;
use qsocket_tower::require_resource::RequireResourceLayer;
use qsocket_tower::tonic::Incoming;
use tonic::Code;
use tonic::transport::Server;

#[tokio::test(flavor = "multi_thread")]
async fn in_axum() {
    let (network, listener) = start().await;
    let directory = OneUser::new(network.client_principal);
    let name = async |Extension(permit): Extension<Permit>| permit.user.unwrap().name.to_string();
    let router = Router::new()
        .route("/wiki", get(name))
        .route_layer(RequireResourceLayer::new(directory.clone(), ID))
        .route("/open", get(async || "open"));
    let (_stop, _server) = serve(listener, router);
    let client = client(&network, true);
    for (permitted, path, status, text) in [
        (true, "/wiki", 200, "ann"),
        (false, "/wiki", 403, "access is refused"),
        (false, "/open", 200, "open"),
        (true, "/wiki", 200, "ann"),
    ] {
        directory.permit(permitted);
        let response = client.get(uri(path)).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let reason = response.headers().get("x-qsocket-reason").map(|reason| reason.to_str().unwrap());
        assert_eq!(reason, (status == 403).then_some("not-permitted"));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_tonic() {
    let (network, listener) = start().await;
    let directory = OneUser::new(network.client_principal);
    let server = Server::builder()
        .layer(RequireResourceLayer::new(directory.clone(), ID))
        .serve_with_incoming(Service, Incoming::new(listener));
    let _server = tokio::spawn(server);
    let channel = channel(&network).await;
    let call = async || unary(channel.clone(), "/test.Test/Echo", Bytes::from("hello")).await;
    assert_eq!(call().await.unwrap(), format!("{} hello", network.client_principal));
    directory.permit(false);
    let status = call().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "access is refused"));
    assert_eq!(status.metadata().get("x-qsocket-reason").unwrap(), "not-permitted");
}
