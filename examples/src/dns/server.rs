//! Serves DNS on accepted streams (RFC 7766): pipelined queries, answers as they are ready, bounds on everything.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::wire::{self, MAX_MESSAGE_LEN, MAX_QUERY_LEN, Screened};
use super::{Backend, ByteStream, Listener};

/// Failed `accept` calls in a row after which a listener is taken as broken; with [`ACCEPT_PAUSE`] between
/// them, about ten seconds, in which a shortage of descriptors or memory can pass.
pub const MAX_ACCEPT_FAILURES: u32 = 100;

/// Pause after a failed `accept`: long enough not to spin while descriptors are short.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much one server takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Streams open at once; while so many are, no more are accepted. Default 1024: with the longest answer
    /// waiting on each, 64 MiB.
    pub connections: usize,
    /// Queries of one stream being answered at once; while so many are, no more are read from it, so the
    /// client feels back-pressure. Default 256.
    pub queries_per_connection: usize,
    /// Silence after which a stream with nothing in the works is closed. Part of a message is silence too, so
    /// a slow sender holds nothing for longer. Default 2 minutes: streams are dear to open and cheap to hold
    /// (RFC 7766 section 6.2.3).
    pub idle: Duration,
    /// Time for a client to take an answer off the stream before it is dropped. Default 10 seconds.
    pub write: Duration,
    /// Time on shutdown for answers in the works. Default 5 seconds, more than a query's deadline anywhere
    /// here.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            queries_per_connection: 256,
            idle: Duration::from_secs(120),
            write: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

/// Accepts streams and answers the queries on them, until `shutdown`.
///
/// On shutdown nothing more is accepted or read; answers in the works are sent, for as long as
/// [`Limits::drain`]. Dropping the future instead ends all streams at once.
///
/// # Errors
/// The listener's last error, after [`MAX_ACCEPT_FAILURES`] in a row.
pub async fn serve<L: Listener>(
    mut listener: L,
    backend: Arc<dyn Backend>,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    // Ends the connections of a `serve` that is dropped; after an orderly end there is none left to stop.
    let stop = shutdown.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let mut failures = 0;
    let outcome = loop {
        let slot = tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            slot = Arc::clone(&slots).acquire_owned() => slot.ok(),
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                failures = 0;
                let (backend, stop) = (Arc::clone(&backend), stop.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(stream, peer, backend, limits, stop).await {
                        debug!(%peer, %error, "DNS stream ended");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                failures += 1;
                if failures >= MAX_ACCEPT_FAILURES {
                    break Err(error);
                }
                warn!(%error, "cannot accept a DNS stream; trying again");
                tokio::select! {
                    () = shutdown.cancelled() => break Ok(()),
                    () = sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    };
    stop.cancel();
    connections.close();
    connections.wait().await;
    outcome
}

/// Answers the queries of one stream until its client ends it, it falls silent, or `stop`.
///
/// # Errors
/// What the stream reported, `InvalidData` for a message longer than a query may be, or `TimedOut` for a
/// client that does not read its answers.
pub async fn connection<S: ByteStream>(
    stream: S,
    peer: SocketAddr,
    backend: Arc<dyn Backend>,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    let (reader, writer) = tokio::io::split(stream);
    let mut reader = FramedRead::new(reader, wire::framing(MAX_QUERY_LEN));
    let mut writer = FramedWrite::new(writer, wire::framing(MAX_MESSAGE_LEN));
    let mut working: JoinSet<Bytes> = JoinSet::new();
    let mut ready: VecDeque<Bytes> = VecDeque::new();
    let mut reading = true;
    let mut idle_at = Instant::now() + limits.idle;
    // Set when shutdown starts the clock.
    let mut give_up_at = None;
    let outcome = loop {
        if !ready.is_empty() {
            let sent = timeout(limits.write, send_all(&mut writer, &mut ready)).await;
            // On failure the stream is of no use any more, not even for an orderly end.
            sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            idle_at = Instant::now() + limits.idle;
        }
        if !reading && working.is_empty() {
            break Ok(());
        }
        tokio::select! {
            () = stop.cancelled(), if give_up_at.is_none() => {
                reading = false;
                give_up_at = Some(Instant::now() + limits.drain);
            }
            () = sleep_until(give_up_at.unwrap_or(idle_at)), if give_up_at.is_some() => {
                break Err(io::ErrorKind::TimedOut.into());
            }
            () = sleep_until(idle_at), if reading && working.is_empty() => break Ok(()),
            Some(done) = working.join_next(), if !working.is_empty() => {
                // A panic in a back end costs its own query only.
                ready.extend(done);
                while let Some(done) = working.try_join_next() {
                    ready.extend(done);
                }
            }
            frame = reader.next(), if reading && working.len() < limits.queries_per_connection.max(1) => {
                let Some(message) = frame else {
                    // The client is done asking, and may still be listening.
                    reading = false;
                    continue;
                };
                idle_at = Instant::now() + limits.idle;
                match wire::screen(message?.freeze()) {
                    Screened::Query(query) => {
                        let backend = Arc::clone(&backend);
                        working.spawn(async move { backend.answer(&query, peer).await });
                    }
                    Screened::Reply(reply) => ready.push_back(reply),
                    // Whoever sends responses or scraps to a server does not speak its protocol.
                    Screened::Drop => debug!(%peer, "ignored a message that is no query"),
                }
            }
        }
    };
    // The end of the stream tells the client that the answers so far were all.
    outcome.and(timeout(limits.write, writer.get_mut().shutdown()).await.unwrap_or(Ok(())))
}

/// Writes all ready answers with one flush. Not cancel safe: part of a message may have been written.
async fn send_all<W: AsyncWrite + Unpin>(
    writer: &mut FramedWrite<W, LengthDelimitedCodec>,
    ready: &mut VecDeque<Bytes>,
) -> io::Result<()> {
    while let Some(answer) = ready.pop_front() {
        writer.feed(answer).await?;
    }
    SinkExt::<Bytes>::flush(writer).await
}
