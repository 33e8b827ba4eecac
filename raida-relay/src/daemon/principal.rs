//! `principal`: who is in the store.

use super::cli::{AddArgs, AddressArg, DialArg, PrincipalArgs, PrincipalCommand, StoreArgs, WhoArgs};
use super::config::Config;
use super::store::{Access, Address, Ban, Entry, FileError, NewPrincipal, Store, StoreError};
use anyhow::{Context, bail};
use qsocket_files::keys;
use qsocket_proto::ids::{PathId, Role};
use qsocket_proto::relay::{Quota, Registration, is_public_unicast};
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

/// Does what the command line says.
///
/// # Errors
/// When the configuration, the store or a key file is not usable, or the principal is not there.
pub(crate) fn principal(args: &PrincipalArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(run(args))?;
    super::say(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn run(args: &PrincipalArgs) -> anyhow::Result<String> {
    match &args.command {
        PrincipalCommand::Add(args) => add(args).await,
        PrincipalCommand::List(args) => {
            let store = open(&args.store, Access::Read).await?;
            let entries = store.list().await?;
            store.close().await;
            if args.json { json(&entries) } else { Ok(table(&entries)) }
        }
        PrincipalCommand::Ban(args) => {
            let store = open(&args.who.store, Access::Write).await?;
            let WhoArgs { principal, role, .. } = args.who;
            let changed = store.ban(principal, role.map(Into::into), &args.reason, SystemTime::now()).await?;
            told(store, &args.who, changed, "banned").await
        }
        PrincipalCommand::Unban(who) => {
            let store = open(&who.store, Access::Write).await?;
            let changed = store.unban(who.principal, who.role.map(Into::into)).await?;
            told(store, who, changed, "admitted").await
        }
        PrincipalCommand::Unregister(args) => {
            let store = open(&args.store, Access::Write).await?;
            let forgotten = store.unregister(args.principal, args.address).await?;
            store.close().await;
            if forgotten == 0 {
                bail!(
                    "{} has registered no such address itself; `principal list` shows what it has",
                    args.principal
                );
            }
            Ok(format!("{} has {forgotten} addresses less\n", args.principal))
        }
        PrincipalCommand::Remove(who) => {
            let store = open(&who.store, Access::Write).await?;
            let changed = store.remove(who.principal, who.role.map(Into::into)).await?;
            told(store, who, changed, "removed").await
        }
    }
}

/// The store that a configuration names.
///
/// # Errors
/// As [`Store::open`].
pub(crate) async fn open(args: &StoreArgs, access: Access) -> anyhow::Result<Store> {
    let config = Config::read(&args.config)?;
    Ok(Store::open(&config.store, config.network, config.relay, access).await?)
}

async fn told(store: Store, who: &WhoArgs, changed: u64, what: &str) -> anyhow::Result<String> {
    store.close().await;
    if changed == 0 {
        let role = who.role.map(|role| format!(" as {}", name(role.into()))).unwrap_or_default();
        bail!("the relay does not know {}{role}; `principal list` shows whom it knows", who.principal);
    }
    Ok(format!("{what} {}\n", who.principal))
}

async fn add(args: &AddArgs) -> anyhow::Result<String> {
    let config = Config::read(&args.store.config)?;
    let new = new_principal(args, &config)?;
    let store = match Store::open(&config.store, config.network, config.relay, Access::Write).await {
        Err(StoreError::File(FileError::Missing { path })) => {
            eprintln!("raida-relay: making the store {}", path.display());
            Store::create(&config.store, config.network, config.relay).await?
        }
        opened => opened?,
    };
    store.add(&new).await?;
    store.close().await;
    Ok(format!("added {} as {}\n", new.principal, name(new.role)))
}

fn new_principal(args: &AddArgs, config: &Config) -> anyhow::Result<NewPrincipal> {
    let (principal, role, number) = match (&args.key_file, &args.number_file, args.principal, args.role) {
        (Some(file), ..) => {
            let key = keys::load_raida_key(file)?;
            (key.principal(), key.role(), key.into_number(config.relay))
        }
        (None, Some(file), Some(principal), Some(role)) => (principal, role.into(), keys::load_number(file)?),
        _ => bail!("name --key-file, or --number-file with --principal and --role"),
    };
    let addresses = args.addresses.iter().map(|address| self::address(*address, config));
    Ok(NewPrincipal {
        principal,
        role,
        number,
        quota: Quota {
            routes: args.connections as usize,
            bytes_per_second: (args.bytes_per_second > 0).then_some(args.bytes_per_second),
        },
        addresses: addresses.collect::<anyhow::Result<_>>()?,
    })
}

/// An address as this relay registers it. The relay would refuse one that it does not dial when it loads the store;
/// better now.
pub(crate) fn address(arg: AddressArg, config: &Config) -> anyhow::Result<Address> {
    let AddressArg { service, dial } = arg;
    let dial = match dial {
        DialArg::Nowhere => None,
        DialArg::At(dial) => Some(dial),
        DialArg::AtBase => {
            let registration = Registration::at_base(service, config.relay);
            registration.with_context(|| ports_end(service.port(), config.relay))?.dial
        }
    };
    if let Some(dial) = dial
        && !config.dial_any_address
        && !is_public_unicast(dial.ip())
    {
        bail!("{dial} is not a public address; set dial_any_address = true if this network is closed");
    }
    Ok(Address { service, dial })
}

fn ports_end(port: u16, relay: PathId) -> String {
    format!("port {port} plus the relay's number {relay} is above 65535; write SERVICE=DIAL")
}

/// A role as people write it.
pub(crate) fn name(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Server => "server",
    }
}

fn table(entries: &[Entry]) -> String {
    let mut out = String::new();
    for Entry { principal, role, bits, banned, quota, addresses, registered } in entries {
        let rate = quota.bytes_per_second.map_or_else(|| "no limit".to_owned(), |n| format!("{n} B/s"));
        // Writing to a String does not fail.
        let _ = write!(out, "{principal}  {}  {bits} bit  {} routes  {rate}", name(*role), quota.routes);
        for Address { service, dial } in addresses {
            let _ = match dial {
                Some(dial) => write!(out, "  {service}={dial}"),
                None => write!(out, "  {service}=none"),
            };
        }
        for Address { service, dial } in registered {
            let _ = match dial {
                Some(dial) => write!(out, "  {service}={dial} (registered itself)"),
                None => write!(out, "  {service}=none (registered itself)"),
            };
        }
        if let Some(Ban { reason, since }) = banned {
            let _ = write!(out, "  banned since {since}");
            if !reason.is_empty() {
                let _ = write!(out, ": {reason}");
            }
        }
        out.push('\n');
    }
    out
}

/// An entry for programs. `docs/relay.md` describes it.
#[derive(Serialize)]
struct Row<'a> {
    principal: String,
    role: &'static str,
    bits: u16,
    banned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    connections: usize,
    bytes_per_second: u64,
    addresses: Vec<AddressRow>,
    registered: Vec<AddressRow>,
}

#[derive(Serialize)]
struct AddressRow {
    service: String,
    dial: Option<String>,
}

impl From<&Address> for AddressRow {
    fn from(address: &Address) -> Self {
        let Address { service, dial } = address;
        Self { service: service.to_string(), dial: dial.map(|d| d.to_string()) }
    }
}

fn json(entries: &[Entry]) -> anyhow::Result<String> {
    let rows = entries.iter().map(|entry| Row {
        principal: entry.principal.to_string(),
        role: name(entry.role),
        bits: entry.bits,
        banned: entry.banned.is_some(),
        reason: entry.banned.as_ref().map(|ban| &*ban.reason),
        since: entry.banned.as_ref().map(|ban| ban.since),
        connections: entry.quota.routes,
        bytes_per_second: entry.quota.bytes_per_second.unwrap_or(0),
        addresses: entry.addresses.iter().map(AddressRow::from).collect(),
        registered: entry.registered.iter().map(AddressRow::from).collect(),
    });
    Ok(serde_json::to_string_pretty(&rows.collect::<Vec<_>>())? + "\n")
}
