//! From the send buffer to the hops: announce, control packets, resends, new blocks.

use super::config::{ParityPolicy, Redundancy};
use super::error::ConnectionError;
use super::keys::SendKeys;
use super::packets::{Topic, Width};
use super::paths::{Joined, Path, Paths};
use super::send::{Sent, SentBlock};
use super::stats::Stats;
use super::{Connection, Hops, MAX_ACK_DELAY, Side, State};
use crate::control::{Ack, ControlFrame, MAX_ACK_PARTIAL, MAX_ACK_STREAMS, PathCount, StreamAck};
use crate::fault_points::{Point, hit};
use crate::frame::{DATA_OVERHEAD, Frame};
use crate::grid::{self, ParitySet, StripeId, StripeSet, is_complete, placement};
use crate::ids::{PathId, PathSet, RELAYS, SIXTEEN, StreamId};
use crate::path::PathFlow;
use crate::stripe::{CONTROL_HEADER_BYTES, MAX_CONTROL_BYTES, STRIPE_HEADER_BYTES, StripeHeader, TAG_BYTES};
use std::time::{Duration, Instant};

/// Blocks that one call sends at the most before it gives other connections on the same thread a turn.
const BLOCKS_PER_CALL: usize = 32;

/// Control packets that one call sends at the most.
const PACKETS_PER_CALL: usize = 32;

/// Overdue blocks that the first probe mends: the oldest ones, on which everything else waits. Later probes mend
/// one: repeating a whole window to a peer that is silent would only crowd out the others on the same relays.
const MENDED_PER_PROBE: usize = 8;

/// How a call of [`Connection::transmit`] ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transmitted {
    /// Something was written.
    pub progress: bool,
    /// More could be written at once: call again after giving others a turn.
    pub more: bool,
    /// Something waits for room in an outbox: call again when one drained.
    pub blocked: bool,
}

impl Connection {
    /// Writes what is due into the outboxes of the hops.
    pub fn transmit<H: Hops>(&mut self, now: Instant, hops: &mut H) -> Transmitted {
        let mut done = Transmitted::default();
        self.announce(now, hops, &mut done);
        self.send_reply(now, hops, &mut done);
        if self.is_open() || matches!(self.state, State::Closing) {
            self.end_phases(now);
            self.confirm_in_company(now);
            self.send_control(now, hops, &mut done);
        }
        if self.is_open() {
            self.send_due(now, hops, &mut done);
            self.send_new(now, hops, &mut done);
            self.settle_hold(now);
        }
        if matches!(self.state, State::Closing) && self.speaker.is_idle() {
            self.state = State::Closed;
        }
        done
    }

    /// Client: OPEN with this path's share and its stripe of the hello block, or ATTACH once the shares are gone.
    fn announce<H: Hops>(&mut self, now: Instant, hops: &mut H, done: &mut Transmitted) {
        if self.side != Side::Client || self.is_closed() {
            return;
        }
        for id in PathId::all() {
            let path = self.paths.get(id);
            if !path.announce || !path.hop_up || path.retry_at.is_some_and(|t| t > now) {
                continue;
            }
            let (route, header) = (self.route, self.header.clone());
            let opening = match &self.state {
                State::Opening(opening) => Some(opening),
                _ => None,
            };
            let written = hops.outbox(path.at(id), |out| match opening {
                Some(opening) => {
                    let (share, proof) = opening.share(id);
                    out.frame(&Frame::Open { route, header: &header, share, proof })
                }
                None => out.frame(&Frame::Attach { route, header: &header }),
            });
            let Some(Ok(())) = written else {
                done.blocked = true;
                continue;
            };
            done.progress = true;
            let path = self.paths.get_mut(id);
            path.announce = false;
            path.retry_at = None;
            path.route = Some(route);
            match &mut self.state {
                State::Opening(opening) => {
                    path.joined = Joined::Opened;
                    opening.send_hello(now, id, path, hops, &mut self.stats);
                }
                _ => {
                    path.joined = Joined::Attached;
                    self.speaker.say(Topic::Path(id), ControlFrame::Path(id));
                }
            }
        }
    }

