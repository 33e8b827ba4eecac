//! Names in memory: for relays inside of tests and examples. They are gone with the process.

use super::{Ask, Decided, Facts, Held, LedgerEntry, Names, NamesFailed, Rows, Rule, Terms, Write};
use crate::state::lock;
use async_trait::async_trait;
use qsocket_proto::call::Status;
use qsocket_proto::names::{Name, PaymentState, Standing, State};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Mutex;

/// Names that live as long as this value.
#[derive(Debug, Default)]
pub struct MemoryNames(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    names: BTreeMap<Name, Held>,
    /// Oldest first.
    ledger: Vec<LedgerEntry>,
}

impl Tables {
    fn sweep(&mut self, now: u64, terms: &Terms) -> u64 {
        let before = self.names.len();
        self.names.retain(|_, held| held.state(now, terms) != State::Free);
        let Self { names, ledger } = self;
        void(ledger, now, |name| !names.contains_key(name));
        ledger.retain(|entry| !entry.is_over(now, terms));
        (before - names.len()) as u64
    }

    fn facts(&self, now: u64, terms: &Terms, ask: Ask<'_>) -> Facts {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let owned = |owner| self.names.values().filter(|held| held.record.owner == owner).count();
        let counting =
            |payer| self.ledger.iter().filter(|e| e.payer == payer && e.counts(now, terms)).count();
        let of_number = |number| self.names.values().find(|held| held.record.number == number);
        let open = self.ledger.iter().rev();
        let open = open.filter(|e| e.name == *ask.name && e.payment.state == PaymentState::Asked);
        Facts {
            held: self.names.get(ask.name).cloned(),
            number_of: ask.number.and_then(of_number).map(|held| held.record.name.clone()),
            names: count(ask.owner.map_or(0, owned)),
            payments: count(ask.payer.map_or(0, counting)),
            entry: ask.reference.and_then(|r| self.ledger.iter().find(|e| e.payment.reference == r).cloned()),
            open: open.map(|entry| entry.payment).collect(),
        }
    }

    fn write(&mut self, now: u64, name: &Name, write: Write) {
        match write {
            Write::Hold(held) => {
                self.names.insert(name.clone(), *held);
            }
            Write::Free => {
                self.names.remove(name);
                void(&mut self.ledger, now, |of| of == name);
            }
            Write::Ask(entry) => self.ledger.push(*entry),
            Write::Decide(reference, state, decided) => {
                for entry in self.ledger.iter_mut().filter(|e| e.payment.reference == reference) {
                    entry.payment.state = state;
                    entry.decided = Some(decided.clone());
                }
            }
        }
    }
}

/// Payments for names that nobody holds any more can no longer be confirmed.
fn void(ledger: &mut [LedgerEntry], now: u64, gone: impl Fn(&Name) -> bool) {
    let open = ledger.iter_mut().filter(|entry| entry.payment.state == PaymentState::Asked);
    for entry in open.filter(|entry| gone(&entry.name)) {
        entry.payment.state = PaymentState::Refused;
        entry.decided = Some(Decided { at: now, by: String::new() });
    }
}

#[async_trait]
impl Names for MemoryNames {
    async fn change(
        &self,
        now: u64,
        terms: &Terms,
        ask: Ask<'_>,
        rule: Rule<'_>,
    ) -> Result<Result<Standing, Status>, NamesFailed> {
        let mut tables = lock(&self.0);
        tables.sweep(now, terms);
        Ok(rule(&tables.facts(now, terms, ask)).map(|(standing, writes)| {
            for write in writes {
                tables.write(now, ask.name, write);
            }
            standing
        }))
    }

    async fn find(&self, name: &Name) -> Result<Option<Held>, NamesFailed> {
        Ok(lock(&self.0).names.get(name).cloned())
    }

    async fn find_number(&self, number: NonZeroU32) -> Result<Option<Held>, NamesFailed> {
        Ok(lock(&self.0).names.values().find(|held| held.record.number == number).cloned())
    }

    async fn list(&self) -> Result<Vec<Held>, NamesFailed> {
        Ok(lock(&self.0).names.values().cloned().collect())
    }

    async fn ledger(&self, rows: Rows<'_>) -> Result<Vec<LedgerEntry>, NamesFailed> {
        let mut all: Vec<LedgerEntry> = lock(&self.0)
            .ledger
            .iter()
            .filter(|entry| match rows {
                Rows::All => true,
                Rows::In(state) => entry.payment.state == state,
                Rows::Reference(reference) => entry.payment.reference == reference,
                Rows::Newest { name, payer, .. } => entry.name == *name && entry.payer == payer,
            })
            .cloned()
            .collect();
        all.sort_by_key(|entry| Reverse((entry.asked, entry.payment.reference)));
        if let Rows::Newest { most, .. } = rows {
            all.truncate(most);
        }
        Ok(all)
    }

    async fn sweep(&self, now: u64, terms: &Terms) -> Result<u64, NamesFailed> {
        Ok(lock(&self.0).sweep(now, terms))
    }
}
