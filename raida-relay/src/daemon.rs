//! The program around the library: commands, configuration, the store of principals, signals.

mod admin;
mod check;
mod cli;
mod config;
mod enrol;
mod init;
mod log;
mod metrics;
mod names;
mod notify;
mod open_files;
mod posts;
mod principal;
mod principals;
mod run;
mod state;
mod status;
mod store;

use clap::Parser;
use cli::{Cli, Command};
use qsocket_files::harden::harden;
use qsocket_files::program;
use rustix::fs::Mode;
use std::io;
use std::process::ExitCode;

/// Reads the command line and does what it says.
///
/// Exit codes: 0 done, 1 failed (the reason is on standard error), 2 the command line is wrong.
pub(crate) fn main() -> ExitCode {
    // Whatever this program writes, the journals of SQLite included, is for its own user alone.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let Cli { command } = Cli::parse();
    let done = harden().map_err(anyhow::Error::from).and_then(|()| match command {
        Command::Run(args) => run::run(&args),
        Command::Cluster(args) => run::cluster(&args),
        Command::Check(args) => check::check(&args),
        Command::Principal(args) => principal::principal(&args),
        Command::Names(args) => names::names(&args),
        Command::Payments(args) => names::payments(&args),
        Command::Status(args) => status::status(&args).map(|()| ExitCode::SUCCESS),
        Command::Init(args) => init::init(&args),
        Command::Enroll(args) => enrol::enrol(&args),
        Command::Completions(args) => done(program::completions::<Cli>(&args)),
        Command::Man(args) => done(program::man::<Cli>(&args)),
    });
    match done {
        Ok(code) => code,
        Err(e) => {
            eprintln!("raida-relay: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn done(printed: io::Result<()>) -> anyhow::Result<ExitCode> {
    Ok(printed.map(|()| ExitCode::SUCCESS)?)
}

fn say(text: &str) -> io::Result<()> {
    program::say(text.as_bytes())
}
