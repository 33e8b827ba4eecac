//! The program itself, as its user runs it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use qsocket::keys::KeyStore;
use qsocket::provision::Provision;
use qsocket::{Principal, Role};
use raida_relay::LocalRaida;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const PASSPHRASE: &str = "correct horse battery";
const CLIENT: &str = "1.0.1042";
const SERVER: &str = "1.0.7";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A place to work in, with a folder of keys for each side.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qsocket"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command.env_remove("QSOCKET_PASSPHRASE_FILE").env_remove("QSOCKET_KEYS");
        command
    }

    fn keys(&self, side: &str, args: &[&str]) -> Output {
        self.command(&[&["keys", "--dir", side], args].concat()).output().unwrap()
    }

    /// Runs and expects success; gives standard output.
    fn done(&self, side: &str, args: &[&str]) -> String {
        let out = self.keys(side, args);
        assert_eq!(out.status.code(), Some(0), "{args:?}: {}", text(&out.stderr));
        text(&out.stdout)
    }

    /// The same with `--json`.
    fn json(&self, side: &str, args: &[&str]) -> Value {
        let out = self.done(side, &[args, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// Runs and expects exit code 1; gives standard error, which begins with the program's name.
    fn fails(&self, side: &str, args: &[&str]) -> String {
        let out = self.keys(side, args);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {}", text(&out.stdout));
        let error = text(&out.stderr);
        assert!(error.starts_with("qsocket: ") && !error.contains("panicked"), "{error}");
        error
    }

    /// Runs and expects that the command line is refused.
    fn usage(&self, args: &[&str]) -> String {
        let out = self.keys("a", args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", text(&out.stdout));
        text(&out.stderr)
    }

    fn generate(&self, side: &str, more: &[&str]) -> String {
        let args = [&["generate", "encryption", "--with", CLIENT, "--own", SERVER], more].concat();
        self.json(side, &args)["key"]["id"].as_str().unwrap().to_owned()
    }

    fn uses(&self, side: &str) -> Vec<(String, String)> {
        let list = self.json(side, &["list"]);
        let of = |key: &Value, field: &str| key[field].as_str().unwrap().to_owned();
        list["encryption"].as_array().unwrap().iter().map(|key| (of(key, "id"), of(key, "use"))).collect()
    }
}

fn secret(place: &Place, side: &str, id: &str) -> String {
    let file = fs::read_to_string(place.path(side).join(format!("encryption/{id}.toml"))).unwrap();
    file.split("key = \"").nth(1).unwrap().trim().trim_end_matches('"').to_owned()
}

#[test]
fn a_key_goes_from_one_side_to_the_other_and_is_rotated() {
    let place = Place::new();
    let passphrase = place.file("passphrase", format!("{PASSPHRASE}\n"));
    let id = place.generate("server", &["--name", "alice", "--expires", "90d"]);
    let export = ["export", &id, "k.sealed.toml", "--for-peer", "--passphrase-file", &passphrase];
    let told = place.done("server", &export);
    assert!(told.contains("k.sealed.toml holds the key, under the passphrase"), "{told}");
    assert_eq!(fs::metadata(place.path("k.sealed.toml")).unwrap().mode() & 0o7777, 0o600);
    let sealed = fs::read_to_string(place.path("k.sealed.toml")).unwrap();
    assert!(!sealed.contains(&secret(&place, "server", &id)) && !sealed.contains(SERVER), "{sealed}");

    let import = ["import", "k.sealed.toml", "--name", "wiki", "--passphrase-file", &passphrase];
    let got = place.json("client", &import);
    assert_eq!(got["installed"], "new");
    let key = &got["key"];
    assert_eq!((key["id"].as_str(), key["with"].as_str()), (Some(&*id), Some(SERVER)));
    assert_eq!((key["own"].as_str(), key["name"].as_str()), (Some(CLIENT), Some("wiki")));
    assert_eq!((key["origin"].as_str(), key["use"].as_str()), (Some("imported"), Some("active")));
    assert!(key["expires"].is_string());
    assert_eq!(secret(&place, "client", &id), secret(&place, "server", &id));
    assert_eq!(place.json("client", &import)["installed"], "same");

    // Rotation: the server draws the new key and accepts both, the client takes it over.
    let rotated = place.json("server", &["rotate", "alice", "--old-until", "30d"]);
    assert_eq!(rotated["retired"][0].as_str(), Some(&*id));
    let new = rotated["key"]["id"].as_str().unwrap();
    assert_eq!(rotated["key"]["name"], "alice");
    place.done("server", &["export", new, "n.toml", "--for-peer", "--plain"]);
    let taken = place.json("client", &["import", "n.toml", "--rotate"]);
    assert_eq!(taken["retired"][0].as_str(), Some(&*id));
    for side in ["server", "client"] {
        let mut uses = place.uses(side);
        uses.sort_by_key(|(key, _)| *key == id);
        assert_eq!(uses, [(new.to_owned(), "active".to_owned()), (id.clone(), "retired".to_owned())]);
    }
    let shown = place.done("server", &["show", &id]);
    assert!(shown.contains("accepted until: 20") && shown.contains("retired"), "{shown}");
    assert!(!shown.contains(&secret(&place, "server", &id)));
    // By party: the one that opens.
    place.done("client", &["export", SERVER, "-", "--plain"]);
    assert!(place.fails("client", &["revoke", SERVER]).contains("2 keys are called so; name one by its id"));
}

#[test]
fn a_rotation_may_go_to_a_key_that_is_there() {
    let place = Place::new();
    let (old, new) = (place.generate("a", &[]), place.generate("a", &[]));
    let rotated = place.json("a", &["rotate", CLIENT, "--to", &new]);
    assert_eq!(rotated["retired"][0].as_str(), Some(&*old));
    let other = place.json("a", &["generate", "encryption", "--with", "1.0.8"]);
    let other = other["key"]["id"].as_str().unwrap();
    assert!(place.fails("a", &["rotate", CLIENT, "--to", other]).contains("is a key with 1.0.8"));
    assert!(place.fails("a", &["rotate", CLIENT, "--to", &old]).contains("takes over from no other key"));
    assert!(place.fails("a", &["rotate", CLIENT, "--to", &"0b".repeat(16)]).contains("import it first"));
    place.done("a", &["revoke", &new]);
    assert!(place.fails("a", &["rotate", CLIENT]).contains("no active key with"));
}

#[test]
fn lists_and_keys_are_shown_without_secrets() {
    let place = Place::new();
    assert!(place.fails("a", &["list"]).contains("does not exist; generate or import a key"));
    let id = place.generate("a", &["--name", "alice"]);
    place.done("a", &["generate", "raida", SERVER, "--role", "server"]);
    let list = place.done("a", &["list"]);
    assert!(list.contains("raida:1.0.7.server  256 bit"), "{list}");
    assert!(list.contains(&format!("{id}  active   with {CLIENT}")) && list.contains("alice"), "{list}");
    let json = place.json("a", &["list"]);
    assert_eq!(json["raida"][0]["bits"], 256);
    assert_eq!(json["problems"].as_array().map(Vec::len), Some(0));
    let numbers = fs::read_to_string(place.path("a/raida/1.0.7.server.toml")).unwrap();
    let number = numbers.split('"').find(|part| part.len() == 64).unwrap().to_owned();
    for args in [["list", "--json"], ["show", "alice"], ["show", "raida:1.0.7.server"], ["show", CLIENT]] {
        let out = place.done("a", &args);
        assert!(!out.contains(&secret(&place, "a", &id)) && !out.contains(&number), "{out}");
    }
    assert_eq!(place.json("a", &["show", &id])["name"], "alice");
    assert_eq!(place.json("a", &["show", "alice"])[0]["id"].as_str(), Some(&*id));
    assert_eq!(place.json("a", &["show", "raida:1.0.7.server"])["role"], "server");
    assert!(place.fails("a", &["show", "bob"]).contains("no Encryption key with a party called bob"));
    assert!(place.fails("a", &["show", "raida:1.0.7.client"]).contains("there is no key"));
    // A damaged file is told, and the others are listed.
    place.file(&format!("a/encryption/{}.toml", "0a".repeat(16)), "kind = \"encryption-key\"\n");
    let out = place.keys("a", &["list"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stdout).contains(&id));
    assert!(
        text(&out.stderr).contains("0a0a.toml:1: the field `version` is missing"),
        "{}",
        text(&out.stderr)
    );
    place.done("a", &["remove", &"0a".repeat(16)]);
    place.done("a", &["list"]);
}

#[test]
fn revoked_keys_do_not_come_back_and_removed_ones_may() {
    let place = Place::new();
    let id = place.generate("a", &[]);
    place.done("a", &["export", &id, "k.toml", "--plain"]);
    let told = place.done("a", &["revoke", &id]);
    assert!(told.contains("is revoked, its secret erased\nNo key with 1.0.1042 is left"), "{told}");
    assert_eq!(place.json("a", &["revoke", &id])["changed"], false);
    assert_eq!(place.uses("a"), [(id.clone(), "revoked".to_owned())]);
    assert!(place.fails("a", &["import", "k.toml"]).contains("is a key that was revoked"));
    assert!(
        place.fails("a", &["export", &id, "x.toml", "--plain"]).contains("is revoked; its secret is gone")
    );
    let removed = place.done("a", &["remove", &id]);
    assert!(removed.contains("is overwritten and removed"), "{removed}");
    assert!(place.fails("a", &["remove", &id]).contains("there is no key"));
    place.done("a", &["import", "k.toml"]);
    assert!(
        place.fails("a", &["revoke", "raida:1.0.7.client"]).contains("this command is for Encryption keys")
    );
}

#[test]
fn an_id_is_never_overwritten() {
    let place = Place::new();
    let id = place.generate("a", &[]);
    place.done("a", &["export", &id, "k.toml", "--plain"]);
    let other = fs::read_to_string(place.path("k.toml"))
        .unwrap()
        .replace(&secret(&place, "a", &id), &"5e".repeat(32));
    place.file("other.toml", other);
    let before = secret(&place, "a", &id);
    assert!(place.fails("a", &["import", "other.toml"]).contains("holds another key under this id"));
    assert!(
        place.fails("a", &["import", "other.toml", "--rotate"]).contains("holds another key under this id")
    );
    assert_eq!(secret(&place, "a", &id), before);
    place.done("a", &["generate", "raida", CLIENT, "--role", "client"]);
    let error = place.fails("a", &["generate", "raida", CLIENT, "--role", "client"]);
    assert!(error.contains("is there already; a key is never overwritten"), "{error}");
    assert!(
        place.fails("a", &["export", &id, "k.toml", "--plain"]).contains("is there already; name a new file")
    );
}

#[test]
fn passphrases_come_from_files_and_pipes_alone() {
    let place = Place::new();
    let id = place.generate("a", &[]);
    assert!(place.fails("a", &["export", &id, "k"]).contains("name its file with --passphrase-file"));
    let short = place.file("short", "eleven chars".split_at(11).0);
    assert!(
        place
            .fails("a", &["export", &id, "k", "--passphrase-file", &short])
            .contains("fewer than 12 characters")
    );
    let open = place.file("open", PASSPHRASE);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(place.fails("a", &["export", &id, "k", "--passphrase-file", &open]).contains("run: chmod 600"));
    assert!(!place.path("k").exists());

    let piped = |args: &[&str], input: &str, variable: Option<&str>| {
        let mut command = place.command(&[&["keys", "--dir"], args].concat());
        if let Some(file) = variable {
            command.env("QSOCKET_PASSPHRASE_FILE", file);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let out = piped(&["a", "export", &id, "k", "--passphrase-stdin"], &format!("{PASSPHRASE}\n"), None);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let file = place.file("passphrase", PASSPHRASE);
    let out = piped(&["b", "import", "k"], "", Some(&file));
    assert!(out.status.success(), "{}", text(&out.stderr));
    // A key through a pipe takes its passphrase from a file.
    let sealed = fs::read_to_string(place.path("k")).unwrap();
    let out = piped(&["c", "import", "-"], &sealed, Some(&file));
    assert!(out.status.success(), "{}", text(&out.stderr));
    let out = piped(&["d", "import", "-", "--passphrase-stdin"], &sealed, None);
    assert!(text(&out.stderr).contains("the key comes from standard input already"), "{}", text(&out.stderr));

    let wrong = place.file("wrong", "incorrect horse battery");
    let error = place.fails("d", &["import", "k", "--passphrase-file", &wrong]);
    assert_eq!(error, "qsocket: wrong passphrase, or the file was changed; nothing was imported\n");
    assert!(!place.path("d").exists(), "nothing was made");
    place.usage(&["import", "k", "--passphrase-file", &file, "--passphrase-stdin"]);
    place.usage(&["export", &id, "x", "--plain", "--passphrase-file", &file]);
    // A file that would cost too much is refused before anything is computed.
    place.file("costly", sealed.replace("memory_kib = 65536", "memory_kib = 4294967295"));
    let error = place.fails("d", &["import", "costly", "--passphrase-file", &file]);
    assert!(error.contains("costly:5: opening this file is outside of what this program spends"), "{error}");
}

/// A coin whose number i is the byte i+1 repeated.
fn coin(format: u8) -> Vec<u8> {
    let mut bytes = vec![format, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(b"Live Free or Die");
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 4, 0x12]);
    (1..=25).for_each(|i| bytes.extend_from_slice(&[i; 16]));
    bytes
}

#[test]
fn coins_need_a_statement_and_a_format_without_a_seed() {
    let place = Place::new();
    let file = place.file("coin.bin", coin(9));
    let error = place.fails("a", &["import-coin", &file, "--role", "client"]);
    assert!(
        error.contains("shows a coin's numbers to whoever listens")
            && error.contains("--never-used-elsewhere")
    );
    assert!(!place.path("a").exists());
    let stated = ["import-coin", &file, "--role", "client", "--never-used-elsewhere"];
    let got = place.json("a", &stated);
    assert_eq!((got["key"]["principal"].as_str(), got["key"]["bits"].as_u64()), (Some(CLIENT), Some(128)));
    assert_eq!(place.json("a", &stated)["installed"], "same");
    let got = place.json("a", &[&stated[..], &["--network", "5"]].concat());
    assert_eq!(got["key"]["principal"], "5.0.1042");
    for (format, why) in
        [(0x0a, "computed from one seed"), (0x0b, "computed from one seed"), (8, "being changed")]
    {
        let file = place.file("other.bin", coin(format));
        let error = place.fails("a", &["import-coin", &file, "--role", "client", "--never-used-elsewhere"]);
        assert!(error.contains(why), "{error}");
    }
    assert!(place.fails("a", &["import", &file]).contains("coin.bin:1: the file holds a NUL byte"));
    place.usage(&["import-coin", &file, "--never-used-elsewhere"]);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let place = Place::new();
    let with = |own: &str| place.fails("a", &["generate", "encryption", "--with", CLIENT, "--own", own]);
    assert!(with(CLIENT).contains("is both sides of the key"));
    assert!(with("2.0.7").contains("are in different networks"));
    assert!(!place.path("a").exists());
    place.done("a", &["generate", "encryption", "--with", CLIENT]);
    assert!(
        place
            .fails("a", &["export", CLIENT, "x", "--for-peer", "--plain"])
            .contains("generate or import keys with --own")
    );
    place.done("a", &["generate", "raida", CLIENT, "--role", "client", "--bits", "128"]);
    let raida = "raida:1.0.1042.client";
    assert!(
        place.fails("a", &["export", raida, "x", "--for-peer", "--plain"]).contains("its principal's alone")
    );
    place.done("a", &["export", raida, "r.toml", "--plain"]);
    assert!(place.fails("b", &["import", "r.toml", "--name", "x"]).contains("--name is for Encryption keys"));
    assert_eq!(place.json("b", &["import", "r.toml"])["key"]["bits"], 128);
    place.done("b", &["remove", raida]);
    assert!(place.fails("b", &["remove", raida]).contains("there is no key"));

    fs::set_permissions(place.path("a"), fs::Permissions::from_mode(0o755)).unwrap();
    let error = place.fails("a", &["list"]);
    assert!(error.contains("others can look into the folder") && error.contains("chmod 700"), "{error}");

    for args in [
        &["generate", "encryption"][..],
        &["generate", "encryption", "--with", "1.0"],
        &["generate", "encryption", "--with", CLIENT, "--name", "two words"],
        &["generate", "encryption", "--with", CLIENT, "--expires", "tomorrow"],
        &["generate", "raida", CLIENT],
        &["generate", "raida", CLIENT, "--role", "client", "--bits", "64"],
        &["show", "raida:1.0.7"],
        &["import", "k", "--old-until", "3d"],
        &["rotate", CLIENT, "--to", "0a"],
        &["verify", raida],
        &["verify", raida, "--base", "x"],
        &["nonsense"],
    ] {
        assert!(place.usage(args).contains("error: "), "{args:?}");
    }
}

#[test]
fn the_folder_is_where_the_variables_say() {
    let place = Place::new();
    let run = |variable: &str, value: &Path| {
        let args = ["keys", "generate", "encryption", "--with", CLIENT];
        let mut command = place.command(&args);
        command.env_remove("XDG_CONFIG_HOME").env_remove("HOME").env(variable, value);
        command.output().unwrap()
    };
    assert!(run("QSOCKET_KEYS", &place.path("k")).status.success());
    assert!(place.path("k/encryption").is_dir());
    assert!(run("HOME", &place.path("home")).status.success());
    let inside = place.path("home/.config/qsocket/keys");
    assert!(inside.join("encryption").is_dir());
    for folder in [&inside, inside.parent().unwrap()] {
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o7777, 0o700);
    }
    let out = run("UNRELATED", &place.path("x"));
    assert!(
        text(&out.stderr).contains("Name the folder with --dir or $QSOCKET_KEYS"),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn relays_are_asked_for_a_raida_key() {
    let place = Place::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let keys = Provision::generate(1, 1, 0).unwrap();
    let client = &keys.clients[0];
    let relays = runtime.block_on(async {
        LocalRaida::builder().start_with_keys([client], Vec::<raida_relay::LocalServer>::new()).unwrap()
    });
    let store = KeyStore::create(place.path("a")).unwrap();
    store.install_raida_key(client).unwrap();
    let lines: Vec<_> = relays.addresses().iter().map(ToString::to_string).collect();
    let list = place.file("relays", format!("# relay 0 first\n{}\n", lines.join("\n")));
    let raida = "raida:1.0.1.client";
    let verify = ["verify", raida, "--relays", &list];
    let told = place.done("a", &verify);
    assert!(told.contains("25 of 25 relays hold the key") && told.lines().count() == 26, "{told}");
    assert!(told.lines().next().unwrap().starts_with("relay 0 "), "{told}");

    // Some are gone.
    runtime.block_on(async {
        for n in 0..9 {
            relays.stop_relay(qsocket::PathId::new(n).unwrap()).await;
        }
    });
    let out = place.keys("a", &[&verify[..], &["--json"]].concat());
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["held"], 16);
    assert_eq!(json["relays"][0]["answer"], "unreachable");
    assert_eq!(json["relays"][9]["answer"], "ok");
    assert!(json["relays"][9]["milliseconds"].is_u64());
    runtime.block_on(relays.stop_relay(qsocket::PathId::new(9).unwrap()));
    let out = place.keys("a", &verify);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stdout).contains("15 of 25 relays hold the key"), "{}", text(&out.stdout));

    // Another key of the same principal, and none.
    let other = &Provision::generate(1, 1, 0).unwrap().clients[0];
    KeyStore::create(place.path("b")).unwrap().install_raida_key(other).unwrap();
    let out = place.keys("b", &verify);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(text(&out.stdout).matches(" refused   ").count(), 15, "{}", text(&out.stdout));
    assert!(
        place.fails("a", &["verify", "raida:1.0.2.client", "--relays", &list]).contains("there is no key")
    );
    assert!(place.fails("a", &["verify", "alice", "--relays", &list]).contains("raida:PRINCIPAL.ROLE"));
    let bad = place.file("bad", "127.0.0.1:1\nrelay\n");
    assert!(
        place.fails("a", &["verify", raida, "--relays", &bad]).contains("bad:2: write an address as IP:PORT")
    );
    let few = place.file("few", "127.0.0.1:1\n");
    assert!(
        place.fails("a", &["verify", raida, "--relays", &few]).contains("1 addresses where 25 are needed")
    );
    let base = place.keys("a", &["verify", raida, "--base", "127.0.0.1:65530"]);
    assert!(text(&base.stderr).contains("there are no 25 ports"), "{}", text(&base.stderr));
    runtime.block_on(relays.stop());
}

#[test]
fn completions_and_pages_are_made_of_the_command_line() {
    let place = Place::new();
    let run = |args: &[&str]| {
        let out = place.command(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
        text(&out.stdout)
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert!(script.contains("import-coin") && script.contains("never-used-elsewhere"), "{shell}");
        assert!(script.contains("lookup") && script.contains("signalling"), "{shell}");
    }
    assert_eq!(place.command(&["completions", "sh"]).output().unwrap().status.code(), Some(2));
    let page = run(&["man"]);
    assert!(page.contains(".TH qsocket 1") && page.contains("Exit codes"), "{page}");
    fs::create_dir(place.path("man")).unwrap();
    assert_eq!(run(&["man", "man"]), "");
    let keys = ["qsocket", "qsocket-keys", "qsocket-keys-rotate", "qsocket-keys-generate-encryption"];
    let names = ["qsocket-lookup", "qsocket-name", "qsocket-name-register", "qsocket-name-transfer"];
    for name in keys.into_iter().chain(names) {
        let page = fs::read_to_string(place.path("man").join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    let out = place.command(&["man", "nowhere"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("nowhere/qsocket.1"), "{}", text(&out.stderr));
    assert!(run(&["--version"]).starts_with("qsocket "));
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let place = Place::new();
    place.generate("a", &[]);
    for args in [&["keys", "--dir", "a", "list"][..], &["completions", "bash"], &["man"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let out = place.command(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let out = out.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    }
}

/// What the program keeps is what the library finds.
#[test]
fn the_library_finds_what_the_program_made() {
    let place = Place::new();
    let id = place.generate("a", &[]);
    place.done("a", &["generate", "raida", SERVER, "--role", "server"]);
    let store = KeyStore::open(place.path("a")).unwrap();
    let ring = store.keyring().unwrap();
    let (own, with): (Principal, Principal) = (SERVER.parse().unwrap(), CLIENT.parse().unwrap());
    let key = ring.opening(own, with, std::time::SystemTime::now()).unwrap().unwrap();
    assert_eq!(format!("{:?}", key.id()), id);
    assert_eq!(store.raida_key(own, Role::Server).unwrap().principal(), own);
}

#[test]
fn relays_replace_the_numbers_of_a_raida_key() {
    let place = Place::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let keys = Provision::generate(1, 1, 0).unwrap();
    let client = &keys.clients[0];
    let relays = runtime.block_on(async {
        LocalRaida::builder().start_with_keys([client], Vec::<raida_relay::LocalServer>::new()).unwrap()
    });
    let relay = |n| qsocket::PathId::new(n).unwrap();
    let lines: Vec<_> = relays.addresses().iter().map(ToString::to_string).collect();
    let list = place.file("relays", lines.join("\n"));
    for side in ["a", "thief"] {
        KeyStore::create(place.path(side)).unwrap().install_raida_key(client).unwrap();
    }
    let raida = "raida:1.0.1.client";
    let (rotate, verify) = (["rotate", raida, "--relays", &list], ["verify", raida, "--relays", &list]);
    let stands =
        || KeyStore::open(place.path("a")).unwrap().raida_key(client.principal(), client.role()).unwrap();
    let old_file = place.path("a").join("raida/.1.0.1.client.old.toml");

    // Too few: nothing changes.
    runtime.block_on(async {
        for n in 0..10 {
            relays.stop_relay(relay(n)).await;
        }
    });
    let told = place.fails("a", &rotate);
    assert!(told.contains("15 relays drew") && told.contains("relay 9: unreachable"), "{told}");
    assert!(stands().same_numbers(client) && !old_file.exists());
    // Some are missing: they keep the old number, and so does the file.
    runtime.block_on(async { (1..10).for_each(|n| relays.start_relay(relay(n)).unwrap()) });
    let out = place.keys("a", &rotate);
    assert_eq!(out.status.code(), Some(3), "{}{}", text(&out.stdout), text(&out.stderr));
    assert!(text(&out.stdout).contains("24 of 25 relays know the new number alone"), "{}", text(&out.stdout));
    let mixed = stands();
    let same = |n| mixed.number(relay(n)).expose() == client.number(relay(n)).expose();
    assert!(same(0) && !(1..25).any(same));
    assert_eq!(fs::metadata(&old_file).unwrap().mode() & 0o777, 0o600);
    runtime.block_on(async { relays.start_relay(relay(0)).unwrap() });
    assert!(place.done("a", &verify).contains("25 of 25 relays hold the key"));
    assert_eq!(place.keys("thief", &verify).status.code(), Some(1), "one relay of 25");
    // Said again, it is done with all, and nothing is left of the old one.
    let json = place.json("a", &rotate);
    assert_eq!((&json["rotated"], json["missing"].as_array().map(Vec::len)), (&Value::from(25), Some(0)));
    assert!(!old_file.exists());
    assert!(place.done("a", &verify).contains("25 of 25 relays hold the key"));
    assert!(text(&place.keys("thief", &verify).stdout).contains("0 of 25 relays hold the key"));
    assert!(place.fails("a", &["rotate", "1.0.7", "--relays", &list]).contains("raida:PRINCIPAL.ROLE"));
    assert!(place.fails("a", &["rotate", raida]).contains("--base or --relays"));

    // Stopped between the file and the relays: the file before it has the numbers that count.
    let (now, lost) = (stands(), Provision::generate(1, 1, 0).unwrap());
    let store = KeyStore::open(place.path("a")).unwrap();
    store.replace_raida_key(&now, &now, &lost.clients[0]).unwrap();
    assert!(store.replace_raida_key(&now, &now, client).is_err(), "another key stands there by now");
    assert!(place.done("a", &rotate).contains("25 of 25"));
    assert!(place.done("a", &verify).contains("25 of 25") && !old_file.exists());
}

/// Whoever hands over a key could otherwise have it stand for a name that is not his.
#[test]
fn a_plain_file_does_not_settle_who_answers_behind_a_name() {
    let place = Place::new();
    let id = place.generate("a", &["--name", "bank.example"]);
    place.done("a", &["export", &id, "k.toml", "--plain"]);
    assert!(fs::read_to_string(place.path("k.toml")).unwrap().contains("bank.example"));
    let out = place.keys("b", &["import", "k.toml"]);
    let told = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success() && told.contains("import again with --name bank.example"), "{told}");
    assert_eq!(place.json("b", &["list"])["encryption"][0]["name"], Value::Null);
    place.done("b", &["remove", &id]);
    place.done("b", &["import", "k.toml", "--name", "bank.example"]);
    assert_eq!(place.json("b", &["list"])["encryption"][0]["name"], "bank.example");
    // Under a passphrase it is the file of whoever knows that.
    let file = place.file("pass", "correct horse");
    place.done("a", &["export", &id, "k.sealed", "--passphrase-file", &file]);
    place.done("c", &["import", "k.sealed", "--passphrase-file", &file]);
    assert_eq!(place.json("c", &["list"])["encryption"][0]["name"], "bank.example");
}

#[test]
fn relays_enrol_another_principal_with_the_key_of_one_that_they_know() {
    let place = Place::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let keys = Provision::generate(1, 1, 0).unwrap();
    let sponsor = &keys.clients[0];
    let relays = runtime.block_on(async {
        LocalRaida::builder().start_with_keys([sponsor], Vec::<raida_relay::LocalServer>::new()).unwrap()
    });
    let lines: Vec<_> = relays.addresses().iter().map(ToString::to_string).collect();
    let list = place.file("relays", lines.join("\n"));
    KeyStore::create(place.path("a")).unwrap().install_raida_key(sponsor).unwrap();
    let enrol = ["enrol", "raida:1.0.1.client", "--principal", SERVER, "--role", "server", "--relays", &list];
    let (key, partial) =
        (place.path("a/raida/1.0.7.server.toml"), place.path("a/raida/.1.0.7.server.enrolling.toml"));

    let told = place.fails("a", &enrol);
    assert!(told.contains("no relay enrolled 1.0.7") && told.contains("raida-relay enroll permit"), "{told}");
    assert!(!key.exists() && !partial.exists());
    let who: Principal = SERVER.parse().unwrap();
    relays.permit(sponsor.principal(), who, Role::Server, std::time::Duration::from_secs(3600));
    let gone = qsocket::PathId::new(3).unwrap();
    runtime.block_on(relays.stop_relay(gone));
    let out = place.keys("a", &enrol);
    assert_eq!(out.status.code(), Some(3), "{}{}", text(&out.stdout), text(&out.stderr));
    let told = text(&out.stdout);
    assert!(told.contains("24 of 25 relays enrolled 1.0.7") && told.contains("relay 3: "), "{told}");
    assert_eq!(fs::metadata(&partial).unwrap().mode() & 0o7777, 0o600);
    assert!(!key.exists());
    assert!(place.done("a", &["list"]).lines().all(|line| !line.contains("1.0.7")), "it is no key yet");

    runtime.block_on(async { relays.start_relay(gone).unwrap() });
    let json = place.json("a", &enrol);
    assert_eq!((json["installed"].as_str(), json["key"]["role"].as_str()), (Some("new"), Some("server")));
    assert!(!partial.exists());
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o7777, 0o600);
    let verify = ["verify", "raida:1.0.7.server", "--relays", &list];
    assert!(place.done("a", &verify).contains("25 of 25 relays hold the key"));
    assert!(place.fails("a", &enrol).contains("is there already"));
    let elsewhere =
        ["enrol", "raida:1.0.1.client", "--principal", "2.0.7", "--role", "server", "--relays", &list];
    assert!(place.fails("a", &elsewhere).contains("different networks"));
    runtime.block_on(relays.stop());
}
