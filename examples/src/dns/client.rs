//! A small `dig` over a stream: asks one question and prints the answer in `dig`'s format.

mod print;

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::{Name, RecordType};
use tokio::time::{Instant, timeout};
use tokio_util::codec::Framed;

use super::ByteStream;
use super::wire::{self, MAX_MESSAGE_LEN, OUR_UDP_LEN, Screened};

/// Default wait for connection and answer together, as `dig` has it.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Messages that answer something else which are read past before giving up on the server.
pub const MAX_STRAY_MESSAGES: u32 = 16;

/// How to call the client; printed with an error of usage.
pub const USAGE: &str = "\
usage: dns_client [@SERVER[:PORT]] NAME [TYPE] [OPTION]...
       dns_client [@SERVER[:PORT]] -x ADDRESS [OPTION]...

  TYPE             A (default), AAAA, MX, TXT, SRV, CNAME, NS, SOA, PTR, ANY, ...
  -x ADDRESS       ask for the name of an address
  +short           print the answers only
  +norecurse       do not ask for recursion
  +dnssec          ask for DNSSEC records
  +noedns          send no EDNS record
  +bufsize=BYTES   announce this UDP size (default 1232)
  +time=SECONDS    wait this long for the answer (default 5)

Exit codes as those of dig: 0 an answer came (also NXDOMAIN), 1 wrong usage,
9 no answer came, 10 internal error.";

/// How a run ended; the numbers are `dig`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// An answer came, whatever it says.
    Answered = 0,
    /// The arguments make no sense.
    Usage = 1,
    /// No answer came.
    NoAnswer = 9,
    /// The client itself failed, or could not print.
    Internal = 10,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What to ask, and how to print the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The server as `name:port` or without port, if one was given.
    pub server: Option<String>,
    /// The name asked for, always absolute.
    pub name: Name,
    /// The type asked for.
    pub record_type: RecordType,
    /// Whether the server may ask others (flag RD). Default true.
    pub recurse: bool,
    /// Whether DNSSEC records are wanted (EDNS flag DO). Default false.
    pub dnssec: bool,
    /// UDP size to announce in bytes, or no EDNS at all. Default 1232.
    pub edns: Option<u16>,
    /// Whether to print the data of the answers only.
    pub short: bool,
    /// Wait for connection and answer together.
    pub timeout: Duration,
}

/// An answer and what is told about it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Answer {
    /// The answer as parsed.
    pub message: Message,
    /// Its length in bytes as received.
    pub length: usize,
    /// Time from sending the query to having the answer.
    pub elapsed: Duration,
}

/// Why there is no answer to print.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
    /// The server could not be reached or the stream failed.
    #[error("no answer: {0}")]
    Stream(#[from] io::Error),
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// What came is no DNS message.
    #[error("the server's answer is malformed: {0}")]
    Malformed(String),
    /// The query could not be encoded.
    #[error("cannot encode the query: {0}")]
    Encode(String),
}

impl ClientError {
    const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Stream(_) | Self::Timeout(_) | Self::Malformed(_) => Exit::NoAnswer,
            Self::Encode(_) => Exit::Internal,
        }
    }
}

/// The whole program behind its `main`: parses the arguments (without the program's name), connects with
/// `connect`, asks, and prints to `out` and complaints to `err`.
///
/// `connect` gets the server as given, or `default_server`.
pub async fn run<S: ByteStream, F: Future<Output = io::Result<S>>>(
    args: impl IntoIterator<Item = OsString>,
    default_server: &str,
    connect: impl FnOnce(String) -> F,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Exit {
    let outcome = async {
        let lookup = Lookup::parse(args)?;
        let server = lookup.server.clone().unwrap_or_else(|| default_server.to_owned());
        let answer = timeout(lookup.timeout, async { ask(connect(server.clone()).await?, &lookup).await })
            .await
            .unwrap_or(Err(ClientError::Timeout(lookup.timeout)))?;
        let text =
            if lookup.short { print::short(&answer.message) } else { print::full(&lookup, &answer, &server) };
        Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    };
    match outcome.await {
        Ok(Ok(())) => Exit::Answered,
        Ok(Err(_)) => Exit::Internal,
        Err(error) => {
            let exit: Exit = ClientError::exit(&error);
            let usage = if exit == Exit::Usage { format!("\n\n{USAGE}") } else { String::new() };
            // If complaints cannot be printed, the exit code still tells.
            let _unheard = writeln!(err, ";; {}{usage}", print::sanitized(&error.to_string()));
            exit
        }
    }
}

/// Asks one question on `stream` and waits for its answer, without a limit of time.
///
/// # Errors
/// [`ClientError`]: the stream failed or ended, or the answer is malformed.
pub async fn ask<S: ByteStream>(stream: S, lookup: &Lookup) -> Result<Answer, ClientError> {
    let encoded = lookup.query().to_vec().map_err(|e| ClientError::Encode(e.to_string()))?;
    let Screened::Query(query) = wire::screen(Bytes::from(encoded)) else {
        let refused = format!("{} cannot be asked over one stream", lookup.record_type);
        return Err(ClientError::Usage(refused));
    };
    let mut messages = Framed::new(stream, wire::framing(MAX_MESSAGE_LEN));
    let asked = Instant::now();
    messages.send(query.bytes().clone()).await?;
    for _ in 0..MAX_STRAY_MESSAGES {
        let Some(answer) = messages.next().await else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server ended the stream").into());
        };
        let answer = answer?;
        if wire::id_of(&answer) == Some(query.id()) && query.is_answered_by(&answer) {
            let elapsed = asked.elapsed();
            let message = Message::from_vec(&answer).map_err(|e| ClientError::Malformed(e.to_string()))?;
            return Ok(Answer { message, length: answer.len(), elapsed });
        }
    }
    Err(ClientError::Malformed("it answers other questions".to_owned()))
}

