//! The Markdown that is printed and written.

use std::fmt::Write as _;

use super::figures::{Figure, Goal, Mode, Samples, Summary};
use super::subject::{ECHO, Plan};

/// A peer's label and its samples.
pub(crate) type Column<'a> = (&'static str, &'a Samples);

/// What stands in a cell that has no value.
const NONE: &str = "-";

/// One row for each figure and mode; the columns beside come last, without a ratio.
pub(crate) fn render(ours: &[(Mode, Column<'_>)], reference: Column<'_>, beside: &[Column<'_>]) -> String {
    let mut header = vec!["figure", "mode", "ours", reference.0, "ratio", "goal", "met"];
    header.extend(beside.iter().map(|(label, _)| label));
    let mut table = String::new();
    row(&mut table, header.iter().map(ToString::to_string));
    row(&mut table, header.iter().map(|_| "---".to_owned()));
    for figure in Figure::all() {
        for (mode, (_, samples)) in ours {
            let value = samples.summary(figure).map(|summary| summary.map(|value| figure.scale(value)));
            let ratio = samples.ratio(reference.1, figure);
            let goal = Goal::of(figure, *mode);
            let met = goal.zip(ratio).zip(value).map(|((goal, ratio), value)| {
                let met = goal.met(ratio.median, value.median);
                if met { "yes" } else { "no" }.to_owned()
            });
            let mut cells = vec![
                figure.to_string(),
                mode.to_string(),
                value.map_or_else(none, |value| value.to_string()),
                cell(reference.1.summary(figure.against()), figure),
                ratio.map_or_else(none, |ratio| ratio.to_string()),
                goal.map_or_else(none, |goal| goal.to_string()),
                met.unwrap_or_else(none),
            ];
            cells.extend(beside.iter().map(|(_, samples)| cell(samples.summary(figure), figure)));
            row(&mut table, cells.into_iter());
        }
    }
    table
}

fn none() -> String {
    NONE.to_owned()
}

fn cell(summary: Option<Summary>, figure: Figure) -> String {
    summary.map_or_else(none, |summary| summary.map(|value| figure.scale(value)).to_string())
}

fn row(table: &mut String, cells: impl Iterator<Item = String>) {
    for cell in cells {
        // Writing to a string cannot fail.
        let _ = write!(table, "| {cell} ");
    }
    table.push_str("|\n");
}

/// How the figures were taken, in words.
pub(crate) fn preamble(plan: &Plan, rounds: usize, load: Option<f64>) -> String {
    let load = load.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
    format!(
        "Median of {rounds} interleaved rounds (smallest..largest). A ratio is ours divided by the reference \
         inside one round. One round: {} MiB of bulk data in one direction, {} new connections, {} new \
         streams where a connection has streams, {} echoes of {ECHO} bytes, {} requests for each line of P5. \
         Client, server and everything between them share this machine; client and server have one thread each. CPU time of client and server is that of their threads; a TLS \
         connection is a full handshake with certificates at both ends. A new stream is compared with a new \
         TLS connection. P5 is an axum that answers 13 bytes, and hyper's client, over connections that are kept: with \
         HTTP/1.1 one for each request at a time, with HTTP/2 one for all. Load average before the run: {load}; other work on the machine distorts figures.\n",
        plan.bytes >> 20,
        plan.connections,
        plan.streams,
        plan.echoes,
        plan.requests,
    )
}

/// The heading of what people wrote below the table.
const NOTES: &str = "\n## Notes\n";

/// What people wrote into the file that `--write` replaces; empty if nothing.
pub(crate) fn notes(old: &str) -> &str {
    old.find(NOTES).and_then(|at| old.get(at..)).unwrap_or_default()
}

/// The whole file that `--write` makes.
pub(crate) fn document(report: &str, machine: &str, notes: &str) -> String {
    format!(
        "# Benchmarks\n\nWritten by `cargo run --release -p qsocket-benches -- compare --write`.\n\n\
         ## Machine\n\n{machine}\n## Beside mutual TLS 1.3\n\n{report}{notes}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::figures::Sample;
    use super::*;

    fn samples(goodput: [f64; 3]) -> Samples {
        let mut samples = Samples::default();
        for value in goodput {
            let mut sample = Sample::default();
            sample.set(Figure::Goodput, value);
            samples.push(sample);
        }
        samples
    }

    #[test]
    fn a_row_shows_value_ratio_goal_and_verdict() {
        let (full, adaptive) = (samples([0.5e9, 0.6e9, 0.7e9]), samples([0.8e9, 0.8e9, 0.8e9]));
        let reference = samples([2e9, 2e9, 2e9]);
        let ours = [(Mode::Full, ("q", &full)), (Mode::Adaptive, ("q", &adaptive))];
        let table = render(&ours, ("tls", &reference), &[("tcp", &reference)]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "| figure | mode | ours | tls | ratio | goal | met | tcp |");
        assert_eq!(lines.len(), 2 + 2 * Figure::all().count());
        let columns = lines[0].matches('|').count();
        assert!(lines.iter().all(|line| line.matches('|').count() == columns));
        assert_eq!(
            lines[2],
            "| P1 bulk goodput, GB/s | Full | 0.600 (0.500..0.700) | 2.00 (2.00..2.00) | \
             0.300 (0.250..0.350) | >= 0.33 | no | 2.00 (2.00..2.00) |"
        );
        assert!(lines[3].contains("| 0.400 (0.400..0.400) | >= 0.45 | no |"));
        assert!(lines[4].contains("| - | - | - | - | - |"), "{}", lines[4]);
    }

    #[test]
    fn notes_outlive_a_new_table() {
        let first = document("table 1\n", "machine\n", "");
        assert_eq!(notes(&first), "");
        let written = format!("{first}\n## Notes\n\nwords\n");
        let second = document("table 2\n", "machine\n", notes(&written));
        assert_eq!(second, written.replace("table 1", "table 2"));
    }
}
