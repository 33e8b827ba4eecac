//! Why a connection or an operation on a stream ended.

use super::CLOSE_REVOKED;
use crate::frame::RouteError;
use crate::open::Refusal;
use std::io;
use thiserror::Error;

/// Why a connection ended. Terminal: every later operation on it gives the same.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The server refused it, under seal.
    #[error("refused by the server: {0}")]
    Refused(Refusal),
    /// This side demands ML-KEM-768 and the server's reply has none.
    #[error("the server does not offer ML-KEM-768, which this side requires")]
    NoMlKem,
    /// Ten relays could not reach the server; the last one's reason.
    #[error("ten relays could not open a way to the server, the last one because of: {0}")]
    Unreachable(RouteError),
    /// Sixteen relays were not found in time.
    #[error("no answer from the server by way of 16 relays within the deadline")]
    OpenTimeout,
    /// The client never confirmed the connection.
    #[error("the client did not confirm the connection")]
    Unconfirmed,
    /// The peer does not know the connection any more: it restarted.
    #[error("the peer does not know the connection any more; it may have restarted")]
    Reset,
    /// Nothing was heard for the idle limit.
    #[error("nothing was heard from the peer for the idle limit")]
    Idle,
    /// The peer closed the connection.
    #[error("closed by the peer with code {code}: {reason:?}")]
    ClosedByPeer {
        /// 0 for a planned end.
        code: u32,
        /// The peer's words.
        reason: String,
    },
    /// This side closed the connection.
    #[error("closed by this side")]
    ClosedHere,
    /// The peer broke a rule of the protocol under its own seal.
    #[error("the peer broke the protocol: {0}")]
    Misbehaved(&'static str),
    /// A key reached its hard limit.
    #[error("a key reached the number of seals that it may make")]
    KeyExhausted,
}

impl ConnectionError {
    /// The kind that an [`io::Error`] of it has.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Refused(_) | Self::NoMlKem | Self::ClosedByPeer { code: CLOSE_REVOKED, .. } => {
                io::ErrorKind::ConnectionRefused
            }
            Self::Unreachable(_) => io::ErrorKind::HostUnreachable,
            Self::OpenTimeout | Self::Idle | Self::Unconfirmed => io::ErrorKind::TimedOut,
            Self::Reset | Self::ClosedByPeer { .. } => io::ErrorKind::ConnectionReset,
            Self::ClosedHere => io::ErrorKind::ConnectionAborted,
            Self::Misbehaved(_) => io::ErrorKind::InvalidData,
            Self::KeyExhausted => io::ErrorKind::Other,
        }
    }
}

impl From<ConnectionError> for io::Error {
    fn from(error: ConnectionError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Whether bytes of a failed write may have reached the peer's application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing of the stream left this side.
    NotSent,
    /// Some or all of it may have arrived.
    MaybeDelivered,
}

/// Why a stream takes no more bytes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The stream was finished or let go of on this side.
    #[error("the stream was shut down for writing")]
    Finished,
    /// The peer refused the stream or wants no more of it.
    #[error("the peer wants no more of the stream{}", reason(*.0))]
    Stopped(u32),
    /// This side took the stream back from the application.
    #[error("taken back on this side: {0}")]
    Revoked(Refusal),
    /// The connection ended.
    #[error("{cause}")]
    Lost {
        /// Whether bytes of the stream may have arrived.
        delivery: Delivery,
        /// Why it ended.
        cause: ConnectionError,
    },
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match &error {
            WriteError::Finished => io::ErrorKind::BrokenPipe,
            WriteError::Stopped(code) if refusal(*code).is_some() => io::ErrorKind::ConnectionRefused,
            WriteError::Stopped(_) => io::ErrorKind::BrokenPipe,
            WriteError::Revoked(_) => io::ErrorKind::PermissionDenied,
            WriteError::Lost { cause, .. } => cause.kind(),
        };
        Self::new(kind, error)
    }
}

/// Why a stream gives no more bytes, other than by its verified end.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The peer gave the stream up or refused it.
    #[error("the peer gave the stream up{}", reason(*.0))]
    Reset(u32),
    /// This side took the stream back from the application.
    #[error("taken back on this side: {0}")]
    Revoked(Refusal),
    /// The connection ended before the stream did.
    #[error("{0}")]
    Lost(ConnectionError),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Reset(code) if refusal(*code).is_some() => io::ErrorKind::ConnectionRefused,
            ReadError::Reset(_) => io::ErrorKind::ConnectionReset,
            ReadError::Revoked(_) => io::ErrorKind::PermissionDenied,
            // The peer left without a FIN: what was read may be a part only.
            ReadError::Lost(ConnectionError::ClosedByPeer { code, .. }) if *code != CLOSE_REVOKED => {
                io::ErrorKind::UnexpectedEof
            }
            ReadError::Lost(cause) => cause.kind(),
        };
        Self::new(kind, error)
    }
}

fn refusal(code: u32) -> Option<Refusal> {
    u8::try_from(code).ok().and_then(Refusal::from_wire)
}

fn reason(code: u32) -> String {
    refusal(code).map(|r| format!(": {r}")).unwrap_or_default()
}
