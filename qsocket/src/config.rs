//! The configuration: where it is found, what it holds, and its checks.
//!
//! A program gets it from a file ([`Config::load`], [`Config::from_file`]) or builds it ([`Config::new`]). The file is
//! TOML, described in `docs/configuration.md`. Loading blocks on the file system.

mod file;
mod membership;
#[cfg(test)]
mod tests;
mod tuning;

use crate::access::{AccessList, Directory, LiveDirectory};
use crate::exchange::KeyReceiver;
use crate::keys::{KeyFileError, LiveKeys, SharedKey, StoreError};
use crate::names::Dns;
use crate::resolve::ConfigNames;
pub use membership::{DialledBy, Membership, Registration};
pub use qsocket_files::settings::{MAX_FILE_BYTES, SettingsError};
use qsocket_net::Transport;
use qsocket_proto::ids::{PathId, Principal, RELAYS, Role};
use qsocket_proto::raida_key::RaidaKey;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub use tuning::{MAX_IDLE_TIMEOUT, MIN_IDLE_TIMEOUT, MlKem, Parity, Redundancy, Tuning};

/// Most networks of one configuration. Each may cost 25 sockets and 25 tasks; 16 stay below the usual limit of open
/// files.
pub const MAX_NETWORKS: usize = 16;

/// The environment variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "QSOCKET_CONFIG";

/// 25 different addresses, one for each relay.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayAddresses([SocketAddr; RELAYS]);

impl RelayAddresses {
    /// The address and the 24 ports that follow it.
    ///
    /// # Errors
    /// When the port is 0 or the last port would exceed 65535.
    pub fn from_base(base: SocketAddr) -> Result<Self, AddressError> {
        const LAST: u16 = u16::MAX - (RELAYS as u16 - 1);
        if base.port() == 0 || base.port() > LAST {
            return Err(AddressError::Base(base));
        }
        let mut all = [base; RELAYS];
        for (path, address) in PathId::all().zip(&mut all) {
            address.set_port(base.port() + u16::from(path.get()));
        }
        Ok(Self(all))
    }

    /// The given addresses, in the order of the relays.
    ///
    /// # Errors
    /// When there are not 25, two are equal, or a port is 0.
    pub fn from_list(list: &[SocketAddr]) -> Result<Self, AddressError> {
        let all: [SocketAddr; RELAYS] = list.try_into().map_err(|_| AddressError::Count(list.len()))?;
        for (i, address) in all.iter().enumerate() {
            if address.port() == 0 {
                return Err(AddressError::PortZero(*address));
            }
            if all[..i].contains(address) {
                return Err(AddressError::Twice(*address));
            }
        }
        Ok(Self(all))
    }

    /// The address that belongs to a path.
    pub fn get(&self, path: PathId) -> SocketAddr {
        self.0[path.index()]
    }

    /// All addresses, in the order of the relays.
    pub fn as_array(&self) -> &[SocketAddr; RELAYS] {
        &self.0
    }
}

impl fmt::Debug for RelayAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0).finish()
    }
}

/// Why addresses do not serve for 25 relays.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// Not 25.
    #[error("{0} addresses where {RELAYS} are needed, one for each relay")]
    Count(usize),
    /// One relay twice would count as two that agree.
    #[error("{0} stands there twice; each relay has its own address")]
    Twice(SocketAddr),
    /// Port 0 is no port to connect to.
    #[error("{0} has port 0; write a port from 1 to 65535")]
    PortZero(SocketAddr),
    /// The 25 ports do not fit.
    #[error("from {0} there are no 25 ports; write a port from 1 to 65511")]
    Base(SocketAddr),
}

/// The network of 25 relays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raida {
    /// The network's number, part of every principal in it.
    pub network: u16,
    /// Where the relays are.
    pub relays: RelayAddresses,
}

/// Settings of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// Who may connect, in all networks.
    pub access: AccessList,
    /// The 25 addresses to listen at for the first network, when they are not one address and the 24 ports that
    /// follow.
    pub ports: Option<RelayAddresses>,
}

/// Everything an endpoint needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    first: Membership,
    /// Further networks, in order of preference.
    more: Vec<Membership>,
    pub(crate) encryption_keys: Vec<Arc<SharedKey>>,
    keys: Option<Arc<LiveKeys>>,
    pub(crate) names: ConfigNames,
    pub(crate) listen: Listen,
    pub(crate) tuning: Tuning,
    directory: Option<Arc<dyn Directory>>,
    /// The directory again, if it has a file that an endpoint looks after.
    watched: Option<Arc<LiveDirectory>>,
    key_receiver: Option<KeyReceiver>,
    dns: Dns,
    warnings: Vec<String>,
    /// What hops connect and listen with.
    pub(crate) transport: Transport,
    /// The relays of a test, which run for as long as an endpoint uses them.
    #[cfg(feature = "testing")]
    pub(crate) relays: Option<crate::testing::Relays>,
}

