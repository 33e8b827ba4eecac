//! Removing what a client wrote.

use http::header::{CONNECTION, Entry, HeaderMap, HeaderName, HeaderValue};

/// Which headers go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strip {
    pub(super) forwarded: bool,
}

impl Strip {
    /// Removes them, and their names from `Connection`.
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        let names: Vec<HeaderName> =
            headers.keys().filter(|name| self.takes(name.as_str().as_bytes())).cloned().collect();
        for name in names {
            headers.remove(name);
        }
        self.apply_to_connection(headers);
    }

    fn apply_to_connection(self, headers: &mut HeaderMap) {
        let Entry::Occupied(named) = headers.entry(CONNECTION) else { return };
        let tokens = named.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let tokens: Vec<&[u8]> = tokens.map(<[u8]>::trim_ascii).collect();
        if !tokens.iter().any(|token| self.takes(token)) {
            return;
        }
        let left: Vec<&[u8]> = tokens.into_iter().filter(|token| !self.takes(token)).collect();
        // Parts of values make a value.
        let left = HeaderValue::from_bytes(&left.join(&b", "[..]));
        match left {
            Ok(left) if !left.is_empty() => drop(headers.insert(CONNECTION, left)),
            _ => drop(headers.remove(CONNECTION)),
        }
    }

    fn takes(self, name: &[u8]) -> bool {
        begins(name, b"x-qsocket-")
            || self.forwarded
                && (begins(name, b"x-forwarded-") || is(name, b"forwarded") || is(name, b"x-real-ip"))
    }
}

/// Whether a name is the same as `expected` to a backend that tells neither cases nor signs apart.
fn is(name: &[u8], expected: &[u8]) -> bool {
    name.len() == expected.len() && begins(name, expected)
}

fn begins(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len()
        && name.iter().zip(prefix).all(|(byte, expected)| match expected {
            b'-' => !byte.is_ascii_alphanumeric(),
            _ => byte.eq_ignore_ascii_case(expected),
        })
}
