//! The file that tables and plots are written to: one section for each command, the rest is people's.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::machine;

/// Where a result goes besides the terminal.
#[derive(Debug, clap::Args)]
pub(crate) struct Output {
    /// Also write the result, with a description of the machine, into the file given by --output
    #[arg(long)]
    write: bool,
    /// The file in which --write replaces one section
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../BENCHMARKS.md"))]
    output: PathBuf,
}

impl Output {
    /// Whether anything is written but to the terminal.
    pub(crate) fn writes(&self) -> bool {
        self.write
    }

    /// Prints the text and, if asked to, writes it.
    pub(crate) fn finish(&self, section: Section, text: &str) -> Result<()> {
        println!("{text}");
        if self.write {
            let old = fs::read_to_string(&self.output).unwrap_or_default();
            let new = replace(&old, Section::Machine, &machine::describe());
            fs::write(&self.output, replace(&new, section, text))?;
            eprintln!("wrote {}", self.output.display());
        }
        Ok(())
    }
}

/// What a command writes, in the order of the file. Other sections follow and are left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    Machine,
    Tls,
    Relay,
    Paths,
    Plots,
}

impl Section {
    const ALL: [Self; 5] = [Self::Machine, Self::Tls, Self::Relay, Self::Paths, Self::Plots];
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "Machine",
            Self::Tls => "Beside mutual TLS 1.3",
            Self::Relay => "One relay beside HAProxy",
            Self::Paths => "Over 25 links",
            Self::Plots => "Cost by number and size",
        })
    }
}

/// What every section begins with.
pub(crate) fn taken(rounds: usize, load: Option<f64>) -> String {
    let load = load.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
    format!(
        "Commit {}. Load average before the run: {load}; other work on the machine distorts figures. Median of {rounds} \
         interleaved rounds (smallest..largest). A ratio is ours divided by the peer's inside one round.",
        machine::commit()
    )
}

/// What stands above all sections.
const HEAD: &str = "# Benchmarks\n\nEach section but the notes is written by a command that ends with `--write`: `cargo run \
    --release -p qsocket-benches --` with `compare`, `compare --relay`, `compare --paths` or `plots`.\n";

/// The file with one section exchanged, or put where it belongs.
fn replace(old: &str, section: Section, text: &str) -> String {
    let mut parts: Vec<(&str, &str)> = sections(old).collect();
    let place = |title: &str| Section::ALL.into_iter().find(|known| known.to_string() == title);
    let title = section.to_string();
    let body = format!("\n\n{}\n", text.trim());
    parts.retain(|(name, _)| *name != title);
    let at = parts.iter().position(|(name, _)| place(name).is_none_or(|other| other > section));
    parts.insert(at.unwrap_or(parts.len()), (&title, &body));
    let mut new = HEAD.to_owned();
    for (name, body) in parts {
        new.push_str("\n## ");
        new.push_str(name);
        new.push_str(body);
    }
    new
}

/// Title and body of each section.
fn sections(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("\n## ").skip(1).map(|part| part.split_at(part.find('\n').unwrap_or(part.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_keep_their_order_and_notes_outlive_them() {
        let paths = replace("", Section::Paths, "links\n");
        assert_eq!(paths, format!("{HEAD}\n## Over 25 links\n\nlinks\n"));
        let written = format!("{paths}\n## Notes\n\nwords\n\n### More\n\nwords\n");
        let both = replace(&written, Section::Tls, "table 1");
        let machine = replace(&both, Section::Machine, "- fast");
        let notes = "\n## Notes\n\nwords\n\n### More\n\nwords\n";
        let expected = format!(
            "{HEAD}\n## Machine\n\n- fast\n\n## Beside mutual TLS 1.3\n\ntable 1\n\n## Over 25 links\n\nlinks\n{notes}"
        );
        assert_eq!(machine, expected);
        let again = replace(&machine, Section::Tls, "table 2\n");
        assert_eq!(again, expected.replace("table 1", "table 2"));
    }
}
