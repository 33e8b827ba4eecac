//! For your own tests: 25 relays in memory, whole streams over them, and peers to show to a handler.
//!
//! What runs is the real thing, relays included: every handshake, seal, resend and timer. Only sockets are replaced by
//! memory, so that a test needs no port and can stop the clock. In `Cargo.toml`:
//!
//! ```toml
//! [dev-dependencies]
//! qsocket = { version = "0.1", features = ["testing"] }
//! tokio = { version = "1", features = ["io-util", "macros", "rt", "test-util"] }
//! ```
//!
//! A test of a service, while relays fail and time passes. It takes milliseconds:
//!
//! ```
//! use qsocket::testing::Raida;
//! use qsocket::{PathId, QSocketListener};
//! use std::time::Duration;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! /// What is tested: sends back whatever it reads.
//! async fn echo(listener: QSocketListener) -> std::io::Result<()> {
//!     loop {
//!         let (mut stream, _) = listener.accept().await?;
//!         tokio::spawn(async move {
//!             let (mut reader, mut writer) = stream.split();
//!             tokio::io::copy(&mut reader, &mut writer).await?;
//!             writer.shutdown().await
//!         });
//!     }
//! }
//!
//! // In your test: #[tokio::test(start_paused = true)]
//! #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn main() -> std::io::Result<()> {
//!     let raida = Raida::start()?;
//!     tokio::spawn(echo(raida.listener("echo.example").await?));
//!     let client = raida.client()?;
//!     let mut stream = client.connect("echo.example:7").await?;
//!
//!     // Nine relays stop. What was on its way through them is repaired.
//!     for path in PathId::all().take(9) {
//!         raida.stop_relay(path).await;
//!     }
//!     let mut answer = [0; 5];
//!     stream.write_all(b"first").await?;
//!     stream.read_exact(&mut answer).await?;
//!     assert_eq!(&answer, b"first");
//!
//!     // All are away for half a minute; then the stream goes on.
//!     for path in PathId::all() {
//!         raida.stop_relay(path).await;
//!     }
//!     stream.write_all(b"after").await?;
//!     tokio::time::sleep(Duration::from_secs(30)).await;
//!     for path in PathId::all() {
//!         raida.start_relay(path)?;
//!     }
//!     stream.read_exact(&mut answer).await?;
//!     assert_eq!(&answer, b"after");
//!     Ok(())
//! }
//! ```
//!
//! # Handlers without a network
//! A handler that only asks who is there gets a [`Peer`] from [`peer`]. One that wants a stream gets it from [`pair`].
//! One that is to be asked by somebody in particular is asked by the client of [`Raida::config`]. The module `testing`
//! of `qsocket-tower` has the same for requests of axum and tonic.
//!
//! # Time
//! With `start_paused = true` tokio's clock stands while a task can run, and jumps to the next timer when all wait. So
//! a timeout of a minute takes no time, and a bound on time is exact on a slow machine too. Sealing and copying take
//! no time by that clock: round trips measure zero. Put [`tokio::time::timeout`] around what may not come: hops always
//! have a next timer, so that a clock that jumps finds no end. A stopped clock needs the current-thread runtime; with
//! one that runs, everything here works on any runtime.
//!
//! # What it does not show
//! - **No real network**: no delay, loss, bandwidth or reordering, no addresses that change, no limits of the system.
//!   A stopped relay refuses at once; a frozen one takes bytes until buffers are full. For real sockets between real
//!   relays there is [`Raida::start_on_loopback`].
//! - **Nothing about speed**, and nothing about security: this process knows all 25 numbers of every key.
//! - **No run is the same byte for byte**: keys, ids and the jitter of waits come from the system's random numbers. A
//!   stopped clock bounds the waits, and does not choose them.
//! - **Only tokio's clock stops.** Dates, such as the end of a permission, threads, files and sockets of your own go on
//!   by themselves. A task that waits for these looks idle to a stopped clock, which jumps.
//! - Code that calls [`QSocketStream::connect`] or [`QSocketListener::bind`] reads the configuration of the machine.
//!   Give it an [`Endpoint`] or a [`QSocketListener`] instead.

