use super::{HealthShedLayer, ResponseFuture};
use crate::accessors::inner_service_accessors;
use crate::body::ResponseBody;
use crate::refusal::{Refused, Why, peer};
use http::{Request, Response};
use std::task::{Context, Poll};
use tower_service::Service;

/// The service of [`HealthShedLayer`].
#[derive(Clone, Debug)]
pub struct HealthShed<S> {
    inner: S,
    settings: HealthShedLayer,
}

impl<S> HealthShed<S> {
    /// Takes the settings of a layer.
    pub fn new(inner: S, settings: HealthShedLayer) -> Self {
        Self { inner, settings }
    }

    inner_service_accessors!();

    fn check<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        let peer = peer(request)?;
        if self.settings.allows(peer) {
            return Ok(());
        }
        tracing::debug!(peer = %peer.principal, health = %peer.health.now(), "a request is turned away");
        let why = Why::TooFewPaths { retry_after: self.settings.retry_after() };
        Err(Refused::new(why, request.headers()))
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for HealthShed<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.check(&request) {
            Ok(()) => ResponseFuture::called(self.inner.call(request)),
            Err(refused) => ResponseFuture::refused(refused),
        }
    }
}
