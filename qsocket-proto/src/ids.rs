//! The numbers that name things: relays and paths, principals, connections, streams, blocks, stripes.

use crate::codec::{Malformed, Reader, Write};
use std::fmt;

/// Relays in a RAIDA, and so paths in a connection and cells in the grid.
pub const RELAYS: usize = 25;

/// Data stripes a block, shares that make a key, relays that must agree: one number everywhere.
pub const SIXTEEN: usize = 16;

/// Relays that may be missing or lie, in any mix.
pub const TOLERATED: usize = RELAYS - SIXTEEN;

/// One of the 25 paths: the way through the relay of the same number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(u8);

impl PathId {
    /// The path through relay `index`, or `None` above 24.
    pub const fn new(index: u8) -> Option<Self> {
        if (index as usize) < RELAYS { Some(Self(index)) } else { None }
    }

    /// All paths in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator + Clone {
        (0..RELAYS as u8).map(Self)
    }

    /// The path's number, 0 to 24, as an array index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The path's number, 0 to 24, as it stands on the wire.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Reads the one-byte form.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::new(r.u8("relay index")?).ok_or(Malformed::Value("relay index"))
    }
}

impl fmt::Debug for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path {}", self.0)
    }
}

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of paths, iterated in order.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct PathSet(u32);

impl PathSet {
    /// No path.
    pub const EMPTY: Self = Self(0);
    /// All 25 paths.
    pub const ALL: Self = Self((1 << RELAYS) - 1);

    /// Adds a path; true if it was not in the set.
    pub fn insert(&mut self, path: PathId) -> bool {
        let new = !self.contains(path);
        self.0 |= 1 << path.0;
        new
    }

    /// Removes a path; true if it was in the set.
    pub fn remove(&mut self, path: PathId) -> bool {
        let had = self.contains(path);
        self.0 &= !(1 << path.0);
        had
    }

    /// Whether the path is in the set.
    pub const fn contains(self, path: PathId) -> bool {
        self.0 & (1 << path.0) != 0
    }

    /// How many paths are in the set.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The paths in ascending order.
    pub fn iter(self) -> impl Iterator<Item = PathId> {
        PathId::all().filter(move |p| self.contains(*p))
    }
}

impl FromIterator<PathId> for PathSet {
    fn from_iter<I: IntoIterator<Item = PathId>>(iter: I) -> Self {
        let mut set = Self::EMPTY;
        for path in iter {
            set.insert(path);
        }
        set
    }
}

impl fmt::Debug for PathSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|p| p.0)).finish()
    }
}

/// A client or a server, known to the relays: network, denomination, serial number.
///
/// All three enter every key, header and list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    /// Which RAIDA.
    pub network: u16,
    /// The denomination of the RAIDA key, as in public RAIDA files.
    pub denomination: i8,
    /// The serial number of the RAIDA key.
    pub serial: u32,
}

impl Principal {
    /// Length of the wire form.
    pub const BYTES: usize = 7;

    /// The wire form: network, denomination, serial number.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let ([a, b], [c], [d, e, f, g]) =
            (self.network.to_be_bytes(), self.denomination.to_be_bytes(), self.serial.to_be_bytes());
        [a, b, c, d, e, f, g]
    }

    /// Appends the wire form.
    pub fn encode(self, out: &mut Vec<u8>) {
        out.put(&self.to_bytes());
    }

    /// Reads the wire form.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            network: r.u16("network")?,
            denomination: i8::from_be_bytes([r.u8("denomination")?]),
            serial: r.u32("serial number")?,
        })
    }
}

impl fmt::Display for Principal {
    /// `network.denomination.serial`, the form that configuration files use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.network, self.denomination, self.serial)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text is not of the form `network.denomination.serial`.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a principal is written network.denomination.serial, for example 1.0.1042")]
pub struct PrincipalSyntax;

impl std::str::FromStr for Principal {
    type Err = PrincipalSyntax;

    fn from_str(s: &str) -> Result<Self, PrincipalSyntax> {
        let mut parts = s.split('.');
        let (Some(n), Some(d), Some(s), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PrincipalSyntax);
        };
        Ok(Self {
            network: n.parse().map_err(|_| PrincipalSyntax)?,
            denomination: d.parse().map_err(|_| PrincipalSyntax)?,
            serial: s.parse().map_err(|_| PrincipalSyntax)?,
        })
    }
}

/// What a principal is on a hop or in a connection. Bound into every imported key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Opens connections.
    Client = 1,
    /// Is reached at registered addresses.
    Server = 2,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

impl Role {
    /// Reads the one-byte form.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8("role")? {
            1 => Ok(Self::Client),
            2 => Ok(Self::Server),
            _ => Err(Malformed::Value("role")),
        }
    }
}

/// Names a connection between two principals; drawn by the client, fresh for every attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub [u8; 16]);

impl fmt::Debug for ConnectionId {
    /// The first four bytes: enough to follow a connection in a log, and not the whole id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}..")
    }
}

/// Names an Encryption key that two principals share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 16]);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for b in self.0 {
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

/// Names a call on one hop, in one direction, until its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u32);

/// Hops of one path that a server has at once. A relay that is several processes has one from each: four processes, and
/// for each one that was started again the hop that nobody has found dead yet.
pub const MAX_HOPS_PER_PATH: u8 = 8;

/// Names a hop of an endpoint: one of a path's. A client has one for each path, a server up to [`MAX_HOPS_PER_PATH`].
/// `docs/protocol.md`, 20.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopAt {
    /// Whose path.
    pub path: PathId,
    /// Which of the path's hops, below [`MAX_HOPS_PER_PATH`]. Given anew when a hop is gone.
    pub nth: u8,
}

impl From<PathId> for HopAt {
    /// The one hop of a client, the first one of a server.
    fn from(path: PathId) -> Self {
        Self { path, nth: 0 }
    }
}

/// Names a route on one hop: which connection a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);

/// Which way bytes of a connection travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From the client to the server.
    ToServer = 0,
    /// From the server to the client.
    ToClient = 1,
}

impl Direction {
    /// The other direction.
    pub const fn reverse(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// Names a byte stream in a connection. Clients open odd numbers, servers even ones; 0 is the hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The stream that carries the hello block.
    pub const HELLO: Self = Self(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_print_and_parse() {
        let p = Principal { network: 1, denomination: -8, serial: u32::MAX };
        assert_eq!(p.to_string().parse(), Ok(p));
        for bad in ["", "1", "1.2", "1.2.3.4", "1.2.x", "70000.0.1", "1.200.1", "1.0.-1"] {
            assert_eq!(bad.parse::<Principal>(), Err(PrincipalSyntax), "{bad}");
        }
    }

    #[test]
    fn a_path_is_below_25() {
        assert_eq!(PathId::new(24).map(PathId::index), Some(24));
        assert_eq!(PathId::new(25), None);
        assert_eq!(PathSet::ALL.len(), RELAYS);
        assert_eq!(PathId::all().collect::<PathSet>(), PathSet::ALL);
    }
}
