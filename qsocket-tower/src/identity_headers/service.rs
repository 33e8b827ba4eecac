use super::header::{GROUPS, KEY_STRENGTH, NETWORK, PATHS, PRINCIPAL, RESOURCE, USER};
use super::strip::Strip;
use super::{IdentityHeadersLayer, ResponseFuture};
use crate::PeerInfo;
use crate::accessors::inner_service_accessors;
use crate::body::ResponseBody;
use crate::refusal::peer;
use http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use qsocket::access::{Permit, User};
use std::fmt::Write as _;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_service::Service;

/// The service of [`IdentityHeadersLayer`].
#[derive(Clone, Debug)]
pub struct IdentityHeaders<S> {
    inner: S,
    settings: IdentityHeadersLayer,
}

impl<S> IdentityHeaders<S> {
    /// Takes the settings of a layer.
    pub fn new(inner: S, settings: IdentityHeadersLayer) -> Self {
        Self { inner, settings }
    }

    inner_service_accessors!();

    /// The headers of a request that goes on.
    fn headers(&self, peer: &PeerInfo, extensions: &Extensions, headers: &mut HeaderMap) {
        Strip { forwarded: !self.settings.keeps_forwarded }.apply(headers);
        headers.insert(PRINCIPAL, written([&peer.principal.to_string()]));
        headers.insert(NETWORK, peer.network().into());
        headers.insert(PATHS, peer.health.now().well().into());
        headers.insert(KEY_STRENGTH, HeaderValue::from_static(key_strength(peer)));
        let permit = extensions.get::<Permit>();
        let user = match &self.settings.directory {
            Some(directory) => directory.user(peer.principal),
            None => permit.and_then(|permit| permit.user.as_ref()).or_else(|| extensions.get()).cloned(),
        };
        if let Some(User { name, groups, .. }) = user {
            headers.insert(USER, written([&*name]));
            if !groups.is_empty() {
                headers.insert(GROUPS, written(groups.iter().map(Arc::as_ref)));
            }
        }
        if let Some(resource) = permit.and_then(|permit| permit.resource.as_deref()) {
            headers.insert(RESOURCE, written([resource]));
        }
    }
}

fn key_strength(peer: &PeerInfo) -> &'static str {
    match (peer.ml_kem, peer.encryption_key.is_some()) {
        (false, false) => "relays",
        (true, false) => "relays, ml-kem-768",
        (false, true) => "relays, encryption-key",
        (true, true) => "relays, ml-kem-768, encryption-key",
    }
}

/// Names in a value: nothing in a name is taken for the end of the header or of the name.
fn written<'a>(names: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>) -> HeaderValue {
    let mut value = String::new();
    for (index, name) in names.into_iter().enumerate() {
        if index > 0 {
            value.push(',');
        }
        for byte in name.as_ref().bytes() {
            match byte {
                b'%' | b',' => write!(value, "%{byte:02X}").unwrap_or_default(),
                _ if byte.is_ascii_graphic() => value.push(byte.into()),
                _ => write!(value, "%{byte:02X}").unwrap_or_default(),
            }
        }
    }
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for IdentityHeaders<S>
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
        let peer = match peer(&request) {
            Ok(peer) => peer.clone(),
            Err(refused) => return ResponseFuture::refused(refused),
        };
        let (mut parts, body) = request.into_parts();
        self.headers(&peer, &parts.extensions, &mut parts.headers);
        ResponseFuture::called(self.inner.call(Request::from_parts(parts, body)))
    }
}
