//! What commands print.

use qsocket::keys::{KeyInfo, KeyState, KeyStore, Origin, RaidaKeyInfo, Strength};
use qsocket_files::moment;
use qsocket_files::program::say;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io;
use std::time::SystemTime;

/// Prints a document for programs, or text for people.
///
/// # Errors
/// As [`say`].
pub(crate) fn tell(
    json: bool,
    document: impl FnOnce() -> Value,
    text: impl FnOnce() -> String,
) -> io::Result<()> {
    let text = if json { format!("{:#}\n", document()) } else { text() };
    say(text.as_bytes())
}

/// What a key may be used for now, in one word.
pub(crate) fn use_of(info: &KeyInfo, now: SystemTime) -> &'static str {
    match (info.state, info.opens(now), info.accepts(now)) {
        (KeyState::Revoked, ..) => "revoked",
        (KeyState::Active, true, _) => "active",
        (KeyState::Active, ..) => "expired",
        (KeyState::Retired { .. }, _, true) => "retired",
        (KeyState::Retired { .. }, ..) => "over",
    }
}

fn time(at: Option<SystemTime>) -> Option<String> {
    at.map(|at| moment::show(at).unwrap_or_else(|| format!("{at:?}")))
}

/// An Encryption key, for programs.
pub(crate) fn encryption(store: &KeyStore, info: &KeyInfo, now: SystemTime) -> Value {
    let until = match info.state {
        KeyState::Retired { until } => time(until),
        KeyState::Active | KeyState::Revoked => None,
    };
    let (over, relays) = match info.origin {
        Origin::Exchanged { network, relays } => {
            (Some(network), Some(relays.iter().map(|relay| relay.get()).collect::<Vec<_>>()))
        }
        Origin::Generated | Origin::Imported | Origin::PreShared => (None, None),
    };
    json!({
        "kind": "encryption-key",
        "id": format!("{:?}", info.id),
        "with": info.with.to_string(),
        "own": info.own.map(|own| own.to_string()),
        "name": info.name.as_ref().map(ToString::to_string),
        "created": time(info.created),
        "expires": time(info.expires),
        "origin": info.origin.as_str(),
        "exchanged_over": over,
        "exchanged_relays": relays,
        "state": info.state.as_str(),
        "receive_until": until,
        "use": use_of(info, now),
        "opens": info.opens(now),
        "accepts": info.accepts(now),
        "file": store.encryption_file(info.id).display().to_string(),
    })
}

/// A RAIDA key, for programs.
pub(crate) fn raida(store: &KeyStore, info: RaidaKeyInfo) -> Value {
    json!({
        "kind": "raida-key",
        "principal": info.principal.to_string(),
        "network": info.principal.network,
        "denomination": info.principal.denomination,
        "serial": info.principal.serial,
        "role": info.role.to_string(),
        "bits": bits(info),
        "file": store.raida_file(info.principal, info.role).display().to_string(),
    })
}

fn bits(info: RaidaKeyInfo) -> u16 {
    match info.strength {
        Strength::Bits128 => 128,
        Strength::Bits256 => 256,
    }
}

/// All that is known of an Encryption key, for people.
pub(crate) fn encryption_text(store: &KeyStore, info: &KeyInfo, now: SystemTime) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{:<16}{value}", format!("{name}:"));
        }
    };
    line("id", Some(format!("{:?}", info.id)));
    line("with", Some(info.with.to_string()));
    line("own", info.own.map(|own| own.to_string()));
    line("name", info.name.as_ref().map(ToString::to_string));
    line("use", Some(use_of(info, now).to_owned()));
    if let KeyState::Retired { until: Some(until) } = info.state {
        line("accepted until", time(Some(until)));
    }
    line("created", time(info.created));
    line("expires", time(info.expires));
    line(
        "origin",
        Some(match info.origin {
            Origin::Exchanged { network, relays } => {
                let relays: Vec<_> = relays.iter().map(|relay| relay.to_string()).collect();
                format!("exchanged over RAIDA {network}, relays {}", relays.join(" "))
            }
            origin => origin.as_str().to_owned(),
        }),
    );
    line("file", Some(store.encryption_file(info.id).display().to_string()));
    out
}

/// All that is known of a RAIDA key, for people.
pub(crate) fn raida_text(store: &KeyStore, info: RaidaKeyInfo) -> String {
    let file = store.raida_file(info.principal, info.role);
    format!(
        "principal:      {}\nrole:           {}\nnumbers:        {}\nfile:           {}\n",
        info.principal,
        info.role,
        info.strength,
        file.display()
    )
}

/// One line of the list.
pub(crate) fn encryption_line(info: &KeyInfo, now: SystemTime) -> String {
    let name = info.name.as_ref().map_or_else(String::new, |name| format!("  {name}"));
    let until = match info.state {
        KeyState::Retired { until: Some(until) } => time(Some(until)).map(|until| format!("  until {until}")),
        _ => time(info.expires).map(|expires| format!("  expires {expires}")),
    };
    format!(
        "{:?}  {:<8} with {:<14} {:<11}{name}{}\n",
        info.id,
        use_of(info, now),
        info.with.to_string(),
        info.origin.as_str(),
        until.unwrap_or_default()
    )
}
