//! Relays that are not there: each answers what its test wants, by a clock that stops.

use super::agree::{DEADLINE, GRACE, Relays, agree};
use super::message::{Answer, Question};
use super::*;
use crate::endpoint::Reply;
use hickory_proto::rr::rdata::{A, CNAME, SRV, TXT};
use hickory_proto::rr::{self, RData, Record};
use qsocket_proto::call::{Service, Status};
use qsocket_proto::ids::{PathId, PathSet};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::Instant;

/// What a relay does when it is asked.
#[derive(Clone, Debug)]
pub(super) enum Habit {
    /// It says what the owner said.
    Honest,
    /// It says something else.
    Says(Vec<RData>),
    /// It says the same for another time.
    Ttl(u32),
    /// It says that there is no such name.
    Denies,
    /// It answers this.
    Bytes(Vec<u8>),
    Refuses(Status),
    Silent,
    /// It says the truth after this time.
    Late(Duration),
}

pub(super) struct Fake {
    truth: Mutex<Vec<RData>>,
    habits: Mutex<Vec<Habit>>,
    asked: AtomicU64,
}

pub(super) const TTL: u32 = 300;

fn address(last: u8) -> RData {
    RData::A(A(Ipv4Addr::new(192, 0, 2, last)))
}

pub(super) fn question(name: &str) -> Question {
    Question::new(&rr::Name::from_ascii(name).unwrap(), RecordType::A)
}

impl Fake {
    pub(super) fn new(liars: &[(usize, Habit)]) -> Arc<Self> {
        let mut habits = vec![Habit::Honest; RELAYS];
        for (relay, habit) in liars {
            habits[*relay] = habit.clone();
        }
        let truth = Mutex::new(vec![address(1), address(2)]);
        Arc::new(Self { truth, habits: Mutex::new(habits), asked: AtomicU64::new(0) })
    }

