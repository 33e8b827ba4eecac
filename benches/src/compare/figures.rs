//! The figures, their units, and the goals set for them.

use std::collections::BTreeMap;
use std::fmt;

use super::subject::MANY;
use super::web::Load;

/// What is measured. The values are in bytes per second, seconds per byte, seconds, or answers per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Goodput,
    BulkTotalCpu,
    BulkClientCpu,
    BulkServerCpu,
    BulkRelayCpu,
    Stream,
    Connection,
    ConnectionClientCpu,
    Echo,
    EchoTail,
    EchoClientCpu,
    Cold,
    Many,
    // Of plots alone.
    ManyClientCpu,
    ManyServerCpu,
    ManyRelayCpu,
    Message,
    MessageClientCpu,
    Answers(Load),
    Answer(Load),
    AnswerTail(Load),
}

impl Figure {
    /// Those that are not of a load.
    const PLAIN: [Self; 13] = [
        Self::Goodput,
        Self::BulkTotalCpu,
        Self::BulkClientCpu,
        Self::BulkServerCpu,
        Self::BulkRelayCpu,
        Self::Stream,
        Self::Connection,
        Self::ConnectionClientCpu,
        Self::Echo,
        Self::EchoTail,
        Self::EchoClientCpu,
        Self::Cold,
        Self::Many,
    ];

    /// In the order of the table.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of_load = |load| [Self::Answers(load), Self::Answer(load), Self::AnswerTail(load)];
        Self::PLAIN.into_iter().chain(Load::ALL.into_iter().flat_map(of_load))
    }

    /// A value in the unit of the name.
    pub(crate) fn scale(self, value: f64) -> f64 {
        match self {
            Self::Goodput | Self::Many => value / 1e9,
            Self::BulkTotalCpu | Self::BulkClientCpu | Self::BulkServerCpu | Self::BulkRelayCpu => {
                value * 1e9
            }
            Self::ManyClientCpu | Self::ManyServerCpu | Self::ManyRelayCpu | Self::MessageClientCpu => {
                value * 1e9
            }
            Self::Cold => value * 1e3,
            Self::Answers(_) => value,
            _ => value * 1e6,
        }
    }

    /// What this one is divided by.
    pub(crate) fn against(self) -> Against {
        match self {
            // What a user of TLS does instead: a whole new connection.
            Self::Stream | Self::Cold => Against::Reference(Self::Connection),
            Self::Many => Against::Own(Self::Goodput, "1 stream"),
            _ => Against::Reference(self),
        }
    }
}

/// What stands below the line of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// A figure of the reference.
    Reference(Figure),
    /// Another figure of the same peer, and what to call it.
    Own(Figure, &'static str),
}

/// The first column.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Goodput => "P1 bulk goodput, GB/s",
            Self::BulkTotalCpu => "P1 CPU of everything, ns/B",
            Self::BulkClientCpu => "P2 client CPU, bulk, ns/B",
            Self::BulkServerCpu => "P2 server CPU, bulk, ns/B",
            Self::BulkRelayCpu => "P2 CPU of everything between, bulk, ns/B",
            Self::Stream => "P3 new stream + 1 B echo, p50, us",
            Self::Connection => "P3 new connection + 1 B echo, p50, us",
            Self::ConnectionClientCpu => "P3 client CPU, new connection, us",
            Self::Echo => "P4 64 B echo, p50, us",
            Self::EchoTail => "P4 64 B echo, p99, us",
            Self::EchoClientCpu => "P4 client CPU, 64 B echo, us",
            Self::Cold => "P5 cold start: 25 hops, connection, 1 B echo, p50, ms",
            Self::Many => return write!(f, "P10 goodput of {MANY} streams at once, GB/s"),
            Self::ManyClientCpu => "client CPU, ns/B",
            Self::ManyServerCpu => "server CPU, ns/B",
            Self::ManyRelayCpu => "CPU of everything between, ns/B",
            Self::Message => "p50, us",
            Self::MessageClientCpu => "client CPU, ns/B",
            Self::Answers(load) => return write!(f, "axum, {load}, requests/s"),
            Self::Answer(load) => return write!(f, "axum, {load}, p50, us"),
            Self::AnswerTail(load) => return write!(f, "axum, {load}, p99, us"),
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
    /// As `Full`, and parity is always of the code that recovers any loss of nine.
    Mds,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "Full",
            Self::Adaptive => "Adaptive",
            Self::Mds => "Full, MDS",
        })
    }
}

/// What a ratio, a value, or both must be.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Goal {
    pub(crate) ratio: Option<Bound>,
    /// In the unit of the figure's name, which is repeated here.
    pub(crate) value: Option<(Bound, &'static str)>,
}

