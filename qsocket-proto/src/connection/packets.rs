//! Control packets: what is to be said, what was said and not acknowledged, and what was heard before.

use crate::control::ControlFrame;
use crate::fault_points::{Point, hit};
use crate::ids::{PathId, PathSet, StreamId};
use std::collections::BTreeMap;
use std::time::Instant;

/// Control packets that may be unacknowledged. The oldest is said again under a new number before the receiver's
/// window of the same size passes it.
pub(crate) const CONTROL_WINDOW: u64 = 1024;

/// Packets that an ACK can name: the largest number and the 64 before it.
const NAMED_BY_ACK: u64 = 64;

/// Something that is said until it is acknowledged. One of a kind is enough: contents are absolute, so a newer
/// one replaces an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    Close,
    Confirm,
    Path(PathId),
    Reset(StreamId),
    Stop(StreamId),
    PhaseDone(u32),
    MaxData,
    MaxStreamData(StreamId),
    MaxStreams,
    Ping,
}

impl Topic {
    /// On how many paths a packet with this topic goes out.
    fn width(self) -> Width {
        match self {
            Self::Confirm => Width::All,
            Self::Path(path) => Width::Only(path),
            Self::Close | Self::Reset(_) | Self::Stop(_) | Self::PhaseDone(_) => Width::Wide,
            Self::MaxData | Self::MaxStreamData(_) | Self::MaxStreams | Self::Ping => Width::Narrow,
        }
    }
}

/// How many copies of a control packet are sent, each on a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Width {
    /// 3: acknowledgements and windows, which the next packet repeats anyway.
    Narrow,
    /// 10: one more than may be missing or lie, for what the peer waits for.
    Wide,
    /// Every attached path.
    All,
    /// This path alone.
    Only(PathId),
}

impl Width {
    pub(crate) fn copies(self) -> usize {
        match self {
            Self::Narrow => 3,
            Self::Wide => 10,
            Self::All => 25,
            Self::Only(_) => 1,
        }
    }
}

/// A packet that waits for its acknowledgement.
#[derive(Debug)]
struct Unacked {
    topics: Vec<Topic>,
    sent: Instant,
    tried: PathSet,
}

/// The speaking side.
#[derive(Debug, Default)]
pub(crate) struct Speaker {
    /// To be said, with the frame's present content.
    due: BTreeMap<Topic, ControlFrame>,
    /// Said: the content, kept for a repeat, and the number of the packet that carried it.
    said: BTreeMap<Topic, (ControlFrame, u64)>,
    unacked: BTreeMap<u64, Unacked>,
    /// Paths that a topic went out on without an answer: a repeat takes others first.
    tried: BTreeMap<Topic, PathSet>,
}

