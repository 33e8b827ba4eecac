use super::*;
use crate::check::Passed;
use crate::testing::{
    Behind, Inner, Logs, TestDirectory, ann, at_once, bare, bob, grpc, header, refusal, request, stranger,
};
use http::Response;
use http_body_util::{BodyExt as _, Full};
use qsocket::access::Permit;
use std::sync::Arc;
use tokio_test::{assert_pending, assert_ready_ok};
use tower_test::mock::{Spawn, spawn_layer};

fn start(directory: &Arc<TestDirectory>, id: &'static str) -> (Spawn<RequireResource<Inner>>, Behind) {
    spawn_layer(RequireResourceLayer::new(directory.clone(), id))
}

#[tokio::test]
async fn whom_the_directory_permits_gets_through_with_the_permit() {
    let (mut service, mut behind) = start(&TestDirectory::new(), "wiki");
    assert_ready_ok!(service.poll_ready());
    let response = tokio::spawn(service.call(request(ann())));
    let (request, answer) = behind.next_request().await.unwrap();
    let permit = request.extensions().get::<Permit>().unwrap();
    assert_eq!(&*permit.user.as_ref().unwrap().name, "ann");
    assert_eq!(permit.resource.as_deref(), Some("wiki"));
    assert_eq!(request.extensions().get::<Passed>().unwrap().0.len(), 1);
    answer.send_response(Response::new(Full::from("welcome")));
    let response = response.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "welcome");
}

#[tokio::test]
async fn nobody_else_does_and_what_exists_is_not_said() {
    let directory = TestDirectory::new();
    for (who, id) in [(bob(), "wiki"), (stranger(), "wiki"), (ann(), "no such thing")] {
        let (mut service, mut behind) = start(&directory, id);
        assert_ready_ok!(service.poll_ready());
        let response = at_once(service.call(request(who)));
        // One that stands for all: no byte tells them apart.
        assert_eq!(refusal(response).await, (http::StatusCode::FORBIDDEN, Some("not-permitted".into())));
        assert_pending!(behind.poll_request());
    }
}

#[tokio::test]
async fn the_log_of_this_side_says_why() {
    let logs = Logs::start();
    let (mut service, _behind) = start(&TestDirectory::new(), "wiki");
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(request(bob())));
    let (head, body) = response.into_parts();
    let told = format!("{head:?} {:?}", body.collect().await.unwrap());
    assert!(!told.contains("rule") && !told.contains("wiki"), "{told}");
    let logged = logs.text();
    for part in ["INFO", "1.0.8", "wiki", "nothing grants it, by the secret rule"] {
        assert!(logged.contains(part), "{part} is not in {logged}");
    }
}

#[tokio::test]
async fn it_decides_anew_for_each_request() {
    let directory = TestDirectory::new();
    let (mut service, mut behind) = start(&directory, "wiki");
    directory.edit(|state| {
        state.black.insert(ann());
    });
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(request(ann())));
    assert_eq!(refusal(response).await.1.as_deref(), Some("black-listed"));
    directory.edit(|state| state.black.clear());
    assert_ready_ok!(service.poll_ready());
    drop(service.call(request(ann())));
    assert!(behind.next_request().await.is_some());
}

#[tokio::test]
async fn in_grpc_permission_is_denied() {
    let (mut service, mut behind) = start(&TestDirectory::new(), "wiki");
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(grpc(bob())));
    assert_eq!((response.status().as_u16(), header(&response, "grpc-status")), (200, Some("7")));
    assert_pending!(behind.poll_request());
}

#[tokio::test]
async fn a_request_without_a_peer_is_a_mistake_of_the_program() {
    let logs = Logs::start();
    let (mut service, mut behind) = start(&TestDirectory::new(), "wiki");
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(bare()));
    assert_eq!(refusal(response).await, (http::StatusCode::INTERNAL_SERVER_ERROR, None));
    assert_pending!(behind.poll_request());
    assert!(logs.text().contains("ERROR"));
}

#[tokio::test]
async fn it_is_ready_when_the_service_is_and_fails_as_it_does() {
    let (mut service, mut behind) = start(&TestDirectory::new(), "wiki");
    behind.allow(0);
    assert_pending!(service.poll_ready());
    behind.allow(1);
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
    let response = tokio::spawn(service.call(request(ann())));
    behind.next_request().await.unwrap().1.send_error("broken");
    assert_eq!(response.await.unwrap().unwrap_err().to_string(), "broken");
}
