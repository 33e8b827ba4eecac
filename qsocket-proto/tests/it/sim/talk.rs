//! A conversation on one stream that both ends know beforehand: who writes how much, and how each direction ends.
//!
//! The opener puts it into the name of the resource. So each end can tell whether what it meets is right: a clean
//! end only where the writer finished, behind exactly its bytes, and an error only where somebody asked for it.

use rand_core::Rng;

/// One direction of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// What the writer writes.
    pub bytes: u64,
    /// Then it gives up with this code, instead of finishing.
    pub reset: Option<u32>,
    /// The reader wants no more after so many bytes, and says this code.
    pub stop: Option<(u64, u32)>,
    /// The most that is written or read at once.
    pub portion: u32,
    /// Bytes a second; as fast as it goes if `None`.
    pub pace: Option<u64>,
}

/// Both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Talk {
    /// What the end writes that opened the stream.
    pub up: Half,
    /// What the other end writes.
    pub down: Half,
    /// The opener lets go of the stream after so many bytes that it read.
    pub opener_drops: Option<u64>,
    /// The other end does.
    pub acceptor_drops: Option<u64>,
}

/// A code that a conversation ends with. Not 0, which is said for a stream that was let go of, and above the reasons
/// of refusals.
const FIRST_CODE: u32 = 1000;

impl Half {
    fn draw(rng: &mut impl Rng, most: u64) -> Self {
        let mut below = |n: u64| rng.next_u64() % n.max(1);
        // Small ones are common in life, large ones find other faults.
        let bytes = match below(6) {
            0 => 0,
            1 => below(3),
            2 => below(100.min(most)),
            3 | 4 => below(most / 8 + 1),
            _ => below(most + 1),
        };
        let code = FIRST_CODE + below(1000) as u32;
        Self {
            bytes,
            reset: (below(8) == 0).then_some(code),
            stop: (below(8) == 0).then_some((below(bytes + 2), code + 1000)),
            portion: [1, 7, 1000, 20_000, 300_000][below(5) as usize].max(bytes as u32 / 40),
            pace: (below(2) == 0)
                .then_some(bytes.max(1) * 1000 / (100 + below(3000)))
                .filter(|pace| *pace > 0),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let (stop_at, stop) = self.stop.unwrap_or_default();
        for word in [self.bytes, stop_at, self.pace.unwrap_or(0)] {
            out.extend(word.to_be_bytes());
        }
        for word in [self.reset.unwrap_or(0), stop, self.portion] {
            out.extend(word.to_be_bytes());
        }
    }

    fn decode(words: &mut Words<'_>) -> Self {
        let (bytes, stop_at, pace) = (words.u64(), words.u64(), words.u64());
        let (reset, stop, portion) = (words.u32(), words.u32(), words.u32());
        Self {
            bytes,
            reset: (reset > 0).then_some(reset),
            stop: (stop > 0).then_some((stop_at, stop)),
            portion,
            pace: (pace > 0).then_some(pace),
        }
    }
}

impl Talk {
    /// Bytes that one direction writes if nobody draws anything else, at the most `most`.
    pub fn draw(rng: &mut impl Rng, most: u64) -> Self {
        let (up, down) = (Half::draw(rng, most), Half::draw(rng, most));
        let mut drops = |bytes: u64| rng.next_u64().is_multiple_of(12).then(|| rng.next_u64() % (bytes + 1));
        Self { up, down, opener_drops: drops(down.bytes), acceptor_drops: drops(up.bytes) }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.up.encode(out);
        self.down.encode(out);
        for drops in [self.opener_drops, self.acceptor_drops] {
            out.extend(drops.map_or(0, |at| at + 1).to_be_bytes());
        }
    }

    pub fn decode(bytes: &[u8]) -> Self {
        let mut words = Words(bytes);
        let (up, down) = (Half::decode(&mut words), Half::decode(&mut words));
        Self {
            up,
            down,
            opener_drops: words.u64().checked_sub(1),
            acceptor_drops: words.u64().checked_sub(1),
        }
    }
}

struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn u64(&mut self) -> u64 {
        let (word, rest) = self.0.split_first_chunk().expect("an encoded conversation");
        self.0 = rest;
        u64::from_be_bytes(*word)
    }

    fn u32(&mut self) -> u32 {
        let (word, rest) = self.0.split_first_chunk().expect("an encoded conversation");
        self.0 = rest;
        u32::from_be_bytes(*word)
    }
}
