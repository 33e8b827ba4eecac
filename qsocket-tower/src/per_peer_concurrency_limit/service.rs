use super::table::{InProgress, Table};
use super::{PerPeerConcurrencyLimitLayer, ResponseFuture};
use crate::accessors::inner_service_accessors;
use crate::body::{HoldingBody, ResponseBody};
use crate::refusal::{Refused, Why, peer};
use http::{Request, Response};
use http_body::Body;
use std::task::{Context, Poll};
use tower_layer::Layer as _;
use tower_service::Service;

/// The service of [`PerPeerConcurrencyLimitLayer`].
#[derive(Clone, Debug)]
pub struct PerPeerConcurrencyLimit<S> {
    pub(super) inner: S,
    pub(super) max: usize,
    pub(super) table: Table,
}

impl<S> PerPeerConcurrencyLimit<S> {
    /// Lets `max` requests of a peer be in progress, counted by this service and its clones.
    pub fn new(inner: S, max: usize) -> Self {
        PerPeerConcurrencyLimitLayer::new(max).layer(inner)
    }

    inner_service_accessors!();

    fn enter<B>(&self, request: &Request<B>) -> Result<InProgress, Refused> {
        let who = peer(request)?.principal;
        self.table.enter(who, self.max).ok_or_else(|| {
            tracing::debug!(peer = %who, max = self.max, "a request is one too many");
            Refused::new(Why::TooManyRequests, request.headers())
        })
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for PerPeerConcurrencyLimit<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
{
    type Response = Response<ResponseBody<HoldingBody<ResBody, InProgress>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.enter(&request) {
            Ok(in_progress) => ResponseFuture::called(self.inner.call(request), in_progress),
            Err(refused) => ResponseFuture::refused(refused),
        }
    }
}
