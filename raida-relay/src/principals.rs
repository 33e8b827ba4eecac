//! What principals tell a relay about themselves over their hops, kept for good: `docs/protocol.md`, section 20.

use crate::Server;
use crate::relay::Known;
use crate::state::lock;
use async_trait::async_trait;
use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
use qsocket_proto::ids::{Principal, Role};
use qsocket_proto::raida_key::{RelayTable, duplicate, duplicate_table, equal};
use qsocket_proto::relay::Registration;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;

/// Takes into use what was kept.
pub type Apply<'a> = &'a (dyn Fn() + Send + Sync);

/// What became of addresses that a server registers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// They are kept, for good even if the process ends now.
    Kept,
    /// Another server has one of them.
    Taken,
    /// With those that the operator registered they are too many.
    TooMany,
    /// The server is not known, or not any more.
    Unknown,
}

/// What became of a number that is to take the place of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// It is kept, for good even if the process ends now.
    Kept,
    /// The principal is not known, or not any more, or no number waits for it.
    Unknown,
}

/// What became of a principal that another one enrols, or of its first hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// It is kept, for good even if the process ends now.
    Kept,
    /// There is no permit of this sponsor for this principal and role, it is over or used up, or the principal is known
    /// by another way; for a hop: another number counts by now.
    NotPermitted,
}

/// Most permits of one relay that are neither used up nor over. Each is a decision of the operator about one principal that is
/// expected within days; more are a list that ran wild.
pub const MAX_PERMITS: usize = 1024;

/// A store failed, and what it said.
#[derive(Debug, thiserror::Error)]
#[error("the store of principals: {0}")]
pub struct PrincipalsFailed(pub String);

