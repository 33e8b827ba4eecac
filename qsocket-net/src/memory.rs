//! Sockets in memory: hosts that reach each other without ports of the operating system, for tests.
//!
//! What TCP does between two processes of one machine is kept: order, bounded buffers, half-closes, the reset when one
//! end is closed with bytes unread, a refusal where nobody listens. There is no delay, no loss and no name.

use crate::socket::BACKLOG;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes that wait in one direction of a connection: about what the two kernels hold of a tuned TCP connection, and the
/// first window of a path. 25 connections whose peers do not read hold 6 MiB.
pub const CAPACITY: usize = 256 * 1024;

/// The first of the ports that are given where none is asked for; the last is 65535. Those of RFC 6335.
const FIRST_FREE_PORT: u16 = 49_152;

/// State behind a lock is consistent between calls, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `ready` gives something; looks after each change.
async fn until<T>(changed: &Notify, mut ready: impl FnMut() -> Option<T>) -> T {
    loop {
        let change = changed.notified();
        tokio::pin!(change);
        // From here on no change is missed.
        change.as_mut().enable();
        if let Some(found) = ready() {
            return found;
        }
        change.await;
    }
}

/// Hosts that reach each other, and nobody else. A cheap handle: clones are the same hosts.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Table>>);

/// Who listens where.
#[derive(Debug, Default)]
struct Table {
    ports: BTreeMap<SocketAddr, Arc<Port>>,
    /// How many free ports were given.
    given: u16,
}

impl Table {
    /// One of the free ports; round about, so that one that was left is not the next to be given.
    fn free_port(&mut self) -> u16 {
        let port = FIRST_FREE_PORT + self.given % (u16::MAX - FIRST_FREE_PORT + 1);
        self.given = self.given.wrapping_add(1);
        port
    }
}

impl Memory {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The host with an address.
    pub fn host(&self, ip: IpAddr) -> Host {
        Host { memory: self.clone(), ip }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.0)
    }
}

/// One host in [`Memory`]: its connections come from its address. It may listen at any.
#[derive(Clone, Debug)]
pub struct Host {
    memory: Memory,
    ip: IpAddr,
}

impl Host {
    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    pub(crate) async fn connect(&self, to: SocketAddr) -> io::Result<Socket> {
        let (port, from) = {
            let mut table = self.memory.table();
            let from = SocketAddr::new(self.ip, table.free_port());
            (table.ports.get(&to).cloned(), from)
        };
        let port = port.ok_or(ErrorKind::ConnectionRefused)?;
        until(&port.changed, || port.offer(from, to)).await
    }

    pub(crate) fn listen(&self, mut at: SocketAddr) -> io::Result<Listener> {
        let mut table = self.memory.table();
        if at.port() == 0 {
            let free = (FIRST_FREE_PORT..=u16::MAX).find_map(|_| {
                at.set_port(table.free_port());
                (!table.ports.contains_key(&at)).then_some(at)
            });
            at = free.ok_or(ErrorKind::AddrInUse)?;
        }
        if table.ports.contains_key(&at) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let port = Arc::new(Port::default());
        table.ports.insert(at, port.clone());
        Ok(Listener { memory: self.memory.clone(), at, port })
    }
}

/// Where somebody listens.
#[derive(Debug, Default)]
struct Port {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Socket, SocketAddr)>,
    closed: bool,
}

impl Port {
    /// Puts a connection into the queue and gives its other end; `None` while the queue is full.
    fn offer(&self, from: SocketAddr, to: SocketAddr) -> Option<io::Result<Socket>> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Some(Err(ErrorKind::ConnectionRefused.into()));
        }
        if queue.waiting.len() >= BACKLOG.into() {
            return None;
        }
        let (ours, theirs) = Socket::pair(from, to);
        queue.waiting.push_back((theirs, from));
        drop(queue);
        self.changed.notify_waiters();
        Some(Ok(ours))
    }

    fn take(&self) -> Option<io::Result<(Socket, SocketAddr)>> {
        let mut queue = lock(&self.queue);
        let taken = queue.waiting.pop_front();
        // What a TCP socket says that does not listen.
        let closed = queue.closed.then(|| Err(ErrorKind::InvalidInput.into()));
        drop(queue);
        if taken.is_some() {
            self.changed.notify_waiters();
        }
        taken.map(Ok).or(closed)
    }

    fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        let refused = std::mem::take(&mut queue.waiting);
        drop(queue);
        drop(refused);
        self.changed.notify_waiters();
    }
}