impl Config {
    /// The least there can be: a RAIDA and the principal's own key. Everything else has its default.
    ///
    /// # Errors
    /// When the key is for another network.
    pub fn new(raida: Raida, key: impl Into<Arc<RaidaKey>>) -> Result<Self, SettingError> {
        Membership::new(raida, key).map(Self::from)
    }

    /// Adds a further network, behind those that are there: a client prefers the earlier one of two.
    ///
    /// # Errors
    /// When the network is there already, the key's role is not that of the first, or a server's membership lacks
    /// [`Membership::with_listen`] or a client's has it.
    pub fn with_membership(mut self, membership: Membership) -> Result<Self, SettingError> {
        let network = membership.network();
        if self.in_network(network).is_some() {
            return Err(SettingError::NetworkTwice(network));
        }
        if self.memberships().count() == MAX_NETWORKS {
            return Err(SettingError::TooManyNetworks);
        }
        match (self.first.role(), membership.role(), membership.listen()) {
            (Role::Client, Role::Client, None) | (Role::Server, Role::Server, Some(_)) => {}
            (Role::Server, Role::Server, None) if membership.opens_no_port().is_some() => {}
            (Role::Server, Role::Server, None) => return Err(SettingError::ListenMissing(network)),
            (Role::Client, Role::Client, Some(_)) => return Err(SettingError::ListenOfClient),
            (first, found, _) => return Err(SettingError::Roles { first, found }),
        }
        self.more.push(membership);
        Ok(self)
    }

    /// Has a server register an address with the relays of its first network itself; see
    /// [`Membership::with_registration`], which is for further ones.
    ///
    /// # Errors
    /// As there.
    pub fn with_registration(mut self, registration: Registration) -> Result<Self, SettingError> {
        self.first = self.first.with_registration(registration)?;
        Ok(self)
    }

    /// Finds and reads the configuration: the file that `QSOCKET_CONFIG` names, else `qsocket/config.toml` in the
    /// user's configuration folder (`$XDG_CONFIG_HOME`, by default `~/.config`).
    ///
    /// # Errors
    /// When there is no file at these places, or as [`Config::from_file`].
    pub fn load() -> Result<Self, ConfigError> {
        Self::from_file(find(|name| std::env::var_os(name))?)
    }

