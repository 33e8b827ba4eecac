//! Where passphrases come from.

use crate::cli::PassphraseArgs;
use anyhow::bail;
use qsocket::keys::sealed::Passphrase;
use std::io;
use std::path::PathBuf;

/// The environment variable that names the file with the passphrase. The passphrase itself is not taken from the
/// environment, which other processes of the user can read.
pub(crate) const VARIABLE: &str = "QSOCKET_PASSPHRASE_FILE";

/// What errors about a pipe name instead of a file.
pub(crate) const PIPE: &str = "standard input";

/// Reads the passphrase. `stdin_taken`: the key itself comes from standard input.
///
/// # Errors
/// When nothing says where it is, or what is there is none.
pub(crate) fn read(args: &PassphraseArgs, stdin_taken: bool) -> anyhow::Result<Passphrase> {
    if args.passphrase_stdin {
        if stdin_taken {
            bail!("the key comes from standard input already; name a file with --passphrase-file");
        }
        return Ok(Passphrase::read(io::stdin().lock(), PIPE)?);
    }
    let variable = || std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
    match args.passphrase_file.clone().or_else(variable) {
        Some(file) => Ok(Passphrase::load(file)?),
        None => bail!(
            "a passphrase is needed: name its file with --passphrase-file or ${VARIABLE}, or give it with \
             --passphrase-stdin"
        ),
    }
}
