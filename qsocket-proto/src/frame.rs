//! Frames: what the records of a hop carry (`docs/protocol.md`, section 5).
//!
//! A frame is `type u8 ‖ length u16 ‖ body`. [`Frames`] walks over the plaintext of one record without copying;
//! the payload of a [`Frame::Data`] is a mutable slice, so that a connection opens its stripe where it lies.

use crate::codec::{Malformed, Reader, Write};
use crate::ids::{CallId, RouteId};
use std::fmt;

/// Bytes in front of every frame's body: type and length.
pub const FRAME_OVERHEAD: usize = 3;

/// Bytes in front of the payload of a DATA frame: type, length, route, offset.
pub const DATA_OVERHEAD: usize = FRAME_OVERHEAD + 8;

/// The longest connection header in OPEN and ATTACH. It holds two principals, a few hashes and the copied IP
/// and TCP headers, which is below 400 bytes; the rest is room for later versions.
pub const MAX_OPEN_HEADER: usize = 1024;

/// The longest body of CALL and ANSWER: a signal of a key exchange with 25 receipts and its memo is below 2,100
/// bytes, a DNS message in common use below 4,096.
pub const MAX_CALL: usize = 4096;

/// Hashes from a share's leaf to the root: 32 leaves.
pub const PROOF_LEN: usize = 5;

/// The hashes beside the way from a share's leaf to the root, lowest first.
pub type Proof = [[u8; 32]; PROOF_LEN];

/// Type bytes of the frames.
mod kind {
    pub(super) const PING: u8 = 0x01;
    pub(super) const PONG: u8 = 0x02;
    pub(super) const REKEY: u8 = 0x03;
    pub(super) const CLOSE: u8 = 0x04;
    pub(super) const OPEN: u8 = 0x10;
    pub(super) const ATTACH: u8 = 0x11;
    pub(super) const DETACH: u8 = 0x12;
    pub(super) const ROUTE_ERROR: u8 = 0x13;
    pub(super) const CONGESTED: u8 = 0x14;
    pub(super) const DATA: u8 = 0x20;
    pub(super) const CALL: u8 = 0x30;
    pub(super) const ANSWER: u8 = 0x31;
}

/// Why a hop is closed by the side that sends CLOSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum CloseReason {
    /// The program ends or no longer needs the hop.
    Done = 1,
    /// The same principal built a newer hop.
    Replaced = 2,
    /// The peer broke a rule of the protocol.
    Protocol = 3,
    /// A limit on hops is reached.
    Busy = 4,
    /// The peer was silent, or did not read, for too long.
    Unresponsive = 5,
}

impl CloseReason {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8("close reason")? {
            1 => Self::Done,
            2 => Self::Replaced,
            3 => Self::Protocol,
            4 => Self::Busy,
            5 => Self::Unresponsive,
            _ => return Err(Malformed::Value("close reason")),
        })
    }
}

/// Why a relay or a server does not carry a route. Advice about one path, never proof: only sealed refusals count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum RouteError {
    /// The relay knows no server with this principal.
    NoSuchServer = 1,
    /// The server did not register the destination address.
    DestinationNotRegistered = 2,
    /// The server's hop could not be built in time.
    ServerUnreachable = 3,
    /// The client principal in the header is not the one that the hop authenticated, or the hop's role is not client.
    NotYours = 4,
    /// A limit on routes or queued bytes is reached.
    Busy = 5,
    /// The share is not under the root of the header.
    BadShare = 6,
    /// The server does not know the connection.
    UnknownConnection = 7,
    /// The hop behind the relay broke; the route is gone.
    Lost = 8,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchServer => "the relay knows no such server",
            Self::DestinationNotRegistered => "the server did not register the destination address",
            Self::ServerUnreachable => "the relay cannot reach the server",
            Self::NotYours => "the relay knows this side as another principal, or not as a client",
            Self::Busy => "the relay has no room now",
            Self::BadShare => "the share does not belong to its header",
            Self::UnknownConnection => "the server does not know the connection",
            Self::Lost => "the hop behind the relay broke",
        })
    }
}

impl RouteError {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8("route error")? {
            1 => Self::NoSuchServer,
            2 => Self::DestinationNotRegistered,
            3 => Self::ServerUnreachable,
            4 => Self::NotYours,
            5 => Self::Busy,
            6 => Self::BadShare,
            7 => Self::UnknownConnection,
            8 => Self::Lost,
            _ => return Err(Malformed::Value("route error")),
        })
    }
}

