//! The hop handshake over a socket, in both directions.

use crate::state::{Core, Keys};
use qsocket_files::rng::OsRng;
use qsocket_net::Socket;
use qsocket_net::clock::now;
use qsocket_proto::crypto::schedule::hop::ImportedKey;
use qsocket_proto::hop::{
    Dial, Dialer, DialledBy, Established, HandshakeError, Inbox, Outbox, Principals, Responder,
};
use qsocket_proto::ids::{Principal, Role};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use tokio::time::{Instant, timeout_at};

/// Why a TCP connection did not become a hop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("the peer closed the connection within the handshake")]
    Closed,
    #[error("the handshake took too long")]
    TimedOut,
    #[error("too many handshakes were under way, and this was the oldest")]
    GaveWay,
    /// The peer of an incoming connection cannot tell this from a wrong number.
    #[error("the relay holds no authenticity number of the principal in this role")]
    NoKey,
}

/// A hop that is authenticated, with what arrived behind the handshake.
pub(crate) struct Up {
    pub(crate) stream: Socket,
    pub(crate) established: Established,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
}

/// Answers a peer that dialled this relay.
pub(crate) async fn respond(core: &Core, stream: Socket) -> Result<Up, Failed> {
    let deadline = Instant::now() + core.limits.handshake;
    timeout_at(deadline, async {
        stream.tune()?;
        let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(core.limits.egress.outbox));
        let mut responder = Responder::new(now(), core.path, DialledBy::Principal, core.limits.records);
        loop {
            receive(core, &stream, &mut inbox).await?;
            let (done, unknown) = {
                let keys = Asked { keys: &core.keys, unknown: Cell::new(false) };
                let done = responder.handle(now(), &mut inbox, &mut outbox, &keys, &mut OsRng);
                (done, keys.unknown.get())
            };
            // A refusal leaves too, and does not depend on what was unknown.
            send(core, &stream, &mut outbox).await?;
            if unknown {
                return Err(Failed::NoKey);
            }
            if let Some(established) = done? {
                return Ok(Up { stream, established, inbox, outbox });
            }
        }
    })
    .await
    .unwrap_or(Err(Failed::TimedOut))
}

/// Dials a server's port for this relay and shows who this relay is.
pub(crate) async fn dial(core: &Core, server: Principal, address: SocketAddr) -> Result<Up, Failed> {
    let deadline = Instant::now() + core.limits.handshake;
    timeout_at(deadline, async {
        let next = core.keys.import_next(server, Role::Server);
        if let Some(next) = next {
            // The server has it if it got the answer and kept it. If not, the other one counts.
            match dial_with(core, server, address, next).await {
                Err(Failed::Handshake(HandshakeError::Rejected | HandshakeError::NotAuthentic)) => {}
                Ok(mut up) => {
                    up.established.rotated = true;
                    return Ok(up);
                }
                Err(e) => return Err(e),
            }
        }
        let key = core.keys.imported_key(server, Role::Server).ok_or(Failed::NoKey)?;
        dial_with(core, server, address, key).await
    })
    .await
    .unwrap_or(Err(Failed::TimedOut))
}

async fn dial_with(
    core: &Core,
    server: Principal,
    address: SocketAddr,
    key: ImportedKey,
) -> Result<Up, Failed> {
    let stream = core.transport.connect(address).await?;
    stream.tune()?;
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(core.limits.egress.outbox));
    let dial = Dial {
        principal: server,
        role: Role::Server,
        relay: core.path,
        dialled_by: DialledBy::Relay,
        limits: core.limits.records,
    };
    let mut dialer = Dialer::new(now(), dial, key, &mut OsRng, &mut outbox);
    loop {
        send(core, &stream, &mut outbox).await?;
        receive(core, &stream, &mut inbox).await?;
        if let Some(established) = dialer.handle(now(), &mut inbox, &mut outbox)? {
            send(core, &stream, &mut outbox).await?;
            return Ok(Up { stream, established, inbox, outbox });
        }
    }
}

async fn receive(core: &Core, stream: &Socket, inbox: &mut Inbox) -> Result<(), Failed> {
    loop {
        stream.readable().await?;
        core.thawed().await;
        match stream.try_read(inbox.spare()) {
            Ok(0) => return Err(Failed::Closed),
            Ok(n) => {
                inbox.advance(n);
                return Ok(());
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
    }
}

async fn send(core: &Core, stream: &Socket, outbox: &mut Outbox) -> Result<(), Failed> {
    while !outbox.wire().is_empty() {
        stream.writable().await?;
        core.thawed().await;
        match stream.try_write(outbox.wire()) {
            Ok(0) => return Err(Failed::Closed),
            Ok(n) => outbox.consume(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Notes whether a number was asked for that the table does not have, to count it.
struct Asked<'a> {
    keys: &'a Keys,
    unknown: Cell<bool>,
}

impl Principals for Asked<'_> {
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        let key = self.keys.imported_key(principal, role);
        self.unknown.set(key.is_none());
        key
    }

    fn next_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        self.keys.next_key(principal, role)
    }
}

/// Reads the keys of the relay's table.
impl Principals for Keys {
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        self.import(principal, role)
    }

    fn next_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        self.import_next(principal, role)
    }
}
