//! P8: what one relay process forwards with a second of CPU, beside HAProxy that does the same to TLS.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::figures::{Bound, Figure, Goal, Mode, Sample, Summary};
use super::peers::haproxy::{HaProxy, ViaHaProxy};
use super::peers::qsocket::QSocket;
use super::subject::{Plan, Subject};
use super::table::Row;
use crate::party::Relays;

/// The relay that is looked at is a process of its own; the others share one.
const GROUPS: [usize; 2] = [1, 24];

/// One of the product's modes and its relays.
struct Ours {
    mode: Mode,
    subject: Subject,
    relays: Arc<Relays>,
}

/// What one transfer cost what lies between.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Bytes that the one process forwarded for each second of its CPU.
    forwarded: f64,
    /// Seconds of CPU of everything between, for each byte of the application.
    each: f64,
    goodput: f64,
}

impl Ours {
    fn start(mode: Mode) -> Result<Self> {
        let relays = Arc::new(Relays::start(2, 1, &GROUPS)?);
        let subject = Subject::start(QSocket::over(mode, Arc::clone(&relays)))?;
        Ok(Self { mode, subject, relays })
    }

    fn measure(&self, plan: &Plan) -> Result<Cost> {
        let look = || {
            self.relays.each(|process| {
                let forwarded: u64 = process.ask("forwarded")?.parse()?;
                Ok((process.cpu()?, forwarded))
            })
        };
        let before = look()?;
        let sample = self.subject.measure(plan)?;
        let used: Vec<(Duration, u64)> = look()?
            .into_iter()
            .zip(before)
            .map(|((cpu, forwarded), (cpu_before, before))| (cpu - cpu_before, forwarded - before))
            .collect();
        let (cpu, forwarded) = used.first().context("no relay")?;
        let all: Duration = used.iter().map(|(cpu, _)| cpu).sum();
        cost(&sample, *forwarded as f64 / cpu.as_secs_f64(), all, plan)
    }
}

fn measure_proxy(subject: &Subject, proxy: &HaProxy, plan: &Plan) -> Result<Cost> {
    let before = proxy.cpu()?;
    let sample = subject.measure(plan)?;
    let cpu = proxy.cpu()? - before;
    cost(&sample, plan.bytes as f64 / cpu.as_secs_f64(), cpu, plan)
}

fn cost(sample: &Sample, forwarded: f64, cpu: Duration, plan: &Plan) -> Result<Cost> {
    let goodput = sample.get(Figure::Goodput).context("nothing was sent")?;
    Ok(Cost { forwarded, each: cpu.as_secs_f64() / plan.bytes as f64, goodput })
}

/// All rounds, and the rows that they make; and what HAProxy forwarded for each second of its CPU, by round.
pub(super) fn measure(rounds: usize, bytes: u64) -> Result<(Vec<Row>, Vec<f64>)> {
    let (peer, proxy) = ViaHaProxy::new()?;
    let haproxy = Subject::start(peer)?;
    let ours = [Ours::start(Mode::Full)?, Ours::start(Mode::Adaptive)?];
    let plan = Plan::bulk(bytes);
    let warm_up = Plan::bulk(bytes / 8 + 1);
    measure_proxy(&haproxy, &proxy, &warm_up)?;
    for one in &ours {
        one.measure(&warm_up)?;
    }
    let mut costs: [Vec<Cost>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds {
        for turn in 0..costs.len() {
            let index = (round + turn) % costs.len();
            let cost = match ours.get(index) {
                Some(one) => one.measure(&plan)?,
                None => measure_proxy(&haproxy, &proxy, &plan)?,
            };
            costs[index].push(cost);
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    type Value = (&'static str, fn(&Cost) -> f64, Option<Goal>);
    let values: [Value; 3] = [
        (
            "P8 forwarded by one process with its 25th of a transfer, GB a CPU second",
            |cost| cost.forwarded / 1e9,
            Some(Goal::ratio(Bound::AtLeast(1.5))),
        ),
        ("CPU of all between for each byte of the application, ns/B", |cost| cost.each * 1e9, None),
        ("goodput of that transfer, GB/s", |cost| cost.goodput / 1e9, None),
    ];
    let [full, adaptive, theirs] = &costs;
    let mut rows = Vec::new();
    for (figure, value, goal) in values {
        for (one, costs) in ours.iter().zip([full, adaptive]) {
            rows.push(Row {
                figure: figure.to_owned(),
                mode: one.mode.to_string(),
                ours: Summary::of(costs.iter().map(value)),
                peer: Summary::of(theirs.iter().map(value)).map(|value| (None, value)),
                ratio: Summary::of(
                    costs.iter().zip(theirs).map(|(ours, theirs)| value(ours) / value(theirs)),
                ),
                goal,
                beside: Vec::new(),
            });
        }
    }
    Ok((rows, theirs.iter().map(|cost| cost.forwarded).collect()))
}
