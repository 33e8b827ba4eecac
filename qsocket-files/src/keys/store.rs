//! A folder of keys that several processes use.

mod locked;
#[cfg(test)]
mod tests;

use super::file::Existing;
use super::ring::retired;
use super::{KeyFileError, KeyState, Keyring, MAX_REPLACED, PartialKey, StoredKey, format};
use crate::text::quoted;
use locked::{Folder, Locked, Mode};
use qsocket_proto::ids::{KeyId, Principal, Role};
use qsocket_proto::raida_key::{RaidaKey, Strength};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long an operation waits for other processes that use the folder: each holds it for milliseconds.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Most keys of one kind in a folder: a server with as many clients reads them in seconds, and they take some 100 MiB.
pub const MAX_KEYS: usize = 65_536;

/// A folder of RAIDA keys and Encryption keys, one file for each; `docs/keys.md` describes it.
///
/// ```text
/// DIR/                              0700
///     raida/1.0.1042.client.toml    0600, PRINCIPAL.ROLE
///     encryption/0a….toml           0600, 32 hex digits, the key's id
/// ```
///
/// Any number of processes and threads may use it: whoever writes holds a lock on the folder, whoever reads shares one,
/// and both wait at most [`LOCK_WAIT`]. The functions block; call them from a blocking task.
///
/// # What a crash leaves
/// Every operation takes effect with one renaming, which happens or does not: a process that is killed at any moment, or a
/// power loss, leaves the state before it or the state after it. What was being written is erased by the next
/// operation that writes.
///
/// ```no_run
/// use qsocket_files::keys::{EncryptionKey, Installed, KeyId, KeyInfo, KeyStore, Origin, StoredKey};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (id, secret) = (KeyId([1; 16]), EncryptionKey::import(&[7; 32])?);
/// let store = KeyStore::create("/var/lib/qsocket/keys")?;
/// let info = KeyInfo::new(id, "1.0.7".parse()?, Origin::Generated).with_own("1.0.1042".parse()?);
/// let key = StoredKey::new(info, secret).ok_or("the id is zero")?;
/// assert_eq!(store.install(&key)?, Installed::New);
/// assert_eq!(store.install(&key)?, Installed::Same); // again, after a crash perhaps
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct KeyStore {
    path: PathBuf,
    wait: Duration,
}

/// What installing a key did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The key is in the store now, and durable.
    New,
    /// It was there before, with the same secret and the same peer. Nothing was changed.
    Same,
}

/// What is known of a RAIDA key besides its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RaidaKeyInfo {
    /// Whose key it is.
    pub principal: Principal,
    /// The role it may be used in.
    pub role: Role,
    /// The length of its shortest number.
    pub strength: Strength,
}

/// All that a folder holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// The RAIDA keys, by principal and role.
    pub raida: Vec<RaidaKeyInfo>,
    /// The Encryption keys.
    pub encryption: Keyring,
    /// Files that are not what their place says, and what to do about each.
    pub problems: Vec<KeyFileError>,
}

