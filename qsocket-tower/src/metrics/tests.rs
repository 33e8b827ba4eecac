use super::*;
use crate::testing::{Frames, Req, frames, request};
use crate::{PeerInfo, testing::stranger};
use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use prometheus_client::registry::Registry;
use std::time::Duration;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower_layer::Layer as _;
use tower_test::mock::{Handle, Mock, Spawn, pair};

type Res = Response<Frames>;
type Measured = Spawn<Metrics<Mock<Req, Res>>>;

fn start(registry: &mut Registry) -> (Measured, Handle<Req, Res>) {
    let (inner, behind) = pair();
    (Spawn::new(MetricsLayer::new(registry).layer(inner)), behind)
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

/// A sample of the text.
fn sample(registry: &Registry, name: &str) -> Option<String> {
    text(registry).lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned()))
}

const IN_FLIGHT: &str = "qsocket_http_requests_in_flight";

#[tokio::test(start_paused = true)]
async fn a_request_counts_when_its_body_ended() {
    let mut registry = Registry::default();
    let (mut service, mut behind) = start(&mut registry);
    assert_ready_ok!(service.poll_ready());
    let mut answer = task::spawn(service.call(request(stranger())));
    assert_pending!(answer.poll());
    assert_eq!(sample(&registry, IN_FLIGHT).as_deref(), Some("1"));
    let (sender, body) = frames();
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::NOT_FOUND;
    behind.next_request().await.unwrap().1.send_response(response);
    let mut body = assert_ready_ok!(answer.poll()).into_body();
    drop(answer);
    sender.send(Frame::data("data".into())).unwrap();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    assert_eq!(sample(&registry, IN_FLIGHT).as_deref(), Some("1"));
    assert!(!text(&registry).contains("4xx"));
    tokio::time::advance(Duration::from_secs(3)).await;
    drop(sender);
    assert!(body.frame().await.is_none());
    assert_eq!(sample(&registry, IN_FLIGHT).as_deref(), Some("0"));
    let labels = r#"{method="GET",status="4xx"}"#;
    assert_eq!(sample(&registry, &format!("qsocket_http_requests_total{labels}")).as_deref(), Some("1"));
    let seconds = sample(&registry, &format!("qsocket_http_request_duration_seconds_sum{labels}")).unwrap();
    assert_eq!(seconds.parse::<f64>().unwrap().round(), 3.0);
    let name = r#"qsocket_http_request_duration_seconds_bucket{le="5.0",method="GET",status="4xx"}"#;
    assert_eq!(sample(&registry, name).as_deref(), Some("1"));
    drop(body);
    assert_eq!(sample(&registry, IN_FLIGHT).as_deref(), Some("0"), "once");
}

#[tokio::test]
async fn what_fails_and_what_is_dropped_have_their_own_status() {
    let mut registry = Registry::default();
    let (mut service, mut behind) = start(&mut registry);
    assert_ready_ok!(service.poll_ready());
    let mut answer = task::spawn(service.call(request(stranger())));
    assert_pending!(answer.poll());
    drop(answer);
    drop(behind.next_request().await);
    assert_ready_ok!(service.poll_ready());
    let answer = tokio::spawn(service.call(request(stranger())));
    behind.next_request().await.unwrap().1.send_error("broken");
    answer.await.unwrap().unwrap_err();
    assert_ready_ok!(service.poll_ready());
    let answer = tokio::spawn(service.call(request(stranger())));
    behind.next_request().await.unwrap().1.send_response(Response::new(frames().1));
    drop(answer.await.unwrap().unwrap());
    for status in ["dropped", "error", "2xx"] {
        let name = format!(r#"qsocket_http_requests_total{{method="GET",status="{status}"}}"#);
        assert_eq!(sample(&registry, &name).as_deref(), Some("1"), "{status}");
    }
    assert_eq!(sample(&registry, IN_FLIGHT).as_deref(), Some("0"));
}

/// The attack: a client makes labels.
#[tokio::test]
async fn nothing_that_a_client_chooses_becomes_a_label() {
    let mut registry = Registry::default();
    let layer = MetricsLayer::new(&mut registry);
    let service = layer.layer(tower::service_fn(async |_: Req| {
        Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::new())))
    }));
    for n in 0..100 {
        let mut request = request(stranger());
        *request.method_mut() = format!("M{n}").parse().unwrap();
        *request.uri_mut() = format!("/path{n}").parse().unwrap();
        let peer = request.extensions_mut().get_mut::<PeerInfo>().unwrap();
        peer.principal.serial = 1000 + n;
        tower::ServiceExt::oneshot(service.clone(), request).await.unwrap();
    }
    let name = r#"qsocket_http_requests_total{method="other",status="2xx"}"#;
    assert_eq!(sample(&registry, name).as_deref(), Some("100"));
    let text = text(&registry);
    assert_eq!(text.matches("qsocket_http_requests_total{").count(), 1, "{text}");
    assert!(!text.contains("M1") && !text.contains("path") && !text.contains("1.0.10"), "{text}");
}
