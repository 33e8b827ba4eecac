//! From a name and a port to a server and the address it is registered under.

use qsocket_proto::ids::Principal;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

/// Longest name, as in DNS (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

/// Where a connection goes, in one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The server.
    pub server: Principal,
    /// The address that the server is registered under at the relays.
    pub address: SocketAddr,
}

/// Where a server is to be found: one [`Target`] for each network that it is in.
///
/// Which of them is used is the caller's choice: the first network in the order of *its* configuration. The order here
/// does not matter; of two targets in one network the first counts. A single [`Target`] converts into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets(Vec<Target>);

impl Targets {
    /// The target in one network.
    pub fn in_network(&self, network: u16) -> Option<Target> {
        self.0.iter().find(|t| t.server.network == network).copied()
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Target] {
        &self.0
    }
}

impl From<Target> for Targets {
    fn from(target: Target) -> Self {
        Self(vec![target])
    }
}

impl FromIterator<Target> for Targets {
    fn from_iter<I: IntoIterator<Item = Target>>(targets: I) -> Self {
        Self(targets.into_iter().collect())
    }
}

/// The future that [`Resolve::resolve`] returns.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Targets>> + Send + 'a>>;

/// A source of names.
pub trait Resolve: Send + Sync {
    /// Finds the server behind `host:port`.
    ///
    /// # Errors
    /// `NotFound` when this source does not know the name.
    ///
    /// # Cancel safety
    /// An implementation must allow that the future is dropped at any time.
    ///
    /// # Security
    /// The answer decides whom the connection is sealed for. A source that an attacker can write to must not name
    /// servers.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

/// Why a name does not lead to a server.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// The text is not `name:port`.
    #[error("{0:?} is not of the form name:port, for example dns.example:53 or [::1]:53")]
    Syntax(String),
    /// The name has characters that a host name does not have, or is too long.
    #[error(
        "{0:?} is not a host name: use letters, digits, '-', '_' and '.', at most {MAX_NAME} characters; write international names in their xn-- form"
    )]
    Host(String),
    /// No entry for the name.
    #[error(
        "no server is known for {host}:{port}; add to the configuration, under [names]: \"{host}:{port}\" = {{ server = \"NETWORK.DENOMINATION.SERIAL\", address = \"IP:PORT\" }}"
    )]
    Unknown {
        /// The name that was asked for.
        host: String,
        /// The port that was asked for.
        port: u16,
    },
    /// The entry says who the server is and not where, which only an endpoint looks up.
    #[error(
        "the entry for {host}:{port} names no address; add one, or connect with an endpoint, which looks it up"
    )]
    NoAddress {
        /// The name that was asked for.
        host: String,
        /// The port that was asked for.
        port: u16,
    },
}

impl From<NameError> for io::Error {
    fn from(e: NameError) -> Self {
        let kind = match e {
            NameError::Syntax(_) | NameError::Host(_) => io::ErrorKind::InvalidInput,
            NameError::Unknown { .. } | NameError::NoAddress { .. } => io::ErrorKind::NotFound,
        };
        Self::new(kind, e)
    }
}

/// Splits `name:port`. An IPv6 address stands in brackets, which the host part loses. Port 0 is refused.
pub fn parse_name_port(text: &str) -> Result<(&str, u16), NameError> {
    let bad = || NameError::Syntax(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    // `parse` alone would also take "+53".
    let port = if port.bytes().all(|b| b.is_ascii_digit()) { port.parse().ok() } else { None };
    let port = port.filter(|p| *p != 0).ok_or_else(bad)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']').ok_or_else(bad)?;
            inner.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            inner
        }
        None if host.is_empty() || host.contains(':') => return Err(bad()),
        None => host,
    };
    Ok((host, port))
}

/// The form under which a name is kept: lower case, no dot at the end; addresses in their shortest form.
pub(crate) fn canonical(host: &str) -> Result<String, NameError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(ip.to_string());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let labels = name.split('.').all(|label| !label.is_empty() && label.len() <= 63);
    if name.len() > MAX_NAME || !labels || !name.bytes().all(letter) {
        return Err(NameError::Host(host.chars().take(MAX_NAME).collect()));
    }
    Ok(name.to_ascii_lowercase())
}

