use super::*;
use crate::keys::{
    EncryptionKey, KeyInfo, NoUsableKey, Origin, SharedKey, file, load_stored_key, save_encryption_key,
};
use crate::provision::Provision;
use qsocket_proto::ids::{PathId, PathSet};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::SystemTime;
use tempfile::TempDir;

const OWN: Principal = Principal { network: 1, denomination: 0, serial: 1042 };
const PEER: Principal = Principal { network: 1, denomination: 0, serial: 7 };
const OTHER: Principal = Principal { network: 1, denomination: 0, serial: 8 };

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A key whose id and secret are this byte repeated, that came at this second.
fn key(n: u8, with: Principal) -> StoredKey {
    let info =
        KeyInfo { created: Some(at(n.into())), ..KeyInfo::new(KeyId([n; 16]), with, Origin::Generated) };
    StoredKey::new(info.with_own(OWN), EncryptionKey::import(&[n; 32]).unwrap()).unwrap()
}

fn id(n: u8) -> KeyId {
    KeyId([n; 16])
}

fn store() -> (TempDir, KeyStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = KeyStore::create(dir.path().join("keys")).unwrap();
    (dir, store)
}

fn opening(store: &KeyStore, with: Principal, now: u64) -> Option<u8> {
    let ring = store.keyring().unwrap();
    ring.opening(OWN, with, at(now)).unwrap().map(|key| key.id().0[0])
}

fn accepts(store: &KeyStore, n: u8, now: u64) -> bool {
    store.keyring().unwrap().accepting(OWN, PEER, id(n), at(now)).is_some()
}

#[test]
fn what_is_installed_is_found_as_it_was() {
    let (_dir, store) = store();
    let relays = PathId::all().skip(3).collect::<PathSet>();
    let info = KeyInfo::new(id(9), PEER, Origin::Exchanged { network: 3, relays })
        .with_own(OWN)
        .with_name("dns.example:53".parse().unwrap())
        .with_expiry(at(4_000_000_000));
    let exchanged = StoredKey::new(info, EncryptionKey::import(&[9; 32]).unwrap()).unwrap();
    assert_eq!(store.install(&exchanged).unwrap(), Installed::New);
    let found = KeyStore::open(store.path()).unwrap().get(id(9)).unwrap().unwrap();
    assert_eq!(found.info(), exchanged.info());
    assert_eq!(found.secret().unwrap().expose(), &[9; 32]);
    let meta = fs::metadata(store.encryption_file(id(9))).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o600);
    for folder in [store.path(), &store.path().join("encryption")] {
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o7777, 0o700);
    }
    assert!(store.get(id(8)).unwrap().is_none());
}

