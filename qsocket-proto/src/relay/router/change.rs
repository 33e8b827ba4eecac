//! What an operator changes while a relay runs: who is known, quotas, the end.

use super::{Action, ClaimError, HopId, Registration, Router};
use crate::frame::CloseReason;
use crate::ids::{Principal, Role};
use crate::relay::{MAX_CONNECTIONS_PER_CLIENT, MAX_ROUTES, Quota};
use rand_core::CryptoRng;
use std::collections::BTreeMap;
use std::time::Instant;

impl Router {
    /// Sets what clients may hold; who is not named has the default. Routes that stand stay.
    pub fn set_quotas(&mut self, quotas: &BTreeMap<(Principal, Role), Quota>) {
        self.most_routes = quotas
            .iter()
            .filter(|((_, role), _)| *role == Role::Client)
            .map(|((client, _), quota)| (*client, quota.routes.min(MAX_ROUTES)))
            .collect();
    }

    pub(super) fn most_routes(&self, client: Principal) -> usize {
        self.most_routes.get(&client).copied().unwrap_or(MAX_CONNECTIONS_PER_CLIENT)
    }

    /// Gives a server the addresses that it registers itself, in the place of those that it registered before. Those by
    /// the operator's hand stay, and count for the bound.
    ///
    /// # Errors
    /// The first address that it may not have; nothing has changed then.
    pub fn claim(
        &mut self,
        now: Instant,
        server: Principal,
        claims: &[Registration],
    ) -> Result<(), ClaimError> {
        self.may_claim(server, claims)?;
        self.servers.set_claims(now, server, claims);
        Ok(())
    }

    /// Whether [`Router::claim`] would succeed.
    ///
    /// # Errors
    /// As [`Router::claim`].
    pub fn may_claim(&self, server: Principal, claims: &[Registration]) -> Result<(), ClaimError> {
        self.servers.may_claim(server, claims, self.config.dial_any_address)
    }

    /// Whether a server has these addresses already, at its own word or by the operator's hand.
    pub fn has_claimed(&self, server: Principal, claims: &[Registration]) -> bool {
        self.servers.has_claimed(server, claims)
    }

    /// What a server registered itself.
    pub fn claims(&self, server: Principal) -> &[Registration] {
        self.servers.claims(server)
    }

    /// Has exactly these addresses at the word of their servers. What a server may not have, because an operator gave
    /// it away meanwhile, is left out, with all that this server registered.
    pub fn set_claims(&mut self, now: Instant, claims: &BTreeMap<Principal, Vec<Registration>>) {
        // What one gives up another may have got.
        for server in self.servers.known() {
            self.servers.keep_claims(server, claims.get(&server).map_or(&[], Vec::as_slice));
        }
        for (server, claims) in claims {
            if self.claim(now, *server, claims).is_err() {
                self.servers.set_claims(now, *server, &[]);
            }
        }
    }

    /// Takes back all addresses that a server has by its operator's hand: no client reaches it there from now on, and the
    /// relay dials it there no more. Its hop and its routes stay; [`Router::expel`] ends them.
    pub fn unregister(&mut self, server: Principal) {
        self.servers.keep(server, &[]);
    }

    /// Has exactly these servers at exactly these addresses, as [`Router::register`] and [`Router::unregister`] do.
    ///
    /// # Errors
    /// The first registration that was refused; the others are done.
    pub fn set_servers(
        &mut self,
        now: Instant,
        servers: &BTreeMap<Principal, Vec<Registration>>,
    ) -> Result<(), super::RegisterError> {
        for server in self.servers.known() {
            self.servers.keep(server, servers.get(&server).map_or(&[], Vec::as_slice));
        }
        let mut done = Ok(());
        for (server, registrations) in servers {
            for registration in registrations {
                let one = self.register(now, *server, *registration);
                done = done.and(one);
            }
        }
        done
    }

    /// Closes all hops of a principal in one role and ends their routes.
    ///
    /// The peer gets CLOSE with reason done, which any end of a relay gives: it does not learn why.
    pub fn expel<R: CryptoRng + ?Sized>(
        &mut self,
        now: Instant,
        principal: Principal,
        role: Role,
        rng: &mut R,
    ) {
        let theirs = |info: super::HopInfo| info.principal == principal && info.role == role;
        let hops: Vec<HopId> =
            self.hops.iter().filter(|(_, hop)| theirs(hop.info)).map(|(id, _)| *id).collect();
        for hop in hops {
            self.actions.push_back(Action::Close { hop, reason: CloseReason::Done });
            self.hop_down(now, hop, rng);
        }
    }

    /// Begins the end: every hop is closed with reason done once what waits for it is out, and so is every later
    /// one. Nobody is dialled any more.
    pub fn drain(&mut self) {
        self.draining = true;
        self.actions.retain(|action| !matches!(action, Action::Dial { .. }));
        for hop in std::mem::take(&mut self.hops).into_keys() {
            self.actions.push_back(Action::Close { hop, reason: CloseReason::Done });
        }
        self.servers = super::Servers::default();
        self.held.clear();
        self.waiting.clear();
        self.waiting_bytes = 0;
    }
}
