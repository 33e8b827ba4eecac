//! Measures QSocket beside mutual TLS 1.3 on the same machine in the same run.
//!
//! ```text
//! cargo run --release -p qsocket-benches -- compare [--relay | --paths] [--quick] [--rounds N] [--bytes N] [--write]
//! cargo run --release -p qsocket-benches -- plots [--quick] [--rounds N] [--write]
//! cargo run --release -p qsocket-benches -- work <full|adaptive|tls|...> [--echoes N] [--bytes N] ...
//! ```

mod compare;
mod party;
mod plots;
mod work;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the side-by-side table: bulk, opening, echo and axum against mutual TLS 1.3
    Compare(compare::Args),
    /// Plot what streams, messages and clients cost by their number and size
    Plots(plots::Args),
    /// Do one kind of work of one peer, for a profiler to look at
    Work(work::Args),
    /// One of the processes that the others start
    #[command(subcommand, hide = true)]
    Party(party::Party),
}

fn main() -> Result<()> {
    allow_open_files();
    match Args::parse().command {
        Command::Compare(args) => compare::run(&args),
        Command::Plots(args) => plots::run(&args),
        Command::Work(args) => work::run(&args),
        Command::Party(party) => party.run(),
    }
}

/// Takes as many open files as the system lets this process have: a thousand TLS connections have two thousand ends.
fn allow_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If it fails, the step that needs them says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
