//! What the shells rely on, once for TCP and once for memory.

use crate::memory::{CAPACITY, Memory};
use crate::{BACKLOG, Listener, Socket, Transport};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout;

/// Ends a test that hangs.
const HANG: Duration = Duration::from_secs(60);

/// More than the kernel or the memory take of a peer that does not read.
const ENDLESS: usize = 256 << 20;

fn memory() -> Transport {
    Transport::Memory(Memory::new().host(Ipv4Addr::LOCALHOST.into()))
}

/// Each case as two tests.
macro_rules! over_both {
    ($($case:ident)*) => {
        mod over_tcp { $(
            #[tokio::test]
            async fn $case() -> std::io::Result<()> {
                tokio::time::timeout(super::HANG, super::$case(crate::Transport::Tcp)).await?
            }
        )* }
        mod in_memory { $(
            #[tokio::test]
            async fn $case() -> std::io::Result<()> {
                tokio::time::timeout(super::HANG, super::$case(super::memory())).await?
            }
        )* }
    };
}

over_both! {
    addresses_agree
    bytes_arrive_in_order_and_then_the_end
    after_a_short_read_a_reader_sleeps_until_more_comes
    a_writer_waits_for_its_reader
    both_directions_are_apart
    an_end_with_bytes_unread_is_a_reset
    an_end_wakes_who_reads_and_fails_who_writes
    both_directions_end_at_once
    nobody_listens
    one_address_is_for_one_listener
    who_waits_at_a_closed_listener_is_told
    a_connection_waits_to_be_accepted
}

fn any() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

async fn pair(transport: &Transport) -> io::Result<(Socket, Socket)> {
    let listener = transport.listen(any())?;
    let (one, other) = tokio::join!(transport.connect(listener.local_addr()?), listener.accept());
    let (one, (other, _)) = (one?, other?);
    one.tune()?;
    other.tune()?;
    Ok((one, other))
}

