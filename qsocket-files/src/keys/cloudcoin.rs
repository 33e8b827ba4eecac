//! RAIDA keys out of public CloudCoin files; `docs/keys.md` says when that may be done.
//!
//! A file has a header of 32 bytes, seven bytes for the coin, and 25 numbers of 16 bytes. Of the header these count:
//!
//! | byte | meaning | taken |
//! |---|---|---|
//! | 0 | format | 9 |
//! | 1 | cloud | 1 |
//! | 2, 3 | number of the coin's RAIDA | any; the network of the key |
//! | 5 | encryption | 0, none |
//! | 6, 7 | coins in the file | 1 |
//! | 15 | state | 0 or 2: no change of the numbers is under way |
//!
//! The coin begins with two bytes of places in a database, its denomination and its serial number (4).

use super::{AuthenticityNumber, KeyFileError, file};
use qsocket_proto::ids::{Principal, RELAYS, Role};
use qsocket_proto::raida_key::{RaidaKey, RaidaKeyError};
use std::io;
use std::path::{Path, PathBuf};

const HEADER: usize = 32;
const COIN: usize = 7;
const NUMBER: usize = 16;
/// Length of a file with one coin.
const LENGTH: usize = HEADER + COIN + RELAYS * NUMBER;

/// The statement of whoever imports a coin: its numbers were never used with any other program or service, and never will
/// be.
///
/// Public RAIDA encryption shows a coin's numbers to whoever listens: its replies carry the number mixed with bytes that a
/// listener knows. A coin that was spent, checked or used to encrypt elsewhere protects nothing.
#[derive(Clone, Copy, Debug)]
pub struct NeverUsedElsewhere;

/// Reads a coin file as the RAIDA key of a principal in `role`; `network` in place of the coin's own RAIDA number.
///
/// The relays of that network must know the numbers in this role.
///
/// # Errors
/// When others can read or replace the file, or it is not one coin of format 9.
pub fn load(
    path: impl AsRef<Path>,
    role: Role,
    network: Option<u16>,
    _stated: NeverUsedElsewhere,
) -> Result<RaidaKey, CoinError> {
    let path = path.as_ref();
    let bytes = file::read(path)?;
    parse(&bytes, role, network).map_err(|problem| CoinError::Coin { path: path.to_owned(), problem })
}

fn parse(bytes: &[u8], role: Role, network: Option<u16>) -> Result<RaidaKey, CoinProblem> {
    match bytes.first() {
        Some(9) => {}
        Some(8) => return Err(CoinProblem::Pending),
        Some(0x0a | 0x0b) => return Err(CoinProblem::Seeded),
        Some(_) => return Err(CoinProblem::NotACoin),
        None => return Err(CoinProblem::Length(0)),
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(CoinProblem::Length(bytes.len()));
    };
    if header[1] != 1 {
        return Err(CoinProblem::NotACoin);
    }
    if header[5] != 0 {
        return Err(CoinProblem::Encrypted(header[5]));
    }
    let count = u16::from_be_bytes([header[6], header[7]]);
    if count != 1 {
        return Err(CoinProblem::Count(count));
    }
    if !matches!(header[15], 0 | 2) {
        return Err(CoinProblem::Pending);
    }
    let (Some((coin, numbers)), LENGTH) = (rest.split_first_chunk::<COIN>(), bytes.len()) else {
        return Err(CoinProblem::Length(bytes.len()));
    };
    let [_, _, denomination, a, b, c, d] = *coin;
    let principal = Principal {
        network: network.unwrap_or_else(|| u16::from_be_bytes([header[2], header[3]])),
        denomination: i8::from_be_bytes([denomination]),
        serial: u32::from_be_bytes([a, b, c, d]),
    };
    let numbers = qsocket_proto::ids::PathId::all()
        .zip(numbers.as_chunks::<NUMBER>().0)
        // The length is right, so a number that does not import is zero.
        .map(|(path, number)| AuthenticityNumber::new(number).map_err(|_| RaidaKeyError::Zero(path)))
        .collect::<Result<_, _>>()?;
    Ok(RaidaKey::new(principal, role, numbers)?)
}

/// Why a coin file gives no RAIDA key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoinError {
    /// The file is refused, whatever it holds.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Its content is refused.
    #[error("{}: {problem}", path.display())]
    Coin {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: CoinProblem,
    },
}

