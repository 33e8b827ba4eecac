//! What every store of names must do, and what owners and others may. Each store runs all of it.

use super::*;
use qsocket_proto::names::{PaymentKind, PutName, RenewName, YEAR};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

mod dns;

const fn who(serial: u32) -> Principal {
    Principal { network: 1, denomination: 0, serial }
}

pub(super) const ALICE: Principal = who(1);
const BOB: Principal = who(2);
const MALLORY: Principal = who(3);
const DAY: u64 = 24 * 3600;

/// Small, so that they are reached.
pub(super) fn terms() -> Terms {
    Terms { names_per_owner: 3, payments_per_owner: 5, ..Terms::default() }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(super) fn record(label: &str, number: u32, owner: Principal, version: u32, begin: u64) -> Record {
    Record {
        name: name(label),
        number: NonZeroU32::new(number).unwrap(),
        owner,
        version: NonZeroU32::new(version).unwrap(),
        begin,
        ttl: 300,
        server: None,
        service: None,
        signalling: None,
        endpoints: BTreeMap::new(),
    }
}

pub(super) fn put(record: Record, years: u8, reference: u8) -> PutName {
    PutName { record, years, reference: Reference([reference; 16]) }
}

fn renewal(label: &str, years: u8, reference: u8) -> RenewName {
    RenewName { name: name(label), years, reference: Reference([reference; 16]) }
}

/// A registry whose calendar a test turns, and what principals do there.
struct Desk {
    registry: Registry,
    begin: u64,
}

impl Desk {
    fn new(store: Arc<dyn Names>, terms: Terms) -> Self {
        let registry = Registry::new(store, terms);
        let begin = registry.now();
        Self { registry, begin }
    }

    /// So long after the begin of all terms here.
    fn at(&self, seconds: u64) {
        self.registry.set_ahead(Duration::from_secs(seconds));
    }

    fn record(&self, label: &str, number: u32, owner: Principal, version: u32) -> Record {
        record(label, number, owner, version, self.begin)
    }

    async fn put(&self, caller: Principal, put: PutName) -> Result<Standing, Status> {
        self.registry.put(caller, &put, |who| [ALICE, BOB].contains(&who)).await.unwrap()
    }

    async fn register(
        &self,
        label: &str,
        number: u32,
        owner: Principal,
        reference: u8,
    ) -> Result<State, Status> {
        let put = self.put(owner, put(self.record(label, number, owner, 1), 1, reference));
        put.await.map(|standing| standing.state)
    }

    /// A name that is paid for, of Alice.
    async fn with(label: &str, number: u32, reference: u8, store: Arc<dyn Names>) -> Self {
        let desk = Self::new(store, terms());
        assert_eq!(desk.register(label, number, ALICE, reference).await, Ok(State::Pending));
        assert_eq!(desk.confirm(reference).await, Ok(State::Active));
        desk
    }

    async fn renew(&self, caller: Principal, renew: RenewName) -> Result<Standing, Status> {
        self.registry.renew(caller, &renew).await.unwrap()
    }

    async fn withdraw(&self, caller: Principal, label: &str) -> Result<State, Status> {
        self.registry.withdraw(Some(caller), &name(label)).await.unwrap().map(|standing| standing.state)
    }

    async fn confirm(&self, reference: u8) -> Result<State, Status> {
        let done = self.registry.confirm(Reference([reference; 16]), "operator").await.unwrap();
        done.map(|standing| standing.state)
    }

    async fn refuse(&self, reference: u8) -> Result<State, Status> {
        let done = self.registry.refuse(Reference([reference; 16]), "operator").await.unwrap();
        done.map(|standing| standing.state)
    }

    async fn resolves(&self, label: &str) -> Option<Record> {
        let record = self.registry.resolve(&name(label)).await.unwrap();
        if let Some(record) = &record {
            let by_number = self.registry.resolve_number(record.number).await.unwrap();
            assert_eq!(by_number.as_ref(), Some(record));
        }
        record
    }

    async fn state(&self, label: &str) -> State {
        self.registry.describe(MALLORY, &name(label)).await.unwrap().state
    }
}

/// All rules, on stores that are empty.
pub(super) async fn keeps_the_rules<S: Names>(store: impl AsyncFn(u8) -> S) {
    let fresh = async |n| {
        let store: Arc<dyn Names> = Arc::new(store(n).await);
        store
    };
    what_is_not_paid_does_not_resolve(fresh(0).await).await;
    a_stranger_changes_nothing(fresh(1).await).await;
    versions_only_rise(fresh(2).await).await;
    numbers_and_references_are_not_given_twice(fresh(3).await).await;
    quotas_hold(fresh(4).await).await;
    names_lapse_and_are_free_again(fresh(5).await).await;
    names_change_hands_when_they_are_paid_for(fresh(6).await).await;
    payments_are_decided_once(fresh(7).await).await;
    what_is_reserved_stays_so(fresh(8).await).await;
    a_relay_that_was_away_is_told_again(fresh(9).await).await;
    the_ledger_forgets_only_what_nobody_decided(fresh(10).await).await;
}

async fn what_is_not_paid_does_not_resolve(store: Arc<dyn Names>) {
    let desk = Desk::new(store, terms());
    assert_eq!(desk.state("cloudcoin").await, State::Free);
    let asked = desk.put(ALICE, put(desk.record("cloudcoin", 7, ALICE, 1), 3, 1)).await.unwrap();
    let due = |amount| Due { amount, currency: Currency::USD };
    assert_eq!(asked, Standing { state: State::Pending, until: 0, due: due(4000) });
    assert_eq!(desk.resolves("cloudcoin").await, None);
    assert_eq!(desk.registry.resolve_number(NonZeroU32::new(7).unwrap()).await.unwrap(), None);
    // A stranger sees that it is held, and nothing else.
    let seen = desk.registry.describe(MALLORY, &name("cloudcoin")).await.unwrap();
    assert_eq!((seen.state, seen.until, seen.record, seen.payments), (State::Pending, 0, None, vec![]));
    let own = desk.registry.describe(ALICE, &name("cloudcoin")).await.unwrap();
    let [payment] = own.payments[..] else { panic!("one payment") };
    assert_eq!((payment.kind, payment.years, payment.amount), (PaymentKind::Registration, 3, 4000));
    assert_eq!((payment.state, own.fees), (PaymentState::Asked, FEES));
    assert_eq!(own.record, Some(desk.record("cloudcoin", 7, ALICE, 1)));

    assert_eq!(desk.confirm(1).await, Ok(State::Active));
    assert_eq!(desk.resolves("cloudcoin").await, Some(desk.record("cloudcoin", 7, ALICE, 1)));
    let again = desk.put(ALICE, put(desk.record("cloudcoin", 7, ALICE, 1), 3, 1)).await.unwrap();
    assert_eq!(again, Standing { state: State::Active, until: desk.begin + 3 * YEAR, due: due(0) });
    let seen = desk.registry.describe(MALLORY, &name("cloudcoin")).await.unwrap();
    assert_eq!((seen.until, seen.payments), (desk.begin + 3 * YEAR, vec![]));
    assert!(seen.record.is_some());
}

async fn a_stranger_changes_nothing(store: Arc<dyn Names>) {
    let desk = Desk::with("cloudcoin", 7, 1, store).await;
    let before = desk.resolves("cloudcoin").await;
    for version in [1, 2, u32::MAX] {
        let mine = desk.record("cloudcoin", 7, MALLORY, version);
        assert_eq!(desk.put(MALLORY, put(mine, 1, 2)).await, Err(Status::Exists));
        let mut changed = desk.record("cloudcoin", 7, ALICE, version);
        changed.ttl = 61;
        assert_eq!(desk.put(MALLORY, put(changed, 1, 2)).await, Err(Status::Exists));
    }
    assert_eq!(desk.renew(MALLORY, renewal("cloudcoin", 1, 2)).await, Err(Status::NotPermitted));
    assert_eq!(desk.withdraw(MALLORY, "cloudcoin").await, Err(Status::NotPermitted));
    assert_eq!(desk.withdraw(MALLORY, "nothing-here").await, Err(Status::NotFound));
    assert_eq!(desk.renew(MALLORY, renewal("nothing-here", 1, 2)).await, Err(Status::NotFound));
    // In the name of somebody else, where nothing is yet.
    let for_alice = put(desk.record("another", 8, ALICE, 1), 1, 2);
    assert_eq!(desk.put(MALLORY, for_alice).await, Err(Status::NotPermitted));
    // What the owner said, repeated, says nothing new and shows nothing that is owed.
    let renewed = desk.renew(ALICE, renewal("cloudcoin", 2, 3)).await.unwrap();
    assert_eq!(renewed.due.amount, 2000);
    let replay = desk.put(MALLORY, put(desk.record("cloudcoin", 7, ALICE, 1), 1, 1)).await.unwrap();
    assert_eq!((replay.state, replay.due.amount), (State::Active, 0));
    assert_eq!(desk.resolves("cloudcoin").await, before);
    assert_eq!(desk.registry.ledger(Rows::All).await.unwrap().len(), 2);
}

async fn versions_only_rise(store: Arc<dyn Names>) {
    let desk = Desk::with("cloudcoin", 7, 1, store).await;
    let of = |version, ttl| Record { ttl, ..desk.record("cloudcoin", 7, ALICE, version) };
    let tell = async |record: Record| desk.put(ALICE, put(record, 1, 9)).await.map(|standing| standing.state);
    assert_eq!(tell(of(5, 600)).await, Ok(State::Active));
    assert_eq!(tell(of(5, 600)).await, Ok(State::Active), "said again");
    assert_eq!(tell(of(5, 601)).await, Err(Status::Outdated), "the same version says something else");
    assert_eq!(tell(of(4, 600)).await, Err(Status::Outdated));
    assert_eq!(tell(of(1, 300)).await, Err(Status::Outdated), "the first one, replayed");
    assert_eq!(desk.resolves("cloudcoin").await, Some(of(5, 600)));
    // Number and begin belong to the holding.
    assert_eq!(
        tell(Record { number: NonZeroU32::new(8).unwrap(), ..of(6, 600) }).await,
        Err(Status::NotPermitted)
    );
    assert_eq!(tell(Record { begin: desk.begin - 1, ..of(6, 600) }).await, Err(Status::NotPermitted));
    assert_eq!(desk.resolves("cloudcoin").await, Some(of(5, 600)));
    // No change was taken for another payment.
    assert_eq!(desk.registry.ledger(Rows::All).await.unwrap().len(), 1);
}

async fn numbers_and_references_are_not_given_twice(store: Arc<dyn Names>) {
    let desk = Desk::with("cloudcoin", 7, 1, store).await;
    assert_eq!(desk.register("another", 7, BOB, 2).await, Err(Status::Taken), "the number");
    assert_eq!(desk.register("another", 8, BOB, 1).await, Err(Status::Taken), "the reference");
    assert_eq!(desk.register("another", 8, BOB, 2).await, Ok(State::Pending));
    assert_eq!(desk.confirm(2).await, Ok(State::Active));
    assert_eq!(desk.renew(BOB, renewal("another", 1, 1)).await, Err(Status::Taken));
    assert_eq!(desk.renew(BOB, renewal("another", 1, 2)).await, Err(Status::Taken), "it is a registration");
    assert!(desk.renew(BOB, renewal("another", 1, 3)).await.is_ok());
    let again = desk.renew(BOB, renewal("another", 1, 3)).await.unwrap();
    assert_eq!(again.due.amount, 1000, "asked for once");
    assert_eq!(desk.renew(BOB, renewal("another", 2, 3)).await, Err(Status::Taken), "for other years");
    assert_eq!(desk.withdraw(BOB, "another").await, Ok(State::Free));
    assert_eq!(desk.register("third", 8, ALICE, 4).await, Ok(State::Pending), "the number is free again");
}

async fn quotas_hold(store: Arc<dyn Names>) {
    let desk = Desk::new(store, terms());
    for n in 1..=3 {
        assert_eq!(desk.register(&format!("name-{n}"), n.into(), MALLORY, n).await, Ok(State::Pending));
    }
    assert_eq!(desk.register("name-4", 4, MALLORY, 4).await, Err(Status::Quota), "names");
    // Somebody else is not kept out.
    assert_eq!(desk.register("name-4", 4, ALICE, 4).await, Ok(State::Pending));
    // Taken and given back, again and again: the ledger does not grow without end, and others may have the name.
    for n in 5..=6 {
        assert_eq!(desk.withdraw(MALLORY, "name-1").await, Ok(State::Free));
        assert_eq!(desk.register("name-1", 1, MALLORY, n).await, Ok(State::Pending));
    }
    assert_eq!(desk.withdraw(MALLORY, "name-1").await, Ok(State::Free));
    assert_eq!(desk.register("name-1", 1, MALLORY, 7).await, Err(Status::Quota), "payments");
    assert_eq!(desk.register("name-1", 1, ALICE, 7).await, Ok(State::Pending));
    // What was paid counts no more as a payment, and still as a name.
    assert_eq!(desk.confirm(2).await, Ok(State::Active));
    for n in 10..=10 {
        assert!(desk.renew(MALLORY, renewal("name-2", 1, n)).await.is_ok());
    }
    assert_eq!(desk.renew(MALLORY, renewal("name-2", 1, 11)).await, Err(Status::Quota), "payments");
    assert!(desk.renew(MALLORY, renewal("name-2", 1, 10)).await.is_ok(), "nothing new");
    // After the time for payments all of it is forgotten, and room is there again.
    desk.at(14 * DAY);
    assert_eq!(desk.registry.sweep().await.unwrap(), 3, "name-1, name-3 and name-4");
    assert!(desk.renew(MALLORY, renewal("name-2", 1, 11)).await.is_ok());
    assert_eq!(desk.register("name-1", 1, MALLORY, 12).await, Ok(State::Pending));
}

async fn names_lapse_and_are_free_again(store: Arc<dyn Names>) {
    let desk = Desk::new(store, terms());
    assert_eq!(desk.register("cloudcoin", 7, ALICE, 1).await, Ok(State::Pending));
    assert_eq!(
        desk.renew(ALICE, renewal("cloudcoin", 1, 2)).await,
        Err(Status::NotPermitted),
        "the first is not paid"
    );
    // Nobody pays: it is anybody's after the hold, and the payment can no longer be confirmed.
    desk.at(14 * DAY - 1);
    assert_eq!(desk.register("cloudcoin", 8, BOB, 3).await, Err(Status::Exists));
    desk.at(14 * DAY);
    assert_eq!(desk.state("cloudcoin").await, State::Free);
    assert_eq!(desk.confirm(1).await, Err(Status::NotFound));
    assert_eq!(desk.register("cloudcoin", 8, BOB, 3).await, Ok(State::Pending));
    assert_eq!(desk.confirm(3).await, Ok(State::Active));

    // The term is a year from its begin, not from the confirmation.
    desk.at(YEAR - 1);
    assert!(desk.resolves("cloudcoin").await.is_some());
    desk.at(YEAR + 1);
    assert_eq!(desk.resolves("cloudcoin").await, None);
    assert_eq!(desk.state("cloudcoin").await, State::Lapsed);
    assert!(desk.registry.describe(MALLORY, &name("cloudcoin")).await.unwrap().record.is_none());
    assert_eq!(desk.register("cloudcoin", 9, ALICE, 4).await, Err(Status::Malformed).or(Err(Status::Exists)));
    // A renewal in grace counts from the end of the term, once it is confirmed.
    assert_eq!(desk.renew(ALICE, renewal("cloudcoin", 1, 5)).await, Err(Status::NotPermitted));
    let asked = desk.renew(BOB, renewal("cloudcoin", 1, 5)).await.unwrap();
    assert_eq!((asked.state, asked.due.amount), (State::Lapsed, 1000));
    assert_eq!(desk.resolves("cloudcoin").await, None);
    assert_eq!(desk.confirm(5).await, Ok(State::Active));
    assert!(desk.resolves("cloudcoin").await.is_some());
    let seen = desk.registry.describe(BOB, &name("cloudcoin")).await.unwrap();
    assert_eq!(seen.until, desk.begin + 2 * YEAR);
    assert_eq!(seen.payments.len(), 2);

    // And then nobody renews, though it was asked for: from the end of the grace on it is anybody's.
    desk.at(2 * YEAR + 29 * DAY);
    assert_eq!(desk.state("cloudcoin").await, State::Lapsed);
    assert!(desk.renew(BOB, renewal("cloudcoin", 1, 6)).await.is_ok());
    desk.at(2 * YEAR + 30 * DAY + 2);
    assert_eq!(desk.state("cloudcoin").await, State::Free);
    assert_eq!(desk.renew(BOB, renewal("cloudcoin", 1, 7)).await, Err(Status::NotFound));
    let fresh = record("cloudcoin", 7, ALICE, 1, desk.registry.now());
    assert_eq!(desk.put(ALICE, put(fresh, 1, 8)).await.map(|s| s.state), Ok(State::Pending));
    assert_eq!(desk.confirm(6).await, Err(Status::Taken), "a payment for the holding before");
    assert_eq!(desk.resolves("cloudcoin").await, None);
}

async fn names_change_hands_when_they_are_paid_for(store: Arc<dyn Names>) {
    let desk = Desk::new(store, terms());
    assert_eq!(desk.register("cloudcoin", 7, ALICE, 1).await, Ok(State::Pending));
    let to = |owner, version| put(desk.record("cloudcoin", 7, owner, version), 1, 1);
    assert_eq!(desk.put(ALICE, to(BOB, 2)).await, Err(Status::NotPermitted), "unpaid");
    assert_eq!(desk.confirm(1).await, Ok(State::Active));
    assert_eq!(desk.put(ALICE, to(who(99), 2)).await, Err(Status::NotFound), "nobody");
    assert!(desk.renew(ALICE, renewal("cloudcoin", 1, 2)).await.is_ok());
    let moved = desk.put(ALICE, to(BOB, 2)).await.unwrap();
    assert_eq!((moved.state, moved.due.amount), (State::Active, 0));
    assert_eq!(desk.put(ALICE, to(BOB, 2)).await.map(|s| s.state), Ok(State::Active), "said again");
    assert_eq!(desk.put(ALICE, to(ALICE, 3)).await, Err(Status::Exists), "it is no longer hers");
    assert_eq!(desk.withdraw(ALICE, "cloudcoin").await, Err(Status::NotPermitted));
    let seen = desk.registry.describe(BOB, &name("cloudcoin")).await.unwrap();
    assert_eq!(seen.payments, vec![], "payments of the one before are not his to see");
    // What she asked for still lengthens the term of the name.
    assert_eq!(desk.confirm(2).await, Ok(State::Active));
    assert_eq!(desk.registry.describe(BOB, &name("cloudcoin")).await.unwrap().until, desk.begin + 2 * YEAR);
    assert_eq!(desk.put(BOB, to(BOB, 3)).await.map(|s| s.state), Ok(State::Active));
    // Nobody is given more names than he may have.
    for n in 10..=11 {
        assert_eq!(desk.register(&format!("name-{n}"), n.into(), BOB, n).await, Ok(State::Pending));
    }
    assert_eq!(desk.register("extra", 12, ALICE, 12).await, Ok(State::Pending));
    assert_eq!(desk.confirm(12).await, Ok(State::Active));
    let extra = put(desk.record("extra", 12, BOB, 2), 1, 1);
    assert_eq!(desk.put(ALICE, extra).await, Err(Status::Quota));
    // A lapsed name is not passed on either.
    desk.at(YEAR + 1);
    assert_eq!(desk.withdraw(BOB, "cloudcoin").await, Ok(State::Free));
    let extra = put(desk.record("extra", 12, BOB, 2), 1, 1);
    assert_eq!(desk.put(ALICE, extra).await, Err(Status::NotPermitted));
}

async fn payments_are_decided_once(store: Arc<dyn Names>) {
    let desk = Desk::new(store, terms());
    assert_eq!(desk.confirm(1).await, Err(Status::NotFound));
    assert_eq!(desk.register("cloudcoin", 7, ALICE, 1).await, Ok(State::Pending));
    assert_eq!(desk.confirm(1).await, Ok(State::Active));
    assert_eq!(desk.confirm(1).await, Ok(State::Active));
    assert_eq!(desk.refuse(1).await, Err(Status::Taken));
    assert_eq!(
        desk.registry.describe(ALICE, &name("cloudcoin")).await.unwrap().until,
        desk.begin + YEAR,
        "counted once"
    );
    assert!(desk.renew(ALICE, renewal("cloudcoin", 1, 2)).await.is_ok());
    assert_eq!(desk.refuse(2).await, Ok(State::Active));
    assert_eq!(desk.refuse(2).await, Ok(State::Active));
    assert_eq!(desk.confirm(2).await, Err(Status::Taken));
    assert_eq!(desk.registry.describe(ALICE, &name("cloudcoin")).await.unwrap().until, desk.begin + YEAR);
    // A name whose first payment is refused is anybody's.
    assert_eq!(desk.register("another", 8, ALICE, 3).await, Ok(State::Pending));
    assert_eq!(desk.refuse(3).await, Ok(State::Free));
    assert_eq!(desk.state("another").await, State::Free);
    assert_eq!(desk.register("another", 9, BOB, 4).await, Ok(State::Pending));
    // What was given back cannot be confirmed.
    assert_eq!(desk.withdraw(BOB, "another").await, Ok(State::Free));
    assert_eq!(desk.confirm(4).await, Err(Status::Taken));
    let by = |entry: &LedgerEntry| entry.decided.as_ref().map(|decided| decided.by.clone());
    let rows = desk.registry.ledger(Rows::All).await.unwrap();
    let rows: BTreeMap<Reference, _> =
        rows.iter().map(|e| (e.payment.reference, (e.payment.state, by(e)))).collect();
    let expected = [
        (1, PaymentState::Confirmed, "operator"),
        (2, PaymentState::Refused, "operator"),
        (3, PaymentState::Refused, "operator"),
        (4, PaymentState::Refused, ""),
    ];
    let expected = expected.map(|(n, state, by)| (Reference([n; 16]), (state, Some(by.to_owned()))));
    assert_eq!(rows, BTreeMap::from(expected));
    let refused = desk.registry.ledger(Rows::In(PaymentState::Refused)).await.unwrap();
    assert_eq!(refused.len(), 3);
    // The operator may take a name away.
    assert!(desk.registry.withdraw(None, &name("cloudcoin")).await.unwrap().is_ok());
    assert_eq!(desk.resolves("cloudcoin").await, None);
    assert_eq!(desk.registry.list().await.unwrap(), vec![]);
}

async fn what_is_reserved_stays_so(store: Arc<dyn Names>) {
    let reserved = [name("mine")].into();
    let desk = Desk::new(store, Terms { reserved, ..terms() });
    for (n, label) in (1..).zip(["mine", "number", "raida", "localhost", "onion"]) {
        assert_eq!(desk.register(label, n, ALICE, 1).await, Err(Status::NotPermitted), "{label}");
        assert_eq!(desk.state(label).await, State::Reserved);
    }
}

/// A relay that heard nothing of the registration is told the same later, and says the same as the others then.
async fn a_relay_that_was_away_is_told_again(store: Arc<dyn Names>) {
    let desk = Desk::new(store, terms());
    desk.at(200 * DAY);
    let told = desk.put(ALICE, put(desk.record("cloudcoin", 7, ALICE, 9), 1, 1)).await.unwrap();
    assert_eq!(told.state, State::Pending);
    assert_eq!(desk.confirm(1).await, Ok(State::Active));
    assert_eq!(desk.registry.describe(BOB, &name("cloudcoin")).await.unwrap().until, desk.begin + YEAR);
    // Not what is over already, and not what begins far ahead.
    let begun = |begin| put(record("another", 8, ALICE, 1, begin), 1, 2);
    let now = desk.registry.now();
    assert_eq!(desk.put(ALICE, begun(now - YEAR)).await, Err(Status::Malformed));
    assert_eq!(desk.put(ALICE, begun(now + 2 * DAY)).await, Err(Status::Malformed));
    assert!(desk.put(ALICE, begun(now + DAY - 60)).await.is_ok());
}

async fn the_ledger_forgets_only_what_nobody_decided(store: Arc<dyn Names>) {
    let desk = Desk::with("cloudcoin", 7, 1, store).await;
    assert_eq!(desk.register("another", 8, ALICE, 2).await, Ok(State::Pending));
    assert_eq!(desk.register("third", 9, ALICE, 3).await, Ok(State::Pending));
    assert_eq!(desk.refuse(3).await, Ok(State::Free));
    desk.at(14 * DAY);
    assert_eq!(desk.registry.sweep().await.unwrap(), 1);
    let rows = desk.registry.ledger(Rows::All).await.unwrap();
    let mut kept: Vec<_> = rows.iter().map(|entry| entry.payment.reference).collect();
    kept.sort();
    assert_eq!(kept, [Reference([1; 16]), Reference([3; 16])]);
    assert_eq!(desk.registry.sweep().await.unwrap(), 0);
}

#[tokio::test]
async fn memory_keeps_the_rules() {
    keeps_the_rules(async |_| MemoryNames::default()).await;
}
