//! For your own tests: all of [`qsocket::testing`], and who asks in the form that requests carry.
//!
//! # A handler of axum without a network
//! `MockConnectInfo` of axum stands in for the connection:
//!
#![cfg_attr(feature = "axum-08", doc = "```")]
#![cfg_attr(not(feature = "axum-08"), doc = "```ignore")]
//! use axum::body::{Body, to_bytes};
//! use axum::extract::connect_info::MockConnectInfo;
//! use axum::http::Request;
//! use axum::{Router, routing::get};
//! use qsocket_tower::axum::Peer;
//! use qsocket_tower::testing::peer_info;
//! use tower_service::Service as _;
//!
//! /// What is tested.
//! fn app() -> Router {
//!     Router::new().route("/", get(async |Peer(peer): Peer| format!("hello, {}", peer.principal)))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut app = app().layer(MockConnectInfo(peer_info(7)));
//! let response = app.call(Request::new(Body::empty())).await.unwrap();
//! assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), "hello, 1.0.7");
//! # }
//! ```
//!
//! # A service of tonic without a network
//! The request carries it: `request.extensions_mut().insert(peer_info(7))`.
//!
//! # All of it
//! With the adapters over 25 relays in memory, while nine of them are away:
//!
#![cfg_attr(all(feature = "axum-08", feature = "hyper-client"), doc = "```")]
#![cfg_attr(not(all(feature = "axum-08", feature = "hyper-client")), doc = "```ignore")]
//! use axum::{Router, body::Body, routing::get};
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use qsocket::PathId;
//! use qsocket_tower::PeerInfo;
//! use qsocket_tower::axum::{AxumListener, Peer};
//! use qsocket_tower::hyper::Connector;
//! use qsocket_tower::testing::Raida;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = Router::new().route("/", get(async |Peer(peer): Peer| format!("hello, {}", peer.principal)));
//! let raida = Raida::start()?;
//! let listener = AxumListener::new(raida.listener("web.example").await?);
//! let service = app.into_make_service_with_connect_info::<PeerInfo>();
//! tokio::spawn(async { axum::serve(listener, service).await });
//! for path in PathId::all().take(9) {
//!     raida.stop_relay(path).await;
//! }
//! let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(Connector::new(raida.client()?));
//! let response = client.get("http://web.example/".parse()?).await?;
//! assert!(response.status().is_success());
//! # Ok(()) }
//! ```

use crate::PeerInfo;
pub use qsocket::testing::*;
use std::net::{Ipv4Addr, SocketAddr};

/// A client as a server sees it on a connection of the usual kind: with ML-KEM, without an Encryption key, all paths
/// live, and connected to `test.example:80`. The fields can be set.
pub fn peer_info(serial: u32) -> PeerInfo {
    let address = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 49_152));
    let mut peer = PeerInfo::new(principal(serial), "test.example:80", address);
    peer.ml_kem = true;
    peer.paths_live = PeerInfo::PATHS;
    peer
}
