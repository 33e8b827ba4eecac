use super::*;
use crate::provision::Provision;
use qsocket_proto::ids::{PathId, Role};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use tempfile::TempDir;

/// A RAIDA key as text: number i is the byte i+1 repeated.
fn raida_text() -> String {
    let numbers: String = (1..=25).map(|i| format!("  \"{}\",\n", format!("{i:02x}").repeat(16))).collect();
    format!(
        "kind = \"raida-key\"\nversion = 1\nnetwork = 1\ndenomination = -2\nserial = 1042\nrole = \"client\"\n\
         authenticity_numbers = [\n{numbers}]\n"
    )
}

fn encryption_text() -> String {
    let (id, key) = ("0a".repeat(16), "c3".repeat(32));
    format!("kind = \"encryption-key\"\nversion = 1\nid = \"{id}\"\nwith = \"1.0.7\"\nkey = \"{key}\"\n")
}

fn folder_with(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.toml");
    fs::write(&path, text).unwrap();
    chmod(&path, 0o600);
    (dir, path)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The line and the message that a RAIDA key text is refused with.
fn refusal(text: impl AsRef<[u8]>) -> (usize, String) {
    let (_dir, path) = folder_with(text);
    match load_raida_key(&path) {
        Err(KeyFileError::Content { line, problem, .. }) => (line, problem),
        other => panic!("{other:?}"),
    }
}

fn encryption_refusal(text: &str) -> (usize, String) {
    let (_dir, path) = folder_with(text);
    match load_encryption_key(&path) {
        Err(KeyFileError::Content { line, problem, .. }) => (line, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_kinds_load() {
    let (_dir, path) = folder_with(raida_text());
    let key = load_raida_key(&path).unwrap();
    assert_eq!(key.principal().to_string(), "1.-2.1042");
    assert_eq!(key.role(), Role::Client);
    assert_eq!(key.number(PathId::new(24).unwrap()).expose(), [25; 16]);

    let (_dir, path) = folder_with(encryption_text());
    let key = load_encryption_key(&path).unwrap();
    assert_eq!((key.id(), key.with().to_string()), (KeyId([0x0a; 16]), "1.0.7".to_owned()));
    assert_eq!(key.key().expose(), &[0xc3; 32]);
}

#[test]
fn lines_may_end_with_carriage_return() {
    let (_dir, path) = folder_with(raida_text().replace('\n', "\r\n"));
    assert!(load_raida_key(&path).is_ok());
}

#[test]
fn files_that_others_can_open_are_refused_with_the_command() {
    let (_dir, path) = folder_with(raida_text());
    for mode in [0o644, 0o640, 0o620, 0o601, 0o604, 0o610] {
        chmod(&path, mode);
        let e = load_raida_key(&path).unwrap_err();
        assert!(matches!(e, KeyFileError::Mode { mode: m, .. } if m == mode), "{e}");
        assert!(e.to_string().ends_with(&format!("run: chmod 600 {}", path.display())), "{e}");
        assert_eq!(io::Error::from(e).kind(), io::ErrorKind::PermissionDenied);
    }
    chmod(&path, 0o400);
    assert!(load_raida_key(&path).is_ok());
}

#[test]
fn links_folders_and_pipes_are_refused() {
    let (dir, path) = folder_with(raida_text());
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(load_raida_key(&link), Err(KeyFileError::Symlink { .. })));

    let sub = dir.path().join("sub");
    fs::create_dir(&sub).unwrap();
    assert!(matches!(load_raida_key(&sub), Err(KeyFileError::NotRegular { .. })));

    let pipe = dir.path().join("pipe");
    let private = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, private, 0).unwrap();
    assert!(matches!(load_raida_key(&pipe), Err(KeyFileError::NotRegular { .. })));

    let e = io::Error::from(load_raida_key(dir.path().join("absent")).unwrap_err());
    assert_eq!(e.kind(), io::ErrorKind::NotFound);
    assert!(e.to_string().contains("absent"));
}

#[test]
fn folders_that_others_can_write_are_refused_unless_sticky() {
    let (dir, path) = folder_with(raida_text());
    let before = fs::read(&path).unwrap();
    for mode in [0o777, 0o775, 0o707] {
        chmod(dir.path(), mode);
        let e = load_raida_key(&path).unwrap_err();
        assert!(matches!(e, KeyFileError::Folder { .. }), "{e}");
        assert!(e.to_string().ends_with(&format!("run: chmod go-w {}", dir.path().display())), "{e}");
        let key = &Provision::generate(1, 1, 0).unwrap().clients[0];
        assert!(matches!(save_raida_key(&path, key), Err(KeyFileError::Folder { .. })));
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    chmod(dir.path(), 0o1777);
    assert!(load_raida_key(&path).is_ok());
}

#[test]
fn only_the_user_and_root_may_own_the_file() {
    let path = Path::new("/k");
    assert!(file::check_owner(path, 1000, 1000).is_ok());
    assert!(file::check_owner(path, 0, 1000).is_ok());
    let e = file::check_owner(path, 1001, 1000).unwrap_err();
    assert_eq!(e.to_string(), "/k belongs to user 1001, who can read and change it; run: chown 1000 /k");
}

#[test]
fn large_files_are_refused_before_reading() {
    let (_dir, path) = folder_with(vec![b'#'; MAX_FILE_BYTES + 1]);
    assert!(matches!(load_raida_key(&path), Err(KeyFileError::TooLarge { .. })));
    let (_dir, path) =
        folder_with("#".repeat(MAX_FILE_BYTES - raida_text().len() - 1) + "\n" + &raida_text());
    assert!(load_raida_key(&path).is_ok());
}

#[test]
fn text_that_is_not_plain_names_its_line() {
    assert_eq!(refusal(format!("\u{feff}{}", raida_text())).0, 1);
    let (line, what) = refusal(raida_text().replace("network", "\0network"));
    assert_eq!(line, 3);
    assert!(what.contains("NUL"), "{what}");
    let mut bytes = raida_text().into_bytes();
    let at = bytes.iter().position(|b| *b == b'-').unwrap();
    bytes[at] = 0xff;
    assert!(refusal(bytes).1.contains("UTF-8"));
    assert!(refusal(b"\xff\xfek\0").1.contains("UTF-16"));
    assert!(refusal("").1.contains("`kind` is missing"));
}

#[test]
fn numbers_of_wrong_form_name_relay_and_line() {
    let third = "03".repeat(16);
    for (bad, what) in [
        ("03".repeat(15), "relay 2: 30 characters where 32 or 64 hex digits belong"),
        ("03".repeat(15) + "0", "relay 2: 31 characters"),
        ("03".repeat(15) + "0g", "relay 2: character 32 is not a hex digit"),
        ("03".repeat(15) + "+1", "relay 2: character 31 is not a hex digit"),
        ("03".repeat(15) + "é", "relay 2: character 31 is not a hex digit"),
        ("00".repeat(16), "relay 2 is all zero"),
        ("00".repeat(32), "relay 2 is all zero"),
        ("02".repeat(16), "relays 1 and 2 have the same"),
        ("\\u0030".to_owned() + &third[1..], "relay 2: write it without escapes"),
    ] {
        let (line, problem) = refusal(raida_text().replace(&third, &bad));
        assert!(problem.contains(what), "{problem}");
        assert_eq!(line, 10, "{problem}");
    }
}

#[test]
fn there_are_25_numbers() {
    let third = format!("  \"{}\",\n", "03".repeat(16));
    assert!(refusal(raida_text().replace(&third, "")).1.contains("24 authenticity numbers where 25"));
    let more = format!("{third}  \"{}\",\n", "ff".repeat(16));
    assert!(refusal(raida_text().replace(&third, &more)).1.contains("26 authenticity numbers where 25"));
    let mixed = raida_text().replace(&"03".repeat(16), &"03".repeat(32));
    let (_dir, path) = folder_with(mixed);
    assert!(load_raida_key(&path).is_ok());
}

#[test]
fn fields_are_checked_one_by_one() {
    for (from, to, line, what) in [
        ("version = 1", "version = 2", 2, "version = 1"),
        ("network = 1", "network = 65536", 3, "0 to 65535"),
        ("network = 1", "network = -1", 3, "0 to 65535"),
        ("denomination = -2", "denomination = 128", 4, "-128 to 127"),
        ("serial = 1042", "serial = 4294967296", 5, "0 to 4294967295"),
        ("serial = 1042", "serial = \"1042\"", 5, "whole number"),
        ("role = \"client\"", "role = \"both\"", 6, "\"client\" or \"server\""),
        ("role = \"client\"", "role = 1", 6, "in quotes"),
        ("role = \"client\"\n", "", 32, "`role` is missing"),
        (
            "role = \"client\"",
            "rolle = \"client\"\nrole = \"client\"",
            6,
            "unknown field; the fields are kind",
        ),
        ("serial = 1042", "serial = 1042\nserial = 1042", 6, "duplicate key"),
        ("kind = \"raida-key\"", "kind = \"coin\"", 1, "kind = \"raida-key\""),
        ("kind = \"raida-key\"", "kind = \"encryption-key\"", 1, "Encryption key"),
    ] {
        let (at, problem) = refusal(raida_text().replacen(from, to, 1));
        assert!(problem.contains(what), "{problem}");
        assert_eq!(at, line, "{problem}");
    }
}

#[test]
fn encryption_keys_are_checked() {
    let key = "c3".repeat(32);
    for (from, to, line, what) in [
        (&*key, "00".repeat(32), 5, "all zero"),
        (&*key, "c3".repeat(31), 5, "64 hex digits"),
        ("1.0.7", "1.0".to_owned(), 4, "network.denomination.serial"),
        ("0a0a", "0000".to_owned(), 3, "id: it is all zero"),
        ("0a", String::new(), 3, "32 hex digits"),
        ("encryption-key", "raida-key".to_owned(), 1, "name it as `key`"),
        ("with", "whith".to_owned(), 4, "unknown field"),
    ] {
        let (at, problem) = encryption_refusal(&encryption_text().replace(from, &to));
        assert!(problem.contains(what), "{problem}");
        assert_eq!(at, line, "{problem}");
    }
}

#[test]
fn errors_repeat_no_secret() {
    let secret = "5ec2e7".repeat(10) + "5ec2";
    let text = encryption_text().replace(&"c3".repeat(32), &secret);
    for (from, to) in [
        ("key = \"", "key = "),              // the quotes forgotten
        ("key = \"", "\""),                  // the name forgotten
        ("key = \"", "key = \"x"),           // one character too many
        ("key = ", &*format!("{secret} =")), // the secret as a name
        ("with = \"1.0.7\"", &*format!("with = \"{secret}\"")),
        ("id = \"", &*format!("id = \"{secret}")),
        ("version = 1", &*format!("version = \"{secret}\"")),
        ("kind = \"encryption-key\"", &*format!("kind = \"{secret}\"")),
    ] {
        let (_dir, path) = folder_with(text.replacen(from, to, 1));
        let e = load_encryption_key(&path).expect_err(to);
        for shown in [e.to_string(), format!("{e:?}"), format!("{:?}", io::Error::from(e))] {
            assert!(!shown.contains("5ec2"), "{shown}");
        }
    }
    let (_dir, path) = folder_with(text);
    let shown = format!("{:?}", load_encryption_key(&path).unwrap());
    assert!(!shown.contains("5ec2") && shown.contains("1.0.7"), "{shown}");
}

#[test]
fn written_files_load_and_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.toml");
    let raida = Provision::generate(9, 1, 1).unwrap();
    for key in raida.keys() {
        save_raida_key(&path, key).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let loaded = load_raida_key(&path).unwrap();
        assert_eq!((loaded.principal(), loaded.role()), (key.principal(), key.role()));
        assert!(PathId::all().all(|p| loaded.number(p).expose() == key.number(p).expose()));
    }
    let secret = || EncryptionKey::import(&[0x81; 32]).unwrap();
    let key = SharedKey::new(KeyId([9; 16]), raida.servers[0].principal(), secret()).unwrap();
    save_encryption_key(&path, &key).unwrap();
    let loaded = load_encryption_key(&path).unwrap();
    assert_eq!((loaded.id(), loaded.with()), (key.id(), key.with()));
    assert!(loaded.key().expose() == key.key().expose());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(SharedKey::new(KeyId([0; 16]), key.with(), secret()).is_none());
}

#[test]
fn a_failed_write_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    // A folder cannot be replaced by a file: the rename, the last step, fails.
    let path = dir.path().join("k.toml");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("old"), "old").unwrap();
    let key = &Provision::generate(1, 1, 0).unwrap().clients[0];
    assert!(matches!(save_raida_key(&path, key), Err(KeyFileError::Io { .. })));
    assert_eq!(fs::read(path.join("old")).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

/// A process that is killed between two steps: the steps before it are done, those behind it are not.
#[test]
fn a_kill_at_any_step_leaves_the_old_or_the_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.toml");
    let raida = Provision::generate(1, 3, 0).unwrap();
    let [old, new, newest] = &raida.clients[..] else { panic!() };
    let stands = |key: &RaidaKey| load_raida_key(&path).unwrap().principal() == key.principal();
    save_raida_key(&path, old).unwrap();
    let folder = fs::File::open(dir.path()).unwrap();
    let text = format::write_raida_key(new);
    let text = text.as_bytes();

    // In the middle of the new text, and behind all of it.
    file::stage(&folder, ".qsocket-1.tmp", &text[..text.len() / 2]).unwrap();
    assert!(stands(old));
    file::stage(&folder, ".qsocket-2.tmp", text).unwrap();
    assert!(stands(old));
    for left in [".qsocket-1.tmp", ".qsocket-2.tmp"] {
        let mode = fs::metadata(dir.path().join(left)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600, "what is left is as private as the key");
        assert!(file::stage(&folder, left, b"other").is_err(), "and is never written to again");
    }
    // The last step done, but not known to be durable.
    file::replace(&folder, ".qsocket-2.tmp", path.file_name().unwrap()).unwrap();
    assert!(stands(new));
    // The next writer goes on in spite of what is left.
    save_raida_key(&path, newest).unwrap();
    assert!(stands(newest));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        2,
        "the key, and the half file of the killed process"
    );
}

