//! Encryption keys as a store holds them: what is known of a key besides its secret.

use super::{EncryptionKey, SharedKey};
use crate::moment;
use qsocket_proto::ids::{KeyId, PathSet, Principal};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;
use subtle::ConstantTimeEq;

/// Longest name of a key's other party: that of a domain name with a port.
pub const MAX_NAME: usize = 255;

/// Keys that one new key takes over from at once. Usually there is one; several come from keys that were installed
/// without retiring those before.
pub const MAX_REPLACED: usize = 16;

/// What people call the other party of a key, for example its domain name. It decides nothing: a connection knows
/// principals.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Text is no name of a key's other party.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Characters that shells, terminals or files would take for something else.
    #[error("a name has 1 to {MAX_NAME} letters, digits and . - _ : @ [ ], for example dns.example:53")]
    Syntax,
    /// It would be taken for a principal, an id or a RAIDA key wherever one of them may stand too.
    #[error(
        "this reads as a principal, an id or `raida:…`; choose a name that does not, for example dns.example"
    )]
    Ambiguous,
}

impl FromStr for KeyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b".-_:@[]".contains(&b);
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(fits) {
            return Err(NameError::Syntax);
        }
        if text.parse::<Principal>().is_ok() || parse_id(text).is_some() || text.starts_with("raida:") {
            return Err(NameError::Ambiguous);
        }
        Ok(Self(text.to_owned()))
    }
}

/// An id as files and commands write it: 32 hex digits.
pub fn parse_id(text: &str) -> Option<KeyId> {
    let digits = text.as_bytes().as_array::<32>()?;
    let mut id = [0; 16];
    for (out, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |i: usize| char::from(pair[i]).to_digit(16);
        *out = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(KeyId(id))
}

/// Where a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Drawn on this machine, for the other party to import.
    Generated,
    /// Brought here as a file.
    Imported,
    /// Posted to the relays of a RAIDA and fetched there.
    Exchanged {
        /// The number of the RAIDA.
        network: u16,
        /// The relays that shares went through.
        relays: PathSet,
    },
    /// Agreed on before. Files that say nothing hold such keys.
    PreShared,
}

impl Origin {
    /// The word that files and lists use.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Imported => "imported",
            Self::Exchanged { .. } => "exchanged",
            Self::PreShared => "pre-shared",
        }
    }
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Opens connections and is accepted.
    Active,
    /// Another key took over: it opens none, and is accepted until then, or for as long as it is there.
    Retired {
        /// From when on it is not accepted either.
        until: Option<SystemTime>,
    },
    /// Never again. The store keeps its id, without the secret, so that it cannot come back.
    Revoked,
}

impl KeyState {
    /// The word that files and lists use.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retired { .. } => "retired",
            Self::Revoked => "revoked",
        }
    }
}

/// What is known of an Encryption key besides its secret.
///
/// Times are kept to the second.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// The key's public name, the same at both principals.
    pub id: KeyId,
    /// The other principal.
    pub with: Principal,
    /// Which principal of ours it is for; any in the network of `with` if that is not said.
    pub own: Option<Principal>,
    /// What people call the other principal.
    pub name: Option<KeyName>,
    /// When this store got it. Files from before stores do not say.
    pub created: Option<SystemTime>,
    /// From when on it is used for nothing.
    pub expires: Option<SystemTime>,
    /// Where it comes from.
    pub origin: Origin,
    /// What it may be used for.
    pub state: KeyState,
    /// Keys that it took over from, which are retired whatever their own files say: one write makes a rotation.
    pub replaces: Vec<KeyId>,
    /// Until when those are accepted.
    pub replaced_until: Option<SystemTime>,
}

impl KeyInfo {
    /// An active key that arrives now.
    pub fn new(id: KeyId, with: Principal, origin: Origin) -> Self {
        Self {
            id,
            with,
            own: None,
            name: None,
            created: Some(moment::whole_seconds(SystemTime::now())),
            expires: None,
            origin,
            state: KeyState::Active,
            replaces: Vec::new(),
            replaced_until: None,
        }
    }

    /// Says which principal of ours it is for.
    #[must_use]
    pub fn with_own(mut self, own: Principal) -> Self {
        self.own = Some(own);
        self
    }

    /// Says what people call the other principal.
    #[must_use]
    pub fn with_name(mut self, name: KeyName) -> Self {
        self.name = Some(name);
        self
    }

    /// Says from when on it is used for nothing.
    #[must_use]
    pub fn with_expiry(mut self, at: SystemTime) -> Self {
        self.expires = Some(moment::whole_seconds(at));
        self
    }

    /// Whether the key is between these two.
    pub fn is_between(&self, own: Principal, with: Principal) -> bool {
        self.with == with && self.own.is_none_or(|key| key == own)
    }

