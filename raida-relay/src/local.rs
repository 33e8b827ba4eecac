//! All 25 relays of a RAIDA on loopback.

use crate::names::{self, MemoryNames, Terms};
use crate::posts::{MemoryPosts, Posts};
use crate::principals::{MemoryPrincipals, Principals};
use crate::relay::{Known, Limits, Relay, Server, Shape};
use crate::state;
use crate::stats::Stats;
use qsocket_net::Transport;
use qsocket_proto::ids::{PathId, Principal, RELAYS, Role};
use qsocket_proto::names::Reference;
use qsocket_proto::raida_key::{RaidaKey, RelayTable, relay_table};
use qsocket_proto::relay::RegisterError;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;

/// A server as all 25 relays know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalServer {
    /// Who is reached.
    pub principal: Principal,
    /// The address that clients name.
    pub service: SocketAddr,
    /// Where each relay dials.
    pub dial: [SocketAddr; RELAYS],
}

impl LocalServer {
    /// A server that listens for relay *i* at port `base` + *i*. `None` if the port numbers end before.
    pub fn at_base(principal: Principal, base: SocketAddr) -> Option<Self> {
        base.port().checked_add(RELAYS as u16 - 1)?;
        let mut dial = [base; RELAYS];
        for (i, address) in dial.iter_mut().enumerate() {
            address.set_port(base.port() + i as u16);
        }
        Some(Self { principal, service: base, dial })
    }

    fn on(&self, path: PathId) -> Server {
        Server {
            principal: self.principal,
            service: self.service,
            dial: self.dial.get(path.index()).copied(),
        }
    }
}

impl From<(Principal, SocketAddr, [SocketAddr; RELAYS])> for LocalServer {
    fn from((principal, service, dial): (Principal, SocketAddr, [SocketAddr; RELAYS])) -> Self {
        Self { principal, service, dial }
    }
}

/// Settings of a [`LocalRaida`] before it starts.
#[derive(Debug)]
pub struct LocalRaidaBuilder {
    network: u16,
    base_port: Option<u16>,
    limits: Limits,
    transport: Transport,
    handles: Vec<Handle>,
    posts: Vec<Arc<dyn Posts>>,
    terms: Terms,
    registration: bool,
}

impl LocalRaidaBuilder {
    /// The network of the RAIDA; 1 unless set.
    pub fn network(mut self, network: u16) -> Self {
        self.network = network;
        self
    }

    /// Relay *i* listens at port `base` + *i*; unless set, the system chooses free ports.
    pub fn base_port(mut self, base: u16) -> Self {
        self.base_port = Some(base);
        self
    }

    /// Bounds of every relay.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What the relays listen and dial with; TCP unless set.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Runtimes for the relays' tasks, relay *i* on handle *i* modulo their number; unless set, the current one.
    pub fn runtimes(mut self, handles: Vec<Handle>) -> Self {
        self.handles = handles;
        self
    }

    /// Where the relays keep posts of keys, relay *i* in place *i* modulo their number; unless set, each in its memory.
    pub fn posts(mut self, posts: Vec<Arc<dyn Posts>>) -> Self {
        self.posts = posts;
        self
    }

