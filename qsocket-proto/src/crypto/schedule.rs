//! The key schedule of a connection: from one shared root to every key. `docs/protocol.md` 2.9 to 2.12.
//!
//! Each stage is a type of its own and the next stage consumes it, so that the compiler keeps the order and a
//! secret is erased as soon as nothing more is to be derived from it:
//!
//! ```text
//! Root (K) -> Early (E0) -> Keyed (E1) -> Master (M) -> PhaseSecret (1, 2, ...)
//! ```

pub mod hop;
#[cfg(test)]
mod tests;

use super::aead::{Iv, Key};
use super::hkdf::{Label, MacKey, expand_label, extract};
use super::secret::Secret;
use super::sha256;
use crate::ids::{KeyId, Principal};
use rand_core::CryptoRng;

/// Length of the nonces that client, server and relays draw, in bytes.
pub const NONCE_BYTES: usize = 32;

/// HH: the hash of an OPEN header with its commitment zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderHash([u8; 32]);

impl HeaderHash {
    /// Hashes a header given as the bytes before and after its 32 bytes of commitment.
    pub fn of(before: &[u8], after: &[u8]) -> Self {
        Self(sha256(&[before, &[0; 32], after]))
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// TH: the hash of all that client and server said before phase 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TranscriptHash([u8; 32]);

impl TranscriptHash {
    /// Hashes header, hello block, server nonce and the reply's plaintext; what varies in length carries it.
    pub fn of(header: &[u8], hello: &[u8], server_nonce: &[u8; NONCE_BYTES], reply: &[u8]) -> Self {
        Self(sha256(&[&length(header), header, &length(hello), hello, server_nonce, &length(reply), reply]))
    }
}

fn length(bytes: &[u8]) -> [u8; 8] {
    (bytes.len() as u64).to_be_bytes()
}

/// Why bytes cannot serve as a long-term secret.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadSecret {
    /// Neither too short nor too long is acceptable: both come from a damaged or foreign file.
    #[error("the secret has {len} bytes; it must have {expected}")]
    Length {
        /// What was given.
        len: usize,
        /// What is accepted.
        expected: &'static str,
    },
    /// Every byte is zero: the secret was never set.
    #[error("the secret is all zeros: generate a random one")]
    Zero,
}

/// A 256-bit secret that two principals share. With it, all 25 relays together cannot compute a key.
#[derive(Debug)]
pub struct EncryptionKey(Secret<32>);

impl EncryptionKey {
    /// Imports the bytes of a key file.
    ///
    /// # Errors
    ///
    /// [`BadSecret`] unless there are 32 bytes, not all zero: zeros stand for "no key" in the schedule.
    pub fn import(bytes: &[u8]) -> Result<Self, BadSecret> {
        let Some(array) = bytes.as_array::<32>() else {
            return Err(BadSecret::Length { len: bytes.len(), expected: "32" });
        };
        let secret = Secret::build(|out| out.copy_from_slice(array));
        if secret.is_zero() { Err(BadSecret::Zero) } else { Ok(Self(secret)) }
    }

    /// The bytes, for a key store.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The key of the memo of the exchange that this key comes from: it seals message number 0, once.
    pub(crate) fn memo_key(&self, hh: HeaderHash) -> KeyAndIv {
        KeyAndIv::derive(&expand_label(&self.0, Label::StoredMemo, &hh.0), Label::Key, Label::Iv)
    }

    /// What the receiver of that exchange says when it keeps the key, and nobody else can.
    pub(crate) fn confirmation_key(&self, hh: HeaderHash) -> MacKey {
        MacKey::new(expand_label(&self.0, Label::StoredDone, &hh.0))
    }
}

/// A sealing key with its iv.
#[derive(Debug)]
pub struct KeyAndIv {
    /// Seals and opens.
    pub key: Key,
    /// The fixed part of the nonces.
    pub iv: Iv,
}

impl KeyAndIv {
    fn derive(secret: &Secret<32>, key: Label, iv: Label) -> Self {
        Self { key: Key::new(&expand_label(secret, key, b"")), iv: Iv::new(expand_label(secret, iv, b"")) }
    }
}

/// K: the secret that the client draws for one attempt and shares among the relays. It keys nothing itself.
#[derive(Debug)]
pub struct Root(Secret<32>);

impl Root {
    /// Draws K. Every attempt takes a fresh one, a retry too: K under two headers would be two polynomials.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(Secret::random(rng))
    }

    /// Takes K as the server recovered it.
    pub fn recovered(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// K, for [`split`](crate::share::split): the Merkle root must be known before the header's hash is.
    pub fn secret(&self) -> &Secret<32> {
        &self.0
    }

    /// E0: K bound to the header.
    pub fn early(self, hh: HeaderHash) -> Early {
        Early { e0: extract(&hh.0, self.0.expose()), hh }
    }
}

/// E0: known to client and server before either knows whether the other holds the Encryption key.
#[derive(Debug)]
pub struct Early {
    e0: Secret<32>,
    hh: HeaderHash,
}

impl Early {
    /// The key of the one message that refuses an unknown Encryption-key id: it seals message number 0, once.
    pub fn refuse_key(&self, server_nonce: &[u8; NONCE_BYTES]) -> KeyAndIv {
        one_message(&self.e0, Label::ServerRefuse, self.hh, server_nonce)
    }

