use super::measure::Measure;
use crate::body::HoldingBody;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// The future of [`Metrics`](super::Metrics).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        future: F,
        // It goes on to the body.
        measure: Option<Measure>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(future: F, measure: Measure) -> Self {
        Self { future, measure: Some(measure) }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<HoldingBody<B, Measure>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.future.poll(cx));
        let mut measure = this.measure.take();
        if let Some(measure) = &mut measure {
            match &answered {
                Ok(response) => measure.answered(response.status()),
                Err(_) => measure.failed(),
            }
        }
        Poll::Ready(answered.map(|response| response.map(|body| HoldingBody::new(body, measure))))
    }
}
