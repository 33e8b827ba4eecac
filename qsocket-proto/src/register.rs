//! What a server tells a relay about its own addresses. `docs/protocol.md`, 20.1.

use crate::codec::{Malformed, Reader, Write};
use crate::relay::{MAX_ADDRESSES, Registration};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How an address is reached, on the wire.
mod way {
    pub(super) const SERVER_DIALS: u8 = 0;
    pub(super) const RELAY_DIALS: u8 = 1;
}

/// The request of Register: all addresses that the server registers itself. It takes the place of the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Register {
    /// At most [`MAX_ADDRESSES`], each with another destination. None takes back what was registered.
    pub registrations: Vec<Registration>,
}

impl Register {
    /// The wire form. What lies beyond the bound is left out; [`Register::decode`] would refuse it.
    pub fn encode(&self) -> Vec<u8> {
        let count = self.registrations.len().min(MAX_ADDRESSES);
        let mut out = vec![count as u8];
        for Registration { destination, dial } in self.registrations.iter().take(count) {
            put_address(&mut out, *destination);
            match dial {
                None => out.put_u8(way::SERVER_DIALS),
                Some(dial) => {
                    out.put_u8(way::RELAY_DIALS);
                    put_address(&mut out, *dial);
                }
            }
        }
        out
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// Too many addresses, one destination twice, port 0, or bytes that are no such message.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let count = usize::from(r.u8("number of addresses")?);
        if count > MAX_ADDRESSES {
            return Err(Malformed::TooLong { field: "addresses", len: count, max: MAX_ADDRESSES });
        }
        let mut registrations: Vec<Registration> = Vec::with_capacity(count);
        for _ in 0..count {
            let destination = address(&mut r)?;
            let dial = match r.u8("who dials")? {
                way::SERVER_DIALS => None,
                way::RELAY_DIALS => Some(address(&mut r)?),
                _ => return Err(Malformed::Value("who dials")),
            };
            if registrations.iter().any(|known| known.destination == destination) {
                return Err(Malformed::Value("addresses"));
            }
            registrations.push(Registration { destination, dial });
        }
        r.finish()?;
        Ok(Self { registrations })
    }
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

/// An IPv4 address in the form of IPv6 is malformed: each address has one form, so that nobody holds it twice.
fn address(r: &mut Reader<'_>) -> Result<SocketAddr, Malformed> {
    let ip: IpAddr = match r.u8("address family")? {
        4 => Ipv4Addr::from(r.array::<4>("address")?).into(),
        6 => Ipv6Addr::from(r.array::<16>("address")?).into(),
        _ => return Err(Malformed::Value("address family")),
    };
    let port = r.u16("port")?;
    if port == 0 || ip.to_canonical() != ip {
        return Err(Malformed::Value("address"));
    }
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn at(text: &str, dial: Option<&str>) -> Registration {
        Registration { destination: text.parse().unwrap(), dial: dial.map(|d| d.parse().unwrap()) }
    }

    #[test]
    fn what_is_written_is_read() {
        let all = [
            at("203.0.113.7:443", None),
            at("203.0.113.7:444", Some("198.51.100.1:60003")),
            at("[2001:db8::1]:443", Some("[2001:db8::2]:9")),
        ];
        for count in 0..=all.len() {
            let register = Register { registrations: all[..count].to_vec() };
            assert_eq!(Register::decode(&register.encode()), Ok(register));
        }
        // The text's own example, byte for byte.
        let one = Register { registrations: vec![at("203.0.113.7:443", None)] };
        assert_eq!(one.encode(), [1, 4, 203, 0, 113, 7, 1, 187, 0]);
    }

    #[test]
    fn requests_match_the_known_answers() {
        let vectors: Value = serde_json::from_str(include_str!("../../vectors/register.json")).unwrap();
        let vectors = vectors["register"].as_array().unwrap();
        assert_eq!(vectors.len(), 5);
        for v in vectors {
            let one = |r: &Value| at(r["destination"].as_str().unwrap(), r["dial"].as_str());
            let register =
                Register { registrations: v["registrations"].as_array().unwrap().iter().map(one).collect() };
            let hex: String = register.encode().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, v["request"]);
            assert_eq!(Register::decode(&register.encode()), Ok(register));
        }
    }

    #[test]
    fn a_fifth_address_one_twice_and_what_is_no_address_are_malformed() {
        let five = (1..=5).map(|i| at(&format!("203.0.113.7:{i}"), None)).collect();
        let mut bytes = Register { registrations: five }.encode();
        assert_eq!(bytes[0], 4);
        bytes[0] = 5;
        bytes.extend_from_slice(&[4, 203, 0, 113, 7, 0, 5, 0]);
        assert!(matches!(Register::decode(&bytes), Err(Malformed::TooLong { len: 5, max: 4, .. })));
        let twice = Register {
            registrations: vec![at("203.0.113.7:1", None), at("203.0.113.7:1", Some("203.0.113.7:2"))],
        };
        assert_eq!(Register::decode(&twice.encode()), Err(Malformed::Value("addresses")));
        for bad in ["203.0.113.7:0", "[::ffff:203.0.113.7]:1"] {
            let bad = Register { registrations: vec![at(bad, None)] };
            assert_eq!(Register::decode(&bad.encode()), Err(Malformed::Value("address")));
        }
        assert!(Register::decode(&[]).is_err());
        assert_eq!(Register::decode(&[0, 0]), Err(Malformed::Trailing(1)));
        assert_eq!(Register::decode(&[1, 4, 203, 0, 113, 7, 0, 1, 2]), Err(Malformed::Value("who dials")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            if let Ok(register) = Register::decode(&bytes) {
                prop_assert_eq!(register.encode(), bytes);
            }
        }
    }
}
