//! An answer as text, in `dig`'s format.
//!
//! Names and texts come from the network and go to a terminal, so nothing in them reaches it unescaped.

use std::fmt::Write as _;

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record};

use super::{Answer, Lookup};

/// The data of the answers, a line each.
pub(super) fn short(message: &Message) -> String {
    let mut text = String::new();
    for record in &message.answers {
        text.push_str(&data(&record.data));
        text.push('\n');
    }
    text
}

/// The whole answer, with what `dig` tells about it.
pub(super) fn full(lookup: &Lookup, answer: &Answer, server: &str) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _infallible = write_full(&mut text, lookup, answer, server);
    text
}

fn write_full(
    text: &mut String,
    lookup: &Lookup,
    Answer { message, length, elapsed }: &Answer,
    server: &str,
) -> std::fmt::Result {
    let meta = &message.metadata;
    let version = env!("CARGO_PKG_VERSION");
    let asked = sanitized(&lookup.name.to_string());
    writeln!(text, "\n; <<>> dns_client {version} <<>> {asked} {}", lookup.record_type)?;
    writeln!(text, ";; Got answer:")?;
    let status = sanitized(&format!("{:?}", meta.response_code)).to_uppercase();
    let opcode = format!("{:?}", meta.op_code).to_uppercase();
    writeln!(text, ";; ->>HEADER<<- opcode: {opcode}, status: {status}, id: {}", meta.id)?;
    let flags = [
        ("qr", true),
        ("aa", meta.authoritative),
        ("tc", meta.truncation),
        ("rd", meta.recursion_desired),
        ("ra", meta.recursion_available),
        ("ad", meta.authentic_data),
        ("cd", meta.checking_disabled),
    ];
    let flags: Vec<&str> = flags.into_iter().filter_map(|(name, set)| set.then_some(name)).collect();
    writeln!(
        text,
        ";; flags: {}; QUERY: {}, ANSWER: {}, AUTHORITY: {}, ADDITIONAL: {}",
        flags.join(" "),
        message.queries.len(),
        message.answers.len(),
        message.authorities.len(),
        message.additionals.len() + usize::from(message.edns.is_some()),
    )?;
    if meta.recursion_desired && !meta.recursion_available {
        writeln!(text, ";; WARNING: recursion requested but not available")?;
    }
    writeln!(text)?;
    if let Some(edns) = &message.edns {
        let dnssec = if edns.flags().dnssec_ok { " do" } else { "" };
        writeln!(text, ";; OPT PSEUDOSECTION:")?;
        writeln!(text, "; EDNS: version: {}, flags:{dnssec}; udp: {}", edns.version(), edns.max_payload())?;
    }
    if !message.queries.is_empty() {
        writeln!(text, ";; QUESTION SECTION:")?;
        for query in &message.queries {
            let name = sanitized(&query.name().to_string());
            writeln!(text, ";{name:<30}\t{}\t{}", query.query_class(), query.query_type())?;
        }
        writeln!(text)?;
    }
    let sections = [
        ("ANSWER", &message.answers),
        ("AUTHORITY", &message.authorities),
        ("ADDITIONAL", &message.additionals),
    ];
    for (title, records) in sections {
        if records.is_empty() {
            continue;
        }
        writeln!(text, ";; {title} SECTION:")?;
        for Record { name, ttl, dns_class, data: rdata, .. } in records {
            let (name, kind) = (sanitized(&name.to_string()), rdata.record_type());
            writeln!(text, "{name:<23}\t{ttl}\t{dns_class}\t{kind}\t{}", data(rdata))?;
        }
        writeln!(text)?;
    }
    writeln!(text, ";; Query time: {} msec", elapsed.as_millis())?;
    writeln!(text, ";; SERVER: {}", sanitized(server))?;
    writeln!(text, ";; MSG SIZE  rcvd: {length}\n")
}

/// The data of a record in master file format.
fn data(data: &RData) -> String {
    if let RData::TXT(txt) = data {
        let strings = txt.txt_data.iter().map(|string| quoted(string));
        return strings.collect::<Vec<_>>().join(" ");
    }
    let mut text = String::new();
    match write!(text, "{data}") {
        Ok(()) => sanitized(&text),
        Err(_) => "\\# (no text form)".to_owned(),
    }
}

/// A character string in quotes, with everything but printable ASCII as `\DDD` (RFC 1035 section 5.1).
fn quoted(string: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in string {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\{byte:03}")),
        }
    }
    text.push('"');
    text
}

/// The text with everything but printable ASCII and line breaks of our own as `\DDD`, a number a byte.
pub(super) fn sanitized(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' => clean.push(char::from(byte)),
            _ => clean.push_str(&format!("\\{byte:03}")),
        }
    }
    clean
}
