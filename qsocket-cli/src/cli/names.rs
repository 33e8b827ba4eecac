//! The command line of look-ups and names.

use clap::{Args, Subcommand};
use qsocket::names::{MAX_TTL, MAX_YEARS, MIN_TTL, Name, Reference};
use qsocket::{PathId, Principal};
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

/// Flags of `lookup`.
#[derive(Debug, Args)]
pub(crate) struct LookupArgs {
    /// The name, such as cloudcoin.raida or wiki.example
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The client's configuration; otherwise the one that $QSOCKET_CONFIG names, or the default place
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One JSON document on standard output, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `name`.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The owner's configuration, of a client; otherwise the one that $QSOCKET_CONFIG names, or the default place
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// One JSON document on standard output, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: NameCommand,
}

/// What to do with names.
#[derive(Debug, Subcommand)]
pub(crate) enum NameCommand {
    /// Registers a name at all relays, and says what each asks for it
    ///
    /// Draws the number of the name and a payment reference; write that on the transfer to each operator. If fewer than
    /// sixteen relays take it, it is given back where it was taken, and the exit code is 1.
    Register(RegisterArgs),
    /// Asks for a longer term, and says what each relay asks for it
    Renew(RenewArgs),
    /// Changes what is known of a name, and repeats it to relays that missed something
    ///
    /// What no flag names stays as it is. Without flags the relays hear again what holds.
    Set(SetArgs),
    /// Shows how a name stands at each relay
    Show(WhichNameArgs),
    /// Gives a name to another principal, whom the relays must know
    Transfer(TransferArgs),
    /// Gives a name back: whoever comes first may register it then
    Withdraw(WithdrawArgs),
}

/// Which name.
#[derive(Debug, Args)]
pub(crate) struct WhichNameArgs {
    /// The name, with or without .raida
    #[arg(value_name = "NAME")]
    pub(crate) name: Name,
}

/// What is known of a name.
#[derive(Debug, Default, Args)]
pub(crate) struct RecordArgs {
    /// Who answers behind the name, network.denomination.serial; `none` for nobody
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) server: Option<OrNone<Principal>>,
    /// Where the service is, as the server is registered at the relays; `none` for nowhere
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) address: Option<OrNone<SocketAddr>>,
    /// The port at the same address that takes signals of key exchanges; `none` for none
    #[arg(long, value_name = "PORT")]
    pub(crate) signalling: Option<OrNone<NonZeroU16>>,
    /// Where relay N of the RAIDA of this name is, or `N=none`; several times for several
    #[arg(long = "endpoint", value_name = "N=IP:PORT")]
    pub(crate) endpoints: Vec<EndpointArg>,
    /// Relay 0 of the RAIDA of this name; relays 1 to 24 at the 24 ports that follow
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) base: Option<SocketAddr>,
    /// For how many seconds answers may be remembered, 60 to 86400; 300 for a new name
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(MIN_TTL as i64..=MAX_TTL as i64))]
    pub(crate) ttl: Option<u32>,
}

/// Flags of `name register`.
#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// Which name.
    #[command(flatten)]
    pub(crate) which: WhichNameArgs,
    /// For how many years
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MAX_YEARS as i64))]
    pub(crate) years: u8,
    /// What is known of it.
    #[command(flatten)]
    pub(crate) record: RecordArgs,
}

/// Flags of `name renew`.
#[derive(Debug, Args)]
pub(crate) struct RenewArgs {
    /// Which name.
    #[command(flatten)]
    pub(crate) which: WhichNameArgs,
    /// By how many years
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MAX_YEARS as i64))]
    pub(crate) years: u8,
    /// The reference that an earlier `renew` printed, to repeat it to relays that missed it
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) reference: Option<Reference>,
}

/// Flags of `name set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Which name.
    #[command(flatten)]
    pub(crate) which: WhichNameArgs,
    /// What shall be known of it.
    #[command(flatten)]
    pub(crate) record: RecordArgs,
}

/// Flags of `name transfer`.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// Which name.
    #[command(flatten)]
    pub(crate) which: WhichNameArgs,
    /// The new owner, network.denomination.serial
    #[arg(value_name = "PRINCIPAL")]
    pub(crate) to: Principal,
    /// You mean it: only the new owner can give it back
    #[arg(long, required = true)]
    pub(crate) yes: bool,
}

/// Flags of `name withdraw`.
#[derive(Debug, Args)]
pub(crate) struct WithdrawArgs {
    /// Which name.
    #[command(flatten)]
    pub(crate) which: WhichNameArgs,
    /// You mean it: what was paid is not paid back, and anybody can register the name
    #[arg(long, required = true)]
    pub(crate) yes: bool,
}

/// A value, or the word `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrNone<T>(pub(crate) Option<T>);

impl<T: FromStr<Err: Display>> FromStr for OrNone<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => text.parse().map(|value| Self(Some(value))).map_err(|e| format!("{e}, or none")),
        }
    }
}

/// Where a relay is, or that it is nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndpointArg(pub(crate) PathId, pub(crate) Option<SocketAddr>);

impl FromStr for EndpointArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "write a relay and where it is, as 3=192.0.2.10:50003, or 3=none".to_owned();
        let (relay, at) = text.split_once('=').ok_or_else(bad)?;
        let relay = relay.parse().ok().and_then(PathId::new).ok_or_else(bad)?;
        let OrNone(at) = at.parse().map_err(|_| bad())?;
        Ok(Self(relay, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_relay_and_a_place() {
        let at = "192.0.2.10:50003".parse().unwrap();
        let relay = |n| PathId::new(n).unwrap();
        assert_eq!("3=192.0.2.10:50003".parse(), Ok(EndpointArg(relay(3), Some(at))));
        assert_eq!("24=none".parse(), Ok(EndpointArg(relay(24), None)));
        for bad in ["", "3", "25=none", "-1=none", "3=", "3=192.0.2.10", "none=none"] {
            assert!(bad.parse::<EndpointArg>().is_err(), "{bad}");
        }
    }

    #[test]
    fn none_is_a_value_too() {
        assert_eq!("none".parse::<OrNone<NonZeroU16>>(), Ok(OrNone(None)));
        assert_eq!("7".parse::<OrNone<NonZeroU16>>(), Ok(OrNone(NonZeroU16::new(7))));
        assert!("0".parse::<OrNone<NonZeroU16>>().is_err());
    }
}
