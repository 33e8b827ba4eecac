//! What the poster tells the receiver, and how the receiver knows that it is worth a fetch.

use super::header::hash;
use super::{MAX_POST_HEADER, PostHeader, Receipt, is_receipt};
use crate::codec::{Malformed, Reader, Write};
use crate::crypto::aead::TAG;
use crate::crypto::hkdf::{MAC_BYTES, MacKey};
use crate::crypto::schedule::{EncryptionKey, HeaderHash};
use crate::ids::{PathId, PathSet, Principal, RELAYS, SIXTEEN};
use std::borrow::Borrow;
use thiserror::Error;

/// Longest memo, in bytes.
pub const MAX_MEMO: usize = 1024;

/// Longest signal: header, receipts of all relays, and the longest memo.
pub const MAX_SIGNAL: usize = 2 + MAX_POST_HEADER + 4 + MAC_BYTES * RELAYS + 2 + MAX_MEMO + TAG;

const _: () =
    assert!(Principal::BYTES + MAX_SIGNAL <= crate::frame::MAX_CALL, "a relay passes it on in one call");

/// Fewer than sixteen relays gave a receipt.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{good} relays keep a share; 16 are needed")]
pub struct TooFewReceipts {
    /// How many did.
    pub good: usize,
}

/// Why a receiver does nothing about a signal.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SignalError {
    /// Not of the agreed form.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It names another receiver.
    #[error("the signal is for {0:?}")]
    NotForThis(Principal),
    /// Whoever sent it did not post what it says, or too few relays can be believed.
    #[error("{good} of its receipts are genuine; 16 are needed")]
    NotVouched {
        /// How many are.
        good: usize,
    },
}

/// Writes a signal from receipts by path.
pub(super) fn encode_signal(header: &[u8], receipts: &[Option<Receipt>; RELAYS], memo: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + header.len() + 4 + MAC_BYTES * RELAYS + 2 + memo.len());
    out.put_u16(header.len() as u16);
    out.put(header);
    let set = receipts.iter().enumerate().filter(|(_, r)| r.is_some()).fold(0, |set, (i, _)| set | 1 << i);
    out.put_u32(set);
    for receipt in receipts.iter().flatten() {
        out.put(receipt);
    }
    out.put_u16(memo.len() as u16);
    out.put(memo);
    out
}

/// A signal whose receipts show that sixteen relays keep a share of its key for this receiver.
///
/// A relay that the receiver shares a number with makes a receipt only for a share that it took from the poster that
/// the header names. So whoever has sixteen of them has an account with the relays, used its quota there, and has
/// done more work than the check costs: 25 MACs and no message. A signal that was recorded and is said again leads to
/// the same key once more, and to nothing new.
#[derive(Clone, Debug)]
pub struct Signal {
    pub(super) header: PostHeader,
    pub(super) encoded: Vec<u8>,
    pub(super) vouching: PathSet,
    pub(super) memo: Vec<u8>,
}

impl Signal {
    /// Reads a signal for `receiver` and checks its receipts, each under the relay's key for receipts with the
    /// receiver.
    ///
    /// # Errors
    /// [`SignalError`]; nothing is to be done about such a signal.
    pub fn verify<K: Borrow<MacKey>>(
        bytes: &[u8],
        receiver: Principal,
        key: impl Fn(PathId) -> K,
    ) -> Result<Self, SignalError> {
        let mut r = Reader::new(bytes);
        let encoded = r.vec16(MAX_POST_HEADER, "post header")?;
        let header = PostHeader::decode(encoded)?;
        let set = r.u32("relays")?;
        if set >> RELAYS != 0 {
            return Err(Malformed::Value("relays").into());
        }
        let claimed: Vec<_> = PathId::all().filter(|p| set >> p.get() & 1 == 1).collect();
        let (receipts, _) = r.bytes(claimed.len() * MAC_BYTES, "receipts")?.as_chunks::<MAC_BYTES>();
        let memo = r.vec16(MAX_MEMO + TAG, "memo")?;
        if memo.len() < TAG {
            return Err(Malformed::Short("memo").into());
        }
        r.finish()?;
        if header.receiver != receiver {
            return Err(SignalError::NotForThis(header.receiver));
        }
        if claimed.len() < SIXTEEN {
            return Err(SignalError::NotVouched { good: claimed.len() });
        }
        let genuine = claimed
            .iter()
            .zip(receipts)
            .filter(|(path, receipt)| is_receipt(key(**path).borrow(), encoded, receipt));
        let vouching: PathSet = genuine.map(|(path, _)| *path).collect();
        if vouching.len() < SIXTEEN {
            return Err(SignalError::NotVouched { good: vouching.len() });
        }
        Ok(Self { encoded: encoded.to_vec(), memo: memo.to_vec(), header, vouching })
    }

    /// What was posted, as the relays vouch for it.
    pub fn header(&self) -> &PostHeader {
        &self.header
    }

    /// The relays whose receipt is genuine.
    pub fn vouching(&self) -> PathSet {
        self.vouching
    }

    pub(super) fn hash(&self) -> HeaderHash {
        hash(&self.encoded)
    }

    /// Says again that the key is kept: what [`Fetched::confirmation`](super::Fetched::confirmation) said, from the
    /// key itself, for a poster that did not hear it.
    pub fn confirmation(&self, key: &EncryptionKey) -> [u8; MAC_BYTES] {
        let hh = self.hash();
        key.confirmation_key(hh).tag(&[hh.as_bytes()])
    }
}
