//! The receiver's side: the shares that a signal speaks of, and the key that they make.

use super::Signal;
use super::post::read;
use crate::codec::{Malformed, Reader, Write};
use crate::crypto::aead::TAG;
use crate::crypto::hkdf::MAC_BYTES;
use crate::crypto::schedule::{EncryptionKey, Root};
use crate::crypto::secret::Secret;
use crate::frame::Proof;
use crate::ids::{ConnectionId, KeyId, PathId, PathSet, Principal, RELAYS, SIXTEEN};
use crate::share::{self, Offered, RecoverError};
use rand_core::CryptoRng;
use std::fmt;
use thiserror::Error;

/// Length of a [`Get`] on the wire.
pub const GET_BYTES: usize = Principal::BYTES + 16 + 16;

/// Names one fetch of a receiver. A relay gives a share to one fetch alone, and to it as often as it asks: an answer
/// may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchId(pub [u8; 16]);

/// The request of GetKey and of ReleaseKey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Get {
    /// Who posted.
    pub poster: Principal,
    /// Which key.
    pub key: KeyId,
    /// On behalf of which fetch.
    pub fetch: FetchId,
}

impl Get {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(GET_BYTES);
        self.poster.encode(&mut out);
        out.put(&self.key.0);
        out.put(&self.fetch.0);
        out
    }

    /// Reads the wire form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let poster = Principal::decode(&mut r)?;
        let get = Self { poster, key: KeyId(r.array("key id")?), fetch: FetchId(r.array("fetch id")?) };
        r.finish()?;
        Ok(get)
    }
}

/// Why a fetch yields no key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FetchError {
    /// Fewer than sixteen shares are there and belong to the header.
    #[error("{good} shares are there and belong to the header; 16 are needed")]
    TooFew {
        /// How many are.
        good: usize,
        /// Relays that vouched for the header and then brought something else: they lie.
        liars: PathSet,
    },
    /// Shares, commitment and memo do not fit each other. The poster made it so; no relay is at fault.
    #[error("the poster's shares, commitment and memo do not fit each other")]
    PosterCheated,
}

/// The key of an exchange, at the receiver.
#[derive(Debug)]
pub struct Fetched {
    /// To be kept for good before the confirmation goes out.
    pub key: EncryptionKey,
    /// What the poster wrote for the receiver's eyes.
    pub memo: Vec<u8>,
    /// Relays that vouched for the header and then brought something else: they lie.
    pub liars: PathSet,
    /// The answer to the signal, which makes the poster use the key.
    pub confirmation: [u8; MAC_BYTES],
}

/// One fetch: answers of relays come in, a key comes out.
///
/// # Security
/// The shares are held until [`finish`](Self::finish) and erased with it.
pub struct Fetch {
    signal: Signal,
    id: FetchId,
    shares: [Option<(Secret<{ share::BYTES }>, Proof)>; RELAYS],
    good: PathSet,
    liars: PathSet,
    answered: PathSet,
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (header, good, liars) = (&self.signal.header, &self.good, &self.liars);
        f.debug_struct("Fetch")
            .field("header", header)
            .field("good", good)
            .field("liars", liars)
            .finish_non_exhaustive()
    }
}

impl Fetch {
    /// Begins the fetch of what a signal speaks of.
    pub fn new<R: CryptoRng + ?Sized>(signal: Signal, rng: &mut R) -> Self {
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let none = PathSet::EMPTY;
        let shares = std::array::from_fn(|_| None);
        Self { signal, id: FetchId(id), shares, good: none, liars: none, answered: none }
    }

    /// What is fetched.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// The relays to ask: those that vouched. Another one may hold a share and is not needed.
    pub fn ask(&self) -> PathSet {
        self.signal.vouching
    }

    /// The request for each of them; the same for GetKey and, when the key is kept, for ReleaseKey.
    pub fn request(&self) -> Vec<u8> {
        let header = &self.signal.header;
        Get { poster: header.poster, key: header.key, fetch: self.id }.encode()
    }

    /// Takes what a relay gave, or `None` if it gave nothing. Only its first answer counts.
    pub fn handle(&mut self, path: PathId, entry: Option<&[u8]>) {
        if !self.signal.vouching.contains(path) || !self.answered.insert(path) {
            return;
        }
        let Some(entry) = entry else { return };
        match read(entry) {
            Ok((header, encoded, share, proof))
                if encoded == self.signal.encoded
                    && share::verify(&header.root, ConnectionId(header.key.0), path, &share, proof) =>
            {
                self.good.insert(path);
                self.shares[path.index()] = Some((share, *proof));
            }
            // It vouched for this header, and checked the share against it, or says so.
            _ => _ = self.liars.insert(path),
        }
    }

    /// Shares at hand that belong to the header.
    pub fn good(&self) -> usize {
        self.good.len()
    }

    /// Whether there is a key to be made: [`finish`](Self::finish) now, or wait a little to know all who lie.
    pub fn is_enough(&self) -> bool {
        self.good.len() >= SIXTEEN
    }

    /// Whether every relay that was to be asked has answered.
    pub fn is_over(&self) -> bool {
        self.answered == self.signal.vouching
    }

    /// Makes the key.
    ///
    /// # Errors
    /// [`FetchError`]. After [`FetchError::TooFew`] a later fetch may succeed: relays give shares to this fetch id
    /// alone, so it goes on with the same [`Fetch`] as long as there is one.
    pub fn finish(&self) -> Result<Fetched, FetchError> {
        let header = &self.signal.header;
        let offered: Vec<_> = PathId::all()
            .zip(&self.shares)
            .filter_map(|(path, at)| at.as_ref().map(|(share, proof)| Offered { path, share, proof }))
            .collect();
        let hh = self.signal.hash();
        let mut early = None;
        let recovered = share::recover(&header.root, ConnectionId(header.key.0), &offered, |secret| {
            let e0 = Root::recovered(Secret::build(|out| out.copy_from_slice(secret.expose()))).early(hh);
            let fits = e0.mix(None).verify_commitment(&header.commitment);
            early = Some(e0);
            fits
        });
        let (Ok(_), Some(early)) = (&recovered, early) else {
            return Err(match recovered {
                Err(RecoverError::TooFew { good, .. }) => FetchError::TooFew { good, liars: self.liars },
                _ => FetchError::PosterCheated,
            });
        };
        let key = early.stored(header.poster, header.receiver, header.key);
        let memo = self.open_memo(&key).ok_or(FetchError::PosterCheated)?;
        let confirmation = self.signal.confirmation(&key);
        Ok(Fetched { key, memo, liars: self.liars, confirmation })
    }

    fn open_memo(&self, key: &EncryptionKey) -> Option<Vec<u8>> {
        let hh = self.signal.hash();
        let keys = key.memo_key(hh);
        let (sealed, tag) = self.signal.memo.split_last_chunk::<TAG>()?;
        let mut memo = sealed.to_vec();
        keys.key.open_in_place(keys.iv.xor_number(0), hh.as_bytes(), &mut memo, tag).ok()?;
        Some(memo)
    }
}
