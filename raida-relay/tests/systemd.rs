//! The systemd unit is one that systemd accepts, hardens, and lets hold all its connections.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UNIT: &str = include_str!("../systemd/raida-relay@.service");

/// Where the unit has the program.
const INSTALLED: &str = "/usr/bin/raida-relay";

/// The most that `systemd-analyze security` may rate the unit, in tenths; 100 is a service without any limits.
const MOST_EXPOSURE: &str = "15";

/// Runs systemd-analyze on a copy of the unit that starts the program of this build; `None` if it is absent.
fn analyze(unit: &str, arguments: &[&str]) -> Option<Output> {
    let program = program("systemd-analyze", "systemd")?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raida-relay@.service");
    let built = env!("CARGO_BIN_EXE_raida-relay");
    std::fs::write(&path, unit.replace(INSTALLED, built)).unwrap();
    Some(Command::new(program).args(arguments).arg(&path).output().unwrap())
}

fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        let required = std::env::var_os("QSOCKET_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
        assert!(!required, "{name} is required by QSOCKET_REQUIRE_CLIENTS=1: apt-get install {package}");
        // Not by `eprintln!`, which the test harness would keep to itself.
        let _unheard = writeln!(std::io::stderr(), "skipped: apt-get install {package}");
    }
    found
}

/// What systemd-analyze says about a unit; empty if nothing is wrong.
fn faults(unit: &str) -> Option<String> {
    let output = analyze(unit, &["verify", "--man=no", "--recursive-errors=no"])?;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() || !said.is_empty());
    Some(said)
}

fn setting(name: &str) -> &'static str {
    let mut lines = UNIT.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = lines.next().unwrap();
    assert_eq!(lines.next(), None, "{name} once");
    value
}

#[test]
fn systemd_accepts_the_unit() {
    let Some(said) = faults(UNIT) else { return };
    assert_eq!(said, "");
    let spoiled = faults(&UNIT.replace("LockPersonality=", "LockPersonalty=")).unwrap();
    assert!(spoiled.contains("LockPersonalty"), "a fault is found: {spoiled:?}");
}

#[test]
fn the_unit_exposes_little() {
    let security = ["security", "--offline=true", "--no-pager", "--threshold", MOST_EXPOSURE];
    let Some(output) = analyze(UNIT, &security) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let spoiled = UNIT.replace("\nProtectSystem=strict\n", "\n").replace("\nCapabilityBoundingSet=\n", "\n");
    assert!(!analyze(&spoiled, &security).unwrap().status.success(), "a hole is found");
}

#[test]
fn the_unit_starts_this_program_and_lets_it_hold_its_connections() {
    let line = setting("ExecStart");
    assert_eq!(line, format!("{INSTALLED} run --config %S/{}/relay.toml", setting("StateDirectory")));
    assert!(Path::new(INSTALLED).is_absolute());
    let files: usize = setting("LimitNOFILE").parse().unwrap();
    assert!(
        files >= 2 * raida_relay::MAX_CONNECTIONS,
        "as many dialled connections and files as accepted ones"
    );
    assert_eq!(setting("LimitCORE"), "0");
}