/// Whether two texts name the same host; the first may have a port.
pub(crate) fn same_host(name: &str, host: &str) -> bool {
    let name = parse_name_port(name).map_or(name, |(name, _)| name);
    matches!((canonical(name), canonical(host)), (Ok(name), Ok(host)) if name == host)
}

/// Names from the configuration's `[names]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigNames {
    /// By canonical name and port; `None` holds for every port that has no entry of its own.
    entries: BTreeMap<(String, Option<u16>), Vec<Place>>,
}

/// A server in one network, as an entry names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) server: Principal,
    /// `None`: wherever a look-up finds it.
    pub(crate) at: Option<At>,
}

/// Where a server is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) ip: IpAddr,
    /// `None`: the port that was asked for.
    pub(crate) port: Option<u16>,
}

impl ConfigNames {
    /// No names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `name` (for every port) or `name:port`; false if it was there, and then the old entry stays.
    ///
    /// # Errors
    /// When the name is not well formed.
    pub fn insert(&mut self, name: &str, targets: impl Into<Targets>) -> Result<bool, NameError> {
        let at = |a: SocketAddr| At { ip: a.ip(), port: Some(a.port()) };
        let place = |t: &Target| Place { server: t.server, at: Some(at(t.address)) };
        self.add(name, targets.into().as_slice().iter().map(place).collect())
    }

    /// Adds a name whose server is registered under the port that is asked for. Result as [`ConfigNames::insert`].
    ///
    /// # Errors
    /// When the name is not well formed.
    pub fn insert_any_port(&mut self, name: &str, server: Principal, ip: IpAddr) -> Result<bool, NameError> {
        self.add(name, vec![Place { server, at: Some(At { ip, port: None }) }])
    }

    /// Settles who the server behind `name` or `name:port` is, and leaves open where: an endpoint that connects there looks
    /// that up. Result as [`ConfigNames::insert`].
    ///
    /// # Errors
    /// When the name is not well formed.
    pub fn pin(&mut self, name: &str, server: Principal) -> Result<bool, NameError> {
        self.add(name, vec![Place { server, at: None }])
    }

    /// The servers that entries for a name settle on, with and without a port.
    pub(crate) fn pins(&self, host: &str) -> Vec<Principal> {
        let mut pins = Vec::new();
        for ((name, _), places) in &self.entries {
            if same_host(name, host) {
                pins.extend(places.iter().map(|place| place.server));
            }
        }
        pins
    }

    pub(crate) fn add(&mut self, name: &str, places: Vec<Place>) -> Result<bool, NameError> {
        let (host, port) = if name.contains(':') && name.parse::<IpAddr>().is_err() {
            let (host, port) = parse_name_port(name)?;
            (host, Some(port))
        } else {
            (name, None)
        };
        let key = (canonical(host)?, port);
        if self.entries.contains_key(&key) {
            return Ok(false);
        }
        self.entries.insert(key, places);
        Ok(true)
    }

