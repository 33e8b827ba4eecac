use super::*;
use crate::require_group::RequireGroupLayer;
use crate::require_resource::RequireResourceLayer;
use crate::testing::{Inner, Req, Res, TestDirectory, ann, at_once, bare, peer, refusal, request, stranger};
use crate::{LiveHealth, PeerInfo};
use http::{HeaderMap, StatusCode};
use qsocket::Health;
use qsocket::access::User;
use tokio_test::{assert_pending, assert_ready_ok};
use tower_layer::{Identity, Layer};
use tower_service::Service;
use tower_test::mock::spawn_with;

/// What the service behind `outer` and the layer is told.
async fn told<L>(outer: &L, layer: IdentityHeadersLayer, request: Req) -> HeaderMap
where
    L: Layer<
            IdentityHeaders<Inner>,
            Service: Service<Req, Error: std::fmt::Debug, Response: std::fmt::Debug>,
        >,
{
    let (mut service, mut behind) = spawn_with(|inner: Inner| outer.layer(layer.layer(inner)));
    assert_ready_ok!(service.poll_ready());
    drop(service.call(request));
    behind.next_request().await.unwrap().0.into_parts().0.headers
}

async fn told_alone(request: Req) -> HeaderMap {
    told(&Identity::new(), IdentityHeadersLayer::new(), request).await
}

/// All values of all names that begin so.
fn all<'a>(headers: &'a HeaderMap, prefix: &str) -> Vec<(&'a str, &'a str)> {
    let named = headers.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
    let mut all: Vec<_> = named.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    all.sort_unstable();
    all
}

const STRANGER: [(&str, &str); 4] = [
    ("x-qsocket-key-strength", "relays"),
    ("x-qsocket-network", "1"),
    ("x-qsocket-paths", "0"),
    ("x-qsocket-principal", "1.0.9"),
];

#[tokio::test]
async fn who_asks_is_told_as_far_as_it_is_known() {
    let headers = told_alone(request(stranger())).await;
    assert_eq!(all(&headers, ""), STRANGER);

    let mut request = request(ann());
    let health = LiveHealth::fixed(Health::of(23));
    let strong =
        PeerInfo { ml_kem: true, encryption_key: Some(qsocket::keys::KeyId([1; 16])), health, ..peer(ann()) };
    request.extensions_mut().insert(strong);
    let headers = told_alone(request).await;
    assert_eq!(headers["x-qsocket-key-strength"], "relays, ml-kem-768, encryption-key");
    assert_eq!(headers["x-qsocket-paths"], "23");
}

#[tokio::test]
async fn the_user_is_that_of_the_layers_outside_or_of_a_directory() {
    let directory = TestDirectory::new();
    let resource = RequireResourceLayer::new(directory.clone(), "wiki");
    let headers = told(&resource, IdentityHeadersLayer::new(), request(ann())).await;
    let of = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(
        (of("x-qsocket-user"), of("x-qsocket-groups"), of("x-qsocket-resource")),
        (Some("ann"), Some("staff"), Some("wiki"))
    );

    let group = RequireGroupLayer::new(directory.clone(), "staff");
    let headers = told(&group, IdentityHeadersLayer::new(), request(ann())).await;
    assert_eq!(
        (&headers["x-qsocket-user"], &headers["x-qsocket-groups"]),
        (&"ann".parse().unwrap(), &"staff".parse().unwrap())
    );
    assert!(headers.get("x-qsocket-resource").is_none());

    // What it knows now.
    directory.edit(|state| {
        state.users.insert(ann(), User::new("anna", ["a", "b"]));
    });
    let layer = IdentityHeadersLayer::new().with_directory(directory);
    let headers = told(&Identity::new(), layer.clone(), request(ann())).await;
    assert_eq!(
        (&headers["x-qsocket-user"], &headers["x-qsocket-groups"]),
        (&"anna".parse().unwrap(), &"a,b".parse().unwrap())
    );
    let headers = told(&Identity::new(), layer, request(stranger())).await;
    assert_eq!(all(&headers, ""), STRANGER);
}

