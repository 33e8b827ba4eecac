use super::RequireGroup;
use crate::check::{Check, Question};
use qsocket::access::Directory;
use std::sync::Arc;
use tower_layer::Layer;

/// Lets a request through if the directory admits the peer and its user is in a group. The
/// [`User`](qsocket::access::User) is in the extensions of the request; who is not in the group reads 403, in gRPC
/// `PermissionDenied` ([`refusal`](crate::refusal)).
///
/// ```
/// use http::{Request, Response};
/// use qsocket::access::AccessList;
/// use qsocket_tower::PeerInfo;
/// use qsocket_tower::require_group::RequireGroupLayer;
/// use std::convert::Infallible;
/// use std::sync::Arc;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A directory without users, so that nobody is in a group.
/// let directory = Arc::new(AccessList::default());
/// let service = ServiceBuilder::new()
///     .layer(RequireGroupLayer::new(directory, "staff"))
///     .service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(String::from("welcome"))));
/// let mut request = Request::new(String::new());
/// request.extensions_mut().insert(PeerInfo::new("1.0.7".parse()?, "wiki:80", "127.0.0.1:1".parse()?));
/// let response = service.oneshot(request).await?;
/// assert_eq!(response.status(), 403);
/// assert_eq!(response.headers()["x-qsocket-reason"], "not-permitted");
/// # Ok(()) }
/// ```
///
/// It decides when a request comes. What goes on for long is watched by a
/// [`RevocationGuard`](crate::revocation_guard::RevocationGuard) behind it.
#[derive(Clone, Debug)]
pub struct RequireGroupLayer {
    check: Check,
}

impl RequireGroupLayer {
    /// Asks for the group that the directory knows by this name.
    pub fn new(directory: Arc<dyn Directory>, group: impl Into<Arc<str>>) -> Self {
        Self { check: Check { directory, question: Question::Group(group.into()) } }
    }
}

impl<S> Layer<S> for RequireGroupLayer {
    type Service = RequireGroup<S>;

    fn layer(&self, inner: S) -> RequireGroup<S> {
        RequireGroup { inner, check: self.check.clone() }
    }
}
