//! RAIDA Key Exchange: a client and a server that never met get a shared Encryption key (`docs/protocol.md`, section 18).
//!
//! The client calls [`Endpoint::exchange`](crate::Endpoint::exchange). The server receives keys if its configuration
//! holds a [`KeyReceiver`]. Both then hold a key that no relay knows, and that their connections mix in from then on:
//! after it, not even all 25 relays together can read or impersonate, as long as fewer than 16 of them colluded in
//! the exchange itself.

mod port;
mod post;
mod receive;

pub(crate) use port::serve as serve_signals;
pub(crate) use post::exchange;
pub use post::{Answers, ExchangeError, Exchanged, Terms};
pub use qsocket_proto::call::Status;
pub use qsocket_proto::exchange::{MAX_MEMO, MAX_TTL, MIN_TTL};
pub use receive::{KeyReceiver, Received};
pub(crate) use receive::{Receiving, Told, receipt_keys};
