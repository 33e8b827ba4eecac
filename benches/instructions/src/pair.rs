//! A client's and a server's connection with 25 hops straight between them. There are no relays and no time passes but what a
//! timer waits for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use qsocket_proto::connection::{Config, Connection, Dial, Event, Hops};
use qsocket_proto::crypto::schedule::EncryptionKey;
use qsocket_proto::crypto::schedule::hop::{AuthenticityNumber, HopKeys, HopTranscript, ImportedKey};
use qsocket_proto::endpoint::{Admission, Endpoint, Handle, Routed};
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::{HopLimits, Inbox, Opener, Outbox, Sealer};
use qsocket_proto::ids::{HopAt, KeyId, PathId, Principal, Role, StreamId};
use qsocket_proto::open::Refusal;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

const CLIENT: Principal = Principal { network: 1, denomination: 0, serial: 1 };
const SERVER: Principal = Principal { network: 1, denomination: 0, serial: 2 };

/// What an outbox takes: two blocks and their parity.
const OUTBOX: usize = 1 << 17;

/// Rounds after which what is waited for does not come.
const ROUNDS: usize = 1000;

struct Everyone;

impl Admission for Everyone {
    fn admit(&self, _: Principal) -> Result<(), Refusal> {
        Ok(())
    }

    fn holds_key(&self, _: Principal) -> bool {
        false
    }

    fn encryption_key(&self, _: Principal, _: KeyId) -> Option<Arc<EncryptionKey>> {
        None
    }
}

/// One direction of a hop.
pub(crate) struct Half {
    pub(crate) outbox: Outbox,
    sealer: Sealer,
    inbox: Inbox,
    opener: Opener,
}

impl Half {
    pub(crate) fn new(now: Instant, path: PathId, way: u8) -> Result<Self> {
        let number = AuthenticityNumber::new(&[0x33; 32]).context("no such number")?;
        let keys = || -> HopKeys {
            let transcript = HopTranscript::of(&[path.get(), way], &[]);
            ImportedKey::new(&number, CLIENT, path, Role::Client).hop(transcript)
        };
        Ok(Self {
            outbox: Outbox::new(OUTBOX),
            sealer: Sealer::new(now, keys().initiator, HopLimits::default()),
            inbox: Inbox::new(),
            opener: Opener::new(keys().initiator, HopLimits::default()),
        })
    }

    /// Seals what waits and takes it to the other end; false if nothing did.
    pub(crate) fn carry(&mut self, now: Instant) -> Result<bool> {
        self.sealer.seal(now, &mut self.outbox)?;
        let taken = self.inbox.extend(self.outbox.wire());
        self.outbox.consume(taken);
        Ok(taken > 0)
    }

    /// Opens all records that arrived.
    pub(crate) fn each(&mut self, mut each: impl FnMut(Frame<'_>)) -> Result<()> {
        while let Some(frames) = self.opener.next_record(&mut self.inbox)? {
            for frame in frames {
                each(frame?);
            }
        }
        Ok(())
    }
}

/// The sending halves of one end.
struct Halves(Vec<Half>);

impl Hops for Halves {
    fn room(&mut self, HopAt { path, .. }: HopAt) -> usize {
        self.0.get(path.index()).map_or(0, |half| half.outbox.room_for_data())
    }

    fn outbox<R>(&mut self, HopAt { path, .. }: HopAt, write: impl FnOnce(&mut Outbox) -> R) -> Option<R> {
        self.0.get_mut(path.index()).map(|half| write(&mut half.outbox))
    }
}

struct Side {
    endpoint: Endpoint,
    connections: BTreeMap<Handle, Connection>,
    halves: Halves,
}

impl Side {
    fn connection(&mut self) -> Result<&mut Connection> {
        self.connections.values_mut().next().context("no connection")
    }

