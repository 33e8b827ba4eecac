//! Hand-made clients and servers: the hop protocol over a socket and nothing above it.

use qsocket_files::rng::OsRng;
use qsocket_proto::crypto::schedule::hop::ImportedKey;
use qsocket_proto::crypto::secret::Secret;
use qsocket_proto::frame::{CloseReason, Frame, RouteError};
use qsocket_proto::hop::{
    Dial, Dialer, DialledBy, Established, HandshakeError, HopLimits, Inbox, Opener, Outbox, Principals,
    Responder, Sealer,
};
use qsocket_proto::ids::{CallId, ConnectionId, PathId, Principal, Role, RouteId};
use qsocket_proto::open::{MlKem, OpenHeader};
use qsocket_proto::raida_key::{RaidaKey, Strength};
use qsocket_proto::share::{self, Tree};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Ends a test that hangs.
pub(super) const GUARD: Duration = Duration::from_secs(60);

pub(super) fn principal(serial: u32) -> Principal {
    Principal { network: 1, denomination: 0, serial }
}

pub(super) fn key(serial: u32, role: Role) -> RaidaKey {
    RaidaKey::generate(principal(serial), role, Strength::Bits256, &mut OsRng).unwrap()
}

/// A received frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Open(u32, Vec<u8>),
    Data(u32, u32, Vec<u8>),
    Detach(u32),
    RouteError(u32, RouteError),
    Congested(u32, u32),
    Ping(u64),
    Pong(u64),
    Close(CloseReason),
    Call(CallId, u8, Vec<u8>),
    Answer(CallId, u8, Vec<u8>),
    Eof,
}

pub(super) struct Peer {
    pub(super) stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
    inbox: Inbox,
    outbox: Outbox,
    got: VecDeque<Got>,
}

struct One<'a>(&'a RaidaKey, PathId);

impl Principals for One<'_> {
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        let Self(key, path) = *self;
        (principal == key.principal() && role == key.role()).then(|| imported(key, path))
    }
}

fn imported(key: &RaidaKey, path: PathId) -> ImportedKey {
    ImportedKey::new(key.number(path), key.principal(), path, key.role())
}

