//! `enroll`: numbers drawn by a principal together with separately run relays. `docs/enrolment.md`.

use super::cli::{AddressArg, ListArgs, RoleName, StoreArgs};
use super::config::Config;
use super::principal;
use super::store::{Access, NewPrincipal, Permit, Store};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use qsocket_files::keys::enrolment::{
    answer_name, answer_text, erase, load_answer, load_request, read_request, request_name, save_answer,
    save_request,
};
use qsocket_files::keys::{AuthenticityNumber, load_raida_key, save_raida_key};
use qsocket_files::moment;
use qsocket_files::rng::OsRng;
use qsocket_files::text::quoted;
use qsocket_proto::enrol::{Request, Subject};
use qsocket_proto::ids::{PathId, Principal, RELAYS, Role};
use qsocket_proto::raida_key::RaidaKey;
use qsocket_proto::relay::Quota;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a path says that stands for standard input or output.
const PIPE: &str = "-";

/// Flags of `enroll`.
#[derive(Debug, Args)]
pub(crate) struct EnrolArgs {
    /// Which step.
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// At the principal: writes one request file for each relay
    ///
    /// Each holds the principal's half of a number, so it goes to the operator of its relay and to nobody else, by a
    /// way that nobody else can read or change: ssh, or in person.
    Request(RequestArgs),
    /// At a relay: draws the other half, keeps the number, writes the answer
    ///
    /// REQUEST and ANSWER are files, or - for standard input and output.
    Accept(AcceptArgs),
    /// At the principal: makes the RAIDA key of the answers
    ///
    /// Takes request-NN.toml and answer-NN.toml in DIR, writes client.key.toml or server.key.toml, and erases
    /// requests and answers. Says exactly which answers are missing or do not fit; then nothing is changed.
    Finish(FinishArgs),
    /// At a relay: permits a principal that it knows to enrol another one over its hop
    ///
    /// The other one is new here. Its number is drawn when the sponsor runs `qsocket keys enrol`; the sponsor's machine knows it
    /// then. The permit is used up when the new principal dials the relay for the first time; until then the sponsor may
    /// enrol it again. Named again, a permit gets the new sponsor and the new end.
    Permit(PermitArgs),
    /// At a relay: lists permits that are not used up
    Permits(ListArgs),
    /// At a relay: takes a permit back; a number that was drawn already stays, `principal remove` forgets it
    Unpermit(WhomArgs),
}

/// Longest time that a permit holds, in days: what an operator decides is decided anew after a quarter of a year.
const MAX_DAYS: u64 = 90;

/// Flags of `enroll permit`.
#[derive(Debug, Args)]
struct PermitArgs {
    /// Whom.
    #[command(flatten)]
    whom: WhomArgs,
    /// The sponsor: a principal that the relay knows, network.denomination.serial
    #[arg(long, value_name = "PRINCIPAL")]
    by: Principal,
    /// For how many days
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=MAX_DAYS))]
    days: u64,
}

/// Whom a permit is about.
#[derive(Debug, Args)]
struct WhomArgs {
    /// Where the store is.
    #[command(flatten)]
    store: StoreArgs,
    /// Who is enrolled, network.denomination.serial, for example 1.0.1042
    #[arg(long)]
    principal: Principal,
    /// In which role
    #[arg(long)]
    role: RoleName,
}

