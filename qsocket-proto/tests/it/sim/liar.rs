//! What a relay that lies makes of the frames that it forwards.
//!
//! A relay holds the keys of its hops and none of a connection. So it can do with payloads, headers, shares and
//! advice whatever it likes; all of it is here, and more than one at a time.

use qsocket_proto::frame::{Frame, Frames, RouteError};
use qsocket_proto::ids::RouteId;
use qsocket_proto::relay::HopId;
use qsocket_proto::stripe::STRIPE_HEADER_BYTES;
use rand_core::Rng;
use std::collections::VecDeque;

/// What one relay says to the wrong end, at the wrong time, or without reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A bit of the payload flips.
    Flip,
    /// The payload ends early.
    Shorten,
    /// The payload is made of nothing.
    Junk,
    /// A stripe under a name that its receiver waits for has another content.
    Invent,
    /// A stripe says that it is the one of another block.
    Rename,
    Drop,
    Twice,
    /// Ten of one frame.
    Often,
    /// The frame comes after the next one.
    Hold,
    /// Another payload of this relay's takes the place of this one: of another block, stream, connection or direction.
    Swap,
    /// An old frame is said again.
    Replay,
    /// The frame claims another place in the path's byte count.
    Offset,
    Congested,
    RouteError,
    /// A route ends in the middle, for one end.
    Detach,
    /// OPEN or ATTACH name another connection, client or root.
    Header,
    /// OPEN brings another share.
    Share,
}

impl Lie {
    pub const ALL: [Self; 17] = [
        Self::Flip,
        Self::Shorten,
        Self::Junk,
        Self::Invent,
        Self::Rename,
        Self::Drop,
        Self::Twice,
        Self::Often,
        Self::Hold,
        Self::Swap,
        Self::Replay,
        Self::Offset,
        Self::Congested,
        Self::RouteError,
        Self::Detach,
        Self::Header,
        Self::Share,
    ];
}

/// Frames that a liar remembers.
const KEPT: usize = 24;

/// A frame for a hop.
pub struct Said {
    pub hop: HopId,
    pub bytes: Vec<u8>,
}

/// The habits of one relay.
pub struct Liar {
    /// Its lies.
    pub lies: Vec<Lie>,
    /// It lies about one frame in so many.
    one_in: u32,
    kept: VecDeque<(HopId, Vec<u8>)>,
    held: Option<(HopId, Vec<u8>)>,
    /// See [`Liar::unknowing`].
    unknowing: bool,
    pub told: u64,
}

impl Liar {
    pub fn new(lies: Vec<Lie>, one_in: u32) -> Self {
        Self { lies, one_in, kept: VecDeque::new(), held: None, unknowing: false, told: 0 }
    }

    /// One that passes nothing on, and says instead that nobody knows the connection.
    pub fn unknowing() -> Self {
        Self { unknowing: true, ..Self::new(Vec::new(), 1) }
    }

    /// Its process is replaced by a fresh one: the hops that it knew are gone.
    pub fn restart(&mut self) {
        self.kept.clear();
        self.held = None;
    }

