use super::revocation::Revocation;
use super::{GuardedBody, ResponseFuture, RevocationGuardLayer};
use crate::accessors::inner_service_accessors;
use crate::check::{Check, Passed};
use crate::refusal::{Protocol, peer};
use http::{Request, Response};
use http_body::Body;
use qsocket::access::Directory;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_layer::Layer as _;
use tower_service::Service;

/// The service of [`RevocationGuardLayer`].
#[derive(Clone, Debug)]
pub struct RevocationGuard<S> {
    pub(super) inner: S,
    pub(super) admission: Check,
}

impl<S> RevocationGuard<S> {
    /// Asks this directory for admission, and those of the layers outside of it what they asked.
    pub fn new(inner: S, directory: Arc<dyn Directory>) -> Self {
        RevocationGuardLayer::new(directory).layer(inner)
    }

    inner_service_accessors!();
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RevocationGuard<S>
where
    S: Service<Request<GuardedBody<ReqBody>>, Response = Response<ResBody>>,
    ReqBody: Body,
{
    type Response = Response<GuardedBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let who = match peer(&request) {
            Ok(peer) => peer.principal,
            Err(refused) => return ResponseFuture::refused(refused),
        };
        let passed = request.extensions().get().map_or(&[][..], |Passed(checks)| checks);
        let checks: Vec<Check> = std::iter::once(&self.admission).chain(passed).cloned().collect();
        let protocol = Protocol::of(request.headers());
        let watch = || Revocation::new(who, checks.iter().cloned());
        let revocation = watch();
        let request = request.map(|body| {
            // A request without a body needs no second watch.
            let revocation = (!body.is_end_stream()).then(watch);
            GuardedBody::of_request(body, revocation)
        });
        ResponseFuture::guarded(self.inner.call(request), revocation, protocol)
    }
}
