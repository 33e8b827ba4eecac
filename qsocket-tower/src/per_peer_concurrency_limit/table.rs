//! Who has how many requests in progress.

use qsocket::Principal;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Holds only principals with requests in progress, so there are never more than requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(Arc<Mutex<BTreeMap<Principal, NonZero<usize>>>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Principal, NonZero<usize>>> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request, unless the principal has `max` already.
    pub(super) fn enter(&self, who: Principal, max: usize) -> Option<InProgress> {
        let mut counts = self.lock();
        let before = counts.get(&who).map_or(0, |count| count.get());
        let count = before.checked_add(1).filter(|count| *count <= max).and_then(NonZero::new)?;
        counts.insert(who, count);
        drop(counts);
        Some(InProgress { table: self.clone(), who })
    }

    #[cfg(test)]
    pub(super) fn principals(&self) -> usize {
        self.lock().len()
    }
}

/// A request in progress, until it is dropped.
#[derive(Debug)]
pub struct InProgress {
    table: Table,
    who: Principal,
}

impl Drop for InProgress {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.table.lock().entry(self.who) {
            match NonZero::new(count.get().get() - 1) {
                Some(left) => *count.get_mut() = left,
                None => drop(count.remove()),
            }
        }
    }
}
