//! The hop handshake: who is at the other end, and fresh keys (`docs/protocol.md`, 4.4 to 4.7).
//!
//! Both machines read from the hop's [`Inbox`] and write to its [`Outbox`], so that FINISH leaves together with
//! the first records, and records that arrive behind a FINISH are already where the [`Opener`] looks for them.

use super::message::{
    ACCEPT, Accept, DialledBy, FINISH, FINISH_HEAD, Hello, KIND_ACCEPT, KIND_REJECT, REJECT,
    SUITE_AES_256_GCM_SHA256, VERSION_1, decode_finish,
};
use super::{HopLimits, Inbox, Opener, Outbox, Sealer};
use crate::codec::Malformed;
use crate::crypto::hkdf::MAC_BYTES;
use crate::crypto::schedule::hop::{AuthenticityNumber, HopKeys, HopTranscript, ImportedKey, TrafficSecret};
use crate::crypto::secret::Secret;
use crate::ids::{PathId, Principal, Role};
use rand_core::CryptoRng;
use std::fmt;
use std::time::{Duration, Instant};
use thiserror::Error;

/// The most time that a handshake takes, from the TCP connection to the last byte: whole, not for each byte.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a handshake failed. The TCP connection is closed, after what is in the outbox was sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// The other end refused, without a reason: another authenticity number, an unknown principal, the wrong relay.
    #[error("the other end of the hop refused: check serial number, authenticity number and relay index")]
    Rejected,
    /// The other end does not hold this principal's key for this relay and role, or the message was changed.
    #[error("the other end of the hop does not hold the key")]
    NotAuthentic,
    /// No version or suite in common, or one that was not offered.
    #[error("no version or suite of the hop protocol in common")]
    Incompatible,
    /// Not a message of the handshake.
    #[error("not a message of the hop handshake: {0}")]
    Malformed(#[from] Malformed),
    /// [`HANDSHAKE_TIMEOUT`] has passed.
    #[error("the hop handshake took too long")]
    TimedOut,
    /// The machine has failed or finished before.
    #[error("the hop handshake is over")]
    Over,
}

/// A hop after its handshake: both ends are authenticated.
#[derive(Debug)]
pub struct Established {
    /// The principal at the one end.
    pub principal: Principal,
    /// What it is on this hop.
    pub role: Role,
    /// The relay at the other end.
    pub relay: PathId,
    /// Which end dialled.
    pub dialled_by: DialledBy,
    /// The protocol version in force.
    pub version: u16,
    /// The suite in force.
    pub suite: u8,
    /// At the answering side: the peer used the number that is to take the place of the other one
    /// ([`Principals::next_key`]).
    pub rotated: bool,
    /// Seals what this end sends.
    pub sealer: Sealer,
    /// Opens what this end receives.
    pub opener: Opener,
}

/// Who dials whom: the arguments of a [`Dialer`].
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    /// The principal at the one end.
    pub principal: Principal,
    /// What it is on this hop.
    pub role: Role,
    /// The relay at the other end.
    pub relay: PathId,
    /// Which of the two sends the HELLO.
    pub dialled_by: DialledBy,
    /// How long record keys are used.
    pub limits: HopLimits,
}

/// The side that dialled: sends HELLO, checks ACCEPT, sends FINISH.
pub struct Dialer {
    dial: Dial,
    deadline: Instant,
    hello: Vec<u8>,
    /// Taken when the handshake is over.
    key: Option<ImportedKey>,
}

impl Dialer {
    /// Writes HELLO to `outbox`, which must be fresh. `key` is the principal's imported key for the relay and role.
    pub fn new<R: CryptoRng + ?Sized>(
        now: Instant,
        dial: Dial,
        key: ImportedKey,
        rng: &mut R,
        outbox: &mut Outbox,
    ) -> Self {
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let mut hello = Hello {
            relay: dial.relay,
            principal: dial.principal,
            role: dial.role,
            dialled_by: dial.dialled_by,
            versions: vec![VERSION_1],
            suites: vec![SUITE_AES_256_GCM_SHA256],
            nonce,
        }
        .encode();
        let binder = key.binder(&hello);
        hello.extend_from_slice(&binder);
        outbox.plain(&hello);
        Self { dial, deadline: now + HANDSHAKE_TIMEOUT, hello, key: Some(key) }
    }

