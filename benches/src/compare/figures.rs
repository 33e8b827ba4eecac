//! The figures, their units, and the goals set for them.

use std::collections::BTreeMap;
use std::fmt;

use super::web::Load;

/// What is measured. The values are in bytes per second, seconds per byte, seconds, or answers per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Goodput,
    BulkTotalCpu,
    BulkClientCpu,
    BulkServerCpu,
    Stream,
    Connection,
    ConnectionClientCpu,
    Echo,
    EchoTail,
    EchoClientCpu,
    Answers(Load),
    Answer(Load),
    AnswerTail(Load),
}

impl Figure {
    /// Those that are not of a load.
    const PLAIN: [Self; 10] = [
        Self::Goodput,
        Self::BulkTotalCpu,
        Self::BulkClientCpu,
        Self::BulkServerCpu,
        Self::Stream,
        Self::Connection,
        Self::ConnectionClientCpu,
        Self::Echo,
        Self::EchoTail,
        Self::EchoClientCpu,
    ];

    /// In the order of the table.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of_load = |load| [Self::Answers(load), Self::Answer(load), Self::AnswerTail(load)];
        Self::PLAIN.into_iter().chain(Load::ALL.into_iter().flat_map(of_load))
    }

    /// A value in the unit of the name.
    pub(crate) fn scale(self, value: f64) -> f64 {
        match self {
            Self::Goodput => value / 1e9,
            Self::BulkTotalCpu | Self::BulkClientCpu | Self::BulkServerCpu => value * 1e9,
            Self::Answers(_) => value,
            _ => value * 1e6,
        }
    }

    /// The figure of the reference that this one is divided by. A stream on an open connection stands
    /// against what a TLS user does instead: a whole new connection.
    pub(crate) fn against(self) -> Self {
        if self == Self::Stream { Self::Connection } else { self }
    }
}

/// The first column.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Goodput => "P1 bulk goodput, GB/s",
            Self::BulkTotalCpu => "P1 CPU of everything, ns/B",
            Self::BulkClientCpu => "P2 client CPU, bulk, ns/B",
            Self::BulkServerCpu => "P2 server CPU, bulk, ns/B",
            Self::Stream => "P3 new stream + 1 B echo, p50, us",
            Self::Connection => "P3 new connection + 1 B echo, p50, us",
            Self::ConnectionClientCpu => "P3 client CPU, new connection, us",
            Self::Echo => "P4 64 B echo, p50, us",
            Self::EchoTail => "P4 64 B echo, p99, us",
            Self::EchoClientCpu => "P4 client CPU, 64 B echo, us",
            Self::Answers(load) => return write!(f, "P5 axum, {load}, requests/s"),
            Self::Answer(load) => return write!(f, "P5 axum, {load}, p50, us"),
            Self::AnswerTail(load) => return write!(f, "P5 axum, {load}, p99, us"),
        })
    }
}

/// How a stream under test is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All 25 stripes of every block are sent.
    Full,
    /// The 16 data stripes are sent; parity follows when it is needed.
    Adaptive,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "Full",
            Self::Adaptive => "Adaptive",
        })
    }
}

/// What a ratio, and sometimes a value, must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Goal {
    ratio: Bound,
    /// Also the largest value, in the unit of the figure's name.
    most: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    /// The goal set for a figure in a mode, if there is one.
    pub(crate) fn of(figure: Figure, mode: Mode) -> Option<Self> {
        let adaptive = mode == Mode::Adaptive;
        let (ratio, most) = match figure {
            Figure::Goodput => (Bound::AtLeast(if adaptive { 0.45 } else { 0.33 }), None),
            Figure::BulkClientCpu => (Bound::AtMost(if adaptive { 1.6 } else { 2.5 }), None),
            Figure::Stream => (Bound::AtMost(0.5), None),
            Figure::Connection => (Bound::AtMost(1.0), None),
            Figure::Echo if adaptive => (Bound::AtMost(9.0), Some(130.0)),
            Figure::Echo => (Bound::AtMost(12.0), None),
            _ => return None,
        };
        Some(Self { ratio, most })
    }

    /// Whether a ratio, and a value in the unit of the figure's name, reach the goal.
    pub(crate) fn met(self, ratio: f64, value: f64) -> bool {
        let ratio = match self.ratio {
            Bound::AtLeast(bound) => ratio >= bound,
            Bound::AtMost(bound) => ratio <= bound,
        };
        ratio && self.most.is_none_or(|most| value <= most)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ratio {
            Bound::AtLeast(bound) => write!(f, ">= {bound}")?,
            Bound::AtMost(bound) => write!(f, "<= {bound}")?,
        }
        self.most.map_or(Ok(()), |most| write!(f, " and <= {most} us"))
    }
}

