//! What a running program says of itself, and the command that asks for it.

mod ask;
mod show;

pub(crate) use ask::ask;

use super::config::Config;
use super::{run, say};
use anyhow::bail;
use clap::Args;
use raida_relay::Stats;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Flags of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    whom: Whom,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Who is asked; exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The folder of a cluster that runs
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The configuration of a relay that runs
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin port, IP:PORT, as under [admin] listen in the configuration
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
}

impl Whom {
    /// The admin port.
    fn address(&self) -> anyhow::Result<SocketAddr> {
        if let Some(address) = self.admin {
            return Ok(address);
        }
        let files = match (&self.config, &self.dir) {
            (Some(file), _) => vec![file.clone()],
            (None, Some(dir)) => run::cluster_files(dir)?,
            (None, None) => Vec::new(),
        };
        for file in &files {
            if let Some(address) = Config::read(file)?.admin {
                return Ok(address);
            }
        }
        match files.first() {
            Some(file) => bail!(
                "{}: no admin port to ask; write under [admin]: listen = \"127.0.0.1:9907\", and start the relay again",
                file.display()
            ),
            None => bail!("name the relay to ask: DIR, --config or --admin"),
        }
    }
}

/// Asks a running program how it stands, and prints it.
///
/// # Errors
/// When it does not answer.
pub(crate) fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(ask(args.whom.address()?))?;
    let text = if args.json { serde_json::to_string_pretty(&status)? + "\n" } else { show::table(&status) };
    say(&text)?;
    Ok(())
}

/// Says how the program stands. Asked for by every request at the admin port.
pub(crate) trait Source: Send + Sync + 'static {
    /// A snapshot. Does not wait.
    fn status(&self) -> Status;
}

impl<S: Source + ?Sized> Source for std::sync::Arc<S> {
    fn status(&self) -> Status {
        self.as_ref().status()
    }
}

/// A process and its relays, as `/status` has it in JSON.
///
/// # Security
/// Nothing of it is secret, and none of it names a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Of the program.
    pub(crate) version: String,
    pub(crate) process: Process,
    /// In the order of the configuration.
    pub(crate) relays: Vec<RelayStatus>,
}

impl Status {
    /// Whether every relay takes connections and goes on doing so; else why not.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if self.relays.is_empty() {
            return Err("no relay runs".to_owned());
        }
        for RelayStatus { relay, listening, draining, .. } in &self.relays {
            if *draining {
                return Err(format!("relay {relay} is draining"));
            }
            if !listening {
                return Err(format!("relay {relay} does not listen"));
            }
        }
        Ok(())
    }
}

/// What the system says of the process; `None` where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) open_files: Option<u64>,
}

impl Process {
    /// Asks the system.
    pub(crate) fn now() -> Self {
        let statm = std::fs::read_to_string("/proc/self/statm").ok();
        let pages = statm.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
        let resident_bytes = pages.map(|pages| pages * rustix::param::page_size() as u64);
        // The folder is open itself while it is read.
        let open_files = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64 - 1);
        Self { resident_bytes, open_files }
    }
}

/// One relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelayStatus {
    /// 0 to 24.
    pub(crate) relay: u8,
    pub(crate) network: u16,
    pub(crate) listen: SocketAddr,
    pub(crate) operator: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) uptime_seconds: u64,
    pub(crate) listening: bool,
    pub(crate) draining: bool,
    /// In the store, banned ones included.
    pub(crate) principals: u64,
    pub(crate) banned: u64,
    /// Since the start; `None` if there was none.
    pub(crate) last_reload: Option<LastReload>,
    pub(crate) stats: Numbers,
}

/// How the last reading of configuration and store ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastReload {
    pub(crate) unix_seconds: u64,
    /// `None` if it took effect; else why it did not, and what was before stays in force.
    pub(crate) error: Option<String>,
}

/// [`Stats`] in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbers {
    pub(crate) connections: u64,
    pub(crate) hops: Hops,
    pub(crate) routes: u64,
    pub(crate) queued_bytes: u64,
    pub(crate) to_servers: Flow,
    pub(crate) to_clients: Flow,
    pub(crate) dropped_bytes: u64,
    /// By cause.
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) dials: u64,
    pub(crate) dial_failures: u64,
    pub(crate) dial_failures_in_a_row: u64,
}

/// Hops by role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hops {
    pub(crate) clients: u64,
    pub(crate) servers: u64,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flow {
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
}

impl From<raida_relay::Flow> for Flow {
    fn from(raida_relay::Flow { bytes, frames }: raida_relay::Flow) -> Self {
        Self { bytes, frames }
    }
}

impl From<Stats> for Numbers {
    fn from(stats: Stats) -> Self {
        Self {
            connections: stats.connections as u64,
            hops: Hops {
                clients: stats.hops.saturating_sub(stats.server_hops) as u64,
                servers: stats.server_hops as u64,
            },
            routes: stats.routes as u64,
            queued_bytes: stats.queued_bytes as u64,
            to_servers: stats.to_servers.into(),
            to_clients: stats.to_clients.into(),
            dropped_bytes: stats.dropped_bytes,
            refused: stats.refused.iter().map(|(cause, n)| (cause.name().to_owned(), n)).collect(),
            dials: stats.dials,
            dial_failures: stats.dial_failures,
            dial_failures_in_a_row: stats.dial_failures_in_a_row,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
