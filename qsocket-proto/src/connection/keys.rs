//! Key phases: which keys seal, which keys open, and when they are replaced and erased.
//!
//! `docs/protocol.md` section 12. The two directions change phase independently. Every stripe and control packet
//! names its phase; a block stays in the phase of its first seal, resends too. No timer erases a key: a phase
//! ends when the sender says that everything sealed in it is acknowledged or given up.

use crate::crypto::aead::Forged;
use crate::crypto::schedule::{KeyAndIv, PhaseKeys, PhaseSecret};
use crate::fault_points::{Point, hit};
use crate::ids::{ConnectionId, Direction};
use crate::stripe::{ControlHeader, StripeHeader, TAG_BYTES};
use std::time::{Duration, Instant};

/// How long one phase may seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// Stripes and control packets after which the sender moves on to the next phase.
    pub soft_seals: u64,
    /// Seals that no phase passes: the connection closes instead.
    pub hard_seals: u64,
    /// Age after which the sender moves on with its next block.
    pub age: Duration,
}

impl Default for KeyLimits {
    /// 2^20 seals or an hour, 2^22 at most: 64 GiB at 16 KiB a stripe, far inside the bounds of RFC 9001
    /// section 6.6 for AES-GCM.
    fn default() -> Self {
        Self { soft_seals: 1 << 20, hard_seals: 1 << 22, age: Duration::from_secs(3600) }
    }
}

/// The hard limit of a phase is reached; sealing more would weaken the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// The sealing side of one direction.
#[derive(Debug)]
pub(crate) struct SendKeys {
    connection: ConnectionId,
    direction: Direction,
    limits: KeyLimits,
    /// The secret that `current` came from, which the next phase comes from.
    secret: Option<PhaseSecret>,
    current: PhaseKeys,
    /// The phase before, while something sealed in it is unacknowledged or the peer has not confirmed its end.
    previous: Option<PhaseKeys>,
    seals: u64,
    previous_seals: u64,
    since: Instant,
    control_number: u64,
}

impl SendKeys {
    pub(crate) fn new(
        connection: ConnectionId,
        direction: Direction,
        secret: PhaseSecret,
        limits: KeyLimits,
        now: Instant,
    ) -> Self {
        Self {
            connection,
            direction,
            limits,
            current: secret.keys(),
            secret: Some(secret),
            previous: None,
            seals: 0,
            previous_seals: 0,
            since: now,
            // From 1 on: an ACK that heard nothing says 0.
            control_number: 1,
        }
    }

    /// The phase of new blocks and control packets.
    pub(crate) fn phase(&self) -> u32 {
        self.current.phase
    }

    /// The phase that is to be ended, if one is.
    pub(crate) fn ending(&self) -> Option<u32> {
        self.previous.as_ref().map(|p| p.phase)
    }

    /// Moves on to the next phase if a soft limit is reached and the phase before has ended.
    pub(crate) fn advance(&mut self, now: Instant) {
        // After a few seals: PHASE_DONE and its answer are some themselves, and must not be a reason for the next phase.
        let early = self.seals > 8 && hit(Point::EarlyPhase);
        let due = self.seals >= self.limits.soft_seals || now.duration_since(self.since) >= self.limits.age;
        if (due || early)
            && self.previous.is_none()
            && self.seals > 0
            && let Some(next) = self.secret.take().and_then(PhaseSecret::next)
        {
            self.previous = Some(std::mem::replace(&mut self.current, next.keys()));
            self.secret = Some(next);
            self.previous_seals = self.seals;
            self.seals = 0;
            self.since = now;
        }
    }

    /// Erases the keys of the phase before: the peer confirmed its end.
    pub(crate) fn end_previous(&mut self, phase: u32) {
        if self.ending() == Some(phase) {
            self.previous = None;
        }
    }

