//! Control frames: what the two ends of a connection say to each other besides stream bytes.
//!
//! Formats of `docs/protocol.md` section 10. Contents are absolute ("all below block 7", never "one more"), so
//! that a late or repeated copy changes nothing.

use crate::codec::{Malformed, Reader, Write};
use crate::grid::StripeSet;
use crate::ids::{PathId, PathSet, RELAYS, StreamId};

/// Ranges of complete blocks that an ACK lists for one stream.
pub const MAX_ACK_RANGES: usize = 32;

/// Streams that one ACK speaks of; further ones go into the next ACK.
pub const MAX_ACK_STREAMS: usize = 16;

/// Incomplete blocks that one ACK describes.
pub const MAX_ACK_PARTIAL: usize = 16;

/// Longest reason text of a CLOSE.
pub const MAX_REASON_BYTES: usize = 200;

/// What arrived on one path: numbers of the sender's own byte count on it, modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathCount {
    /// End of the furthest frame that arrived.
    pub end: u32,
    /// Bytes that arrived; below `end` by what the path lost.
    pub received: u32,
}

/// What a receiver holds of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamAck {
    /// Which stream.
    pub stream: StreamId,
    /// Every block below this number is complete.
    pub next: u64,
    /// Further complete blocks: (distance from `next`, count), ascending, at most [`MAX_ACK_RANGES`].
    pub ranges: Vec<(u16, u16)>,
}

/// What a receiver holds of one incomplete block, so that a resend brings just what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialAck {
    /// Which stream.
    pub stream: StreamId,
    /// Which block.
    pub block: u64,
    /// The stripes that arrived and opened.
    pub have: StripeSet,
}

/// An acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Cumulative counters of the paths on which something arrived.
    pub paths: [Option<PathCount>; RELAYS],
    /// Largest control packet number that arrived.
    pub control: u64,
    /// Bit k: control packet `control - 1 - k` arrived too.
    pub control_before: u64,
    /// Complete blocks, a stream each.
    pub streams: Vec<StreamAck>,
    /// Incomplete blocks.
    pub partial: Vec<PartialAck>,
}

/// One control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlFrame {
    /// What arrived.
    Ack(Box<Ack>),
    /// Bytes that may be sent over all streams since the connection began.
    MaxData(u64),
    /// Bytes that may be sent on one stream since it began.
    MaxStreamData(StreamId, u64),
    /// Streams that may be opened since the connection began.
    MaxStreams(u32),
    /// The sender of a stream gives it up: code, and the stream bytes it had used of the window.
    Reset {
        /// Which stream.
        stream: StreamId,
        /// Why: a [`crate::open::Refusal`] number, or 0 for an abort by the application.
        code: u32,
        /// Length of the stream as far as it was sent, for the connection's byte window.
        final_size: u64,
    },
    /// The receiver of a stream wants no more of it.
    Stop {
        /// Which stream.
        stream: StreamId,
        /// Why, as in RESET.
        code: u32,
    },
    /// Asks for an acknowledgement.
    Ping,
    /// This path joins the connection; counts only on the path that it names.
    Path(PathId),
    /// Everything sealed in this phase is acknowledged or given up; both sides erase its keys.
    PhaseDone(u32),
    /// The connection ends. Without a FIN before it, every unfinished stream ends in an error.
    Close {
        /// 0 for a planned end.
        code: u32,
        /// For a human; not more than [`MAX_REASON_BYTES`].
        reason: String,
    },
}

impl ControlFrame {
    /// Whether the receiver acknowledges the packet for this frame's sake.
    pub fn is_ack_eliciting(&self) -> bool {
        !matches!(self, Self::Ack(_))
    }

