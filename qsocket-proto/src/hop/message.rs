//! The messages of the hop handshake: HELLO, ACCEPT, REJECT, FINISH (`docs/protocol.md`, 4.4 to 4.7).

use super::header::{REQUEST_HEADER, RequestHeader};
use crate::codec::{Malformed, Reader, Write};
use crate::crypto::hkdf::MAC_BYTES;
use crate::ids::{PathId, Principal, Role};

/// The longest HELLO, request header included. The caps on its lists keep it at 188 bytes; the rest is room for
/// later versions.
pub const MAX_HELLO: usize = 1024;

/// The most versions or suites that a HELLO offers.
pub const MAX_OFFERS: usize = 16;

/// Version 1 of the hop protocol.
pub const VERSION_1: u16 = 1;

/// AES-256-GCM records, HKDF-SHA256 and HMAC-SHA256.
pub const SUITE_AES_256_GCM_SHA256: u8 = 1;

/// Length of ACCEPT: kind, length, version, suite, nonce, MAC.
pub const ACCEPT: usize = 3 + 2 + 1 + 32 + MAC_BYTES;

/// Length of FINISH: kind, length, MAC.
pub const FINISH: usize = 3 + MAC_BYTES;

/// The one answer to whatever is refused: it tells a stranger nothing.
pub const REJECT: [u8; 3] = [KIND_REJECT, 0, 0];

pub(super) const KIND_ACCEPT: u8 = 2;
pub(super) const KIND_REJECT: u8 = 3;
pub(super) const KIND_FINISH: u8 = 4;

/// Which end of a hop dialled the TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DialledBy {
    /// The client or server dialled the relay.
    Principal = 0,
    /// The relay dialled the server.
    Relay = 1,
}

/// A HELLO without its binder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The relay at the one end of the hop.
    pub relay: PathId,
    /// The principal at the other end.
    pub principal: Principal,
    /// What the principal is on this hop.
    pub role: Role,
    /// Who sends the HELLO.
    pub dialled_by: DialledBy,
    /// Versions that the sender speaks, best first; 1 to 16.
    pub versions: Vec<u16>,
    /// Suites that the sender takes, best first; 1 to 16.
    pub suites: Vec<u8>,
    /// Drawn by the sender.
    pub nonce: [u8; 32],
}

impl Hello {
    /// The wire form up to the binder.
    pub fn encode(&self) -> Vec<u8> {
        let body_len = 4 + 2 * self.versions.len() + self.suites.len() + 24 + MAC_BYTES;
        let (head, tail) = self.nonce.split_at(8);
        let mut nonce = [0; 8];
        nonce.copy_from_slice(head);
        let header =
            RequestHeader { relay: self.relay, principal: self.principal, body_len: body_len as u16, nonce };
        let mut out = Vec::with_capacity(REQUEST_HEADER + body_len);
        out.put(&header.encode());
        out.put_u8(self.role as u8);
        out.put_u8(self.dialled_by as u8);
        out.put_u8(self.versions.len() as u8);
        for version in &self.versions {
            out.put_u16(*version);
        }
        out.put_u8(self.suites.len() as u8);
        out.put(&self.suites);
        out.put(tail);
        out
    }

    /// The length of the whole HELLO that begins with `bytes`, or `None` while its header is not complete.
    pub fn wire_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(header) = bytes.first_chunk() else { return Ok(None) };
        let len = REQUEST_HEADER + usize::from(RequestHeader::decode(header)?.body_len);
        if len > MAX_HELLO {
            return Err(Malformed::TooLong { field: "HELLO", len, max: MAX_HELLO });
        }
        Ok(Some(len))
    }

    /// Reads a whole HELLO; returns it with its binder, which covers all bytes before the binder.
    pub fn decode(bytes: &[u8]) -> Result<(Self, [u8; MAC_BYTES]), Malformed> {
        let mut r = Reader::new(bytes);
        let header = RequestHeader::decode(&r.array("request header")?)?;
        if usize::from(header.body_len) != r.remaining() {
            return Err(Malformed::Value("body length"));
        }
        let role = Role::decode(&mut r)?;
        let dialled_by = match r.u8("dialler")? {
            0 => DialledBy::Principal,
            1 => DialledBy::Relay,
            _ => return Err(Malformed::Value("dialler")),
        };
        let count = offers(r.u8("version count")?, "versions")?;
        let mut versions = Vec::with_capacity(count);
        for _ in 0..count {
            versions.push(r.u16("version")?);
        }
        let count = offers(r.u8("suite count")?, "suites")?;
        let suites = r.bytes(count, "suites")?.to_vec();
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&header.nonce);
        nonce[8..].copy_from_slice(&r.array::<24>("nonce")?);
        let binder = r.array("binder")?;
        r.finish()?;
        let RequestHeader { relay, principal, .. } = header;
        Ok((Self { relay, principal, role, dialled_by, versions, suites, nonce }, binder))
    }
}

fn offers(count: u8, field: &'static str) -> Result<usize, Malformed> {
    match usize::from(count) {
        0 => Err(Malformed::Value(field)),
        len if len > MAX_OFFERS => Err(Malformed::TooLong { field, len, max: MAX_OFFERS }),
        len => Ok(len),
    }
}

/// An ACCEPT without its MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// The chosen version, one of those offered.
    pub version: u16,
    /// The chosen suite, one of those offered.
    pub suite: u8,
    /// Drawn by the sender.
    pub nonce: [u8; 32],
}

impl Accept {
    /// The wire form up to the MAC.
    pub fn encode(&self) -> [u8; ACCEPT - MAC_BYTES] {
        let mut out = [0; ACCEPT - MAC_BYTES];
        out[..3].copy_from_slice(&head(KIND_ACCEPT, ACCEPT));
        out[3..5].copy_from_slice(&self.version.to_be_bytes());
        out[5] = self.suite;
        out[6..].copy_from_slice(&self.nonce);
        out
    }

    /// Reads a whole ACCEPT; returns it with its MAC.
    pub fn decode(bytes: &[u8; ACCEPT]) -> Result<(Self, [u8; MAC_BYTES]), Malformed> {
        let mut r = Reader::new(bytes);
        if r.array::<3>("ACCEPT")? != head(KIND_ACCEPT, ACCEPT) {
            return Err(Malformed::Value("ACCEPT"));
        }
        let accept = Self { version: r.u16("version")?, suite: r.u8("suite")?, nonce: r.array("nonce")? };
        let mac = r.array("MAC")?;
        r.finish()?;
        Ok((accept, mac))
    }
}

/// The bytes of FINISH before its MAC.
pub(super) const FINISH_HEAD: [u8; 3] = head(KIND_FINISH, FINISH);

/// Reads a whole FINISH; returns its MAC.
pub fn decode_finish(bytes: &[u8; FINISH]) -> Result<[u8; MAC_BYTES], Malformed> {
    let mut r = Reader::new(bytes);
    if r.array::<3>("FINISH")? != FINISH_HEAD {
        return Err(Malformed::Value("FINISH"));
    }
    r.array("MAC")
}

const fn head(kind: u8, whole: usize) -> [u8; 3] {
    let [high, low] = ((whole - 3) as u16).to_be_bytes();
    [kind, high, low]
}
