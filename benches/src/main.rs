//! Measures QSocket beside mutual TLS 1.3 on the same machine in the same run.
//!
//! ```text
//! cargo run --release -p qsocket-benches -- compare [--quick] [--rounds N] [--bytes N] [--write]
//! ```

mod compare;

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
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Compare(args) => compare::run(&args),
    }
}
