//! From a hop to the reader: split the payload, open what is needed, recover, reassemble, acknowledge.

use super::packets::Topic;
use super::parking::Parked;
use super::paths::Joined;
use super::recv::Misbehaved;
use super::{ACCEPT_BACKLOG, Connection, ConnectionError, Event, MAX_ACK_DELAY, Side, State};
use crate::control::{Ack, ControlFrame, MAX_ACK_PARTIAL, MAX_ACK_RANGES, PartialAck, StreamAck};
use crate::fault_points::{Point, hit};
use crate::grid::{Plan, StripeSet, is_complete};
use crate::ids::{PathId, StreamId};
use crate::open::Refusal;
use crate::stripe::{ControlHeader, Payload, StripeHeader, TAG_BYTES};
use std::time::{Duration, Instant};

/// Blocks after which an acknowledgement goes out at once.
const ACK_BLOCKS: u32 = 8;

/// Bytes after which an acknowledgement goes out at once: two of the largest blocks.
const ACK_BYTES: usize = 512 * 1024;

/// Forgotten streams whose last ACK is still to be said: as many as an application usually drops at once. Those
/// beyond are acknowledged when their sender asks again.
const MAX_GONE: usize = 1024;

/// How long path counters may wait to be reported when nothing else calls for an ACK. Stripes that arrive after
/// their block was complete show in them alone; well below [`crate::path::MIN_TIMEOUT`].
const COUNTER_DELAY: Duration = Duration::from_millis(50);

/// How long a block may be incomplete before its sender is told what of it is here: longer than its stripes usually come
/// one after the other, much shorter than a resend is worth waiting for.
const PARTIAL_DELAY: Duration = Duration::from_millis(10);

/// Blocks up to this size are recovered at once; for larger ones the missing data stripes get a moment, because
/// waiting is cheaper than computing.
const EAGER_BYTES: u32 = 16 * 1024;

/// The moment that [`EAGER_BYTES`] speaks of.
const PATIENCE: Duration = Duration::from_millis(2);

impl Connection {
    /// Takes the payload of a DATA frame. It is opened where it lies; its bytes are spoiled afterwards.
    pub fn handle_data(&mut self, now: Instant, id: PathId, offset: u32, payload: &mut [u8]) {
        if self.is_closed() {
            return;
        }
        let path = self.paths.get_mut(id);
        path.counter.on_frame(offset, payload.len());
        path.counted = true;
        path.received_bytes += payload.len() as u64;
        if path.distrusted {
            return;
        }
        match Payload::decode(payload) {
            Ok(Payload::Stripe { header, ciphertext, tag }) => {
                self.on_stripe(now, id, header, ciphertext, tag)
            }
            Ok(Payload::Control { header, ciphertext, tag }) => {
                self.on_control(now, id, header, ciphertext, tag)
            }
            Ok(Payload::Reply { whole, reply }) if self.side == Side::Client => {
                self.handle_reply(now, id, whole, &reply);
            }
            Ok(Payload::Reply { .. }) | Err(_) => self.on_junk(now, id),
        }
    }

    fn on_junk(&mut self, now: Instant, id: PathId) {
        if self.paths.get_mut(id).failed(now) {
            self.events.push_back(Event::Distrusted(id));
            self.mend_path(now, id);
        }
    }

    /// Something sealed arrived on a path: it works, and the peer lives.
    fn on_evidence(&mut self, now: Instant, id: PathId) {
        self.last_heard = now;
        self.confirm();
        let path = self.paths.get_mut(id);
        let attached = path.joined == Joined::Attached;
        if path.alive() && attached && self.side == Side::Server {
            // The client hears on this very path that it is back.
            self.speaker.say(Topic::Path(id), ControlFrame::Path(id));
        }
        self.unknown.remove(id);
    }

    // ---- stripes --------------------------------------------------------------------------------------------

