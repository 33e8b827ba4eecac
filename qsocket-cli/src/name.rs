//! `qsocket name`: what owners do with their names at the 25 relays.

mod show;

use crate::cli::names::{
    NameArgs, NameCommand, RecordArgs, RegisterArgs, RenewArgs, SetArgs, TransferArgs, WithdrawArgs,
};
use crate::exchange::{load, runtime};
use crate::output::tell;
use anyhow::bail;
use qsocket::names::{
    Description, Name, NoReply, Payment, PaymentKind, PutName, Record, Reference, RenewName, Replies,
    Standing, State,
};
use qsocket::rng::OsRng;
use qsocket::{Endpoint, PathId, Principal, Role};
use rand_core::Rng;
use serde_json::{Value, json};
use show::{count, group, relays};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Relays of which one at least is honest while nine lie.
const TEN: usize = 10;

/// Relays that must say the same for others to believe it.
const SIXTEEN: usize = 16;

/// For how many seconds answers about a new name are remembered: a change is seen within minutes.
const TTL: u32 = 300;

/// How far a version may lie above the one that counts and still be taken for an honest one: changes that few relays heard.
const VERSIONS_AHEAD: u32 = 1000;

/// Does what the command line says.
///
/// # Errors
/// What stands in the way, and what to do.
pub(crate) fn name(args: &NameArgs) -> anyhow::Result<ExitCode> {
    let config = load(args.config.as_deref(), Role::Client)?;
    runtime()?.block_on(async {
        let client = Endpoint::client(config)?;
        let this = Session { client: &client, json: args.json };
        let done = match &args.command {
            NameCommand::Register(args) => this.register(args).await,
            NameCommand::Renew(args) => this.renew(args).await,
            NameCommand::Set(args) => this.set(args).await,
            NameCommand::Show(args) => this.show(&args.name).await,
            NameCommand::Transfer(args) => this.transfer(args).await,
            NameCommand::Withdraw(args) => this.withdraw(args).await,
        };
        client.close().await;
        done
    })
}

/// What commands work with.
struct Session<'a> {
    client: &'a Endpoint,
    json: bool,
}

