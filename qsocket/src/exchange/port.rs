//! The signalling port: signals that come to a server directly and not through a relay.

use crate::endpoint::Network;
use qsocket_net::{Listener, Socket, Transport};
use qsocket_proto::call::Status;
use qsocket_proto::exchange::MAX_SIGNAL;
use qsocket_proto::frame::MAX_CALL;
use qsocket_proto::relay::Admission;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections at a signalling port at once; further ones wait in the system's queue.
const CONNECTIONS: usize = 64;

/// Of one address, or IPv6 /64; further ones are closed unread.
const CONNECTIONS_PER_ADDRESS: u32 = 4;

/// For the whole signal to come in: it is one segment or two.
const READ_TIME: Duration = Duration::from_secs(5);

/// For the answer, the fetch included, and for it to be taken.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// How long the accept loop rests after an error that is not about one connection.
const REST: Duration = Duration::from_millis(100);

/// Bytes in front of an answer: status and length.
const ANSWER_HEAD: usize = 3;

/// Takes signals at a port, for as long as the network runs.
pub(crate) async fn serve(network: Arc<Network>, listener: Listener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let admission = Arc::new(Mutex::new(Admission::new(CONNECTIONS_PER_ADDRESS)));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "accepting at the signalling port failed");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        if lock(&admission).enter(peer.ip()).is_err() {
            continue;
        }
        let (me, admission) = (Arc::clone(&network), Arc::clone(&admission));
        network.spawn(async move {
            if let Err(error) = answer(&me, &socket).await {
                tracing::debug!(%peer, %error, "a signal was not answered");
            }
            lock(&admission).leave(peer.ip());
            drop(place);
        });
    }
}

fn lock(admission: &Mutex<Admission>) -> MutexGuard<'_, Admission> {
    admission.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(network: &Arc<Network>, socket: &Socket) -> io::Result<()> {
    let signal = timeout(READ_TIME, async {
        let mut head = [0; 2];
        read(socket, &mut head).await?;
        let mut signal = vec![0; length(head, MAX_SIGNAL)?];
        read(socket, &mut signal).await?;
        io::Result::Ok(signal)
    });
    let signal = signal.await??;
    timeout(ANSWER_TIME, async {
        let told = network.on_signal(&signal).await;
        let mut answer = vec![told.status as u8];
        answer.extend_from_slice(&(told.answer.len() as u16).to_be_bytes());
        answer.extend_from_slice(&told.answer);
        let written = write(socket, &answer).await;
        network.tell_kept(told.kept);
        written
    })
    .await?
}

/// Brings a signal to a signalling port.
///
/// # Cancel safety
/// A dropped call may have brought it.
pub(crate) async fn ask(
    transport: &Transport,
    at: SocketAddr,
    signal: &[u8],
) -> io::Result<(Status, Vec<u8>)> {
    let socket = transport.connect(at).await?;
    let mut request = (signal.len() as u16).to_be_bytes().to_vec();
    request.extend_from_slice(signal);
    write(&socket, &request).await?;
    let mut head = [0; ANSWER_HEAD];
    read(&socket, &mut head).await?;
    let [status, length_of @ ..] = head;
    let mut result = vec![0; length(length_of, MAX_CALL)?];
    read(&socket, &mut result).await?;
    Ok((Status::from_u8(status), result))
}

/// A length that was announced, if it may be.
fn length(head: [u8; 2], max: usize) -> io::Result<usize> {
    match usize::from(u16::from_be_bytes(head)) {
        length if length <= max => Ok(length),
        length => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes where {max} are allowed")))
        }
    }
}

async fn read(socket: &Socket, mut to: &mut [u8]) -> io::Result<()> {
    while !to.is_empty() {
        socket.readable().await?;
        match socket.try_read(to) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => to = &mut to[n..],
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

async fn write(socket: &Socket, mut from: &[u8]) -> io::Result<()> {
    while !from.is_empty() {
        socket.writable().await?;
        match socket.try_write(from) {
            Ok(n) => from = &from[n..],
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