#[test]
fn an_id_is_never_overwritten() {
    let (_dir, store) = store();
    store.install(&key(1, PEER)).unwrap();
    assert_eq!(store.install(&key(1, PEER)).unwrap(), Installed::Same);
    let before = fs::read(store.encryption_file(id(1))).unwrap();
    let other_secret =
        StoredKey::new(key(1, PEER).info().clone(), EncryptionKey::import(&[2; 32]).unwrap()).unwrap();
    for other in [other_secret, key(1, OTHER)] {
        assert!(matches!(store.install(&other), Err(StoreError::IdTaken { revoked: false, .. })));
        assert!(matches!(store.rotate(&other, None), Err(StoreError::IdTaken { .. })));
    }
    assert_eq!(fs::read(store.encryption_file(id(1))).unwrap(), before);
    assert_eq!(fs::read_dir(store.path().join("encryption")).unwrap().count(), 1);

    store.revoke(id(1)).unwrap();
    let e = store.install(&key(1, PEER)).unwrap_err();
    assert!(e.to_string().contains("was revoked"), "{e}");
    assert_eq!(io::Error::from(e).kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn the_newest_key_opens_and_all_active_ones_are_accepted() {
    let (_dir, store) = store();
    assert_eq!(opening(&store, PEER, 100), None);
    for n in [2, 3, 1] {
        store.install(&key(n, PEER)).unwrap();
    }
    store.install(&key(9, OTHER)).unwrap();
    assert_eq!(opening(&store, PEER, 100), Some(3));
    assert_eq!(opening(&store, OTHER, 100), Some(9));
    assert!([1, 2, 3].into_iter().all(|n| accepts(&store, n, 100)));
    assert!(!accepts(&store, 9, 100), "a key with another peer");
    let ring = store.keyring().unwrap();
    assert!(ring.opening(OTHER, PEER, at(100)).unwrap().is_none(), "a key of another principal of ours");
    assert!(ring.knows(OWN, PEER) && !ring.knows(OTHER, PEER));
}

#[test]
fn a_rotation_retires_the_keys_before() {
    let (_dir, store) = store();
    for key in [key(1, PEER), key(2, PEER), key(3, OTHER)] {
        store.install(&key).unwrap();
    }
    // Older by its date, and takes over all the same: clocks are set.
    let mut old = store.rotate(&key(0x0a, PEER), Some(at(500))).unwrap();
    old.sort();
    assert_eq!(old, [id(1), id(2)]);
    assert_eq!(opening(&store, PEER, 100), Some(0x0a));
    assert_eq!(opening(&store, OTHER, 100), Some(3));
    assert!(accepts(&store, 1, 499) && !accepts(&store, 1, 500));
    assert!(accepts(&store, 0x0a, 500));
    let state = load_stored_key(store.encryption_file(id(1))).unwrap().info().state;
    assert_eq!(state, KeyState::Retired { until: Some(at(500)) }, "its own file says so");

    // Without an end the old one stays until it is removed; what is retired already keeps its end.
    assert_eq!(store.rotate(&key(0x0b, PEER), None).unwrap(), [id(0x0a)]);
    assert_eq!(store.rotate(&key(0x0b, PEER), None).unwrap(), [id(0x0a)], "again, after a crash perhaps");
    assert!(accepts(&store, 0x0a, 1 << 40) && !accepts(&store, 1, 500));
    assert!(matches!(store.rotate(&key(0x0a, PEER), None), Err(StoreError::NotActive { .. })));
    store.remove(id(0x0b)).unwrap();
    assert!(accepts(&store, 0x0a, 100));
    let ring = store.keyring().unwrap();
    assert_eq!(ring.opening(OWN, PEER, at(100)).unwrap_err(), NoUsableKey { with: PEER });
}

#[test]
fn a_key_that_stood_beside_others_can_take_over_later() {
    let (_dir, store) = store();
    store.install(&key(2, PEER)).unwrap();
    store.install(&key(1, PEER)).unwrap();
    assert_eq!(store.rotate(&key(1, PEER), None).unwrap(), [id(2)]);
    assert_eq!(opening(&store, PEER, 100), Some(1));
    assert!(accepts(&store, 2, 100));
}

#[test]
fn an_import_retires_nobody() {
    let (_dir, store) = store();
    store.install(&key(1, PEER)).unwrap();
    store.install(&key(3, OTHER)).unwrap();
    let claims = key(2, PEER).replacing(vec![id(1), id(3)], None);
    store.install(&claims).unwrap();
    assert!(accepts(&store, 1, 100));
    assert!(store.keyring().unwrap().iter().all(|key| key.info().state == KeyState::Active));
    // Even a file that was put there by hand retires keys with its own peer only.
    let text = format::encryption::write(&claims);
    fs::write(store.encryption_file(id(2)), text.as_bytes()).unwrap();
    assert_eq!(opening(&store, OTHER, 100), Some(3));
}

#[test]
fn a_revoked_key_is_gone_and_its_peer_still_needs_one() {
    let (_dir, store) = store();
    store.install(&key(1, PEER)).unwrap();
    let kept_open = fs::File::open(store.encryption_file(id(1))).unwrap();
    assert!(store.revoke(id(1)).unwrap());
    assert!(!store.revoke(id(1)).unwrap());
    assert!(!accepts(&store, 1, 100));
    let ring = store.keyring().unwrap();
    assert!(ring.opening(OWN, PEER, at(100)).is_err() && ring.knows(OWN, PEER));
    let found = store.get(id(1)).unwrap().unwrap();
    assert!(found.secret().is_none() && found.shared().is_none());
    assert!(!fs::read_to_string(store.encryption_file(id(1))).unwrap().contains(&"01".repeat(32)));
    let old = io::read_to_string(kept_open).unwrap();
    assert!(old.bytes().all(|b| b == 0), "what stood there is overwritten");

    store.install(&key(2, PEER)).unwrap();
    assert_eq!(opening(&store, PEER, 100), Some(2));
    store.remove(id(2)).unwrap();
    store.remove(id(1)).unwrap();
    assert!(!store.keyring().unwrap().knows(OWN, PEER));
    assert!(matches!(store.remove(id(1)), Err(StoreError::NoSuchKey { .. })));
    assert!(matches!(store.revoke(id(1)), Err(StoreError::NoSuchKey { .. })));
}

#[test]
fn a_key_that_has_expired_is_used_for_nothing() {
    let (_dir, store) = store();
    let info = key(1, PEER).info().clone().with_expiry(at(200));
    store.install(&StoredKey::new(info, EncryptionKey::import(&[1; 32]).unwrap()).unwrap()).unwrap();
    assert_eq!(opening(&store, PEER, 199), Some(1));
    assert!(accepts(&store, 1, 199) && !accepts(&store, 1, 200));
    assert!(store.keyring().unwrap().opening(OWN, PEER, at(200)).is_err());
}

#[test]
fn raida_keys_are_kept_by_principal_and_role() {
    let (_dir, store) = store();
    let raida = Provision::generate(1, 1, 1).unwrap();
    let [client, server] = [&raida.clients[0], &raida.servers[0]];
    assert_eq!(store.install_raida_key(client).unwrap(), Installed::New);
    assert_eq!(store.install_raida_key(server).unwrap(), Installed::New);
    assert_eq!(store.install_raida_key(client).unwrap(), Installed::Same);
    let other = &Provision::generate(1, 1, 0).unwrap().clients[0];
    assert!(matches!(store.install_raida_key(other), Err(StoreError::RaidaKeyTaken { .. })));
    assert!(store.raida_key(client.principal(), client.role()).unwrap().same_numbers(client));
    assert!(matches!(store.raida_key(client.principal(), Role::Server), Err(StoreError::NoSuchKey { .. })));
    let found: Vec<_> = store.contents().unwrap().raida;
    let shown: Vec<_> = found.iter().map(|key| (key.principal, key.role, key.strength)).collect();
    assert_eq!(
        shown,
        [
            (client.principal(), Role::Client, Strength::Bits256),
            (server.principal(), Role::Server, Strength::Bits256)
        ]
    );
    store.remove_raida_key(client.principal(), Role::Client).unwrap();
    assert_eq!(store.contents().unwrap().raida.len(), 1);
}

#[test]
fn folders_that_others_can_enter_are_refused_with_the_command() {
    let (_dir, store) = store();
    store.install(&key(1, PEER)).unwrap();
    for folder in [store.path().to_owned(), store.path().join("encryption"), store.path().join("raida")] {
        for mode in [0o750, 0o701, 0o755, 0o1777] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            let e = store.keyring().unwrap_err();
            assert!(e.to_string().ends_with(&format!("run: chmod 700 {}", folder.display())), "{e}");
            assert_eq!(e.kind(), io::ErrorKind::PermissionDenied);
            assert!(store.install(&key(2, PEER)).is_err());
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(store.keyring().unwrap().len(), 1);
}

#[test]
fn folders_in_the_store_are_no_links() {
    let (dir, store) = store();
    store.install(&key(1, PEER)).unwrap();
    let (inside, outside) = (store.path().join("encryption"), dir.path().join("elsewhere"));
    fs::rename(&inside, &outside).unwrap();
    symlink(&outside, &inside).unwrap();
    let e = store.keyring().unwrap_err();
    // Linux says ENOTDIR when both NOFOLLOW and DIRECTORY are asked for.
    assert!(matches!(e, StoreError::File(_)), "{e}");
    assert!(store.install(&key(2, PEER)).is_err());
    // The store itself may be reached through one.
    fs::remove_file(&inside).unwrap();
    fs::rename(&outside, &inside).unwrap();
    let link = dir.path().join("link");
    symlink(store.path(), &link).unwrap();
    assert_eq!(KeyStore::open(link).unwrap().keyring().unwrap().len(), 1);
}

#[test]
fn a_refused_file_stops_connections_and_not_the_list() {
    let (_dir, store) = store();
    store.install(&key(1, PEER)).unwrap();
    store.install(&key(2, PEER)).unwrap();
    let damaged = store.encryption_file(id(2));
    fs::write(&damaged, "kind = \"encryption-key\"\nversion = 1\nid = \"x\"\n").unwrap();
    let e = store.keyring().unwrap_err().to_string();
    assert!(e.starts_with(&format!("{}:3: id: 1 characters where 32", damaged.display())), "{e}");
    let contents = store.contents().unwrap();
    assert_eq!((contents.encryption.len(), contents.problems.len()), (1, 1));
    // It hides no key with the same peer that a rotation should retire.
    assert!(store.rotate(&key(3, PEER), None).is_err());
    store.remove(id(2)).unwrap();
    assert_eq!(store.keyring().unwrap().len(), 1);

    let wrong = store.encryption_file(id(4));
    fs::rename(store.encryption_file(id(1)), &wrong).unwrap();
    let e = store.keyring().unwrap_err().to_string();
    assert!(e.contains(&format!("must be called {:?}.toml; rename it", id(1))), "{e}");
}

#[test]
fn files_from_before_stores_are_keys_too() {
    let (_dir, store) = store();
    store.install(&key(1, PEER)).unwrap();
    let shared = SharedKey::new(id(5), PEER, EncryptionKey::import(&[5; 32]).unwrap()).unwrap();
    save_encryption_key(store.encryption_file(id(5)), &shared).unwrap();
    let found = store.get(id(5)).unwrap().unwrap();
    assert_eq!((found.info().origin, found.info().created), (Origin::PreShared, None));
    assert_eq!(opening(&store, PEER, 100), Some(1), "it counts as the oldest");
    assert!(accepts(&store, 5, 100));
}

#[test]
fn a_folder_that_another_process_holds_is_waited_for_and_not_for_ever() {
    let (_dir, store) = store();
    store.install(&key(1, PEER)).unwrap();
    let folder = fs::File::open(store.path()).unwrap();
    folder.lock_shared().unwrap();
    assert_eq!(store.keyring().unwrap().len(), 1, "readers share");
    folder.unlock().unwrap();
    folder.lock().unwrap();
    let hasty = store.clone().with_lock_wait(Duration::from_millis(20));
    let begun = std::time::Instant::now();
    for e in [hasty.keyring().unwrap_err(), hasty.install(&key(2, PEER)).unwrap_err()] {
        assert!(matches!(e, StoreError::Busy { .. }) && e.to_string().contains("fuser -v"), "{e}");
    }
    assert!(begun.elapsed() >= Duration::from_millis(40));
    let waiting = std::thread::spawn({
        let store = store.clone();
        move || store.install(&key(2, PEER))
    });
    drop(folder);
    assert_eq!(waiting.join().unwrap().unwrap(), Installed::New);
}

const CHILD: &str = "QSOCKET_TEST_STORE";

/// Runs one test of this program in a process of its own.
fn child(test: &str, job: &str, store: &KeyStore) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("keys::store::tests::{test}"), "--nocapture"]);
    command.env(CHILD, format!("{job} {}", store.path().display()));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// What this process is to do if it is a child: the words of the job, and the store.
fn job() -> Option<(Vec<String>, KeyStore)> {
    let job = std::env::var(CHILD).ok()?;
    let (words, path) = job.rsplit_once(' ').unwrap();
    Some((words.split(' ').map(str::to_owned).collect(), KeyStore::open(path).unwrap()))
}

fn act(what: &str, store: &KeyStore) {
    match what {
        "install" => _ = store.install(&key(2, PEER)).unwrap(),
        "raida" => _ = store.install_raida_key(&raida_key()).unwrap(),
        "rotate" => _ = store.rotate(&key(2, PEER), Some(at(500))).unwrap(),
        "revoke" => _ = store.revoke(id(1)).unwrap(),
        "remove" => store.remove(id(1)).unwrap(),
        other => panic!("{other}"),
    }
}

fn raida_key() -> RaidaKey {
    let numbers = (1..=25).map(|n| qsocket_proto::crypto::schedule::hop::AuthenticityNumber::new(&[n; 32]));
    RaidaKey::new(OWN, Role::Client, numbers.map(Result::unwrap).collect()).unwrap()
}

/// What can be told of a store from outside.
fn seen(store: &KeyStore) -> (Vec<(u8, KeyState)>, usize, Option<u8>) {
    let contents = store.contents().unwrap();
    assert!(contents.problems.is_empty(), "{:?}", contents.problems);
    let keys = contents.encryption.iter().map(|key| (key.id().0[0], key.info().state)).collect();
    let opens = contents.encryption.opening(OWN, PEER, at(100)).ok().flatten().map(|key| key.id().0[0]);
    (keys, contents.raida.len(), opens)
}

fn leftovers(store: &KeyStore) -> usize {
    let in_folder = |folder: &str| fs::read_dir(store.path().join(folder)).into_iter().flatten();
    let entries = in_folder("raida").chain(in_folder("encryption")).map(Result::unwrap);
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count()
}

/// A process dies at every step of every operation, for real: the store is as it was before or as it is behind the
/// operation, the next operation works, and nothing is left over.
#[test]
fn a_kill_at_any_step_leaves_the_store_before_or_behind() {
    const THIS: &str = "a_kill_at_any_step_leaves_the_store_before_or_behind";
    if let Some((words, store)) = job() {
        file::kill::at(words[1].parse().unwrap());
        act(&words[0], &store);
        return;
    }
    // With a retired key, so that rotating writes more than one file.
    let begin = || {
        let (dir, store) = store();
        store.install(&key(1, PEER)).unwrap();
        (dir, store)
    };
    for (operation, fewest) in [("install", 6), ("raida", 6), ("rotate", 14), ("revoke", 7), ("remove", 5)] {
        let (_dir, store) = begin();
        let before = seen(&store);
        act(operation, &store);
        let behind = seen(&store);
        assert_ne!(before, behind);
        let mut found = BTreeSet::new();
        let mut left = 0;
        for step in 0.. {
            let (_dir, store) = begin();
            let status = child(THIS, &format!("{operation} {step}"), &store).status().unwrap();
            let now = seen(&store);
            if status.success() {
                assert_eq!(now, behind);
                assert!(step >= fewest, "{operation} has {step} steps only");
                break;
            }
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{operation} {step}");
            assert!(now == before || now == behind, "{operation} {step}: {now:?}");
            found.insert(now == behind);
            left += leftovers(&store);
            // The next writer goes on, and so does who repeats the operation.
            store.install(&key(9, OTHER)).unwrap();
            assert_eq!(leftovers(&store), 0, "{operation} {step}");
            if now == before {
                act(operation, &store);
            } else if operation == "rotate" {
                assert_eq!(store.rotate(&key(2, PEER), None).unwrap(), [id(1)], "{step}");
                assert!(!accepts(&store, 1, 500), "with the end of the first time");
            }
            store.remove(id(9)).unwrap();
            assert_eq!(seen(&store), behind, "{operation} {step}");
        }
        assert_eq!(found.len(), 2, "{operation}: some deaths come before and some behind its effect");
        assert!(left > 0, "{operation} leaves something that has to be cleaned up");
    }
}

/// Eight processes install, rotate, revoke and remove at once, while this one reads.
#[test]
fn many_processes_use_one_folder() {
    const THIS: &str = "many_processes_use_one_folder";
    const EACH: u8 = 6;
    if let Some((words, store)) = job() {
        let n: u8 = words[1].parse().unwrap();
        let with = Principal { serial: n.into(), ..PEER };
        for i in 0..EACH {
            if i == EACH / 2 {
                // The end of the input says that the reader had its turns.
                io::stdin().read_line(&mut String::new()).unwrap();
            }
            let this = key(n * 16 + i, with);
            store.install(&this).unwrap();
            // All contend for this one; one of them makes it.
            store.install(&key(0xf0 + i, Principal { serial: 99, ..PEER })).unwrap();
            if i > 0 {
                assert_eq!(store.rotate(&this, None).unwrap(), [id(n * 16 + i - 1)]);
            }
        }
        store.revoke(id(n * 16)).unwrap();
        store.remove(id(n * 16 + 1)).unwrap();
        return;
    }
    let (_dir, store) = store();
    let mut children: Vec<_> = (1..=8)
        .map(|n| child(THIS, &format!("work {n}"), &store).stdin(Stdio::piped()).spawn().unwrap())
        .collect();
    let mut reads = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        let contents = store.contents().unwrap();
        assert!(contents.problems.is_empty(), "{:?}", contents.problems);
        for n in 1..=8 {
            let with = Principal { serial: n, ..PEER };
            let ring = &contents.encryption;
            assert!(!ring.knows(OWN, with) || ring.opening(OWN, with, at(1000)).is_ok(), "{n} has no key");
        }
        reads += 1;
        if reads == 2 {
            children.iter_mut().for_each(|child| drop(child.stdin.take()));
        }
    }
    assert!(reads > 1, "{reads}");
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    let ring = store.keyring().unwrap();
    assert_eq!(ring.len(), 8 * (usize::from(EACH) - 1) + usize::from(EACH));
    for n in 1..=8 {
        let with = Principal { serial: n, ..PEER };
        let opens = ring.opening(OWN, with, at(1000)).unwrap().unwrap().id();
        assert_eq!(opens, id(n as u8 * 16 + EACH - 1));
        assert!(ring.get(id(n as u8 * 16)).unwrap().secret().is_none());
    }
    assert_eq!(leftovers(&store), 0);
}

#[test]
fn the_lock_is_given_back_by_the_dead() {
    let (_dir, store) = store();
    store.install(&key(1, PEER)).unwrap();
    let status = child("a_kill_at_any_step_leaves_the_store_before_or_behind", "install 0", &store).status();
    assert!(!status.unwrap().success());
    let begun = std::time::Instant::now();
    store.install(&key(2, PEER)).unwrap();
    assert!(begun.elapsed() < LOCK_WAIT);
}