    /// Server: the same reply on every path that brought the OPEN.
    fn send_reply<H: Hops>(&mut self, now: Instant, hops: &mut H, done: &mut Transmitted) {
        if self.side != Side::Server {
            return;
        }
        let Some(reply) = &self.reply else { return };
        for id in self.reply_due.iter() {
            let path = self.paths.get_mut(id);
            let bytes = &reply.payload;
            if let Some(route) = path.route {
                if hops.room(path.at(id)) < bytes.len() + DATA_OVERHEAD {
                    done.blocked = true;
                    continue;
                }
                let offset = path.flow.on_sent(now, bytes.len());
                hops.outbox(path.at(id), |out| {
                    out.data(route, offset, bytes.len(), |buf| buf.copy_from_slice(bytes))
                });
                done.progress = true;
            }
            self.reply_due.remove(id);
        }
    }

    /// Says PHASE_DONE when nothing of the phase before is unacknowledged, and moves on when it is time.
    fn end_phases(&mut self, now: Instant) {
        let Some(keys) = &mut self.send_keys else { return };
        keys.advance(now);
        let Some(ending) = keys.ending() else { return };
        let in_use =
            self.sending.iter().filter_map(|id| self.streams.get(id)).any(|s| s.send.uses_phase(ending));
        if !in_use && !self.speaker.is_pending(Topic::PhaseDone(ending)) {
            self.speaker.say(Topic::PhaseDone(ending), ControlFrame::PhaseDone(ending));
        }
    }

    fn send_control<H: Hops>(&mut self, now: Instant, hops: &mut H, done: &mut Transmitted) {
        self.control_blocked = false;
        for sent in 0..PACKETS_PER_CALL {
            if sent > 0 && hit(Point::ShortCall) {
                break;
            }
            let ack_due = self.ack_at.is_some_and(|t| t <= now);
            if !ack_due && !self.speaker.has_due() {
                return;
            }
            let (open_to_all, mut width) = (self.control_paths(hops), None);
            let names_one_path = matches!(self.speaker.next_width(), Some(Width::Only(_)));
            let names_its_paths = names_one_path || self.speaker.next_width() == Some(Width::All);
            if open_to_all.is_empty() && !names_its_paths {
                done.blocked = true;
                self.control_blocked = true;
                return;
            }
            let mut plain = Vec::with_capacity(512);
            // An ACK rides along with whatever is said, but for what names its one path; alone it goes only when it
            // is due.
            if self.ack_at.is_some() && !names_one_path {
                width = Some(if self.ack_wide { Width::Wide } else { Width::Narrow });
                let ack = self.build_ack();
                ControlFrame::Ack(Box::new(ack)).encode(&mut plain);
            }
            let said = self.speaker.next_packet(MAX_CONTROL_BYTES, &mut plain);
            let (topics, tried) = match said {
                Some((topics, topics_width, tried)) => {
                    width = width.max(Some(topics_width));
                    (topics, tried)
                }
                None => (Vec::new(), PathSet::EMPTY),
            };
            let Some(width) = width else { return };
            let candidates = match width {
                Width::Only(path) => [path].into_iter().collect(),
                Width::All => self.paths.set(|p| p.route.is_some()),
                Width::Wide | Width::Narrow => open_to_all,
            };
            let chosen = self.paths.rotate(candidates, tried, width.copies());
            self.write_control(now, hops, &mut plain, topics, chosen, done);
        }
        done.more = true;
    }