/// One frame, borrowing from the record that carried it.
///
/// `Debug` shows lengths of opaque bytes and never a share.
#[derive(PartialEq, Eq)]
pub enum Frame<'a> {
    /// Asks for a [`Frame::Pong`] with the same token.
    Ping {
        /// Drawn by the sender.
        token: u64,
    },
    /// Answers a [`Frame::Ping`].
    Pong {
        /// The token of the ping.
        token: u64,
    },
    /// The next record in this direction uses the next key. The last frame of its record.
    Rekey,
    /// The sender closes the hop.
    Close {
        /// Why.
        reason: CloseReason,
    },
    /// Joins a path to a new connection and hands over this path's share.
    Open {
        /// Chosen by the sender of the frame; names the connection on this hop from now on.
        route: RouteId,
        /// The connection header, identical on all paths; opaque here.
        header: &'a [u8],
        /// The share of this path.
        share: &'a [u8; 32],
        /// From the share's leaf to the header's Merkle root.
        proof: &'a Proof,
    },
    /// Joins a path to a connection again after a hop was rebuilt. Carries no share.
    Attach {
        /// Chosen by the sender of the frame.
        route: RouteId,
        /// The connection header of the OPEN.
        header: &'a [u8],
    },
    /// The sender no longer uses the route.
    Detach {
        /// Which route.
        route: RouteId,
    },
    /// The route does not exist, or exists no longer.
    RouteError {
        /// Which route.
        route: RouteId,
        /// Why.
        reason: RouteError,
    },
    /// The relay dropped DATA of this route.
    Congested {
        /// Which route.
        route: RouteId,
        /// Payload bytes dropped since the last such frame, saturating.
        bytes: u32,
    },
    /// Bytes between the two ends of a connection.
    Data {
        /// Which route.
        route: RouteId,
        /// DATA payload bytes that the sending end put on this path in this connection before this frame, mod 2^32.
        offset: u32,
        /// Opaque to hop, relay and path layer.
        payload: &'a mut [u8],
    },
    /// Asks the other end of the hop for something that is no stream; answered by [`Frame::Answer`]
    /// (`docs/protocol.md`, section 17).
    Call {
        /// Chosen by the caller; not one that still waits for its answer.
        call: CallId,
        /// Which service. Opaque here, so that an unknown one is answered and does not close the hop.
        service: u8,
        /// The request, at most [`MAX_CALL`] bytes.
        body: &'a [u8],
    },
    /// Answers a [`Frame::Call`], once.
    Answer {
        /// The number of the call.
        call: CallId,
        /// 0 if it was done, else why not; see [`Status`](crate::call::Status).
        status: u8,
        /// The result, at most [`MAX_CALL`] bytes.
        body: &'a [u8],
    },
}

impl<'a> Frame<'a> {
    /// The route that the frame is about, if any.
    pub fn route(&self) -> Option<RouteId> {
        match *self {
            Self::Open { route, .. }
            | Self::Attach { route, .. }
            | Self::Detach { route }
            | Self::RouteError { route, .. }
            | Self::Congested { route, .. }
            | Self::Data { route, .. } => Some(route),
            Self::Ping { .. }
            | Self::Pong { .. }
            | Self::Rekey
            | Self::Close { .. }
            | Self::Call { .. }
            | Self::Answer { .. } => None,
        }
    }

    /// Renames the route, as a relay does when it forwards the frame. Frames without a route stay as they are.
    pub fn set_route(&mut self, to: RouteId) {
        match self {
            Self::Open { route, .. }
            | Self::Attach { route, .. }
            | Self::Detach { route }
            | Self::RouteError { route, .. }
            | Self::Congested { route, .. }
            | Self::Data { route, .. } => *route = to,
            Self::Ping { .. }
            | Self::Pong { .. }
            | Self::Rekey
            | Self::Close { .. }
            | Self::Call { .. }
            | Self::Answer { .. } => {}
        }
    }

    /// Length on the wire, type and length fields included.
    pub fn encoded_len(&self) -> usize {
        FRAME_OVERHEAD + self.body_len()
    }

