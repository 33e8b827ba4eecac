//! One kind of work of one peer, over and over: what a profiler looks at.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::compare::LATE;
use crate::compare::figures::{Figure, Mode, Samples};
use crate::compare::peers::plain::Plain;
use crate::compare::peers::qsocket::QSocket;
use crate::compare::peers::tls::{KeyExchange, Tls};
use crate::compare::subject::{Plan, Subject};

/// Whose work, which, and how much of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    who: Who,
    /// Rounds after one that does not count
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes of one bulk transfer
    #[arg(long, default_value_t = 0)]
    bytes: u64,
    /// New connections, one after another
    #[arg(long, default_value_t = 0)]
    connections: usize,
    /// New streams on an open connection, one after another
    #[arg(long, default_value_t = 0)]
    streams: usize,
    /// Echoes of 64 bytes, one after another
    #[arg(long, default_value_t = 0)]
    echoes: usize,
    /// Cold starts, one after another
    #[arg(long, default_value_t = 0)]
    colds: usize,
    /// Streams that send at once
    #[arg(long, default_value_t = 0)]
    many: usize,
    /// Bytes that these send together
    #[arg(long, default_value_t = 64 << 20)]
    many_bytes: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Who {
    Full,
    Adaptive,
    Mds,
    /// As `mds`, with the late paths of P7
    Late,
    /// The same detour without delay
    Detour,
    Tls,
    Tcp,
}

/// Works and prints every figure that came of it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let subject = match args.who {
        Who::Full => Subject::start(QSocket::new(Mode::Full)),
        Who::Adaptive => Subject::start(QSocket::new(Mode::Adaptive)),
        Who::Mds => Subject::start(QSocket::new(Mode::Mds)),
        Who::Late => Subject::start(QSocket::late(Mode::Mds, LATE.0, LATE.1)),
        Who::Detour => Subject::start(QSocket::late(Mode::Mds, LATE.0, Duration::ZERO)),
        Who::Tls => Subject::start(Tls::new(KeyExchange::PostQuantum)?),
        Who::Tcp => Subject::start(Plain::new()),
    }?;
    let plan = Plan {
        bytes: args.bytes,
        connections: args.connections,
        streams: args.streams,
        echoes: args.echoes,
        colds: args.colds,
        many: (args.many, args.many_bytes),
        ..Plan::default()
    };
    subject.measure(&plan)?;
    let mut samples = Samples::default();
    for _ in 0..args.rounds {
        samples.push(subject.measure(&plan)?);
    }
    let of_many = [Figure::ManyClientCpu, Figure::ManyServerCpu, Figure::ManyRelayCpu];
    let mut out = std::io::stdout().lock();
    for figure in Figure::all().chain(of_many) {
        if let Some(summary) = samples.summary(figure) {
            writeln!(out, "{figure}: {}", summary.map(|value| figure.scale(value)))?;
        }
    }
    Ok(())
}