    /// What each relay asks and grants for names, which it keeps in its memory.
    pub fn name_terms(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    /// Whether servers register their addresses over their hops; they may unless set.
    pub fn registration(mut self, allowed: bool) -> Self {
        self.registration = allowed;
        self
    }

    /// Starts 25 relays on 127.0.0.1. `tables` has one table a relay, in order.
    ///
    /// # Errors
    /// When a port cannot be bound, or a server cannot be registered ([`io::ErrorKind::InvalidInput`]).
    ///
    /// # Panics
    /// Outside of a tokio runtime, unless runtimes were given.
    pub fn start<S: Into<LocalServer>>(
        self,
        tables: [RelayTable; RELAYS],
        servers: impl IntoIterator<Item = S>,
    ) -> io::Result<LocalRaida> {
        let Self { network, base_port, limits, transport, handles, posts, terms, registration } = self;
        let handles = if handles.is_empty() { vec![Handle::current()] } else { handles };
        let servers: Vec<LocalServer> = servers.into_iter().map(Into::into).collect();
        let mut seats = Vec::with_capacity(RELAYS);
        for ((path, table), handle) in PathId::all().zip(tables).zip(handles.iter().cycle()) {
            let port = match base_port {
                None => 0,
                Some(base) => base.checked_add(path.get().into()).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidInput, "base port: the 25 ports end above 65535")
                })?,
            };
            let transport = transport.clone();
            // As long as the place: a relay that is started again has what it kept.
            let given = posts.iter().cycle().nth(path.index()).cloned();
            let posts = given.unwrap_or_else(|| Arc::new(MemoryPosts::default()));
            let names = names::Registry::new(Arc::new(MemoryNames::default()), terms.clone());
            let memory = Arc::new(MemoryPrincipals::default());
            let principals = registration.then(|| memory.clone() as Arc<dyn Principals>);
            let shape =
                Shape { path, network, dial_any_address: true, limits, transport, posts, names, principals };
            let table = Arc::new(RwLock::new(table));
            let servers: Vec<Server> = servers.iter().map(|s| s.on(path)).collect();
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into();
            let known = (&servers[..], Known::default());
            let relay = Relay::spawn_shared(shape.clone(), Arc::clone(&table), known, listen, handle)?;
            let (address, handle) = (relay.local_addr(), handle.clone());
            let state = Mutex::new(State { relay: Some(relay), servers });
            seats.push(Seat { shape, principals: memory, address, table, handle, state });
        }
        Ok(LocalRaida { seats })
    }

    /// As [`LocalRaidaBuilder::start`], with the tables that fit `keys`.
    ///
    /// # Errors
    /// As [`LocalRaidaBuilder::start`].
    pub fn start_with_keys<'k, S: Into<LocalServer>>(
        self,
        keys: impl IntoIterator<Item = &'k RaidaKey>,
        servers: impl IntoIterator<Item = S>,
    ) -> io::Result<LocalRaida> {
        let keys: Vec<&RaidaKey> = keys.into_iter().collect();
        let mut paths = PathId::all();
        let tables = [(); RELAYS]
            .map(|()| paths.next().map(|path| relay_table(keys.iter().copied(), path)).unwrap_or_default());
        self.start(tables, servers)
    }
}

/// The place of one relay, which stays when the relay stops.
#[derive(Debug)]
struct Seat {
    shape: Shape,
    principals: Arc<MemoryPrincipals>,
    address: SocketAddr,
    table: Arc<RwLock<RelayTable>>,
    handle: Handle,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    relay: Option<Relay>,
    servers: Vec<Server>,
}

/// 25 relays on 127.0.0.1 in one process, with their tables in memory.
///
/// For tests, examples and closed networks on one machine: it dials loopback and private addresses. Dropping it
/// stops all relays.
#[derive(Debug)]
pub struct LocalRaida {
    /// Always [`RELAYS`] long.
    seats: Vec<Seat>,
}

impl LocalRaida {
    /// Settings to start with.
    pub fn builder() -> LocalRaidaBuilder {
        LocalRaidaBuilder {
            network: 1,
            base_port: None,
            limits: Limits::default(),
            transport: Transport::Tcp,
            handles: Vec::new(),
            posts: Vec::new(),
            terms: Terms::default(),
            registration: true,
        }
    }

    fn seat(&self, path: PathId) -> &Seat {
        &self.seats[path.index()]
    }

    /// Where the relays listen, in order; stopped ones too.
    pub fn addresses(&self) -> [SocketAddr; RELAYS] {
        std::array::from_fn(|i| self.seats[i].address)
    }

    /// Adds a key to the tables of all relays: another principal, or another key of a known one.
    pub fn add_key(&self, key: &RaidaKey) {
        for seat in &self.seats {
            let mut table = seat.table.write().unwrap_or_else(PoisonError::into_inner);
            table.extend(relay_table([key], seat.shape.path));
            drop(table);
            seat.principals.forget_permit((key.principal(), key.role()));
        }
    }

