//! tower_governor 0.8: rate limits for each peer.

use crate::PeerInfo;
use http::Request;
use qsocket::Principal;
use tower_governor::GovernorError;
use tower_governor::key_extractor::KeyExtractor;

/// Limits by [`Principal`], over all streams and connections of a peer.
///
/// ```
/// use http::{Request, Response};
/// use qsocket_tower::PeerInfo;
/// use qsocket_tower::governor::PeerKeyExtractor;
/// use std::convert::Infallible;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_governor::GovernorLayer;
/// use tower_governor::governor::GovernorConfigBuilder;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let two_at_once = GovernorConfigBuilder::default()
///     .per_second(60)
///     .burst_size(2)
///     .key_extractor(PeerKeyExtractor)
///     .finish()
///     .ok_or("a limit of nothing")?;
/// let service = ServiceBuilder::new()
///     // Its features `axum` and `tonic` say how it answers: here as a server of tonic does.
///     .layer(GovernorLayer::new(two_at_once))
///     .service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(tonic::body::Body::empty())));
/// let mut request = Request::new(());
/// request.extensions_mut().insert(PeerInfo::new("1.0.7".parse()?, "wiki:80", "127.0.0.1:1".parse()?));
/// for refused in [false, false, true] {
///     let response = service.clone().oneshot(request.clone()).await?;
///     // ResourceExhausted.
///     assert_eq!(response.headers().get("grpc-status").is_some_and(|status| status == "8"), refused);
/// }
/// # Ok(()) }
/// ```
///
/// # Security
/// 16 relays vouch for the principal, so a client cannot take another key, and one with many addresses has one key. A
/// request without a peer is answered with 500. tower_governor remembers every principal that it saw:
/// call `retain_recent` on its limiter from time to time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerKeyExtractor;

impl KeyExtractor for PeerKeyExtractor {
    type Key = Principal;

    fn name(&self) -> &'static str {
        "QSocket peer"
    }

    fn extract<T>(&self, request: &Request<T>) -> Result<Principal, GovernorError> {
        let peer = PeerInfo::find(request.extensions()).ok_or(GovernorError::UnableToExtractKey);
        peer.map(|peer| peer.principal).inspect_err(|_| tracing::error!("a request carries no peer"))
    }

    fn key_name(&self, key: &Principal) -> Option<String> {
        Some(key.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ann, bare, request};

    /// The attack: a client with another address, and headers that other extractors read.
    #[test]
    fn the_key_is_the_principal_whatever_the_client_says() {
        let mut request = request(ann());
        for name in ["x-forwarded-for", "x-real-ip", "forwarded", "x-qsocket-principal"] {
            request.headers_mut().insert(name, "10.0.0.1".parse().unwrap());
        }
        let peer = request.extensions_mut().get_mut::<PeerInfo>().unwrap();
        (peer.address, peer.resource) = ("10.0.0.1:1".parse().unwrap(), "another:1".into());
        assert_eq!(PeerKeyExtractor.extract(&request).unwrap(), ann());
        assert_eq!(PeerKeyExtractor.key_name(&ann()).as_deref(), Some("1.0.7"));
    }

    #[test]
    fn without_a_peer_there_is_none() {
        let error = PeerKeyExtractor.extract(&bare()).unwrap_err();
        assert_eq!(error.into_response().status(), 500);
    }
}
