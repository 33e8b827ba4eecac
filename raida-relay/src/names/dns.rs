//! What relays say in the language of the DNS: from a message to a question, and from a record to the answer.
//! `docs/protocol.md`, section 19.
//!
//! Everything in the answer section comes from the record and the question. Relays that have the same record say the
//! same.

use hickory_proto::op::{Edns, Message, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name as DnsName, RData, Record as DnsRecord, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use qsocket_proto::frame::MAX_CALL;
use qsocket_proto::ids::PathId;
use qsocket_proto::names::{Name, Record, TLD, zone};
use std::net::IpAddr;
use std::num::NonZeroU32;

/// Longest message that is read as a question: a header, the longest name, and an OPT record with some options.
pub const MAX_QUESTION: usize = 512;

/// Length of a header, without which there is nothing to answer to.
const HEADER: usize = 12;

/// What a message turned out to be.
#[derive(Clone, Debug)]
pub enum Reading {
    /// A question about the zone.
    Question(Box<Question>),
    /// Something that is answered at once: malformed, another operation, another domain.
    Answer(Vec<u8>),
    /// Nothing that has an answer.
    NoMessage,
}

/// A question about the zone `raida`.
#[derive(Clone, Debug)]
pub struct Question {
    /// Of the answer: id, flags.
    metadata: Metadata,
    query: Query,
    edns: bool,
    about: About,
}

/// Whose record an answer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// That of a name.
    Name(&'a Name),
    /// That of the name with this number.
    Number(NonZeroU32),
    /// None: the zone itself.
    Zone,
}

/// Where in the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
enum About {
    /// `raida`.
    Apex,
    /// `number.raida`.
    Numbers,
    /// `N.number.raida`.
    Number(NonZeroU32),
    /// At a name or below it.
    Name(Name, Below),
    /// Where nothing can be.
    Nowhere,
}

/// Where below a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Below {
    /// The name.
    Itself,
    /// `rN`.
    Endpoint(PathId),
    /// `_tcp`: nothing but the parent of those that follow.
    Tcp,
    /// `_raida._tcp`.
    Raida,
    /// `_rke._tcp`.
    Rke,
    /// `_qsocket._tcp`.
    QSocket,
}

/// What there is.
enum Found {
    /// No such name.
    Nothing,
    /// A name, and those of its records that were asked for; none is an answer too.
    Data(Vec<RData>),
}

impl Question {
    /// Reads a message.
    pub fn read(message: &[u8]) -> Reading {
        let Some(header) = message.first_chunk::<HEADER>() else { return Reading::NoMessage };
        let refuse = |code| Reading::Answer(bare(header, code));
        let [_, _, flags, ..] = header;
        if flags & 0x80 != 0 {
            return refuse(ResponseCode::FormErr);
        }
        if (flags >> 3) & 0xf != 0 {
            return refuse(ResponseCode::NotImp);
        }
        if message.len() > MAX_QUESTION {
            return refuse(ResponseCode::FormErr);
        }
        let mut decoder = BinDecoder::new(message);
        let Ok(read) = Message::read(&mut decoder) else { return refuse(ResponseCode::FormErr) };
        let nothing_else = read.answers.is_empty()
            && read.authorities.is_empty()
            && read.additionals.is_empty()
            && read.signature.is_none()
            && decoder.is_empty();
        let [query] = &read.queries[..] else { return refuse(ResponseCode::FormErr) };
        if !nothing_else {
            return refuse(ResponseCode::FormErr);
        }
        let mut metadata = Metadata::response_from_request(&read.metadata);
        metadata.authoritative = true;
        metadata.recursion_available = false;
        let edns = read.edns.as_ref().map(Edns::version);
        let question = |about| Self { metadata, query: query.clone(), edns: edns.is_some(), about };
        if edns.is_some_and(|version| version != 0) {
            return Reading::Answer(question(About::Nowhere).fail(ResponseCode::BADVERS));
        }
        match About::read(query) {
            Some(about) => Reading::Question(Box::new(question(about))),
            None => Reading::Answer(question(About::Nowhere).fail(ResponseCode::Refused)),
        }
    }

