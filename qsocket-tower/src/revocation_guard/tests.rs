use super::*;
use crate::BoxError;
use crate::check::{Check, Question};
use crate::require_group::RequireGroupLayer;
use crate::require_resource::{RequireResource, RequireResourceLayer};
use crate::testing::{Frames, TestDirectory, ann, at_once, bare, frames, grpc, header, refusal, request};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Full};
use qsocket::Principal;
use qsocket::access::{AccessList, Action, Denial, Directory, Permit, Reason, Resource, User};
use revocation::Revocation;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower_layer::Layer as _;
use tower_test::mock::{Handle, Mock, Spawn, spawn_layer, spawn_with};

type Req = Request<GuardedBody<Full<Bytes>>>;
type Res = Response<Frames>;
type Guard = RevocationGuard<Mock<Req, Res>>;

fn alone(directory: Arc<dyn Directory>) -> (Spawn<Guard>, Handle<Req, Res>) {
    spawn_layer(RevocationGuardLayer::new(directory))
}

/// Behind a layer that asks for the wiki.
fn behind_resource(directory: &Arc<TestDirectory>) -> (Spawn<RequireResource<Guard>>, Handle<Req, Res>) {
    let resource = RequireResourceLayer::new(directory.clone(), "wiki");
    let guard = RevocationGuardLayer::new(directory.clone());
    spawn_with(|inner| resource.layer(guard.layer(inner)))
}

fn take_grant(directory: &TestDirectory) {
    directory.edit(|state| {
        state.grants.get_mut("wiki").unwrap().remove(&ann());
    });
}

fn leave_staff(directory: &TestDirectory) {
    directory.edit(|state| {
        state.users.insert(ann(), User::new("ann", ["others"]));
    });
}

#[tokio::test]
async fn a_handler_that_has_not_answered_is_dropped() {
    let directory = TestDirectory::new();
    let alive = Arc::new(());
    let held = alive.clone();
    let service = tower::service_fn(move |_: Req| {
        let held = held.clone();
        async move {
            let _held = held;
            std::future::pending::<Result<Res, BoxError>>().await
        }
    });
    let resource = RequireResourceLayer::new(directory.clone(), "wiki");
    let guarded = resource.layer(RevocationGuardLayer::new(directory.clone()).layer(service));
    let mut service = Spawn::new(guarded);
    assert_ready_ok!(service.poll_ready::<Request<Full<Bytes>>>());
    let mut answer = task::spawn(service.call(request(ann())));
    assert_pending!(answer.poll());
    assert_eq!(Arc::strong_count(&alive), 3);
    // What changes nothing for this request.
    leave_staff(&directory);
    assert!(answer.is_woken());
    assert_pending!(answer.poll());
    take_grant(&directory);
    assert!(answer.is_woken());
    let response = assert_ready_ok!(answer.poll());
    // It is over while the future is still there.
    assert_eq!(Arc::strong_count(&alive), 2);
    assert_eq!(refusal(response).await, (StatusCode::FORBIDDEN, Some("revoked".into())));
}

#[tokio::test]
async fn a_change_between_the_decision_and_the_first_poll_is_not_missed() {
    let directory = TestDirectory::new();
    let (mut service, _behind) = behind_resource(&directory);
    assert_ready_ok!(service.poll_ready());
    let mut answer = task::spawn(service.call(request(ann())));
    take_grant(&directory);
    assert_eq!(assert_ready_ok!(answer.poll()).status(), StatusCode::FORBIDDEN);
}

/// A response whose body goes on, and what sends it.
async fn streaming(
    service: &mut Spawn<RequireResource<Guard>>,
    behind: &mut Handle<Req, Res>,
    request: crate::testing::Req,
) -> (mpsc::UnboundedSender<Frame<Bytes>>, GuardedBody<Frames>) {
    assert_ready_ok!(service.poll_ready());
    let answer = tokio::spawn(service.call(request));
    let (sender, body) = frames();
    behind.next_request().await.unwrap().1.send_response(Response::new(body));
    let body = answer.await.unwrap().unwrap().into_body();
    // `RequireResource` may have answered itself, with a text.
    (sender, body.into_inner().unwrap())
}

#[tokio::test]
async fn a_body_in_progress_ends_with_an_error() {
    let directory = TestDirectory::new();
    let (mut service, mut behind) = behind_resource(&directory);
    let (sender, body) = streaming(&mut service, &mut behind, request(ann())).await;
    let mut body = task::spawn(body);
    let mut next = move || body.enter(|cx, body| body.poll_frame(cx));
    sender.send(Frame::data("data".into())).unwrap();
    assert_eq!(assert_ready!(next()).unwrap().unwrap().into_data().unwrap(), "data");
    assert_pending!(next());
    // What waits is not given any more either.
    sender.send(Frame::data("too late".into())).unwrap();
    take_grant(&directory);
    let error = assert_ready!(next()).unwrap().unwrap_err();
    assert!(error.is::<Revoked>(), "{error}");
    assert!(sender.is_closed(), "the body of the service is gone");
    assert!(assert_ready!(next()).is_none());
}

#[tokio::test]
async fn in_grpc_it_ends_with_the_status() {
    let directory = TestDirectory::new();
    let (mut service, mut behind) = behind_resource(&directory);
    let (sender, mut body) = streaming(&mut service, &mut behind, grpc(ann())).await;
    sender.send(Frame::data("data".into())).unwrap();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    take_grant(&directory);
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-qsocket-reason"]),
        (&"7".parse().unwrap(), &"revoked".parse().unwrap())
    );
    assert!(body.frame().await.is_none());

    let (mut service, mut behind) = behind_resource(&directory);
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(grpc(ann())));
    assert_eq!(header(&response, "grpc-status"), Some("7"));
    assert_pending!(behind.poll_request());
}

