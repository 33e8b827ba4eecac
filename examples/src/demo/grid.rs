//! Draws the 25 paths of a connection as a grid, five in a row.

use qsocket::{PathId, PathStatus, Stats};

/// Paths in a row, and rows.
const SIDE: usize = 5;

/// Width of a cell in characters, the gap included.
const CELL: usize = 14;

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// ANSI colours, for a terminal.
    Color,
    /// Characters alone, for a file or a pipe.
    Plain,
}

impl Style {
    fn paint(self, color: u8, text: &str) -> String {
        match self {
            Self::Color => format!("\x1b[{color}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }

    /// Text that stands out.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.paint(1, text)
    }
}

/// Draws how the paths stand in `now`, and behind a plus how many data stripes of each were computed since
/// `before`: five lines. Which path carries data and which parity turns by one path from block to block.
///
/// `hanging` are relays that are known to hang: as long as the other paths complete every block, nothing is
/// overdue, and a connection has no reason to call their paths anything but live.
#[must_use]
pub fn draw(before: &Stats, now: &Stats, hanging: &[PathId], style: Style) -> String {
    let mut text = String::new();
    for row in 0..SIDE {
        text.push_str("    ");
        for path in PathId::all().skip(row * SIDE).take(SIDE) {
            text.push_str(&cell(before, now, path.index(), hanging.contains(&path), style));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn cell(before: &Stats, now: &Stats, path: usize, hangs: bool, style: Style) -> String {
    let repaired = now.repairs.by_path[path].saturating_sub(before.repairs.by_path[path]);
    let (mark, color) = match now.paths[path].status {
        PathStatus::Live | PathStatus::Suspect if hangs => ("HANGS", 31),
        PathStatus::Live => ("alive", 32),
        PathStatus::Joining => ("joins", 36),
        PathStatus::Suspect => ("late", 35),
        PathStatus::Down => ("LOST", 31),
        PathStatus::Distrusted => ("LIES", 31),
    };
    let repairs = if repaired == 0 { String::new() } else { format!(" +{repaired}") };
    let plain = format!("{path:02} {mark}{repairs}");
    let gap = " ".repeat(CELL.saturating_sub(plain.len()).max(1));
    let painted = style.paint(color, &format!("{path:02} {mark}"));
    let repairs = if repaired == 0 { repairs } else { style.paint(33, &repairs) };
    format!("{painted}{repairs}{gap}")
}

/// How much was recovered between two moments, and from which parity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Data stripes that did not arrive and were computed.
    pub stripes: u64,
    /// Parity stripes of rows that were used for it.
    pub row: u64,
    /// Parity stripes of columns.
    pub column: u64,
    /// Parity stripes of the diagonal.
    pub diagonal: u64,
    /// Reed-Solomon parity stripes.
    pub mds: u64,
}

impl Recovered {
    /// What `now` has more than `before`.
    #[must_use]
    pub fn between(before: &Stats, now: &Stats) -> Self {
        let mut recovered =
            Self { stripes: now.repairs.total().saturating_sub(before.repairs.total()), ..Self::default() };
        for (id, (now, before)) in now.repairs.by_parity.iter().zip(before.repairs.by_parity).enumerate() {
            let used = now.saturating_sub(before);
            match id {
                4 | 9 | 14 | 19 => recovered.row += used,
                20..=23 => recovered.column += used,
                24 => recovered.diagonal += used,
                25.. => recovered.mds += used,
                _ => {}
            }
        }
        recovered
    }
}

impl std::ops::AddAssign for Recovered {
    fn add_assign(&mut self, other: Self) {
        self.stripes += other.stripes;
        self.row += other.row;
        self.column += other.column;
        self.diagonal += other.diagonal;
        self.mds += other.mds;
    }
}

impl std::fmt::Display for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { stripes, row, column, diagonal, mds } = self;
        if *stripes == 0 {
            return f.write_str("nothing was computed from parity");
        }
        write!(f, "{stripes} data stripes, lost or slower than their parity, were computed; parity used: ")?;
        write!(f, "row {row}, column {column}, diagonal {diagonal}, MDS {mds}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Stats {
        let mut stats = Stats::default();
        stats.paths.iter_mut().for_each(|path| path.status = PathStatus::Live);
        stats.paths[7].status = PathStatus::Down;
        stats.repairs.by_path[7] = 12;
        for (id, used) in [(9, 3), (22, 4), (24, 5), (25, 1), (33, 6)] {
            stats.repairs.by_parity[id] = used;
        }
        stats
    }

    #[test]
    fn lost_and_repaired_paths_are_marked() {
        let plain = draw(&Stats::default(), &sample(), &[], Style::Plain);
        assert_eq!(plain.lines().count(), SIDE);
        assert_eq!(plain.matches("alive").count(), 24);
        assert!(plain.contains("07 LOST +12 "), "{plain}");
        assert!(!plain.contains('\x1b'));
        let color = draw(&Stats::default(), &sample(), &[], Style::Color);
        let hanging: Vec<_> = PathId::all().take(8).collect();
        let hangs = draw(&Stats::default(), &sample(), &hanging, Style::Plain);
        assert_eq!((hangs.matches("HANGS").count(), hangs.matches("LOST").count()), (7, 1));
        assert!(color.contains("\x1b[31m07 LOST\x1b[0m\x1b[33m +12\x1b[0m"), "{color:?}");
    }

    #[test]
    fn parity_is_counted_by_kind() {
        let all = Recovered { stripes: 12, row: 3, column: 4, diagonal: 5, mds: 7 };
        assert_eq!(Recovered::between(&Stats::default(), &sample()), all);
        assert_eq!(Recovered::between(&sample(), &sample()), Recovered::default());
    }
}