    /// Seals one control packet and writes the same bytes to each of the chosen paths.
    fn write_control<H: Hops>(
        &mut self,
        now: Instant,
        hops: &mut H,
        plain: &mut [u8],
        topics: Vec<Topic>,
        chosen: PathSet,
        done: &mut Transmitted,
    ) {
        let Some(keys) = &mut self.send_keys else { return };
        let Ok((header, tag)) = keys.seal_control(plain) else {
            self.end(ConnectionError::KeyExhausted);
            return;
        };
        let len = CONTROL_HEADER_BYTES + plain.len() + TAG_BYTES;
        for id in chosen.iter() {
            let path = self.paths.get_mut(id);
            let Some(route) = path.route else { continue };
            let offset = if topics.is_empty() {
                path.flow.on_sent_unanswered(len)
            } else {
                path.flow.on_sent(now, len)
            };
            if hit(Point::ControlLost) {
                continue;
            }
            let written = hops.outbox(path.at(id), |out| {
                out.data(route, offset, len, |buf| {
                    let mut clear = [0; CONTROL_HEADER_BYTES];
                    header.encode(&mut clear);
                    let (head, rest) = buf.split_at_mut(CONTROL_HEADER_BYTES);
                    let (body, end) = rest.split_at_mut(plain.len());
                    head.copy_from_slice(&clear);
                    body.copy_from_slice(plain);
                    end.copy_from_slice(&tag);
                })
            });
            done.progress |= matches!(written, Some(Ok(())));
        }
        if !topics.is_empty() {
            self.speaker.sent(header.number, topics, chosen, now);
        }
    }

    /// Paths for control packets: those with sealed evidence, or, until there is any, those that were opened.
    fn control_paths<H: Hops>(&self, hops: &mut H) -> PathSet {
        let usable =
            |want: Joined| self.paths.set(|p| p.joined == want && p.route.is_some() && !p.distrusted);
        let with_room = |set: PathSet, hops: &mut H| {
            set.iter().filter(|p| hops.room(self.paths.get(*p).at(*p)) > 0).collect::<PathSet>()
        };
        let live = with_room(usable(Joined::Live), hops);
        if live.is_empty() { with_room(usable(Joined::Opened).iter().collect(), hops) } else { live }
    }

    fn build_ack(&mut self) -> Ack {
        let mut ack = Ack::default();
        let short = hit(Point::AckShort);
        let most = if short { 1 } else { MAX_ACK_STREAMS };
        for (id, path) in self.paths.iter_mut() {
            if std::mem::take(&mut path.counted) {
                ack.paths[id.index()] =
                    Some(PathCount { end: path.counter.end, received: path.counter.received });
            }
        }
        (ack.control, ack.control_before) = self.heard.ack();
        while ack.streams.len() < most
            && let Some((stream, next)) = self.ack_gone.pop_first()
        {
            ack.streams.push(StreamAck { stream, next, ranges: Vec::new() });
        }
        for id in std::mem::take(&mut self.ack_streams) {
            if ack.streams.len() == most {
                self.ack_streams.insert(id);
                continue;
            }
            let Some(stream) = self.streams.get(&id) else { continue };
            ack.streams.push(stream.recv.ack(id));
            if short {
                ack.streams.iter_mut().for_each(|said| said.ranges.clear());
                continue;
            }
            let room = MAX_ACK_PARTIAL - ack.partial.len();
            ack.partial.extend(stream.recv.partial(id).take(room));
        }
        let all_said = self.ack_streams.is_empty() && self.ack_gone.is_empty();
        self.ack_at = if all_said { None } else { self.ack_at };
        self.ack_wide = false;
        self.ack_blocks = 0;
        self.ack_bytes = 0;
        ack
    }

    /// Sends stripes that frozen blocks still owe their receiver.
    fn send_due<H: Hops>(&mut self, now: Instant, hops: &mut H, done: &mut Transmitted) {
        if self.owing.is_empty() {
            return;
        }
        let trusted =
            Policy::new(now, &mut self.paths, self.config.parity, self.config.redundancy, true).trusted;
        let Some(keys) = &mut self.send_keys else { return };
        let mut exhausted = false;
        for id in std::mem::take(&mut self.owing) {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            for block in stream.send.blocks_mut().filter(|b| !b.due.is_empty()) {
                let mut writer = Writer {
                    now,
                    hops,
                    keys,
                    paths: &mut self.paths,
                    stats: &mut self.stats,
                    scratch: &mut self.parity,
                    trusted,
                    seats: Default::default(),
                };
                let owed = block.due.len();
                match writer.send_due(id, block) {
                    Ok(all) => done.blocked |= !all,
                    Err(Exhausted) => {
                        exhausted = true;
                        break;
                    }
                }
                done.progress |= block.due.len() < owed;
            }
            if stream.send.owes() {
                self.owing.insert(id);
            }
        }
        if exhausted {
            self.end(ConnectionError::KeyExhausted);
        }
    }

