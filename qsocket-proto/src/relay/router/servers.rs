//! The servers that a relay knows: their addresses, their hop, and when to dial them.

use super::{Action, HopId, is_public_unicast};
use crate::frame::RouteError;
use crate::ids::{PathId, Principal};
use rand_core::CryptoRng;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Addresses that one server may register.
pub const MAX_ADDRESSES: usize = 4;

/// A server is dialled at most this often, however many OPEN frames ask for it.
pub const REDIAL_AT_MOST: Duration = Duration::from_millis(250);

/// The longest wait between two dials on the relay's own account.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// An address at which a server may be reached through this relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What clients ask for: the address in the connection header.
    pub destination: SocketAddr,
    /// Where this relay dials; `None` if the server dials the relay.
    pub dial: Option<SocketAddr>,
}

impl Registration {
    /// A server that listens for relay *i* at port base + *i*, as listeners do unless told otherwise.
    /// `None` if the port numbers end before.
    pub fn at_base(base: SocketAddr, relay: PathId) -> Option<Self> {
        let port = base.port().checked_add(relay.get().into())?;
        Some(Self { destination: base, dial: Some(SocketAddr::new(base.ip(), port)) })
    }
}

/// Why an address is not registered.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RegisterError {
    /// The server holds [`MAX_ADDRESSES`].
    #[error("a server registers at most {MAX_ADDRESSES} addresses: remove one first")]
    TooMany,
    /// The address is not public unicast.
    #[error(
        "{0} is not a public unicast address: allow others in the relay's settings if this network is closed"
    )]
    NotPublic(SocketAddr),
    /// The principal belongs to another RAIDA.
    #[error("the server's network is not {expected}, the relay's")]
    Network {
        /// The relay's network.
        expected: u16,
    },
}

/// Why a server does not get what it wants to register itself.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ClaimError {
    /// Another server has it, by its operator's hand or its own.
    #[error("{0} is registered by another server")]
    Taken(SocketAddr),
    /// With those that the operator registered for it they are more than [`MAX_ADDRESSES`].
    #[error("a server has at most {MAX_ADDRESSES} addresses, those that the operator registered included")]
    TooMany,
    /// The address is not public unicast.
    #[error("{0} is not a public unicast address")]
    NotPublic(SocketAddr),
}

#[derive(Debug, Default)]
struct Server {
    /// By the operator's hand.
    registrations: Vec<Registration>,
    /// By the server's own word. No destination of `registrations` is among them.
    claims: Vec<Registration>,
    hop: Option<HopId>,
    /// A dial was handed out and has not been reported on.
    dialling: bool,
    dialled: Option<Instant>,
    /// When the relay dials on its own account, or because an OPEN came too soon after the last dial.
    due: Option<Instant>,
    failures: u32,
    /// Which registration is dialled next.
    turn: usize,
}

impl Server {
    fn all(&self) -> impl Iterator<Item = &Registration> {
        self.registrations.iter().chain(&self.claims)
    }

    fn is_dialled(&self) -> bool {
        self.all().any(|r| r.dial.is_some())
    }

    fn is_empty(&self) -> bool {
        self.registrations.is_empty() && self.claims.is_empty()
    }

    /// Has it dialled soon if it can be, and that is not under way.
    fn want(&mut self, now: Instant) {
        if !self.is_dialled() {
            self.due = None;
        } else if self.hop.is_none() && !self.dialling {
            self.due.get_or_insert(now);
        }
    }

    /// The dial that is handed out now, if there is an address and nothing is under way.
    fn dial(&mut self, now: Instant, server: Principal) -> Option<Action> {
        if self.hop.is_some() || self.dialling {
            return None;
        }
        let dials: Vec<_> = self.all().map(|r| r.dial).collect();
        let count = dials.len();
        let turns = (0..count).map(|i| (self.turn + i) % count);
        let (at, address) = turns.filter_map(|i| Some((i, dials.get(i).copied().flatten()?))).next()?;
        self.turn = at + 1;
        self.dialling = true;
        self.dialled = Some(now);
        self.due = None;
        Some(Action::Dial { server, address })
    }

    /// Waits a random time up to a bound that doubles (full jitter), so that 25 relays do not come at once.
    fn back_off<R: CryptoRng + ?Sized>(&mut self, now: Instant, rng: &mut R) {
        let bound = REDIAL_AT_MOST.saturating_mul(1 << self.failures.min(16)).min(MAX_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        let span = (bound - REDIAL_AT_MOST).as_millis() as u64;
        let jitter = if span == 0 { 0 } else { rng.next_u64() % (span + 1) };
        self.due = Some(now + REDIAL_AT_MOST + Duration::from_millis(jitter));
    }
}

/// All servers of a relay.
#[derive(Debug, Default)]
pub(super) struct Servers {
    known: BTreeMap<Principal, Server>,
}

impl Servers {
    pub(super) fn register(
        &mut self,
        now: Instant,
        server: Principal,
        registration: Registration,
        any: bool,
    ) -> Result<(), RegisterError> {
        if let Some(dial) = registration.dial
            && !any
            && !is_public_unicast(dial.ip())
        {
            return Err(RegisterError::NotPublic(dial));
        }
        let known = self.known.entry(server).or_default();
        if known.registrations.contains(&registration) {
            return Ok(());
        }
        if known.registrations.len() >= MAX_ADDRESSES {
            return Err(RegisterError::TooMany);
        }
        known.registrations.push(registration);
        // The operator's word stands over the server's own.
        known.claims.retain(|claim| claim.destination != registration.destination);
        if registration.dial.is_some() {
            known.want(now);
        }
        Ok(())
    }

