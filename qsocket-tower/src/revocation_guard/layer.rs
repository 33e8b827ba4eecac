use super::RevocationGuard;
use crate::check::{Check, Question};
use qsocket::access::Directory;
use std::sync::Arc;
use tower_layer::Layer;

/// Ends requests in progress when access is taken back: streaming responses, uploads, handlers that wait.
///
/// It asks again what was asked on the way of the request: whether the directory admits the peer, and the questions of
/// each [`RequireResource`](crate::require_resource::RequireResource) and
/// [`RequireGroup`](crate::require_group::RequireGroup) outside of it. It does so when
/// [`Directory::changes`] says so and when a permit runs out. Once the answer is no:
///
/// - a handler that has not answered is dropped, and the client reads 403 with the reason `revoked`, in gRPC
///   `PermissionDenied`;
/// - the body of a response ends with the error [`Revoked`](super::Revoked), which is no end for the client: HTTP/2
///   resets the stream, HTTP/1.1 closes the connection before the end that was announced. In gRPC it ends with the
///   trailers of `PermissionDenied`;
/// - the body of the request ends with the error `Revoked`.
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::BodyExt;
/// use qsocket::access::AccessList;
/// use qsocket_tower::PeerInfo;
/// use qsocket_tower::require_resource::RequireResourceLayer;
/// use qsocket_tower::revocation_guard::{GuardedBody, RevocationGuardLayer};
/// use std::convert::Infallible;
/// use std::sync::Arc;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// // A directory that does not change. One that does makes the guard worth its while.
/// let directory = Arc::new(AccessList::default());
/// let service = ServiceBuilder::new()
///     .layer(RequireResourceLayer::new(directory.clone(), "wiki"))
///     // Behind what decides.
///     .layer(RevocationGuardLayer::new(directory))
///     .service_fn(async |request: Request<GuardedBody<String>>| {
///         let asked = request.into_body().collect().await;
///         let asked = String::from_utf8_lossy(&asked.unwrap_or_default().to_bytes()).into_owned();
///         Ok::<_, Infallible>(Response::new(asked))
///     });
/// let mut request = Request::new(String::from("echo"));
/// request.extensions_mut().insert(PeerInfo::new("1.0.7".parse()?, "wiki:80", "127.0.0.1:1".parse()?));
/// let response = service.oneshot(request).await?;
/// assert_eq!(response.into_body().collect().await?.to_bytes(), "echo");
/// # Ok(()) }
/// ```
///
/// # Security
/// - It has to be inside of the layers whose questions it is to ask again. It cannot know what is asked further in, nor
///   what an [`Access`](crate::access::Access) decided.
/// - What the directory refuses to the whole connection, its listener ends too; this ends single requests sooner and in
///   words.
/// - The response to a request of HTTP/1.0 has no end but that of the connection, so such a client cannot tell a body
///   that was cut from one that is complete, unless its length was announced. After an upgrade, such as that to a
///   WebSocket, nothing is guarded here.
#[derive(Clone, Debug)]
pub struct RevocationGuardLayer {
    admission: Check,
}

impl RevocationGuardLayer {
    /// Asks this directory for admission, and those of the layers outside of it what they asked.
    pub fn new(directory: Arc<dyn Directory>) -> Self {
        Self { admission: Check { directory, question: Question::Admission } }
    }
}

impl<S> Layer<S> for RevocationGuardLayer {
    type Service = RevocationGuard<S>;

    fn layer(&self, inner: S) -> RevocationGuard<S> {
        RevocationGuard { inner, admission: self.admission.clone() }
    }
}
