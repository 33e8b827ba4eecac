use super::revocation::Revocation;
use crate::BoxError;
use crate::body::ResponseBody;
use crate::refusal::{GRPC_DENIED, GRPC_MESSAGE, GRPC_STATUS, Protocol, REASON, REVOKED, Why};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::error::Error;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The error that a body ends with when access was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked;

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("access was taken back")
    }
}

impl Error for Revoked {}

pin_project! {
    /// The body of a request or a response, which ends with [`Revoked`] when access is taken back.
    #[derive(Debug)]
    pub struct GuardedBody<B> {
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<B> {
        Open {
            #[pin]
            body: ResponseBody<B>,
            // Gone when the body came to its own end.
            revocation: Option<Revocation>,
            ending: Ending,
        },
        Cut,
    }
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Request,
    Response,
    /// The status of gRPC.
    Trailers,
}

impl<B> GuardedBody<B> {
    fn new(body: ResponseBody<B>, revocation: Option<Revocation>, ending: Ending) -> Self {
        Self { state: State::Open { body, revocation, ending } }
    }

    pub(super) fn of_request(body: B, revocation: Option<Revocation>) -> Self {
        Self::new(ResponseBody::new(body), revocation, Ending::Request)
    }

    pub(super) fn of_response(body: B, revocation: Option<Revocation>, protocol: Protocol) -> Self {
        let ending = match protocol {
            Protocol::Grpc => Ending::Trailers,
            // gRPC-Web has its trailers in the data.
            Protocol::Http | Protocol::GrpcWeb => Ending::Response,
        };
        Self::new(ResponseBody::new(body), revocation, ending)
    }

    pub(super) fn text(text: Bytes) -> Self {
        Self::new(ResponseBody::text(text), None, Ending::Response)
    }
}

/// An empty body.
impl<B> Default for GuardedBody<B> {
    fn default() -> Self {
        Self::text(Bytes::new())
    }
}

impl Ending {
    fn frame(self) -> Result<Frame<Bytes>, BoxError> {
        match self {
            Self::Request | Self::Response => Err(Revoked.into()),
            Self::Trailers => Ok(Frame::trailers(HeaderMap::from_iter([
                (GRPC_STATUS, GRPC_DENIED),
                (GRPC_MESSAGE, HeaderValue::from_static(Why::Forbidden(REVOKED).text())),
                (REASON, HeaderValue::from_static(REVOKED)),
            ]))),
        }
    }
}

impl<B> Body for GuardedBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut state = self.project().state;
        let StateProj::Open { mut body, revocation, ending } = state.as_mut().project() else {
            return Poll::Ready(None);
        };
        if let Some(wait) = revocation
            && let Poll::Ready(denial) = Pin::new(&mut *wait).poll(cx)
        {
            let what = match ending {
                Ending::Request => "the body of a request",
                Ending::Response | Ending::Trailers => "a response",
            };
            tracing::info!(peer = %wait.who(), why = %denial, "access is taken back in the middle of {what}");
            let frame = ending.frame();
            state.set(State::Cut);
            return Poll::Ready(Some(frame));
        }
        let frame = ready!(body.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || body.is_end_stream() {
            *revocation = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Open { body, .. } => body.is_end_stream(),
            State::Cut => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Open { body, .. } => body.size_hint(),
            State::Cut => SizeHint::with_exact(0),
        }
    }
}
