//! The names of one relay: a store, its operator's terms, and the clock.

use super::{Ask, Held, LedgerEntry, MemoryNames, Names, NamesFailed, Rows, Terms, rules};
use qsocket_proto::call::Status;
use qsocket_proto::ids::Principal;
use qsocket_proto::names::{
    Description, MAX_PAYMENTS, Name, PutName, Record, Reference, RenewName, Standing, State,
};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The names that one relay keeps. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Arc<dyn Names>,
    terms: Arc<Terms>,
    /// Seconds before the system's clock.
    ahead: Arc<AtomicU64>,
}

impl Default for Registry {
    /// Names in memory, with the terms that a relay has unless its settings say otherwise.
    fn default() -> Self {
        Self::new(Arc::new(MemoryNames::default()), Terms::default())
    }
}

/// What happened, or why it did not: the outer error is the store's trouble, the inner one what the caller is told.
type Done = Result<Result<Standing, Status>, NamesFailed>;

/// A name as the relay's operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who holds it.
    pub held: Held,
    /// How it stands.
    pub state: State,
    /// When it is anybody's, in seconds since 1970.
    pub free_at: u64,
}

impl Registry {
    /// Names in a store.
    pub fn new(store: Arc<dyn Names>, terms: Terms) -> Self {
        Self { store, terms: Arc::new(terms), ahead: Arc::default() }
    }

    /// What the operator asks and grants.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Lets the calendar of this registry be so far ahead of the system's clock: for tests, in which years pass.
    pub fn set_ahead(&self, ahead: Duration) {
        self.ahead.store(ahead.as_secs(), Ordering::Relaxed);
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        now.saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Registers a name, or changes one, for who calls. `knows` says whether the relay knows a principal.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// As [`Names`].
    pub async fn put(&self, caller: Principal, put: &PutName, knows: impl Fn(Principal) -> bool) -> Done {
        let (now, terms, record) = (self.now(), &*self.terms, &put.record);
        let knows_owner = record.owner == caller || knows(record.owner);
        let ask = Ask {
            name: &record.name,
            number: Some(record.number),
            owner: Some(record.owner),
            payer: Some(caller),
            reference: Some(put.reference),
        };
        let rule = |facts: &_| rules::put(now, terms, caller, put, knows_owner, facts);
        self.store.change(now, terms, ask, &rule).await
    }

    /// Asks for a longer term.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// As [`Names`].
    pub async fn renew(&self, caller: Principal, renew: &RenewName) -> Done {
        let (now, terms) = (self.now(), &*self.terms);
        let (payer, reference) = (Some(caller), Some(renew.reference));
        let ask = Ask { name: &renew.name, number: None, owner: None, payer, reference };
        let rule = |facts: &_| rules::renew(now, terms, caller, renew, facts);
        self.store.change(now, terms, ask, &rule).await
    }

    /// Frees a name, for its owner, or for the operator if `caller` is `None`.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// As [`Names`].
    pub async fn withdraw(&self, caller: Option<Principal>, name: &Name) -> Done {
        let terms = &*self.terms;
        let ask = Ask { name, number: None, owner: None, payer: None, reference: None };
        self.store.change(self.now(), terms, ask, &|facts: &_| rules::withdraw(terms, caller, facts)).await
    }

    /// Confirms a payment.
    ///
    /// [`Status::NotFound`]: there is none of this reference that could be. [`Status::Taken`]: it was refused.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// As [`Names`].
    pub async fn confirm(&self, reference: Reference, by: &str) -> Done {
        self.decide(reference, true, by).await
    }

    /// Refuses a payment; a name that waited for it is free.
    ///
    /// [`Status::NotFound`]: there is none of this reference that could be. [`Status::Taken`]: it was confirmed.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// As [`Names`].
    pub async fn refuse(&self, reference: Reference, by: &str) -> Done {
        self.decide(reference, false, by).await
    }

    async fn decide(&self, reference: Reference, arrived: bool, by: &str) -> Done {
        let (now, terms) = (self.now(), &*self.terms);
        // Empty stands for nobody.
        let by = if by.is_empty() { "operator" } else { by };
        let Some(LedgerEntry { name, .. }) = self.payment(reference).await? else {
            return Ok(Err(Status::NotFound));
        };
        let ask = Ask { name: &name, number: None, owner: None, payer: None, reference: Some(reference) };
        let rule = |facts: &_| rules::decide(now, terms, reference, arrived, by, facts);
        self.store.change(now, terms, ask, &rule).await
    }

    /// The record of a name that resolves.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn resolve(&self, name: &Name) -> Result<Option<Record>, NamesFailed> {
        Ok(self.active(self.store.find(name).await?))
    }

    /// The record of the name that has a number, if it resolves.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn resolve_number(&self, number: NonZeroU32) -> Result<Option<Record>, NamesFailed> {
        Ok(self.active(self.store.find_number(number).await?))
    }

    fn active(&self, held: Option<Held>) -> Option<Record> {
        held.filter(|held| held.state(self.now(), &self.terms) == State::Active).map(|held| held.record)
    }

    /// How a name stands, as far as who calls may know.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn describe(&self, caller: Principal, name: &Name) -> Result<Description, NamesFailed> {
        let (now, terms) = (self.now(), &*self.terms);
        let held = self.store.find(name).await?.filter(|held| held.state(now, terms) != State::Free);
        let Some(held) = held else {
            let state = if rules::is_reserved(name, terms) { State::Reserved } else { State::Free };
            return Ok(Description { state, until: 0, fees: terms.fees, record: None, payments: Vec::new() });
        };
        let owner = held.record.owner == caller;
        let (state, until) = (held.state(now, terms), held.until());
        let mut payments = Vec::new();
        if owner {
            let rows = Rows::Newest { name, payer: caller, most: MAX_PAYMENTS };
            let rows = self.store.ledger(rows).await?.into_iter();
            payments = rows.filter(|row| !row.is_over(now, terms)).map(|row| row.payment).collect();
        }
        let record = (owner || state == State::Active).then_some(held.record);
        Ok(Description { state, until, fees: terms.fees, record, payments })
    }

    /// All names that somebody holds, in order.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list(&self) -> Result<Vec<Entry>, NamesFailed> {
        Ok(self.store.list().await?.into_iter().filter_map(|held| self.entry(held)).collect())
    }

    /// A name that somebody holds.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn find(&self, name: &Name) -> Result<Option<Entry>, NamesFailed> {
        Ok(self.store.find(name).await?.and_then(|held| self.entry(held)))
    }

    fn entry(&self, held: Held) -> Option<Entry> {
        let (state, free_at) = (held.state(self.now(), &self.terms), held.free_at(&self.terms));
        (state != State::Free).then_some(Entry { held, state, free_at })
    }

    /// Rows of the ledger, newest first.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ledger(&self, rows: Rows<'_>) -> Result<Vec<LedgerEntry>, NamesFailed> {
        let now = self.now();
        let rows = self.store.ledger(rows).await?.into_iter();
        Ok(rows.filter(|row| !row.is_over(now, &self.terms)).collect())
    }

    /// The row of a payment.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn payment(&self, reference: Reference) -> Result<Option<LedgerEntry>, NamesFailed> {
        Ok(self.ledger(Rows::Reference(reference)).await?.into_iter().next())
    }

    /// Removes what is over; returns how many names became free.
    ///
    /// # Errors
    /// When the store fails.
    ///
    /// # Cancel safety
    /// As [`Names`].
    pub async fn sweep(&self) -> Result<u64, NamesFailed> {
        self.store.sweep(self.now(), &self.terms).await
    }
}