#[tokio::test]
async fn no_name_reads_as_another() {
    let directory = TestDirectory::new();
    directory.edit(|state| {
        let groups = ["a,admins", "100%2C", "b\r\nx-qsocket-user: root", " c", "M\u{fc}ller"];
        state.users.insert(ann(), User::new("ann\0,root", groups));
    });
    let layer = IdentityHeadersLayer::new().with_directory(directory);
    let headers = told(&Identity::new(), layer, request(ann())).await;
    assert_eq!(headers["x-qsocket-user"], "ann%00%2Croot");
    let groups = headers["x-qsocket-groups"].to_str().unwrap();
    let expected = ["%20c", "100%252C", "M%C3%BCller", "a%2Cadmins", "b%0D%0Ax-qsocket-user:%20root"];
    assert_eq!(groups.split(',').collect::<Vec<_>>(), expected);
}

/// The attack: the client says who it is, in every way that a backend might read.
#[tokio::test]
async fn what_the_client_says_of_itself_is_gone() {
    let mut request = request(stranger());
    for (name, value) in [
        ("X-QSocket-Principal", "1.0.1"),
        ("x-qsocket-principal", "1.0.2"),
        ("X-QSOCKET-USER", "root"),
        ("x-qsocket-groups", "admins"),
        ("x-qsocket-anything", "else"),
        ("x-qsocket-", "nothing"),
        ("X_QSocket_User", "root"),
        ("x_qsocket-groups", "admins"),
        ("x.qsocket.user", "root"),
        ("x~qsocket!user", "root"),
        ("Forwarded", "for=10.0.0.1"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.2"),
        ("X-Forwarded-User", "root"),
        ("x_forwarded_proto", "https"),
        ("X-Real-IP", "10.0.0.1"),
        ("X-Request-Id", "of the client"),
        ("x-qsockets", "another name"),
    ] {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let headers = told_alone(request).await;
    let mut expected = STRANGER.to_vec();
    expected.extend([("x-qsockets", "another name"), ("x-request-id", "of the client")]);
    assert_eq!(all(&headers, ""), expected);
}

/// The attack: the next proxy removes what `Connection` names, and so what was set here.
#[tokio::test]
async fn connection_cannot_have_it_removed_further_on() {
    for (values, expected) in [
        (&["close, X-QSocket-User"][..], Some("close")),
        (
            &["x_qsocket_principal", "Upgrade , x-forwarded-for,HTTP2-Settings"],
            Some("Upgrade, HTTP2-Settings"),
        ),
        (&["x-qsocket-groups"], None),
        (&["keep-alive"], Some("keep-alive")),
    ] {
        let mut request = request(stranger());
        for value in values {
            request.headers_mut().append("connection", value.parse().unwrap());
        }
        let headers = told_alone(request).await;
        let left: Vec<_> =
            headers.get_all("connection").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(left, expected.into_iter().collect::<Vec<_>>(), "{values:?}");
    }
}

#[tokio::test]
async fn a_backend_that_trusts_its_clients_proxies_may_keep_what_they_forward() {
    let mut request = request(stranger());
    for name in ["x-forwarded-for", "forwarded", "x-real-ip", "x-qsocket-user"] {
        request.headers_mut().insert(name, "10.0.0.1".parse().unwrap());
    }
    request.headers_mut().insert("connection", "x-forwarded-for".parse().unwrap());
    let layer = IdentityHeadersLayer::new().keep_forwarded();
    let headers = told(&Identity::new(), layer, request).await;
    for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        assert_eq!(headers[name], "10.0.0.1");
    }
    assert_eq!(headers["connection"], "x-forwarded-for");
    assert!(headers.get("x-qsocket-user").is_none());
}

#[tokio::test]
async fn a_request_without_a_peer_is_a_mistake_of_the_program() {
    let (mut service, mut behind) = tower_test::mock::spawn_layer::<Req, Res, _>(IdentityHeadersLayer::new());
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(bare()));
    assert_eq!(refusal(response).await, (StatusCode::INTERNAL_SERVER_ERROR, None));
    assert_pending!(behind.poll_request());
}
