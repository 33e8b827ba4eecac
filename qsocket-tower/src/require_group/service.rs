use super::{RequireGroupLayer, ResponseFuture};
use crate::accessors::inner_service_accessors;
use crate::body::ResponseBody;
use crate::check::Check;
use http::{Request, Response};
use qsocket::access::Directory;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_layer::Layer as _;
use tower_service::Service;

/// The service of [`RequireGroupLayer`].
#[derive(Clone, Debug)]
pub struct RequireGroup<S> {
    pub(super) inner: S,
    pub(super) check: Check,
}

impl<S> RequireGroup<S> {
    /// Asks for the group that the directory knows by this name.
    pub fn new(inner: S, directory: Arc<dyn Directory>, group: impl Into<Arc<str>>) -> Self {
        RequireGroupLayer::new(directory, group).layer(inner)
    }

    inner_service_accessors!();
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequireGroup<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.check.pass(&mut request) {
            Ok(permit) => {
                // Whoever is in a group has one. A permit for a resource that was asked for before stays.
                permit.user.and_then(|user| request.extensions_mut().insert(user));
                ResponseFuture::called(self.inner.call(request))
            }
            Err(refused) => ResponseFuture::refused(refused),
        }
    }
}
