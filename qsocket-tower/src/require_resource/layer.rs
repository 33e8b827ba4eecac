use super::RequireResource;
use crate::check::{Check, Question};
use qsocket::access::Directory;
use std::sync::Arc;
use tower_layer::Layer;

/// Lets a request through if [`Directory::decide`] permits the peer to dial a resource. What it permits, the
/// [`Permit`](qsocket::access::Permit), is in the extensions of the request; whom it does not permit reads 403, in gRPC
/// `PermissionDenied` ([`refusal`](crate::refusal)).
///
/// ```
/// use http::{Request, Response};
/// use qsocket::access::{AccessList, Permit};
/// use qsocket_tower::PeerInfo;
/// use qsocket_tower::require_resource::RequireResourceLayer;
/// use std::convert::Infallible;
/// use std::sync::Arc;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let directory = Arc::new(AccessList { deny: ["1.0.13".parse()?].into(), ..AccessList::default() });
/// let service = ServiceBuilder::new().layer(RequireResourceLayer::new(directory, "wiki")).service_fn(
///     async |request: Request<String>| {
///         assert!(request.extensions().get::<Permit>().is_some());
///         Ok::<_, Infallible>(Response::new(String::from("welcome")))
///     },
/// );
/// for (principal, status) in [("1.0.7", 200), ("1.0.13", 403)] {
///     // The adapters give every request its peer. Here is none.
///     let mut request = Request::new(String::new());
///     request.extensions_mut().insert(PeerInfo::new(principal.parse()?, "wiki:80", "127.0.0.1:1".parse()?));
///     assert_eq!(service.clone().oneshot(request).await?.status(), status);
/// }
/// # Ok(()) }
/// ```
///
/// It decides when a request comes. What goes on for long is watched by a
/// [`RevocationGuard`](crate::revocation_guard::RevocationGuard) behind it.
#[derive(Clone, Debug)]
pub struct RequireResourceLayer {
    check: Check,
}

impl RequireResourceLayer {
    /// Asks for the resource that the directory knows by this name.
    pub fn new(directory: Arc<dyn Directory>, id: impl Into<Arc<str>>) -> Self {
        Self { check: Check { directory, question: Question::Resource(id.into()) } }
    }
}

impl<S> Layer<S> for RequireResourceLayer {
    type Service = RequireResource<S>;

    fn layer(&self, inner: S) -> RequireResource<S> {
        RequireResource { inner, check: self.check.clone() }
    }
}
