//! What an owner says about a name: byte for byte the same to all 25 relays.

use super::{MAX_NAME, Membership, Name};
use crate::codec::{Malformed, Reader, Write};
use crate::ids::{PathId, Principal, RELAYS};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

/// The version of the format that this crate writes and reads.
const FORMAT: u16 = 1;

/// A year of a term, in seconds: 365 days, whatever the calendar says.
pub const YEAR: u64 = 365 * 24 * 3600;

/// Shortest time to live of answers, in seconds: below it resolvers ask more than a relay is for.
pub const MIN_TTL: u32 = 60;

/// Longest time to live of answers, in seconds: a day, after which every change is seen.
pub const MAX_TTL: u32 = 24 * 3600;

/// Latest begin of a term: far beyond every clock, and sums with it stay far from the end of 64 bits.
pub const MAX_BEGIN: u64 = 1 << 40;

/// Longest address on the wire: family, IPv6, port.
const MAX_ADDRESS: usize = 1 + 16 + 2;

/// Longest encoded record: format, name, number, owner, version, begin, time to live, server, service, signalling port,
/// 25 endpoints.
pub const MAX_RECORD: usize = 2
    + 1
    + MAX_NAME
    + 4
    + Principal::BYTES
    + 4
    + 8
    + 4
    + (1 + Principal::BYTES)
    + MAX_ADDRESS
    + 2
    + 1
    + RELAYS * (1 + MAX_ADDRESS);

/// What the owner of a name says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The name.
    pub name: Name,
    /// Its number, drawn at random by who registered it. It stays as long as the name is held.
    pub number: NonZeroU32,
    /// Whose it is; another owner than before is a transfer.
    pub owner: Principal,
    /// Rises with every change.
    pub version: NonZeroU32,
    /// When its first term began, in seconds since 1970 by the registrant's clock. It stays as long as the name is held.
    pub begin: u64,
    /// For how many seconds answers may be remembered: [`MIN_TTL`] to [`MAX_TTL`].
    pub ttl: u32,
    /// Who answers behind the name, in QSocket and in key exchanges; of the owner's network.
    pub server: Option<Principal>,
    /// Where the service is: the address that clients name.
    pub service: Option<SocketAddr>,
    /// The port at the service's address that takes signals of key exchanges.
    pub signalling: Option<NonZeroU16>,
    /// Where the relays of the RAIDA of this name are.
    pub endpoints: BTreeMap<PathId, SocketAddr>,
}

impl Record {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_RECORD);
        out.put_u16(FORMAT);
        self.name.encode(&mut out);
        out.put_u32(self.number.get());
        self.owner.encode(&mut out);
        out.put_u32(self.version.get());
        out.put_u64(self.begin);
        out.put_u32(self.ttl);
        match self.server {
            None => out.put_u8(0),
            Some(server) => {
                out.put_u8(1);
                server.encode(&mut out);
            }
        }
        match self.service {
            None => out.put_u8(0),
            Some(service) => put_address(&mut out, service),
        }
        out.put_u16(self.signalling.map_or(0, NonZeroU16::get));
        // At most 25.
        out.put_u8(self.endpoints.len() as u8);
        for (path, address) in &self.endpoints {
            out.put_u8(path.get());
            put_address(&mut out, *address);
        }
        out
    }

    /// Reads the wire form. There is one for each record: whatever decodes encodes to the same bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_RECORD {
            return Err(Malformed::TooLong { field: "record", len: bytes.len(), max: MAX_RECORD });
        }
        let mut r = Reader::new(bytes);
        if r.u16("format")? != FORMAT {
            return Err(Malformed::Value("format"));
        }
        let name = Name::decode(&mut r)?;
        let number = NonZeroU32::new(r.u32("number")?).ok_or(Malformed::Value("number"))?;
        let owner = Principal::decode(&mut r)?;
        let version = NonZeroU32::new(r.u32("version")?).ok_or(Malformed::Value("version"))?;
        let begin = r.u64("begin")?;
        let ttl = r.u32("time to live")?;
        let server = match r.u8("server")? {
            0 => None,
            1 => Some(Principal::decode(&mut r)?),
            _ => return Err(Malformed::Value("server")),
        };
        let service = read_address(&mut r, "service")?;
        let signalling = NonZeroU16::new(r.u16("signalling port")?);
        let count = usize::from(r.u8("endpoints")?);
        if count > RELAYS {
            return Err(Malformed::TooLong { field: "endpoints", len: count, max: RELAYS });
        }
        let mut endpoints = BTreeMap::new();
        for _ in 0..count {
            let path = PathId::decode(&mut r)?;
            if endpoints.last_key_value().is_some_and(|(last, _)| *last >= path) {
                return Err(Malformed::Value("endpoints"));
            }
            let address = read_address(&mut r, "endpoint")?.ok_or(Malformed::Value("endpoint"))?;
            endpoints.insert(path, address);
        }
        r.finish()?;
        let record =
            Self { name, number, owner, version, begin, ttl, server, service, signalling, endpoints };
        record.check()?;
        Ok(record)
    }

    /// Whether relays take it for a record at all: what [`Record::decode`] would say of its wire form.
    ///
    /// # Errors
    /// [`Malformed`]: the field.
    pub fn check(&self) -> Result<(), Malformed> {
        let refuse = |field| Err(Malformed::Value(field));
        if self.begin > MAX_BEGIN {
            return refuse("begin");
        }
        if !(MIN_TTL..=MAX_TTL).contains(&self.ttl) {
            return refuse("time to live");
        }
        if self.server.is_some_and(|server| server.network != self.owner.network) {
            return refuse("server");
        }
        if self.service.is_some_and(|service| !is_address(service)) {
            return refuse("service");
        }
        // It is a port at the service's address.
        if self.signalling.is_some() && self.service.is_none() {
            return refuse("signalling port");
        }
        if !self.endpoints.values().all(|address| is_address(*address)) {
            return refuse("endpoint");
        }
        Ok(())
    }

    /// When terms of so many years in all end, in seconds since 1970.
    pub fn until(&self, years: u32) -> u64 {
        self.begin.saturating_add(YEAR.saturating_mul(years.into()))
    }

    /// With whom keys for this name are exchanged, and where: its TXT record.
    pub fn membership(&self) -> Membership {
        Membership { network: self.owner.network, server: self.server, number: self.number }
    }
}

/// Whether somebody can be reached at an address at all. Which networks a reader dials is the reader's matter.
fn is_address(address: SocketAddr) -> bool {
    let ip = address.ip();
    address.port() != 0
        && ip.to_canonical() == ip
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put(&ip.octets());
        }
    }
    out.put_u16(address.port());
}

fn read_address(r: &mut Reader<'_>, field: &'static str) -> Result<Option<SocketAddr>, Malformed> {
    let ip: IpAddr = match r.u8(field)? {
        0 => return Ok(None),
        4 => Ipv4Addr::from(r.array::<4>(field)?).into(),
        6 => Ipv6Addr::from(r.array::<16>(field)?).into(),
        _ => return Err(Malformed::Value(field)),
    };
    Ok(Some(SocketAddr::new(ip, r.u16(field)?)))
}
