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
mod pages;
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
use rustix::fs::Mode;
use std::io::{self, Write as _};
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
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
    });
    match done {
        Ok(code) => code,
        Err(e) => {
            eprintln!("raida-relay: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints on standard output. Who stops reading, as `head` does, has read enough: that is no failure.
fn say(text: &str) -> io::Result<()> {
    say_bytes(text.as_bytes())
}

fn say_bytes(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e),
        _ => Ok(()),
    }
}
