//! `qsocket exchange` and `qsocket receive`: both ends of a key exchange through the relays.

use crate::cli::{ExchangeArgs, ReceiveArgs};
use crate::output::tell;
use anyhow::{Context, bail};
use qsocket::config::Config;
use qsocket::exchange::{KeyReceiver, Received, Terms};
use qsocket::resolve::parse_name_port;
use qsocket::{Endpoint, Principal, QSocketListener, Role};
use qsocket_files::program::say;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// How long `receive` stays behind its last key.
const LINGER: Duration = Duration::from_secs(1);

pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// The configuration of one role.
pub(crate) fn load(file: Option<&Path>, role: Role) -> anyhow::Result<Config> {
    let config = match file {
        Some(file) => Config::from_file(file)?,
        None => Config::load()?,
    };
    if config.identity().1 != role {
        let (principal, has) = config.identity();
        bail!("the RAIDA key of {principal} has the role {has}; this needs the configuration of a {role}");
    }
    Ok(config)
}

/// The same, with a folder for keys.
fn config(file: Option<&Path>, role: Role) -> anyhow::Result<Config> {
    let config = load(file, role)?;
    if config.keys().is_none() {
        bail!(
            "the configuration names no folder for the key; add: keys = \"keys\", and make that folder with mode 0700"
        );
    }
    Ok(config)
}

/// Whom a server's name or number means, if that needs no look-up.
fn known(config: &Config, text: &str) -> anyhow::Result<Option<Principal>> {
    if let Ok(principal) = text.parse() {
        return Ok(Some(principal));
    }
    let Ok((host, port)) = parse_name_port(text) else { return Ok(None) };
    let Ok(targets) = config.names().lookup(host, port) else { return Ok(None) };
    let target = targets.in_network(config.identity().0.network);
    let target = target.with_context(|| format!("{text} is in none of this side's networks"))?;
    Ok(Some(target.server))
}

/// Exchanges a key and puts it into the folder of the configuration.
///
/// # Errors
/// Why there is no key, and what to do.
pub(crate) fn exchange(args: &ExchangeArgs) -> anyhow::Result<ExitCode> {
    let config = config(args.config.as_deref(), Role::Client)?;
    let folder = config.keys().map(|keys| keys.store().path().display().to_string()).unwrap_or_default();
    let lifetime = match args.lifetime {
        Some(until) => {
            Some(until.0.duration_since(SystemTime::now()).context("--lifetime ends in the past")?)
        }
        None => None,
    };
    let memo = args.memo.clone().unwrap_or_default().into_bytes();
    let keep = Duration::from_secs(args.keep);
    let done = runtime()?.block_on(async {
        let server = known(&config, &args.server)?;
        let client = Endpoint::client(config)?;
        let terms = Terms { keep, lifetime, signal_at: args.signal_at, memo };
        let exchanged = match server {
            Some(server) => client.exchange(server, terms).await,
            None => {
                let host = parse_name_port(&args.server).map_or(&*args.server, |(host, _)| host);
                client.exchange_with(host, terms).await
            }
        };
        client.close().await;
        anyhow::Ok(exchanged?)
    });
    let exchanged = done?;
    let (id, server, relays) = (exchanged.key.id(), exchanged.key.with(), exchanged.relays.len());
    let document = || {
        let relays: Vec<_> = exchanged.relays.iter().map(|relay| relay.get()).collect();
        json!({ "id": format!("{id:?}"), "with": server.to_string(), "relays": relays, "folder": folder })
    };
    let text = || format!("{id:?} is shared with {server} by way of {relays} relays, and is in {folder}\n");
    tell(args.json, document, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Takes keys until a signal, or until as many have come as were asked for.
///
/// # Errors
/// When the server cannot listen.
pub(crate) fn receive(args: &ReceiveArgs) -> anyhow::Result<ExitCode> {
    let config = config(args.config.as_deref(), Role::Server)?;
    let Some(keys) = config.keys().cloned() else { bail!("the configuration names no folder of keys") };
    let receiver = KeyReceiver::new(keys);
    let config = config.with_key_receiver(receiver.clone());
    runtime()?.block_on(async {
        let listener = QSocketListener::bind_with(config, args.listen)
            .await
            .with_context(|| format!("cannot listen at {} and the 24 ports that follow", args.listen))?;
        let signals = match args.signals {
            Some(at) => Some(listener.endpoint().serve_signals(at).with_context(|| at.to_string())?),
            None => None,
        };
        let at = listener.local_addr()?;
        let ready = if args.json {
            let signals = signals.map(|at| at.to_string());
            format!("{}\n", json!({ "listening": at.to_string(), "signals": signals }))
        } else {
            let signals = signals.map_or_else(String::new, |at| format!(", signals at {at}"));
            format!("takes keys for {} at {at}{signals}\n", listener.endpoint().principal())
        };
        say(ready.as_bytes())?;
        let mut received = receiver.received();
        let mut left = args.count;
        while left != Some(0) {
            tokio::select! {
                changed = received.changed() => {
                    // The receiver lives as long as this function.
                    changed?;
                    let key = received.borrow_and_update().clone();
                    if let Some(key) = key {
                        show(&key, args.json)?;
                        left = left.map(|left| left - 1);
                    }
                }
                // This program serves no streams: whoever opens one is told by its end.
                stream = listener.accept() => drop(stream?),
                _ = tokio::signal::ctrl_c() => break,
            }
        }
        // The last confirmation is on its way, and relays are told that they may erase their shares.
        tokio::time::sleep(LINGER).await;
        listener.endpoint().close().await;
        anyhow::Ok(ExitCode::SUCCESS)
    })
}

fn show(key: &Received, json: bool) -> anyhow::Result<()> {
    let memo = String::from_utf8_lossy(&key.memo);
    let document: Value =
        json!({ "id": format!("{:?}", key.key), "with": key.client.to_string(), "memo": memo });
    // A memo is a stranger's text: its control characters stay out of the terminal.
    let said = if memo.is_empty() { String::new() } else { format!(": {}", memo.escape_debug()) };
    let text = format!("{:?} is shared with {}{said}\n", key.key, key.client);
    // One line for each, also for programs.
    let line = if json { format!("{document}\n") } else { text };
    Ok(say(line.as_bytes())?)
}
