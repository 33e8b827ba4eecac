//! Keys under a passphrase, to be carried or kept elsewhere; `docs/keys.md` describes the file.

use super::{KeyFileError, StoredKey, file, format};
use crate::rng::OsRng;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use qsocket_proto::crypto::aead::{Key, NONCE, TAG};
use qsocket_proto::crypto::secret::Secret;
use qsocket_proto::raida_key::RaidaKey;
use rand_core::Rng;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// Fewest characters of a passphrase that a key is sealed under. Argon2 makes a guess expensive; it does not make short
/// words hard to guess.
pub const MIN_PASSPHRASE: usize = 12;

/// Longest passphrase, in bytes: far above what people use, and a wrong file is told from one.
pub const MAX_PASSPHRASE: usize = 1024;

/// Least memory of one guess that a file may ask for.
pub const MIN_MEMORY_KIB: u32 = 8 * 1024;

/// Most memory that a file may ask for: what the smallest machines that run this can give for a moment.
pub const MAX_MEMORY_KIB: u32 = 256 * 1024;

/// Most memory times passes that a file may ask for, in KiB: one to two seconds of an ordinary processor.
pub const MAX_WORK_KIB: u32 = 1024 * 1024;

/// Most lanes. They are computed one after the other and cost nothing more.
pub const MAX_LANES: u32 = 16;

/// Salt of one file.
const SALT: usize = 16;

/// What the tag binds besides the sealed text, so that bytes of another kind of file are never taken for this one.
const CONTEXT: &[u8] = b"qsocket sealed-key 1";

/// A passphrase; erased when dropped.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// The bytes up to one line end at their end, which editors and `echo` append.
    ///
    /// # Errors
    /// When nothing is left, or more than [`MAX_PASSPHRASE`], or there are several lines.
    pub fn new(bytes: &[u8]) -> Result<Self, PassphraseError> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.len() {
            0 => Err(PassphraseError::Empty),
            n if n > MAX_PASSPHRASE => Err(PassphraseError::Long),
            _ if line.contains(&b'\n') => Err(PassphraseError::Lines),
            _ => Ok(Self(Zeroizing::new(line.to_vec()))),
        }
    }

    /// Reads a file that holds a passphrase and nothing else. It is as strict as a key file.
    ///
    /// # Errors
    /// When others can read or replace the file, or as [`Passphrase::new`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, SealError> {
        let path = path.as_ref();
        let problem = |e| SealError::Passphrase { path: path.to_owned(), source: e };
        Self::new(&file::read(path)?).map_err(problem)
    }

    /// Reads a pipe up to its end; `name` is what errors call it.
    ///
    /// # Errors
    /// When it cannot be read, or as [`Passphrase::new`].
    pub fn read(from: impl Read, name: impl AsRef<Path>) -> Result<Self, SealError> {
        let path = name.as_ref();
        let problem = |e| SealError::Passphrase { path: path.to_owned(), source: e };
        Self::new(&file::read_all(from, path)?).map_err(problem)
    }

    fn characters(&self) -> usize {
        std::str::from_utf8(&self.0).map_or(self.0.len(), |text| text.chars().count())
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Why text is no passphrase.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PassphraseError {
    /// Nothing.
    #[error("the passphrase is empty; write one line")]
    Empty,
    /// Too long.
    #[error("the passphrase is longer than {MAX_PASSPHRASE} bytes; this is another kind of file")]
    Long,
    /// More than one line.
    #[error("there is more than one line; write the passphrase alone")]
    Lines,
    /// Too short to seal under.
    #[error("the passphrase has fewer than {MIN_PASSPHRASE} characters; take six random words, for example")]
    Short,
}

/// What one guess of a passphrase costs: the parameters of Argon2id, RFC 9106.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Default for Cost {
    /// The second choice that RFC 9106, section 4, recommends for everybody: 64 MiB, three passes, four lanes.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

impl Cost {
    /// Parameters within the bounds of this module; `None` outside. Nothing is computed or reserved before this.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Option<Self> {
        let memory = (MIN_MEMORY_KIB..=MAX_MEMORY_KIB).contains(&memory_kib);
        let work = passes >= 1 && memory_kib.checked_mul(passes).is_some_and(|work| work <= MAX_WORK_KIB);
        let lanes_fit = (1..=MAX_LANES).contains(&lanes);
        (memory && work && lanes_fit).then_some(Self { memory_kib, passes, lanes })
    }

    /// Memory in KiB.
    pub fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// Passes over the memory.
    pub fn passes(&self) -> u32 {
        self.passes
    }

    /// Lanes.
    pub fn lanes(&self) -> u32 {
        self.lanes
    }

    fn derive(self, passphrase: &Passphrase, salt: &[u8; SALT]) -> Result<Key, SealError> {
        let failed = |e: argon2::Error| SealError::Derive(e.to_string());
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(failed)?;
        let mut memory = vec![Block::default(); params.block_count()];
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut derived = Ok(());
        let key = Secret::build(|out| {
            derived = argon.hash_password_into_with_memory(&passphrase.0, salt, out, &mut memory);
        });
        memory.iter_mut().for_each(Zeroize::zeroize);
        derived.map_err(failed)?;
        Ok(Key::new(&key))
    }
}

