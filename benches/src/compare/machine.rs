//! A description of the machine, so that a table can be read elsewhere.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::thread;

/// The lock file this program was built with: it names the peers' exact versions.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// A Markdown list.
pub(crate) fn describe() -> String {
    let system = rustix::system::uname();
    let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned());
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_else(|| "unknown".to_owned());
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let mut list = String::new();
    let mut item = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(list, "- {name}: {value}");
    };
    item("processor", &format!("{cpu}, {cores} logical cores usable"));
    item("instructions for ciphers and parity", &extensions(&read("/proc/cpuinfo")));
    item("memory", &memory);
    item(
        "system",
        &format!(
            "{} {} {}",
            system.sysname().to_string_lossy(),
            system.release().to_string_lossy(),
            system.machine().to_string_lossy()
        ),
    );
    for package in ["rustls", "aws-lc-rs", "tokio", "tokio-rustls", "quinn", "axum", "hyper"] {
        item(package, &locked(package).unwrap_or("unknown").replace('"', ""));
    }
    list
}

/// The commit that the working tree is of, and whether it was changed since.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    // Tables of the same series are no change of what is measured.
    let changed = git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":/",
        ":!/BENCHMARKS.md",
        ":!/benches/plots",
    ]);
    if changed.is_some_and(|files| files.is_empty()) { commit } else { format!("{commit} with changes") }
}

/// The load average of the last minute: other work on the machine makes every figure worse.
pub(crate) fn load() -> Option<f64> {
    read("/proc/loadavg").split_whitespace().next()?.parse().ok()
}

/// Those of the processor's extensions that decide how fast either side can be.
fn extensions(cpuinfo: &str) -> String {
    const DECISIVE: [&str; 8] =
        ["aes", "pclmulqdq", "vaes", "vpclmulqdq", "avx2", "avx512f", "gfni", "sha_ni"];
    let flags = field(cpuinfo, "flags").or_else(|| field(cpuinfo, "Features")).unwrap_or_default();
    let present: Vec<&str> =
        DECISIVE.into_iter().filter(|name| flags.split_whitespace().any(|flag| flag == *name)).collect();
    if present.is_empty() { "none known".to_owned() } else { present.join(" ") }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first `name : value` line of a file in the style of `/proc`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| (key.trim() == name).then(|| value.trim().to_owned()))
}

/// The version of a package in the lock file.
fn locked(package: &str) -> Option<&'static str> {
    let name = format!("name = \"{package}\"");
    let mut lines = LOCK.lines().skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix("version = ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_value() {
        let list = describe();
        assert!(list.lines().count() == 11 && !list.contains("unknown"), "{list}");
        assert!(list.contains("- rustls: 0.23."), "{list}");
    }

    #[test]
    fn extensions_are_whole_words_in_a_fixed_order() {
        assert_eq!(extensions("flags : gfni fpu vaes avx512fp16 aes\n"), "aes vaes gfni");
        assert_eq!(extensions("flags : fpu\n"), "none known");
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 85\nmodel name\t: Some CPU: fast\nmodel name\t: other\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU: fast"));
        assert_eq!(field(text, "mode"), None);
    }
}