/// Where a relay keeps what principals change over their hops.
///
/// Every method is one step: of two processes that share a store, or two calls at once, one comes first. `apply` is
/// called when the change is kept and before the next one, or a [`Roster`](crate::Roster) that was read from the same
/// store, is taken; so what the relay knows is never older than what it said.
///
/// # Cancel safety
/// The relay does not cancel calls; a store may finish what was begun.
#[async_trait]
pub trait Principals: fmt::Debug + Send + Sync + 'static {
    /// Puts the addresses that a server registers itself in the place of those that it registered before.
    ///
    /// # Errors
    /// When the store fails; nothing has changed then.
    async fn register(
        &self,
        server: Principal,
        claims: &[Registration],
        apply: Apply<'_>,
    ) -> Result<Registered, PrincipalsFailed>;

    /// Keeps a number beside the one that a principal has, until it is used; another one that waits is forgotten.
    ///
    /// # Errors
    /// When the store fails; nothing has changed then.
    async fn rotate(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed>;

    /// Puts the number that waits in the place of the other one, which is forgotten. `next` is the one that was used: if
    /// another one waits meanwhile, nothing changes.
    ///
    /// # Errors
    /// When the store fails; nothing has changed then.
    async fn settle(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed>;

    /// Keeps the first number of a principal that `sponsor` enrols, if the operator permits it at `now`, in seconds since
    /// 1970, and the principal is not known by another way. A number that was kept by the same permit and not used is
    /// replaced.
    ///
    /// # Errors
    /// When the store fails; nothing has changed then.
    async fn enrol(
        &self,
        now: u64,
        sponsor: Principal,
        who: (Principal, Role),
        number: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Enrolled, PrincipalsFailed>;

    /// A principal that was enrolled so used its number for the first time: the permit is used up. If another number counts
    /// meanwhile, nothing changes.
    ///
    /// # Errors
    /// When the store fails; nothing has changed then.
    async fn arrive(
        &self,
        who: (Principal, Role),
        number: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Enrolled, PrincipalsFailed>;
}

/// What an operator permits one principal to do, and what it led to.
#[derive(Debug)]
struct Permit {
    sponsor: Principal,
    /// Seconds since 1970.
    until: u64,
    /// The number that was kept and not used.
    drawn: Option<AuthenticityNumber>,
}

/// What principals change, for as long as this value lives: for relays inside of tests and examples.
#[derive(Debug, Default)]
pub struct MemoryPrincipals {
    claims: Mutex<BTreeMap<Principal, Vec<Registration>>>,
    next: Mutex<RelayTable>,
    permits: Mutex<BTreeMap<(Principal, Role), Permit>>,
}

impl MemoryPrincipals {
    /// All that servers registered.
    pub fn claims(&self) -> Vec<Server> {
        let all = lock(&self.claims);
        let of = |(server, claims): (&Principal, &Vec<Registration>)| {
            let server = *server;
            let one =
                move |r: Registration| Server { principal: server, service: r.destination, dial: r.dial };
            claims.iter().copied().map(one).collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    }

    /// Permits `sponsor` to enrol a principal until then, in seconds since 1970; false if there are [`MAX_PERMITS`] already.
    pub fn permit(&self, sponsor: Principal, who: (Principal, Role), until: u64) -> bool {
        let mut permits = lock(&self.permits);
        if !permits.contains_key(&who) && permits.len() >= MAX_PERMITS {
            return false;
        }
        let drawn = permits.remove(&who).and_then(|permit| permit.drawn);
        permits.insert(who, Permit { sponsor, until, drawn });
        true
    }

    /// Takes a permit back, or forgets it when the principal is known by another way. A number that was kept stays.
    pub fn forget_permit(&self, who: (Principal, Role)) {
        lock(&self.permits).remove(&who);
    }

    /// All of it, for a relay that starts again.
    pub(crate) fn known(&self) -> Known {
        Known { claims: self.claims(), next: self.next(), awaited: self.awaited() }
    }

    /// Who was enrolled by another principal and has not been here yet.
    pub(crate) fn awaited(&self) -> BTreeSet<(Principal, Role)> {
        lock(&self.permits).iter().filter(|(_, permit)| permit.drawn.is_some()).map(|(who, _)| *who).collect()
    }

    /// The numbers that wait to be used.
    pub(crate) fn next(&self) -> RelayTable {
        duplicate_table(&lock(&self.next))
    }
}

#[async_trait]
impl Principals for MemoryPrincipals {
    async fn register(
        &self,
        server: Principal,
        claims: &[Registration],
        apply: Apply<'_>,
    ) -> Result<Registered, PrincipalsFailed> {
        let mut all = lock(&self.claims);
        let mut others = all.iter().filter(|(other, _)| **other != server).flat_map(|(_, claims)| claims);
        if others.any(|other| claims.iter().any(|claim| claim.destination == other.destination)) {
            return Ok(Registered::Taken);
        }
        all.insert(server, claims.to_vec());
        apply();
        Ok(Registered::Kept)
    }

    async fn rotate(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed> {
        let mut all = lock(&self.next);
        all.insert(who, duplicate(next));
        apply();
        Ok(Rotated::Kept)
    }

    async fn settle(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Rotated, PrincipalsFailed> {
        let mut all = lock(&self.next);
        if !all.get(&who).is_some_and(|n| equal(n, next)) {
            return Ok(Rotated::Unknown);
        }
        all.remove(&who);
        apply();
        Ok(Rotated::Kept)
    }

    async fn enrol(
        &self,
        now: u64,
        sponsor: Principal,
        who: (Principal, Role),
        number: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Enrolled, PrincipalsFailed> {
        let mut permits = lock(&self.permits);
        let Some(permit) = permits.get_mut(&who).filter(|p| p.sponsor == sponsor && now < p.until) else {
            return Ok(Enrolled::NotPermitted);
        };
        permit.drawn = Some(duplicate(number));
        apply();
        Ok(Enrolled::Kept)
    }

    async fn arrive(
        &self,
        who: (Principal, Role),
        number: &AuthenticityNumber,
        apply: Apply<'_>,
    ) -> Result<Enrolled, PrincipalsFailed> {
        let mut permits = lock(&self.permits);
        let drawn = permits.get(&who).and_then(|permit| permit.drawn.as_ref());
        if drawn.is_some_and(|drawn| !equal(drawn, number)) {
            return Ok(Enrolled::NotPermitted);
        }
        permits.remove(&who);
        apply();
        Ok(Enrolled::Kept)
    }
}
