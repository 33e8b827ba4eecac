//! What server, stub and client need to know of a DNS message: framing, screening, errors, truncation.
//!
//! Messages travel as the bytes that they came as. They are parsed to be judged, and only answers that this
//! program makes itself are encoded by it, so that options and record types unknown here pass untouched.

use bytes::{Bytes, BytesMut};
use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio_util::codec::LengthDelimitedCodec;

/// Length of the fixed header of a message in bytes (RFC 1035 section 4.1.1).
pub const HEADER_LEN: usize = 12;

/// Longest message that the two length bytes can announce (RFC 1035 section 4.2.2).
pub const MAX_MESSAGE_LEN: usize = u16::MAX as usize;

/// Longest query that is looked at, in bytes.
///
/// A question takes at most 271 bytes with its header; the rest is room for EDNS options (cookies, padding to
/// a multiple of 128) and a TSIG record. A longer query is a mistake or an attack on memory.
pub const MAX_QUERY_LEN: usize = 4096;

/// Longest UDP answer for a client that announces no EDNS (RFC 1035 section 4.2.1).
pub const PLAIN_UDP_LEN: u16 = 512;

/// Largest UDP answer in bytes that this software promises to take, and announces where it makes an OPT record
/// itself: what crosses an Ethernet without IP fragments (DNS flag day 2020).
pub const OUR_UDP_LEN: u16 = 1232;

/// The codec for messages on a stream: each with its length in two bytes in front, in network order.
///
/// `max_len` bounds a received message in bytes; a longer one ends the stream with an error before memory is
/// set aside for it.
#[must_use]
pub fn framing(max_len: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_length(2).max_frame_length(max_len).new_codec()
}

/// What to do with a message that came where queries are expected.
#[derive(Debug)]
pub enum Screened {
    /// A query to be answered by a back end.
    Query(Query),
    /// A message that gets this answer at once.
    Reply(Bytes),
    /// A message that gets silence: a response (answering one could start a loop) or less than a header.
    Drop,
}

/// A well-formed query: opcode QUERY, one question, no zone transfer.
#[derive(Debug, Clone)]
pub struct Query {
    bytes: Bytes,
    parsed: Message,
}

impl Query {
    /// The message as received.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The message as parsed.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.parsed
    }

    /// The id that the answer must carry.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.parsed.metadata.id
    }

    /// The longest UDP answer that the client takes, in bytes: its EDNS size, at least 512 (RFC 6891 section
    /// 6.2.3), or 512 without EDNS.
    #[must_use]
    pub fn udp_limit(&self) -> usize {
        usize::from(self.parsed.edns.as_ref().map_or(PLAIN_UDP_LEN, |e| e.max_payload().max(PLAIN_UDP_LEN)))
    }

    /// The answer that reports `code` with this query's id, question and, where it had one, an OPT record.
    ///
    /// It repeats nothing but the question, so an error is of no use for amplification.
    #[must_use]
    pub fn error(&self, code: ResponseCode) -> Bytes {
        encode(&self.reply(Metadata::response_from_request(&self.parsed.metadata), code), self.id(), code)
    }

    /// The answer cut to nothing but header, question and OPT, with TC set, so that the client asks again over
    /// TCP (RFC 2181 section 9).
    ///
    /// `answer` is the full answer to this query; its response code and flags are kept.
    #[must_use]
    pub fn truncated(&self, answer: &[u8]) -> Bytes {
        let Some((mut header, _)) = header_and_rest(answer) else {
            return self.error(ResponseCode::ServFail);
        };
        header.metadata.id = self.id();
        header.metadata.truncation = true;
        let code = header.metadata.response_code;
        encode(&self.reply(header.metadata, code), self.id(), code)
    }

    /// Whether `answer` is a response to this query's question, whatever its id.
    ///
    /// A response without a question is taken only when it reports FORMERR, SERVFAIL, NOTIMP or REFUSED: some
    /// servers answer so without having read that far.
    #[must_use]
    pub fn is_answered_by(&self, answer: &[u8]) -> bool {
        let Some((header, mut rest)) = header_and_rest(answer) else { return false };
        if header.metadata.message_type != MessageType::Response
            || header.metadata.op_code != self.parsed.metadata.op_code
        {
            return false;
        }
        match header.counts.queries {
            0 => matches!(
                header.metadata.response_code,
                ResponseCode::FormErr | ResponseCode::ServFail | ResponseCode::NotImp | ResponseCode::Refused
            ),
            1 => Message::read_queries(&mut rest, 1).is_ok_and(|asked| asked == self.parsed.queries),
            _ => false,
        }
    }

    fn reply(&self, metadata: Metadata, code: ResponseCode) -> Message {
        let mut reply = Message::new(metadata.id, MessageType::Response, metadata.op_code);
        reply.metadata = metadata;
        reply.metadata.response_code = code;
        reply.add_queries(self.parsed.queries.iter().cloned());
        if let Some(asked) = &self.parsed.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(OUR_UDP_LEN).set_dnssec_ok(asked.flags().dnssec_ok);
            edns.set_rcode_high(code.high());
            reply.set_edns(edns);
        }
        reply
    }
}

