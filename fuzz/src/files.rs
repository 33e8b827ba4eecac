//! Files that people write: keys, enrolment, settings.

use qsocket_files::keys::cloudcoin::{self, CoinError, NeverUsedElsewhere};
use qsocket_files::keys::enrolment::{answer_text, load_answer, load_request, read_request, save_request};
use qsocket_files::keys::sealed::{Exported, load_exported, read_exported};
use qsocket_files::keys::{
    KeyFileError, load_encryption_key, load_number, load_raida_key, load_stored_key, save_raida_key,
    save_stored_key,
};
use qsocket_files::provision::Provision;
use qsocket_files::settings::SettingsFile;
use qsocket_proto::ids::{PathId, Role};
use qsocket_proto::raida_key::{RaidaKey, Strength};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A hexadecimal run as long as this is a secret, or a good part of one.
const SECRET_DIGITS: usize = 16;

thread_local! {
    /// A folder that nobody else can write to, with a key that settings may name.
    static FOLDER: tempfile::TempDir = {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = Provision::generate_with(1, 1, 0, Strength::Bits256, &mut ChaCha8Rng::seed_from_u64(4)).expect("one client");
        let key: &RaidaKey = key.keys().next().expect("one client");
        save_raida_key(folder.path().join("key.toml"), key).expect("a private folder");
        folder
    };
}

/// Writes a file that only this user can read, and hands over its path.
fn with_file(data: &[u8], read: impl FnOnce(&Path)) {
    FOLDER.with(|folder| {
        let path = folder.path().join("file.toml");
        write(&path, data);
        read(&path);
    });
}

fn write(path: &PathBuf, data: &[u8]) {
    let _ = fs::remove_file(path);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("a new file");
    file.write_all(data).expect("room for a small file");
}

/// An error says where and what, and repeats no secret.
fn check<T>(data: &[u8], result: Result<T, KeyFileError>) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    let (shown, text) = (format!("{error} {error:?}"), String::from_utf8_lossy(data));
    let is_hex = |c: char| c.is_ascii_hexdigit();
    for digits in text.split(|c| !is_hex(c)).filter(|run| run.len() >= SECRET_DIGITS) {
        assert!(!shown.contains(&digits[..SECRET_DIGITS]), "{shown} repeats what stands in the file");
    }
    None
}

/// A RAIDA key, and a single number.
pub fn raida_key(data: &[u8]) {
    with_file(data, |path| {
        check(data, load_number(path));
        let Some(key) = check(data, load_raida_key(path)) else { return };
        save_raida_key(path, &key).expect("a private folder");
        let again = load_raida_key(path).expect("its own writing");
        assert_eq!((again.principal(), again.role()), (key.principal(), key.role()));
        for relay in PathId::all() {
            assert_eq!(again.number(relay).expose(), key.number(relay).expose());
        }
    });
}

/// An Encryption key, with all that may be said of one.
pub fn encryption_key(data: &[u8]) {
    with_file(data, |path| {
        let usable = check(data, load_encryption_key(path));
        let Some(key) = check(data, load_stored_key(path)) else {
            assert!(usable.is_none());
            return;
        };
        let now = std::time::SystemTime::now();
        assert_eq!(usable.is_some(), key.info().opens(now), "a key that is named alone opens connections");
        save_stored_key(path, &key).expect("a private folder");
        let again = load_stored_key(path).expect("its own writing");
        assert_eq!(again.info(), key.info());
        assert_eq!(again.secret().map(|s| *s.expose()), key.secret().map(|s| *s.expose()));
    });
}

/// A key under a passphrase, which is not opened: that costs what the file asks for, within its bounds.
pub fn sealed_key(data: &[u8]) {
    with_file(data, |path| {
        let from_file = check(data, load_exported(path));
        let piped = check(data, read_exported(data, "pipe"));
        assert_eq!(from_file.is_some(), piped.is_some(), "a pipe is as good as a file");
        let Some(Exported::Sealed(key)) = from_file else { return };
        let text = key.text();
        let Ok(Exported::Sealed(again)) = read_exported(text.as_bytes(), "pipe") else {
            panic!("its own writing")
        };
        assert_eq!((again.text(), again.cost()), (text, key.cost()));
    });
}

/// A public coin.
pub fn coin(data: &[u8]) {
    with_file(data, |path| match cloudcoin::load(path, Role::Client, None, NeverUsedElsewhere) {
        Ok(key) => {
            assert_eq!(key.strength(), Strength::Bits128);
            assert_eq!(data.len(), 439);
            for (relay, number) in PathId::all().zip(data[39..].chunks(16)) {
                assert_eq!(key.number(relay).expose(), number);
            }
        }
        Err(CoinError::File(error)) => assert!(matches!(error, KeyFileError::TooLarge { .. }), "{error}"),
        Err(_) => {}
    });
}

/// Requests and answers of an enrolment.
pub fn enrolment(data: &[u8]) {
    with_file(data, |path| {
        if let Some(answer) = check(data, load_answer(path)) {
            write(&path.to_owned(), answer_text(&answer).as_bytes());
            let again = load_answer(path).expect("its own writing");
            assert_eq!(again.subject, answer.subject);
            assert_eq!(again.half.expose(), answer.half.expose());
        }
        write(&path.to_owned(), data);
        let from_file = check(data, load_request(path));
        let piped = check(data, read_request(data));
        assert_eq!(from_file.is_some(), piped.is_some(), "a pipe is as good as a file");
        let Some(request) = from_file else { return };
        let (answer, number) = request.answer(&mut ChaCha8Rng::seed_from_u64(5));
        assert_eq!(request.finish(&answer).map(|n| n.expose().to_vec()), Ok(number.expose().to_vec()));
        save_request(path, &request).expect("a private folder");
        let again = load_request(path).expect("its own writing");
        assert_eq!(again.half.expose(), request.half.expose());
    });
}

/// The configuration of a client or server; relays read theirs with the same reader of settings.
pub fn settings(data: &[u8]) {
    with_file(data, |path| {
        let Ok(file) = SettingsFile::read(path) else { return };
        let table: Result<toml::Table, _> = file.parse();
        let config = qsocket::config::Config::from_file(path);
        if let Ok(config) = config {
            assert!(table.is_ok());
            assert!(config.memberships().count() <= qsocket::config::MAX_NETWORKS);
            assert_eq!(config.memberships().next().map(|m| m.principal()), Some(config.identity().0));
        }
    });
}
