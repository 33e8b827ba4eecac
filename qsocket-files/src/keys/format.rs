//! The text of key files.
//!
//! Read by hand from the parsed document and not through serde, whose errors repeat the values they complain about.

pub(super) mod encryption;
pub(super) mod enrolment;
pub(super) mod sealed;

use super::KeyFileError;
use crate::{moment, text};
use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
use qsocket_proto::ids::{PathId, Principal, RELAYS, Role};
use qsocket_proto::raida_key::{RaidaKey, RaidaKeyError};
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::SystemTime;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

/// The only version there is.
const VERSION: u32 = 1;
pub(super) const RAIDA_KEY: &str = "raida-key";
pub(super) const SEALED_KEY: &str = "sealed-key";
const ENCRYPTION_KEY: &str = "encryption-key";
const REQUEST: &str = "enrolment-request";
const ANSWER: &str = "enrolment-answer";
const PARTIAL: &str = "enrolment-progress";
const PARTIAL_FIELDS: &[&str] = &["kind", "version", "principal", "role", "authenticity_numbers"];
const RAIDA_FIELDS: &[&str] =
    &["kind", "version", "network", "denomination", "serial", "role", "authenticity_numbers"];

/// What is wrong with a text, before the file's name is known.
#[derive(Debug)]
pub(super) struct Problem {
    line: usize,
    what: String,
}

impl fmt::Display for Problem {
    /// Of a text that has no file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl Problem {
    pub(super) fn at(self, path: &Path) -> KeyFileError {
        KeyFileError::Content { path: path.to_owned(), line: self.line, problem: self.what }
    }
}

/// A parsed file and its text, for line numbers.
struct Document<'a> {
    text: &'a str,
    table: Spanned<DeTable<'a>>,
}

type Value<'d, 'a> = &'d Spanned<DeValue<'a>>;