/// A key of either kind.
#[derive(Debug)]
pub enum AnyKey {
    /// A RAIDA key.
    Raida(RaidaKey),
    /// An Encryption key with what is known of it.
    Encryption(StoredKey),
}

impl AnyKey {
    /// The text of an ordinary key file, for a pipe: it holds the secret.
    pub fn text(&self) -> Zeroizing<String> {
        match self {
            Self::Raida(key) => format::write_raida_key(key),
            Self::Encryption(key) => format::encryption::write(key),
        }
    }

    /// Reads a key file of either kind.
    ///
    /// # Errors
    /// As [`load_raida_key`](super::load_raida_key).
    fn parse(bytes: &[u8]) -> Result<Self, format::Problem> {
        match format::kind(bytes)? {
            format::RAIDA_KEY => format::parse_raida_key(bytes).map(Self::Raida),
            _ => format::encryption::parse(bytes).map(Self::Encryption),
        }
    }

    /// Writes the key as an ordinary key file, which holds the secret for whoever can read it.
    ///
    /// # Errors
    /// As [`save_raida_key`](super::save_raida_key).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), KeyFileError> {
        file::write(path.as_ref(), self.text().as_bytes())
    }
}

/// A key whose file says how to open it, and is not opened.
#[derive(Debug)]
pub struct SealedKey {
    pub(super) cost: Cost,
    pub(super) salt: [u8; SALT],
    pub(super) nonce: [u8; NONCE],
    /// The sealed text and its tag.
    pub(super) sealed: Vec<u8>,
}

impl SealedKey {
    /// Seals a key. Takes some tenths of a second.
    ///
    /// # Errors
    /// When the passphrase is shorter than [`MIN_PASSPHRASE`].
    pub fn seal(key: &AnyKey, passphrase: &Passphrase, cost: Cost) -> Result<Self, SealError> {
        if passphrase.characters() < MIN_PASSPHRASE {
            return Err(SealError::Short(PassphraseError::Short));
        }
        let (mut salt, mut nonce) = ([0; SALT], [0; NONCE]);
        OsRng.fill_bytes(&mut salt);
        OsRng.fill_bytes(&mut nonce);
        let mut this = Self { cost, salt, nonce, sealed: Vec::new() };
        let aead = cost.derive(passphrase, &salt)?;
        let text = key.text();
        // Sealed where it stands, so that no copy of the text is left.
        let mut sealed = Vec::with_capacity(text.len() + TAG);
        sealed.extend_from_slice(text.as_bytes());
        let tag = aead.seal_in_place(nonce, &this.associated(), &mut sealed);
        sealed.extend_from_slice(&tag);
        this.sealed = sealed;
        Ok(this)
    }