    /// Reads a configuration file and the key files that it names. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// When the file cannot be read, everybody may write to it, a setting is unknown or out of range, or a key file
    /// is refused.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        file::load(path.as_ref())
    }

    /// Adds a secret shared with one other principal, which then enters the keys of all connections with it.
    ///
    /// # Errors
    /// When the other principal is in none of the networks, is oneself, or the id is already there. Add the networks
    /// first.
    pub fn with_encryption_key(mut self, key: impl Into<Arc<SharedKey>>) -> Result<Self, SettingError> {
        let key = key.into();
        let with = key.with();
        let Some(own) = self.in_network(with.network) else {
            return Err(self.not_in(with));
        };
        if with == own.principal() {
            return Err(SettingError::OwnEncryptionKey(with));
        }
        if self.encryption_keys.iter().any(|k| k.id() == key.id()) {
            return Err(SettingError::KeyIdTwice);
        }
        self.encryption_keys.push(key);
        Ok(self)
    }

    /// Takes Encryption keys from a folder too, which endpoints look after: what is installed, retired or revoked there counts
    /// for the next connection. What the folder says of a key counts, whatever was added one by one; keys with principals of
    /// other networks are for other programs.
    #[must_use]
    pub fn with_keys(mut self, keys: Arc<LiveKeys>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Sets the names that resolve.
    #[must_use]
    pub fn with_names(mut self, names: ConfigNames) -> Self {
        self.names = names;
        self
    }

    /// Sets where names outside of `.raida` are looked up.
    #[must_use]
    pub fn with_dns(mut self, dns: Dns) -> Self {
        self.dns = dns;
        self
    }

    /// Where names outside of `.raida` are looked up.
    pub fn dns(&self) -> &Dns {
        &self.dns
    }

    /// Sets the server's part.
    #[must_use]
    pub fn with_listen(mut self, listen: Listen) -> Self {
        self.listen = listen;
        self
    }

    /// Sets how connections work.
    #[must_use]
    pub fn with_tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// Has a server take the keys that clients exchange with it. The receiver's folder becomes that of
    /// [`with_keys`](Self::with_keys).
    #[must_use]
    pub fn with_key_receiver(mut self, receiver: KeyReceiver) -> Self {
        self.keys = Some(receiver.keys().clone());
        self.key_receiver = Some(receiver);
        self
    }

    /// What takes the keys that clients exchange with this server.
    pub fn key_receiver(&self) -> Option<&KeyReceiver> {
        self.key_receiver.as_ref()
    }

    /// Has a directory decide who may open which stream, besides the lists of [`Listen::access`], which are asked first.
    /// Without one every client that the lists admit may open every stream.
    #[must_use]
    pub fn with_directory(mut self, directory: Arc<dyn Directory>) -> Self {
        (self.directory, self.watched) = (Some(directory), None);
        self
    }

    /// As [`with_directory`](Self::with_directory); endpoints also look after its file, if it has one.
    #[must_use]
    pub fn with_live_directory(mut self, directory: Arc<LiveDirectory>) -> Self {
        self.watched = Some(directory.clone());
        self.directory = Some(directory);
        self
    }

    pub(crate) fn watched(&self) -> Option<&Arc<LiveDirectory>> {
        self.watched.as_ref()
    }

    pub(crate) fn first(&self) -> &Membership {
        &self.first
    }

    pub(crate) fn more(&self) -> &[Membership] {
        &self.more
    }

    /// The networks, in order of preference; there is at least one.
    pub fn memberships(&self) -> impl Iterator<Item = &Membership> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The membership of one network.
    pub fn in_network(&self, network: u16) -> Option<&Membership> {
        self.memberships().find(|m| m.network() == network)
    }

    /// The first network and its relays.
    pub fn raida(&self) -> &Raida {
        self.first.raida()
    }

    /// The principal's own key in the first network.
    pub fn key(&self) -> &Arc<RaidaKey> {
        self.first.key()
    }

    /// The principal in the first network, and the role, which is the same in all.
    pub fn identity(&self) -> (Principal, Role) {
        (self.first.principal(), self.first.role())
    }

    /// The folder of Encryption keys.
    pub fn keys(&self) -> Option<&Arc<LiveKeys>> {
        self.keys.as_ref()
    }

    /// The secrets shared with other principals that were added one by one.
    pub fn encryption_keys(&self) -> &[Arc<SharedKey>] {
        &self.encryption_keys
    }

    /// The names that resolve.
    pub fn names(&self) -> &ConfigNames {
        &self.names
    }

    /// What decides who may open which stream.
    pub fn directory(&self) -> Option<&Arc<dyn Directory>> {
        self.directory.as_ref()
    }

    /// The server's part.
    pub fn listen(&self) -> &Listen {
        &self.listen
    }

    /// How connections work.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// What the file allows itself and what still deserves a look, each with file and line: too many relays of one
    /// operator or in one region. They were logged when the file was read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        self.warnings = warnings;
        self
    }

    fn not_in(&self, principal: Principal) -> SettingError {
        SettingError::PrincipalNetwork {
            principal,
            networks: self.memberships().map(Membership::network).collect(),
        }
    }
}

impl From<Membership> for Config {
    /// One network; everything else has its default. Its [`Membership::listen`] is not used.
    fn from(first: Membership) -> Self {
        Self {
            first,
            more: Vec::new(),
            encryption_keys: Vec::new(),
            keys: None,
            names: ConfigNames::new(),
            listen: Listen::default(),
            tuning: Tuning::default(),
            directory: None,
            watched: None,
            key_receiver: None,
            dns: Dns::default(),
            warnings: Vec::new(),
            transport: Transport::default(),
            #[cfg(feature = "testing")]
            relays: None,
        }
    }
}

