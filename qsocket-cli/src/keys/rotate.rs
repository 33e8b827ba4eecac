//! `qsocket keys rotate` for RAIDA keys.

use super::{Session, verify};
use crate::cli::RotateArgs;
use crate::output::tell;
use anyhow::bail;
use qsocket::config::Raida;
use qsocket::keys::rotate::{self, Failure, Fresh};
use qsocket::{PathId, Principal, Role};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

/// Relays that have to take part: fewer new numbers than that keep nobody out who has the old ones.
const SIXTEEN: usize = 16;

/// The exit code when some relays still know the old number.
const SOME: u8 = 3;

/// Has the relays replace the numbers of a RAIDA key.
///
/// # Errors
/// When key or list are refused, or fewer than 16 relays take part; nothing has changed then.
pub(super) fn rotate(
    this: &Session,
    args: &RotateArgs,
    (principal, role): (Principal, Role),
) -> anyhow::Result<ExitCode> {
    let store = this.store()?;
    let old = store.raida_key(principal, role)?;
    let previous = store.previous_raida_key(principal, role)?;
    let relays = verify::relays(args.base, args.relays.as_deref())?;
    let (raida, timeout) = (Raida { network: principal.network, relays }, Duration::from_secs(args.timeout));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let drawn = runtime.block_on(rotate::ask(&old, previous.as_ref(), &raida, timeout));
    let took = drawn.iter().filter(|one| one.is_ok()).count();
    if took < SIXTEEN {
        let why: Vec<_> = failures(&drawn).map(|(relay, e)| format!("relay {relay}: {e}")).collect();
        bail!(
            "{took} relays drew a new number, {SIXTEEN} are needed; nothing has changed, so say it again later\n{}",
            why.join("\n")
        );
    }
    let (next, before) = rotate::keys(&old, previous.as_ref(), &drawn)?;
    store.replace_raida_key(&old, &before, &next)?;
    let settled = runtime.block_on(rotate::settle(&next, &raida, timeout));
    let missed = |relay: PathId| drawn[relay.index()].is_err() || settled[relay.index()].is_err();
    let missing: Vec<PathId> = PathId::all().filter(|relay| missed(*relay)).collect();
    if missing.is_empty() {
        store.forget_previous_raida_key(principal, role)?;
    }
    let why = |relay: PathId| {
        let first = drawn[relay.index()].as_ref().err();
        first.or_else(|| settled[relay.index()].as_ref().err()).map(ToString::to_string)
    };
    let document = || {
        let missing: Vec<_> =
            missing.iter().map(|relay| json!({ "relay": relay.get(), "problem": why(*relay) })).collect();
        json!({ "key": format!("raida:{principal}.{role}"), "rotated": 25 - missing.len(), "missing": missing })
    };
    let text = || {
        let mut out = format!("{} of 25 relays know the new number alone\n", 25 - missing.len());
        for relay in &missing {
            out += &format!("relay {relay}: {}\n", why(*relay).unwrap_or_default());
        }
        if !missing.is_empty() {
            out += "The others may still take the old one. Say it again when they are there\n";
        }
        out + "Programs that run with the old key lose their hops: start them again\n"
    };
    tell(this.json, document, text)?;
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(SOME) })
}

fn failures(drawn: &[Result<Fresh, Failure>]) -> impl Iterator<Item = (PathId, &Failure)> {
    PathId::all().zip(drawn).filter_map(|(relay, one)| Some((relay, one.as_ref().err()?)))
}