    /// Sends what can be sent; true if anything was.
    fn transmit(&mut self, now: Instant) -> bool {
        let mut progress = false;
        for (handle, connection) in &mut self.connections {
            while let Some(event) = connection.poll_event() {
                if event == Event::Established {
                    self.endpoint.confirmed(*handle);
                }
            }
            while connection.transmit(now, &mut self.halves).progress {
                progress = true;
            }
        }
        progress
    }

    /// Takes what arrived on a path, which `from` sent.
    fn take(&mut self, now: Instant, path: PathId, from: &mut Half) -> Result<()> {
        let Self { endpoint, connections, halves } = self;
        from.each(|frame| match endpoint.handle_frame(now, path, frame, halves) {
            Routed::Nothing => {}
            Routed::To(handle, input) => {
                if let Some(connection) = connections.get_mut(&handle) {
                    connection.handle_input(now, path, input);
                }
            }
            Routed::New(handle, connection) => {
                connections.insert(handle, *connection);
            }
        })
    }

    fn due(&self) -> Option<Instant> {
        self.connections.values().filter_map(Connection::poll_timeout).map(|(at, _)| at).min()
    }
}

/// Both ends.
pub(crate) struct Pair {
    now: Instant,
    client: Side,
    server: Side,
}

impl Pair {
    /// With a connection that stands at both ends.
    pub(crate) fn open() -> Result<Self> {
        let mut pair = Self::apart()?;
        pair.connect()?;
        Ok(pair)
    }

    /// With hops alone.
    pub(crate) fn apart() -> Result<Self> {
        let now = Instant::now();
        let config = Arc::new(Config::default());
        let rng = |seed| Box::new(ChaCha8Rng::seed_from_u64(seed));
        let client = Endpoint::client(CLIENT, Arc::clone(&config), rng(1));
        let server = Endpoint::server(SERVER, config, rng(2), Box::new(Everyone));
        let side = |mut endpoint: Endpoint, way| {
            PathId::all().for_each(|path| endpoint.path_up(path));
            let halves = PathId::all().map(|path| Half::new(now, path, way)).collect::<Result<_>>()?;
            anyhow::Ok(Side { endpoint, connections: BTreeMap::new(), halves: Halves(halves) })
        };
        let mut pair = Self { now, client: side(client, 0)?, server: side(server, 1)? };
        // The buffers of hops grow once, and hops stand before connections.
        for half in pair.client.halves.0.iter_mut().chain(&mut pair.server.halves.0) {
            half.outbox.frame(&Frame::Ping { token: 0 })?;
            half.carry(now)?;
            half.each(|_| {})?;
        }
        Ok(pair)
    }

    /// Opens the connection, as far as a client waits for it: it may open streams.
    pub(crate) fn dial(&mut self) -> Result<()> {
        let dial = Dial {
            client: CLIENT,
            server: SERVER,
            source: ([127, 0, 0, 1], 40_000).into(),
            destination: ([127, 0, 0, 1], 5300).into(),
            relay_set: [9; 32],
            encryption_key: None,
        };
        let (handle, connection) = self.client.endpoint.dial(self.now, dial)?;
        self.client.connections.insert(handle, connection);
        self.until(|pair| Ok(pair.client.connection()?.is_open().then_some(())))
    }

    fn connect(&mut self) -> Result<()> {
        self.dial()?;
        self.until(|pair| {
            let server = pair.server.connections.values().next();
            Ok(server.is_some_and(Connection::is_confirmed).then_some(()))
        })
    }

    /// Carries everything that can be carried now.
    fn settle(&mut self) -> Result<()> {
        loop {
            let mut progress = self.client.transmit(self.now) | self.server.transmit(self.now);
            for path in PathId::all() {
                let (client, server) = (&mut self.client, &mut self.server);
                for (from, to) in [(0, 1), (1, 0)] {
                    let (sender, taker) = if (from, to) == (0, 1) {
                        (&mut *client, &mut *server)
                    } else {
                        (&mut *server, &mut *client)
                    };
                    let half = sender.halves.0.get_mut(path.index()).context("no such path")?;
                    if half.carry(self.now)? {
                        progress = true;
                        taker.take(self.now, path, half)?;
                    }
                }
            }
            if !progress {
                return Ok(());
            }
        }
    }

