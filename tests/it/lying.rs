//! Relays that lie, against real endpoints over real relays. In memory with a clock that stops, but for one test.

use crate::data::Pattern;
use crate::liar::{Liars, Lie, To};
use crate::logs::Logs;
use qsocket::testing::{Raida, target};
use qsocket::{Endpoint, PathId, PathStats, PathStatus, QSocketListener, QSocketStream};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

/// Longer than anything here may take by its own clock.
const HANG: Duration = Duration::from_secs(120);

/// Bytes each way between two looks at who was caught, and how often that is looked at. What arrives when its block is
/// complete is not opened, so a liar that comes late is not seen each time.
const PART: usize = 1 << 20;
const MOST_PARTS: usize = 100;

/// Failed opens after which a path is read no more, and within which time.
pub(crate) const ENOUGH: u64 = 8;
const SPAN: Duration = Duration::from_secs(60);

/// Where the server is in memory.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 8, 1));

/// Nine relays among all others, row and column ends of the grid and neighbours alike.
pub(crate) const NINE: [u8; 9] = [0, 1, 4, 7, 11, 12, 18, 22, 24];

fn paths(numbers: impl IntoIterator<Item = u8>) -> impl Iterator<Item = PathId> {
    numbers.into_iter().filter_map(PathId::new)
}

/// 25 relays of which some may lie, a server behind them, a client before them.
pub(crate) struct World {
    pub(crate) raida: Raida,
    pub(crate) listener: QSocketListener,
    pub(crate) client: Endpoint,
    pub(crate) liars: Liars,
}

impl World {
    pub(crate) async fn start(liars: impl IntoIterator<Item = u8>) -> io::Result<Self> {
        Self::over(Raida::start()?, SERVER, liars).await
    }

    async fn over(raida: Raida, ip: IpAddr, liars: impl IntoIterator<Item = u8>) -> io::Result<Self> {
        let server = raida.server_config()?;
        let key = server.key().clone();
        let listener = QSocketListener::bind_with(server, (ip, 0)).await?;
        let liars = Liars::stand(&raida, &listener, &key, paths(liars))?;
        let client = raida.client()?;
        let hops = async { tokio::join!(client.hops_up(25), listener.endpoint().hops_up(25)) };
        timeout(HANG, hops).await?;
        Ok(Self { raida, listener, client, liars })
    }

    /// A stream, with both its ends, of a connection of its own.
    pub(crate) async fn open(&self) -> io::Result<(QSocketStream, QSocketStream)> {
        let opening = self.client.connect_fresh(target(&self.listener)?, "test");
        let both = async { tokio::try_join!(opening, self.listener.accept()) };
        let (here, (there, _)) = timeout(HANG, both).await??;
        Ok((here, there))
    }

    /// The same, once all paths carry it.
    pub(crate) async fn open_on_all(&self) -> io::Result<(QSocketStream, QSocketStream)> {
        let (here, there) = self.open().await?;
        for stream in [&here, &there] {
            let all = async { stream.health().wait_for(|health| health.well() == 25).await.map(|_| ()) };
            timeout(HANG, all).await?.map_err(io::Error::other)?;
        }
        Ok((here, there))
    }
}

/// Bytes there and back at once, part by part until it is enough; both ends see each in its place, and the end behind
/// the last.
pub(crate) async fn exchange_until(
    here: &mut QSocketStream,
    there: &mut QSocketStream,
    enough: impl Fn(&QSocketStream, &QSocketStream) -> bool,
) -> io::Result<()> {
    let mut part = 0;
    loop {
        exchange_part(here, there, part).await?;
        part += 1;
        if enough(here, there) {
            break;
        }
    }
    end_both(here, there).await
}

/// One part of an exchange, the first has the number 0.
async fn exchange_part(here: &mut QSocketStream, there: &mut QSocketStream, part: usize) -> io::Result<()> {
    assert!(part < MOST_PARTS, "not enough after {part} parts");
    let (up, down) = (Pattern::new(1), Pattern::new(2));
    let (start, end) = (part * PART, (part + 1) * PART);
    let (mut our_reader, mut our_writer) = here.split();
    let (mut their_reader, mut their_writer) = there.split();
    let both = async {
        tokio::try_join!(
            up.send(&mut our_writer, start, end),
            down.send(&mut their_writer, start, end),
            up.expect(&mut their_reader, start, end),
            down.expect(&mut our_reader, start, end),
        )
    };
    timeout(HANG, both).await??;
    Ok(())
}