    /// Settles when to look again at blocks that are held.
    fn settle_hold(&mut self, now: Instant) {
        let room = self.flow.max_send.saturating_sub(self.flow.sent);
        let streams = self.holding.iter().filter_map(|id| self.streams.get(id));
        self.held_until = streams.filter_map(|s| s.send.next_release(now, room)).min();
    }

    /// Freezes and sends new blocks, a block a stream in turn, while paths take them.
    fn send_new<H: Hops>(&mut self, now: Instant, hops: &mut H, done: &mut Transmitted) {
        let Self { holding, sending, streams, .. } = self;
        holding.retain(|id| {
            let Some(stream) = streams.get_mut(id).filter(|_| sending.contains(id)) else { return false };
            stream.send.look(now);
            stream.send.may_hold()
        });
        for sent in 0..BLOCKS_PER_CALL {
            if sent > 0 && hit(Point::ShortCall) {
                break;
            }
            let Some(keys) = &mut self.send_keys else { return };
            let after = self
                .sending
                .range((std::ops::Bound::Excluded(self.sending_cursor), std::ops::Bound::Unbounded));
            let wrapped = self.sending.range(..=self.sending_cursor);
            let room = self.flow.max_send.saturating_sub(self.flow.sent);
            let next = after
                .chain(wrapped)
                .copied()
                .find(|id| self.streams.get(id).is_some_and(|s| s.send.can_freeze(now, room)));
            let Some(id) = next else { return };
            let last = self.streams.get(&id).is_none_or(|s| s.send.is_last());
            let policy = Policy::new(now, &mut self.paths, self.config.parity, self.config.redundancy, last);
            let any = policy.trusted.len() < SIXTEEN;
            let ready = |paths: &Paths, hops: &mut H| {
                let may = |id, p: &Path| usable(p) && (any || policy.trusted.contains(id));
                let may = paths.iter().filter(|(id, p)| may(*id, p));
                let (room, all) = may.fold((0, 0), |(room, all), (id, p)| {
                    (room + usize::from(p.flow.room() > 0 && hops.room(p.at(id)) > 0), all + 1)
                });
                // All of them get a stripe, and the median path says how fast.
                room > if policy.full { all / 2 } else { 0 }
            };
            if !ready(&self.paths, hops) {
                done.blocked = true;
                return;
            }
            let Some(stream) = self.streams.get_mut(&id) else { return };
            let before = stream.send.offset();
            self.sending_cursor = id;
            let Some(block) = stream.send.freeze(now, room, keys.phase(), policy.set) else { return };
            self.stats.blocks_sent += 1;
            let mut writer = Writer {
                now,
                hops,
                keys,
                paths: &mut self.paths,
                stats: &mut self.stats,
                scratch: &mut self.parity,
                trusted: policy.trusted,
                seats: Default::default(),
            };
            let sent = writer.send_first(id, block, &policy);
            if !block.due.is_empty() {
                self.owing.insert(id);
            }
            self.flow.sent += stream.send.offset() - before;
            done.progress = true;
            match sent {
                Ok(all) => done.blocked |= !all,
                Err(Exhausted) => {
                    self.end(ConnectionError::KeyExhausted);
                    return;
                }
            }
        }
        done.more = true;
    }

    // ---- when nothing comes back ----------------------------------------------------------------------------