    /// What goes out instead of a frame that is to go to `to`, its route set already.
    pub fn tell(&mut self, rng: &mut impl Rng, to: HopId, frame: &Frame<'_>) -> Vec<Said> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        if self.unknowing {
            let reason = RouteError::UnknownConnection;
            let advice = frame.route().map(|route| encoded(&Frame::RouteError { route, reason }));
            return advice.into_iter().map(|bytes| Said { hop: to, bytes }).collect();
        }
        let mut out = Vec::new();
        out.extend(self.held.take().map(|(hop, bytes)| Said { hop, bytes }));
        if rng.next_u32().is_multiple_of(self.one_in) && !self.lies.is_empty() {
            let lie = self.lies[rng.next_u32() as usize % self.lies.len()];
            self.told += 1;
            self.lie(rng, lie, to, &mut bytes, &mut out);
        }
        if !bytes.is_empty() {
            self.kept.push_back((to, bytes.clone()));
            if self.kept.len() > KEPT {
                self.kept.pop_front();
            }
            // What was held comes behind this one.
            out.insert(0, Said { hop: to, bytes });
        }
        out
    }

    fn some_kept(&self, rng: &mut impl Rng) -> Option<&(HopId, Vec<u8>)> {
        self.kept.get(rng.next_u32() as usize % self.kept.len().max(1))
    }

    fn lie(&mut self, rng: &mut impl Rng, lie: Lie, to: HopId, bytes: &mut Vec<u8>, out: &mut Vec<Said>) {
        let mut copy = bytes.clone();
        let Some(Ok(frame)) = Frames::new(&mut copy).next() else { return };
        match (lie, frame) {
            (Lie::Drop, _) => bytes.clear(),
            (Lie::Twice, _) => out.push(Said { hop: to, bytes: bytes.clone() }),
            (Lie::Often, _) => out.extend((1..10).map(|_| Said { hop: to, bytes: bytes.clone() })),
            (Lie::Hold, _) => self.held = Some((to, std::mem::take(bytes))),
            (Lie::Replay, _) => {
                let old = self.some_kept(rng).cloned();
                out.extend(old.map(|(hop, bytes)| Said { hop, bytes }));
            }
            (Lie::Swap, Frame::Data { route, offset, .. }) => {
                let Some((_, mut other)) = self.some_kept(rng).cloned() else { return };
                if let Some(Ok(Frame::Data { payload, .. })) = Frames::new(&mut other).next() {
                    *bytes = encoded(&Frame::Data { route, offset, payload });
                }
            }
            (Lie::Flip, Frame::Data { route, offset, payload }) if !payload.is_empty() => {
                let at = rng.next_u32() as usize % payload.len();
                payload[at] ^= 1 << (rng.next_u32() % 8);
                *bytes = encoded(&Frame::Data { route, offset, payload });
            }
            (Lie::Shorten, Frame::Data { route, offset, payload }) => {
                let n = rng.next_u32() as usize % (payload.len() + 1);
                *bytes = encoded(&Frame::Data { route, offset, payload: &mut payload[..n] });
            }
            (Lie::Junk, Frame::Data { route, offset, payload }) => {
                // The kind stays, so that more than the first byte is looked at.
                let kind = payload.first().copied();
                rng.fill_bytes(payload);
                payload.iter_mut().take(1).for_each(|first| *first = kind.unwrap_or_default());
                *bytes = encoded(&Frame::Data { route, offset, payload });
            }
            (Lie::Invent, Frame::Data { route, offset, payload }) if is_stripe(payload) => {
                rng.fill_bytes(&mut payload[STRIPE_HEADER_BYTES..]);
                *bytes = encoded(&Frame::Data { route, offset, payload });
            }
            (Lie::Rename, Frame::Data { route, offset, payload }) if is_stripe(payload) => {
                payload[LAST_OF_BLOCK_NUMBER] ^= 1;
                *bytes = encoded(&Frame::Data { route, offset, payload });
            }
            (Lie::Offset, Frame::Data { route, payload, .. }) => {
                *bytes = encoded(&Frame::Data { route, offset: rng.next_u32(), payload });
            }
            (Lie::Congested, _) => {
                let bytes = rng.next_u32();
                self.advise(rng, out, |route| Frame::Congested { route, bytes });
            }
            (Lie::RouteError, _) => {
                let reason = REASONS[rng.next_u32() as usize % REASONS.len()];
                self.advise(rng, out, |route| Frame::RouteError { route, reason });
            }
            (Lie::Detach, _) => self.advise(rng, out, |route| Frame::Detach { route }),
            (Lie::Header, Frame::Open { route, header, share, proof }) => {
                let header = flipped(rng, header);
                *bytes = encoded(&Frame::Open { route, header: &header, share, proof });
            }
            (Lie::Header, Frame::Attach { route, header }) => {
                let header = flipped(rng, header);
                *bytes = encoded(&Frame::Attach { route, header: &header });
            }
            (Lie::Share, Frame::Open { route, header, share, proof }) => {
                let share = flipped(rng, share).try_into().expect("as long as before");
                *bytes = encoded(&Frame::Open { route, header, share: &share, proof });
            }
            _ => {}
        }
    }

    /// Says something about a route, at an end that used it.
    fn advise(&self, rng: &mut impl Rng, out: &mut Vec<Said>, say: impl Fn(RouteId) -> Frame<'static>) {
        let Some((hop, mut old)) = self.some_kept(rng).cloned() else { return };
        let route = Frames::new(&mut old).next().and_then(|f| f.ok()?.route());
        out.extend(route.map(|route| Said { hop, bytes: encoded(&say(route)) }));
    }
}

const REASONS: [RouteError; 8] = [
    RouteError::NoSuchServer,
    RouteError::DestinationNotRegistered,
    RouteError::ServerUnreachable,
    RouteError::NotYours,
    RouteError::Busy,
    RouteError::BadShare,
    RouteError::UnknownConnection,
    RouteError::Lost,
];

/// Of a stripe's header, the byte in which neighbouring blocks differ.
const LAST_OF_BLOCK_NUMBER: usize = 15;

fn is_stripe(payload: &[u8]) -> bool {
    payload.first() == Some(&1) && payload.len() > STRIPE_HEADER_BYTES
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

fn flipped(rng: &mut impl Rng, bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let at = rng.next_u32() as usize % out.len().max(1);
    out.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << (rng.next_u32() % 8));
    out
}
