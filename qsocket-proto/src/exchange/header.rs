//! The header of a post: byte for byte the same on all 25 relays.

use crate::codec::{Malformed, Reader, Write};
use crate::crypto::schedule::HeaderHash;
use crate::ids::{KeyId, Principal};

/// The version that this crate speaks.
const VERSION: u16 = 1;

/// That of a connection with another number, so that no header of one is a header of the other.
const SUITE: u8 = 0x11;

/// Longest encoded header; version 1 writes 169 bytes, the rest is room for later ones.
pub const MAX_POST_HEADER: usize = 256;

/// Shortest time to live, in seconds: what a signal and its fetch may take.
pub const MIN_TTL: u32 = 60;

/// Longest time to live, in seconds: a week, for a server that is away.
pub const MAX_TTL: u32 = 7 * 24 * 3600;

/// What a poster says about a key. It holds nothing secret, and everything in it enters the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostHeader {
    /// Who posts: a client. Each relay checks that it is the principal of the hop.
    pub poster: Principal,
    /// For whom: a server of the same network.
    pub receiver: Principal,
    /// Names the key at both.
    pub key: KeyId,
    /// Fresh for every post.
    pub nonce: [u8; 32],
    /// Seconds for which the relays keep the share, from when they take it: [`MIN_TTL`] to [`MAX_TTL`].
    pub ttl: u32,
    /// Seconds for which the key is valid, from when each side keeps it; 0 for no end.
    pub lifetime: u32,
    /// Hash over the poster's list of relays.
    pub relay_set: [u8; 32],
    /// Root of the Merkle tree over the 25 shares.
    pub root: [u8; 32],
    /// Commitment to the secret.
    pub commitment: [u8; 32],
}

impl PostHeader {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_POST_HEADER);
        out.put_u16(VERSION);
        out.put_u8(SUITE);
        self.poster.encode(&mut out);
        self.receiver.encode(&mut out);
        out.put(&self.key.0);
        out.put(&self.nonce);
        out.put_u32(self.ttl);
        out.put_u32(self.lifetime);
        out.put(&self.relay_set);
        out.put(&self.root);
        out.put(&self.commitment);
        out
    }

    /// Reads the wire form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_POST_HEADER {
            let (len, max) = (bytes.len(), MAX_POST_HEADER);
            return Err(Malformed::TooLong { field: "post header", len, max });
        }
        let mut r = Reader::new(bytes);
        if r.u16("version")? != VERSION {
            return Err(Malformed::Value("version"));
        }
        if r.u8("suite")? != SUITE {
            return Err(Malformed::Value("suite"));
        }
        let poster = Principal::decode(&mut r)?;
        let receiver = Principal::decode(&mut r)?;
        if poster.network != receiver.network {
            return Err(Malformed::Value("network"));
        }
        if poster == receiver {
            return Err(Malformed::Value("receiver"));
        }
        let key = KeyId(r.array("key id")?);
        let nonce = r.array("nonce")?;
        let ttl = r.u32("time to live")?;
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            return Err(Malformed::Value("time to live"));
        }
        let header = Self {
            poster,
            receiver,
            key,
            nonce,
            ttl,
            lifetime: r.u32("lifetime")?,
            relay_set: r.array("relay set hash")?,
            root: r.array("Merkle root")?,
            commitment: r.array("commitment")?,
        };
        r.finish()?;
        Ok(header)
    }
}

/// HH of an encoded header, whose commitment ends it.
pub(super) fn hash(encoded: &[u8]) -> HeaderHash {
    let before = encoded.split_last_chunk::<32>().map_or(&[][..], |(before, _)| before);
    HeaderHash::of(before, &[])
}
