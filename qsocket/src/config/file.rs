//! The configuration file.

mod relays;

use super::{
    Config, ConfigError, Listen, MAX_IDLE_TIMEOUT, MIN_IDLE_TIMEOUT, MlKem, Parity, Raida, Redundancy,
    RelayAddresses, Tuning,
};
use crate::access::AccessList;
use crate::keys::{KeyFileError, load_encryption_key, load_raida_key};
use crate::resolve::{ConfigNames, Target};
use qsocket_files::settings::{SettingsError, SettingsFile, Spanned};
use qsocket_proto::ids::Principal;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    key: Spanned<String>,
    #[serde(default)]
    encryption_keys: Vec<Spanned<String>>,
    raida: Spanned<RawRaida>,
    #[serde(default)]
    names: BTreeMap<Spanned<String>, RawName>,
    #[serde(default)]
    listen: RawListen,
    #[serde(default)]
    tuning: RawTuning,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRaida {
    network: Spanned<i64>,
    relays: Option<Spanned<Vec<Spanned<String>>>>,
    base: Option<Spanned<String>>,
    relay: Option<relays::RawRelays>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawName {
    server: Spanned<String>,
    address: Spanned<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    allow: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    deny: Vec<Spanned<String>>,
    ports: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTuning {
    #[serde(default)]
    ml_kem: MlKem,
    #[serde(default)]
    redundancy: Redundancy,
    #[serde(default)]
    parity: Parity,
    idle_timeout_seconds: Option<Spanned<i64>>,
}

/// The file being read.
struct Source(SettingsFile);

impl std::ops::Deref for Source {
    type Target = SettingsFile;

    fn deref(&self) -> &SettingsFile {
        &self.0
    }
}

impl Source {
    fn key_error(&self, at: &Spanned<String>, source: KeyFileError) -> ConfigError {
        ConfigError::Key { path: self.path().to_owned(), line: self.line(at), source }
    }

    fn addresses(&self, list: &Spanned<Vec<Spanned<String>>>) -> Result<RelayAddresses, SettingsError> {
        let parsed: Vec<_> = list.get_ref().iter().map(|a| self.address(a)).collect::<Result<_, _>>()?;
        RelayAddresses::from_list(&parsed).map_err(|e| self.error(list, e))
    }

    fn member(&self, text: &Spanned<String>, network: u16) -> Result<Principal, SettingsError> {
        let principal = self.principal(text)?;
        if principal.network != network {
            return Err(self.error(text, super::SettingError::PrincipalNetwork { principal, network }));
        }
        Ok(principal)
    }

    fn principals(
        &self,
        list: &[Spanned<String>],
        network: u16,
    ) -> Result<BTreeSet<Principal>, SettingsError> {
        list.iter().map(|p| self.member(p, network)).collect()
    }

    fn raida(&self, raw: &Spanned<RawRaida>) -> Result<Raida, SettingsError> {
        let RawRaida { network, relays, base, relay } = raw.get_ref();
        let number = u16::try_from(*network.get_ref())
            .map_err(|_| self.error(network, "network: write a number from 0 to 65535"))?;
        let relays = match (relays, base, relay) {
            (Some(list), None, None) => self.addresses(list)?,
            (None, None, Some(relay)) => relays::addresses(self, relay)?,
            (None, Some(base), None) => {
                RelayAddresses::from_base(self.address(base)?).map_err(|e| self.error(base, e))?
            }
            _ => {
                return Err(self.error(
                    raw,
                    "[raida]: write either `relays` (25 addresses), `base` (one address) or [[raida.relay]] (25 tables)",
                ));
            }
        };
        Ok(Raida { network: number, relays })
    }

    fn names(
        &self,
        raw: &BTreeMap<Spanned<String>, RawName>,
        network: u16,
    ) -> Result<ConfigNames, SettingsError> {
        let mut names = ConfigNames::new();
        for (name, entry) in raw {
            let server = self.member(&entry.server, network)?;
            let added = match entry.address.get_ref().parse::<IpAddr>() {
                Ok(ip) => names.insert_any_port(name.get_ref(), server, ip),
                Err(_) => {
                    let address = self.address(&entry.address)?;
                    if address.port() == 0 {
                        let what = "port 0; leave the port out to keep the one that is asked for";
                        return Err(self.error(&entry.address, what));
                    }
                    names.insert(name.get_ref(), Target { server, address })
                }
            };
            if !added.map_err(|e| self.error(name, e))? {
                return Err(self
                    .error(name, format!("the name {:?} is already there; keep one entry", name.get_ref())));
            }
        }
        Ok(names)
    }

    fn tuning(&self, raw: &RawTuning) -> Result<Tuning, SettingsError> {
        let mut tuning =
            Tuning::default().with_ml_kem(raw.ml_kem).with_redundancy(raw.redundancy).with_parity(raw.parity);
        if let Some(seconds) = &raw.idle_timeout_seconds {
            let (min, max) = (MIN_IDLE_TIMEOUT.as_secs(), MAX_IDLE_TIMEOUT.as_secs());
            let given = u64::try_from(*seconds.get_ref()).ok().filter(|s| (min..=max).contains(s));
            let given = given.ok_or_else(|| {
                self.error(seconds, format!("idle_timeout_seconds: write a number from {min} to {max}"))
            })?;
            tuning = tuning.with_idle_timeout(Duration::from_secs(given));
        }
        Ok(tuning)
    }
}

pub(super) fn load(path: &Path) -> Result<Config, ConfigError> {
    let source = Source(SettingsFile::read(path)?);
    let raw: RawConfig = source.parse()?;

    let raida = source.raida(&raw.raida)?;
    let warnings = match &raw.raida.get_ref().relay {
        Some(relay) => relays::check(&source, relay)?,
        None => Vec::new(),
    };
    let network = raida.network;
    let key = load_raida_key(source.resolve(&raw.key)).map_err(|e| source.key_error(&raw.key, e))?;
    let mut config = Config::new(raida, key).map_err(|e| source.error(&raw.key, e))?;
    for file in &raw.encryption_keys {
        let key = load_encryption_key(source.resolve(file)).map_err(|e| source.key_error(file, e))?;
        config = config.with_encryption_key(key).map_err(|e| source.error(file, e))?;
    }
    let allow = raw.listen.allow.as_deref().map(|list| source.principals(list, network)).transpose()?;
    let access = AccessList { allow, deny: source.principals(&raw.listen.deny, network)? };
    let ports = raw.listen.ports.as_ref().map(|list| source.addresses(list)).transpose()?;
    Ok(config
        .with_names(source.names(&raw.names, network)?)
        .with_listen(Listen { access, ports })
        .with_tuning(source.tuning(&raw.tuning)?)
        .with_warnings(warnings))
}
