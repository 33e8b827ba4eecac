//! The text of enrolment files.

use super::{
    ANSWER, Document, PARTIAL, PARTIAL_FIELDS, Problem, REQUEST, VERSION, WRITE_CAPACITY, push_hex, role_name,
};
use crate::keys::PartialKey;
use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
use qsocket_proto::enrol::{Answer, Confirmation, Half, Request, RequestId, Subject};
use qsocket_proto::ids::{PathId, RELAYS};
use std::fmt::Write as _;
use zeroize::Zeroizing;

const REQUEST_FIELDS: &[&str] = &["kind", "version", "principal", "role", "relay", "request", "half"];
const ANSWER_FIELDS: &[&str] =
    &["kind", "version", "principal", "role", "relay", "request", "half", "confirmation"];

fn subject(doc: &Document<'_>) -> Result<Subject, Problem> {
    let principal = doc.field("principal")?;
    let principal = doc.str(principal, "principal")?.parse().map_err(|_| {
        doc.problem(principal, "principal: write who enrols as \"network.denomination.serial\"")
    })?;
    let role = doc.role()?;
    let relay = doc.field("relay")?;
    let relay = PathId::new(doc.integer(relay, "relay", "0 to 24")?)
        .ok_or_else(|| doc.problem(relay, "relay: write a whole number, 0 to 24"))?;
    Ok(Subject { principal, role, relay, id: RequestId(doc.array("request")?) })
}

fn half(doc: &Document<'_>) -> Result<Half, Problem> {
    let field = doc.field("half")?;
    Half::new(&doc.hex(field, "half", &[64])?)
        .map_err(|_| doc.problem(field, "half: it is all zero; make a new request"))
}

pub(in crate::keys) fn parse_request(bytes: &[u8]) -> Result<Request, Problem> {
    let doc = Document::parse(bytes, REQUEST, REQUEST_FIELDS)?;
    Ok(Request { subject: subject(&doc)?, half: half(&doc)? })
}

pub(in crate::keys) fn parse_answer(bytes: &[u8]) -> Result<Answer, Problem> {
    let doc = Document::parse(bytes, ANSWER, ANSWER_FIELDS)?;
    let confirmation = Confirmation(doc.array("confirmation")?);
    Ok(Answer { subject: subject(&doc)?, half: half(&doc)?, confirmation })
}

pub(in crate::keys) fn parse_partial(bytes: &[u8]) -> Result<PartialKey, Problem> {
    let doc = Document::parse(bytes, PARTIAL, PARTIAL_FIELDS)?;
    let principal = doc.principal(doc.field("principal")?, "principal")?;
    let role = doc.role()?;
    let field = doc.field("authenticity_numbers")?;
    let list = field.get_ref().as_array().filter(|list| list.len() == RELAYS);
    let list = list.ok_or_else(|| doc.problem(field, "authenticity_numbers: write a list of 25 strings"))?;
    let mut partial = PartialKey::new(principal, role);
    for (relay, value) in PathId::all().zip(list.iter()) {
        let name = format!("authenticity number of relay {relay}");
        let bytes = doc.hex(value, &name, &[0, 64])?;
        if !bytes.is_empty() {
            let number = AuthenticityNumber::new(&bytes);
            partial.set(relay, number.map_err(|_| doc.problem(value, format!("{name}: it is all zero")))?);
        }
    }
    Ok(partial)
}

pub(in crate::keys) fn write_partial(key: &PartialKey) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(WRITE_CAPACITY));
    let (principal, role) = (key.principal(), role_name(key.role()));
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "# What an enrolment of {role} {principal} has so far. Secret, and no key yet.\n\
         kind = \"{PARTIAL}\"\nversion = {VERSION}\nprincipal = \"{principal}\"\nrole = \"{role}\"\n\
         # One number for each relay, 0 to 24; empty where none was drawn.\nauthenticity_numbers = [\n"
    );
    for relay in PathId::all() {
        out.push_str("  \"");
        if let Some(number) = key.number(relay) {
            push_hex(&mut out, number.expose());
        }
        out.push_str("\",\n");
    }
    out.push_str("]\n");
    out
}

fn head(out: &mut String, kind: &str, subject: Subject) {
    let Subject { principal, role, relay, id } = subject;
    let role = role_name(role);
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "kind = \"{kind}\"\nversion = {VERSION}\nprincipal = \"{principal}\"\nrole = \"{role}\"\n\
         relay = {relay}\nrequest = \"{id:?}\"\nhalf = \""
    );
}

pub(in crate::keys) fn write_request(request: &Request) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(WRITE_CAPACITY));
    let _ = writeln!(
        out,
        "# Enrolment request for the operator of relay {}. Secret: send it so that nobody else can read it.",
        request.subject.relay
    );
    head(&mut out, REQUEST, request.subject);
    push_hex(&mut out, request.half.expose());
    out.push_str("\"\n");
    out
}

pub(in crate::keys) fn write_answer(answer: &Answer) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(WRITE_CAPACITY));
    let _ = writeln!(
        out,
        "# Enrolment answer of relay {} for {}. Secret: send it so that nobody else can read it.",
        answer.subject.relay, answer.subject.principal
    );
    head(&mut out, ANSWER, answer.subject);
    push_hex(&mut out, answer.half.expose());
    out.push_str("\"\nconfirmation = \"");
    push_hex(&mut out, &answer.confirmation.0);
    out.push_str("\"\n");
    out
}
