//! What settings and key files have in common: text with line numbers, paths in messages.

use std::ops::Range;
use std::path::Path;

/// The line of a byte offset, counted from 1.
pub fn line(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|b| **b == b'\n').count()
}

/// The line where a span begins.
pub fn line_of(text: &str, span: Range<usize>) -> usize {
    line(text.as_bytes(), span.start)
}

/// Text that is not plain UTF-8: the line and what to do.
pub type NotText = (usize, &'static str);

/// Refuses what editors and transfers put into text files and what looks right on the screen.
///
/// # Errors
/// The line, and what to do about it.
pub fn plain(bytes: &[u8]) -> Result<&str, NotText> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err((1, "starts with a byte order mark; save the file as UTF-8 without it"));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err((1, "is UTF-16; save the file as UTF-8"));
    }
    if let Some(at) = bytes.iter().position(|b| *b == 0) {
        return Err((line(bytes, at), "holds a NUL byte; the file is damaged, restore it from its original"));
    }
    std::str::from_utf8(bytes)
        .map_err(|e| (line(bytes, e.valid_up_to()), "holds bytes that are not UTF-8; save the file as UTF-8"))
}

/// A path as a shell takes it: as it is when plain, in single quotes otherwise.
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_' | b'+' | b',' | b':');
    let dash = if text.starts_with('-') { "./" } else { "" };
    if !text.is_empty() && text.bytes().all(plain) {
        return format!("{dash}{text}");
    }
    format!("'{dash}{}'", text.replace('\'', r"'\''"))
}
