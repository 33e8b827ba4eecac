//! The README's walks: from nothing to two folders that hold one key, by way of sixteen relays of 25, and a stream under it;
//! and to a name that 25 relays answer for.
//!
//! The scripts are the README's own, run by a shell; only the ports differ.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsocket::config::Config;
use qsocket::keys::{KeyStore, StoredKey};
use qsocket::{Endpoint, QSocketListener};
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// After this the walk counts as hung.
const HANG: Duration = Duration::from_secs(120);

/// The script between a marker and the end of its block.
fn script(marker: &str) -> String {
    let readme = include_str!("../../README.md");
    let walk = readme.split(marker).nth(1).expect("the README marks its walk");
    let block = walk.split("```sh\n").nth(1).expect("a block of shell follows the marker");
    block.split("```").next().unwrap().to_owned()
}

/// 25 ports in a row that nobody listens at, below those that the system gives to others.
fn ports(from: u16) -> u16 {
    let free =
        |first: &u16| (*first..first + 25).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    // Tests that run beside this one begin elsewhere.
    let start = from + (std::process::id() % 40) as u16 * 25;
    (start..from + 3000).step_by(25).find(free).expect("25 free ports")
}

/// The folder of the workspace's programs; `None`, and a line that says what to do, where one of them was not built.
fn programs() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_BIN_EXE_qsocket")).parent().unwrap().to_owned();
    if folder.join("raida-relay").is_file() {
        return Some(folder);
    }
    let required = std::env::var_os("QSOCKET_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
    assert!(!required, "raida-relay is required by QSOCKET_REQUIRE_CLIENTS=1: cargo build -p raida-relay");
    // Not by `eprintln!`, which the test harness would keep to itself.
    let _unheard = writeln!(io::stderr(), "skipped: cargo build -p raida-relay");
    None
}

/// A shell with all that it started, which ends with this value.
struct Shell(Child);

impl Shell {
    /// Runs a script in a folder, where what it prints goes to the file `out`.
    fn start(script: &str, folder: &Path, programs: &Path) -> io::Result<Self> {
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let out = File::create(folder.join("out"))?;
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(folder).env("PATH", path).env_remove("QSOCKET_CONFIG");
        shell.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        Ok(Self(shell.spawn()?))
    }

    /// Waits until the script has made the file `done`.
    async fn done(&mut self, folder: &Path) {
        let walked = async {
            while !folder.join("done").exists() {
                // A command that fails ends the shell.
                let ended = !matches!(self.0.try_wait(), Ok(None)) && !folder.join("done").exists();
                assert!(!ended, "the walk fails: {}", told(folder));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let walked = tokio::time::timeout(HANG, walked).await;
        assert!(walked.is_ok(), "the walk does not end: {}", told(folder));
    }
}

fn told(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("out")).unwrap_or_default()
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Its own process group: the relays are in it.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_walk_of_the_readme_leads_to_a_shared_key() -> io::Result<()> {
    let Some(programs) = programs() else { return Ok(()) };
    let (relays, server) = (ports(14_000), ports(17_500));
    let script = script("<!-- walk -->")
        .replace(
            "init raida",
            &format!("init raida --base 127.0.0.1:{relays} --server-address 127.0.0.1:{server}"),
        )
        .replace(":7000", &format!(":{server}"));
    // The relays stay: the stream goes through them afterwards.
    let script = format!("set -eu\n{script}\necho walked >done\nwait\n");
    let folder = tempfile::tempdir()?;
    let mut shell = Shell::start(&script, folder.path(), &programs)?;
    shell.done(folder.path()).await;
    let told = || told(folder.path());

    // One key, in both folders, and the server was told the memo.
    let place = |name: &str| folder.path().join("raida").join(name);
    let ring = |name: &str| KeyStore::open(place(name).join("keys")).unwrap().keyring().unwrap();
    let (ours, theirs) = (ring("client-1"), ring("server-1"));
    let (ours, theirs) = (ours.iter().next().unwrap(), theirs.iter().next().unwrap());
    assert_eq!(ours.id(), theirs.id());
    let secret = |key: &StoredKey| key.secret().map(|secret| *secret.expose());
    assert!(secret(ours).is_some() && secret(ours) == secret(theirs), "both sides hold the same");
    assert!(told().contains("the first key"), "{}", told());
    assert_eq!(told().matches(&format!("{:?}", ours.id())).count(), 4, "told at each step: {}", told());

    // The next stream mixes it in, nine relays still away.
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, server));
    let config = |name: &str| Config::from_file(place(name).join("config.toml"));
    let listener = QSocketListener::bind_with(config("server-1")?, at).await?;
    let client = Endpoint::client(config("client-1")?)?;
    let name = format!("server-1.example:{server}");
    let both = async { tokio::try_join!(client.connect(&name), listener.accept()) };
    let (mut stream, (mut accepted, _)) = tokio::time::timeout(HANG, both).await??;
    assert_eq!(stream.peer().encryption_key, Some(ours.id()));
    assert_eq!(accepted.peer().encryption_key, Some(ours.id()));
    stream.write_all(b"under a key that no relay knows").await?;
    stream.shutdown().await?;
    let mut read = String::new();
    accepted.read_to_string(&mut read).await?;
    assert_eq!(read, "under a key that no relay knows");
    drop(shell);
    Ok(())
}

#[tokio::test]
async fn the_walk_of_the_readme_leads_to_a_name() -> io::Result<()> {
    let Some(programs) = programs() else { return Ok(()) };
    let script = script("<!-- name walk -->").replace(":51000", &format!(":{}", ports(21_000)));
    let script = format!("set -eu\n{script}\necho walked >done\n");
    let folder = tempfile::tempdir()?;
    let mut shell = Shell::start(&script, folder.path(), &programs)?;
    shell.done(folder.path()).await;
    let told = told(folder.path());
    assert!(told.contains("cloudcoin.raida") && told.contains("1.0.2"), "{told}");
    assert!(told.contains("127.0.0.1") && told.contains(" relays say so"), "{told}");
    Ok(())
}
