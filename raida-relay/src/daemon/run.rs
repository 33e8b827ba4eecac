//! `run` and `cluster`: relays from configuration files until a signal ends them.

use super::cli::{ClusterArgs, RunArgs};
use super::config::{Config, LogSettings};
use super::log::Log;
use super::notify::{State, notify};
use super::posts::Kept;
use super::principals::StorePrincipals;
use super::state::{Member, Running, Status};
use super::store::{Access, Loaded, Store};
use super::{admin, log, open_files, posts, status};
use anyhow::{Context, bail};
use qsocket_proto::ids::PathId;
use qsocket_proto::raida_key::RelayTable;
use raida_relay::principals::Principals;
use raida_relay::{Relay, RelayConfig, Roster};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tracing::{info, warn};

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

/// How often a store is asked whether it changed: `principal` commands take effect within about this time.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// Beyond `limits.drain_seconds`, for tasks to end. A process that hangs is ended by its supervisor.
const STOP_WITHIN: Duration = Duration::from_secs(2);

fn serve(configs: Vec<Config>) -> anyhow::Result<ExitCode> {
    let Some(LogSettings { level, format }) = configs.first().map(|config| &config.log) else {
        bail!("no relay to run");
    };
    let log = log::init(level, *format)?;
    open_files::raise_open_files(files_needed(&configs));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        // Before anything is started, so that no signal is missed.
        let mut hup = signal(SignalKind::hangup())?;
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut members = Vec::new();
        for config in configs {
            members.push(start(config).await?);
        }
        let running = Running::new(members);
        // Held until the end: the port is served while the relays drain, and closed with the rest.
        let mut admin = JoinSet::new();
        if let Some(address) = running.admin() {
            let listener = admin::bind(address).await?;
            info!(address = %listener.local_addr()?, "admin port");
            let source: Arc<dyn status::Source> = running.clone();
            admin.spawn(admin::serve(listener, source));
        }
        for member in &running.relays {
            info!(relay = %member.relay.path(), address = %member.relay.local_addr(), "ready");
        }
        notify(State::Ready);
        let mut watch = tokio::time::interval(STORE_EVERY);
        watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = hup.recv() => {
                    notify(State::Reloading);
                    reload(&running, &log).await;
                    notify(State::Ready);
                }
                _ = watch.tick() => follow_stores(&running).await,
            }
        }
        running.set_draining();
        notify(State::Stopping);
        info!("ending; a second signal ends at once");
        tokio::select! {
            () = drain(&running) => {
                let seconds = running.started.elapsed().as_secs();
                let stats = running.stats();
                info!(seconds, to_servers = stats.to_servers.bytes, to_clients = stats.to_clients.bytes, "ended");
            }
            _ = term.recv() => warn!("ended at once by a second signal"),
            _ = int.recv() => warn!("ended at once by a second signal"),
        }
        anyhow::Ok(())
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    done.map(|()| ExitCode::SUCCESS)
}

/// One file a connection, one a server that is dialled, and those of the stores, the log and the runtime.
fn files_needed(configs: &[Config]) -> u64 {
    const OTHERS: u64 = 64;
    configs.iter().map(|config| config.limits.connections as u64 + OTHERS).sum()
}

async fn start(config: Config) -> anyhow::Result<Member> {
    let file = config.file.display();
    let store = Store::open(&config.store, config.network, config.relay, Access::Read).await;
    let store = store.with_context(|| file.to_string())?;
    let Loaded { revision, roster, banned } = store.load().await.with_context(|| file.to_string())?;
    roster.check(config.network, config.dial_any_address).with_context(|| file.to_string())?;
    let principals = roster.table.len();
    let changes = if config.registration { changes(&config).await } else { None };
    let Kept { posts, names } =
        posts::open(&config.posts, config.relay).await.with_context(|| file.to_string())?;
    // It starts as a relay that knows nobody, and is told at once.
    let relay = Relay::spawn(RelayConfig {
        path: config.relay,
        network: config.network,
        table: RelayTable::new(),
        servers: Vec::new(),
        listen: config.listen.into(),
        dial_any_address: config.dial_any_address,
        limits: config.limits.limits(),
        posts: Arc::new(posts),
        names: raida_relay::names::Registry::new(Arc::new(names), config.names.clone()),
        principals: changes.clone().map(|changes| changes as Arc<dyn Principals>),
    });
    let relay = relay.with_context(|| format!("{file}: cannot listen at {}", config.listen))?;
    relay.replace(permitted(roster, &config)).with_context(|| file.to_string())?;
    let status = Status { config: Arc::new(config), principals, banned, revision, last_reload: None };
    Ok(Member::new(relay, store, changes, status))
}

