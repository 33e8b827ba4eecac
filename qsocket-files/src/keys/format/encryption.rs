//! The text of Encryption key files.

use super::{Document, ENCRYPTION_KEY, Problem, VERSION, Value, WRITE_CAPACITY, push_hex};
use crate::keys::info::{MAX_REPLACED, parse_id};
use crate::keys::{EncryptionKey, KeyInfo, KeyState, Origin, SharedKey, StoredKey};
use crate::moment;
use qsocket_proto::ids::{KeyId, PathId, PathSet, Principal};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;
use zeroize::Zeroizing;

const FIELDS: &[&str] = &[
    "kind",
    "version",
    "id",
    "with",
    "own",
    "name",
    "created",
    "expires",
    "origin",
    "exchanged_over",
    "exchanged_relays",
    "state",
    "receive_until",
    "replaces",
    "replaced_until",
    "key",
];

/// A key for a configuration that names its file: one that may be used at `now`.
pub(in crate::keys) fn parse_usable(bytes: &[u8], now: SystemTime) -> Result<SharedKey, Problem> {
    let doc = Document::parse(bytes, ENCRYPTION_KEY, FIELDS)?;
    let key = read(&doc)?;
    let expired = "the key has expired; install a new one";
    match (key.info().state, key.shared()) {
        (KeyState::Active, _) if !key.info().opens(now) => Err(doc.problem(doc.field("expires")?, expired)),
        (KeyState::Active, Some(shared)) => Ok(shared),
        (KeyState::Retired { .. }, _) => {
            let what = "the key is retired and may only be accepted; name the folder of the store as `keys`";
            Err(doc.problem(doc.field("state")?, what))
        }
        _ => Err(doc.problem(doc.field("state")?, "the key is revoked; install a new one")),
    }
}

pub(in crate::keys) fn parse(bytes: &[u8]) -> Result<StoredKey, Problem> {
    read(&Document::parse(bytes, ENCRYPTION_KEY, FIELDS)?)
}

fn read(doc: &Document<'_>) -> Result<StoredKey, Problem> {
    let id_field = doc.field("id")?;
    let id = KeyId(doc.array("id")?);
    let with = doc.field("with")?;
    let with: Principal = doc.str(with, "with")?.parse().map_err(|_| {
        doc.problem(with, "with: write the other principal as \"network.denomination.serial\"")
    })?;
    let own = doc.optional("own", |doc, value, name| {
        let own = doc.principal(value, name)?;
        if own == with {
            return Err(
                doc.problem(value, "own: this is the principal in `with`; write the one of this side")
            );
        }
        if own.network != with.network {
            let what =
                "own: it is in another network than `with`; only principals of one network reach each other";
            return Err(doc.problem(value, what));
        }
        Ok(own)
    })?;
    let name = doc.optional("name", |doc, value, name| {
        doc.str(value, name)?.parse().map_err(|e| doc.problem(value, format!("name: {e}")))
    })?;
    let state = state(doc)?;
    let replaces = doc.optional("replaces", ids)?.unwrap_or_default();
    if replaces.contains(&id) {
        return Err(doc.problem(doc.field("replaces")?, "replaces: a key does not replace itself"));
    }
    let replaced_until = doc.optional("replaced_until", Document::moment)?;
    if let (true, Some(_)) = (replaces.is_empty(), replaced_until) {
        let what = "replaced_until: it belongs to `replaces`; remove one or write the other";
        return Err(doc.problem(doc.field("replaced_until")?, what));
    }
    let info = KeyInfo {
        id,
        with,
        own,
        name,
        created: doc.optional("created", Document::moment)?,
        expires: doc.optional("expires", Document::moment)?,
        origin: origin(doc)?,
        state,
        replaces,
        replaced_until,
    };
    let secret = match state {
        // What stands there is not used any more, and the next writing leaves it out.
        KeyState::Revoked => None,
        _ => {
            let field = doc.field("key")?;
            let secret = EncryptionKey::import(&doc.hex(field, "key", &[64])?).map_err(|_| {
                doc.problem(field, "key: it is all zero; draw 32 random bytes for both files")
            })?;
            Some(Arc::new(secret))
        }
    };
    StoredKey::from_parts(info, secret)
        .ok_or_else(|| doc.problem(id_field, "id: it is all zero; draw 16 random bytes for both files"))
}

fn state(doc: &Document<'_>) -> Result<KeyState, Problem> {
    let until = doc.optional("receive_until", Document::moment)?;
    let state = doc.optional("state", |doc, value, name| match doc.str(value, name)? {
        "active" => Ok(KeyState::Active),
        "retired" => Ok(KeyState::Retired { until }),
        "revoked" => Ok(KeyState::Revoked),
        _ => Err(doc.problem(value, "state: write \"active\", \"retired\" or \"revoked\"")),
    })?;
    let state = state.unwrap_or(KeyState::Active);
    if until.is_some() && !matches!(state, KeyState::Retired { .. }) {
        let what = "receive_until: it belongs to state = \"retired\"; remove one or write the other";
        return Err(doc.problem(doc.field("receive_until")?, what));
    }
    Ok(state)
}

