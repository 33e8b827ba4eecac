//! What a handler reads of who asks, whatever the client wrote.

use super::directory::{ID, OneUser};
use crate::axum::serve;
use crate::network::{NAME, start};
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use qsocket_tower::PeerInfo;
use qsocket_tower::identity_headers::IdentityHeadersLayer;
use qsocket_tower::require_resource::RequireResourceLayer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceBuilder;

/// One line for each header that a backend might take for who asks, and for `Connection`.
async fn told(headers: HeaderMap) -> String {
    let interesting =
        |name: &str| name.contains("qsocket") || name.contains("forwarded") || name == "connection";
    let mut lines: Vec<_> = headers
        .iter()
        .filter(|(name, _)| interesting(name.as_str()))
        .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_say_who_it_is() {
    let (network, listener) = start().await;
    let layers = ServiceBuilder::new()
        .layer(RequireResourceLayer::new(OneUser::new(network.client_principal), ID))
        .layer(IdentityHeadersLayer::new());
    let (_stop, _server) = serve(listener, Router::new().route("/", get(told)).route_layer(layers));

    // By hand: a library would not send all of this.
    let mut stream = network.client.connect(format!("{NAME}:80")).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {NAME}\r\nX-QSocket-Principal: 1.0.1\r\nx-qsocket-principal: 1.0.2\r\n\
         X_QSOCKET_USER: root\r\nX-QSocket-Groups: admins\r\nx.qsocket.groups: admins\r\nForwarded: for=10.0.0.1\r\n\
         X-Forwarded-User: root\r\nConnection: close, X-QSocket-User\r\nConnection: x_qsocket_principal\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let told: Vec<&str> = body.lines().collect();
    let [connection, groups, strength, net, paths, principal, resource, user] = told[..] else {
        panic!("{body}");
    };
    let who = network.client_principal;
    assert_eq!(connection, "connection=close");
    assert_eq!(groups, "x-qsocket-groups=staff");
    assert_eq!(strength, "x-qsocket-key-strength=relays, ml-kem-768");
    assert_eq!(net, format!("x-qsocket-network={}", who.network));
    let paths: usize = paths.strip_prefix("x-qsocket-paths=").unwrap().parse().unwrap();
    assert!(paths <= PeerInfo::PATHS, "{paths}");
    assert_eq!(principal, format!("x-qsocket-principal={who}"));
    assert_eq!(resource, format!("x-qsocket-resource={ID}"));
    assert_eq!(user, "x-qsocket-user=ann");
}
