//! The command line.

use super::enrol::EnrolArgs;
use super::init::InitArgs;
use super::status::StatusArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use qsocket_files::program;
use qsocket_proto::ids::{Principal, Role};
use qsocket_proto::names::{Name, Reference};
use qsocket_proto::relay::{MAX_BYTES_PER_SECOND, MAX_ROUTES, MIN_BYTES_PER_SECOND};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A relay of the RAIDA: runs it and administers whom it knows.
#[derive(Debug, Parser)]
#[command(
    name = "raida-relay",
    version,
    about = "Runs a relay of the RAIDA and administers whom it knows",
    long_about = "Runs a relay of the RAIDA and administers whom it knows.\n\n\
        A relay has one configuration file, relay.toml, which names the store beside it, principals.db. The store \
        holds this relay's number of every RAIDA key, who is banned, quotas, and the addresses of servers. Both \
        are for the relay's user alone.\n\n\
        The manual is docs/relay.md: commands, settings, signals, exit codes. Exit codes: 0 done, 1 failed and \
        the reason is on standard error, 2 the command line is wrong."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs one relay until SIGTERM or SIGINT
    ///
    /// SIGHUP reads the configuration and the store again; a bad file changes nothing. SIGTERM and SIGINT let
    /// waiting bytes out for at most limits.drain_seconds and end with exit code 0; a second one ends at once.
    Run(RunArgs),
    /// Runs all 25 relays of a folder in one process
    ///
    /// Takes every DIR/relays/*/relay.toml. They must be the relays 0 to 24 of one network. For tests and closed
    /// networks: whoever runs all 25 can read every connection that uses no Encryption key. Signals as for `run`.
    Cluster(ClusterArgs),
    /// Checks a configuration file, or the folder of a cluster, and the stores
    ///
    /// Changes nothing. Prints what it found; each problem as FILE:LINE: what to write. Exit code 1 if there is one.
    Check(CheckArgs),
    /// Administers whom a relay knows: add, list, ban, unban, unregister, remove
    ///
    /// Works on the store. A relay that runs sees the change within about a second, without a signal.
    Principal(PrincipalArgs),
    /// Shows the names that a relay keeps, and takes one away: list, show, withdraw
    ///
    /// Works on the place where the relay keeps posts and names. A relay that runs knows every change at once.
    Names(NamesArgs),
    /// Says which payments for names arrived: list, confirm, refuse
    ///
    /// A name resolves at this relay from the confirmation of its first payment on; a confirmed renewal lengthens its
    /// term. The ledger keeps every decision.
    Payments(PaymentsArgs),
    /// Asks a running relay how it stands
    Status(StatusArgs),
    /// Makes a RAIDA in a new folder: 25 relays, clients and servers with their keys
    ///
    /// By default for this machine alone. This machine then knows all 25 secrets of every key; with --enroll it knows
    /// none.
    Init(InitArgs),
    /// Enrols a principal at relays that others run: request, accept, finish; permit, permits, unpermit
    ///
    /// Each number is drawn by the principal and its relay together; no other place ever holds all 25.
    #[command(visible_alias = "enrol")]
    Enroll(EnrolArgs),
    /// Prints a script that completes this program's command line
    Completions(program::CompletionsArgs),
    /// Prints the manual page, or writes one page for each command into a folder
    Man(program::ManArgs),
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The relay's configuration, relay.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Flags of `cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// The folder that holds relays/00/relay.toml to relays/24/relay.toml
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A relay.toml, or the folder of a cluster
    #[arg(value_name = "FILE")]
    pub(crate) path: PathBuf,
    /// Also bind the listening addresses for a moment; fails while the relay runs
    #[arg(long)]
    pub(crate) bind: bool,
}

/// Flags of `principal`.
#[derive(Debug, Args)]
pub(crate) struct PrincipalArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: PrincipalCommand,
}

