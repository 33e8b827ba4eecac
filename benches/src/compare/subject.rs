//! One peer under measurement: its two threads, their CPU clocks, and the work that is timed.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::figures::{Figure, Sample};
use super::peer::Peer;
use super::place::Place;
use super::web::{self, Load};

/// How much one round measures.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// Bytes of the bulk transfer.
    pub(crate) bytes: u64,
    /// New connections, one after another.
    pub(crate) connections: usize,
    /// New streams on an open connection, one after another.
    pub(crate) streams: usize,
    /// Echoes, one after another.
    pub(crate) echoes: usize,
    /// Requests for each [`Load`].
    pub(crate) requests: usize,
    /// Cold starts, one after another.
    pub(crate) colds: usize,
    /// Streams that send at once, and how many bytes together.
    pub(crate) many: (usize, u64),
    /// Bytes of each message that is echoed, and how many of them.
    pub(crate) messages: (usize, usize),
}

impl Plan {
    /// One bulk transfer and nothing else.
    pub(crate) fn bulk(bytes: u64) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Echoes and nothing else.
    pub(crate) fn echo(echoes: usize) -> Self {
        Self { echoes, ..Self::default() }
    }

    /// The same work in small.
    pub(crate) fn warm_up(&self) -> Self {
        Self {
            bytes: self.bytes / 8,
            connections: self.connections / 8 + 1,
            streams: self.streams / 8 + 1,
            echoes: self.echoes / 8 + 1,
            requests: self.requests / 8 + 1,
            colds: 1,
            many: (self.many.0, self.many.1 / 8),
            messages: self.messages,
        }
    }
}

/// The bytes of one echo.
pub(crate) const ECHO: usize = 64;

/// The size of bulk writes and of every read buffer. Reads that exactly fill their buffer cost a second
/// system call, so it is well above what one call returns.
const BUFFER: usize = 256 * 1024;

/// Streams that send at once.
pub(crate) const MANY: usize = 1000;

/// The read buffer of each of [`MANY`] streams: what one call returns at most, so that thousands of them fit.
const SHARED_BUFFER: usize = 64 * 1024;

/// One round of one peer takes seconds; after this it counts as hung.
const HANG: Duration = Duration::from_secs(300);

/// Client and server threads of one peer. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Subject {
    label: &'static str,
    jobs: mpsc::Sender<Job>,
}

/// A round to run, and where its result goes.
type Job = (Plan, oneshot::Sender<Result<Sample>>);

impl Subject {
    /// Starts both threads; fails if the server cannot listen or the client cannot start.
    pub(crate) fn start<P: Peer>(peer: P) -> Result<Self> {
        Self::start_at(peer, Place::default(), Place::default())
    }

    /// As [`Subject::start`], with the server's thread, and those it starts, and the client's in places of the network.
    pub(crate) fn start_at<P: Peer>(peer: P, server_place: Place, client_place: Place) -> Result<Self> {
        let label = peer.label();
        let peer = Arc::new(peer);
        let (listening, address) = oneshot::channel();
        let (clock, requests) = mpsc::channel(1);
        let server = peer.clone();
        thread::Builder::new().name("server".to_owned()).spawn(move || {
            let served = server_place.enter().and_then(|()| block_on(serve(&*server, listening, requests)));
            if let Err(error) = served {
                eprintln!("{label}: the server stopped: {error:#}");
            }
        })?;
        let address = address.blocking_recv().with_context(|| format!("{label} did not listen"))?;
        let (jobs, received) = mpsc::channel(1);
        let (started, outcome) = oneshot::channel();
        thread::Builder::new().name("client".to_owned()).spawn(move || {
            let drive = || block_on(drive(&*peer, address, clock, received, started));
            if let Err(error) = client_place.enter().and_then(|()| drive()) {
                eprintln!("{label}: the client stopped: {error:#}");
            }
        })?;
        outcome.blocking_recv().with_context(|| format!("{label} did not start its client"))?;
        Ok(Self { label, jobs })
    }

    /// The peer's name in the table.
    pub(crate) fn label(&self) -> &'static str {
        self.label
    }

    /// Runs one round and waits for it.
    pub(crate) fn measure(&self, plan: &Plan) -> Result<Sample> {
        let (reply, sample) = oneshot::channel();
        let stopped = || anyhow!("{} stopped", self.label);
        self.jobs.blocking_send((plan.clone(), reply)).map_err(|_| stopped())?;
        sample.blocking_recv().map_err(|_| stopped())?.with_context(|| format!("{} failed", self.label))
    }
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    read_clock(ClockId::ThreadCPUTime)
}

