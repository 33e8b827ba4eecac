//! The ingress buffer of a hop: the socket writes into it, records are opened where they lie.

use std::fmt;

/// What an inbox begins with; an idle hop never needs more.
const FIRST: usize = 16 * 1024;

/// The most an inbox holds. Four records, so that one read of a busy socket brings several; whatever lengths
/// the peer announces, nothing is allocated beyond this.
pub const INBOX_MAX: usize = 256 * 1024;

/// Bytes that arrived on a hop and wait to be opened.
///
/// Grows only after a read has filled it.
#[derive(Default)]
pub struct Inbox {
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Makes an empty inbox.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for the next read. Empty only while [`INBOX_MAX`] bytes wait, which includes a whole record: open
    /// records before reading on.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buf.len() - self.end < self.buf.len() / 4 && self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buf.len() && self.buf.len() < INBOX_MAX {
            self.buf.resize((self.buf.len() * 2).clamp(FIRST, INBOX_MAX), 0);
        }
        &mut self.buf[self.end..]
    }

    /// Says that a read wrote the first `n` bytes of [`Inbox::spare`].
    pub fn advance(&mut self, n: usize) {
        self.end = (self.end + n).min(self.buf.len());
    }

    /// Copies bytes in, as far as they fit, and returns how many did. For shells whose reads do not end in a slice.
    pub fn extend(&mut self, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        while !bytes.is_empty() {
            let spare = self.spare();
            let n = spare.len().min(bytes.len());
            if n == 0 {
                break;
            }
            spare[..n].copy_from_slice(&bytes[..n]);
            self.advance(n);
            bytes = &bytes[n..];
        }
        all - bytes.len()
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no byte waits.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Takes the next `n` bytes if that many wait.
    pub(super) fn take(&mut self, n: usize) -> Option<&mut [u8]> {
        let taken = self.buf[self.start..self.end].get_mut(..n)?;
        self.start += n;
        Some(taken)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_whatever_the_sizes_and_memory_stays_bounded() {
        let mut inbox = Inbox::new();
        let (mut fed, mut taken) = (0usize, 0usize);
        for round in 1..5000usize {
            let piece: Vec<u8> = (fed..fed + round * 13 % 9000).map(|i| i as u8).collect();
            fed += inbox.extend(&piece);
            let want = (round * 31 % 9100).min(inbox.len());
            for b in inbox.take(want).expect("that many wait") {
                assert_eq!(*b, taken as u8);
                taken += 1;
            }
            assert!(inbox.buf.len() <= INBOX_MAX);
        }
        assert!(taken > 1_000_000);
    }

    #[test]
    fn a_full_inbox_takes_no_more_and_holds_a_whole_record() {
        let mut inbox = Inbox::new();
        assert_eq!(inbox.extend(&vec![0; INBOX_MAX + 5]), INBOX_MAX);
        assert!(inbox.spare().is_empty());
        const { assert!(INBOX_MAX >= super::super::RECORD_HEADER + super::super::MAX_RECORD) };
        assert!(inbox.take(INBOX_MAX + 1).is_none());
    }
}
