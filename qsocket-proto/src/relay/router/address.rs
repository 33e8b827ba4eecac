//! Which addresses a relay dials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is unicast and public, so that dialling it reaches nothing behind the relay.
///
/// The ranges are those of the IANA special-purpose registries (RFC 6890 and its updates).
pub fn is_public_unicast(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => public_v4(v4),
        IpAddr::V6(v6) => public_v6(v6),
    }
}

fn public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = a == 0
        || v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || (a, b & 0xc0) == (100, 64)
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a, b & 0xfe) == (198, 18)
        || a >= 224;
    !special
}

fn public_v6(v6: Ipv6Addr) -> bool {
    let [a, b, c, ..] = v6.segments();
    match a {
        // IPv4 in disguise (NAT64) is as public as the address inside.
        0x64 if b == 0xff9b && c == 0 => public_v4(Ipv4Addr::from_bits(v6.to_bits() as u32)),
        // 6to4.
        0x2002 => false,
        // Protocol assignments, Teredo among them, and documentation.
        0x2001 => b > 0x1ff && b != 0xdb8,
        0x3fff => b & 0xf000 != 0,
        // Everything else outside the global unicast block is not routed.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_ranges_are_not_dialled() {
        let bad = "0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 169.254.1.1 172.16.0.1 192.0.0.8 192.0.2.1 192.168.1.1 \
                   198.18.0.1 198.51.100.1 203.0.113.9 224.0.0.1 240.0.0.1 255.255.255.255 192.88.99.1 \
                   :: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 fc00::1 fd00::1 fe80::1 ff02::1 \
                   2001:db8::1 2001::1 2002:7f00:1:: 3fff::1 100::1";
        for address in bad.split_whitespace() {
            assert!(!is_public_unicast(address.parse().unwrap()), "{address}");
        }
        let good = "1.1.1.1 9.9.9.9 100.128.0.1 172.32.0.1 192.0.1.1 198.20.0.1 223.255.255.1 \
                    2606:4700::1111 2a00::1 2001:4860::8888 64:ff9b::101:101 ::ffff:1.1.1.1";
        for address in good.split_whitespace() {
            assert!(is_public_unicast(address.parse().unwrap()), "{address}");
        }
    }
}