/// One side of what is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {bound}"),
            Self::AtMost(bound) => write!(f, "<= {bound}"),
        }
    }
}

impl Goal {
    /// A ratio alone.
    pub(crate) fn ratio(bound: Bound) -> Self {
        Self { ratio: Some(bound), value: None }
    }

    /// A value alone.
    pub(crate) fn value(bound: Bound, unit: &'static str) -> Self {
        Self { ratio: None, value: Some((bound, unit)) }
    }

    /// The goal set for a figure in a mode, if there is one.
    pub(crate) fn of(figure: Figure, mode: Mode) -> Option<Self> {
        let adaptive = mode == Mode::Adaptive;
        let ratio = match figure {
            Figure::Goodput => Bound::AtLeast(if adaptive { 0.45 } else { 0.33 }),
            Figure::BulkClientCpu => Bound::AtMost(if adaptive { 1.6 } else { 2.5 }),
            Figure::Stream => Bound::AtMost(0.5),
            Figure::Connection => Bound::AtMost(1.0),
            Figure::Echo if adaptive => {
                return Some(Self {
                    ratio: Some(Bound::AtMost(9.0)),
                    value: Some((Bound::AtMost(130.0), "us")),
                });
            }
            Figure::Echo => Bound::AtMost(12.0),
            Figure::Cold => return Some(Self::value(Bound::AtMost(25.0), "ms")),
            Figure::Many => Bound::AtLeast(0.9),
            _ => return None,
        };
        Some(Self::ratio(ratio))
    }

    /// Whether a ratio, and a value in the unit of the figure's name, reach the goal.
    pub(crate) fn met(self, ratio: Option<f64>, value: f64) -> bool {
        let ratio = self.ratio.is_none_or(|bound| ratio.is_some_and(|ratio| bound.holds(ratio)));
        ratio && self.value.is_none_or(|(bound, _)| bound.holds(value))
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ratio) = self.ratio {
            write!(f, "{ratio}")?;
        }
        let between = if self.ratio.is_some() { " and " } else { "" };
        self.value.map_or(Ok(()), |(bound, unit)| write!(f, "{between}{bound} {unit}"))
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

    /// The ratios to what the figure stands against, each taken inside one round.
    pub(crate) fn ratio(&self, reference: &Self, figure: Figure) -> Option<Summary> {
        let (below, against) = match figure.against() {
            Against::Reference(against) => (reference, against),
            Against::Own(against, _) => (self, against),
        };
        self.over(figure, below, against)
    }

    /// One figure divided by another of other samples, each inside one round.
    pub(crate) fn over(&self, figure: Figure, below: &Self, against: Figure) -> Option<Summary> {
        let rounds = self.0.iter().zip(&below.0);
        Summary::of(rounds.filter_map(|(ours, theirs)| Some(ours.get(figure)? / theirs.get(against)?)))
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
    /// `None` if there are no values.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
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
            assert!(goal.met(Some(meets), value), "{figure:?} {mode}");
            assert!(!goal.met(Some(fails), value), "{figure:?} {mode}");
        }
        let echo = Goal::of(Figure::Echo, Mode::Adaptive).unwrap();
        assert!(!echo.met(Some(9.0), 130.1), "the absolute bound counts too");
        assert_eq!(echo.to_string(), "<= 9 and <= 130 us");
        let cold = Goal::of(Figure::Cold, Mode::Full).unwrap();
        assert!(cold.met(None, 25.0) && !cold.met(Some(0.1), 25.1));
        assert_eq!(cold.to_string(), "<= 25 ms");
        assert!(!Goal::of(Figure::Many, Mode::Full).unwrap().met(None, 1.0), "without a ratio it is not met");
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
    fn many_streams_are_divided_by_one() {
        let mut ours = Samples::default();
        let mut sample = Sample::default();
        sample.set(Figure::Goodput, 4.0);
        sample.set(Figure::Many, 3.0);
        ours.push(sample);
        let ratio = ours.ratio(&Samples::default(), Figure::Many);
        assert_eq!(ratio, Some(Summary { median: 0.75, least: 0.75, most: 0.75 }));
    }

    #[test]
    fn answers_are_counted_by_the_second_and_timed_in_microseconds() {
        let load = Load::Http1Many;
        assert_eq!(Figure::Answers(load).scale(1500.0), 1500.0);
        assert_eq!(Figure::AnswerTail(load).scale(0.0015), 1500.0);
        assert_eq!(Figure::AnswerTail(load).to_string(), "axum, HTTP/1.1, 32 at a time, p99, us");
        assert_eq!(Figure::all().count(), 13 + 3 * Load::ALL.len());
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        let median = |values: &[f64]| Summary::of(values.iter().copied()).map(|summary| summary.median);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
