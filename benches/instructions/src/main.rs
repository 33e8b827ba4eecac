//! Counts the instructions of the core's hot paths under callgrind, and fails when one needs more than it did.
//!
//! ```text
//! cargo run --release -p qsocket-instructions --locked            compare with benches/instructions/baselines.txt
//! cargo run --release -p qsocket-instructions --locked -- --write  make these counts the ones to compare with
//! ```
//!
//! Counts do not depend on what else the machine does, and hardly on which it is: callgrind shows programs a processor of
//! x86-64 with AVX2 and AES, without AVX-512 and GFNI. A processor without AVX2 counts more.

mod cases;
mod pair;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use cases::Case;

/// How much more than its baseline a case may need. Compilers and libraries move counts by less; what is above has a cause
/// in the change.
const TOLERANCE: f64 = 0.05;

/// The function whose instructions count, with all that it calls.
const MEASURED: &str = "measured_work";

/// Runs what is counted. Everything else is setting up.
#[inline(never)]
fn measured_work(work: &mut dyn FnMut()) {
    work();
    // Not the last call, so that it is never turned into a jump that callgrind does not see come back.
    std::hint::black_box(());
}

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--write"] => write(),
        ["run", name] => {
            let case = Case::ALL.into_iter().find(|case| case.name() == name);
            case.with_context(|| format!("no case {name}"))?.run()?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("usage: qsocket-instructions [--write]"),
    }
}

fn baselines() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/baselines.txt"))
}

/// Instructions of one case.
fn count(case: Case) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{MEASURED}*"))
        .arg(std::env::current_exe()?)
        .args(["run", case.name()])
        .stdin(Stdio::null())
        .output()
        .context("run valgrind: apt-get install --no-install-recommends valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}: {}\n{said}", case.name(), output.status);
    }
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = collected.with_context(|| format!("callgrind said no count:\n{said}"))?;
    let count = count.trim().parse()?;
    if count == 0 {
        bail!("{}: callgrind did not see {MEASURED}", case.name());
    }
    Ok(count)
}

fn write() -> Result<ExitCode> {
    let mut text = "# Instructions of each case, counted by callgrind; see `main.rs`.\n".to_owned();
    for case in Case::ALL {
        let count = count(case)?;
        println!("{:<14} {count:>12}", case.name());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {count}", case.name());
    }
    std::fs::write(baselines(), text)?;
    Ok(ExitCode::SUCCESS)
}

fn compare() -> Result<ExitCode> {
    let text = std::fs::read_to_string(baselines()).context("no baselines: run with --write")?;
    let known = parse(&text)?;
    let mut worse = 0;
    for case in Case::ALL {
        let base = *known
            .get(case.name())
            .with_context(|| format!("no baseline of {}: run with --write", case.name()))?;
        let count = count(case)?;
        let change = count as f64 / base as f64 - 1.0;
        let verdict = judge(change);
        worse += usize::from(verdict == Verdict::Worse);
        println!("{:<14} {count:>12} {base:>12} {:>+7.2} %{}", case.name(), change * 100.0, verdict.words());
    }
    if worse > 0 {
        eprintln!(
            "{worse} of {} cases need more than {} % more instructions than they did. If that is the price of something \
             wanted, say so in the commit and run with --write.",
            Case::ALL.len(),
            TOLERANCE * 100.0
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Better,
    Worse,
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Better => "  better: run with --write, so that it stays so",
            Self::Worse => "  WORSE",
        }
    }
}

fn judge(change: f64) -> Verdict {
    if change > TOLERANCE {
        Verdict::Worse
    } else if change < -TOLERANCE {
        Verdict::Better
    } else {
        Verdict::Same
    }
}

fn parse(text: &str) -> Result<BTreeMap<&str, u64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let parse = |line| {
        let (name, count) = str::split_once(line, ' ').with_context(|| format!("baselines: {line:?}"))?;
        let count = count.parse().with_context(|| format!("baselines: {line:?}"))?;
        anyhow::ensure!(count > 0, "baselines: {line:?}");
        Ok((name, count))
    };
    lines.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_percent_more_is_worse() {
        assert_eq!(judge(0.0501), Verdict::Worse);
        assert_eq!((judge(0.05), judge(-0.05)), (Verdict::Same, Verdict::Same));
        assert_eq!(judge(-0.06), Verdict::Better);
    }

    #[test]
    fn every_case_has_a_baseline_and_no_other_is_there() {
        let text = std::fs::read_to_string(baselines()).unwrap();
        let known = parse(&text).unwrap();
        let names: Vec<_> = Case::ALL.into_iter().map(Case::name).collect();
        assert_eq!(known.len(), names.len());
        assert!(names.iter().all(|name| known.contains_key(name)), "{known:?}");
    }

    #[test]
    fn broken_baselines_are_errors() {
        for text in ["block", "block x", "block 0", "block -3"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("# words\n\nblock 3\n").unwrap(), BTreeMap::from([("block", 3)]));
    }

    #[test]
    fn every_case_runs() {
        for case in Case::ALL {
            // Each has the same keys, so each has a thread: where the audit of nonces is on, a thread is a run.
            std::thread::spawn(move || case.run()).join().unwrap().unwrap();
        }
    }
}
