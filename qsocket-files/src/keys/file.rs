//! Opening and writing files that hold secrets.

use super::{KeyFileError, MAX_FILE_BYTES};
use crate::rng::OsRng;
use rand_core::Rng;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
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
    // NONBLOCK: opening a pipe that nobody writes to would wait forever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&dir, name, flags, Mode::empty()).map_err(|e| match e {
        rustix::io::Errno::LOOP => KeyFileError::Symlink { path: path.to_owned() },
        e => KeyFileError::io(path, e.into()),
    })?;
    let file = File::from(file);
    let meta = file.metadata().map_err(|e| KeyFileError::io(path, e))?;
    if !meta.is_file() {
        return Err(KeyFileError::NotRegular { path: path.to_owned() });
    }
    check_owner(path, meta.uid(), rustix::process::geteuid().as_raw())?;
    if meta.mode() & 0o077 != 0 {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    if meta.len() > MAX_FILE_BYTES as u64 {
        return Err(KeyFileError::TooLarge { path: path.to_owned() });
    }
    read_all(file, path)
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

/// Puts `bytes` under `path` so that at every moment, also after a power loss, the old or the new file stands there.
///
/// The new file has mode 0600. On an error the old file is untouched and no temporary file is left. A process that is
/// killed may leave one; it is as private as the key, and nothing reads it.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let (dir, name) = folder(path)?;
    let temp = format!(".qsocket-{:016x}.tmp", OsRng.next_u64());
    let failed = |e| KeyFileError::io(path, e);
    if let Err(e) = stage(&dir, &temp, bytes).and_then(|()| replace(&dir, &temp, name)) {
        // The first error is the one to report.
        let _ = unlinkat(&dir, &*temp, AtFlags::empty());
        return Err(failed(e));
    }
    dir.sync_all().map_err(failed)
}

/// First step: all of the new file, durable, under a name that nobody reads.
pub(super) fn stage(dir: &File, temp: &str, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(dir, temp, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    file.sync_all()
}

/// Second step, which happens or does not: the new file takes the old one's place.
pub(super) fn replace(dir: &File, temp: &str, name: &OsStr) -> io::Result<()> {
    Ok(renameat(dir, temp, dir, name)?)
}

/// Overwrites a file with zeros, makes that durable, and removes it.
pub(super) fn erase(path: &Path) -> Result<(), KeyFileError> {
    let (dir, name) = folder(path)?;
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&dir, name, flags, Mode::empty()).map_err(|e| match e {
        rustix::io::Errno::LOOP => KeyFileError::Symlink { path: path.to_owned() },
        e => KeyFileError::io(path, e.into()),
    })?;
    let mut file = File::from(file);
    let meta = file.metadata().map_err(|e| KeyFileError::io(path, e))?;
    if !meta.is_file() {
        return Err(KeyFileError::NotRegular { path: path.to_owned() });
    }
    // A file of this kind is no longer; something that grew beyond is not ours to fill.
    let zeros = vec![0; (meta.len() as usize).min(MAX_FILE_BYTES)];
    file.write_all(&zeros)
        .and_then(|()| file.sync_all())
        .and_then(|()| unlinkat(&dir, name, AtFlags::empty()).map_err(io::Error::from))
        .and_then(|()| dir.sync_all())
        .map_err(|e| KeyFileError::io(path, e))
}