#[test]
fn a_rename_that_fails_leaves_the_old_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.toml");
    let raida = Provision::generate(1, 1, 0).unwrap();
    save_raida_key(&path, &raida.clients[0]).unwrap();
    let before = fs::read(&path).unwrap();
    let folder = fs::File::open(dir.path()).unwrap();
    // The new file is gone: somebody cleaned up.
    let e = file::replace(&folder, ".qsocket-3.tmp", path.file_name().unwrap()).unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::NotFound);
    assert_eq!(fs::read(&path).unwrap(), before);
    load_raida_key(&path).unwrap();
}

#[test]
fn commands_survive_the_shell() {
    for (path, want) in [
        ("/etc/qsocket/a.toml", "/etc/qsocket/a.toml"),
        ("/my keys/a", "'/my keys/a'"),
        ("it's", r"'it'\''s'"),
        ("-rf", "./-rf"),
        ("-r f", "'./-r f'"),
    ] {
        assert_eq!(quoted(Path::new(path)), want);
    }
}

/// A key with all that a file may say of one.
fn full_text() -> String {
    let (old, key) = ("0b".repeat(16), "c3".repeat(32));
    format!(
        "kind = \"encryption-key\"\nversion = 1\nid = \"{}\"\nwith = \"1.0.7\"\nown = \"1.0.1042\"\n\
         name = \"wiki.example\"\ncreated = 2026-11-26T14:34:00Z\nexpires = 2999-01-01T00:00:00Z\n\
         origin = \"exchanged\"\nexchanged_over = 3\nexchanged_relays = [0, 7, 24]\nreplaces = [\"{old}\"]\n\
         replaced_until = 2027-01-01T00:00:00Z\nkey = \"{key}\"\n",
        "0a".repeat(16)
    )
}

