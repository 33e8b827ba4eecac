//! Relays that lie, over the sockets of relays and endpoints.
//!
//! Between a relay and the server stands somebody who holds the number that both share, as the relay does: towards the
//! server a relay like any other, towards the relay the server. What passes is opened, altered and sealed again. So
//! relay and liar together are one relay that lies, whose routing is the real one:
//!
//! ```text
//! client ── relay ── liar ── server
//! ```
//!
//! Habits are those of the simulation's liars.

#[allow(dead_code, unreachable_pub, reason = "some of it serves the simulation alone, of which it is a part")]
#[path = "../../qsocket-proto/tests/it/sim/liar.rs"]
mod habits;

pub(crate) use habits::Lie;

use habits::{Liar, Said};
use qsocket::RaidaKey;
use qsocket::rng::OsRng;
use qsocket::testing::Raida;
use qsocket::{PathId, QSocketListener, Role};
use qsocket_net::{Socket, Transport, clock};
use qsocket_proto::crypto::schedule::hop::ImportedKey;
use qsocket_proto::frame::{CloseReason, Frame, Frames};
use qsocket_proto::hop::{
    Dial, Dialer, DialledBy, Established, HopLimits, Inbox, Opener, Outbox, Principals, Responder, Sealer,
};
use qsocket_proto::ids::{Principal, RELAYS};
use qsocket_proto::relay::HopId;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// DATA bytes that wait for one socket before more is lost: as much as a relay lets wait for a hop.
const QUEUE: usize = 4 << 20;

/// An end of what passes: its number in arrays, and the hop that the habits know it as.
const SERVER: usize = 0;
const RELAY: usize = 1;

/// To whom a relay lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Server,
    Both,
}

/// How one relay lies now.
struct Habits {
    liar: Liar,
    to: To,
    /// How often it still lies.
    left: u64,
    rng: ChaCha8Rng,
}

impl Habits {
    /// What goes out instead of a frame.
    fn pass(&mut self, to: usize, frame: &Frame<'_>) -> Vec<Said> {
        let lies_here = self.left > 0
            && match self.to {
                To::Server => to == SERVER,
                To::Both => true,
            };
        let lies = if lies_here { None } else { Some(std::mem::take(&mut self.liar.lies)) };
        let told = self.liar.told;
        let said = self.liar.tell(&mut self.rng, HopId(to as u64), frame);
        self.left -= self.liar.told - told;
        self.liar.lies = lies.unwrap_or_else(|| std::mem::take(&mut self.liar.lies));
        said
    }
}

/// The ways of some relays to a server, on each of which somebody stands who may lie.
pub(crate) struct Liars {
    habits: BTreeMap<PathId, Arc<Mutex<Habits>>>,
    /// Those that lie, of all who stand there.
    liars: Vec<PathId>,
    /// Ends with this value.
    _tasks: JoinSet<()>,
}

impl Liars {
    /// Stands in front of a server that the relays do not know yet, on all paths, so that none is slower than another,
    /// and has the relays know it by the ways that lead there. Nobody lies before [`lie`](Self::lie).
    pub(crate) fn stand(
        raida: &Raida,
        listener: &QSocketListener,
        key: &Arc<RaidaKey>,
        liars: impl IntoIterator<Item = PathId>,
    ) -> io::Result<Self> {
        let mut dial: [SocketAddr; RELAYS] = *listener.ports();
        let (mut habits, mut tasks) = (BTreeMap::new(), JoinSet::new());
        for path in PathId::all() {
            // A host of its own; on loopback all are one.
            let ip = match dial[path.index()].ip() {
                ip if ip.is_loopback() => ip,
                _ => IpAddr::V4(Ipv4Addr::new(10, 9, 9, path.get())),
            };
            let transport = raida.transport(ip);
            let at = transport.listen((ip, 0).into())?;
            let server = std::mem::replace(&mut dial[path.index()], at.local_addr()?);
            let liar = Habits {
                liar: Liar::new(Vec::new(), 1),
                to: To::Both,
                left: 0,
                rng: ChaCha8Rng::seed_from_u64(path.get().into()),
            };
            let liar = Arc::new(Mutex::new(liar));
            habits.insert(path, liar.clone());
            let between = Between { path, key: key.clone(), transport, server, liar };
            tasks.spawn(async move {
                let mut passing = JoinSet::new();
                while let Ok((relay, _)) = at.accept().await {
                    let between = between.clone();
                    // A hop that broke is dialled again by the relay.
                    passing.spawn(async move { between.pass(relay).await });
                }
            });
        }
        raida
            .relays()
            .register((listener.endpoint().principal(), listener.local_addr()?, dial))
            .map_err(io::Error::other)?;
        Ok(Self { habits, liars: liars.into_iter().collect(), _tasks: tasks })
    }

    /// Has the liars lie in these ways from now on, about every frame.
    pub(crate) fn lie(&self, lies: &[Lie]) {
        self.liars.iter().for_each(|path| self.lie_on(*path, To::Both, lies, u64::MAX));
    }

    /// Has one of them lie in these ways about the next `times` frames in this direction.
    pub(crate) fn lie_on(&self, path: PathId, to: To, lies: &[Lie], times: u64) {
        let Some(habits) = self.habits.get(&path) else { return };
        let mut habits = habits.lock().unwrap_or_else(PoisonError::into_inner);
        habits.liar.lies = lies.to_vec();
        (habits.to, habits.left) = (to, times);
    }
}

/// Somebody between one relay and the server.
#[derive(Clone)]
struct Between {
    path: PathId,
    key: Arc<RaidaKey>,
    transport: Transport,
    server: SocketAddr,
    liar: Arc<Mutex<Habits>>,
}

