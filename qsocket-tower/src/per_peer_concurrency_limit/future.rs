use super::table::InProgress;
use crate::body::{HoldingBody, ResponseBody};
use crate::refusal::Refused;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// The future of [`PerPeerConcurrencyLimit`](super::PerPeerConcurrencyLimit).
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
        // The count goes on to the body.
        Called { #[pin] future: F, in_progress: Option<InProgress> },
        Refused { refused: Refused },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn called(future: F, in_progress: InProgress) -> Self {
        Self { state: State::Called { future, in_progress: Some(in_progress) } }
    }

    pub(super) fn refused(refused: Refused) -> Self {
        Self { state: State::Refused { refused } }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<HoldingBody<B, InProgress>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project().state.project() {
            StateProj::Called { future, in_progress } => {
                let answered = ready!(future.poll(cx));
                let in_progress = in_progress.take();
                answered?.map(|body| ResponseBody::new(HoldingBody::new(body, in_progress)))
            }
            StateProj::Refused { refused } => refused.response().map(ResponseBody::text),
        }))
    }
}
