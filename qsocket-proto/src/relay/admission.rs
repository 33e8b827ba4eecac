//! Limits on TCP connections by address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use thiserror::Error;

/// Hops, finished or not, that one address may hold. Counted by address and not by serial number: nothing is
/// authenticated yet, and a limit by serial number would let a stranger lock its owner out.
pub const MAX_HOPS_PER_ADDRESS: u32 = 64;

/// An address holds as many hops as it may.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{address} holds {max} hops, which is the limit for an address")]
pub struct TooManyHops {
    /// The address, or the /64 network of an IPv6 address.
    pub address: IpAddr,
    /// The limit.
    pub max: u32,
}

/// Counts the TCP connections of each address.
#[derive(Clone, Debug)]
pub struct Admission {
    max: u32,
    held: BTreeMap<IpAddr, u32>,
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(MAX_HOPS_PER_ADDRESS)
    }
}

impl Admission {
    /// Allows `max` connections for each address.
    pub fn new(max: u32) -> Self {
        Self { max, held: BTreeMap::new() }
    }

    /// Counts a new connection, or refuses it. A counted one is given back with [`Admission::leave`].
    pub fn enter(&mut self, address: IpAddr) -> Result<(), TooManyHops> {
        let address = network(address);
        let held = self.held.entry(address).or_default();
        if *held >= self.max {
            let max = self.max;
            if *held == 0 {
                self.held.remove(&address);
            }
            return Err(TooManyHops { address, max });
        }
        *held += 1;
        Ok(())
    }

    /// Gives a connection back.
    pub fn leave(&mut self, address: IpAddr) {
        let address = network(address);
        if let Some(held) = self.held.get_mut(&address) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&address);
            }
        }
    }
}

/// What one customer of an access network usually controls: an IPv4 address, or an IPv6 /64. Limits by address count
/// these.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_its_limit_and_gives_back() {
        let mut admission = Admission::new(2);
        let ip = |s: &str| s.parse().unwrap();
        admission.enter(ip("192.0.2.1")).unwrap();
        admission.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(admission.enter(ip("192.0.2.1")), Err(TooManyHops { address: ip("192.0.2.1"), max: 2 }));
        admission.enter(ip("192.0.2.2")).unwrap();
        admission.leave(ip("192.0.2.1"));
        admission.enter(ip("192.0.2.1")).unwrap();
        admission.enter(ip("2001:db8::1")).unwrap();
        admission.enter(ip("2001:db8::2")).unwrap();
        assert!(admission.enter(ip("2001:db8::ffff:3")).is_err(), "one /64");
        admission.enter(ip("2001:db8:0:1::1")).unwrap();
        for address in
            ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::9", "2001:db8::9", "2001:db8:0:1::1"]
        {
            admission.leave(ip(address));
        }
        assert!(admission.held.is_empty(), "nothing remains");
        admission.leave(ip("192.0.2.1"));
    }
}
