//! `qsocket keys enrol`.

use super::{Session, raida_installed, raida_key, verify};
use crate::cli::EnrolArgs;
use crate::output::tell;
use anyhow::{Context, bail};
use qsocket::config::Raida;
use qsocket::keys::PartialKey;
use qsocket::keys::enrol::ask;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

/// The exit code while relays are missing.
const SOME: u8 = 3;

/// Has the relays enrol a principal, and makes its key once all have.
///
/// # Errors
/// When key or list are refused, the key is there already, or no relay drew a number.
pub(super) fn enrol(this: &Session, args: &EnrolArgs) -> anyhow::Result<ExitCode> {
    let (principal, role) = (args.principal, args.role.into());
    let (sponsor, in_role) = raida_key(&args.sponsor)?;
    if sponsor.network != principal.network {
        bail!("{sponsor} and {principal} are in different networks; a sponsor enrols in its own");
    }
    let store = this.store()?;
    let sponsor_key = store.raida_key(sponsor, in_role)?;
    let file = store.raida_file(principal, role);
    if file.symlink_metadata().is_ok() {
        // What an end in mid-step may have left.
        store.forget_partial_raida_key(principal, role)?;
        bail!("{} is there already: {principal} is enrolled", file.display());
    }
    let before = store.partial_raida_key(principal, role)?;
    let mut key = before.unwrap_or_else(|| PartialKey::new(principal, role));
    let relays = verify::relays(args.base, args.relays.as_deref())?;
    let (raida, timeout) = (Raida { network: principal.network, relays }, Duration::from_secs(args.timeout));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let failures = runtime.block_on(ask(&sponsor_key, &mut key, &raida, timeout));
    if failures.is_empty() {
        let place = store.partial_raida_file(principal, role);
        let key = key.complete().with_context(|| format!("remove {} and begin anew", place.display()))?;
        let installed = store.install_raida_key(&key)?;
        store.forget_partial_raida_key(principal, role)?;
        return raida_installed(this, &store, &key, installed);
    }
    let why: Vec<_> = failures.iter().map(|(relay, e)| format!("relay {relay}: {e}\n")).collect();
    let had = qsocket::PathId::all().count() - failures.len();
    if had == 0 {
        bail!("no relay enrolled {principal}, and nothing is kept\n{}", why.concat().trim_end());
    }
    store.keep_partial_raida_key(&key)?;
    let place = store.partial_raida_file(principal, role).display().to_string();
    let document = || {
        let missing: Vec<_> = failures
            .iter()
            .map(|(relay, e)| json!({ "relay": relay.get(), "problem": e.to_string() }))
            .collect();
        json!({ "installed": null, "drawn": had, "missing": missing, "kept": place })
    };
    let text = || {
        format!(
            "{}{had} of 25 relays enrolled {principal}; there is no key yet. What is drawn is kept in {place}. Say it again \
             when the others are there and their operators permit it\n",
            why.concat()
        )
    };
    tell(this.json, document, text)?;
    Ok(ExitCode::from(SOME))
}