impl Principals for Between {
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        ((principal, role) == (self.key.principal(), self.key.role())).then(|| self.imported())
    }
}

impl Between {
    fn imported(&self) -> ImportedKey {
        let (principal, role) = (self.key.principal(), self.key.role());
        ImportedKey::new(self.key.number(self.path), principal, self.path, role)
    }

    /// Becomes a hop to each side, and passes on what comes until one of them ends.
    async fn pass(&self, relay: Socket) -> io::Result<()> {
        let relay = self.answer(relay).await?;
        let server = self.dial().await?;
        let (mut server, mut relay) = (server, relay);
        loop {
            let moved =
                [self.take(SERVER, &mut relay, &mut server)?, self.take(RELAY, &mut server, &mut relay)?];
            let flushed = [server.flush()?, relay.flush()?];
            if moved.contains(&true) {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                ready = relay.socket.readable() => { ready?; relay.read()?; }
                ready = server.socket.readable() => { ready?; server.read()?; }
                ready = server.socket.writable(), if !flushed[SERVER] => ready?,
                ready = relay.socket.writable(), if !flushed[RELAY] => ready?,
            }
        }
    }

    async fn answer(&self, socket: Socket) -> io::Result<End> {
        socket.tune()?;
        let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(QUEUE));
        let mut responder = Responder::new(clock::now(), self.path, DialledBy::Relay, HopLimits::default());
        loop {
            receive(&socket, &mut inbox).await?;
            let step = responder.handle(clock::now(), &mut inbox, &mut outbox, self, &mut OsRng);
            if let Some(established) = step.map_err(io::Error::other)? {
                return Ok(End::new(socket, inbox, outbox, established));
            }
            send(&socket, &mut outbox).await?;
        }
    }

    async fn dial(&self) -> io::Result<End> {
        let socket = self.transport.connect(self.server).await?;
        socket.tune()?;
        let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(QUEUE));
        let dial = Dial {
            principal: self.key.principal(),
            role: self.key.role(),
            relay: self.path,
            dialled_by: DialledBy::Relay,
            limits: HopLimits::default(),
        };
        let mut dialer = Dialer::new(clock::now(), dial, self.imported(), &mut OsRng, &mut outbox);
        loop {
            send(&socket, &mut outbox).await?;
            receive(&socket, &mut inbox).await?;
            let step = dialer.handle(clock::now(), &mut inbox, &mut outbox);
            if let Some(established) = step.map_err(io::Error::other)? {
                send(&socket, &mut outbox).await?;
                return Ok(End::new(socket, inbox, outbox, established));
            }
        }
    }

    /// Opens the records that one side sent, and has the other say what is made of them. True if there were any.
    fn take(&self, to: usize, source: &mut End, target: &mut End) -> io::Result<bool> {
        let mut any = false;
        let mut liar = self.liar.lock().unwrap_or_else(PoisonError::into_inner);
        let End { opener, inbox, outbox, .. } = source;
        while let Some(frames) = opener.next_record(inbox).map_err(io::Error::other)? {
            any = true;
            for frame in frames {
                match frame.map_err(io::Error::other)? {
                    Frame::Ping { token } => {
                        outbox.frame(&Frame::Pong { token }).map_err(io::Error::other)?;
                    }
                    Frame::Pong { .. } => {}
                    Frame::Close { reason } => return Err(closed(reason)),
                    frame => {
                        for Said { hop: HopId(hop), mut bytes } in liar.pass(to, &frame) {
                            let outbox = if hop == to as u64 { &mut target.outbox } else { &mut *outbox };
                            for frame in Frames::new(&mut bytes) {
                                // What finds no room is lost, as at a relay.
                                let _ = outbox.frame(&frame.map_err(io::Error::other)?);
                            }
                        }
                    }
                }
            }
        }
        Ok(any)
    }
}

fn closed(reason: CloseReason) -> io::Error {
    io::Error::new(ErrorKind::ConnectionAborted, format!("{reason:?}"))
}

/// A hop.
struct End {
    socket: Socket,
    inbox: Inbox,
    outbox: Outbox,
    opener: Opener,
    sealer: Sealer,
}

impl End {
    fn new(socket: Socket, inbox: Inbox, outbox: Outbox, established: Established) -> Self {
        let Established { opener, sealer, .. } = established;
        Self { socket, inbox, outbox, opener, sealer }
    }

    /// Seals what waits and writes what the socket takes. True if nothing is left.
    fn flush(&mut self) -> io::Result<bool> {
        self.sealer.seal(clock::now(), &mut self.outbox).map_err(io::Error::other)?;
        while !self.outbox.wire().is_empty() {
            match self.socket.try_write(self.outbox.wire()) {
                Ok(n) => self.outbox.consume(n),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Reads what there is.
    fn read(&mut self) -> io::Result<()> {
        read(&self.socket, &mut self.inbox).map(|_| ())
    }
}

/// True if there was something.
fn read(socket: &Socket, inbox: &mut Inbox) -> io::Result<bool> {
    match socket.try_read(inbox.spare()) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(n) => {
            inbox.advance(n);
            Ok(true)
        }
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

async fn receive(socket: &Socket, inbox: &mut Inbox) -> io::Result<()> {
    loop {
        socket.readable().await?;
        if read(socket, inbox)? {
            return Ok(());
        }
    }
}

async fn send(socket: &Socket, outbox: &mut Outbox) -> io::Result<()> {
    while !outbox.wire().is_empty() {
        socket.writable().await?;
        match socket.try_write(outbox.wire()) {
            Ok(n) => outbox.consume(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