impl Lookup {
    /// Asks for the records of one type at one name, with the defaults.
    #[must_use]
    pub fn new(mut name: Name, record_type: RecordType) -> Self {
        name.set_fqdn(true);
        Self {
            server: None,
            name,
            record_type,
            recurse: true,
            dnssec: false,
            edns: Some(OUR_UDP_LEN),
            short: false,
            timeout: TIMEOUT,
        }
    }

    /// Reads arguments in `dig`'s manner; see [`USAGE`].
    ///
    /// # Errors
    /// [`ClientError::Usage`], which says what is wrong.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, ClientError> {
        let usage = |message: String| ClientError::Usage(message);
        let mut lookup = Self::new(Name::root(), RecordType::A);
        let (mut name, mut record_type) = (None, None);
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let arg = arg.into_string().map_err(|arg| usage(format!("{} is not UTF-8", arg.display())))?;
            if let Some(server) = arg.strip_prefix('@') {
                if server.is_empty() {
                    return Err(usage("@ needs a server, as in @dns.example:53".to_owned()));
                }
                lookup.server = Some(server.to_owned());
            } else if let Some(option) = arg.strip_prefix('+') {
                lookup.option(option)?;
            } else if arg == "-x" {
                let address = args.next().and_then(|a| a.into_string().ok()).unwrap_or_default();
                let address: IpAddr =
                    address.parse().map_err(|_| usage(format!("-x needs an IP address, not `{address}`")))?;
                name = Some(Name::from(address));
                record_type = Some(RecordType::PTR);
            } else if arg.starts_with('-') {
                return Err(usage(format!("unknown option {arg}")));
            } else if name.is_none() {
                let parsed = Name::from_utf8(&arg);
                name = Some(parsed.map_err(|e| usage(format!("`{arg}` is no domain name: {e}")))?);
            } else if record_type.is_none() {
                let parsed = arg.to_ascii_uppercase().parse();
                record_type = Some(parsed.map_err(|_| usage(format!("unknown record type `{arg}`")))?);
            } else {
                return Err(usage(format!("one question at a time; what is `{arg}`?")));
            }
        }
        lookup.name = name.ok_or_else(|| usage("which name?".to_owned()))?;
        lookup.name.set_fqdn(true);
        lookup.record_type = record_type.unwrap_or(RecordType::A);
        Ok(lookup)
    }

    fn option(&mut self, option: &str) -> Result<(), ClientError> {
        let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
        let bad = || ClientError::Usage(format!("cannot make sense of +{option}"));
        match (key, value) {
            ("short", None) => self.short = true,
            ("noshort", None) => self.short = false,
            ("recurse" | "rec", None) => self.recurse = true,
            ("norecurse" | "norec", None) => self.recurse = false,
            ("dnssec" | "do", None) => self.dnssec = true,
            ("noedns", None) => self.edns = None,
            ("bufsize", Some(bytes)) => self.edns = Some(bytes.parse().map_err(|_| bad())?),
            ("time" | "timeout", Some(seconds)) => {
                let seconds: u16 = seconds.parse().map_err(|_| bad())?;
                self.timeout = Duration::from_secs(seconds.max(1).into());
            }
            _ => return Err(bad()),
        }
        Ok(())
    }

    /// The query with an id drawn at random.
    fn query(&self) -> Message {
        let mut query = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = self.recurse;
        query.metadata.authentic_data = self.dnssec;
        query.add_query(Question::query(self.name.clone(), self.record_type));
        if let Some(size) = self.edns.or_else(|| self.dnssec.then_some(OUR_UDP_LEN)) {
            let mut edns = Edns::new();
            edns.set_max_payload(size).set_dnssec_ok(self.dnssec);
            query.set_edns(edns);
        }
        query
    }
}

#[cfg(test)]
mod tests;
