//! `raida-relay init`, as a user calls it.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use qsocket::config::Config;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Runs the program; gives the exit code, standard output and standard error.
fn program(arguments: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_raida-relay")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

/// A folder, and the path of one to make in it.
fn place() -> (TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("raida");
    let text = dir.to_str().unwrap().to_owned();
    (folder, dir, text)
}

fn everything_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(everything_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// 25 hosts, the first `n` of one operator.
fn hosts(n: usize, file: &Path) -> String {
    let relays = (0..25).map(|i| {
        let operator = if i < n { "Example Ltd".to_owned() } else { format!("operator {i}") };
        format!("[[relay]]\naddress = \"10.0.0.{i}:443\"\noperator = \"{operator}\"\nregion = \"r{i}\"\n")
    });
    fs::write(file, format!("network = 9\n{}", relays.collect::<String>())).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn what_it_makes_is_private_and_loads() {
    let (folder, dir, text) = place();
    let (code, out, err) = program(&["init", &text, "--clients", "2", "--servers", "2"]);
    assert_eq!((code, &*err), (0, ""), "{out}");
    assert!(out.contains("This machine drew all numbers: it knows all 25 secrets of every key"), "{out}");
    assert!(out.contains(&format!("raida-relay cluster {text}")), "{out}");
    assert!(out.contains(&format!("QSOCKET_CONFIG={text}/client-1/config.toml")), "{out}");

    for path in everything_below(&dir) {
        let meta = path.metadata().unwrap();
        let want = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.permissions().mode() & 0o7777, want, "{}", path.display());
    }
    assert_eq!(entries(folder.path()), 1, "no temporary folder is left");

    let (code, out, err) = program(&["check", &text]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(out.matches("2 clients, 2 servers with 2 addresses").count(), 25, "{out}");

    let client = Config::from_file(dir.join("client-2/config.toml")).unwrap();
    assert_eq!(client.identity().0.to_string(), "1.0.2");
    let relays = client.raida().relays.as_array();
    assert_eq!((relays[0].to_string(), relays[24].port()), ("127.0.0.1:50000".to_owned(), 50_024));
    for (n, port) in [(1, 7_000), (2, 7_100)] {
        let server = Config::from_file(dir.join(format!("server-{n}/config.toml"))).unwrap();
        let targets = client.names().lookup(&format!("server-{n}.example"), port).unwrap();
        let target = targets.in_network(1).unwrap();
        assert_eq!((target.server, target.address.port()), (server.identity().0, port));
    }
    let list = program(&["principal", "list", "--config", &format!("{text}/relays/03/relay.toml")]).1;
    assert!(list.contains("127.0.0.1:7100=127.0.0.1:7103"), "{list}");
}

/// The attack on oneself: a second call that would throw all keys away.
#[test]
fn a_second_call_changes_nothing() {
    let (folder, dir, text) = place();
    assert_eq!(program(&["init", &text]).0, 0);
    let key = dir.join("client-1/client.key.toml");
    let before = fs::read(&key).unwrap();
    let (code, _, err) = program(&["init", &text]);
    assert_eq!(code, 1);
    assert!(err.contains("has files already, and keys are never overwritten"), "{err}");
    assert_eq!(fs::read(&key).unwrap(), before);
    assert_eq!(entries(folder.path()), 1);
    // An empty folder is as good as none.
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(program(&["init", empty.to_str().unwrap()]).0, 0);
    assert!(empty.join("relays/24/principals.db").is_file());
}

#[test]
fn a_failure_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("raida").to_str().unwrap().to_owned();
    for (flags, what) in [
        (&["--base", "127.0.0.1:65512"][..], "no 25 ports"),
        (&["--server-address", "127.0.0.1:50010"], "where a relay is"),
        (&["--servers", "60", "--server-address", "127.0.0.1:60000"], "25 ports above 65535"),
        (&["--hosts", "/absent/hosts.toml"], "/absent/hosts.toml"),
    ] {
        let (code, out, err) = program(&[&["init", &text], flags].concat());
        assert_eq!((code, &*out), (1, ""), "{err}");
        assert!(err.contains(what), "{err}");
        assert_eq!(entries(folder.path()), 0);
    }
    let below = folder.path().join("absent/raida");
    let (code, _, err) = program(&["init", below.to_str().unwrap()]);
    assert!(code == 1 && err.contains("cannot make a folder here"), "{err}");
    assert_eq!(program(&["init", &text, "--base", "relay"]).0, 2);
}

#[test]
fn hosts_get_tags_and_the_operator_rule() {
    let (folder, dir, text) = place();
    let hosts = hosts(4, &folder.path().join("hosts.toml"));
    let flags = ["init", &text, "--hosts", &hosts, "--server-address", "10.1.0.1:7000"];
    let (code, out, err) = program(&flags);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("operator \"Example Ltd\" runs 4 relays (0, 1, 2, 3)"), "{err}");
    assert!(out.contains("relays/NN to the host of relay NN"), "{out}");
    let (code, out, err) = program(&["check", &text]);
    assert_eq!(code, 0, "{out}{err}");
    let relay = fs::read_to_string(dir.join("relays/07/relay.toml")).unwrap();
    assert!(relay.contains("operator = \"operator 7\"\nregion = \"r7\"\n"), "{relay}");
    let client = Config::from_file(dir.join("client-1/config.toml")).unwrap();
    assert_eq!(client.raida().network, 9);
    assert_eq!(client.raida().relays.as_array()[7].to_string(), "10.0.0.7:443");
    assert!(client.warnings()[0].contains("runs 4 relays"), "{:?}", client.warnings());
}

#[test]
fn ten_relays_of_one_operator_are_refused() {
    let (folder, dir, text) = place();
    let hosts = hosts(10, &folder.path().join("hosts.toml"));
    let (code, _, err) = program(&["init", &text, "--hosts", &hosts, "--servers", "0"]);
    assert_eq!(code, 1);
    assert!(err.contains("hosts.toml:38: operator \"Example Ltd\" runs 10 of the 25 relays"), "{err}");
    assert!(err.contains("any 10 relays can prevent opening, any 16 can read and impersonate"), "{err}");
    assert!(!dir.exists());
}
