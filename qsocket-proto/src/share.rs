//! Secret sharing: 16 of 25 shares make the secret, 15 say nothing. `docs/protocol.md` 3.

mod field;
mod merkle;
#[cfg(test)]
mod tests;

pub use merkle::{DEPTH, Proof, Tree, verify};

use self::merkle::Verifier;
use crate::crypto::secret::Secret;
use crate::ids::{ConnectionId, PathId, PathSet, RELAYS, SIXTEEN};
use rand_core::CryptoRng;

/// Length of the secret and of every share in bytes.
pub const BYTES: usize = 32;

/// One share for each relay.
#[derive(Debug)]
pub struct Shares([Secret<BYTES>; RELAYS]);

impl Shares {
    /// The share that travels on `path`, and on no other.
    pub fn get(&self, path: PathId) -> &Secret<BYTES> {
        &self.0[path.index()]
    }

    /// Shares that no polynomial made.
    #[cfg(test)]
    pub(crate) fn from_list(shares: Vec<Secret<BYTES>>) -> Self {
        Self(shares.try_into().unwrap())
    }
}

/// Where path `i` evaluates the polynomials: at `i + 1`, because 0 holds the secret.
fn x(path: PathId) -> u8 {
    path.get() + 1
}

/// Cuts a secret into 25 shares. `docs/protocol.md` 3.2.
///
/// Each byte has its own polynomial of degree 15 whose other coefficients are uniform, zero included: a top
/// coefficient that is never zero would let 15 shares exclude one value of the secret. Draws 15 times 32 bytes, at once.
pub fn split<R: CryptoRng + ?Sized>(secret: &Secret<BYTES>, rng: &mut R) -> Shares {
    let drawn = Secret::<{ (SIXTEEN - 1) * BYTES }>::random(rng);
    let (coefficients, _) = drawn.expose().as_chunks::<BYTES>();
    Shares(std::array::from_fn(|i| {
        let x = i as u8 + 1;
        Secret::build(|share| {
            for c in coefficients.iter().rev() {
                field::add(share, c);
                field::scale(share, x);
            }
            field::add(share, secret.expose());
        })
    }))
}

/// What arrived by one path under the header that 16 relays agree on.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// The relay, taken from the authenticated hop, never from the message.
    pub path: PathId,
    /// The share as the relay passed it on.
    pub share: &'a Secret<BYTES>,
    /// The share's way up the tree.
    pub proof: &'a Proof,
}

/// A secret recovered from its shares.
#[derive(Debug)]
pub struct Recovered {
    /// The secret.
    pub secret: Secret<BYTES>,
    /// The relays whose share does not belong to the root.
    pub liars: PathSet,
}

/// Why shares yield no secret.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecoverError {
    /// Fewer than 16 shares belong to the root. More may come.
    #[error("only {good} shares belong to the root; 16 are needed")]
    TooFew {
        /// How many do.
        good: usize,
        /// The relays whose share does not.
        liars: PathSet,
    },
    /// The client put shares under the root that lie on no common polynomial. No relay is at fault.
    #[error("the client's shares do not fit each other")]
    OffPolynomial,
    /// The secret is not the one the client committed to. No relay is at fault.
    #[error("the client's commitment does not fit its shares")]
    Commitment,
}

/// Recovers a secret from what the paths offered, and names the relays that lied. `docs/protocol.md` 3.5.
///
/// Only the first offer of a path counts. Shares that are off `root` are dropped and their relays named; 16 of the
/// others are interpolated, all others must fit the result, and `committed` must accept it. There is no search over
/// subsets: the work grows with the number of offers alone.
///
/// `committed` checks the header's commitment. A server that does not hold the Encryption key which the header
/// names cannot check it: it accepts any secret here and uses the result only to seal its refusal.
///
/// # Errors
///
/// See [`RecoverError`]. No error but [`RecoverError::TooFew`] can turn into success with further offers.
pub fn recover(
    root: &[u8; 32],
    id: ConnectionId,
    offered: &[Offered<'_>],
    committed: impl FnOnce(&Secret<BYTES>) -> bool,
) -> Result<Recovered, RecoverError> {
    let (mut seen, mut liars) = (PathSet::EMPTY, PathSet::EMPTY);
    let mut verifier = Verifier::new(root, id);
    let mut good = Vec::with_capacity(RELAYS);
    for offer in offered {
        if !seen.insert(offer.path) {
            continue;
        }
        if verifier.verify(offer.path, offer.share, offer.proof) {
            good.push((x(offer.path), offer.share));
        } else {
            liars.insert(offer.path);
        }
    }
    let Some((basis, others)) = good.split_first_chunk::<SIXTEEN>() else {
        return Err(RecoverError::TooFew { good: good.len(), liars });
    };
    for (x, share) in others {
        if !interpolate(basis, *x).ct_eq(share) {
            return Err(RecoverError::OffPolynomial);
        }
    }
    let secret = interpolate(basis, 0);
    if committed(&secret) { Ok(Recovered { secret, liars }) } else { Err(RecoverError::Commitment) }
}

/// The value at `at` of the polynomials through 16 points. Only the points' values are secret.
fn interpolate(points: &[(u8, &Secret<BYTES>); SIXTEEN], at: u8) -> Secret<BYTES> {
    Secret::build(|sum| {
        for (xj, share) in points {
            // Lagrange: the product of (at - xm) / (xj - xm); minus is XOR in this field.
            let (mut above, mut below) = (1, 1);
            for (xm, _) in points.iter().filter(|(xm, _)| xm != xj) {
                above = field::mul(above, at ^ xm);
                below = field::mul(below, xj ^ xm);
            }
            let weight = field::mul(above, field::invert(below));
            field::add_scaled(sum, share.expose(), weight);
        }
    })
}