impl Speaker {
    /// Says `frame` until it is acknowledged, instead of what was said on this topic before.
    pub(crate) fn say(&mut self, topic: Topic, frame: ControlFrame) {
        self.said.remove(&topic);
        self.tried.remove(&topic);
        self.due.insert(topic, frame);
    }

    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.due.is_empty() && self.unacked.is_empty()
    }

    /// Whether `topic` was said or is to be said, and no acknowledgement came.
    pub(crate) fn is_pending(&self, topic: Topic) -> bool {
        self.due.contains_key(&topic) || self.said.contains_key(&topic)
    }

    /// How wide the next packet goes.
    pub(crate) fn next_width(&self) -> Option<Width> {
        self.due.keys().map(|t| t.width()).max()
    }

    /// Takes the topics of the next packet: those that go out equally wide, and of limited length. Returns them
    /// with the paths that were tried in vain.
    pub(crate) fn next_packet(
        &mut self,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Option<(Vec<Topic>, Width, PathSet)> {
        let width = self.next_width()?;
        let mut topics = Vec::new();
        let mut tried = PathSet::EMPTY;
        for (topic, frame) in &self.due {
            // What names a path travels alone; the rest may ride along with a wider packet.
            let fits = match width {
                Width::Only(_) => topic.width() == width,
                _ => !matches!(topic.width(), Width::Only(_)),
            };
            if !fits {
                continue;
            }
            let before = out.len();
            frame.encode(out);
            if out.len() > limit || !topics.is_empty() && hit(Point::SmallPacket) {
                out.truncate(before);
                break;
            }
            if topic.width() == width {
                self.tried.get(topic).iter().for_each(|t| t.iter().for_each(|p| _ = tried.insert(p)));
            }
            topics.push(*topic);
        }
        for topic in &topics {
            if let Some(frame) = self.due.remove(topic) {
                self.said.insert(*topic, (frame, u64::MAX));
            }
        }
        Some((topics, width, tried))
    }

    /// Records that the packet of these topics went out.
    pub(crate) fn sent(&mut self, number: u64, topics: Vec<Topic>, paths: PathSet, now: Instant) {
        for topic in &topics {
            if let Some((_, said_in)) = self.said.get_mut(topic) {
                *said_in = number;
            }
        }
        self.unacked.insert(number, Unacked { topics, sent: now, tried: paths });
        let window = if hit(Point::EarlyRepeat) { 128 } else { CONTROL_WINDOW };
        let oldest = self.unacked.first_key_value().map(|(n, _)| *n);
        if oldest.is_some_and(|oldest| oldest < number.saturating_sub(window / 2)) {
            // Many at once, for what is said again shares packets. One packet for each would make the next one stale,
            // and so on for ever.
            let stale: Vec<u64> =
                self.unacked.range(..number.saturating_sub(window / 4)).map(|(n, _)| *n).collect();
            stale.into_iter().for_each(|n| self.repeat(n));
        }
    }

    /// When the oldest unacknowledged packet went out.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.unacked.values().map(|u| u.sent).min()
    }

    /// Schedules everything sent at or before `before` again. True if there was anything.
    pub(crate) fn repeat_before(&mut self, before: Instant) -> bool {
        let late: Vec<u64> = self.unacked.iter().filter(|(_, u)| u.sent <= before).map(|(n, _)| *n).collect();
        late.iter().for_each(|n| self.repeat(*n));
        !late.is_empty()
    }

    fn repeat(&mut self, number: u64) {
        let Some(packet) = self.unacked.remove(&number) else { return };
        for topic in packet.topics {
            if let Some(frame) = self.take_said(topic, number) {
                let tried = self.tried.entry(topic).or_default();
                packet.tried.iter().for_each(|p| _ = tried.insert(p));
                if tried.len() >= 20 {
                    *tried = PathSet::EMPTY;
                }
                self.due.insert(topic, frame);
            }
        }
    }

    /// Takes back what packet `number` said, unless a newer content took its place.
    fn take_said(&mut self, topic: Topic, number: u64) -> Option<ControlFrame> {
        match self.said.entry(topic) {
            std::collections::btree_map::Entry::Occupied(said) if said.get().1 == number => {
                Some(said.remove().0)
            }
            _ => None,
        }
    }

    /// Takes an acknowledgement: the largest number and the bits of those before it. Returns the topics that
    /// are settled and the send time of the newest packet named.
    pub(crate) fn acknowledge(&mut self, largest: u64, before: u64) -> (Vec<Topic>, Option<Instant>) {
        let mut settled = Vec::new();
        let mut newest = None;
        let low = largest.saturating_sub(NAMED_BY_ACK);
        let named: Vec<u64> = self
            .unacked
            .range(low..=largest)
            .map(|(n, _)| *n)
            .filter(|n| *n == largest || before & (1 << (largest - 1 - n)) != 0)
            .collect();
        for number in named {
            let Some(packet) = self.unacked.remove(&number) else { continue };
            newest = newest.max(Some(packet.sent));
            for topic in packet.topics {
                if self.take_said(topic, number).is_some() {
                    self.tried.remove(&topic);
                    settled.push(topic);
                }
            }
        }
        (settled, newest)
    }

    /// Forgets what concerns a stream that is gone.
    pub(crate) fn forget_window(&mut self, stream: StreamId) {
        self.forget(Topic::MaxStreamData(stream));
    }

    /// Forgets what was said on a path that is gone: nobody can answer it, and a path that returns says it anew.
    pub(crate) fn forget_path(&mut self, path: PathId) {
        self.forget(Topic::Path(path));
    }

    fn forget(&mut self, topic: Topic) {
        self.due.remove(&topic);
        self.said.remove(&topic);
        self.tried.remove(&topic);
    }
}

/// The listening side: which packet numbers were heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    largest: Option<u64>,
    /// Bit k of the window: number `largest - k` was heard.
    window: [u64; (CONTROL_WINDOW / 64) as usize],
}

impl Heard {
    /// Whether the number is old or was heard: checked before the packet is opened.
    pub(crate) fn is_known(&self, number: u64) -> bool {
        let Some(largest) = self.largest else { return false };
        match largest.checked_sub(number) {
            None => false,
            Some(age) if age >= CONTROL_WINDOW => true,
            Some(age) => self.bit(age),
        }
    }