impl Session<'_> {
    async fn register(&self, args: &RegisterArgs) -> anyhow::Result<ExitCode> {
        let name = &args.which.name;
        let described = self.client.describe_name(name).await;
        if let Some(record) = self.own(&described) {
            bail!(
                "{name} is yours already, version {}; `qsocket name set {name}` repeats it to relays that missed it",
                record.version
            );
        }
        let free = described.done().filter(|(_, there)| there.state == State::Free).count();
        if free < SIXTEEN {
            bail!("{name} is free at {free} relays, 16 are needed:\n{}", show::states(&described));
        }
        let mut put = PutName {
            record: Record {
                name: name.clone(),
                number: number(),
                owner: self.client.principal(),
                version: NonZeroU32::MIN,
                begin: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
                ttl: TTL,
                server: None,
                service: None,
                signalling: None,
                endpoints: BTreeMap::new(),
            },
            years: args.years,
            reference: reference(),
        };
        apply(&mut put.record, &args.record)?;
        let told = self.client.put_name(&put).await;
        if told.done().count() < SIXTEEN {
            let withdrawn = self.client.withdraw_name(name).await;
            let back = withdrawn.done().count();
            let text = || {
                let mut out = format!(
                    "{name} is not registered: {} take it, 16 are needed\n",
                    count(told.done().count(), "relay", "relays")
                );
                out += &failures(&told);
                out += &format!("It was given back at {}\n", count(back, "relay", "relays"));
                out
            };
            let document = || {
                json!({
                    "name": name.to_string(),
                    "registered": false,
                    "given_back": relay_numbers(withdrawn.done().map(|(relay, ())| relay)),
                    "relays": standings(&told),
                })
            };
            tell(self.json, document, text)?;
            return Ok(ExitCode::FAILURE);
        }
        let document = || {
            json!({
                "name": name.to_string(),
                "registered": true,
                "number": put.record.number,
                "reference": put.reference.to_string(),
                "years": put.years,
                "relays": standings(&told),
            })
        };
        let text = || {
            let mut out = format!(
                "{name} is registered at {}, number {}\npayment reference: {}\n",
                count(told.done().count(), "relay", "relays"),
                put.record.number,
                put.reference
            );
            out += &dues(&told);
            out += &failures(&told);
            out += "It resolves when the operators of sixteen relays have confirmed the payment\n";
            out
        };
        tell(self.json, document, text)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn renew(&self, args: &RenewArgs) -> anyhow::Result<ExitCode> {
        let name = &args.which.name;
        let reference = args.reference.unwrap_or_else(reference);
        let renew = RenewName { name: name.clone(), years: args.years, reference };
        let told = self.client.renew_name(&renew).await;
        let again = format!("qsocket name renew {name} --years {} --reference {reference}", args.years);
        self.told(name, Some(reference), &told, "The renewal is asked for", &again)
    }

    async fn set(&self, args: &SetArgs) -> anyhow::Result<ExitCode> {
        let name = &args.which.name;
        let described = self.client.describe_name(name).await;
        let mut put = self.base(name, &described)?;
        let before = put.record.clone();
        apply(&mut put.record, &args.record)?;
        // What holds is said again as it is; what changes has a number of its own.
        if put.record != before {
            put.record.version = next_version(&described, before.version)?;
        }
        let told = self.client.put_name(&put).await;
        let again = format!("qsocket name set {name}");
        self.told(name, None, &told, &format!("Version {} is known", put.record.version), &again)
    }

    async fn transfer(&self, args: &TransferArgs) -> anyhow::Result<ExitCode> {
        let name = &args.which.name;
        let described = self.client.describe_name(name).await;
        if args.to == self.client.principal() {
            bail!("{} is this principal itself", args.to);
        }
        let again = format!("qsocket name transfer {name} {} --yes", args.to);
        let what = format!("{name} is the name of {}", args.to);
        // Relays that missed it take it from the owner before alone.
        if let Some(record) = credible(&described, args.to) {
            let put = PutName { record, years: 1, reference: reference() };
            return self.told(name, None, &self.client.put_name(&put).await, &what, &again);
        }
        let mut put = self.base(name, &described)?;
        put.record.version = next_version(&described, put.record.version)?;
        put.record.owner = args.to;
        // A server of another network than the owner's is none that a record can name.
        put.record.server = put.record.server.filter(|server| server.network == args.to.network);
        self.told(name, None, &self.client.put_name(&put).await, &what, &again)
    }

    async fn withdraw(&self, args: &WithdrawArgs) -> anyhow::Result<ExitCode> {
        let name = &args.which.name;
        let told = self.client.withdraw_name(name).await;
        let done = told.done().count();
        let document = || {
            json!({
                "name": name.to_string(),
                "done": relay_numbers(told.done().map(|(relay, ())| relay)),
                "failed": failed_document(&told),
            })
        };
        let text =
            || format!("{name} is given back at {}\n{}", count(done, "relay", "relays"), failures(&told));
        tell(self.json, document, text)?;
        // Where it is not held there is nothing to give back.
        let nothing = |why: &NoReply| matches!(why, NoReply::Refused(qsocket::exchange::Status::NotFound));
        let left = told.failed().filter(|(_, why)| !nothing(why)).count();
        Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn show(&self, name: &Name) -> anyhow::Result<ExitCode> {
        let described = self.client.describe_name(name).await;
        let answered = described.done().count();
        tell(self.json, || show::document(name, &described), || show::text(name, &described))?;
        Ok(if answered >= SIXTEEN { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Tells what came of a request, and how to repeat it if too few relays did it.
    fn told(
        &self,
        name: &Name,
        reference: Option<Reference>,
        told: &Replies<Standing>,
        what: &str,
        again: &str,
    ) -> anyhow::Result<ExitCode> {
        let done = told.done().count();
        let document = || {
            let mut document = json!({ "name": name.to_string(), "done": done, "relays": standings(told) });
            if let Some(reference) = reference {
                document["reference"] = reference.to_string().into();
            }
            document
        };
        let text = || {
            let mut out = format!("{what} at {}\n", count(done, "relay", "relays"));
            if let Some(reference) = reference {
                out += &format!("payment reference: {reference}\n");
            }
            out += &dues(told);
            out += &failures(told);
            if told.failed().next().is_some() {
                let need = if done < SIXTEEN { "Sixteen are needed. " } else { "" };
                out += &format!("{need}Repeat it to the others later: {again}\n");
            }
            out
        };
        tell(self.json, document, text)?;
        Ok(if done >= SIXTEEN { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn own(&self, described: &Replies<Description>) -> Option<Record> {
        credible(described, self.client.principal())
    }

    /// What is said to relays that know the name and to those that missed that it was registered.
    fn base(&self, name: &Name, described: &Replies<Description>) -> anyhow::Result<PutName> {
        let Some(record) = self.own(described) else {
            bail!(
                "no ten relays say alike that {name} is yours, and what fewer say could be a lie:\n{}",
                show::states(described)
            );
        };
        let registration = |payment: &&Payment| payment.kind == PaymentKind::Registration;
        let payments = described.done().flat_map(|(_, there)| there.payments.iter().filter(registration));
        let groups = group(payments.map(|payment| ((payment.reference, payment.years), ())));
        let paid = groups.into_iter().max_by_key(|(_, alike)| alike.len());
        let paid = paid.filter(|(_, alike)| alike.len() >= TEN).map(|(paid, _)| paid);
        let (reference, years) = paid.unwrap_or_else(|| (reference(), 1));
        Ok(PutName { record, years, reference })
    }
}

/// The record of an owner that ten relays or more tell alike; the one with the highest version of several.
fn credible(described: &Replies<Description>, owner: Principal) -> Option<Record> {
    let records = described.done().filter_map(|(_, there)| there.record.as_ref());
    let groups = group(records.map(|record| (record.encode(), record)));
    let credible = groups.into_values().filter(|alike| alike.len() >= TEN);
    let of_owner = credible.filter_map(|alike| alike.first().copied()).filter(|record| record.owner == owner);
    of_owner.max_by_key(|record| record.version).cloned()
}

/// The version of the next change: above every one that an honest relay may have.
fn next_version(described: &Replies<Description>, known: NonZeroU32) -> anyhow::Result<NonZeroU32> {
    let versions = described.done().filter_map(|(_, there)| Some(there.record.as_ref()?.version));
    let credible = versions.filter(|version| version.get() <= known.get().saturating_add(VERSIONS_AHEAD));
    let highest = credible.max().unwrap_or(known).max(known);
    match highest.checked_add(1) {
        Some(next) => Ok(next),
        None => {
            bail!("the record was changed as often as it can be; give the name back and register it anew")
        }
    }
}

/// Changes what the flags name.
fn apply(record: &mut Record, args: &RecordArgs) -> anyhow::Result<()> {
    if let Some(server) = args.server {
        record.server = server.0;
    }
    if let Some(address) = args.address {
        record.service = address.0;
    }
    if let Some(port) = args.signalling {
        record.signalling = port.0;
    }
    if record.service.is_none() && record.signalling.is_some() {
        bail!(
            "signals are taken at the address of the service: name it with --address, or --signalling none"
        );
    }
    if let Some(base) = args.base {
        for relay in PathId::all() {
            let Some(port) = base.port().checked_add(relay.get().into()).filter(|_| base.port() != 0) else {
                bail!("from {base} there are no 25 ports; write a port from 1 to 65511");
            };
            record.endpoints.insert(relay, SocketAddr::new(base.ip(), port));
        }
    }
    for endpoint in &args.endpoints {
        match endpoint.1 {
            Some(at) => record.endpoints.insert(endpoint.0, at),
            None => record.endpoints.remove(&endpoint.0),
        };
    }
    if let Some(ttl) = args.ttl {
        record.ttl = ttl;
    }
    if let Some(server) = record.server.filter(|server| server.network != record.owner.network) {
        bail!("{server} is of another network than the owner {}", record.owner);
    }
    if let Err(bad) = record.check() {
        bail!("relays would refuse this: {bad}; write addresses that others can reach, each with its port");
    }
    Ok(())
}

fn number() -> NonZeroU32 {
    loop {
        // Zero is no number, and comes once in four thousand million times.
        if let Some(number) = NonZeroU32::new(OsRng.next_u32()) {
            return number;
        }
    }
}

fn reference() -> Reference {
    let mut reference = [0; 16];
    OsRng.fill_bytes(&mut reference);
    Reference(reference)
}

fn relay_numbers(all: impl Iterator<Item = PathId>) -> Vec<u8> {
    all.map(PathId::get).collect()
}

/// What relays still ask for.
fn dues(told: &Replies<Standing>) -> String {
    let due = told.done().filter(|(_, standing)| standing.due.amount > 0);
    let groups = group(due.map(|(relay, standing)| ((standing.due.amount, standing.due.currency), relay)));
    let line = |((amount, currency), who): ((u64, _), Vec<PathId>)| {
        format!("to pay: {amount} {currency} to {}\n", relays(&who))
    };
    groups.into_iter().map(line).collect()
}

/// Who did not do it, and why.
fn failures<T>(told: &Replies<T>) -> String {
    let groups = group(told.failed().map(|(relay, why)| (why.to_string(), relay)));
    groups.into_iter().map(|(why, who)| format!("{}: {why}\n", relays(&who))).collect()
}

fn failed_document<T>(told: &Replies<T>) -> Vec<Value> {
    let one = |(relay, why): (PathId, NoReply)| json!({ "relay": relay.get(), "error": why.to_string() });
    told.failed().map(one).collect()
}

fn standings(told: &Replies<Standing>) -> Vec<Value> {
    let done = told.done().map(|(relay, standing)| {
        json!({
            "relay": relay.get(),
            "state": standing.state.to_string(),
            "until": show::until(standing.until),
            "due": standing.due.amount,
            "currency": standing.due.currency.to_string(),
        })
    });
    done.chain(failed_document(told)).collect()
}
