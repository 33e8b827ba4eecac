use super::*;
use crate::testing::{Frames, Req, ann, at_once, bare, bob, frames, grpc, header, refusal, request};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower_layer::Layer as _;
use tower_service::Service as _;
use tower_test::mock::{Handle, Mock, pair, spawn_layer};

type Res = Response<Frames>;
type Limit = PerPeerConcurrencyLimit<Mock<Req, Res>>;

/// One request at a time.
fn start() -> (Limit, Handle<Req, Res>) {
    let (inner, behind) = pair();
    (PerPeerConcurrencyLimitLayer::new(1).layer(inner), behind)
}

/// Whether there is room for a request, which ends at once.
fn has_room(limit: &Limit, behind: &mut Handle<Req, Res>, request: Req) -> bool {
    let mut service = limit.clone();
    assert_ready_ok!(task::spawn(()).enter(|cx, _| service.poll_ready(cx)));
    let answer = service.call(request);
    let passed = behind.poll_request().is_ready();
    drop(answer);
    passed
}

#[tokio::test]
async fn it_counts_until_the_body_ends_and_for_each_peer() {
    let (limit, mut behind) = start();
    let mut service = limit.clone();
    assert_ready_ok!(task::spawn(()).enter(|cx, _| service.poll_ready(cx)));
    let mut answer = task::spawn(service.call(request(ann())));
    assert_pending!(answer.poll());
    let (_, send) = behind.next_request().await.unwrap();
    assert!(!has_room(&limit, &mut behind, request(ann())), "its handler runs");
    assert!(has_room(&limit, &mut behind, request(bob())));

    let (sender, body) = frames();
    send.send_response(Response::new(body));
    let mut body = assert_ready_ok!(answer.poll()).into_body();
    drop(answer);
    sender.send(Frame::data("data".into())).unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data");
    assert!(!has_room(&limit, &mut behind, request(ann())), "its body goes on");
    assert_eq!(limit.table.principals(), 1);
    drop(sender);
    assert!(body.frame().await.is_none());
    assert!(has_room(&limit, &mut behind, request(ann())), "while the body is still there");
    assert_eq!(limit.table.principals(), 0);
}

#[test]
fn one_of_two_that_is_over_makes_room_for_one() {
    let (inner, mut behind) = pair::<Req, Res>();
    let limit = PerPeerConcurrencyLimitLayer::new(2).layer(inner);
    let enter = || limit.table.enter(ann(), 2);
    let (first, second) = (enter().unwrap(), enter().unwrap());
    assert!(!has_room(&limit, &mut behind, request(ann())));
    drop(second);
    assert!(has_room(&limit, &mut behind, request(ann())));
    let second = enter().unwrap();
    assert!(enter().is_none());
    assert_eq!(limit.table.principals(), 1);
    drop((first, second));
    assert_eq!(limit.table.principals(), 0);
}

#[tokio::test]
async fn what_is_dropped_or_fails_is_over() {
    let (limit, mut behind) = start();
    for way in ["future", "body", "error"] {
        let mut service = limit.clone();
        assert_ready_ok!(task::spawn(()).enter(|cx, _| service.poll_ready(cx)));
        let mut answer = task::spawn(service.call(request(ann())));
        assert_pending!(answer.poll());
        let (_, send) = behind.next_request().await.unwrap();
        let (_sender, body) = frames();
        match way {
            "future" => drop(answer),
            "body" => {
                send.send_response(Response::new(body));
                let response = assert_ready_ok!(answer.poll());
                assert!(!has_room(&limit, &mut behind, request(ann())));
                drop(response);
            }
            _ => {
                send.send_error("broken");
                assert!(answer.into_inner().await.is_err());
            }
        }
        assert_eq!(limit.table.principals(), 0, "{way}");
        assert!(has_room(&limit, &mut behind, request(ann())), "{way}");
    }
}

#[tokio::test]
async fn a_body_that_ends_with_its_last_frame_is_over_then() {
    let (mut service, mut behind) =
        spawn_layer::<Req, Response<Full<Bytes>>, _>(PerPeerConcurrencyLimitLayer::new(1));
    let mut kept = Vec::new();
    for data in ["", "data"] {
        assert_ready_ok!(service.poll_ready());
        let answer = tokio::spawn(service.call(request(ann())));
        behind.next_request().await.unwrap().1.send_response(Response::new(Full::from(data)));
        let mut body = answer.await.unwrap().unwrap().into_body();
        if !data.is_empty() {
            assert_eq!(service.get_ref().table.principals(), 1);
            // hyper asks no further once the length is there.
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), data);
        }
        assert_eq!(service.get_ref().table.principals(), 0, "{data}");
        kept.push(body);
    }
}

#[tokio::test]
async fn what_is_too_much_is_said_in_the_protocol_of_the_request() {
    let (mut service, mut behind) =
        spawn_layer::<Req, Response<Full<Bytes>>, _>(PerPeerConcurrencyLimitLayer::new(0));
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(request(ann())));
    assert_eq!(refusal(response).await, (StatusCode::TOO_MANY_REQUESTS, Some("too-many-requests".into())));
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(grpc(ann())));
    assert_eq!(header(&response, "grpc-status"), Some("8"));
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(bare()));
    assert_eq!(refusal(response).await, (StatusCode::INTERNAL_SERVER_ERROR, None));
    assert_pending!(behind.poll_request());
}

#[test]
fn the_services_of_a_layer_count_together() {
    let layer = PerPeerConcurrencyLimitLayer::new(1);
    let (one, mut behind_one) = pair::<Req, Res>();
    let (other, mut behind_other) = pair::<Req, Res>();
    let (mut one, other) = (layer.layer(one), layer.clone().layer(other));
    assert_ready_ok!(task::spawn(()).enter(|cx, _| one.poll_ready(cx)));
    let answer = one.call(request(ann()));
    assert!(behind_one.poll_request().is_ready());
    assert!(!has_room(&other, &mut behind_other, request(ann())));
    drop(answer);
    assert!(has_room(&other, &mut behind_other, request(ann())));
}
