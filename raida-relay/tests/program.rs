//! The program itself, as an operator runs it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use qsocket_files::provision::Provision;
use qsocket_files::rng::OsRng;
use qsocket_proto::crypto::schedule::hop::ImportedKey;
use qsocket_proto::hop::{Dial, Dialer, DialledBy, HopLimits, Inbox, Outbox};
use qsocket_proto::ids::PathId;
use qsocket_proto::raida_key::RaidaKey;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Ends a test that hangs.
const GUARD: Duration = Duration::from_secs(60);

fn program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raida-relay")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs and expects success; gives standard output.
fn done(args: &[&str]) -> String {
    let out = program(args);
    assert_eq!(out.status.code(), Some(0), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

/// Runs and expects exit code 1; gives all output.
fn fails(args: &[&str]) -> String {
    let out = program(args);
    assert_eq!(out.status.code(), Some(1), "{args:?}");
    text(&out.stdout) + &text(&out.stderr)
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    for args in [["check", "no-such-file"].as_slice(), &["init", "DIR"]] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("raida");
        let args = args.iter().map(|arg| if *arg == "DIR" { dir.as_os_str() } else { arg.as_ref() });
        let mut command = Command::new(env!("CARGO_BIN_EXE_raida-relay"));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let out = command.args(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let out = out.wait_with_output().unwrap();
        assert!(out.status.code().is_some_and(|code| code < 2), "{:?}: {}", out.status, text(&out.stderr));
        assert!(!text(&out.stderr).contains("panicked"), "{}", text(&out.stderr));
    }
}

#[test]
fn completions_and_pages_are_made_of_the_command_line() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = done(&["completions", shell]);
        assert!(script.contains("unpermit") && script.contains("bytes-per-second"), "{shell}");
    }
    assert_eq!(program(&["completions", "sh"]).status.code(), Some(2));
    let page = done(&["man"]);
    assert!(page.contains(".TH raida-relay 1") && page.contains("Exit codes"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(done(&["man", folder.path().to_str().unwrap()]), "");
    for name in ["raida-relay", "raida-relay-run", "raida-relay-principal-add", "raida-relay-enroll-permit"] {
        let page = fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    assert!(fails(&["man", "nowhere"]).contains("nowhere/raida-relay.1"));
}

struct Daemon {
    child: Child,
    lines: Receiver<String>,
}

impl Daemon {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raida-relay"));
        let mut child = command.args(args).stderr(Stdio::piped()).spawn().unwrap();
        let (to, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        Self { child, lines }
    }

    /// Waits for a line of the log.
    fn line(&self, part: &str) -> String {
        let until = Instant::now() + GUARD;
        loop {
            let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|e| panic!("no line with {part:?}: {e}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    fn ready(&self) -> SocketAddr {
        let line = self.line(": ready ");
        line.split("address=").nth(1).unwrap().trim().parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + GUARD;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    config: PathBuf,
    keys: Provision,
    key_files: Vec<PathBuf>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = Provision::generate(1, 1, 1).unwrap();
        let key_files = keys.save(dir.path()).unwrap();
        let config = dir.path().join("relay.toml");
        write_config(&config, 3, "");
        Self { dir, config, keys, key_files }
    }

    fn config(&self) -> &str {
        self.config.to_str().unwrap()
    }

    fn add_client(&self) {
        done(&[
            "principal",
            "add",
            "--config",
            self.config(),
            "--key-file",
            self.key_files[0].to_str().unwrap(),
        ]);
    }
}

fn write_config(path: &Path, relay: u8, more: &str) {
    let text = format!(
        "relay = {relay}\nnetwork = 1\nlisten = \"127.0.0.1:0\"\nstore = \"principals.db\"\n\
         dial_any_address = true\n[limits]\ndrain_seconds = 2\n{more}"
    );
    fs::write(path, text).unwrap();
}

/// A hop, or `None` if the relay does not want it.
fn hop(at: SocketAddr, key: &RaidaKey, relay: u8) -> Option<TcpStream> {
    let path = PathId::new(relay).unwrap();
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    let (principal, role) = (key.principal(), key.role());
    let imported = ImportedKey::new(key.number(path), principal, path, role);
    let limits = HopLimits::default();
    let dial = Dial { principal, role, relay: path, dialled_by: DialledBy::Principal, limits };
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(usize::MAX));
    let mut dialer = Dialer::new(Instant::now(), dial, imported, &mut OsRng, &mut outbox);
    loop {
        stream.write_all(outbox.wire()).unwrap();
        outbox.consume(outbox.wire().len());
        let n = stream.read(inbox.spare()).unwrap();
        inbox.advance(n);
        match dialer.handle(Instant::now(), &mut inbox, &mut outbox) {
            Ok(Some(_)) => {
                stream.write_all(outbox.wire()).unwrap();
                return Some(stream);
            }
            Ok(None) if n > 0 => {}
            _ => return None,
        }
    }
}

/// Reads until the relay has closed.
fn ends(mut stream: TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn principals_live_in_the_store_and_their_numbers_never_show() {
    let f = Fixture::new();
    let [client, server] = [0, 1].map(|i| f.key_files[i].to_str().unwrap());
    f.add_client();
    let at = ["--address", "127.0.0.1:5000", "--address", "127.0.0.1:6000=127.0.0.1:7000"];
    let mut add = vec!["principal", "add", "--config", f.config(), "--key-file", server];
    add.extend(at);
    add.extend(["--bytes-per-second", "5000"]);
    done(&add);
    let list = done(&["principal", "list", "--config", f.config()]);
    assert!(list.contains("1.0.1  client  256 bit  256 routes  no limit\n"), "{list}");
    assert!(
        list.contains("5000 B/s  127.0.0.1:5000=127.0.0.1:5003  127.0.0.1:6000=127.0.0.1:7000"),
        "{list}"
    );
    done(&["principal", "ban", "--config", f.config(), "1.0.1", "--reason", "spam"]);
    let json = done(&["principal", "list", "--json", "--config", f.config()]);
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&rows[0]["banned"], &rows[0]["reason"]), (&true.into(), &"spam".into()));
    assert_eq!(rows[1]["addresses"][1]["dial"], "127.0.0.1:7000");
    for key in f.keys.keys() {
        let number: String =
            key.number(PathId::new(3).unwrap()).expose().iter().map(|b| format!("{b:02x}")).collect();
        assert!(!json.contains(&number) && !list.contains(&number));
    }
    done(&["principal", "unban", "--config", f.config(), "1.0.1"]);
    done(&["principal", "remove", "--config", f.config(), "1.0.1"]);
    let unknown = fails(&["principal", "ban", "--config", f.config(), "1.0.1"]);
    assert!(unknown.contains("the relay does not know 1.0.1"), "{unknown}");

    // A number from a file, and what is refused.
    let file = f.dir.path().join("number");
    let number = file.to_str().unwrap();
    let with = ["principal", "add", "--config", f.config(), "--number-file", number];
    let add = [&with[..], &["--principal", "1.0.9", "--role", "client"]].concat();
    fs::write(&file, format!("{}\n", "5a".repeat(16))).unwrap();
    let mode = |mode: &str| assert!(Command::new("chmod").args([mode, number]).status().unwrap().success());
    mode("644");
    assert!(fails(&add).contains("run: chmod 600 "));
    mode("600");
    done(&add);
    assert!(done(&["principal", "list", "--config", f.config()]).contains("1.0.9  client  128 bit"));
    fs::write(&file, "5a").unwrap();
    assert!(fails(&add).contains("number:1: write one authenticity number"));
    assert_eq!(program(&with).status.code(), Some(2), "without --principal and --role");
    let both = [&add[..], &["--key-file", client]].concat();
    assert_eq!(program(&both).status.code(), Some(2));
}

#[test]
fn check_names_every_problem() {
    let f = Fixture::new();
    let missing = fails(&["check", f.config()]);
    assert!(missing.contains("principals.db does not exist"), "{missing}");
    f.add_client();
    let found = done(&["check", "--bind", f.config()]);
    assert!(
        found
            .contains("relay 3 of network 1 at 127.0.0.1:0: 1 clients, 0 servers with 0 addresses, 0 banned")
    );
    write_config(&f.config, 3, "speed = 9\n");
    assert!(fails(&["check", f.config()]).contains("relay.toml:8: unknown field `speed`"));
    write_config(&f.config, 4, "");
    assert!(
        fails(&["check", f.config()]).contains("it is the store of relay 3 of network 1, not of relay 4")
    );

    let cluster = f.dir.path().join("c");
    for i in [0, 1, 2, 24] {
        let folder = cluster.join(format!("relays/{i:02}"));
        fs::create_dir_all(&folder).unwrap();
        write_config(&folder.join("relay.toml"), i, "");
    }
    for command in ["check", "cluster"] {
        let missing = fails(&[command, cluster.to_str().unwrap()]);
        assert!(missing.contains("relays 3, 4, 5, ") && missing.contains("23 are missing"), "{missing}");
    }
}

#[test]
fn a_ban_closes_a_live_hop_and_a_pardon_lets_it_return() {
    let f = Fixture::new();
    f.add_client();
    let mut daemon = Daemon::start(&["run", "--config", f.config()]);
    let at = daemon.ready();
    let client = &f.keys.clients[0];
    let live = hop(at, client, 3).expect("a known client gets a hop");
    done(&["principal", "ban", "--config", f.config(), "1.0.1"]);
    ends(live);
    assert!(hop(at, client, 3).is_none(), "it cannot come back");
    done(&["principal", "unban", "--config", f.config(), "1.0.1"]);
    daemon.line("principals=1 banned=0");
    let live = hop(at, client, 3).expect("a pardon lets it return");
    daemon.signal("TERM");
    ends(live);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_bad_file_changes_nothing_and_sigterm_ends_within_the_bound() {
    let f = Fixture::new();
    f.add_client();
    let mut daemon = Daemon::start(&["run", "--config", f.config()]);
    let at = daemon.ready();
    write_config(&f.config, 3, "speed = 9\n");
    daemon.signal("HUP");
    let line = daemon.line("not reloaded");
    assert!(line.contains("WARN") && line.contains("relay.toml:8: unknown field `speed`"), "{line}");
    let live = hop(at, &f.keys.clients[0], 3).expect("it serves as before");
    write_config(&f.config, 4, "");
    daemon.signal("HUP");
    assert!(daemon.line("not reloaded").contains("a change of relay needs a restart"));
    write_config(&f.config, 3, "");
    daemon.signal("HUP");
    daemon.line(": reloaded ");

    // A peer that does not close holds the end up for drain_seconds at most.
    let began = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(2 + 10), "{:?}", began.elapsed());
    drop(live);
}

#[cfg(target_os = "linux")]
#[test]
fn a_relay_that_runs_out_of_files_keeps_its_hops_and_says_so_once() {
    let f = Fixture::new();
    f.add_client();
    let mut daemon = Daemon::start(&["run", "--config", f.config()]);
    let (at, client) = (daemon.ready(), &f.keys.clients[0]);
    let live = hop(at, client, 3).expect("a known client gets a hop");
    let pid = daemon.child.id().to_string();
    assert!(Command::new("prlimit").args(["--nofile=40:40", "--pid", &pid]).status().unwrap().success());
    let flood: Vec<_> = (0..50).map(|_| TcpStream::connect(at).unwrap()).collect();
    daemon.line("accepting failed");
    // Two rests later at the latest a place is free, and taken.
    for silent in flood.iter().take(2) {
        ends(silent.try_clone().unwrap());
    }
    live.set_nonblocking(true).unwrap();
    assert!(
        live.peek(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock),
        "the hop was closed"
    );
    drop(flood);
    assert!(hop(at, client, 3).is_some(), "nobody gets in afterwards");
    drop(live);
    daemon.signal("TERM");
    daemon.signal("TERM");
    daemon.wait();
    let again = daemon.lines.try_iter().filter(|line| line.contains("accepting failed")).count();
    assert_eq!(again, 0, "it is said at every rest");
}

#[test]
fn a_second_signal_ends_at_once() {
    let f = Fixture::new();
    let slow = "drain_seconds = 300\n";
    let text = fs::read_to_string(&f.config).unwrap().replace("drain_seconds = 2\n", slow);
    fs::write(&f.config, text).unwrap();
    f.add_client();
    let mut daemon = Daemon::start(&["run", "--config", f.config()]);
    let at = daemon.ready();
    let _live = hop(at, &f.keys.clients[0], 3).unwrap();
    daemon.signal("INT");
    daemon.line("a second signal ends at once");
    daemon.signal("TERM");
    daemon.line("ended at once by a second signal");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_cluster_runs_all_25_in_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Provision::generate(1, 1, 0).unwrap();
    let key_file = &keys.save(dir.path()).unwrap()[0];
    for i in 0..25 {
        let folder = dir.path().join(format!("relays/{i:02}"));
        fs::create_dir_all(&folder).unwrap();
        let config = folder.join("relay.toml");
        write_config(&config, i, "");
        let (config, key) = (config.to_str().unwrap(), key_file.to_str().unwrap());
        done(&["principal", "add", "--config", config, "--key-file", key]);
    }
    let mut daemon = Daemon::start(&["cluster", dir.path().to_str().unwrap()]);
    for i in 0..25 {
        let at = daemon.ready();
        drop(hop(at, &keys.clients[0], i).expect("every relay knows its own number"));
    }
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
}

/// The whole answer of the admin port, for a `Host`.
fn ask(admin: SocketAddr, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_admin_port_tells_how_a_running_relay_stands() {
    let f = Fixture::new();
    write_config(&f.config, 3, "[admin]\nlisten = \"127.0.0.1:0\"\n");
    f.add_client();
    let mut daemon = Daemon::start(&["run", "--config", f.config()]);
    let line = daemon.line("admin port");
    let admin: SocketAddr = line.split("address=").nth(1).unwrap().trim().parse().unwrap();
    let at = daemon.ready();
    let live = hop(at, &f.keys.clients[0], 3).unwrap();
    // The relay counts the hop when it has read the client's last message.
    let until = Instant::now() + GUARD;
    let hops = |metrics: &str| {
        metrics
            .lines()
            .any(|l| l.starts_with("raida_relay_hops{") && l.contains("role=\"client\"") && l.ends_with(" 1"))
    };
    while !hops(&ask(admin, "/metrics", "localhost")) {
        assert!(Instant::now() < until, "{}", ask(admin, "/metrics", "localhost"));
        std::thread::yield_now();
    }
    let text = done(&["status", "--json", "--admin", &admin.to_string()]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let relay = &status["relays"][0];
    assert_eq!(
        (&relay["relay"], &relay["principals"], &relay["listening"]),
        (&3.into(), &1.into(), &true.into())
    );
    assert_eq!(relay["listen"], at.to_string());
    assert!(ask(admin, "/readyz", "localhost").starts_with("HTTP/1.1 200"));
    // The attack: a page whose name was rebound to this machine.
    assert!(!ask(admin, "/status", "evil.example").contains("\"relays\""));

    // SIGHUP also changes how much the log says.
    write_config(&f.config, 3, "[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"\n");
    daemon.signal("HUP");
    daemon.line(": reloaded ");
    drop(live);
    daemon.line("hop down");

    let _live = hop(at, &f.keys.clients[0], 3).unwrap();
    daemon.line("hop up");
    daemon.signal("TERM");
    daemon.line("a second signal ends at once");
    let answer = ask(admin, "/readyz", "localhost");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("relay 3 is draining"), "{answer}");
    assert_eq!(daemon.wait().code(), Some(0));
}
