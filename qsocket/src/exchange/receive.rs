//! The server's side of a key exchange: a signal, the shares that it speaks of, the key that is kept.

use crate::endpoint::Network;
use crate::keys::{KeyInfo, LiveKeys, Origin, StoreError, StoredKey};
use qsocket_files::rng::OsRng;
use qsocket_proto::call::{Service, Status};
use qsocket_proto::crypto::hkdf::MacKey;
use qsocket_proto::crypto::schedule::hop::ImportedKey;
use qsocket_proto::exchange::{Fetch, Fetched, PostHeader, Signal, SignalError};
use qsocket_proto::ids::{KeyId, PathId, Principal, RELAYS, Role};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Exchanges that a server works on at once, over all clients: each holds 25 shares and a few calls. What came first is
/// forgotten for what comes new.
const FETCHES: usize = 64;

/// Of one client, so that no client takes all the places.
const FETCHES_PER_CLIENT: usize = 4;

/// Exchanged keys with one client that a server keeps; for the next one the oldest goes. A client needs one, and a few
/// more when its own store failed in the middle of an exchange.
const KEYS_PER_CLIENT: usize = 8;

/// How long the relays have to give their shares.
const FETCH_TIME: Duration = Duration::from_secs(5);

/// How long further answers are awaited when sixteen shares are there, to know who lies.
const GRACE: Duration = Duration::from_millis(250);

/// Where a server keeps the keys that clients exchange with it.
///
/// Put it into the configuration of a listener: [`Config::with_key_receiver`](crate::config::Config::with_key_receiver).
/// Without one, clients are told that the service is not offered.
///
/// # Which keys are kept
/// A key is refused if its client may not connect, or if the store holds a key with the client that came there another
/// way: that one says more than 16 relays can, and an exchange does not take its place. Its owner may remove it.
///
/// A cheap handle: clones share everything.
#[derive(Clone)]
pub struct KeyReceiver(Arc<Inner>);

struct Inner {
    keys: Arc<LiveKeys>,
    received: watch::Sender<Option<Received>>,
}

impl fmt::Debug for KeyReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyReceiver").field("keys", &self.0.keys).finish_non_exhaustive()
    }
}

/// A key that a client exchanged with this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// With whom.
    pub client: Principal,
    /// Which key.
    pub key: KeyId,
    /// What the client wrote for this server's eyes.
    pub memo: Vec<u8>,
}

impl KeyReceiver {
    /// Keeps keys in a folder, from which connections take them.
    pub fn new(keys: Arc<LiveKeys>) -> Self {
        Self(Arc::new(Inner { keys, received: watch::Sender::new(None) }))
    }

    /// The folder.
    pub fn keys(&self) -> &Arc<LiveKeys> {
        &self.0.keys
    }

    /// The last key that was kept, now and whenever there is a newer one: told when its client's confirmation is on its way.
    /// Who misses some finds them in the folder.
    pub fn received(&self) -> watch::Receiver<Option<Received>> {
        self.0.received.subscribe()
    }

    /// The key of an exchange, if it is kept already.
    fn held(&self, own: Principal, header: &PostHeader) -> Result<Option<StoredKey>, Refusal> {
        let Some(held) = self.0.keys.store().get(header.key)? else { return Ok(None) };
        let same = held.info().with == header.poster && held.info().is_between(own, header.poster);
        if same && held.secret().is_some() { Ok(Some(held)) } else { Err(Refusal(Status::Exists)) }
    }

