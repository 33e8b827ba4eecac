//! RAIDA keys: what a principal shares with the 25 relays, and what each relay keeps of it.

use crate::crypto::secret::Secret;
use crate::ids::{PathId, Principal, RELAYS, Role};
use rand_core::CryptoRng;
use std::collections::BTreeMap;
use std::fmt;
use subtle::ConstantTimeEq;

/// How many bits the authenticity numbers of a RAIDA key have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strength {
    /// 16 bytes, the length of numbers in public RAIDA files. Weaker than AES-256 against Grover's algorithm.
    Bits128,
    /// 32 bytes.
    Bits256,
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bits128 => "128 bit",
            Self::Bits256 => "256 bit",
        })
    }
}

/// The secret that a principal shares with one relay: 16 or 32 bytes.
pub struct AuthenticityNumber(Bytes);

enum Bytes {
    Short(Secret<16>),
    Long(Secret<32>),
}

impl AuthenticityNumber {
    /// Takes a copy of 16 or 32 bytes; `None` for every other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(match bytes.len() {
            16 => Bytes::Short(Secret::build(|out| out.copy_from_slice(bytes))),
            32 => Bytes::Long(Secret::build(|out| out.copy_from_slice(bytes))),
            _ => return None,
        }))
    }

    /// Draws a uniform number.
    pub fn random<R: CryptoRng + ?Sized>(strength: Strength, rng: &mut R) -> Self {
        Self(match strength {
            Strength::Bits128 => Bytes::Short(Secret::random(rng)),
            Strength::Bits256 => Bytes::Long(Secret::random(rng)),
        })
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short(s) => s.expose(),
            Bytes::Long(s) => s.expose(),
        }
    }

    /// How long the number is.
    pub fn strength(&self) -> Strength {
        match self.0 {
            Bytes::Short(_) => Strength::Bits128,
            Bytes::Long(_) => Strength::Bits256,
        }
    }

    /// Whether both are the same number; takes the same time for every pair of one length.
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }

    fn is_zero(&self) -> bool {
        match &self.0 {
            Bytes::Short(s) => s.is_zero(),
            Bytes::Long(s) => s.is_zero(),
        }
    }

    /// A second copy, for the relay's table.
    fn duplicate(&self) -> Self {
        Self(match &self.0 {
            Bytes::Short(s) => Bytes::Short(Secret::build(|out| out.copy_from_slice(s.expose()))),
            Bytes::Long(s) => Bytes::Long(Secret::build(|out| out.copy_from_slice(s.expose()))),
        })
    }
}

impl fmt::Debug for AuthenticityNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthenticityNumber({}, ..)", self.strength())
    }
}

/// A principal's RAIDA key: who it is, in which role, and the 25 numbers it shares with the relays.
///
/// A key is for one role: a principal that opens connections and is reached too holds two.
pub struct RaidaKey {
    principal: Principal,
    role: Role,
    /// Always [`RELAYS`] long.
    numbers: Vec<AuthenticityNumber>,
}

impl RaidaKey {
    /// Makes a key of its parts, the numbers in the order of the relays.
    ///
    /// # Errors
    /// When there are not 25 numbers, one is all zero, or two are equal: then a relay could pose as another.
    pub fn new(
        principal: Principal,
        role: Role,
        numbers: Vec<AuthenticityNumber>,
    ) -> Result<Self, RaidaKeyError> {
        if numbers.len() != RELAYS {
            return Err(RaidaKeyError::Count(numbers.len()));
        }
        for (path, number) in PathId::all().zip(&numbers) {
            if number.is_zero() {
                return Err(RaidaKeyError::Zero(path));
            }
            if let Some((first, _)) =
                PathId::all().zip(&numbers).take(path.index()).find(|(_, n)| n.ct_eq(number))
            {
                return Err(RaidaKeyError::Equal(first, path));
            }
        }
        Ok(Self { principal, role, numbers })
    }

    /// Draws a key: 25 independent uniform numbers.
    ///
    /// # Errors
    /// As [`RaidaKey::new`], which for a sound generator does not happen in practice.
    pub fn generate<R: CryptoRng + ?Sized>(
        principal: Principal,
        role: Role,
        strength: Strength,
        rng: &mut R,
    ) -> Result<Self, RaidaKeyError> {
        let numbers = PathId::all().map(|_| AuthenticityNumber::random(strength, rng)).collect();
        Self::new(principal, role, numbers)
    }

