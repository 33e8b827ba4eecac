//! The command line.

pub(crate) mod names;

use clap::{Args, Parser, Subcommand, ValueEnum};
use qsocket::keys::{KeyId, KeyName, parse_id};
use qsocket::{Principal, Role};
use qsocket_files::moment;
use qsocket_files::program;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// Longest time from now that a flag may name, in days: a century. What is meant to last longer has no end.
const MAX_DAYS: u64 = 36_525;

/// Administers the keys and names of QSocket.
#[derive(Debug, Parser)]
#[command(
    name = "qsocket",
    version,
    about = "Administers the keys of QSocket, exchanges them, looks up names and holds them",
    long_about = "Administers the keys of QSocket, exchanges them, looks up names and holds them.\n\n\
        The manuals are docs/keys.md and docs/names.md. Exit codes: 0 done, 1 failed and the reason is on standard error, 2 the command \
        line is wrong, 3 `keys verify` found relays that do not hold the key, and sixteen or more that do."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Administers a folder of keys: list, show, generate, import, export, rotate, enrol, revoke, remove, verify
    ///
    /// Programs whose configuration names the folder (`keys = "DIR"`) see a change within a quarter of a second; their next
    /// stream uses it.
    Keys(KeysArgs),
    /// Exchanges an Encryption key with a server by way of 25 relays
    ///
    /// The key goes into the folder that the configuration names (`keys = "DIR"`), and so it does at the server, which must
    /// take keys: `qsocket receive`, or a program whose configuration says `receive_keys = true`. The next connection uses
    /// it. Nine of the relays may be missing or lie.
    Exchange(ExchangeArgs),
    /// Takes the keys that clients exchange with a server, until Ctrl-C
    ///
    /// For a server whose own program does not run, or does not take keys itself: relays dial the server's ports, so only
    /// one program can listen there. Prints a line for each key.
    Receive(ReceiveArgs),
    /// Looks up who answers behind a name, and tells who says so
    ///
    /// About a name that ends in .raida all relays are asked, and what sixteen answer alike counts. About any other the DNS is
    /// asked that the configuration names; that is a hint, and no key is exchanged on its word alone.
    Lookup(names::LookupArgs),
    /// Registers, changes, renews, shows, transfers and gives back names under .raida
    ///
    /// The owner is the client of the configuration. Each of the 25 relays keeps its own registry and is told each time; a
    /// name resolves when the operators of sixteen have confirmed that it is paid.
    Name(names::NameArgs),
    /// Prints a script that completes this program's command line
    Completions(program::CompletionsArgs),
    /// Prints the manual page, or writes one page for each command into a folder
    Man(program::ManArgs),
}

/// Flags of `exchange`.
#[derive(Debug, Args)]
pub(crate) struct ExchangeArgs {
    /// The server: its principal, network.denomination.serial; name:port as the configuration knows it; or a name that is
    /// looked up, such as cloudcoin.raida
    #[arg(value_name = "SERVER")]
    pub(crate) server: String,
    /// The client's configuration; otherwise the one that $QSOCKET_CONFIG names, or the default place
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A word for the server's eyes, such as who this is
    #[arg(long, value_name = "TEXT")]
    pub(crate) memo: Option<String>,
    /// Until when the key is valid: a time as 2027-01-31T00:00:00Z, or from now as 90d or 12h
    #[arg(long, value_name = "WHEN")]
    pub(crate) lifetime: Option<When>,
    /// Seconds for which the relays keep the shares
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(60..=604_800))]
    pub(crate) keep: u64,
    /// The server's signalling port; relays pass the signal on where it does not answer
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) signal_at: Option<SocketAddr>,
    /// One JSON document on standard output, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `receive`.
