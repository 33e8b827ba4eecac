//! What a DATA frame carries from end to end: stripes, control packets, replies; and what a block holds.
//!
//! Formats of `docs/protocol.md` section 9. Relays see these bytes and understand none but the clear numbers in
//! front of the ciphertext.

use crate::codec::{Malformed, Reader, Write};
use crate::grid::{MAX_BLOCK_BYTES, StripeId, stripe_len};
use crate::ids::{ConnectionId, Direction, StreamId};
use crate::open::{SealedReply, VERSION};
use std::ops::Range;

/// Length of an AES-GCM tag.
pub const TAG_BYTES: usize = 16;

/// Clear bytes in front of a stripe's ciphertext: kind, phase, stream, block, stripe id, block length.
pub const STRIPE_HEADER_BYTES: usize = 1 + 4 + 4 + 7 + 1 + 4;

/// Clear bytes in front of a control packet's ciphertext: kind, phase, number.
pub const CONTROL_HEADER_BYTES: usize = 1 + 4 + 8;

/// Longest plaintext of a control packet: an ACK with all its ranges fits several times.
pub const MAX_CONTROL_BYTES: usize = 4096;

/// Largest block number: 56 bits, of which a connection cannot use up a fraction.
pub const MAX_BLOCK_NUMBER: u64 = (1 << 56) - 1;

const KIND_STRIPE: u8 = 1;
const KIND_CONTROL: u8 = 2;
const KIND_REPLY: u8 = 3;

/// The clear numbers of a stripe. Together with version, connection and direction they are its whole associated
/// data, and nothing in them changes with a resend, a path or a choice of parity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StripeHeader {
    /// The key phase of the block's first seal.
    pub phase: u32,
    /// Which byte stream.
    pub stream: StreamId,
    /// Which block of the stream.
    pub block: u64,
    /// Which stripe of the block.
    pub stripe: StripeId,
    /// Length of the block's plaintext before padding, in bytes.
    pub block_len: u32,
}

impl StripeHeader {
    /// Writes the clear bytes.
    pub fn encode(&self, out: &mut [u8; STRIPE_HEADER_BYTES]) {
        let [_, block @ ..] = self.block.to_be_bytes();
        out[0] = KIND_STRIPE;
        out[1..5].copy_from_slice(&self.phase.to_be_bytes());
        out[5..9].copy_from_slice(&self.stream.0.to_be_bytes());
        out[9..16].copy_from_slice(&block);
        out[16] = self.stripe.get();
        out[17..21].copy_from_slice(&self.block_len.to_be_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let header = Self {
            phase: r.u32("phase")?,
            stream: StreamId(r.u32("stream")?),
            block: r.u56("block")?,
            stripe: StripeId::decode(r)?,
            block_len: r.u32("block length")?,
        };
        let (len, max) = (header.block_len as usize, MAX_BLOCK_BYTES);
        if len > max {
            return Err(Malformed::TooLong { field: "block length", len, max });
        }
        if len < BlockHeader::BYTES {
            return Err(Malformed::Value("block length"));
        }
        Ok(header)
    }

    /// Plaintext bytes of each stripe of the block.
    pub fn stripe_len(&self) -> usize {
        stripe_len(self.block_len as usize)
    }

    /// The associated data of the stripe's seal.
    pub fn associated_data(&self, connection: ConnectionId, direction: Direction) -> [u8; 39] {
        let [_, block @ ..] = self.block.to_be_bytes();
        let mut aad = [0; 39];
        aad[0..2].copy_from_slice(&VERSION.to_be_bytes());
        aad[2..18].copy_from_slice(&connection.0);
        aad[18] = direction as u8;
        aad[19..23].copy_from_slice(&self.phase.to_be_bytes());
        aad[23..27].copy_from_slice(&self.stream.0.to_be_bytes());
        aad[27..34].copy_from_slice(&block);
        aad[34] = self.stripe.get();
        aad[35..39].copy_from_slice(&self.block_len.to_be_bytes());
        aad
    }
}

/// The clear numbers of a control packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlHeader {
    /// The key phase of the seal.
    pub phase: u32,
    /// Counts up by one per packet and direction, never reset: the nonce.
    pub number: u64,
}

impl ControlHeader {
    /// Writes the clear bytes.
    pub fn encode(&self, out: &mut [u8; CONTROL_HEADER_BYTES]) {
        out[0] = KIND_CONTROL;
        out[1..5].copy_from_slice(&self.phase.to_be_bytes());
        out[5..13].copy_from_slice(&self.number.to_be_bytes());
    }

    /// The associated data of the packet's seal.
    pub fn associated_data(&self, connection: ConnectionId, direction: Direction) -> [u8; 31] {
        let mut aad = [0; 31];
        aad[0..2].copy_from_slice(&VERSION.to_be_bytes());
        aad[2..18].copy_from_slice(&connection.0);
        aad[18] = direction as u8;
        aad[19..23].copy_from_slice(&self.phase.to_be_bytes());
        aad[23..31].copy_from_slice(&self.number.to_be_bytes());
        aad
    }
}

