//! Sealing and opening the records of a hop (`docs/protocol.md`, 4.8 to 4.11).
//!
//! A record is `length u32 ‖ number u64 ‖ ciphertext ‖ tag`. The two directions have separate keys and separate
//! halves, so that a shell may keep them in different tasks.

use super::{Inbox, MAX_RECORD, Outbox, RECORD_HEADER, RECORD_TAG};
use crate::codec::Malformed;
use crate::crypto::schedule::KeyAndIv;
use crate::crypto::schedule::hop::TrafficSecret;
use crate::fault_points::{Point, hit};
use crate::frame::{Frames, split_rekey};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long one record key is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopLimits {
    /// Records after which the sealer takes the next key.
    pub soft_records: u64,
    /// Age of a key after which the sealer takes the next one.
    pub soft_age: Duration,
    /// Records after which the key neither seals nor opens: the hop is closed.
    pub hard_records: u64,
}

impl Default for HopLimits {
    /// 2^20 records or one hour, and 2^22 records: far inside the bounds of AES-GCM for records of 64 KiB
    /// (draft-irtf-cfrg-aead-limits).
    fn default() -> Self {
        Self { soft_records: 1 << 20, soft_age: Duration::from_secs(3600), hard_records: 1 << 22 }
    }
}

/// Why a record is refused. Whatever it is, the hop is closed: over TCP nothing but an attack or a bug does this.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// The length field is outside 17 to 65536.
    #[error("a record of {0} bytes is not between 17 and 65536")]
    Length(u32),
    /// The record is not the next one.
    #[error("record {got} arrived where {expected} is due")]
    Number {
        /// The number that was due.
        expected: u64,
        /// The number in the record.
        got: u64,
    },
    /// The record was changed or sealed under another key.
    #[error("a record of the hop was changed on the way or sealed under another key")]
    Forged,
    /// The key has sealed or opened as many records as it may.
    #[error("the record key of the hop is used up and was not replaced")]
    Exhausted,
    /// The record does not hold whole frames.
    #[error("a record of the hop holds no whole frames: {0}")]
    Frames(#[from] Malformed),
}

/// One direction's keys and counters.
#[derive(Debug)]
struct Epoch {
    /// `None` only while the next secret is derived.
    secret: Option<TrafficSecret>,
    keys: KeyAndIv,
    /// The number of the next record; runs on over rekeys.
    number: u64,
    /// Records under this key.
    used: u64,
    limits: HopLimits,
}

impl Epoch {
    fn new(secret: TrafficSecret, limits: HopLimits) -> Self {
        Self { keys: secret.keys(), secret: Some(secret), number: 0, used: 0, limits }
    }

    fn advance(&mut self) {
        self.secret = self.secret.take().map(TrafficSecret::next);
        if let Some(secret) = &self.secret {
            self.keys = secret.keys();
        }
        self.used = 0;
    }
}

/// Seals the records of one direction.
#[derive(Debug)]
pub struct Sealer {
    epoch: Epoch,
    since: Instant,
}

impl Sealer {
    /// Seals from record 0 under the first key of `secret`.
    pub fn new(now: Instant, secret: TrafficSecret, limits: HopLimits) -> Self {
        Self { epoch: Epoch::new(secret, limits), since: now }
    }

    /// Seals everything in `outbox` where it lies, and appends a REKEY record when the key has served its time.
    ///
    /// # Errors
    /// [`RecordError::Exhausted`] at the hard limit; what is not sealed stays unsealed.
    pub fn seal(&mut self, now: Instant, outbox: &mut Outbox) -> Result<(), RecordError> {
        self.seal_all(outbox)?;
        let Epoch { used, limits, .. } = self.epoch;
        let old = now.saturating_duration_since(self.since) >= limits.soft_age;
        if used > 0 && (used >= limits.soft_records || old || hit(Point::EarlyRekey)) {
            outbox.rekey();
            self.seal_all(outbox)?;
            self.epoch.advance();
            self.since = now;
        }
        Ok(())
    }

    fn seal_all(&mut self, outbox: &mut Outbox) -> Result<(), RecordError> {
        while let Some(record) = outbox.next_unsealed() {
            let Epoch { keys, number, used, limits, .. } = &mut self.epoch;
            if *used >= limits.hard_records {
                return Err(RecordError::Exhausted);
            }
            let len = record.len();
            let Some((head, rest)) = record.split_first_chunk_mut::<RECORD_HEADER>() else { return Ok(()) };
            let Some((body, tag)) = rest.split_last_chunk_mut::<RECORD_TAG>() else { return Ok(()) };
            head[4..].copy_from_slice(&number.to_be_bytes());
            *tag = keys.key.seal_in_place(keys.iv.xor_number(*number), head, body);
            *number += 1;
            *used += 1;
            outbox.mark_sealed(len);
        }
        Ok(())
    }
}

/// Opens the records of one direction.
#[derive(Debug)]
pub struct Opener {
    epoch: Epoch,
    /// A record was refused: nothing is opened any more.
    failed: Option<RecordError>,
}

impl Opener {
    /// Opens from record 0 under the first key of `secret`.
    pub fn new(secret: TrafficSecret, limits: HopLimits) -> Self {
        Self { epoch: Epoch::new(secret, limits), failed: None }
    }

    /// Opens the next record in `inbox` where it lies and returns its frames, without a closing REKEY.
    ///
    /// `Ok(None)` says that the record is not complete. Frames may be none: a record may hold a REKEY only.
    ///
    /// # Errors
    /// The first refused record ends the hop, and every later call repeats its error.
    pub fn next_record<'b>(&mut self, inbox: &'b mut Inbox) -> Result<Option<Frames<'b>>, RecordError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let opened = self.open(inbox);
        if let Err(error) = opened {
            self.failed = Some(error);
        }
        opened
    }

    fn open<'b>(&mut self, inbox: &'b mut Inbox) -> Result<Option<Frames<'b>>, RecordError> {
        let Some(field) = inbox.bytes().first_chunk::<4>() else { return Ok(None) };
        let field = u32::from_be_bytes(*field);
        let len = field as usize;
        if len <= RECORD_TAG || len > MAX_RECORD {
            return Err(RecordError::Length(field));
        }
        let Some(record) = inbox.take(RECORD_HEADER + len) else { return Ok(None) };
        let Some((head, rest)) = record.split_first_chunk_mut::<RECORD_HEADER>() else { return Ok(None) };
        let Some((body, tag)) = rest.split_last_chunk_mut::<RECORD_TAG>() else { return Ok(None) };
        let [_, _, _, _, number @ ..] = *head;
        let got = u64::from_be_bytes(number);
        let Epoch { keys, number: expected, used, limits, .. } = &mut self.epoch;
        if got != *expected {
            return Err(RecordError::Number { expected: *expected, got });
        }
        if *used >= limits.hard_records {
            return Err(RecordError::Exhausted);
        }
        keys.key.open_in_place(keys.iv.xor_number(got), head, body, tag).map_err(|_| RecordError::Forged)?;
        *expected += 1;
        *used += 1;
        let (end, rekey) = split_rekey(body)?;
        if rekey {
            self.epoch.advance();
        }
        Ok(Some(Frames::new(&mut body[..end])))
    }
}

#[cfg(test)]
mod tests;
