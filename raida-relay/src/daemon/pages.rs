//! Completions and manual pages, made from the command line itself.

use super::cli::{Cli, CompletionsArgs, ManArgs};
use anyhow::Context;
use clap::{Command, CommandFactory};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// The program's name, as its users call it.
const NAME: &str = "raida-relay";

/// Prints the script of a shell.
///
/// # Errors
/// When standard output fails.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    super::say_bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints one page or writes all.
///
/// # Errors
/// When a page cannot be written.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let mut command = Cli::command();
    command.build();
    match &args.dir {
        None => super::say_bytes(&page(&command)?)?,
        Some(dir) => write_all(&command, NAME, dir)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

/// The page of a command and those of its subcommands, `raida-relay-enroll-permit.1` and so on.
fn write_all(command: &Command, name: &str, dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(format!("{name}.1"));
    fs::write(&path, page(command)?).with_context(|| path.display().to_string())?;
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        write_all(inner, &format!("{name}-{}", inner.get_name()), dir)?;
    }
    Ok(())
}
