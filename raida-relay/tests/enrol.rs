//! `raida-relay enroll`, as principals and operators of relays call it.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use qsocket::config::Config;
use qsocket_files::keys::load_raida_key;
use qsocket_proto::ids::PathId;
use sqlx::Row as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Runs the program; gives the exit code, standard output and standard error.
fn program(arguments: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_raida-relay")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

/// 25 relays that know nobody, a client and a server with requests.
struct Raida {
    folder: TempDir,
}

impl Raida {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self { folder };
        let (code, out, err) = program(&["init", &this.path(""), "--enroll"]);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("No number is drawn yet") && !out.contains("This machine drew"), "{out}");
        this
    }

    fn path(&self, below: &str) -> String {
        self.file(below).to_str().unwrap().to_owned()
    }

    fn file(&self, below: &str) -> PathBuf {
        let dir = self.folder.path().join("raida");
        if below.is_empty() { dir } else { dir.join(below) }
    }

    fn relay(&self, n: u8) -> String {
        self.path(&format!("relays/{n:02}/relay.toml"))
    }

    fn request(&self, who: &str, n: u8) -> String {
        self.path(&format!("{who}/request-{n:02}.toml"))
    }

    fn answer(&self, who: &str, n: u8) -> String {
        self.path(&format!("{who}/answer-{n:02}.toml"))
    }

    fn accept(&self, who: &str, n: u8, flags: &[&str]) -> (i32, String, String) {
        let (config, request, answer) = (self.relay(n), self.request(who, n), self.answer(who, n));
        program(&[&["enroll", "accept", "--config", &config, &request, &answer], flags].concat())
    }

    fn accept_all(&self, who: &str, flags: &[&str]) {
        for n in 0..25 {
            let (code, out, err) = self.accept(who, n, flags);
            assert_eq!((code, &*out), (0, ""), "{err}");
        }
    }

    fn finish(&self, who: &str) -> (i32, String, String) {
        program(&["enroll", "finish", &self.path(who)])
    }
}

/// The numbers in a relay's store.
fn numbers(store: &Path) -> Vec<Vec<u8>> {
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = sqlx::AnyPool::connect(&format!("sqlite://{}?mode=ro", store.display())).await.unwrap();
        let rows = sqlx::query("SELECT number FROM principals ORDER BY role").fetch_all(&pool).await.unwrap();
        pool.close().await;
        rows.iter().map(|row| row.get("number")).collect()
    })
}

#[test]
fn a_principal_enrols_at_25_relays() {
    let raida = Raida::new();
    assert!(Config::from_file(raida.file("client-1/config.toml")).is_err(), "there is no key yet");
    raida.accept_all("client-1", &[]);
    raida.accept_all("server-1", &["--address", "127.0.0.1:7000"]);
    for who in ["client-1", "server-1"] {
        let (code, out, err) = raida.finish(who);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("256 bit"), "{out}");
        let mut left: Vec<_> = fs::read_dir(raida.file(who))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let key = format!("{}.key.toml", &who[..6]);
        assert_eq!(
            left,
            if who == "client-1" {
                [key, "config.toml".into(), "keys".into()]
            } else {
                ["config.toml".into(), "keys".into(), key]
            }
        );
        let config = Config::from_file(raida.file(who).join("config.toml")).unwrap();
        assert_eq!(config.key().strength().to_string(), "256 bit");
    }
    let client = load_raida_key(raida.file("client-1/client.key.toml")).unwrap();
    let server = load_raida_key(raida.file("server-1/server.key.toml")).unwrap();
    for path in PathId::all() {
        let kept = numbers(&raida.file(&format!("relays/{:02}/principals.db", path.get())));
        assert_eq!(kept, [client.number(path).expose(), server.number(path).expose()], "relay {path}");
    }
    let (code, out, _) = program(&["check", &raida.path("")]);
    assert_eq!((code, out.matches("1 clients, 1 servers with 1 addresses").count()), (0, 25), "{out}");
    // Nothing is left to finish.
    assert!(raida.finish("client-1").2.contains("begin with `raida-relay enroll request`"));
}

