//! Programs of their own, and the network that they meet over.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use qsocket::provision::Provision;
use raida_relay::{LocalRaida, LocalServer};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Longest that a test waits for anything; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of `future`, or the end of the test.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("nothing happened for too long")
}

/// An example's program. `cargo test` builds all of them first, unless it is told to build one test alone.
pub(crate) fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(program.is_file(), "cargo build -p qsocket-examples --examples");
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a program of this machine. `None`, with a line that says how to install it, where it is absent.
pub(crate) async fn run(program: &str, package: &str, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    match soon(command.output()).await {
        Ok(output) => Some(output.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let required = std::env::var_os("QSOCKET_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
            assert!(
                !required,
                "{program} is required by QSOCKET_REQUIRE_CLIENTS=1: apt-get install {package}"
            );
            // Not by `eprintln!`, which the test harness would keep to itself.
            let _unheard = writeln!(io::stderr(), "skipped: apt-get install {package}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// A program that runs until it is dropped, and the address at which it listens.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    _child: Child,
}

impl Program {
    /// Starts a server that listens at `count` free ports.
    pub(crate) async fn start(
        count: usize,
        command: impl Fn(&[SocketAddr]) -> Command,
    ) -> (Self, Vec<SocketAddr>) {
        // Between finding free ports and using them, somebody else may take one.
        for _ in 0..8 {
            let ports = free_ports(count);
            let (address, last) = (ports[0], ports[count - 1]);
            let mut child = command(&ports).spawn().unwrap();
            let listens = async {
                loop {
                    if child.try_wait().unwrap().is_some() {
                        return false;
                    }
                    if TcpStream::connect(last).await.is_ok() {
                        return true;
                    }
                    sleep(Duration::from_millis(5)).await;
                }
            };
            if soon(listens).await {
                return (Self { address, _child: child }, ports);
            }
        }
        panic!("the program did not start; what it said is above");
    }

    /// Starts a local proxy for a client.
    pub(crate) async fn proxy(world: &World, client: usize) -> Self {
        let mut command = example("local_proxy");
        command.args(["--listen", "127.0.0.1:0"]).env("QSOCKET_CONFIG", world.client_config(client));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = soon(lines.next_line()).await.unwrap().expect("the proxy ended");
        let address = line.strip_prefix("answering SOCKS 5 at ").expect(&line).parse().unwrap();
        Self { address, _child: child }
    }
}

/// Ports of 127.0.0.1 that nobody uses, none of them twice.
fn free_ports(count: usize) -> Vec<SocketAddr> {
    let all: Vec<_> = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    all.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// What every client calls the server, at every port.
pub(crate) const NAME: &str = "server-1.example";

/// 25 relays, and configurations for one server and clients.
pub(crate) struct World {
    raida: LocalRaida,
    keys: Provision,
    folder: TempDir,
}

impl World {
    /// Starts the relays. `clients` may dial, each with a key of its own.
    pub(crate) fn start(clients: u16) -> Self {
        let keys = Provision::generate(1, clients, 1).unwrap();
        let none = std::iter::empty::<LocalServer>();
        let raida = LocalRaida::builder().network(1).start_with_keys(keys.keys(), none).unwrap();
        let folder = tempfile::tempdir().unwrap();
        keys.save(folder.path()).unwrap();
        Self { raida, keys, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts an example as the server; `arguments` gives them for an address.
    pub(crate) async fn server(
        &self,
        name: &str,
        arguments: impl Fn(SocketAddr) -> Vec<OsString>,
    ) -> Program {
        let (server, ports) = Program::start(25, |ports| {
            let listed: Vec<_> = ports.iter().map(|port| format!("\"{port}\"")).collect();
            let listen = format!("[listen]\nports = [{}]\n", listed.join(", "));
            let mut command = example(name);
            let policy = if self.policy().exists() { "access = \"access.toml\"\n" } else { "" };
            let config = self.config("server-1", policy, &listen);
            command.args(arguments(ports[0])).env("QSOCKET_CONFIG", config);
            command.stdout(Stdio::null());
            command
        })
        .await;
        let principal = self.keys.servers[0].principal();
        self.raida.register((principal, server.address, ports.try_into().unwrap())).unwrap();
        let name = format!(
            "[names]\n\"{NAME}\" = {{ server = \"{principal}\", address = \"{}\" }}\n",
            server.address
        );
        for number in 1..=self.keys.clients.len() {
            self.config(&format!("client-{number}"), "", &name);
        }
        server
    }

    /// The configuration of a client, from 1 on, which knows the server that was started.
    pub(crate) fn client_config(&self, number: usize) -> PathBuf {
        self.folder().join(format!("client-{number}.toml"))
    }

    /// Writes the policy of the server, which may run already.
    pub(crate) fn set_policy(&self, policy: &str) {
        let new = self.folder().join("access.toml.new");
        std::fs::write(&new, policy).unwrap();
        std::fs::rename(new, self.policy()).unwrap();
    }

    fn policy(&self) -> PathBuf {
        self.folder().join("access.toml")
    }

    /// Runs an example as the first client of the server.
    pub(crate) async fn client(&self, name: &str, arguments: &[&str]) -> Output {
        let mut command = example(name);
        command.args(arguments).env("QSOCKET_CONFIG", self.client_config(1));
        soon(command.output()).await.unwrap().into()
    }

    fn config(&self, party: &str, first: &str, sections: &str) -> PathBuf {
        let mut text = format!("key = \"{party}.key.toml\"\n{first}[raida]\nnetwork = 1\nrelays = [\n");
        for relay in self.raida.addresses() {
            writeln!(text, "\"{relay}\",").unwrap();
        }
        let path = self.folder().join(format!("{party}.toml"));
        std::fs::write(&path, text + "]\n" + sections).unwrap();
        path
    }
}
