//! The folder of a store while this process holds its lock.

use super::{MAX_KEYS, StoreError, encryption_name, raida_name};
use crate::keys::file::{self, Existing, check_owner};
use crate::keys::{KeyFileError, PartialKey, StoredKey, format};
use qsocket_proto::raida_key::RaidaKey;
use rustix::fs::{CWD, Dir, Mode as Bits, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder of RAIDA keys.
pub(super) const RAIDA: &str = "raida";
/// The folder of Encryption keys.
pub(super) const ENCRYPTION: &str = "encryption";

/// Between two attempts to get the lock: short beside what its holder does, long beside what an attempt costs.
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// What the lock is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Shared with others that read.
    Read,
    /// Alone.
    Write,
}

/// An open folder that only its user may enter.
pub(super) struct Folder(File);

impl Folder {
    /// The folder of a store. It may be reached through a link, as any folder of a key file; those in it may not.
    pub(super) fn root(path: &Path) -> Result<Self, StoreError> {
        Self::open(CWD, path, path, OFlags::empty())
    }

    fn open(at: impl rustix::fd::AsFd, name: &Path, path: &Path, more: OFlags) -> Result<Self, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | more;
        let dir = openat(at, name, flags, Bits::empty()).map_err(|e| io(path, e))?;
        let dir = File::from(dir);
        let meta = dir.metadata().map_err(|e| KeyFileError::io(path, e))?;
        check_owner(path, meta.uid(), rustix::process::geteuid().as_raw())?;
        if meta.mode() & 0o077 != 0 {
            return Err(StoreError::Private { path: path.to_owned(), mode: meta.mode() & 0o7777 });
        }
        Ok(Self(dir))
    }
}

fn io(path: &Path, e: Errno) -> KeyFileError {
    match e {
        Errno::LOOP => KeyFileError::Symlink { path: path.to_owned() },
        e => KeyFileError::io(path, e.into()),
    }
}

/// Makes the folder of a store unless it is there.
pub(super) fn make(path: &Path) -> Result<(), StoreError> {
    match mkdirat(CWD, path, Bits::RWXU) {
        Ok(()) => {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty());
            let above = above.unwrap_or_else(|| Path::new("."));
            Ok(File::open(above).and_then(|dir| dir.sync_all()).map_err(|e| KeyFileError::io(above, e))?)
        }
        Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(io(path, e).into()),
    }
}

/// The folder, held: others that write wait, and if this process writes, those that read wait too.
///
/// The lock is on the folder itself, not on a file in it, so that no such file can be missing, left over or replaced.
pub(super) struct Locked {
    path: PathBuf,
    // Dropping it gives the lock back.
    _root: Folder,
    raida: Option<Folder>,
    encryption: Option<Folder>,
}

impl Locked {
    pub(super) fn new(path: &Path, mode: Mode, wait: Duration) -> Result<Self, StoreError> {
        let root = Folder::root(path)?;
        lock(&root.0, path, mode, wait)?;
        let open = |name: &str| -> Result<Option<Folder>, StoreError> {
            let at = path.join(name);
            if mode == Mode::Write {
                match mkdirat(&root.0, name, Bits::RWXU) {
                    Ok(()) => root.0.sync_all().map_err(|e| KeyFileError::io(path, e))?,
                    Err(Errno::EXIST) => {}
                    Err(e) => return Err(io(&at, e).into()),
                }
            }
            match Folder::open(&root.0, Path::new(name), &at, OFlags::NOFOLLOW) {
                Ok(folder) => Ok(Some(folder)),
                // Nothing was ever written.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(e),
            }
        };
        let (raida, encryption) = (open(RAIDA)?, open(ENCRYPTION)?);
        let this = Self { path: path.to_owned(), _root: root, raida, encryption };
        if mode == Mode::Write {
            this.clean(RAIDA)?;
            this.clean(ENCRYPTION)?;
        }
        Ok(this)
    }

    fn folder(&self, which: &str) -> Option<&File> {
        let folder = if which == RAIDA { &self.raida } else { &self.encryption };
        folder.as_ref().map(|folder| &folder.0)
    }

    /// Where a file of this name is, for errors.
    pub(super) fn path(&self, which: &str, name: &OsStr) -> PathBuf {
        self.path.join(which).join(name)
    }

    fn entries(&self, which: &str) -> Result<Vec<OsString>, StoreError> {
        let Some(folder) = self.folder(which) else { return Ok(Vec::new()) };
        let failed = |e| io(&self.path.join(which), e);
        let mut names = Vec::new();
        for entry in Dir::read_from(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() > 2 * MAX_KEYS {
                return Err(StoreError::Full { path: self.path.join(which) });
            }
            names.push(OsStr::from_bytes(name).to_owned());
        }
        Ok(names)
    }

