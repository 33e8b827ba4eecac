//! Opening and writing files that hold secrets.

use super::{KeyFileError, MAX_FILE_BYTES};
use crate::rng::OsRng;
use rand_core::Rng;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, openat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// The folder of a file, opened, and the file's name in it.
///
/// Everything below works relative to the open folder, so that what was checked is what is used.
fn folder(path: &Path) -> Result<(File, &OsStr), KeyFileError> {
    let name = path.file_name().ok_or_else(|| KeyFileError::NotRegular { path: path.to_owned() })?;
    let parent = parent(path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(CWD, parent, flags, Mode::empty()).map_err(|e| KeyFileError::io(parent, e.into()))?;
    let dir = File::from(dir);
    let mode = dir.metadata().map_err(|e| KeyFileError::io(parent, e))?.mode();
    check_folder(parent, mode)?;
    Ok((dir, name))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// In a folder that others can write to they could put another file under the key's name. The sticky bit forbids it.
fn check_folder(path: &Path, mode: u32) -> Result<(), KeyFileError> {
    const STICKY: u32 = 0o1000;
    if mode & 0o022 != 0 && mode & STICKY == 0 {
        return Err(KeyFileError::Folder { path: path.to_owned(), mode: mode & 0o7777 });
    }
    Ok(())
}

/// Whether the file is the user's own, or root's.
pub(super) fn check_owner(path: &Path, owner: u32, user: u32) -> Result<(), KeyFileError> {
    if owner != user && owner != 0 {
        return Err(KeyFileError::Owner { path: path.to_owned(), owner, user });
    }
    Ok(())
}

/// Reads a key file after checking who could have read or written it.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let (dir, name) = folder(path)?;
    read_at(&dir, name, path)
}

/// As [`read`], in an open folder; `path` is what errors name.
pub(super) fn read_at(dir: &File, name: &OsStr, path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let (file, meta) = open_at(dir, name, path, OFlags::RDONLY)?;
    check_owner(path, meta.uid(), rustix::process::geteuid().as_raw())?;
    if meta.mode() & 0o077 != 0 {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    if meta.len() > MAX_FILE_BYTES as u64 {
        return Err(KeyFileError::TooLarge { path: path.to_owned() });
    }
    read_all(file, path)
}

/// Opens a regular file that is not a link.
fn open_at(
    dir: &File,
    name: &OsStr,
    path: &Path,
    how: OFlags,
) -> Result<(File, std::fs::Metadata), KeyFileError> {
    // NONBLOCK: opening a pipe that nobody writes to would wait forever.
    let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty()).map_err(|e| match e {
        Errno::LOOP => KeyFileError::Symlink { path: path.to_owned() },
        e => KeyFileError::io(path, e.into()),
    })?;
    let file = File::from(file);
    let meta = file.metadata().map_err(|e| KeyFileError::io(path, e))?;
    if !meta.is_file() {
        return Err(KeyFileError::NotRegular { path: path.to_owned() });
    }
    Ok((file, meta))
}

/// Reads to the end, at most [`MAX_FILE_BYTES`]. `path` is what errors name.
pub(super) fn read_all(from: impl Read, path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    // Reserved at once, since growing would leave copies behind; one more byte than allowed shows a file that grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 1));
    let mut buffer = Zeroizing::new([0; 4096]);
    let mut from = from.take(MAX_FILE_BYTES as u64 + 1);
    loop {
        match from.read(&mut *buffer) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(KeyFileError::io(path, e)),
        }
    }
    if bytes.len() > MAX_FILE_BYTES {
        return Err(KeyFileError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// What a file that is being written is called until it is whole.
const TEMP: (&str, &str) = (".qsocket-", ".tmp");

fn temp_name() -> String {
    format!("{}{:016x}{}", TEMP.0, OsRng.next_u64(), TEMP.1)
}

/// Whether a name is that of a file that was being written.
pub(super) fn is_temp(name: &[u8]) -> bool {
    name.starts_with(TEMP.0.as_bytes()) && name.ends_with(TEMP.1.as_bytes())
}

/// What to do about a file that has the name already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// The new file takes its place.
    Replace,
    /// It stays, and writing fails with `AlreadyExists`.
    Keep,
    /// The new file takes its place, and the old one's bytes are overwritten, as far as the file system does that.
    Erase,
}

/// Puts `bytes` under `path` so that at every moment, also after a power loss, the old or the new file stands there.
///
/// The new file has mode 0600. On an error the old file is untouched and no temporary file is left. A process that is
/// killed may leave one; it is as private as the key, and nothing reads it.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let (dir, name) = folder(path)?;
    write_at(&dir, name, path, bytes, Existing::Replace)
}

/// As [`write()`], in an open folder; `path` is what errors name.
pub(super) fn write_at(
    dir: &File,
    name: &OsStr,
    path: &Path,
    bytes: &[u8],
    existing: Existing,
) -> Result<(), KeyFileError> {
    let old = match existing {
        Existing::Erase => Some(open_at(dir, name, path, OFlags::WRONLY)?.0),
        Existing::Replace | Existing::Keep => None,
    };
    let temp = temp_name();
    let failed = |e| KeyFileError::io(path, e);
    let place = || match existing {
        Existing::Keep => place_new(dir, &temp, name),
        Existing::Replace | Existing::Erase => replace(dir, &temp, name),
    };
    if let Err(e) = stage(dir, &temp, bytes).and_then(|()| place()) {
        // The first error is the one to report.
        let _ = unlinkat(dir, &*temp, AtFlags::empty());
        return Err(failed(e));
    }
    step();
    dir.sync_all().map_err(failed)?;
    step();
    old.map_or(Ok(()), |mut old| zero(&mut old).map_err(failed))
}

/// First step: all of the new file, durable, under a name that nobody reads.
pub(super) fn stage(dir: &File, temp: &str, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    step();
    let mut file = File::from(openat(dir, temp, flags, Mode::RUSR | Mode::WUSR)?);
    step();
    let (front, back) = bytes.split_at(bytes.len() / 2);
    file.write_all(front)?;
    step();
    file.write_all(back)?;
    step();
    file.sync_all()?;
    step();
    Ok(())
}

/// Second step, which happens or does not: the new file takes the old one's place.
pub(super) fn replace(dir: &File, temp: &str, name: &OsStr) -> io::Result<()> {
    Ok(renameat(dir, temp, dir, name)?)
}

/// Second step where no file of this name may be: `AlreadyExists` if there is one.
fn place_new(dir: &File, temp: &str, name: &OsStr) -> io::Result<()> {
    match renameat_with(dir, temp, dir, name, RenameFlags::NOREPLACE) {
        // A file system that cannot do both at once. Whoever writes by these rules holds the folder's lock.
        Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => replace(dir, temp, name),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(e) => Err(e.into()),
        },
        done => Ok(done?),
    }
}

