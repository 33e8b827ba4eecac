//! The client's side of a key exchange: post, signal, confirmation.

use super::port;
use crate::endpoint::{HopStatus, Network};
use crate::keys::{KeyInfo, LiveKeys, Origin, SharedKey, StoreError, StoredKey};
use crate::names::LookupError;
use qsocket_files::rng::OsRng;
use qsocket_proto::call::{Service, Status};
use qsocket_proto::codec::Write;
use qsocket_proto::exchange::{MAX_MEMO, MAX_TTL, Post, PostTerms};
use qsocket_proto::ids::{PathId, PathSet, Principal, RELAYS, Role, SIXTEEN};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

/// For posting and for signalling, each.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long the posts of further relays are awaited when sixteen have theirs: every share more is one more relay that
/// may fail before the server fetches.
const GRACE: Duration = Duration::from_millis(500);

/// How long the signalling port has, before relays are asked: a fetch takes less.
const DIRECT: Duration = Duration::from_secs(5);

/// Relays that are asked at once to pass a signal on. Ten are one more than may be missing or lie.
const SIGNALS: usize = 10;

/// What a client chooses about a key exchange.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long the relays keep the shares for a server that is away, in whole seconds; a minute to a week.
    pub keep: Duration,
    /// How long the key is valid, in whole seconds; `None` for no end.
    pub lifetime: Option<Duration>,
    /// The server's signalling port. Tried first; without one, or if it does not answer, relays pass the signal on.
    pub signal_at: Option<SocketAddr>,
    /// For the server's eyes: who this is, what the key is for. At most [`MAX_MEMO`] bytes.
    pub memo: Vec<u8>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { keep: Duration::from_secs(600), lifetime: None, signal_at: None, memo: Vec::new() }
    }
}

/// A key that both sides have.
#[derive(Debug)]
pub struct Exchanged {
    /// The key, for a key store or a configuration.
    pub key: SharedKey,
    /// Until when it is valid, from now; `None` for no end.
    pub lifetime: Option<Duration>,
    /// The relays that kept a share.
    pub relays: PathSet,
}

/// Why a key exchange led to no key. This side keeps none; begin another one, which draws another key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The key of this endpoint is not a client's.
    #[error(
        "the RAIDA key of this endpoint has the role server; an exchange is begun with a key with the role client"
    )]
    NotAClient,
    /// The server is in another network, or is this endpoint itself.
    #[error("{0} is no server of this endpoint's network")]
    NoSuchServer(Principal),
    /// The memo is too long.
    #[error("the memo has {0} bytes; at most {MAX_MEMO} fit")]
    MemoTooLong(usize),
    /// Fewer than sixteen relays took a share.
    #[error("{taken} relays took a share, 16 are needed; {answers}; {hops}")]
    TooFewRelays {
        /// How many did.
        taken: usize,
        /// What the others said.
        answers: Answers,
        /// How the 25 hops stand.
        hops: HopStatus,
    },
    /// No confirmation came that only the server could have made. What relays and, through them, the server say
    /// instead is unproven.
    #[error("the server did not confirm; {0}")]
    NotConfirmed(Answers),
    /// There is a key with the server that was agreed another way. It says more than the relays can, and no exchange
    /// takes its place.
    #[error(
        "there is a key with {0} that was agreed another way, which is stronger; remove it first to exchange one in its place"
    )]
    Stronger(Principal),
    /// Both sides agreed, and the folder of this one did not take the key. The server holds one that nobody uses.
    #[error("the key is agreed and could not be kept: {0}")]
    NotKept(StoreError),
    /// The endpoint was closed.
    #[error("the endpoint is closed")]
    Closed,
    /// It is not settled who answers behind the name. Nothing was sent.
    #[error(transparent)]
    Name(#[from] LookupError),
}