#[test]
fn what_is_known_of_a_key_is_read_and_written() {
    let (_dir, path) = folder_with(full_text());
    let key = load_stored_key(&path).unwrap();
    let info = key.info();
    assert_eq!(info.own.unwrap().to_string(), "1.0.1042");
    assert_eq!(info.name.as_ref().unwrap().as_str(), "wiki.example");
    assert_eq!(info.created, crate::moment::parse("2026-11-26T14:34:00Z"));
    let Origin::Exchanged { network: 3, relays } = info.origin else { panic!("{:?}", info.origin) };
    assert_eq!(relays.iter().map(PathId::get).collect::<Vec<_>>(), [0, 7, 24]);
    assert_eq!(info.replaces, [KeyId([0x0b; 16])]);
    save_stored_key(&path, &key).unwrap();
    assert_eq!(load_stored_key(&path).unwrap().info(), info);
    assert!(fs::read_to_string(&path).unwrap().ends_with(full_text().split_once("id =").unwrap().1));
    // As a configuration names it alone.
    assert_eq!(load_encryption_key(&path).unwrap().id(), info.id);
}

#[test]
fn what_a_file_says_of_a_key_is_checked() {
    for (from, to, line, what) in [
        ("own = \"1.0.1042\"", "own = \"1.0.7\"", 5, "own: this is the principal in `with`"),
        ("own = \"1.0.1042\"", "own = \"2.0.1042\"", 5, "own: it is in another network"),
        ("own = \"1.0.1042\"", "own = \"me\"", 5, "own: write a principal"),
        ("wiki.example", "two words", 6, "name: a name has 1 to 255"),
        ("wiki.example", "1.0.7", 6, "name: this reads as a principal"),
        ("2026-11-26T14:34:00Z", "2026-11-26", 7, "created: write date, time and offset"),
        ("2026-11-26T14:34:00Z", "\"2026-11-26T14:34:00Z\"", 7, "created: write date, time and offset"),
        ("2999-01-01T00:00:00Z", "2999-01-01T00:00:00", 8, "expires: write date, time and offset"),
        ("\"exchanged\"", "\"found\"", 9, "origin: write \"generated\""),
        ("\"exchanged\"", "\"generated\"", 10, "exchanged_over: it belongs to origin = \"exchanged\""),
        (
            "exchanged_over = 3",
            "exchanged_over = 65536",
            10,
            "exchanged_over: write a whole number, 0 to 65535",
        ),
        ("exchanged_over = 3\n", "", 13, "the field `exchanged_over` is missing"),
        ("[0, 7, 24]", "[0, 7, 25]", 11, "exchanged_relays: write different numbers"),
        ("[0, 7, 24]", "[0, 7, 7]", 11, "exchanged_relays: write different numbers"),
        ("[0, 7, 24]", "7", 11, "exchanged_relays: write different numbers"),
        ("replaces = [\"", "replaces = [\"0", 12, "replaces: write each id as 32 hex digits"),
        ("0b", "0a", 12, "replaces: a key does not replace itself"),
        ("replaces = ", "state = \"retired\"\n# = ", 14, "replaced_until: it belongs to `replaces`"),
        ("created =", "receive_until =", 7, "receive_until: it belongs to state = \"retired\""),
        ("name = \"wiki.example\"", "state = \"lost\"", 6, "state: write \"active\", \"retired\" or"),
    ] {
        let (_dir, path) = folder_with(full_text().replace(from, to));
        let (at, problem) = match load_stored_key(&path) {
            Err(KeyFileError::Content { line, problem, .. }) => (line, problem),
            other => panic!("{to}: {other:?}"),
        };
        assert!(problem.contains(what), "{to}: {problem}");
        assert_eq!(at, line, "{to}: {problem}");
    }
}

#[test]
fn a_key_that_may_not_be_used_is_not_taken_by_its_file_alone() {
    for (state, what) in [
        ("state = \"revoked\"", "the key is revoked; install a new one"),
        ("state = \"retired\"", "name the folder of the store as `keys`"),
        ("expires = 2020-01-01T00:00:00Z", "the key has expired; install a new one"),
    ] {
        let text = encryption_text().replace("key = ", &format!("{state}\nkey = "));
        let (line, problem) = encryption_refusal(&text);
        assert!(problem.contains(what), "{problem}");
        assert_eq!(line, 5);
        let (_dir, path) = folder_with(text);
        load_stored_key(&path).unwrap();
    }
    // A revoked key needs no secret, any other one does.
    let without = encryption_text().split("key = \"c3").next().unwrap().to_owned();
    assert!(encryption_refusal(&without).1.contains("the field `key` is missing"));
    let (_dir, path) = folder_with(without + "state = \"revoked\"\n");
    assert!(load_stored_key(&path).unwrap().secret().is_none());
}
