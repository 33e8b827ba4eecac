//! Many queries at once over one long-lived stream, as RFC 7766 sections 6.2 and 7 want it.
//!
//! Each query gets an id of the stream's own, so that two clients that chose the same id do not meet. A stream
//! that ends takes no query with it: what is unanswered is asked again on the next stream.

mod inflight;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::wire::{self, MAX_MESSAGE_LEN, Query};
use super::{ByteStream, Connector};
use inflight::{InFlight, Job};

/// Queries waiting for an answer at once, over all clients: far below the 65536 ids of a stream, so that a free
/// one is found at once, and at 4 KiB for the longest query, 4 MiB.
pub const MAX_IN_FLIGHT: usize = 1024;

/// Times that a query is sent, each on a stream of its own. A query that ends every stream it is sent on must
/// not go on doing so.
pub const MAX_SENDS: u8 = 3;

/// Time for a new stream to be connected.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the end of a stream to be told to the server on shutdown.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause after the first stream that failed; doubles with each further one, up to [`MAX_BACKOFF`].
pub const MIN_BACKOFF: Duration = Duration::from_millis(50);

/// Longest pause before another stream is tried: short enough to be back within one retry of a client.
pub const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Why a query got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// No answer came within the deadline.
    #[error("no answer within the deadline")]
    Timeout,
    /// [`MAX_IN_FLIGHT`] queries were waiting already, for as long as the deadline.
    #[error("too many queries are waiting for an answer")]
    Busy,
    /// The query was sent [`MAX_SENDS`] times and each stream ended without an answer.
    #[error("every stream ended before the answer")]
    StreamEnded,
    /// The exchange was shut down.
    #[error("shut down")]
    Closed,
}

/// Asks queries over one stream at a time, which it opens when there is something to ask.
///
/// Cheap to clone; the clones share the stream. The stream closes on the token given to [`Exchange::spawn`] or
/// when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Exchange {
    jobs: mpsc::Sender<Job>,
    slots: Arc<Semaphore>,
    given_up: Arc<Notify>,
    deadline: Duration,
}

impl Exchange {
    /// Starts the task that holds the stream.
    ///
    /// It opens the first stream at once, so that the first query need not wait for it. `deadline` is the
    /// longest that a query waits, reconnecting and asking again included.
    pub fn spawn<C: Connector>(
        connector: C,
        deadline: Duration,
        shutdown: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (jobs, queue) = mpsc::channel(MAX_IN_FLIGHT);
        let given_up = Arc::new(Notify::new());
        let inflight = InFlight::new();
        let driver = Driver { connector, queue, inflight, given_up: Arc::clone(&given_up), shutdown };
        let task = tokio::spawn(driver.run());
        (Self { jobs, slots: Arc::new(Semaphore::new(MAX_IN_FLIGHT)), given_up, deadline }, task)
    }

