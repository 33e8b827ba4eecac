use super::IdentityHeaders;
use qsocket::access::Directory;
use std::sync::Arc;
use tower_layer::Layer;

/// Tells whatever is behind it by headers who asks ([`header`](super::header)), after it has removed every header by
/// which the client could say so. For backends behind a gateway, in any language.
///
/// The user and its groups are those of the directory that [`with_directory`](Self::with_directory) gives, as it knows
/// them now; without one those of a [`RequireResource`](crate::require_resource::RequireResource) or
/// [`RequireGroup`](crate::require_group::RequireGroup) outside.
///
/// ```
/// use http::{Request, Response};
/// use qsocket_tower::PeerInfo;
/// use qsocket_tower::identity_headers::IdentityHeadersLayer;
/// use std::convert::Infallible;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let backend = ServiceBuilder::new().layer(IdentityHeadersLayer::new()).service_fn(
///     async |request: Request<String>| {
///         let headers = request.headers();
///         assert_eq!(headers["x-qsocket-principal"], "1.0.7");
///         assert!(headers.get("x-qsocket-groups").is_none());
///         Ok::<_, Infallible>(Response::new(String::new()))
///     },
/// );
/// let mut request = Request::get("/")
///     .header("X-QSocket-Principal", "1.0.1")
///     .header("X_QSocket_Groups", "admins")
///     .body(String::new())?;
/// request.extensions_mut().insert(PeerInfo::new("1.0.7".parse()?, "wiki:80", "127.0.0.1:1".parse()?));
/// backend.oneshot(request).await?;
/// # Ok(()) }
/// ```
///
/// # Security
/// - Removed are all headers that begin with `x-qsocket-`, also where other signs stand for the dashes: a backend that
///   makes variables of headers (`HTTP_X_QSOCKET_USER`) does not tell them apart. They are removed from `Connection` too,
///   where they would have the next proxy remove those that are set here.
/// - So are `Forwarded`, all that begin with `X-Forwarded-`, and `X-Real-IP`: nobody has verified what they say, and
///   backends take them from a gateway for true. Where the clients are proxies that the backend trusts,
///   [`keep_forwarded`](Self::keep_forwarded) leaves them.
/// - Trailers are left as they are. A backend must not take them for headers (RFC 9110, section 6.5.1).
/// - The backend must be reachable through this service only. Over TCP anyone can write these headers.
#[derive(Clone, Debug, Default)]
pub struct IdentityHeadersLayer {
    pub(super) directory: Option<Arc<dyn Directory>>,
    pub(super) keeps_forwarded: bool,
}

impl IdentityHeadersLayer {
    /// Knows of users what the layers outside found out.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks a directory for the user of each request.
    #[must_use]
    pub fn with_directory(mut self, directory: Arc<dyn Directory>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Leaves `Forwarded`, `X-Forwarded-` and `X-Real-IP` as the client wrote them.
    #[must_use]
    pub fn keep_forwarded(mut self) -> Self {
        self.keeps_forwarded = true;
        self
    }
}

impl<S> Layer<S> for IdentityHeadersLayer {
    type Service = IdentityHeaders<S>;

    fn layer(&self, inner: S) -> IdentityHeaders<S> {
        IdentityHeaders::new(inner, self.clone())
    }
}
