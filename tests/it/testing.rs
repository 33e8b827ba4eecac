//! Relays in memory and a clock that stops: what a user's own tests can rely on, and what takes minutes in earnest.
//!
//! Every time here is the stopped clock's, so a bound is exact and no slow machine breaks it.

use crate::data::Pattern;
use qsocket::access::AccessList;
use qsocket::config::Listen;
use qsocket::testing::{self, Raida, principal, target};
use qsocket::{ConnectError, Endpoint, Health, PathId, Principal, QSocketStream, Refusal, Role, refusal};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything here may take by its own clock, and short enough for it to run down.
const HANG: Duration = Duration::from_secs(2 * 3600);

/// Time that nobody waits for on purpose: resends and acknowledgements.
const MOMENT: Duration = Duration::from_secs(2);

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn paths(count: usize) -> impl Iterator<Item = PathId> {
    PathId::all().take(count)
}

/// Runs `work` to its end, and tells how long it took.
async fn timed<T>(work: impl Future<Output = T>) -> io::Result<(T, Duration)> {
    let begun = Instant::now();
    let done = timeout(HANG, work).await?;
    Ok((done, begun.elapsed()))
}

async fn all_hops(client: &Endpoint, server: &Endpoint) -> io::Result<()> {
    timeout(seconds(60), async { tokio::join!(client.hops_up(25), server.hops_up(25)) }).await?;
    Ok(())
}

/// A RAIDA with a stream over all its paths.
struct World {
    raida: Raida,
    client: Endpoint,
    server: Endpoint,
    here: QSocketStream,
    there: QSocketStream,
}

impl World {
    async fn start() -> io::Result<Self> {
        let raida = Raida::start()?;
        let listener = raida.listener("server.example").await?;
        let client = raida.client()?;
        all_hops(&client, listener.endpoint()).await?;
        let (here, (there, _)) = tokio::try_join!(client.connect("server.example:7"), listener.accept())?;
        let server = listener.endpoint().clone();
        here.health().wait_for(|health| *health == Health::Intact).await.map_err(io::Error::other)?;
        Ok(Self { raida, client, server, here, there })
    }

    async fn stop_all(&self) {
        for path in PathId::all() {
            self.raida.stop_relay(path).await;
        }
    }

    fn start_all(&self) -> io::Result<()> {
        PathId::all().try_for_each(|path| self.raida.start_relay(path))
    }