/// The end of an exchange: each end sees the other's.
async fn end_both(here: &mut QSocketStream, there: &mut QSocketStream) -> io::Result<()> {
    let both = async { tokio::try_join!(here.shutdown(), there.shutdown()) };
    timeout(HANG, both).await??;
    assert_eq!((here.read(&mut [0]).await?, there.read(&mut [0]).await?), (0, 0));
    Ok(())
}

/// The same with one part.
pub(crate) async fn exchange(here: &mut QSocketStream, there: &mut QSocketStream) -> io::Result<()> {
    exchange_until(here, there, |_, _| true).await
}

/// Whether so many paths are read no more by one end or the other. Who reads a path no more says nothing on it either, so
/// that the other end need not hear eight lies.
pub(crate) fn read_no_more(count: usize) -> impl Fn(&QSocketStream, &QSocketStream) -> bool {
    move |here, there| (&distrusted_by(here) | &distrusted_by(there)).len() == count
}

fn distrusted_by(stream: &QSocketStream) -> BTreeSet<u8> {
    those(stream, |path| path.status == PathStatus::Distrusted)
}

/// The paths of which this is true at an end.
fn those(stream: &QSocketStream, test: impl Fn(&PathStats) -> bool) -> BTreeSet<u8> {
    (0..).zip(&stream.stats().paths).filter(|(_, path)| test(path)).map(|(number, _)| number).collect()
}

/// The relays that warnings with these words name.
fn warned(logs: &Logs, words: &str) -> BTreeSet<u8> {
    let text = logs.text();
    let lines = text.lines().filter(|line| line.contains(" WARN ") && line.contains(words));
    let relay = |line: &str| {
        let (_, rest) = line.split_once("relay=").expect("the relay's number");
        rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).expect("a number")
    };
    lines.map(relay).collect()
}

const ALTERED: &str = "what the relay passed on was altered";

/// An exchange while nine relays lie in these ways from its begin on: all of it arrives, and both ends know who lied.
async fn nine_are_caught(world: &World, lies: &[Lie]) -> io::Result<()> {
    let logs = Logs::start();
    let (mut here, mut there) = world.open_on_all().await?;
    world.liars.lie(lies);
    exchange_until(&mut here, &mut there, read_no_more(NINE.len())).await?;
    let nine: BTreeSet<_> = NINE.into();
    let mut caught = BTreeSet::new();
    for (end, stream) in [("client", &here), ("server", &there)] {
        let (seen, distrusted) = (those(stream, |path| path.forged > 0), distrusted_by(stream));
        assert!(seen.is_subset(&nine), "{lies:?} at the {end}: {seen:?}, and honest ones among them");
        let often = those(stream, |path| path.forged >= ENOUGH);
        assert_eq!(distrusted, often, "{lies:?} at the {end}: read no more from the eighth on");
        assert_eq!(
            often,
            those(stream, |path| path.forged == ENOUGH),
            "{lies:?} at the {end}: and no further"
        );
        assert!(stream.health().borrow().well() <= 25 - distrusted.len(), "{lies:?} at the {end}");
        caught.extend(distrusted);
    }
    assert_eq!(caught, nine, "{lies:?}: all are read no more by one end at least");
    assert_eq!(warned(&logs, ALTERED), nine, "{lies:?}: {}", logs.text());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nine_relays_that_flip_bits_are_named_and_read_no_more() -> io::Result<()> {
    nine_are_caught(&World::start(NINE).await?, &[Lie::Flip]).await
}

#[tokio::test(start_paused = true)]
async fn nine_relays_that_invent_stripes_are_named_and_read_no_more() -> io::Result<()> {
    nine_are_caught(&World::start(NINE).await?, &[Lie::Invent]).await
}

#[tokio::test(start_paused = true)]
async fn nine_relays_that_give_a_stripe_the_name_of_another_are_named_and_read_no_more() -> io::Result<()> {
    nine_are_caught(&World::start(NINE).await?, &[Lie::Rename]).await
}

#[tokio::test(start_paused = true)]
async fn nine_relays_that_lie_in_every_way_are_named_and_read_no_more() -> io::Result<()> {
    use Lie::{Drop, Flip, Hold, Invent, Junk, Offset, Rename, Replay, Shorten, Swap, Twice};
    let lies = [Flip, Flip, Invent, Rename, Junk, Shorten, Swap, Replay, Twice, Hold, Drop, Offset];
    nine_are_caught(&World::start(NINE).await?, &lies).await
}

/// Over TCP and by a clock that runs.
#[tokio::test]
async fn nine_relays_that_flip_bits_over_tcp_are_named_and_read_no_more() -> io::Result<()> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let world = World::over(Raida::start_on_loopback()?, loopback, NINE).await?;
    nine_are_caught(&world, &[Lie::Flip]).await
}