/// Flags of `enroll request`.
#[derive(Debug, Args)]
struct RequestArgs {
    /// Who enrols, network.denomination.serial, for example 1.0.1042
    #[arg(long)]
    principal: Principal,
    /// In which role
    #[arg(long)]
    role: RoleName,
    /// Only this relay; may be repeated. For a principal that has its key in DIR and needs a new number there
    #[arg(long = "relay", value_name = "N", value_parser = clap::value_parser!(u8).range(0..RELAYS as i64))]
    relays: Vec<u8>,
    /// The folder for requests, answers and the key; made with mode 0700 if it is missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Flags of `enroll accept`.
#[derive(Debug, Args)]
struct AcceptArgs {
    /// The relay's configuration, relay.toml
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Replaces the number of a principal that is known already
    #[arg(long)]
    replace: bool,
    /// An address of a server, as for `principal add`; without it one that is known keeps those it has
    #[arg(long = "address", value_name = "SERVICE[=DIAL]")]
    addresses: Vec<AddressArg>,
    /// The request
    #[arg(value_name = "REQUEST")]
    request: PathBuf,
    /// The answer
    #[arg(value_name = "ANSWER")]
    answer: PathBuf,
}

/// Flags of `enroll finish`.
#[derive(Debug, Args)]
struct FinishArgs {
    /// The folder with the requests and the answers
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Does what the command line says.
///
/// # Errors
/// What is missing or does not fit, and what to do.
pub(crate) fn enrol(args: &EnrolArgs) -> anyhow::Result<ExitCode> {
    match &args.step {
        Step::Request(args) => request(args)?,
        Step::Accept(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(accept(args))?;
        }
        Step::Finish(args) => finish(&args.dir)?,
        Step::Permit(_) | Step::Permits(_) | Step::Unpermit(_) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            super::say(&runtime.block_on(permits(&args.step))?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn permits(step: &Step) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let role_of = |whom: &WhomArgs| principal::name(whom.role.into());
    match step {
        Step::Permit(args) => {
            let WhomArgs { store, principal, role } = &args.whom;
            let store = principal::open(store, Access::Write).await?;
            let until = now.saturating_add(args.days * 86_400);
            let permit =
                Permit { principal: *principal, role: (*role).into(), sponsor: args.by, until, drawn: false };
            let known = store.list().await?.iter().any(|e| e.principal == args.by && e.banned.is_none());
            let done = store.permit(permit, now).await;
            store.close().await;
            done?;
            if !known {
                eprintln!("the relay does not know {}; it enrols nobody before it is known itself", args.by);
            }
            Ok(format!(
                "{} may enrol {principal} as {} until {}. The machine of {0} will know the number\n",
                args.by,
                role_of(&args.whom),
                time(until)
            ))
        }
        Step::Unpermit(whom) => {
            let store = principal::open(&whom.store, Access::Write).await?;
            let forgotten = store.unpermit(whom.principal, Some(whom.role.into())).await;
            store.close().await;
            if forgotten? == 0 {
                bail!(
                    "there is no permit for {} as {}; `enroll permits` shows which there are",
                    whom.principal,
                    role_of(whom)
                );
            }
            Ok(format!("nobody may enrol {} as {} any more\n", whom.principal, role_of(whom)))
        }
        Step::Permits(args) => {
            let store = principal::open(&args.store, Access::Read).await?;
            let permits = store.permits().await;
            store.close().await;
            if args.json { permits_json(&permits?, now) } else { Ok(permits_table(&permits?, now)) }
        }
        Step::Request(_) | Step::Accept(_) | Step::Finish(_) => Ok(String::new()),
    }
}

fn time(seconds: u64) -> String {
    moment::show(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap_or_else(|| seconds.to_string())
}

fn permits_table(permits: &[Permit], now: u64) -> String {
    let mut out = String::new();
    for Permit { principal, role, sponsor, until, drawn } in permits {
        let (over, drawn) =
            (if *until <= now { "  over" } else { "" }, if *drawn { "  a number was drawn" } else { "" });
        let (role, until) = (principal::name(*role), time(*until));
        out += &format!("{principal}  {role}  by {sponsor}  until {until}{over}{drawn}\n");
    }
    out
}

/// A permit for programs. `docs/relay.md` describes it.
#[derive(Serialize)]
struct PermitRow {
    principal: String,
    role: &'static str,
    by: String,
    until: u64,
    over: bool,
    drawn: bool,
}

fn permits_json(permits: &[Permit], now: u64) -> anyhow::Result<String> {
    let row = |p: &Permit| PermitRow {
        principal: p.principal.to_string(),
        role: principal::name(p.role),
        by: p.sponsor.to_string(),
        until: p.until,
        over: p.until <= now,
        drawn: p.drawn,
    };
    Ok(serde_json::to_string_pretty(&permits.iter().map(row).collect::<Vec<_>>())? + "\n")
}

fn request(args: &RequestArgs) -> anyhow::Result<()> {
    let (dir, role) = (&args.dir, Role::from(args.role));
    if let Err(e) = DirBuilder::new().mode(0o700).create(dir)
        && e.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(e).with_context(|| dir.display().to_string());
    }
    let key = dir.join(key_name(role));
    let relays: Vec<PathId> = if args.relays.is_empty() {
        if key.exists() {
            bail!(
                "{} exists already; name a new folder, or with --relay the relays that need a new number",
                key.display()
            );
        }
        PathId::all().collect()
    } else {
        let old = load_raida_key(&key).context("--relay renews single numbers of a key that is there")?;
        if (old.principal(), old.role()) != (args.principal, role) {
            bail!("{} is the key of {}; name its folder or its principal", key.display(), old.principal());
        }
        args.relays.iter().filter_map(|n| PathId::new(*n)).collect()
    };
    write_requests(dir, args.principal, role, &relays)?;
    let out = next_steps(dir, &relays, None);
    super::say(&out)?;
    Ok(())
}

/// Writes requests; all or none.
///
/// # Errors
/// When one of them, or an answer, is there already, or cannot be written.
pub(super) fn write_requests(
    dir: &Path,
    principal: Principal,
    role: Role,
    relays: &[PathId],
) -> anyhow::Result<()> {
    for name in relays.iter().flat_map(|relay| [request_name(*relay), answer_name(*relay)]) {
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            bail!("{} is there already; finish or remove that enrolment first", path.display());
        }
    }
    let mut written = Vec::new();
    for relay in relays {
        let path = dir.join(request_name(*relay));
        if let Err(e) = save_request(&path, &Request::new(principal, role, *relay, &mut OsRng)) {
            // The first error is the one to report.
            written.iter().for_each(|path| drop(erase(path)));
            return Err(e.into());
        }
        written.push(path);
    }
    Ok(())
}

/// What to do with requests: one command a relay, and the last one. `address` is that of a server.
pub(super) fn next_steps(dir: &Path, relays: &[PathId], address: Option<&str>) -> String {
    let dir = quoted(dir);
    let address = address.map(|a| format!(" --address {a}")).unwrap_or_default();
    let mut out = format!(
        "{dir}: {} requests. Each goes to the operator of its relay, by a way that nobody else can read or change:\n  \
         umask 077\n",
        relays.len()
    );
    for relay in relays {
        let (request, answer) = (request_name(*relay), answer_name(*relay));
        out += &format!(
            "  ssh RELAY-{relay} raida-relay enroll accept --config /etc/raida-relay/relay.toml{address} - - \
             < {dir}/{request} > {dir}/{answer}\n"
        );
    }
    out + &format!("When all answers are there:\n  raida-relay enroll finish {dir}\n")
}

fn key_name(role: Role) -> String {
    format!("{}.key.toml", principal::name(role))
}

async fn accept(args: &AcceptArgs) -> anyhow::Result<()> {
    let config = Config::read(&args.config)?;
    let pipe = Path::new(PIPE);
    let request =
        if args.request == pipe { read_request(io::stdin().lock())? } else { load_request(&args.request)? };
    let subject = request.subject;
    for_this_relay(subject, &config)?;
    if args.answer != pipe && args.answer.symlink_metadata().is_ok() {
        bail!("{} is there already; name another file for the answer", args.answer.display());
    }
    let store = Store::open(&config.store, config.network, config.relay, Access::Write).await?;
    let (answer, number) = request.answer(&mut OsRng);
    let kept = keep(args, &config, &store, subject, number).await;
    store.close().await;
    kept?;

    let written = if args.answer == pipe {
        let mut out = io::stdout().lock();
        out.write_all(answer_text(&answer).as_bytes()).and_then(|()| out.flush()).map_err(anyhow::Error::from)
    } else {
        save_answer(&args.answer, &answer).map_err(anyhow::Error::from)
    };
    written
        .context("the number is kept, but the answer could not be written; accept again with --replace")?;
    eprintln!(
        "relay {} keeps a number of {} {}",
        config.relay,
        principal::name(subject.role),
        subject.principal
    );
    Ok(())
}

fn for_this_relay(subject: Subject, config: &Config) -> anyhow::Result<()> {
    if subject.principal.network != config.network {
        bail!(
            "the request is of {}, in network {}; this relay belongs to network {}. Nothing is kept",
            subject.principal,
            subject.principal.network,
            config.network
        );
    }
    if subject.relay != config.relay {
        bail!(
            "the request is for relay {}, this is relay {}; give it to the operator of relay {}. Nothing is kept",
            subject.relay,
            config.relay,
            subject.relay
        );
    }
    Ok(())
}

/// Puts the number in the store. Quota, and addresses unless new ones are named, stay as they are.
async fn keep(
    args: &AcceptArgs,
    config: &Config,
    store: &Store,
    subject: Subject,
    number: AuthenticityNumber,
) -> anyhow::Result<()> {
    let Subject { principal, role, .. } = subject;
    let named: Vec<_> =
        args.addresses.iter().map(|a| principal::address(*a, config)).collect::<anyhow::Result<_>>()?;
    let known = store.list().await?.into_iter().find(|e| (e.principal, e.role) == (principal, role));
    let (quota, before) = known.map_or_else(|| (Quota::default(), Vec::new()), |e| (e.quota, e.addresses));
    let addresses = if named.is_empty() { before } else { named };
    let unreachable = role == Role::Server && addresses.is_empty();
    let new = NewPrincipal { principal, role, number, quota, addresses };
    if args.replace {
        store.add(&new).await?;
    } else if !store.add_new(&new).await? {
        bail!(
            "the relay has a number of {} {principal} already, perhaps because this request was accepted before. To \
             answer all the same, add --replace: the number that it has then works no more",
            principal::name(role)
        );
    }
    if unreachable {
        eprintln!(
            "this server has no address here yet, so nobody reaches it; name one with --address IP:PORT"
        );
    }
    Ok(())
}

/// The requests of a folder, by relay.
fn requests(dir: &Path) -> anyhow::Result<BTreeMap<PathId, Request>> {
    let mut found = BTreeMap::new();
    for relay in PathId::all() {
        let path = dir.join(request_name(relay));
        if path.symlink_metadata().is_err() {
            continue;
        }
        let request = load_request(&path)?;
        if request.subject.relay != relay {
            bail!("{} is for relay {}; give it back its name", path.display(), request.subject.relay);
        }
        found.insert(relay, request);
    }
    Ok(found)
}

fn finish(dir: &Path) -> anyhow::Result<()> {
    let requests = requests(dir)?;
    let Some(Subject { principal, role, .. }) = requests.values().next().map(|r| r.subject) else {
        bail!("{}: no request-NN.toml; begin with `raida-relay enroll request`", dir.display());
    };
    let path = dir.join(key_name(role));
    let old = if path.symlink_metadata().is_ok() { Some(load_raida_key(&path)?) } else { None };
    if let Some(old) = &old
        && (old.principal(), old.role()) != (principal, role)
    {
        bail!("{} is the key of {}, the requests are of {principal}", path.display(), old.principal());
    }
    let mut problems = Vec::new();
    let mut numbers = Vec::new();
    for relay in PathId::all() {
        let number = match (requests.get(&relay), &old) {
            (Some(request), _) if (request.subject.principal, request.subject.role) != (principal, role) => {
                Err(anyhow::anyhow!("{} is of another principal or role", request_name(relay)))
            }
            (Some(request), _) => answered(dir, relay, request),
            (None, Some(old)) => AuthenticityNumber::new(old.number(relay).expose()).map_err(Into::into),
            (None, None) => Err(anyhow::anyhow!("{} is missing; begin anew", request_name(relay))),
        };
        match number {
            Ok(number) => numbers.push(number),
            Err(e) => problems.push(format!("relay {relay}: {e:#}")),
        }
    }
    if !problems.is_empty() {
        bail!("{} relays are not done, nothing was changed:\n  {}", problems.len(), problems.join("\n  "));
    }
    save_raida_key(&path, &RaidaKey::new(principal, role, numbers)?)?;
    for relay in requests.keys() {
        for name in [request_name(*relay), answer_name(*relay)] {
            let file = dir.join(name);
            erase(&file).with_context(|| {
                format!("the key is in {}, but not all halves are erased; run this again", path.display())
            })?;
        }
    }
    super::say(&format!(
        "{}: RAIDA key of {} {principal}, 256 bit. Requests and answers are overwritten and removed; copies that the \
         file system, its snapshots or backups keep are not\n",
        path.display(),
        principal::name(role)
    ))?;
    Ok(())
}

/// The number that a relay's answer makes.
fn answered(dir: &Path, relay: PathId, request: &Request) -> anyhow::Result<AuthenticityNumber> {
    let (name, asked) = (answer_name(relay), request_name(relay));
    let path = dir.join(&name);
    if path.symlink_metadata().is_err() {
        bail!("{name} is missing; let the relay's operator accept {asked}");
    }
    let answer = load_answer(&path)?;
    request.finish(&answer).with_context(|| name)
}
