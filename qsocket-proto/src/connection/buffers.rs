//! Buffers of large blocks, used again: memory that the system has just given costs more than to seal what it is for.

use std::collections::VecDeque;

/// Below this the allocator has something at hand.
const LARGE: usize = 64 * 1024;

/// Bytes that a connection keeps at most: sixteen of the largest blocks, what one stream has under way at a time.
pub(crate) const KEPT_BYTES: usize = 4 << 20;

/// What a connection keeps for its next blocks.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// The oldest first.
    kept: VecDeque<Vec<u8>>,
    /// All that they have room for.
    bytes: usize,
}

impl Buffers {
    /// `len` bytes of any content: zeros, or what a block had that is gone.
    pub(crate) fn filled(&mut self, len: usize) -> Vec<u8> {
        let mut filled = self.take(len).unwrap_or_else(|| vec![0; len]);
        filled.resize(len, 0);
        filled
    }

    /// An empty vector with room for `len` bytes.
    pub(crate) fn room(&mut self, len: usize) -> Vec<u8> {
        let mut room = self.take(len).unwrap_or_else(|| Vec::with_capacity(len));
        room.clear();
        room
    }

    /// Takes back what a block needs no more.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() < LARGE {
            return;
        }
        self.bytes += buffer.capacity();
        self.kept.push_back(buffer);
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.capacity();
        }
    }

    /// Keeps nothing.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// With room for exactly this, so that a block takes no more memory than it is charged. The youngest, so that those that
    /// nobody wants get old.
    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        let at = self.kept.iter().rposition(|kept| kept.capacity() == len)?;
        self.bytes -= len;
        self.kept.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_used_again_and_what_is_kept_has_a_bound() {
        let mut buffers = Buffers::default();
        let first = vec![7; LARGE];
        let at = first.as_ptr();
        buffers.give(first);
        assert!(buffers.filled(LARGE + 1).iter().all(|byte| *byte == 0), "another length is another buffer");
        let again = buffers.filled(LARGE);
        assert_eq!((again.as_ptr(), again.len()), (at, LARGE));
        buffers.give(again[..1].to_vec());
        assert_eq!(buffers.bytes, 0, "a small one is not kept");
        let mut short = again;
        short.truncate(1);
        buffers.give(short);
        let room = buffers.room(LARGE);
        assert_eq!((room.as_ptr(), room.len(), room.capacity()), (at, 0, LARGE));

        for _ in 0..2 * KEPT_BYTES / LARGE {
            buffers.give(vec![0; LARGE]);
            assert!(buffers.bytes <= KEPT_BYTES);
        }
        assert_eq!(buffers.bytes, KEPT_BYTES);
        // Lengths that nobody asks for any more make way.
        for _ in 0..KEPT_BYTES / (2 * LARGE) {
            buffers.give(vec![0; 2 * LARGE]);
        }
        assert!(buffers.kept.iter().all(|kept| kept.len() == 2 * LARGE));
        buffers.give(vec![0; LARGE - 1]);
        assert_eq!(buffers.bytes, KEPT_BYTES);
        buffers.clear();
        assert_eq!((buffers.bytes, buffers.kept.len()), (0, 0));
    }
}
