//! `qsocket keys verify`.

use super::{Session, raida_key};
use crate::cli::VerifyArgs;
use crate::output::tell;
use anyhow::{Context, bail};
use qsocket::config::{Raida, RelayAddresses};
use qsocket::keys::verify::{Answer, Verdict, verify as ask};
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Relays that suffice for opening connections.
const SIXTEEN: usize = 16;

/// The exit code when some relays do not hold the key and enough do.
const SOME: u8 = 3;

/// Largest list of relays that is read: 25 addresses, and room for comments.
const MAX_LIST: u64 = 16 * 1024;

/// Asks the relays and tells what each answered.
///
/// # Errors
/// When the key or the list is refused.
pub(super) fn verify(this: &Session, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let (principal, role) = raida_key(&args.key)?;
    let key = this.store()?.raida_key(principal, role)?;
    let relays = relays(args.base, args.relays.as_deref())?;
    let raida = Raida { network: principal.network, relays };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = runtime.block_on(ask(&key, &raida, Duration::from_secs(args.timeout)));
    let held = answers.iter().filter(|answer| answer.verdict == Verdict::Held).count();
    let document = || {
        let relays: Vec<_> = answers
            .iter()
            .map(|answer| {
                json!({
                    "relay": answer.relay.get(),
                    "address": answer.address.to_string(),
                    "answer": answer.verdict.as_str(),
                    "detail": detail(&answer.verdict),
                    "milliseconds": answer.took.as_millis() as u64,
                })
            })
            .collect();
        json!({ "key": format!("raida:{principal}.{role}"), "held": held, "relays": relays })
    };
    tell(this.json, document, || text(&answers, held))?;
    Ok(match held {
        n if n == answers.len() => ExitCode::SUCCESS,
        n if n >= SIXTEEN => ExitCode::from(SOME),
        _ => ExitCode::FAILURE,
    })
}

fn text(answers: &[Answer], held: usize) -> String {
    let mut out = String::new();
    for answer in answers {
        let detail = detail(&answer.verdict).map_or_else(String::new, |detail| format!("  {detail}"));
        let relay = answer.relay.to_string();
        out += &format!(
            "relay {relay:<3}{:<22} {:<12}{:>5} ms{detail}\n",
            answer.address.to_string(),
            answer.verdict.as_str(),
            answer.took.as_millis()
        );
    }
    out + &format!("{held} of {} relays hold the key; opening a connection needs {SIXTEEN}\n", answers.len())
}

fn detail(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Unreachable { error, .. } => Some(error.clone()),
        Verdict::NotARelay(e) => Some(e.to_string()),
        Verdict::Refused => {
            Some("it has no or another number for this principal and role, or is another relay".to_owned())
        }
        _ => None,
    }
}

/// The relays that the command line names.
///
/// # Errors
/// When it names none, or what it names is refused.
pub(super) fn relays(base: Option<SocketAddr>, file: Option<&Path>) -> anyhow::Result<RelayAddresses> {
    match (base, file) {
        (Some(base), _) => Ok(RelayAddresses::from_base(base)?),
        (None, Some(file)) => list(file),
        (None, None) => bail!("name the relays with --base or --relays"),
    }
}

/// A file of 25 addresses, one a line.
fn list(path: &Path) -> anyhow::Result<RelayAddresses> {
    let named = || path.display().to_string();
    let mut text = String::new();
    let file = File::open(path).with_context(named)?;
    file.take(MAX_LIST + 1).read_to_string(&mut text).with_context(named)?;
    if text.len() as u64 > MAX_LIST {
        bail!("{} is larger than {MAX_LIST} bytes; it is no list of 25 relays", path.display());
    }
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => bail!(
                "{}:{number}: write an address as IP:PORT, for example 192.0.2.10:50000",
                path.display()
            ),
        }
    }
    RelayAddresses::from_list(&addresses).with_context(named)
}
