//! The audit reaches integration tests: they link the crate with its feature `nonce-audit`.

use qsocket_proto::crypto::aead::Key;
use qsocket_proto::crypto::secret::Secret;

#[test]
fn a_resend_is_silent() {
    let key = Key::new(&Secret::new([1; 32]));
    let seal = || key.seal_in_place([0; 12], b"header", &mut { *b"bytes" });
    assert_eq!(seal(), seal());
}

#[test]
#[should_panic(expected = "nonce reuse")]
fn a_second_input_panics() {
    let key = Key::new(&Secret::new([1; 32]));
    key.seal_in_place([0; 12], b"header", &mut { *b"bytes" });
    key.seal_in_place([0; 12], b"header", &mut { *b"other" });
}
