use super::*;
use crate::testing::{Behind, Inner, Req, ann, at_once, bare, grpc, header, peer, refusal, request};
use crate::{LiveHealth, PeerInfo};
use http::StatusCode;
use qsocket::Health;
use std::time::Duration;
use tokio::sync::watch;
use tokio_test::{assert_pending, assert_ready_ok};
use tower_test::mock::{Spawn, spawn_layer};

fn with(health: &LiveHealth) -> Req {
    let mut request = request(ann());
    request.extensions_mut().insert(PeerInfo { health: health.clone(), ..peer(ann()) });
    request
}

/// Whether a request gets through.
async fn passes(service: &mut Spawn<HealthShed<Inner>>, behind: &mut Behind, health: &LiveHealth) -> bool {
    assert_ready_ok!(service.poll_ready());
    let answer = tokio_test::task::spawn(service.call(with(health)));
    if behind.poll_request().is_ready() {
        return true;
    }
    let response = answer.into_inner().await.unwrap();
    assert_eq!(header(&response, "retry-after"), Some("5"));
    assert_eq!(refusal(response).await, (StatusCode::SERVICE_UNAVAILABLE, Some("too-few-paths".into())));
    false
}

#[tokio::test]
async fn fewer_than_sixteen_paths_are_too_few_as_they_come_and_go() {
    let (mut service, mut behind) = spawn_layer(HealthShedLayer::new());
    let (now, health) = watch::channel(Health::Intact);
    let health = LiveHealth::new(health);
    for well in [25, 16, 15, 0, 15, 16] {
        now.send_replace(Health::of(well));
        assert_eq!(passes(&mut service, &mut behind, &health).await, well >= 16, "{well}");
    }
}

#[tokio::test]
async fn the_minimum_and_the_time_are_settings() {
    let layer = HealthShedLayer::new()
        .with_minimum(PeerInfo::PATHS + 1)
        .with_retry_after(Duration::from_millis(1001));
    let (mut service, mut behind) = spawn_layer::<Req, crate::testing::Res, _>(layer);
    assert_ready_ok!(service.poll_ready());
    drop(service.call(with(&LiveHealth::fixed(Health::Intact))));
    assert!(behind.poll_request().is_ready(), "more than all cannot be asked for");
    assert_ready_ok!(service.poll_ready());
    let response = service.call(with(&LiveHealth::fixed(Health::of(24)))).await.unwrap();
    assert_eq!(header(&response, "retry-after"), Some("2"));
    assert_pending!(behind.poll_request());
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_has_time_to_settle() {
    let (mut service, mut behind) = spawn_layer(HealthShedLayer::new());
    let (now, health) = watch::channel(Health::of(3));
    let health = LiveHealth::new(health).with_announced(16);
    assert!(passes(&mut service, &mut behind, &health).await);
    tokio::time::advance(SETTLING - Duration::from_millis(1)).await;
    assert!(passes(&mut service, &mut behind, &health).await);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!passes(&mut service, &mut behind, &health).await, "they did not come");
    now.send_replace(Health::of(16));
    assert!(passes(&mut service, &mut behind, &health).await);
    now.send_replace(Health::of(15));
    assert!(!passes(&mut service, &mut behind, &health).await);
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_of_an_old_connection_has_none() {
    let (mut service, mut behind) = spawn_layer(HealthShedLayer::new());
    // Paths are down, and too few are on their way.
    let health = LiveHealth::fixed(Health::of(10)).with_announced(15);
    assert!(!passes(&mut service, &mut behind, &health).await);
    // All were well when the stream came.
    let (now, health) = watch::channel(Health::Intact);
    let health = LiveHealth::new(health);
    now.send_replace(Health::of(15));
    assert!(!passes(&mut service, &mut behind, &health).await);
}

#[tokio::test]
async fn in_grpc_it_is_unavailable() {
    let (mut service, mut behind) = spawn_layer::<Req, crate::testing::Res, _>(HealthShedLayer::new());
    assert_ready_ok!(service.poll_ready());
    // A `PeerInfo` of a test has no path.
    let response = at_once(service.call(grpc(ann())));
    assert_eq!(header(&response, "grpc-status"), Some("14"));
    assert_pending!(behind.poll_request());
}

#[tokio::test]
async fn a_request_without_a_peer_is_a_mistake_of_the_program() {
    let (mut service, mut behind) = spawn_layer::<Req, crate::testing::Res, _>(HealthShedLayer::new());
    assert_ready_ok!(service.poll_ready());
    let response = at_once(service.call(bare()));
    assert_eq!(refusal(response).await, (StatusCode::INTERNAL_SERVER_ERROR, None));
    assert_pending!(behind.poll_request());
}
