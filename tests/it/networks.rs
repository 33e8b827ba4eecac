//! Several RAIDAs at once: which one a stream runs in, and that nothing of one counts in another.

use qsocket::access::AccessList;
use qsocket::config::{Config, Listen, Membership, Raida, RelayAddresses};
use qsocket::keys::{EncryptionKey, KeyId, SharedKey};
use qsocket::provision::Provision;
use qsocket::resolve::{ConfigNames, Target, Targets};
use qsocket::{
    AuthenticityNumber, ConnectError, Endpoint, PathId, Principal, QSocketListener, QSocketStream, RaidaKey,
    Refusal, Role, refusal,
};
use raida_relay::{LocalRaida, LocalServer};
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// After this a test counts as hung. Generous: the machine may be slow and shared.
const HANG: Duration = Duration::from_secs(240);

/// A RAIDA with keys for one client and for servers.
struct Net {
    number: u16,
    local: LocalRaida,
    keys: Provision,
}

impl Net {
    fn start(number: u16) -> io::Result<Self> {
        let keys = Provision::generate(number, 1, 2).map_err(io::Error::other)?;
        let local = LocalRaida::builder()
            .network(number)
            .start_with_keys(keys.keys(), std::iter::empty::<LocalServer>())?;
        Ok(Self { number, local, keys })
    }

    fn raida(&self) -> Raida {
        let relays = RelayAddresses::from_list(&self.local.addresses()).expect("25 addresses");
        Raida { network: self.number, relays }
    }

    fn membership(&self, key: &RaidaKey) -> Membership {
        Membership::new(self.raida(), copy(key, key.principal())).expect("a key of this network")
    }

    /// The client, x.0.1 in every network.
    fn client(&self) -> Membership {
        self.membership(&self.keys.clients[0])
    }

    /// Server x.0.2 or x.0.3.
    fn server(&self, index: usize) -> Membership {
        self.membership(&self.keys.servers[index])
    }
}

/// Waits until the relays have their 25 hops to a server.
async fn server_hops(net: &Net) -> io::Result<()> {
    let up = async {
        while net.local.stats().hops != PathId::all().count() {
            tokio::task::yield_now().await;
        }
    };
    Ok(timeout(HANG, up).await?)
}

/// The numbers of a key under a name of choice.
fn copy(key: &RaidaKey, principal: Principal) -> RaidaKey {
    let numbers = PathId::all().map(|p| AuthenticityNumber::new(key.number(p).expose()).expect("its length"));
    RaidaKey::new(principal, key.role(), numbers.collect()).expect("as good as the first")
}

/// A configuration for networks in this order; servers listen on free ports.
fn config(memberships: impl IntoIterator<Item = Membership>) -> Config {
    let mut memberships = memberships.into_iter();
    let mut config = Config::from(memberships.next().expect("at least one"));
    for mut membership in memberships {
        if membership.role() == Role::Server {
            membership = membership.with_listen("127.0.0.1:0".parse().expect("an address"));
        }
        config = config.with_membership(membership).expect("they go together");
    }
    config
}

/// Starts a server and registers it in each of its networks.
async fn listen(config: Config, nets: &[&Net]) -> io::Result<(QSocketListener, Targets)> {
    let principals: Vec<_> = config.memberships().map(Membership::principal).collect();
    let listener = QSocketListener::bind_with(config, "127.0.0.1:0").await?;
    let mut targets = Vec::new();
    for server in principals {
        let net = nets.iter().find(|n| n.number == server.network).expect("one of them");
        let address = listener.local_addr_in(server.network).expect("it is served");
        let ports = *listener.ports_in(server.network).expect("it is served");
        net.local.register((server, address, ports)).map_err(io::Error::other)?;
        targets.push(Target { server, address });
    }
    Ok((listener, targets.into_iter().collect()))
}

/// A stream with both its ends.
async fn pair(
    client: &Endpoint,
    to: &Targets,
    listener: &QSocketListener,
) -> io::Result<(QSocketStream, QSocketStream)> {
    let both = async { tokio::try_join!(client.connect_to(to.clone(), "test"), listener.accept()) };
    let (client, (server, _)) = timeout(HANG, both).await??;
    Ok((client, server))
}

/// The network of a stream, on which both ends agree.
fn network((client, server): &(QSocketStream, QSocketStream)) -> u16 {
    let (there, here) = (client.peer().principal.network, server.peer().principal.network);
    assert_eq!(there, here);
    here
}

fn cause(error: &io::Error) -> &ConnectError {
    error.get_ref().and_then(|e| e.downcast_ref()).unwrap_or_else(|| panic!("{error}"))
}

