//! QSocket under axum, hyper and tonic: servers and clients of HTTP whose bytes travel over 25 relays.
//!
//! No feature is on by default.
//!
//! | feature | of what | type | goes into |
//! |---|---|---|---|
//! | `axum-08` | axum 0.8 | `axum::AxumListener` | `axum::serve` |
//! | | | `axum::Peer` | the arguments of a handler: who asks |
//! | `hyper-client` | hyper-util 0.1 | `hyper::Connector` | `Client::builder(..).build(..)` |
//! | | hyper-rustls 0.27 | `hyper::Connector` | `HttpsConnectorBuilder::wrap_connector` |
//! | | tonic 0.14, client | `hyper::Connector` | `Endpoint::connect_with_connector` |
//! | `tonic-014` | tonic 0.14, server | `tonic::Incoming` | `Server::serve_with_incoming` |
//! | `layers` | tower 0.5 | those below | `Router::layer`, `Server::layer`, `ServiceBuilder::layer` |
//! | `prometheus-client-026` | prometheus-client 0.26 | `metrics::MetricsLayer` | the same; with `layers` |
//! | | | `metrics::EndpointMetrics` | `Registry::register_collector`: figures of each relay |
//! | `tower-http-07` | tower-http 0.7 | `trace::MakePeerSpan` | `TraceLayer::make_span_with` |
//! | `tower-governor-08` | tower_governor 0.8 | `governor::PeerKeyExtractor` | `GovernorConfigBuilder::key_extractor` |
//! | `http` | http 1 | `PeerInfo::find` | the extensions of a request; with each of the others |
//! | `testing` | your own tests | `testing::Raida`, `testing::peer_info` | 25 relays in memory; who asks a handler |
//!
//! [`PeerInfo`] tells who is at the other end: in axum by the extractor, in tonic in the extensions of a request, in
//! hyper in those of a response. [`Stream`] carries it beside the bytes.
//!
//! # Layers
//! They go around any service of `http::Request`, of axum, tonic or hyper-util. In the order in which a request should
//! meet them, the outermost first:
//!
//! | layer | |
//! |---|---|
//! | `metrics::MetricsLayer` | counts and times requests |
//! | `health_shed::HealthShedLayer` | 503 while fewer than 16 paths are well |
//! | `per_peer_concurrency_limit::PerPeerConcurrencyLimitLayer` | 429 above so many requests of a peer |
//! | `require_resource::RequireResourceLayer` | 403 to whom the directory does not permit a resource |
//! | `require_group::RequireGroupLayer` | 403 to whom the directory does not know in a group |
//! | `access::AccessLayer` | 403 to whom an async function of the program refuses |
//! | `revocation_guard::RevocationGuardLayer` | ends what is in progress when the directory takes access back |
//! | `identity_headers::IdentityHeadersLayer` | tells a backend by headers who asks |
//!
//! `refusal` says what a client reads that is refused. Where neither axum nor tonic serves, the program puts the peer
//! into the extensions of each request: `request.extensions_mut().insert(stream.peer().clone())`.
//!
//! # Security
//! - **Clients are known** before `accept` gives a stream: by 16 relays, and by the lists of the listener. No
//!   handshake runs in the loop of a server, so a slow client holds up no other.
//! - **Decide by `PeerInfo::principal`**, not by a header, the resource or the address, which a client can choose.
//! - **A connector refuses names that the configuration does not know.** A fallback is something that one asks for,
//!   with the hosts that it is for, and never follows from a failure of QSocket.
//! - **A layer lets nobody through without a peer.** A request that carries none is answered with 500, and the log says
//!   what is missing.
//! - **Relays and the network cannot make an end**: a stream that they cut is an error at hyper's client, also where
//!   HTTP/1.1 has no length for a body. A server on axum ends what it drops, as over TCP, unless it panics.

#[cfg(feature = "layers")]
pub mod access;
#[cfg(feature = "layers")]
mod accessors;
#[cfg(feature = "axum-08")]
pub mod axum;
#[cfg(feature = "layers")]
pub mod body;
#[cfg(feature = "layers")]
mod check;
#[cfg(feature = "tower-governor-08")]
pub mod governor;
mod health;
#[cfg(feature = "layers")]
pub mod health_shed;
#[cfg(feature = "hyper-client")]
pub mod hyper;
#[cfg(feature = "layers")]
pub mod identity_headers;
#[cfg(feature = "prometheus-client-026")]
pub mod metrics;
mod peer;
#[cfg(feature = "layers")]
pub mod per_peer_concurrency_limit;
#[cfg(feature = "layers")]
pub mod refusal;
#[cfg(feature = "layers")]
pub mod require_group;
#[cfg(feature = "layers")]
pub mod require_resource;
#[cfg(feature = "layers")]
pub mod revocation_guard;
mod stream;
#[cfg(test)]
mod test_support;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tonic-014")]
pub mod tonic;
#[cfg(feature = "tower-http-07")]
pub mod trace;

pub use health::LiveHealth;
pub use peer::PeerInfo;
pub use stream::Stream;

/// Any error.
#[cfg(any(feature = "hyper-client", feature = "layers"))]
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
