//! Why a stream could not be opened.

use crate::access::Denial;
use crate::config::list;
use crate::endpoint::HopStatus;
use crate::keys::NoUsableKey;
use qsocket_proto::connection::{CLOSE_REVOKED, ConnectionError, ReadError, WriteError};
use qsocket_proto::open::Refusal;
use std::io;
use thiserror::Error;

/// Why a stream could not be opened. Nothing of it was sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server refused the connection or the stream, under seal.
    #[error("refused by the server: {0}")]
    Refused(Refusal),
    /// The connection could not be opened; the state of the hops tells more.
    #[error("{cause}; network {network}: {hops}")]
    Failed {
        /// What ended the attempt.
        cause: ConnectionError,
        /// The network that was chosen. No other was tried.
        network: u16,
        /// How the 25 hops stand.
        hops: HopStatus,
    },
    /// The server is in none of this endpoint's networks. No relay heard of the attempt.
    #[error(
        "no network in common: this endpoint has keys for network {}, the server is in network {}; add to the configuration a [[raida]] with a key for a network of the server, or ask its operator in which others it is",
        list(ours),
        list(theirs)
    )]
    NoCommonNetwork {
        /// The networks of this endpoint, in order of preference.
        ours: Vec<u16>,
        /// The networks in which the server is known.
        theirs: Vec<u16>,
    },
    /// This endpoint's own directory does not let the server host what was asked for. The server did not hear of the
    /// attempt.
    #[error("this side's directory does not let the server host it: {0}")]
    NotPermitted(Denial),
    /// There are Encryption keys with the server, and none may be used any more. The server did not hear of the attempt.
    #[error(transparent)]
    NoUsableKey(#[from] NoUsableKey),
    /// The key of this endpoint is not a client's.
    #[error(
        "the RAIDA key of this endpoint has the role server; connecting needs a key with the role client"
    )]
    NotAClient,
    /// The endpoint was closed, or its runtime ended.
    #[error("the endpoint is closed")]
    Closed,
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::Refused(_) => io::ErrorKind::ConnectionRefused,
            ConnectError::Failed { cause, .. } => cause.kind(),
            ConnectError::NotPermitted(_) | ConnectError::NoUsableKey(_) => io::ErrorKind::PermissionDenied,
            ConnectError::NotAClient => io::ErrorKind::InvalidInput,
            ConnectError::NoCommonNetwork { .. } => io::ErrorKind::NetworkUnreachable,
            ConnectError::Closed => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}

/// The server's reason, if an I/O error of a connect, read or write is a refusal.
pub fn refusal(error: &io::Error) -> Option<Refusal> {
    let inner = error.get_ref()?;
    if let Some(ConnectError::Refused(reason)) = inner.downcast_ref() {
        return Some(*reason);
    }
    let of_connection = |error: &ConnectionError| match error {
        ConnectionError::Refused(reason) => Some(*reason),
        ConnectionError::ClosedByPeer { code: CLOSE_REVOKED, .. } => Some(Refusal::Revoked),
        _ => None,
    };
    let of_code = |code: &u32| u8::try_from(*code).ok().and_then(Refusal::from_wire);
    if let Some(error) = inner.downcast_ref() {
        return of_connection(error);
    }
    match (inner.downcast_ref(), inner.downcast_ref()) {
        (Some(ReadError::Reset(code)), _) | (_, Some(WriteError::Stopped(code))) => of_code(code),
        (Some(ReadError::Revoked(reason)), _) | (_, Some(WriteError::Revoked(reason))) => Some(*reason),
        (Some(ReadError::Lost(cause)), _) | (_, Some(WriteError::Lost { cause, .. })) => of_connection(cause),
        _ => None,
    }
}
