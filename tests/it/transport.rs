//! The transports that the behaviour suite runs over, and the ways in which they differ on purpose.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

pub(crate) use crate::duplex::Duplex;

/// A running network that makes connected streams. Dropping it may end them.
///
/// Cases rely on room for 64 KiB in each direction of a stream whose peer is not reading yet.
pub(crate) trait Transport: Sized + Send + Sync + 'static {
    /// Both ends of a connection.
    type Stream: Duplex;

    /// Where this transport does not do what TCP does.
    const DIFFERENCES: Differences;

    /// Starts whatever streams need: listeners, endpoints, relays.
    fn start() -> impl Future<Output = io::Result<Self>> + Send;

    /// Connects and accepts one stream, returned as `(client, server)`. Calls may overlap; the two ends of
    /// one result always belong together.
    fn pair(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Stream)>> + Send;
}

/// Every point at which a transport may deviate from TCP. What is not listed here must be the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Differences {
    /// Seen by a reader that has taken all bytes, when its peer dropped the whole stream without `shutdown`.
    /// TCP cannot tell this from a clean end; a transport that can must report an error.
    pub(crate) after_drop: Ending,
    /// The same when the peer dropped the stream while bytes sent to it were still unread.
    pub(crate) after_drop_unread: Ending,
    /// The same when the peer dropped only its owned write half. tokio's TCP half shuts down when dropped.
    pub(crate) after_write_half_drop: Ending,
    /// The error kinds of a write after `shutdown`.
    pub(crate) write_after_shutdown: &'static [ErrorKind],
    /// The error kinds of a write to a peer that dropped the stream.
    pub(crate) write_to_dropped: &'static [ErrorKind],
    /// The most bytes that writes may accept for a peer that never reads.
    pub(crate) in_flight: usize,
}

/// How a stream ends for a reader whose peer went away.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    /// A read returns no bytes.
    Eof,
    /// A read fails with one of these kinds.
    Error(&'static [ErrorKind]),
}

impl Ending {
    /// Checks the outcome of the read that follows the last byte.
    #[track_caller]
    pub(crate) fn check(self, outcome: &io::Result<usize>) {
        match (self, outcome) {
            (Self::Eof, Ok(0)) => {}
            (Self::Error(kinds), Err(error)) if kinds.contains(&error.kind()) => {}
            _ => panic!("the stream must end with {self:?}, not with {outcome:?}"),
        }
    }
}

/// tokio's TCP over loopback: the reference for every other transport.
#[derive(Debug)]
pub(crate) struct Tcp;

/// The kernel's buffers, fixed at both ends so that backpressure does not depend on the machine's tuning.
const TCP_BUFFER: u32 = 256 * 1024;

impl Transport for Tcp {
    type Stream = TcpStream;

    const DIFFERENCES: Differences = Differences {
        after_drop: Ending::Eof,
        after_drop_unread: Ending::Error(&[ErrorKind::ConnectionReset]),
        after_write_half_drop: Ending::Eof,
        write_after_shutdown: &[ErrorKind::BrokenPipe],
        write_to_dropped: &[ErrorKind::BrokenPipe, ErrorKind::ConnectionReset],
        // The kernel doubles what it is asked for, keeps one such buffer at each end and rounds up.
        in_flight: 8 * TCP_BUFFER as usize,
    };

    async fn start() -> io::Result<Self> {
        Ok(Self)
    }

    async fn pair(&self) -> io::Result<(TcpStream, TcpStream)> {
        // A listener per pair: nobody else can connect between `connect` and `accept`.
        let socket = tuned_socket()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = socket.listen(1)?;
        let (client, accepted) =
            tokio::join!(tuned_socket()?.connect(listener.local_addr()?), listener.accept());
        let (client, (server, _)) = (client?, accepted?);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok((client, server))
    }
}

/// A socket with fixed buffers; an accepted stream inherits them from its listener.
fn tuned_socket() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(TCP_BUFFER)?;
    socket.set_recv_buffer_size(TCP_BUFFER)?;
    Ok(socket)
}