    fn on_stripe(
        &mut self,
        now: Instant,
        id: PathId,
        header: StripeHeader,
        ciphertext: &mut [u8],
        tag: [u8; TAG_BYTES],
    ) {
        self.ack_within(now, COUNTER_DELAY);
        if self.recv_keys.as_ref().is_none_or(|keys| keys.is_over(header.phase)) {
            return;
        }
        if !self.wants(&header) {
            // A stripe of a block that is complete: its sender may have missed the ACK.
            self.acknowledge_again(now, &header);
            return;
        }
        if header.stripe.data_index().is_some() {
            let Some(keys) = &mut self.recv_keys else { return };
            if keys.open_stripe(&header, ciphertext, &tag).is_err() {
                self.on_junk(now, id);
                return;
            }
            self.on_evidence(now, id);
            self.take_opened(&header, ciphertext);
        } else {
            let parked = Parked { header, path: id, ciphertext: ciphertext.to_vec(), tag };
            self.parking.park(parked, &mut self.paths);
        }
        self.try_complete(now, header.stream, header.block, false);
        // While a block is incomplete, reports say what of it is here: its sender may wait for nothing else.
        if self.streams.get(&header.stream).is_some_and(|s| s.recv.is_waiting()) {
            self.ack_streams.insert(header.stream);
            self.ack_within(now, PARTIAL_DELAY);
        }
    }

    /// Whether a stripe can still be of use: decided before it is opened or stored.
    fn wants(&self, header: &StripeHeader) -> bool {
        if header.phase == 0 || header.stream == StreamId::HELLO {
            return false;
        }
        match self.streams.get(&header.stream) {
            Some(stream) => {
                let held = stream.recv.assemblies.get(&header.block);
                stream.recv.wants(header.block) && !held.is_some_and(|a| a.have().contains(header.stripe))
            }
            None => self.may_begin(header.stream) && header.block < super::recv::BLOCK_WINDOW,
        }
    }

    /// Whether the peer may open this stream now.
    fn may_begin(&self, id: StreamId) -> bool {
        let opened = (id.0 - (2 - id.0 % 2)) / 2;
        !self.is_local(id) && id.0 >= self.next_peer && opened < self.flow.peer_max_streams
    }

    fn acknowledge_again(&mut self, now: Instant, header: &StripeHeader) {
        let again = match self.streams.get(&header.stream) {
            Some(stream) => !stream.recv.wants(header.block) && self.ack_streams.insert(header.stream),
            // Nothing is left of the stream, so nothing of it is missing.
            None => self.is_over(header.stream) && self.acknowledge_gone(header.stream, header.block + 1),
        };
        if again {
            self.ack_within(now, COUNTER_DELAY);
        }
    }

    /// Whether this stream was open once and is forgotten.
    fn is_over(&self, id: StreamId) -> bool {
        let next = if self.is_local(id) { self.next_local } else { self.next_peer };
        id != StreamId::HELLO && id.0 < next && !self.streams.contains_key(&id)
    }

    /// Notes for the next ACK that a stream that is gone has every block below `next`. True if that is news.
    pub(super) fn acknowledge_gone(&mut self, id: StreamId, next: u64) -> bool {
        match self.ack_gone.get_mut(&id) {
            Some(noted) if *noted >= next => false,
            Some(noted) => {
                *noted = next;
                true
            }
            None if hit(Point::NoLastAck) => false,
            None => self.ack_gone.len() < MAX_GONE && self.ack_gone.insert(id, next).is_none(),
        }
    }

    /// Puts an opened stripe in its block.
    fn take_opened(&mut self, header: &StripeHeader, plaintext: &[u8]) {
        self.begin_peer_streams(header.stream);
        if self.has_room(header.stream, header.block, header.block_len) {
            self.with_recv(header.stream, |recv, buffers| {
                recv.insert(header.block, header.block_len, header.stripe, plaintext, buffers);
            });
        }
    }

    /// Opens a stream of the peer and all lower ones, so that an id can never come back.
    fn begin_peer_streams(&mut self, id: StreamId) {
        while self.may_begin(id) {
            let next = StreamId(self.next_peer);
            self.next_peer += 2;
            self.add_stream(next, Vec::new());
        }
    }