/// Overwrites a file with zeros, makes that durable, and removes it.
pub(super) fn erase(path: &Path) -> Result<(), KeyFileError> {
    let (dir, name) = folder(path)?;
    erase_at(&dir, name, path)
}

/// As [`erase`], in an open folder; `path` is what errors name.
pub(super) fn erase_at(dir: &File, name: &OsStr, path: &Path) -> Result<(), KeyFileError> {
    let (mut file, _) = open_at(dir, name, path, OFlags::WRONLY)?;
    step();
    zero(&mut file)
        .and_then(|()| {
            step();
            unlinkat(dir, name, AtFlags::empty()).map_err(io::Error::from)
        })
        .and_then(|()| {
            step();
            dir.sync_all()
        })
        .map_err(|e| KeyFileError::io(path, e))
}

/// As [`erase_at`], for a name that others read: it is gone before its bytes are, so that nobody finds half a key.
pub(super) fn take_away_at(dir: &File, name: &OsStr, path: &Path) -> Result<(), KeyFileError> {
    let temp = temp_name();
    let failed = |e| KeyFileError::io(path, e);
    step();
    renameat(dir, name, dir, &*temp).map_err(|e| failed(e.into()))?;
    step();
    dir.sync_all().map_err(failed)?;
    erase_temp_at(dir, OsStr::new(&temp), path)
}

/// Erases what a killed process left. What is no regular file, or not this user's to write, is only removed.
pub(super) fn erase_temp_at(dir: &File, name: &OsStr, path: &Path) -> Result<(), KeyFileError> {
    if erase_at(dir, name, path).is_ok() {
        return Ok(());
    }
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(KeyFileError::io(path, e.into())),
    }
}

/// Overwrites what stands in a file. One of this kind is no longer than a key file; what grew beyond is not ours to fill.
fn zero(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len() as usize;
    file.rewind()?;
    file.write_all(&vec![0; length.min(MAX_FILE_BYTES)])?;
    file.sync_all()
}

/// Between two changes of what stands on disk: where tests kill the process.
#[cfg(not(test))]
fn step() {}

#[cfg(test)]
pub(super) use kill::step;

#[cfg(test)]
pub(super) mod kill {
    //! Death at one chosen step.

    use std::sync::atomic::{AtomicUsize, Ordering};

    /// How many steps are left; none chosen at first.
    static LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);

    /// Dies at this step from now on, the first being 0. For a process that runs one test alone.
    pub(in crate::keys) fn at(step: usize) {
        LEFT.store(step, Ordering::SeqCst);
    }

    pub(in crate::keys) fn step() {
        let left = LEFT.load(Ordering::SeqCst);
        if left == 0 {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        if left != usize::MAX {
            LEFT.store(left - 1, Ordering::SeqCst);
        }
    }
}
