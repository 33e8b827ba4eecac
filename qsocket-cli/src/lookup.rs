//! `qsocket lookup`: who answers behind a name, and who says so.

use crate::cli::names::LookupArgs;
use crate::exchange::{load, runtime};
use crate::output::tell;
use qsocket::names::{Found, Hint, Places, Server, Vouched};
use qsocket::{Endpoint, Role};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

/// Looks a name up and prints what is found.
///
/// # Errors
/// Why nothing is found, and what to do.
pub(crate) fn lookup(args: &LookupArgs) -> anyhow::Result<ExitCode> {
    let config = load(args.config.as_deref(), Role::Client)?;
    let (found, settled) = runtime()?.block_on(async {
        let client = Endpoint::client(config)?;
        let found = client.lookup(&args.name).await;
        let settled = found.as_ref().ok().map(|found| client.settle(&args.name, found));
        client.close().await;
        anyhow::Ok((found?, settled))
    })?;
    let settled = settled.transpose();
    let server = settled.as_ref().ok().and_then(Option::as_ref);
    tell(
        args.json,
        || match &found {
            Found::Vouched(vouched) => vouched_document(vouched),
            Found::Hint(hint) => hint_document(hint, server),
            _ => Value::Null,
        },
        || match &found {
            Found::Vouched(vouched) => vouched_text(vouched),
            Found::Hint(hint) => hint_text(hint, server),
            _ => String::new(),
        },
    )?;
    match (&found, settled) {
        // A name that names nobody was found all the same, and so was a hint.
        (_, Ok(_)) => Ok(ExitCode::SUCCESS),
        (_, Err(error @ qsocket::names::LookupError::Contradicted { .. })) => Err(error.into()),
        (_, Err(_)) => Ok(ExitCode::SUCCESS),
    }
}

fn texts<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn vouched_document(found: &Vouched) -> Value {
    let contrary: Vec<_> = (found.contrary.iter())
        .map(|(relay, how)| json!({ "relay": relay.get(), "why": how.to_string() }))
        .collect();
    json!({
        "name": found.name.to_string(),
        "trust": "vouched",
        "network": found.membership.network,
        "server": found.membership.server.map(|server| server.to_string()),
        "number": found.membership.number,
        "addresses": texts(&found.places.addresses),
        "port": found.places.port,
        "signalling": texts(&found.places.signalling),
        "relays": found.relays.iter().map(|relay| relay.get()).collect::<Vec<_>>(),
        "contrary": contrary,
    })
}

fn hint_document(hint: &Hint, server: Option<&Server>) -> Value {
    json!({
        "name": hint.name(),
        "trust": if server.is_some() { "pinned" } else { "unproven" },
        "server": server.map(|server| server.principal().to_string()),
        "claims": hint.texts().collect::<Vec<_>>(),
        "source": hint.dns().to_string(),
        "addresses": texts(&hint.places().addresses),
        "port": hint.places().port,
        "signalling": texts(&hint.places().signalling),
    })
}

fn line(out: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{:<13}{value}", format!("{name}:"));
}

fn places(out: &mut String, places: &Places) {
    if !places.addresses.is_empty() {
        line(out, "addresses", &texts(&places.addresses).join(" "));
    }
    if let Some(port) = places.port {
        line(out, "port", &port.to_string());
    }
    if !places.signalling.is_empty() {
        line(out, "signalling", &texts(&places.signalling).join(" "));
    }
}

fn vouched_text(found: &Vouched) -> String {
    let mut out = String::new();
    line(&mut out, "name", &found.name.unicode());
    if found.name.unicode() != found.name.to_string() {
        line(&mut out, "in ASCII", &found.name.to_string());
    }
    let server = found.membership.server.map_or_else(|| "none named".to_owned(), |server| server.to_string());
    line(&mut out, "server", &server);
    line(&mut out, "number", &found.membership.number.to_string());
    places(&mut out, &found.places);
    line(&mut out, "trust", &format!("{} relays say so", found.relays.len()));
    for (relay, how) in &found.contrary {
        line(&mut out, "contrary", &format!("relay {relay}: {how}"));
    }
    out
}

fn hint_text(hint: &Hint, server: Option<&Server>) -> String {
    let mut out = String::new();
    line(&mut out, "name", hint.name());
    for text in hint.texts() {
        line(&mut out, "claims", &text);
    }
    places(&mut out, hint.places());
    line(&mut out, "source", &hint.dns().to_string());
    let trust = server.map_or_else(
        || {
            "unproven: keys are exchanged only with a server that the configuration or a key file names"
                .to_owned()
        },
        |server| format!("{} is {}", server.principal(), server.settled()),
    );
    line(&mut out, "trust", &trust);
    out
}
