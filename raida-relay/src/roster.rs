//! Whom a relay knows, as one value that can be exchanged while it runs.

use crate::Server;
use qsocket_proto::ids::{Principal, Role};
use qsocket_proto::raida_key::RelayTable;
use qsocket_proto::relay::{MAX_ADDRESSES, Quota, RegisterError, is_public_unicast};
use std::collections::{BTreeMap, BTreeSet};

/// Whom a relay admits, which addresses servers have, and what everybody may use.
///
/// # Security
/// `table` holds the relay's half of every RAIDA key. `Debug` does not show the numbers.
#[derive(Debug, Default)]
pub struct Roster {
    /// The authenticity numbers of all who are admitted. Who is missing here is unknown.
    pub table: RelayTable,
    /// Numbers that are to take the place of those, each when it is used.
    pub next: RelayTable,
    /// Those of `table` that another principal enrolled and that have not been here yet: a permit is used up by the first
    /// hop.
    pub awaited: BTreeSet<(Principal, Role)>,
    /// The addresses that servers have by the operator's hand.
    pub servers: Vec<Server>,
    /// The addresses that servers registered themselves. One that its server may not have, because the operator gave it
    /// to another since, does not count.
    pub claims: Vec<Server>,
    /// Quotas other than [`Quota::default`].
    pub quotas: BTreeMap<(Principal, Role), Quota>,
}

impl Roster {
    /// Whether a relay of `network` takes it.
    ///
    /// # Errors
    /// [`RegisterError`] for the first server that cannot be registered.
    pub fn check(&self, network: u16, dial_any_address: bool) -> Result<(), RegisterError> {
        let mut held: BTreeMap<Principal, usize> = BTreeMap::new();
        for (i, server) in self.servers.iter().enumerate() {
            if server.principal.network != network {
                return Err(RegisterError::Network { expected: network });
            }
            if let Some(dial) = server.dial
                && !dial_any_address
                && !is_public_unicast(dial.ip())
            {
                return Err(RegisterError::NotPublic(dial));
            }
            if self.servers[..i].contains(server) {
                continue;
            }
            let held = held.entry(server.principal).or_default();
            *held += 1;
            if *held > MAX_ADDRESSES {
                return Err(RegisterError::TooMany);
            }
        }
        Ok(())
    }
}