/// A received DATA payload, split in its parts; nothing in it is trusted yet.
#[derive(Debug)]
pub enum Payload<'a> {
    /// One stripe.
    Stripe {
        /// Its clear numbers.
        header: StripeHeader,
        /// Ciphertext, as long as a stripe of the block.
        ciphertext: &'a mut [u8],
        /// Its tag.
        tag: [u8; TAG_BYTES],
    },
    /// One control packet.
    Control {
        /// Its clear numbers.
        header: ControlHeader,
        /// Ciphertext of control frames.
        ciphertext: &'a mut [u8],
        /// Its tag.
        tag: [u8; TAG_BYTES],
    },
    /// The server's answer to OPEN.
    Reply {
        /// The payload as it is, to compare its copies.
        whole: &'a [u8],
        /// Its parts.
        reply: SealedReply<'a>,
    },
}

impl<'a> Payload<'a> {
    /// Splits a payload. Lengths are checked against their maxima here, before anything is opened or stored.
    pub fn decode(bytes: &'a mut [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        match r.u8("payload kind")? {
            KIND_STRIPE => {
                let header = StripeHeader::decode(&mut r)?;
                let (ciphertext, tag) = split_tag(bytes, STRIPE_HEADER_BYTES)?;
                if ciphertext.len() != header.stripe_len() {
                    return Err(Malformed::Value("stripe length"));
                }
                Ok(Self::Stripe { header, ciphertext, tag })
            }
            KIND_CONTROL => {
                let header = ControlHeader { phase: r.u32("phase")?, number: r.u64("control number")? };
                let (ciphertext, tag) = split_tag(bytes, CONTROL_HEADER_BYTES)?;
                let (len, max) = (ciphertext.len(), MAX_CONTROL_BYTES);
                if len > max {
                    return Err(Malformed::TooLong { field: "control packet", len, max });
                }
                Ok(Self::Control { header, ciphertext, tag })
            }
            KIND_REPLY => {
                let whole: &[u8] = bytes;
                let mut r = Reader::new(whole);
                r.u8("payload kind")?;
                Ok(Self::Reply { whole, reply: SealedReply::decode(&mut r)? })
            }
            _ => Err(Malformed::Value("payload kind")),
        }
    }

    /// The wire form of a reply payload.
    pub fn encode_reply(reply: &SealedReply<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + reply.sealed.len());
        out.put_u8(KIND_REPLY);
        reply.encode(&mut out);
        out
    }
}

fn split_tag(bytes: &mut [u8], header: usize) -> Result<(&mut [u8], [u8; TAG_BYTES]), Malformed> {
    let sealed = bytes.get_mut(header..).ok_or(Malformed::Short("ciphertext"))?;
    let (ciphertext, tag) = sealed.split_last_chunk_mut().ok_or(Malformed::Short("tag"))?;
    Ok((ciphertext, *tag))
}

/// The head of a block's plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// What follows.
    pub kind: BlockKind,
    /// The stream ends with this block.
    pub fin: bool,
    /// Position of the block's first data byte in the stream.
    pub offset: u64,
    /// Data bytes in the block.
    pub len: u32,
}

/// What a block's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    /// A [`crate::open::Hello`]: stream 0, block 0 only.
    Hello = 0,
    /// Stream bytes.
    Data = 1,
    /// The first block of a stream: the resource's name, preceded by its one-byte length, then stream bytes.
    First = 2,
}

impl BlockHeader {
    /// Length of the wire form.
    pub const BYTES: usize = 1 + 1 + 8 + 4;

    /// The wire form.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0] = self.kind as u8;
        out[1] = u8::from(self.fin);
        out[2..10].copy_from_slice(&self.offset.to_be_bytes());
        out[10..14].copy_from_slice(&self.len.to_be_bytes());
        out
    }

    /// Reads the head of a block of `block_len` plaintext bytes. Returns it with the ranges of the resource's
    /// name (empty but for [`BlockKind::First`]) and of the data.
    pub fn decode(block: &[u8], block_len: usize) -> Result<(Self, Range<usize>, Range<usize>), Malformed> {
        let block = block.get(..block_len).ok_or(Malformed::Short("block"))?;
        let mut r = Reader::new(block);
        let kind = match r.u8("block kind")? {
            0 => BlockKind::Hello,
            1 => BlockKind::Data,
            2 => BlockKind::First,
            _ => return Err(Malformed::Value("block kind")),
        };
        let fin = match r.u8("block flags")? {
            0 => false,
            1 => true,
            _ => return Err(Malformed::Value("block flags")),
        };
        let header = Self { kind, fin, offset: r.u64("offset")?, len: r.u32("length")? };
        let mut at = Self::BYTES;
        let mut resource = at..at;
        if kind == BlockKind::First {
            let name = r.vec8(usize::from(u8::MAX), "resource")?;
            resource = at + 1..at + 1 + name.len();
            at = resource.end;
        }
        if r.remaining() != header.len as usize {
            return Err(Malformed::Value("length"));
        }
        if header.offset.checked_add(u64::from(header.len)).is_none() {
            return Err(Malformed::Value("offset"));
        }
        Ok((header, resource, at..block_len))
    }
}

#[cfg(test)]
mod tests;
