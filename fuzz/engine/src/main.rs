//! Runs the body that `QSOCKET_FUZZ_TARGET` names under libFuzzer, whose arguments it takes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qsocket_fuzz::{Body, TARGETS, body};
use qsocket_proto::crypto::nonce_audit;
use std::sync::LazyLock;

static BODY: LazyLock<Body> = LazyLock::new(|| {
    let name = std::env::var("QSOCKET_FUZZ_TARGET").unwrap_or_default();
    body(&name).unwrap_or_else(|| {
        let all: Vec<_> = TARGETS.iter().map(|(target, _)| *target).collect();
        eprintln!("QSOCKET_FUZZ_TARGET={name:?}: write one of {}", all.join(", "));
        std::process::exit(2)
    })
});

fuzz_target!(|data: &[u8]| {
    // Every run draws from one seed, and so the same keys.
    nonce_audit::forget();
    BODY(data);
});