/// CPU time of all threads of this process.
fn process_cpu() -> Duration {
    read_clock(ClockId::ProcessCPUTime)
}

fn read_clock(id: ClockId) -> Duration {
    // Both clocks count from zero upwards, so the conversion cannot fail.
    Duration::try_from(clock_gettime(id)).unwrap_or_default()
}

/// The server's thread: serves streams and tells its CPU time until the client is gone.
async fn serve<P: Peer>(
    peer: &P,
    listening: oneshot::Sender<P::Address>,
    mut requests: mpsc::Receiver<oneshot::Sender<Duration>>,
) -> Result<()> {
    let (mut listener, address) = peer.bind().await?;
    if listening.send(address).is_err() {
        return Ok(());
    }
    let web = web::serve(web::hello());
    let accepting = async {
        loop {
            let stream = peer.accept(&mut listener).await?;
            let web = web.clone();
            tokio::spawn(async move {
                // A client that leaves is seen, and reported, at its own end.
                let _ = answer(stream, web).await;
            });
        }
    };
    let telling = async {
        while let Some(request) = requests.recv().await {
            let _ = request.send(thread_cpu());
        }
        Ok(())
    };
    // Both are polled to the end: an accept that is halfway through a handshake is not dropped.
    tokio::select! {
        outcome = accepting => outcome,
        outcome = telling => outcome,
    }
}

/// What a client asks for by the first byte of a stream, which the server echoes at once.
mod mode {
    pub(super) const ECHO: u8 = b'E';
    pub(super) const SINK: u8 = b'S';
    pub(super) const HTTP: u8 = b'H';
    /// As `SINK`, and one of many.
    pub(super) const SHARED: u8 = b'M';
}

/// Serves one stream: echoes everything, or swallows everything and then tells how much it was, or lets `web` answer.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, web: mpsc::Sender<S>) -> Result<()> {
    let mode = stream.read_u8().await?;
    stream.write_all(&[mode]).await?;
    stream.flush().await?;
    if mode == mode::HTTP {
        return web.send(stream).await.map_err(|_| anyhow!("the web server is gone"));
    }
    let mut buffer = vec![0; if mode == mode::SHARED { SHARED_BUFFER } else { BUFFER }];
    let mut total = 0_u64;
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        total += n as u64;
        if mode == mode::ECHO {
            stream.write_all(&buffer[..n]).await?;
            stream.flush().await?;
        }
    }
    if mode != mode::ECHO {
        stream.write_all(&total.to_le_bytes()).await?;
    }
    stream.shutdown().await?;
    Ok(())
}

/// The client's thread: runs one round after another.
async fn drive<P: Peer>(
    peer: &P,
    server: P::Address,
    clock: mpsc::Sender<oneshot::Sender<Duration>>,
    mut jobs: mpsc::Receiver<Job>,
    started: oneshot::Sender<()>,
) -> Result<()> {
    let endpoint = peer.endpoint(server).await?;
    let mut client = Client { peer, endpoint, clock };
    if started.send(()).is_err() {
        return Ok(());
    }
    while let Some((plan, reply)) = jobs.recv().await {
        let round = tokio::time::timeout(HANG, client.round(&plan)).await;
        let _ = reply.send(round.unwrap_or_else(|_| Err(anyhow!("no progress for {HANG:?}"))));
    }
    Ok(())
}

struct Client<'a, P: Peer> {
    peer: &'a P,
    endpoint: P::Endpoint,
    clock: mpsc::Sender<oneshot::Sender<Duration>>,
}

