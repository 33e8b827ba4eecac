//! A folder of keys that may change while endpoints use it.

use super::{EncryptionKey, KeyStore, Keyring, NoUsableKey, SharedKey, StoreError};
use crate::look::{LOOK_EVERY, Look};
use qsocket_proto::ids::{KeyId, Principal};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// File systems tell times in steps of some milliseconds: a folder that changed less than this ago may change again without
/// looking different, so it is read once more.
const SETTLES_WITHIN: Duration = Duration::from_millis(100);

/// The Encryption keys of a folder, for endpoints: a key that is installed, retired or revoked while they run counts for
/// the next connection.
///
/// An endpoint whose configuration has it looks after the folder by itself, four times a second; [`reload`](Self::reload)
/// does it at once. A client's next stream then uses a connection with the key that counts; streams that run go on with
/// the key that they began with.
#[derive(Debug)]
pub struct LiveKeys {
    store: KeyStore,
    ring: RwLock<Arc<Keyring>>,
    seen: Mutex<Option<Seen>>,
}

/// What the folder, and the one for Encryption keys in it, looked like when they were read last.
type Seen = (Look, Option<Look>);

impl LiveKeys {
    /// Reads a folder. Blocks on the file system.
    ///
    /// # Errors
    /// Those of [`KeyStore::open`] and [`KeyStore::keyring`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Arc<Self>, StoreError> {
        Self::of(KeyStore::open(path)?)
    }

    /// As [`open`](Self::open), for a store that is open.
    ///
    /// # Errors
    /// Those of [`KeyStore::keyring`].
    pub fn of(store: KeyStore) -> Result<Arc<Self>, StoreError> {
        // Looked at before it is read: a change in between is found by the next look.
        let seen = look(&store, SystemTime::now());
        let ring = RwLock::new(Arc::new(store.keyring()?));
        Ok(Arc::new(Self { store, ring, seen: Mutex::new(seen) }))
    }

    /// The folder, to change it. Changes count after [`reload`](Self::reload) or within a quarter of a second.
    pub fn store(&self) -> &KeyStore {
        &self.store
    }

    /// The keys in force.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the folder again. When it returns, the next connection uses what stands there. Blocks on the file system, and
    /// for as long as another process changes the folder.
    ///
    /// # Errors
    /// Those of [`KeyStore::keyring`]; the keys in force stay.
    pub fn reload(&self) -> Result<(), StoreError> {
        let mut seen = self.seen();
        *seen = look(&self.store, SystemTime::now());
        self.replace(self.store.keyring()?);
        Ok(())
    }

    /// Reads the folder again if it changed since. Blocks as [`reload`](Self::reload). True if other keys are in force now.
    ///
    /// # Errors
    /// As [`reload`](Self::reload), once for each state of the folder.
    pub fn reload_if_changed(&self) -> Result<bool, StoreError> {
        let mut seen = self.seen();
        let now = look(&self.store, SystemTime::now());
        if now.is_some() && now == *seen {
            return Ok(false);
        }
        *seen = now;
        Ok(self.replace(self.store.keyring()?))
    }

    fn replace(&self, ring: Keyring) -> bool {
        let mut current = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let same = current.len() == ring.len()
            && current.iter().zip(ring.iter()).all(|(old, new)| old.info() == new.info());
        *current = Arc::new(ring);
        !same
    }

    /// Looks after the folder for as long as it is polled: what changed is in force within a quarter of a second; a folder
    /// that is refused is logged, and the keys in force stay.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let keys = self.clone();
            match tokio::task::spawn_blocking(move || keys.reload_if_changed()).await {
                Ok(Ok(true)) => {
                    tracing::info!(folder = %self.store.path().display(), "took changed keys into force")
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "keep the keys in force: the changed folder is refused")
                }
                // Only a runtime that ends cancels it.
                Err(_) => return,
            }
        }
    }

    /// Held while the folder is read, so that an older state never replaces a newer one.
    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// None when the folder may still change without looking different, or cannot be looked at.
fn look(store: &KeyStore, now: SystemTime) -> Option<Seen> {
    let inside = store.encryption_folder();
    let changed = inside.metadata().and_then(|meta| meta.modified());
    let since = changed.map(|at| match now.duration_since(at) {
        Ok(age) => age,
        Err(ahead) => ahead.duration(),
    });
    if since.is_ok_and(|since| since < SETTLES_WITHIN) {
        return None;
    }
    Some((Look::at(store.path()).ok()?, Look::at(&inside).ok()))
}

/// What an endpoint has: keys that its configuration names one by one, and a folder. What the folder says of an id counts.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    listed: Vec<Arc<SharedKey>>,
    folder: Option<Arc<LiveKeys>>,
}

impl Keys {
    pub(crate) fn new(listed: Vec<Arc<SharedKey>>, folder: Option<Arc<LiveKeys>>) -> Self {
        Self { listed, folder }
    }

    fn ring(&self) -> Option<Arc<Keyring>> {
        self.folder.as_ref().map(|folder| folder.keyring())
    }

    /// A listed key with this peer that the folder does not know.
    fn listed(&self, ring: Option<&Keyring>, with: Principal) -> impl Iterator<Item = &Arc<SharedKey>> {
        let unknown = move |key: &&Arc<SharedKey>| ring.is_none_or(|ring| ring.get(key.id()).is_none());
        self.listed.iter().filter(move |key| key.with() == with).filter(unknown)
    }

    /// The key for a new connection from `own`, a principal of this endpoint, to `with`.
    pub(crate) fn opening(
        &self,
        own: Principal,
        with: Principal,
        now: SystemTime,
    ) -> Result<Option<(KeyId, Arc<EncryptionKey>)>, NoUsableKey> {
        let ring = self.ring();
        let in_folder = ring.as_ref().map_or(Ok(None), |ring| ring.opening(own, with, now));
        if let Ok(Some(key)) = in_folder {
            return Ok(key.secret().map(|secret| (key.id(), secret.clone())));
        }
        match self.listed(ring.as_deref(), with).next() {
            Some(key) => Ok(Some((key.id(), key.secret().clone()))),
            None => in_folder.map(|_| None),
        }
    }

    /// The key of this id for a connection that `with` opens to `own`.
    pub(crate) fn accepting(
        &self,
        own: Principal,
        with: Principal,
        id: KeyId,
        now: SystemTime,
    ) -> Option<Arc<EncryptionKey>> {
        let ring = self.ring();
        if let Some(key) = ring.as_ref().and_then(|ring| ring.accepting(own, with, id, now)) {
            return key.secret().cloned();
        }
        self.listed(ring.as_deref(), with).find(|key| key.id() == id).map(|key| key.secret().clone())
    }

    /// Whether there is a key between these two, whatever its state, that came there another way than by an exchange
    /// through the relays.
    pub(crate) fn agreed_otherwise(&self, own: Principal, with: Principal) -> bool {
        let ring = self.ring();
        let in_folder = |ring: &Arc<Keyring>| ring.between(own, with).any(|key| !key.info().is_exchanged());
        ring.as_ref().is_some_and(in_folder) || self.listed(ring.as_deref(), with).next().is_some()
    }

    /// Whether connections between these two need a key.
    pub(crate) fn knows(&self, own: Principal, with: Principal) -> bool {
        self.listed.iter().any(|key| key.with() == with)
            || self.ring().is_some_and(|ring| ring.knows(own, with))
    }
}

#[cfg(test)]
mod tests;
