//! A RAIDA of real processes: 25 relays, each with its own configuration and store, one server, one client.
//!
//! The server and the client are this program again, with another argument; hence `harness = false`. While the client
//! sends, relays are killed and started again, each of them once. The digests of both ends must be equal.

use libtest_mimic::{Arguments, Failed, Trial};
use qsocket::config::Config;
use qsocket::rng::OsRng;
use qsocket::{Endpoint, QSocketListener, QSocketStream};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// The program that is tested.
const RELAY: &str = env!("CARGO_BIN_EXE_raida-relay");

const SERVER: &str = "--be-the-server";
const CLIENT: &str = "--be-the-client";

/// Relays that are killed before the first of them is started again.
const DOWN_AT_ONCE: usize = 5;

/// Hops that the client wants before it goes on: with the relays that are down, some that are still coming back.
const ENOUGH: usize = 16;

/// What is sent between two kills.
const STEP: usize = 8 << 20;

/// One step a relay, and those that the last restarts need.
const STEPS: usize = 25 + DOWN_AT_ONCE;

/// After this a process counts as hung. Generous: the machine may be slow and shared.
const HANG: Duration = Duration::from_secs(240);

/// Where runs of ports are looked for: below those that systems give to connections, among which the remains of earlier
/// connections leave no run of 25.
const BELOW_EPHEMERAL: std::ops::Range<u16> = 12_000..32_000;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (Some(SERVER), Some(address)) => role(serve(&address)),
        (Some(CLIENT), Some(name)) => role(send(&name)),
        _ => {
            let trials = vec![Trial::test("a_transfer_outlives_every_relay", transfer)];
            libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
        }
    }
}

fn role(job: impl Future<Output = std::io::Result<()>>) -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(async { timeout(HANG, job).await? }));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// Takes one stream, answers with the digest of all its bytes, and prints it.
async fn serve(address: &str) -> std::io::Result<()> {
    let listener = QSocketListener::bind(address).await?;
    println!("listening");
    let (mut stream, _) = listener.accept().await?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        digest.update(&buffer[..n]);
    }
    let digest = hex(&digest.finalize());
    stream.write_all(digest.as_bytes()).await?;
    stream.shutdown().await?;
    println!("digest {digest}");
    Ok(())
}

/// Sends [`STEPS`] times [`STEP`] bytes and prints a line before each.
async fn send(name: &str) -> std::io::Result<()> {
    let endpoint = Endpoint::client(Config::load()?)?;
    endpoint.hops_up(25).await;
    let mut stream: QSocketStream = endpoint.connect(name).await?;
    let (mut digest, mut rng) = (Sha256::new(), ChaCha20Rng::seed_from_u64(25));
    let mut bytes = vec![0; STEP];
    for step in 0..STEPS {
        println!("step {step}");
        rng.fill_bytes(&mut bytes);
        digest.update(&bytes);
        stream.write_all(&bytes).await?;
        endpoint.hops_up(ENOUGH).await;
    }
    println!("sent");
    // Every relay was gone once; every relay is to be used again.
    endpoint.hops_up(25).await;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let digest = hex(&digest.finalize());
    if answer != digest {
        return Err(std::io::Error::other(format!("sent {digest}, the server has {answer}")));
    }
    println!("digest {digest}");
    Ok(())
}

/// A process that does not outlive the test.
struct Process {
    name: String,
    child: Child,
}

impl Process {
    fn start(name: impl Into<String>, command: &mut Command) -> Result<Self, Failed> {
        let name = name.into();
        let child = command.stdin(Stdio::null()).spawn().map_err(|e| format!("{name}: {e}"))?;
        Ok(Self { name, child })
    }

    /// What it prints, line by line.
    fn lines(&mut self) -> Result<impl Iterator<Item = String> + use<>, Failed> {
        let out = self.child.stdout.take().ok_or("its output is not piped")?;
        Ok(BufReader::new(out).lines().map_while(Result::ok))
    }

    fn succeed(mut self) -> Result<(), Failed> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", self.name).into()) }
    }

    fn kill(&mut self) -> Result<(), Failed> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn relay(folder: &Path, number: usize) -> Result<Process, Failed> {
    let config = folder.join(format!("relays/{number:02}/relay.toml"));
    let mut command = Command::new(RELAY);
    // Their logs would bury the report; what fails shows at the ends of the transfer.
    command.arg("run").arg("--config").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    Process::start(format!("relay {number}"), &mut command)
}

fn party(name: &str, role: &str, argument: &str, config: PathBuf) -> Result<Process, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([role, argument]).env("QSOCKET_CONFIG", config).stdout(Stdio::piped());
    Process::start(name, &mut command)
}

/// A port with 24 free ones behind it, none of them in `taken`. Another program may take one before it is used;
/// then the test fails and says so.
fn free_ports(taken: u16) -> Result<u16, Failed> {
    for _ in 0..100 {
        let first = BELOW_EPHEMERAL.start + (OsRng.unit() * BELOW_EPHEMERAL.len() as f64) as u16;
        let last = first + 24;
        let bound: Result<Vec<_>, _> =
            (first..=last).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
        if bound.is_ok() && (last < taken || first > taken.saturating_add(24)) {
            return Ok(first);
        }
    }
    Err("no 25 free ports in a row".into())
}

fn init(folder: &Path, base: u16, server: u16) -> Result<(), Failed> {
    let Output { status, stderr, .. } = Command::new(RELAY)
        .arg("init")
        .arg(folder)
        .args(["--base", &format!("127.0.0.1:{base}"), "--server-address", &format!("127.0.0.1:{server}")])
        .output()?;
    if status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&stderr).into_owned().into()) }
}

fn transfer() -> Result<(), Failed> {
    let temp = tempfile::tempdir()?;
    let folder = temp.path().join("raida");
    let base = free_ports(0)?;
    let server_port = free_ports(base)?;
    init(&folder, base, server_port)?;

    let mut server =
        party("server", SERVER, &format!("127.0.0.1:{server_port}"), folder.join("server-1/config.toml"))?;
    let mut server_says = server.lines()?;
    if server_says.next().as_deref() != Some("listening") {
        return Err("the server does not listen".into());
    }
    let mut relays: Vec<Process> = (0..25).map(|n| relay(&folder, n)).collect::<Result<_, _>>()?;
    let name = format!("server-1.example:{server_port}");
    let mut client = party("client", CLIENT, &name, folder.join("client-1/config.toml"))?;

    let (mut killed, mut started, mut sent) = (0, 0, None);
    for line in client.lines()? {
        if line.starts_with("step ") {
            if killed - started == DOWN_AT_ONCE || killed == relays.len() {
                relays[started] = relay(&folder, started)?;
                started += 1;
            }
            if killed < relays.len() {
                relays[killed].kill()?;
                killed += 1;
            }
        } else if let Some(digest) = line.strip_prefix("digest ") {
            sent = Some(digest.to_owned());
        }
    }
    client.succeed()?;
    let received = server_says.find_map(|line| Some(line.strip_prefix("digest ")?.to_owned()));
    server.succeed()?;
    if (killed, started) != (25, 25) {
        return Err(format!("{killed} relays were killed and {started} started again, not 25 and 25").into());
    }
    if sent.is_none() || sent != received {
        return Err(format!("sent {sent:?}, received {received:?}").into());
    }
    // They run until the end: a relay that cannot live with its configuration has ended by now.
    for relay in &mut relays {
        if let Some(status) = relay.child.try_wait()? {
            return Err(format!("{} ended with {status}", relay.name).into());
        }
    }
    Ok(())
}
