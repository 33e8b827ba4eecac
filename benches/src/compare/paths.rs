//! P6: 25 links of a limited rate, one for each relay, against what others make of one link or several.

use std::time::Duration;

use anyhow::{Context, Result};
use qsocket_proto::ids::{RELAYS, SIXTEEN};

use super::figures::{Bound, Figure, Goal, Mode, Summary};
use super::links::{Links, MORE_LINKS};
use super::peers::qsocket::QSocket;
use super::peers::quic::Quic;
use super::peers::tls::Tls;
use super::subject::{Plan, Subject};
use super::table::Row;

/// Of each link, in Mbit/s, where they are equal.
const RATE: f64 = 20.0;

/// The rates of the slowest and the fastest link where they are not; those between rise evenly, to the same sum.
const UNEQUAL: (f64, f64) = (4.0, 36.0);

/// How long a transfer takes if it fills all the links that it may use.
const SPAN: Duration = Duration::from_secs(4);

/// The same for a quick look.
const QUICK_SPAN: Duration = Duration::from_secs(1);

fn unequal() -> [f64; RELAYS] {
    let (least, most) = UNEQUAL;
    std::array::from_fn(|link| least + (most - least) * link as f64 / (RELAYS - 1) as f64)
}

/// The part of what all links carry that is the application's: parity is the rest.
fn allowed(mode: Mode) -> f64 {
    if mode == Mode::Adaptive { 1.0 } else { SIXTEEN as f64 / RELAYS as f64 }
}

/// Who sends, and over links of what sum in Mbit/s.
struct Sender {
    subject: Subject,
    reach: f64,
}

impl Sender {
    /// Goodput in bytes a second.
    fn measure(&self, span: Duration) -> Result<f64> {
        let bytes = self.reach * 1e6 / 8.0 * span.as_secs_f64();
        let sample = self.subject.measure(&Plan::bulk(bytes as u64))?;
        sample.get(Figure::Goodput).context("nothing was sent")
    }
}

/// All rounds, and the rows that they make.
pub(super) fn measure(rounds: usize, quick: bool) -> Result<Vec<Row>> {
    let span = if quick { QUICK_SPAN } else { SPAN };
    let equal = [RATE; RELAYS];
    let links = Links::make(&equal)?;
    let sum: f64 = equal.iter().sum();
    let first = *Links::addresses().first().context("no link")?;
    let modes = [Mode::Full, Mode::Adaptive];
    let mut senders = Vec::new();
    for mode in modes {
        let subject = Subject::start_at(QSocket::at(mode, Links::addresses()), links.far(), links.near())?;
        senders.push(Sender { subject, reach: sum * allowed(mode) });
    }
    let one = |subject| Sender { subject, reach: RATE };
    senders.push(one(Subject::start_at(Tls::at(first, false)?, links.far(), links.near())?));
    senders.push(one(Subject::start_at(Quic::at(first)?, links.far(), links.near())?));
    let several = Subject::start_at(Tls::at(first, true)?, links.far(), links.near())?;
    senders.push(Sender { subject: several, reach: RATE * (MORE_LINKS + 1) as f64 });

    for sender in &senders {
        sender.measure(QUICK_SPAN)?;
    }
    let mut of_equal = vec![Vec::new(); senders.len()];
    let mut of_unequal = vec![Vec::new(); modes.len()];
    for round in 0..rounds {
        for turn in 0..senders.len() {
            let index = (round + turn) % senders.len();
            of_equal[index].push(senders[index].measure(span)?);
            eprintln!("round {} of {rounds}: {}", round + 1, senders[index].subject.label());
        }
        links.set(&unequal())?;
        for (sender, values) in senders.iter().zip(&mut of_unequal) {
            // What was known of the links is no longer so.
            sender.measure(QUICK_SPAN)?;
            values.push(sender.measure(span)?);
        }
        links.set(&equal)?;
        for sender in senders.iter().take(modes.len()) {
            sender.measure(QUICK_SPAN)?;
        }
        eprintln!("round {} of {rounds}: unequal links", round + 1);
    }

    let tls = &of_equal[modes.len()];
    let mut rows = Vec::new();
    for (index, mode) in modes.into_iter().enumerate() {
        let peers = [
            "TLS, 1 link".to_owned(),
            "quinn, 1 link".to_owned(),
            format!("MPTCP, {} links", MORE_LINKS + 1),
        ];
        for (peer, values) in peers.into_iter().zip(&of_equal[modes.len()..]) {
            let bound = if mode == Mode::Adaptive { 23.0 } else { 15.0 };
            let goal = std::ptr::eq(values, tls).then(|| Goal::ratio(Bound::AtLeast(bound)));
            rows.push(row(
                format!("P6 goodput over 25 links of {RATE} Mbit/s, MB/s"),
                mode,
                &of_equal[index],
                (peer, values.clone()),
                goal,
            ));
        }
        let code = sum / RATE * allowed(mode);
        rows.push(row(
            format!("P6 goodput over 25 links of {} to {} Mbit/s, MB/s", UNEQUAL.0, UNEQUAL.1),
            mode,
            &of_unequal[index],
            (format!("TLS, 1 link, x {code}"), tls.iter().map(|value| value * code).collect()),
            Some(Goal::ratio(Bound::AtLeast(0.9))),
        ));
    }
    Ok(rows)
}

fn row(
    figure: String,
    mode: Mode,
    ours: &[f64],
    (name, peer): (String, Vec<f64>),
    goal: Option<Goal>,
) -> Row {
    let megabytes = |values: &[f64]| Summary::of(values.iter().map(|value| value / 1e6));
    Row {
        figure,
        mode: mode.to_string(),
        ours: megabytes(ours),
        peer: megabytes(&peer).map(|value| (Some(name), value)),
        ratio: Summary::of(ours.iter().zip(&peer).map(|(ours, theirs)| ours / theirs)),
        goal,
        beside: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unequal_links_carry_as_much_as_equal_ones() {
        let sum: f64 = unequal().iter().sum();
        assert!((sum - RATE * RELAYS as f64).abs() < 1e-6, "{sum}");
    }
}