#[derive(Debug, Args)]
pub(crate) struct ReceiveArgs {
    /// Where the relays reach the server: this port and the 24 that follow
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: SocketAddr,
    /// The server's configuration; otherwise the one that $QSOCKET_CONFIG names, or the default place
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A port at which clients bring signals themselves; otherwise relays pass them on
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) signals: Option<SocketAddr>,
    /// End when so many keys have come
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// One JSON document in each line of standard output, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `keys`.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    /// The folder of keys; otherwise $QSOCKET_KEYS, otherwise qsocket/keys in the user's configuration folder
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) dir: Option<PathBuf>,
    /// One JSON document on standard output, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Lists all keys, without their secrets
    ///
    /// Files that are refused are told on standard error, with what to do about each; the exit code is 1 then.
    List,
    /// Shows what is known of a key, without its secret
    Show(WhichArgs),
    /// Draws a new key from the system's random numbers
    Generate(GenerateArgs),
    /// Brings a key file into the folder; a key that is there is never overwritten
    Import(ImportArgs),
    /// Brings a public CloudCoin file of format 9 into the folder as a RAIDA key of 128 bits
    ///
    /// Public RAIDA encryption shows a coin's numbers to whoever listens. Only a coin that was never used with any other
    /// program or service protects anything; better is to enrol at the relays (`raida-relay enroll`), with 256 bits.
    ImportCoin(ImportCoinArgs),
    /// Writes a key to a file, under a passphrase unless --plain says otherwise
    Export(ExportArgs),
    /// Has a new Encryption key take over from the active ones with the same party, or relays replace a RAIDA key's numbers
    ///
    /// The new key opens connections from now on; the old ones are still accepted, until --old-until or until they are
    /// removed. Servers first: a server accepts every active key, so it imports the new one before the client rotates
    /// to it. docs/keys.md has the steps.
    ///
    /// With raida:PRINCIPAL.ROLE and --base or --relays, the relays replace the numbers of that key; at least 16 have to.
    /// Stop programs that use it first. Exit code 3: some relays were missing; say it again.
    Rotate(RotateArgs),
    /// Has the relays enrol a new principal over hops that are made with a RAIDA key of this folder
    ///
    /// Each relay's operator permits it first: `raida-relay enroll permit`. All 25 have to; what is drawn so far is kept
    /// beside the keys, so say it again until none is missing (exit code 3 until then). THIS MACHINE KNOWS THE NEW KEY: it is
    /// for principals of the same owner. docs/enrolment.md has the other ways.
    #[command(visible_alias = "enroll")]
    Enrol(EnrolArgs),
    /// Ends the use of an Encryption key for good; its secret is erased
    ///
    /// Its id stays, so that it cannot be imported again. Connections with the party are refused until another key is
    /// there, or until this one is removed. Connections that stand are not closed.
    Revoke(WhichArgs),
    /// Removes a key and erases its file
    Remove(WhichArgs),
    /// Asks each of the 25 relays whether it holds its number of a RAIDA key
    ///
    /// Exit code 0 if all do, 3 if sixteen or more do, 1 otherwise. Hops of programs that run are not disturbed.
    Verify(VerifyArgs),
}

/// Which key.
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// An Encryption key by its id (32 hex digits), or by its other party's name or principal if that has one key; a
    /// RAIDA key as raida:PRINCIPAL.ROLE, for example raida:1.0.1042.client
    #[arg(value_name = "KEY")]
    pub(crate) key: KeyRef,
}

/// Flags of `keys generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Which kind.
    #[command(subcommand)]
    pub(crate) kind: GenerateKind,
}

/// What to draw.
#[derive(Debug, Subcommand)]
pub(crate) enum GenerateKind {
    /// An Encryption key, for this side and, by `export --for-peer`, for the other
    Encryption(NewKeyArgs),
    /// A RAIDA key of 25 numbers, where one operator runs all relays
    ///
    /// Each relay then needs its number: `raida-relay principal add --key-file`. At relays that others run, enrol instead:
    /// `raida-relay enroll`.
    Raida(GenerateRaidaArgs),
}

/// What a new Encryption key is.
#[derive(Debug, Args)]
pub(crate) struct NewKeyArgs {
    /// The other principal, network.denomination.serial
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) with: Principal,
    /// Which principal of this side it is for; needed for `export --for-peer`
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) own: Option<Principal>,
    /// What the other party is called, for people
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<KeyName>,
    /// From when on it is used for nothing: a time as 2027-01-31T00:00:00Z, or from now as 90d or 12h
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<When>,
}

/// Flags of `keys generate raida`.
#[derive(Debug, Args)]
pub(crate) struct GenerateRaidaArgs {
    /// Whose key, network.denomination.serial
    #[arg(value_name = "PRINCIPAL")]
    pub(crate) principal: Principal,
    /// In which role
    #[arg(long)]
    pub(crate) role: RoleName,
    /// Length of the numbers
    #[arg(long, default_value = "256")]
    pub(crate) bits: Bits,
}

