//! What applications do with a stream. They act on events alone, as a shell that parks its callers would.

use super::talk::{Half, Talk};
use qsocket_proto::connection::{Connection, ReadError, WriteError};
use qsocket_proto::ids::StreamId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What an echo holds before it stops reading.
const ECHO_BUFFER: usize = 64 * 1024;

/// What a program without a conversation of its own reads or writes at a time.
const PORTION: u32 = 64 * 1024;

/// What the server at the other end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sends every byte back.
    Echo,
    /// Checks every byte against the pattern and finishes without a word.
    Sink,
    /// What both ends agreed on. The job's own bytes and pace say nothing then.
    Talk(Talk),
}

/// What an end does with a stream that it opens: write `bytes` of the pattern `key`, finish, and read what comes back.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub kind: Kind,
    pub key: u64,
    pub bytes: u64,
    /// Bytes a second; as fast as it goes if `None`.
    pub pace: Option<u64>,
    /// How long after the connection stands the stream is opened.
    pub after: Duration,
}

impl Job {
    pub fn echo(key: u64, bytes: u64) -> Self {
        Self { kind: Kind::Echo, key, bytes, pace: None, after: Duration::ZERO }
    }

    pub fn talk(key: u64, talk: Talk, after: Duration) -> Self {
        Self { kind: Kind::Talk(talk), key, bytes: 0, pace: None, after }
    }

    pub fn resource(&self) -> Vec<u8> {
        let mut out = vec![match self.kind {
            Kind::Echo => b'e',
            Kind::Sink => b's',
            Kind::Talk(_) => b't',
        }];
        out.extend(self.key.to_be_bytes());
        if let Kind::Talk(talk) = &self.kind {
            talk.encode(&mut out);
        }
        out
    }
}

