//! Enrolment: a principal and one relay draw an authenticity number together. `docs/protocol.md` 16.
//!
//! The principal makes a [`Request`] for each relay, the relay makes an [`Answer`] and keeps the number, the principal
//! computes the same number from both. No third place ever holds it, and no place but the principal holds all 25.
//! How the two messages travel is the caller's matter; both hold a half of a secret.

use crate::crypto::hkdf::{Label, MAC_BYTES, expand_label, extract};
use crate::crypto::schedule::BadSecret;
use crate::crypto::schedule::hop::{AuthenticityNumber, ImportedKey};
use crate::crypto::secret::Secret;
use crate::ids::{PathId, Principal, Role};
use rand_core::CryptoRng;
use std::fmt;

/// The salt of the combination of two halves.
const SALT: &[u8] = b"qs1 enrol";

/// Names one request; drawn by the principal, fresh for each request, not secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 16]);

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// What one enrolment is about. All of it enters the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Who enrols.
    pub principal: Principal,
    /// The role that the number is for.
    pub role: Role,
    /// The relay that the number is shared with.
    pub relay: PathId,
    /// Which request.
    pub id: RequestId,
}

impl Subject {
    const BYTES: usize = Principal::BYTES + 18;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..Principal::BYTES].copy_from_slice(&self.principal.to_bytes());
        out[Principal::BYTES] = self.role as u8;
        out[Principal::BYTES + 1] = self.relay.get();
        out[Principal::BYTES + 2..].copy_from_slice(&self.id.0);
        out
    }
}

/// One side's 32 random bytes. Who knows both halves knows the number.
#[derive(Debug)]
pub struct Half(Secret<32>);

impl Half {
    /// Draws a half.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(Secret::random(rng))
    }

    /// Takes the bytes of a file.
    ///
    /// # Errors
    /// [`BadSecret`] unless there are 32 bytes, not all zero.
    pub fn new(bytes: &[u8]) -> Result<Self, BadSecret> {
        let array = bytes.as_array::<32>().ok_or(BadSecret::Length { len: bytes.len(), expected: "32" })?;
        let half = Secret::build(|out| out.copy_from_slice(array));
        if half.is_zero() { Err(BadSecret::Zero) } else { Ok(Self(half)) }
    }

    /// The bytes, for a file.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// The number that two halves make, and the relay's proof that it has it.
fn combine(subject: Subject, principal: &Half, relay: &Half) -> (AuthenticityNumber, Confirmation) {
    let both = Secret::<64>::build(|out| {
        out[..32].copy_from_slice(principal.expose());
        out[32..].copy_from_slice(relay.expose());
    });
    let about = subject.to_bytes();
    let number: Secret<32> = expand_label(&extract(SALT, both.expose()), Label::EnrolNumber, &about);
    let number = AuthenticityNumber::Bits256(number);
    let key = ImportedKey::new(&number, subject.principal, subject.relay, subject.role).confirmation_key();
    let tag = key.tag(&[&about, both.expose()]);
    (number, Confirmation(tag))
}

/// The MAC by which a principal sees that a relay computed the same number from the same words. Not secret.
#[derive(Clone, Copy, Debug)]
pub struct Confirmation(pub [u8; MAC_BYTES]);

impl Confirmation {
    /// In constant time.
    fn fits(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.ct_eq(&other.0).into()
    }
}

/// What a principal gives to one relay. Secret: it holds the principal's half.
#[derive(Debug)]
pub struct Request {
    /// What it is about.
    pub subject: Subject,
    /// The principal's half.
    pub half: Half,
}

/// What the relay gives back. Secret: it holds the relay's half.
#[derive(Debug)]
pub struct Answer {
    /// What it is about; that of the request.
    pub subject: Subject,
    /// The relay's half.
    pub half: Half,
    /// Shows that this half fits the request.
    pub confirmation: Confirmation,
}

impl Request {
    /// Draws a request: a fresh id and a fresh half.
    pub fn new<R: CryptoRng + ?Sized>(principal: Principal, role: Role, relay: PathId, rng: &mut R) -> Self {
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let subject = Subject { principal, role, relay, id: RequestId(id) };
        Self { subject, half: Half::random(rng) }
    }

    /// At the relay: draws the other half and gives the answer and the number to keep.
    ///
    /// The caller has checked that the request is for its relay and network.
    pub fn answer<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> (Answer, AuthenticityNumber) {
        let half = Half::random(rng);
        let (number, confirmation) = combine(self.subject, &self.half, &half);
        (Answer { subject: self.subject, half, confirmation }, number)
    }

    /// At the principal: the number that the relay keeps too.
    ///
    /// # Errors
    /// When the answer is another relay's, another request's, or was changed on the way.
    pub fn finish(&self, answer: &Answer) -> Result<AuthenticityNumber, Mismatch> {
        let (asked, got) = (self.subject, answer.subject);
        if got.relay != asked.relay {
            return Err(Mismatch::Relay { asked: asked.relay, got: got.relay });
        }
        if got.principal != asked.principal || got.role != asked.role {
            return Err(Mismatch::Principal { asked: asked.principal, got: got.principal });
        }
        if got.id != asked.id {
            return Err(Mismatch::Request { asked: asked.id, got: got.id });
        }
        let (number, confirmation) = combine(asked, &self.half, &answer.half);
        if confirmation.fits(&answer.confirmation) { Ok(number) } else { Err(Mismatch::Confirmation) }
    }
}

/// Why an answer does not belong to a request. Says nothing secret.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// Answers got mixed up, or another relay answered.
    #[error(
        "it is the answer of relay {got}, the request went to relay {asked}; put each answer under its relay's number"
    )]
    Relay {
        /// Whom the request is for.
        asked: PathId,
        /// Whom the answer is from.
        got: PathId,
    },
    /// An answer for somebody else, or for the other role.
    #[error(
        "it answers {got} or another role, the request is of {asked}; ask the relay's operator for the right answer"
    )]
    Principal {
        /// Who asked.
        asked: Principal,
        /// Who is answered.
        got: Principal,
    },
    /// An older answer.
    #[error("it answers request {got:?}, this one is {asked:?}; let the relay accept this request")]
    Request {
        /// The request at hand.
        asked: RequestId,
        /// The request that was answered.
        got: RequestId,
    },
    /// Something was changed: a half on the way, or the request after it was sent.
    #[error(
        "its confirmation does not fit: request or answer was changed on the way, or the answer is to another request; start anew with this relay"
    )]
    Confirmation,
}

#[cfg(test)]
mod tests;
