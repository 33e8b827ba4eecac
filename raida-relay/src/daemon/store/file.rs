//! Who can open, replace or spoil the file of a store.

use super::Access;
use qsocket_files::text::quoted;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why the file is not used, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing is there.
    #[error("{} does not exist; make a relay with `raida-relay init`, or restore its store from a copy", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A store would be overwritten.
    #[error("{} exists already; name another file, or move it away", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A link, behind which another file could be put at any time.
    #[error("{} is a symbolic link; name the file that it points to", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// A folder, a pipe or a device.
    #[error("{} is not a regular file; name a store", path.display())]
    NotRegular {
        /// What was named.
        path: PathBuf,
    },
    /// Another user's file or folder.
    #[error("{} belongs to user {owner}, who can change it; run: chown {user} {}", path.display(), quoted(path))]
    Owner {
        /// The file or folder.
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
    /// A folder in which others may put a journal beside the store, which SQLite would believe.
    #[error(
        "others can write to the folder {} (mode {mode:04o}), and so change the store in it; run: chmod go-w {}",
        path.display(), quoted(path)
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    |source| FileError::Io { path, source }
}

/// Checks the folder; returns the file's place without links on the way to it.
fn place(path: &Path) -> Result<PathBuf, FileError> {
    let name = path.file_name().ok_or_else(|| FileError::NotRegular { path: path.to_owned() })?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let real = fs::canonicalize(folder).map_err(io_at(folder))?;
    let meta = fs::metadata(&real).map_err(io_at(folder))?;
    check_owner(folder, meta.uid())?;
    // The sticky bit does not help: others could still make a journal, which SQLite would play back.
    if meta.mode() & 0o022 != 0 {
        return Err(FileError::Folder { path: folder.to_owned(), mode: meta.mode() & 0o7777 });
    }
    Ok(real.join(name))
}

fn check_owner(path: &Path, owner: u32) -> Result<(), FileError> {
    let user = rustix::process::geteuid().as_raw();
    if owner != user && owner != 0 {
        return Err(FileError::Owner { path: path.to_owned(), owner, user });
    }
    Ok(())
}

/// Makes an empty file with mode 0600, and returns its place.
pub(super) fn create(path: &Path) -> Result<PathBuf, FileError> {
    let place = place(path)?;
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place);
    match made {
        Ok(file) => file.sync_all().map_err(io_at(path))?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(FileError::Exists { path: path.to_owned() });
        }
        Err(e) => return Err(io_at(path)(e)),
    }
    check(path)
}

/// Checks a store and what SQLite may have left beside it, and returns its place.
///
/// Nobody else can write to the folder, so what was checked is what is opened afterwards.
pub(super) fn check(path: &Path) -> Result<PathBuf, FileError> {
    let place = place(path)?;
    if !check_file(&place, path)? {
        return Err(FileError::Missing { path: path.to_owned() });
    }
    for suffix in ["-journal", "-wal", "-shm"] {
        let beside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        check_file(&beside(&place), &beside(path))?;
    }
    Ok(place)
}

/// False if there is no file.
fn check_file(place: &Path, shown: &Path) -> Result<bool, FileError> {
    let meta = match fs::symlink_metadata(place) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(io_at(shown)(e)),
    };
    let path = || shown.to_owned();
    if meta.is_symlink() {
        return Err(FileError::Symlink { path: path() });
    }
    if !meta.is_file() {
        return Err(FileError::NotRegular { path: path() });
    }
    check_owner(shown, meta.uid())?;
    if meta.mode() & 0o077 != 0 {
        return Err(FileError::Mode { path: path(), mode: meta.mode() & 0o7777 });
    }
    Ok(true)
}

/// The place as SQLite's driver takes it; `None` if it is not UTF-8.
pub(super) fn url(place: &Path, access: Access) -> Option<String> {
    let mut url = "sqlite://".to_owned();
    for byte in place.to_str()?.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => url.push(byte.into()),
            // Writing to a String does not fail.
            byte => drop(write!(url, "%{byte:02X}")),
        }
    }
    url.push_str(match access {
        Access::Read => "?mode=ro",
        Access::Write => "?mode=rw",
    });
    Some(url)
}
