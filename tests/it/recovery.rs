//! Relays that go and come back, and a server that does, in the real shell as in the simulation of the core.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::data::Pattern;
use qsocket::config::{Config, Listen, RelayAddresses, Tuning};
use qsocket::testing::{Raida, target};
use qsocket::{Endpoint, Health, PathId, QSocketListener, QSocketStream};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything here may take by its own clock.
const HANG: Duration = Duration::from_secs(600);

/// The longest rest between two attempts of a hop, an attempt in vain, and a resend.
const BACK: Duration = Duration::from_secs(40);

const PART: usize = 1 << 20;

/// Where the server is.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 7, 1));

/// A server whose configuration is kept, so that it can start again where it was.
struct World {
    raida: Raida,
    config: Config,
    listener: QSocketListener,
    client: Endpoint,
}

impl World {
    async fn start(tuning: Tuning) -> io::Result<Self> {
        let raida = Raida::start()?;
        let config = raida.server_config()?.with_tuning(tuning.clone());
        let listener = QSocketListener::bind_with(config.clone(), (SERVER, 0)).await?;
        let me = (listener.endpoint().principal(), listener.local_addr()?, *listener.ports());
        raida.relays().register(me).map_err(io::Error::other)?;
        let client = Endpoint::client(raida.client_config()?.with_tuning(tuning))?;
        let world = Self { raida, config, listener, client };
        world.all_hops().await?;
        Ok(world)
    }

    async fn all_hops(&self) -> io::Result<()> {
        let hops = async { tokio::join!(self.client.hops_up(25), self.listener.endpoint().hops_up(25)) };
        timeout(HANG, hops).await?;
        Ok(())
    }

    async fn open(&self) -> io::Result<(QSocketStream, QSocketStream)> {
        let opening = self.client.connect_to(target(&self.listener)?, "test");
        let both = async { tokio::try_join!(opening, self.listener.accept()) };
        let (here, (there, _)) = timeout(HANG, both).await??;
        here.health().wait_for(|health| *health == Health::Intact).await.map_err(io::Error::other)?;
        Ok((here, there))
    }

    async fn stop(&self, paths: impl Iterator<Item = PathId>) {
        for path in paths {
            self.raida.stop_relay(path).await;
        }
    }
}

/// The one after the other half of a transfer, in both directions.
async fn part(here: &mut QSocketStream, there: &mut QSocketStream, number: usize) -> io::Result<()> {
    let (up, down) = (Pattern::new(3), Pattern::new(4));
    let (start, end) = (number * PART, (number + 1) * PART);
    let (mut our_reader, mut our_writer) = here.split();
    let (mut their_reader, mut their_writer) = there.split();
    let all = async {
        tokio::try_join!(
            up.send(&mut our_writer, start, end),
            down.send(&mut their_writer, start, end),
            up.expect(&mut their_reader, start, end),
            down.expect(&mut our_reader, start, end),
        )
    };
    timeout(HANG, all).await??;
    Ok(())
}

