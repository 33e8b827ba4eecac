//! Opening a connection: the header that all 25 relays carry, the hello block, the reply.
//!
//! Formats of `docs/protocol.md` section 8.

use crate::codec::{Malformed, Reader, Write};
use crate::ids::{ConnectionId, KeyId, Principal};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use thiserror::Error;

/// The protocol version that this crate speaks.
pub const VERSION: u16 = 1;

/// AES-256-GCM, HKDF-SHA256, HMAC-SHA256, 16-of-25 sharing: the one suite of version 1.
pub const SUITE: u8 = 0x10;

/// Longest encoded [`OpenHeader`]. Checked before anything is stored.
pub const MAX_OPEN_HEADER_BYTES: usize = 1024;

/// Length of an IPv6 header without extensions, which its payload length does not count.
const IPV6_HEADER_BYTES: usize = 40;

/// Longest encapsulated IP and TCP header: IPv6 without extensions, TCP with all its options.
const MAX_PACKET_BYTES: usize = IPV6_HEADER_BYTES + 60;

/// Length of the commitment, which ends the header.
const COMMITMENT_BYTES: usize = 32;

/// Length of an ML-KEM-768 encapsulation key (FIPS 203).
pub const KEM_KEY_BYTES: usize = 1184;

/// Length of an ML-KEM-768 ciphertext (FIPS 203).
pub const KEM_CIPHERTEXT_BYTES: usize = 1088;

/// What one side demands of ML-KEM-768.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MlKem {
    /// Not offered and not accepted.
    Off = 0,
    /// Used when the other side has it too.
    #[default]
    On = 1,
    /// A peer without it is refused.
    Require = 2,
}

/// The header of OPEN and ATTACH: byte for byte the same on all 25 paths.
///
/// It holds nothing secret. The relays read whom it names and where it goes; everything in it enters the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenHeader {
    /// Who opens the connection; each relay checks that it is the principal of the hop.
    pub client: Principal,
    /// Whom it is for; relays route by it.
    pub server: Principal,
    /// Names the connection.
    pub connection: ConnectionId,
    /// Fresh for every attempt.
    pub nonce: [u8; 32],
    /// The Encryption key that is mixed in, if any.
    pub encryption_key: Option<KeyId>,
    /// What the client demands of ML-KEM-768.
    pub ml_kem: MlKem,
    /// Source of the encapsulated IP and TCP header: where the client's application is.
    pub source: SocketAddr,
    /// Destination of the encapsulated IP and TCP header: an address that the server registered.
    pub destination: SocketAddr,
    /// Hash over the client's list of relays.
    pub relay_set: [u8; 32],
    /// Root of the Merkle tree over the 25 shares.
    pub root: [u8; 32],
    /// Commitment to the key.
    pub commitment: [u8; 32],
}

impl OpenHeader {
    /// The wire form. Fails only if `source` and `destination` are of different address families.
    pub fn encode(&self) -> Result<Vec<u8>, MixedFamilies> {
        let packet = encapsulate(self.source, self.destination)?;
        let mut out = Vec::with_capacity(256);
        out.put_u16(VERSION);
        out.put_u8(SUITE);
        self.client.encode(&mut out);
        self.server.encode(&mut out);
        out.put(&self.connection.0);
        out.put(&self.nonce);
        match self.encryption_key {
            None => out.put_u8(0),
            Some(id) => {
                out.put_u8(1);
                out.put(&id.0);
            }
        }
        out.put_u8(self.ml_kem as u8);
        out.put_u8(packet.len() as u8);
        out.put(&packet);
        out.put(&self.relay_set);
        out.put(&self.root);
        out.put(&self.commitment);
        Ok(out)
    }

    /// Reads the wire form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_OPEN_HEADER_BYTES {
            let (len, max) = (bytes.len(), MAX_OPEN_HEADER_BYTES);
            return Err(Malformed::TooLong { field: "open header", len, max });
        }
        let mut r = Reader::new(bytes);
        if r.u16("version")? != VERSION {
            return Err(Malformed::Value("version"));
        }
        if r.u8("suite")? != SUITE {
            return Err(Malformed::Value("suite"));
        }
        let client = Principal::decode(&mut r)?;
        let server = Principal::decode(&mut r)?;
        if client.network != server.network {
            return Err(Malformed::Value("network"));
        }
        let connection = ConnectionId(r.array("connection id")?);
        let nonce = r.array("client nonce")?;
        let encryption_key = match r.u8("Encryption key flag")? {
            0 => None,
            1 => Some(KeyId(r.array("Encryption key id")?)),
            _ => return Err(Malformed::Value("Encryption key flag")),
        };
        let ml_kem = match r.u8("ML-KEM offer")? {
            0 => MlKem::Off,
            1 => MlKem::On,
            2 => MlKem::Require,
            _ => return Err(Malformed::Value("ML-KEM offer")),
        };
        let (source, destination) = decapsulate(r.vec8(MAX_PACKET_BYTES, "encapsulated headers")?)?;
        let header = Self {
            client,
            server,
            connection,
            nonce,
            encryption_key,
            ml_kem,
            source,
            destination,
            relay_set: r.array("relay set hash")?,
            root: r.array("Merkle root")?,
            commitment: r.array("commitment")?,
        };
        r.finish()?;
        Ok(header)
    }

    /// The part of an encoded header before its commitment, which ends it: the input of the header hash HH.
    pub fn without_commitment(encoded: &[u8]) -> &[u8] {
        encoded.split_last_chunk::<COMMITMENT_BYTES>().map_or(&[], |(before, _)| before)
    }

    /// Writes the commitment into an encoded header.
    pub fn set_commitment(encoded: &mut [u8], commitment: &[u8; COMMITMENT_BYTES]) {
        if let Some(last) = encoded.last_chunk_mut() {
            *last = *commitment;
        }
    }
}

