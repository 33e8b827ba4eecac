//! What applications do with a stream. They act on events alone, as a shell that parks its callers would.

use qsocket_proto::connection::{Connection, ReadError};
use qsocket_proto::ids::StreamId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What an echo holds before it stops reading.
const ECHO_BUFFER: usize = 64 * 1024;

/// What a paced writer writes at a time.
const PORTION: u64 = 64 * 1024;

/// What the server at the other end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sends every byte back.
    Echo,
    /// Checks every byte against the pattern and finishes without a word.
    Sink,
}

/// What a client does with one stream: write `bytes` of the pattern `key`, finish, and read what comes back.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub kind: Kind,
    pub key: u64,
    pub bytes: u64,
    /// Bytes a second; as fast as it goes if `None`.
    pub pace: Option<u64>,
}

impl Job {
    pub fn echo(key: u64, bytes: u64) -> Self {
        Self { kind: Kind::Echo, key, bytes, pace: None }
    }

    pub fn resource(&self) -> Vec<u8> {
        let mut out = vec![if self.kind == Kind::Echo { b'e' } else { b's' }];
        out.extend(self.key.to_be_bytes());
        out
    }
}

/// The byte of pattern `key` at `offset`.
fn byte(key: u64, offset: u64) -> u8 {
    ((offset ^ key << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

#[derive(Debug)]
enum Writes {
    Pattern { bytes: u64, pace: Option<(Instant, u64)> },
    Back(VecDeque<u8>),
    Nothing,
}

#[derive(Debug)]
pub struct Program {
    key: u64,
    writes: Writes,
    written: u64,
    /// Bytes that are to arrive, where that is known.
    expects: Option<u64>,
    read: u64,
    fin: bool,
    finishing: bool,
    acknowledged: bool,
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
    fn new(key: u64, writes: Writes, expects: Option<u64>) -> Self {
        Self {
            key,
            writes,
            written: 0,
            expects,
            read: 0,
            fin: false,
            finishing: false,
            acknowledged: false,
            can_read: true,
            can_write: true,
            due: None,
            first_read: None,
            failed: None,
        }
    }

    pub fn start(now: Instant, job: Job) -> Self {
        let expects = if job.kind == Kind::Echo { job.bytes } else { 0 };
        let writes = Writes::Pattern { bytes: job.bytes, pace: job.pace.map(|rate| (now, rate)) };
        Self::new(job.key, writes, Some(expects))
    }

    pub fn serve(resource: &[u8]) -> Self {
        let (kind, key) = resource.split_first().expect("a job's resource");
        let key = u64::from_be_bytes(key.try_into().expect("eight bytes"));
        let writes = if *kind == b'e' { Writes::Back(VecDeque::new()) } else { Writes::Nothing };
        Self::new(key, writes, None)
    }

    /// All bytes and the FIN went both ways, and the peer said so.
    pub fn is_done(&self) -> bool {
        self.fin && self.acknowledged
    }

    /// Whether a verified end was read.
    pub fn saw_fin(&self) -> bool {
        self.fin
    }

    pub fn taken(&self) -> u64 {
        self.read
    }

    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    pub fn run(&mut self, now: Instant, id: StreamId, connection: &mut Connection, stalled: bool) {
        if !stalled {
            self.take(now, id, connection);
        }
        self.put(now, id, connection);
        if self.finishing && !self.acknowledged && connection.is_finished(id) {
            self.acknowledged = true;
        }
        if self.is_done() {
            connection.release(id);
        }
    }

    fn take(&mut self, now: Instant, id: StreamId, connection: &mut Connection) {
        let mut buf = [0; 16 * 1024];
        while self.can_read && !self.fin && self.failed.is_none() {
            if matches!(&self.writes, Writes::Back(held) if held.len() >= ECHO_BUFFER) {
                return;
            }
            match connection.read(id, &mut buf) {
                Ok(None) => self.can_read = false,
                Ok(Some(0)) => {
                    assert!(self.expects.is_none_or(|n| n == self.read), "an end after {} bytes", self.read);
                    self.fin = true;
                }
                Ok(Some(n)) => {
                    self.first_read.get_or_insert(now);
                    for (at, b) in (self.read..).zip(&buf[..n]) {
                        assert_eq!(*b, byte(self.key, at), "byte {at} of stream {id:?}");
                    }
                    self.read += n as u64;
                    assert!(self.expects.is_none_or(|n| self.read <= n), "more than was sent");
                    if let Writes::Back(held) = &mut self.writes {
                        held.extend(&buf[..n]);
                    }
                }
                Err(error) => self.failed = Some(error),
            }
        }
    }

    fn put(&mut self, now: Instant, id: StreamId, connection: &mut Connection) {
        self.due = None;
        while self.can_write && !self.finishing {
            let (portion, last) = match &mut self.writes {
                Writes::Pattern { bytes, pace } => {
                    let mut n = (*bytes - self.written).min(PORTION);
                    if let Some((since, rate)) = pace {
                        let at = *since + Duration::from_nanos(self.written * 1_000_000_000 / *rate);
                        if at > now {
                            self.due = Some(at);
                            return;
                        }
                        // A writer that was held up may catch up a little.
                        let late = now - at;
                        *since += late.saturating_sub(Duration::from_millis(200));
                        n = n.min(PORTION);
                    }
                    let portion: Vec<u8> =
                        (self.written..self.written + n).map(|at| byte(self.key, at)).collect();
                    (portion, n == 0)
                }
                Writes::Back(held) => {
                    let (head, _) = held.as_slices();
                    if head.is_empty() && !self.fin {
                        return;
                    }
                    (head.to_vec(), head.is_empty())
                }
                Writes::Nothing => {
                    if !self.fin {
                        return;
                    }
                    (Vec::new(), true)
                }
            };
            if last {
                self.finishing = connection.finish(id).is_ok();
                self.can_write = false;
                return;
            }
            match connection.write(id, &portion) {
                Ok(n) => {
                    self.can_write = n > 0;
                    self.written += n as u64;
                    if let Writes::Back(held) = &mut self.writes {
                        held.drain(..n);
                    }
                }
                Err(_) => self.can_write = false,
            }
        }
    }
}
