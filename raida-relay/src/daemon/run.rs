//! `run` and `cluster`: relays from configuration files until a signal ends them.

use super::cli::{ClusterArgs, RunArgs};
use super::config::Config;
use super::state::{Member, Running, Status};
use super::store::{Access, Loaded, Store};
use anyhow::{Context, bail};
use qsocket_proto::ids::PathId;
use raida_relay::{Relay, RelayConfig, Roster};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// Runs one relay.
///
/// # Errors
/// When it cannot start.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    serve(vec![Config::read(&args.config)?])
}

/// Runs the relays of a folder.
///
/// # Errors
/// When one of them cannot start, or they are not the 25 of one network.
pub(crate) fn cluster(args: &ClusterArgs) -> anyhow::Result<ExitCode> {
    let configs = cluster_files(&args.dir)?.into_iter().map(|file| Config::read(&file));
    let mut configs = configs.collect::<Result<Vec<_>, _>>()?;
    one_cluster(&args.dir, &configs)?;
    configs.sort_by_key(|config| config.relay);
    serve(configs)
}

/// The configuration files of a cluster, in the order of their folders.
///
/// # Errors
/// When there are none.
pub(crate) fn cluster_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let relays = dir.join("relays");
    let entries = std::fs::read_dir(&relays).with_context(|| {
        format!("{}: name a folder that holds relays/00/relay.toml to relays/24/relay.toml", dir.display())
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.with_context(|| relays.display().to_string())?.path().join("relay.toml");
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{}: no relay.toml below it; make a cluster with `raida-relay init`", relays.display());
    }
    Ok(files)
}

/// Whether these are the 25 relays of one network, with one admin port at most.
///
/// # Errors
/// What is missing or does not fit.
pub(crate) fn one_cluster(dir: &Path, configs: &[Config]) -> anyhow::Result<()> {
    let dir = dir.display();
    for (i, config) in configs.iter().enumerate() {
        let (first, file) = (&configs[0], config.file.display());
        if config.network != first.network {
            bail!("{file}: network {} where {} has {}", config.network, first.file.display(), first.network);
        }
        if let Some(other) = configs[..i].iter().find(|other| other.relay == config.relay) {
            bail!(
                "{file}: relay {} stands in {} too; each file needs its own",
                config.relay,
                other.file.display()
            );
        }
        if let Some(other) = configs[..i].iter().find(|o| o.store == config.store) {
            bail!("{file}: the store of {}; each relay needs its own", other.file.display());
        }
        let admin = configs[..i].iter().find_map(|other| other.admin);
        if config.admin.is_some() && admin.is_some() && config.admin != admin {
            bail!("{file}: another admin.listen than a relay before it; a cluster has one admin port");
        }
        if config.log != first.log {
            bail!("{file}: [log] differs from {}; one process has one log", first.file.display());
        }
    }
    let missing = PathId::all().filter(|path| configs.iter().all(|config| config.relay != *path));
    let missing: Vec<String> = missing.map(|path| path.to_string()).collect();
    if !missing.is_empty() {
        bail!("{dir}: relays {} are missing; a cluster has all of 0 to 24", missing.join(", "));
    }
    Ok(())
}

fn serve(configs: Vec<Config>) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut members = Vec::new();
        for config in configs {
            members.push(start(config).await?);
        }
        let running = Running::new(members);
        term.recv().await;
        running.set_draining();
        Ok(ExitCode::SUCCESS)
    })
}

async fn start(config: Config) -> anyhow::Result<Member> {
    let file = config.file.display();
    let store = Store::open(&config.store, config.network, config.relay, Access::Read).await;
    let store = store.with_context(|| file.to_string())?;
    let Loaded { revision, roster, banned } = store.load().await.with_context(|| file.to_string())?;
    let Roster { table, servers, .. } = roster;
    let principals = table.len();
    let relay = Relay::spawn(RelayConfig {
        path: config.relay,
        network: config.network,
        table,
        servers,
        listen: config.listen.into(),
        dial_any_address: config.dial_any_address,
        limits: config.limits.limits(),
    });
    let relay = relay.with_context(|| format!("{file}: cannot listen at {}", config.listen))?;
    info!(relay = %config.relay, address = %relay.local_addr(), "ready");
    let status = Status { config: Arc::new(config), principals, banned, revision, last_reload: None };
    Ok(Member::new(relay, store, status))
}
