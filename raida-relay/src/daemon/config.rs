//! The configuration file of one relay.

use super::log::{self, Format};
use qsocket_files::settings::{SettingsError, SettingsFile, Spanned};
use qsocket_proto::hop::HANDSHAKE_TIMEOUT;
use qsocket_proto::ids::PathId;
use qsocket_proto::names::{Currency, Fees, Name};
use qsocket_proto::relay::MAX_HOPS_PER_ADDRESS;
use raida_relay::names::{FEES, GRACE, HOLD, NAMES_PER_OWNER, PAYMENTS_PER_OWNER, Terms};
use raida_relay::posts::{POSTS_PER_POSTER, POSTS_PER_RECEIVER, PostQuota};
use raida_relay::{HANDSHAKES_PER_SECOND, Limits, MAX_CONNECTIONS, STALLED_AFTER};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest tag: it stands in every line of metrics.
const MAX_TAG: usize = 64;

/// How long a relay that ends lets waiting bytes out, unless the file says otherwise.
const DRAIN: Duration = Duration::from_secs(10);

/// The range of every number in `[limits]`, in the order of [`LimitSettings`].
mod range {
    use super::RangeInclusive;
    pub(super) const HOPS_PER_ADDRESS: RangeInclusive<i64> = 1..=65_536;
    pub(super) const CONNECTIONS: RangeInclusive<i64> = 1..=1_000_000;
    pub(super) const HANDSHAKES_PER_SECOND: RangeInclusive<i64> = 1..=100_000;
    /// The protocol allows no more than 5.
    pub(super) const HANDSHAKE_SECONDS: RangeInclusive<i64> = 1..=5;
    pub(super) const STALLED_SECONDS: RangeInclusive<i64> = 1..=3_600;
    pub(super) const DRAIN_SECONDS: RangeInclusive<i64> = 0..=300;
    /// Every name is some hundred bytes on disk.
    pub(super) const POSTS: RangeInclusive<i64> = 0..=1_000_000;
    /// As the protocol carries it.
    pub(super) const FEE: RangeInclusive<i64> = 0..=u32::MAX as i64;
    pub(super) const HOLD_DAYS: RangeInclusive<i64> = 1..=365;
    pub(super) const GRACE_DAYS: RangeInclusive<i64> = 0..=365;
    /// Every name is some thousand bytes on disk.
    pub(super) const NAMES: RangeInclusive<i64> = 0..=1_000_000;
    pub(super) const PAYMENTS: RangeInclusive<i64> = 0..=10_000;
}

/// A configuration that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The file.
    pub(crate) file: PathBuf,
    /// Which of the 25.
    pub(crate) relay: PathId,
    /// Of which RAIDA.
    pub(crate) network: u16,
    /// Where the relay listens.
    pub(crate) listen: SocketAddr,
    /// The store of principals.
    pub(crate) store: PathBuf,
    /// Where posts of keys are kept.
    pub(crate) posts: PostsAt,
    /// Who runs the relay, for status and metrics.
    pub(crate) operator: Option<String>,
    /// Where it stands, for status and metrics.
    pub(crate) region: Option<String>,
    /// Dial loopback and private addresses too.
    pub(crate) dial_any_address: bool,
    /// Servers register their addresses over their hops.
    pub(crate) registration: bool,
    /// Where status and metrics are served; a loopback address.
    pub(crate) admin: Option<SocketAddr>,
    /// Bounds.
    pub(crate) limits: LimitSettings,
    /// What is asked and granted for names.
    pub(crate) names: Terms,
    /// What is logged, and how.
    pub(crate) log: LogSettings,
}