    /// Seals a stripe in place.
    pub(crate) fn seal_stripe(
        &mut self,
        header: &StripeHeader,
        plaintext: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], Exhausted> {
        let aad = header.associated_data(self.connection, self.direction);
        let hard = self.limits.hard_seals;
        let (phase, seals) = match &self.previous {
            Some(previous) if previous.phase == header.phase => (previous, &mut self.previous_seals),
            _ if self.current.phase == header.phase => (&self.current, &mut self.seals),
            _ => return Err(Exhausted),
        };
        if *seals >= hard {
            return Err(Exhausted);
        }
        *seals += 1;
        let nonce = phase.stripe.iv.xor_stripe(header.stream.0, header.block, header.stripe.get());
        Ok(phase.stripe.key.seal_in_place(nonce, &aad, plaintext))
    }

    /// Seals a control packet in place, under the next number.
    pub(crate) fn seal_control(
        &mut self,
        plaintext: &mut [u8],
    ) -> Result<(ControlHeader, [u8; TAG_BYTES]), Exhausted> {
        if self.seals >= self.limits.hard_seals {
            return Err(Exhausted);
        }
        self.seals += 1;
        let header = ControlHeader { phase: self.phase(), number: self.control_number };
        self.control_number += 1;
        let aad = header.associated_data(self.connection, self.direction);
        let nonce = self.current.control.iv.xor_number(header.number);
        Ok((header, self.current.control.key.seal_in_place(nonce, &aad, plaintext)))
    }
}

/// The opening side of one direction: phase p, and p+1 from its first valid tag on.
#[derive(Debug)]
pub(crate) struct RecvKeys {
    connection: ConnectionId,
    direction: Direction,
    /// The secret of the newest phase whose keys are here.
    secret: Option<PhaseSecret>,
    current: PhaseKeys,
    next: Option<PhaseKeys>,
}

impl RecvKeys {
    pub(crate) fn new(connection: ConnectionId, direction: Direction, secret: PhaseSecret) -> Self {
        Self { connection, direction, current: secret.keys(), secret: Some(secret), next: None }
    }

    /// Opens a stripe in place; the buffer is zeroed on failure.
    pub(crate) fn open_stripe(
        &mut self,
        header: &StripeHeader,
        ciphertext: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Forged> {
        let aad = header.associated_data(self.connection, self.direction);
        let KeyAndIv { key, iv } = &self.phase(header.phase)?.stripe;
        key.open_in_place(
            iv.xor_stripe(header.stream.0, header.block, header.stripe.get()),
            &aad,
            ciphertext,
            tag,
        )
    }

    /// Opens a control packet in place; the buffer is zeroed on failure.
    pub(crate) fn open_control(
        &mut self,
        header: &ControlHeader,
        ciphertext: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Forged> {
        let aad = header.associated_data(self.connection, self.direction);
        let KeyAndIv { key, iv } = &self.phase(header.phase)?.control;
        key.open_in_place(iv.xor_number(header.number), &aad, ciphertext, tag)
    }

    /// Whether the sender has ended this phase: what arrives of it is late, not forged.
    pub(crate) fn is_over(&self, phase: u32) -> bool {
        phase < self.current.phase
    }

    /// The sender ended `phase`: nothing sealed in it will be sent again, and its keys are erased.
    pub(crate) fn end(&mut self, phase: u32) {
        if self.current.phase == phase
            && let Some(next) = self.next.take()
        {
            self.current = next;
        }
    }

    /// Deriving the next phase's keys costs a few hashes and happens once, so that a forged phase number is no
    /// lever.
    fn phase(&mut self, number: u32) -> Result<&PhaseKeys, Forged> {
        if number == self.current.phase {
            return Ok(&self.current);
        }
        if Some(number) != self.current.phase.checked_add(1) {
            return Err(Forged);
        }
        if self.next.is_none() {
            self.secret = self.secret.take().and_then(PhaseSecret::next);
            self.next = self.secret.as_ref().map(PhaseSecret::keys);
        }
        self.next.as_ref().ok_or(Forged)
    }
}