impl From<ExchangeError> for io::Error {
    fn from(error: ExchangeError) -> Self {
        let kind = match &error {
            ExchangeError::NotAClient | ExchangeError::NoSuchServer(_) | ExchangeError::MemoTooLong(_) => {
                io::ErrorKind::InvalidInput
            }
            ExchangeError::TooFewRelays { .. } | ExchangeError::NotConfirmed(_) => io::ErrorKind::TimedOut,
            ExchangeError::Stronger(_) => io::ErrorKind::AlreadyExists,
            ExchangeError::NotKept(source) => source.kind(),
            ExchangeError::Closed => io::ErrorKind::NotConnected,
            ExchangeError::Name(_) => io::ErrorKind::NotFound,
        };
        Self::new(kind, error)
    }
}

/// How many relays answered what, those without an answer apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// By status.
    pub said: BTreeMap<Status, usize>,
    /// Relays that said nothing.
    pub silent: usize,
}

impl Answers {
    fn note(&mut self, status: Option<Status>) {
        match status {
            Some(status) => *self.said.entry(status).or_default() += 1,
            None => self.silent += 1,
        }
    }

    /// The status that most relays gave.
    pub fn most(&self) -> Option<Status> {
        self.said.iter().max_by_key(|(_, count)| **count).map(|(status, _)| *status)
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (status, count) in &self.said {
            write!(f, "{count} relays: {status}; ")?;
        }
        write!(f, "{} without an answer", self.silent)
    }
}

/// Runs an exchange with `server`.
pub(crate) async fn exchange(
    network: &Arc<Network>,
    server: Principal,
    terms: Terms,
) -> Result<Exchanged, ExchangeError> {
    let (own, role) = network.identity();
    if role != Role::Client {
        return Err(ExchangeError::NotAClient);
    }
    if server.network != own.network || server == own {
        return Err(ExchangeError::NoSuchServer(server));
    }
    if terms.memo.len() > MAX_MEMO {
        return Err(ExchangeError::MemoTooLong(terms.memo.len()));
    }
    if network.keys().agreed_otherwise(own, server) {
        return Err(ExchangeError::Stronger(server));
    }
    let run = async {
        let post = post(network, server, &terms).await?;
        let relays = post.taken();
        let post = signal(network, server, terms.signal_at, post).await?;
        let (id, key) = post.into_key();
        // The id is 16 bytes of the system's generator: it is not all zero.
        let key = SharedKey::new(id, server, key).ok_or(ExchangeError::Closed)?;
        let exchanged = Exchanged { key, lifetime: terms.lifetime, relays };
        if let Some(folder) = network.key_folder() {
            keep(folder.clone(), own, &exchanged).await?;
        }
        Ok(exchanged)
    };
    tokio::select! {
        done = run => done,
        () = network.cancelled() => Err(ExchangeError::Closed),
    }
}