    /// Reads the answer, if it is complete, and writes FINISH to `outbox`. Records may follow at once.
    ///
    /// # Errors
    /// Any error ends the handshake.
    pub fn handle(
        &mut self,
        now: Instant,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
    ) -> Result<Option<Established>, HandshakeError> {
        self.handle_timeout(now)?;
        let answer: [u8; ACCEPT] = match inbox.bytes().first() {
            None => return Ok(None),
            Some(&KIND_REJECT) => {
                self.key = None;
                return Err(HandshakeError::Rejected);
            }
            Some(&KIND_ACCEPT) => match inbox.take(ACCEPT).and_then(|bytes| bytes.first_chunk()) {
                Some(bytes) => *bytes,
                None => return Ok(None),
            },
            Some(_) => {
                self.key = None;
                return Err(Malformed::Value("ACCEPT").into());
            }
        };
        let key = self.key.take().ok_or(HandshakeError::Over)?;
        let (accept, mac) = Accept::decode(&answer)?;
        let (unsigned, _) = answer.split_at(ACCEPT - MAC_BYTES);
        let keys = key.hop(HopTranscript::of(&self.hello, unsigned));
        if !keys.responder_finished.verify(&[&self.hello, unsigned], &mac) {
            return Err(HandshakeError::NotAuthentic);
        }
        if accept.version != VERSION_1 || accept.suite != SUITE_AES_256_GCM_SHA256 {
            return Err(HandshakeError::Incompatible);
        }
        outbox.plain(&FINISH_HEAD);
        outbox.plain(&keys.initiator_finished.tag(&[&self.hello, &answer, &FINISH_HEAD]));
        let HopKeys { initiator, responder, .. } = keys;
        Ok(Some(established(now, self.dial, (accept, false), initiator, responder)))
    }

    /// When [`Dialer::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.key.is_some().then_some(self.deadline)
    }

    /// Fails once the deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), HandshakeError> {
        if self.key.is_none() {
            return Err(HandshakeError::Over);
        }
        if now >= self.deadline {
            self.key = None;
            return Err(HandshakeError::TimedOut);
        }
        Ok(())
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("dial", &self.dial).finish_non_exhaustive()
    }
}

fn established(
    now: Instant,
    dial: Dial,
    (accept, rotated): (Accept, bool),
    own: TrafficSecret,
    peer: TrafficSecret,
) -> Established {
    Established {
        principal: dial.principal,
        role: dial.role,
        relay: dial.relay,
        dialled_by: dial.dialled_by,
        version: accept.version,
        suite: accept.suite,
        rotated,
        sealer: Sealer::new(now, own, dial.limits),
        opener: Opener::new(peer, dial.limits),
    }
}

/// The keys that an answering side knows.
///
/// A relay knows many principals; a server that is dialled by a relay knows one, itself.
pub trait Principals {
    /// The key that `principal` in `role` shares with the relay of the hop.
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey>;

    /// The key that is to take the place of that one as soon as it is used (`docs/protocol.md`, 20.12).
    fn next_key(&self, _principal: Principal, _role: Role) -> Option<ImportedKey> {
        None
    }
}

/// The side that was dialled: checks HELLO, sends ACCEPT, checks FINISH.
pub struct Responder {
    relay: PathId,
    dialled_by: DialledBy,
    limits: HopLimits,
    deadline: Instant,
    state: State,
}

enum State {
    Hello,
    Finish(Box<Waiting>),
    Over,
}

/// Everything that is held for a peer that has shown a binder and no FINISH.
struct Waiting {
    hello: Vec<u8>,
    answer: [u8; ACCEPT],
    accept: Accept,
    principal: Principal,
    role: Role,
    rotated: bool,
    keys: HopKeys,
}

impl Responder {
    /// Waits for a HELLO at the port of `relay`, sent by the given end.
    pub fn new(now: Instant, relay: PathId, dialled_by: DialledBy, limits: HopLimits) -> Self {
        Self { relay, dialled_by, limits, deadline: now + HANDSHAKE_TIMEOUT, state: State::Hello }
    }

