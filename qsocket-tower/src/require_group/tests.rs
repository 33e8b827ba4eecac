use super::*;
use crate::check::Passed;
use crate::require_resource::RequireResourceLayer;
use crate::testing::{
    Behind, Inner, TestDirectory, ann, at_once, bare, bob, grpc, header, refusal, request, stranger,
};
use http::StatusCode;
use qsocket::access::{Permit, User};
use std::sync::Arc;
use tokio_test::{assert_pending, assert_ready_ok};
use tower_layer::Layer as _;
use tower_test::mock::{Spawn, spawn_layer, spawn_with};

fn start(directory: &Arc<TestDirectory>) -> (Spawn<RequireGroup<Inner>>, Behind) {
    spawn_layer(RequireGroupLayer::new(directory.clone(), "staff"))
}

#[tokio::test]
async fn who_is_in_the_group_gets_through_with_its_user() {
    let (mut service, mut behind) = start(&TestDirectory::new());
    assert_ready_ok!(service.poll_ready());
    drop(service.call(request(ann())));
    let (request, _) = behind.next_request().await.unwrap();
    assert_eq!(request.extensions().get::<User>(), Some(&User::new("ann", ["staff"])));
}

#[tokio::test]
async fn who_is_not_in_it_or_not_known_does_not_and_reads_the_same() {
    let (mut service, mut behind) = start(&TestDirectory::new());
    for who in [bob(), stranger()] {
        assert_ready_ok!(service.poll_ready());
        let response = at_once(service.call(request(who)));
        assert_eq!(refusal(response).await, (StatusCode::FORBIDDEN, Some("not-permitted".into())));
    }
    assert_ready_ok!(service.poll_ready());
    assert_eq!(header(&at_once(service.call(grpc(bob()))), "grpc-status"), Some("7"));
    assert_pending!(behind.poll_request());
}

#[tokio::test]
async fn the_group_and_the_black_list_are_asked_live() {
    let directory = TestDirectory::new();
    let (mut service, mut behind) = start(&directory);
    directory.edit(|state| {
        state.users.insert(bob(), User::new("bob", ["staff"]));
        state.black.insert(ann());
    });
    assert_ready_ok!(service.poll_ready());
    drop(service.call(request(bob())));
    assert!(behind.next_request().await.is_some());
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(request(ann())));
    assert_eq!(refusal(response).await, (StatusCode::FORBIDDEN, Some("black-listed".into())));
    assert_pending!(behind.poll_request());
}

#[tokio::test]
async fn it_leaves_the_permit_of_a_resource() {
    let directory = TestDirectory::new();
    let resource = RequireResourceLayer::new(directory.clone(), "wiki");
    let group = RequireGroupLayer::new(directory, "staff");
    let (mut service, mut behind) = spawn_with(|inner: Inner| resource.layer(group.layer(inner)));
    assert_ready_ok!(service.poll_ready());
    drop(service.call(request(ann())));
    let (request, _) = behind.next_request().await.unwrap();
    assert_eq!(request.extensions().get::<Permit>().unwrap().resource.as_deref(), Some("wiki"));
    assert_eq!(request.extensions().get::<Passed>().unwrap().0.len(), 2);
}

#[tokio::test]
async fn a_request_without_a_peer_is_a_mistake_of_the_program() {
    let (mut service, mut behind) = start(&TestDirectory::new());
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(bare()));
    assert_eq!(refusal(response).await, (StatusCode::INTERNAL_SERVER_ERROR, None));
    assert_pending!(behind.poll_request());
}
