//! The tree that lets a relay and a server see whether a share is the one the client made. `docs/protocol.md` 3.3.
//!
//! Plain Shamir sharing survives only four liars among 25, and finding them means trying subsets. With the root
//! inside the header that 16 relays agree on, each share proves itself.

use super::{BYTES, Shares};
use crate::crypto::secret::Secret;
use crate::crypto::sha256;
use crate::ids::{ConnectionId, PathId, RELAYS};

/// Hashes between a leaf and the root.
pub const DEPTH: usize = 5;

const LEAVES: usize = 1 << DEPTH;

/// The siblings on the way from a share's leaf to the root, the leaf's first.
pub type Proof = [[u8; 32]; DEPTH];

/// The Merkle tree over the 25 shares of one secret.
#[derive(Debug)]
pub struct Tree {
    /// Node 1 is the root and the children of node `n` are `2n` and `2n + 1`; node 0 is unused.
    nodes: [[u8; 32]; 2 * LEAVES],
}

impl Tree {
    /// Hashes the shares of the connection `id`.
    pub fn new(id: ConnectionId, shares: &Shares) -> Self {
        let mut nodes = [[0; 32]; 2 * LEAVES];
        for path in PathId::all() {
            nodes[LEAVES + path.index()] = leaf(id, path, shares.get(path));
        }
        for n in (1..LEAVES).rev() {
            nodes[n] = node(&nodes[2 * n], &nodes[2 * n + 1]);
        }
        Self { nodes }
    }

    /// The root, which the header carries.
    pub fn root(&self) -> [u8; 32] {
        self.nodes[1]
    }

    /// The proof that goes with the share of `path`.
    pub fn proof(&self, path: PathId) -> Proof {
        let leaf = LEAVES + path.index();
        std::array::from_fn(|level| self.nodes[(leaf >> level) ^ 1])
    }
}

const _: () = assert!(RELAYS <= LEAVES, "every share has a leaf");

/// Whether `share` is the one that the tree with this root holds for `path`.
///
/// Which side each hash stands on follows from the path's number, so that a proof fits one path only.
pub fn verify(root: &[u8; 32], id: ConnectionId, path: PathId, share: &Secret<BYTES>, proof: &Proof) -> bool {
    Verifier::new(root, id).verify(path, share, proof)
}

/// Checks shares of one tree, and hashes once what their proofs have in common.
#[derive(Debug)]
pub(super) struct Verifier {
    id: ConnectionId,
    /// As in [`Tree`]: what is known to be under the root. With a node its sibling, and all above both, are known too.
    nodes: [Option<[u8; 32]>; 2 * LEAVES],
}

impl Verifier {
    pub(super) fn new(root: &[u8; 32], id: ConnectionId) -> Self {
        let mut nodes = [None; 2 * LEAVES];
        nodes[1] = Some(*root);
        Self { id, nodes }
    }

    /// As [`verify`]; every hash of the proof has to be the tree's.
    pub(super) fn verify(&mut self, path: PathId, share: &Secret<BYTES>, proof: &Proof) -> bool {
        let leaf_at = LEAVES + path.index();
        let mut own = [[0; 32]; DEPTH];
        let mut hash = leaf(self.id, path, share);
        let mut unknown = 0;
        // Neither side is secret: a share is 32 uniform bytes, so its hash says nothing about it.
        for (level, (own, sibling)) in own.iter_mut().zip(proof).enumerate() {
            if self.nodes[leaf_at >> level].is_some() {
                break;
            }
            *own = hash;
            let right = leaf_at >> level & 1 == 1;
            hash = if right { node(sibling, &hash) } else { node(&hash, sibling) };
            unknown = level + 1;
        }
        let is = |at: usize, hash: &[u8; 32]| self.nodes[at].is_some_and(|known| known == *hash);
        let above = proof.iter().enumerate().skip(unknown);
        if !is(leaf_at >> unknown, &hash)
            || !above.into_iter().all(|(l, sibling)| is(leaf_at >> l ^ 1, sibling))
        {
            return false;
        }
        for (level, (own, sibling)) in own.iter().zip(proof).enumerate().take(unknown) {
            self.nodes[leaf_at >> level] = Some(*own);
            self.nodes[leaf_at >> level ^ 1] = Some(*sibling);
        }
        true
    }
}

fn leaf(id: ConnectionId, path: PathId, share: &Secret<BYTES>) -> [u8; 32] {
    sha256(&[&[0], b"qs share", &id.0, &[path.get()], share.expose()])
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1], left, right])
}
