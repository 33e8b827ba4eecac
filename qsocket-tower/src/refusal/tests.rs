use super::*;
use crate::testing::header;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};

fn with_content(content: &str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, content.parse().unwrap())])
}

#[test]
fn the_content_tells_the_protocol() {
    for (content, expected) in [
        ("application/grpc", Protocol::Grpc),
        ("application/grpc+proto", Protocol::Grpc),
        ("Application/gRPC; charset=x", Protocol::Grpc),
        ("application/grpc-web", Protocol::GrpcWeb),
        ("application/grpc-web-text+proto", Protocol::GrpcWeb),
        ("application/json", Protocol::Http),
        ("application/grp", Protocol::Http),
        ("", Protocol::Http),
    ] {
        assert_eq!(Protocol::of(&with_content(content)), expected, "{content}");
    }
    assert_eq!(Protocol::of(&HeaderMap::new()), Protocol::Http);
}

const ALL: [(Why, u16, &str, Option<&str>); 2] =
    [(Why::PeerMissing, 500, "13", None), (Why::Forbidden("not-permitted"), 403, "7", Some("not-permitted"))];

#[test]
fn in_http() {
    for (why, status, _, code) in ALL {
        let response = Refused { why, protocol: Protocol::Http }.response();
        assert_eq!(response.status(), status, "{why:?}");
        assert_eq!(header(&response, "x-qsocket-reason"), code);
        assert_eq!(header(&response, "content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(header(&response, "grpc-status"), None);
        assert_eq!(response.body(), why.text());
    }
}

#[test]
fn in_grpc_it_is_all_in_the_headers() {
    for (protocol, content) in
        [(Protocol::Grpc, "application/grpc"), (Protocol::GrpcWeb, "application/grpc-web+proto")]
    {
        for (why, _, status, code) in ALL {
            let response = Refused { why, protocol }.response();
            assert_eq!(response.status(), 200);
            assert_eq!(header(&response, "content-type"), Some(content));
            assert_eq!(header(&response, "grpc-status"), Some(status));
            assert_eq!(header(&response, "grpc-message"), Some(why.text()));
            assert_eq!(header(&response, "x-qsocket-reason"), code);
            assert!(response.body().is_empty());
        }
    }
}

#[test]
fn a_code_that_is_no_header_is_replaced() {
    let refused = Refused { why: Why::Forbidden("two\r\nlines: here"), protocol: Protocol::Http };
    assert_eq!(header(&refused.response(), "x-qsocket-reason"), Some("refused"));
}

#[test]
fn the_client_is_told_less_than_the_log() {
    let forbidden = Forbidden::from(Denial::from(Reason::Denied).with_rule("no-interns"));
    assert_eq!(forbidden.code(), "not-permitted");
    assert_eq!(forbidden.to_string(), "a rule denies it, by no-interns");
    assert_eq!(Forbidden::from(Reason::BlackListed).code(), "black-listed");
}

#[tokio::test]
async fn a_body_is_that_of_the_service_or_a_text() {
    let body = ResponseBody::new(Full::from("of the service"));
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(14), false));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "of the service");

    let body = ResponseBody::<Full<Bytes>>::text("a text".into());
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(6), false));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "a text");

    let body = ResponseBody::<Full<Bytes>>::default();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "");
}
