//! tower-http 0.7: spans that say who asks.

use crate::PeerInfo;
use http::Request;
use tower_http::trace::MakeSpan;
use tracing::field::{Empty, display};
use tracing::{Level, Span};

/// Makes a span `request` for each request, for [`TraceLayer`](tower_http::trace::TraceLayer).
///
/// | field | |
/// |---|---|
/// | `method`, `path`, `version` | of the request; not what follows a `?`, which may be secret |
/// | `qsocket.peer` | the principal |
/// | `qsocket.paths` | how many of the 25 paths are well |
/// | `qsocket.ml_kem` | whether an ML-KEM-768 secret is mixed into the keys |
/// | `qsocket.encryption_key` | whether an Encryption key is |
///
/// Those of QSocket are empty for a request without a peer.
///
/// ```
/// use http::{Request, Response};
/// use qsocket_tower::PeerInfo;
/// use qsocket_tower::trace::MakePeerSpan;
/// use std::convert::Infallible;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_http::trace::TraceLayer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = ServiceBuilder::new()
///     .layer(TraceLayer::new_for_http().make_span_with(MakePeerSpan::new()))
///     .service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(String::new())));
/// let mut request = Request::new(String::new());
/// request.extensions_mut().insert(PeerInfo::new("1.0.7".parse()?, "wiki:80", "127.0.0.1:1".parse()?));
/// service.oneshot(request).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MakePeerSpan {
    level: Level,
}

impl Default for MakePeerSpan {
    fn default() -> Self {
        Self::new()
    }
}

impl MakePeerSpan {
    /// Spans of the level `INFO`.
    pub const fn new() -> Self {
        Self { level: Level::INFO }
    }

    /// Sets the level.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }
}

impl<B> MakeSpan<B> for MakePeerSpan {
    fn make_span(&mut self, request: &Request<B>) -> Span {
        // A level has to be a constant.
        macro_rules! span {
            ($level:expr) => {
                tracing::span!(
                    $level,
                    "request",
                    method = %request.method(),
                    path = request.uri().path(),
                    version = ?request.version(),
                    qsocket.peer = Empty,
                    qsocket.paths = Empty,
                    qsocket.ml_kem = Empty,
                    qsocket.encryption_key = Empty,
                )
            };
        }
        let span = match self.level {
            Level::ERROR => span!(Level::ERROR),
            Level::WARN => span!(Level::WARN),
            Level::INFO => span!(Level::INFO),
            Level::DEBUG => span!(Level::DEBUG),
            Level::TRACE => span!(Level::TRACE),
        };
        if let Some(peer) = PeerInfo::find(request.extensions()) {
            span.record("qsocket.peer", display(peer.principal));
            span.record("qsocket.paths", peer.health.now().well());
            span.record("qsocket.ml_kem", peer.ml_kem);
            span.record("qsocket.encryption_key", peer.encryption_key.is_some());
        }
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LiveHealth;
    use crate::testing::{Logs, ann, bare, peer};
    use qsocket::Health;

    fn line(level: Level, request: &Request<impl Sized>) -> String {
        let logs = Logs::start();
        let span = MakePeerSpan::new().level(level).make_span(request);
        assert_eq!(span.metadata().unwrap().level(), &level);
        span.in_scope(|| tracing::error!("here"));
        logs.text()
    }

    #[test]
    fn it_says_who_asks_and_not_what_may_be_secret() {
        let mut request = bare();
        *request.uri_mut() = "/wiki?token=secret".parse().unwrap();
        let health = LiveHealth::fixed(Health::of(23));
        request.extensions_mut().insert(PeerInfo { ml_kem: true, health, ..peer(ann()) });
        for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
            let line = line(level, &request);
            let fields = "request{method=GET path=\"/wiki\" version=HTTP/1.1 qsocket.peer=1.0.7 \
                          qsocket.paths=23 qsocket.ml_kem=true qsocket.encryption_key=false}";
            assert!(line.contains(fields), "{line}");
        }
    }

    #[test]
    fn without_a_peer_the_fields_are_empty() {
        let line = line(Level::INFO, &bare());
        assert!(line.contains("request{method=GET path=\"/\" version=HTTP/1.1}"), "{line}");
    }
}