/// Where the store is.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// The relay's configuration, relay.toml, which names the store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// What to do with principals.
#[derive(Debug, Subcommand)]
pub(crate) enum PrincipalCommand {
    /// Adds a client or a server; one that is there gets the new number, addresses and quotas
    ///
    /// The number comes from a file that only its user can read, never from the command line, which every user of
    /// the machine can see. A ban stays. A store that does not exist yet is made.
    Add(AddArgs),
    /// Lists all principals, without their numbers
    List(ListArgs),
    /// Closes the principal's hops and admits it no more; it looks to it as if it were unknown
    Ban(BanArgs),
    /// Admits a banned principal again
    Unban(WhoArgs),
    /// Forgets addresses that a server registered itself over its hop
    ///
    /// With its next hop it may register them again, unless another server has them, `registration` is false in the
    /// relay's configuration, or the server is banned.
    Unregister(UnregisterArgs),
    /// Forgets a principal, its number, quotas and addresses, and closes its hops
    Remove(WhoArgs),
}

/// Flags of `principal add`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["key_file", "number_file"])))]
pub(crate) struct AddArgs {
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// A RAIDA key file; this relay's number is taken out of it, and principal and role
    ///
    /// The file holds the numbers of all 25 relays: use it only where one operator runs all of them.
    #[arg(long, value_name = "KEY.toml")]
    pub(crate) key_file: Option<PathBuf>,
    /// A file that holds this relay's number alone: 32 or 64 hex digits, mode 0600
    #[arg(long, value_name = "FILE", requires_all = ["principal", "role"])]
    pub(crate) number_file: Option<PathBuf>,
    /// Whose number it is, network.denomination.serial; with --number-file
    #[arg(long, value_name = "PRINCIPAL", conflicts_with = "key_file")]
    pub(crate) principal: Option<Principal>,
    /// In which role; with --number-file
    #[arg(long, conflicts_with = "key_file")]
    pub(crate) role: Option<RoleName>,
    /// An address of a server, IP:PORT, at most 4 of them
    ///
    /// The relay dials the server at this IP and PORT plus the relay's number. SERVICE=DIAL, two IP:PORT, has it
    /// dial DIAL; SERVICE=none lets the server dial the relay.
    #[arg(long = "address", value_name = "SERVICE[=DIAL]")]
    pub(crate) addresses: Vec<AddressArg>,
    /// Routes of a client at once; for the role client
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_ROUTES as i64),
        default_value_t = qsocket_proto::relay::MAX_CONNECTIONS_PER_CLIENT as u32)]
    pub(crate) connections: u32,
    /// DATA bytes a second that this principal may send through this relay; 0 for no limit
    #[arg(long, value_name = "N", value_parser = bytes_per_second, default_value_t = 0)]
    pub(crate) bytes_per_second: u64,
}

/// Flags of `principal list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// One JSON array, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `principal ban`.
#[derive(Debug, Args)]
pub(crate) struct BanArgs {
    /// Whom.
    #[command(flatten)]
    pub(crate) who: WhoArgs,
    /// Why, for the list; the principal never sees it
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

/// Flags of `names`.
#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: NamesCommand,
}

/// What to do with names.
#[derive(Debug, Subcommand)]
pub(crate) enum NamesCommand {
    /// Lists all names that somebody holds here
    List(ListArgs),
    /// Shows one name with all that its owner says of it
    Show(ShowNameArgs),
    /// Takes a name away from its owner, whatever was paid; it is free at this relay at once
    Withdraw(WithdrawNameArgs),
}

/// Flags of `names show`.
#[derive(Debug, Args)]
pub(crate) struct ShowNameArgs {
    /// Where the store is.
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// The name, for example cloudcoin.raida
    #[arg(value_name = "NAME")]
    pub(crate) name: Name,
}

/// Flags of `names withdraw`.
#[derive(Debug, Args)]
pub(crate) struct WithdrawNameArgs {
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The name, for example cloudcoin.raida
    #[arg(value_name = "NAME")]
    pub(crate) name: Name,
}

/// Flags of `payments`.
#[derive(Debug, Args)]
pub(crate) struct PaymentsArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: PaymentsCommand,
}

/// What to do with payments.
#[derive(Debug, Subcommand)]
pub(crate) enum PaymentsCommand {
    /// Lists payments that wait for a decision, newest first
    List(ListPaymentsArgs),
    /// Says that payments arrived
    Confirm(DecideArgs),
    /// Says that payments did not arrive, or are not wanted; a name that waited for one is free
    Refuse(DecideArgs),
}

