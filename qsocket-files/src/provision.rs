//! The key material of a whole RAIDA, for tests, demonstrations and a RAIDA on one machine.
//!
//! Whoever runs this knows all 25 numbers of every key, and so could read every connection. A RAIDA whose relays
//! belong to different operators lets each of them draw its own number.

use crate::keys::{KeyFileError, save_raida_key};
use crate::rng::OsRng;
use qsocket_proto::ids::{PathId, Principal, Role};
use qsocket_proto::raida_key::{RaidaKey, RaidaKeyError, RelayTable, Strength, relay_table};
use rand_core::CryptoRng;
use std::path::{Path, PathBuf};

/// Keys for clients and servers.
#[derive(Debug)]
pub struct Provision {
    /// One key a client, serial numbers from 1.
    pub clients: Vec<RaidaKey>,
    /// One key a server, serial numbers behind those of the clients.
    pub servers: Vec<RaidaKey>,
}

impl Provision {
    /// Draws keys from the operating system's generator: 256-bit numbers, denomination 0.
    ///
    /// # Errors
    /// When the generator repeats itself, which a sound one does not in practice.
    pub fn generate(network: u16, clients: u16, servers: u16) -> Result<Self, RaidaKeyError> {
        Self::generate_with(network, clients, servers, Strength::Bits256, &mut OsRng)
    }

    /// As [`Provision::generate`], with numbers of a given length from a given generator.
    ///
    /// # Errors
    /// As [`Provision::generate`].
    pub fn generate_with<R: CryptoRng>(
        network: u16,
        clients: u16,
        servers: u16,
        strength: Strength,
        rng: &mut R,
    ) -> Result<Self, RaidaKeyError> {
        let mut draw = |serial: u32, role| {
            RaidaKey::generate(Principal { network, denomination: 0, serial }, role, strength, rng)
        };
        let (clients, servers) = (u32::from(clients), u32::from(servers));
        Ok(Self {
            clients: (1..=clients).map(|s| draw(s, Role::Client)).collect::<Result<_, _>>()?,
            servers: (1..=servers).map(|s| draw(clients + s, Role::Server)).collect::<Result<_, _>>()?,
        })
    }

    /// All keys, those of the clients first.
    pub fn keys(&self) -> impl Iterator<Item = &RaidaKey> {
        self.clients.iter().chain(&self.servers)
    }

    /// What the relay at `path` has to know.
    pub fn relay_table(&self, path: PathId) -> RelayTable {
        relay_table(self.keys(), path)
    }

    /// What each relay has to know, in the order of the relays.
    pub fn relay_tables(&self) -> Vec<RelayTable> {
        PathId::all().map(|path| self.relay_table(path)).collect()
    }

    /// Writes every key as `client-N.key.toml` or `server-N.key.toml`, N from 1, and returns the files in the order
    /// of [`Provision::keys`]. Existing files are replaced.
    ///
    /// # Errors
    /// As [`save_raida_key`]; the files before the one that failed are written.
    pub fn save(&self, folder: &Path) -> Result<Vec<PathBuf>, KeyFileError> {
        let mut paths = Vec::new();
        for (role, keys) in [("client", &self.clients), ("server", &self.servers)] {
            for (key, n) in keys.iter().zip(1..) {
                let path = folder.join(format!("{role}-{n}.key.toml"));
                save_raida_key(&path, key)?;
                paths.push(path);
            }
        }
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::load_raida_key;

    #[test]
    fn relays_and_principals_agree() {
        let raida = Provision::generate(7, 3, 2).unwrap();
        let serials: Vec<_> = raida.keys().map(|k| (k.principal().serial, k.role())).collect();
        let (c, s) = (Role::Client, Role::Server);
        assert_eq!(serials, [(1, c), (2, c), (3, c), (4, s), (5, s)]);
        let tables = raida.relay_tables();
        assert_eq!(tables.len(), 25);
        for (path, table) in PathId::all().zip(&tables) {
            assert_eq!(table.len(), 5);
            for key in raida.keys() {
                assert_eq!(key.strength(), Strength::Bits256);
                assert_eq!(table[&(key.principal(), key.role())].expose(), key.number(path).expose());
            }
        }
    }

    #[test]
    fn saved_keys_load() {
        let dir = tempfile::tempdir().unwrap();
        let raida = Provision::generate_with(1, 1, 1, Strength::Bits128, &mut OsRng).unwrap();
        let paths = raida.save(dir.path()).unwrap();
        assert_eq!(paths, [dir.path().join("client-1.key.toml"), dir.path().join("server-1.key.toml")]);
        for (path, key) in paths.iter().zip(raida.keys()) {
            let loaded = load_raida_key(path).unwrap();
            assert_eq!((loaded.principal(), loaded.role()), (key.principal(), key.role()));
            assert!(PathId::all().all(|p| loaded.number(p).expose() == key.number(p).expose()));
        }
    }
}