    fn body_len(&self) -> usize {
        match self {
            Self::Ping { .. } | Self::Pong { .. } | Self::Congested { .. } => 8,
            Self::Rekey => 0,
            Self::Close { .. } => 1,
            Self::Open { header, .. } => 4 + 2 + header.len() + 32 + 32 * PROOF_LEN,
            Self::Attach { header, .. } => 4 + 2 + header.len(),
            Self::Detach { .. } => 4,
            Self::RouteError { .. } => 5,
            Self::Data { payload, .. } => 8 + payload.len(),
            Self::Call { body, .. } | Self::Answer { body, .. } => 5 + body.len(),
        }
    }

    /// Appends the wire form.
    ///
    /// The caller keeps headers at [`MAX_OPEN_HEADER`], bodies of calls at [`MAX_CALL`] and the whole frame within one
    /// record; the outbox checks all three.
    pub fn encode(&self, out: &mut impl Write) {
        let kind = match self {
            Self::Ping { .. } => kind::PING,
            Self::Pong { .. } => kind::PONG,
            Self::Rekey => kind::REKEY,
            Self::Close { .. } => kind::CLOSE,
            Self::Open { .. } => kind::OPEN,
            Self::Attach { .. } => kind::ATTACH,
            Self::Detach { .. } => kind::DETACH,
            Self::RouteError { .. } => kind::ROUTE_ERROR,
            Self::Congested { .. } => kind::CONGESTED,
            Self::Data { .. } => kind::DATA,
            Self::Call { .. } => kind::CALL,
            Self::Answer { .. } => kind::ANSWER,
        };
        out.put_u8(kind);
        out.put_u16(self.body_len() as u16);
        match self {
            Self::Ping { token } | Self::Pong { token } => out.put_u64(*token),
            Self::Rekey => {}
            Self::Close { reason } => out.put_u8(*reason as u8),
            Self::Open { route, header, share, proof } => {
                out.put_u32(route.0);
                out.put_u16(header.len() as u16);
                out.put(header);
                out.put(*share);
                out.put(proof.as_flattened());
            }
            Self::Attach { route, header } => {
                out.put_u32(route.0);
                out.put_u16(header.len() as u16);
                out.put(header);
            }
            Self::Detach { route } => out.put_u32(route.0),
            Self::RouteError { route, reason } => {
                out.put_u32(route.0);
                out.put_u8(*reason as u8);
            }
            Self::Congested { route, bytes } => {
                out.put_u32(route.0);
                out.put_u32(*bytes);
            }
            Self::Data { route, offset, payload } => {
                out.put_u32(route.0);
                out.put_u32(*offset);
                out.put(payload);
            }
            Self::Call { call, service: of, body } | Self::Answer { call, status: of, body } => {
                out.put_u32(call.0);
                out.put_u8(*of);
                out.put(body);
            }
        }
    }

    fn decode(kind: u8, body: &'a mut [u8]) -> Result<Self, Malformed> {
        if kind == kind::DATA {
            let Some((head, payload)) = body.split_at_mut_checked(8) else {
                return Err(Malformed::Short("offset"));
            };
            let mut r = Reader::new(head);
            return Ok(Self::Data { route: RouteId(r.u32("route")?), offset: r.u32("offset")?, payload });
        }
        let mut r = Reader::new(body);
        let frame = match kind {
            kind::PING => Self::Ping { token: r.u64("token")? },
            kind::PONG => Self::Pong { token: r.u64("token")? },
            kind::REKEY => Self::Rekey,
            kind::CLOSE => Self::Close { reason: CloseReason::decode(&mut r)? },
            kind::OPEN => {
                let route = RouteId(r.u32("route")?);
                let header = r.vec16(MAX_OPEN_HEADER, "connection header")?;
                let share = r.bytes(32, "share")?.first_chunk().ok_or(Malformed::Short("share"))?;
                let (hashes, _) = r.bytes(32 * PROOF_LEN, "proof")?.as_chunks::<32>();
                let proof = hashes.first_chunk().ok_or(Malformed::Short("proof"))?;
                Self::Open { route, header, share, proof }
            }
            kind::ATTACH => {
                let route = RouteId(r.u32("route")?);
                Self::Attach { route, header: r.vec16(MAX_OPEN_HEADER, "connection header")? }
            }
            kind::DETACH => Self::Detach { route: RouteId(r.u32("route")?) },
            kind::ROUTE_ERROR => {
                Self::RouteError { route: RouteId(r.u32("route")?), reason: RouteError::decode(&mut r)? }
            }
            kind::CONGESTED => Self::Congested { route: RouteId(r.u32("route")?), bytes: r.u32("bytes")? },
            kind::CALL => {
                Self::Call { call: CallId(r.u32("call")?), service: r.u8("service")?, body: rest(&mut r)? }
            }
            kind::ANSWER => {
                Self::Answer { call: CallId(r.u32("call")?), status: r.u8("status")?, body: rest(&mut r)? }
            }
            _ => return Err(Malformed::Value("frame type")),
        };
        r.finish()?;
        Ok(frame)
    }
}