    /// Lets timers pass until there is what is waited for.
    fn until<T>(&mut self, mut ready: impl FnMut(&mut Self) -> Result<Option<T>>) -> Result<T> {
        for _ in 0..ROUNDS {
            self.settle()?;
            if let Some(done) = ready(self)? {
                return Ok(done);
            }
            let due = self.client.due().into_iter().chain(self.server.due()).min();
            self.now = self.now.max(due.context("nothing is waited for")?);
            for side in [&mut self.client, &mut self.server] {
                for connection in side.connections.values_mut() {
                    if connection.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                        connection.handle_timeout(self.now);
                    }
                }
            }
        }
        bail!("what was waited for did not come")
    }

    /// A stream that the server has accepted and answered with the byte that it read.
    pub(crate) fn open_stream(&mut self) -> Result<StreamId> {
        let stream = self.client.connection()?.open(b"bench")?.context("no stream allowed")?;
        ensure!(self.client.connection()?.write(stream, b"?")? == 1, "a new stream takes a byte");
        let accepted = self.until(|pair| Ok(pair.server.connection()?.accept()))?;
        ensure!(accepted.0 == stream, "another stream came");
        let mut buffer = [0; 8];
        self.read(stream, 1, &mut buffer)?;
        self.answer(stream, &mut buffer)?;
        Ok(stream)
    }

    /// The server reads so many bytes.
    fn read(&mut self, stream: StreamId, len: usize, buffer: &mut [u8]) -> Result<()> {
        let mut read = 0;
        self.until(|pair| {
            while let Some(n) = pair.server.connection()?.read(stream, buffer)? {
                ensure!(n > 0, "the stream ended early");
                read += n;
            }
            Ok((read >= len).then_some(()))
        })?;
        ensure!(read == len, "{read} bytes instead of {len}");
        Ok(())
    }

    /// The server writes a byte and the client reads it.
    fn answer(&mut self, stream: StreamId, buffer: &mut [u8]) -> Result<()> {
        ensure!(self.server.connection()?.write(stream, b"!")? == 1, "an answer finds room");
        let n = self.until(|pair| Ok(pair.client.connection()?.read(stream, buffer)?))?;
        ensure!(n == 1, "an answer is one byte");
        Ok(())
    }

    /// Bytes from the client's write to the server's read, and all acknowledged.
    pub(crate) fn transfer(&mut self, stream: StreamId, bytes: &[u8], buffer: &mut [u8]) -> Result<()> {
        let taken = self.client.connection()?.write(stream, bytes)?;
        ensure!(taken == bytes.len(), "the send buffer takes a block");
        self.read(stream, taken, buffer)?;
        self.until(|pair| Ok(pair.client.connection()?.is_flushed(stream).then_some(())))
    }

    /// A byte there and one back.
    pub(crate) fn echo(&mut self, stream: StreamId, buffer: &mut [u8]) -> Result<()> {
        self.transfer(stream, b"?", buffer)?;
        self.answer(stream, buffer)
    }

    /// Ends a stream in both directions, and both ends let go of it.
    pub(crate) fn end_stream(&mut self, stream: StreamId) -> Result<()> {
        self.client.connection()?.finish(stream)?;
        let mut buffer = [0; 8];
        let n = self.until(|pair| Ok(pair.server.connection()?.read(stream, &mut buffer)?))?;
        ensure!(n == 0, "an end is no byte");
        self.server.connection()?.finish(stream)?;
        let n = self.until(|pair| Ok(pair.client.connection()?.read(stream, &mut buffer)?))?;
        ensure!(n == 0, "an end is no byte");
        self.until(|pair| {
            let done = pair.client.connection()?.is_finished(stream)
                && pair.server.connection()?.is_finished(stream);
            Ok(done.then_some(()))
        })?;
        self.client.connection()?.release(stream);
        self.server.connection()?.release(stream);
        Ok(())
    }
}
