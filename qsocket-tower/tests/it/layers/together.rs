//! All layers around one service, in the order that the documentation gives.

use super::directory::{ID, OneUser};
use crate::axum::{client, serve, uri};
use crate::network::start;
use crate::tonic::{Service, channel, unary};
use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use qsocket::access::Directory;
use qsocket_tower::access::AccessLayer;
use qsocket_tower::governor::PeerKeyExtractor;
use qsocket_tower::health_shed::HealthShedLayer;
use qsocket_tower::identity_headers::IdentityHeadersLayer;
use qsocket_tower::metrics::MetricsLayer;
use qsocket_tower::per_peer_concurrency_limit::PerPeerConcurrencyLimitLayer;
use qsocket_tower::require_group::RequireGroupLayer;
use qsocket_tower::require_resource::RequireResourceLayer;
use qsocket_tower::revocation_guard::{GuardedBody, RevocationGuardLayer};
use qsocket_tower::trace::MakePeerSpan;
use qsocket_tower::{PeerInfo, Stream};
use std::convert::Infallible;
use std::sync::Arc;
use tonic::Code;
use tonic::transport::Server;
use tower::ServiceBuilder;
use tower::util::{MapRequest, MapRequestLayer};
use tower_governor::GovernorLayer;
use tower_governor::governor::GovernorConfigBuilder;
use tower_http::trace::TraceLayer;

/// Sets all layers, which differ in their types, around what `$builder` builds.
macro_rules! all_layers {
    ($builder:expr, $directory:expr, $registry:expr) => {{
        let directory: Arc<dyn Directory> = $directory;
        $builder
            .layer(TraceLayer::new_for_http().make_span_with(MakePeerSpan::new()))
            .layer(MetricsLayer::new($registry))
            .layer(HealthShedLayer::new())
            .layer(PerPeerConcurrencyLimitLayer::new(8))
            .layer(RequireResourceLayer::new(directory.clone(), ID))
            .layer(RequireGroupLayer::new(directory.clone(), "staff"))
            .layer(AccessLayer::new(|_: PeerInfo, request: &Parts| {
                let allowed = !request.uri.path().contains("Other");
                async move { if allowed { Ok(()) } else { Err("not-this-path".into()) } }
            }))
            .layer(RevocationGuardLayer::new(directory))
            .layer(IdentityHeadersLayer::new())
    }};
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn around_a_router() {
    let (network, listener) = start().await;
    let mut registry = Registry::default();
    let directory = OneUser::new(network.client_principal);
    let layers = all_layers!(ServiceBuilder::new(), directory.clone(), &mut registry);
    let user = async |headers: HeaderMap| headers["x-qsocket-user"].to_str().unwrap().to_owned();
    let router = Router::new().route("/", get(user)).layer(layers);
    let (_stop, _server) = serve(listener, router);
    let client = client(&network, false);
    for (path, permitted, status, text) in [
        ("/", true, 200, "ann"),
        ("/nothing", true, 404, ""),
        ("/Other", true, 403, "access is refused"),
        ("/", false, 403, "access is refused"),
    ] {
        directory.permit(permitted);
        let response = client.get(uri(path)).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), text);
    }
    let text = text(&registry);
    for (status, count) in [("2xx", 1), ("4xx", 3)] {
        let sample = format!(r#"qsocket_http_requests_total{{method="GET",status="{status}"}} {count}"#);
        assert!(text.contains(&sample), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn around_a_server_of_tonic() {
    let (network, listener) = start().await;
    let mut registry = Registry::default();
    let two = GovernorConfigBuilder::default()
        .per_second(3600)
        .burst_size(2)
        .key_extractor(PeerKeyExtractor)
        .finish()
        .unwrap();
    let server = all_layers!(Server::builder(), OneUser::new(network.client_principal), &mut registry)
        .layer(GovernorLayer::new(two))
        // The service of this test takes bodies of tonic; what tonic generates takes any.
        .layer(MapRequestLayer::new(|request: http::Request<_>| request.map(tonic::body::Body::new)))
        .serve_with_incoming(Service, qsocket_tower::tonic::Incoming::new(listener));
    let _server = tokio::spawn(server);
    let channel = channel(&network).await;
    let call = async |path| unary(channel.clone(), path, Bytes::from("hello")).await;
    for _ in 0..2 {
        let answer = call("/test.Test/Echo").await.unwrap();
        assert_eq!(answer, format!("{} hello", network.client_principal));
    }
    assert_eq!(call("/test.Test/Other").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(call("/test.Test/Echo").await.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test(flavor = "multi_thread")]
async fn around_a_service_of_hyper() {
    let (network, listener) = start().await;
    let mut registry = Registry::default();
    let directory = OneUser::new(network.client_principal);
    let service = all_layers!(ServiceBuilder::new(), directory.clone(), &mut registry).service_fn(
        async |request: http::Request<GuardedBody<Incoming>>| {
            let user = request.headers()["x-qsocket-user"].as_bytes();
            Ok::<_, Infallible>(http::Response::new(Full::from(Bytes::copy_from_slice(user))))
        },
    );
    let _server = tokio::spawn(async move {
        loop {
            let stream = Stream::new(listener.accept().await.unwrap().0).unwrap();
            let peer = stream.peer().clone();
            // Neither axum nor tonic puts the peer there.
            let service = MapRequest::new(service.clone(), move |mut request: http::Request<Incoming>| {
                request.extensions_mut().insert(peer.clone());
                request
            });
            let service = TowerToHyperService::new(service);
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let client = client(&network, false);
    for (permitted, status, text) in [(true, 200, "ann"), (false, 403, "access is refused")] {
        directory.permit(permitted);
        let response = client.get(uri("/")).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), text);
    }
}
