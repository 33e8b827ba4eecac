//! The side-by-side table.
//!
//! Every [`peer::Peer`] gets a client thread and a server thread of its own, each with a single-threaded
//! runtime, so that the CPU time of either end is that of one thread ([`subject`]). Rounds are interleaved:
//! each round measures each figure on each peer, in an order that rotates, and every ratio is taken inside
//! one round. The table shows medians with the smallest and largest round.

mod figures;
mod machine;
mod peer;
mod peers;
mod subject;
mod table;
mod web;

use std::path::PathBuf;

use anyhow::{Result, ensure};

use self::figures::{Mode, Samples};
use self::peers::plain::Plain;
use self::peers::qsocket::QSocket;
use self::peers::tls::{KeyExchange, Tls};
use self::subject::{Plan, Subject};
use self::table::Column;

/// How much to measure, and where the result goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Interleaved rounds; at least 5 unless --quick is given
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Bytes of one bulk transfer
    #[arg(long, default_value_t = 512 << 20)]
    bytes: u64,
    /// Three short rounds, to see that everything works; the figures are rough
    #[arg(long)]
    quick: bool,
    /// Also write the table, with a description of the machine, to the file given by --output
    #[arg(long)]
    write: bool,
    /// The file that --write replaces, but for what stands in it from its heading "Notes" on
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../BENCHMARKS.md"))]
    output: PathBuf,
}

/// Below this a median and a spread say little.
const FEWEST_ROUNDS: usize = 5;

impl Args {
    fn rounds(&self) -> Result<usize> {
        if self.quick {
            return Ok(3);
        }
        ensure!(self.rounds >= FEWEST_ROUNDS, "--rounds must be at least {FEWEST_ROUNDS}, or use --quick");
        Ok(self.rounds)
    }

    fn plan(&self) -> Result<Plan> {
        ensure!(self.bytes >= 1 << 20, "--bytes must be at least 1048576 to measure a transfer");
        Ok(if self.quick {
            Plan { bytes: self.bytes.min(64 << 20), connections: 50, streams: 50, echoes: 500, requests: 500 }
        } else {
            Plan { bytes: self.bytes, connections: 200, streams: 500, echoes: 3000, requests: 3000 }
        })
    }
}

/// Everything that one run measures.
struct Lineup {
    /// The modes under test.
    ours: Vec<(Mode, Subject)>,
    /// The peer that every ratio and goal refers to.
    reference: Subject,
    /// Shown beside, without ratios.
    beside: Vec<Subject>,
}

impl Lineup {
    /// The one place that names the peers.
    fn start() -> Result<Self> {
        Ok(Self {
            ours: vec![
                (Mode::Full, Subject::start(QSocket::new(Mode::Full))?),
                (Mode::Adaptive, Subject::start(QSocket::new(Mode::Adaptive))?),
            ],
            reference: Subject::start(Tls::new(KeyExchange::PostQuantum)?)?,
            beside: vec![Subject::start(Tls::new(KeyExchange::Classical)?)?, Subject::start(Plain::new())?],
        })
    }

    fn subjects(&self) -> Vec<&Subject> {
        self.ours.iter().map(|(_, subject)| subject).chain([&self.reference]).chain(&self.beside).collect()
    }
}

/// Runs all rounds and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (rounds, plan) = (args.rounds()?, args.plan()?);
    if cfg!(debug_assertions) {
        eprintln!("built without optimisation: run with --release for figures that mean something");
    }
    let load = machine::load();
    let lineup = Lineup::start()?;
    let subjects = lineup.subjects();

    // One short round first, thrown away: caches, page tables and TCP's estimates settle.
    for subject in &subjects {
        subject.measure(&plan.warm_up())?;
    }
    let mut samples: Vec<Samples> = subjects.iter().map(|_| Samples::default()).collect();
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let index = (round + turn) % subjects.len();
            samples[index].push(subjects[index].measure(&plan)?);
            eprintln!("round {} of {rounds}: {}", round + 1, subjects[index].label());
        }
    }

    let columns: Vec<Column<'_>> =
        subjects.iter().zip(&samples).map(|(subject, samples)| (subject.label(), samples)).collect();
    let (ours, others) = columns.split_at(lineup.ours.len());
    let modes: Vec<_> = lineup.ours.iter().zip(ours).map(|((mode, _), column)| (*mode, *column)).collect();
    let table = table::render(&modes, others[0], &others[1..]);
    let report = format!("{}\n{table}", table::preamble(&plan, rounds, load));
    println!("{report}");
    if args.write {
        let old = std::fs::read_to_string(&args.output).unwrap_or_default();
        let document = table::document(&report, &machine::describe(), table::notes(&old));
        std::fs::write(&args.output, document)?;
        eprintln!("wrote {}", args.output.display());
    }
    Ok(())
}