/// Puts the key into the folder, so that the next connection uses it.
async fn keep(folder: Arc<LiveKeys>, own: Principal, exchanged: &Exchanged) -> Result<(), ExchangeError> {
    let Exchanged { key, lifetime, relays } = exchanged;
    let origin = Origin::Exchanged { network: own.network, relays: *relays };
    let mut info = KeyInfo::new(key.id(), key.with(), origin).with_own(own);
    if let Some(lifetime) = lifetime {
        info = info.with_expiry(SystemTime::now() + *lifetime);
    }
    let stored = StoredKey::new(info, key.secret().clone()).ok_or(ExchangeError::Closed)?;
    let kept = tokio::task::spawn_blocking(move || {
        folder.store().install(&stored)?;
        folder.reload()
    });
    kept.await.map_err(|_| ExchangeError::Closed)?.map_err(ExchangeError::NotKept)
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// Leaves a share with every relay that takes one.
async fn post(network: &Arc<Network>, server: Principal, terms: &Terms) -> Result<Post, ExchangeError> {
    let (poster, _) = network.identity();
    let relay_set = network.relay_set();
    let lifetime = terms.lifetime.map_or(0, |time| seconds(time).max(1));
    let ttl = seconds(terms.keep).min(MAX_TTL);
    let mut post =
        Post::new(PostTerms { poster, receiver: server, ttl, lifetime, relay_set }, &terms.memo, &mut OsRng);
    network.want_hops();
    let mut posting = JoinSet::new();
    for path in PathId::all() {
        let (network, body) = (Arc::clone(network), post.body(path));
        posting.spawn(async move {
            // A hop that comes up within the time takes its share too.
            network.hop_up(path).await;
            (path, network.call(path, Service::PostKey, &body).await)
        });
    }
    let mut answers = Answers::default();
    let mut until = Instant::now() + DEADLINE;
    while let Ok(Some(done)) = timeout_at(until, posting.join_next()).await {
        let Ok((path, reply)) = done else { continue };
        match reply {
            // A receipt of another form is no receipt.
            Some((Status::Ok, receipt)) if post.handle(path, &receipt).is_ok() => {
                if post.taken().len() == SIXTEEN {
                    until = until.min(Instant::now() + GRACE);
                }
            }
            Some((Status::Ok, _)) => answers.note(Some(Status::Malformed)),
            other => answers.note(other.map(|(status, _)| status)),
        }
    }
    answers.silent += posting.len();
    match post.taken().len() {
        taken if taken < SIXTEEN => {
            Err(ExchangeError::TooFewRelays { taken, answers, hops: network.hop_status() })
        }
        _ => Ok(post),
    }
}

/// Tells the server, through relay after relay until it confirms.
async fn signal(
    network: &Arc<Network>,
    server: Principal,
    port: Option<SocketAddr>,
    post: Post,
) -> Result<Post, ExchangeError> {
    let Ok(signal) = post.signal() else { return Err(ExchangeError::NotConfirmed(Answers::default())) };
    if let Some(at) = port {
        match timeout(DIRECT, port::ask(network.transport(), at, &signal)).await {
            Ok(Ok((Status::Ok, word))) if post.is_confirmation(&word) => return Ok(post),
            Ok(Ok((status, _))) => tracing::debug!(%at, %status, "the signalling port did not confirm"),
            Ok(Err(error)) => tracing::debug!(%at, %error, "the signalling port cannot be reached"),
            Err(_) => tracing::debug!(%at, "the signalling port does not answer"),
        }
    }
    let mut body = Vec::with_capacity(Principal::BYTES + signal.len());
    body.put(&server.to_bytes());
    body.put(&signal);
    let body: Arc<[u8]> = body.into();
    // Any relay can pass it on, those without a share too. Where to begin is drawn, so that no few relays carry all.
    let mut order: Vec<_> = PathId::all().collect();
    order.rotate_left((OsRng.unit() * RELAYS as f64) as usize % RELAYS);
    let mut left = order.into_iter();
    let mut asking = JoinSet::new();
    let ask = |asking: &mut JoinSet<_>, path: PathId| {
        let (network, body) = (Arc::clone(network), Arc::clone(&body));
        asking.spawn(async move { network.call(path, Service::Signal, &body).await });
    };
    let mut answers = Answers::default();
    let until = Instant::now() + DEADLINE;
    loop {
        while asking.len() < SIGNALS
            && let Some(path) = left.next()
        {
            ask(&mut asking, path);
        }
        let Ok(Some(done)) = timeout_at(until, asking.join_next()).await else { break };
        match done {
            Ok(Some((Status::Ok, word))) if post.is_confirmation(&word) => return Ok(post),
            // Somebody says so who does not have the key.
            Ok(Some((Status::Ok, _))) => answers.note(Some(Status::Malformed)),
            Ok(other) => answers.note(other.map(|(status, _)| status)),
            Err(_) => answers.note(None),
        }
    }
    answers.silent += asking.len();
    Err(ExchangeError::NotConfirmed(answers))
}