#[tokio::test]
async fn the_first_network_of_the_caller_that_the_server_is_in_is_used() -> io::Result<()> {
    let (one, two, three) = (Net::start(1)?, Net::start(2)?, Net::start(3)?);
    let nets = [&one, &two, &three];
    let (in_two, to_two) = listen(config([two.server(1)]), &nets).await?;
    let (in_both, to_both) = listen(config([one.server(0), two.server(0)]), &nets).await?;
    let (_in_three, to_three) = listen(config([three.server(0)]), &nets).await?;
    // The order in which the name lists the server's networks has no say.
    let reversed: Targets = to_both.as_slice().iter().rev().copied().collect();
    for (order, preferred) in [([&one, &two], 1), ([&two, &one], 2)] {
        let client = Endpoint::client(config(order.map(Net::client)))?;
        assert_eq!(network(&pair(&client, &to_two, &in_two).await?), 2);
        assert_eq!(network(&pair(&client, &to_both, &in_both).await?), preferred);
        assert_eq!(network(&pair(&client, &reversed, &in_both).await?), preferred);
        let routes = nets.map(|n| n.local.stats().routes);

        let mut names = ConfigNames::new();
        names.insert("three.example", to_three.clone()).map_err(io::Error::other)?;
        let error = client.connect_with("three.example:7", &names).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
        let ConnectError::NoCommonNetwork { ours, theirs } = cause(&error) else { panic!("{error}") };
        assert_eq!((&ours[..], &theirs[..]), (&order.map(|n| n.number)[..], &[3][..]));
        assert!(error.to_string().contains("add to the configuration a [[raida]]"), "{error}");
        assert_eq!(nets.map(|n| n.local.stats().routes), routes, "nothing was sent");
    }
    Ok(())
}

#[tokio::test]
async fn a_network_that_fails_is_not_replaced_by_a_less_preferred_one() -> io::Result<()> {
    let (one, two) = (Net::start(1)?, Net::start(2)?);
    let (listener, to) = listen(config([one.server(0), two.server(0)]), &[&one, &two]).await?;
    let client = Endpoint::client(config([one.client(), two.client()]))?;
    timeout(HANG, client.hops_up(25)).await?;
    // Ten relays: what an attacker may do to one network.
    for path in PathId::all().take(10) {
        one.local.stop_relay(path).await;
    }
    let error = timeout(HANG, client.connect_to(to.clone(), "test")).await?.unwrap_err();
    let ConnectError::Failed { network: 1, .. } = cause(&error) else { panic!("{error}") };
    assert!(error.to_string().contains("network 1: 15 of 25 hops stand"), "{error}");
    assert_eq!(two.local.stats().routes, 0, "the other network was not tried");
    // A program may choose it.
    let client = client.in_network(2).expect("it has a key for it");
    assert_eq!(network(&pair(&client, &to, &listener).await?), 2);
    Ok(())
}

#[tokio::test]
async fn hops_of_further_networks_are_built_with_the_first_stream() -> io::Result<()> {
    let (one, two) = (Net::start(1)?, Net::start(2)?);
    let (listener, to) = listen(config([one.server(0), two.server(0)]), &[&one, &two]).await?;
    server_hops(&two).await?;
    let client = Endpoint::client(config([one.client(), two.client()]))?;
    timeout(HANG, client.hops_up(25)).await?;
    let there = client.in_network(2).expect("it has a key for it");
    assert_eq!((client.networks(), there.networks()), (vec![1, 2], vec![2]));
    assert!(client.in_network(3).is_none() && there.in_network(1).is_none());
    assert_eq!(client.principal().to_string(), "1.0.1");
    assert_eq!(there.principal().to_string(), "2.0.1");
    // Many round trips in the first network: time enough for handshakes in the second, if there were any.
    let (mut here, mut server) = pair(&client, &to, &listener).await?;
    for _ in 0..200 {
        here.write_all(b"x").await?;
        server.read_exact(&mut [0]).await?;
        server.write_all(b"y").await?;
        here.read_exact(&mut [0]).await?;
    }
    assert!(there.hops().up.is_empty());
    assert_eq!(two.local.stats().hops, 25, "its relays do not know that this client is up");
    assert_eq!(network(&pair(&there, &to, &listener).await?), 2);
    timeout(HANG, there.hops_up(25)).await?;
    Ok(())
}

