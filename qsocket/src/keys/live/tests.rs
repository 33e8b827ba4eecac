use super::*;
use crate::keys::{KeyInfo, KeyState, Origin, StoredKey};
use std::fs;

const OWN: Principal = Principal { network: 1, denomination: 0, serial: 1042 };
const PEER: Principal = Principal { network: 1, denomination: 0, serial: 7 };

fn stored(n: u8) -> StoredKey {
    let info = KeyInfo::new(KeyId([n; 16]), PEER, Origin::Generated);
    StoredKey::new(info, EncryptionKey::import(&[n; 32]).unwrap()).unwrap()
}

fn listed(n: u8) -> Arc<SharedKey> {
    Arc::new(stored(n).shared().unwrap())
}

fn folder() -> (tempfile::TempDir, Arc<LiveKeys>) {
    let dir = tempfile::tempdir().unwrap();
    let keys = LiveKeys::of(KeyStore::create(dir.path().join("keys")).unwrap()).unwrap();
    (dir, keys)
}

fn opens(keys: &Keys) -> Result<Option<u8>, NoUsableKey> {
    Ok(keys.opening(OWN, PEER, SystemTime::now())?.map(|(id, _)| id.0[0]))
}

fn accepts(keys: &Keys, n: u8) -> bool {
    keys.accepting(OWN, PEER, KeyId([n; 16]), SystemTime::now()).is_some()
}

#[test]
fn changes_count_once_the_folder_is_read_again() {
    let (_dir, live) = folder();
    live.store().install(&stored(1)).unwrap();
    assert!(live.keyring().is_empty());
    live.reload().unwrap();
    assert_eq!(live.keyring().len(), 1);
    for n in 2..6 {
        live.store().install(&stored(n)).unwrap();
        assert!(live.reload_if_changed().unwrap());
        assert_eq!(live.keyring().len(), usize::from(n));
        assert!(!live.reload_if_changed().unwrap());
    }
}

#[test]
fn a_folder_that_changed_just_now_is_read_once_more() {
    let (_dir, live) = folder();
    let store = live.store();
    assert!(look(store, SystemTime::now()).is_some(), "nothing was ever written");
    store.install(&stored(1)).unwrap();
    let changed = store.encryption_folder().metadata().unwrap().modified().unwrap();
    assert!(look(store, changed).is_none());
    assert!(look(store, changed + SETTLES_WITHIN / 2).is_none());
    assert!(look(store, changed + SETTLES_WITHIN).is_some());
    // A clock that was set back does not have it read for ever.
    assert!(look(store, changed - Duration::from_secs(3600)).is_some());
}

#[test]
fn a_folder_that_looks_the_same_is_not_read() {
    let (_dir, live) = folder();
    live.store().install(&stored(1)).unwrap();
    let inside = fs::File::open(live.store().encryption_folder()).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    inside.set_modified(long_ago).unwrap();
    live.reload().unwrap();
    // Damaged where it stands, which no store does: nobody looks.
    fs::write(live.store().encryption_file(KeyId([1; 16])), "damaged").unwrap();
    assert!(!live.reload_if_changed().unwrap());
    // Another key comes, and the damage shows; what was in force stays.
    live.store().install(&stored(2)).unwrap();
    assert!(live.reload_if_changed().is_err());
    assert_eq!(live.keyring().len(), 1);
    live.store().remove(KeyId([1; 16])).unwrap();
    assert!(live.reload_if_changed().unwrap());
    assert!(live.keyring().get(KeyId([2; 16])).is_some());
}

#[test]
fn what_the_folder_says_of_a_key_counts() {
    let (_dir, live) = folder();
    let keys = Keys::new(vec![listed(1), listed(2)], Some(live.clone()));
    assert_eq!(opens(&keys), Ok(Some(1)), "the folder knows none");
    assert!(accepts(&keys, 1) && accepts(&keys, 2) && !accepts(&keys, 3));

    live.store().install(&stored(3)).unwrap();
    live.store().install(&stored(1)).unwrap();
    live.store().revoke(KeyId([1; 16])).unwrap();
    live.reload().unwrap();
    assert_eq!(opens(&keys), Ok(Some(3)), "a key of the folder goes before those listed");
    assert!(!accepts(&keys, 1), "revoked, whoever lists it");
    assert!(accepts(&keys, 2) && accepts(&keys, 3));

    live.store().revoke(KeyId([3; 16])).unwrap();
    live.reload().unwrap();
    assert_eq!(opens(&keys), Ok(Some(2)));
    let alone = Keys::new(vec![listed(1)], Some(live));
    assert_eq!(opens(&alone), Err(NoUsableKey { with: PEER }));
    assert!(alone.knows(OWN, PEER));
}

#[test]
fn without_a_folder_the_list_counts() {
    let keys = Keys::new(vec![listed(4)], None);
    assert_eq!(opens(&keys), Ok(Some(4)));
    assert!(accepts(&keys, 4) && !accepts(&keys, 5) && keys.knows(OWN, PEER));
    assert!(!keys.knows(PEER, OWN));
    let none = Keys::new(Vec::new(), None);
    assert_eq!(opens(&none), Ok(None));
    let revoked = stored(4).in_state(KeyState::Revoked);
    assert!(revoked.shared().is_none(), "a revoked key cannot be listed");
}
