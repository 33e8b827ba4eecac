//! The server and the client, each in a process of its own.

use crate::load::Load;
use anyhow::{Result, anyhow, bail, ensure};
use clap::Subcommand;
use qsocket::config::Config;
use qsocket::resolve::{Targets, parse_name_port};
use qsocket::{Endpoint, QSocketListener, QSocketStream};
use qsocket_tests::process::{Process, Raida};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// What is written before the next look at the clock.
const STEP: usize = 1 << 20;

/// After so many steps the server may be killed.
const HALF_A_GIGABYTE: u64 = 511;

/// What a stream of the transfer is called.
const TRANSFER: &str = "transfer";

/// What a process is.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Role {
    /// Takes transfers and forwards streams.
    #[command(hide = true)]
    Serve {
        /// Where to listen.
        address: String,
        /// Streams of this name go to this port.
        #[arg(long)]
        forward: Vec<Forward>,
    },
    /// Sends a transfer and forwards sockets.
    #[command(hide = true)]
    Send {
        /// To whom.
        #[arg(long, default_value = "")]
        server: String,
        /// How much.
        mib: u64,
        /// In what time.
        seconds: u64,
        /// Connections to this socket become streams of this name.
        #[arg(long)]
        forward: Vec<Forward>,
    },
}

impl Role {
    /// As arguments of this program, without what is forwarded.
    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Serve { address, .. } => vec!["serve".to_owned(), address.clone()],
            Self::Send { mib, seconds, .. } => vec!["send".to_owned(), mib.to_string(), seconds.to_string()],
        }
    }

    pub(crate) fn send(mib: u64, span: Duration) -> Self {
        Self::Send { server: String::new(), mib, seconds: span.as_secs(), forward: Vec::new() }
    }
}

/// A name, the port of its server, and the socket of its clients.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    name: String,
    port: u16,
    socket: PathBuf,
}

impl FromStr for Forward {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, '=');
        let (Some(name), Some(port), Some(socket)) = (parts.next(), parts.next(), parts.next()) else {
            bail!("write NAME=PORT=SOCKET");
        };
        Ok(Self { name: name.to_owned(), port: port.parse()?, socket: socket.into() })
    }
}

/// Starts the server.
pub(crate) fn server(raida: &Raida, loads: &[Load]) -> Result<Process> {
    let address = raida.server_address(0).to_string();
    party(raida, "server", "server-1", Role::Serve { address, forward: Vec::new() }.arguments(), loads)
}

/// Starts a client.
pub(crate) fn client(raida: &Raida, role: &Role, loads: &[Load]) -> Result<Process> {
    let mut arguments = role.arguments();
    arguments.extend(["--server".into(), format!("server-1.example:{}", raida.server_address(0).port())]);
    party(raida, "client", "client-1", arguments, loads)
}

fn party(
    raida: &Raida,
    name: &str,
    config: &str,
    mut arguments: Vec<String>,
    loads: &[Load],
) -> Result<Process> {
    for load in loads {
        arguments.extend(["--forward".into(), load.forward()]);
    }
    raida.party(name, config, &arguments)
}

pub(crate) fn run(role: Role) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Serve { address, forward } => serve(&address, forward).await,
            Role::Send { server, mib, seconds, forward } => {
                send(server, mib, Duration::from_secs(seconds), forward).await
            }
        }
    })
}

async fn serve(address: &str, forwards: Vec<Forward>) -> Result<()> {
    let listener = QSocketListener::bind(address).await?;
    println!("listening");
    loop {
        let (mut stream, _) = listener.accept().await?;
        let forwards = forwards.clone();
        tokio::spawn(async move {
            let name = stream.resource().to_owned();
            let done = match forwards.iter().find(|forward| forward.name == name) {
                Some(forward) => forward_to(&mut stream, forward.port).await,
                None => take(&mut stream).await,
            };
            if let Err(error) = done {
                eprintln!("{name}: {error:#}");
            }
        });
    }
}

async fn forward_to(stream: &mut QSocketStream, port: u16) -> Result<()> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    copy_bidirectional(stream, &mut socket).await?;
    Ok(())
}

/// Reads to the end, answers with the digest, and prints it.
async fn take(stream: &mut QSocketStream) -> Result<()> {
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

/// Sends so much in this time, evenly, while it forwards sockets.
async fn send(server: String, mib: u64, span: Duration, forwards: Vec<Forward>) -> Result<()> {
    let config = Config::load()?;
    let (host, port) = parse_name_port(&server)?;
    let targets = config.names().lookup(host, port)?;
    let endpoint = Endpoint::client(config)?;
    endpoint.hops_up(25).await;
    for forward in forwards {
        let listener = UnixListener::bind(&forward.socket)?;
        tokio::spawn(listen(listener, endpoint.clone(), targets.clone(), forward.name));
    }
    println!("ready");
    // Caught from now on, however early it comes.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stream = endpoint.connect_to(targets, TRANSFER).await?;
    let (mut digest, mut rng) = (Sha256::new(), ChaCha20Rng::seed_from_u64(25));
    let mut bytes = vec![0; STEP];
    let begun = Instant::now();
    for step in 0..mib {
        rng.fill_bytes(&mut bytes);
        digest.update(&bytes);
        stream.write_all(&bytes).await.map_err(named)?;
        if step == HALF_A_GIGABYTE {
            println!("half a gigabyte");
        }
        // The server that is to be killed is killed in the middle: such a transfer is as fast as it can be.
        tokio::time::sleep_until(begun + span.mul_f64((step + 1) as f64 / mib as f64)).await;
    }
    stream.shutdown().await.map_err(named)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(named)?;
    let digest = hex(&digest.finalize());
    ensure!(answer == digest, "sent {digest}, the server has {answer:?}");
    println!("digest {digest}");
    // The programs behind the sockets may go on.
    interrupt.recv().await;
    Ok(())
}

/// With its kind, which is what the documentation promises.
fn named(error: std::io::Error) -> anyhow::Error {
    anyhow!("{:?}: {error}", error.kind())
}

async fn listen(listener: UnixListener, endpoint: Endpoint, targets: Targets, name: String) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let (endpoint, targets, name) = (endpoint.clone(), targets.clone(), name.clone());
        tokio::spawn(async move {
            let forwarded = async {
                let mut stream = endpoint.connect_to(targets, &name).await?;
                copy_bidirectional(&mut socket, &mut stream).await
            };
            if let Err(error) = forwarded.await {
                eprintln!("{name}: {error}");
            }
        });
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}
