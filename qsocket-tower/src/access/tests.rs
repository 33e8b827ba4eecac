use super::*;
use crate::testing::{
    Behind, Inner, Req, Res, TestDirectory, ann, at_once, bare, bob, grpc, header, refusal, request, stranger,
};
use crate::{PeerInfo, refusal::Forbidden};
use http::StatusCode;
use http::request::Parts;
use qsocket::access::{Action, Directory as _, Resource};
use std::future::Ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower_test::mock::{Spawn, spawn_layer};

fn start<D: Decide + Clone>(decider: D) -> (Spawn<Access<Inner, D>>, Behind) {
    spawn_layer(AccessLayer::new(decider))
}

#[tokio::test]
async fn it_waits_for_the_decision() {
    let go = Arc::new(Notify::new());
    let decided = go.clone();
    let (mut service, mut behind) = start(move |peer: PeerInfo, request: &Parts| {
        assert_eq!((peer.principal, request.uri.path()), (ann(), "/"));
        let go = go.clone();
        async move {
            go.notified().await;
            Ok(())
        }
    });
    assert_ready_ok!(service.poll_ready());
    let mut answer = task::spawn(service.call(request(ann())));
    assert_pending!(answer.poll());
    assert_pending!(behind.poll_request());
    decided.notify_one();
    assert!(answer.is_woken());
    assert_pending!(answer.poll());
    let (request, send) = behind.next_request().await.unwrap();
    assert!(request.extensions().get::<PeerInfo>().is_some(), "the request is as it was");
    send.send_response(Res::default());
    assert_eq!(assert_ready_ok!(answer.poll()).status(), 200);
}

#[tokio::test]
async fn the_client_is_told_the_code_of_the_program() {
    let (mut service, mut behind) = start(|_: PeerInfo, _: &Parts| async { Err("out-of-hours".into()) });
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(request(ann())));
    assert_eq!(refusal(response).await, (StatusCode::FORBIDDEN, Some("out-of-hours".into())));
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(grpc(ann())));
    assert_eq!(header(&response, "grpc-status"), Some("7"));
    assert_eq!(header(&response, "x-qsocket-reason"), Some("out-of-hours"));
    assert_pending!(behind.poll_request());
}

/// A decider that is a type.
#[derive(Clone)]
struct ByPath(Arc<TestDirectory>);

impl Decide for ByPath {
    type Future = Ready<Result<(), Forbidden>>;

    fn decide(&self, peer: PeerInfo, request: &Parts) -> Self::Future {
        let id = request.uri.path().trim_start_matches('/');
        let decided = self.0.decide(peer.principal, Action::Dial, Resource::Id(id), SystemTime::now());
        std::future::ready(decided.map(drop).map_err(Forbidden::from))
    }
}

#[tokio::test]
async fn what_a_directory_says_is_not_told() {
    let (mut service, mut behind) = start(ByPath(TestDirectory::new()));
    for (who, path) in [(bob(), "/wiki"), (stranger(), "/wiki"), (ann(), "/nothing")] {
        let mut request = request(who);
        *request.uri_mut() = path.parse().unwrap();
        assert_ready_ok!(service.poll_ready());
        let response = at_once(service.call(request));
        assert_eq!(refusal(response).await, (StatusCode::FORBIDDEN, Some("not-permitted".into())));
    }
    assert_pending!(behind.poll_request());
    let mut request = request(ann());
    *request.uri_mut() = "/wiki".parse().unwrap();
    assert_ready_ok!(service.poll_ready());
    let mut answer = task::spawn(service.call(request));
    assert_pending!(answer.poll());
    assert!(behind.poll_request().is_ready());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_decided_in_time_does_not_get_through() {
    let never = |_: PeerInfo, _: &Parts| std::future::pending::<Result<(), Forbidden>>();
    let layer = AccessLayer::new(never).with_timeout(Duration::from_secs(3));
    let (mut service, mut behind) = spawn_layer::<Req, Res, _>(layer);
    assert_ready_ok!(service.poll_ready());
    let mut answer = task::spawn(service.call(request(ann())));
    assert_pending!(answer.poll());
    tokio::time::advance(Duration::from_millis(2_998)).await;
    assert_pending!(answer.poll());
    tokio::time::advance(Duration::from_millis(3)).await;
    let response = assert_ready_ok!(answer.poll());
    assert_eq!(refusal(response).await, (StatusCode::SERVICE_UNAVAILABLE, Some("undecided".into())));
    assert_pending!(behind.poll_request());
}

#[tokio::test]
async fn nothing_is_decided_about_a_request_without_a_peer() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let (mut service, mut behind) = start(move |_: PeerInfo, _: &Parts| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    });
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(bare()));
    assert_eq!(refusal(response).await, (StatusCode::INTERNAL_SERVER_ERROR, None));
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_pending!(behind.poll_request());
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called() {
    let (mut service, mut behind) = start(|_: PeerInfo, _: &Parts| async { Ok(()) });
    // The mock panics when one that is not ready is called; there is room for one.
    behind.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut answer = task::spawn(service.call(request(ann())));
    assert_pending!(answer.poll());
    assert!(behind.poll_request().is_ready());
    assert_pending!(service.poll_ready());
}