/// Where a passphrase comes from. Never from the command line, which every user of the machine can see.
#[derive(Debug, Args)]
pub(crate) struct PassphraseArgs {
    /// A file that holds the passphrase in one line, mode 0600; otherwise the one that $QSOCKET_PASSPHRASE_FILE names
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Read the passphrase from standard input, one line
    #[arg(long, conflicts_with = "passphrase_file")]
    pub(crate) passphrase_stdin: bool,
}

/// Flags of `keys import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A RAIDA key, an Encryption key, or one of them under a passphrase; `-` for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// An Encryption key's other principal, if the file says another
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) with: Option<Principal>,
    /// Which principal of this side an Encryption key is for
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) own: Option<Principal>,
    /// What an Encryption key's other party is called
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<KeyName>,
    /// From when on an Encryption key is used for nothing
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<When>,
    /// Have the Encryption key take over from the active ones with the same party, as `rotate` does
    #[arg(long)]
    pub(crate) rotate: bool,
    /// With --rotate, until when those are accepted
    #[arg(long, value_name = "WHEN", requires = "rotate")]
    pub(crate) old_until: Option<When>,
    /// The passphrase.
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
}

/// Flags of `keys import-coin`.
#[derive(Debug, Args)]
pub(crate) struct ImportCoinArgs {
    /// The coin
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The role in which the relays know its numbers
    #[arg(long)]
    pub(crate) role: RoleName,
    /// The network of the key, if not the coin's own RAIDA number
    #[arg(long, value_name = "N")]
    pub(crate) network: Option<u16>,
    /// You state that this coin was never used with any other program or service, and never will be
    #[arg(long)]
    pub(crate) never_used_elsewhere: bool,
}

/// Flags of `keys export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Which key.
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// The file to write, which must not be there; `-` for standard output
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write an Encryption key as the other party needs it: seen from there
    #[arg(long)]
    pub(crate) for_peer: bool,
    /// Without a passphrase: whoever can read the file has the key
    #[arg(long, conflicts_with_all = ["passphrase_file", "passphrase_stdin"])]
    pub(crate) plain: bool,
    /// The passphrase.
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
}

/// Flags of `keys rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// The party: its name or principal, or the id of a key with it; or a RAIDA key, raida:PRINCIPAL.ROLE
    #[arg(value_name = "KEY")]
    pub(crate) key: KeyRef,
    /// The id of a key with this party that is in the folder already; without it a new one is drawn
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(crate) to: Option<KeyId>,
    /// With a RAIDA key: relay 0; relays 1 to 24 at the 24 ports that follow
    #[arg(long, value_name = "IP:PORT", conflicts_with_all = ["relays", "to", "old_until", "expires"])]
    pub(crate) base: Option<SocketAddr>,
    /// With a RAIDA key: a file with 25 lines, IP:PORT, relay 0 first
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "old_until", "expires"])]
    pub(crate) relays: Option<PathBuf>,
    /// With a RAIDA key: how long each relay has in each of the two steps, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) timeout: u64,
    /// Until when the old keys are accepted; without it until they are removed
    #[arg(long, value_name = "WHEN")]
    pub(crate) old_until: Option<When>,
    /// From when on the new key is used for nothing
    #[arg(long, value_name = "WHEN", conflicts_with = "to")]
    pub(crate) expires: Option<When>,
}

/// Flags of `keys enrol`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["base", "relays"])))]
pub(crate) struct EnrolArgs {
    /// The sponsor: a RAIDA key of this folder, raida:PRINCIPAL.ROLE, that the relays know
    #[arg(value_name = "KEY")]
    pub(crate) sponsor: KeyRef,
    /// Who is enrolled, network.denomination.serial
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) principal: Principal,
    /// In which role
    #[arg(long)]
    pub(crate) role: RoleName,
    /// Relay 0; relays 1 to 24 at the 24 ports that follow
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) base: Option<SocketAddr>,
    /// A file with 25 lines, IP:PORT, relay 0 first; lines that begin with # are passed over
    #[arg(long, value_name = "FILE")]
    pub(crate) relays: Option<PathBuf>,
    /// How long each relay has, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) timeout: u64,
}