    /// Reads the next message, if it is complete, and writes the answer to `outbox`.
    ///
    /// Nothing outside this machine changes before a FINISH was verified; a replayed HELLO costs its checks and
    /// one ACCEPT that nobody can answer.
    ///
    /// # Errors
    /// Any error ends the handshake. Whatever a HELLO lacks, the answer is [`REJECT`], and the work is the same for
    /// known and unknown principals.
    pub fn handle<R: CryptoRng + ?Sized>(
        &mut self,
        now: Instant,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
        principals: &(impl Principals + ?Sized),
        rng: &mut R,
    ) -> Result<Option<Established>, HandshakeError> {
        self.handle_timeout(now)?;
        if matches!(self.state, State::Hello) {
            match self.on_hello(inbox, principals, rng) {
                Ok(None) => return Ok(None),
                Ok(Some(waiting)) => {
                    outbox.plain(&waiting.answer);
                    self.state = State::Finish(waiting);
                }
                Err(error) => {
                    self.state = State::Over;
                    outbox.plain(&REJECT);
                    return Err(error);
                }
            }
        }
        let finish: [u8; FINISH] = match inbox.take(FINISH).and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => *bytes,
            None => return Ok(None),
        };
        let State::Finish(waiting) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(HandshakeError::Over);
        };
        let Waiting { hello, answer, accept, principal, role, rotated, keys } = *waiting;
        let mac = decode_finish(&finish)?;
        if !keys.initiator_finished.verify(&[&hello, &answer, &FINISH_HEAD], &mac) {
            return Err(HandshakeError::NotAuthentic);
        }
        let HopKeys { initiator, responder, .. } = keys;
        let Self { relay, dialled_by, limits, .. } = *self;
        let dial = Dial { principal, role, relay, dialled_by, limits };
        Ok(Some(established(now, dial, (accept, rotated), responder, initiator)))
    }

    fn on_hello<R: CryptoRng + ?Sized>(
        &self,
        inbox: &mut Inbox,
        principals: &(impl Principals + ?Sized),
        rng: &mut R,
    ) -> Result<Option<Box<Waiting>>, HandshakeError> {
        let Some(len) = Hello::wire_len(inbox.bytes())? else { return Ok(None) };
        let Some(bytes) = inbox.take(len) else { return Ok(None) };
        let bytes = bytes.to_vec();
        let (hello, binder) = Hello::decode(&bytes)?;
        // An unknown principal costs the same imports and the same MACs, under a number that nobody holds, and so does one
        // that has no other number to come.
        let dummy = AuthenticityNumber::Bits128(Secret::random(rng));
        let dummy = || ImportedKey::new(&dummy, hello.principal, self.relay, hello.role);
        let signed = &bytes[..bytes.len() - MAC_BYTES];
        let known = principals.imported_key(hello.principal, hello.role);
        let next = principals.next_key(hello.principal, hello.role);
        let (strange, settled) = (known.is_none(), next.is_none());
        let (key, next) = (known.unwrap_or_else(dummy), next.unwrap_or_else(dummy));
        let (bound, rotated) = (key.verify_binder(signed, &binder), next.verify_binder(signed, &binder));
        let rotated = rotated && !settled;
        let key = if rotated { next } else { key };
        if !(bound || rotated) || strange || hello.relay != self.relay || hello.dialled_by != self.dialled_by
        {
            return Err(HandshakeError::NotAuthentic);
        }
        if !hello.versions.contains(&VERSION_1) || !hello.suites.contains(&SUITE_AES_256_GCM_SHA256) {
            return Err(HandshakeError::Incompatible);
        }
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let accept = Accept { version: VERSION_1, suite: SUITE_AES_256_GCM_SHA256, nonce };
        let unsigned = accept.encode();
        let keys = key.hop(HopTranscript::of(&bytes, &unsigned));
        let mac = keys.responder_finished.tag(&[&bytes, &unsigned]);
        let mut answer = [0; ACCEPT];
        let (front, back) = answer.split_at_mut(ACCEPT - MAC_BYTES);
        front.copy_from_slice(&unsigned);
        back.copy_from_slice(&mac);
        let Hello { principal, role, .. } = hello;
        Ok(Some(Box::new(Waiting { hello: bytes, answer, accept, principal, role, rotated, keys })))
    }

    /// When [`Responder::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!matches!(self.state, State::Over)).then_some(self.deadline)
    }

    /// Fails once the deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), HandshakeError> {
        if matches!(self.state, State::Over) {
            return Err(HandshakeError::Over);
        }
        if now >= self.deadline {
            self.state = State::Over;
            return Err(HandshakeError::TimedOut);
        }
        Ok(())
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("relay", &self.relay).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