/// The body of a call or an answer: what is left, within [`MAX_CALL`].
fn rest<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    match r.remaining() {
        len if len > MAX_CALL => Err(Malformed::TooLong { field: "call", len, max: MAX_CALL }),
        _ => Ok(r.take_rest()),
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ping { token } => write!(f, "Ping({token:#x})"),
            Self::Pong { token } => write!(f, "Pong({token:#x})"),
            Self::Rekey => f.write_str("Rekey"),
            Self::Close { reason } => write!(f, "Close({reason:?})"),
            Self::Open { route, header, .. } => write!(f, "Open({}, header {} bytes)", route.0, header.len()),
            Self::Attach { route, header } => {
                write!(f, "Attach({}, header {} bytes)", route.0, header.len())
            }
            Self::Detach { route } => write!(f, "Detach({})", route.0),
            Self::RouteError { route, reason } => write!(f, "RouteError({}, {reason:?})", route.0),
            Self::Congested { route, bytes } => write!(f, "Congested({}, {bytes} bytes)", route.0),
            Self::Data { route, offset, payload } => {
                write!(f, "Data({}, at {offset}, {} bytes)", route.0, payload.len())
            }
            Self::Call { call, service, body } => {
                write!(f, "Call({}, service {service}, {} bytes)", call.0, body.len())
            }
            Self::Answer { call, status, body } => {
                write!(f, "Answer({}, status {status}, {} bytes)", call.0, body.len())
            }
        }
    }
}

/// The frames of one opened record, in order.
///
/// After the first error the iterator is at its end; the hop must then be closed.
#[derive(Debug, Default)]
pub struct Frames<'a> {
    rest: &'a mut [u8],
}

impl<'a> Frames<'a> {
    /// Walks over `plaintext`, the opened content of a record.
    pub fn new(plaintext: &'a mut [u8]) -> Self {
        Self { rest: plaintext }
    }

    fn split(&mut self) -> Result<(u8, &'a mut [u8]), Malformed> {
        let rest = std::mem::take(&mut self.rest);
        let Some((&mut [kind, high, low], rest)) = rest.split_first_chunk_mut::<FRAME_OVERHEAD>() else {
            return Err(Malformed::Short("frame"));
        };
        let Some((body, rest)) = rest.split_at_mut_checked(usize::from(u16::from_be_bytes([high, low])))
        else {
            return Err(Malformed::Short("frame body"));
        };
        self.rest = rest;
        Ok((kind, body))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = self.split().and_then(|(kind, body)| Frame::decode(kind, body));
        if frame.is_err() {
            self.rest = &mut [];
        }
        Some(frame)
    }
}

/// The bytes in front of the payload of a DATA frame with `len` payload bytes.
pub(crate) fn data_header(route: RouteId, offset: u32, len: usize) -> [u8; DATA_OVERHEAD] {
    let [lh, ll] = ((DATA_OVERHEAD - FRAME_OVERHEAD + len) as u16).to_be_bytes();
    let ([a, b, c, d], [e, f, g, h]) = (route.0.to_be_bytes(), offset.to_be_bytes());
    [kind::DATA, lh, ll, a, b, c, d, e, f, g, h]
}

/// Checks that `plaintext` is a whole number of frames and says how many bytes stand before a closing REKEY.
///
/// Returns `(length without REKEY, whether the record ends with REKEY)`. A REKEY anywhere else is refused.
pub(crate) fn split_rekey(plaintext: &[u8]) -> Result<(usize, bool), Malformed> {
    let mut r = Reader::new(plaintext);
    while r.remaining() > 0 {
        let at = plaintext.len() - r.remaining();
        let kind = r.u8("frame")?;
        let body = r.u16("frame")?;
        r.bytes(usize::from(body), "frame body")?;
        if kind == kind::REKEY {
            if body != 0 || r.remaining() > 0 {
                return Err(Malformed::Value("rekey"));
            }
            return Ok((at, true));
        }
    }
    Ok((plaintext.len(), false))
}

#[cfg(test)]
mod tests;
