//! What sixteen relays answered, for as long as it may be remembered.

use super::agree::Agreed;
use super::message::Question;
use qsocket_proto::names::{MAX_TTL, MIN_TTL, zone};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most answers that are remembered: what one program asks for in a day.
pub(crate) const MAX_ENTRIES: usize = 4096;

/// Most bytes of them: an answer has a few hundred, the longest 4 KiB.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// Bytes of an entry beside question and answer: its place in both maps and what belongs to it.
const OVERHEAD: usize = 256;

/// An answer and when it came.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) agreed: Arc<Agreed>,
    since: Instant,
}

impl Known {
    pub(crate) fn new(agreed: Arc<Agreed>, now: Instant) -> Self {
        Self { agreed, since: now }
    }

    /// For how long it is remembered: as its records say, within the bounds of the protocol. That there is nothing is
    /// remembered for a time that no relay chooses.
    fn lifetime(&self) -> Duration {
        let seconds = self.agreed.answer.ttl().map_or(zone::NEGATIVE_TTL, |ttl| ttl.clamp(MIN_TTL, MAX_TTL));
        Duration::from_secs(seconds.into())
    }

    fn until(&self) -> Instant {
        self.since + self.lifetime()
    }

    /// In whole seconds.
    pub(crate) fn age(&self, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.since).as_secs();
        u32::try_from(age).unwrap_or(u32::MAX)
    }
}

#[derive(Debug)]
struct Entry {
    known: Known,
    /// Tells entries with one end apart.
    number: u64,
    bytes: usize,
}

/// Bounded by [`MAX_ENTRIES`] and [`MAX_BYTES`]; what ends first leaves first.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<Question, Entry>,
    ends: BTreeMap<(Instant, u64), Question>,
    bytes: usize,
    next: u64,
}

impl Cache {
    pub(crate) fn get(&mut self, question: &Question, now: Instant) -> Option<Known> {
        self.expire(now);
        self.entries.get(question).map(|entry| entry.known.clone())
    }

    pub(crate) fn insert(&mut self, question: Question, known: Known, now: Instant) {
        self.remove(&question);
        self.expire(now);
        let bytes = OVERHEAD + 2 * question.size() + known.agreed.answer.size();
        if bytes > MAX_BYTES {
            return;
        }
        while self.entries.len() >= MAX_ENTRIES || self.bytes + bytes > MAX_BYTES {
            let Some((_, first)) = self.ends.first_key_value() else { break };
            self.remove(&first.clone());
        }
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.ends.insert((known.until(), number), question.clone());
        self.entries.insert(question, Entry { known, number, bytes });
    }

    fn expire(&mut self, now: Instant) {
        while let Some(((until, _), first)) = self.ends.first_key_value()
            && *until <= now
        {
            self.remove(&first.clone());
        }
    }

    fn remove(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.ends.remove(&(entry.known.until(), entry.number));
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests;