    /// Erases what killed processes left. Only whoever holds the lock alone writes here, so nobody is writing it.
    fn clean(&self, which: &str) -> Result<(), StoreError> {
        let Some(folder) = self.folder(which) else { return Ok(()) };
        for name in self.entries(which)?.iter().filter(|name| file::is_temp(name.as_bytes())) {
            file::erase_temp_at(folder, name, &self.path(which, name))?;
        }
        Ok(())
    }

    /// The names of all keys, sorted. Names that begin with a dot are nobody's keys.
    pub(super) fn names(&self, which: &str) -> Result<Vec<(OsString, PathBuf)>, StoreError> {
        let mut names = self.entries(which)?;
        names.retain(|name| !name.as_bytes().starts_with(b"."));
        if names.len() > MAX_KEYS {
            return Err(StoreError::Full { path: self.path.join(which) });
        }
        names.sort();
        Ok(names.into_iter().map(|name| (self.path(which, &name), name)).map(|(p, n)| (n, p)).collect())
    }

    /// Whether one more key has room.
    pub(super) fn room(&self, which: &str) -> Result<(), StoreError> {
        if self.names(which)?.len() >= MAX_KEYS {
            return Err(StoreError::Full { path: self.path.join(which) });
        }
        Ok(())
    }

    fn read(
        &self,
        which: &str,
        name: &OsStr,
        path: &Path,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, KeyFileError> {
        match self.folder(which) {
            Some(folder) => file::read_at(folder, name, path),
            None => Err(KeyFileError::io(path, std::io::ErrorKind::NotFound.into())),
        }
    }

    /// A key whose file has another name than it should would be found twice, or not at all.
    fn named(name: &OsStr, path: &Path, should: &str) -> Result<(), KeyFileError> {
        if name == should {
            return Ok(());
        }
        let problem = format!("the file of this key must be called {should}; rename it");
        Err(KeyFileError::Content { path: path.to_owned(), line: 1, problem })
    }

    pub(super) fn read_encryption(&self, name: &OsStr, path: &Path) -> Result<StoredKey, KeyFileError> {
        let key = format::encryption::parse(&self.read(ENCRYPTION, name, path)?).map_err(|e| e.at(path))?;
        Self::named(name, path, &encryption_name(key.id()))?;
        Ok(key)
    }

    pub(super) fn read_raida(&self, name: &OsStr, path: &Path) -> Result<RaidaKey, KeyFileError> {
        let key = self.read_raida_as(name, path)?;
        Self::named(name, path, &raida_name(key.principal(), key.role()))?;
        Ok(key)
    }

    /// A RAIDA key under any name.
    pub(super) fn read_raida_as(&self, name: &OsStr, path: &Path) -> Result<RaidaKey, KeyFileError> {
        format::parse_raida_key(&self.read(RAIDA, name, path)?).map_err(|e| e.at(path))
    }

    /// What an enrolment has so far.
    pub(super) fn read_partial(&self, name: &OsStr, path: &Path) -> Result<PartialKey, KeyFileError> {
        format::enrolment::parse_partial(&self.read(RAIDA, name, path)?).map_err(|e| e.at(path))
    }

    pub(super) fn write(
        &self,
        which: &str,
        name: &str,
        bytes: &[u8],
        existing: Existing,
    ) -> Result<(), KeyFileError> {
        let path = self.path(which, name.as_ref());
        match self.folder(which) {
            Some(folder) => file::write_at(folder, name.as_ref(), &path, bytes, existing),
            None => Err(KeyFileError::io(&path, std::io::ErrorKind::NotFound.into())),
        }
    }

    pub(super) fn write_encryption(&self, key: &StoredKey, existing: Existing) -> Result<(), KeyFileError> {
        let text = format::encryption::write(key);
        self.write(ENCRYPTION, &encryption_name(key.id()), text.as_bytes(), existing)
    }

    pub(super) fn take_away(&self, which: &str, name: &str) -> Result<(), KeyFileError> {
        let path = self.path(which, name.as_ref());
        match self.folder(which) {
            Some(folder) => file::take_away_at(folder, name.as_ref(), &path),
            None => Err(KeyFileError::io(&path, std::io::ErrorKind::NotFound.into())),
        }
    }
}

fn lock(folder: &File, path: &Path, mode: Mode, wait: Duration) -> Result<(), StoreError> {
    let begun = Instant::now();
    loop {
        let locked = match mode {
            Mode::Read => folder.try_lock_shared(),
            Mode::Write => folder.try_lock(),
        };
        match locked {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= wait => {
                return Err(StoreError::Busy { path: path.to_owned(), waited: wait });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(e)) => return Err(KeyFileError::io(path, e).into()),
        }
    }
}
