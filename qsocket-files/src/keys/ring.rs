//! The Encryption keys of a store at one moment, and which of them a connection uses.

use super::{KeyState, StoredKey};
use qsocket_proto::ids::{KeyId, Principal};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

/// All Encryption keys of a store, as they were when it was read.
///
/// # Which key is used
/// To open a connection, the newest active key with the peer that has not expired: a key that took over from another
/// is newer than that, otherwise the later `created` counts, then the greater id. Accepted is every active one, and a
/// retired one until its time. A peer with whom there was a key and is none that may be used now is *known*: connections
/// with it are refused and not opened without a key.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: BTreeMap<KeyId, Arc<StoredKey>>,
    by_peer: BTreeMap<Principal, Vec<Arc<StoredKey>>>,
}

/// Keys with a peer are there, but none may open a connection.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "no Encryption key with {with} may be used any more: they are revoked, retired or expired; install a new one, or remove these to connect without"
)]
pub struct NoUsableKey {
    /// The peer.
    pub with: Principal,
}

impl Keyring {
    /// Of the keys, those that another one replaces become retired.
    pub(super) fn new(keys: impl IntoIterator<Item = StoredKey>) -> Self {
        let mut keys: BTreeMap<KeyId, StoredKey> = keys.into_iter().map(|key| (key.id(), key)).collect();
        let replaced: Vec<_> = keys
            .values()
            .map(StoredKey::info)
            .flat_map(|new| new.replaces.iter().map(|old| (*old, new.with, new.replaced_until)))
            .collect();
        for (id, with, until) in replaced {
            if let Some(key) = keys.remove(&id) {
                keys.insert(id, if key.info().with == with { retired(key, until) } else { key });
            }
        }
        let keys: BTreeMap<_, _> = keys.into_iter().map(|(id, key)| (id, Arc::new(key))).collect();
        let mut by_peer: BTreeMap<Principal, Vec<Arc<StoredKey>>> = BTreeMap::new();
        for key in keys.values() {
            by_peer.entry(key.info().with).or_default().push(key.clone());
        }
        for keys in by_peer.values_mut() {
            keys.sort_by_key(|key| Reverse((key.info().created, key.id())));
        }
        Self { keys, by_peer }
    }

    /// All keys, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<StoredKey>> {
        self.keys.values()
    }

    /// How many keys there are, whatever their state.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key of this id, whatever its state.
    pub fn get(&self, id: KeyId) -> Option<&Arc<StoredKey>> {
        self.keys.get(&id)
    }

    /// The keys between these two, the newest first.
    pub fn between(&self, own: Principal, with: Principal) -> impl Iterator<Item = &Arc<StoredKey>> {
        let keys = self.by_peer.get(&with).into_iter().flatten();
        keys.filter(move |key| key.info().is_between(own, with))
    }

    /// The key that `own` opens a connection to `with` with; `None` when there never was one.
    ///
    /// # Errors
    /// When there are keys and none may be used.
    pub fn opening(
        &self,
        own: Principal,
        with: Principal,
        at: SystemTime,
    ) -> Result<Option<&Arc<StoredKey>>, NoUsableKey> {
        match self.between(own, with).find(|key| key.info().opens(at)) {
            Some(key) => Ok(Some(key)),
            None if self.knows(own, with) => Err(NoUsableKey { with }),
            None => Ok(None),
        }
    }

    /// The key that `with` names in a connection to `own`, if it may be used.
    pub fn accepting(
        &self,
        own: Principal,
        with: Principal,
        id: KeyId,
        at: SystemTime,
    ) -> Option<&Arc<StoredKey>> {
        self.get(id).filter(|key| key.info().is_between(own, with) && key.info().accepts(at))
    }

    /// Whether there is any key between these two, whatever its state: then connections need one.
    pub fn knows(&self, own: Principal, with: Principal) -> bool {
        self.between(own, with).next().is_some()
    }
}

/// A key that another one took over from.
pub(super) fn retired(key: StoredKey, until: Option<SystemTime>) -> StoredKey {
    match key.info().state {
        KeyState::Active => key.in_state(KeyState::Retired { until }),
        KeyState::Retired { .. } | KeyState::Revoked => key,
    }
}
