//! An axum that says hello, and how fast its answers come over a transport.
//!
//! The server is `axum::serve`, the client hyper: what HTTP costs is the same for every peer. Connections are opened
//! before the clock starts, and kept.

use std::fmt;
use std::future;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::http::{Request, StatusCode, Version, header};
use axum::routing::get;
use axum::serve::Listener;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Requests at a time where there are many: far more than a round trip needs to be filled, and what one page or one
/// service behind another may ask for at once.
const MANY: usize = 32;

/// How a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    /// One connection of HTTP/1.1.
    Http1One,
    /// As many connections of HTTP/1.1 as there are requests at a time.
    Http1Many,
    /// One connection of HTTP/2, one request after another.
    Http2One,
    /// One connection of HTTP/2 with many requests at a time.
    Http2Many,
}

impl Load {
    pub(crate) const ALL: [Self; 4] = [Self::Http1One, Self::Http1Many, Self::Http2One, Self::Http2Many];

    /// Requests that wait for their answer at a time.
    fn at_once(self) -> usize {
        match self {
            Self::Http1One | Self::Http2One => 1,
            Self::Http1Many | Self::Http2Many => MANY,
        }
    }

    fn is_http2(self) -> bool {
        matches!(self, Self::Http2One | Self::Http2Many)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.is_http2() { "HTTP/2" } else { "HTTP/1.1" };
        write!(f, "{protocol}, {} at a time", self.at_once())
    }
}

/// What is answered.
const HELLO: &str = "Hello, World!";

/// The service that is measured.
pub(super) fn hello() -> Router {
    Router::new().route("/", get(async || HELLO))
}

/// Streams that were accepted before, in the form that `axum::serve` takes.
struct Handed<S>(mpsc::Receiver<S>);

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Listener for Handed<S> {
    type Io = S;
    type Addr = ();

    async fn accept(&mut self) -> (S, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Serves `router` on this runtime, over every stream that the sender is given.
pub(super) fn serve<S>(router: Router) -> mpsc::Sender<S>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (hand, handed) = mpsc::channel(MANY);
    tokio::spawn(async { axum::serve(Handed(handed), router).await });
    hand
}

/// How fast the answers came.
pub(super) struct Answers {
    times: Vec<Duration>,
    elapsed: Duration,
}

impl Answers {
    /// Answers in a second.
    pub(super) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// How long each of them took.
    pub(super) fn times(self) -> Vec<Duration> {
        self.times
    }
}

/// Opens as many streams as the load wants, and asks `requests` times over them, after some that do not count.
pub(super) async fn ask<S>(
    load: Load,
    requests: usize,
    mut open: impl AsyncFnMut() -> Result<S>,
) -> Result<Answers>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut connections, mut askers) = (JoinSet::new(), Vec::new());
    if load.is_http2() {
        let io = TokioIo::new(open().await?);
        let (asker, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        connections.spawn(connection);
        askers.extend((0..load.at_once()).map(|_| Asker::Http2(asker.clone())));
    } else {
        for _ in 0..load.at_once() {
            let (asker, connection) = http1::handshake(TokioIo::new(open().await?)).await?;
            connections.spawn(connection);
            askers.push(Asker::Http1(asker));
        }
    }
    let each = requests.div_ceil(load.at_once());
    let (askers, _) = ask_all(askers, each.div_ceil(10)).await?;
    let start = Instant::now();
    let (askers, times) = ask_all(askers, each).await?;
    let elapsed = start.elapsed();
    drop(askers);
    while let Some(ended) = connections.join_next().await {
        ended??;
    }
    Ok(Answers { times, elapsed })
}

/// Has every asker ask `each` times, all at the same time. Gives the askers back, and how long each answer took.
async fn ask_all(askers: Vec<Asker>, each: usize) -> Result<(Vec<Asker>, Vec<Duration>)> {
    let mut asking = JoinSet::new();
    for mut asker in askers {
        asking.spawn(async move {
            let mut times = Vec::with_capacity(each);
            for _ in 0..each {
                let start = Instant::now();
                asker.ask().await?;
                times.push(start.elapsed());
            }
            anyhow::Ok((asker, times))
        });
    }
    let (mut askers, mut times) = (Vec::new(), Vec::new());
    while let Some(asked) = asking.join_next().await {
        let (asker, some) = asked??;
        askers.push(asker);
        times.extend(some);
    }
    Ok((askers, times))
}

/// One that asks again when it has its answer.
enum Asker {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Asker {
    async fn ask(&mut self) -> Result<()> {
        let request = |uri| Request::get(uri).header(header::HOST, "bench.test").body(Empty::new());
        let (response, version) = match self {
            Self::Http1(asker) => {
                asker.ready().await?;
                (asker.send_request(request("/")?).await?, Version::HTTP_11)
            }
            Self::Http2(asker) => {
                asker.ready().await?;
                (asker.send_request(request("http://bench.test/")?).await?, Version::HTTP_2)
            }
        };
        ensure!(response.status() == StatusCode::OK, "the server answered {}", response.status());
        ensure!(response.version() == version, "the server answered in {:?}", response.version());
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(body == HELLO, "the server said something else");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Barrier;
    use tokio::time::timeout;

    /// With a clock that jumps when nothing moves, so that too few are an error at once.
    #[tokio::test(start_paused = true)]
    async fn as_many_wait_at_a_time_as_the_load_says() {
        for load in Load::ALL {
            let (asked, barrier) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(load.at_once())));
            let seen = Arc::clone(&asked);
            // Nobody is answered before all have asked.
            let together = async move || {
                seen.fetch_add(1, Ordering::Relaxed);
                barrier.wait().await;
                HELLO
            };
            let hand = serve(Router::new().route("/", get(together)));
            let (requests, opened) = (10 * MANY, AtomicUsize::new(0));
            let open = async || {
                opened.fetch_add(1, Ordering::Relaxed);
                let (ours, theirs) = tokio::io::duplex(4096);
                hand.send(theirs).await?;
                Ok(ours)
            };
            let answers = timeout(Duration::from_secs(1), ask(load, requests, open)).await.unwrap().unwrap();
            assert!(answers.rate().is_finite() && answers.rate() > 0.0, "{load}");
            assert_eq!(answers.times().len(), requests, "{load}");
            assert_eq!(asked.load(Ordering::Relaxed), requests + requests / 10, "{load}");
            let connections = if load.is_http2() { 1 } else { load.at_once() };
            assert_eq!(opened.into_inner(), connections, "{load}");
        }
    }

    #[tokio::test]
    async fn another_answer_is_an_error() {
        for router in [Router::new(), Router::new().route("/", get(async || "Hello?"))] {
            let hand = serve(router);
            let open = async || {
                let (ours, theirs) = tokio::io::duplex(4096);
                hand.send(theirs).await?;
                Ok(ours)
            };
            assert!(ask(Load::Http1One, 1, open).await.is_err());
        }
    }
}
