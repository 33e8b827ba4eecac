use super::*;
use crate::keys::{EncryptionKey, KeyId, KeyInfo, KeyState, Origin};
use crate::provision::Provision;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// The least that a file may ask for: tests take many guesses.
const CHEAP: Cost = Cost { memory_kib: MIN_MEMORY_KIB, passes: 1, lanes: 1 };

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes()).unwrap()
}

fn encryption_key() -> AnyKey {
    let info = KeyInfo::new(KeyId([3; 16]), "1.0.7".parse().unwrap(), Origin::Generated);
    let info = info.with_name("dns.example".parse().unwrap());
    AnyKey::Encryption(StoredKey::new(info, EncryptionKey::import(&[0x5e; 32]).unwrap()).unwrap())
}

fn sealed(key: &AnyKey) -> SealedKey {
    SealedKey::seal(key, &passphrase("correct horse battery"), CHEAP).unwrap()
}

fn reread(text: &str) -> Result<SealedKey, KeyFileError> {
    match read_exported(text.as_bytes(), "k")? {
        Exported::Sealed(key) => Ok(key),
        Exported::Open(_) => panic!("not sealed"),
    }
}

#[test]
fn both_kinds_come_back_from_under_the_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.sealed.toml");
    sealed(&encryption_key()).save(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("5e5e5e") && !text.contains("dns.example"), "{text}");
    let Exported::Sealed(key) = load_exported(&path).unwrap() else { panic!() };
    let (AnyKey::Encryption(got), AnyKey::Encryption(want)) =
        (key.open(&passphrase("correct horse battery\n")).unwrap(), encryption_key())
    else {
        panic!()
    };
    assert_eq!(got.info().id, want.info().id);
    assert_eq!(got.info().name, want.info().name);
    assert_eq!(got.secret().unwrap().expose(), &[0x5e; 32]);

    let raida = Provision::generate(1, 1, 0).unwrap().clients.remove(0);
    let AnyKey::Raida(again) =
        sealed(&AnyKey::Raida(RaidaKey::new(raida.principal(), raida.role(), numbers(&raida)).unwrap()))
            .open(&passphrase("correct horse battery"))
            .unwrap()
    else {
        panic!()
    };
    assert!(again.same_numbers(&raida));
}

fn numbers(key: &RaidaKey) -> Vec<crate::keys::AuthenticityNumber> {
    let number = |path| crate::keys::AuthenticityNumber::new(key.number(path).expose()).unwrap();
    qsocket_proto::ids::PathId::all().map(number).collect()
}

#[test]
fn another_passphrase_and_a_changed_file_are_refused() {
    let key = sealed(&encryption_key());
    let e = key.open(&passphrase("correct horse batterx")).unwrap_err();
    assert_eq!(e.to_string(), "wrong passphrase, or the file was changed; nothing was imported");
    let right = passphrase("correct horse battery");
    let text = key.text();
    let swap = |from: &str, to: &str| reread(&text.replace(from, to)).unwrap().open(&right);
    // Each parameter is bound, and each byte.
    assert!(matches!(swap("passes = 1", "passes = 2"), Err(SealError::Wrong)));
    assert!(matches!(swap("lanes = 1", "lanes = 2"), Err(SealError::Wrong)));
    for field in ["salt = \"", "nonce = \"", "sealed = \""] {
        let at = text.find(field).unwrap() + field.len();
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        let changed = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
        assert!(matches!(reread(&changed).unwrap().open(&right), Err(SealError::Wrong)), "{field}");
    }
    let mut short = reread(&text).unwrap();
    short.sealed.truncate(15);
    assert!(matches!(short.open(&right), Err(SealError::Wrong)));
}

#[test]
fn two_exports_have_nothing_in_common() {
    let (a, b) = (sealed(&encryption_key()), sealed(&encryption_key()));
    assert_ne!((a.salt, a.nonce), (b.salt, b.nonce));
    assert_ne!(a.sealed, b.sealed);
}

#[test]
fn what_a_file_may_ask_for_has_bounds() {
    let text = sealed(&encryption_key()).text();
    for (from, to) in [
        ("memory_kib = 8192", "memory_kib = 262145"),
        ("memory_kib = 8192", "memory_kib = 4294967295"),
        ("memory_kib = 8192", "memory_kib = 8191"),
        ("passes = 1", "passes = 129"),
        ("passes = 1", "passes = 0"),
        ("passes = 1", "passes = 4294967295"),
        ("lanes = 1", "lanes = 17"),
        ("lanes = 1", "lanes = 0"),
    ] {
        let e = reread(&text.replace(from, to)).unwrap_err().to_string();
        assert!(e.contains("k:5: opening this file is outside"), "{to}: {e}");
    }
    assert!(Cost::new(MAX_MEMORY_KIB, 4, MAX_LANES).is_some());
    assert!(Cost::new(MAX_MEMORY_KIB, 5, 1).is_none());
    let usual = Cost::default();
    assert_eq!(Cost::new(usual.memory_kib, usual.passes, usual.lanes), Some(usual));
}

