//! A RAIDA on this machine, with the keys and settings of those who use it.
//!
//! [`Network`] is all of it in one process. [`Raida`] is the relays alone, with files that let servers and clients
//! of other processes find them.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use qsocket::config::{Config, Raida as Relays, RelayAddresses};
use qsocket::provision::Provision;
use qsocket::resolve::{ConfigNames, Target};
use qsocket::{Endpoint, QSocketListener};
use raida_relay::{LocalRaida, LocalServer};

/// The network that the RAIDA here has.
pub const NETWORK: u16 = 1;

/// What the client of a [`Network`] calls its listener, at every port.
pub const NAME: &str = "server.example";

/// 25 relays, a listener and a client that knows it as [`NAME`], in one process.
#[derive(Debug)]
pub struct Network {
    /// The relays, which can be stopped and started one by one.
    pub raida: LocalRaida,
    /// The server's side; registered with the relays.
    pub listener: QSocketListener,
    /// The client's side.
    pub client: Endpoint,
    /// What the client connects to.
    pub target: Target,
}

impl Network {
    /// Starts everything on free ports of 127.0.0.1, with fresh keys.
    ///
    /// # Errors
    /// When ports or random numbers are not to be had.
    pub async fn start() -> io::Result<Self> {
        let mut keys = Provision::generate(NETWORK, 1, 1).map_err(io::Error::other)?;
        let none = std::iter::empty::<LocalServer>();
        let raida = LocalRaida::builder().network(NETWORK).start_with_keys(keys.keys(), none)?;
        let relays = RelayAddresses::from_list(&raida.addresses()).map_err(io::Error::other)?;
        let config = |key| {
            let relays = Relays { network: NETWORK, relays: relays.clone() };
            Config::new(relays, key).map_err(io::Error::other)
        };
        let (client, server) = (keys.clients.remove(0), keys.servers.remove(0));
        let principal = server.principal();
        let listener = QSocketListener::bind_with(config(server)?, (Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        raida.register((principal, address, *listener.ports())).map_err(io::Error::other)?;
        let target = Target { server: principal, address };
        let mut names = ConfigNames::new();
        names.insert(NAME, target)?;
        let client = Endpoint::client(config(client)?.with_names(names))?;
        Ok(Self { raida, listener, client, target })
    }
}

/// A server that a [`Raida`] knows in advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// What its configuration file is called, without `.toml`.
    pub file: &'static str,
    /// The name that clients give.
    pub name: &'static str,
    /// Its first port on 127.0.0.1; relay *i* dials this port + *i*.
    pub port: u16,
}

/// The servers that every [`Raida`] knows.
pub const SERVICES: [Service; 2] = [
    Service { file: "echo", name: "echo.example", port: 7000 },
    Service { file: "dns", name: "dns.example", port: 5300 },
];

/// The configuration file of the client that knows all [`SERVICES`].
pub const CLIENT_FILE: &str = "client.toml";

/// 25 relays at fixed ports, for servers and clients of other processes.
#[derive(Debug)]
pub struct Raida {
    /// The relays.
    pub relays: LocalRaida,
    /// The configuration of the client.
    pub client: PathBuf,
    /// The configuration of each of the [`SERVICES`].
    pub servers: Vec<PathBuf>,
}

impl Raida {
    /// Starts relay *i* at 127.0.0.1, port `base` + *i*, and writes fresh keys and configurations into `folder`,
    /// which is created if it is missing. All files have mode 0600; those of an earlier start are replaced.
    ///
    /// # Errors
    /// When a port is taken, in which case nothing is written, or a file cannot be written.
    pub fn start(folder: &Path, base: u16) -> io::Result<Self> {
        let base_address = SocketAddr::from((Ipv4Addr::LOCALHOST, base));
        RelayAddresses::from_base(base_address)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let keys = Provision::generate(NETWORK, 1, SERVICES.len() as u16).map_err(io::Error::other)?;
        let servers: Vec<LocalServer> = SERVICES
            .iter()
            .zip(&keys.servers)
            .filter_map(|(service, key)| LocalServer::at_base(key.principal(), address(service)))
            .collect();
        let relays =
            LocalRaida::builder().network(NETWORK).base_port(base).start_with_keys(keys.keys(), servers)?;

        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        keys.save(folder).map_err(io::Error::other)?;
        let raida = format!("\n[raida]\nnetwork = {NETWORK}\nbase = \"{base_address}\"\n");
        let mut names = String::from("\n[names]\n");
        let mut files = Vec::new();
        for ((service, key), n) in SERVICES.iter().zip(&keys.servers).zip(1..) {
            let Service { file, name, port } = service;
            names += &format!(
                "\"{name}:{port}\" = {{ server = \"{}\", address = \"{}\" }}\n",
                key.principal(),
                address(service)
            );
            let path = folder.join(format!("{file}.toml"));
            write_private(&path, &format!("key = \"server-{n}.key.toml\"\n{raida}"))?;
            files.push(path);
        }
        let client = folder.join(CLIENT_FILE);
        write_private(&client, &format!("key = \"client-1.key.toml\"\n{raida}{names}"))?;
        Ok(Self { relays, client, servers: files })
    }
}

fn address(service: &Service) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, service.port))
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // A file from before keeps its mode.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use qsocket::Role;

    /// A run of 25 free ports, as far as one can know before they are taken.
    fn start(folder: &Path) -> Raida {
        let mut last = None;
        for _ in 0..16 {
            match Raida::start(folder, rand::random_range(20_000..32_000)) {
                Ok(raida) => return raida,
                Err(error) => last = Some(error),
            }
        }
        panic!("{last:?}");
    }

    #[tokio::test]
    async fn its_files_are_private_and_load() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let raida = start(&folder);
        let client = Config::from_file(&raida.client).unwrap();
        assert_eq!(client.identity().1, Role::Client);
        for (service, file) in SERVICES.iter().zip(&raida.servers) {
            let server = Config::from_file(file).unwrap();
            assert_eq!(server.identity().1, Role::Server);
            assert_eq!(server.raida().relays.as_array(), &raida.relays.addresses());
            let target = client.names().lookup(service.name, service.port).unwrap();
            let only = Target { server: server.identity().0, address: address(service) };
            assert_eq!(target, only.into());
        }
        for file in std::fs::read_dir(&folder).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        // The ports are taken: the files stay.
        let before = std::fs::read(&raida.client).unwrap();
        let base = raida.relays.addresses()[0].port();
        assert!(Raida::start(&folder, base).is_err());
        assert_eq!(std::fs::read(&raida.client).unwrap(), before);
    }
}
