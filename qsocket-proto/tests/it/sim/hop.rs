//! One end of a hop over a simulated link, as a shell would drive it.

use super::{End, Io};
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::{
    Beat, Dialer, Established, HandshakeError, HopLimits, Inbox, Keepalive, Opener, Outbox, Principals,
    Responder, Sealer,
};
use qsocket_proto::relay::{Egress, EgressLimits};
use std::time::Instant;

pub enum State {
    Dialling(Dialer),
    Answering(Responder),
    Up { sealer: Sealer, opener: Opener, keepalive: Box<Keepalive> },
}

pub struct HopEnd {
    pub end: End,
    pub state: State,
    pub inbox: Inbox,
    pub egress: Egress,
}

/// Room that a relay's outbox has; the egress keeps DATA far below it.
const OUTBOX: usize = 1 << 20;

/// Sizes and limits that a run may choose.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// What an endpoint leaves in the queue of a hop before it skips the path.
    pub local_queue: usize,
    pub hop_limits: HopLimits,
    pub egress: EgressLimits,
}

impl Default for Tuning {
    fn default() -> Self {
        let (hop_limits, egress) = (HopLimits::default(), EgressLimits::default());
        Self { local_queue: 64 * 1024, hop_limits, egress }
    }
}

pub fn outbox() -> Outbox {
    Outbox::new(OUTBOX)
}

impl HopEnd {
    pub fn new(end: End, state: State, outbox: Outbox, limits: EgressLimits) -> Self {
        Self { end, state, inbox: Inbox::new(), egress: Egress::new(outbox, limits) }
    }

    /// Reads from the link and drives the handshake; returns what it established.
    pub fn handshake(
        &mut self,
        io: &mut Io<'_>,
        principals: &dyn Principals,
    ) -> Result<Option<Established>, HandshakeError> {
        let now = io.now();
        io.read(self.end, &mut self.inbox);
        match &mut self.state {
            State::Dialling(dialer) => dialer.handle(now, &mut self.inbox, self.egress.outbox()),
            State::Answering(responder) => {
                responder.handle(now, &mut self.inbox, self.egress.outbox(), principals, &mut io.net.rng)
            }
            State::Up { .. } => Ok(None),
        }
    }

    pub fn up(&mut self, now: Instant, sealer: Sealer, opener: Opener) {
        self.state = State::Up { sealer, opener, keepalive: Box::new(Keepalive::new(now)) };
    }

    /// Opens all records that arrived and hands each frame to `each`; false if the hop must close.
    pub fn frames(
        &mut self,
        io: &mut Io<'_>,
        mut each: impl FnMut(&mut Io<'_>, &mut Egress, Frame<'_>) -> bool,
    ) -> bool {
        loop {
            let more = io.read(self.end, &mut self.inbox);
            let now = io.now();
            let State::Up { opener, keepalive, .. } = &mut self.state else { return true };
            loop {
                match opener.next_record(&mut self.inbox) {
                    Ok(None) => break,
                    Err(_) => return false,
                    Ok(Some(frames)) => {
                        keepalive.on_record(now);
                        for frame in frames {
                            let Ok(frame) = frame else { return false };
                            if let Frame::Pong { token } = frame {
                                keepalive.on_pong(now, token);
                            }
                            if !each(io, &mut self.egress, frame) {
                                return false;
                            }
                        }
                    }
                }
            }
            if !more {
                return true;
            }
        }
    }

    /// Seals and writes as much as the link takes.
    pub fn flush(&mut self, io: &mut Io<'_>) {
        loop {
            self.egress.pump();
            if let State::Up { sealer, .. } = &mut self.state {
                sealer.seal(io.now(), self.egress.outbox()).expect("below the limits");
            }
            if !io.write(self.end, self.egress.outbox()) {
                return;
            }
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Dialling(dialer) => dialer.poll_timeout(),
            State::Answering(responder) => responder.poll_timeout(),
            State::Up { keepalive, .. } => Some(keepalive.poll_timeout()),
        }
    }

    /// False if the hop must close.
    pub fn timeout(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Dialling(dialer) => dialer.handle_timeout(now).is_ok(),
            State::Answering(responder) => responder.handle_timeout(now).is_ok(),
            State::Up { keepalive, .. } => match keepalive.handle_timeout(now) {
                Beat::Nothing => true,
                Beat::Ping(token) => self.egress.control(&Frame::Ping { token }).is_ok(),
                Beat::Dead => false,
            },
        }
    }
}
