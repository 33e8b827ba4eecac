//! How many of the 25 relays one operator may run. `docs/protocol.md` 15.
//!
//! The guarantees count relays. They hold against operators only if no operator runs so many that it decides alone:
//! any 10 relays can prevent connections from opening, any 16 can read and impersonate. Whoever lists 25 relays can
//! say who runs each of them and where it stands; the rule here looks at what was said. It cannot see a tag that
//! lies, or two names of one operator.

use crate::ids::{PathId, PathSet, RELAYS, SIXTEEN, TOLERATED};
use std::collections::BTreeMap;
use std::fmt;

/// Above this number of relays of one operator there is a warning: three such operators that fall together, or two
/// of one that grows, reach the ten that stop openings.
pub const WARN_ABOVE: usize = 3;

/// Above this number of relays of one operator the list is refused: ten relays are what prevents openings, so that
/// this operator could do it alone.
pub const REFUSE_ABOVE: usize = TOLERATED;

/// One tag for each relay, in the order of the relays; `None` where nothing was said.
pub type Tags<'a> = [Option<&'a str>; RELAYS];

/// Relays whose tags are the same: trimmed, and compared without regard to case. Blank tags count as none.
fn groups(tags: &Tags<'_>) -> Vec<(String, PathSet)> {
    let mut groups: BTreeMap<String, (String, PathSet)> = BTreeMap::new();
    for (path, tag) in PathId::all().zip(tags) {
        let Some(tag) = said(*tag) else { continue };
        let group = groups.entry(tag.to_lowercase()).or_insert_with(|| (tag.to_owned(), PathSet::EMPTY));
        group.1.insert(path);
    }
    groups.into_values().collect()
}

fn said(tag: Option<&str>) -> Option<&str> {
    tag.map(str::trim).filter(|t| !t.is_empty())
}

/// Applies the rule to the operators of 25 relays.
///
/// Relays without a tag are not counted together, since nothing says that they have one operator. One warning says
/// that tags are missing where some relays have one and others do not.
///
/// # Errors
/// When one operator runs more than [`REFUSE_ABOVE`] relays.
pub fn check_operators(tags: &Tags<'_>) -> Result<Vec<Warning>, TooManyRelays> {
    let mut warnings = Vec::new();
    for (operator, relays) in groups(tags) {
        if relays.len() > REFUSE_ABOVE {
            return Err(TooManyRelays { operator, relays });
        }
        if relays.len() > WARN_ABOVE {
            warnings.push(Warning::Operator { operator, relays });
        }
    }
    let untagged: PathSet =
        PathId::all().zip(tags).filter(|(_, tag)| said(**tag).is_none()).map(|(path, _)| path).collect();
    if !untagged.is_empty() && untagged != PathSet::ALL {
        warnings.push(Warning::Untagged { relays: untagged });
    }
    Ok(warnings)
}

/// Looks at where 25 relays stand. More than [`REFUSE_ABOVE`] in one region give a warning, and never an error: an
/// outage there prevents openings while it lasts, and nobody gains a power.
pub fn check_regions(tags: &Tags<'_>) -> Vec<Warning> {
    let many = groups(tags).into_iter().filter(|(_, relays)| relays.len() > REFUSE_ABOVE);
    many.map(|(region, relays)| Warning::Region { region, relays }).collect()
}

/// What is allowed and still worth a look.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// One operator runs more than [`WARN_ABOVE`] relays.
    Operator {
        /// The tag, as the first of its relays has it.
        operator: String,
        /// Which relays.
        relays: PathSet,
    },
    /// Some relays have an operator, these do not.
    Untagged {
        /// Which relays.
        relays: PathSet,
    },
    /// More than [`REFUSE_ABOVE`] relays stand in one region.
    Region {
        /// The tag, as the first of its relays has it.
        region: String,
        /// Which relays.
        relays: PathSet,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator { operator, relays } => write!(
                f,
                "operator {operator:?} runs {} relays ({}); give one operator at most {WARN_ABOVE}, since any {} \
                 relays together can prevent openings",
                relays.len(),
                Numbers(*relays),
                TOLERATED + 1,
            ),
            Self::Untagged { relays } => write!(
                f,
                "nothing says who operates {} of the relays ({}); write `operator` for each, or their number cannot \
                 be checked",
                relays.len(),
                Numbers(*relays),
            ),
            Self::Region { region, relays } => write!(
                f,
                "region {region:?} holds {} relays ({}); an outage there prevents openings while it lasts: put at \
                 most {REFUSE_ABOVE} in one region",
                relays.len(),
                Numbers(*relays),
            ),
        }
    }
}

