use hickory_proto::op::{Query as Question, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{Name, RData, Record};
use proptest::prelude::*;

use super::*;

fn message(name: &str, record_type: RecordType, udp_size: Option<u16>) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(Name::from_ascii(name).unwrap(), record_type));
    if let Some(size) = udp_size {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.set_edns(edns);
    }
    message
}

fn screened(message: &Message) -> Screened {
    screen(message.to_vec().unwrap().into())
}

fn query(name: &str, udp_size: Option<u16>) -> Query {
    match screened(&message(name, RecordType::A, udp_size)) {
        Screened::Query(query) => query,
        other => panic!("not a query: {other:?}"),
    }
}

fn reply(screened: Screened) -> Message {
    match screened {
        Screened::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("not a reply: {other:?}"),
    }
}

#[test]
fn responses_and_scraps_get_silence() {
    let mut response = message("www.example.", RecordType::A, None);
    response.metadata.message_type = MessageType::Response;
    assert!(matches!(screened(&response), Screened::Drop));
    let whole = message("www.example.", RecordType::A, None).to_vec().unwrap();
    for length in 0..HEADER_LEN {
        assert!(matches!(screen(Bytes::copy_from_slice(&whole[..length])), Screened::Drop), "{length} bytes");
    }
}

#[test]
fn garbage_behind_a_readable_header_gets_formerr() {
    let whole = message("www.example.", RecordType::A, Some(1232)).to_vec().unwrap();
    for length in HEADER_LEN..whole.len() {
        let reply = reply(screen(Bytes::copy_from_slice(&whole[..length])));
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr, "{length} bytes");
        assert_eq!(reply.metadata.id, 0x1234);
        assert!(reply.metadata.recursion_desired);
    }
}

#[test]
fn only_single_questions_are_queries() {
    let mut two = message("www.example.", RecordType::A, None);
    two.add_query(Question::query(Name::from_ascii("b.example.").unwrap(), RecordType::A));
    let mut none = message("www.example.", RecordType::A, None);
    none.queries.clear();
    for message in [two, none] {
        assert_eq!(reply(screened(&message)).metadata.response_code, ResponseCode::FormErr);
    }
}