    /// When something unacknowledged is overdue.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        let wait = self.probe_wait();
        let blocks = self.sending.iter().filter_map(|id| self.streams.get(id)).any(|s| s.send.has_unacked());
        let since = if blocks { Some(self.last_progress) } else { self.speaker.oldest() };
        since.map(|t| t.max(self.last_progress) + wait)
    }

    /// Notes if this process did not run: a probe is overdue by more than its own wait. What was sent before says
    /// nothing about the network any more.
    pub(super) fn notice_sleep(&mut self, now: Instant) {
        let due = self.probe_at();
        if due.is_some_and(|due| now.saturating_duration_since(due) > self.probe_wait()) {
            self.woke = now;
        }
    }

    fn probe_wait(&self) -> Duration {
        let wait = self.rtt.timeout(self.attempts, MAX_ACK_DELAY);
        if hit(Point::EarlyProbe) { wait / 8 } else { wait }
    }

    /// Sends again what is overdue, elsewhere if possible.
    pub(super) fn probe(&mut self, now: Instant) {
        let wait = self.probe_wait();
        let Some(before) = now.checked_sub(wait) else { return };
        self.attempts += 1;
        self.last_progress = now;
        let repeated = self.speaker.repeat_before(before);
        let limit = if self.attempts > 1 { 1 } else { MENDED_PER_PROBE };
        let (mut overdue, mut mended) = (0, false);
        let paths = &mut self.paths;
        for id in &self.sending {
            let Some(stream) = self.streams.get_mut(id) else { continue };
            for block in stream.send.blocks_mut() {
                if overdue == limit || block.last_sent.is_none_or(|t| t > before) {
                    continue;
                }
                overdue += 1;
                for sent in &block.sent {
                    let path = paths.get_mut(sent.path);
                    if path.flow.acked() < sent.end && !path.suspect {
                        path.suspect = true;
                        path.flow.on_timeout(now);
                    }
                }
                // The first time, what the path counters say arrived is believed; after that, only what the
                // receiver says it opened. Kept per block: the answer to a PING is progress for the connection,
                // and none for a block whose ACK was lost.
                let believe = !std::mem::replace(&mut block.doubted, true);
                let held = block.outstanding(|s| believe && paths.get(s.path).flow.acked() >= s.end);
                if block.mend(held) || !believe && block.ask_again() {
                    self.owing.insert(*id);
                    mended = true;
                }
            }
        }
        if overdue > 0 && !mended && !repeated {
            self.speaker.say(Topic::Ping, ControlFrame::Ping);
        }
    }

    /// Has sent again what is late of a block that the peer has in part, unless the rest of it does. Otherwise the block is
    /// looked at again when so much is late that the rest does not.
    pub(super) fn mend_late(&mut self, now: Instant, id: StreamId, number: u64) {
        let paths = &mut self.paths;
        let Some(block) = self.streams.get_mut(&id).and_then(|s| s.send.block_mut(number)) else { return };
        if let Some(at) = block.look_at.take() {
            self.late.remove(&(at, id, number));
        }
        // Parity that arrived is not opened before it is needed. If it would have completed the block, it was opened, and
        // what is not among what the peer has was none.
        let arrived = |s: &Sent| s.stripe.data_index().is_none() && s.arrived(&paths.get(s.path).flow);
        let parity = block.sent.iter().filter(|s| arrived(s)).map(|s| s.stripe).collect();
        let unopened = !is_complete(block.peer_has.union(parity));
        // A peer that says nothing is late with everything, and no path is to blame.
        let heard = now.checked_sub(SILENCE).map_or(self.last_ack, |before| self.last_ack.max(before));
        let (mut late, mut times) = (PathSet::EMPTY, Vec::with_capacity(RELAYS));
        let on_the_way = block.outstanding(|s| {
            let path = paths.get(s.path);
            if path.joined == Joined::No || path.suspect {
                return false;
            }
            if path.flow.acked() >= s.end {
                return s.stripe.data_index().is_none() && unopened && s.arrived(&path.flow);
            }
            let late_at = path.flow.late_at();
            if late_at.is_some_and(|at| at <= heard) {
                late.insert(s.path);
                return false;
            }
            times.extend(late_at);
            true
        });
        for path in late.iter() {
            paths.get_mut(path).ill_at = Some(now);
        }
        if block.mend(on_the_way) {
            self.owing.insert(id);
            return;
        }
        times.sort_unstable();
        if let Some(at) = times.get(on_the_way.len().saturating_sub(SIXTEEN)) {
            let at = (*at).max(now + LOOK_AGAIN);
            block.look_at = Some(at);
            self.late.insert((at, id, number));
        }
    }

    /// Looks at the blocks of which something may be late by now.
    pub(super) fn look_for_late(&mut self, now: Instant) {
        while let Some((at, id, number)) = self.late.first().copied()
            && at <= now
        {
            self.late.pop_first();
            // It may be acknowledged by now.
            self.mend_late(now, id, number);
        }
    }

    /// A path went: blocks that cannot be completed without it are mended at once.
    pub(super) fn mend_path(&mut self, _now: Instant, lost: PathId) {
        let paths = &self.paths;
        for id in &self.sending {
            let Some(stream) = self.streams.get_mut(id) else { continue };
            for block in stream.send.blocks_mut().filter(|b| b.sent.iter().any(|s| s.path == lost)) {
                let alive = block.outstanding(|s| {
                    let path = paths.get(s.path);
                    path.flow.acked() >= s.end || (path.joined != Joined::No && !path.suspect)
                });
                if block.mend(alive) {
                    self.owing.insert(*id);
                }
            }
        }
    }
}

