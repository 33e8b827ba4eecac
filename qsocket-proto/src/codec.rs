//! Big-endian reading and writing of byte slices, without panics.
//!
//! Every wire format of this crate is read through [`Reader`]. A reader never reads past its end, never
//! allocates, and leaves the decision about bytes that remain to [`Reader::finish`].

use thiserror::Error;

/// Why bytes could not be decoded: the sender, a relay or an attacker is at fault, never the caller.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// The input ends before the field does.
    #[error("input ends before {0}")]
    Short(&'static str),
    /// Bytes remain behind the last field.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    /// A field holds a value that the format does not allow.
    #[error("{0} holds a value that is not allowed")]
    Value(&'static str),
    /// A length is above the maximum of its field. Checked before anything is allocated.
    #[error("{field} is {len} bytes or items, above the maximum of {max}")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// What the sender wrote.
        len: usize,
        /// What the format allows.
        max: usize,
    },
}

/// A cursor over received bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Takes the next `len` bytes; `field` names them in the error.
    pub fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(Malformed::Short(field));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// Takes the next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(Malformed::Short(field));
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes one byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(field).map(|[b]| b)
    }

    /// Takes a big-endian 16-bit number.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Takes a big-endian 32-bit number.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Takes a big-endian 56-bit number.
    pub fn u56(&mut self, field: &'static str) -> Result<u64, Malformed> {
        let [a, b, c, d, e, f, g] = self.array(field)?;
        Ok(u64::from_be_bytes([0, a, b, c, d, e, f, g]))
    }

    /// Takes a big-endian 64-bit number.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// Takes bytes that a 16-bit length precedes, refusing lengths above `max`.
    pub fn vec16(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16(field)?);
        if len > max {
            return Err(Malformed::TooLong { field, len, max });
        }
        self.bytes(len, field)
    }

    /// Takes bytes that an 8-bit length precedes, refusing lengths above `max`.
    pub fn vec8(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u8(field)?);
        if len > max {
            return Err(Malformed::TooLong { field, len, max });
        }
        self.bytes(len, field)
    }

    /// Takes everything that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Demands that nothing is left.
    pub fn finish(self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(Malformed::Trailing(n)),
        }
    }
}

/// Appends big-endian fields to a byte vector.
///
/// A trait on `Vec<u8>`, so that messages are written straight into the buffer that will be sealed.
pub trait Write {
    /// Appends bytes as they are.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Appends a 16-bit number.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// Appends a 32-bit number.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// Appends the low 56 bits of `value`.
    fn put_u56(&mut self, value: u64) {
        let [_, low @ ..] = value.to_be_bytes();
        self.put(&low);
    }

    /// Appends a 64-bit number.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }
}

impl Write for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_at_their_extremes() {
        for v in [0, 1, u64::from(u32::MAX), (1 << 56) - 1] {
            let mut buf = Vec::new();
            buf.put_u56(v);
            buf.put_u64(v);
            buf.put_u32(v as u32);
            buf.put_u16(v as u16);
            buf.put_u8(v as u8);
            let mut r = Reader::new(&buf);
            assert_eq!(r.u56("a"), Ok(v));
            assert_eq!(r.u64("b"), Ok(v));
            assert_eq!(r.u32("c"), Ok(v as u32));
            assert_eq!(r.u16("d"), Ok(v as u16));
            assert_eq!(r.u8("e"), Ok(v as u8));
            assert_eq!(r.finish(), Ok(()));
        }
    }

    #[test]
    fn short_input_names_the_field_and_leaves_the_reader_usable() {
        let mut r = Reader::new(&[1, 2, 3]);
        assert_eq!(r.u64("number"), Err(Malformed::Short("number")));
        assert_eq!(r.u16("first"), Ok(0x0102));
        assert_eq!(r.finish(), Err(Malformed::Trailing(1)));
    }

    #[test]
    fn lengths_above_the_maximum_are_refused_before_the_bytes_are_looked_at() {
        let mut r = Reader::new(&[0xff, 0xff]);
        assert_eq!(r.vec16(100, "body"), Err(Malformed::TooLong { field: "body", len: 0xffff, max: 100 }));
    }
}