    /// Keeps a key; when this returns, it is durable.
    fn keep(&self, own: Principal, signal: &Signal, fetched: Fetched) -> Result<(), Refusal> {
        let header = signal.header();
        let origin = Origin::Exchanged { network: own.network, relays: signal.vouching() };
        let mut info = KeyInfo::new(header.key, header.poster, origin).with_own(own);
        if header.lifetime > 0 {
            info = info.with_expiry(SystemTime::now() + Duration::from_secs(header.lifetime.into()));
        }
        let Some(key) = StoredKey::new(info, fetched.key) else { return Err(Refusal(Status::Malformed)) };
        let keys = &self.0.keys;
        keys.store().install(&key)?;
        let ring = keys.store().keyring()?;
        // The newest come first; of those of one second the new one may not.
        let others = ring
            .between(own, header.poster)
            .filter(|key| key.info().is_exchanged() && key.id() != header.key);
        for old in others.skip(KEYS_PER_CLIENT - 1) {
            match keys.store().remove(old.id()) {
                Ok(()) | Err(StoreError::NoSuchKey { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Before the client hears of it: its next connection may come at once.
        keys.reload()?;
        Ok(())
    }
}

/// What the sender of a signal is told, and what is to be told here afterwards.
pub(crate) struct Told {
    pub(crate) status: Status,
    pub(crate) answer: Vec<u8>,
    pub(crate) kept: Option<Received>,
}

/// Why a signal leads to nothing, as its sender is told.
struct Refusal(Status);

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a key that a client exchanged cannot be kept");
        Self(match error {
            StoreError::IdTaken { .. } => Status::Exists,
            _ => Status::Failed,
        })
    }
}

/// One exchange under way. Whoever signals the same key waits for the one who came first.
struct Ongoing {
    client: Principal,
    begun: u64,
    fetch: Arc<tokio::sync::Mutex<Fetch>>,
}

/// The exchanges that a network works on.
#[derive(Default)]
pub(crate) struct Receiving {
    ongoing: Mutex<Fetches>,
    /// Relays that vouched for a post and then brought something else: how often.
    liars: [AtomicU64; RELAYS],
}

#[derive(Default)]
struct Fetches {
    count: u64,
    by_key: BTreeMap<KeyId, Ongoing>,
}

impl Fetches {
    /// The fetch of a signal: the one that goes on, or a fresh one. `None` if its client has its share of places.
    fn of(&mut self, signal: Signal) -> Option<Arc<tokio::sync::Mutex<Fetch>>> {
        let (id, client) = (signal.header().key, signal.header().poster);
        if let Some(ongoing) = self.by_key.get(&id) {
            return (ongoing.client == client).then(|| Arc::clone(&ongoing.fetch));
        }
        let oldest = |fetches: &Self, of: Option<Principal>| {
            let all = fetches.by_key.iter().filter(|(_, o)| of.is_none_or(|client| o.client == client));
            // One that somebody waits for is not forgotten.
            all.filter(|(_, o)| Arc::strong_count(&o.fetch) == 1)
                .min_by_key(|(_, o)| o.begun)
                .map(|(id, _)| *id)
        };
        if self.by_key.values().filter(|o| o.client == client).count() >= FETCHES_PER_CLIENT {
            let id = oldest(self, Some(client))?;
            self.by_key.remove(&id);
        }
        if self.by_key.len() >= FETCHES {
            let id = oldest(self, None)?;
            self.by_key.remove(&id);
        }
        let fetch = Arc::new(tokio::sync::Mutex::new(Fetch::new(signal, &mut OsRng)));
        self.count += 1;
        self.by_key.insert(id, Ongoing { client, begun: self.count, fetch: Arc::clone(&fetch) });
        Some(fetch)
    }
}

impl Receiving {
    fn fetches(&self) -> std::sync::MutexGuard<'_, Fetches> {
        self.ongoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often each relay lied about a post.
    pub(crate) fn liars(&self) -> [u64; RELAYS] {
        std::array::from_fn(|i| self.liars[i].load(Ordering::Relaxed))
    }
}

/// The keys with which the relays make receipts for this server.
pub(crate) fn receipt_keys(network: &Network) -> Box<[MacKey]> {
    let (own, _) = network.identity();
    let key = |path| ImportedKey::new(network.key().number(path), own, path, Role::Server).receipt_key();
    PathId::all().map(key).collect()
}

impl Network {
    /// Takes a signal, from a relay or from whoever else brings it; returns what its sender is told.
    ///
    /// The receipts come first: without sixteen genuine ones nothing is asked of anybody.
    pub(crate) async fn on_signal(self: &Arc<Self>, bytes: &[u8]) -> Told {
        match self.receive(bytes).await {
            Ok((confirmation, kept)) => Told { status: Status::Ok, answer: confirmation.to_vec(), kept },
            Err(Refusal(status)) => Told { status, answer: Vec::new(), kept: None },
        }
    }

    /// Tells of a key that was kept, once the answer is on its way: whoever waits for the key may end the program.
    pub(crate) fn tell_kept(&self, kept: Option<Received>) {
        if let (Some(kept), Some(receiver)) = (kept, self.key_receiver()) {
            receiver.0.received.send_replace(Some(kept));
        }
    }

    async fn receive(self: &Arc<Self>, bytes: &[u8]) -> Result<([u8; 32], Option<Received>), Refusal> {
        let (own, role) = self.identity();
        let Some(receiver) = self.key_receiver().filter(|_| role == Role::Server) else {
            return Err(Refusal(Status::NoSuchService));
        };
        let keys = self.receipt_keys();
        let signal = Signal::verify(bytes, own, |path| &keys[path.index()]).map_err(|error| {
            tracing::debug!(%error, "refused a signal");
            Refusal(match error {
                SignalError::NotVouched { .. } => Status::NotVouched,
                SignalError::NotForThis(_) => Status::NotFound,
                SignalError::Malformed(_) => Status::Malformed,
            })
        })?;
        let client = signal.header().poster;
        if let Err(denial) = self.admits(client) {
            tracing::info!(%client, %denial, "refused a key exchange");
            return Err(Refusal(Status::NotPermitted));
        }
        if self.keys().agreed_otherwise(own, client) {
            tracing::info!(%client, "refused a key exchange: a key that was agreed another way is there");
            return Err(Refusal(Status::NotPermitted));
        }
        let id = signal.header().key;
        let (confirm_with, header) = (signal.clone(), signal.header().clone());
        let Some(fetch) = self.receiving().fetches().of(signal) else { return Err(Refusal(Status::Busy)) };
        let mut fetch = fetch.lock().await;
        // Looked for with the fetch held: whoever came first may have kept it meanwhile.
        let held = blocking(receiver.clone(), move |receiver| receiver.held(own, &header)).await?;
        if let Some(secret) = held.as_ref().and_then(StoredKey::secret) {
            self.receiving().fetches().by_key.remove(&id);
            return Ok((confirm_with.confirmation(secret), None));
        }
        self.gather(&mut fetch).await;
        let fetched = match fetch.finish() {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::info!(%client, key = ?id, %error, "a key exchange failed");
                return Err(Refusal(Status::Failed));
            }
        };
        for relay in fetched.liars.iter() {
            self.receiving().liars[relay.index()].fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%relay, %client, "the relay vouched for a post and brought another share: it lies");
        }
        let confirmation = fetched.confirmation;
        let kept = Received { client, key: id, memo: fetched.memo.clone() };
        blocking(receiver, move |receiver| receiver.keep(own, &confirm_with, fetched)).await?;
        tracing::info!(%client, key = ?id, "a client exchanged a key");
        self.receiving().fetches().by_key.remove(&id);
        self.release(&fetch);
        Ok((confirmation, Some(kept)))
    }