/// Whether new stripes may go on a path at all.
fn usable(path: &Path) -> bool {
    path.route.is_some() && !path.distrusted && matches!(path.joined, Joined::Live | Joined::Opened)
}

/// What is sent of a new block.
struct Policy {
    set: ParitySet,
    /// Parity stripes beside the 16 data stripes.
    parity: usize,
    /// Every path is to get a stripe.
    full: bool,
    /// The paths whose stripes count towards completeness. With 16 good paths a block never waits for a bad one:
    /// what goes on the others is a bonus.
    trusted: PathSet,
}

impl Policy {
    /// `last`: nothing waits behind the block.
    fn new(
        now: Instant,
        paths: &mut Paths,
        parity: ParityPolicy,
        redundancy: Redundancy,
        last: bool,
    ) -> Self {
        let median = paths.median_rtt();
        let costly = !last && paths.are_full();
        let (mut good, mut doubtful) = (PathSet::EMPTY, PathSet::EMPTY);
        for (id, path) in paths.iter_mut() {
            let well = path.flow.well(now, median);
            if path.suspect || path.flow.srtt().is_some() && !well {
                path.ill_at = Some(now);
            }
            if !usable(path) {
                continue;
            }
            if well && !path.suspect && path.joined == Joined::Live {
                good.insert(id);
            }
            let lately = path.ill_at.is_some_and(|at| now.saturating_duration_since(at) < DOUBT_LASTS);
            let doubt = if costly { path.suspect || path.flow.fails(now) } else { !well || lately };
            if doubt {
                doubtful.insert(id);
            }
        }
        let well = good.len();
        let trusted = if well >= SIXTEEN { good } else { paths.set(|p| usable(p) && !p.suspect) };
        let set = match parity {
            ParityPolicy::Grid => ParitySet::Grid,
            ParityPolicy::Mds => ParitySet::Mds,
            ParityPolicy::Auto if well == RELAYS => ParitySet::Grid,
            ParityPolicy::Auto => ParitySet::Mds,
        };
        let set = match set {
            ParitySet::Grid if hit(Point::OtherParity) => ParitySet::Mds,
            ParitySet::Mds if hit(Point::OtherParity) => ParitySet::Grid,
            set => set,
        };
        let parity = match redundancy {
            Redundancy::Full => RELAYS - SIXTEEN,
            // One parity stripe for every path in use that may fail it, and one for another path that may do so before
            // that is known here. Where links carry all they can, parity is at the expense of what waits behind it, which
            // a path that is only slow does not hold up: then for those that fail.
            Redundancy::Adaptive => (2 * doubtful.len()).min(RELAYS - SIXTEEN),
        };
        Self { set, parity, full: redundancy == Redundancy::Full, trusted }
    }
}

