//! A RAIDA key that is not complete yet.

use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
use qsocket_proto::ids::{PathId, Principal, RELAYS, Role};
use qsocket_proto::raida_key::{RaidaKey, RaidaKeyError};

/// The numbers that were drawn so far with the relays, for one principal and role.
#[derive(Debug)]
pub struct PartialKey {
    principal: Principal,
    role: Role,
    /// Always [`RELAYS`] long.
    numbers: Vec<Option<AuthenticityNumber>>,
}

impl PartialKey {
    /// Without any number.
    pub fn new(principal: Principal, role: Role) -> Self {
        Self { principal, role, numbers: (0..RELAYS).map(|_| None).collect() }
    }

    /// Whose key it becomes.
    pub fn principal(&self) -> Principal {
        self.principal
    }

    /// The role it becomes a key for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The number of a relay, if it was drawn.
    pub fn number(&self, relay: PathId) -> Option<&AuthenticityNumber> {
        self.numbers[relay.index()].as_ref()
    }

    /// Takes the number of a relay in.
    pub fn set(&mut self, relay: PathId, number: AuthenticityNumber) {
        self.numbers[relay.index()] = Some(number);
    }

    /// The relays whose number is missing.
    pub fn missing(&self) -> Vec<PathId> {
        PathId::all().filter(|relay| self.number(*relay).is_none()).collect()
    }

    /// The key, once no number is missing.
    ///
    /// # Errors
    /// When one is, or two are equal, which sound relays do not draw.
    pub fn complete(self) -> Result<RaidaKey, RaidaKeyError> {
        RaidaKey::new(self.principal, self.role, self.numbers.into_iter().flatten().collect())
    }
}
