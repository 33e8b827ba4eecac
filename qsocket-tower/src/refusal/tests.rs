use super::*;
use crate::testing::header;

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

const ALL: [(Why, u16, &str, Option<&str>); 5] = [
    (Why::PeerMissing, 500, "13", None),
    (Why::Forbidden("not-permitted"), 403, "7", Some("not-permitted")),
    (Why::TooManyRequests, 429, "8", Some("too-many-requests")),
    (Why::TooFewPaths { retry_after: 7 }, 503, "14", Some("too-few-paths")),
    (Why::Undecided, 503, "14", Some("undecided")),
];

#[test]
fn in_http() {
    for (why, status, _, code) in ALL {
        let response = Refused { why, protocol: Protocol::Http }.response();
        assert_eq!(response.status(), status, "{why:?}");
        assert_eq!(header(&response, "x-qsocket-reason"), code);
        assert_eq!(header(&response, "content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(
            header(&response, "retry-after"),
            (status == 503 && code != Some("undecided")).then_some("7")
        );
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
