//! The names of `.raida` that this relay keeps: who holds which, until when, and what is paid. `docs/protocol.md`,
//! section 19.
//!
//! The rules are functions of facts; a store ([`Names`]) brings the facts and writes what follows, as one
//! step. So memory, SQLite and PostgreSQL cannot differ in a rule.

mod dns;
mod memory;
mod registry;
mod rules;
mod serve;
#[cfg(feature = "daemon")]
mod sql;
#[cfg(test)]
mod tests;

pub use dns::{MAX_QUESTION, Question, Reading, Subject};
pub use memory::MemoryNames;
pub use registry::{Entry, Registry};
pub(crate) use serve::is_about_names;
#[cfg(feature = "daemon")]
pub use sql::SqlNames;

use async_trait::async_trait;
use qsocket_proto::call::Status;
use qsocket_proto::ids::Principal;
use qsocket_proto::names::{
    Currency, Due, Fees, Name, Payment, PaymentState, Record, Reference, Standing, State,
};
use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// What a relay asks for names unless its settings say otherwise.
pub const FEES: Fees = Fees { first: 2000, renewal: 1000, currency: Currency::USD };

/// How long a relay waits for the confirmation of a payment unless its settings say otherwise: two weeks, in which a
/// transfer between banks arrives. A name that nobody paid is free again after it.
pub const HOLD: Duration = Duration::from_secs(14 * 24 * 3600);

/// How long after the end of its term a name is its owner's to renew unless the settings say otherwise.
pub const GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Names that one principal may have at a relay at once, pending ones included, unless the settings say otherwise. Each
/// takes about 2,500 bytes on disk.
pub const NAMES_PER_OWNER: u32 = 64;

/// Payments that one principal may ask for within the time that a relay waits for one, unless the settings say
/// otherwise. It bounds how many names are kept from others without paying, and how fast the ledger grows.
pub const PAYMENTS_PER_OWNER: u32 = 16;

/// What an operator asks for names, and grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// [`FEES`].
    pub fees: Fees,
    /// [`HOLD`].
    pub hold: Duration,
    /// [`GRACE`].
    pub grace: Duration,
    /// Names that nobody may register here, beside [`RESERVED`](qsocket_proto::names::RESERVED).
    pub reserved: BTreeSet<Name>,
    /// [`NAMES_PER_OWNER`].
    pub names_per_owner: u32,
    /// [`PAYMENTS_PER_OWNER`].
    pub payments_per_owner: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            fees: FEES,
            hold: HOLD,
            grace: GRACE,
            reserved: BTreeSet::new(),
            names_per_owner: NAMES_PER_OWNER,
            payments_per_owner: PAYMENTS_PER_OWNER,
        }
    }
}

/// A name that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What its owner says.
    pub record: Record,
    /// Years that were confirmed; 0 while the name is pending.
    pub years: u32,
    /// When it was registered here, in seconds since 1970 by this relay's clock.
    pub asked: u64,
}

impl Held {
    /// When its term ends, in seconds since 1970; 0 while it is pending.
    pub fn until(&self) -> u64 {
        if self.years == 0 { 0 } else { self.record.until(self.years) }
    }

    /// How it stands.
    pub fn state(&self, now: u64, terms: &Terms) -> State {
        if self.free_at(terms) <= now {
            State::Free
        } else if self.years == 0 {
            State::Pending
        } else if self.until() <= now {
            State::Lapsed
        } else {
            State::Active
        }
    }

    /// From when on anybody may register it.
    pub fn free_at(&self, terms: &Terms) -> u64 {
        if self.years == 0 {
            self.asked.saturating_add(terms.hold.as_secs())
        } else {
            self.until().saturating_add(terms.grace.as_secs())
        }
    }
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// What the payer is told of it.
    pub payment: Payment,
    /// For which name.
    pub name: Name,
    /// Who is to pay: the owner when it was asked.
    pub payer: Principal,
    /// When, in seconds since 1970.
    pub asked: u64,
    /// When it was confirmed or refused, and by whom.
    pub decided: Option<Decided>,
}

impl LedgerEntry {
    /// Whether it counts against the quota of its payer.
    fn counts(&self, now: u64, terms: &Terms) -> bool {
        self.payment.state != PaymentState::Confirmed && now < self.asked.saturating_add(terms.hold.as_secs())
    }