    /// Whose key it is.
    pub fn principal(&self) -> Principal {
        self.principal
    }

    /// The role it may be used in.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The number shared with the relay of that path.
    pub fn number(&self, path: PathId) -> &AuthenticityNumber {
        &self.numbers[path.index()]
    }

    /// The length of the shortest number.
    pub fn strength(&self) -> Strength {
        self.numbers.iter().map(AuthenticityNumber::strength).min().unwrap_or(Strength::Bits128)
    }
}

impl fmt::Debug for RaidaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaidaKey")
            .field("principal", &self.principal)
            .field("role", &self.role)
            .field("strength", &self.strength())
            .finish_non_exhaustive()
    }
}

/// Why numbers do not make a RAIDA key.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RaidaKeyError {
    /// Not one number a relay.
    #[error("{0} authenticity numbers where {RELAYS} are needed, one for each relay")]
    Count(usize),
    /// A number that anybody can guess.
    #[error("the authenticity number of relay {0} is all zero")]
    Zero(PathId),
    /// Two relays with one number.
    #[error("relays {0} and {1} have the same authenticity number; each needs its own")]
    Equal(PathId, PathId),
}

/// What one relay knows: the number of every principal, by role.
pub type RelayTable = BTreeMap<(Principal, Role), AuthenticityNumber>;

/// The table of the relay at `path` for a set of keys. Of two keys for one principal and role, the later counts.
pub fn relay_table<'a>(keys: impl IntoIterator<Item = &'a RaidaKey>, path: PathId) -> RelayTable {
    keys.into_iter().map(|k| ((k.principal, k.role), k.number(path).duplicate())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    const P: Principal = Principal { network: 1, denomination: 0, serial: 1042 };

    fn numbers() -> Vec<AuthenticityNumber> {
        (1..=25).filter_map(|i| AuthenticityNumber::from_slice(&[i; 16])).collect()
    }

    #[test]
    fn a_key_needs_25_different_numbers() {
        assert!(RaidaKey::new(P, Role::Client, numbers()).is_ok());

        let mut short = numbers();
        short.pop();
        assert_eq!(RaidaKey::new(P, Role::Client, short).err(), Some(RaidaKeyError::Count(24)));

        let mut zero = numbers();
        zero[3] = AuthenticityNumber::from_slice(&[0; 32]).unwrap();
        assert_eq!(RaidaKey::new(P, Role::Client, zero).err(), PathId::new(3).map(RaidaKeyError::Zero));

        let mut equal = numbers();
        equal[24] = equal[7].duplicate();
        let (a, b) = (PathId::new(7).unwrap(), PathId::new(24).unwrap());
        assert_eq!(RaidaKey::new(P, Role::Client, equal).err(), Some(RaidaKeyError::Equal(a, b)));
        assert!(AuthenticityNumber::from_slice(&[1; 15]).is_none());
    }

    #[test]
    fn the_weakest_number_decides_the_strength() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let key = RaidaKey::generate(P, Role::Client, Strength::Bits256, &mut rng).unwrap();
        assert_eq!(key.strength(), Strength::Bits256);
        let mut mixed = key.numbers;
        mixed[9] = AuthenticityNumber::random(Strength::Bits128, &mut rng);
        assert_eq!(RaidaKey::new(P, Role::Client, mixed).unwrap().strength(), Strength::Bits128);
    }

    #[test]
    fn a_relay_knows_its_own_numbers_only() {
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let client = RaidaKey::generate(P, Role::Client, Strength::Bits128, &mut rng).unwrap();
        let server = RaidaKey::generate(P, Role::Server, Strength::Bits256, &mut rng).unwrap();
        for path in PathId::all() {
            let table = relay_table([&client, &server], path);
            assert_eq!(table.len(), 2);
            assert!(table[&(P, Role::Client)].ct_eq(client.number(path)));
            assert!(table[&(P, Role::Server)].ct_eq(server.number(path)));
        }
    }

    #[test]
    fn debug_shows_no_number() {
        let key = RaidaKey::new(P, Role::Client, numbers()).unwrap();
        assert_eq!(
            format!("{key:?}"),
            "RaidaKey { principal: 1.0.1042, role: Client, strength: Bits128, .. }"
        );
        assert_eq!(format!("{:?}", key.numbers[0]), "AuthenticityNumber(128 bit, ..)");
    }
}
