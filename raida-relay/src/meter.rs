//! Byte quotas of principals, shared by all hops of one.

use crate::state::lock;
use qsocket_proto::ids::{Principal, Role};
use qsocket_proto::raida_key::RelayTable;
use qsocket_proto::relay::{Bucket, Quota};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

type Who = (Principal, Role);

/// What one principal in one role may send.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// So that the many without a quota take no lock.
    limited: AtomicBool,
    bucket: Mutex<Option<Bucket>>,
}

impl Meter {
    /// Takes bytes of the quota, if there is one; false if it is used up.
    pub(crate) fn take(&self, now: Instant, bytes: usize) -> bool {
        if !self.limited.load(Ordering::Relaxed) {
            return true;
        }
        lock(&self.bucket).as_mut().is_none_or(|bucket| bucket.take(now, bytes))
    }

    fn set(&self, now: Instant, rate: Option<u64>) {
        let mut bucket = lock(&self.bucket);
        match (&mut *bucket, rate) {
            (Some(bucket), Some(rate)) => bucket.set_rate(now, rate),
            (bucket, rate) => *bucket = rate.map(|rate| Bucket::new(now, rate)),
        }
        self.limited.store(bucket.is_some(), Ordering::Relaxed);
    }
}

/// The meters of all who had a hop since they were admitted: a new hop brings no new burst.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    rates: BTreeMap<Who, u64>,
    meters: BTreeMap<Who, Arc<Meter>>,
}

impl Meters {
    /// The meter of somebody who has authenticated.
    pub(crate) fn of(&mut self, now: Instant, who: Who) -> Arc<Meter> {
        let rate = self.rates.get(&who).copied();
        let meter = self.meters.entry(who).or_insert_with(|| {
            let meter = Meter::default();
            meter.set(now, rate);
            Arc::new(meter)
        });
        Arc::clone(meter)
    }

    /// Takes over new quotas; who is not in the table is forgotten.
    pub(crate) fn set(&mut self, now: Instant, quotas: &BTreeMap<Who, Quota>, table: &RelayTable) {
        self.rates = quotas.iter().filter_map(|(who, quota)| Some((*who, quota.bytes_per_second?))).collect();
        self.meters.retain(|who, _| table.contains_key(who));
        for (who, meter) in &self.meters {
            meter.set(now, self.rates.get(who).copied());
        }
    }
}
