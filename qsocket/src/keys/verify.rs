//! Asking the 25 relays whether a RAIDA key is theirs.

use crate::config::Raida;
use crate::hop;
use qsocket_files::rng::OsRng;
use qsocket_net::{Transport, clock};
use qsocket_proto::crypto::schedule::hop::ImportedKey;
use qsocket_proto::hop::{Dial, Dialer, DialledBy, HandshakeError, HopLimits, Inbox, Outbox};
use qsocket_proto::ids::{PathId, Principal, Role};
use qsocket_proto::raida_key::RaidaKey;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long one relay has to answer unless that is said: its connection and one round trip, with room for a retry of TCP.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Room for what one handshake sends, which is below 1 KiB.
const OUTBOX_BYTES: usize = 4096;

/// What one relay answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which relay.
    pub relay: PathId,
    /// Where it was asked.
    pub address: SocketAddr,
    /// What it answered.
    pub verdict: Verdict,
    /// How long that took.
    pub took: Duration,
}

/// Whether a relay holds its number of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It proved that it holds the number.
    Held,
    /// It does not know the principal in this role, holds another number, or is another relay: it does not say which.
    Refused,
    /// What answers there is no relay of this network, or of another version.
    NotARelay(HandshakeError),
    /// Nothing answers there.
    Unreachable {
        /// What the system says.
        kind: io::ErrorKind,
        /// The same for people.
        error: String,
    },
    /// It did not answer in time.
    TimedOut,
}

impl Verdict {
    /// One word for lists.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Held => "ok",
            Self::Refused => "refused",
            Self::NotARelay(_) => "no relay",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut => "time",
        }
    }
}

/// Tries the handshake of a hop with each relay, all at once, and ends it before its last message: the relay proves that
/// it holds the number, and nothing changes there. A hop that a running program has stays.
///
/// The answers are in the order of the relays. Each relay learns that the principal is at this address.
///
/// # Cancel safety
/// Safe.
pub async fn verify(key: &RaidaKey, raida: &Raida, timeout: Duration) -> Vec<Answer> {
    verify_over(&Transport::default(), key, raida, timeout).await
}

pub(crate) async fn verify_over(
    transport: &Transport,
    key: &RaidaKey,
    raida: &Raida,
    timeout: Duration,
) -> Vec<Answer> {
    let (principal, role) = (key.principal(), key.role());
    let mut asked = JoinSet::new();
    for relay in PathId::all() {
        let address = raida.relays.get(relay);
        let imported = ImportedKey::new(key.number(relay), principal, relay, role);
        let transport = transport.clone();
        asked.spawn(async move {
            let began = clock::now();
            let answer = ask(&transport, address, imported, (principal, role), relay);
            let verdict = match tokio::time::timeout(timeout, answer).await {
                Ok(verdict) => verdict,
                Err(_) => Verdict::TimedOut,
            };
            Answer { relay, address, verdict, took: clock::now() - began }
        });
    }
    // A task of them neither panics nor is cancelled.
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|answer| answer.relay);
    answers
}

async fn ask(
    transport: &Transport,
    address: SocketAddr,
    key: ImportedKey,
    (principal, role): (Principal, Role),
    relay: PathId,
) -> Verdict {
    let unreachable = |e: io::Error| Verdict::Unreachable { kind: e.kind(), error: e.to_string() };
    let socket = match transport.connect(address).await {
        Ok(socket) => socket,
        Err(e) => return unreachable(e),
    };
    let limits = HopLimits::default();
    let dial = Dial { principal, role, relay, dialled_by: DialledBy::Principal, limits };
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(OUTBOX_BYTES));
    let mut dialer = Dialer::new(clock::now(), dial, key, &mut OsRng, &mut outbox);
    if let Err(e) = hop::send(&socket, &mut outbox).await {
        return unreachable(e);
    }
    loop {
        match hop::receive(&socket, &mut inbox).await {
            Ok(()) => {}
            // A relay answers before it closes.
            Err(e) => return unreachable(e),
        }
        match dialer.handle(clock::now(), &mut inbox, &mut outbox) {
            // The relay's proof is checked. What would follow, and make this a hop, stays in the outbox.
            Ok(Some(_)) => return Verdict::Held,
            Ok(None) => {}
            Err(HandshakeError::Rejected | HandshakeError::NotAuthentic) => return Verdict::Refused,
            Err(e) => return Verdict::NotARelay(e),
        }
    }
}

#[cfg(test)]
mod tests;