    /// Completes a block if its stripes suffice; opens parity only when it is needed.
    fn try_complete(&mut self, now: Instant, id: StreamId, block: u64, impatient: bool) {
        let held = |c: &Self| {
            c.streams
                .get(&id)
                .and_then(|s| s.recv.assemblies.get(&block))
                .map_or(StripeSet::EMPTY, |a| a.have())
        };
        let mut have = held(self);
        if !have.contains_all(StripeSet::DATA) {
            loop {
                let lying = self.parking.stripes(id, block);
                if lying.is_empty() && !is_complete(have) || !is_complete(have.union(lying)) {
                    // What lay here did not open: there is nothing left to lose patience with.
                    self.patience.remove(&(id, block));
                    return;
                }
                // What is at hand already waits for nothing.
                if !impatient && !is_complete(have) && self.wait_for_data(now, id, block) {
                    return;
                }
                let needed = Plan::new(have.union(lying)).needs().difference(have);
                if needed.is_empty() {
                    break;
                }
                for stripe in needed.iter() {
                    self.open_parked(now, id, block, stripe);
                }
                have = held(self);
            }
        }
        self.patience.remove(&(id, block));
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(assembly) = stream.recv.assemblies.get_mut(&block) else { return };
        let len = assembly.block_len();
        if !assembly.solve(block, &mut self.stats.repairs) {
            return;
        }
        self.parking.forget(id, block, &mut self.paths);
        match self.with_recv(id, |recv, _| recv.complete(block)).unwrap_or(Ok(0)) {
            Ok(grown) => self.on_block(now, id, grown, len),
            Err(Misbehaved(what)) => self.misbehaved(now, what),
        }
    }

    /// Opens copies of a parked stripe until one is genuine.
    fn open_parked(&mut self, now: Instant, id: StreamId, block: u64, stripe: crate::grid::StripeId) {
        while let Some(mut parked) = self.parking.take(id, block, stripe, &mut self.paths) {
            if self.paths.get(parked.path).distrusted {
                continue;
            }
            let Some(keys) = &mut self.recv_keys else { return };
            if keys.is_over(parked.header.phase) {
                // Its stream was given up meanwhile; the RESET is still on its way.
                continue;
            }
            if keys.open_stripe(&parked.header, &mut parked.ciphertext, &parked.tag).is_err() {
                self.on_junk(now, parked.path);
                continue;
            }
            self.on_evidence(now, parked.path);
            self.take_opened(&parked.header, &parked.ciphertext);
            return;
        }
    }

