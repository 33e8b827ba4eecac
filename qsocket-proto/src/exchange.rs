//! RAIDA Key Exchange: a key for two principals that outlives every connection. `docs/protocol.md`, section 18.
//!
//! The *poster*, a client, draws a secret, shares it out and leaves one share with each relay ([`Post`]). Each relay
//! gives a receipt that only it and the *receiver*, a server, can make. The poster shows the receipts in a [`Signal`];
//! the receiver checks them before it does anything else, collects the shares ([`Fetch`]), and confirms. Both then
//! hold the same Encryption key, which no relay knows.
//!
//! Nothing here does I/O. What a relay checks before it keeps a share is [`admit`].

mod fetch;
mod header;
mod post;
mod signal;
#[cfg(test)]
mod tests;

pub use fetch::{Fetch, FetchError, FetchId, Fetched, GET_BYTES, Get};
pub use header::{MAX_POST_HEADER, MAX_TTL, MIN_TTL, PostHeader};
pub use post::{Admitted, Post, PostTerms, admit};
pub use signal::{MAX_MEMO, MAX_SIGNAL, Signal, SignalError, TooFewReceipts};

use crate::crypto::hkdf::{MAC_BYTES, MacKey};
use crate::crypto::sha256;

/// What a relay gives for a share that it keeps: a MAC over the header that only it and the receiver can make.
pub type Receipt = [u8; MAC_BYTES];

/// The receipt for the post of `header`, under [`receipt_key`] of the receiver and the relay.
///
/// [`receipt_key`]: crate::crypto::schedule::hop::ImportedKey::receipt_key
pub fn receipt(key: &MacKey, header: &[u8]) -> Receipt {
    key.tag(&[&sha256(&[header])])
}

/// Whether that is the receipt; in constant time.
fn is_receipt(key: &MacKey, header: &[u8], receipt: &Receipt) -> bool {
    key.verify(&[&sha256(&[header])], receipt)
}
