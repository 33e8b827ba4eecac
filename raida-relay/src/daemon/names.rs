//! `names` and `payments`: what an operator sees of the names that a relay keeps, and decides.

use super::cli::{
    DecideArgs, ListArgs, ListPaymentsArgs, NamesArgs, NamesCommand, PaymentsArgs, PaymentsCommand,
    ShowNameArgs, StoreArgs, WithdrawNameArgs,
};
use super::config::Config;
use super::posts::{self, Kept};
use anyhow::bail;
use qsocket_files::moment;
use qsocket_proto::call::Status;
use qsocket_proto::names::{PaymentState, Reference, Standing, State};
use raida_relay::names::{Entry, LedgerEntry, Registry, Rows};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Does what the command line says.
///
/// # Errors
/// When the configuration or the store is not usable, or nobody holds the name.
pub(crate) fn names(args: &NamesArgs) -> anyhow::Result<ExitCode> {
    say(names_text(&args.command))
}

/// Does what the command line says.
///
/// # Errors
/// When the configuration or the store is not usable, or a payment is not there or decided otherwise.
pub(crate) fn payments(args: &PaymentsArgs) -> anyhow::Result<ExitCode> {
    say(payments_text(&args.command))
}

async fn names_text(command: &NamesCommand) -> anyhow::Result<String> {
    match command {
        NamesCommand::List(ListArgs { store, json }) => {
            let entries = open(store).await?.list().await?;
            if *json {
                as_json(&entries.iter().map(NameRow::new).collect::<Vec<_>>())
            } else {
                Ok(lines(&entries))
            }
        }
        NamesCommand::Show(args) => show(args).await,
        NamesCommand::Withdraw(WithdrawNameArgs { store, name }) => {
            match open(store).await?.withdraw(None, name).await? {
                Ok(_) => Ok(format!("withdrew {name}\n")),
                Err(_) => {
                    bail!("nobody holds {name} at this relay; `names list` shows the names that it keeps")
                }
            }
        }
    }
}

async fn payments_text(command: &PaymentsCommand) -> anyhow::Result<String> {
    match command {
        PaymentsCommand::List(ListPaymentsArgs { list: ListArgs { store, json }, all }) => {
            let rows = if *all { Rows::All } else { Rows::In(PaymentState::Asked) };
            let ledger = open(store).await?.ledger(rows).await?;
            if *json {
                as_json(&ledger.iter().map(PaymentRow::new).collect::<Vec<_>>())
            } else {
                Ok(ledger.iter().map(line).collect())
            }
        }
        PaymentsCommand::Confirm(args) => decide(args, true).await,
        PaymentsCommand::Refuse(args) => decide(args, false).await,
    }
}