/// The store for what principals change over their hops. A relay that may not write to it goes on without.
async fn changes(config: &Config) -> Option<Arc<StorePrincipals>> {
    match Store::open(&config.store, config.network, config.relay, Access::Write).await {
        Ok(store) => Some(Arc::new(StorePrincipals::new(store))),
        Err(e) => {
            let error = format!("{e:#}");
            warn!(relay = %config.relay, %error, "servers cannot register addresses over their hops");
            None
        }
    }
}

/// What of the store counts by the relay's settings.
fn permitted(roster: Roster, config: &Config) -> Roster {
    if config.registration {
        roster
    } else {
        Roster { claims: Vec::new(), next: RelayTable::new(), awaited: BTreeSet::new(), ..roster }
    }
}

/// Reads all configurations again. If one of them is bad, none is taken.
async fn reload(running: &Running, log: &Log) {
    let mut fresh = Vec::new();
    for member in &running.relays {
        let old = member.status().config;
        let read = Config::read(&old.file).map_err(anyhow::Error::from).and_then(|new| {
            match old.needs_restart(&new) {
                Some(name) => bail!("{}: a change of {name} needs a restart", old.file.display()),
                None => Ok(Arc::new(new)),
            }
        });
        match read {
            Ok(config) => fresh.push(config),
            Err(e) => {
                let error = format!("{e:#}");
                warn!(relay = %member.relay.path(), %error, "configuration not reloaded; the old one stays");
                member.note(Some(error));
                return;
            }
        }
    }
    if let Some(config) = fresh.first()
        && let Err(e) = log.set_level(&config.log.level)
    {
        warn!(error = %format!("{e:#}"), "the level of the log stays");
    }
    for (member, config) in running.relays.iter().zip(fresh) {
        member.update(|status| status.config = config);
        load(member).await;
    }
}

async fn follow_stores(running: &Running) {
    for member in &running.relays {
        match member.store.revision().await {
            Ok(revision) if revision == member.status().revision => {}
            Ok(_) => load(member).await,
            Err(e) => member.trouble(&e.to_string()),
        }
    }
}

/// Takes over what stands in the store. If that is not possible the relay goes on with what it knows.
async fn load(member: &Member) {
    let loaded = async {
        // What was read is taken before anything newer, so that nothing newer is taken back.
        let _turn = member.turn().await;
        let Loaded { revision, roster, banned } = member.store.load().await?;
        let principals = roster.table.len();
        member.relay.replace(permitted(roster, &member.status().config))?;
        member.update(|status| {
            status.revision = revision;
            status.principals = principals;
            status.banned = banned;
        });
        anyhow::Ok((revision, principals, banned))
    };
    match loaded.await {
        Ok((revision, principals, banned)) => {
            info!(relay = %member.relay.path(), revision, principals, banned, "reloaded");
            member.note(None);
        }
        Err(e) => member.trouble(&format!("{e:#}")),
    }
}

async fn drain(running: &Arc<Running>) {
    let mut tasks = JoinSet::new();
    let mut longest = Duration::ZERO;
    for i in 0..running.relays.len() {
        let running = Arc::clone(running);
        let within = running.relays[i].status().config.limits.drain;
        longest = longest.max(within);
        tasks.spawn(async move { running.relays[i].relay.drain(within).await });
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(longest + STOP_WITHIN, all).await.is_err() {
        warn!("some tasks did not end in time");
    }
}