    /// Asks the relays for what is missing, until sixteen shares are there and the others had a moment.
    async fn gather(self: &Arc<Self>, fetch: &mut Fetch) {
        let request: Arc<[u8]> = fetch.request().into();
        let mut asking = JoinSet::new();
        for path in fetch.ask().iter() {
            let (network, request) = (Arc::clone(self), Arc::clone(&request));
            asking.spawn(async move { (path, network.call(path, Service::GetKey, &request).await) });
        }
        let mut until = Instant::now() + FETCH_TIME;
        while let Ok(Some(done)) = timeout_at(until, asking.join_next()).await {
            let Ok((path, reply)) = done else { continue };
            // What is not given now may be at the next signal.
            if let Some((Status::Ok, entry)) = reply {
                fetch.handle(path, Some(&zeroize::Zeroizing::new(entry)));
            }
            if fetch.is_enough() {
                until = until.min(Instant::now() + GRACE);
            }
        }
    }

    /// Tells the relays that the shares may be erased. What they do not hear, time does.
    fn release(self: &Arc<Self>, fetch: &Fetch) {
        let request: Arc<[u8]> = fetch.request().into();
        for path in fetch.ask().iter() {
            let (network, request) = (Arc::clone(self), Arc::clone(&request));
            self.spawn(async move { _ = network.call(path, Service::ReleaseKey, &request).await });
        }
    }
}

/// Has the store work where it may block.
async fn blocking<T: Send + 'static>(
    receiver: KeyReceiver,
    work: impl FnOnce(&KeyReceiver) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(move || work(&receiver)).await.unwrap_or(Err(Refusal(Status::Failed)))
}