/// What a relay repeats or holds back was sealed by the peer, and opens or is known: nobody can tell it from a network
/// that does the same.
#[tokio::test(start_paused = true)]
async fn nine_relays_that_replay_repeat_and_reorder_change_nothing() -> io::Result<()> {
    let world = World::start(NINE).await?;
    for lies in [[Lie::Replay], [Lie::Twice], [Lie::Hold]] {
        let (mut here, mut there) = world.open_on_all().await?;
        world.liars.lie(&lies);
        exchange(&mut here, &mut there).await?;
        for stream in [&here, &there] {
            assert_eq!(those(stream, |path| path.forged > 0), BTreeSet::new(), "{lies:?}");
        }
        world.liars.lie(&[]);
    }
    Ok(())
}

/// Two connections at once, so that stripes of one can be put into the other.
#[tokio::test(start_paused = true)]
async fn nine_relays_that_swap_what_they_carry_change_nothing_and_only_they_are_named() -> io::Result<()> {
    let world = World::start(NINE).await?;
    let (one, other) = (world.open_on_all().await?, world.open_on_all().await?);
    let ((mut here, mut there), (mut here_too, mut there_too)) = (one, other);
    world.liars.lie(&[Lie::Swap]);
    let nine: BTreeSet<_> = NINE.into();
    let mut caught = BTreeSet::new();
    for part in 0.. {
        tokio::try_join!(
            exchange_part(&mut here, &mut there, part),
            exchange_part(&mut here_too, &mut there_too, part)
        )?;
        for stream in [&here, &there, &here_too, &there_too] {
            caught.extend(those(stream, |path| path.forged > 0));
        }
        assert!(caught.is_subset(&nine), "{caught:?}, and honest ones among them");
        if caught == nine {
            break;
        }
    }
    tokio::try_join!(end_both(&mut here, &mut there), end_both(&mut here_too, &mut there_too))?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nine_relays_that_bring_forged_shares_are_named_by_the_server() -> io::Result<()> {
    let logs = Logs::start();
    let world = World::start(NINE).await?;
    world.liars.lie(&[Lie::Share]);
    let (mut here, mut there) = world.open().await?;
    exchange(&mut here, &mut there).await?;
    // The server looks a few times a second.
    sleep(Duration::from_secs(1)).await;
    let status = world.listener.endpoint().hops();
    let named: BTreeSet<_> = status.false_shares.iter().map(|(path, _)| path.get()).collect();
    assert_eq!(named, NINE.into(), "{status:?}");
    assert_eq!(warned(&logs, "a share that is not the client's"), NINE.into(), "{}", logs.text());
    assert_eq!(status.other_headers, []);
    // Once is one lie for each relay, also for those that came when the key was made.
    assert!(status.false_shares.iter().all(|(_, times)| *times == 1), "{status:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nine_relays_that_forge_the_header_are_outvoted_and_their_paths_do_not_join() -> io::Result<()> {
    let logs = Logs::start();
    let world = World::start(NINE).await?;
    world.liars.lie(&[Lie::Header]);
    let (mut here, mut there) = world.open().await?;
    assert_eq!(there.peer().principal, world.client.principal());
    exchange(&mut here, &mut there).await?;
    // What fewer than ten relays announced is forgotten after 5 s, and the client told.
    sleep(Duration::from_secs(6)).await;
    let nine: BTreeSet<_> = NINE.into();
    for stream in [&here, &there] {
        let joined = those(stream, |path| path.status == PathStatus::Live);
        assert_eq!(joined, &(0..25).collect::<BTreeSet<_>>() - &nine);
    }
    assert_eq!(those(&here, |path| path.last_error.is_some()), nine, "the client knows which paths");
    // A header that names another client or connection is about something else to the server.
    let status = world.listener.endpoint().hops();
    let named: BTreeSet<_> = status.other_headers.iter().map(|(path, _)| path.get()).collect();
    assert!(!named.is_empty() && named.is_subset(&nine), "{status:?}");
    assert_eq!(warned(&logs, "another header than sixteen others"), named, "{}", logs.text());
    assert_eq!(status.false_shares, []);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn ten_relays_that_forge_the_header_prevent_the_opening_and_nothing_reaches_accept() -> io::Result<()> {
    let world = World::start((0..10).collect::<Vec<_>>()).await?;
    world.liars.lie(&[Lie::Header]);
    let opening = world.client.connect_fresh(target(&world.listener)?, "test");
    let error = timeout(HANG, opening).await?.unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable), "{error}");
    assert!(timeout(HANG, world.listener.accept()).await.is_err(), "no stream came of it");
    world.liars.lie(&[]);
    let (mut here, mut there) = world.open().await?;
    exchange(&mut here, &mut there).await
}

#[tokio::test(start_paused = true)]
async fn fifteen_relays_that_flip_bits_change_nothing_and_the_ten_others_carry_the_stream() -> io::Result<()>
{
    let world = World::start((10..25).collect::<Vec<_>>()).await?;
    let (mut here, mut there) = world.open_on_all().await?;
    world.liars.lie(&[Lie::Flip]);
    exchange_until(&mut here, &mut there, read_no_more(15)).await?;
    for stream in [&here, &there] {
        assert!(those(stream, |path| path.forged > 0).is_subset(&(10..25).collect()));
    }
    Ok(())
}

/// Sends a byte and has it acknowledged.
async fn beat(here: &mut QSocketStream, there: &mut QSocketStream) -> io::Result<()> {
    here.write_u8(1).await?;
    there.read_u8().await?;
    // The rest of its block arrives too.
    sleep(Duration::from_millis(100)).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_path_is_read_no_more_after_the_eighth_failure_within_a_minute() -> io::Result<()> {
    let world = World::start([3]).await?;
    let liar = PathId::new(3).expect("below 25");
    let logs = Logs::start();
    let (mut here, mut there) = world.open_on_all().await?;
    let caught = |stream: &QSocketStream| stream.stats().paths[3].forged;
    let distrusted = |stream: &QSocketStream| stream.stats().paths[3].status == PathStatus::Distrusted;
    let until = async |here: &mut QSocketStream, there: &mut QSocketStream, times: u64| {
        while caught(there) < times {
            // Under its true name, so that it is opened at once or never.
            world.liars.lie_on(liar, To::Server, &[Lie::Invent], 1);
            beat(here, there).await?;
        }
        world.liars.lie_on(liar, To::Server, &[], 0);
        assert_eq!(caught(there), times);
        io::Result::Ok(())
    };
    timeout(HANG, until(&mut here, &mut there, ENOUGH - 1)).await??;
    assert!(!distrusted(&there), "seven are not enough");
    // A minute later those count no more.
    sleep(SPAN).await;
    timeout(HANG, until(&mut here, &mut there, 2 * (ENOUGH - 1))).await??;
    assert!(!distrusted(&there), "seven and seven, a minute apart");
    assert_eq!(warned(&logs, ALTERED), BTreeSet::new());
    timeout(HANG, until(&mut here, &mut there, 2 * ENOUGH - 1)).await??;
    assert!(distrusted(&there), "the eighth within a minute");
    assert_eq!(warned(&logs, ALTERED), [3].into());
    // The relay is honest again, which helps it in the next connection and not in this one.
    beat(&mut here, &mut there).await?;
    assert!(distrusted(&there) && !distrusted(&here));
    assert_eq!(caught(&there), 2 * ENOUGH - 1);
    let (_here, fresh) = world.open_on_all().await?;
    assert!(!distrusted(&fresh));
    drop(world.raida);
    Ok(())
}