impl<'a> Document<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Problem> {
        let text =
            text::plain(bytes).map_err(|(line, what)| Problem { line, what: format!("the file {what}") })?;
        // The parser's own description is made of fixed words; its Display would repeat the line.
        let table = DeTable::parse(text).map_err(|e| Problem {
            line: text::line_of(text, e.span().unwrap_or(text.len()..text.len())),
            what: format!("not TOML: {}", e.message()),
        })?;
        Ok(Self { text, table })
    }

    fn parse(bytes: &'a [u8], kind: &str, fields: &[&str]) -> Result<Self, Problem> {
        let this = Self::new(bytes)?;
        // The kind first: for another kind of file everything else would mislead.
        let found = this.field("kind")?;
        match this.str(found, "kind")? {
            k if k == kind => {}
            RAIDA_KEY => {
                return Err(this.problem(found, "this is a RAIDA key; name it as `key` in the configuration"));
            }
            ENCRYPTION_KEY => {
                let what = "this is an Encryption key; name it in `encryption_keys` in the configuration";
                return Err(this.problem(found, what));
            }
            SEALED_KEY => {
                let what =
                    "this is a key under a passphrase; bring it into a store with `qsocket keys import`";
                return Err(this.problem(found, what));
            }
            REQUEST => {
                return Err(
                    this.problem(found, "this is an enrolment request; it goes to the relay's operator")
                );
            }
            ANSWER => {
                return Err(this.problem(found, "this is an enrolment answer; it goes to the principal"));
            }
            _ => return Err(this.problem(found, format!("write kind = \"{kind}\""))),
        }
        let version = this.field("version")?;
        if this.integer::<u32>(version, "version", "1")? != VERSION {
            return Err(this.problem(version, "write version = 1; this program knows no other"));
        }
        // The name is not repeated: it may be a secret on the wrong side of the equals sign.
        if let Some((key, _)) =
            this.table.get_ref().iter().find(|(key, _)| !fields.contains(&key.get_ref().as_ref()))
        {
            let what = format!("unknown field; the fields are {}", fields.join(", "));
            return Err(Problem { line: text::line_of(this.text, key.span()), what });
        }
        Ok(this)
    }

    fn problem(&self, at: Value<'_, '_>, what: impl Into<String>) -> Problem {
        Problem { line: text::line_of(self.text, at.span()), what: what.into() }
    }

    fn field(&self, name: &str) -> Result<Value<'_, 'a>, Problem> {
        self.table.get_ref().get(name).ok_or_else(|| Problem {
            line: text::line(self.text.as_bytes(), self.text.trim_end().len()),
            what: format!("the field `{name}` is missing"),
        })
    }

    fn str<'d>(&self, value: Value<'d, 'a>, name: &str) -> Result<&'d str, Problem> {
        match value.get_ref() {
            // An owned string was unescaped into memory that nobody erases.
            DeValue::String(Cow::Borrowed(s)) => Ok(s),
            DeValue::String(Cow::Owned(_)) => {
                Err(self.problem(value, format!("{name}: write it without escapes")))
            }
            _ => Err(self.problem(value, format!("{name}: write it in quotes"))),
        }
    }

    fn integer<T: TryFrom<i64>>(&self, value: Value<'_, 'a>, name: &str, range: &str) -> Result<T, Problem> {
        let parsed =
            value.get_ref().as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
        parsed
            .and_then(|n| T::try_from(n).ok())
            .ok_or_else(|| self.problem(value, format!("{name}: write a whole number, {range}")))
    }

    fn role(&self) -> Result<Role, Problem> {
        let role = self.field("role")?;
        match self.str(role, "role")? {
            "client" => Ok(Role::Client),
            "server" => Ok(Role::Server),
            _ => Err(self.problem(role, "role: write \"client\" or \"server\"")),
        }
    }

    /// A field that may be absent, read by `read`.
    fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Self, Value<'_, 'a>, &str) -> Result<T, Problem>,
    ) -> Result<Option<T>, Problem> {
        self.table.get_ref().get(name).map(|value| read(self, value, name)).transpose()
    }

    fn principal(&self, value: Value<'_, 'a>, name: &str) -> Result<Principal, Problem> {
        self.str(value, name)?.parse().map_err(|_| {
            self.problem(value, format!("{name}: write a principal as \"network.denomination.serial\""))
        })
    }

    fn moment(&self, value: Value<'_, 'a>, name: &str) -> Result<SystemTime, Problem> {
        let parsed = value.get_ref().as_datetime().and_then(|at| moment::parse(&at.to_string()));
        parsed.map(moment::whole_seconds).ok_or_else(|| {
            let what =
                "write date, time and offset from UTC without quotes, for example 2027-01-31T00:00:00Z";
            self.problem(value, format!("{name}: {what}"))
        })
    }

    /// Hex digits of one length.
    fn array<const N: usize>(&self, name: &str) -> Result<[u8; N], Problem> {
        let mut out = [0; N];
        out.copy_from_slice(&self.hex(self.field(name)?, name, &[2 * N])?);
        Ok(out)
    }

    /// Hex digits as bytes. Only digits count: no sign, no blank, no `0x`.
    fn hex(
        &self,
        value: Value<'_, 'a>,
        name: &str,
        lengths: &[usize],
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let text = self.str(value, name)?;
        if !lengths.contains(&text.len()) {
            let want: Vec<_> = lengths.iter().map(usize::to_string).collect();
            let what =
                format!("{name}: {} characters where {} hex digits belong", text.len(), want.join(" or "));
            return Err(self.problem(value, what));
        }
        let mut out = Zeroizing::new(Vec::with_capacity(text.len() / 2));
        for (i, pair) in text.as_bytes().chunks_exact(2).enumerate() {
            let digit = |j: usize| {
                char::from(pair[j]).to_digit(16).ok_or_else(|| {
                    self.problem(value, format!("{name}: character {} is not a hex digit", 2 * i + j + 1))
                })
            };
            out.push((digit(0)? << 4 | digit(1)?) as u8);
        }
        Ok(out)
    }
}

