//! P9: memory and CPU of streams and routes that do nothing, by process.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::figures::{Bound, Goal, Mode, Summary};
use super::table::Row;
use crate::party::{Process, Relays, join};

/// Idle streams at which memory is looked at.
const STREAMS: [usize; 3] = [1, 1000, 10_000];

/// Clients whose connections the routes are of: one client may have 256 of them.
const CLIENTS: u16 = 8;

/// Routes at each relay, and connections of TLS: enough that pages do not count, and below the limits of open files.
const ROUTES: usize = 2000;

/// How long nothing happens while CPU is counted.
const IDLE: Duration = Duration::from_secs(2);

/// What one round found. Memory in bytes, CPU in seconds a second.
#[derive(Debug)]
pub(super) struct Round {
    client: [u64; 3],
    server: [u64; 3],
    cpu_of_one: f64,
    cpu_of_all: f64,
    /// Of one route at one relay.
    route: f64,
    /// Of one TLS connection at one end.
    tls: f64,
}

/// How many of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    streams: [usize; 3],
    routes: usize,
}

impl Counts {
    pub(super) const WHOLE: Self = Self { streams: STREAMS, routes: ROUTES };
    /// For a look, and tests.
    pub(super) const QUICK: Self = Self { streams: [1, 100, 1000], routes: 200 };
}

/// Starts everything anew, fills it and looks at it.
pub(super) fn measure(counts: Counts) -> Result<Round> {
    let relays = Relays::start(CLIENTS, 1, &[25])?;
    let addresses = join(relays.addresses());
    let (server, ready) = Process::start(&["server".to_owned(), relays.folder(), addresses.clone()])?;
    let words: Vec<&str> = ready.split_whitespace().collect();
    let [principal, service, ports] = words[..] else { anyhow::bail!("the server said {ready:?}") };
    let order = format!("register {principal} {service} {ports}");
    relays.each(|process| process.ask(&order))?;
    let (mut client, _) = Process::start(&[
        "client".to_owned(),
        relays.folder(),
        addresses,
        principal.to_owned(),
        service.to_owned(),
        CLIENTS.to_string(),
    ])?;

    let (mut at_client, mut at_server) = ([0; 3], [0; 3]);
    let (mut cpu_of_one, mut cpu_of_all) = (0.0, 0.0);
    for (index, count) in counts.streams.into_iter().enumerate() {
        client.ask(&format!("streams {count}"))?;
        (at_client[index], at_server[index]) = (client.memory()?, server.memory()?);
        let cpu = || anyhow::Ok(client.cpu()? + server.cpu()?);
        // What was asked for last is acknowledged and its timers have run.
        thread::sleep(IDLE / 2);
        let before = cpu()?;
        thread::sleep(IDLE);
        cpu_of_all = (cpu()? - before).as_secs_f64() / IDLE.as_secs_f64();
        if index == 0 {
            cpu_of_one = cpu_of_all;
        }
    }

    // One connection of every client first, so that what a hop costs once is there.
    client.ask(&format!("connections {CLIENTS}"))?;
    let memory = || anyhow::Ok(relays.each(|process| process.memory())?.iter().sum::<u64>());
    let before = memory()?;
    client.ask(&format!("connections {}", counts.routes))?;
    let added = (counts.routes - usize::from(CLIENTS)) * relays.addresses().len();
    let route = memory()?.saturating_sub(before) as f64 / added as f64;

    let (mut tls, _) = Process::start(&["tls".to_owned()])?;
    tls.ask("connections 1")?;
    let before = tls.memory()?;
    tls.ask(&format!("connections {}", counts.routes))?;
    let ends = 2 * (counts.routes - 1);
    let tls = tls.memory()?.saturating_sub(before) as f64 / ends as f64;
    Ok(Round { client: at_client, server: at_server, cpu_of_one, cpu_of_all, route, tls })
}

/// The rows of all rounds.
pub(super) fn rows(rounds: &[Round], counts: Counts) -> Result<Vec<Row>> {
    let of = |value: &dyn Fn(&Round) -> f64| Summary::of(rounds.iter().map(value)).context("no rounds");
    let row = |figure: String| Row { figure, mode: Mode::Full.to_string(), ..Row::default() };
    let [one, _, most] = counts.streams;
    let each = |memory: [u64; 3]| memory[2].saturating_sub(memory[0]) as f64 / (most - one) as f64 / 1024.0;
    let tls = of(&|round| round.tls / 1024.0)?;
    let mut rows = Vec::new();
    type Side = fn(&Round) -> [u64; 3];
    let sides: [(&str, Side); 2] = [("client", |round| round.client), ("server", |round| round.server)];
    for (name, memory) in sides {
        rows.push(Row {
            ours: Some(of(&|round| each(memory(round)))?),
            peer: Some((Some("TLS connection, one end".to_owned()), tls)),
            ratio: Some(of(&|round| each(memory(round)) * 1024.0 / round.tls)?),
            goal: Some(Goal::value(Bound::AtMost(8.0), "KiB")),
            ..row(format!("P9 memory of one of {most} idle streams, {name}, KiB"))
        });
    }
    rows.push(Row {
        ours: Some(of(&|round| round.route / 1024.0)?),
        goal: Some(Goal::value(Bound::AtMost(2.0), "KiB")),
        ..row(format!("P9 memory of one of {} idle routes, relay, KiB", counts.routes))
    });
    for (name, memory) in sides {
        for (index, count) in counts.streams.into_iter().enumerate() {
            rows.push(Row {
                ours: Some(of(&|round| memory(round)[index] as f64 / f64::from(1 << 20))?),
                ..row(format!("P9 memory with {count} idle streams, {name}'s process, MiB"))
            });
        }
    }
    rows.push(Row {
        ours: Some(of(&|round| round.cpu_of_all * 1e3)?),
        peer: Some((Some("1 stream".to_owned()), of(&|round| round.cpu_of_one * 1e3)?)),
        ..row(format!("P9 CPU of both ends with {most} idle streams, ms a second"))
    });
    Ok(rows)
}