/// The byte of pattern `key` at `offset`.
fn byte(key: u64, offset: u64) -> u8 {
    ((offset ^ key << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// The pattern of what the accepting end of a conversation writes.
fn answer(key: u64) -> u64 {
    key ^ 0xa5a5_a5a5
}

#[derive(Debug)]
enum Writes {
    Pattern { since: Instant },
    Back(VecDeque<u8>),
    Nothing,
}

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// By its verified end, which the writer knows to have arrived.
    Clean,
    /// The writer gave up.
    Reset,
    /// The reader wanted no more.
    Stopped,
}

#[derive(Debug)]
pub struct Program {
    read_key: u64,
    write_key: u64,
    writes: Writes,
    /// What is written, and what is read as far as that is known.
    out: Half,
    into: Option<Half>,
    /// This end lets go after so many bytes.
    drops: Option<u64>,
    peer_drops: bool,
    written: u64,
    read: u64,
    read_over: Option<Over>,
    write_over: Option<Over>,
    finishing: bool,
    released: bool,
    pub can_read: bool,
    pub can_write: bool,
    /// When a paced writer goes on.
    due: Option<Instant>,
    /// When the first byte was read.
    pub first_read: Option<Instant>,
    /// Why reading ended, other than by the FIN.
    pub failed: Option<ReadError>,
}

impl Program {
    fn new(now: Instant, keys: (u64, u64), writes: Option<Writes>, out: Half, into: Option<Half>) -> Self {
        Self {
            read_key: keys.0,
            write_key: keys.1,
            writes: writes.unwrap_or(Writes::Pattern { since: now }),
            out,
            into,
            drops: None,
            peer_drops: false,
            written: 0,
            read: 0,
            read_over: None,
            write_over: None,
            finishing: false,
            released: false,
            can_read: true,
            can_write: true,
            due: None,
            first_read: None,
            failed: None,
        }
    }

    pub fn start(now: Instant, job: Job) -> Self {
        let (key, portion) = (job.key, PORTION);
        if let Kind::Talk(talk) = job.kind {
            let (drops, peer_drops) = (talk.opener_drops, talk.acceptor_drops.is_some());
            let own = Self::new(now, (answer(key), key), None, talk.up, Some(talk.down));
            return Self { drops, peer_drops, ..own };
        }
        let back = if job.kind == Kind::Echo { job.bytes } else { 0 };
        let out = Half { bytes: job.bytes, pace: job.pace, portion, ..Half::default() };
        Self::new(now, (key, key), None, out, Some(Half { bytes: back, portion, ..Half::default() }))
    }

    pub fn serve(now: Instant, resource: &[u8]) -> Self {
        let (kind, rest) = resource.split_first().expect("a job's resource");
        let (key, rest) = rest.split_first_chunk().expect("eight bytes");
        let (key, portion) = (u64::from_be_bytes(*key), PORTION);
        if *kind == b't' {
            let talk = Talk::decode(rest);
            let (drops, peer_drops) = (talk.acceptor_drops, talk.opener_drops.is_some());
            let own = Self::new(now, (key, answer(key)), None, talk.down, Some(talk.up));
            return Self { drops, peer_drops, ..own };
        }
        let writes = if *kind == b'e' { Writes::Back(VecDeque::new()) } else { Writes::Nothing };
        Self::new(now, (key, key), Some(writes), Half { portion, ..Half::default() }, None)
    }

    /// Both directions are over, in the way that was agreed on.
    pub fn is_done(&self) -> bool {
        self.read_over.is_some() && self.write_over.is_some()
    }

    /// Whether a verified end was read.
    pub fn saw_fin(&self) -> bool {
        self.read_over == Some(Over::Clean)
    }

    pub fn taken(&self) -> u64 {
        self.read
    }

    pub fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.write_over.is_none())
    }

    pub fn run(&mut self, now: Instant, id: StreamId, connection: &mut Connection, stalled: bool) {
        if self.released {
            return;
        }
        if !stalled {
            self.take(now, id, connection);
        }
        if self.drops.is_some_and(|at| self.read >= at) {
            // As a program that panics, or whose task is cancelled.
            self.read_over.get_or_insert(Over::Stopped);
            self.write_over.get_or_insert(Over::Reset);
        } else {
            self.put(now, id, connection);
        }
        if self.is_done() {
            connection.release(id);
            self.released = true;
        }
    }

    /// The size of the next portion: any up to the most, the same in every run.
    fn portion(key: u64, at: u64, half: Half) -> u64 {
        let most = u64::from(half.portion.max(1));
        1 + (key ^ at).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(32) % most
    }

    fn take(&mut self, now: Instant, id: StreamId, connection: &mut Connection) {
        let mut buf = [0; 16 * 1024];
        while self.can_read && self.read_over.is_none() && self.failed.is_none() {
            if matches!(&self.writes, Writes::Back(held) if held.len() >= ECHO_BUFFER) {
                return;
            }
            if let Some((_, code)) = self.into.and_then(|half| half.stop).filter(|(at, _)| self.read >= *at) {
                connection.stop(id, code);
                self.read_over = Some(Over::Stopped);
                return;
            }
            let most = Self::portion(self.read_key, self.read, self.into.unwrap_or(self.out));
            let room = buf.len().min(most as usize);
            match connection.read(id, &mut buf[..room]) {
                Ok(None) => self.can_read = false,
                Ok(Some(0)) => {
                    let right = self.into.is_none_or(|half| half.bytes == self.read && half.reset.is_none());
                    assert!(right, "a clean end after {} bytes of {:?}", self.read, self.into);
                    self.read_over = Some(Over::Clean);
                }
                Ok(Some(n)) => {
                    self.first_read.get_or_insert(now);
                    for (at, b) in (self.read..).zip(&buf[..n]) {
                        assert_eq!(*b, byte(self.read_key, at), "byte {at} of stream {id:?}");
                    }
                    self.read += n as u64;
                    assert!(self.into.is_none_or(|half| self.read <= half.bytes), "more than was sent");
                    if let Writes::Back(held) = &mut self.writes {
                        held.extend(&buf[..n]);
                    }
                }
                Err(ReadError::Reset(code)) if self.into.is_some_and(|half| self.may_reset(half, code)) => {
                    self.read_over = Some(Over::Reset);
                }
                Err(error) => self.failed = Some(error),
            }
        }
    }

    fn may_reset(&self, half: Half, code: u32) -> bool {
        // A stream that is given up before its first block arrived is never offered: its peer lets go of it.
        let unseen = self.write_over == Some(Over::Reset) && self.read == 0;
        half.reset == Some(code) || code == 0 && (self.peer_drops || unseen)
    }

    /// What is written next, and whether that is all. `None` for "not now".
    fn next_portion(&mut self, now: Instant) -> Option<(Vec<u8>, bool)> {
        match &mut self.writes {
            Writes::Pattern { since } => {
                let left = self.out.bytes - self.written;
                let n = Self::portion(self.write_key, self.written, self.out).min(left);
                if let Some(rate) = self.out.pace
                    && left > 0
                {
                    let at = *since + Duration::from_nanos(self.written * 1_000_000_000 / rate);
                    if at > now {
                        self.due = Some(at);
                        return None;
                    }
                    // A writer that was held up may catch up a little.
                    *since += (now - at).saturating_sub(Duration::from_millis(200));
                }
                let key = self.write_key;
                Some(((self.written..self.written + n).map(|at| byte(key, at)).collect(), n == 0))
            }
            Writes::Back(held) => {
                let (head, _) = held.as_slices();
                let ended = self.read_over.is_some();
                (!head.is_empty() || ended).then(|| (head.to_vec(), head.is_empty()))
            }
            Writes::Nothing => self.read_over.is_some().then(|| (Vec::new(), true)),
        }
    }

    fn put(&mut self, now: Instant, id: StreamId, connection: &mut Connection) {
        self.due = None;
        while self.can_write && !self.finishing && self.write_over.is_none() {
            let Some((portion, last)) = self.next_portion(now) else { return };
            if last {
                match self.out.reset {
                    Some(code) => {
                        connection.reset(id, code);
                        self.write_over = Some(Over::Reset);
                    }
                    None => self.finishing = true,
                }
                break;
            }
            match connection.write(id, &portion) {
                Ok(n) => {
                    self.can_write = n > 0;
                    self.written += n as u64;
                    if let Writes::Back(held) = &mut self.writes {
                        held.drain(..n);
                    }
                }
                Err(error) => self.refused(&error),
            }
        }
        if self.finishing && self.write_over.is_none() && self.can_write {
            // Once to ask for it, and again whenever it may have been settled.
            match connection.finish(id) {
                Ok(()) if connection.is_finished(id) => self.write_over = Some(Over::Clean),
                Ok(()) => self.can_write = false,
                Err(error) => self.refused(&error),
            }
        }
    }

    fn refused(&mut self, error: &WriteError) {
        self.can_write = false;
        if let WriteError::Stopped(code) = error {
            let asked = self.out.stop.is_some_and(|(_, c)| c == *code) || self.peer_drops && *code == 0;
            assert!(asked, "nobody stopped {:?} with {code}", self.out);
            self.write_over = Some(Over::Stopped);
        } else {
            assert!(matches!(error, WriteError::Lost { .. }), "{error:?}");
        }
    }
}
