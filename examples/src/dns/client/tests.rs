use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{RData, Record};
use tokio::io::{DuplexStream, duplex};

use super::*;

fn parse(args: &str) -> Result<Lookup, ClientError> {
    Lookup::parse(args.split_whitespace().map(OsString::from))
}

/// Runs the client against a server that answers with what `answers` makes of the query.
async fn run_with(args: &str, answers: impl FnOnce(Message) -> Vec<Message>) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (near, far) = duplex(1 << 16);
    let server = async move {
        let mut far = Framed::new(far, wire::framing(MAX_MESSAGE_LEN));
        let Some(query) = far.next().await else { return };
        for answer in answers(Message::from_vec(&query.unwrap()).unwrap()) {
            far.send(Bytes::from(answer.to_vec().unwrap())).await.unwrap();
        }
    };
    let args = args.split_whitespace().map(OsString::from);
    let connect = |_| std::future::ready(Ok(near));
    let (exit, ()) = tokio::join!(run(args, "dns.example:53", connect, &mut out, &mut err), server);
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn answer(mut query: Message, data: Vec<RData>) -> Message {
    query.metadata.message_type = MessageType::Response;
    let name = query.queries[0].name().clone();
    for data in data {
        query.add_answer(Record::from_rdata(name.clone(), 60, data));
    }
    query
}

#[test]
fn arguments_in_digs_manner() {
    let lookup =
        parse("@dns.raida:5300 www.example txt +short +norecurse +dnssec +bufsize=4096 +time=2").unwrap();
    assert_eq!(lookup.server.as_deref(), Some("dns.raida:5300"));
    assert_eq!(lookup.name, Name::from_ascii("www.example.").unwrap());
    assert_eq!(lookup.record_type, RecordType::TXT);
    assert!(lookup.short && lookup.dnssec && !lookup.recurse);
    assert_eq!((lookup.edns, lookup.timeout), (Some(4096), Duration::from_secs(2)));

    assert_eq!(parse("www.example").unwrap(), Lookup::new("www.example.".parse().unwrap(), RecordType::A));
    let reverse = parse("-x 192.0.2.1").unwrap();
    assert_eq!(reverse.name.to_string(), "1.2.0.192.in-addr.arpa.");
    assert_eq!(reverse.record_type, RecordType::PTR);
    assert_eq!(parse("www.example +noedns").unwrap().edns, None);
}

#[test]
fn wrong_arguments_are_told_apart() {
    for (args, told) in [
        ("", "which name?"),
        ("www.example BOGUS", "unknown record type `BOGUS`"),
        ("www.example A extra", "what is `extra`?"),
        ("www.example +bogus", "+bogus"),
        ("www.example +bufsize=x", "+bufsize=x"),
        ("www.example --bogus", "--bogus"),
        ("-x example", "-x needs an IP address"),
        ("@ www.example", "@ needs a server"),
        ("a..b", "no domain name"),
    ] {
        let error = parse(args).unwrap_err();
        assert!(matches!(&error, ClientError::Usage(text) if text.contains(told)), "{args}: {error}");
    }
}

#[tokio::test]
async fn prints_like_dig() {
    let respond = |query| vec![answer(query, vec![RData::A(A::new(192, 0, 2, 80))])];
    let (exit, out, err) = run_with("@dns.raida www.example", respond).await;
    assert_eq!((exit, err.as_str()), (Exit::Answered, ""));
    for line in [
        ";; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: ",
        ";; flags: qr rd; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1",
        ";; QUESTION SECTION:\n;www.example.                  \tIN\tA\n",
        ";; ANSWER SECTION:\nwww.example.           \t60\tIN\tA\t192.0.2.80\n",
        ";; Query time: ",
        ";; SERVER: dns.raida\n",
        ";; MSG SIZE  rcvd: ",
    ] {
        assert!(out.contains(line), "no {line:?} in {out}");
    }
}

#[tokio::test]
async fn short_prints_the_data_only() {
    let respond = |query| {
        let stray = answer(Message::new(1, MessageType::Query, OpCode::Query).with_question(&query), vec![]);
        vec![stray, answer(query, vec![RData::A(A::new(192, 0, 2, 80)), RData::A(A::new(192, 0, 2, 81))])]
    };
    let (exit, out, _) = run_with("www.example +short", respond).await;
    assert_eq!((exit, out.as_str()), (Exit::Answered, "192.0.2.80\n192.0.2.81\n"));
}

#[tokio::test]
async fn nxdomain_is_an_answer() {
    let respond = |query| {
        let mut answer = answer(query, vec![]);
        answer.metadata.response_code = hickory_proto::op::ResponseCode::NXDomain;
        vec![answer]
    };
    let (exit, out, _) = run_with("nowhere.example", respond).await;
    assert_eq!(exit, Exit::Answered);
    assert!(out.contains("status: NXDOMAIN"), "{out}");
}

#[tokio::test]
async fn text_from_the_network_cannot_steer_the_terminal() {
    let evil = b"\x1b]0;owned\x07 \"q\" \\ \xc2\x9b".as_slice();
    let respond = |query| vec![answer(query, vec![RData::TXT(TXT::from_bytes(vec![evil, b"two"]))])];
    let (_, out, _) = run_with("www.example txt +short", respond).await;
    assert_eq!(out, "\"\\027]0;owned\\007 \\\"q\\\" \\\\ \\194\\155\" \"two\"\n");
}

#[tokio::test]
async fn exit_codes_tell_what_went_wrong() {
    let (exit, out, err) = run_with("www.example", |_| vec![]).await;
    assert_eq!((exit, out.as_str()), (Exit::NoAnswer, ""));
    assert!(err.contains("the server ended the stream"), "{err}");

    let (mut out, mut err) = (Vec::new(), Vec::new());
    let refuse = |_| std::future::ready(Err::<DuplexStream, _>(io::ErrorKind::ConnectionRefused.into()));
    let args = ["www.example".into()];
    assert_eq!(run(args, "dns.example", refuse, &mut out, &mut err).await, Exit::NoAnswer);
    let args: [OsString; 0] = [];
    assert_eq!(run(args, "dns.example", refuse, &mut out, &mut err).await, Exit::Usage);
    assert!(String::from_utf8(err).unwrap().contains("usage: dns_client"));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_with_the_timeout() {
    let (near, _far) = duplex(1 << 16);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let start = Instant::now();
    let args = ["www.example", "+time=3"].map(OsString::from);
    let exit = run(args, "dns.example", |_| std::future::ready(Ok(near)), &mut out, &mut err).await;
    assert_eq!((exit, start.elapsed().as_secs()), (Exit::NoAnswer, 3));
}

trait WithQuestion {
    fn with_question(self, like: &Message) -> Message;
}

impl WithQuestion for Message {
    /// Another question, so that it answers nobody.
    fn with_question(mut self, like: &Message) -> Message {
        let mut question = like.queries[0].clone();
        question.set_name("stray.example.".parse().unwrap());
        self.add_query(question);
        self
    }
}