use crate::config::{Config, Raida as Addresses, RelayAddresses};
use crate::resolve::{ConfigNames, Target};
use crate::{Endpoint, Peer, QSocketListener, QSocketStream};
use qsocket_files::rng::OsRng;
use qsocket_net::Transport;
use qsocket_net::memory::Memory;
use qsocket_proto::ids::{PathId, Principal, Role};
use qsocket_proto::raida_key::{RaidaKey, Strength};
pub use raida_relay::LocalRaida;
use raida_relay::LocalServer;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of the network that every [`Raida`] here has.
pub const NETWORK: u16 = 1;

/// The first serial number that is given to a principal that nobody chose. Those before are free for
/// [`principal`]s of a test's own.
const FIRST_SERIAL: u32 = 1001;

/// The relays, kept by the configuration of whoever uses them.
#[derive(Clone)]
pub(crate) struct Relays(Arc<LocalRaida>);

impl fmt::Debug for Relays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relays")
    }
}

/// 25 relays with fresh keys, for one test.
///
/// They run until this value and every endpoint, listener and stream over them are gone.
///
/// Each principal is a host of its own in memory, so that limits by address count as they would in earnest. On
/// loopback all share one address: at most 64 of them have hops at a time.
pub struct Raida {
    relays: Relays,
    hosts: Hosts,
    state: Mutex<State>,
}

impl fmt::Debug for Raida {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raida").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// Where principals are.
#[derive(Debug)]
enum Hosts {
    Memory(Memory),
    Loopback,
}

#[derive(Default)]
struct State {
    names: ConfigNames,
    /// Who has a key, and in which role.
    principals: BTreeSet<(Principal, Role)>,
    /// How many have one that nobody chose.
    unnamed: u32,
}

impl Raida {
    /// Starts 25 relays in memory, on the current tokio runtime.
    ///
    /// # Errors
    /// None that are known; the result has the form of [`start_on_loopback`](Self::start_on_loopback).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start() -> io::Result<Self> {
        let memory = Memory::new();
        let transport = Transport::Memory(memory.host(Ipv4Addr::LOCALHOST.into()));
        Self::with(Hosts::Memory(memory), transport)
    }

    /// Starts 25 relays on free ports of 127.0.0.1: for what needs real sockets, such as other processes. Use it with
    /// a clock that runs.
    ///
    /// # Errors
    /// When ports are not to be had.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its IO driver.
    pub fn start_on_loopback() -> io::Result<Self> {
        Self::with(Hosts::Loopback, Transport::Tcp)
    }

