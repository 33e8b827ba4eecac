use super::{AccessLayer, Decide, ResponseFuture};
use crate::accessors::inner_service_accessors;
use crate::body::ResponseBody;
use crate::refusal::peer;
use http::{Request, Response};
use std::task::{Context, Poll};
use std::time::Duration;
use tower_layer::Layer as _;
use tower_service::Service;

/// The service of [`AccessLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Access<S, D> {
    pub(super) inner: S,
    pub(super) decider: D,
    pub(super) timeout: Duration,
}

impl<S, D: Decide + Clone> Access<S, D> {
    /// Takes what decides.
    pub fn new(inner: S, decider: D) -> Self {
        AccessLayer::new(decider).layer(inner)
    }
}

impl<S, D> Access<S, D> {
    inner_service_accessors!();
}

impl<S, D, ReqBody, ResBody> Service<Request<ReqBody>> for Access<S, D>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    D: Decide,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, D::Future, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let peer = match peer(&request) {
            Ok(peer) => peer.clone(),
            Err(refused) => return ResponseFuture::refused(refused),
        };
        let who = peer.principal;
        let (parts, body) = request.into_parts();
        let decision = tokio::time::timeout(self.timeout, self.decider.decide(peer, &parts));
        // The one that is ready goes with the request; its clone has to become ready anew.
        let next = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, next);
        ResponseFuture::deciding(ready, decision, Request::from_parts(parts, body), who)
    }
}
