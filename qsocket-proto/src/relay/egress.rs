//! What waits for the socket of one hop: a control lane first, then routes in turn.

use super::HopId;
use crate::fault_points::{Point, hit};
use crate::frame::Frame;
use crate::hop::{Full, Outbox};
use crate::ids::RouteId;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The most that waits for one route of a hop, 16 bytes charged for each frame: the first window of a path.
pub const ROUTE_QUEUE: usize = 256 * 1024;

/// The most that waits for one hop, in all routes: sixteen full routes.
pub const HOP_QUEUE: usize = 4 * 1024 * 1024;

/// DATA goes into the outbox up to this many bytes, and waits in its route's queue beyond: enough to keep a socket
/// busy, little enough that a control frame never waits behind much.
pub const OUTBOX_TARGET: usize = 256 * 1024;

/// CONGESTED is sent for a route at most this often; the bytes add up in between.
pub const CONGESTED_EVERY: Duration = Duration::from_millis(50);

/// What a route may send before it is the next one's turn: one stripe of the largest block.
const QUANTUM: usize = 16 * 1024;

/// What a waiting frame is charged besides its payload, so that empty and tiny ones count: its entry, whose memory may have
/// been doubled.
const ENTRY_BYTES: usize = 16;

/// Emptied queues whose memory is kept for the next route that has to wait.
const SPARES: usize = 16;

/// The memory that each of them keeps; what a burst took above it is given back.
const SPARE_BYTES: usize = 64 * 1024;

/// The caps of an [`Egress`]: payload bytes, and 16 for each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressLimits {
    /// [`ROUTE_QUEUE`].
    pub route: usize,
    /// [`HOP_QUEUE`].
    pub hop: usize,
    /// [`OUTBOX_TARGET`].
    pub outbox: usize,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self { route: ROUTE_QUEUE, hop: HOP_QUEUE, outbox: OUTBOX_TARGET }
    }
}

/// DATA was dropped: tell the sender with a CONGESTED frame on its own hop and route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Congestion {
    /// The hop that the dropped frames came from.
    pub hop: HopId,
    /// Their route on that hop.
    pub route: RouteId,
    /// Payload bytes dropped since the last report, saturating.
    pub bytes: u32,
}

/// The queues of one hop.
#[derive(Debug)]
pub struct Egress {
    outbox: Outbox,
    limits: EgressLimits,
    routes: BTreeMap<RouteId, Queue>,
    /// Routes with waiting frames, in the order of their turns.
    turns: VecDeque<RouteId>,
    /// The charges of all queues.
    waiting: usize,
    spares: Vec<VecDeque<u8>>,
}

#[derive(Debug)]
struct Queue {
    /// Offset and length of each waiting frame.
    frames: VecDeque<(u32, u32)>,
    /// Their payloads, one behind the other.
    bytes: VecDeque<u8>,
    /// What the route may send in this turn.
    deficit: usize,
    /// Where the frames come from.
    origin: (HopId, RouteId),
    dropped: u32,
    reported: Option<Instant>,
}

impl Queue {
    /// What its frames are charged.
    fn charge(&self) -> usize {
        self.bytes.len() + self.frames.len() * ENTRY_BYTES
    }

    /// Returns what the frame was charged.
    fn drop_newest(&mut self) -> usize {
        let Some((_, len)) = self.frames.pop_back() else { return 0 };
        self.bytes.truncate(self.bytes.len() - len as usize);
        self.dropped = self.dropped.saturating_add(len);
        len as usize + ENTRY_BYTES
    }

    /// What to report to the sender now, if anything.
    fn report(&mut self, now: Instant) -> Option<Congestion> {
        let recent = self.reported.is_some_and(|at| now.saturating_duration_since(at) < CONGESTED_EVERY);
        if self.dropped == 0 || recent {
            return None;
        }
        self.reported = Some(now);
        let (hop, route) = self.origin;
        Some(Congestion { hop, route, bytes: std::mem::take(&mut self.dropped) })
    }
}

impl Egress {
    /// Makes the egress of a hop that already has an outbox, from its handshake.
    ///
    /// The outbox's own limit must be at least `limits.outbox`.
    pub fn new(outbox: Outbox, limits: EgressLimits) -> Self {
        Self {
            outbox,
            limits,
            routes: BTreeMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            spares: Vec::new(),
        }
    }

    /// Queues a control frame, ahead of all DATA that waits.
    ///
    /// DETACH and ROUTE_ERROR end their route: its waiting DATA is dropped.
    ///
    /// # Errors
    /// [`Full`] when the peer reads not even control frames: close the hop.
    pub fn control(&mut self, frame: &Frame<'_>) -> Result<(), Full> {
        if let Frame::Detach { route } | Frame::RouteError { route, .. } = frame {
            self.forget(*route);
        }
        self.outbox.frame(frame)
    }