/// What stands in the way of taking a coin for a RAIDA key.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CoinProblem {
    /// Another kind of file.
    #[error("not a CloudCoin file of format 9; a key of QSocket is brought in with `qsocket keys import`")]
    NotACoin,
    /// Formats A and B.
    #[error(
        "format A or B: its 25 numbers are computed from one seed of 11 bytes, so that whoever finds the seed has all of them; 25 relays then protect no better than one. Enrol at the relays for a key of independent numbers"
    )]
    Seeded,
    /// Format 8, and states between two sets of numbers.
    #[error(
        "the coin is being changed, and it is not certain which numbers count; finish that in the program that began it"
    )]
    Pending,
    /// Under a password.
    #[error(
        "the coin is encrypted (type {0}); export it without a password, and protect the file until it is imported"
    )]
    Encrypted(u8),
    /// Several coins, or none.
    #[error("the file holds {0} coins; a RAIDA key is one of them: export it alone")]
    Count(u16),
    /// Cut off, or with something behind it.
    #[error(
        "{0} bytes, where one coin of format 9 has {LENGTH}; the file is not whole, or of another program"
    )]
    Length(usize),
    /// The numbers make no key.
    #[error("{0}; this is no coin that relays gave out")]
    Key(#[from] RaidaKeyError),
}

impl From<CoinError> for io::Error {
    fn from(e: CoinError) -> Self {
        let kind = match &e {
            CoinError::File(e) => e.kind(),
            CoinError::Coin { .. } => io::ErrorKind::InvalidData,
        };
        Self::new(kind, e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qsocket_proto::ids::PathId;
    use qsocket_proto::raida_key::Strength;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A coin whose number i is the byte i+1 repeated.
    fn coin() -> Vec<u8> {
        let mut bytes = vec![9, 1, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(b"Live Free or Die");
        bytes.extend_from_slice(&[0, 0, 0xfe, 0, 0, 4, 0x12]);
        for i in 1..=25 {
            bytes.extend_from_slice(&[i; 16]);
        }
        bytes
    }

    fn with(at: usize, byte: u8) -> Result<RaidaKey, CoinProblem> {
        let mut bytes = coin();
        bytes[at] = byte;
        parse(&bytes, Role::Client, None)
    }

    #[test]
    fn a_coin_of_format_9_is_a_key_of_128_bits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coin.bin");
        fs::write(&path, coin()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let key = load(&path, Role::Client, None, NeverUsedElsewhere).unwrap();
        assert_eq!(key.principal().to_string(), "6.-2.1042");
        assert_eq!((key.role(), key.strength()), (Role::Client, Strength::Bits128));
        for path in PathId::all() {
            assert_eq!(key.number(path).expose(), [path.get() + 1; 16]);
        }
        let key = load(&path, Role::Server, Some(1), NeverUsedElsewhere).unwrap();
        assert_eq!((key.principal().to_string(), key.role()), ("1.-2.1042".to_owned(), Role::Server));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let e = load(&path, Role::Client, None, NeverUsedElsewhere).unwrap_err();
        assert!(e.to_string().contains("run: chmod 600"), "{e}");
    }

    #[test]
    fn other_formats_and_states_are_refused_with_the_reason() {
        for (at, byte, problem) in [
            (0, 0x0a, CoinProblem::Seeded),
            (0, 0x0b, CoinProblem::Seeded),
            (0, 8, CoinProblem::Pending),
            (0, b'k', CoinProblem::NotACoin),
            (1, 2, CoinProblem::NotACoin),
            (5, 1, CoinProblem::Encrypted(1)),
            (6, 1, CoinProblem::Count(257)),
            (7, 0, CoinProblem::Count(0)),
            (15, 1, CoinProblem::Pending),
            (15, 3, CoinProblem::Pending),
        ] {
            assert_eq!(with(at, byte).unwrap_err(), problem);
        }
        assert!(with(15, 2).is_ok());
        assert!(CoinProblem::Seeded.to_string().contains("computed from one seed"));
    }

    #[test]
    fn every_other_length_is_refused() {
        let whole = coin();
        for length in 0..whole.len() {
            let e = parse(&whole[..length], Role::Client, None).unwrap_err();
            assert_eq!(e, CoinProblem::Length(length));
        }
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(parse(&longer, Role::Client, None).unwrap_err(), CoinProblem::Length(440));
    }

    #[test]
    fn numbers_that_make_no_key_are_refused() {
        let relay = |n| PathId::new(n).unwrap();
        let mut bytes = coin();
        bytes[39 + 3 * 16..39 + 4 * 16].fill(0);
        let e = parse(&bytes, Role::Client, None).unwrap_err();
        assert_eq!(e, CoinProblem::Key(RaidaKeyError::Zero(relay(3))));
        bytes[39 + 3 * 16..39 + 4 * 16].fill(1);
        let e = parse(&bytes, Role::Client, None).unwrap_err();
        assert_eq!(e, CoinProblem::Key(RaidaKeyError::Equal(relay(0), relay(3))));
    }
}