    /// Opens the key. Takes as long as its [`Cost`] says, which is bounded.
    ///
    /// # Errors
    /// [`SealError::Wrong`] for another passphrase and for a file that was changed: the two cannot be told apart.
    pub fn open(&self, passphrase: &Passphrase) -> Result<AnyKey, SealError> {
        let Some((text, tag)) = self.sealed.split_last_chunk::<TAG>() else { return Err(SealError::Wrong) };
        let aead = self.cost.derive(passphrase, &self.salt)?;
        let mut text = Zeroizing::new(text.to_vec());
        aead.open_in_place(self.nonce, &self.associated(), &mut text, tag).map_err(|_| SealError::Wrong)?;
        AnyKey::parse(&text).map_err(|e| SealError::Inside { problem: e.to_string() })
    }

    /// What opening it costs.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Writes the file with mode 0600, replacing an old one in one step.
    ///
    /// # Errors
    /// As [`save_raida_key`](super::save_raida_key).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), KeyFileError> {
        file::write(path.as_ref(), self.text().as_bytes())
    }

    /// The text of the file, for a pipe.
    pub fn text(&self) -> String {
        format::sealed::write(self)
    }

    fn associated(&self) -> Vec<u8> {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let numbers = [memory_kib, passes, lanes].map(u32::to_be_bytes);
        [CONTEXT, numbers.as_flattened(), &self.salt, &self.nonce].concat()
    }
}

/// What a file holds that may be brought into a store.
#[derive(Debug)]
pub enum Exported {
    /// A key that can be read.
    Open(AnyKey),
    /// A key under a passphrase.
    Sealed(SealedKey),
}

/// Reads a key file of any kind: a RAIDA key, an Encryption key whatever its state, or one of them under a passphrase.
///
/// # Errors
/// As [`load_raida_key`](super::load_raida_key).
pub fn load_exported(path: impl AsRef<Path>) -> Result<Exported, KeyFileError> {
    let path = path.as_ref();
    parse_exported(&file::read(path)?).map_err(|e| e.at(path))
}

/// As [`load_exported`], from a pipe up to its end; `name` is what errors call it.
///
/// # Errors
/// When it cannot be read, is longer than any key file, or is none.
pub fn read_exported(from: impl Read, name: impl AsRef<Path>) -> Result<Exported, KeyFileError> {
    let path = name.as_ref();
    parse_exported(&file::read_all(from, path)?).map_err(|e| e.at(path))
}

fn parse_exported(bytes: &[u8]) -> Result<Exported, format::Problem> {
    match format::kind(bytes)? {
        format::SEALED_KEY => format::sealed::parse(bytes).map(Exported::Sealed),
        _ => AnyKey::parse(bytes).map(Exported::Open),
    }
}

/// Why a key is not sealed or not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Not the passphrase that the key was sealed under.
    #[error("wrong passphrase, or the file was changed; nothing was imported")]
    Wrong,
    /// The file of the passphrase is refused.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Its content is no passphrase.
    #[error("{}: {source}", path.display())]
    Passphrase {
        /// Where it came from.
        path: PathBuf,
        /// What is wrong.
        source: PassphraseError,
    },
    /// Too short to seal under.
    #[error(transparent)]
    Short(PassphraseError),
    /// Argon2 refuses what is in bounds.
    #[error("the key of the passphrase cannot be computed: {0}")]
    Derive(String),
    /// Who sealed it sealed no key.
    #[error("the passphrase is right, but no key is inside: {problem}")]
    Inside {
        /// What is wrong with it.
        problem: String,
    },
}

impl From<SealError> for io::Error {
    fn from(e: SealError) -> Self {
        let kind = match &e {
            SealError::File(e) => e.kind(),
            SealError::Wrong | SealError::Inside { .. } => io::ErrorKind::InvalidData,
            SealError::Passphrase { .. } | SealError::Short(_) => io::ErrorKind::InvalidInput,
            SealError::Derive(_) => io::ErrorKind::Other,
        };
        Self::new(kind, e)
    }
}

#[cfg(test)]
mod tests;