    /// E1: with the Encryption key of the two principals, or without one.
    ///
    /// E0 stays with the caller for as long as a refusal under it may come or go.
    pub fn mix(&self, key: Option<&EncryptionKey>) -> Keyed {
        Keyed { e1: mix(&self.e0, key.map(|k| &k.0)), hh: self.hh }
    }

    /// The Encryption key that a stored exchange yields to both principals.
    pub fn stored(self, poster: Principal, receiver: Principal, id: KeyId) -> EncryptionKey {
        let mut context = [0; 2 * Principal::BYTES + 16];
        context[..Principal::BYTES].copy_from_slice(&poster.to_bytes());
        context[Principal::BYTES..2 * Principal::BYTES].copy_from_slice(&receiver.to_bytes());
        context[2 * Principal::BYTES..].copy_from_slice(&id.0);
        EncryptionKey(expand_label(&self.e0, Label::Stored, &context))
    }
}

/// The next Extract: salted by what came before. It always runs, with zeros for a secret that is not there, so
/// that leaving a secret out cannot shorten the chain.
fn mix(before: &Secret<32>, input: Option<&Secret<32>>) -> Secret<32> {
    let salt = expand_label::<32, 0>(before, Label::Derived, b"");
    let input = input.map_or(&[0; 32], Secret::expose);
    extract(salt.expose(), input)
}

fn one_message(secret: &Secret<32>, label: Label, hh: HeaderHash, nonce: &[u8; NONCE_BYTES]) -> KeyAndIv {
    let mut context = [0; 32 + NONCE_BYTES];
    context[..32].copy_from_slice(&hh.0);
    context[32..].copy_from_slice(nonce);
    KeyAndIv::derive(&expand_label(secret, label, &context), Label::Key, Label::Iv)
}

/// E1: with the Encryption key mixed in, and without forward secrecy yet.
#[derive(Debug)]
pub struct Keyed {
    e1: Secret<32>,
    hh: HeaderHash,
}

impl Keyed {
    /// What the client writes into the header: proof that whoever recovers K recovers this K, under this header
    /// and with the same Encryption key.
    pub fn commitment(&self) -> [u8; 32] {
        self.commit_key().tag(&[&self.hh.0])
    }

    /// Whether a header's commitment is this one; in constant time.
    pub fn verify_commitment(&self, commitment: &[u8; 32]) -> bool {
        self.commit_key().verify(&[&self.hh.0], commitment)
    }

    fn commit_key(&self) -> MacKey {
        MacKey::new(expand_label(&self.e1, Label::Commit, b""))
    }

    /// The client's phase 0, which seals the hello block and nothing else. No phase follows from it.
    pub fn client_zero(&self) -> PhaseKeys {
        PhaseKeys::derive(0, &expand_label(&self.e1, Label::ClientZero, &self.hh.0))
    }

    /// The key of the server's reply: it seals message number 0, once. The server nonce is drawn once per accept.
    pub fn reply_key(&self, server_nonce: &[u8; NONCE_BYTES]) -> KeyAndIv {
        one_message(&self.e1, Label::ServerReply, self.hh, server_nonce)
    }

    /// M: with the ML-KEM secret, or without one and then without forward secrecy.
    pub fn master(self, kem: Option<&Secret<32>>) -> Master {
        Master(mix(&self.e1, kem))
    }
}

/// M: the secret of all application data.
#[derive(Debug)]
pub struct Master(Secret<32>);

impl Master {
    /// Phase 1 of both directions.
    pub fn phase_one(self, th: TranscriptHash) -> PhaseOne {
        let first = |label| PhaseSecret { number: 1, secret: expand_label(&self.0, label, &th.0) };
        PhaseOne { client: first(Label::ClientPhase), server: first(Label::ServerPhase) }
    }
}

/// The first secrets of both directions.
#[derive(Debug)]
pub struct PhaseOne {
    /// What the client seals under.
    pub client: PhaseSecret,
    /// What the server seals under.
    pub server: PhaseSecret,
}

/// The secret of one phase of one direction.
#[derive(Debug)]
pub struct PhaseSecret {
    number: u32,
    secret: Secret<32>,
}

impl PhaseSecret {
    /// Which phase, counted from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The keys of this phase.
    pub fn keys(&self) -> PhaseKeys {
        PhaseKeys::derive(self.number, &self.secret)
    }

    /// The next phase; this secret is erased. `None` when all 2^32 numbers are used.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let number = self.number.checked_add(1)?;
        Some(Self { number, secret: expand_label(&self.secret, Label::Update, b"") })
    }
}

/// The keys of one phase of one direction.
#[derive(Debug)]
pub struct PhaseKeys {
    /// Which phase; 0 is the client's hello.
    pub phase: u32,
    /// Seals stripes, with [`Iv::xor_stripe`].
    pub stripe: KeyAndIv,
    /// Seals control frames, with [`Iv::xor_number`].
    pub control: KeyAndIv,
}

impl PhaseKeys {
    fn derive(phase: u32, secret: &Secret<32>) -> Self {
        Self {
            phase,
            stripe: KeyAndIv::derive(secret, Label::StripeKey, Label::StripeIv),
            control: KeyAndIv::derive(secret, Label::ControlKey, Label::ControlIv),
        }
    }
}