    /// A byte there and a byte back.
    async fn echo(&mut self) -> io::Result<()> {
        self.here.write_u8(7).await?;
        let byte = self.there.read_u8().await?;
        self.there.write_u8(byte + 1).await?;
        assert_eq!(self.here.read_u8().await?, 8);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_transfer_completes_while_nine_relays_stop() -> io::Result<()> {
    const PART: usize = 1 << 20;
    let World { raida, mut here, mut there, client, .. } = World::start().await?;
    let pattern = Pattern::new(1);
    let sending = async {
        for (path, part) in paths(9).zip(0..) {
            pattern.send(&mut here, part * PART, (part + 1) * PART).await?;
            raida.stop_relay(path).await;
        }
        pattern.send(&mut here, 9 * PART, 10 * PART).await?;
        here.shutdown().await
    };
    let receiving = pattern.expect_all(&mut there, 0, 10 * PART);
    let (done, took) = timed(async { tokio::try_join!(sending, receiving) }).await?;
    done?;
    assert!(took <= MOMENT, "{took:?}");
    assert_eq!(client.hops().up.len(), 16);
    assert_eq!(*here.health().borrow(), Health::Degraded(9));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_when_all_relays_were_away() -> io::Result<()> {
    let mut world = World::start().await?;
    for away in [1, 10, 50] {
        world.stop_all().await;
        world.here.write_all(b"written while nobody was there").await?;
        let mut early = [0; 1];
        assert!(timeout(seconds(away), world.there.read(&mut early)).await.is_err(), "nothing came");
        assert_eq!(*world.here.health().borrow(), Health::Lost);
        world.start_all()?;
        let mut text = [0; 30];
        // The longest rest between two attempts of a hop.
        let (read, took) = timed(world.there.read_exact(&mut text)).await?;
        read?;
        assert!(took <= seconds(30) + MOMENT, "{took:?} after {away} s");
        assert_eq!(&text, b"written while nobody was there");
        world.echo().await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn silence_of_a_minute_ends_a_stream_at_both_ends() -> io::Result<()> {
    const IDLE: Duration = seconds(60);
    for frozen in [true, false] {
        let mut world = World::start().await?;
        world.echo().await?;
        if frozen {
            PathId::all().for_each(|path| world.raida.freeze(path));
        } else {
            world.stop_all().await;
        }
        let (mut here, mut there) = ([0], [0]);
        let both =
            async { tokio::join!(timed(world.here.read(&mut here)), timed(world.there.read(&mut there))) };
        let (one, other) = timeout(HANG, both).await?;
        for end in [one, other] {
            let (read, took) = end?;
            assert_eq!(read.unwrap_err().kind(), ErrorKind::TimedOut, "frozen: {frozen}");
            assert!(took >= IDLE - MOMENT && took <= IDLE + MOMENT, "{took:?}, frozen: {frozen}");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_uses_outlives_hours_and_changes_of_keys() -> io::Result<()> {
    let mut world = World::start().await?;
    for hours in 1..=3 {
        let (_, took) = timed(sleep(seconds(3600))).await?;
        assert_eq!(took, seconds(3600));
        let (echoed, took) = timed(world.echo()).await?;
        echoed?;
        assert!(took <= MOMENT, "{took:?} after {hours} h");
        let phases = [&world.here, &world.there].map(|stream| stream.stats().phase);
        assert!(phases.iter().all(|phase| *phase >= hours), "{phases:?} after {hours} h");
    }
    assert_eq!((world.client.hops().up.len(), world.server.hops().up.len()), (25, 25));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_frozen_relay_is_not_missed_and_found_again() -> io::Result<()> {
    let mut world = World::start().await?;
    let mut health = world.client.health();
    world.raida.freeze(paths(1).next().ok_or(ErrorKind::NotFound)?);
    // What is on its way through it is resent when its path times out.
    let pattern = Pattern::new(2);
    let transfer = async {
        tokio::try_join!(
            pattern.send(&mut world.here, 0, 3 << 20),
            pattern.expect(&mut world.there, 0, 3 << 20)
        )
    };
    let (done, took) = timed(transfer).await?;
    done?;
    assert!(took <= MOMENT, "{took:?}");
    assert_eq!(*health.borrow_and_update(), Health::Intact, "nobody knows yet");
    // Three pings, 15 s each, are not answered.
    let (_, took) = timed(health.changed()).await?;
    assert_eq!(*health.borrow(), Health::Degraded(1));
    assert!(took >= seconds(45) - MOMENT && took <= seconds(45) + MOMENT, "{took:?}");
    // The longest rest and a handshake in vain; what was asked meanwhile is not answered late.
    sleep(seconds(300)).await;
    assert_eq!(*health.borrow(), Health::Degraded(1));
    world.raida.thaw(paths(1).next().ok_or(ErrorKind::NotFound)?);
    let (_, took) = timed(world.client.hops_up(25)).await?;
    assert!(took <= seconds(35), "{took:?}");
    world.echo().await
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_does_not_answer_is_dialled_with_rests() -> io::Result<()> {
    let world = World::start().await?;
    let first = paths(1).next().ok_or(ErrorKind::NotFound)?;
    world.raida.freeze(first);
    let refused = || world.raida.relays().relay_stats(first).map_or(0, |stats| stats.refused.total());
    let before = refused();
    // 45 s until the hop is known to be dead; then each attempt waits 5 s for an answer and rests up to 30 s.
    sleep(seconds(45 + 1200)).await;
    assert_eq!(refused(), before, "it hangs");
    world.raida.thaw(first);
    timeout(HANG, world.client.hops_up(25)).await?;
    let attempts = refused() - before;
    assert!((30..=160).contains(&attempts), "{attempts} attempts in 20 minutes");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_hop_that_returns_brings_the_others() -> io::Result<()> {
    let world = World::start().await?;
    world.stop_all().await;
    sleep(seconds(40)).await;
    world.start_all()?;
    let (_, first) = timed(world.client.hops_up(1)).await?;
    let (_, others) = timed(world.client.hops_up(25)).await?;
    // 25 rests of up to 30 s began at any time, and the first to end has the others end.
    assert!(first <= seconds(30), "{first:?}");
    assert!(others <= seconds(3), "{others:?} after the first");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nine_relays_that_hang_delay_no_opening_and_ten_end_it() -> io::Result<()> {
    let raida = Raida::start()?;
    let listener = raida.listener("server.example").await?;
    let client = raida.client()?;
    all_hops(&client, listener.endpoint()).await?;
    paths(9).for_each(|path| raida.freeze(path));
    let to = target(&listener)?;
    let (opened, took) = timed(client.connect_fresh(to, "nine")).await?;
    opened?;
    assert!(took <= MOMENT, "{took:?}");

    paths(10).for_each(|path| raida.freeze(path));
    let (opened, took) = timed(client.connect_fresh(to, "ten")).await?;
    let error = opened.unwrap_err();
    let cause = error.get_ref().and_then(|e| e.downcast_ref());
    assert!(matches!(cause, Some(ConnectError::Failed { network: testing::NETWORK, .. })), "{error}");
    // What the server gives a quorum.
    assert!(took >= seconds(5) && took <= seconds(5) + MOMENT, "{took:?}");

    paths(10).for_each(|path| raida.thaw(path));
    client.connect_fresh(to, "all").await?;
    Ok(())
}

/// Who is refused, of two clients.
#[tokio::test(start_paused = true)]
async fn principals_of_choice_meet_the_lists() -> io::Result<()> {
    let raida = Raida::start()?;
    let access = AccessList { allow: Some([principal(7)].into()), ..AccessList::default() };
    let server = raida.server_config()?.with_listen(Listen { access, ..Listen::default() });
    let listener = raida.listener_with("private.example", server).await?;
    let client = |serial| Endpoint::client(raida.config(principal(serial), Role::Client)?);
    let (known, stranger) = (client(7)?, client(8)?);
    let (_here, (there, _)) = tokio::try_join!(known.connect("private.example:1"), listener.accept())?;
    assert_eq!(there.peer(), testing::peer(7), "the peer to show to a handler is the one that comes");
    assert_eq!(there.resource(), "private.example:1");
    let error = stranger.connect("private.example:1").await.unwrap_err();
    assert_eq!(refusal(&error), Some(Refusal::NotWhiteListed));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn names_and_principals_are_given_once() -> io::Result<()> {
    let raida = Raida::start()?;
    let early = raida.client()?;
    let one = raida.listener("one.example:80").await?;
    let client = raida.client()?;
    let refused = [
        (raida.listener("one.example:80").await.err(), ErrorKind::AlreadyExists),
        (raida.listener("no name").await.err(), ErrorKind::InvalidInput),
        (raida.listener_with("two.example", raida.client_config()?).await.err(), ErrorKind::InvalidInput),
        (raida.config(one.endpoint().principal(), Role::Server).err(), ErrorKind::AlreadyExists),
        (raida.config(Principal { network: 2, ..principal(1) }, Role::Client).err(), ErrorKind::InvalidInput),
        (client.connect("one.example:81").await.err(), ErrorKind::NotFound),
        (early.connect("one.example:80").await.err(), ErrorKind::NotFound),
    ];
    for (number, (error, kind)) in refused.into_iter().enumerate() {
        assert_eq!(error.map(|e| e.kind()), Some(kind), "number {number}");
    }
    // None of that stood in the way of what works.
    tokio::try_join!(client.connect("one.example:80"), one.accept())?;
    tokio::try_join!(early.connect_to(target(&one)?, "by address"), one.accept())?;
    // A choice that the RAIDA would have made.
    let ahead = client.principal().serial + 2;
    raida.config(principal(ahead), Role::Client)?;
    let serials = [raida.client()?, raida.client()?, raida.client()?].map(|c| c.principal().serial);
    assert!(!serials.contains(&ahead), "{serials:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn relays_run_for_as_long_as_a_stream_and_no_longer() -> io::Result<()> {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (mut client, mut server) = testing::pair().await?;
    assert_ne!(client.peer().principal, server.peer().principal);
    sleep(seconds(120)).await;
    client.write_all(b"still").await?;
    server.read_exact(&mut [0; 5]).await?;
    assert!(tasks() > 0);
    drop(client);
    assert_eq!(server.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(server);
    let ended = async {
        while tasks() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let (_, took) = timed(ended).await?;
    assert!(took <= MOMENT, "{took:?}");
    Ok(())
}

/// More than the 64 hops that a relay gives to one address.
#[tokio::test(start_paused = true)]
async fn each_principal_has_an_address_of_its_own() -> io::Result<()> {
    const CLIENTS: usize = 70;
    let raida = Raida::start()?;
    let listener = raida.listener("server.example").await?;
    let mut addresses = std::collections::BTreeSet::new();
    let mut streams = Vec::new();
    for _ in 0..CLIENTS {
        let client = raida.client()?;
        timeout(seconds(60), client.hops_up(25)).await?;
        let (here, (there, from)) = tokio::try_join!(client.connect("server.example:1"), listener.accept())?;
        addresses.insert(from.ip());
        streams.push((client, here, there));
    }
    assert_eq!(addresses.len(), CLIENTS);
    assert_eq!(raida.relays().stats().hops, 25 * (CLIENTS + 1));
    assert_eq!(raida.relays().stats().refused.total(), 0);
    Ok(())
}