impl KeyStore {
    /// A folder that is there.
    ///
    /// # Errors
    /// When it is not, or others may look into it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self { path: path.into(), wait: LOCK_WAIT };
        Folder::root(&store.path)?;
        Ok(store)
    }

    /// A folder that is made if it is not there; the one above it must be.
    ///
    /// # Errors
    /// When it cannot be made, or others may look into one that is there.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        locked::make(&path)?;
        Self::open(path)
    }

    /// Waits at most so long for other processes, in place of [`LOCK_WAIT`].
    #[must_use]
    pub fn with_lock_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    fn lock(&self, mode: Mode) -> Result<Locked, StoreError> {
        Locked::new(&self.path, mode, self.wait)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the files of Encryption keys are, once there was one.
    pub fn encryption_folder(&self) -> PathBuf {
        self.path.join(locked::ENCRYPTION)
    }

    /// The file of an Encryption key.
    pub fn encryption_file(&self, id: KeyId) -> PathBuf {
        self.encryption_folder().join(encryption_name(id))
    }

    /// The file of a RAIDA key.
    pub fn raida_file(&self, principal: Principal, role: Role) -> PathBuf {
        self.path.join(locked::RAIDA).join(raida_name(principal, role))
    }

    /// Puts an Encryption key into the store. When it returns the key is durable.
    ///
    /// It may stand beside others with the same peer; the newest opens connections. To have it take over from those, use
    /// [`rotate`](Self::rotate).
    ///
    /// # Errors
    /// [`StoreError::IdTaken`] when another key has the id, or had it and was revoked: a key is never overwritten. Else as
    /// [`open`](Self::open), when the folder is full, or the file system refuses; nothing is changed then.
    pub fn install(&self, key: &StoredKey) -> Result<Installed, StoreError> {
        let locked = self.lock(Mode::Write)?;
        install(&locked, &key.clone().replacing(Vec::new(), None))
    }

    /// Has a new Encryption key take over from the active ones with the same peer: it opens connections from now on, they
    /// are accepted until `old_until`, or until they are removed. One step: whoever reads the folder finds either the old
    /// ones active or the new one. Returns the ids of the retired ones.
    ///
    /// The peer needs the new key before this: a server accepts any active key, so servers install first.
    ///
    /// # Errors
    /// As [`install`](Self::install), [`StoreError::NotActive`] for a key that is retired itself, and when the files of the
    /// old keys cannot be read or are too many. Called again with the same key after a crash, it finishes and returns the
    /// same ids.
    pub fn rotate(&self, key: &StoredKey, old_until: Option<SystemTime>) -> Result<Vec<KeyId>, StoreError> {
        let info = key.info();
        let refused = || StoreError::NotActive { path: self.encryption_file(info.id) };
        if info.state != KeyState::Active {
            return Err(refused());
        }
        let locked = self.lock(Mode::Write)?;
        let ring = keyring(&locked)?;
        let is_old = |old: &StoredKey| {
            let own = info.own.is_none() || old.info().own == info.own;
            own && old.info().with == info.with && old.id() != info.id && old.info().state == KeyState::Active
        };
        let old: Vec<_> = ring.iter().filter(|old| is_old(old)).map(|old| old.id()).collect();
        if old.len() > MAX_REPLACED {
            return Err(StoreError::TooManyActive { with: info.with, active: old.len() });
        }
        let new = key.clone().replacing(old.clone(), old_until);
        match install(&locked, &new)? {
            Installed::New => settle(&locked, &new)?,
            Installed::Same => {
                let stands = load(&locked, info.id)?;
                if ring.get(info.id).is_none_or(|key| key.info().state != KeyState::Active) {
                    return Err(refused());
                }
                settle(&locked, &stands)?;
                if old.is_empty() {
                    return Ok(stands.info().replaces.clone());
                }
                // It stood beside those until now.
                let stands = stands.replacing(old.clone(), old_until);
                locked.write_encryption(&stands, Existing::Replace)?;
                settle(&locked, &stands)?;
            }
        }
        Ok(old)
    }

    /// Ends the use of an Encryption key for good: its secret is erased, its id stays, so that it cannot come back. Until a
    /// new key with the peer is installed, connections with it are refused; remove the revoked one to connect without.
    ///
    /// Connections that stand are not closed. True if it was not revoked before.
    ///
    /// # Errors
    /// [`StoreError::NoSuchKey`], and as [`install`](Self::install).
    ///
    /// # Security
    /// What stood on disk may survive all the same: see [`enrolment::erase`](super::enrolment::erase).
    pub fn revoke(&self, id: KeyId) -> Result<bool, StoreError> {
        let locked = self.lock(Mode::Write)?;
        let key = load(&locked, id)?;
        if key.info().state == KeyState::Revoked {
            return Ok(false);
        }
        settle(&locked, &key)?;
        locked.write_encryption(&key.in_state(KeyState::Revoked), Existing::Erase)?;
        Ok(true)
    }

    /// Removes an Encryption key, whatever its state, and erases its file, also one whose content is damaged. Nothing
    /// remembers it: it could be installed again, and the peer may be connected to without.
    ///
    /// # Errors
    /// [`StoreError::NoSuchKey`], and as [`install`](Self::install).
    pub fn remove(&self, id: KeyId) -> Result<(), StoreError> {
        let locked = self.lock(Mode::Write)?;
        match load(&locked, id) {
            Ok(key) => settle(&locked, &key)?,
            // Damaged, and all the more to be removed.
            Err(StoreError::File(KeyFileError::Content { .. } | KeyFileError::TooLarge { .. })) => {}
            Err(e) => return Err(e),
        }
        Ok(locked.take_away(locked::ENCRYPTION, &encryption_name(id))?)
    }

    /// The Encryption key of an id; `None` when there is none.
    ///
    /// # Errors
    /// When its file is refused.
    pub fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        let locked = self.lock(Mode::Read)?;
        match load(&locked, id) {
            Ok(key) => Ok(Some(key)),
            Err(StoreError::NoSuchKey { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All Encryption keys, for connections. There is no half of it: without a key that is meant to be used, a connection
    /// would be weaker than its owner thinks.
    ///
    /// # Errors
    /// When a file is refused, or there are more than [`MAX_KEYS`].
    pub fn keyring(&self) -> Result<Keyring, StoreError> {
        keyring(&self.lock(Mode::Read)?)
    }

    /// Everything in the folder; files that are refused are told and passed over.
    ///
    /// # Errors
    /// When the folder cannot be read, or holds more than [`MAX_KEYS`] of one kind.
    pub fn contents(&self) -> Result<Contents, StoreError> {
        let locked = self.lock(Mode::Read)?;
        let mut contents = Contents::default();
        for (name, path) in locked.names(locked::RAIDA)? {
            match locked.read_raida(&name, &path) {
                Ok(key) => contents.raida.push(RaidaKeyInfo::from(&key)),
                Err(e) => contents.problems.push(e),
            }
        }
        contents.raida.sort();
        let mut keys = Vec::new();
        for (name, path) in locked.names(locked::ENCRYPTION)? {
            match locked.read_encryption(&name, &path) {
                Ok(key) => keys.push(key),
                Err(e) => contents.problems.push(e),
            }
        }
        contents.encryption = Keyring::new(keys);
        Ok(contents)
    }

    /// Puts a RAIDA key into the store.
    ///
    /// # Errors
    /// [`StoreError::RaidaKeyTaken`] when there are other numbers for the principal and role: a key is never overwritten.
    /// Else as [`install`](Self::install).
    pub fn install_raida_key(&self, key: &RaidaKey) -> Result<Installed, StoreError> {
        let locked = self.lock(Mode::Write)?;
        locked.room(locked::RAIDA)?;
        let name = raida_name(key.principal(), key.role());
        let path = self.raida_file(key.principal(), key.role());
        let text = format::write_raida_key(key);
        match locked.write(locked::RAIDA, &name, text.as_bytes(), Existing::Keep) {
            Ok(()) => Ok(Installed::New),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let stands = locked.read_raida(name.as_ref(), &path)?;
                if stands.same_numbers(key) {
                    Ok(Installed::Same)
                } else {
                    Err(StoreError::RaidaKeyTaken { path })
                }
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The RAIDA key of a principal in a role.
    ///
    /// # Errors
    /// [`StoreError::NoSuchKey`], or when its file is refused.
    pub fn raida_key(&self, principal: Principal, role: Role) -> Result<RaidaKey, StoreError> {
        let locked = self.lock(Mode::Read)?;
        let path = self.raida_file(principal, role);
        locked.read_raida(raida_name(principal, role).as_ref(), &path).map_err(|e| missing(e, path))
    }

    /// Puts a RAIDA key with other numbers in the place of the one that stands, and keeps that one beside it, as
    /// [`previous_raida_key`](Self::previous_raida_key), until [`forget_previous_raida_key`]. For numbers that relays
    /// replace: after a crash at any moment one of both has, for each relay, the number that it knows.
    ///
    /// # Errors
    /// [`StoreError::RaidaKeyTaken`] when the key that stands is not `old` any more; nothing has changed then. Else as
    /// [`install`](Self::install).
    ///
    /// [`forget_previous_raida_key`]: Self::forget_previous_raida_key
    pub fn replace_raida_key(
        &self,
        old: &RaidaKey,
        previous: &RaidaKey,
        new: &RaidaKey,
    ) -> Result<(), StoreError> {
        let locked = self.lock(Mode::Write)?;
        let (principal, role) = (new.principal(), new.role());
        let (name, path) = (raida_name(principal, role), self.raida_file(principal, role));
        let stands = locked.read_raida(name.as_ref(), &path).map_err(|e| missing(e, path.clone()))?;
        if !stands.same_numbers(old) {
            return Err(StoreError::RaidaKeyTaken { path });
        }
        let text = format::write_raida_key(previous);
        let before = previous_name(principal, role);
        match locked.write(locked::RAIDA, &before, text.as_bytes(), Existing::Erase) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                locked.write(locked::RAIDA, &before, text.as_bytes(), Existing::Replace)?;
            }
            done => done?,
        }
        let text = format::write_raida_key(new);
        Ok(locked.write(locked::RAIDA, &name, text.as_bytes(), Existing::Erase)?)
    }

    /// The key that [`replace_raida_key`](Self::replace_raida_key) kept, if it was not forgotten since.
    ///
    /// # Errors
    /// When its file is refused.
    pub fn previous_raida_key(
        &self,
        principal: Principal,
        role: Role,
    ) -> Result<Option<RaidaKey>, StoreError> {
        let locked = self.lock(Mode::Read)?;
        let name = previous_name(principal, role);
        let path = self.path.join(locked::RAIDA).join(&name);
        // It is read under the name that its content asks for.
        match locked.read_raida_as(name.as_ref(), &path) {
            Ok(key) => Ok(Some(key)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Erases what [`replace_raida_key`](Self::replace_raida_key) kept.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub fn forget_previous_raida_key(&self, principal: Principal, role: Role) -> Result<(), StoreError> {
        let locked = self.lock(Mode::Write)?;
        match locked.take_away(locked::RAIDA, &previous_name(principal, role)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// What an enrolment of this principal and role has so far.
    ///
    /// # Errors
    /// When its file is refused.
    pub fn partial_raida_key(
        &self,
        principal: Principal,
        role: Role,
    ) -> Result<Option<PartialKey>, StoreError> {
        let locked = self.lock(Mode::Read)?;
        let name = partial_name(principal, role);
        match locked.read_partial(name.as_ref(), &self.partial_raida_file(principal, role)) {
            Ok(key) if (key.principal(), key.role()) == (principal, role) => Ok(Some(key)),
            Ok(_) => Err(StoreError::RaidaKeyTaken { path: self.partial_raida_file(principal, role) }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Keeps what an enrolment has so far in a file of mode 0600 beside the keys. Nobody takes it for a key.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub fn keep_partial_raida_key(&self, key: &PartialKey) -> Result<(), StoreError> {
        let locked = self.lock(Mode::Write)?;
        locked.room(locked::RAIDA)?;
        let (name, text) = (partial_name(key.principal(), key.role()), format::enrolment::write_partial(key));
        match locked.write(locked::RAIDA, &name, text.as_bytes(), Existing::Erase) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Ok(locked.write(locked::RAIDA, &name, text.as_bytes(), Existing::Replace)?)
            }
            done => Ok(done?),
        }
    }

    /// Erases what [`keep_partial_raida_key`](Self::keep_partial_raida_key) kept, if there is something.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub fn forget_partial_raida_key(&self, principal: Principal, role: Role) -> Result<(), StoreError> {
        let locked = self.lock(Mode::Write)?;
        match locked.take_away(locked::RAIDA, &partial_name(principal, role)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Where [`keep_partial_raida_key`](Self::keep_partial_raida_key) keeps it.
    pub fn partial_raida_file(&self, principal: Principal, role: Role) -> PathBuf {
        self.path.join(locked::RAIDA).join(partial_name(principal, role))
    }

    /// Removes a RAIDA key and erases its file, also one whose content is damaged.
    ///
    /// # Errors
    /// [`StoreError::NoSuchKey`], and as [`install`](Self::install).
    pub fn remove_raida_key(&self, principal: Principal, role: Role) -> Result<(), StoreError> {
        let locked = self.lock(Mode::Write)?;
        let path = self.raida_file(principal, role);
        locked.take_away(locked::RAIDA, &raida_name(principal, role)).map_err(|e| missing(e, path))
    }
}

impl From<&RaidaKey> for RaidaKeyInfo {
    fn from(key: &RaidaKey) -> Self {
        Self { principal: key.principal(), role: key.role(), strength: key.strength() }
    }
}

fn encryption_name(id: KeyId) -> String {
    format!("{id:?}.toml")
}

fn raida_name(principal: Principal, role: Role) -> String {
    format!("{principal}.{role}.toml")
}

/// Begins with a dot: such names are passed over.
fn previous_name(principal: Principal, role: Role) -> String {
    format!(".{principal}.{role}.old.toml")
}

/// Begins with a dot: such names are passed over.
fn partial_name(principal: Principal, role: Role) -> String {
    format!(".{principal}.{role}.enrolling.toml")
}

/// A file that is not there is a key that is not there.
fn missing(e: KeyFileError, path: PathBuf) -> StoreError {
    if e.kind() == io::ErrorKind::NotFound { StoreError::NoSuchKey { path } } else { e.into() }
}

fn keyring(locked: &Locked) -> Result<Keyring, StoreError> {
    let mut keys = Vec::new();
    for (name, path) in locked.names(locked::ENCRYPTION)? {
        keys.push(locked.read_encryption(&name, &path)?);
    }
    Ok(Keyring::new(keys))
}

fn load(locked: &Locked, id: KeyId) -> Result<StoredKey, StoreError> {
    let name = encryption_name(id);
    let path = locked.path(locked::ENCRYPTION, name.as_ref());
    locked.read_encryption(name.as_ref(), &path).map_err(|e| missing(e, path))
}

fn install(locked: &Locked, key: &StoredKey) -> Result<Installed, StoreError> {
    locked.room(locked::ENCRYPTION)?;
    match locked.write_encryption(key, Existing::Keep) {
        Ok(()) => Ok(Installed::New),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let stands = load(locked, key.id())?;
            let same = stands.info().with == key.info().with
                && stands.info().own == key.info().own
                && stands.same_secret(key);
            if same {
                return Ok(Installed::Same);
            }
            let path = locked.path(locked::ENCRYPTION, encryption_name(key.id()).as_ref());
            Err(StoreError::IdTaken { path, revoked: stands.info().state == KeyState::Revoked })
        }
        Err(e) => Err(e.into()),
    }
}

/// Writes into the files of keys that `new` took over from what [`Keyring`] takes for granted, before anything happens to
/// `new` that would make it forget.
fn settle(locked: &Locked, new: &StoredKey) -> Result<(), StoreError> {
    let info = new.info();
    for id in &info.replaces {
        let old = match load(locked, *id) {
            Ok(old) => old,
            Err(StoreError::NoSuchKey { .. }) => continue,
            Err(e) => return Err(e),
        };
        if old.info().state == KeyState::Active && old.info().with == info.with {
            locked.write_encryption(&retired(old, info.replaced_until), Existing::Replace)?;
        }
    }
    Ok(())
}

/// Why a store does not do what is asked, and what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder is refused.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The folder may be entered by others.
    #[error("others can look into the folder of keys {} (mode {mode:04o}); run: chmod 700 {}", path.display(), quoted(path))]
    Private {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Other processes hold the folder.
    #[error(
        "{} has been in use by another process for {waited:?}; find it with `fuser -v {}`, or try again",
        path.display(), quoted(path)
    )]
    Busy {
        /// The folder.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Another key has this id.
    #[error(
        "{} {}; a key is never overwritten: agree on a key with a new id",
        path.display(), if *revoked { "is a key that was revoked" } else { "holds another key under this id" }
    )]
    IdTaken {
        /// Its file.
        path: PathBuf,
        /// It was revoked.
        revoked: bool,
    },
    /// There are other numbers for this principal and role.
    #[error("{} holds another RAIDA key of this principal and role; a key is never overwritten: remove that one first", path.display())]
    RaidaKeyTaken {
        /// Its file.
        path: PathBuf,
    },
    /// The key is not there.
    #[error("there is no key {}; `qsocket keys list` shows which there are", path.display())]
    NoSuchKey {
        /// Where it would be.
        path: PathBuf,
    },
    /// A key that is retired or revoked takes over from none.
    #[error("{} is retired or revoked and takes over from no other key; agree on a key with a new id", path.display())]
    NotActive {
        /// Its file.
        path: PathBuf,
    },
    /// More keys than a folder holds.
    #[error("{} holds {MAX_KEYS} keys, the most there may be; remove some", path.display())]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// A rotation would retire too many at once.
    #[error(
        "there are {active} active keys with {with}, at most {MAX_REPLACED} retire at once; remove some first"
    )]
    TooManyActive {
        /// The peer.
        with: Principal,
        /// How many.
        active: usize,
    },
}

impl StoreError {
    /// The kind of the `io::Error` that this becomes.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::File(e) => e.kind(),
            Self::Private { .. } => io::ErrorKind::PermissionDenied,
            Self::Busy { .. } => io::ErrorKind::TimedOut,
            Self::IdTaken { .. } | Self::RaidaKeyTaken { .. } => io::ErrorKind::AlreadyExists,
            Self::NoSuchKey { .. } => io::ErrorKind::NotFound,
            Self::NotActive { .. } => io::ErrorKind::InvalidInput,
            Self::Full { .. } | Self::TooManyActive { .. } => io::ErrorKind::QuotaExceeded,
        }
    }
}

/// Shows the sentence that `Display` shows, as [`KeyFileError`] does.
impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<StoreError> for io::Error {
    fn from(e: StoreError) -> Self {
        Self::new(e.kind(), e)
    }
}
