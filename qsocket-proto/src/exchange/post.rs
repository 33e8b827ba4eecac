//! The poster's side: a secret, its shares, and what becomes of them at the relays.

use super::header::hash;
use super::signal::{MAX_MEMO, TooFewReceipts, encode_signal};
use super::{MAX_POST_HEADER, MAX_TTL, MIN_TTL, PostHeader, Receipt};
use crate::call::Status;
use crate::codec::{Malformed, Reader, Write};
use crate::crypto::schedule::{EncryptionKey, HeaderHash, Root};
use crate::crypto::secret::Secret;
use crate::frame::{PROOF_LEN, Proof};
use crate::ids::{ConnectionId, KeyId, PathId, PathSet, Principal, RELAYS, SIXTEEN};
use crate::share::{self, Shares, Tree};
use rand_core::CryptoRng;
use std::fmt;
use zeroize::Zeroizing;

/// What a poster chooses.
#[derive(Clone, Copy, Debug)]
pub struct PostTerms {
    /// Who posts.
    pub poster: Principal,
    /// For whom.
    pub receiver: Principal,
    /// Seconds for which relays keep the shares; brought into [`MIN_TTL`] to [`MAX_TTL`].
    pub ttl: u32,
    /// Seconds for which the key is valid; 0 for no end.
    pub lifetime: u32,
    /// Hash over the poster's list of relays.
    pub relay_set: [u8; 32],
}

/// A key on its way to its receiver: the poster's side of one exchange.
///
/// [`body`](Self::body) goes to each relay, what comes back goes to [`handle`](Self::handle); with sixteen receipts
/// there is a [`signal`](Self::signal) for the receiver. The key may be used when the receiver's answer is
/// [`is_confirmation`](Self::is_confirmation), not before.
pub struct Post {
    header: PostHeader,
    encoded: Vec<u8>,
    hh: HeaderHash,
    shares: Shares,
    tree: Tree,
    key: EncryptionKey,
    memo: Vec<u8>,
    receipts: [Option<Receipt>; RELAYS],
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("header", &self.header)
            .field("taken", &self.taken())
            .finish_non_exhaustive()
    }
}

impl Post {
    /// Draws a key with its id and shares it out. `memo` is for the receiver's eyes; what is longer than [`MAX_MEMO`]
    /// is cut.
    pub fn new<R: CryptoRng + ?Sized>(terms: PostTerms, memo: &[u8], rng: &mut R) -> Self {
        let (mut id, mut nonce) = ([0; 16], [0; 32]);
        rng.fill_bytes(&mut id);
        rng.fill_bytes(&mut nonce);
        let root = Root::random(rng);
        let shares = share::split(root.secret(), rng);
        let tree = Tree::new(ConnectionId(id), &shares);
        let mut header = PostHeader {
            poster: terms.poster,
            receiver: terms.receiver,
            key: KeyId(id),
            nonce,
            ttl: terms.ttl.clamp(MIN_TTL, MAX_TTL),
            lifetime: terms.lifetime,
            relay_set: terms.relay_set,
            root: tree.root(),
            commitment: [0; 32],
        };
        let hh = hash(&header.encode());
        let early = root.early(hh);
        header.commitment = early.mix(None).commitment();
        let key = early.stored(header.poster, header.receiver, header.key);
        let memo = seal_memo(&key, hh, &memo[..memo.len().min(MAX_MEMO)]);
        Self { encoded: header.encode(), header, hh, shares, tree, key, memo, receipts: [None; RELAYS] }
    }

    /// What the relays and the receiver read.
    pub fn header(&self) -> &PostHeader {
        &self.header
    }

    /// The request of [`Service::PostKey`](crate::call::Service::PostKey) for one relay, and no other.
    ///
    /// # Security
    /// It holds this relay's share.
    pub fn body(&self, path: PathId) -> Zeroizing<Vec<u8>> {
        // With its whole room at once: a vector that grows leaves copies.
        let mut out = Zeroizing::new(Vec::with_capacity(MAX_POST_BODY));
        out.put_u16(self.encoded.len() as u16);
        out.put(&self.encoded);
        out.put(self.shares.get(path).expose());
        out.put(self.tree.proof(path).as_flattened());
        out
    }

    /// Takes the receipt of a relay that keeps its share.
    ///
    /// # Errors
    /// [`Malformed`] unless it has the form of one; whether it is genuine only the receiver can tell.
    pub fn handle(&mut self, path: PathId, answer: &[u8]) -> Result<(), Malformed> {
        let mut r = Reader::new(answer);
        let receipt = r.array("receipt")?;
        r.finish()?;
        self.receipts[path.index()] = Some(receipt);
        Ok(())
    }

