//! How a name stands, for people and for programs.

use super::{failed_document, failures};
use qsocket::PathId;
use qsocket::names::{Description, Name, Record, Replies};
use qsocket_files::moment;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

/// Things that have a key in common.
pub(super) fn group<K: Ord, V>(all: impl Iterator<Item = (K, V)>) -> BTreeMap<K, Vec<V>> {
    let mut groups: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for (key, value) in all {
        groups.entry(key).or_default().push(value);
    }
    groups
}

/// So many of something.
pub(super) fn count(number: usize, one: &str, several: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {several}") }
}

/// Relays by their numbers; 25 are all.
pub(super) fn relays(who: &[PathId]) -> String {
    match who {
        [one] => format!("relay {one}"),
        all if all.len() == PathId::all().count() => "all 25 relays".to_owned(),
        some => {
            let numbers: Vec<_> = some.iter().map(ToString::to_string).collect();
            format!("{} relays ({})", some.len(), numbers.join(" "))
        }
    }
}

/// A time on the wire; nothing for none.
pub(super) fn until(seconds: u64) -> Option<String> {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).filter(|_| seconds > 0)?;
    moment::show(at)
}

/// How the name stands, one line for each state.
pub(super) fn states(described: &Replies<Description>) -> String {
    let groups = group(described.done().map(|(relay, there)| ((there.state, there.until), relay)));
    let mut out = String::new();
    for ((state, end), who) in groups {
        let end = until(end).map_or_else(String::new, |end| format!(" until {end}"));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{state}{end} at {}", relays(&who));
    }
    out + &failures(described)
}

fn record_lines(record: &Record) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {:<12}{value}", format!("{name}:"));
    };
    line("version", record.version.to_string());
    line("number", record.number.to_string());
    line("owner", record.owner.to_string());
    line("begin", until(record.begin).unwrap_or_else(|| record.begin.to_string()));
    line("ttl", format!("{} s", record.ttl));
    if let Some(server) = record.server {
        line("server", server.to_string());
    }
    if let Some(service) = record.service {
        line("address", service.to_string());
    }
    if let Some(port) = record.signalling {
        line("signalling", port.to_string());
    }
    for (relay, at) in &record.endpoints {
        line(&format!("endpoint {relay}"), at.to_string());
    }
    out
}

/// All that the relays tell, for people.
pub(super) fn text(name: &Name, described: &Replies<Description>) -> String {
    let mut out = format!("{}\n{}", name.unicode(), states(described));
    let fees = group(described.done().map(|(relay, there)| {
        let fees = there.fees;
        ((fees.first, fees.renewal, fees.currency), relay)
    }));
    for ((first, renewal, currency), who) in fees {
        let _ = writeln!(
            out,
            "fees: {first} {currency} for the first year, {renewal} for each further one, at {}",
            relays(&who)
        );
    }
    let payments = described.done().flat_map(|(relay, there)| {
        there.payments.iter().map(move |payment| {
            let what = (payment.reference, payment.kind, payment.years, payment.amount);
            ((what, payment.currency, payment.state), relay)
        })
    });
    for (((reference, kind, years, amount), currency, state), who) in group(payments) {
        let years = count(years.into(), "year", "years");
        let _ = writeln!(
            out,
            "payment {reference}: {kind}, {years}, {amount} {currency}, {state} at {}",
            relays(&who)
        );
    }
    let records = described.done().filter_map(|(relay, there)| {
        let record = there.record.as_ref()?;
        Some((record.encode(), (relay, record)))
    });
    for alike in group(records).into_values() {
        let who: Vec<_> = alike.iter().map(|(relay, _)| *relay).collect();
        if let Some((_, record)) = alike.first() {
            let _ = write!(out, "{} say:\n{}", relays(&who), record_lines(record));
        }
    }
    out
}

fn record_document(record: &Record) -> Value {
    let endpoints: BTreeMap<_, _> =
        record.endpoints.iter().map(|(relay, at)| (relay.to_string(), at.to_string())).collect();
    json!({
        "version": record.version,
        "number": record.number,
        "owner": record.owner.to_string(),
        "begin": until(record.begin),
        "ttl": record.ttl,
        "server": record.server.map(|server| server.to_string()),
        "address": record.service.map(|service| service.to_string()),
        "signalling": record.signalling,
        "endpoints": endpoints,
    })
}

/// All that the relays tell, for programs.
pub(super) fn document(name: &Name, described: &Replies<Description>) -> Value {
    let one = |(relay, there): (PathId, &Description)| {
        let payments: Vec<_> = (there.payments.iter())
            .map(|payment| {
                json!({
                    "reference": payment.reference.to_string(),
                    "kind": payment.kind.to_string(),
                    "years": payment.years,
                    "amount": payment.amount,
                    "currency": payment.currency.to_string(),
                    "state": payment.state.to_string(),
                })
            })
            .collect();
        json!({
            "relay": relay.get(),
            "state": there.state.to_string(),
            "until": until(there.until),
            "first_year": there.fees.first,
            "further_year": there.fees.renewal,
            "currency": there.fees.currency.to_string(),
            "record": there.record.as_ref().map(record_document),
            "payments": payments,
        })
    };
    let relays: Vec<_> = described.done().map(one).chain(failed_document(described)).collect();
    json!({ "name": name.to_string(), "relays": relays })
}
