//! The Markdown that is printed and written.

use std::fmt::Write as _;

use super::figures::{Against, Figure, Goal, Mode, Samples, Summary};
use super::subject::{ECHO, Plan};

/// A peer's label and its samples.
pub(crate) type Column<'a> = (&'static str, &'a Samples);

/// What stands in a cell that has no value.
const NONE: &str = "-";

/// One line of the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// With its unit.
    pub(crate) figure: String,
    pub(crate) mode: String,
    pub(crate) ours: Option<Summary>,
    /// What ours is divided by; a name where it is not that of the column.
    pub(crate) peer: Option<(Option<String>, Summary)>,
    pub(crate) ratio: Option<Summary>,
    pub(crate) goal: Option<Goal>,
    /// Shown beside, without a ratio.
    pub(crate) beside: Vec<Option<Summary>>,
}

impl Row {
    /// Whether the goal is met; `None` without a goal or a value.
    pub(crate) fn met(&self) -> Option<bool> {
        Some(self.goal?.met(self.ratio.map(|ratio| ratio.median), self.ours?.median))
    }
}

/// One row for each figure and mode.
pub(crate) fn rows(ours: &[(Mode, Column<'_>)], reference: &Samples, beside: &[Column<'_>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for figure in Figure::all() {
        for (mode, (_, samples)) in ours {
            let peer = match figure.against() {
                Against::Reference(against) => reference.summary(against).map(|value| (None, value)),
                Against::Own(against, name) => {
                    samples.summary(against).map(|value| (Some(name.to_owned()), value))
                }
            };
            // Both in the unit of the row.
            let peer = peer.map(|(name, value)| (name, value.map(|value| figure.scale(value))));
            rows.push(Row {
                figure: figure.to_string(),
                mode: mode.to_string(),
                ours: summary(samples, figure),
                peer,
                ratio: samples.ratio(reference, figure),
                goal: Goal::of(figure, *mode),
                beside: beside.iter().map(|(_, samples)| summary(samples, figure)).collect(),
            });
        }
    }
    rows
}

/// In the unit of the figure's name.
pub(crate) fn summary(samples: &Samples, figure: Figure) -> Option<Summary> {
    samples.summary(figure).map(|summary| summary.map(|value| figure.scale(value)))
}

/// The table; `peer` heads the column of what is compared, further columns come last.
pub(crate) fn render(rows: &[Row], peer: &str, beside: &[&str]) -> String {
    let mut header = vec!["figure", "mode", "ours", peer, "ratio", "goal", "met"];
    header.extend(beside);
    let mut table = String::new();
    row(&mut table, header.iter().map(ToString::to_string));
    row(&mut table, header.iter().map(|_| "---".to_owned()));
    for line in rows {
        let peer = line.peer.as_ref().map(|(name, value)| match name {
            Some(name) => format!("{name}: {value}"),
            None => value.to_string(),
        });
        let met = line.met().map(|met| if met { "yes" } else { "no" }.to_owned());
        let mut cells = vec![
            line.figure.clone(),
            line.mode.clone(),
            cell(line.ours),
            peer.unwrap_or_else(none),
            cell(line.ratio),
            line.goal.map_or_else(none, |goal| goal.to_string()),
            met.unwrap_or_else(none),
        ];
        let columns = 0..beside.len();
        cells.extend(columns.map(|column| cell(line.beside.get(column).copied().flatten())));
        row(&mut table, cells.into_iter());
    }
    table
}

fn none() -> String {
    NONE.to_owned()
}

fn cell(summary: Option<Summary>) -> String {
    summary.map_or_else(none, |summary| summary.to_string())
}

fn row(table: &mut String, cells: impl Iterator<Item = String>) {
    for cell in cells {
        // Writing to a string cannot fail.
        let _ = write!(table, "| {cell} ");
    }
    table.push_str("|\n");
}

/// How the figures were taken, in words.
pub(crate) fn preamble(plan: &Plan) -> String {
    format!(
        " One round: {} MiB of bulk data in one direction, {} new connections, {} new \
         streams where a connection has streams, {} echoes of {ECHO} bytes, {} requests for each line of axum, {} cold starts. \
         Client, server and everything between them share this machine; client and server have one thread each. CPU time of client and server is that of their threads; a TLS \
         connection is a full handshake with certificates at both ends. A new stream is compared with a new \
         TLS connection. The axum answers 13 bytes to hyper's client over connections that are kept: with \
         HTTP/1.1 one for each request at a time, with HTTP/2 one for all. A cold start ends when its \
         echo is back and all 25 hops stand. Memory is that of whole processes, one for the clients, one for the server \
         and one for all relays; a relay's is a 25th of the last.\n",
        plan.bytes >> 20,
        plan.connections,
        plan.streams,
        plan.echoes,
        plan.requests,
        plan.colds,
    )
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Bound, Sample};
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
        let table = render(&rows(&ours, &reference, &[("tcp", &reference)]), "tls", &["tcp"]);
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
    fn a_row_of_its_own_names_what_it_is_compared_with() {
        let one = |value| Summary::of([value].into_iter());
        let row = Row {
            figure: "f".to_owned(),
            mode: "m".to_owned(),
            ours: one(3.0),
            peer: one(2.0).map(|value| (Some("other".to_owned()), value)),
            ratio: one(1.5),
            goal: Some(Goal::ratio(Bound::AtMost(1.2))),
            beside: Vec::new(),
        };
        let table = render(&[row], "tls", &["tcp"]);
        let last =
            "| f | m | 3.00 (3.00..3.00) | other: 2.00 (2.00..2.00) | 1.50 (1.50..1.50) | <= 1.2 | no | - |";
        assert_eq!(table.lines().last(), Some(last));
    }
}