/// Both ends finish, and both see the end.
async fn end(here: &mut QSocketStream, there: &mut QSocketStream) -> io::Result<()> {
    let all = async {
        tokio::try_join!(here.shutdown(), there.shutdown())?;
        tokio::try_join!(here.read_u8(), there.read_u8()).map(|_| ())
    };
    let ended = timeout(HANG, all).await?.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::UnexpectedEof, "tokio's word for a clean end instead of a byte");
    assert_eq!((here.read(&mut [0]).await?, there.read(&mut [0]).await?), (0, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn with_24_of_25_relays_gone_the_stream_goes_on_and_finishes() -> io::Result<()> {
    for left in [0, 12, 24] {
        let world = World::start(Tuning::default()).await?;
        let (mut here, mut there) = world.open().await?;
        part(&mut here, &mut there, 0).await?;
        world.stop(PathId::all().filter(|path| path.get() != left)).await;
        part(&mut here, &mut there, 1).await?;
        assert_eq!(*here.health().borrow(), Health::Critical(24), "relay {left} is left");
        end(&mut here, &mut there).await?;
    }
    Ok(())
}

/// The sixteen that stand for 16 to 24 missing ones freeze: nobody is told.
#[tokio::test(start_paused = true)]
async fn with_24_of_25_relays_frozen_the_stream_goes_on_and_finishes() -> io::Result<()> {
    let world = World::start(Tuning::default()).await?;
    let (mut here, mut there) = world.open().await?;
    part(&mut here, &mut there, 0).await?;
    PathId::all().skip(1).for_each(|path| world.raida.freeze(path));
    part(&mut here, &mut there, 1).await?;
    end(&mut here, &mut there).await
}

#[tokio::test(start_paused = true)]
async fn with_all_relays_gone_a_transfer_waits_and_goes_on_with_the_first_that_returns() -> io::Result<()> {
    let world = World::start(Tuning::default()).await?;
    let (mut here, mut there) = world.open().await?;
    part(&mut here, &mut there, 0).await?;
    world.stop(PathId::all()).await;
    let away = Duration::from_secs(20);
    let begun = Instant::now();
    let back = async {
        sleep(away).await;
        world.raida.start_relay(PathId::new(7).expect("below 25"))
    };
    let (moved, started) = tokio::join!(part(&mut here, &mut there, 1), back);
    moved?;
    started?;
    let took = begun.elapsed();
    assert!(took >= away && took <= away + BACK, "{took:?}");
    end(&mut here, &mut there).await
}

#[tokio::test(start_paused = true)]
async fn with_all_relays_gone_for_good_the_idle_limit_of_the_configuration_ends_it() -> io::Result<()> {
    for idle in [Duration::from_secs(20), Duration::from_secs(180)] {
        let world = World::start(Tuning::default().with_idle_timeout(idle)).await?;
        let (mut here, mut there) = world.open().await?;
        part(&mut here, &mut there, 0).await?;
        world.stop(PathId::all()).await;
        let begun = Instant::now();
        let mut bytes = [[0; 8]; 2];
        let [ours, theirs] = &mut bytes;
        let read = async { tokio::join!(here.read(ours), there.read(theirs)) };
        let (one, other) = timeout(HANG, read).await?;
        let took = begun.elapsed();
        for read in [one, other] {
            assert_eq!(read.unwrap_err().kind(), ErrorKind::TimedOut, "never a clean end");
        }
        let moment = Duration::from_secs(2);
        assert!(took + moment >= idle && took <= idle + moment, "{took:?} of {idle:?}");
        assert_eq!(here.write(b"more").await.unwrap_err().kind(), ErrorKind::TimedOut);
    }
    Ok(())
}

/// The server's process is gone without a word, and another one stands in its place.
#[tokio::test(start_paused = true)]
async fn a_server_that_restarted_is_a_reset_and_never_an_end_and_takes_new_streams() -> io::Result<()> {
    let mut world = World::start(Tuning::default()).await?;
    let (mut here, mut there) = world.open().await?;
    part(&mut here, &mut there, 0).await?;
    // Nothing of its last words reaches anybody.
    world.stop(PathId::all()).await;
    here.write_all(b"for the one that is gone").await?;
    let ports = RelayAddresses::from_list(world.listener.ports()).map_err(io::Error::other)?;
    drop((world.listener, there));
    // What the old one held is given back when its tasks ended.
    sleep(Duration::from_secs(1)).await;
    let listen = Listen { ports: Some(ports), ..Listen::default() };
    let config = world.config.clone().with_listen(listen);
    world.listener = QSocketListener::bind_with(config, (SERVER, 0)).await?;
    PathId::all().try_for_each(|path| world.raida.start_relay(path))?;
    let begun = Instant::now();
    let mut buffer = [0; 8];
    let error = timeout(HANG, here.read(&mut buffer)).await?.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert!(begun.elapsed() <= BACK, "{:?}: told, and not by silence", begun.elapsed());
    for _ in 0..2 {
        assert_eq!(here.read(&mut buffer).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(here.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert!(
        timeout(Duration::from_secs(30), world.listener.accept()).await.is_err(),
        "nothing was carried over"
    );
    world.all_hops().await?;
    let (mut here, mut there) = world.open().await?;
    part(&mut here, &mut there, 0).await?;
    end(&mut here, &mut there).await
}
