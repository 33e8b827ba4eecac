//! Calls: what the two ends of a hop ask each other beside streams. `docs/protocol.md`, section 17.
//!
//! A call is one frame and its answer another. They share a hop with the stripes, so they are small
//! ([`MAX_CALL`](crate::frame::MAX_CALL)), few at a time ([`MAX_CALLS`]) and forgotten after [`CALL_DEADLINE`].

use crate::ids::CallId;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Calls of one side of a hop that may wait for their answer; a further one is answered with [`Status::Busy`]. A key
/// exchange makes one or two on each hop, so this is dozens of exchanges at once.
pub const MAX_CALLS: usize = 64;

/// How long a caller waits for an answer. Longer than a relay needs to ask its database or a server, shorter than the
/// patience of whoever waits for a key.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Service {
    /// A client leaves a share of a key for a server.
    PostKey = 1,
    /// A server asks for a share that was left for it.
    GetKey = 2,
    /// A server has the key: the share may be erased.
    ReleaseKey = 3,
    /// A client tells a server about a key; the relay passes it on.
    Signal = 4,
    /// A question of the DNS about the name space `.raida`.
    Resolve = 5,
    /// The owner of a name says what shall be known of it.
    PutName = 6,
    /// The owner of a name wants it for longer.
    RenewName = 7,
    /// The owner of a name gives it back.
    WithdrawName = 8,
    /// How a name stands at this relay.
    DescribeName = 9,
    /// A server says at which addresses it is reached (section 20).
    Register = 16,
    /// A principal has its number with the relay replaced (section 20).
    RotateKey = 17,
    /// A principal enrols another one that the operator permitted it to (section 20).
    Enrol = 18,
}

impl Service {
    /// The service of a number; `None` for one that this version does not know.
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::PostKey,
            2 => Self::GetKey,
            3 => Self::ReleaseKey,
            4 => Self::Signal,
            5 => Self::Resolve,
            6 => Self::PutName,
            7 => Self::RenewName,
            8 => Self::WithdrawName,
            9 => Self::DescribeName,
            16 => Self::Register,
            17 => Self::RotateKey,
            18 => Self::Enrol,
            _ => return None,
        })
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Status {
    /// Done.
    Ok = 0,
    /// The other side does not offer the service.
    NoSuchService = 1,
    /// The request is not of the agreed form.
    Malformed = 2,
    /// The caller may not ask this: it has another role, or the matter is somebody else's.
    NotPermitted = 3,
    /// There is nothing of that name.
    NotFound = 4,
    /// The name is taken.
    Exists = 5,
    /// It was given to another request already.
    Taken = 6,
    /// A quota is used up.
    Quota = 7,
    /// Too many calls at once, or no room now; later again.
    Busy = 8,
    /// The relay has no hop to whom it is for.
    Unreachable = 9,
    /// The relays that vouch for it are fewer than sixteen.
    NotVouched = 10,
    /// It could not be done for a reason of the answering side, which its log names.
    Failed = 11,
    /// The relay has a newer version, or the same one with other content.
    Outdated = 12,
}

impl Status {
    /// The status of a number. One that this version does not know counts as [`Status::Failed`].
    pub fn from_u8(number: u8) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::NoSuchService,
            2 => Self::Malformed,
            3 => Self::NotPermitted,
            4 => Self::NotFound,
            5 => Self::Exists,
            6 => Self::Taken,
            7 => Self::Quota,
            8 => Self::Busy,
            9 => Self::Unreachable,
            10 => Self::NotVouched,
            12 => Self::Outdated,
            _ => Self::Failed,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "done",
            Self::NoSuchService => "the service is not offered",
            Self::Malformed => "the request was not understood",
            Self::NotPermitted => "not permitted",
            Self::NotFound => "nothing of that name is there",
            Self::Exists => "the name is taken",
            Self::Taken => "it was given out already",
            Self::Quota => "the quota is used up",
            Self::Busy => "too much at once; try again later",
            Self::Unreachable => "no hop leads to the server",
            Self::NotVouched => "fewer than 16 relays vouch for it",
            Self::Failed => "it failed at the other side",
            Self::Outdated => "a newer or another version is there",
        })
    }
}

/// The calls of one side of a hop that wait for their answer, each with whoever waits for it.
#[derive(Debug)]
pub struct Calls<W> {
    next: u32,
    waiting: BTreeMap<CallId, W>,
}

impl<W> Default for Calls<W> {
    fn default() -> Self {
        Self { next: 0, waiting: BTreeMap::new() }
    }
}

impl<W> Calls<W> {
    /// Gives a call its number.
    ///
    /// # Errors
    /// The waiter back, when [`MAX_CALLS`] wait.
    pub fn begin(&mut self, waiter: W) -> Result<CallId, W> {
        if self.waiting.len() >= MAX_CALLS {
            return Err(waiter);
        }
        // After 2^32 calls a number may still wait; then the next free one is taken.
        while self.waiting.contains_key(&CallId(self.next)) {
            self.next = self.next.wrapping_add(1);
        }
        let call = CallId(self.next);
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(call, waiter);
        Ok(call)
    }

    /// Who waited for this call, which was answered or given up. `None` if nobody does: an answer that comes late.
    pub fn end(&mut self, call: CallId) -> Option<W> {
        self.waiting.remove(&call)
    }

    /// Forgets all calls: the hop is gone.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_bounded_and_each_is_answered_once() {
        let mut calls = Calls::default();
        let ids: Vec<_> = (0..MAX_CALLS).map(|i| calls.begin(i).unwrap()).collect();
        assert_eq!(calls.begin(99), Err(99));
        assert_eq!(calls.end(ids[7]), Some(7));
        assert_eq!(calls.end(ids[7]), None, "a second answer finds nobody");
        // The number comes round to one that still waits.
        calls.next = ids[8].0;
        let fresh = calls.begin(100).unwrap();
        assert!(!ids.contains(&fresh));
        calls.clear();
        assert_eq!(calls.end(fresh), None);
    }

    #[test]
    fn numbers_come_back_and_unknown_ones_do_no_harm() {
        for number in 0..=u8::MAX {
            if let Some(service) = Service::from_u8(number) {
                assert_eq!(service as u8, number);
            }
            let status = Status::from_u8(number);
            assert!(status as u8 == number || status == Status::Failed, "{number}");
            assert!(number == 0 || status != Status::Ok, "only 0 is success");
        }
    }
}
