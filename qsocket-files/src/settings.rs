//! Settings files: TOML that is checked before it is used, with errors that name file and line.
//!
//! The functions block on the file system.

use crate::text;
use qsocket_proto::ids::Principal;
use serde::de::DeserializeOwned;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
pub use toml::Spanned;
pub use toml::value::Datetime;

/// Largest settings file that is read: room for some ten thousand names and list entries.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// A settings file that was read, for parsing and for errors that name a line of it.
#[derive(Debug)]
pub struct SettingsFile {
    path: PathBuf,
    text: String,
}

impl SettingsFile {
    /// Reads a file, of at most [`MAX_FILE_BYTES`], that not everybody may write to.
    ///
    /// # Errors
    /// When it cannot be read, everybody may write to it, it is too large, or it is not plain UTF-8.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, SettingsError> {
        let path = path.as_ref();
        let bytes = read(path)?;
        text::plain(&bytes).map_err(|(line, what)| SettingsError::Setting {
            path: path.to_owned(),
            line,
            problem: format!("the file {what}"),
        })?;
        let path = path.to_owned();
        let text = String::from_utf8(bytes)
            .map_err(|e| SettingsError::Io { path: path.clone(), source: io::Error::other(e) })?;
        Ok(Self { path, text })
    }

    /// Parses the text.
    ///
    /// # Errors
    /// When it is not TOML, or not what `T` is; unknown settings are errors if `T` says so to serde.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        toml::from_str(&self.text).map_err(|e| SettingsError::Setting {
            path: self.path.clone(),
            line: text::line_of(&self.text, e.span().unwrap_or(0..0)),
            problem: e.message().to_owned(),
        })
    }

    /// Which file it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line of a value, from 1.
    pub fn line<T>(&self, at: &Spanned<T>) -> usize {
        text::line_of(&self.text, at.span())
    }

    /// An error about a value.
    pub fn error<T>(&self, at: &Spanned<T>, problem: impl ToString) -> SettingsError {
        SettingsError::Setting { path: self.path.clone(), line: self.line(at), problem: problem.to_string() }
    }

    /// A path in the file, which starts at the file's folder unless it is absolute.
    pub fn resolve(&self, file: &Spanned<String>) -> PathBuf {
        self.path.parent().unwrap_or_else(|| Path::new("")).join(file.get_ref())
    }

    /// An `IP:PORT`.
    ///
    /// # Errors
    /// When the text is something else.
    pub fn address(&self, text: &Spanned<String>) -> Result<SocketAddr, SettingsError> {
        text.get_ref().parse().map_err(|_| {
            let what = format!(
                "{:?} is not an address; write \"IP:PORT\", for example \"127.0.0.1:50000\"",
                text.get_ref()
            );
            self.error(text, what)
        })
    }

    /// A principal, `network.denomination.serial`.
    ///
    /// # Errors
    /// When the text is something else.
    pub fn principal(&self, text: &Spanned<String>) -> Result<Principal, SettingsError> {
        text.get_ref().parse().map_err(|e| self.error(text, e))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SettingsError> {
    let failed = |source| SettingsError::Io { path: path.to_owned(), source };
    let meta = path.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file; name a configuration file",
        )));
    }
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(SettingsError::Writable { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(SettingsError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Why a settings file is not used, and what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everybody may change whom connections go to.
    #[error("everybody can write to {} (mode {mode:04o}); run: chmod o-w {}", path.display(), text::quoted(path))]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// More than any configuration holds.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes; it is not a configuration file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A setting is unknown, missing, of the wrong type, out of range, or does not go with another one.
    #[error("{}:{line}: {problem}", path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to write.
        problem: String,
    },
}

impl SettingsError {
    /// The kind of the `io::Error` that this becomes.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
            Self::Writable { .. } => io::ErrorKind::PermissionDenied,
            Self::TooLarge { .. } | Self::Setting { .. } => io::ErrorKind::InvalidData,
        }
    }
}

/// Shows the sentence that `Display` shows: a program whose `main` returns the error prints this form, and its user
/// needs the words that say what to do.
impl fmt::Debug for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<SettingsError> for io::Error {
    fn from(e: SettingsError) -> Self {
        Self::new(e.kind(), e)
    }
}
