//! Two connections under any list of operations, over wires that do what they like; then the wires are well, and all
//! must be completed.

use crate::Input;
use crate::wires::{End, Habits, Wires};
use qsocket_proto::connection::{
    Config, ConnectionError as E, KeyLimits, ParityPolicy, ReadError, Redundancy, WriteError,
};
use qsocket_proto::frame::{Frame, RouteError};
use qsocket_proto::ids::{PathId, RELAYS, StreamId};
use qsocket_proto::open::MlKem;
use std::collections::BTreeMap;
use std::time::Duration;

/// Operations of one run, and streams.
const MOST: usize = 150;
const STREAMS: usize = 6;

/// The most that is written in one operation.
const PORTION: usize = 40_000;

/// The time in which everything is completed once the wires are well: some of the longest waits.
const COMPLETES: Duration = Duration::from_secs(60);

fn byte(key: u64, at: u64) -> u8 {
    ((at ^ key << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// One direction of a stream as both ends together know it.
#[derive(Debug, Default)]
struct Way {
    written: u64,
    read: u64,
    /// The writer asked for a clean end.
    finished: bool,
    /// The writer gave up, or the reader wanted no more, or either let go.
    broken: bool,
    /// The reader saw a clean end.
    ended: bool,
    /// The reader will not look any more.
    unread: bool,
}

struct Run {
    wires: Wires,
    /// By the stream, what its opener and its acceptor write.
    streams: BTreeMap<StreamId, [Way; 2]>,
    /// Which ends hold it: they opened or accepted it and have not let go.
    held: BTreeMap<StreamId, [bool; 2]>,
    /// The paths that were told that their route is gone, as bits: ten end the connection.
    advised: u32,
    closed: bool,
}

fn config(input: &mut Input<'_>) -> Config {
    let soft_seals = input.of(&[1 << 20, 30, 200]);
    Config {
        parity: input.of(&[ParityPolicy::Auto, ParityPolicy::Grid, ParityPolicy::Mds]),
        redundancy: input.of(&[Redundancy::Full, Redundancy::Adaptive]),
        ml_kem: MlKem::Off,
        stream_window: input.of(&[1 << 20, 5_000, 100]),
        connection_window: input.of(&[4 << 20, 9_000]),
        max_streams: input.of(&[100, 2]),
        send_buffer: input.of(&[1 << 20, 3_000]),
        nodelay: input.one_in(2),
        key_limits: KeyLimits { soft_seals, ..KeyLimits::default() },
        ..Config::default()
    }
}

impl Run {
    /// What `end` writes on a stream, and what it reads.
    fn ways(&mut self, id: StreamId, end: End) -> (&mut Way, &mut Way) {
        let [up, down] = self.streams.entry(id).or_default();
        let opened_here = (id.0 % 2 == 1) == (end == End::Client);
        if opened_here { (up, down) } else { (down, up) }
    }

    fn key(id: StreamId, end: End) -> u64 {
        u64::from(id.0) * 2 + end as u64
    }

    fn accept(&mut self) {
        for end in [End::Client, End::Server] {
            while let Some((id, name)) = self.wires.connection(end).and_then(|c| c.accept()) {
                assert_eq!(name, id.0.to_be_bytes());
                self.held.entry(id).or_default()[end as usize] = true;
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        let ended = |run: &mut Self, end| run.wires.connection(end).is_some_and(|c| c.error().is_some());
        ended(self, End::Client) || ended(self, End::Server)
    }

    fn holds(&self, id: StreamId, end: End) -> bool {
        self.held.get(&id).is_some_and(|ends| ends[end as usize])
    }

    fn write(&mut self, id: StreamId, end: End, len: usize) {
        let key = Self::key(id, end);
        let (out, _) = self.ways(id, end);
        let (at, finished, broken) = (out.written, out.finished, out.broken);
        let bytes: Vec<u8> = (at..at + len as u64).map(|at| byte(key, at)).collect();
        let Some(connection) = self.wires.connection(end) else { return };
        match connection.write(id, &bytes) {
            Ok(n) => {
                assert!(!finished || n == 0, "it was finished");
                self.ways(id, end).0.written += n as u64;
            }
            Err(WriteError::Finished) => assert!(finished || broken, "nobody finished it"),
            Err(WriteError::Stopped(_)) => assert!(broken, "nobody stopped it"),
            Err(WriteError::Lost { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    fn read(&mut self, id: StreamId, end: End, len: usize) {
        let other = if end == End::Client { End::Server } else { End::Client };
        let key = Self::key(id, other);
        let mut buf = vec![0; len];
        let Some(connection) = self.wires.connection(end) else { return };
        let result = connection.read(id, &mut buf);
        let (_, into) = self.ways(id, end);
        match result {
            Ok(None) => {}
            Ok(Some(0)) if len == 0 || into.unread => {}
            Ok(Some(0)) => {
                assert!(
                    into.finished && into.read == into.written,
                    "a clean end after {} of {into:?}",
                    into.read
                );
                into.ended = true;
            }
            Ok(Some(n)) => {
                for (at, b) in (into.read..).zip(&buf[..n]) {
                    assert_eq!(*b, byte(key, at), "byte {at} of {id:?}");
                }
                into.read += n as u64;
                assert!(into.read <= into.written, "more than was written");
            }
            Err(ReadError::Reset(_)) => {
                assert!(into.broken, "nobody reset it");
                into.unread = true;
            }
            Err(ReadError::Lost(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    fn finish(&mut self, id: StreamId, end: End) {
        let Some(connection) = self.wires.connection(end) else { return };
        if connection.finish(id).is_ok() {
            self.ways(id, end).0.finished = true;
        }
    }

    fn operation(&mut self, input: &mut Input<'_>) {
        let end = input.of(&[End::Client, End::Server]);
        let path = PathId::new(input.below(RELAYS) as u8).expect("below 25");
        let known: Vec<StreamId> = self.streams.keys().copied().collect();
        let id = if known.is_empty() { StreamId(1) } else { known[input.below(known.len())] };
        let may = self.holds(id, end);
        match input.below(20) {
            0 | 1 => self.wires.run_for(Duration::from_millis(u64::from(input.u8()))),
            2 if self.streams.len() < STREAMS => {
                let next = known.iter().filter(|s| (s.0 % 2 == 1) == (end == End::Client)).count() as u32;
                let id = StreamId(next * 2 + if end == End::Client { 1 } else { 2 });
                let opened = self.wires.connection(end).and_then(|c| c.open(&id.0.to_be_bytes()).ok()?);
                if let Some(opened) = opened {
                    assert_eq!(opened, id);
                    self.ways(id, end);
                    self.held.entry(id).or_default()[end as usize] = true;
                }
            }
            3..=6 if may => {
                let len = input.of(&[0, 1, 50, 3_000, 20_000, PORTION]);
                self.write(id, end, len);
            }
            7..=9 if may => {
                let len = input.of(&[0, 1, 100, 100_000]);
                self.read(id, end, len);
            }
            10 if may => self.finish(id, end),
            11 if may => {
                if let Some(connection) = self.wires.connection(end) {
                    connection.reset(id, 5);
                }
                self.ways(id, end).0.broken = true;
                // A stream that is given up before it is offered is let go of by the peer.
                self.ways(id, end).1.broken = true;
            }
            12 if may => {
                if let Some(connection) = self.wires.connection(end) {
                    connection.stop(id, 6);
                }
                let (_, into) = self.ways(id, end);
                (into.broken, into.unread) = (true, true);
            }
            13 if may => {
                if let Some(connection) = self.wires.connection(end) {
                    connection.release(id);
                }
                self.held.entry(id).or_default()[end as usize] = false;
                let (out, into) = self.ways(id, end);
                (out.broken, into.broken, into.unread) = (true, true, true);
            }
            14 => {
                let habits = Habits {
                    lose: input.of(&[0, 1, 2, 5, 20]),
                    repeat: input.of(&[0, 1, 3]),
                    flip: input.of(&[0, 0, 1, 10]),
                    hold: input.of(&[0, 0, 2, 5]),
                };
                // Wires that spoil are few: what they bring ends them, and some must be left.
                let few = path.get() < 9;
                self.wires.set_habits(path, Habits { flip: if few { habits.flip } else { 0 }, ..habits });
            }
            15 => self.wires.set_delay(path, Duration::from_millis(u64::from(input.u8()))),
            16 => self.wires.set_dead(path, input.one_in(2)),
            17 => self.wires.break_hops(path),
            18 => self.wires.restore_hops(path),
            _ => match input.below(8) {
                0 => self.wires.advise(end, path, |route| Frame::Congested { route, bytes: 1000 }),
                1 => {
                    self.advised |= 1 << path.get();
                    let reason =
                        input.of(&[RouteError::UnknownConnection, RouteError::Lost, RouteError::Busy]);
                    self.wires.advise(end, path, |route| Frame::RouteError { route, reason });
                }
                2 if input.one_in(8) => {
                    let now = self.wires.instant();
                    if let Some(connection) = self.wires.connection(end) {
                        connection.close(now, 0, "enough");
                    }
                    self.closed = true;
                }
                _ => self.wires.run_for(Duration::from_millis(3)),
            },
        }
        self.accept();
    }

    /// Everything that nobody broke is written, finished and read.
    fn complete(&mut self) {
        self.wires.heal();
        let (mut until, mut most) = (self.wires.now + COMPLETES, 0);
        loop {
            self.accept();
            let mut left = Vec::new();
            for id in self.streams.keys().copied().collect::<Vec<_>>() {
                for end in [End::Client, End::Server] {
                    if self.holds(id, end) {
                        self.read(id, end, 1 << 20);
                        self.finish(id, end);
                    }
                    let acknowledged = self.wires.connection(end).is_some_and(|c| c.is_finished(id));
                    let (out, into) = self.ways(id, end);
                    let done = (into.ended || into.broken) && (acknowledged || out.broken);
                    if !done {
                        left.push((id, end));
                    }
                }
            }
            if left.is_empty() || self.has_ended() {
                return;
            }
            // A window of a few bytes moves as many in a round trip: what goes on has its time.
            let read = self.streams.values().flatten().map(|way| way.read).sum();
            if read > most {
                (until, most) = (self.wires.now + COMPLETES, read);
            }
            if self.wires.now >= until {
                let clients = self.wires.connection(End::Client).map(|c| c.poll_timeout());
                panic!("{left:?} are not done; {:?}, {clients:?}", self.streams);
            }
            self.wires.run_for(Duration::from_millis(20));
        }
    }
}

/// Any list of operations.
pub fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    let (client, server) = (config(&mut input), config(&mut input));
    let mut run = Run {
        wires: Wires::new(u64::from(input.u8()), client, server),
        streams: BTreeMap::new(),
        held: BTreeMap::new(),
        advised: 0,
        closed: false,
    };
    run.wires.dial();
    if !input.one_in(4) {
        run.wires.run_for(Duration::from_millis(60));
    }
    for _ in 0..MOST {
        if input.is_empty() || run.has_ended() {
            break;
        }
        run.operation(&mut input);
    }
    run.complete();
    if run.has_ended() {
        run.explain();
    }
}

impl Run {
    /// A connection ends only where the protocol lets it.
    fn explain(&mut self) {
        let errors = [End::Client, End::Server].map(|end| self.wires.connection(end)?.error().cloned());
        let ten = self.advised.count_ones() >= 10;
        let [client, server] = errors;
        let let_go = matches!(server, None | Some(E::Unconfirmed));
        let right = match &client {
            None => true,
            Some(E::ClosedHere | E::ClosedByPeer { .. }) => self.closed,
            // The wires for an opening were taken away.
            Some(E::OpenTimeout | E::Unreachable(_)) => matches!(server, None | Some(E::Unconfirmed)) || ten,
            Some(E::Reset) => ten || let_go,
            Some(_) => false,
        };
        let right = right
            && match &server {
                None | Some(E::Unconfirmed) => true,
                Some(E::ClosedHere | E::ClosedByPeer { .. }) => self.closed,
                Some(E::Reset) => ten,
                Some(_) => false,
            };
        assert!(right, "client: {client:?}, server: {server:?}, advised by ten: {ten}");
    }
}
