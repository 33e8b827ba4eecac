//! The program `qsocket`: administers the keys of clients and servers, exchanges them, and looks up and holds names.
//! `docs/keys.md` and `docs/names.md` are its manuals.

mod cli;
mod exchange;
mod keys;
mod lookup;
mod name;
mod output;
mod passphrase;

use clap::Parser;
use cli::{Cli, Command};
use qsocket_files::harden::harden;
use qsocket_files::program;
use rustix::fs::Mode;
use std::process::ExitCode;

/// Reads the command line and does what it says.
///
/// Exit codes: 0 done, 1 failed (the reason is on standard error), 2 the command line is wrong, 3 `keys verify` found
/// relays that do not hold the key, and sixteen or more that do.
fn main() -> ExitCode {
    // Whatever this program writes is for its own user alone.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let Cli { command } = Cli::parse();
    let done = harden().map_err(anyhow::Error::from).and_then(|()| match command {
        Command::Keys(args) => keys::keys(&args),
        Command::Exchange(args) => exchange::exchange(&args),
        Command::Receive(args) => exchange::receive(&args),
        Command::Lookup(args) => lookup::lookup(&args),
        Command::Name(args) => name::name(&args),
        Command::Completions(args) => printed(program::completions::<Cli>(&args)),
        Command::Man(args) => printed(program::man::<Cli>(&args)),
    });
    match done {
        Ok(code) => code,
        Err(e) => {
            eprintln!("qsocket: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn printed(done: std::io::Result<()>) -> anyhow::Result<ExitCode> {
    Ok(done.map(|()| ExitCode::SUCCESS)?)
}