fn say(run: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(run)?;
    super::say(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn open(args: &StoreArgs) -> anyhow::Result<Registry> {
    let config = Config::read(&args.config)?;
    let Kept { names, .. } = posts::open(&config.posts, config.relay).await?;
    Ok(Registry::new(Arc::new(names), config.names))
}

async fn show(args: &ShowNameArgs) -> anyhow::Result<String> {
    let ShowNameArgs { list: ListArgs { store, json }, name } = args;
    let Some(entry) = open(store).await?.find(name).await? else {
        bail!("nobody holds {name} at this relay; `names list` shows the names that it keeps");
    };
    let row = NameRow::new(&entry);
    if *json {
        return as_json(&row);
    }
    let mut out = lines(std::slice::from_ref(&entry));
    // Writing to a String does not fail.
    let _ = writeln!(out, "  version {}, time to live {} s", row.version, row.ttl);
    let said = [("server", &row.server), ("service", &row.service)];
    for (what, value) in
        said.into_iter().filter_map(|(what, value)| value.as_ref().map(|value| (what, value)))
    {
        let _ = writeln!(out, "  {what} {value}");
    }
    if let Some(port) = row.signalling {
        let _ = writeln!(out, "  signalling port {port}");
    }
    for (relay, endpoint) in &row.endpoints {
        let _ = writeln!(out, "  relay {relay} at {endpoint}");
    }
    Ok(out)
}

/// Each payment on its own: what was done before a failure stays done, and doing it again changes nothing.
async fn decide(args: &DecideArgs, arrived: bool) -> anyhow::Result<String> {
    let registry = open(&args.store).await?;
    let by = args.by.clone().unwrap_or_else(user);
    let (mut out, mut failed) = (String::new(), Vec::new());
    for reference in &args.references {
        let Some(row) = registry.payment(*reference).await? else {
            failed.push(unknown(reference));
            continue;
        };
        let done = if arrived {
            registry.confirm(*reference, &by).await?
        } else {
            registry.refuse(*reference, &by).await?
        };
        match done {
            Ok(standing) => out.push_str(&decided(&row, standing, arrived)),
            Err(Status::Taken) => {
                let was = if arrived { "refused, or its name is gone" } else { "confirmed" };
                failed.push(format!("{reference} was {was} already; `payments list --all` shows it"));
            }
            Err(_) => failed.push(unknown(reference)),
        }
    }
    if failed.is_empty() {
        return Ok(out);
    }
    super::say(&out)?;
    bail!("{}", failed.join("\nraida-relay: "))
}

fn unknown(reference: &Reference) -> String {
    format!("no payment {reference} waits at this relay; `payments list` shows those that do")
}

fn decided(row: &LedgerEntry, standing: Standing, arrived: bool) -> String {
    let LedgerEntry { payment, name, .. } = row;
    let did = if arrived { "confirmed" } else { "refused" };
    let until = if standing.until == 0 { String::new() } else { format!(" until {}", date(standing.until)) };
    format!("{did} {} {} for {name}: {}{until}\n", payment.amount, payment.currency, standing.state)
}

/// Who runs the command.
fn user() -> String {
    // Behind sudo it is who called it.
    let named = ["SUDO_USER", "USER"].into_iter().filter_map(|variable| std::env::var(variable).ok());
    let mut named = named.filter(|name| !name.is_empty() && !name.chars().any(char::is_control));
    let name = named.next().unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    name.chars().take(64).collect()
}

/// Seconds since 1970 as people read them.
fn date(seconds: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    at.and_then(moment::show).unwrap_or_else(|| seconds.to_string())
}

fn lines(entries: &[Entry]) -> String {
    let mut out = String::new();
    for Entry { held, state, free_at } in entries {
        let record = &held.record;
        let when = match state {
            State::Active => format!(" until {}", date(held.until())),
            State::Lapsed => format!(" since {}, free from {}", date(held.until()), date(*free_at)),
            _ => format!(", free from {}", date(*free_at)),
        };
        let unicode = record.name.unicode();
        let shown = if unicode == record.name.to_string() { String::new() } else { format!(" ({unicode})") };
        // Writing to a String does not fail.
        let _ = writeln!(out, "{}{shown}  {}  {}  {state}{when}", record.name, record.number, record.owner);
    }
    out
}

fn line(row: &LedgerEntry) -> String {
    let LedgerEntry { payment, name, payer, asked, decided } = row;
    let years = if payment.years == 1 { "1 year".to_owned() } else { format!("{} years", payment.years) };
    let mut out = format!(
        "{}  {name}  {payer}  {} of {years}  {} {}  asked {}",
        payment.reference,
        payment.kind,
        payment.amount,
        payment.currency,
        date(*asked)
    );
    if let Some(decided) = decided {
        // Writing to a String does not fail.
        let _ = match &*decided.by {
            "" => write!(out, "  void {}: nobody holds the name", date(decided.at)),
            by => write!(out, "  {} {} by {by}", payment.state, date(decided.at)),
        };
    }
    out.push('\n');
    out
}

fn as_json(rows: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(rows)? + "\n")
}

/// A name for programs. `docs/relay.md` describes it.
#[derive(Serialize)]
struct NameRow {
    name: String,
    unicode: String,
    number: u32,
    owner: String,
    state: String,
    /// Seconds since 1970, as all times here; 0 while it is pending.
    until: u64,
    free_at: u64,
    begin: u64,
    registered: u64,
    version: u32,
    ttl: u32,
    server: Option<String>,
    service: Option<String>,
    signalling: Option<u16>,
    endpoints: BTreeMap<u8, String>,
}

impl NameRow {
    fn new(entry: &Entry) -> Self {
        let Entry { held, state, free_at } = entry;
        let record = &held.record;
        Self {
            name: record.name.to_string(),
            unicode: record.name.unicode(),
            number: record.number.get(),
            owner: record.owner.to_string(),
            state: state.to_string(),
            until: held.until(),
            free_at: *free_at,
            begin: record.begin,
            registered: held.asked,
            version: record.version.get(),
            ttl: record.ttl,
            server: record.server.map(|server| server.to_string()),
            service: record.service.map(|service| service.to_string()),
            signalling: record.signalling.map(Into::into),
            endpoints: record.endpoints.iter().map(|(path, at)| (path.get(), at.to_string())).collect(),
        }
    }
}

/// A row of the ledger for programs. `docs/relay.md` describes it.
#[derive(Serialize)]
struct PaymentRow {
    reference: String,
    name: String,
    payer: String,
    kind: String,
    years: u8,
    amount: u64,
    currency: String,
    asked: u64,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<u64>,
    /// Empty if the name was given back or not paid in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<String>,
}

impl PaymentRow {
    fn new(row: &LedgerEntry) -> Self {
        let LedgerEntry { payment, name, payer, asked, decided } = row;
        Self {
            reference: payment.reference.to_string(),
            name: name.to_string(),
            payer: payer.to_string(),
            kind: payment.kind.to_string(),
            years: payment.years,
            amount: payment.amount,
            currency: payment.currency.to_string(),
            asked: *asked,
            state: payment.state.to_string(),
            decided: decided.as_ref().map(|decided| decided.at),
            decided_by: decided.as_ref().map(|decided| decided.by.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