#[test]
fn a_claim_of_65535_questions_is_refused_before_memory_is_set_aside() {
    let mut bytes = message("www.example.", RecordType::A, None).to_vec().unwrap();
    bytes[4..6].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(reply(screen(bytes.into())).metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn other_opcodes_and_zone_transfers_are_turned_away() {
    let mut notify = message("www.example.", RecordType::SOA, None);
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(reply(screened(&notify)).metadata.response_code, ResponseCode::NotImp);
    for record_type in [RecordType::AXFR, RecordType::IXFR] {
        let refused = reply(screened(&message("example.", record_type, None)));
        assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
        assert_eq!(refused.queries.len(), 1);
    }
}

#[test]
fn overlong_queries_get_formerr() {
    let mut bytes = message("www.example.", RecordType::A, None).to_vec().unwrap();
    bytes.resize(MAX_QUERY_LEN + 1, 0);
    assert_eq!(reply(screen(bytes.into())).metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn errors_repeat_question_case_and_edns() {
    let query = query("wWw.ExAmPlE.", Some(4096));
    let bytes = query.error(ResponseCode::ServFail);
    assert!(bytes.len() <= query.bytes().len());
    let error = Message::from_vec(&bytes).unwrap();
    assert_eq!(error.metadata.id, query.id());
    assert_eq!(error.metadata.response_code, ResponseCode::ServFail);
    assert!(error.queries[0].name().eq_case(query.message().queries[0].name()));
    assert!(error.edns.is_some());
}

#[test]
fn errors_without_edns_for_queries_without() {
    let error = Message::from_vec(&query("www.example.", None).error(ResponseCode::ServFail)).unwrap();
    assert!(error.edns.is_none());
}

#[test]
fn udp_limit_follows_edns_but_not_below_512() {
    for (announced, limit) in
        [(None, 512), (Some(0), 512), (Some(511), 512), (Some(1232), 1232), (Some(65535), 65535)]
    {
        assert_eq!(query("www.example.", announced).udp_limit(), limit, "{announced:?}");
    }
}

#[test]
fn a_truncated_answer_keeps_code_question_and_opt() {
    let query = query("www.example.", Some(512));
    let mut answer = query.message().clone();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.authoritative = true;
    answer.metadata.id = 7;
    let name = query.message().queries[0].name().clone();
    for _ in 0..9 {
        answer.add_answer(Record::from_rdata(name.clone(), 60, RData::TXT(TXT::new(vec!["x".repeat(200)]))));
    }
    let cut = query.truncated(&answer.to_vec().unwrap());
    let cut = Message::from_vec(&cut).unwrap();
    assert!(cut.metadata.truncation && cut.metadata.authoritative);
    assert_eq!(cut.metadata.id, query.id());
    assert_eq!(cut.queries, query.message().queries);
    assert!(cut.edns.is_some() && cut.answers.is_empty());
}

#[test]
fn only_the_right_response_answers() {
    let query = query("www.example.", None);
    let mut answer = query.message().clone();
    assert!(!query.is_answered_by(&answer.to_vec().unwrap()), "a query is no answer");
    answer.metadata.message_type = MessageType::Response;
    assert!(query.is_answered_by(&answer.to_vec().unwrap()));

    let mut other_case = answer.clone();
    other_case.queries[0].set_name(Name::from_ascii("WWW.example.").unwrap());
    assert!(query.is_answered_by(&other_case.to_vec().unwrap()));

    let mut other_name = answer.clone();
    other_name.queries[0].set_name(Name::from_ascii("evil.example.").unwrap());
    assert!(!query.is_answered_by(&other_name.to_vec().unwrap()));

    let mut other_type = answer.clone();
    other_type.queries[0].set_query_type(RecordType::AAAA);
    assert!(!query.is_answered_by(&other_type.to_vec().unwrap()));

    answer.queries.clear();
    answer.add_answer(Record::from_rdata(Name::root(), 60, RData::A(A::new(192, 0, 2, 66))));
    assert!(!query.is_answered_by(&answer.to_vec().unwrap()), "records without a question");
    answer.answers.clear();
    answer.metadata.response_code = ResponseCode::Refused;
    assert!(query.is_answered_by(&answer.to_vec().unwrap()), "an error without a question");
}

#[test]
fn the_udp_size_is_lowered_and_nothing_else_changes() {
    let bytes = message("www.example.", RecordType::A, Some(4096)).to_vec().unwrap();
    let lowered = Message::from_vec(&with_udp_size_at_most(&bytes, 1232)).unwrap();
    assert_eq!(lowered.edns.as_ref().unwrap().max_payload(), 1232);
    let mut back = lowered;
    back.edns.as_mut().unwrap().set_max_payload(4096);
    assert_eq!(back.to_vec().unwrap(), bytes);

    for unchanged in [Some(512), Some(1232), None] {
        let bytes = message("www.example.", RecordType::A, unchanged).to_vec().unwrap();
        assert_eq!(with_udp_size_at_most(&bytes, 1232), bytes);
    }
}

#[test]
fn a_signed_query_is_left_alone() {
    let mut bytes = message("www.example.", RecordType::A, Some(4096)).to_vec().unwrap();
    bytes[11] = 2;
    // A TSIG record (type 250, class ANY) of the root with two bytes of data.
    bytes.extend_from_slice(&[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 2, 1, 2]);
    assert_eq!(with_udp_size_at_most(&bytes, 1232), bytes);
}

proptest! {
    #[test]
    fn any_bytes_are_screened(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let reply = match screen(bytes.clone().into()) {
            Screened::Query(query) => Some(query.error(ResponseCode::ServFail)),
            Screened::Reply(reply) => Some(reply),
            Screened::Drop => None,
        };
        if let Some(reply) = reply {
            prop_assert_eq!(id_of(&reply), id_of(&bytes));
        }
    }

    #[test]
    fn any_bytes_behind_a_query_header_are_handled(
        tail in proptest::collection::vec(any::<u8>(), 0..300),
        additionals in 0u8..4,
    ) {
        let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, additionals];
        bytes.extend(&tail);
        prop_assert_eq!(with_udp_size_at_most(&bytes, 1232).len(), bytes.len());
        prop_assert!(!matches!(screen(bytes.clone().into()), Screened::Drop));
        let query = query("www.example.", Some(1232));
        let _taken_or_not = query.is_answered_by(&bytes);
        prop_assert!(query.truncated(&bytes).len() <= query.bytes().len());
    }
}