    /// Whether a large block that could be computed should wait for its data stripes a moment longer.
    fn wait_for_data(&mut self, now: Instant, id: StreamId, block: u64) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let Some(assembly) = stream.recv.assemblies.get_mut(&block) else { return false };
        if assembly.block_len() <= EAGER_BYTES && !hit(Point::MorePatience) || hit(Point::NoPatience) {
            return false;
        }
        let since = *assembly.solvable_since.get_or_insert(now);
        if now.duration_since(since) >= PATIENCE {
            return false;
        }
        self.patience.insert((id, block));
        true
    }

    pub(super) fn patience_at(&self) -> Option<Instant> {
        self.patience
            .iter()
            .filter_map(|(id, block)| self.streams.get(id)?.recv.assemblies.get(block)?.solvable_since)
            .min()
            .map(|since| since + PATIENCE)
    }

    pub(super) fn lose_patience(&mut self, now: Instant) {
        let waiting: Vec<_> = self.patience.iter().copied().collect();
        for (id, block) in waiting {
            self.try_complete(now, id, block, false);
        }
    }

    /// A block is whole and in its place.
    fn on_block(&mut self, now: Instant, id: StreamId, grown: u64, len: u32) {
        self.stats.blocks_received += 1;
        self.flow.arrived += grown;
        if self.flow.arrived > self.flow.max_receive {
            self.misbehaved(now, "blocks pass the connection's window");
            return;
        }
        let local = self.is_local(id);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (fin, named, stopped) = (stream.recv.has_fin(), stream.recv.is_named(), stream.recv.is_stopped());
        if named && !local && !stream.offered && !stopped {
            stream.offered = true;
            if self.accept_queue.len() < ACCEPT_BACKLOG {
                self.accept_queue.push_back(id);
                self.events.push_back(Event::StreamOpened);
            } else {
                self.refuse(id, Refusal::Busy);
            }
        }
        self.update_windows(id);
        self.wake_reader(id);
        self.ack_streams.insert(id);
        self.ack_blocks += 1;
        self.ack_bytes += len as usize;
        let gap = self.streams.get(&id).is_some_and(|s| s.recv.has_gap());
        let urgent = fin
            || gap && self.ack_blocks >= 2
            || self.ack_blocks >= ACK_BLOCKS
            || self.ack_bytes >= ACK_BYTES;
        self.ack_wide |= fin;
        self.ack_within(now, if urgent { Duration::ZERO } else { MAX_ACK_DELAY });
        self.collect(id);
    }

    fn ack_within(&mut self, now: Instant, delay: Duration) {
        let delay = match delay {
            _ if hit(Point::AckNow) => Duration::ZERO,
            delay if hit(Point::AckLate) => delay.max(COUNTER_DELAY),
            delay => delay,
        };
        let at = now + delay;
        self.ack_at = Some(self.ack_at.map_or(at, |t| t.min(at)));
    }

    // ---- control packets ------------------------------------------------------------------------------------

    fn on_control(
        &mut self,
        now: Instant,
        id: PathId,
        header: ControlHeader,
        ciphertext: &mut [u8],
        tag: [u8; TAG_BYTES],
    ) {
        let Some(keys) = &mut self.recv_keys else { return };
        // A copy is opened too when it can tell something about its path.
        let known = self.heard.is_known(header.number);
        if keys.is_over(header.phase) || known && self.paths.get(id).joined == Joined::Live {
            return;
        }
        if keys.open_control(&header, ciphertext, &tag).is_err() {
            self.on_junk(now, id);
            return;
        }
        self.on_evidence(now, id);
        if known {
            return;
        }
        self.heard.insert(header.number);
        let Ok(frames) = ControlFrame::decode_all(ciphertext) else {
            self.misbehaved(now, "a control packet is malformed");
            return;
        };
        for frame in frames {
            if frame.is_ack_eliciting() {
                self.ack_within(now, MAX_ACK_DELAY);
            }
            self.on_frame(now, id, frame);
            if self.is_closed() {
                return;
            }
        }
    }

    fn on_frame(&mut self, now: Instant, path: PathId, frame: ControlFrame) {
        match frame {
            ControlFrame::Ack(ack) => self.on_ack(now, &ack),
            ControlFrame::MaxData(max) => self.flow.max_send = self.flow.max_send.max(max),
            ControlFrame::MaxStreamData(id, max) => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.send.set_max(max);
                }
            }
            ControlFrame::MaxStreams(max) => {
                if max > self.flow.max_streams {
                    self.flow.max_streams = max;
                    self.events.push_back(Event::StreamsAllowed);
                }
            }
            ControlFrame::Reset { stream, code, final_size } => self.on_reset(now, stream, code, final_size),
            ControlFrame::Stop { stream, code } => {
                self.ack_soon_and_wide(now);
                // It may overtake the first block.
                self.begin_peer_streams(stream);
                self.reset(stream, code);
                self.wake_writer(stream);
                self.collect(stream);
            }
            ControlFrame::Ping => self.ack_within(now, Duration::ZERO),
            ControlFrame::Path(named) => {
                // Counts on the path that it names; elsewhere it is a copy that a relay passed on.
                if named == path {
                    self.ack_within(now, Duration::ZERO);
                }
            }
            ControlFrame::PhaseDone(phase) => {
                if let Some(keys) = &mut self.recv_keys {
                    keys.end(phase);
                }
                self.ack_soon_and_wide(now);
            }
            ControlFrame::Close { code, reason } => {
                self.fail(ConnectionError::ClosedByPeer { code, reason });
                self.ack_soon_and_wide(now);
                self.state = State::Closing;
                self.deadline = Some(now + self.rtt.timeout(0, MAX_ACK_DELAY));
            }
        }
    }

    fn ack_soon_and_wide(&mut self, now: Instant) {
        self.ack_wide = true;
        self.ack_within(now, Duration::ZERO);
    }

    fn on_reset(&mut self, now: Instant, id: StreamId, code: u32, final_size: u64) {
        self.ack_soon_and_wide(now);
        // A stream that was given up before anything of it arrived is opened and over.
        self.begin_peer_streams(id);
        let Some(done) = self.with_recv(id, |recv, _| recv.reset(code, final_size)) else { return };
        match done {
            Ok(grown) => {
                self.flow.arrived += grown;
                self.patience.retain(|(stream, _)| *stream != id);
                self.parking.forget_stream(id, &mut self.paths);
                let unseen = !self.is_local(id) && self.streams.get(&id).is_some_and(|s| !s.offered);
                if unseen {
                    self.release(id);
                }
                self.wake_reader(id);
                self.update_windows(id);
                self.collect(id);
            }
            Err(Misbehaved(what)) => self.misbehaved(now, what),
        }
    }

    // ---- acknowledgements -----------------------------------------------------------------------------------

    fn on_ack(&mut self, now: Instant, ack: &Ack) {
        let mut progress = false;
        self.notice_sleep(now);
        self.last_ack = now;
        let woke = self.woke;
        for (count, path_id) in ack.paths.iter().zip(PathId::all()) {
            let Some(count) = count else { continue };
            let path = self.paths.get_mut(path_id);
            let outcome = path.flow.on_ack(now, count.end, count.received);
            path.lost_bytes += outcome.lost_bytes;
            if outcome.newly_acked > 0 && path.suspect {
                path.suspect = false;
            }
        }
        self.paths.settle_usual();
        if let Some(rtt) = self.paths.sixteenth_rtt() {
            self.rtt.assume(rtt);
        }
        let (settled, newest) = self.speaker.acknowledge(ack.control, ack.control_before);
        progress |= newest.is_some();
        for topic in settled {
            match topic {
                Topic::PhaseDone(phase) => {
                    if let Some(keys) = &mut self.send_keys {
                        keys.end_previous(phase);
                    }
                }
                Topic::Close => self.state = State::Closed,
                _ => {}
            }
        }
        for said in &ack.streams {
            let Some(stream) = self.streams.get_mut(&said.stream) else { continue };
            let (rtt, buffers) = (&mut self.rtt, &mut self.buffers);
            let mut each = |block: &super::send::SentBlock| {
                progress = true;
                if let (false, Some(sent)) = (block.resent, block.last_sent.filter(|sent| *sent >= woke)) {
                    rtt.sample(now.saturating_duration_since(sent));
                }
            };
            stream.send.acknowledge(0, said.next, buffers, &mut each);
            for (start, count) in &said.ranges {
                let from = said.next + u64::from(*start);
                stream.send.acknowledge(from, from + u64::from(*count), buffers, &mut each);
            }
            let done = !stream.send.has_unacked() && !stream.send.has_pending();
            if done {
                self.sending.remove(&said.stream);
            }
            self.wake_writer(said.stream);
            self.collect(said.stream);
        }
        for partial in &ack.partial {
            let Some(stream) = self.streams.get_mut(&partial.stream) else { continue };
            let Some(block) = stream.send.block_mut(partial.block) else { continue };
            block.peer_has = block.peer_has.union(partial.have);
            self.mend_late(now, partial.stream, partial.block);
        }
        // What finds no room in an ACK is not said either.
        if ack.partial.len() < MAX_ACK_PARTIAL {
            ack.streams.iter().for_each(|said| self.mend_unsaid(now, said, &ack.partial));
        }
        if progress {
            self.attempts = 0;
            self.last_progress = now;
        }
    }

    /// Has sent again what is late of blocks of which the peer has nothing although it has something of later ones: it does
    /// not know of them, and will not ask.
    fn mend_unsaid(&mut self, now: Instant, said: &StreamAck, partial: &[PartialAck]) {
        let ranges =
            said.ranges.iter().map(|(start, count)| said.next + u64::from(*start) + u64::from(*count));
        let all_said = said.ranges.len() < MAX_ACK_RANGES;
        let partial = partial.iter().filter(|p| all_said && p.stream == said.stream).map(|p| p.block);
        let Some(below) = ranges.chain(partial).max() else { return };
        let Some(stream) = self.streams.get_mut(&said.stream) else { return };
        let older = stream.send.blocks_mut().take_while(|b| b.number < below);
        let unsaid = older.filter(|b| b.peer_has.is_empty() && b.look_at.is_none() && b.due.is_empty());
        // As many as an ACK can name, so that it costs no more.
        let unsaid: Vec<_> = unsaid.map(|b| b.number).take(MAX_ACK_PARTIAL).collect();
        for number in unsaid {
            self.mend_late(now, said.stream, number);
        }
    }
}