async fn write(stream: &TcpStream, outbox: &mut Outbox) -> io::Result<()> {
    while !outbox.wire().is_empty() {
        stream.writable().await?;
        match stream.try_write(outbox.wire()) {
            Ok(n) => outbox.consume(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads once; 0 at the end.
async fn read(stream: &TcpStream, inbox: &mut Inbox) -> usize {
    loop {
        stream.readable().await.unwrap();
        match stream.try_read(inbox.spare()) {
            Ok(n) => {
                inbox.advance(n);
                return n;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            // A relay that stops resets what it did not read.
            Err(_) => return 0,
        }
    }
}

/// A HELLO on its way.
pub(super) struct Dialling {
    stream: TcpStream,
    dialer: Dialer,
    inbox: Inbox,
    outbox: Outbox,
}

impl Dialling {
    pub(super) async fn hello(at: SocketAddr, path: PathId, key: &RaidaKey) -> Self {
        Self::hello_from("127.0.0.1", at, path, key).await
    }

    pub(super) async fn hello_from(from: &str, at: SocketAddr, path: PathId, key: &RaidaKey) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        let stream = socket.connect(at).await.unwrap();
        let dial = Dial {
            principal: key.principal(),
            role: key.role(),
            relay: path,
            dialled_by: DialledBy::Principal,
            limits: HopLimits::default(),
        };
        let mut outbox = Outbox::new(usize::MAX);
        let dialer = Dialer::new(Instant::now(), dial, imported(key, path), &mut OsRng, &mut outbox);
        write(&stream, &mut outbox).await.unwrap();
        Self { stream, dialer, inbox: Inbox::new(), outbox }
    }

    /// Whether nothing has been answered.
    pub(super) fn unanswered(&self) -> bool {
        self.stream.try_read(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Waits until the relay has answered.
    pub(super) async fn answered(&self) {
        self.stream.readable().await.unwrap();
    }

    pub(super) async fn finish(mut self) -> Result<Peer, HandshakeError> {
        loop {
            let n = read(&self.stream, &mut self.inbox).await;
            let done = self.dialer.handle(Instant::now(), &mut self.inbox, &mut self.outbox)?;
            if let Some(Established { sealer, opener, .. }) = done {
                write(&self.stream, &mut self.outbox).await.unwrap();
                let Self { stream, inbox, outbox, .. } = self;
                return Ok(Peer { stream, sealer, opener, inbox, outbox, got: VecDeque::new() });
            }
            if n == 0 {
                return Err(HandshakeError::Over);
            }
        }
    }

    /// Every byte of the answer until the end.
    pub(super) async fn raw_answer(mut self) -> Vec<u8> {
        let mut all = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut self.stream, &mut all).await.unwrap();
        all
    }
}

impl Peer {
    pub(super) async fn dial(at: SocketAddr, path: PathId, key: &RaidaKey) -> Result<Self, HandshakeError> {
        tokio::time::timeout(GUARD, async { Dialling::hello(at, path, key).await.finish().await })
            .await
            .expect("the handshake hangs")
    }

    /// Takes the relay's next dial.
    pub(super) async fn accept(listener: &TcpListener, path: PathId, key: &RaidaKey) -> Self {
        let taken = async {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(usize::MAX));
            let mut responder = Responder::new(Instant::now(), path, DialledBy::Relay, HopLimits::default());
            loop {
                assert_ne!(read(&stream, &mut inbox).await, 0, "the relay gave up");
                let done = responder
                    .handle(Instant::now(), &mut inbox, &mut outbox, &One(key, path), &mut OsRng)
                    .unwrap();
                write(&stream, &mut outbox).await.unwrap();
                if let Some(Established { sealer, opener, .. }) = done {
                    return Self { stream, sealer, opener, inbox, outbox, got: VecDeque::new() };
                }
            }
        };
        tokio::time::timeout(GUARD, taken).await.expect("the relay does not dial")
    }

    /// Answers a relay's dial that was made with another number than that of `key`.
    pub(super) async fn refuse(stream: TcpStream, path: PathId, key: &RaidaKey) {
        let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(usize::MAX));
        let mut responder = Responder::new(Instant::now(), path, DialledBy::Relay, HopLimits::default());
        loop {
            assert_ne!(read(&stream, &mut inbox).await, 0, "the relay gave up");
            let now = Instant::now();
            match responder.handle(now, &mut inbox, &mut outbox, &One(key, path), &mut OsRng) {
                Ok(done) => assert!(done.is_none(), "it has the number"),
                Err(e) => {
                    assert_eq!(e, HandshakeError::NotAuthentic);
                    return write(&stream, &mut outbox).await.unwrap();
                }
            }
        }
    }

    pub(super) async fn send(&mut self, frame: Frame<'_>) {
        self.outbox.frame(&frame).unwrap();
        self.sealer.seal(Instant::now(), &mut self.outbox).unwrap();
        write(&self.stream, &mut self.outbox).await.unwrap();
    }

    pub(super) async fn data(&mut self, route: u32, offset: u32, payload: &[u8]) {
        self.send(Frame::Data { route: RouteId(route), offset, payload: &mut payload.to_vec() }).await;
    }

    /// Opens what is in the inbox.
    fn open(&mut self) {
        while let Some(frames) = self.opener.next_record(&mut self.inbox).unwrap() {
            for frame in frames {
                self.got.push_back(match frame.unwrap() {
                    Frame::Open { route, header, .. } | Frame::Attach { route, header } => {
                        Got::Open(route.0, header.to_vec())
                    }
                    Frame::Data { route, offset, payload } => Got::Data(route.0, offset, payload.to_vec()),
                    Frame::Detach { route } => Got::Detach(route.0),
                    Frame::RouteError { route, reason } => Got::RouteError(route.0, reason),
                    Frame::Congested { route, bytes } => Got::Congested(route.0, bytes),
                    Frame::Ping { token } => Got::Ping(token),
                    Frame::Pong { token } => Got::Pong(token),
                    Frame::Close { reason } => Got::Close(reason),
                    Frame::Call { call, service, body } => Got::Call(call, service, body.to_vec()),
                    Frame::Answer { call, status, body } => Got::Answer(call, status, body.to_vec()),
                    Frame::Rekey => panic!("the opener takes REKEY out"),
                });
            }
        }
    }

    /// The next frame.
    pub(super) async fn recv(&mut self) -> Got {
        let got = async {
            loop {
                self.open();
                if let Some(got) = self.got.pop_front() {
                    return got;
                }
                if read(&self.stream, &mut self.inbox).await == 0 {
                    return Got::Eof;
                }
            }
        };
        tokio::time::timeout(GUARD, got).await.expect("no frame comes")
    }

    /// A frame that has arrived already.
    pub(super) fn arrived(&mut self) -> Option<Got> {
        while let Ok(n) = self.stream.try_read(self.inbox.spare()) {
            if n == 0 {
                break;
            }
            self.inbox.advance(n);
            self.open();
        }
        self.open();
        self.got.pop_front()
    }

    /// Sends OPEN for a fresh connection and returns its header.
    pub(super) async fn open_route(
        &mut self,
        route: u32,
        path: PathId,
        client: Principal,
        server: Principal,
        destination: SocketAddr,
    ) -> Vec<u8> {
        let connection = ConnectionId(*Secret::<16>::random(&mut OsRng).expose());
        let shares = share::split(&Secret::random(&mut OsRng), &mut OsRng);
        let tree = Tree::new(connection, &shares);
        let header = OpenHeader {
            client,
            server,
            connection,
            nonce: [1; 32],
            encryption_key: None,
            ml_kem: MlKem::On,
            source: "127.0.0.1:40000".parse().unwrap(),
            destination,
            relay_set: [2; 32],
            root: tree.root(),
            commitment: [3; 32],
        }
        .encode()
        .unwrap();
        let (share, proof) = (shares.get(path).expose(), &tree.proof(path));
        self.send(Frame::Open { route: RouteId(route), header: &header, share, proof }).await;
        header
    }
}