    /// Whose record [`Question::answer`] needs.
    pub fn subject(&self) -> Subject<'_> {
        match &self.about {
            About::Name(name, _) => Subject::Name(name),
            About::Number(number) => Subject::Number(*number),
            About::Apex | About::Numbers | About::Nowhere => Subject::Zone,
        }
    }

    /// The message that answers it. `record` is that of the [`Subject`], if it resolves.
    pub fn answer(&self, record: Option<&Record>) -> Vec<u8> {
        self.try_answer(record)
            // Names of this zone are short, and every answer fits.
            .unwrap_or_else(|| self.fail(ResponseCode::ServFail))
    }

    fn try_answer(&self, record: Option<&Record>) -> Option<Vec<u8>> {
        let mut message = self.message(ResponseCode::NoError);
        match self.find(record)? {
            Found::Nothing => message.metadata.response_code = ResponseCode::NXDomain,
            Found::Data(data) => {
                let ttl = record.map_or(zone::NEGATIVE_TTL, |record| record.ttl);
                let owner = self.query.name().to_lowercase();
                message.add_answers(
                    data.into_iter().map(|data| DnsRecord::from_rdata(owner.clone(), ttl, data)),
                );
            }
        }
        if message.answers.is_empty() {
            let owner = DnsName::from_ascii(zone::SOA_MNAME).ok()?;
            message.add_authority(DnsRecord::from_rdata(owner, zone::NEGATIVE_TTL, soa()?));
        }
        message.to_vec().ok().filter(|answer| answer.len() <= MAX_CALL)
    }

    fn find(&self, record: Option<&Record>) -> Option<Found> {
        let kind = self.query.query_type();
        Some(match (&self.about, record) {
            (About::Apex, _) if kind == RecordType::SOA => Found::Data(vec![soa()?]),
            (About::Apex | About::Numbers, _) => Found::Data(Vec::new()),
            (About::Number(_), Some(record)) if kind == RecordType::PTR => {
                Found::Data(vec![RData::PTR(PTR(dns_name(&record.name)?))])
            }
            (About::Number(_), Some(_)) => Found::Data(Vec::new()),
            (About::Name(name, below), Some(record)) => at(name, *below, record, kind)?,
            (About::Nowhere | About::Number(_) | About::Name(..), _) => Found::Nothing,
        })
    }

    fn message(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.metadata.id, OpCode::Query);
        message.metadata = self.metadata;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        if self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_CALL as u16).set_version(0);
            message.set_edns(edns);
        }
        message
    }

    fn fail(&self, code: ResponseCode) -> Vec<u8> {
        let mut message = self.message(code);
        message.metadata.authoritative = false;
        message.to_vec().unwrap_or_else(|_| {
            let [high, low] = self.metadata.id.to_be_bytes();
            bare(&[high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], ResponseCode::ServFail)
        })
    }
}

impl About {
    /// `None` for what is not this zone's, or nothing that one asks of a zone.
    fn read(query: &Query) -> Option<Self> {
        use RecordType::{ANY, AXFR, IXFR, OPT};
        let kind = query.query_type();
        // RFC 6895: from 128 to 255 there are operations.
        if query.query_class() != DNSClass::IN
            || matches!(kind, ANY | AXFR | IXFR | OPT)
            || (128..=255).contains(&u16::from(kind))
        {
            return None;
        }
        let lower: Vec<Vec<u8>> = query.name().iter().map(<[u8]>::to_ascii_lowercase).collect();
        let labels: Vec<&[u8]> = lower.iter().map(Vec::as_slice).collect();
        let (zone, labels) = labels.split_last()?;
        if *zone != TLD.as_bytes() {
            return None;
        }
        let Some((name, below)) = labels.split_last() else { return Some(Self::Apex) };
        if *name == zone::NUMBER.as_bytes() {
            return Some(match below {
                [] => Self::Numbers,
                [number] => canonical(number).and_then(NonZeroU32::new).map_or(Self::Nowhere, Self::Number),
                _ => Self::Nowhere,
            });
        }
        let below = Below::read(below);
        Some(match (Name::from_label(name), below) {
            (Ok(name), Some(below)) => Self::Name(name, below),
            _ => Self::Nowhere,
        })
    }
}