    /// The relays that gave a receipt.
    pub fn taken(&self) -> PathSet {
        PathId::all().filter(|p| self.receipts[p.index()].is_some()).collect()
    }

    /// What the receiver is told.
    ///
    /// # Errors
    /// [`TooFewReceipts`] below sixteen: the receiver would not look at it.
    pub fn signal(&self) -> Result<Vec<u8>, TooFewReceipts> {
        match self.taken().len() {
            good if good < SIXTEEN => Err(TooFewReceipts { good }),
            _ => Ok(encode_signal(&self.encoded, &self.receipts, &self.memo)),
        }
    }

    /// Whether this is the word of the receiver that it keeps the key. Nobody else can say it; in constant time.
    pub fn is_confirmation(&self, answer: &[u8]) -> bool {
        let key = self.key.confirmation_key(self.hh);
        answer.as_array::<32>().is_some_and(|tag| key.verify(&[self.hh.as_bytes()], tag))
    }

    /// The key. Not before the receiver confirmed it: it would be one that only this side has.
    pub fn into_key(self) -> (KeyId, EncryptionKey) {
        (self.header.key, self.key)
    }
}

#[cfg(test)]
impl Post {
    /// Puts other shares under the root: what a poster that cheats does.
    pub(super) fn replace_shares(&mut self, shares: Vec<Secret<{ share::BYTES }>>) {
        self.shares = Shares::from_list(shares);
        self.tree = Tree::new(ConnectionId(self.header.key.0), &self.shares);
        self.header.root = self.tree.root();
        self.encoded = self.header.encode();
    }

    /// Commits to something else.
    pub(super) fn set_commitment(&mut self, commitment: [u8; 32]) {
        self.header.commitment = commitment;
        self.encoded = self.header.encode();
    }
}

/// Longest request of [`Post::body`]: far below what a call holds.
const MAX_POST_BODY: usize = 2 + MAX_POST_HEADER + share::BYTES + 32 * PROOF_LEN;

fn seal_memo(key: &EncryptionKey, hh: HeaderHash, memo: &[u8]) -> Vec<u8> {
    let keys = key.memo_key(hh);
    let mut sealed = memo.to_vec();
    let tag = keys.key.seal_in_place(keys.iv.xor_number(0), hh.as_bytes(), &mut sealed);
    sealed.extend_from_slice(&tag);
    sealed
}

/// A post that a relay may keep.
#[derive(Debug)]
pub struct Admitted<'a> {
    /// Its header.
    pub header: PostHeader,
    /// The same as it came: what the receipt is for, and what the receiver gets.
    pub encoded: &'a [u8],
    /// What the receiver gets in answer to a get: header, share and proof, as they came.
    pub entry: &'a [u8],
}

/// What a relay checks of a post before it keeps it: who it is from, and that the share belongs to the header.
///
/// Whether the relay knows the receiver, has room, and has no other post of that name is its store's to say.
///
/// # Errors
/// The status to answer with.
pub fn admit<'a>(body: &'a [u8], caller: Principal, relay: PathId) -> Result<Admitted<'a>, Status> {
    let (header, encoded, share, proof) = read(body).map_err(|_| Status::Malformed)?;
    if header.poster != caller {
        return Err(Status::NotPermitted);
    }
    if !share::verify(&header.root, ConnectionId(header.key.0), relay, &share, proof) {
        return Err(Status::Malformed);
    }
    Ok(Admitted { header, encoded, entry: body })
}

/// Header, share and proof of a post, as it is sent, kept and given out.
pub(super) fn read(body: &[u8]) -> Result<(PostHeader, &[u8], Secret<{ share::BYTES }>, &Proof), Malformed> {
    let mut r = Reader::new(body);
    let encoded = r.vec16(MAX_POST_HEADER, "post header")?;
    let header = PostHeader::decode(encoded)?;
    let share: &[u8; share::BYTES] =
        r.bytes(share::BYTES, "share")?.first_chunk().ok_or(Malformed::Short("share"))?;
    let (hashes, _) = r.bytes(32 * PROOF_LEN, "proof")?.as_chunks::<32>();
    let proof = hashes.first_chunk().ok_or(Malformed::Short("proof"))?;
    r.finish()?;
    Ok((header, encoded, Secret::build(|out| out.copy_from_slice(share)), proof))
}
