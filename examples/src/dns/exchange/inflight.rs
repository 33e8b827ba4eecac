//! The queries of one exchange: which wait to be sent, which for an answer, and under which id.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{ExchangeError, MAX_IN_FLIGHT};
use crate::dns::wire::{self, Query};

/// Queries noted before those that were given up are swept out. A query that is given up stays until then, to
/// tell a late answer from a wrong one; at twice the live ones, a sweep pays for itself.
const SWEEP_AT: usize = 2 * MAX_IN_FLIGHT;

/// One query and where its answer goes.
#[derive(Debug)]
pub(super) struct Job {
    query: Query,
    reply: oneshot::Sender<Result<Bytes, ExchangeError>>,
    sends: u8,
}

impl Job {
    pub(super) const fn new(query: Query, reply: oneshot::Sender<Result<Bytes, ExchangeError>>) -> Self {
        Self { query, reply, sends: 0 }
    }
}

/// The table of queries, shared by the halves of one task that send and receive.
#[derive(Debug)]
pub(super) struct InFlight(Mutex<Table>);

#[derive(Debug)]
struct Table {
    unsent: VecDeque<Job>,
    sent: BTreeMap<u16, Sent>,
    next_id: u16,
    last_heard: Option<Instant>,
    answered: u64,
}

#[derive(Debug)]
struct Sent {
    job: Job,
    at: Instant,
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Table {
            unsent: VecDeque::new(),
            sent: BTreeMap::new(),
            next_id: rand::random(),
            last_heard: None,
            answered: 0,
        }))
    }

    /// Notes a query to be sent.
    pub(super) fn enqueue(&self, job: Job) {
        self.lock().unsent.push_back(job);
    }

    /// Takes the next query to send, under an id that no other query on this stream has.
    pub(super) fn next_unsent(&self, now: Instant) -> Option<Bytes> {
        let table = &mut *self.lock();
        let mut job = loop {
            let job = table.unsent.pop_front()?;
            if !job.reply.is_closed() {
                break job;
            }
        };
        if table.sent.len() >= SWEEP_AT {
            table.sent.retain(|_, sent| !sent.job.reply.is_closed());
        }
        // At most MAX_IN_FLIGHT live queries and a sweep's worth of others: most ids are free.
        while table.sent.contains_key(&table.next_id) {
            table.next_id = table.next_id.wrapping_add(1);
        }
        let id = table.next_id;
        table.next_id = id.wrapping_add(1);
        job.sends += 1;
        let message = wire::with_id(job.query.bytes(), id);
        table.sent.insert(id, Sent { job, at: now });
        Some(message)
    }

    /// Hands an answer to whoever asked; one that fits no query is ignored.
    pub(super) fn answer(&self, now: Instant, message: &[u8]) {
        let table = &mut *self.lock();
        let Some(id) = wire::id_of(message) else { return };
        let fits = table.sent.get(&id).is_some_and(|sent| sent.job.query.is_answered_by(message));
        if !fits {
            return;
        }
        // Only what answers a query shows that the server works.
        table.last_heard = Some(now);
        table.answered += 1;
        if let Some(Sent { job, .. }) = table.sent.remove(&id) {
            let answer = wire::with_id(message, job.query.id());
            // Nobody may be waiting any more.
            let _given_up = job.reply.send(Ok(answer));
        }
    }

    /// Notes that a new stream begins at `now`.
    pub(super) fn stream_begins(&self, now: Instant) {
        self.lock().last_heard = Some(now);
    }

    /// Whether some query was given up although, or because, nothing was heard since it was sent.
    pub(super) fn is_silent_since_given_up(&self) -> bool {
        let table = self.lock();
        let Some(last_heard) = table.last_heard else { return false };
        table.sent.values().any(|sent| sent.job.reply.is_closed() && sent.at >= last_heard)
    }

    /// Makes the queries of a stream that ended ready for the next, but for those sent `max_sends` times.
    pub(super) fn stream_ended(&self, max_sends: u8) {
        let table = &mut *self.lock();
        for (_, Sent { job, .. }) in std::mem::take(&mut table.sent) {
            if job.sends >= max_sends {
                let _given_up = job.reply.send(Err(ExchangeError::StreamEnded));
            } else if !job.reply.is_closed() {
                table.unsent.push_back(job);
            }
        }
    }

    /// Whether a query that is still wanted waits to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        let table = &mut *self.lock();
        table.unsent.retain(|job| !job.reply.is_closed());
        !table.unsent.is_empty()
    }

    /// How many queries have been answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.lock().answered
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is whole between any two statements above, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