#[tokio::test]
async fn the_body_of_the_request_ends_with_an_error() {
    let directory = TestDirectory::new();
    let (mut service, mut behind) = behind_resource(&directory);
    for taken in [false, true] {
        assert_ready_ok!(service.poll_ready());
        let mut answer = task::spawn(service.call(request(ann())));
        assert_pending!(answer.poll());
        let body = behind.next_request().await.unwrap().0.into_body();
        assert_eq!(body.size_hint().exact(), Some(9));
        if taken {
            take_grant(&directory);
            assert!(body.collect().await.unwrap_err().is::<Revoked>());
        } else {
            assert_eq!(body.collect().await.unwrap().to_bytes(), "a request");
        }
    }
}

#[tokio::test]
async fn a_body_that_ended_is_left_alone() {
    let directory = TestDirectory::new();
    let (mut service, mut behind) = behind_resource(&directory);
    let (sender, mut body) = streaming(&mut service, &mut behind, request(ann())).await;
    sender.send(Frame::data("data".into())).unwrap();
    drop(sender);
    assert!(body.frame().await.unwrap().unwrap().is_data());
    assert!(body.frame().await.is_none());
    take_grant(&directory);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn alone_it_asks_for_admission() {
    let directory = TestDirectory::new();
    let (mut service, mut behind) = alone(directory.clone());
    assert_ready_ok!(service.poll_ready());
    let mut answer = task::spawn(service.call(request(ann())));
    assert_pending!(answer.poll());
    let _in_progress = behind.next_request().await.unwrap();
    take_grant(&directory);
    assert_pending!(answer.poll());
    directory.edit(|state| {
        state.black.insert(ann());
    });
    assert_eq!(assert_ready_ok!(answer.poll()).status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn behind_a_group_it_asks_for_the_group() {
    let directory = TestDirectory::new();
    let group = RequireGroupLayer::new(directory.clone(), "staff");
    let guard = RevocationGuardLayer::new(directory.clone());
    let (mut service, _behind) = spawn_with(|inner: Mock<Req, Res>| group.layer(guard.layer(inner)));
    assert_ready_ok!(service.poll_ready());
    let mut answer = task::spawn(service.call(request(ann())));
    assert_pending!(answer.poll());
    leave_staff(&directory);
    assert_eq!(assert_ready_ok!(answer.poll()).status(), StatusCode::FORBIDDEN);
}

/// Gives permits that are over, and never tells of a change.
#[derive(Debug)]
struct Stubborn(AtomicUsize);

impl Directory for Stubborn {
    fn admit(&self, _: Principal) -> Result<(), Denial> {
        Ok(())
    }

    fn decide(&self, _: Principal, _: Action, _: Resource<'_>, _: SystemTime) -> Result<Permit, Denial> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Permit::default().with_until(SystemTime::UNIX_EPOCH))
    }

    fn user(&self, _: Principal) -> Option<User> {
        None
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        // Whoever would tell is gone.
        Some(watch::channel(0).1)
    }
}

fn wait_for_wiki(directory: Arc<dyn Directory>) -> Revocation {
    Revocation::new(ann(), std::iter::once(Check { directory, question: Question::Resource("wiki".into()) }))
}

#[tokio::test(start_paused = true)]
async fn it_asks_again_when_the_permit_ends_and_now_and_then_in_case_the_clock_was_set() {
    const MARGIN: Duration = Duration::from_secs(10);
    for (until, after) in [(2 * MARGIN, 2 * MARGIN), (Duration::from_secs(1 << 40), ASK_AGAIN)] {
        let directory = TestDirectory::new();
        directory.state().until = Some(SystemTime::now() + until);
        let mut wait = task::spawn(wait_for_wiki(directory.clone()));
        assert_pending!(wait.poll());
        // The clock of the system does not go with that of the test. Nothing says that it was set.
        directory.state().until = Some(SystemTime::UNIX_EPOCH);
        tokio::time::advance(after - MARGIN).await;
        assert_pending!(wait.poll());
        tokio::time::advance(MARGIN).await;
        assert!(wait.is_woken());
        assert_eq!(assert_ready!(wait.poll()).reason, Reason::Expired);
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_is_over_and_still_given_does_not_keep_it_busy() {
    let directory = Arc::new(Stubborn(0.into()));
    tokio::time::timeout(Duration::from_secs(1), wait_for_wiki(directory.clone())).await.unwrap_err();
    let asked = directory.0.load(Ordering::Relaxed);
    assert!((50..=101).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_directory_that_does_not_change_guards_nothing_and_costs_nothing() {
    let (mut service, mut behind) = alone(Arc::new(AccessList::default()));
    assert_ready_ok!(service.poll_ready());
    let answer = tokio::spawn(service.call(request(ann())));
    let (sender, body) = frames();
    behind.next_request().await.unwrap().1.send_response(Response::new(body));
    let body = answer.await.unwrap().unwrap().into_body();
    sender.send(Frame::data("data".into())).unwrap();
    drop(sender);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "data");
}

#[tokio::test]
async fn a_request_without_a_peer_is_a_mistake_of_the_program() {
    let (mut service, mut behind) = alone(TestDirectory::new());
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(bare()));
    assert_eq!(refusal(response).await, (StatusCode::INTERNAL_SERVER_ERROR, None));
    assert_pending!(behind.poll_request());
}