    fn with(hosts: Hosts, transport: Transport) -> io::Result<Self> {
        let none = (std::iter::empty::<&RaidaKey>(), std::iter::empty::<LocalServer>());
        let relays =
            LocalRaida::builder().network(NETWORK).transport(transport).start_with_keys(none.0, none.1)?;
        Ok(Self { relays: Relays(Arc::new(relays)), hosts, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new client. It knows the listeners that were made before it, by their names.
    ///
    /// # Errors
    /// As [`client_config`](Self::client_config).
    pub fn client(&self) -> io::Result<Endpoint> {
        Endpoint::client(self.client_config()?)
    }

    /// A new server that listens under `name`: clients made from now on connect to `name` at any port, or to the one
    /// in it (`"web.example:80"`).
    ///
    /// # Errors
    /// When `name` is no name or is taken, and as [`server_config`](Self::server_config).
    ///
    /// # Cancel safety
    /// Safe: a dropped attempt took no name.
    pub async fn listener(&self, name: &str) -> io::Result<QSocketListener> {
        self.listener_with(name, self.server_config()?).await
    }

    /// As [`listener`](Self::listener), with a configuration of [`server_config`](Self::server_config) or
    /// [`config`](Self::config) that has been changed: lists, Encryption keys, tuning.
    ///
    /// # Errors
    /// When `name` is no name or is taken, or the role is not that of a server.
    ///
    /// # Cancel safety
    /// As [`listener`](Self::listener).
    pub async fn listener_with(&self, name: &str, config: Config) -> io::Result<QSocketListener> {
        let listener = bind(config).await?;
        if !self.state().names.insert(name, target(&listener)?)? {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name} is taken")));
        }
        self.register(&listener)?;
        Ok(listener)
    }

    fn register(&self, listener: &QSocketListener) -> io::Result<()> {
        let Target { server, address } = target(listener)?;
        self.relays.0.register((server, address, *listener.ports())).map_err(io::Error::other)
    }

    /// The configuration of a new client, to be changed and given to [`Endpoint::client`]. It knows the listeners that
    /// were made before.
    ///
    /// # Errors
    /// When the system's random numbers repeat themselves, which sound ones do not in practice.
    pub fn client_config(&self) -> io::Result<Config> {
        let principal = self.unnamed();
        self.config(principal, Role::Client)
    }

    /// The configuration of a new server, for [`listener_with`](Self::listener_with).
    ///
    /// # Errors
    /// As [`client_config`](Self::client_config).
    pub fn server_config(&self) -> io::Result<Config> {
        let principal = self.unnamed();
        self.config(principal, Role::Server)
    }

    /// The configuration of a principal of your choice, with a fresh key that the relays know: a client that a white
    /// list names, or a server.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use qsocket::testing::{Raida, principal};
    /// use qsocket::{Endpoint, Role};
    ///
    /// let raida = Raida::start()?;
    /// let alice = Endpoint::client(raida.config(principal(7), Role::Client)?)?;
    /// assert_eq!(alice.principal().to_string(), "1.0.7");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the principal is of another network than [`NETWORK`] or has a key for this role already, and as
    /// [`client_config`](Self::client_config).
    pub fn config(&self, principal: Principal, role: Role) -> io::Result<Config> {
        let key =
            RaidaKey::generate(principal, role, Strength::Bits256, &mut OsRng).map_err(io::Error::other)?;
        let relays = RelayAddresses::from_list(&self.relays.0.addresses()).map_err(io::Error::other)?;
        let mut config = Config::new(Addresses { network: NETWORK, relays }, key)?;
        let mut state = self.state();
        if !state.principals.insert((principal, role)) {
            let taken = format!("the {role} {principal} is there already; choose another serial number");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, taken));
        }
        if let Hosts::Memory(memory) = &self.hosts {
            // 10.0.0.1 and on, one for each.
            let host = 0x0a00_0000 + state.principals.len() as u32;
            config.transport = Transport::Memory(memory.host(Ipv4Addr::from_bits(host).into()));
        }
        let names = state.names.clone();
        drop(state);
        self.relays.0.add_key(config.key());
        config.relays = Some(self.relays.clone());
        Ok(config.with_names(names))
    }

    /// A principal that is not there yet.
    fn unnamed(&self) -> Principal {
        let mut state = self.state();
        loop {
            let principal = principal(FIRST_SERIAL.wrapping_add(state.unnamed));
            state.unnamed += 1;
            if [Role::Client, Role::Server].iter().all(|role| !state.principals.contains(&(principal, *role)))
            {
                return principal;
            }
        }
    }