/// Source and destination are of different address families, which one IP header cannot hold.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("source and destination must both be IPv4 or both IPv6")]
pub struct MixedFamilies;

/// Builds the IP and TCP headers that a client's SYN to `destination` would carry.
fn encapsulate(source: SocketAddr, destination: SocketAddr) -> Result<Vec<u8>, MixedFamilies> {
    const HOPS: u8 = 64;
    const WINDOW: u16 = u16::MAX;
    let step = match (source.ip(), destination.ip()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => PacketBuilder::ipv4(s.octets(), d.octets(), HOPS),
        (IpAddr::V6(s), IpAddr::V6(d)) => PacketBuilder::ipv6(s.octets(), d.octets(), HOPS),
        _ => return Err(MixedFamilies),
    };
    let packet = step.tcp(source.port(), destination.port(), 0, WINDOW).syn();
    let mut out = Vec::with_capacity(packet.size(0));
    // An empty payload is below every length limit, the only error there is.
    packet.write_to_vec(&mut out, &[]).map_err(|_| MixedFamilies)?;
    Ok(out)
}

fn decapsulate(packet: &[u8]) -> Result<(SocketAddr, SocketAddr), Malformed> {
    const FIELD: &str = "encapsulated headers";
    let sliced = SlicedPacket::from_ip(packet).map_err(|_| Malformed::Value(FIELD))?;
    let (source, destination, len): (IpAddr, IpAddr, usize) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let ip = ip.header();
            (ip.source_addr().into(), ip.destination_addr().into(), usize::from(ip.total_len()))
        }
        Some(NetSlice::Ipv6(ip)) => {
            let ip = ip.header();
            let len = IPV6_HEADER_BYTES + usize::from(ip.payload_length());
            (ip.source_addr().into(), ip.destination_addr().into(), len)
        }
        _ => return Err(Malformed::Value(FIELD)),
    };
    // The slices end where the IP header says; bytes behind it would travel unseen.
    if len != packet.len() {
        return Err(Malformed::Value(FIELD));
    }
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else {
        return Err(Malformed::Value(FIELD));
    };
    if !tcp.payload().is_empty() {
        return Err(Malformed::Value(FIELD));
    }
    Ok((SocketAddr::new(source, tcp.source_port()), SocketAddr::new(destination, tcp.destination_port())))
}

/// What each side allows the other: stated in hello and reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Bytes that the other side may send over all streams before a MAX_DATA.
    pub max_data: u64,
    /// Bytes that the other side may send on one stream before a MAX_STREAM_DATA.
    pub max_stream_data: u64,
    /// Streams that the other side may open before a MAX_STREAMS.
    pub max_streams: u32,
    /// Silence after which this side gives the connection up, in milliseconds.
    pub idle_ms: u32,
}

impl Parameters {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.max_data);
        out.put_u64(self.max_stream_data);
        out.put_u32(self.max_streams);
        out.put_u32(self.idle_ms);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            max_data: r.u64("max data")?,
            max_stream_data: r.u64("max stream data")?,
            max_streams: r.u32("max streams")?,
            idle_ms: r.u32("idle limit")?,
        })
    }
}

/// The client's first sealed words: what the hello block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the server may send.
    pub parameters: Parameters,
    /// The client's ML-KEM-768 encapsulation key, if it offers one.
    pub kem_key: Option<Box<[u8; KEM_KEY_BYTES]>>,
}

impl Hello {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + KEM_KEY_BYTES);
        self.parameters.encode(&mut out);
        encode_optional(&mut out, self.kem_key.as_deref());
        out
    }

    /// Reads the wire form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let parameters = Parameters::decode(&mut r)?;
        let kem_key = decode_optional(&mut r, "ML-KEM key")?;
        r.finish()?;
        Ok(Self { parameters, kem_key })
    }
}