    /// Queues DATA for `route` that came from `origin`, or drops it.
    ///
    /// Returns what to tell the sender of dropped frames: this one's, or another one's if that route is what fills
    /// the hop.
    pub fn data(
        &mut self,
        now: Instant,
        route: RouteId,
        offset: u32,
        payload: &[u8],
        origin: (HopId, RouteId),
    ) -> Option<Congestion> {
        let drop = hit(Point::RelayDrops);
        if !drop
            && self.turns.is_empty()
            && self.put(route, offset, payload.len(), |to| to.copy_from_slice(payload))
        {
            return None;
        }
        let spares = &mut self.spares;
        let queue = self.routes.entry(route).or_insert_with(|| Queue {
            frames: VecDeque::new(),
            bytes: spares.pop().unwrap_or_default(),
            deficit: 0,
            origin,
            dropped: 0,
            reported: None,
        });
        queue.origin = origin;
        if drop || queue.charge() + payload.len() + ENTRY_BYTES > self.limits.route {
            queue.dropped = queue.dropped.saturating_add(payload.len() as u32);
            return queue.report(now);
        }
        if queue.frames.is_empty() {
            self.turns.push_back(route);
        }
        queue.frames.push_back((offset, payload.len() as u32));
        queue.bytes.extend(payload);
        self.waiting += payload.len() + ENTRY_BYTES;
        if self.waiting <= self.limits.hop { None } else { self.drop_from_longest(now) }
    }

    /// Drops the newest stripe of the route that holds most: a short queue is not what fills the hop.
    fn drop_from_longest(&mut self, now: Instant) -> Option<Congestion> {
        let (&route, queue) = self.routes.iter_mut().max_by_key(|(_, queue)| queue.charge())?;
        self.waiting -= queue.drop_newest();
        let report = queue.report(now);
        if queue.frames.is_empty() {
            self.turns.retain(|r| *r != route);
        }
        report
    }

    /// Moves waiting DATA to the outbox, routes in turn (deficit round robin). Call it when the socket took bytes.
    pub fn pump(&mut self) {
        while let Some(&route) = self.turns.front() {
            let Some(queue) = self.routes.get_mut(&route) else {
                self.turns.pop_front();
                continue;
            };
            let Some(&(offset, len)) = queue.frames.front() else {
                self.turns.pop_front();
                continue;
            };
            let len = len as usize;
            if queue.deficit < len {
                queue.deficit += QUANTUM;
                if queue.deficit < len {
                    self.turns.rotate_left(1);
                    continue;
                }
            }
            let bytes = &mut queue.bytes;
            let room =
                self.outbox.queued_bytes() == 0 || self.outbox.queued_bytes() + len <= self.limits.outbox;
            let put = room
                && self
                    .outbox
                    .data(route, offset, len, |to| {
                        let (a, b) = bytes.as_slices();
                        let (first, second) = to.split_at_mut(a.len().min(len));
                        first.copy_from_slice(&a[..first.len()]);
                        second.copy_from_slice(&b[..second.len()]);
                    })
                    .is_ok();
            if !put {
                return;
            }
            queue.bytes.drain(..len);
            queue.frames.pop_front();
            queue.deficit -= len;
            self.waiting -= len + ENTRY_BYTES;
            if queue.frames.is_empty() {
                self.turns.pop_front();
                self.retire(route);
            } else if queue.deficit < queue.frames.front().map_or(0, |f| f.1 as usize) {
                self.turns.rotate_left(1);
            }
        }
    }

    /// Drops what waits for a route that ended.
    ///
    /// [`Egress::control`] does this for the hop that is told of the end; call it for the hop that the DETACH or
    /// ROUTE_ERROR came from.
    pub fn forget(&mut self, route: RouteId) {
        if let Some(queue) = self.routes.remove(&route) {
            self.waiting -= queue.charge();
            self.turns.retain(|r| *r != route);
        }
    }

    /// The outbox: to seal, to write to the socket, to consume.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// All bytes held: waiting frames and the outbox.
    pub fn queued_bytes(&self) -> usize {
        self.waiting + self.outbox.queued_bytes()
    }

    /// Whether anything waits for the socket.
    pub fn is_idle(&self) -> bool {
        self.queued_bytes() == 0
    }

    fn put(&mut self, route: RouteId, offset: u32, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let queued = self.outbox.queued_bytes();
        (queued == 0 || queued + len <= self.limits.outbox)
            && self.outbox.data(route, offset, len, fill).is_ok()
    }

    /// Gives an empty queue's memory to the next route. One with an unreported loss stays until it is reported.
    fn retire(&mut self, route: RouteId) {
        if self.routes.get(&route).is_some_and(|q| q.dropped == 0)
            && let Some(mut queue) = self.routes.remove(&route)
            && self.spares.len() < SPARES
        {
            queue.bytes.shrink_to(SPARE_BYTES);
            self.spares.push(queue.bytes);
        }
    }
}

#[cfg(test)]
mod tests;