    /// A stream over these relays between a new client and a new server: the client's end and the server's.
    ///
    /// # Errors
    /// As [`Endpoint::connect_to`], when fewer than 16 relays work.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn pair(&self) -> io::Result<(QSocketStream, QSocketStream)> {
        let listener = bind(self.server_config()?).await?;
        self.register(&listener)?;
        let (client, to) = (self.client()?, target(&listener)?);
        let (client, (server, _)) = tokio::try_join!(client.connect_to(to, "pair"), listener.accept())?;
        Ok((client, server))
    }

    /// Stops one relay: its connections end and its address refuses. Nothing happens if it is stopped.
    ///
    /// # Cancel safety
    /// The relay stops even if this is cancelled; only the wait is lost.
    pub async fn stop_relay(&self, path: PathId) {
        self.relays.0.stop_relay(path).await;
    }

    /// Starts a stopped relay at its address. It knows everybody that it knew. Nothing happens if it runs.
    ///
    /// # Errors
    /// On loopback, when its port was taken meanwhile.
    pub fn start_relay(&self, path: PathId) -> io::Result<()> {
        self.relays.0.start_relay(path)
    }

    /// Has a relay hang: it neither reads, writes nor accepts, and its connections stay. Nothing happens if it is
    /// stopped.
    pub fn freeze(&self, path: PathId) {
        self.relays.0.freeze(path);
    }

    /// Has a relay go on after [`freeze`](Self::freeze).
    pub fn thaw(&self, path: PathId) {
        self.relays.0.thaw(path);
    }

    /// What a host of its own connects and listens with, which reaches the relays and is reached by them: for somebody in
    /// between, in the tests of this project.
    #[doc(hidden)]
    pub fn transport(&self, ip: IpAddr) -> Transport {
        match &self.hosts {
            Hosts::Memory(memory) => Transport::Memory(memory.host(ip)),
            Hosts::Loopback => Transport::Tcp,
        }
    }

    /// The relays themselves: their addresses and counters.
    pub fn relays(&self) -> &LocalRaida {
        &self.relays.0
    }
}

/// Listens where the host of the configuration is.
async fn bind(config: Config) -> io::Result<QSocketListener> {
    let ip: IpAddr = match &config.transport {
        Transport::Tcp => Ipv4Addr::LOCALHOST.into(),
        Transport::Memory(host) => host.ip(),
    };
    QSocketListener::bind_with(config, (ip, 0)).await
}

/// Where a listener of a [`Raida`] is found: what [`Endpoint::connect_to`] takes.
///
/// # Errors
/// Those of [`QSocketListener::local_addr`].
pub fn target(listener: &QSocketListener) -> io::Result<Target> {
    Ok(Target { server: listener.endpoint().principal(), address: listener.local_addr()? })
}

/// A connected pair of streams over 25 relays of their own, which run until both are dropped: the client's end and the
/// server's. For relays to be stopped there is [`Raida::pair`].
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut client, mut server) = qsocket::testing::pair().await?;
/// client.write_all(b"hello").await?;
/// client.shutdown().await?;
/// let mut text = String::new();
/// server.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok(()) }
/// ```
///
/// # Errors
/// None that are known; the result has the form of what it does.
///
/// # Cancel safety
/// Safe.
pub async fn pair() -> io::Result<(QSocketStream, QSocketStream)> {
    Raida::start()?.pair().await
}

/// A principal of [`NETWORK`] with this serial number. Those below 1001 are yours to choose; a [`Raida`] gives the
/// others.
pub const fn principal(serial: u32) -> Principal {
    Principal { network: NETWORK, denomination: 0, serial }
}

/// A client as a server sees it on a connection of the usual kind: with ML-KEM and without an Encryption key. For
/// handlers that ask only who is there; the fields can be set.
///
/// ```
/// use qsocket::{Peer, testing};
///
/// fn may_write(peer: &Peer) -> bool {
///     peer.ml_kem && peer.principal == testing::principal(7)
/// }
///
/// let mut peer = testing::peer(7);
/// assert!(may_write(&peer));
/// peer.ml_kem = false;
/// assert!(!may_write(&peer));
/// ```
pub fn peer(serial: u32) -> Peer {
    let mut peer = Peer::new(principal(serial), Role::Client);
    peer.ml_kem = true;
    peer
}
