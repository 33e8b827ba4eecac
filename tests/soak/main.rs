//! Real processes under chaos, for as long as one likes: 25 relays, a server and a client, while relays are killed, frozen
//! and started again at random.
//!
//! ```text
//! cargo build --release -p raida-relay
//! cargo run --release -p qsocket-tests --bin soak -- --minutes 5
//! ```
//!
//! Meanwhile 4 GiB flow through one stream, and, where they are installed, `redis-benchmark` and `h2load` run through
//! forwarded sockets against `redis-server` and `nghttpd`. It demands equal digests and programs that saw no error. Then the
//! server is killed in the middle of a transfer: the client must get the documented error, never a clean end. The seed
//! of the chaos is printed and can be given.

mod chaos;
mod load;
mod party;

use anyhow::{Context, Result, bail, ensure};
use chaos::{Chaos, Report};
use clap::Parser;
use load::Load;
use party::{Role, client, server};
use qsocket_tests::process::{Process, Raida};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// After the chaos everything that is under way ends within this time.
const SETTLE: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
#[command(about = "Real relays, server and client under chaos")]
struct Args {
    /// How long relays fail.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Bytes that flow through one stream meanwhile, in MiB.
    #[arg(long, default_value_t = 4096)]
    mib: u64,
    /// Most relays that are killed or frozen at once, of 25.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u8).range(0..=24))]
    down: u8,
    /// Seed of the chaos; drawn unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Be a part of it; for this program's own use.
    #[command(subcommand)]
    role: Option<Role>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.role {
        Some(role) => party::run(role),
        None => soak(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn soak(args: &Args) -> Result<()> {
    ensure!(
        args.minutes > 0.0 && args.minutes <= 24.0 * 60.0,
        "--minutes: write more than 0 and at most 1440"
    );
    ensure!((1..=1 << 20).contains(&args.mib), "--mib: write 1 to 1048576");
    let seed = args.seed.unwrap_or_else(rand_seed);
    let span = Duration::from_secs_f64(args.minutes * 60.0);
    println!(
        "seed {seed}; {} MiB in {:.0} s; at most {} of 25 relays down at once",
        args.mib,
        span.as_secs_f64(),
        args.down
    );

    let raida = Raida::start(1, 1)?;
    let loads = Load::find(raida.folder())?;
    let mut server = server(&raida, &loads)?;
    server.says("listening")?;
    let mut client = client(&raida, &Role::send(args.mib, span), &loads)?;
    client.says("ready")?;
    let running: Vec<_> = loads.iter().map(|load| load.run(span)).collect::<Result<_>>()?;

    let mut chaos = Chaos::new(&raida, seed, args.down.into());
    let begun = Instant::now();
    while begun.elapsed() < span {
        chaos.step()?;
        client.check_alive()?;
        server.check_alive()?;
    }
    let report = chaos.heal()?;
    println!("{report}");

    let deadline = Instant::now() + SETTLE;
    let sent = client.digest(deadline).context("the transfer")?;
    let received = server.digest(deadline).context("the server's end of the transfer")?;
    ensure!(sent == received, "sent {sent}, received {received}");
    println!("transfer: {} MiB, digests equal: {sent}", args.mib);
    for load in running {
        println!("{}", load.finish(deadline)?);
    }
    client.stop(deadline)?;

    server_dies(&raida, server)?;
    let Report { kills, freezes, .. } = report;
    println!("PASSED: {kills} kills and {freezes} freezes, no error seen by any program (seed {seed})");
    Ok(())
}

/// Kills the server in the middle of a transfer, and starts it again.
fn server_dies(raida: &Raida, mut server: Process) -> Result<()> {
    // Whatever the sum is, this one does not get to its end.
    let mut client = client(raida, &Role::send(1 << 16, Duration::ZERO), &[])?;
    client.says("half a gigabyte")?;
    server.kill()?;
    let mut again = self::server(raida, &[])?;
    again.says("listening")?;
    let deadline = Instant::now() + SETTLE;
    let (status, told) = client.fails(deadline)?;
    ensure!(!status.success(), "the client of a server that was killed ended as if nothing were");
    let documented =
        ["ConnectionReset", "UnexpectedEof", "TimedOut"].iter().find(|kind| told.contains(*kind));
    let Some(kind) = documented else { bail!("the client of a server that was killed says {told:?}") };
    println!("server killed: the client got {kind} ({})", told.trim());
    let mut client = self::client(raida, &Role::send(16, Duration::ZERO), &[])?;
    let deadline = Instant::now() + SETTLE;
    let sent = client.digest(deadline)?;
    ensure!(sent == again.digest(deadline)?, "a transfer to the restarted server differs");
    println!("server restarted: a new stream to it works");
    client.stop(deadline)
}

fn rand_seed() -> u64 {
    let mut seed = [0; 8];
    // From the system's clock and process: a seed is no secret.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    seed.copy_from_slice(
        &(now.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(32)).to_le_bytes(),
    );
    u64::from_le_bytes(seed)
}