impl<P: Peer> Client<'_, P> {
    async fn round(&mut self, plan: &Plan) -> Result<Sample> {
        let mut sample = Sample::default();
        if plan.bytes > 0 {
            self.bulk(plan.bytes, &mut sample).await.context("bulk transfer")?;
        }
        if plan.connections > 0 {
            self.connections(plan.connections, &mut sample).await.context("new connections")?;
        }
        if plan.streams > 0 {
            self.streams(plan.streams, &mut sample).await.context("new streams")?;
        }
        if plan.echoes > 0 {
            self.echo(plan.echoes, &mut sample).await.context("echo")?;
        }
        if plan.colds > 0 {
            self.colds(plan.colds, &mut sample).await.context("cold start")?;
        }
        if let (count @ 1.., bytes) = plan.many {
            self.many(count, bytes, &mut sample).await.context("many streams")?;
        }
        if let (size @ 1.., count @ 1..) = plan.messages {
            self.messages(size, count, &mut sample).await.context("messages")?;
        }
        if plan.requests > 0 {
            for load in Load::ALL {
                self.requests(load, plan.requests, &mut sample).await.with_context(|| load.to_string())?;
            }
        }
        Ok(sample)
    }

    /// A stream in the way the transport prefers, with its first byte echoed: both ends are ready.
    async fn stream(&mut self, mode: u8) -> Result<P::Stream> {
        let mut stream = match self.peer.open(&mut self.endpoint).await? {
            Some(stream) => stream,
            None => self.peer.connect(&mut self.endpoint).await?,
        };
        one_byte_echo(&mut stream, mode).await?;
        Ok(stream)
    }

    async fn server_cpu(&self) -> Result<Duration> {
        let (reply, cpu) = oneshot::channel();
        self.clock.send(reply).await.context("the server is gone")?;
        cpu.await.context("the server is gone")
    }

    /// Sends `bytes` bytes. The time ends when the server has said that it read them all.
    async fn bulk(&mut self, bytes: u64, sample: &mut Sample) -> Result<()> {
        let mut stream = self.stream(mode::SINK).await?;
        // Not all zero, so that no layer can find it easier than real data.
        let block: Vec<u8> = (0..BUFFER).map(|index| (index * 31 % 251) as u8).collect();
        let server = self.server_cpu().await?;
        let (start, client, total) = (Instant::now(), thread_cpu(), process_cpu());
        let mut left = bytes;
        while left > 0 {
            let len = left.min(BUFFER as u64) as usize;
            stream.write_all(&block[..len]).await?;
            left -= len as u64;
        }
        stream.shutdown().await?;
        let received = stream.read_u64_le().await?;
        let (elapsed, client, total) = (start.elapsed(), thread_cpu() - client, process_cpu() - total);
        let server = self.server_cpu().await? - server;
        ensure!(received == bytes, "the server read {received} of {bytes} bytes");

        let bytes = bytes as f64;
        sample.set(Figure::Goodput, bytes / elapsed.as_secs_f64());
        sample.set(Figure::BulkClientCpu, client.as_secs_f64() / bytes);
        sample.set(Figure::BulkServerCpu, server.as_secs_f64() / bytes);
        sample.set(Figure::BulkTotalCpu, total.as_secs_f64() / bytes);
        if P::BETWEEN {
            let between = total.saturating_sub(client).saturating_sub(server);
            sample.set(Figure::BulkRelayCpu, between.as_secs_f64() / bytes);
        }
        Ok(())
    }

    /// A new connection with its handshake and a 1-byte echo, `count` times.
    async fn connections(&mut self, count: usize, sample: &mut Sample) -> Result<()> {
        let mut times = Times::start(count);
        for _ in 0..count {
            let start = Instant::now();
            let mut stream = self.peer.connect(&mut self.endpoint).await?;
            one_byte_echo(&mut stream, mode::ECHO).await?;
            times.push(start);
            end(stream).await?;
        }
        sample.set(Figure::Connection, times.quantile(0.5));
        sample.set(Figure::ConnectionClientCpu, times.cpu_each());
        Ok(())
    }

    /// A new stream on an open connection and a 1-byte echo, `count` times.
    async fn streams(&mut self, count: usize, sample: &mut Sample) -> Result<()> {
        let mut times = Times::start(count);
        for _ in 0..count {
            let start = Instant::now();
            let Some(mut stream) = self.peer.open(&mut self.endpoint).await? else {
                return Ok(());
            };
            one_byte_echo(&mut stream, mode::ECHO).await?;
            times.push(start);
            end(stream).await?;
        }
        sample.set(Figure::Stream, times.quantile(0.5));
        Ok(())
    }

    /// Echoes of 64 bytes on one open stream, `count` times after some that do not count.
    async fn echo(&mut self, count: usize, sample: &mut Sample) -> Result<()> {
        let mut stream = self.stream(mode::ECHO).await?;
        let (message, mut reply) = ([0x51; ECHO], [0; ECHO]);
        for _ in 0..count / 10 {
            stream.write_all(&message).await?;
            stream.flush().await?;
            stream.read_exact(&mut reply).await?;
        }
        let mut times = Times::start(count);
        for _ in 0..count {
            let start = Instant::now();
            stream.write_all(&message).await?;
            stream.flush().await?;
            stream.read_exact(&mut reply).await?;
            times.push(start);
        }
        sample.set(Figure::EchoClientCpu, times.cpu_each());
        sample.set(Figure::Echo, times.quantile(0.5));
        sample.set(Figure::EchoTail, times.quantile(0.99));
        ensure!(reply == message, "the echo came back changed");
        end(stream).await
    }

    /// A client that starts from nothing and its first 1-byte echo, `count` times; each ends with all of the client's
    /// hops standing.
    async fn colds(&mut self, count: usize, sample: &mut Sample) -> Result<()> {
        let mut times = Times::start(count);
        for _ in 0..count {
            let start = Instant::now();
            let Some(mut stream) = self.peer.cold(&mut self.endpoint).await? else {
                return Ok(());
            };
            one_byte_echo(&mut stream, mode::ECHO).await?;
            self.peer.settled(&self.endpoint).await?;
            times.push(start);
            end(stream).await?;
            self.peer.chill(&mut self.endpoint).await;
        }
        sample.set(Figure::Cold, times.quantile(0.5));
        Ok(())
    }

    /// Sends `bytes` bytes over `count` streams at once. The time ends when the server has read them all.
    async fn many(&mut self, count: usize, bytes: u64, sample: &mut Sample) -> Result<()> {
        let each = bytes.div_ceil(count as u64).max(1);
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            streams.push(self.stream(mode::SHARED).await?);
        }
        let block: Arc<[u8]> = (0..SHARED_BUFFER).map(|index| (index * 31 % 251) as u8).collect();
        let server = self.server_cpu().await?;
        let (start, client, total) = (Instant::now(), thread_cpu(), process_cpu());
        let mut sending = JoinSet::new();
        for mut stream in streams {
            let block = Arc::clone(&block);
            sending.spawn(async move {
                let mut left = each;
                while left > 0 {
                    let len = left.min(block.len() as u64) as usize;
                    stream.write_all(&block[..len]).await?;
                    left -= len as u64;
                }
                stream.shutdown().await?;
                let received = stream.read_u64_le().await?;
                ensure!(received == each, "the server read {received} of {each} bytes");
                Ok(())
            });
        }
        while let Some(sent) = sending.join_next().await {
            sent??;
        }
        let (elapsed, client, total) = (start.elapsed(), thread_cpu() - client, process_cpu() - total);
        let server = self.server_cpu().await? - server;
        let bytes = (each * count as u64) as f64;
        sample.set(Figure::Many, bytes / elapsed.as_secs_f64());
        sample.set(Figure::ManyClientCpu, client.as_secs_f64() / bytes);
        sample.set(Figure::ManyServerCpu, server.as_secs_f64() / bytes);
        if P::BETWEEN {
            let between = total.saturating_sub(client).saturating_sub(server);
            sample.set(Figure::ManyRelayCpu, between.as_secs_f64() / bytes);
        }
        Ok(())
    }

    /// Messages of `size` bytes and their echoes, one after another on one open stream.
    async fn messages(&mut self, size: usize, count: usize, sample: &mut Sample) -> Result<()> {
        let stream = self.stream(mode::ECHO).await?;
        let (mut read, mut write) = tokio::io::split(stream);
        let message: Vec<u8> = (0..size).map(|index| (index * 31 % 251) as u8).collect();
        let mut reply = vec![0; size];
        let mut times = Times::start(count);
        // The first does not count.
        for turn in 0..=count {
            let start = Instant::now();
            let writing = async {
                write.write_all(&message).await?;
                write.flush().await
            };
            tokio::try_join!(writing, read.read_exact(&mut reply))?;
            if turn == 0 {
                times = Times::start(count);
            } else {
                times.push(start);
            }
        }
        ensure!(reply == message, "the echo came back changed");
        sample.set(Figure::MessageClientCpu, times.cpu_each() / size as f64);
        sample.set(Figure::Message, times.quantile(0.5));
        end(read.unsplit(write)).await
    }

    /// Requests to an axum, in the way of `load`.
    async fn requests(&mut self, load: Load, requests: usize, sample: &mut Sample) -> Result<()> {
        let answers = web::ask(load, requests, async || self.stream(mode::HTTP).await).await?;
        sample.set(Figure::Answers(load), answers.rate());
        let mut times = answers.times();
        times.sort_unstable();
        sample.set(Figure::Answer(load), quantile(&times, 0.5));
        sample.set(Figure::AnswerTail(load), quantile(&times, 0.99));
        Ok(())
    }
}