/// The figures of one peer in one round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(BTreeMap<Figure, f64>);

impl Sample {
    pub(crate) fn set(&mut self, figure: Figure, value: f64) {
        self.0.insert(figure, value);
    }

    /// `None` if the peer has no such thing.
    pub(crate) fn get(&self, figure: Figure) -> Option<f64> {
        self.0.get(&figure).copied()
    }
}

/// The figures of one peer in all rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// The values of a figure over the rounds.
    pub(crate) fn summary(&self, figure: Figure) -> Option<Summary> {
        Summary::of(self.0.iter().filter_map(|sample| sample.get(figure)))
    }

    /// The ratios to the reference, each taken inside one round.
    pub(crate) fn ratio(&self, reference: &Self, figure: Figure) -> Option<Summary> {
        let rounds = self.0.iter().zip(&reference.0);
        Summary::of(
            rounds.filter_map(|(ours, theirs)| Some(ours.get(figure)? / theirs.get(figure.against())?)),
        )
    }
}

/// Median and spread of one value over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Summary {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, least, most })
    }

    /// The same in another unit.
    pub(crate) fn map(self, scale: impl Fn(f64) -> f64) -> Self {
        Self { median: scale(self.median), least: scale(self.least), most: scale(self.most) }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, least, most } = self;
        // Three significant digits or so.
        let digits = match median.abs() {
            size if size >= 100.0 => 0,
            size if size >= 10.0 => 1,
            size if size >= 1.0 => 2,
            _ => 3,
        };
        write!(f, "{median:.digits$} ({least:.digits$}..{most:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_at_their_bounds() {
        let cases = [
            (Figure::Goodput, Mode::Full, 0.33, 0.32, 1.0),
            (Figure::Goodput, Mode::Adaptive, 0.45, 0.44, 1.0),
            (Figure::BulkClientCpu, Mode::Full, 2.5, 2.6, 1.0),
            (Figure::BulkClientCpu, Mode::Adaptive, 1.6, 1.7, 1.0),
            (Figure::Stream, Mode::Full, 0.5, 0.51, 1.0),
            (Figure::Connection, Mode::Adaptive, 1.0, 1.01, 1.0),
            (Figure::Echo, Mode::Full, 12.0, 12.1, 1e9),
            (Figure::Echo, Mode::Adaptive, 9.0, 9.1, 130.0),
        ];
        for (figure, mode, meets, fails, value) in cases {
            let goal = Goal::of(figure, mode).unwrap();
            assert!(goal.met(meets, value), "{figure:?} {mode}");
            assert!(!goal.met(fails, value), "{figure:?} {mode}");
        }
        let echo = Goal::of(Figure::Echo, Mode::Adaptive).unwrap();
        assert!(!echo.met(9.0, 130.1), "the absolute bound counts too");
        assert_eq!(Goal::of(Figure::EchoTail, Mode::Full), None);
        assert_eq!(Goal::of(Figure::AnswerTail(Load::Http2Many), Mode::Full), None);
    }

    #[test]
    fn a_stream_is_divided_by_the_references_connection() {
        let (mut ours, mut reference) = (Samples::default(), Samples::default());
        for (stream, connection) in [(1.0, 4.0), (3.0, 4.0), (2.0, 8.0)] {
            let mut sample = Sample::default();
            sample.set(Figure::Stream, stream);
            ours.push(sample);
            let mut sample = Sample::default();
            sample.set(Figure::Connection, connection);
            reference.push(sample);
        }
        let ratio = ours.ratio(&reference, Figure::Stream);
        assert_eq!(ratio, Some(Summary { median: 0.25, least: 0.25, most: 0.75 }));
        assert_eq!(ours.ratio(&reference, Figure::Echo), None);
    }

    #[test]
    fn answers_are_counted_by_the_second_and_timed_in_microseconds() {
        let load = Load::Http1Many;
        assert_eq!(Figure::Answers(load).scale(1500.0), 1500.0);
        assert_eq!(Figure::AnswerTail(load).scale(0.0015), 1500.0);
        assert_eq!(Figure::AnswerTail(load).to_string(), "P5 axum, HTTP/1.1, 32 at a time, p99, us");
        assert_eq!(Figure::all().count(), 10 + 3 * Load::ALL.len());
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        let median = |values: &[f64]| Summary::of(values.iter().copied()).map(|summary| summary.median);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
