//! A name in its one canonical form.

use crate::codec::{Malformed, Reader, Write};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use std::fmt;
use std::str::FromStr;
use unicode_security::confusable_detection::skeleton;
use unicode_security::{RestrictionLevel, RestrictionLevelDetection};

/// The top-level label that stands behind every name.
pub const TLD: &str = "raida";

/// Shortest name in bytes: shorter ones are worth a quarrel and nothing else, and `r0` to `r9` are labels below a name.
pub const MIN_NAME: usize = 3;

/// Longest name in bytes: that of a label in the DNS.
pub const MAX_NAME: usize = 63;

/// Longest text that is looked at as a name: that of a whole domain name. Beyond it the work would be an attacker's to
/// choose.
const MAX_TEXT: usize = 253;

/// Names that nobody can register at any relay, in order: labels of this protocol, names that other standards give a
/// meaning on one machine or in one network (RFC 6761, 7686, 8375, 9476), and those that sound like the network itself.
pub const RESERVED: [&str; 34] = [
    "admin",
    "administrator",
    "alt",
    "arpa",
    "autoconfig",
    "broadcasthost",
    "cluster",
    "corp",
    "dns",
    "example",
    "home",
    "hostmaster",
    "internal",
    "intranet",
    "invalid",
    "isatap",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "name",
    "names",
    "number",
    "numbers",
    "onion",
    "postmaster",
    "raida",
    "registry",
    "relay",
    "relays",
    "root",
    "test",
    "wpad",
    "www",
];

/// A name under `raida`, in canonical form: one label in lower case, letters, digits and hyphens, an international one
/// as its A-label.
///
/// Two names are the same exactly when their bytes are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// Too short or too long.
    #[error(
        "a name has {MIN_NAME} to {MAX_NAME} bytes before \".{TLD}\", an international one in its xn-- form"
    )]
    Length,
    /// Not one label of the allowed characters.
    #[error(
        "a name is one label of letters, digits and hyphens, none of these first, last, or third and fourth, for \
         example cloudcoin.{TLD}; other letters must be allowed by UTS 46"
    )]
    Label,
    /// Letters of several scripts, or characters that identifiers do not have.
    #[error("a name has letters of one script, so that none stands in for another")]
    Mixed,
    /// Other letters that look like a plain name.
    #[error("a name in other letters must not look like one in plain letters")]
    Confusable,
}

impl Name {
    /// The name that somebody wrote: in any case, with letters of any one script, with or without `.raida`.
    ///
    /// # Errors
    /// [`NameError`]: what to write.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_TEXT {
            return Err(NameError::Length);
        }
        let label = match text.len().checked_sub(TLD.len() + 1).and_then(|at| text.split_at_checked(at)) {
            Some((label, suffix))
                if suffix.strip_prefix('.').is_some_and(|s| s.eq_ignore_ascii_case(TLD)) =>
            {
                label
            }
            _ => text,
        };
        let ascii = Uts46::new()
            .to_ascii(label.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Ignore)
            .map_err(|_| NameError::Label)?;
        if !(MIN_NAME..=MAX_NAME).contains(&ascii.len()) {
            return Err(NameError::Length);
        }
        if ascii.contains('.') {
            return Err(NameError::Label);
        }
        let name = Self(ascii.into());
        name.looks_like_itself()?;
        Ok(name)
    }

    /// The name of a canonical label, and of no other: what comes from the wire.
    ///
    /// # Errors
    /// [`Malformed`] for everything that [`Name::parse`] refuses or would write in another way.
    pub fn from_label(label: &[u8]) -> Result<Self, Malformed> {
        let bad = Malformed::Value("name");
        let label = std::str::from_utf8(label).map_err(|_| bad)?;
        match Self::parse(label) {
            Ok(name) if name.label() == label => Ok(name),
            _ => Err(bad),
        }
    }

    /// Reads the wire form: a length and the label.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::from_label(r.vec8(MAX_NAME, "name")?)
    }

    /// Appends the wire form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // At most 63.
        out.put_u8(self.0.len() as u8);
        out.put(self.0.as_bytes());
    }

    /// The label without `.raida`, as it stands in records and in the DNS.
    pub fn label(&self) -> &str {
        &self.0
    }

    /// The name with `.raida` as people read it: an international one in its own letters.
    pub fn unicode(&self) -> String {
        let (label, _) = Uts46::new().to_unicode(self.0.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
        format!("{label}.{TLD}")
    }

    /// Whether nobody can register it at any relay.
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.label())
    }

    /// Refuses names that can be taken for another because of their letters (UTS 39): an international name is at most
    /// "highly restrictive", and is not confusable with any plain name as a whole.
    fn looks_like_itself(&self) -> Result<(), NameError> {
        if !self.0.starts_with("xn--") {
            return Ok(());
        }
        let (label, valid) = Uts46::new().to_unicode(self.0.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
        if valid.is_err() || label.is_ascii() {
            return Err(NameError::Label);
        }
        if !label.as_ref().check_restriction_level(RestrictionLevel::HighlyRestrictive) {
            return Err(NameError::Mixed);
        }
        if skeleton(&label).all(|c| c.is_ascii()) {
            return Err(NameError::Confusable);
        }
        Ok(())
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{TLD}", self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