/// Where a relay keeps posts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PostsAt {
    /// A file of SQLite, made when it is not there.
    File(PathBuf),
    /// A database of PostgreSQL. The address holds no password.
    Postgres(String),
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitSettings {
    /// TCP connections that one address may hold.
    pub(crate) hops_per_address: u32,
    /// TCP connections accepted in all.
    pub(crate) connections: usize,
    /// Handshakes a second for one address, sustained.
    pub(crate) handshakes_per_second: NonZeroU32,
    /// Time for a whole handshake.
    pub(crate) handshake: Duration,
    /// How long a peer may take no byte.
    pub(crate) stalled: Duration,
    /// How long waiting bytes are let out at the end.
    pub(crate) drain: Duration,
    /// Posts of keys that are kept.
    pub(crate) posts: PostQuota,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// A level or a filter of `tracing`; it was parsed once.
    pub(crate) level: String,
    /// How lines look.
    pub(crate) format: Format,
}

impl LimitSettings {
    /// As the library takes them.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            hops_per_address: self.hops_per_address,
            connections: self.connections,
            handshakes_per_second: self.handshakes_per_second,
            handshake: self.handshake,
            stalled: self.stalled,
            posts: self.posts,
            ..Limits::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    relay: Spanned<i64>,
    network: Spanned<i64>,
    listen: Spanned<String>,
    store: Spanned<String>,
    posts: Option<Spanned<String>>,
    operator: Option<Spanned<String>>,
    region: Option<Spanned<String>>,
    #[serde(default)]
    dial_any_address: bool,
    registration: Option<bool>,
    admin: Option<RawAdmin>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    names: RawNames,
    #[serde(default)]
    log: RawLog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAdmin {
    listen: Spanned<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    hops_per_address: Option<Spanned<i64>>,
    connections: Option<Spanned<i64>>,
    handshakes_per_second: Option<Spanned<i64>>,
    handshake_seconds: Option<Spanned<i64>>,
    stalled_seconds: Option<Spanned<i64>>,
    drain_seconds: Option<Spanned<i64>>,
    posts_per_poster: Option<Spanned<i64>>,
    posts_per_receiver: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNames {
    first: Option<Spanned<i64>>,
    renewal: Option<Spanned<i64>>,
    currency: Option<Spanned<String>>,
    hold_days: Option<Spanned<i64>>,
    grace_days: Option<Spanned<i64>>,
    #[serde(default)]
    reserved: Vec<Spanned<String>>,
    names_per_owner: Option<Spanned<i64>>,
    payments_per_owner: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    level: Option<Spanned<String>>,
    #[serde(default)]
    format: Format,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The first problem, with its line and what to write.
    pub(crate) fn read(path: &Path) -> Result<Self, SettingsError> {
        let file = SettingsFile::read(path)?;
        let raw: Raw = file.parse()?;
        let relay = number(&file, &raw.relay, "relay", &(0..=24))?;
        let listen = file.address(&raw.listen)?;
        if raw.store.get_ref().is_empty() {
            return Err(file.error(&raw.store, "store names no file; write \"principals.db\""));
        }
        Ok(Self {
            relay: u8::try_from(relay)
                .ok()
                .and_then(PathId::new)
                .ok_or_else(|| file.error(&raw.relay, "relay: write 0 to 24"))?,
            network: number(&file, &raw.network, "network", &(0..=i64::from(u16::MAX)))? as u16,
            listen,
            posts: posts(&file, raw.posts.as_ref(), &raw.store)?,
            store: file.resolve(&raw.store),
            operator: tag(&file, raw.operator, "operator")?,
            region: tag(&file, raw.region, "region")?,
            dial_any_address: raw.dial_any_address,
            registration: raw.registration.unwrap_or(true),
            admin: raw.admin.map(|admin| loopback(&file, &admin.listen, listen)).transpose()?,
            limits: limits(&file, &raw.limits)?,
            names: names(&file, &raw.names)?,
            log: log_settings(&file, raw.log)?,
            file: path.to_owned(),
        })
    }

    /// The first setting that differs and that a relay keeps while it runs.
    pub(crate) fn needs_restart(&self, new: &Self) -> Option<&'static str> {
        [
            ("relay", self.relay != new.relay),
            ("network", self.network != new.network),
            ("listen", self.listen != new.listen),
            ("store", self.store != new.store),
            ("posts", self.posts != new.posts),
            ("dial_any_address", self.dial_any_address != new.dial_any_address),
            ("registration", self.registration != new.registration),
            ("admin.listen", self.admin != new.admin),
            ("limits", LimitSettings { drain: new.limits.drain, ..self.limits } != new.limits),
            ("names", self.names != new.names),
            ("log.format", self.log.format != new.log.format),
        ]
        .into_iter()
        .find_map(|(name, differs)| differs.then_some(name))
    }
}

/// Where posts are kept, unless said: beside the store.
fn posts(
    file: &SettingsFile,
    text: Option<&Spanned<String>>,
    store: &Spanned<String>,
) -> Result<PostsAt, SettingsError> {
    let Some(text) = text else { return Ok(PostsAt::File(file.resolve(store).with_file_name("posts.db"))) };
    let Some(address) = ["postgres://", "postgresql://"].iter().find_map(|s| text.get_ref().strip_prefix(s))
    else {
        if text.get_ref().is_empty() {
            let what = "posts names no file; write \"posts.db\", or postgres://USER@HOST/DATABASE";
            return Err(file.error(text, what));
        }
        return Ok(PostsAt::File(file.resolve(text)));
    };
    let user = address.split(['/', '?']).next().and_then(|authority| authority.rsplit_once('@'));
    if user.is_some_and(|(user, _)| user.contains(':')) || address.contains("password=") {
        let what = "posts holds a password, which everybody sees who may read this file; put it into a password file \
                    (variable PGPASSFILE) and write postgres://USER@HOST/DATABASE";
        return Err(file.error(text, what));
    }
    Ok(PostsAt::Postgres(text.get_ref().clone()))
}

fn number(
    file: &SettingsFile,
    value: &Spanned<i64>,
    name: &str,
    range: &RangeInclusive<i64>,
) -> Result<i64, SettingsError> {
    let n = *value.get_ref();
    if range.contains(&n) {
        return Ok(n);
    }
    Err(file
        .error(value, format!("{name} = {n} is out of range; write {} to {}", range.start(), range.end())))
}

fn tag(
    file: &SettingsFile,
    text: Option<Spanned<String>>,
    name: &str,
) -> Result<Option<String>, SettingsError> {
    let Some(text) = text else { return Ok(None) };
    let len = text.get_ref().chars().count();
    if len == 0 || len > MAX_TAG || text.get_ref().chars().any(char::is_control) {
        let what = format!("{name}: write 1 to {MAX_TAG} characters in one line, or leave it out");
        return Err(file.error(&text, what));
    }
    Ok(Some(text.into_inner()))
}

fn loopback(
    file: &SettingsFile,
    text: &Spanned<String>,
    listen: SocketAddr,
) -> Result<SocketAddr, SettingsError> {
    let address = file.address(text)?;
    if !address.ip().to_canonical().is_loopback() {
        let what = format!(
            "admin.listen = \"{address}\" can be reached from other machines, and the admin port asks nobody who \
             they are; write a loopback address, for example \"127.0.0.1:9907\""
        );
        return Err(file.error(text, what));
    }
    if address == listen && address.port() != 0 {
        return Err(file.error(text, "admin.listen is the address of the relay itself; write another port"));
    }
    Ok(address)
}

fn limits(file: &SettingsFile, raw: &RawLimits) -> Result<LimitSettings, SettingsError> {
    let get =
        |value: &Option<Spanned<i64>>, name: &str, range: &RangeInclusive<i64>, default: u64| match value {
            Some(value) => number(file, value, &format!("limits.{name}"), range).map(i64::unsigned_abs),
            None => Ok(default),
        };
    let hops = get(
        &raw.hops_per_address,
        "hops_per_address",
        &range::HOPS_PER_ADDRESS,
        MAX_HOPS_PER_ADDRESS.into(),
    )?;
    let connections = get(&raw.connections, "connections", &range::CONNECTIONS, MAX_CONNECTIONS as u64)?;
    let rate = get(
        &raw.handshakes_per_second,
        "handshakes_per_second",
        &range::HANDSHAKES_PER_SECOND,
        HANDSHAKES_PER_SECOND.get().into(),
    )?;
    let seconds = |value, name, range, default: Duration| {
        get(value, name, range, default.as_secs()).map(Duration::from_secs)
    };
    let posts = |value, name, default: u32| get(value, name, &range::POSTS, default.into()).map(|n| n as u32);
    Ok(LimitSettings {
        hops_per_address: hops as u32,
        connections: connections as usize,
        handshakes_per_second: NonZeroU32::new(rate as u32).unwrap_or(HANDSHAKES_PER_SECOND),
        handshake: seconds(
            &raw.handshake_seconds,
            "handshake_seconds",
            &range::HANDSHAKE_SECONDS,
            HANDSHAKE_TIMEOUT,
        )?,
        stalled: seconds(&raw.stalled_seconds, "stalled_seconds", &range::STALLED_SECONDS, STALLED_AFTER)?,
        drain: seconds(&raw.drain_seconds, "drain_seconds", &range::DRAIN_SECONDS, DRAIN)?,
        posts: PostQuota {
            per_poster: posts(&raw.posts_per_poster, "posts_per_poster", POSTS_PER_POSTER)?,
            per_receiver: posts(&raw.posts_per_receiver, "posts_per_receiver", POSTS_PER_RECEIVER)?,
        },
    })
}

fn names(file: &SettingsFile, raw: &RawNames) -> Result<Terms, SettingsError> {
    let get =
        |value: &Option<Spanned<i64>>, name: &str, range: &RangeInclusive<i64>, default: u32| match value {
            // No range above ends beyond 32 bits.
            Some(value) => number(file, value, &format!("names.{name}"), range).map(|n| n as u32),
            None => Ok(default),
        };
    let days = |value, name, range, default: Duration| {
        const DAY: u32 = 24 * 3600;
        let days = get(value, name, range, default.as_secs() as u32 / DAY)?;
        Ok(Duration::from_secs(u64::from(days) * u64::from(DAY)))
    };
    let currency = match &raw.currency {
        None => FEES.currency,
        Some(text) => text
            .get_ref()
            .parse::<Currency>()
            .map_err(|e| file.error(text, format!("names.currency: {e}")))?,
    };
    let mut reserved = BTreeSet::new();
    for text in &raw.reserved {
        let name =
            Name::parse(text.get_ref()).map_err(|e| file.error(text, format!("names.reserved: {e}")))?;
        reserved.insert(name);
    }
    Ok(Terms {
        fees: Fees {
            first: get(&raw.first, "first", &range::FEE, FEES.first)?,
            renewal: get(&raw.renewal, "renewal", &range::FEE, FEES.renewal)?,
            currency,
        },
        hold: days(&raw.hold_days, "hold_days", &range::HOLD_DAYS, HOLD)?,
        grace: days(&raw.grace_days, "grace_days", &range::GRACE_DAYS, GRACE)?,
        reserved,
        names_per_owner: get(&raw.names_per_owner, "names_per_owner", &range::NAMES, NAMES_PER_OWNER)?,
        payments_per_owner: get(
            &raw.payments_per_owner,
            "payments_per_owner",
            &range::PAYMENTS,
            PAYMENTS_PER_OWNER,
        )?,
    })
}

fn log_settings(file: &SettingsFile, raw: RawLog) -> Result<LogSettings, SettingsError> {
    let level = match raw.level {
        None => "info".to_owned(),
        Some(level) => {
            log::check(level.get_ref()).map_err(|e| file.error(&level, format!("log.level: {e:#}")))?;
            level.into_inner()
        }
    };
    Ok(LogSettings { level, format: raw.format })
}

#[cfg(test)]
mod tests;
