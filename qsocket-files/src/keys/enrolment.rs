//! The files of an enrolment: requests, answers, and erasing them. `docs/configuration.md`, `docs/protocol.md` 16.
//!
//! They are as strict as key files: private, no links, and no error repeats what stands in them.

use super::{KeyFileError, file, format::enrolment as format};
use qsocket_proto::enrol::{Answer, Request};
use qsocket_proto::ids::PathId;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// What errors about a pipe name instead of a file.
const PIPE: &str = "standard input";

/// What the request for a relay is called.
pub fn request_name(relay: PathId) -> String {
    format!("request-{:02}.toml", relay.get())
}

/// What the answer of a relay is called.
pub fn answer_name(relay: PathId) -> String {
    format!("answer-{:02}.toml", relay.get())
}

/// Reads a request file.
///
/// # Errors
/// When others can read or replace the file, or its content is not a request.
pub fn load_request(path: impl AsRef<Path>) -> Result<Request, KeyFileError> {
    let path = path.as_ref();
    format::parse_request(&file::read(path)?).map_err(|e| e.at(path))
}

/// Reads a request from a pipe, up to its end.
///
/// # Errors
/// When it cannot be read, is longer than any key file, or is not a request.
pub fn read_request(from: impl Read) -> Result<Request, KeyFileError> {
    let path = Path::new(PIPE);
    format::parse_request(&file::read_all(from, path)?).map_err(|e| e.at(path))
}

/// Writes a request file with mode 0600. As [`save_raida_key`](super::save_raida_key).
///
/// # Errors
/// As [`save_raida_key`](super::save_raida_key).
pub fn save_request(path: impl AsRef<Path>, request: &Request) -> Result<(), KeyFileError> {
    file::write(path.as_ref(), format::write_request(request).as_bytes())
}

/// Reads an answer file.
///
/// # Errors
/// As [`load_request`].
pub fn load_answer(path: impl AsRef<Path>) -> Result<Answer, KeyFileError> {
    let path = path.as_ref();
    format::parse_answer(&file::read(path)?).map_err(|e| e.at(path))
}

/// Writes an answer file with mode 0600. As [`save_raida_key`](super::save_raida_key).
///
/// # Errors
/// As [`save_raida_key`](super::save_raida_key).
pub fn save_answer(path: impl AsRef<Path>, answer: &Answer) -> Result<(), KeyFileError> {
    file::write(path.as_ref(), answer_text(answer).as_bytes())
}

/// The text of an answer file, for a pipe.
pub fn answer_text(answer: &Answer) -> Zeroizing<String> {
    format::write_answer(answer)
}

/// Overwrites a file with zeros, makes that durable, and removes it.
///
/// # Errors
/// When others can write to the folder, the file is a link or no regular file, or the file system refuses.
///
/// # Security
/// What stood there may survive all the same: file systems that copy on write, snapshots, backups and the spare blocks
/// of flash memory keep it out of reach of any program.
pub fn erase(path: impl AsRef<Path>) -> Result<(), KeyFileError> {
    file::erase(path.as_ref())
}

#[cfg(test)]
mod tests;
