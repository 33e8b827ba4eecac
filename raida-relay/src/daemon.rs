//! The program around the library.

#[allow(dead_code, reason = "only a relay that runs has an admin port")]
mod admin;
mod harden;
#[allow(dead_code, reason = "only a relay that runs has a log")]
mod log;
mod metrics;
#[allow(dead_code, reason = "only a relay that runs tells the service manager")]
mod notify;
mod status;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A relay of the RAIDA.
#[derive(Debug, Parser)]
#[command(name = "raida-relay", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Asks a running relay how it stands
    Status(status::StatusArgs),
}

/// Reads the command line and does what it says.
///
/// Exit codes: 0 done, 1 failed (the reason is on standard error), 2 the command line is wrong.
pub(crate) fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let done = harden::harden().and_then(|()| match command {
        Command::Status(args) => status::status(&args),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("raida-relay: {e:#}");
            ExitCode::FAILURE
        }
    }
}
