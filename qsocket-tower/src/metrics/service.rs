use super::ResponseFuture;
use super::measure::{Families, Measure};
use crate::accessors::inner_service_accessors;
use crate::body::HoldingBody;
use http::{Request, Response};
use http_body::Body;
use std::task::{Context, Poll};
use tower_service::Service;

/// The service of [`MetricsLayer`](super::MetricsLayer).
#[derive(Clone, Debug)]
pub struct Metrics<S> {
    pub(super) inner: S,
    pub(super) families: Families,
}

impl<S> Metrics<S> {
    inner_service_accessors!();
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Metrics<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
{
    type Response = Response<HoldingBody<ResBody, Measure>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let measure = self.families.begin(request.method());
        ResponseFuture::new(self.inner.call(request), measure)
    }
}