/// Reads once.
async fn read(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        socket.readable().await?;
        match socket.try_read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

async fn write_all(socket: &Socket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes until no more is taken.
fn fill(socket: &Socket) -> io::Result<usize> {
    let mut taken = 0;
    loop {
        match socket.try_write(&[7; 65_536]) {
            Ok(n) => taken += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
            Err(error) => return Err(error),
        }
        assert!(taken < ENDLESS, "what nobody reads has no bound");
    }
}

fn kind<T>(outcome: io::Result<T>) -> Option<ErrorKind> {
    outcome.err().map(|error| error.kind())
}

async fn addresses_agree(transport: Transport) -> io::Result<()> {
    let listener = transport.listen(any())?;
    let at = listener.local_addr()?;
    assert_ne!(at.port(), 0);
    let (one, accepted) = tokio::join!(transport.connect(at), listener.accept());
    let (one, (other, from)) = (one?, accepted?);
    assert_eq!(other.local_addr()?, at);
    assert_eq!(one.local_addr()?, from);
    assert_eq!(from.ip(), Ipv4Addr::LOCALHOST);
    Ok(())
}

async fn bytes_arrive_in_order_and_then_the_end(transport: Transport) -> io::Result<()> {
    const TOTAL: usize = 3_000_001;
    let (one, other) = pair(&transport).await?;
    let sent: Vec<u8> = (0..TOTAL).map(|i| (i % 251) as u8).collect();
    let sending = async {
        write_all(&one, &sent).await?;
        one.shut_down(Shutdown::Write)
    };
    let receiving = async {
        let (mut all, mut buffer) = (Vec::<u8>::new(), [0; 70_001]);
        loop {
            match read(&other, &mut buffer).await? {
                0 => return io::Result::Ok(all),
                n => all.extend(&buffer[..n]),
            }
        }
    };
    let ((), received) = tokio::try_join!(sending, receiving)?;
    assert!(received == sent);
    assert_eq!(kind(one.try_write(b"after the end")), Some(ErrorKind::BrokenPipe));
    assert_eq!(read(&other, &mut [0]).await?, 0, "the end stays");
    Ok(())
}

async fn after_a_short_read_a_reader_sleeps_until_more_comes(transport: Transport) -> io::Result<()> {
    let (one, other) = pair(&transport).await?;
    let mut buffer = [0; 64];
    for turn in 0..100 {
        write_all(&one, b"a record").await?;
        assert_eq!(read(&other, &mut buffer).await?, 8);
        let mut more = std::pin::pin!(other.readable());
        let sleeps = std::future::poll_fn(|cx| Poll::Ready(more.as_mut().poll(cx).is_pending())).await;
        assert!(sleeps, "turn {turn}: a second read would be in vain");
        write_all(&one, b"more").await?;
        more.await?;
        assert_eq!(read(&other, &mut buffer).await?, 4);
    }
    // The end wakes it too, whether it comes behind bytes or alone.
    write_all(&one, b"last").await?;
    one.shut_down(Shutdown::Write)?;
    assert_eq!(read(&other, &mut buffer).await?, 4);
    assert_eq!(read(&other, &mut buffer).await?, 0);
    Ok(())
}

async fn a_writer_waits_for_its_reader(transport: Transport) -> io::Result<()> {
    let (one, other) = pair(&transport).await?;
    assert_eq!(kind(other.try_read(&mut [0])), Some(ErrorKind::WouldBlock));
    let mut unread = fill(&one)?;
    assert!(unread >= 128 * 1024, "{unread} bytes are too few to keep a hop busy");
    let drained = async {
        let mut buffer = vec![0; 65_536];
        while unread > 0 {
            unread -= read(&other, &mut buffer).await?;
        }
        io::Result::Ok(())
    };
    tokio::try_join!(one.writable(), drained)?;
    assert_eq!(one.try_write(b"more")?, 4);
    let mut buffer = [0; 8];
    assert_eq!(read(&other, &mut buffer).await?, 4);
    assert_eq!(&buffer[..4], b"more");
    Ok(())
}

async fn both_directions_are_apart(transport: Transport) -> io::Result<()> {
    let (one, other) = pair(&transport).await?;
    one.shut_down(Shutdown::Write)?;
    assert_eq!(read(&other, &mut [0]).await?, 0);
    write_all(&other, b"still").await?;
    let mut buffer = [0; 8];
    assert_eq!(read(&one, &mut buffer).await?, 5);
    Ok(())
}

async fn an_end_with_bytes_unread_is_a_reset(transport: Transport) -> io::Result<()> {
    let (one, other) = pair(&transport).await?;
    write_all(&one, b"never read").await?;
    write_all(&other, b"gone with it").await?;
    other.readable().await?;
    drop(other);
    // The system may have delivered what came before the reset.
    let mut outcome = read(&one, &mut [0; 64]).await;
    while let Ok(1..) = outcome {
        outcome = read(&one, &mut [0; 64]).await;
    }
    assert_eq!(kind(outcome), Some(ErrorKind::ConnectionReset));
    Ok(())
}

async fn an_end_wakes_who_reads_and_fails_who_writes(transport: Transport) -> io::Result<()> {
    let (one, other) = pair(&transport).await?;
    fill(&one)?;
    let mut one_byte = [0];
    let ((), end) = tokio::join!(async { drop(other) }, read(&one, &mut one_byte));
    // The bytes that were unread make it a reset.
    assert_eq!(kind(end), Some(ErrorKind::ConnectionReset));
    one.writable().await?;
    let failed = kind(one.try_write(b"x"));
    assert!(matches!(failed, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)), "{failed:?}");

    let (one, other) = pair(&transport).await?;
    let ((), end) = tokio::join!(async { drop(other) }, read(&one, &mut one_byte));
    assert_eq!(end?, 0, "and without them a clean end");
    Ok(())
}

async fn both_directions_end_at_once(transport: Transport) -> io::Result<()> {
    let (one, other) = pair(&transport).await?;
    one.shut_down(Shutdown::Both)?;
    assert_eq!(read(&one, &mut [0]).await?, 0);
    assert_eq!(kind(one.try_write(b"x")), Some(ErrorKind::BrokenPipe));
    assert_eq!(read(&other, &mut [0]).await?, 0);
    Ok(())
}

async fn nobody_listens(transport: Transport) -> io::Result<()> {
    let listener = transport.listen(any())?;
    let at = listener.local_addr()?;
    drop(listener);
    assert_eq!(kind(transport.connect(at).await), Some(ErrorKind::ConnectionRefused));
    Ok(())
}

async fn one_address_is_for_one_listener(transport: Transport) -> io::Result<()> {
    let listener = transport.listen(any())?;
    let at = listener.local_addr()?;
    assert_eq!(kind(transport.listen(at)), Some(ErrorKind::AddrInUse));
    // Somebody holds the old one still when the address is taken again.
    listener.shut_down();
    assert_eq!(kind(transport.connect(at).await), Some(ErrorKind::ConnectionRefused));
    let again = transport.listen(at)?;
    drop(listener);
    let (one, other) = tokio::join!(transport.connect(at), again.accept());
    one?;
    other?;
    Ok(())
}

async fn who_waits_at_a_closed_listener_is_told(transport: Transport) -> io::Result<()> {
    let listener = transport.listen(any())?;
    let waits = transport.connect(listener.local_addr()?).await?;
    drop(listener);
    // The end, or a reset: the system chooses.
    assert!(!matches!(read(&waits, &mut [0]).await, Ok(1..)));
    Ok(())
}

async fn a_connection_waits_to_be_accepted(transport: Transport) -> io::Result<()> {
    let listener = transport.listen(any())?;
    let one = transport.connect(listener.local_addr()?).await?;
    write_all(&one, b"early").await?;
    let (other, _) = listener.accept().await?;
    let mut buffer = [0; 8];
    assert_eq!(read(&other, &mut buffer).await?, 5);
    Ok(())
}

#[tokio::test]
async fn a_direction_takes_what_its_constant_says() -> io::Result<()> {
    let (one, _other) = pair(&memory()).await?;
    assert_eq!(fill(&one)?, CAPACITY);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_a_listener_is_bounded() -> io::Result<()> {
    let transport = memory();
    let listener = transport.listen(any())?;
    let at = listener.local_addr()?;
    let mut waiting = Vec::new();
    for _ in 0..BACKLOG {
        waiting.push(transport.connect(at).await?);
    }
    // As at a host that does not answer.
    assert!(timeout(HANG, transport.connect(at)).await.is_err());
    let next = async { tokio::try_join!(transport.connect(at), listener.accept()) };
    timeout(HANG, next).await??;
    // One who waits is told of the end.
    let told = async { tokio::join!(transport.connect(at), async { listener.shut_down() }) };
    let (refused, ()) = timeout(HANG, told).await?;
    assert_eq!(kind(refused), Some(ErrorKind::ConnectionRefused));
    assert_eq!(kind(listener.accept().await), Some(ErrorKind::InvalidInput));
    Ok(())
}

#[tokio::test]
async fn memories_are_apart_and_hosts_in_one_are_not() -> io::Result<()> {
    let memory = Memory::new();
    let host = |memory: &Memory, ip: [u8; 4]| Transport::Memory(memory.host(ip.into()));
    let (a, b) = (host(&memory, [10, 0, 0, 1]), host(&memory, [10, 0, 0, 2]));
    let at = SocketAddr::from(([10, 0, 0, 1], 7000));
    let listener: Listener = a.listen(at)?;
    let (_one, (_other, from)) = tokio::try_join!(b.connect(at), listener.accept())?;
    assert_eq!(from.ip(), b.connect(at).await?.local_addr()?.ip());
    let stranger = host(&Memory::new(), [10, 0, 0, 2]).connect(at).await;
    assert_eq!(kind(stranger), Some(ErrorKind::ConnectionRefused));
    Ok(())
}

#[tokio::test]
async fn a_host_has_so_many_free_ports() -> io::Result<()> {
    let transport = memory();
    let mut all = Vec::new();
    let none_left = loop {
        match transport.listen(any()) {
            Ok(listener) => all.push(listener),
            Err(error) => break error,
        }
    };
    assert_eq!((none_left.kind(), all.len()), (ErrorKind::AddrInUse, 16_384));
    all.truncate(100);
    transport.listen(any())?;
    Ok(())
}
