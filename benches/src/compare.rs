//! The side-by-side table.
//!
//! Every [`peer::Peer`] gets a client thread and a server thread of its own, each with a single-threaded
//! runtime, so that the CPU time of either end is that of one thread ([`subject`]). Rounds are interleaved:
//! each round measures each figure on each peer, in an order that rotates, and every ratio is taken inside
//! one round. The table shows medians with the smallest and largest round.

pub(crate) mod figures;
mod idle;
mod kernels;
mod links;
pub(crate) mod machine;
mod paths;
pub(crate) mod peer;
pub(crate) mod peers;
pub(crate) mod place;
mod principals;
mod relay;
pub(crate) mod report;
pub(crate) mod subject;
mod table;
mod web;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::figures::{Bound, Figure, Goal, Mode, Samples};
use self::idle::Counts;
use self::peers::plain::Plain;
use self::peers::qsocket::QSocket;
use self::peers::tls::{KeyExchange, Tls};
use self::report::{Output, Section};
use self::subject::{MANY, Plan, Subject};
use self::table::{Column, Row};

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
    /// Instead: one relay process beside HAProxy, which must be installed
    #[arg(long, conflicts_with = "paths")]
    relay: bool,
    /// Instead: 25 links of a limited rate against one and several; needs root, `ip` and `tc`
    #[arg(long)]
    paths: bool,
    #[command(flatten)]
    output: Output,
}

/// Below this a median and a spread say little.
const FEWEST_ROUNDS: usize = 5;

/// Cold starts of a round: a relay accepts so many from one address at once, and as many again until the next round.
const COLDS: usize = 20;

/// P7: so many paths are late, by so much in either direction.
pub(crate) const LATE: (usize, Duration) = (9, Duration::from_millis(200));

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
            let bytes = self.bytes.min(64 << 20);
            Plan {
                bytes,
                connections: 50,
                streams: 50,
                echoes: 500,
                requests: 500,
                colds: 5,
                many: (MANY, bytes),
                ..Plan::default()
            }
        } else {
            Plan {
                bytes: self.bytes,
                connections: 200,
                streams: 500,
                echoes: 3000,
                requests: 3000,
                colds: COLDS,
                many: (MANY, self.bytes),
                ..Plan::default()
            }
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
    let load = machine::load();
    let (rounds, plan) = (args.rounds()?, args.plan()?);
    if cfg!(debug_assertions) {
        eprintln!("built without optimisation: run with --release for figures that mean something");
    }
    let taken = report::taken(rounds, load);
    let (section, text) = if args.relay {
        let (mut rows, proxy) = relay::measure(rounds, plan.bytes)?;
        rows.extend(principals::measure(rounds, plan.bytes, &proxy)?);
        (Section::Relay, format!("{taken}{RELAY}\n{}", table::render(&rows, "HAProxy, TLS to TLS", &[])))
    } else if args.paths {
        let rows = paths::measure(rounds, args.quick)?;
        (Section::Paths, format!("{taken}{PATHS}\n{}", table::render(&rows, "peer's", &[])))
    } else {
        let table = side_by_side(args, rounds, &plan)?;
        (Section::Tls, format!("{taken}{}\n{table}", table::preamble(&plan)))
    };
    args.output.finish(section, &text)
}

/// How the table of `--relay` was made.
const RELAY: &str = " Each transfer goes in one direction. One relay of the 25 is a process of its own with one thread, and so is HAProxy; \
    what either forwarded is divided by the CPU time of its process. Bytes of a relay are those of DATA frames, parity \
    included; bytes of HAProxy are the application's. The second line is of all 25 relays. The last lines are of one relay \
    with a thread for each core and hops that are made by hand; it has, as HAProxy has, all the traffic that there is.\n";

/// How the table of `--paths` was made.
const PATHS: &str = " Client and relays are in network namespaces with a link for each relay, which `tc tbf` limits in both \
    directions; relays and server share the far one. All peers but quinn carry TLS 1.3 with certificates at both ends; \
    quinn carries the same in QUIC. Of unequal links, what the code allows is the sum of their rates with 16 stripes and \
    16/25 of it with 25, each in terms of what TLS makes of one link.\n";

/// The table beside mutual TLS.
fn side_by_side(args: &Args, rounds: usize, plan: &Plan) -> Result<String> {
    let lineup = Lineup::start()?;
    // Over the same detour, which costs what it costs: what differs is the time it takes.
    let on_time = Subject::start(QSocket::late(Mode::Mds, LATE.0, Duration::ZERO))?;
    let late = Subject::start(QSocket::late(Mode::Mds, LATE.0, LATE.1))?;
    let counts = if args.quick { Counts::QUICK } else { Counts::WHOLE };
    let subjects = lineup.subjects();

    // One short round first, thrown away: caches, page tables and TCP's estimates settle.
    for subject in &subjects {
        subject.measure(&plan.warm_up())?;
    }
    let echoes = Plan::echo(plan.echoes);
    for subject in [&on_time, &late] {
        subject.measure(&echoes)?;
    }
    let (mut of_on_time, mut of_late) = (Samples::default(), Samples::default());
    let (mut kernels, mut idle) = (Vec::new(), Vec::new());
    let mut samples: Vec<Samples> = subjects.iter().map(|_| Samples::default()).collect();
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let index = (round + turn) % subjects.len();
            samples[index].push(subjects[index].measure(plan)?);
            eprintln!("round {} of {rounds}: {}", round + 1, subjects[index].label());
        }
        of_on_time.push(on_time.measure(&echoes)?);
        of_late.push(late.measure(&echoes)?);
        kernels.push(kernels::measure()?);
        idle.push(idle::measure(counts)?);
        eprintln!("round {} of {rounds}: late paths, kernels, memory", round + 1);
    }

    let columns: Vec<Column<'_>> =
        subjects.iter().zip(&samples).map(|(subject, samples)| (subject.label(), samples)).collect();
    let (ours, others) = columns.split_at(lineup.ours.len());
    let modes: Vec<_> = lineup.ours.iter().zip(ours).map(|((mode, _), column)| (*mode, *column)).collect();
    let (reference, beside) = others.split_first().context("no reference")?;
    let mut rows = table::rows(&modes, reference.1, beside);
    rows.extend(late_rows(&of_late, &of_on_time));
    rows.extend(idle::rows(&idle, counts)?);
    rows.extend(kernels::rows(&kernels)?);
    let peer = format!("{}, or as named", reference.0);
    let beside: Vec<&str> = beside.iter().map(|(label, _)| *label).collect();
    Ok(table::render(&rows, &peer, &beside))
}

/// P7: what a request feels when nine paths are late.
fn late_rows(late: &Samples, on_time: &Samples) -> impl Iterator<Item = Row> {
    [Figure::Echo, Figure::EchoTail].into_iter().map(|figure| Row {
        figure: format!(
            "P7 64 B echo, {} of 25 paths {} ms late, {}, us",
            LATE.0,
            LATE.1.as_millis(),
            if figure == Figure::Echo { "p50" } else { "p99" }
        ),
        mode: Mode::Mds.to_string(),
        ours: table::summary(late, figure),
        peer: table::summary(on_time, figure).map(|value| (Some("none late".to_owned()), value)),
        ratio: late.over(figure, on_time, figure),
        goal: (figure == Figure::EchoTail).then(|| Goal::ratio(Bound::AtMost(1.2))),
        beside: Vec::new(),
    })
}