    /// Finds the server behind `host:port`: first the entry for the port, then that for the name.
    ///
    /// # Errors
    /// [`NameError::Unknown`] without an entry, [`NameError::Host`] when `host` cannot be a name.
    pub fn lookup(&self, host: &str, port: u16) -> Result<Targets, NameError> {
        let mut key = (canonical(host)?, Some(port));
        let mut entry = self.entries.get(&key);
        if entry.is_none() {
            key.1 = None;
            entry = self.entries.get(&key);
        }
        let entry = entry.ok_or_else(|| NameError::Unknown { host: key.0.clone(), port })?;
        let target = |p: &Place| {
            let At { ip, port: own } = p.at?;
            Some(Target { server: p.server, address: SocketAddr::new(ip, own.unwrap_or(port)) })
        };
        let targets: Targets = entry.iter().filter_map(target).collect();
        if targets.0.is_empty() {
            return Err(NameError::NoAddress { host: key.0, port });
        }
        Ok(targets)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Resolve for ConfigNames {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(std::future::ready(self.lookup(host, port).map_err(io::Error::from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    fn target(serial: u32, address: &str) -> Target {
        Target {
            server: Principal { network: 1, denomination: 0, serial },
            address: address.parse().unwrap(),
        }
    }

    fn only(serial: u32, address: &str) -> Targets {
        target(serial, address).into()
    }

    fn names() -> ConfigNames {
        let mut names = ConfigNames::new();
        assert_eq!(names.insert("dns.example", target(7, "127.0.0.1:5300")), Ok(true));
        assert_eq!(names.insert("dns.example:53", target(8, "127.0.0.1:5301")), Ok(true));
        assert_eq!(names.insert("[::1]:53", target(9, "[::1]:5302")), Ok(true));
        let server = target(10, "127.0.0.1:1").server;
        assert_eq!(names.insert_any_port("web.example", server, "127.0.0.2".parse().unwrap()), Ok(true));
        names
    }

    #[test]
    fn name_port_is_split() {
        assert_eq!(parse_name_port("dns.example:53"), Ok(("dns.example", 53)));
        assert_eq!(parse_name_port("[::1]:53"), Ok(("::1", 53)));
        assert_eq!(parse_name_port("10.0.0.1:65535"), Ok(("10.0.0.1", 65535)));
        for bad in
            ["", "dns.example", ":53", "a:", "a:0", "a:65536", "a:+5", "::1:53", "[::1:53", "[x]:53", "a:b:1"]
        {
            assert_eq!(parse_name_port(bad), Err(NameError::Syntax(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn the_entry_for_the_port_comes_first() {
        let names = names();
        assert_eq!(names.lookup("dns.example", 53), Ok(only(8, "127.0.0.1:5301")));
        assert_eq!(names.lookup("DNS.Example.", 853), Ok(only(7, "127.0.0.1:5300")));
        assert_eq!(names.lookup("0:0:0:0:0:0:0:1", 53), Ok(only(9, "[::1]:5302")));
        assert_eq!(names.lookup("web.example", 8080), Ok(only(10, "127.0.0.2:8080")));
        let unknown = names.lookup("other.example", 53);
        assert_eq!(unknown, Err(NameError::Unknown { host: "other.example".into(), port: 53 }));
    }

    #[test]
    fn a_name_may_stand_for_a_server_of_several_networks() {
        let second = target(7, "10.0.0.1:53");
        let second = Target { server: Principal { network: 2, ..second.server }, ..second };
        let both: Targets = [target(7, "127.0.0.1:5300"), second].into_iter().collect();
        let mut names = ConfigNames::new();
        assert_eq!(names.insert("dns.example", both.clone()), Ok(true));
        let found = names.lookup("dns.example", 53).unwrap();
        assert_eq!(found, both);
        assert_eq!(found.in_network(2), Some(second));
        assert_eq!(found.in_network(3), None);
    }

    #[test]
    fn a_name_is_entered_once() {
        let mut names = names();
        assert_eq!(names.insert("DNS.example.", target(1, "127.0.0.1:1")), Ok(false));
        assert_eq!(names.lookup("dns.example", 1), Ok(only(7, "127.0.0.1:5300")));
        for bad in ["", ".", "a..b", "a b", "bücher.example", &"a".repeat(64), &"a.".repeat(200)] {
            assert!(matches!(names.insert(bad, target(1, "127.0.0.1:1")), Err(NameError::Host(_))), "{bad}");
        }
    }

    #[test]
    fn errors_become_io_errors_that_say_what_to_write() {
        let names: Box<dyn Resolve> = Box::new(names());
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Err(e)) = names.resolve("x.example", 80).as_mut().poll(&mut cx) else { panic!() };
        assert_eq!(e.kind(), io::ErrorKind::NotFound);
        assert!(e.to_string().contains("\"x.example:80\" = { server ="), "{e}");
        let Poll::Ready(Err(e)) = names.resolve("a b", 80).as_mut().poll(&mut cx) else { panic!() };
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
    }
}
