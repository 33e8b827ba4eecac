//! How much redundancy is left, as one value.

use qsocket_proto::ids::{RELAYS, SIXTEEN};
use std::fmt;

/// How many of the 25 ways are well, by what it means for a program.
///
/// The order is from well to bad: `health > Health::Intact` holds while anything is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// All 25.
    Intact,
    /// So many are missing, at most nine: nothing has to be sent again, and connections open.
    Degraded(u8),
    /// So many are missing, more than nine: fewer than sixteen are left. An open stream goes on, more slowly, because
    /// each way carries more than one stripe of a block; a new connection does not open.
    Critical(u8),
    /// None is left: open streams wait for one to return, up to the idle limit.
    Lost,
}

impl Health {
    /// The health with `well` of the 25 ways left.
    pub fn of(well: usize) -> Self {
        let missing = RELAYS.saturating_sub(well) as u8;
        match well {
            RELAYS.. => Self::Intact,
            SIXTEEN.. => Self::Degraded(missing),
            1.. => Self::Critical(missing),
            0 => Self::Lost,
        }
    }

    /// How many ways are missing.
    pub fn missing(self) -> usize {
        match self {
            Self::Intact => 0,
            Self::Degraded(missing) | Self::Critical(missing) => missing.into(),
            Self::Lost => RELAYS,
        }
    }

    /// How many ways are well.
    pub fn well(self) -> usize {
        RELAYS - self.missing()
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intact => f.write_str("intact"),
            Self::Degraded(missing) => write!(f, "degraded, {missing} of {RELAYS} missing"),
            Self::Critical(missing) => write!(f, "critical, {missing} of {RELAYS} missing"),
            Self::Lost => f.write_str("lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_is_the_boundary() {
        let all = [25, 24, 16, 15, 1, 0].map(Health::of);
        let expected = [
            Health::Intact,
            Health::Degraded(1),
            Health::Degraded(9),
            Health::Critical(10),
            Health::Critical(24),
            Health::Lost,
        ];
        assert_eq!(all, expected);
        assert!(all.is_sorted());
        for well in 0..=RELAYS {
            assert_eq!(Health::of(well).well(), well);
        }
    }

    #[test]
    fn it_reads_as_words() {
        assert_eq!(Health::Degraded(9).to_string(), "degraded, 9 of 25 missing");
        assert_eq!(Health::Critical(10).to_string(), "critical, 10 of 25 missing");
    }
}