    /// The first relays do this.
    fn first(count: usize, habit: &Habit) -> Arc<Self> {
        let liars: Vec<_> = (0..count).map(|i| (i, habit.clone())).collect();
        Self::new(&liars)
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn become_honest(&self) {
        self.habits.lock().unwrap().fill(Habit::Honest);
    }
}

fn answer(query: &[u8], code: ResponseCode, ttl: u32, data: Vec<RData>) -> Option<Reply> {
    let query = Message::from_vec(query).unwrap();
    let mut message = response(&query, code);
    for data in data {
        message.add_answer(Record::from_rdata(query.queries[0].name().clone(), ttl, data));
    }
    Some((Status::Ok, message.to_vec().unwrap()))
}

impl Relays for Fake {
    async fn ask(self: Arc<Self>, path: PathId, service: Service, body: Arc<[u8]>) -> Option<Reply> {
        assert_eq!(service, Service::Resolve);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let habit = self.habits.lock().unwrap()[path.index()].clone();
        let mut truth = self.truth.lock().unwrap().clone();
        // The order is each relay's own.
        let turn = path.index() % truth.len().max(1);
        truth.rotate_left(turn);
        let code = if truth.is_empty() { ResponseCode::NXDomain } else { ResponseCode::NoError };
        match habit {
            Habit::Honest => answer(&body, code, TTL, truth),
            Habit::Says(data) => answer(&body, ResponseCode::NoError, TTL, data),
            Habit::Ttl(ttl) => answer(&body, code, ttl, truth),
            Habit::Denies => answer(&body, ResponseCode::NXDomain, TTL, vec![]),
            Habit::Bytes(bytes) => Some((Status::Ok, bytes)),
            Habit::Refuses(status) => Some((status, vec![])),
            Habit::Silent => std::future::pending().await,
            Habit::Late(time) => {
                tokio::time::sleep(time).await;
                answer(&body, code, TTL, truth)
            }
        }
    }
}

fn said(answer: &Answer) -> Vec<String> {
    answer.records().map(|record| record.data.to_string()).collect()
}

fn paths(relays: std::ops::Range<u8>) -> PathSet {
    relays.filter_map(PathId::new).collect()
}

const TRUTH: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

/// Everything that nine relays can say; the answer is the right one, and they are named.
#[tokio::test(start_paused = true)]
async fn nine_relays_that_lie_change_nothing_and_are_named() {
    let elsewhere = question("other.raida.");
    let other_question = answer(&elsewhere.encode(0).unwrap(), ResponseCode::NoError, TTL, vec![address(9)]);
    let (_, other_question) = other_question.unwrap();
    let wrong_id =
        answer(&question("a-b.raida.").encode(1).unwrap(), ResponseCode::NoError, TTL, vec![address(9)]);
    let (_, wrong_id) = wrong_id.unwrap();
    let lies = [
        (Habit::Says(vec![address(66)]), Some(Contrary::Other)),
        (Habit::Says(vec![address(1)]), Some(Contrary::Other)),
        (Habit::Says(vec![address(1), address(2), address(3)]), Some(Contrary::Other)),
        (Habit::Says(vec![]), Some(Contrary::Other)),
        (Habit::Ttl(TTL + 1), Some(Contrary::Other)),
        (Habit::Denies, Some(Contrary::Other)),
        (Habit::Bytes(vec![]), Some(Contrary::Malformed)),
        (Habit::Bytes(vec![0xff; 4096]), Some(Contrary::Malformed)),
        (Habit::Bytes(question("a-b.raida.").encode(0).unwrap()), Some(Contrary::Malformed)),
        (Habit::Bytes(other_question), Some(Contrary::Malformed)),
        (Habit::Bytes(wrong_id), Some(Contrary::Malformed)),
        (Habit::Refuses(Status::Busy), None),
        (Habit::Refuses(Status::NoSuchService), None),
        (Habit::Silent, None),
    ];
    for (lie, named) in lies {
        let relays = Fake::first(9, &lie);
        let agreed = agree(&relays, &question("a-b.raida.")).await.unwrap();
        assert_eq!(said(&agreed.answer), TRUTH, "{lie:?}");
        assert_eq!(agreed.relays, paths(9..25), "{lie:?}");
        let expected: Vec<_> =
            named.map(|how| paths(0..9).iter().map(|path| (path, how)).collect()).unwrap_or_default();
        assert_eq!(agreed.contrary, expected, "{lie:?}");
    }
    // What says the same in another way is the same.
    let twice = Fake::first(9, &Habit::Says(vec![address(2), address(1), address(2)]));
    assert_eq!(agree(&twice, &question("a-b.raida.")).await.unwrap().relays.len(), 25);
}

/// With a tenth there is no answer, least of all a wrong one.
#[tokio::test(start_paused = true)]
async fn ten_relays_that_lie_prevent_an_answer() {
    for lie in [Habit::Says(vec![address(66)]), Habit::Denies, Habit::Bytes(vec![1]), Habit::Silent] {
        let relays = Fake::first(10, &lie);
        let error = agree(&relays, &question("abc.raida.")).await.unwrap_err();
        assert_eq!(error.said().map(|(_, relays)| relays.len()).max(), Some(15), "{error}");
    }
    let mixed = Fake::first(10, &Habit::Says(vec![address(66)]));
    mixed.habits.lock().unwrap()[..3].fill(Habit::Denies);
    mixed.habits.lock().unwrap()[9] = Habit::Refuses(Status::Busy);
    mixed.habits.lock().unwrap()[24] = Habit::Silent;
    let error = agree(&mixed, &question("abc.raida.")).await.unwrap_err().to_string();
    let expected = "no 16 relays answer abc.raida. A alike: 14: 192.0.2.1 for 300 s, 192.0.2.2 for 300 s; 6: 192.0.2.66 \
                    for 300 s; 3: no such name; 1: too much at once; try again later; 1 silent";
    assert_eq!(error, expected);
}

/// Fifteen that say one lie are not believed, with ten that are silent.
#[tokio::test(start_paused = true)]
async fn fifteen_are_not_sixteen() {
    let relays = Fake::first(15, &Habit::Says(vec![address(66)]));
    relays.habits.lock().unwrap()[15..].fill(Habit::Silent);
    let before = Instant::now();
    let error = agree(&relays, &question("abc.raida.")).await.unwrap_err();
    assert_eq!(error.silent(), paths(15..25));
    assert_eq!(before.elapsed(), DEADLINE);
}

/// What a relay says is not taken into a terminal as it is.
#[tokio::test(start_paused = true)]
async fn a_lie_is_shown_escaped_and_short() {
    let text = RData::TXT(TXT::new(vec!["\x1b[2J".repeat(60)]));
    let relays = Fake::first(12, &Habit::Says(vec![text]));
    let error = agree(&relays, &question("abc.raida.")).await.unwrap_err().to_string();
    assert!(!error.contains('\x1b') && error.len() < 400, "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_is_awaited_only_as_long_as_it_matters() {
    let time = async |relays: &Arc<Fake>| {
        let before = Instant::now();
        agree(relays, &question("abc.raida.")).await.map(|agreed| (agreed.relays.len(), before.elapsed()))
    };
    assert_eq!(time(&Fake::new(&[])).await, Ok((25, Duration::ZERO)));
    // Nine that are late cost a moment, ten cost what the tenth needs.
    let second = Duration::from_secs(1);
    assert_eq!(time(&Fake::first(9, &Habit::Late(second))).await, Ok((16, GRACE)));
    assert_eq!(time(&Fake::first(9, &Habit::Late(GRACE / 2))).await, Ok((25, GRACE / 2)));
    assert_eq!(time(&Fake::first(10, &Habit::Late(second))).await, Ok((25, second)));
    // Nobody waits for what cannot come to sixteen any more.
    let hopeless = Fake::first(5, &Habit::Silent);
    hopeless.habits.lock().unwrap()[5..15].fill(Habit::Denies);
    let before = Instant::now();
    assert!(agree(&hopeless, &question("abc.raida.")).await.is_err());
    assert_eq!(before.elapsed(), GRACE);
}

/// A dropped question leaves no task behind that asks on.
#[tokio::test(start_paused = true)]
async fn a_question_that_is_given_up_is_over() {
    let (relays, names) = (Fake::first(25, &Habit::Silent), Names::default());
    let asked = tokio::time::timeout(GRACE, names.resolve(&relays, &question("abc.raida."))).await;
    assert!(asked.is_err());
    tokio::time::sleep(GRACE).await;
    assert_eq!(Arc::strong_count(&relays), 1, "the calls are gone");
    relays.become_honest();
    assert!(names.resolve(&relays, &question("abc.raida.")).await.is_ok());
}

/// What was agreed is asked again when its time is over and not before; the time is the records', and what nine say of it
/// counts for nothing.
#[tokio::test(start_paused = true)]
async fn answers_are_remembered_for_their_time() {
    let (relays, names) = (Fake::first(9, &Habit::Ttl(86_400)), Names::default());
    let asked = question("abc.raida.");
    let first = names.resolve(&relays, &asked).await.unwrap();
    assert_eq!((relays.asked(), first.age(clock::now())), (25, 0));
    *relays.truth.lock().unwrap() = vec![address(3)];
    tokio::time::advance(Duration::from_secs(u64::from(TTL) - 1)).await;
    let again = names.resolve(&relays, &asked).await.unwrap();
    assert_eq!((relays.asked(), again.age(clock::now())), (25, TTL - 1));
    assert_eq!(said(&again.agreed.answer), TRUTH, "stale, and not for long");
    tokio::time::advance(Duration::from_secs(1)).await;
    let fresh = names.resolve(&relays, &asked).await.unwrap();
    assert_eq!(said(&fresh.agreed.answer), ["192.0.2.3"]);
    assert_eq!(relays.asked(), 50);
    assert_eq!(names.contrary()[..10], [2, 2, 2, 2, 2, 2, 2, 2, 2, 0]);
}

/// That there is nothing is remembered too, for a time that no relay chooses; a name that is registered meanwhile is seen.
#[tokio::test(start_paused = true)]
async fn that_there_is_nothing_is_remembered_and_forgotten() {
    let (relays, names) = (Fake::new(&[]), Names::default());
    let truth = std::mem::take(&mut *relays.truth.lock().unwrap());
    let asked = question("new.raida.");
    assert!(!names.resolve(&relays, &asked).await.unwrap().agreed.answer.exists);
    *relays.truth.lock().unwrap() = truth;
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(!names.resolve(&relays, &asked).await.unwrap().agreed.answer.exists);
    assert_eq!(relays.asked(), 25);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(said(&names.resolve(&relays, &asked).await.unwrap().agreed.answer), TRUTH);
    assert_eq!(relays.asked(), 50);
}

/// An error is nobody's answer: the next one asks again.
#[tokio::test(start_paused = true)]
async fn a_disagreement_is_not_remembered() {
    let (relays, names) = (Fake::first(10, &Habit::Denies), Names::default());
    assert!(names.resolve(&relays, &question("abc.raida.")).await.is_err());
    relays.become_honest();
    assert!(names.resolve(&relays, &question("ABC.Raida.")).await.is_ok());
}

/// Whoever asks the same at once asks the relays once.
#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_wait_their_turn() {
    let (relays, names) = (Fake::first(9, &Habit::Silent), Arc::new(Names::default()));
    let mut all = tokio::task::JoinSet::new();
    for i in 0..4 * MAX_ASKING {
        let (relays, names) = (relays.clone(), names.clone());
        let asked = question(&format!("n{:02}x.raida.", i % 40));
        all.spawn(async move { names.resolve(&relays, &asked).await.is_ok() });
    }
    assert!(all.join_all().await.into_iter().all(|ok| ok));
    assert!(relays.asked() <= 25 * 2 * MAX_ASKING as u64, "{} questions", relays.asked());
}

#[test]
fn aliases_lead_to_the_records_and_not_in_circles() {
    let name = |text: &str| rr::Name::from_ascii(text).unwrap();
    let alias = |from: &str, to: &str| Record::from_rdata(name(from), TTL, RData::CNAME(CNAME(name(to))));
    let a = |at: &str, last| Record::from_rdata(name(at), TTL, address(last));
    let asked = question("www.example.");
    let data = |records| Answer::new(true, records).unwrap().data(&asked).len();
    assert_eq!(data(vec![a("www.example.", 1), a("evil.example.", 2)]), 1);
    assert_eq!(
        data(vec![
            alias("www.example.", "b.example."),
            alias("B.example.", "c.example."),
            a("c.example.", 1)
        ]),
        1
    );
    assert_eq!(data(vec![alias("www.example.", "b.example."), alias("b.example.", "www.example.")]), 0);
    let srv = RData::SRV(SRV::new(0, 0, 7, name("www.example.")));
    assert_eq!(data(vec![Record::from_rdata(name("www.example."), TTL, srv)]), 0);
}

#[test]
fn the_start_of_authority_is_that_of_the_protocol() {
    let nothing = Answer::new(false, vec![]).unwrap();
    let query = question("abc.raida.").message(7);
    let message = nothing.respond(&query, 20);
    assert_eq!((message.metadata.id, message.metadata.response_code), (7, ResponseCode::NXDomain));
    let soa = message.authorities[0].to_string();
    assert_eq!(soa, "raida. 40 IN SOA raida. hostmaster.raida. 1 3600 600 86400 60");
}
