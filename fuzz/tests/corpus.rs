//! Replays the corpus: whatever fuzzing found once stays found.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsocket_fuzz::{TARGETS, body};
use qsocket_proto::crypto::nonce_audit;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The most that the corpus takes in the repository.
const MOST_BYTES: u64 = 1 << 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        fs::read_dir(folder().join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort_unstable();
    all
}

/// Replays the inputs of some of the targets, on one thread of its own each so that both cores have work.
fn replay(targets: impl Iterator<Item = &'static str>) {
    let mut failed = Vec::new();
    for target in targets {
        let run = body(target).unwrap();
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for path in inputs {
            let data = fs::read(&path).unwrap();
            nonce_audit::forget();
            if catch_unwind(AssertUnwindSafe(|| run(&data))).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "these inputs fail: {failed:#?}");
}

fn is_small(target: &str) -> bool {
    !matches!(target, "connection" | "peer")
}

#[test]
fn every_input_of_parsers_and_small_machines_passes() {
    replay(TARGETS.into_iter().map(|(target, _)| target).filter(|target| is_small(target)));
}

#[test]
fn every_input_of_two_connections_passes() {
    replay(["connection"].into_iter());
}

#[test]
fn every_input_of_a_peer_without_rules_passes() {
    replay(["peer"].into_iter());
}

#[test]
fn every_folder_is_that_of_a_target_and_all_are_small() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    let folders: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, targets);
    let size = |path: PathBuf| fs::metadata(path).unwrap().len();
    let bytes: u64 = targets.iter().flat_map(|target| inputs(target)).map(size).sum();
    assert!(bytes < MOST_BYTES, "{bytes} bytes");
}
