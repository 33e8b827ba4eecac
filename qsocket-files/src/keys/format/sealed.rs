//! The text of files under a passphrase.

use super::{Document, Problem, SEALED_KEY, VERSION, push_hex};
use crate::keys::sealed::{Cost, MAX_LANES, MAX_MEMORY_KIB, MAX_WORK_KIB, MIN_MEMORY_KIB, SealedKey};
use std::fmt::Write as _;

/// The only derivation there is; RFC 9106, version 0x13.
const KDF: &str = "argon2id";

const FIELDS: &[&str] =
    &["kind", "version", "kdf", "memory_kib", "passes", "lanes", "salt", "nonce", "sealed"];

pub(in crate::keys) fn parse(bytes: &[u8]) -> Result<SealedKey, Problem> {
    let doc = Document::parse(bytes, SEALED_KEY, FIELDS)?;
    let kdf = doc.field("kdf")?;
    if doc.str(kdf, "kdf")? != KDF {
        return Err(doc.problem(kdf, format!("kdf: this program knows \"{KDF}\" alone; use a newer one")));
    }
    let memory = doc.field("memory_kib")?;
    let number = |name: &str| doc.integer(doc.field(name)?, name, "1 or more");
    let cost = Cost::new(number("memory_kib")?, number("passes")?, number("lanes")?).ok_or_else(|| {
        let what = format!(
            "opening this file is outside of what this program spends: memory_kib from {MIN_MEMORY_KIB} to \
             {MAX_MEMORY_KIB}, memory_kib times passes at most {MAX_WORK_KIB}, lanes at most {MAX_LANES}; export the \
             key again where it comes from"
        );
        doc.problem(memory, what)
    })?;
    let sealed = doc.field("sealed")?;
    let text = doc.str(sealed, "sealed")?;
    if text.len() % 2 != 0 {
        return Err(doc.problem(sealed, "sealed: an odd number of hex digits; the file is not whole"));
    }
    let length = text.len();
    let sealed = doc.hex(sealed, "sealed", &[length])?.to_vec();
    Ok(SealedKey { cost, salt: doc.array("salt")?, nonce: doc.array("nonce")?, sealed })
}

pub(in crate::keys) fn write(key: &SealedKey) -> String {
    let cost = key.cost();
    let mut out = format!(
        "# A key under a passphrase. `qsocket keys import` opens it.\nkind = \"{SEALED_KEY}\"\nversion = {VERSION}\n\
         kdf = \"{KDF}\"\nmemory_kib = {}\npasses = {}\nlanes = {}\n",
        cost.memory_kib(),
        cost.passes(),
        cost.lanes()
    );
    for (name, bytes) in [("salt", &key.salt[..]), ("nonce", &key.nonce), ("sealed", &key.sealed)] {
        // Writing to a String cannot fail.
        let _ = write!(out, "{name} = \"");
        push_hex(&mut out, bytes);
        out.push_str("\"\n");
    }
    out
}
