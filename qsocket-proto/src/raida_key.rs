//! RAIDA keys: what a principal shares with the 25 relays, and what each relay keeps of it.

use crate::crypto::schedule::hop::AuthenticityNumber;
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

/// Draws an authenticity number.
fn random<R: CryptoRng + ?Sized>(strength: Strength, rng: &mut R) -> AuthenticityNumber {
    match strength {
        Strength::Bits128 => AuthenticityNumber::Bits128(Secret::random(rng)),
        Strength::Bits256 => AuthenticityNumber::Bits256(Secret::random(rng)),
    }
}

/// A second copy, for a relay's table.
pub fn duplicate(number: &AuthenticityNumber) -> AuthenticityNumber {
    match number {
        AuthenticityNumber::Bits128(s) => {
            AuthenticityNumber::Bits128(Secret::build(|out| out.copy_from_slice(s.expose())))
        }
        AuthenticityNumber::Bits256(s) => {
            AuthenticityNumber::Bits256(Secret::build(|out| out.copy_from_slice(s.expose())))
        }
    }
}

fn is_zero(number: &AuthenticityNumber) -> bool {
    match number {
        AuthenticityNumber::Bits128(s) => s.is_zero(),
        AuthenticityNumber::Bits256(s) => s.is_zero(),
    }
}

/// Whether two numbers are the same, in constant time.
pub fn equal(a: &AuthenticityNumber, b: &AuthenticityNumber) -> bool {
    a.expose().ct_eq(b.expose()).into()
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
            if is_zero(number) {
                return Err(RaidaKeyError::Zero(path));
            }
            if let Some((first, _)) =
                PathId::all().zip(&numbers).take(path.index()).find(|(_, n)| equal(n, number))
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
        let numbers = PathId::all().map(|_| random(strength, rng)).collect();
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

    /// The number shared with the relay of that path, alone; the others are erased.
    pub fn into_number(self, path: PathId) -> AuthenticityNumber {
        duplicate(self.number(path))
    }

    /// Whether both hold the same numbers; takes the same time for all numbers of one length.
    pub fn same_numbers(&self, other: &Self) -> bool {
        self.numbers.iter().zip(&other.numbers).fold(true, |same, (a, b)| same & equal(a, b))
    }

    /// The length of the shortest number.
    pub fn strength(&self) -> Strength {
        let short = self.numbers.iter().any(|n| matches!(n, AuthenticityNumber::Bits128(_)));
        if short { Strength::Bits128 } else { Strength::Bits256 }
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
    keys.into_iter().map(|k| ((k.principal, k.role), duplicate(k.number(path)))).collect()
}

/// A second copy of a table.
pub fn duplicate_table(table: &RelayTable) -> RelayTable {
    table.iter().map(|(who, number)| (*who, duplicate(number))).collect()
}

/// Who is missing in the newer table, or has another number there: hops built with the older one do not count.
pub fn outdated(older: &RelayTable, newer: &RelayTable) -> Vec<(Principal, Role)> {
    let same = |key, number| newer.get(key).is_some_and(|n| equal(n, number));
    older.iter().filter(|(key, number)| !same(key, number)).map(|(key, _)| *key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    const P: Principal = Principal { network: 1, denomination: 0, serial: 1042 };

    fn numbers() -> Vec<AuthenticityNumber> {
        (1..=25).map(|i| AuthenticityNumber::new(&[i; 16]).unwrap()).collect()
    }

    #[test]
    fn a_key_needs_25_different_numbers() {
        assert!(RaidaKey::new(P, Role::Client, numbers()).is_ok());

        let mut short = numbers();
        short.pop();
        assert_eq!(RaidaKey::new(P, Role::Client, short).err(), Some(RaidaKeyError::Count(24)));

        let mut zero = numbers();
        zero[3] = AuthenticityNumber::Bits256(Secret::new([0; 32]));
        assert_eq!(RaidaKey::new(P, Role::Client, zero).err(), PathId::new(3).map(RaidaKeyError::Zero));

        let mut twice = numbers();
        twice[24] = duplicate(&twice[7]);
        let (a, b) = (PathId::new(7).unwrap(), PathId::new(24).unwrap());
        assert_eq!(RaidaKey::new(P, Role::Client, twice).err(), Some(RaidaKeyError::Equal(a, b)));
    }

    #[test]
    fn the_weakest_number_decides_the_strength() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let key = RaidaKey::generate(P, Role::Client, Strength::Bits256, &mut rng).unwrap();
        assert_eq!(key.strength(), Strength::Bits256);
        let mut mixed = key.numbers;
        mixed[9] = random(Strength::Bits128, &mut rng);
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
            assert!(equal(&table[&(P, Role::Client)], client.number(path)));
            assert!(equal(&table[&(P, Role::Server)], server.number(path)));
        }
    }

    #[test]
    fn who_left_or_has_another_number_is_outdated() {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let mut key = |serial| {
            RaidaKey::generate(Principal { serial, ..P }, Role::Client, Strength::Bits256, &mut rng).unwrap()
        };
        let (stays, leaves, old, new) = (key(1), key(2), key(3), key(3));
        let path = PathId::new(0).unwrap();
        let older = relay_table([&stays, &leaves, &old], path);
        let newer = relay_table([&stays, &new, &key(4)], path);
        let gone = outdated(&older, &newer).into_iter().map(|(p, _)| p.serial).collect::<Vec<_>>();
        assert_eq!(gone, [2, 3]);
    }

    #[test]
    fn one_other_number_makes_another_key() {
        let key = |numbers| RaidaKey::new(P, Role::Client, numbers).unwrap();
        assert!(key(numbers()).same_numbers(&key(numbers())));
        for at in 0..25 {
            let mut other = numbers();
            other[at] = AuthenticityNumber::new(&[99; 16]).unwrap();
            assert!(!key(numbers()).same_numbers(&key(other)), "number {at}");
        }
    }

    #[test]
    fn debug_shows_no_number() {
        let key = RaidaKey::new(P, Role::Client, numbers()).unwrap();
        assert_eq!(
            format!("{key:?}"),
            "RaidaKey { principal: 1.0.1042, role: Client, strength: Bits128, .. }"
        );
    }
}
