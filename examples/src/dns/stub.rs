//! The local stub resolver: ordinary DNS on UDP and TCP of one local address, carried over one stream.
//!
//! A program that knows only DNS (`dig`, the C library, a browser) asks here and need not know how its question
//! travels. Each query gets an answer, SERVFAIL if nothing better: resolvers wait five seconds and more for
//! what gets silence.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hickory_proto::op::ResponseCode;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::exchange::Exchange;
use super::server::{self, ACCEPT_PAUSE, Limits, MAX_ACCEPT_FAILURES};
use super::wire::{self, MAX_QUERY_LEN, Query, Screened};
use super::{Backend, Connector};

/// Queries over UDP being answered at once; further ones get SERVFAIL at once. As many as an exchange has in
/// flight: more would only wait.
pub const MAX_UDP_QUERIES: usize = super::exchange::MAX_IN_FLIGHT;

/// Longest UDP answer in bytes, whatever size the client announces: the largest that resolvers announce in
/// practice, which bounds what a forged source address can be sent.
pub const MAX_UDP_ANSWER: usize = 4096;

/// Attempts to find a port that is free for both UDP and TCP when the caller leaves the choice to the system.
const MAX_PORT_ATTEMPTS: u32 = 32;

/// How the stub deals with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StubConfig {
    /// Longest wait for an answer from the stream, reconnecting included; then SERVFAIL. Default 4.5 seconds:
    /// less than the 5 after which `dig` and the C library stop listening.
    pub deadline: Duration,
    /// Bounds for the clients that come over TCP. Default: 128 connections, 10 seconds of silence, otherwise
    /// as [`Limits::default`]: local connections are cheap to open again.
    pub tcp: Limits,
}

impl Default for StubConfig {
    fn default() -> Self {
        let tcp = Limits { connections: 128, idle: Duration::from_secs(10), ..Limits::default() };
        Self { deadline: Duration::from_millis(4500), tcp }
    }
}

/// A stub that is bound to its address and not yet running.
#[derive(Debug)]
pub struct Stub {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
}

impl Stub {
    /// Binds UDP and TCP of a loopback address; with port 0, of one port that is free for both.
    ///
    /// # Errors
    /// What the system reports, or `InvalidInput` for an address that other machines reach: there, anybody
    /// could ask in this user's name, and forge whom the answers go to. [`Stub::bind_open`] is for those who
    /// have fenced it off otherwise.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        if !address.ip().to_canonical().is_loopback() {
            let message = format!("{address} is open to other machines; use a loopback address as 127.0.0.1");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Self::bind_open(address).await
    }

    /// Binds as [`Stub::bind`], to any address.
    ///
    /// Give the address of one interface: from an unspecified address, the system may answer UDP from another
    /// address than the one that was asked.
    ///
    /// # Errors
    /// What the system reports.
    pub async fn bind_open(address: SocketAddr) -> io::Result<Self> {
        let mut attempts = if address.port() == 0 { MAX_PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            let tcp = TcpListener::bind(address).await?;
            let bound = tcp.local_addr()?;
            match UdpSocket::bind(bound).await {
                Ok(udp) => return Ok(Self { udp, tcp, address: bound }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The address that clients ask.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers clients over streams from `connector`, until `shutdown`.
    ///
    /// As [`Stub::run_behind`], with nothing in front.
    ///
    /// # Errors
    /// Those of [`Stub::run_behind`].
    pub async fn run<C: Connector>(
        self,
        connector: C,
        config: StubConfig,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        self.run_behind(|carried| carried, connector, config, shutdown).await
    }

    /// Answers clients by the back end that `front` makes of the one that asks over streams from `connector`, until
    /// `shutdown`.
    ///
    /// On shutdown nothing more is taken; queries in the works are answered within their deadline, then the
    /// stream is closed.
    ///
    /// # Errors
    /// The last error of a socket that failed [`MAX_ACCEPT_FAILURES`] times in a row.
    pub async fn run_behind<C: Connector>(
        self,
        front: impl FnOnce(Arc<dyn Backend>) -> Arc<dyn Backend>,
        connector: C,
        config: StubConfig,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let close_stream = CancellationToken::new();
        let _close_on_drop = close_stream.clone().drop_guard();
        let (exchange, driver) = Exchange::spawn(connector, config.deadline, close_stream.clone());
        let backend = front(Arc::new(Carried(exchange)));
        let served = tokio::try_join!(
            serve_udp(self.udp, Arc::clone(&backend), config.tcp.drain, shutdown.clone()),
            server::serve(self.tcp, backend, config.tcp, shutdown),
        );
        close_stream.cancel();
        driver.await.map_err(io::Error::other)?;
        served.map(|((), ())| ())
    }
}

/// Answers by asking over the stream.
#[derive(Debug)]
struct Carried(Exchange);

#[async_trait]
impl Backend for Carried {
    async fn answer(&self, query: &Query, _from: SocketAddr) -> Bytes {
        self.0.ask(query).await.unwrap_or_else(|error| {
            debug!(%error, "a query got SERVFAIL");
            query.error(ResponseCode::ServFail)
        })
    }
}

async fn serve_udp(
    socket: UdpSocket,
    backend: Arc<dyn Backend>,
    drain: Duration,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut working = JoinSet::new();
    // One byte more than is taken: a datagram that was cut to fit must not pass for a whole one.
    let mut buffer = vec![0; MAX_QUERY_LEN + 1];
    let mut failures = 0;
    loop {
        let received = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = working.join_next(), if !working.is_empty() => continue,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                failures += 1;
                if failures >= MAX_ACCEPT_FAILURES {
                    return Err(error);
                }
                warn!(%error, "cannot receive over UDP; trying again");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failures = 0;
        let at_once = match wire::screen(Bytes::copy_from_slice(&buffer[..length])) {
            Screened::Query(query) if working.len() < MAX_UDP_QUERIES => {
                let (socket, backend) = (Arc::clone(&socket), Arc::clone(&backend));
                working.spawn(async move {
                    let answer = backend.answer(&query, from).await;
                    let fits = answer.len() <= query.udp_limit().min(MAX_UDP_ANSWER);
                    let answer = if fits { answer } else { query.truncated(&answer) };
                    if let Err(error) = socket.send_to(&answer, from).await {
                        debug!(%from, %error, "cannot send an answer over UDP");
                    }
                });
                continue;
            }
            Screened::Query(query) => query.error(ResponseCode::ServFail),
            Screened::Reply(reply) => reply,
            Screened::Drop => continue,
        };
        // Without waiting: what is answered at once is what a flood consists of.
        if let Err(error) = socket.try_send_to(&at_once, from) {
            debug!(%from, %error, "cannot send an answer over UDP");
        }
    }
    // Those that take longer are dropped with the set.
    let _late = timeout(drain, async { while working.join_next().await.is_some() {} }).await;
    Ok(())
}
