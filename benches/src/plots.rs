//! Cost against the number of streams, the size of messages and the number of clients, as plots.

mod chart;
mod crowd;

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::compare::figures::{Figure, Mode, Samples, Summary};
use crate::compare::machine;
use crate::compare::peers::qsocket::QSocket;
use crate::compare::peers::tls::{KeyExchange, Tls};
use crate::compare::report::{self, Output, Section};
use crate::compare::subject::{Plan, Subject};
use chart::Chart;

/// How much to measure, and where the result goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Interleaved rounds; at least 5 unless --quick is given
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// One round with less to send, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Where --write puts the plots
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/plots"))]
    folder: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// Streams that send at once.
const STREAMS: [usize; 4] = [1, 10, 100, 1000];

/// Bytes of a message.
const MESSAGES: [usize; 10] =
    [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];

/// Clients that send at once.
const CLIENTS: [u16; 6] = [1, 2, 4, 8, 16, 32];

/// Bytes that all streams, or all clients, send together, and that all messages of one size are together at most.
const BYTES: u64 = 128 << 20;

/// The most messages of one size.
const MOST_MESSAGES: u64 = 500;

/// The fewest, whatever their size.
const FEWEST_MESSAGES: u64 = 3;

/// Below this a median says little.
const FEWEST_ROUNDS: usize = 5;

/// One curve: what it is of, and a value for each step.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, Summary)>,
}

/// Measures, draws, and prints the values.
pub(crate) fn run(args: &Args) -> Result<()> {
    let load = machine::load();
    let enough = args.quick || args.rounds >= FEWEST_ROUNDS;
    ensure!(enough, "--rounds must be at least {FEWEST_ROUNDS}, or use --quick");
    let (rounds, bytes) = if args.quick { (1, BYTES / 16) } else { (args.rounds, BYTES) };
    let subjects = [
        Subject::start(QSocket::new(Mode::Full))?,
        Subject::start(QSocket::new(Mode::Adaptive))?,
        Subject::start(Tls::new(KeyExchange::PostQuantum)?)?,
    ];
    for subject in &subjects {
        subject.measure(&Plan::bulk(bytes / 4))?;
    }
    let of_streams =
        sweep(&subjects, rounds, &STREAMS, |count| Plan { many: (count, bytes), ..Plan::default() })?;
    let of_messages = sweep(&subjects, rounds, &MESSAGES, |size| {
        let count = (bytes / size as u64).clamp(FEWEST_MESSAGES, MOST_MESSAGES);
        Plan { messages: (size, count as usize), ..Plan::default() }
    })?;
    let crowd = crowd::measure(rounds, &CLIENTS, bytes)?;

    let streams = |figures: &[(Figure, &str)]| curves(&subjects, &of_streams, &STREAMS, figures);
    let messages = |figure| curves(&subjects, &of_messages, &MESSAGES, &[(figure, "")]);
    let cpu = [
        (Figure::ManyClientCpu, ", client"),
        (Figure::ManyServerCpu, ", server"),
        (Figure::ManyRelayCpu, ", all between"),
    ];
    let (at_once, echo) = ("Streams that send at once", "A message and its echo");
    let clients = "Clients that send at once";
    let charts = [
        Chart::new("streams", at_once, ("streams", "goodput, GB/s"), streams(&[(Figure::Many, "")])),
        Chart::new("streams-cpu", at_once, ("streams", "CPU, ns/B"), streams(&cpu)),
        Chart::new("messages", echo, ("bytes", "p50, us"), messages(Figure::Message)),
        Chart::new("messages-cpu", echo, ("bytes", "client CPU, ns/B"), messages(Figure::MessageClientCpu)),
        Chart::new("clients", clients, ("clients", "goodput of all, GB/s"), crowd.goodput),
        Chart::new("clients-cpu", clients, ("clients", "CPU of one relay, ns/B forwarded"), crowd.cpu),
    ];
    let mut text = report::taken(rounds, load);
    text.push_str(
        " Streams and clients send the same number of bytes together, however many they are. A message is echoed whole \
         before the next is sent. Of clients, one relay of the 25 is a process of its own, whose CPU is counted.\n",
    );
    for chart in &charts {
        text.push('\n');
        text.push_str(&chart.markdown());
    }
    if args.output.writes() {
        std::fs::create_dir_all(&args.folder)?;
        for chart in &charts {
            std::fs::write(args.folder.join(chart.file()), chart.svg()?)?;
        }
    }
    args.output.finish(Section::Plots, &text)
}

/// The samples of each step and subject, rounds interleaved.
fn sweep(
    subjects: &[Subject],
    rounds: usize,
    steps: &[usize],
    plan: impl Fn(usize) -> Plan,
) -> Result<Vec<Vec<Samples>>> {
    let mut all = vec![vec![Samples::default(); subjects.len()]; steps.len()];
    for round in 0..rounds {
        for (step, of_step) in steps.iter().zip(&mut all) {
            for turn in 0..subjects.len() {
                let index = (round + turn) % subjects.len();
                of_step[index].push(subjects[index].measure(&plan(*step))?);
            }
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    Ok(all)
}

/// One curve for each figure, with what its name adds, and each subject that has it.
fn curves(
    subjects: &[Subject],
    all: &[Vec<Samples>],
    steps: &[usize],
    figures: &[(Figure, &str)],
) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (figure, what) in figures {
        for (index, subject) in subjects.iter().enumerate() {
            let values = steps.iter().zip(all).filter_map(|(step, of_step)| {
                let value = of_step.get(index)?.summary(*figure)?;
                Some((*step as f64, value.map(|value| figure.scale(value))))
            });
            let points: Vec<_> = values.collect();
            if !points.is_empty() {
                curves.push(Curve { name: format!("{}{what}", subject.label()), points });
            }
        }
    }
    curves
}