    /// Permits a principal to enrol another one at all relays, as their operators do, for so long.
    pub fn permit(&self, sponsor: Principal, principal: Principal, role: Role, lasts: Duration) {
        let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + lasts;
        for seat in &self.seats {
            seat.principals.permit(sponsor, (principal, role), until.as_secs());
        }
    }

    /// Registers a server with all relays, those that are stopped included. They dial at once: listen first.
    ///
    /// # Errors
    /// [`RegisterError`]; earlier relays keep the registration then.
    pub fn register(&self, server: impl Into<LocalServer>) -> Result<(), RegisterError> {
        let server = server.into();
        for seat in &self.seats {
            let server = server.on(seat.shape.path);
            let mut state = state::lock(&seat.state);
            if let Some(relay) = &state.relay {
                relay.register(server)?;
            }
            if !state.servers.contains(&server) {
                state.servers.push(server);
            }
        }
        Ok(())
    }

    /// The names that a relay keeps, stopped or not: to confirm payments as its operator does, or to let years pass.
    pub fn names(&self, path: PathId) -> &names::Registry {
        &self.seat(path).shape.names
    }

    /// Confirms a payment at all relays that wait for it; returns how many these are.
    ///
    /// # Cancel safety
    /// Relays that have confirmed stay so; it may be called again.
    pub async fn confirm_payment(&self, reference: Reference) -> usize {
        let mut confirmed = 0;
        for path in PathId::all() {
            // Memory does not fail.
            let done = self.names(path).confirm(reference, "local").await;
            confirmed += usize::from(matches!(done, Ok(Ok(_))));
        }
        confirmed
    }

    /// Lets the calendar of all relays be so far ahead of the system's clock, as far as names are concerned.
    pub fn set_names_ahead(&self, ahead: Duration) {
        PathId::all().for_each(|path| self.names(path).set_ahead(ahead));
    }

    /// Stops one relay abruptly: its connections end and its port refuses. Nothing happens if it is stopped.
    ///
    /// # Cancel safety
    /// The relay stops even if this is cancelled; only the wait is lost.
    pub async fn stop_relay(&self, path: PathId) {
        let relay = state::lock(&self.seat(path).state).relay.take();
        if let Some(relay) = relay {
            relay.stop().await;
        }
    }

    /// Starts a stopped relay at the same port, with its table and servers. Nothing happens if it runs.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub fn start_relay(&self, path: PathId) -> io::Result<()> {
        let seat = self.seat(path);
        let mut state = state::lock(&seat.state);
        if state.relay.is_none() {
            let table = Arc::clone(&seat.table);
            let relay = Relay::spawn_shared(
                seat.shape.clone(),
                table,
                (&state.servers, seat.principals.known()),
                seat.address.into(),
                &seat.handle,
            )?;
            state.relay = Some(relay);
        }
        Ok(())
    }

    /// Has a relay hang with all its sockets open; see [`Relay::freeze`].
    pub fn freeze(&self, path: PathId) {
        if let Some(relay) = &state::lock(&self.seat(path).state).relay {
            relay.freeze();
        }
    }

    /// Has a relay go on after [`LocalRaida::freeze`].
    pub fn thaw(&self, path: PathId) {
        if let Some(relay) = &state::lock(&self.seat(path).state).relay {
            relay.thaw();
        }
    }

    /// The counters of one relay; `None` while it is stopped.
    pub fn relay_stats(&self, path: PathId) -> Option<Stats> {
        state::lock(&self.seat(path).state).relay.as_ref().map(Relay::stats)
    }

    /// The counters of all running relays, added up.
    pub fn stats(&self) -> Stats {
        PathId::all().filter_map(|path| self.relay_stats(path)).fold(Stats::default(), |a, b| a + b)
    }

    /// Stops all relays and waits until their sockets are closed.
    ///
    /// # Cancel safety
    /// What was not stopped when this is cancelled stops by being dropped.
    pub async fn stop(self) {
        for path in PathId::all() {
            self.stop_relay(path).await;
        }
    }
}
