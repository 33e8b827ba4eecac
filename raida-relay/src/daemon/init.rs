//! `init`: a whole RAIDA in one folder. `docs/enrolment.md`.

mod hosts;
mod plan;

use super::enrol;
use super::store::{Address, NewPrincipal, Store};
use anyhow::{Context, bail};
use clap::Args;
use plan::Plan;
use qsocket_files::keys::{AuthenticityNumber, save_raida_key};
use qsocket_files::provision::Provision;
use qsocket_files::rng::OsRng;
use qsocket_files::text::quoted;
use qsocket_proto::ids::PathId;
use qsocket_proto::raida_key::RaidaKey;
use qsocket_proto::relay::{Quota, Registration};
use rand_core::Rng as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The folder of Encryption keys beside a principal's configuration.
const KEYS: &str = "keys";

/// Most clients, and most servers, of one call: every relay's store takes a row for each.
const MAX_PRINCIPALS: i64 = 1_000;

/// Flags of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The folder to make; must be absent or empty
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Relay 0 of a RAIDA on this machine; relays 1 to 24 at the 24 ports that follow
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:50000")]
    base: SocketAddr,
    /// A RAIDA on 25 hosts: a file with `network` and 25 [[relay]] tables
    #[arg(long, value_name = "FILE", conflicts_with_all = ["base", "network"])]
    hosts: Option<PathBuf>,
    /// The network's number, 0 to 65535
    #[arg(long, value_name = "N", default_value_t = 1)]
    network: u16,
    /// How many clients, serial numbers from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=MAX_PRINCIPALS))]
    clients: u16,
    /// How many servers, serial numbers behind those of the clients
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=MAX_PRINCIPALS))]
    servers: u16,
    /// Where the first server listens; each further one 100 ports above. 127.0.0.1:7000 unless --hosts is given
    ///
    /// Relay i dials this port plus i.
    #[arg(long, value_name = "IP:PORT")]
    server_address: Option<SocketAddr>,
    /// Writes enrolment requests instead of keys, so that no place but each principal knows all its numbers
    #[arg(long, visible_alias = "enrol")]
    enroll: bool,
}

/// Makes the folder and prints what to do next.
///
/// # Errors
/// When the folder holds something, an address does not serve, one operator runs too many relays, or a file cannot be
/// written. Then nothing is left.
pub(crate) fn init(args: &InitArgs) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(args)?;
    for warning in &plan.warnings {
        eprintln!("raida-relay: {warning}");
    }
    refuse_full(&args.dir)?;
    let temp = Temp::beside(&args.dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(write(&plan, &temp.0))?;
    temp.place(&args.dir)?;
    super::say(&plan.report(&args.dir))?;
    Ok(ExitCode::SUCCESS)
}

fn refuse_full(dir: &Path) -> anyhow::Result<()> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => {
            bail!("{} has files already, and keys are never overwritten; name a new folder", dir.display())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(|| dir.display().to_string()),
    }
}

/// A folder that is removed with all it holds unless it is put in its place.
#[derive(Debug)]
struct Temp(PathBuf);

impl Temp {
    fn beside(dir: &Path) -> anyhow::Result<Self> {
        let name = dir.file_name().with_context(|| format!("{}: name a folder", dir.display()))?;
        let name = format!(".{}.tmp-{:016x}", name.to_string_lossy(), OsRng.next_u64());
        let path = dir.with_file_name(name);
        DirBuilder::new().mode(0o700).create(&path).with_context(|| {
            format!("{}: cannot make a folder here", path.parent().unwrap_or(&path).display())
        })?;
        Ok(Self(path))
    }

    /// Renames it, which fails if something is there meanwhile.
    fn place(self, dir: &Path) -> anyhow::Result<()> {
        fs::rename(&self.0, dir).with_context(|| dir.display().to_string())?;
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(parent).and_then(|f| f.sync_all()).with_context(|| parent.display().to_string())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // After a rename there is nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn write(plan: &Plan, dir: &Path) -> anyhow::Result<()> {
    let keys = if plan.enrol {
        None
    } else {
        Some(Provision::generate(plan.network, plan.clients.len() as u16, plan.servers.len() as u16)?)
    };
    folder(&dir.join("relays"))?;
    for relay in PathId::all() {
        let relay_dir = dir.join("relays").join(format!("{:02}", relay.get()));
        folder(&relay_dir)?;
        file(&relay_dir.join("relay.toml"), &plan.relay_config(relay))?;
        let store = Store::create(&relay_dir.join("principals.db"), plan.network, relay).await?;
        for key in keys.iter().flat_map(Provision::keys) {
            store.add(&entry(plan, key, relay)?).await?;
        }
        store.close().await;
    }
    for member in plan.members() {
        let member_dir = dir.join(&member.folder);
        folder(&member_dir)?;
        folder(&member_dir.join(KEYS))?;
        file(&member_dir.join("config.toml"), &plan.config(member))?;
        match &keys {
            Some(keys) => {
                let key = keys.keys().find(|k| k.principal() == member.principal);
                let key = key.context("a principal without a key")?;
                save_raida_key(member_dir.join(member.key_file()), key)?;
            }
            None => {
                let all: Vec<_> = PathId::all().collect();
                enrol::write_requests(&member_dir, member.principal, member.role, &all)?;
            }
        }
    }
    Ok(())
}

/// What one relay's store says of a principal.
fn entry(plan: &Plan, key: &RaidaKey, relay: PathId) -> anyhow::Result<NewPrincipal> {
    let service = plan.servers.iter().find(|m| m.principal == key.principal()).and_then(|m| m.address);
    let addresses = match service {
        Some(service) => {
            let dial = Registration::at_base(service, relay).context("the server's ports end")?.dial;
            vec![Address { service, dial }]
        }
        None => Vec::new(),
    };
    Ok(NewPrincipal {
        principal: key.principal(),
        role: key.role(),
        number: AuthenticityNumber::new(key.number(relay).expose())?,
        quota: Quota::default(),
        addresses,
    })
}

fn folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new().mode(0o700).create(path).with_context(|| path.display().to_string())
}

fn file(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()));
    written.with_context(|| path.display().to_string())
}

/// A folder as a word of a command.
fn shown(dir: &Path, below: &str) -> String {
    quoted(&dir.join(below))
}