/// Two settings that do not go together.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingError {
    /// The own key belongs to another RAIDA.
    #[error(
        "the RAIDA key is for network {found}, the relays are network {network}; use a key of this network"
    )]
    KeyNetwork {
        /// The key's network.
        found: u16,
        /// The network of the relays.
        network: u16,
    },
    /// One network twice.
    #[error("network {0} is there already; write each network once, with all its relays")]
    NetworkTwice(u16),
    /// More networks than one endpoint serves.
    #[error("more than {MAX_NETWORKS} networks; keep those that are needed")]
    TooManyNetworks,
    /// A client's key and a server's in one configuration.
    #[error(
        "this RAIDA key has the role {found}, that of the first network the role {first}; use keys of one role, and a second configuration for the other"
    )]
    Roles {
        /// The role in the first network.
        first: Role,
        /// The role of this key.
        found: Role,
    },
    /// A server without an address for a further network.
    #[error(
        "network {0} is not the first, so this server listens for it at 25 more ports; write `listen = \"IP:PORT\"`, the first of them"
    )]
    ListenMissing(u16),
    /// A client is reached nowhere.
    #[error("`register` is for servers, and this RAIDA key has the role client; remove it")]
    RegistrationOfClient,
    /// An address that cannot be registered.
    #[error("register: {0}")]
    Registration(AddressError),
    /// More addresses than relays take.
    #[error("register: a server registers at most {} addresses", qsocket_proto::relay::MAX_ADDRESSES)]
    TooManyRegistrations,
    /// A client does not listen.
    #[error("`listen` is for servers, and this RAIDA key has the role client; remove it")]
    ListenOfClient,
    /// A principal of another RAIDA.
    #[error(
        "{principal} is not in network {}; only principals of one network reach each other",
        list(networks)
    )]
    PrincipalNetwork {
        /// The principal.
        principal: Principal,
        /// The networks of the configuration.
        networks: Vec<u16>,
    },
    /// An Encryption key with oneself.
    #[error(
        "the Encryption key is shared with {0}, which is this principal itself; use the file made for this side"
    )]
    OwnEncryptionKey(Principal),
    /// Two Encryption keys with one id.
    #[error("another Encryption key has the same id; name each key once")]
    KeyIdTwice,
}

/// Numbers of networks, for people: `1, 2 or 3`.
pub(crate) fn list(networks: &[u16]) -> String {
    match networks {
        [] => "none".to_owned(),
        [one] => one.to_string(),
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(u16::to_string).collect();
            format!("{} or {last}", most.join(", "))
        }
    }
}

impl From<SettingError> for io::Error {
    fn from(e: SettingError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, e)
    }
}

/// Why there is no configuration.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No file at any of the places.
    #[error(
        "no configuration found; give it in the program (Config::from_file), set {CONFIG_VARIABLE} to the file, or write {}",
        user.as_ref().map_or_else(|| "~/.config/qsocket/config.toml (HOME is not set)".to_owned(), |p| p.display().to_string())
    )]
    NotFound {
        /// The place in the user's configuration folder, when it is known.
        user: Option<PathBuf>,
    },
    /// The environment names a file that is not there.
    #[error("{CONFIG_VARIABLE} names {}, which does not exist; correct or unset it", path.display())]
    VariableNamesNothing {
        /// What the variable holds.
        path: PathBuf,
    },
    /// The file cannot be read, or a setting in it is refused.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The folder of keys, or a file in it, is refused.
    #[error("{}:{line}: {source}", path.display())]
    Keys {
        /// The configuration file.
        path: PathBuf,
        /// The line that names the folder.
        line: usize,
        /// What is wrong with the folder.
        source: StoreError,
    },
    /// A key file is refused.
    #[error("{}:{line}: {source}", path.display())]
    Key {
        /// The configuration file.
        path: PathBuf,
        /// The line that names the key file.
        line: usize,
        /// What is wrong with the key file.
        source: KeyFileError,
    },
}

/// Shows the sentence that `Display` shows: a program whose `main` returns the error prints this form, and its user
/// needs the words that say what to do.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<ConfigError> for io::Error {
    fn from(e: ConfigError) -> Self {
        use ConfigError as E;
        let kind = match &e {
            E::NotFound { .. } | E::VariableNamesNothing { .. } => io::ErrorKind::NotFound,
            E::Settings(source) => source.kind(),
            E::Keys { source, .. } => source.kind(),
            E::Key { source, .. } => source.kind(),
        };
        Self::new(kind, e)
    }
}

/// The configuration file, by an environment that `lookup` knows. An empty variable counts as not set.
fn find(lookup: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, ConfigError> {
    let variable = |name| lookup(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let missing = |p: &Path| matches!(p.metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound);
    if let Some(path) = variable(CONFIG_VARIABLE) {
        return if missing(&path) { Err(ConfigError::VariableNamesNothing { path }) } else { Ok(path) };
    }
    // The XDG base directory specification: a relative path there is to be ignored.
    let folder = variable("XDG_CONFIG_HOME")
        .filter(|p| p.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(".config")));
    let user = folder.map(|f| f.join("qsocket").join("config.toml"));
    match user {
        Some(path) if !missing(&path) => Ok(path),
        user => Err(ConfigError::NotFound { user }),
    }
}