    /// Whether it is forgotten: nobody paid in time. What an operator decided stays for good.
    fn is_over(&self, now: u64, terms: &Terms) -> bool {
        self.asked.saturating_add(terms.hold.as_secs()) <= now
            && self.decided.as_ref().is_none_or(|decided| decided.by.is_empty())
    }
}

/// A decision about a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Who: the operator's name. Empty if nobody decided and the name is gone.
    pub by: String,
}

/// What a change is about: of these does a store bring the facts.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Which name.
    pub name: &'a Name,
    /// Who has this number?
    pub number: Option<NonZeroU32>,
    /// How many names has this principal?
    pub owner: Option<Principal>,
    /// How many payments count against the quota of this one?
    pub payer: Option<Principal>,
    /// What is in the ledger under this reference?
    pub reference: Option<Reference>,
}

/// What a store knows about an [`Ask`], with what is over left out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The name, if somebody holds it.
    pub held: Option<Held>,
    /// The name that has the number.
    pub number_of: Option<Name>,
    /// Names of the owner.
    pub names: u32,
    /// Payments of the payer that count against its quota.
    pub payments: u32,
    /// What is in the ledger under the reference.
    pub entry: Option<LedgerEntry>,
    /// Payments for the name that nobody has decided about.
    pub open: Vec<Payment>,
}

/// What a store writes.
#[derive(Clone, Debug)]
pub enum Write {
    /// The name is held so.
    Hold(Box<Held>),
    /// Nobody holds the name; payments for it that nobody has decided about are void.
    Free,
    /// A row at the end of the ledger.
    Ask(Box<LedgerEntry>),
    /// The payment of this reference was decided about.
    Decide(Reference, PaymentState, Decided),
}

/// What follows from facts: how the name stands then, and what is written; or why nothing changes.
pub type Ruling = Result<(Standing, Vec<Write>), Status>;

/// From facts to a ruling.
pub type Rule<'a> = &'a (dyn Fn(&Facts) -> Ruling + Send + Sync);

/// A store failed, and what it said.
#[derive(Debug, thiserror::Error)]
#[error("the store of names: {0}")]
pub struct NamesFailed(pub String);

/// Which rows of the ledger.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Every one.
    All,
    /// Those in a state.
    In(PaymentState),
    /// The one with this reference.
    Reference(Reference),
    /// The newest of one payer for one name.
    Newest {
        /// For which name.
        name: &'a Name,
        /// Of whom.
        payer: Principal,
        /// At most so many.
        most: usize,
    },
}

/// Where a relay keeps names and the ledger of their payments.
///
/// `now` is in seconds since 1970.
///
/// # Cancel safety
/// The relay does not cancel calls; a store may finish what was begun, and nothing is written by halves.
#[async_trait]
pub trait Names: fmt::Debug + Send + Sync + 'static {
    /// Asks `rule` with the facts and writes what it says. That is one step: of two processes that share a store, or two
    /// calls at once, one comes first. What is over at `now` is neither in the facts nor kept beyond a change.
    async fn change(
        &self,
        now: u64,
        terms: &Terms,
        ask: Ask<'_>,
        rule: Rule<'_>,
    ) -> Result<Result<Standing, Status>, NamesFailed>;

    /// The entry of a name, over or not.
    async fn find(&self, name: &Name) -> Result<Option<Held>, NamesFailed>;

    /// The entry of a number, over or not.
    async fn find_number(&self, number: NonZeroU32) -> Result<Option<Held>, NamesFailed>;

    /// All entries in the order of their names, over or not.
    async fn list(&self) -> Result<Vec<Held>, NamesFailed>;

    /// The ledger, newest first.
    async fn ledger(&self, rows: Rows<'_>) -> Result<Vec<LedgerEntry>, NamesFailed>;

    /// Removes what is over; returns how many names became free.
    async fn sweep(&self, now: u64, terms: &Terms) -> Result<u64, NamesFailed>;
}

/// What is still to be paid.
fn due<'a>(open: impl IntoIterator<Item = &'a Payment>, terms: &Terms) -> Due {
    let mut due = Due { amount: 0, currency: terms.fees.currency };
    for payment in open {
        // After a change of the settings older rows may be in another currency, which cannot be added.
        if payment.currency == due.currency {
            due.amount = due.amount.saturating_add(payment.amount);
        }
    }
    due
}