/// Sorts a message that came where queries are expected.
///
/// FORMERR answers garbage behind a readable header and any count of questions other than one (RFC 9619);
/// NOTIMP answers other opcodes than QUERY; REFUSED answers zone transfers, which take many messages for one
/// query, and classes other than IN, CH and ANY.
#[must_use]
pub fn screen(bytes: Bytes) -> Screened {
    let Some((header, _)) = header_and_rest(&bytes) else { return Screened::Drop };
    if header.metadata.message_type == MessageType::Response {
        return Screened::Drop;
    }
    let bare_error = |code| Screened::Reply(bare_error(&header.metadata, code));
    if header.metadata.op_code != OpCode::Query {
        return bare_error(ResponseCode::NotImp);
    }
    if bytes.len() > MAX_QUERY_LEN || header.counts.queries != 1 {
        return bare_error(ResponseCode::FormErr);
    }
    let Ok(parsed) = Message::from_vec(&bytes) else {
        return bare_error(ResponseCode::FormErr);
    };
    let Some(question) = parsed.queries.first() else {
        return bare_error(ResponseCode::FormErr);
    };
    let served = matches!(question.query_class(), DNSClass::IN | DNSClass::CH | DNSClass::ANY)
        && !matches!(question.query_type(), RecordType::AXFR | RecordType::IXFR);
    let query = Query { bytes, parsed };
    if served { Screened::Query(query) } else { Screened::Reply(query.error(ResponseCode::Refused)) }
}

/// The message with another id.
///
/// Ids are per hop: whoever sends a query onwards chooses the id there and restores the old one in the answer.
/// A message shorter than an id is returned as it is.
#[must_use]
pub fn with_id(message: &[u8], id: u16) -> Bytes {
    let mut copy = BytesMut::from(message);
    if let Some(field) = copy.get_mut(..2) {
        field.copy_from_slice(&id.to_be_bytes());
    }
    copy.freeze()
}

/// The id of a message, if it is long enough to have one.
#[must_use]
pub fn id_of(message: &[u8]) -> Option<u16> {
    message.first_chunk().map(|id| u16::from_be_bytes(*id))
}

/// Whether the server cut the answer to fit (flag TC).
#[must_use]
pub fn is_truncated(answer: &[u8]) -> bool {
    header_and_rest(answer).is_some_and(|(header, _)| header.metadata.truncation)
}

/// The query with its EDNS size lowered to `limit` bytes, for a hop over UDP with another limit than the
/// client's own.
///
/// Without an OPT record, or with a signature over the whole message (TSIG, SIG(0)), the query stays as it is.
#[must_use]
pub fn with_udp_size_at_most(query: &[u8], limit: u16) -> Bytes {
    let mut copy = BytesMut::from(query);
    if let Some(at) = udp_size_field(query)
        && let Some(field) = copy.get_mut(at..at + 2)
        && u16::from_be_bytes([field[0], field[1]]) > limit
    {
        field.copy_from_slice(&limit.to_be_bytes());
    }
    copy.freeze()
}

/// Offset of the UDP size in the OPT record of a query without answer and authority records.
fn udp_size_field(query: &[u8]) -> Option<usize> {
    let counts = |at: usize| Some(u16::from_be_bytes(*query.get(at..)?.first_chunk()?));
    let (questions, answers, authorities, additionals) = (counts(4)?, counts(6)?, counts(8)?, counts(10)?);
    if answers != 0 || authorities != 0 {
        return None;
    }
    let mut at = HEADER_LEN;
    for _ in 0..questions {
        at = skip_name(query, at)?.checked_add(4)?;
    }
    let mut found = None;
    for _ in 0..additionals {
        let fixed = skip_name(query, at)?;
        match RecordType::from(counts(fixed)?) {
            RecordType::OPT => found = Some(fixed + 2),
            RecordType::TSIG | RecordType::SIG => return None,
            _ => {}
        }
        at = (fixed + 10).checked_add(usize::from(counts(fixed + 8)?))?;
    }
    found
}

/// Offset behind the name that starts at `at`; pointers are skipped, not followed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn header_and_rest(message: &[u8]) -> Option<(Header, BinDecoder<'_>)> {
    let mut decoder = BinDecoder::new(message);
    Header::read(&mut decoder).ok().map(|header| (header, decoder))
}

fn bare_error(request: &Metadata, code: ResponseCode) -> Bytes {
    let mut reply = Message::new(request.id, MessageType::Response, request.op_code);
    reply.metadata = Metadata::response_from_request(request);
    reply.metadata.response_code = code;
    encode(&reply, request.id, code)
}

/// The encoded message, or a bare header with `id` and `code` if it cannot be encoded.
fn encode(message: &Message, id: u16, code: ResponseCode) -> Bytes {
    message.to_vec().map_or_else(
        |_| {
            let mut header = [0; HEADER_LEN];
            header[..2].copy_from_slice(&id.to_be_bytes());
            header[2] = 0x80;
            header[3] = code.low();
            Bytes::copy_from_slice(&header)
        },
        Bytes::from,
    )
}

#[cfg(test)]
mod tests;