/// How long a peer may say nothing before what it did not say is late: as long as an acknowledgement waits for company.
const SILENCE: Duration = MAX_ACK_DELAY;

/// How soon a block is looked at again of which a path is late that still moves: a timer's granularity, so that nobody
/// keeps an endpoint busy with looking.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long `Adaptive` sends parity for a path that was not well: what comes and goes comes again.
const DOUBT_LASTS: Duration = Duration::from_secs(10);

pub(super) struct Exhausted;

/// Everything that sending one stripe touches.
struct Writer<'a, H> {
    now: Instant,
    hops: &'a mut H,
    keys: &'a mut SendKeys,
    paths: &'a mut Paths,
    stats: &'a mut Stats,
    scratch: &'a mut Vec<u8>,
    /// See [`Policy`].
    trusted: PathSet,
    /// By path, for the block at hand.
    seats: [Seat; RELAYS],
}

/// What there is to know about a path when a stripe of a block looks for one.
#[derive(Clone, Copy, Default)]
struct Seat {
    /// It takes a stripe of the block.
    takes: bool,
    suspect: bool,
    /// Stripes of the block that went there.
    load: usize,
    /// [`PathFlow::queued_time`](crate::path::PathFlow::queued_time).
    queued: Duration,
}

impl<H: Hops> Writer<'_, H> {
    /// Looks at all paths, once for a block: stripe by stripe it would be done sixteen times.
    fn look(&mut self, block: &SentBlock) {
        for path in PathId::all() {
            self.look_at(path, block);
        }
    }

    fn look_at(&mut self, path: PathId, block: &SentBlock) {
        let takes = self.takes(path, block, PathFlow::takes);
        let p = self.paths.get(path);
        self.seats[path.index()] = Seat {
            takes,
            suspect: p.suspect,
            load: block.sent.iter().filter(|s| s.path == path).count(),
            queued: p.flow.queued_time(),
        };
    }

    /// Whether a path takes a stripe of the block; `flow` says whether its window does.
    fn takes(&mut self, path: PathId, block: &SentBlock, flow: impl Fn(&PathFlow, usize) -> bool) -> bool {
        let p = self.paths.get(path);
        let len = STRIPE_HEADER_BYTES + block.stripe_len() + TAG_BYTES;
        usable(p) && flow(&p.flow, len) && self.hops.room(p.at(path)) >= len + DATA_OVERHEAD
    }

    /// First transmission: every stripe on its own path where that path takes it; then, on other paths, what is
    /// missing for the receiver to complete the block. True if nothing is owed afterwards.
    fn send_first(
        &mut self,
        id: StreamId,
        block: &mut SentBlock,
        policy: &Policy,
    ) -> Result<bool, Exhausted> {
        let parity: StripeSet = block.set.parity().iter().take(policy.parity).collect();
        if policy.parity > 0 {
            let len = block.stripe_len();
            self.scratch.resize(block.set.parity().len() * len, 0);
            if grid::parity(block.set, &block.bytes, self.scratch).is_err() {
                return Ok(true);
            }
        }
        let everywhere = policy.parity == RELAYS - SIXTEEN;
        if !everywhere {
            self.look(block);
        }
        let mut sure = StripeSet::EMPTY;
        for stripe in StripeSet::DATA.union(parity).iter() {
            let path = if everywhere {
                let flow = if policy.full { PathFlow::takes_behind } else { PathFlow::takes };
                Some(placement(stripe, block.number)).filter(|path| self.takes(*path, block, flow))
            } else {
                self.best_path(block, stripe, |_, load| load == 0)
            };
            let Some(path) = path else { continue };
            self.send(id, block, stripe, path, true)?;
            if !everywhere {
                self.look_at(path, block);
            }
            if self.trusted.contains(path) {
                sure.insert(stripe);
            }
        }
        if is_complete(sure) {
            return Ok(true);
        }
        block.mend(sure);
        self.send_due(id, block)
    }

    /// Sends the stripes that the block owes, each on the best path that takes it. While there are enough paths without
    /// a doubt they are waited for: what is owed must not stand in the queue of a slow one.
    fn send_due(&mut self, id: StreamId, block: &mut SentBlock) -> Result<bool, Exhausted> {
        self.look(block);
        for stripe in block.due.iter() {
            let any = self.trusted.len() < SIXTEEN;
            let Some(path) = self.best_path(block, stripe, |trusted, _| any || trusted) else {
                return Ok(false);
            };
            self.send(id, block, stripe, path, false)?;
            self.look_at(path, block);
        }
        Ok(true)
    }

    /// The path with the least queued time that takes a stripe of the block, of those that are `wanted` by whether they
    /// are trusted and how many stripes of the block they have: one that this stripe was not lost on, one without a
    /// doubt, one with few stripes of this block, the default placement as the tie-break.
    fn best_path(
        &self,
        block: &SentBlock,
        stripe: StripeId,
        wanted: impl Fn(bool, usize) -> bool,
    ) -> Option<PathId> {
        let tried = block.sent.iter().find(|s| s.stripe == stripe).map(|s| s.path);
        let home = placement(stripe, block.number);
        let mut best = None;
        for (path, seat) in PathId::all().zip(&self.seats) {
            let trusted = self.trusted.contains(path);
            if !seat.takes || !wanted(trusted, seat.load) {
                continue;
            }
            let doubt = seat.suspect || !trusted;
            let rank = (tried == Some(path), doubt, seat.load, seat.queued, path != home);
            if best.as_ref().is_none_or(|(r, _)| rank < *r) {
                best = Some((rank, path));
            }
        }
        best.map(|(_, path)| path)
    }

    /// Copies a stripe behind the record headroom of its hop and seals it there.
    fn send(
        &mut self,
        id: StreamId,
        block: &mut SentBlock,
        stripe: StripeId,
        path: PathId,
        prepared: bool,
    ) -> Result<(), Exhausted> {
        let len = block.stripe_len();
        let header = StripeHeader {
            phase: block.phase,
            stream: id,
            block: block.number,
            stripe,
            block_len: block.block_len,
        };
        let mut single = Vec::new();
        let plain = match stripe.data_index() {
            Some(k) => block.bytes.get(k * len..(k + 1) * len),
            None if prepared => {
                let at = block.set.parity().iter().position(|s| s == stripe).unwrap_or_default();
                self.scratch.get(at * len..(at + 1) * len)
            }
            None => {
                single.resize(len, 0);
                grid::parity_stripe(stripe, &block.bytes, &mut single).ok().map(|()| single.as_slice())
            }
        };
        let Some(plain) = plain else { return Ok(()) };
        let p = self.paths.get_mut(path);
        let Some(route) = p.route else { return Ok(()) };
        let payload = STRIPE_HEADER_BYTES + len + TAG_BYTES;
        let (keys, mut sealed) = (&mut *self.keys, Ok(()));
        let offset = p.flow.on_sent(self.now, payload);
        let lost = hit(Point::StripeLost);
        self.hops.outbox(p.at(path), |out| {
            if lost {
                return Ok(());
            }
            out.data(route, offset, payload, |buf| {
                let mut clear = [0; STRIPE_HEADER_BYTES];
                header.encode(&mut clear);
                let (head, rest) = buf.split_at_mut(STRIPE_HEADER_BYTES);
                let (body, end) = rest.split_at_mut(len);
                head.copy_from_slice(&clear);
                body.copy_from_slice(plain);
                match keys.seal_stripe(&header, body) {
                    Ok(tag) => end.copy_from_slice(&tag),
                    Err(_) => {
                        buf.fill(0);
                        sealed = Err(Exhausted);
                    }
                }
            })
        });
        sealed?;
        self.stats.stripes_sent += 1;
        if block.sent.iter().any(|s| s.stripe == stripe) {
            self.stats.stripes_resent += 1;
        }
        block.record(stripe, path, &self.paths.get(path).flow, self.now);
        Ok(())
    }
}
