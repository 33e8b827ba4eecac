//! The 32-byte request header that a HELLO begins with (`docs/protocol.md`, 4.3).
//!
//! Its layout is that of the public RAIDA request header, so that one port can tell the services apart; the values
//! say that what follows is QSocket. Nothing is believed because the header says it: all of it is under the binder.

use crate::codec::{Malformed, Reader};
use crate::ids::{PathId, Principal};

/// Length of the header.
pub const REQUEST_HEADER: usize = 32;

/// Command group of QSocket; public servers end at 15.
const COMMAND_GROUP: u8 = 0x51;

/// The only command of the group.
const COMMAND_HELLO: u8 = 1;

/// Encryption type: QSocket, version 1.
const ENCRYPTION_TYPE: u8 = 0x10;

/// What a request header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The relay at the one end of the hop.
    pub relay: PathId,
    /// The principal at the other end, whichever of them dials.
    pub principal: Principal,
    /// Bytes that follow the header.
    pub body_len: u16,
    /// The first eight bytes of the HELLO's nonce.
    pub nonce: [u8; 8],
}

impl RequestHeader {
    /// The wire form.
    pub fn encode(&self) -> [u8; REQUEST_HEADER] {
        let mut out = [0; REQUEST_HEADER];
        out[0] = 1;
        out[2] = self.relay.get();
        out[4] = COMMAND_GROUP;
        out[5] = COMMAND_HELLO;
        out[6..8].copy_from_slice(&self.principal.network.to_be_bytes());
        out[8] = 1;
        out[15] = 1;
        out[16] = ENCRYPTION_TYPE;
        out[17..18].copy_from_slice(&self.principal.denomination.to_be_bytes());
        out[18..22].copy_from_slice(&self.principal.serial.to_be_bytes());
        out[22..24].copy_from_slice(&self.body_len.to_be_bytes());
        out[24..].copy_from_slice(&self.nonce);
        out
    }

    /// Reads the wire form. Every fixed and every reserved field must hold its value.
    pub fn decode(bytes: &[u8; REQUEST_HEADER]) -> Result<Self, Malformed> {
        fn fixed(r: &mut Reader<'_>, value: u8, field: &'static str) -> Result<(), Malformed> {
            if r.u8(field)? == value { Ok(()) } else { Err(Malformed::Value(field)) }
        }
        let mut r = Reader::new(bytes);
        fixed(&mut r, 1, "routing version")?;
        fixed(&mut r, 0, "split id")?;
        let relay = PathId::decode(&mut r)?;
        fixed(&mut r, 0, "shard")?;
        fixed(&mut r, COMMAND_GROUP, "command group")?;
        fixed(&mut r, COMMAND_HELLO, "command")?;
        let network = r.u16("network")?;
        fixed(&mut r, 1, "header version")?;
        for field in
            ["application", "application", "compression", "translation", "AI translation", "packet index"]
        {
            fixed(&mut r, 0, field)?;
        }
        fixed(&mut r, 1, "packet count")?;
        fixed(&mut r, ENCRYPTION_TYPE, "encryption type")?;
        let denomination = i8::from_be_bytes([r.u8("denomination")?]);
        let serial = r.u32("serial number")?;
        let body_len = r.u16("body length")?;
        let nonce = r.array("nonce")?;
        r.finish()?;
        Ok(Self { relay, principal: Principal { network, denomination, serial }, body_len, nonce })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_stands_where_the_layout_says() {
        let header = RequestHeader {
            relay: PathId::new(24).unwrap(),
            principal: Principal { network: 0x0102, denomination: -8, serial: 0x0304_0506 },
            body_len: 0x0708,
            nonce: [9; 8],
        };
        let wire = header.encode();
        let expected: [u8; 32] = [
            1, 0, 24, 0, 0x51, 1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 1, 0x10, 0xf8, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9,
            9, 9, 9,
        ];
        assert_eq!(wire, expected);
        assert_eq!(RequestHeader::decode(&wire), Ok(header));
        for at in [0, 1, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16] {
            let mut bad = wire;
            bad[at] ^= 0x20;
            assert!(matches!(RequestHeader::decode(&bad), Err(Malformed::Value(_))), "byte {at}");
        }
        let mut bad = wire;
        bad[2] = 25;
        assert_eq!(RequestHeader::decode(&bad), Err(Malformed::Value("relay index")));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic_and_what_decodes_encodes_back(bytes: [u8; 32], good: bool) {
            let mut bytes = bytes;
            if good {
                let frame: [(usize, u8); 15] = [(0, 1), (1, 0), (3, 0), (4, 0x51), (5, 1), (8, 1), (9, 0), (10, 0), (11, 0), (12, 0), (13, 0), (14, 0), (15, 1), (16, 0x10), (2, bytes[2] % 25)];
                for (at, value) in frame {
                    bytes[at] = value;
                }
            }
            match RequestHeader::decode(&bytes) {
                Ok(header) => prop_assert_eq!(header.encode(), bytes),
                Err(_) => prop_assert!(!good),
            }
        }
    }
}
