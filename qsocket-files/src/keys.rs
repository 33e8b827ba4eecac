//! Key files: reading, checking and writing RAIDA keys and Encryption keys, the folder that holds them, and the files of
//! an enrolment.
//!
//! All are TOML, described in `docs/configuration.md`; a folder of them, [`KeyStore`], in `docs/keys.md`. A file is
//! refused when others could have read or replaced it; the error names the command that mends it. No error repeats what
//! stands in the file.
//!
//! The functions block on the file system; call them before the runtime is busy or from a blocking task.

pub mod cloudcoin;
pub mod enrolment;
mod file;
mod format;
mod info;
mod partial;
mod ring;
pub mod sealed;
mod store;
#[cfg(test)]
mod tests;

use crate::text::quoted;
pub use info::{KeyInfo, KeyName, KeyState, MAX_NAME, MAX_REPLACED, NameError, Origin, StoredKey, parse_id};
pub use partial::PartialKey;
pub use qsocket_proto::crypto::schedule::EncryptionKey;
pub use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
pub use qsocket_proto::ids::KeyId;
use qsocket_proto::ids::Principal;
use qsocket_proto::raida_key::RaidaKey;
pub use qsocket_proto::raida_key::Strength;
pub use ring::{Keyring, NoUsableKey};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
pub use store::{Contents, Installed, KeyStore, LOCK_WAIT, MAX_KEYS, RaidaKeyInfo, StoreError};

/// Largest key file that is read. A RAIDA key of 256-bit numbers takes under 2 KiB; the rest is for comments.
pub const MAX_FILE_BYTES: usize = 16 * 1024;

/// An Encryption key with its id and the principal that it is shared with, as a file holds it.
pub struct SharedKey {
    id: KeyId,
    with: Principal,
    key: Arc<EncryptionKey>,
}

impl SharedKey {
    /// Puts the parts together; `None` when the id is all zero, which stands for no key.
    pub fn new(id: KeyId, with: Principal, key: impl Into<Arc<EncryptionKey>>) -> Option<Self> {
        (id.0 != [0; 16]).then(|| Self { id, with, key: key.into() })
    }

    /// The key's public name, the same at both principals.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The other principal.
    pub fn with(&self) -> Principal {
        self.with
    }

    /// The key itself.
    pub fn key(&self) -> &EncryptionKey {
        &self.key
    }

    /// The key itself, to be shared.
    pub fn secret(&self) -> &Arc<EncryptionKey> {
        &self.key
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKey").field("id", &self.id).field("with", &self.with).finish_non_exhaustive()
    }
}

/// Reads a RAIDA key file.
///
/// # Errors
/// When others can read or replace the file, or its content is not a RAIDA key.
pub fn load_raida_key(path: impl AsRef<Path>) -> Result<RaidaKey, KeyFileError> {
    let path = path.as_ref();
    let bytes = file::read(path)?;
    format::parse_raida_key(&bytes).map_err(|e| e.at(path))
}

/// Reads the file of an Encryption key that may be used now.
///
/// # Errors
/// As [`load_raida_key`], and when the key is revoked, retired or has expired.
pub fn load_encryption_key(path: impl AsRef<Path>) -> Result<SharedKey, KeyFileError> {
    let path = path.as_ref();
    let bytes = file::read(path)?;
    format::encryption::parse_usable(&bytes, SystemTime::now()).map_err(|e| e.at(path))
}

/// Reads an Encryption key file with all that it says of the key, whatever its state.
///
/// # Errors
/// As [`load_raida_key`].
pub fn load_stored_key(path: impl AsRef<Path>) -> Result<StoredKey, KeyFileError> {
    let path = path.as_ref();
    let bytes = file::read(path)?;
    format::encryption::parse(&bytes).map_err(|e| e.at(path))
}

/// Reads a file that holds one authenticity number: 32 or 64 hex digits and nothing else but white space around them.
///
/// # Errors
/// When others can read or replace the file, or its content is not a number.
pub fn load_number(path: impl AsRef<Path>) -> Result<AuthenticityNumber, KeyFileError> {
    let path = path.as_ref();
    let bytes = file::read(path)?;
    format::parse_number(&bytes).map_err(|e| e.at(path))
}

/// Writes a RAIDA key file with mode 0600, replacing an old one in one step.
///
/// # Errors
/// When others can write to the folder, or the file system refuses; an old file is then as it was, unless the error
/// is in making the new one durable.
pub fn save_raida_key(path: impl AsRef<Path>, key: &RaidaKey) -> Result<(), KeyFileError> {
    file::write(path.as_ref(), format::write_raida_key(key).as_bytes())
}

/// Writes an Encryption key file. As [`save_raida_key`].
///
/// # Errors
/// As [`save_raida_key`].
pub fn save_encryption_key(path: impl AsRef<Path>, key: &SharedKey) -> Result<(), KeyFileError> {
    save_stored_key(path, &StoredKey::from(key))
}

/// Writes an Encryption key file with all that is known of the key. As [`save_raida_key`].
///
/// # Errors
/// As [`save_raida_key`].
pub fn save_stored_key(path: impl AsRef<Path>, key: &StoredKey) -> Result<(), KeyFileError> {
    file::write(path.as_ref(), format::encryption::write(key).as_bytes())
}

/// Why a key file is not used, and what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A link, behind which another file could be put at any time.
    #[error("{} is a symbolic link; name the file that it points to", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// A folder, a pipe or a device.
    #[error("{} is not a regular file; name a key file", path.display())]
    NotRegular {
        /// What was named.
        path: PathBuf,
    },
    /// Another user's file.
    #[error("{} belongs to user {owner}, who can read and change it; run: chown {user} {}", path.display(), quoted(path))]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs the program.
        user: u32,
    },
    /// A file that others may open.
    #[error("{} can be opened by others (mode {mode:04o}); run: chmod 600 {}", path.display(), quoted(path))]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A folder in which others may replace the file.
    #[error(
        "others can replace the key in the folder {} (mode {mode:04o}); run: chmod go-w {}",
        path.display(), quoted(path)
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// More than any key file holds.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes; it is not a key file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The text is not a key of the kind that is needed. Repeats nothing of the text.
    #[error("{}:{line}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to write.
        problem: String,
    },
}

impl KeyFileError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// The kind of the `io::Error` that this becomes.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
            Self::Owner { .. } | Self::Mode { .. } | Self::Folder { .. } => io::ErrorKind::PermissionDenied,
            Self::Symlink { .. } | Self::NotRegular { .. } => io::ErrorKind::InvalidInput,
            Self::TooLarge { .. } | Self::Content { .. } => io::ErrorKind::InvalidData,
        }
    }
}

/// Shows the sentence that `Display` shows: a program whose `main` returns the error prints this form, and its user
/// needs the words that say what to do.
impl fmt::Debug for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<KeyFileError> for io::Error {
    fn from(e: KeyFileError) -> Self {
        Self::new(e.kind(), e)
    }
}