    /// Appends the wire form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ack(ack) => {
                out.put_u8(1);
                ack.encode(out);
            }
            Self::MaxData(max) => {
                out.put_u8(2);
                out.put_u64(*max);
            }
            Self::MaxStreamData(stream, max) => {
                out.put_u8(3);
                out.put_u32(stream.0);
                out.put_u64(*max);
            }
            Self::MaxStreams(max) => {
                out.put_u8(4);
                out.put_u32(*max);
            }
            Self::Reset { stream, code, final_size } => {
                out.put_u8(5);
                out.put_u32(stream.0);
                out.put_u32(*code);
                out.put_u64(*final_size);
            }
            Self::Stop { stream, code } => {
                out.put_u8(6);
                out.put_u32(stream.0);
                out.put_u32(*code);
            }
            Self::Ping => out.put_u8(7),
            Self::Path(path) => {
                out.put_u8(8);
                out.put_u8(path.get());
            }
            Self::PhaseDone(phase) => {
                out.put_u8(9);
                out.put_u32(*phase);
            }
            Self::Close { code, reason } => {
                let cut = reason.floor_char_boundary(MAX_REASON_BYTES);
                let text = reason.as_bytes().get(..cut).unwrap_or_default();
                out.put_u8(10);
                out.put_u32(*code);
                out.put_u8(text.len() as u8);
                out.put(text);
            }
        }
    }

    /// Reads one frame.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8("control frame type")? {
            1 => Self::Ack(Box::new(Ack::decode(r)?)),
            2 => Self::MaxData(r.u64("MAX_DATA")?),
            3 => Self::MaxStreamData(stream(r)?, r.u64("MAX_STREAM_DATA")?),
            4 => Self::MaxStreams(r.u32("MAX_STREAMS")?),
            5 => Self::Reset { stream: stream(r)?, code: r.u32("code")?, final_size: r.u64("final size")? },
            6 => Self::Stop { stream: stream(r)?, code: r.u32("code")? },
            7 => Self::Ping,
            8 => Self::Path(PathId::decode(r)?),
            9 => Self::PhaseDone(r.u32("phase")?),
            10 => {
                let code = r.u32("code")?;
                let text = r.vec8(MAX_REASON_BYTES, "reason")?;
                // Replacement characters are longer than the bytes that they stand for.
                let mut reason = String::from_utf8_lossy(text).into_owned();
                reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
                Self::Close { code, reason }
            }
            _ => return Err(Malformed::Value("control frame type")),
        })
    }

    /// Reads all frames of an opened packet; an empty packet is malformed.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let mut r = Reader::new(bytes);
        let mut frames = Vec::new();
        while r.remaining() > 0 {
            frames.push(Self::decode(&mut r)?);
        }
        if frames.is_empty() { Err(Malformed::Short("control frame")) } else { Ok(frames) }
    }
}

impl Ack {
    fn encode(&self, out: &mut Vec<u8>) {
        let paths: PathSet = PathId::all().filter(|p| self.paths[p.index()].is_some()).collect();
        let bits = paths.iter().fold(0u32, |bits, p| bits | 1 << p.get());
        out.put_u32(bits);
        for count in self.paths.iter().flatten() {
            out.put_u32(count.end);
            out.put_u32(count.received);
        }
        out.put_u64(self.control);
        out.put_u64(self.control_before);
        let streams = self.streams.get(..MAX_ACK_STREAMS).unwrap_or(&self.streams);
        out.put_u8(streams.len() as u8);
        for s in streams {
            out.put_u32(s.stream.0);
            out.put_u56(s.next);
            let ranges = s.ranges.get(..MAX_ACK_RANGES).unwrap_or(&s.ranges);
            out.put_u8(ranges.len() as u8);
            for (start, count) in ranges {
                out.put_u16(*start);
                out.put_u16(*count);
            }
        }
        let partial = self.partial.get(..MAX_ACK_PARTIAL).unwrap_or(&self.partial);
        out.put_u8(partial.len() as u8);
        for p in partial {
            out.put_u32(p.stream.0);
            out.put_u56(p.block);
            out.put_u64(p.have.bits());
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bits = r.u32("ACK paths")?;
        if bits >> RELAYS != 0 {
            return Err(Malformed::Value("ACK paths"));
        }
        let mut ack = Self::default();
        for (i, slot) in ack.paths.iter_mut().enumerate() {
            if bits & (1 << i) != 0 {
                *slot = Some(PathCount { end: r.u32("path end")?, received: r.u32("path received")? });
            }
        }
        ack.control = r.u64("ACK control")?;
        ack.control_before = r.u64("ACK control bits")?;
        for _ in 0..count(r, MAX_ACK_STREAMS, "ACK streams")? {
            let stream = stream(r)?;
            let next = r.u56("ACK next block")?;
            let mut ranges = Vec::new();
            let mut above = 0u32;
            for _ in 0..count(r, MAX_ACK_RANGES, "ACK ranges")? {
                let (start, len) = (r.u16("ACK range")?, r.u16("ACK range")?);
                if len == 0 || u32::from(start) < above {
                    return Err(Malformed::Value("ACK range"));
                }
                above = u32::from(start) + u32::from(len);
                ranges.push((start, len));
            }
            ack.streams.push(StreamAck { stream, next, ranges });
        }
        for _ in 0..count(r, MAX_ACK_PARTIAL, "ACK partial blocks")? {
            ack.partial.push(PartialAck {
                stream: stream(r)?,
                block: r.u56("block")?,
                have: StripeSet::from_bits(r.u64("stripes")?).ok_or(Malformed::Value("stripes"))?,
            });
        }
        Ok(ack)
    }
}

/// A stream's number. The hello is over before the first control packet, so that none speaks of it.
fn stream(r: &mut Reader<'_>) -> Result<StreamId, Malformed> {
    match StreamId(r.u32("stream")?) {
        StreamId::HELLO => Err(Malformed::Value("stream")),
        id => Ok(id),
    }
}

fn count(r: &mut Reader<'_>, max: usize, field: &'static str) -> Result<usize, Malformed> {
    let len = usize::from(r.u8(field)?);
    if len > max { Err(Malformed::TooLong { field, len, max }) } else { Ok(len) }
}

#[cfg(test)]
mod tests;