/// One operator could decide alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooManyRelays {
    /// The tag, as the first of its relays has it.
    pub operator: String,
    /// Which relays.
    pub relays: PathSet,
}

impl fmt::Display for TooManyRelays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = if self.relays.len() >= SIXTEEN {
            "read connections, impersonate principals and prevent openings"
        } else {
            "prevent openings"
        };
        write!(
            f,
            "operator {:?} runs {} of the {RELAYS} relays ({}) and could {power} alone: any {} relays can prevent \
             opening, any {SIXTEEN} can read and impersonate; give one operator at most {REFUSE_ABOVE} relays",
            self.operator,
            self.relays.len(),
            Numbers(self.relays),
            TOLERATED + 1,
        )
    }
}

impl std::error::Error for TooManyRelays {}

/// Relay numbers with commas.
struct Numbers(PathSet);

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, path) in self.0.iter().enumerate() {
            write!(f, "{}{path}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; RELAYS] = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t",
        "u", "v", "w", "x", "y",
    ];

    /// 25 tags of which the first `n` are `name` and the others all different.
    fn first(n: usize, name: &str) -> Tags<'_> {
        std::array::from_fn(|i| Some(if i < n { name } else { NAMES[i] }))
    }

    fn paths(n: u8) -> PathSet {
        PathId::all().filter(|p| p.get() < n).collect()
    }

    #[test]
    fn three_pass_four_warn_nine_warn_ten_are_refused() {
        assert_eq!(check_operators(&first(3, "Same")), Ok(vec![]));
        for n in [4, 9] {
            let warnings = check_operators(&first(n.into(), "Same")).unwrap();
            assert_eq!(warnings, [Warning::Operator { operator: "Same".to_owned(), relays: paths(n) }]);
        }
        for n in [10, 15, 16, 25] {
            let e = check_operators(&first(n, "Same")).unwrap_err();
            assert_eq!(e, TooManyRelays { operator: "Same".to_owned(), relays: paths(n as u8) });
            let shown = e.to_string();
            assert_eq!(shown.contains("could read connections, impersonate"), n >= 16, "{shown}");
            assert!(shown.contains("any 10 relays can prevent opening, any 16 can read"), "{shown}");
        }
    }

    #[test]
    fn a_warning_names_operator_and_relays() {
        let mut tags = first(0, "");
        for i in [3, 7, 11, 24] {
            tags[i] = Some("Example Ltd");
        }
        let [warning] = &check_operators(&tags).unwrap()[..] else { panic!() };
        assert!(warning.to_string().starts_with("operator \"Example Ltd\" runs 4 relays (3, 7, 11, 24);"));
    }

    /// The attack: one operator under ten spellings of its name.
    #[test]
    fn case_and_blanks_make_no_other_operator() {
        let mut tags = first(10, "Example Ltd");
        tags[1] = Some("  example ltd\t");
        tags[2] = Some("EXAMPLE LTD");
        assert_eq!(check_operators(&tags).unwrap_err().relays, paths(10));
        tags[9] = Some("Example  Ltd");
        assert!(check_operators(&tags).is_ok());
    }

    #[test]
    fn relays_without_a_tag_are_no_operator() {
        assert_eq!(check_operators(&[None; RELAYS]), Ok(vec![]));
        assert_eq!(check_operators(&[Some("  "); RELAYS]), Ok(vec![]));
        let mut tags = first(0, "");
        tags[..12].fill(None);
        tags[12] = Some(" ");
        assert_eq!(check_operators(&tags), Ok(vec![Warning::Untagged { relays: paths(13) }]));
    }

    #[test]
    fn a_full_region_is_a_warning_only() {
        assert_eq!(check_regions(&first(9, "eu")), []);
        assert_eq!(check_regions(&[None; RELAYS]), []);
        for n in [10, 25] {
            let warnings = check_regions(&first(n.into(), "eu"));
            assert_eq!(warnings, [Warning::Region { region: "eu".to_owned(), relays: paths(n) }]);
        }
    }
}