#[tokio::test]
async fn streams_run_in_both_networks_at_the_same_time() -> io::Result<()> {
    const EACH: usize = 3 << 20;
    let (one, two) = (Net::start(1)?, Net::start(2)?);
    let (listener, to) = listen(config([one.server(0), two.server(0)]), &[&one, &two]).await?;
    let client = Endpoint::client(config([one.client(), two.client()]))?;
    let case = async {
        let sending = [1, 2].map(|number| {
            let (client, to) = (client.in_network(number), to.clone());
            tokio::spawn(async move {
                let mut stream = client.expect("it has a key for it").connect_to(to, "bulk").await?;
                stream.write_all(&vec![number as u8; EACH]).await?;
                stream.shutdown().await
            })
        });
        // Both are accepted before either is read.
        let mut streams = [listener.accept().await?.0, listener.accept().await?.0];
        streams.sort_by_key(|s| s.peer().principal);
        let [first, second] = &mut streams;
        let principals = [&*first, &*second].map(|s| s.peer().principal.to_string());
        assert_eq!(principals, ["1.0.1", "2.0.1"]);
        let (mut ones, mut twos) = (Vec::new(), Vec::new());
        tokio::try_join!(first.read_to_end(&mut ones), second.read_to_end(&mut twos))?;
        assert!(ones == [1; EACH] && twos == [2; EACH], "the bytes came through the network of their stream");
        for task in sending {
            task.await.map_err(io::Error::other)??;
        }
        Ok(())
    };
    timeout(HANG, case).await?
}

#[tokio::test]
async fn a_black_list_is_about_principals_of_one_network() -> io::Result<()> {
    let (one, two) = (Net::start(1)?, Net::start(2)?);
    let deny = [one.client().principal()].into();
    let access = AccessList { deny, ..AccessList::default() };
    let server = config([one.server(0), two.server(0)]).with_listen(Listen { access, ports: None });
    let (listener, to) = listen(server, &[&one, &two]).await?;
    let client = Endpoint::client(config([one.client(), two.client()]))?;
    let error = timeout(HANG, client.connect_to(to.clone(), "test")).await?.unwrap_err();
    assert_eq!(refusal(&error), Some(Refusal::BlackListed), "{error}");
    // 2.0.1 is somebody else than 1.0.1.
    let other = client.in_network(2).expect("it has a key for it");
    assert_eq!(network(&pair(&other, &to, &listener).await?), 2);
    Ok(())
}

#[tokio::test]
async fn an_encryption_key_is_for_principals_of_one_network() -> io::Result<()> {
    let (one, two) = (Net::start(1)?, Net::start(2)?);
    let shared = |with| {
        let key = EncryptionKey::import(&[7; 32]).expect("not zero");
        SharedKey::new(KeyId([9; 16]), with, key).expect("not zero")
    };
    let server = config([one.server(0), two.server(0)]).with_encryption_key(shared(two.client().principal()));
    let client = config([one.client(), two.client()]).with_encryption_key(shared(two.server(0).principal()));
    let (listener, to) = listen(server.map_err(io::Error::other)?, &[&one, &two]).await?;
    let client = Endpoint::client(client.map_err(io::Error::other)?)?;
    for (number, id) in [(1, None), (2, Some(KeyId([9; 16])))] {
        let there = client.in_network(number).expect("it has a key for it");
        let (here, there) = pair(&there, &to, &listener).await?;
        assert_eq!(here.stats().encryption_key, id, "network {number}");
        assert_eq!(there.stats().encryption_key, id, "network {number}");
    }
    Ok(())
}

/// Two ways to use the client's key of network 1 with the relays of network 2.
#[tokio::test]
async fn a_key_of_one_network_opens_nothing_in_another() -> io::Result<()> {
    let (one, two) = (Net::start(1)?, Net::start(2)?);
    let (_listener, to) = listen(config([two.server(0)]), &[&two]).await?;
    server_hops(&two).await?;
    let key = &one.keys.clients[0];
    // Under the name that the relays of network 2 know, and under its own.
    let renamed = Config::new(two.raida(), copy(key, two.client().principal()));
    let misled = Config::new(Raida { network: 1, ..two.raida() }, copy(key, key.principal()));
    let misled_to: Targets =
        to.as_slice().iter().map(|t| Target { server: Principal { network: 1, ..t.server }, ..*t }).collect();
    for (config, to) in [(renamed, to), (misled, misled_to)] {
        let client = Endpoint::client(config.map_err(io::Error::other)?)?;
        let error = timeout(HANG, client.connect_to(to, "test")).await?.unwrap_err();
        assert!(error.to_string().contains("0 of 25 hops stand"), "{error}");
    }
    assert_eq!(two.local.stats().hops, 25, "those of the server");
    assert_eq!(two.local.stats().routes, 0);
    assert!(two.local.stats().refused.total() >= 50, "{:?}", two.local.stats());
    Ok(())
}

#[tokio::test]
async fn a_listener_of_a_closed_endpoint_says_so() -> io::Result<()> {
    let (one, two) = (Net::start(1)?, Net::start(2)?);
    let (listener, to) = listen(config([one.server(0), two.server(0)]), &[&one, &two]).await?;
    // One network alone: the other goes on.
    listener.endpoint().in_network(1).expect("it is served").close().await;
    let client = Endpoint::client(config([two.client()]))?;
    assert_eq!(network(&pair(&client, &to, &listener).await?), 2);
    listener.endpoint().close().await;
    let error = timeout(HANG, listener.accept()).await?.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    Ok(())
}