/// Flags of `keys verify`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["base", "relays"])))]
pub(crate) struct VerifyArgs {
    /// The RAIDA key, raida:PRINCIPAL.ROLE, for example raida:1.0.1042.client
    #[arg(value_name = "KEY")]
    pub(crate) key: KeyRef,
    /// Relay 0; relays 1 to 24 at the 24 ports that follow
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) base: Option<SocketAddr>,
    /// A file with 25 lines, IP:PORT, relay 0 first; lines that begin with # are passed over
    #[arg(long, value_name = "FILE")]
    pub(crate) relays: Option<PathBuf>,
    /// How long each relay has to answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) timeout: u64,
}

/// Which key, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyRef {
    /// An Encryption key.
    Id(KeyId),
    /// The Encryption keys with a principal.
    Peer(Principal),
    /// The Encryption keys with who is called so.
    Name(KeyName),
    /// A RAIDA key.
    Raida(Principal, Role),
}

impl FromStr for KeyRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(raida) = text.strip_prefix("raida:") {
            let (principal, role) = raida.rsplit_once('.').unwrap_or((raida, ""));
            let role = match role {
                "client" => Some(Role::Client),
                "server" => Some(Role::Server),
                _ => None,
            };
            return match (principal.parse(), role) {
                (Ok(principal), Some(role)) => Ok(Self::Raida(principal, role)),
                _ => {
                    Err("write a RAIDA key as raida:PRINCIPAL.ROLE, for example raida:1.0.1042.client"
                        .to_owned())
                }
            };
        }
        if let Some(id) = parse_id(text) {
            return Ok(Self::Id(id));
        }
        if let Ok(principal) = text.parse() {
            return Ok(Self::Peer(principal));
        }
        text.parse().map(Self::Name).map_err(|_| {
            "write an id (32 hex digits), a principal (1.0.7), a name, or raida:PRINCIPAL.ROLE".to_owned()
        })
    }
}

fn id(text: &str) -> Result<KeyId, String> {
    parse_id(text).ok_or_else(|| "write an id, 32 hex digits".to_owned())
}

/// A point in time, given as such or from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct When(pub(crate) SystemTime);

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(at) = moment::parse(text) {
            return Ok(Self(at));
        }
        let from_now = |digits: &str, hours: u64| -> Option<SystemTime> {
            let hours = digits.parse::<u64>().ok()?.checked_mul(hours)?;
            (hours <= MAX_DAYS * 24).then(|| SystemTime::now() + Duration::from_secs(hours * 3600))
        };
        let at = match text.char_indices().last() {
            Some((end, 'd')) => from_now(&text[..end], 24),
            Some((end, 'h')) => from_now(&text[..end], 1),
            _ => None,
        };
        at.map(Self).ok_or_else(|| {
            format!("write a time as 2027-01-31T00:00:00Z, or from now as 90d or 12h, at most {MAX_DAYS}d")
        })
    }
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

/// Length of authenticity numbers.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Bits {
    /// As in public RAIDA files.
    #[value(name = "128")]
    Bits128,
    /// Recommended.
    #[value(name = "256")]
    Bits256,
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
    fn keys_are_named_by_id_party_or_principal_and_role() {
        let parse = |text: &str| text.parse::<KeyRef>();
        let principal = "1.-2.1042".parse().unwrap();
        assert_eq!(parse(&"0a".repeat(16)), Ok(KeyRef::Id(KeyId([10; 16]))));
        assert_eq!(parse("1.-2.1042"), Ok(KeyRef::Peer(principal)));
        assert_eq!(parse("dns.example:53"), Ok(KeyRef::Name("dns.example:53".parse().unwrap())));
        assert_eq!(parse("raida:1.-2.1042.server"), Ok(KeyRef::Raida(principal, Role::Server)));
        for bad in ["raida:", "raida:1.0.7", "raida:1.0.7.both", "raida:x.client", "", "a b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_given_as_such_or_from_now() {
        let parse = |text: &str| text.parse::<When>();
        let given = parse("2027-01-31T00:00:00Z").unwrap().0;
        assert_eq!(moment::show(given).as_deref(), Some("2027-01-31T00:00:00Z"));
        let ahead = |text: &str| parse(text).unwrap().0.duration_since(SystemTime::now()).unwrap().as_secs();
        assert!((7 * 86_400 - 60..=7 * 86_400).contains(&ahead("7d")));
        assert!((12 * 3600 - 60..=12 * 3600).contains(&ahead("12h")));
        for bad in
            ["", "d", "7", "-7d", "7w", "36526d", "99999999999999999999d", "2027-01-31", "tomorrow", "7ä"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
