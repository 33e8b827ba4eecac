//! What command-line programs share: what they print, their completions and manual pages.

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Flags of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder for the pages, which must be there
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints on standard output. Who stops reading, as `head` does, has read enough: that is no failure.
///
/// # Errors
/// When the output fails otherwise.
pub fn say(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e),
        _ => Ok(()),
    }
}

/// Prints the completions of a program's command line for a shell.
///
/// # Errors
/// When standard output fails.
pub fn completions<C: CommandFactory>(args: &CompletionsArgs) -> io::Result<()> {
    let (mut command, mut script) = (C::command(), Vec::new());
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    say(&script)
}

/// Prints the manual page of a program, or writes one for each of its commands.
///
/// # Errors
/// When a page cannot be written; the text names its path.
pub fn man<C: CommandFactory>(args: &ManArgs) -> io::Result<()> {
    let mut command = C::command();
    command.build();
    match &args.dir {
        None => say(&page(&command)?),
        Some(dir) => write_all(&command, command.get_name(), dir),
    }
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

/// The page of a command and those of its subcommands, `qsocket-keys-list.1` and so on.
fn write_all(command: &Command, name: &str, dir: &Path) -> io::Result<()> {
    let path = dir.join(format!("{name}.1"));
    fs::write(&path, page(command)?)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        write_all(inner, &format!("{name}-{}", inner.get_name()), dir)?;
    }
    Ok(())
}
