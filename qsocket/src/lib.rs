//! Byte streams over the 25 relays of a RAIDA, for tokio.
//!
//! [`QSocketStream`] and [`QSocketListener`] look like tokio's TCP types. Underneath, every block of bytes is
//! sealed end to end, cut into a 4x4 grid of stripes with nine parity stripes, and each of the 25 stripes travels
//! through another relay. Nine relays may fail or lie at any moment; the stream goes on.
//!
//! ```no_run
//! use qsocket::{QSocketListener, QSocketStream};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # async fn server() -> std::io::Result<()> {
//! let listener = QSocketListener::bind("0.0.0.0:7000").await?;
//! let (mut stream, _peer) = listener.accept().await?;
//! let mut request = String::new();
//! stream.read_to_string(&mut request).await?;
//! # Ok(()) }
//! # async fn client() -> std::io::Result<()> {
//! let mut stream = QSocketStream::connect("files.example:7000").await?;
//! stream.write_all(b"hello").await?;
//! stream.shutdown().await?; // returns when the server has every byte and the end
//! # Ok(()) }
//! ```
//!
//! # What differs from TCP
//! - **Who is there is known.** Both sides are authenticated before a byte of data flows; [`QSocketStream::peer`]
//!   tells whom 16 relays vouch for.
//! - **`shutdown` waits** until the peer acknowledged everything; when it returns, the bytes are there.
//! - **Dropping a stream without `shutdown` aborts it**: the peer reads an error, never a clean end.
//! - **`Ok(0)` is a verified end.** A cut connection is an error.
//! - **`flush` does nothing**: bytes leave as soon as they are written.
//!
//! # Where settings come from
//! [`QSocketStream::connect`] and [`QSocketListener::bind`] use the configuration that [`config::Config::load`]
//! finds; [`Endpoint`] takes one explicitly.
//!
//! # Tests
//! With the feature `testing`, the module `testing` has 25 relays in memory and whole streams over them for your own
//! tests, which can stop relays and let hours pass.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod access;
pub mod config;
mod connection;
mod endpoint;
mod error;
pub mod exchange;
mod health;
mod hop;
pub mod keys;
mod listener;
mod look;
pub mod names;
pub mod resolve;
mod stats;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;

pub use endpoint::{Endpoint, HopStatus};
pub use error::{ConnectError, refusal};
pub use health::Health;
pub use listener::{Incoming, IntoIncoming, QSocketListener};
pub use qsocket_files::{provision, rng};
pub use qsocket_proto::connection::{PathStats, PathStatus, Repairs, Stats};
pub use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
pub use qsocket_proto::frame::RouteError;
pub use qsocket_proto::ids::{PathId, Principal, Role};
pub use qsocket_proto::open::Refusal;
pub use qsocket_proto::raida_key::RaidaKey;
pub use stats::{EndpointStats, RelayStats};
pub use stream::{OwnedReadHalf, OwnedWriteHalf, Peer, QSocketStream, ReadHalf, ReuniteError, WriteHalf};
