use super::{RequireResourceLayer, ResponseFuture};
use crate::accessors::inner_service_accessors;
use crate::body::ResponseBody;
use crate::check::Check;
use http::{Request, Response};
use qsocket::access::Directory;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_layer::Layer as _;
use tower_service::Service;

/// The service of [`RequireResourceLayer`].
#[derive(Clone, Debug)]
pub struct RequireResource<S> {
    pub(super) inner: S,
    pub(super) check: Check,
}

impl<S> RequireResource<S> {
    /// Asks for the resource that the directory knows by this name.
    pub fn new(inner: S, directory: Arc<dyn Directory>, id: impl Into<Arc<str>>) -> Self {
        RequireResourceLayer::new(directory, id).layer(inner)
    }

    inner_service_accessors!();
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequireResource<S>
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
                request.extensions_mut().insert(permit);
                ResponseFuture::called(self.inner.call(request))
            }
            Err(refused) => ResponseFuture::refused(refused),
        }
    }
}
