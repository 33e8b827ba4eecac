//! A hop by hand: one TCP connection from any loopback address, and whatever one wants to say over it.

use anyhow::{Context, Result, bail, ensure};
use qsocket::rng::OsRng;
use qsocket::{PathId, RaidaKey};
use qsocket_proto::crypto::schedule::hop::ImportedKey;
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::{Dial, Dialer, DialledBy, Established, HopLimits, Inbox, Opener, Outbox, Sealer};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Ends what hangs.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// Whose hop it is, to which relay, and who dials.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) key: &'a RaidaKey,
    pub(crate) relay: PathId,
    pub(crate) dialled_by: DialledBy,
    pub(crate) limits: HopLimits,
}

impl<'a> Who<'a> {
    /// A principal who dials a relay.
    pub(crate) fn of(key: &'a RaidaKey, relay: PathId) -> Self {
        Self { key, relay, dialled_by: DialledBy::Principal, limits: HopLimits::default() }
    }

    /// The HELLO with which it begins, and what answers the rest.
    pub(crate) fn hello(&self) -> (Dialer, Outbox) {
        let Self { key, relay, dialled_by, limits } = *self;
        let (principal, role) = (key.principal(), key.role());
        let imported = ImportedKey::new(key.number(relay), principal, relay, role);
        let mut outbox = Outbox::new(usize::MAX);
        let dial = Dial { principal, role, relay, dialled_by, limits };
        (Dialer::new(Instant::now(), dial, imported, &mut OsRng, &mut outbox), outbox)
    }
}

/// The `n`-th of many loopback addresses, none of which anybody else uses.
pub(crate) fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1 + (n / 62_500) as u8, 1 + (n / 250 % 250) as u8, 1 + (n % 250) as u8)
}

/// A TCP connection from this address.
pub(crate) fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&to.into(), HANG)?;
    socket.set_tcp_nodelay(true)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(HANG))?;
    stream.set_write_timeout(Some(HANG))?;
    Ok(stream)
}

/// Waits until the other end has closed; says how much it sent before.
pub(crate) fn ended(mut stream: TcpStream) -> Result<usize> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => Ok(answer.len()),
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(answer.len()),
        Err(e) => Err(e).context("nobody closes"),
    }
}

/// A hop that stands.
pub(crate) struct Hop {
    pub(crate) stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
    inbox: Inbox,
    outbox: Outbox,
}

impl Hop {
    /// Builds it from this address.
    pub(crate) fn dial(from: Ipv4Addr, at: SocketAddr, who: &Who<'_>) -> Result<Self> {
        let mut stream = connect(from, at)?;
        let (mut dialer, mut outbox) = who.hello();
        let mut inbox = Inbox::new();
        loop {
            stream.write_all(outbox.wire())?;
            outbox.consume(outbox.wire().len());
            let n = stream.read(inbox.spare())?;
            ensure!(n > 0, "the handshake was closed");
            inbox.advance(n);
            let done = dialer.handle(Instant::now(), &mut inbox, &mut outbox)?;
            if let Some(Established { sealer, opener, .. }) = done {
                stream.write_all(outbox.wire())?;
                outbox.consume(outbox.wire().len());
                return Ok(Self { stream, sealer, opener, inbox, outbox });
            }
        }
    }

    /// Puts a frame behind what waits.
    pub(crate) fn queue(&mut self, frame: &Frame<'_>) {
        // There is no limit.
        let _ = self.outbox.frame(frame);
    }

    /// Bytes that wait.
    pub(crate) fn queued(&self) -> usize {
        self.outbox.queued_bytes()
    }

    /// Seals and sends what waits.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.sealer.seal(Instant::now(), &mut self.outbox).map_err(io::Error::other)?;
        let sent = self.stream.write_all(self.outbox.wire());
        self.outbox.consume(self.outbox.wire().len());
        sent
    }

    pub(crate) fn send(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        self.queue(frame);
        self.flush()
    }

    /// Reads until `wanted` finds something in a frame.
    pub(crate) fn wait<T>(&mut self, mut wanted: impl FnMut(Frame<'_>) -> Option<T>) -> Result<T> {
        loop {
            while let Some(frames) = self.opener.next_record(&mut self.inbox)? {
                for frame in frames {
                    if let Some(found) = wanted(frame?) {
                        return Ok(found);
                    }
                }
            }
            let n = self.stream.read(self.inbox.spare())?;
            if n == 0 {
                bail!("the hop was closed");
            }
            self.inbox.advance(n);
        }
    }

    /// A round trip.
    pub(crate) fn ping(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.send(&Frame::Ping { token: 0x5150 })?;
        self.wait(|frame| matches!(frame, Frame::Pong { token: 0x5150 }).then_some(()))?;
        Ok(begun.elapsed())
    }

    /// Fails if the relay has refused a route.
    pub(crate) fn check_routes(&mut self) -> Result<()> {
        self.send(&Frame::Ping { token: 0x524f })?;
        self.wait(|frame| match frame {
            Frame::RouteError { reason, .. } => {
                Some(Err(anyhow::anyhow!("the relay refuses a route: {reason:?}")))
            }
            Frame::Pong { token: 0x524f } => Some(Ok(())),
            _ => None,
        })?
    }

    /// Throws away what has arrived, without a look at it: nothing can be opened any more.
    pub(crate) fn discard(&mut self) -> Result<()> {
        self.stream.set_nonblocking(true)?;
        let mut bytes = [0; 65_536];
        while self.stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
        self.stream.set_nonblocking(false)?;
        Ok(())
    }
}