/// Sends one byte and waits until it comes back.
async fn one_byte_echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), byte: u8) -> Result<()> {
    stream.write_all(&[byte]).await?;
    stream.flush().await?;
    ensure!(stream.read_u8().await? == byte, "the echo came back changed");
    Ok(())
}

/// Ends a stream in both directions, outside every timed section.
async fn end(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    stream.shutdown().await?;
    ensure!(stream.read(&mut [0]).await? == 0, "the server sent more than was asked for");
    Ok(())
}

/// Times of single operations, and the CPU time of this thread since the start.
struct Times {
    times: Vec<Duration>,
    cpu: Duration,
}

impl Times {
    fn start(count: usize) -> Self {
        Self { times: Vec::with_capacity(count), cpu: thread_cpu() }
    }

    fn push(&mut self, start: Instant) {
        self.times.push(start.elapsed());
    }

    /// Seconds of CPU for each operation, with its ending.
    fn cpu_each(&self) -> f64 {
        (thread_cpu() - self.cpu).as_secs_f64() / self.times.len().max(1) as f64
    }

    /// Seconds that this share of the operations stayed within.
    fn quantile(&mut self, share: f64) -> f64 {
        self.times.sort_unstable();
        quantile(&self.times, share)
    }
}

/// Seconds that this share of sorted times stayed within (nearest rank).
fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::figures::Mode;
    use crate::compare::peers::plain::Plain;
    use crate::compare::peers::qsocket::QSocket;
    use crate::compare::peers::tls::{KeyExchange, Tls};

    const PLAN: Plan = Plan {
        bytes: 3_000_001,
        connections: 3,
        streams: 3,
        echoes: 20,
        requests: 40,
        colds: 2,
        many: (7, 3_000_001),
        messages: (100_000, 3),
    };

    /// What a peer with neither streams inside a connection nor anything between has not.
    const OF_THE_PRODUCT: [Figure; 3] = [Figure::Stream, Figure::Cold, Figure::BulkRelayCpu];

    /// Every other figure is there and positive.
    fn check(subject: &Subject) {
        for _ in 0..2 {
            let sample = subject.measure(&PLAN).unwrap();
            for figure in Figure::all() {
                let value = sample.get(figure);
                assert_eq!(value.is_none(), OF_THE_PRODUCT.contains(&figure), "{figure:?}");
                assert!(value.is_none_or(|value| value > 0.0 && value.is_finite()), "{figure:?}: {value:?}");
            }
            let total = sample.get(Figure::BulkTotalCpu).unwrap();
            assert!(sample.get(Figure::BulkClientCpu).unwrap() < total);
        }
    }

    #[test]
    fn plain_tcp_is_measured() {
        check(&Subject::start(Plain::new()).unwrap());
    }

    #[test]
    fn both_key_exchanges_are_measured_and_checked() {
        check(&Subject::start(Tls::new(KeyExchange::PostQuantum).unwrap()).unwrap());
        check(&Subject::start(Tls::new(KeyExchange::Classical).unwrap()).unwrap());
    }

    #[test]
    fn both_modes_of_the_product_are_measured() {
        for mode in [Mode::Full, Mode::Adaptive] {
            let subject = Subject::start(QSocket::new(mode)).unwrap();
            for _ in 0..2 {
                let sample = subject.measure(&PLAN).unwrap();
                for figure in Figure::all() {
                    let value = sample.get(figure).unwrap();
                    assert!(value > 0.0 && value.is_finite(), "{mode} {figure:?}: {value:?}");
                }
            }
        }
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let mut times = Times::start(100);
        times.times = (1..=100).rev().map(Duration::from_secs).collect();
        assert_eq!((times.quantile(0.5), times.quantile(0.99)), (50.0, 99.0));
        times.times.truncate(1);
        assert_eq!((times.quantile(0.5), times.quantile(0.99)), (1.0, 1.0));
    }
}