    /// Asks one query and waits for its answer, which carries the query's own id.
    ///
    /// Cancel safe: dropping the future gives the query up.
    ///
    /// # Errors
    /// [`ExchangeError`]: no answer within the deadline, too many queries, or shut down.
    pub async fn ask(&self, query: &Query) -> Result<Bytes, ExchangeError> {
        let until = Instant::now() + self.deadline;
        let slot = timeout_at(until, self.slots.acquire()).await.map_err(|_| ExchangeError::Busy)?;
        let _slot = slot.map_err(|_| ExchangeError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let job = Job::new(query.clone(), reply);
        let sent = timeout_at(until, self.jobs.send(job)).await.map_err(|_| ExchangeError::Timeout)?;
        sent.map_err(|_| ExchangeError::Closed)?;
        if let Ok(answer) = timeout_at(until, answer).await {
            answer.unwrap_or(Err(ExchangeError::Closed))
        } else {
            // One answer that is late may be the server's trouble; a stream that gives none is the stream's.
            self.given_up.notify_one();
            Err(ExchangeError::Timeout)
        }
    }
}

/// Owns the streams, one after the other.
struct Driver<C> {
    connector: C,
    queue: mpsc::Receiver<Job>,
    inflight: InFlight,
    given_up: Arc<Notify>,
    shutdown: CancellationToken,
}

impl<C: Connector> Driver<C> {
    /// Runs until shutdown, or until there is nobody left to ask anything.
    async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        let mut backoff = Backoff::default();
        loop {
            let connecting = timeout(CONNECT_TIMEOUT, self.connector.connect());
            let Some(connected) = shutdown.run_until_cancelled(connecting).await else { return };
            match connected {
                Ok(Ok(stream)) => {
                    let answered = self.inflight.answered();
                    let end = self.use_stream(stream).await;
                    if self.inflight.answered() != answered {
                        backoff = Backoff::default();
                    }
                    match end {
                        End::Done => return,
                        End::Closed => debug!("DNS stream closed by the server"),
                        End::Failed(error) => info!(%error, "DNS stream lost"),
                        End::Stalled => info!("DNS stream silent while a query ran out of time; dropped"),
                    }
                }
                Ok(Err(error)) => warn!(%error, "cannot connect a DNS stream"),
                Err(_) => warn!("no DNS stream within {CONNECT_TIMEOUT:?}"),
            }
            self.inflight.stream_ended(MAX_SENDS);
            if shutdown.run_until_cancelled(sleep(backoff.next_pause())).await.is_none() {
                return;
            }
            // Nothing is asked, so nothing is connected: a server may close idle streams for good reason.
            while !self.inflight.has_unsent() {
                let Some(Some(job)) = shutdown.run_until_cancelled(self.queue.recv()).await else { return };
                self.inflight.enqueue(job);
            }
        }
    }

    /// Sends and receives on one stream until it is of no more use.
    async fn use_stream<S: ByteStream>(&mut self, stream: S) -> End {
        let (reader, mut writer) = tokio::io::split(stream);
        let Self { queue, inflight, given_up, shutdown, .. } = self;
        inflight.stream_begins(Instant::now());
        // Reading goes on while writing waits: each side could be waiting for the other to read.
        let end = tokio::select! {
            end = receive(reader, inflight) => end,
            end = send(&mut writer, queue, inflight) => end,
            () = stalled(given_up, inflight) => End::Stalled,
            () = shutdown.cancelled() => End::Done,
        };
        if matches!(end, End::Done) {
            // Nothing hangs on whether the server learns of the orderly end.
            let _closed = timeout(CLOSE_TIMEOUT, writer.shutdown()).await;
        }
        end
    }
}

/// Why a stream is used no more.
enum End {
    Done,
    Closed,
    Failed(io::Error),
    Stalled,
}

async fn receive<R: AsyncRead + Unpin>(reader: R, inflight: &InFlight) -> End {
    let mut messages = FramedRead::new(reader, wire::framing(MAX_MESSAGE_LEN));
    loop {
        match messages.next().await {
            Some(Ok(message)) => inflight.answer(Instant::now(), &message),
            Some(Err(error)) => return End::Failed(error),
            None => return End::Closed,
        }
    }
}

async fn send<W: AsyncWrite + Unpin>(writer: W, queue: &mut mpsc::Receiver<Job>, inflight: &InFlight) -> End {
    let mut messages = FramedWrite::new(writer, wire::framing(MAX_MESSAGE_LEN));
    loop {
        // A job is noted before its message is written, so a stream that ends halfway loses none.
        while let Ok(job) = queue.try_recv() {
            inflight.enqueue(job);
        }
        while let Some(message) = inflight.next_unsent(Instant::now()) {
            if let Err(error) = messages.feed(message).await {
                return End::Failed(error);
            }
        }
        if let Err(error) = SinkExt::<Bytes>::flush(&mut messages).await {
            return End::Failed(error);
        }
        match queue.recv().await {
            Some(job) => inflight.enqueue(job),
            None => return End::Done,
        }
    }
}

/// Waits until a query was given up and the stream has been silent ever since that query was sent.
async fn stalled(given_up: &Notify, inflight: &InFlight) {
    loop {
        given_up.notified().await;
        if inflight.is_silent_since_given_up() {
            return;
        }
    }
}

/// Growing pauses between streams, each drawn at random from the upper half of its span, so that many stubs
/// that lost the same server do not come back at the same moment.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn next_pause(&mut self) -> Duration {
        let span = MIN_BACKOFF.saturating_mul(1 << self.failures.min(16)).min(MAX_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        span.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests;
