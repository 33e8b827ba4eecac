//! The file that names 25 hosts.

use anyhow::Context as _;
use qsocket_files::settings::{SettingsError, SettingsFile, Spanned};
use qsocket_proto::ids::{PathSet, RELAYS};
use qsocket_proto::operators::{Tags, check_operators, check_regions};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::Path;

/// One relay of the RAIDA to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Where principals dial it.
    pub(super) address: SocketAddr,
    /// Where it listens.
    pub(super) listen: SocketAddr,
    pub(super) operator: Option<String>,
    pub(super) region: Option<String>,
    pub(super) admin: Option<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHosts {
    network: Spanned<i64>,
    relay: Spanned<Vec<Spanned<RawHost>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHost {
    address: Spanned<String>,
    listen: Option<Spanned<String>>,
    operator: Option<Spanned<String>>,
    region: Option<Spanned<String>>,
    admin: Option<Spanned<String>>,
}

/// Reads and checks the file: the network, 25 hosts in the order of the relays, warnings.
///
/// # Errors
/// The first problem, with its line; the operator rule among them.
pub(super) fn read(path: &Path) -> anyhow::Result<(u16, Vec<Host>, Vec<String>)> {
    let file = SettingsFile::read(path)?;
    let raw: RawHosts = file.parse().context("a file of hosts has `network` and 25 [[relay]] tables")?;
    let network = u16::try_from(*raw.network.get_ref())
        .map_err(|_| file.error(&raw.network, "network: write a number from 0 to 65535"))?;
    let list = raw.relay.get_ref();
    if list.len() != RELAYS {
        let what = format!("{} [[relay]] tables where {RELAYS} are needed, one for each relay", list.len());
        return Err(file.error(&raw.relay, what).into());
    }
    let mut hosts: Vec<Host> = Vec::new();
    for relay in list {
        let RawHost { address: at, listen, operator, region, admin } = relay.get_ref();
        let address = port(&file, at)?;
        if hosts.iter().any(|h| h.address == address) {
            let what = format!("{address} stands there twice; each relay has its own address");
            return Err(file.error(at, what).into());
        }
        hosts.push(Host {
            address,
            listen: listen.as_ref().map_or(Ok(address), |listen| port(&file, listen))?,
            operator: tag(&file, operator.as_ref())?,
            region: tag(&file, region.as_ref())?,
            admin: admin.as_ref().map(|admin| loopback(&file, admin)).transpose()?,
        });
    }
    let operators: Tags<'_> = std::array::from_fn(|i| hosts.get(i)?.operator.as_deref());
    let regions: Tags<'_> = std::array::from_fn(|i| hosts.get(i)?.region.as_deref());
    let last = |set: PathSet| set.iter().last().and_then(|path| list.get(path.index()));
    let mut warnings = check_operators(&operators).map_err(|e| match last(e.relays) {
        Some(relay) => file.error(relay, e),
        None => file.error(&raw.relay, e),
    })?;
    warnings.extend(check_regions(&regions));
    let warnings = warnings.iter().map(|w| format!("{}: {w}", file.path().display())).collect();
    Ok((network, hosts, warnings))
}

fn port(file: &SettingsFile, text: &Spanned<String>) -> Result<SocketAddr, SettingsError> {
    let address = file.address(text)?;
    match address.port() {
        0 => Err(file.error(text, format!("{address} has port 0; write a port from 1 to 65535"))),
        _ => Ok(address),
    }
}

fn loopback(file: &SettingsFile, text: &Spanned<String>) -> Result<SocketAddr, SettingsError> {
    let address = port(file, text)?;
    match address.ip().to_canonical().is_loopback() {
        true => Ok(address),
        false => Err(file.error(text, "admin: write a loopback address, for example \"127.0.0.1:9907\"")),
    }
}

/// What the relay's own configuration takes too.
fn tag(file: &SettingsFile, text: Option<&Spanned<String>>) -> Result<Option<String>, SettingsError> {
    const MAX_TAG: usize = 64;
    let Some(text) = text else { return Ok(None) };
    let tag = text.get_ref();
    if tag.is_empty() || tag.chars().count() > MAX_TAG || tag.chars().any(char::is_control) {
        return Err(file.error(text, format!("write 1 to {MAX_TAG} characters in one line, or leave it out")));
    }
    Ok(Some(tag.clone()))
}
