//! The README shows what has to change from TCP and TLS to QSocket: all of it, and nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The pairs in the order of the README, and how many lines of change each may have.
const PAIRS: [(&str, &str, usize); 3] = [
    ("echo_server_tcp", "echo_server", 4),
    ("echo_client_tcp", "echo_client", 4),
    ("axum_tls", "axum_qsocket", 10),
];

#[test]
fn every_change_is_shown() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(here.parent().unwrap().join("README.md")).unwrap();
    let shown: Vec<_> =
        readme.split("\n```diff\n").skip(1).map(|rest| rest.split_once("```\n").unwrap().0).collect();
    assert_eq!(shown.len(), PAIRS.len());
    for (shown, (before, after, most)) in shown.into_iter().zip(PAIRS) {
        let file = |name| here.join("examples").join(format!("{name}.rs"));
        let diff = Command::new("diff").arg(file(before)).arg(file(after)).output().unwrap();
        let changes: String = String::from_utf8(diff.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| {
                Some(match line.split_at_checked(2)? {
                    ("< ", line) => format!("-{line}\n"),
                    ("> ", line) => format!("+{line}\n"),
                    _ => return None,
                })
            })
            .collect();
        assert_eq!(shown, changes, "from {before} to {after}");
        assert!(changes.lines().count() <= most, "{after}");
    }
}