/// Why a server refuses a connection or a stream. Counts only when it arrives sealed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Refusal {
    /// The client is on the server's black list.
    #[error("the server's black list names this client")]
    BlackListed = 1,
    /// The server has a white list and the client is not on it.
    #[error("the server's white list does not name this client")]
    NotWhiteListed = 2,
    /// The client named an Encryption key that the server does not hold.
    #[error("the server does not hold the Encryption key that was named")]
    UnknownEncryptionKey = 3,
    /// The server holds an Encryption key for this client, and the client named none.
    #[error("the server demands the Encryption key that both sides hold")]
    EncryptionKeyRequired = 4,
    /// One side demands ML-KEM-768 and the other does not offer it.
    #[error("one side demands ML-KEM-768 and the other does not offer it")]
    MlKemRequired = 5,
    /// The server has no room for another connection or stream now.
    #[error("the server has no room now; try again later")]
    Busy = 6,
    /// The hello block is not of the agreed form.
    #[error("the server could not read the hello block")]
    BadHello = 7,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown = 8,
    /// The server's directory does not let this client use what it asked for.
    #[error("the server does not permit this client what it asked for")]
    NotPermitted = 9,
    /// The server's directory let this client in before and does not any more.
    #[error("the server took this client's permission back")]
    Revoked = 10,
}

impl Refusal {
    /// Every reason, in wire order.
    pub const ALL: [Self; 10] = [
        Self::BlackListed,
        Self::NotWhiteListed,
        Self::UnknownEncryptionKey,
        Self::EncryptionKeyRequired,
        Self::MlKemRequired,
        Self::Busy,
        Self::BadHello,
        Self::ShuttingDown,
        Self::NotPermitted,
        Self::Revoked,
    ];

    /// The reason of this wire number.
    pub fn from_wire(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|r| *r as u8 == code)
    }
}

/// The server's sealed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The connection stands; the client confirms it with its next frame.
    Accepted {
        /// What the client may send.
        parameters: Parameters,
        /// The ML-KEM-768 ciphertext, if ML-KEM is in force.
        kem_ciphertext: Option<Box<[u8; KEM_CIPHERTEXT_BYTES]>>,
    },
    /// The server does not take the connection.
    Refused(Refusal),
}

impl Reply {
    /// The plaintext form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + KEM_CIPHERTEXT_BYTES);
        match self {
            Self::Accepted { parameters, kem_ciphertext } => {
                out.put_u8(0);
                parameters.encode(&mut out);
                encode_optional(&mut out, kem_ciphertext.as_deref());
            }
            Self::Refused(reason) => out.put_u8(*reason as u8),
        }
        out
    }

    /// Reads the plaintext form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let reply = match r.u8("reply")? {
            0 => Self::Accepted {
                parameters: Parameters::decode(&mut r)?,
                kem_ciphertext: decode_optional(&mut r, "ML-KEM ciphertext")?,
            },
            code => Self::Refused(Refusal::from_wire(code).ok_or(Malformed::Value("reason"))?),
        };
        r.finish()?;
        Ok(reply)
    }
}

/// Which key seals a reply; stands in clear in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReplyKey {
    /// The reply key, which the Encryption key has entered.
    Reply = 0,
    /// The refusal key, from K alone: for a client that named an unknown Encryption key.
    Refuse = 1,
}

/// A reply as it travels: server nonce in clear, then sealed.
#[derive(Clone, Copy, Debug)]
pub struct SealedReply<'a> {
    /// Drawn once for every accepted or refused open.
    pub nonce: [u8; 32],
    /// Which key seals it.
    pub key: ReplyKey,
    /// Ciphertext and tag of an encoded [`Reply`].
    pub sealed: &'a [u8],
}

impl<'a> SealedReply<'a> {
    /// Longest sealed part: accepted, with an ML-KEM ciphertext, and the tag.
    pub const MAX_SEALED_BYTES: usize = 1 + 24 + 1 + KEM_CIPHERTEXT_BYTES + 16;

    /// Appends the wire form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(&self.nonce);
        out.put_u8(self.key as u8);
        out.put(self.sealed);
    }

    /// Reads the wire form.
    pub fn decode(r: &mut Reader<'a>) -> Result<Self, Malformed> {
        let nonce = r.array("server nonce")?;
        let key = match r.u8("reply key")? {
            0 => ReplyKey::Reply,
            1 => ReplyKey::Refuse,
            _ => return Err(Malformed::Value("reply key")),
        };
        let (len, max) = (r.remaining(), Self::MAX_SEALED_BYTES);
        if len > max {
            return Err(Malformed::TooLong { field: "reply", len, max });
        }
        Ok(Self { nonce, key, sealed: r.take_rest() })
    }
}

fn encode_optional<const N: usize>(out: &mut Vec<u8>, value: Option<&[u8; N]>) {
    match value {
        None => out.put_u8(0),
        Some(bytes) => {
            out.put_u8(1);
            out.put(bytes);
        }
    }
}

fn decode_optional<const N: usize>(
    r: &mut Reader<'_>,
    field: &'static str,
) -> Result<Option<Box<[u8; N]>>, Malformed> {
    match r.u8(field)? {
        0 => Ok(None),
        1 => Ok(Some(Box::new(r.array(field)?))),
        _ => Err(Malformed::Value(field)),
    }
}

impl fmt::Display for MlKem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Require => "require",
        })
    }
}

#[cfg(test)]
mod tests;
