//! `docs/faults.md` and `docs/limits.md` name tests: each of them is there, and no row of the first is without one or a
//! reason.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the tests of each word are.
const PLACES: [(&str, &[&str]); 10] = [
    ("core", &["qsocket-proto/src"]),
    ("net", &["qsocket-proto/tests/it"]),
    ("audit", &["qsocket-proto/tests/nonce_audit.rs"]),
    ("files", &["qsocket-files/src"]),
    ("shell", &["qsocket/src"]),
    ("relay", &["raida-relay/src", "raida-relay/tests"]),
    ("suite", &["tests/it"]),
    ("program", &["qsocket-cli/src", "qsocket-cli/tests"]),
    ("examples", &["examples/tests"]),
    ("fuzz", &["fuzz/src", "fuzz/tests"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(path: &Path, into: &mut String) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), into);
        }
    } else if path.extension().is_some_and(|ext| ext == "rs") {
        into.push_str(&fs::read_to_string(path).unwrap());
    }
}

/// Whether a test or a case of a suite has this name.
fn is_defined(name: &str, text: &str) -> bool {
    [format!("fn {name}("), format!("fn {name}<"), format!("Trial::test(\"{name}\"")]
        .iter()
        .any(|form| text.contains(form.as_str()))
}

/// What is defined in each place.
fn places() -> BTreeMap<&'static str, String> {
    let read = |(word, paths): (&'static str, &[&str])| {
        let mut text = String::new();
        paths.iter().for_each(|path| sources(&root().join(path), &mut text));
        (word, text)
    };
    PLACES.into_iter().map(read).collect()
}

/// How many tests a cell names; all of them are where it says.
fn named(tested: &str, places: &BTreeMap<&str, String>) -> usize {
    let (mut tests, mut place) = (0, None);
    // `core: ` says where the names behind it are, up to the next such word.
    for (at, part) in tested.split('`').enumerate() {
        if at % 2 == 0 {
            let word = |word: &&str| part.ends_with(&format!("{word}: "));
            place = PLACES.into_iter().map(|(word, _)| word).find(word).or(place);
        } else {
            let place = place.unwrap_or_else(|| panic!("{part}: it does not say where that is"));
            assert!(is_defined(part, &places[place]), "{place} has no test {part}");
            tests += 1;
        }
    }
    tests
}

#[test]
fn every_sentence_of_the_threat_model_about_bad_relays_has_a_test_that_exists() {
    let model = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let places = places();
    let table = model.lines().skip_while(|line| *line != "| sentence | shown by |").skip(2);
    let mut sentences = 0;
    for line in table.take_while(|line| line.starts_with('|')) {
        let (_, shown_by) = line.trim_matches('|').split_once('|').unwrap();
        assert!(named(shown_by, &places) > 0, "no test: {line}");
        sentences += 1;
    }
    assert!(sentences >= 10, "{sentences} sentences");
}

#[test]
fn every_test_that_the_fault_catalogue_names_exists() {
    let places = places();
    let catalogue = fs::read_to_string(root().join("docs/faults.md")).unwrap();
    let (mut rows, mut all) = (BTreeSet::new(), 0);
    for line in catalogue.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|---")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let number = cells.first().and_then(|cell| cell.parse::<u32>().ok());
        let Some(shown_by) = cells.last().filter(|_| cells.len() >= 3) else { continue };
        if let Some(number) = number {
            assert!(rows.insert(number), "row {number} is there twice");
        }
        let (tested, _) = shown_by.split_once("**Not done**").unwrap_or((shown_by, ""));
        let tests = named(tested, &places);
        all += tests;
        let has_reason = line.contains("Does not apply") || line.contains("**Not done**");
        let is_heading = *shown_by == "shown by";
        assert!(tests > 0 || has_reason || is_heading, "neither a test nor a reason: {line}");
    }
    assert_eq!(rows, (1..=50).collect(), "the rows are numbered from 1 to 50");
    assert!(all > 100, "{all} tests are named");
}

#[test]
fn every_test_that_the_limits_name_exists() {
    let mut text = String::new();
    for (_, paths) in PLACES {
        paths.iter().for_each(|path| sources(&root().join(path), &mut text));
    }
    let limits = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let mut named = 0;
    for line in limits.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').collect();
        // Limit, value, what happens above it, tests.
        let &[_, _, _, tests] = &cells[..] else { continue };
        for name in tests.split('`').skip(1).step_by(2) {
            assert!(is_defined(name, &text), "there is no test {name}");
            named += 1;
        }
    }
    assert!(named > 20, "{named} tests are named");
}