    /// Whether `server` may have these addresses at its own word.
    pub(super) fn may_claim(
        &self,
        server: Principal,
        claims: &[Registration],
        any: bool,
    ) -> Result<(), ClaimError> {
        let operators = self.known.get(&server).map(|known| &*known.registrations).unwrap_or_default();
        let named = |r: &&Registration| operators.iter().all(|o| o.destination != r.destination);
        if operators.len() + claims.iter().filter(named).count() > MAX_ADDRESSES {
            return Err(ClaimError::TooMany);
        }
        for Registration { destination, dial } in claims.iter().filter(named) {
            let addresses = std::iter::once(*destination).chain(*dial);
            for address in addresses {
                if !any && !is_public_unicast(address.ip()) {
                    return Err(ClaimError::NotPublic(address));
                }
            }
            let others = self.known.iter().filter(|(other, _)| **other != server);
            if others.flat_map(|(_, known)| known.all()).any(|r| r.destination == *destination) {
                return Err(ClaimError::Taken(*destination));
            }
        }
        Ok(())
    }

    /// Gives `server` exactly these addresses at its own word, besides those by the operator's hand.
    pub(super) fn set_claims(&mut self, now: Instant, server: Principal, claims: &[Registration]) {
        if claims.is_empty() && !self.known.contains_key(&server) {
            return;
        }
        let known = self.known.entry(server).or_default();
        let operators = &known.registrations;
        let claims = claims.iter().filter(|c| operators.iter().all(|o| o.destination != c.destination));
        known.claims = claims.copied().collect();
        known.want(now);
        if known.is_empty() && known.hop.is_none() {
            self.known.remove(&server);
        }
    }

    pub(super) fn has_claimed(&self, server: Principal, claims: &[Registration]) -> bool {
        let Some(known) = self.known.get(&server) else { return claims.is_empty() };
        let operators = &known.registrations;
        let named = |c: &&Registration| operators.iter().all(|o| o.destination != c.destination);
        // In any order: a store has its own.
        claims.iter().filter(named).count() == known.claims.len()
            && claims.iter().filter(named).all(|c| known.claims.contains(c))
    }

    pub(super) fn claims(&self, server: Principal) -> &[Registration] {
        self.known.get(&server).map(|known| &*known.claims).unwrap_or_default()
    }

    pub(super) fn known(&self) -> Vec<Principal> {
        self.known.keys().copied().collect()
    }

    /// Takes back the registrations of a server that are not among these. A dial under way is reported as ever.
    pub(super) fn keep(&mut self, server: Principal, registrations: &[Registration]) {
        self.retain(server, |known| known.registrations.retain(|r| registrations.contains(r)));
    }

    /// The same for what it registered itself.
    pub(super) fn keep_claims(&mut self, server: Principal, claims: &[Registration]) {
        self.retain(server, |known| known.claims.retain(|c| claims.contains(c)));
    }

    fn retain(&mut self, server: Principal, retain: impl FnOnce(&mut Server)) {
        let Some(known) = self.known.get_mut(&server) else { return };
        retain(known);
        if !known.is_dialled() {
            known.due = None;
        }
        if known.is_empty() && known.hop.is_none() {
            self.known.remove(&server);
        }
    }

    /// Whether `server` registered `destination`.
    pub(super) fn check(&self, server: Principal, destination: SocketAddr) -> Result<(), RouteError> {
        let known = self.known.get(&server).ok_or(RouteError::NoSuchServer)?;
        if known.all().any(|r| r.destination == destination) {
            Ok(())
        } else {
            Err(RouteError::DestinationNotRegistered)
        }
    }

    pub(super) fn hop(&self, server: Principal) -> Option<HopId> {
        self.known.get(&server)?.hop
    }

    /// Notes a server's new hop; returns the one that it replaces.
    pub(super) fn hop_up(&mut self, server: Principal, id: HopId) -> Option<HopId> {
        let known = self.known.entry(server).or_default();
        known.dialling = false;
        known.failures = 0;
        known.due = None;
        known.hop.replace(id)
    }

    pub(super) fn hop_down<R: CryptoRng + ?Sized>(
        &mut self,
        now: Instant,
        server: Principal,
        id: HopId,
        rng: &mut R,
    ) {
        let Some(known) = self.known.get_mut(&server) else { return };
        if known.hop != Some(id) {
            return;
        }
        known.hop = None;
        if known.is_empty() {
            self.known.remove(&server);
        } else if !known.dialling {
            known.back_off(now, rng);
        }
    }

    pub(super) fn dial_failed<R: CryptoRng + ?Sized>(
        &mut self,
        now: Instant,
        server: Principal,
        rng: &mut R,
    ) {
        if let Some(known) = self.known.get_mut(&server)
            && known.dialling
        {
            known.dialling = false;
            // An OPEN that waits is served by the back-off's lower bound at the latest after the next OPEN.
            known.back_off(now, rng);
        }
    }

    /// An OPEN waits for the server: dial at once whatever the back-off, but not more often than allowed.
    pub(super) fn dial_for_open(&mut self, now: Instant, server: Principal) -> Option<Action> {
        let known = self.known.get_mut(&server)?;
        let next = known.dialled.map_or(now, |at| at + REDIAL_AT_MOST);
        if next <= now {
            return known.dial(now, server);
        }
        if !known.dialling {
            known.due = Some(known.due.map_or(next, |due| due.min(next)));
        }
        None
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.known.values().filter(|s| s.hop.is_none() && !s.dialling).filter_map(|s| s.due).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Action> {
        let due = self.known.iter_mut().filter(|(_, s)| s.due.is_some_and(|at| at <= now));
        due.filter_map(|(server, s)| {
            s.due = None;
            s.dial(now, *server)
        })
        .collect()
    }
}
