//! What layers answer in place of a service: as HTTP, or as gRPC where the request is of gRPC.
//!
//! | refusal | HTTP | gRPC | `x-qsocket-reason` |
//! |---|---|---|---|
//! | access is refused | 403 | `PermissionDenied` | [`Reason::public_code`](qsocket::access::Reason::public_code), or the program's own |
//! | access was taken back | 403 | `PermissionDenied` | `revoked` |
//! | too many requests at once | 429 | `ResourceExhausted` | `too-many-requests` |
//! | too few paths are well | 503, with `Retry-After` | `Unavailable` | `too-few-paths` |
//! | a decision did not come in time | 503 | `Unavailable` | `undecided` |
//! | the request carries no peer | 500 | `Internal` | |
//!
//! # Security
//! The client reads a code that does not say which users, groups or resources exist. This side's log says everything,
//! at the level `info` where access is refused and `debug` otherwise. A request without a peer is a mistake of the
//! program, never of the client: it is logged as an error and not let through.

pub(crate) mod answer;
use crate::PeerInfo;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Extensions, Request, Response, StatusCode};
use qsocket::access::{Denial, Reason};
use std::fmt;

/// The header of a refusal, in gRPC the metadata, that says why.
pub const REASON: HeaderName = HeaderName::from_static("x-qsocket-reason");

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// `PermissionDenied`.
pub(crate) const GRPC_DENIED: HeaderValue = HeaderValue::from_static("7");
/// The code for access that was taken back.
pub(crate) const REVOKED: &str = "revoked";

/// That access is refused: the code that the client is told, and for this side's log all there is to know.
///
/// ```
/// use qsocket::access::Reason;
/// use qsocket_tower::refusal::Forbidden;
///
/// assert_eq!(Forbidden::from("office-hours").code(), "office-hours");
/// // A client does not learn what exists.
/// assert_eq!(Forbidden::from(Reason::UnknownResource).code(), "not-permitted");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    code: &'static str,
    denial: Option<Denial>,
}

impl Forbidden {
    /// What the client is told.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

/// A code of the program's own: a word of the characters that a header may have.
impl From<&'static str> for Forbidden {
    fn from(code: &'static str) -> Self {
        Self { code, denial: None }
    }
}

/// Tells the client [`Reason::public_code`].
impl From<Denial> for Forbidden {
    fn from(denial: Denial) -> Self {
        Self { code: denial.reason.public_code(), denial: Some(denial) }
    }
}

/// Tells the client [`Reason::public_code`].
impl From<Reason> for Forbidden {
    fn from(reason: Reason) -> Self {
        Denial::from(reason).into()
    }
}

/// For this side's log.
impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.denial {
            Some(denial) => denial.fmt(f),
            None => f.write_str(self.code),
        }
    }
}

impl std::error::Error for Forbidden {}

/// In which protocol a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
    GrpcWeb,
}

impl Protocol {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        const GRPC: &[u8] = b"application/grpc";
        let content = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
        match content.split_at_checked(GRPC.len()) {
            Some((start, rest)) if start.eq_ignore_ascii_case(GRPC) => match rest {
                [b'-', ..] => Self::GrpcWeb,
                _ => Self::Grpc,
            },
            _ => Self::Http,
        }
    }
}

/// Why a layer does not call its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    PeerMissing,
    Forbidden(&'static str),
    TooManyRequests,
    TooFewPaths { retry_after: u64 },
    Undecided,
}

impl Why {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::PeerMissing => None,
            Self::Forbidden(code) => Some(code),
            Self::TooManyRequests => Some("too-many-requests"),
            Self::TooFewPaths { .. } => Some("too-few-paths"),
            Self::Undecided => Some("undecided"),
        }
    }

    fn http(self) -> StatusCode {
        match self {
            Self::PeerMissing => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::TooFewPaths { .. } | Self::Undecided => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn grpc(self) -> HeaderValue {
        match self {
            Self::PeerMissing => HeaderValue::from_static("13"),
            Self::Forbidden(_) => GRPC_DENIED,
            Self::TooManyRequests => HeaderValue::from_static("8"),
            Self::TooFewPaths { .. } | Self::Undecided => HeaderValue::from_static("14"),
        }
    }

    /// Without a `%`, which gRPC would read as the beginning of a byte in hexadecimal.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::PeerMissing => "the server has made a mistake",
            Self::Forbidden(_) => "access is refused",
            Self::TooManyRequests => "too many requests of this peer at once",
            Self::TooFewPaths { .. } => "too few paths of the connection are well",
            Self::Undecided => "access could not be decided in time",
        }
    }
}

/// A refusal in the protocol of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) why: Why,
    pub(crate) protocol: Protocol,
}

impl Refused {
    pub(crate) fn new(why: Why, headers: &HeaderMap) -> Self {
        Self { why, protocol: Protocol::of(headers) }
    }

    /// The answer. A body of the service's type can be made of its bytes.
    pub(crate) fn response(self) -> Response<Bytes> {
        let text = HeaderValue::from_static(self.why.text());
        let mut response = match self.protocol {
            Protocol::Http => {
                let mut response = Response::new(Bytes::from_static(self.why.text().as_bytes()));
                *response.status_mut() = self.why.http();
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, plain);
                response
            }
            // All that there is to say stands in the headers, with the status of HTTP untouched.
            grpc @ (Protocol::Grpc | Protocol::GrpcWeb) => {
                let mut response = Response::new(Bytes::new());
                let content = match grpc {
                    Protocol::GrpcWeb => "application/grpc-web+proto",
                    _ => "application/grpc",
                };
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
                response.headers_mut().insert(GRPC_STATUS, self.why.grpc());
                response.headers_mut().insert(GRPC_MESSAGE, text);
                response
            }
        };
        if let Some(code) = self.why.code() {
            // A code of the program may be anything.
            let code = HeaderValue::from_str(code).unwrap_or(HeaderValue::from_static("refused"));
            response.headers_mut().insert(REASON, code);
        }
        if let Why::TooFewPaths { retry_after } = self.why {
            response.headers_mut().insert(RETRY_AFTER, retry_after.into());
        }
        response
    }
}

/// Who asks; a request that does not say so is refused.
pub(crate) fn peer<B>(request: &Request<B>) -> Result<&PeerInfo, Refused> {
    find(request.extensions()).map_err(|why| Refused::new(why, request.headers()))
}

fn find(extensions: &Extensions) -> Result<&PeerInfo, Why> {
    PeerInfo::find(extensions).ok_or_else(|| {
        tracing::error!(
            "a request carries no peer: serve it with an AxumListener and \
             into_make_service_with_connect_info::<PeerInfo>(), with an Incoming of tonic, or put the PeerInfo of its \
             Stream into its extensions"
        );
        Why::PeerMissing
    })
}

#[cfg(test)]
mod tests;