/// Which kind of key a file says it holds.
pub(super) fn kind(bytes: &[u8]) -> Result<&'static str, Problem> {
    let doc = Document::new(bytes)?;
    let found = doc.field("kind")?;
    match doc.str(found, "kind")? {
        RAIDA_KEY => Ok(RAIDA_KEY),
        ENCRYPTION_KEY => Ok(ENCRYPTION_KEY),
        SEALED_KEY => Ok(SEALED_KEY),
        _ => {
            let what = format!("write kind = \"{RAIDA_KEY}\", \"{ENCRYPTION_KEY}\" or \"{SEALED_KEY}\"");
            Err(doc.problem(found, what))
        }
    }
}

pub(super) fn parse_raida_key(bytes: &[u8]) -> Result<RaidaKey, Problem> {
    let doc = Document::parse(bytes, RAIDA_KEY, RAIDA_FIELDS)?;
    let principal = Principal {
        network: doc.integer(doc.field("network")?, "network", "0 to 65535")?,
        denomination: doc.integer(doc.field("denomination")?, "denomination", "-128 to 127")?,
        serial: doc.integer(doc.field("serial")?, "serial", "0 to 4294967295")?,
    };
    let role = doc.role()?;
    let field = doc.field("authenticity_numbers")?;
    let list = field.get_ref().as_array().ok_or_else(|| {
        doc.problem(field, "authenticity_numbers: write a list of 25 strings of hex digits")
    })?;
    if list.len() != RELAYS {
        return Err(doc.problem(field, format!("authenticity_numbers: {}", RaidaKeyError::Count(list.len()))));
    }
    let new_key =
        |at, e: RaidaKeyError| doc.problem(at, format!("{e}; ask the issuer of the key for a new one"));
    let mut numbers = Vec::with_capacity(RELAYS);
    for (path, value) in PathId::all().zip(list.iter()) {
        let name = format!("authenticity number of relay {path}");
        let number = AuthenticityNumber::new(&doc.hex(value, &name, &[32, 64])?);
        // The length is checked, so the number is zero.
        numbers.push(number.map_err(|_| new_key(value, RaidaKeyError::Zero(path)))?);
    }
    RaidaKey::new(principal, role, numbers).map_err(|e| match e {
        RaidaKeyError::Equal(_, path) => new_key(list.get(path.index()).unwrap_or(field), e),
        e => new_key(field, e),
    })
}

/// One number in hex digits, with white space around it at most.
pub(super) fn parse_number(bytes: &[u8]) -> Result<AuthenticityNumber, Problem> {
    let text =
        text::plain(bytes).map_err(|(line, what)| Problem { line, what: format!("the file {what}") })?;
    let digits = text.trim_ascii();
    let problem = |what: &str| Problem { line: 1, what: what.to_owned() };
    if ![32, 64].contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(problem("write one authenticity number, 32 or 64 hex digits, and nothing else"));
    }
    let mut number = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.as_bytes().chunks_exact(2) {
        let digit = |i: usize| char::from(pair[i]).to_digit(16).unwrap_or(0);
        number.push((digit(0) << 4 | digit(1)) as u8);
    }
    AuthenticityNumber::new(&number)
        .map_err(|_| problem("the number is all zero; ask the issuer of the key for a new one"))
}

/// Longest text that is written: room for everything at once, since growing would leave copies behind.
const WRITE_CAPACITY: usize = 4096;

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Server => "server",
    }
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for b in bytes {
        for digit in [b >> 4, b & 15] {
            out.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
}

pub(super) fn write_raida_key(key: &RaidaKey) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(WRITE_CAPACITY));
    let p = key.principal();
    let role = role_name(key.role());
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "# RAIDA key of {role} {p}, {}. Secret: whoever reads this file can act as this {role}.\n\
         kind = \"{RAIDA_KEY}\"\nversion = {VERSION}\nnetwork = {}\ndenomination = {}\nserial = {}\nrole = \"{role}\"\n\
         # One number for each relay, 0 to 24.\nauthenticity_numbers = [\n",
        key.strength(),
        p.network,
        p.denomination,
        p.serial,
    );
    for path in PathId::all() {
        out.push_str("  \"");
        push_hex(&mut out, key.number(path).expose());
        out.push_str("\",\n");
    }
    out.push_str("]\n");
    out
}