    /// Records a number whose packet opened.
    pub(crate) fn insert(&mut self, number: u64) {
        match self.largest {
            Some(largest) if number <= largest => self.set(largest - number),
            largest => {
                let shift = largest.map_or(CONTROL_WINDOW, |l| number - l);
                self.shift(shift);
                self.largest = Some(number);
                self.set(0);
            }
        }
    }

    /// The largest number and the bits of the 64 before it, for an ACK.
    pub(crate) fn ack(&self) -> (u64, u64) {
        let Some(largest) = self.largest else { return (0, 0) };
        let bits = (0..NAMED_BY_ACK).filter(|k| self.bit(k + 1)).fold(0, |bits, k| bits | 1 << k);
        (largest, bits)
    }

    fn bit(&self, age: u64) -> bool {
        self.window.get((age / 64) as usize).is_some_and(|w| w & (1 << (age % 64)) != 0)
    }

    fn set(&mut self, age: u64) {
        if let Some(word) = self.window.get_mut((age / 64) as usize) {
            *word |= 1 << (age % 64);
        }
    }

    fn shift(&mut self, by: u64) {
        if by >= CONTROL_WINDOW {
            self.window = Default::default();
            return;
        }
        let (words, bits) = ((by / 64) as usize, by % 64);
        for i in (0..self.window.len()).rev() {
            let from = |k: usize| i.checked_sub(k).and_then(|j| self.window.get(j)).copied().unwrap_or(0);
            let low = if bits == 0 { 0 } else { from(words + 1) >> (64 - bits) };
            let word = from(words) << bits | low;
            if let Some(slot) = self.window.get_mut(i) {
                *slot = word;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn numbers_are_heard_once_whatever_their_order() {
        let mut heard = Heard::default();
        for n in [5u64, 3, 70, 69, 4, 700, 1500] {
            assert!(!heard.is_known(n), "{n}");
            heard.insert(n);
            assert!(heard.is_known(n), "{n}");
        }
        assert!(heard.is_known(70), "older than the window counts as heard");
        assert!(heard.is_known(700));
        assert!(!heard.is_known(701));
        assert_eq!(heard.ack(), (1500, 0));
        heard.insert(1499);
        heard.insert(1436);
        assert_eq!(heard.ack(), (1500, 1 | 1 << 63));
    }

    #[test]
    fn a_window_shift_agrees_with_a_set() {
        let mut heard = Heard::default();
        let mut naive = std::collections::BTreeSet::new();
        let mut x = 1u64;
        for _ in 0..20_000 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let top = naive.last().copied().unwrap_or(0u64);
            let n = (top + 40).saturating_sub((x >> 33) % 200);
            let known =
                naive.contains(&n) || naive.last().is_some_and(|l| l.saturating_sub(n) >= CONTROL_WINDOW);
            assert_eq!(heard.is_known(n), known);
            if !known {
                heard.insert(n);
                naive.insert(n);
            }
        }
    }

    #[test]
    fn what_is_not_acknowledged_is_said_again_elsewhere() {
        let start = Instant::now();
        let mut speaker = Speaker::default();
        speaker.say(Topic::MaxData, ControlFrame::MaxData(1));
        let mut out = Vec::new();
        let (topics, width, tried) = speaker.next_packet(4096, &mut out).unwrap();
        assert_eq!((width, tried), (Width::Narrow, PathSet::EMPTY));
        let paths: PathSet = PathId::all().take(3).collect();
        speaker.sent(0, topics, paths, start);
        assert!(speaker.repeat_before(start + Duration::from_secs(1)));
        let (topics, _, tried) = speaker.next_packet(4096, &mut out).unwrap();
        assert_eq!(tried, paths);
        speaker.sent(1, topics, paths, start);
        assert_eq!(speaker.acknowledge(1, 0).0, vec![Topic::MaxData]);
        assert!(speaker.is_idle());
    }

    #[test]
    fn a_newer_content_replaces_an_older_one_on_its_way() {
        let start = Instant::now();
        let mut speaker = Speaker::default();
        speaker.say(Topic::MaxData, ControlFrame::MaxData(1));
        let (topics, ..) = speaker.next_packet(4096, &mut Vec::new()).unwrap();
        speaker.sent(0, topics, PathSet::EMPTY, start);
        speaker.say(Topic::MaxData, ControlFrame::MaxData(2));
        let (topics, ..) = speaker.next_packet(4096, &mut Vec::new()).unwrap();
        speaker.sent(1, topics, PathSet::EMPTY, start);
        assert_eq!(speaker.acknowledge(0, 0).0, vec![], "the acknowledged content is not the present one");
        assert!(speaker.is_pending(Topic::MaxData));
    }
}
