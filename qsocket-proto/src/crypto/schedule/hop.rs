//! The keys of a hop: from the authenticity number to the record keys. `docs/protocol.md` 2.7 and 2.8.

use super::{BadSecret, KeyAndIv, length};
use crate::crypto::hkdf::{Label, MAC_BYTES, MacKey, expand_label, extract};
use crate::crypto::secret::Secret;
use crate::crypto::sha256;
use crate::ids::{PathId, Principal, Role};
use rand_core::CryptoRng;

/// The salt of the import: no other use of an authenticity number extracts with it.
const IMPORT_SALT: &[u8] = b"qs1 import";

/// An authenticity number as a RAIDA key holds it, one for each relay: 128 or 256 bits.
///
/// It is only ever [imported](ImportedKey::new); no message is authenticated with the number itself.
#[derive(Debug)]
pub enum AuthenticityNumber {
    /// 16 bytes, the size of public RAIDA keys. Against Grover's algorithm about 64 bits remain.
    Bits128(Secret<16>),
    /// 32 bytes.
    Bits256(Secret<32>),
}

impl AuthenticityNumber {
    /// Takes the bytes of a key file.
    ///
    /// # Errors
    ///
    /// [`BadSecret`] unless there are 16 or 32 bytes, not all zero.
    pub fn new(bytes: &[u8]) -> Result<Self, BadSecret> {
        let (number, zero) = if let Some(array) = bytes.as_array::<16>() {
            let secret = Secret::build(|out| out.copy_from_slice(array));
            let zero = secret.is_zero();
            (Self::Bits128(secret), zero)
        } else if let Some(array) = bytes.as_array::<32>() {
            let secret = Secret::build(|out| out.copy_from_slice(array));
            let zero = secret.is_zero();
            (Self::Bits256(secret), zero)
        } else {
            return Err(BadSecret::Length { len: bytes.len(), expected: "16 or 32" });
        };
        if zero { Err(BadSecret::Zero) } else { Ok(number) }
    }

    /// The number's size in bits, for display: 128 or 256.
    pub fn bits(&self) -> u16 {
        match self {
            Self::Bits128(_) => 128,
            Self::Bits256(_) => 256,
        }
    }

    /// The bytes, for a key store.
    pub fn expose(&self) -> &[u8] {
        match self {
            Self::Bits128(secret) => secret.expose(),
            Self::Bits256(secret) => secret.expose(),
        }
    }
}

/// P: what a principal in one role shares with one relay.
///
/// Another principal, relay or role yields another key from the same number, so that a server's file does not
/// work in a client, roles cannot be swapped and a relay cannot pose as another one.
#[derive(Debug)]
pub struct ImportedKey(Secret<32>);

impl ImportedKey {
    /// Imports an authenticity number. `principal` holds the network.
    pub fn new(number: &AuthenticityNumber, principal: Principal, relay: PathId, role: Role) -> Self {
        let mut context = [0; Principal::BYTES + 2];
        context[..Principal::BYTES].copy_from_slice(&principal.to_bytes());
        context[Principal::BYTES] = relay.get();
        context[Principal::BYTES + 1] = role as u8;
        Self(expand_label(&extract(IMPORT_SALT, number.expose()), Label::Import, &context))
    }

    /// A key that nobody holds: a relay checks the binders of unknown principals against it, in the same time.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(Secret::random(rng))
    }

    /// The MAC of a HELLO over all of it that precedes the MAC.
    pub fn binder(&self, hello: &[u8]) -> [u8; MAC_BYTES] {
        self.binder_key().tag(&[hello])
    }

    /// Whether a HELLO's binder is that MAC; in constant time.
    pub fn verify_binder(&self, hello: &[u8], binder: &[u8; MAC_BYTES]) -> bool {
        self.binder_key().verify(&[hello], binder)
    }

    /// The key of the confirmation with which an enrolment ends (`docs/protocol.md` 16).
    pub(crate) fn confirmation_key(&self) -> MacKey {
        MacKey::new(expand_label(&self.0, Label::EnrolConfirm, b""))
    }

    /// The key of the receipts that the relay gives for posts to this principal (`docs/protocol.md` 18.4).
    pub fn receipt_key(&self) -> MacKey {
        MacKey::new(expand_label(&self.0, Label::PostReceipt, b""))
    }

    fn binder_key(&self) -> MacKey {
        MacKey::new(expand_label(&self.0, Label::HopBinder, b""))
    }

    /// The keys of one hop.
    pub fn hop(&self, transcript: HopTranscript) -> HopKeys {
        let hs = expand_label::<32, 32>(&self.0, Label::HopSecret, &transcript.0);
        let mac = |label| MacKey::new(expand_label(&hs, label, b""));
        let traffic = |label| TrafficSecret(expand_label(&hs, label, b""));
        HopKeys {
            initiator_finished: mac(Label::InitiatorFinished),
            responder_finished: mac(Label::ResponderFinished),
            initiator: traffic(Label::InitiatorTraffic),
            responder: traffic(Label::ResponderTraffic),
        }
    }
}

/// The hash of a HELLO with its binder and an ACCEPT without its MAC, whose key follows from this hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopTranscript([u8; 32]);

impl HopTranscript {
    /// Hashes both messages, each behind its length.
    pub fn of(hello: &[u8], accept: &[u8]) -> Self {
        Self(sha256(&[&length(hello), hello, &length(accept), accept]))
    }
}

/// All keys of one hop. The initiator is the side that dialled, whichever role it has.
#[derive(Debug)]
pub struct HopKeys {
    /// Makes the MAC in FINISH.
    pub initiator_finished: MacKey,
    /// Makes the MAC in ACCEPT.
    pub responder_finished: MacKey,
    /// Records from the side that dialled.
    pub initiator: TrafficSecret,
    /// Records from the side that answered.
    pub responder: TrafficSecret,
}

/// The secret of one direction of a hop, until its next rekey.
#[derive(Debug)]
pub struct TrafficSecret(Secret<32>);

impl TrafficSecret {
    /// The record key; nonces are [`Iv::xor_number`](crate::crypto::aead::Iv::xor_number) of the record's number.
    pub fn keys(&self) -> KeyAndIv {
        KeyAndIv::derive(&self.0, Label::Key, Label::Iv)
    }

    /// The secret after a rekey; this one is erased.
    #[must_use]
    pub fn next(self) -> Self {
        Self(expand_label(&self.0, Label::Update, b""))
    }

    /// The secret itself, for known answers.
    #[cfg(test)]
    pub(super) fn secret(&self) -> &Secret<32> {
        &self.0
    }
}

#[cfg(test)]
impl ImportedKey {
    /// The secret itself, for known answers.
    pub(super) fn secret(&self) -> &Secret<32> {
        &self.0
    }
}