    fn is_over(&self, at: SystemTime) -> bool {
        self.expires.is_some_and(|end| end <= at)
    }

    /// Whether it comes from an exchange through the relays, and says no more than sixteen of them can.
    pub fn is_exchanged(&self) -> bool {
        matches!(self.origin, Origin::Exchanged { .. })
    }

    /// Whether new connections use it.
    pub fn opens(&self, at: SystemTime) -> bool {
        self.state == KeyState::Active && !self.is_over(at)
    }

    /// Whether a connection that the peer opens with it is accepted.
    pub fn accepts(&self, at: SystemTime) -> bool {
        let state = match self.state {
            KeyState::Active => true,
            KeyState::Retired { until } => until.is_none_or(|until| at < until),
            KeyState::Revoked => false,
        };
        state && !self.is_over(at)
    }
}

/// An Encryption key as a store holds it.
#[derive(Clone)]
pub struct StoredKey {
    info: KeyInfo,
    /// None when it is revoked.
    secret: Option<Arc<EncryptionKey>>,
}

impl StoredKey {
    /// Puts the parts together; `None` for what no file can hold: an id that is all zero, which stands for no key, or `own`
    /// and `with` that are one principal or in different networks. The secret of a revoked key is dropped.
    pub fn new(info: KeyInfo, secret: impl Into<Arc<EncryptionKey>>) -> Option<Self> {
        Self::from_parts(info, Some(secret.into()))
    }

    pub(super) fn from_parts(info: KeyInfo, secret: Option<Arc<EncryptionKey>>) -> Option<Self> {
        let revoked = info.state == KeyState::Revoked;
        let own = info.own.is_none_or(|own| own != info.with && own.network == info.with.network);
        let replaces = info.replaces.len() <= MAX_REPLACED && !info.replaces.contains(&info.id);
        let fits = info.id.0 != [0; 16] && own && replaces && (revoked || secret.is_some());
        fits.then(|| Self { info, secret: secret.filter(|_| !revoked) })
    }

    /// What is known of it.
    pub fn info(&self) -> &KeyInfo {
        &self.info
    }

    /// Its public name.
    pub fn id(&self) -> KeyId {
        self.info.id
    }

    /// The secret; `None` when the key is revoked.
    pub fn secret(&self) -> Option<&Arc<EncryptionKey>> {
        self.secret.as_ref()
    }

    /// The key for a configuration that names it alone; `None` when it is revoked.
    pub fn shared(&self) -> Option<SharedKey> {
        SharedKey::new(self.info.id, self.info.with, self.secret.clone()?)
    }

    /// The same key in another state.
    #[must_use]
    pub fn in_state(mut self, state: KeyState) -> Self {
        if state == KeyState::Revoked {
            self.secret = None;
        }
        self.info.state = state;
        self
    }

    /// The same key, which took over from others.
    #[must_use]
    pub(super) fn replacing(mut self, old: Vec<KeyId>, until: Option<SystemTime>) -> Self {
        self.info.replaced_until = until.filter(|_| !old.is_empty()).map(moment::whole_seconds);
        self.info.replaces = old;
        self
    }

    /// Whether both hold the same secret; two revoked keys hold none.
    pub(super) fn same_secret(&self, other: &Self) -> bool {
        match (&self.secret, &other.secret) {
            (Some(a), Some(b)) => a.expose().ct_eq(b.expose()).into(),
            _ => false,
        }
    }
}

impl From<&SharedKey> for StoredKey {
    /// A key of which nothing more is known.
    fn from(key: &SharedKey) -> Self {
        let info = KeyInfo { created: None, ..KeyInfo::new(key.id(), key.with(), Origin::PreShared) };
        Self { info, secret: Some(key.secret().clone()) }
    }
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey").field("info", &self.info).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_taken_for_nothing_else() {
        for good in ["a", "dns.example:53", "[2001:db8::1]:53", "alice@home", &"a".repeat(MAX_NAME)] {
            assert_eq!(good.parse::<KeyName>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\"b", "a\nb", "ä", "a/b", "a\\b", "*", &"a".repeat(MAX_NAME + 1)] {
            assert_eq!(bad.parse::<KeyName>(), Err(NameError::Syntax), "{bad}");
        }
        for taken in ["1.0.7", "raida:1.0.7.client", &"0a".repeat(16)] {
            assert_eq!(taken.parse::<KeyName>(), Err(NameError::Ambiguous), "{taken}");
        }
    }

    #[test]
    fn ids_are_32_hex_digits() {
        assert_eq!(parse_id(&"0aF".repeat(11)[..32]).map(|id| id.0[0]), Some(0x0a));
        for bad in ["", "0a", &"0g".repeat(16), &"+a".repeat(16), &"0a".repeat(17)] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }
}
