use super::GuardedBody;
use super::revocation::Revocation;
use crate::refusal::{Protocol, REVOKED, Refused, Why};
use http::Response;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// The future of [`RevocationGuard`](super::RevocationGuard).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Guarded {
            #[pin]
            future: F,
            // It goes on to the body.
            revocation: Option<Revocation>,
            protocol: Protocol,
        },
        Refused { refused: Refused },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn guarded(future: F, revocation: Revocation, protocol: Protocol) -> Self {
        Self { state: State::Guarded { future, revocation: Some(revocation), protocol } }
    }

    pub(super) fn refused(refused: Refused) -> Self {
        Self { state: State::Refused { refused } }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<GuardedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let refused = match state.as_mut().project() {
            StateProj::Refused { refused } => *refused,
            StateProj::Guarded { future, revocation, protocol } => {
                let denied = revocation.as_mut().map(|wait| (wait.who(), Pin::new(wait).poll(cx)));
                if let Some((who, Poll::Ready(denial))) = denied {
                    tracing::info!(peer = %who, why = %denial, "access is taken back before the answer");
                    Refused { why: Why::Forbidden(REVOKED), protocol: *protocol }
                } else {
                    let response = ready!(future.poll(cx))?;
                    let (revocation, protocol) = (revocation.take(), *protocol);
                    return Poll::Ready(Ok(
                        response.map(|body| GuardedBody::of_response(body, revocation, protocol))
                    ));
                }
            }
        };
        // What is in progress goes first.
        state.set(State::Refused { refused });
        Poll::Ready(Ok(refused.response().map(GuardedBody::text)))
    }
}
