//! Catches a nonce that seals two inputs. For tests only: feature `nonce-audit`.
//!
//! Every seal records (key, nonce) and a hash of what was sealed. Sealing the same input again is what a resend
//! does, and is silent; a second input panics, because a single one reveals the key that authenticates.
//!
//! Keys made from the same bytes on the same thread share a log, so a key derived twice is caught too; the log
//! follows a key to other threads. The logs grow with every seal until [`forget`] or the end of the thread: the
//! feature has no place in a deployed program.

use super::secret::Secret;
use super::{aead::NONCE, sha256};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

type Seals = Arc<Mutex<HashMap<[u8; NONCE], [u8; 32]>>>;

thread_local! {
    /// By the hash of the key, so that the audit holds no key.
    static KEYS: RefCell<HashMap<[u8; 32], Seals>> = RefCell::default();
}

/// Starts a new scenario on this thread: keys made from now on have empty logs, whatever their bytes.
///
/// For a test that replays several runs from one seed. Keys that exist keep their logs.
pub fn forget() {
    KEYS.with_borrow_mut(HashMap::clear);
}

/// What one key has sealed.
pub(super) struct Log(Seals);

impl Log {
    /// The log of all keys with these bytes.
    pub(super) fn of(secret: &Secret<32>) -> Self {
        let id = sha256(&[b"nonce audit", secret.expose()]);
        Self(KEYS.with_borrow_mut(|keys| Arc::clone(keys.entry(id).or_default())))
    }

    /// Records one seal.
    ///
    /// # Panics
    ///
    /// If this key has sealed another input under the nonce.
    pub(super) fn record(&self, nonce: [u8; NONCE], aad: &[u8], plaintext: &[u8]) {
        let input = sha256(&[&(aad.len() as u64).to_be_bytes(), aad, plaintext]);
        let mut seals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *seals.entry(nonce).or_insert(input);
        drop(seals);
        assert!(first == input, "nonce reuse: nonce {nonce:02x?} seals a second, different input");
    }
}

#[cfg(test)]
mod tests {
    use super::super::aead::{Iv, Key};
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Whether sealing panics.
    fn panics(key: &Key, nonce: [u8; NONCE], aad: &[u8], plaintext: &[u8]) -> bool {
        let mut buf = plaintext.to_vec();
        catch_unwind(AssertUnwindSafe(|| key.seal_in_place(nonce, aad, &mut buf))).is_err()
    }

    #[test]
    fn an_identical_resend_is_silent_and_anything_else_panics() {
        let key = Key::new(&Secret::new([1; 32]));
        let iv = Iv::new(Secret::new([2; NONCE]));
        let nonce = iv.xor_stripe(1, 2, 3);
        let first = key.seal_in_place(nonce, b"header", &mut { *b"bytes" });
        assert_eq!(key.seal_in_place(nonce, b"header", &mut { *b"bytes" }), first);
        assert!(panics(&key, nonce, b"header", b"other"), "another plaintext");
        assert!(panics(&key, nonce, b"Header", b"bytes"), "other associated data");
        assert!(panics(&key, nonce, b"heade", b"rbytes"), "another boundary");
        assert!(!panics(&key, iv.xor_stripe(1, 2, 4), b"header", b"other"), "another nonce is free");
        assert!(!panics(&key, nonce, b"header", b"bytes"), "the log still answers after a panic");
    }

    #[test]
    fn the_log_outlives_a_key_and_follows_it_to_other_threads() {
        let again = || Key::new(&Secret::new([5; 32]));
        assert!(!panics(&again(), [0; NONCE], b"", b"1"));
        let moved = again();
        std::thread::scope(|s| {
            assert!(s.spawn(move || panics(&moved, [0; NONCE], b"", b"2")).join().unwrap());
        });
        assert!(panics(&again(), [0; NONCE], b"", b"2"));
        forget();
        assert!(!panics(&again(), [0; NONCE], b"", b"2"));
    }
}
