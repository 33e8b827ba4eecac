//! Questions and answers of the DNS, as far as names need them.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use qsocket_proto::names::zone;
use std::collections::BTreeMap;
use std::fmt;

/// Longest text of one answer in an error: it comes from a relay, and a reader wants to see in what it differs.
const MAX_SHOWN: usize = 120;

/// Most aliases that lead from a name to its records; resolvers follow about as many.
const MAX_ALIASES: usize = 8;

/// What is asked: the records of one type at one name, in class IN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// Absolute and in lower case.
    name: Name,
    kind: RecordType,
}

impl Question {
    pub(crate) fn new(name: &Name, kind: RecordType) -> Self {
        let mut name = name.to_lowercase();
        name.set_fqdn(true);
        Self { name, kind }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn kind(&self) -> RecordType {
        self.kind
    }

    /// Bytes that it takes in a cache.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.name.len()
    }

    pub(crate) fn message(&self, id: u16) -> Message {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.kind));
        message
    }

    /// The question on the wire; `None` for a type that cannot be asked for, as a transfer.
    pub(crate) fn encode(&self, id: u16) -> Option<Vec<u8>> {
        self.message(id).to_vec().ok()
    }

    /// Whether a message answers this question under this id.
    pub(crate) fn is_answered_by(&self, id: u16, message: &Message) -> bool {
        let head = &message.metadata;
        let asked = |query: &Query| {
            query.name() == &self.name
                && query.query_type() == self.kind
                && query.query_class() == DNSClass::IN
        };
        head.id == id
            && head.message_type == MessageType::Response
            && head.op_code == OpCode::Query
            && matches!(&message.queries[..], [query] if asked(query))
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)
    }
}

/// What somebody answers to a question: that there is no such name, or the records, which may be none.
///
/// Two are the same if they say the same: order, compression, capitals and what stands beside the records do not count.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) exists: bool,
    /// By their canonical form, time to live included.
    records: BTreeMap<Vec<u8>, Record>,
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        self.exists == other.exists && self.records.keys().eq(other.records.keys())
    }
}

impl Eq for Answer {}

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// They are no DNS message, or none that answers the question.
    Malformed,
    /// Whoever was asked could not tell.
    Code(ResponseCode),
}

impl Answer {
    /// Reads what answers a question.
    pub(crate) fn read(question: &Question, id: u16, bytes: &[u8]) -> Result<Self, NoAnswer> {
        let message = Message::from_vec(bytes).map_err(|_| NoAnswer::Malformed)?;
        if !question.is_answered_by(id, &message) || message.metadata.truncation {
            return Err(NoAnswer::Malformed);
        }
        let exists = match message.metadata.response_code {
            ResponseCode::NoError => true,
            ResponseCode::NXDomain => false,
            code => return Err(NoAnswer::Code(code)),
        };
        Self::new(exists, message.answers).ok_or(NoAnswer::Malformed)
    }

    /// `None` if a record cannot be written down.
    pub(crate) fn new(exists: bool, records: Vec<Record>) -> Option<Self> {
        let records = records.into_iter().map(|r| Some((canonical(&r)?, r))).collect::<Option<_>>()?;
        Some(Self { exists, records })
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// The records that were asked for, behind the aliases (CNAME) that lead there.
    pub(crate) fn data(&self, question: &Question) -> Vec<&RData> {
        let mut name = question.name();
        for _ in 0..MAX_ALIASES {
            let alias = self.records().find_map(|r| match &r.data {
                RData::CNAME(to) if r.name == *name => Some(&to.0),
                _ => None,
            });
            match alias {
                Some(to) => name = to,
                None => break,
            }
        }
        let wanted = |r: &&Record| r.name == *name && r.record_type() == question.kind();
        self.records().filter(wanted).map(|r| &r.data).collect()
    }

    /// The time to live in seconds, from its records; `None` without any.
    pub(crate) fn ttl(&self) -> Option<u32> {
        self.records().map(|record| record.ttl).min()
    }

    /// Bytes that it takes in a cache: each record parsed, and in its canonical form.
    pub(crate) fn size(&self) -> usize {
        let record = |form: &Vec<u8>| 2 * form.len() + size_of::<Record>() + size_of::<Vec<u8>>();
        size_of::<Self>() + self.records.keys().map(record).sum::<usize>()
    }

    /// The answer to a query, as it is after so many seconds; without records it says how long that may be remembered.
    pub(crate) fn respond(&self, query: &Message, age: u32) -> Message {
        let mut message =
            response(query, if self.exists { ResponseCode::NoError } else { ResponseCode::NXDomain });
        for record in self.records() {
            let mut record = record.clone();
            record.ttl = record.ttl.saturating_sub(age);
            message.add_answer(record);
        }
        if self.records.is_empty() {
            message.add_authority(soa(zone::NEGATIVE_TTL.saturating_sub(age)));
        }
        message
    }
}

impl fmt::Display for Answer {
    /// For an error: what relays say is a stranger's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.exists {
            return f.write_str("no such name");
        }
        if self.records.is_empty() {
            return f.write_str("nothing of this type");
        }
        let all: Vec<_> = self.records().map(|r| format!("{} for {} s", r.data, r.ttl)).collect();
        let text: String = all.join(", ").escape_debug().take(MAX_SHOWN).collect();
        f.write_str(&text)
    }
}

/// An empty response to a query.
pub(crate) fn response(query: &Message, code: ResponseCode) -> Message {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.response_code = code;
    message.metadata.recursion_desired = query.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.queries.clone_from(&query.queries);
    if let Some(theirs) = &query.edns {
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(theirs.max_payload()).set_dnssec_ok(theirs.flags().dnssec_ok);
        message.set_edns(edns);
    }
    message
}

/// Owner and data of a record, without compression and in lower case.
fn canonical(record: &Record) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut encoder = BinEncoder::new(&mut out);
    encoder.set_canonical_form(true);
    encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
    record.emit(&mut encoder).ok()?;
    Some(out)
}

/// The start of authority of the zone: all constants of the protocol.
fn soa(ttl: u32) -> Record {
    // Constants, which a test reads.
    let name = |text: &str| Name::from_ascii(text).unwrap_or_else(|_| Name::root());
    let seconds = |time: std::time::Duration| i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
    let soa = SOA::new(
        name(zone::SOA_MNAME),
        name(zone::SOA_RNAME),
        zone::SOA_SERIAL,
        seconds(zone::SOA_REFRESH),
        seconds(zone::SOA_RETRY),
        seconds(zone::SOA_EXPIRE),
        zone::NEGATIVE_TTL,
    );
    Record::from_rdata(name(zone::SOA_MNAME), ttl, RData::SOA(soa))
}