fn origin(doc: &Document<'_>) -> Result<Origin, Problem> {
    let word = doc.table.get_ref().get("origin").map(|value| doc.str(value, "origin")).transpose()?;
    let origin = match word {
        None | Some("pre-shared") => Origin::PreShared,
        Some("generated") => Origin::Generated,
        Some("imported") => Origin::Imported,
        Some("exchanged") => {
            let network = doc.field("exchanged_over")?;
            let network = doc.integer(network, "exchanged_over", "0 to 65535")?;
            return Ok(Origin::Exchanged { network, relays: relays(doc, doc.field("exchanged_relays")?)? });
        }
        Some(_) => {
            let what = "origin: write \"generated\", \"imported\", \"exchanged\" or \"pre-shared\"";
            return Err(doc.problem(doc.field("origin")?, what));
        }
    };
    for name in ["exchanged_over", "exchanged_relays"] {
        doc.optional(name, |doc, value, name| -> Result<(), _> {
            Err(doc.problem(value, format!("{name}: it belongs to origin = \"exchanged\"; remove it")))
        })?;
    }
    Ok(origin)
}

fn relays(doc: &Document<'_>, field: Value<'_, '_>) -> Result<PathSet, Problem> {
    let problem = |at| doc.problem(at, "exchanged_relays: write different numbers of relays, 0 to 24");
    let list = field.get_ref().as_array().ok_or_else(|| problem(field))?;
    let mut relays = PathSet::EMPTY;
    for value in list.iter() {
        let number = value.get_ref().as_integer();
        let number = number.and_then(|n| u8::from_str_radix(n.as_str(), n.radix()).ok());
        let path = number.and_then(PathId::new).ok_or_else(|| problem(value))?;
        if !relays.insert(path) {
            return Err(problem(value));
        }
    }
    Ok(relays)
}

fn ids(doc: &Document<'_>, field: Value<'_, '_>, name: &str) -> Result<Vec<KeyId>, Problem> {
    let problem = |at, what: &str| doc.problem(at, format!("{name}: {what}"));
    let list = field
        .get_ref()
        .as_array()
        .filter(|list| (1..=MAX_REPLACED).contains(&list.len()))
        .ok_or_else(|| problem(field, &format!("write a list of 1 to {MAX_REPLACED} ids")))?;
    list.iter()
        .map(|value| {
            let id = value.get_ref().as_str().and_then(parse_id);
            id.ok_or_else(|| problem(value, "write each id as 32 hex digits in quotes"))
        })
        .collect()
}

pub(in crate::keys) fn write(key: &StoredKey) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(WRITE_CAPACITY));
    let info = key.info();
    // Writing to a String cannot fail.
    let _ = match key.secret() {
        Some(_) => writeln!(
            out,
            "# Encryption key shared with {}. Secret: whoever reads this file holds the key.",
            info.with
        ),
        None => {
            writeln!(out, "# Encryption key that was shared with {}, revoked: its secret is gone.", info.with)
        }
    };
    let _ = write!(
        out,
        "kind = \"{ENCRYPTION_KEY}\"\nversion = {VERSION}\nid = \"{:?}\"\nwith = \"{}\"\n",
        info.id, info.with
    );
    if let Some(own) = info.own {
        let _ = writeln!(out, "own = \"{own}\"");
    }
    if let Some(name) = &info.name {
        let _ = writeln!(out, "name = \"{name}\"");
    }
    moment(&mut out, "created", info.created);
    moment(&mut out, "expires", info.expires);
    match info.origin {
        // As files were before there were stores.
        Origin::PreShared => {}
        Origin::Generated | Origin::Imported => _ = writeln!(out, "origin = \"{}\"", info.origin.as_str()),
        Origin::Exchanged { network, relays } => {
            let relays: Vec<_> = relays.iter().map(|relay| relay.to_string()).collect();
            let _ = writeln!(
                out,
                "origin = \"exchanged\"\nexchanged_over = {network}\nexchanged_relays = [{}]",
                relays.join(", ")
            );
        }
    }
    match info.state {
        KeyState::Active => {}
        KeyState::Retired { until } => {
            out.push_str("state = \"retired\"\n");
            moment(&mut out, "receive_until", until);
        }
        KeyState::Revoked => out.push_str("state = \"revoked\"\n"),
    }
    if !info.replaces.is_empty() {
        let ids: Vec<_> = info.replaces.iter().map(|id| format!("\"{id:?}\"")).collect();
        let _ = writeln!(out, "replaces = [{}]", ids.join(", "));
        moment(&mut out, "replaced_until", info.replaced_until);
    }
    if let Some(secret) = key.secret() {
        out.push_str("key = \"");
        push_hex(&mut out, secret.expose());
        out.push_str("\"\n");
    }
    out
}

/// A time that no date expresses is left out: it is too far away to matter.
fn moment(out: &mut String, name: &str, at: Option<SystemTime>) {
    if let Some(at) = at.and_then(moment::show) {
        let _ = writeln!(out, "{name} = {at}");
    }
}
