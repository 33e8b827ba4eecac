//! Memory and processor time of another process, and the table of what was found.

use anyhow::{Context, Result};
use qsocket_tests::process::Process;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

/// Ticks of the processor time in `/proc`, a second: what Linux shows on every architecture.
const TICKS: u64 = 100;

/// Bytes in a mebibyte.
pub(crate) const MIB: u64 = 1 << 20;

/// A process whose memory is watched while it is attacked.
pub(crate) struct Watch {
    id: u32,
    before: u64,
    busy: Duration,
}

/// What a [`Watch`] saw, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) before: u64,
    pub(crate) peak: u64,
    pub(crate) after: u64,
    /// Processor time that it took.
    pub(crate) busy: Duration,
}

impl Watch {
    /// Notes the memory that is resident now, and has the system forget the peak until now.
    pub(crate) fn begin(process: &Process) -> Result<Self> {
        let id = process.id();
        fs::write(format!("/proc/{id}/clear_refs"), "5").context("clear_refs: the peak cannot be reset")?;
        Ok(Self { id, before: field(id, "VmRSS:")?, busy: busy(id)? })
    }

    /// The memory that is resident now.
    pub(crate) fn now(&self) -> Result<u64> {
        field(self.id, "VmRSS:")
    }

    pub(crate) fn end(self) -> Result<Seen> {
        let peak = field(self.id, "VmHWM:")?;
        Ok(Seen { before: self.before, peak, after: self.now()?, busy: busy(self.id)? - self.busy })
    }
}

impl Seen {
    /// By how much it grew at most.
    pub(crate) fn growth(&self) -> u64 {
        self.peak.saturating_sub(self.before)
    }
}

fn field(id: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).context("the victim ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn busy(id: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // Behind the name, which may hold anything, the 12th and 13th field.
    let (_, rest) = stat.rsplit_once(')').context("no name")?;
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).map(|t| t.parse().unwrap_or(0u64)).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) attack: &'static str,
    pub(crate) size: String,
    pub(crate) victim: &'static str,
    pub(crate) seen: Seen,
    /// Bytes by which the victim may grow.
    pub(crate) bound: u64,
    /// What else was measured, and what does not hold of it.
    pub(crate) honest: Honest,
}

/// How somebody honest fared meanwhile.
pub(crate) struct Honest {
    pub(crate) what: String,
    pub(crate) well: bool,
}

impl Honest {
    /// Something took so long, and may take so long.
    pub(crate) fn took(what: &str, took: Duration, most: Duration) -> Self {
        let (took, most) = (took.as_secs_f64() * 1e3, most.as_secs_f64() * 1e3);
        Self { what: format!("{what} {took:.1} ms (at most {most:.0})"), well: took <= most }
    }

    /// And something else.
    pub(crate) fn and(mut self, what: &str, well: bool) -> Self {
        let _ = write!(self.what, "; {what}");
        self.well &= well;
        self
    }
}

impl Row {
    pub(crate) fn passed(&self) -> bool {
        self.honest.well && self.seen.growth() <= self.bound
    }

    fn line(&self) -> String {
        let Seen { before, peak, after, busy } = self.seen;
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB as f64);
        format!(
            "| {} | {} | {} | {} | {} | {} | {} of {} | {:.1} s | {} | {} |",
            self.attack,
            self.size,
            self.victim,
            mib(before),
            mib(peak),
            mib(after),
            mib(self.seen.growth()),
            mib(self.bound),
            busy.as_secs_f64(),
            self.honest.what,
            if self.passed() { "pass" } else { "FAIL" }
        )
    }
}

/// The table, as Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| attack | size | victim | MiB before | at its peak | after | grew, of at most | CPU | somebody honest meanwhile | |\n\
         |---|---|---|---:|---:|---:|---:|---:|---|---|\n",
    );
    for row in rows {
        out += &row.line();
        out.push('\n');
    }
    out
}