/// Takes connections to one address.
#[derive(Debug)]
pub struct Listener {
    memory: Memory,
    at: SocketAddr,
    port: Arc<Port>,
}

impl Listener {
    pub(crate) async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        until(&self.port.changed, || self.port.take()).await
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.at
    }

    pub(crate) fn shut_down(&self) {
        let mut table = self.memory.table();
        // Another may listen here by now.
        if table.ports.get(&self.at).is_some_and(|port| Arc::ptr_eq(port, &self.port)) {
            table.ports.remove(&self.at);
        }
        drop(table);
        self.port.close();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Socket {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    local: SocketAddr,
}

impl Socket {
    fn pair(one: SocketAddr, other: SocketAddr) -> (Self, Self) {
        let (there, back) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
        let ours = Self { incoming: back.clone(), outgoing: there.clone(), local: one };
        (ours, Self { incoming: there, outgoing: back, local: other })
    }

    pub(crate) async fn readable(&self) {
        until(&self.incoming.changed, || lock(&self.incoming.flow).readable().then_some(())).await;
    }

    pub(crate) async fn writable(&self) {
        until(&self.outgoing.changed, || lock(&self.outgoing.flow).writable().then_some(())).await;
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.incoming.change(|flow| flow.read(buffer))
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.change(|flow| flow.write(bytes))
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn shut_down(&self, how: Shutdown) {
        if how != Shutdown::Write {
            self.incoming.change(Flow::abandon);
        }
        if how != Shutdown::Read {
            self.outgoing.change(|flow| flow.end(End::Clean));
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let unread = self.incoming.change(Flow::abandon);
        self.outgoing.change(|flow| flow.end(if unread { End::Reset } else { End::Clean }));
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    flow: Mutex<Flow>,
    changed: Notify,
}

impl Pipe {
    /// Changes what flows and wakes whoever may go on.
    fn change<T>(&self, change: impl FnOnce(&mut Flow) -> T) -> T {
        let mut flow = lock(&self.flow);
        let before = (flow.readable(), flow.writable());
        let done = change(&mut flow);
        let after = (flow.readable(), flow.writable());
        drop(flow);
        if before != after {
            self.changed.notify_waiters();
        }
        done
    }
}

#[derive(Debug, Default)]
struct Flow {
    bytes: VecDeque<u8>,
    /// The writer is done.
    end: Option<End>,
    /// Nobody reads any more.
    abandoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After every byte.
    Clean,
    /// At once; what was not read is gone.
    Reset,
}

impl Flow {
    fn readable(&self) -> bool {
        !self.bytes.is_empty() || self.end.is_some() || self.abandoned
    }

    fn writable(&self) -> bool {
        self.bytes.len() < CAPACITY || self.end.is_some() || self.abandoned
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.end == Some(End::Reset) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        match self.bytes.read(buffer)? {
            0 if !self.readable() => Err(ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.end.is_some() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.abandoned {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let n = bytes.len().min(CAPACITY - self.bytes.len());
        if n == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.bytes.extend(&bytes[..n]);
        Ok(n)
    }

    fn end(&mut self, end: End) {
        if end == End::Reset {
            self.bytes.clear();
        }
        if self.end.is_none() || end == End::Reset {
            self.end = Some(end);
        }
    }

    /// Reads no more; true if bytes were left.
    fn abandon(&mut self) -> bool {
        let unread = !self.bytes.is_empty();
        self.bytes = VecDeque::new();
        self.abandoned = true;
        unread
    }
}
