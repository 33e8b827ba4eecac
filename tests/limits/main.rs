//! Attacks on real processes, one after the other: what each costs its victim, and whether anybody else notices.
//!
//! ```text
//! cargo build --release -p raida-relay
//! cargo run --release -p qsocket-tests --bin limits
//! ```
//!
//! It starts 25 relays, a server and clients, attacks them, and prints one table. Memory is what the system says of the
//! victim's process: resident before, at its peak, and afterwards. An attack passes if the victim grew by no more than
//! is stated for it and whoever was honest meanwhile was served in time. The exit code is 1 if one does not.

mod client;
mod hop;
mod many;
mod measure;
mod party;
mod relay;
mod server;

use anyhow::{Result, ensure};
use clap::Parser;
use measure::{Row, table};
use party::Role;
use qsocket_tests::process::Raida;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::ExitCode;

/// Files that this program has open at most: more connections than a relay takes.
const FILES: u64 = 19_000;

#[derive(Debug, Parser)]
#[command(about = "Attacks on real relays, servers and clients")]
struct Args {
    /// Only attacks whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
    /// Be a part of it; for this program's own use.
    #[command(subcommand)]
    role: Option<Role>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.role {
        Some(role) => party::run(role).map(|()| true),
        None => attack_all(&args.only),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// An attack: its name, and what it is.
type Attack = (&'static str, fn(&World) -> Result<Vec<Row>>);

/// In this order; those behind need what those before leave as it was.
const ATTACKS: [Attack; 13] = [
    ("half-open", relay::half_open),
    ("replayed HELLO", relay::replayed_hello),
    ("strange HELLO", relay::strange_hello),
    ("lengths", relay::lengths),
    ("control frames", relay::control_frames),
    ("routes", relay::routes),
    ("stuck server", relay::stuck_server),
    ("files", relay::files),
    ("gaps", server::gaps),
    ("control packets", server::control_packets),
    ("unread", server::unread),
    ("openings", server::openings),
    ("idle streams", many::idle_streams),
];

/// What is attacked.
pub(crate) struct World {
    pub(crate) raida: Raida,
}

fn attack_all(only: &str) -> Result<bool> {
    more_files()?;
    // `client-1` is honest, `client-2` is not; `server-1` runs, `server-2` is played here.
    let world = World { raida: Raida::start(2, 2)? };
    let (mut rows, mut broken) = (Vec::new(), 0);
    let storm: Attack = ("storm", many::storm);
    for (name, attack) in ATTACKS.into_iter().chain([storm]).filter(|(name, _)| name.contains(only)) {
        eprintln!("{name} ...");
        match attack(&world) {
            Ok(more) => rows.extend(more),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                broken += 1;
            }
        }
        world.raida.check_relays()?;
    }
    println!("{}", table(&rows));
    let failed = rows.iter().filter(|row| !row.passed()).count();
    println!("{} of {} passed, {broken} attacks came to no end", rows.len() - failed, rows.len());
    Ok(failed + broken == 0)
}

/// This process, and those that it starts from now on, may have as many as the system lets them.
fn more_files() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    ensure!(maximum.is_none_or(|most| most >= FILES), "{FILES} open files are needed: raise `ulimit -Hn`");
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
