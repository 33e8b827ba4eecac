//! The configuration file.

mod one_or_many;
mod relays;

use super::{
    Config, ConfigError, DialledBy, Listen, MAX_IDLE_TIMEOUT, MIN_IDLE_TIMEOUT, Membership, MlKem, Parity,
    Raida, Redundancy, Registration, RelayAddresses, SettingError, Tuning,
};
use crate::access::{AccessList, LiveDirectory};
use crate::exchange::KeyReceiver;
use crate::keys::{KeyFileError, LiveKeys, load_encryption_key, load_raida_key};
use crate::names::Dns;
use crate::resolve::{At, ConfigNames, Place, parse_name_port};
use one_or_many::OneOrMany;
use qsocket_files::settings::{SettingsError, SettingsFile, Spanned};
use qsocket_proto::ids::{Principal, Role};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    key: Option<Spanned<String>>,
    #[serde(default)]
    encryption_keys: Vec<Spanned<String>>,
    keys: Option<Spanned<String>>,
    receive_keys: Option<Spanned<bool>>,
    raida: Spanned<OneOrMany<RawRaida>>,
    #[serde(default)]
    names: BTreeMap<Spanned<String>, OneOrMany<RawName>>,
    #[serde(default)]
    listen: RawListen,
    #[serde(default)]
    tuning: RawTuning,
    access: Option<Spanned<String>>,
    dns: Option<Spanned<RawDns>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRaida {
    key: Option<Spanned<String>>,
    listen: Option<Spanned<String>>,
    #[serde(default)]
    register: Vec<Spanned<RawRegistration>>,
    network: Spanned<i64>,
    relays: Option<Spanned<Vec<Spanned<String>>>>,
    base: Option<Spanned<String>>,
    relay: Option<relays::RawRelays>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegistration {
    address: Spanned<String>,
    #[serde(default, with = "RawDialledBy")]
    dialled_by: DialledBy,
}

#[derive(Deserialize)]
#[serde(remote = "DialledBy", rename_all = "lowercase")]
enum RawDialledBy {
    Relays,
    Server,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawName {
    server: Spanned<String>,
    address: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDns {
    server: Option<Spanned<String>>,
    qsocket: Option<Spanned<String>>,
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
    #[serde(default, with = "RawMlKem")]
    ml_kem: MlKem,
    #[serde(default)]
    redundancy: Redundancy,
    #[serde(default)]
    parity: Parity,
    idle_timeout_seconds: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(remote = "MlKem", rename_all = "lowercase")]
enum RawMlKem {
    Require,
    On,
    Off,
}

/// The port of DNS servers.
const DNS_PORT: u16 = 53;

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

    /// A principal of one of the configuration's networks.
    fn member(&self, text: &Spanned<String>, config: &Config) -> Result<Principal, SettingsError> {
        let principal = self.principal(text)?;
        match config.in_network(principal.network) {
            Some(_) => Ok(principal),
            None => Err(self.error(text, config.not_in(principal))),
        }
    }

    fn principals(
        &self,
        list: &[Spanned<String>],
        config: &Config,
    ) -> Result<BTreeSet<Principal>, SettingsError> {
        list.iter().map(|p| self.member(p, config)).collect()
    }

    /// A RAIDA; `at` spans its table.
    fn raida<T>(&self, at: &Spanned<T>, raw: &RawRaida) -> Result<Raida, SettingsError> {
        let RawRaida { network, relays, base, relay, .. } = raw;
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
                    at,
                    "[raida]: write either `relays` (25 addresses), `base` (one address) or [[raida.relay]] (25 tables)",
                ));
            }
        };
        Ok(Raida { network: number, relays })
    }

    /// Whether the relays of each network are of enough operators, and what deserves a look.
    fn warnings(&self, raida: &OneOrMany<RawRaida>) -> Result<Vec<String>, SettingsError> {
        let tables: Vec<&RawRaida> = match raida {
            OneOrMany::One(raida) => vec![raida],
            OneOrMany::Many(table) => table.iter().map(Spanned::get_ref).collect(),
        };
        let mut warnings = Vec::new();
        for relay in tables.into_iter().filter_map(|raida| raida.relay.as_ref()) {
            warnings.extend(relays::check(self, relay)?);
        }
        Ok(warnings)
    }

    fn membership<T>(
        &self,
        at: &Spanned<T>,
        raw: &RawRaida,
        key: &Spanned<String>,
    ) -> Result<Membership, ConfigError> {
        let raida = self.raida(at, raw)?;
        let own = load_raida_key(self.resolve(key)).map_err(|e| self.key_error(key, e))?;
        let mut membership = Membership::new(raida, own).map_err(|e| self.error(key, e))?;
        for at in &raw.register {
            let RawRegistration { address, dialled_by } = at.get_ref();
            let registration = Registration { address: self.address(address)?, dialled_by: *dialled_by };
            membership = membership.with_registration(registration).map_err(|e| self.error(at, e))?;
        }
        Ok(membership)
    }

    /// The configuration with its networks and nothing else.
    fn networks(&self, raw: &RawConfig) -> Result<Config, ConfigError> {
        let table = match raw.raida.get_ref() {
            OneOrMany::One(raida) => {
                let key = match (&raw.key, &raida.key) {
                    (Some(key), None) => key,
                    (_, Some(at)) => {
                        let what = "key: write it above the first [section]; only in [[raida]], one for each network, it stands inside";
                        return Err(self.error(at, what).into());
                    }
                    (None, None) => {
                        let what = "missing `key`; write `key = \"FILE\"` above the first [section]";
                        return Err(self.error(&raw.raida, what).into());
                    }
                };
                self.refuse_listen(raida)?;
                return Ok(Config::from(self.membership(&raw.raida, raida, key)?));
            }
            OneOrMany::Many(table) => table,
        };
        if let Some(key) = &raw.key {
            let what =
                "key: with [[raida]] each network has a key of its own; move this line into its [[raida]]";
            return Err(self.error(key, what).into());
        }
        let mut config: Option<Config> = None;
        for at in table {
            let raida = at.get_ref();
            let key = raida.key.as_ref().ok_or_else(|| {
                self.error(at, "missing `key`; write `key = \"FILE\"`, the RAIDA key for this network")
            })?;
            let membership = self.membership(at, raida, key)?;
            config = Some(match config {
                None => {
                    self.refuse_listen(raida)?;
                    Config::from(membership)
                }
                Some(config) => self.add(config, at, membership)?,
            });
        }
        config.ok_or_else(|| self.error(&raw.raida, "raida: no network; write at least one").into())
    }

    /// The first network is served where the program binds.
    fn refuse_listen(&self, raida: &RawRaida) -> Result<(), SettingsError> {
        match &raida.listen {
            None => Ok(()),
            Some(at) => Err(self.error(
                at,
                "listen: the first network is served at the address that the program binds, or at `listen.ports`; remove this line",
            )),
        }
    }

    fn add(
        &self,
        config: Config,
        at: &Spanned<RawRaida>,
        mut membership: Membership,
    ) -> Result<Config, SettingsError> {
        let raw = at.get_ref();
        if let Some(listen) = &raw.listen {
            let address = self.address(listen)?;
            RelayAddresses::from_base(address).map_err(|e| self.error(listen, e))?;
            membership = membership.with_listen(address);
        }
        config.with_membership(membership).map_err(|e| match (&e, &raw.listen, &raw.key) {
            (SettingError::NetworkTwice(_), ..) => self.error(&raw.network, e),
            (SettingError::ListenOfClient, Some(listen), _) => self.error(listen, e),
            (SettingError::Roles { .. }, _, Some(key)) => self.error(key, e),
            _ => self.error(at, e),
        })
    }

    fn names(&self, raw: &RawConfig, config: &Config) -> Result<ConfigNames, SettingsError> {
        let mut names = ConfigNames::new();
        for (name, entry) in &raw.names {
            let places = match entry {
                OneOrMany::One(place) => vec![self.place(place)?],
                OneOrMany::Many(list) => self.places(name, list)?,
            };
            // One table of names may serve principals of different networks, so that not every place needs to be
            // within reach.
            if let Some(first) = places.first()
                && !places.iter().any(|p| config.in_network(p.server.network).is_some())
            {
                return Err(self.error(name, config.not_in(first.server)));
            }
            if !names.add(name.get_ref(), places).map_err(|e| self.error(name, e))? {
                return Err(self
                    .error(name, format!("the name {:?} is already there; keep one entry", name.get_ref())));
            }
        }
        Ok(names)
    }

    fn places(&self, name: &Spanned<String>, list: &[Spanned<RawName>]) -> Result<Vec<Place>, SettingsError> {
        let mut places: Vec<Place> = Vec::new();
        for raw in list {
            let place = self.place(raw.get_ref())?;
            let network = place.server.network;
            if places.iter().any(|p| p.server.network == network) {
                let what = format!("a second server in network {network}; name one server for each network");
                return Err(self.error(&raw.get_ref().server, what));
            }
            places.push(place);
        }
        if places.is_empty() {
            return Err(self.error(name, "an empty list; write at least one { server = …, address = … }"));
        }
        Ok(places)
    }

    fn place(&self, raw: &RawName) -> Result<Place, SettingsError> {
        let server = self.principal(&raw.server)?;
        let Some(text) = &raw.address else { return Ok(Place { server, at: None }) };
        if let Ok(ip) = text.get_ref().parse::<IpAddr>() {
            return Ok(Place { server, at: Some(At { ip, port: None }) });
        }
        let address = self.address(text)?;
        if address.port() == 0 {
            let what = "port 0; leave the port out to keep the one that is asked for";
            return Err(self.error(text, what));
        }
        Ok(Place { server, at: Some(At { ip: address.ip(), port: Some(address.port()) }) })
    }

    fn dns(&self, raw: &Spanned<RawDns>) -> Result<Dns, SettingsError> {
        match (&raw.get_ref().server, &raw.get_ref().qsocket) {
            (Some(server), None) => match server.get_ref().parse::<IpAddr>() {
                Ok(ip) => Ok(Dns::Server(SocketAddr::new(ip, DNS_PORT))),
                Err(_) => Ok(Dns::Server(self.address(server)?)),
            },
            (None, Some(name)) => {
                parse_name_port(name.get_ref()).map_err(|e| self.error(name, e))?;
                Ok(Dns::QSocket(name.get_ref().clone()))
            }
            _ => {
                let what = "[dns]: write either `server` (IP or IP:PORT) or `qsocket` (name:port); without [dns] the system's is asked";
                Err(self.error(raw, what))
            }
        }
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

    let mut config = source.networks(&raw)?;
    let warnings = source.warnings(raw.raida.get_ref())?;
    for file in &raw.encryption_keys {
        let key = load_encryption_key(source.resolve(file)).map_err(|e| source.key_error(file, e))?;
        config = config.with_encryption_key(key).map_err(|e| source.error(file, e))?;
    }
    if let Some(folder) = &raw.keys {
        let keys = LiveKeys::open(source.resolve(folder)).map_err(|source_of| ConfigError::Keys {
            path: source.path().to_owned(),
            line: source.line(folder),
            source: source_of,
        })?;
        config = config.with_keys(keys);
    }
    if let Some(receive) = raw.receive_keys.as_ref().filter(|receive| *receive.get_ref()) {
        let what = match (config.keys().cloned(), config.identity().1) {
            (Some(keys), Role::Server) => {
                config = config.with_key_receiver(KeyReceiver::new(keys));
                None
            }
            (None, _) => Some("receive_keys needs a folder to keep them in; add: keys = \"keys\""),
            (_, Role::Client) => {
                Some("receive_keys is for servers, and the RAIDA key is a client's; leave it out")
            }
        };
        if let Some(what) = what {
            return Err(source.error(receive, what).into());
        }
    }
    let allow = raw.listen.allow.as_deref().map(|list| source.principals(list, &config)).transpose()?;
    let access = AccessList { allow, deny: source.principals(&raw.listen.deny, &config)? };
    let ports = raw.listen.ports.as_ref().map(|list| source.addresses(list)).transpose()?;
    let names = source.names(&raw, &config)?;
    if let Some(dns) = &raw.dns {
        config = config.with_dns(source.dns(dns)?);
    }
    if let Some(file) = &raw.access {
        config = config.with_live_directory(LiveDirectory::from_file(source.resolve(file))?);
    }
    Ok(config
        .with_names(names)
        .with_listen(Listen { access, ports })
        .with_tuning(source.tuning(&raw.tuning)?)
        .with_warnings(warnings))
}