impl Below {
    fn read(labels: &[&[u8]]) -> Option<Self> {
        let is = |labels: &[&[u8]], service: [&str; 2]| {
            labels.len() == 2 && labels.iter().zip(service).all(|(label, of)| *label == of.as_bytes())
        };
        let [_, tcp] = zone::RAIDA_SERVICE;
        match labels {
            [] => Some(Self::Itself),
            [label] if *label == tcp.as_bytes() => Some(Self::Tcp),
            [label] => {
                let number = std::str::from_utf8(label).ok()?.strip_prefix(zone::ENDPOINT_PREFIX)?;
                PathId::new(u8::try_from(canonical(number.as_bytes())?).ok()?).map(Self::Endpoint)
            }
            _ if is(labels, zone::RAIDA_SERVICE) => Some(Self::Raida),
            _ if is(labels, zone::RKE_SERVICE) => Some(Self::Rke),
            _ if is(labels, zone::QSOCKET_SERVICE) => Some(Self::QSocket),
            _ => None,
        }
    }
}

/// A number as it is written in names: decimal, without zeros in front.
fn canonical(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok()?;
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

/// What is at or below a name that resolves. `None` if a name is too long, which those of this zone are not.
fn at(name: &Name, below: Below, record: &Record, kind: RecordType) -> Option<Found> {
    let data = match (below, kind) {
        (Below::Itself, RecordType::A | RecordType::AAAA) => {
            record.service.and_then(|service| address(service.ip(), kind)).into_iter().collect()
        }
        (Below::Itself, RecordType::TXT) => vec![RData::TXT(TXT::new(vec![record.membership().to_string()]))],
        (Below::Endpoint(path), _) => {
            let Some(endpoint) = record.endpoints.get(&path) else { return Some(Found::Nothing) };
            address(endpoint.ip(), kind).into_iter().collect()
        }
        (Below::Raida, RecordType::SRV) => {
            let mut all = Vec::with_capacity(record.endpoints.len());
            for (path, endpoint) in &record.endpoints {
                let label = format!("{}{path}", zone::ENDPOINT_PREFIX);
                let target = dns_name(name)?.prepend_label(label.as_bytes()).ok()?;
                all.push(service(endpoint.port(), target));
            }
            all
        }
        (Below::Rke, RecordType::SRV) => match record.signalling {
            Some(port) => vec![service(port.get(), dns_name(name)?)],
            None => Vec::new(),
        },
        (Below::QSocket, RecordType::SRV) => match record.service {
            Some(at) => vec![service(at.port(), dns_name(name)?)],
            None => Vec::new(),
        },
        _ => Vec::new(),
    };
    Some(Found::Data(data))
}

fn address(ip: IpAddr, kind: RecordType) -> Option<RData> {
    match (ip, kind) {
        (IpAddr::V4(ip), RecordType::A) => Some(RData::A(A(ip))),
        (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA(AAAA(ip))),
        _ => None,
    }
}

fn service(port: u16, target: DnsName) -> RData {
    RData::SRV(SRV::new(0, 0, port, target))
}

fn dns_name(name: &Name) -> Option<DnsName> {
    DnsName::from_ascii(format!("{name}.")).ok()
}

fn soa() -> Option<RData> {
    let [source, responsible] = [zone::SOA_MNAME, zone::SOA_RNAME].map(DnsName::from_ascii);
    let [refresh, retry, expire] =
        [zone::SOA_REFRESH, zone::SOA_RETRY, zone::SOA_EXPIRE].map(|time| time.as_secs() as i32);
    let soa = SOA::new(
        source.ok()?,
        responsible.ok()?,
        zone::SOA_SERIAL,
        refresh,
        retry,
        expire,
        zone::NEGATIVE_TTL,
    );
    Some(RData::SOA(soa))
}

/// A header alone: for messages whose question cannot be repeated.
fn bare(header: &[u8; HEADER], code: ResponseCode) -> Vec<u8> {
    let [id_high, id_low, flags, ..] = *header;
    // The operation and the wish for recursion as they came; the rest is not this zone's to set.
    let flags = 0x80 | flags & 0b0111_1001;
    vec![id_high, id_low, flags, code.low(), 0, 0, 0, 0, 0, 0, 0, 0]
}