/// Flags of `payments list`.
#[derive(Debug, Args)]
pub(crate) struct ListPaymentsArgs {
    /// Where the store is.
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// The whole ledger: those that were decided about as well
    #[arg(long)]
    pub(crate) all: bool,
}

/// Flags of `payments confirm` and `refuse`.
#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Who decides, for the ledger; the user of the system unless given
    #[arg(long, value_name = "TEXT", value_parser = by)]
    pub(crate) by: Option<String>,
    /// Payment references, 32 hex digits each, as the payer wrote on the transfer
    #[arg(value_name = "REFERENCE", required = true)]
    pub(crate) references: Vec<Reference>,
}

/// Longest name of who decides: it stands in every line of the ledger.
const MAX_BY: usize = 64;

fn by(text: &str) -> Result<String, String> {
    if (1..=MAX_BY).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!("write 1 to {MAX_BY} characters in one line"))
}

/// Whom a command is about.
#[derive(Debug, Args)]
pub(crate) struct WhoArgs {
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// network.denomination.serial, for example 1.0.1042
    #[arg(value_name = "PRINCIPAL")]
    pub(crate) principal: Principal,
    /// One role only; both otherwise
    #[arg(long)]
    pub(crate) role: Option<RoleName>,
}

/// Flags of `principal unregister`.
#[derive(Debug, Args)]
pub(crate) struct UnregisterArgs {
    /// Where the store is.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The server, network.denomination.serial
    #[arg(value_name = "PRINCIPAL")]
    pub(crate) principal: Principal,
    /// One address only, IP:PORT as clients name it; all otherwise
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) address: Option<SocketAddr>,
}

/// A role as it is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleName {
    /// Opens connections.
    Client,
    /// Is reached at registered addresses.
    Server,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Client => Self::Client,
            RoleName::Server => Self::Server,
        }
    }
}

/// `SERVICE`, `SERVICE=DIAL` or `SERVICE=none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressArg {
    /// The address that clients name.
    pub(crate) service: SocketAddr,
    /// Where the relay dials.
    pub(crate) dial: DialArg,
}

/// Where the relay dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialArg {
    /// The service's port plus the relay's number.
    AtBase,
    /// Here.
    At(SocketAddr),
    /// Nowhere: the server dials.
    Nowhere,
}

impl std::str::FromStr for AddressArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| format!("{text:?} is not an address; write IP:PORT, for example 192.0.2.7:53"))
        };
        let (service, dial) = match text.split_once('=') {
            None => (text, DialArg::AtBase),
            Some((service, "none")) => (service, DialArg::Nowhere),
            Some((service, dial)) => (service, DialArg::At(parse(dial)?)),
        };
        Ok(Self { service: parse(service)?, dial })
    }
}

fn bytes_per_second(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(n) if n == 0 || (MIN_BYTES_PER_SECOND..=MAX_BYTES_PER_SECOND).contains(&n) => Ok(n),
        _ => Err(format!("write 0 for no limit, or {MIN_BYTES_PER_SECOND} to {MAX_BYTES_PER_SECOND}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_say_where_the_relay_dials() {
        let service = "192.0.2.7:53".parse().unwrap();
        let parse = |text: &str| text.parse::<AddressArg>();
        assert_eq!(parse("192.0.2.7:53"), Ok(AddressArg { service, dial: DialArg::AtBase }));
        assert_eq!(parse("192.0.2.7:53=none"), Ok(AddressArg { service, dial: DialArg::Nowhere }));
        let dial = DialArg::At("[2001:db8::1]:90".parse().unwrap());
        assert_eq!(parse("192.0.2.7:53=[2001:db8::1]:90"), Ok(AddressArg { service, dial }));
        assert!(parse("dns.example:53").unwrap_err().contains("write IP:PORT"));
        assert!(parse("192.0.2.7:53=").is_err());
    }

    #[test]
    fn quotas_have_bounds() {
        assert_eq!(bytes_per_second("0"), Ok(0));
        assert!(bytes_per_second("1").is_err());
        assert!(bytes_per_second("-5").is_err());
        assert_eq!(bytes_per_second("1000000"), Ok(1_000_000));
    }
}