#[test]
fn fields_are_checked_one_by_one() {
    let text = sealed(&encryption_key()).text();
    for (from, to, what) in [
        ("kdf = \"argon2id\"", "kdf = \"scrypt\"", "k:4: kdf: this program knows \"argon2id\" alone"),
        ("version = 1", "version = 2", "k:3: write version = 1"),
        ("salt = \"", "salt = \"00", "k:8: salt: 34 characters where 32 hex digits belong"),
        ("sealed = \"", "sealed = \"0", "k:10: sealed: an odd number of hex digits"),
        ("sealed = \"", "sealed = \"zz", "k:10: sealed: character 1 is not a hex digit"),
        ("lanes = 1", "lanes = \"1\"", "k:7: lanes: write a whole number"),
        ("nonce", "once", "k:9: unknown field"),
        ("kind = \"sealed-key\"", "kind = \"coin\"", "k:2: write kind ="),
    ] {
        let e = read_exported(text.replacen(from, to, 1).as_bytes(), "k").unwrap_err().to_string();
        assert!(e.contains(what), "{to}: {e}");
    }
    // Where a configuration names one, it is told what to do.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k");
    fs::write(&path, &text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let e = crate::keys::load_raida_key(&path).unwrap_err().to_string();
    assert!(e.contains("under a passphrase; bring it into a store with `qsocket keys import`"), "{e}");
}

#[test]
fn passphrases_are_one_line_and_not_too_short_to_seal_under() {
    let is = |text: &str| Passphrase::new(text.as_bytes()).map(|p| p.0.to_vec());
    assert_eq!(is("word"), Ok(b"word".to_vec()));
    assert_eq!(is("word\n"), is("word"));
    assert_eq!(is("word\r\n"), is("word"));
    assert_eq!(is(" word "), Ok(b" word ".to_vec()));
    assert_eq!(is("\n"), Err(PassphraseError::Empty));
    assert_eq!(is(""), Err(PassphraseError::Empty));
    assert_eq!(is("one\ntwo\n"), Err(PassphraseError::Lines));
    assert_eq!(is(&"a".repeat(1025)), Err(PassphraseError::Long));
    for short in ["elevenchars", "éééééé"] {
        let e = SealedKey::seal(&encryption_key(), &passphrase(short), CHEAP).unwrap_err();
        assert!(matches!(e, SealError::Short(PassphraseError::Short)), "{short}");
    }
    assert!(!format!("{:?}", passphrase("correct horse battery")).contains("horse"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    fs::write(&path, "correct horse battery\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Passphrase::load(&path), Err(SealError::File(KeyFileError::Mode { .. }))));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(Passphrase::load(&path).unwrap().0.to_vec(), b"correct horse battery");
}

#[test]
fn what_is_sealed_and_no_key_is_told_without_its_text() {
    let mut key = sealed(&encryption_key());
    let right = passphrase("correct horse battery");
    let aead = key.cost.derive(&right, &key.salt).unwrap();
    let mut inside = b"kind = \"encryption-key\"\nid = 5ec2e75ec2e7\n".to_vec();
    // Another nonce: the same one sealed the key.
    key.nonce = [9; NONCE];
    let tag = aead.seal_in_place(key.nonce, &key.associated(), &mut inside);
    key.sealed = [&inside[..], &tag].concat();
    let e = key.open(&right).unwrap_err().to_string();
    assert!(e.contains("no key is inside: line 2") && !e.contains("5ec2"), "{e}");
}

#[test]
fn revoked_keys_can_be_carried_too() {
    let AnyKey::Encryption(key) = encryption_key() else { panic!() };
    let revoked = AnyKey::Encryption(key.in_state(KeyState::Revoked));
    let AnyKey::Encryption(again) = sealed(&revoked).open(&passphrase("correct horse battery")).unwrap()
    else {
        panic!()
    };
    assert_eq!(again.info().state, KeyState::Revoked);
    assert!(again.secret().is_none());
}

/// `vectors/sealed.json`: what another program seals by the text of `docs/keys.md` opens here.
#[test]
fn a_file_of_another_program_opens() {
    let known: serde_json::Value =
        serde_json::from_str(include_str!("../../../../vectors/sealed.json")).unwrap();
    let of = |field: &str| known[field].as_str().unwrap();
    let key = reread(of("file")).unwrap().open(&passphrase(of("passphrase"))).unwrap();
    let AnyKey::Encryption(key) = key else { panic!() };
    assert_eq!(key.id().0, std::array::from_fn(|i| i as u8 + 1));
    assert_eq!(key.secret().unwrap().expose(), &std::array::from_fn(|i| i as u8));
    assert!(key.info().origin == Origin::PreShared && key.info().created.is_none());
}