#[test]
fn a_request_travels_through_a_pipe() {
    let raida = Raida::new();
    let answer = raida.answer("client-1", 7);
    let out = File::options().write(true).create_new(true).open(&answer).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_raida-relay"))
        .args(["enroll", "accept", "--config", &raida.relay(7), "-", "-"])
        .stdin(Stdio::piped())
        .stdout(out)
        .spawn()
        .unwrap();
    let request = fs::read(raida.request("client-1", 7)).unwrap();
    child.stdin.take().unwrap().write_all(&request).unwrap();
    assert!(child.wait().unwrap().success());
    // A shell makes files that others may read, unless told otherwise.
    fs::set_permissions(&answer, fs::Permissions::from_mode(0o644)).unwrap();
    for n in (0..25).filter(|n| *n != 7) {
        assert_eq!(raida.accept("client-1", n, &[]).0, 0);
    }
    let (code, _, err) = raida.finish("client-1");
    assert!(code == 1 && err.contains(&format!("run: chmod 600 {answer}")), "{err}");
    fs::set_permissions(&answer, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(raida.finish("client-1").0, 0);
}

/// The attacks: swapped answers, a tampered half, an answer to an earlier request, one that is missing.
#[test]
fn answers_that_do_not_fit_are_named_and_nothing_changes() {
    let raida = Raida::new();
    raida.accept_all("client-1", &[]);
    let answer = |n| raida.answer("client-1", n);
    // Relay 3's answer as relay 4's and the other way round.
    let aside = raida.path("aside");
    for (from, to) in [(answer(3), aside.clone()), (answer(4), answer(3)), (aside, answer(4))] {
        fs::rename(from, to).unwrap();
    }
    let edit = |path: &str, change: &dyn Fn(String) -> String| {
        fs::write(path, change(fs::read_to_string(path).unwrap())).unwrap();
    };
    let flip = |text: String| {
        let at = text.find("half = \"").unwrap() + 8;
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}", &text[..at], &text[at + 1..])
    };
    edit(&answer(5), &flip);
    // The principal's own half changed after it was sent.
    edit(&raida.request("client-1", 6), &flip);
    // A second request of the same principal, answered in place of the first.
    let again = raida.path("again");
    assert_eq!(program(&["enroll", "request", "--principal", "1.0.1", "--role", "client", &again]).0, 0);
    fs::remove_file(answer(8)).unwrap();
    let (request, config) = (format!("{again}/request-08.toml"), raida.relay(8));
    let (code, _, err) =
        program(&["enrol", "accept", "--replace", "--config", &config, &request, &answer(8)]);
    assert_eq!(code, 0, "{err}");
    fs::remove_file(answer(9)).unwrap();

    let before = fs::read_dir(raida.file("client-1")).unwrap().count();
    let (code, _, err) = raida.finish("client-1");
    assert_eq!(code, 1);
    assert!(err.contains("6 relays are not done, nothing was changed"), "{err}");
    for (relay, what) in [
        (3, "answer-03.toml: it is the answer of relay 4"),
        (4, "answer-04.toml: it is the answer of relay 3"),
        (5, "answer-05.toml: its confirmation does not fit"),
        (6, "answer-06.toml: its confirmation does not fit"),
        (8, "answer-08.toml: it answers request"),
        (9, "answer-09.toml is missing"),
    ] {
        assert!(err.contains(&format!("relay {relay}: {what}")), "{err}");
    }
    assert!(!raida.file("client-1/client.key.toml").exists());
    assert_eq!(fs::read_dir(raida.file("client-1")).unwrap().count(), before);
}

/// The attacks: a request for another relay, for another network, one that was accepted before, a changed role.
#[test]
fn a_relay_keeps_only_what_is_for_it() {
    let raida = Raida::new();
    let out = raida.path("answer");
    let accept = |n, request: &str, flags: &[&str]| {
        let config = raida.relay(n);
        program(&[&["enroll", "accept", "--config", &config, request, &out], flags].concat())
    };
    let (code, _, err) = accept(4, &raida.request("client-1", 3), &[]);
    assert!(code == 1 && err.contains("for relay 3, this is relay 4"), "{err}");
    let other = raida.path("other");
    assert_eq!(program(&["enroll", "request", "--principal", "2.0.1", "--role", "client", &other]).0, 0);
    let (code, _, err) = accept(3, &format!("{other}/request-03.toml"), &[]);
    assert!(code == 1 && err.contains("belongs to network 1. Nothing is kept"), "{err}");
    assert!(numbers(&raida.file("relays/03/principals.db")).is_empty());
    assert!(!Path::new(&out).exists());

    assert_eq!(raida.accept("client-1", 3, &[]).0, 0);
    let kept = numbers(&raida.file("relays/03/principals.db"));
    let (code, _, err) = accept(3, &raida.request("client-1", 3), &[]);
    assert!(code == 1 && err.contains("has a number of client 1.0.1 already"), "{err}");
    assert_eq!(numbers(&raida.file("relays/03/principals.db")), kept);
    // An answer is not written over.
    let (code, _, err) = raida.accept("client-1", 3, &["--replace"]);
    assert!(code == 1 && err.contains("is there already"), "{err}");
    assert_eq!(numbers(&raida.file("relays/03/principals.db")), kept);
    assert_eq!(accept(3, &raida.request("client-1", 3), &["--replace"]).0, 0);
    assert_ne!(numbers(&raida.file("relays/03/principals.db")), kept);

    // A client's request shown as a server's: the relay keeps a number that the client never uses.
    let request = raida.request("client-1", 5);
    let text = fs::read_to_string(&request).unwrap();
    fs::write(&request, text.replace("role = \"client\"", "role = \"server\"")).unwrap();
    assert_eq!(raida.accept("client-1", 5, &["--address", "127.0.0.1:7000"]).0, 0);
    fs::write(&request, text).unwrap();
    let (_, _, err) = raida.finish("client-1");
    assert!(err.contains("relay 5: answer-05.toml: it answers 1.0.1 or another role"), "{err}");
}

#[test]
fn one_number_is_renewed() {
    let raida = Raida::new();
    let key = raida.file("client-1/client.key.toml");
    let request = |flags: &[&str]| {
        let dir = raida.path("client-1");
        program(&[&["enroll", "request", "--principal", "1.0.1", "--role", "client", &dir], flags].concat())
    };
    let (code, _, err) = request(&[]);
    assert!(code == 1 && err.contains("request-00.toml is there already"), "{err}");
    raida.accept_all("client-1", &[]);
    assert_eq!(raida.finish("client-1").0, 0);
    let (code, _, err) = request(&[]);
    assert!(code == 1 && err.contains("client.key.toml exists already"), "{err}");

    let before = load_raida_key(&key).unwrap();
    assert_eq!(request(&["--relay", "7"]).0, 0);
    assert_eq!(raida.accept("client-1", 7, &["--replace"]).0, 0);
    assert_eq!(raida.finish("client-1").0, 0);
    let after = load_raida_key(&key).unwrap();
    for path in PathId::all() {
        assert_eq!(
            before.number(path).expose() == after.number(path).expose(),
            path.get() != 7,
            "relay {path}"
        );
    }
    let kept = numbers(&raida.file("relays/07/principals.db"));
    assert_eq!(kept, [after.number(PathId::new(7).unwrap()).expose()]);
    assert_eq!(program(&["enroll", "request", "--relay", "25", "x"]).0, 2);
}
