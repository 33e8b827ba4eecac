//! Writes arrive in order without a flush, say how much they took, and wait for a peer that does not read.

use std::io;
use std::pin::pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::{Clock, poll_once};
use crate::data::{Pattern, Random};
use crate::transport::Transport;

pub(crate) async fn arrives_in_order<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 2_000_000;
    let (mut client, mut server) = net.pair().await?;
    let writer = tokio::spawn(async move {
        let (pattern, mut random) = (Pattern::new(10), Random::new(11));
        let mut position = 0;
        while position < TOTAL {
            let end = (position + random.up_to(40_000)).min(TOTAL);
            pattern.send(&mut client, position, end).await?;
            position = end;
        }
        client.shutdown().await
    });
    Pattern::new(10).expect_all(&mut server, 0, TOTAL).await?;
    writer.await?
}

pub(crate) async fn zero_length_write_sends_nothing<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    for byte in [b'a', b'b'] {
        assert_eq!(client.write(&[]).await?, 0);
        client.write_all(&[]).await?;
        client.flush().await?;
        client.write_all(&[byte]).await?;
        let mut buffer = [0; 8];
        assert_eq!(server.read(&mut buffer).await?, 1, "an empty write must not look like an end");
        assert_eq!(buffer[0], byte);
    }
    Ok(())
}

pub(crate) async fn reports_what_it_took<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 4 << 20;
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(12);
    let data = pattern.copy(0, TOTAL);
    let writer = tokio::spawn(async move {
        let mut taken = 0;
        while taken < TOTAL {
            let n = client.write(&data[taken..]).await?;
            assert!(n > 0 && n <= TOTAL - taken);
            taken += n;
        }
        client.shutdown().await
    });
    pattern.expect_all(&mut server, 0, TOTAL).await?;
    writer.await?
}

pub(crate) async fn arrives_without_flush<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let mut buffer = [0; 3];
    for _ in 0..50 {
        client.write_all(b"abc").await?;
        server.read_exact(&mut buffer).await?;
        assert_eq!(&buffer, b"abc");
        server.write_all(b"def").await?;
        client.read_exact(&mut buffer).await?;
        assert_eq!(&buffer, b"def");
    }
    Ok(())
}

pub(crate) async fn flush_completes<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    client.flush().await?;
    client.write_all(b"abc").await?;
    client.flush().await?;
    client.flush().await?;
    let mut buffer = [0; 3];
    server.read_exact(&mut buffer).await?;
    assert_eq!(&buffer, b"abc");
    client.shutdown().await?;
    client.flush().await
}

pub(crate) async fn pends_while_the_peer_does_not_read<T: Transport>(net: T) -> io::Result<()> {
    let mut clock = Clock::new(&net).await?;
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(13);
    let accepted = clock.fill(&mut client, &pattern).await?;
    assert!(accepted > 0);

    // More than can ever be buffered, so it completes only because the peer reads.
    let end = accepted + 2 * T::DIFFERENCES.in_flight;
    let sender = async {
        pattern.send(&mut client, accepted, end).await?;
        client.shutdown().await
    };
    tokio::try_join!(sender, pattern.expect_all(&mut server, 0, end))?;
    Ok(())
}

pub(crate) async fn blocked_writer_can_move_to_another_task<T: Transport>(net: T) -> io::Result<()> {
    let mut clock = Clock::new(&net).await?;
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(14);
    let accepted = clock.fill(&mut client, &pattern).await?;
    // More than can ever be buffered, so the first poll cannot complete it.
    let rest = pattern.copy(accepted, 2 * T::DIFFERENCES.in_flight);
    let end = accepted + rest.len();

    // `fill` left this task's waker behind; the other task's must replace it.
    let (polled, writer_polled) = oneshot::channel();
    let writer = tokio::spawn(async move {
        {
            let mut write = pin!(client.write_all(&rest));
            assert!(poll_once(write.as_mut()).await.is_pending());
            assert!(polled.send(()).is_ok());
            write.await?;
        }
        client.shutdown().await
    });
    assert!(writer_polled.await.is_ok());
    pattern.expect_all(&mut server, 0, end).await?;
    writer.await?
}

pub(crate) async fn blocked_writer_does_not_block_reading<T: Transport>(net: T) -> io::Result<()> {
    let mut clock = Clock::new(&net).await?;
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(15);
    let accepted = clock.fill(&mut client, &pattern).await?;
    // The other direction of the same stream still works, in both kinds of read.
    let mut buffer = [0; 4];
    for _ in 0..50 {
        server.write_all(b"ping").await?;
        client.read_exact(&mut buffer).await?;
        assert_eq!(&buffer, b"ping");
    }
    pattern.expect(&mut server, 0, accepted).await
}
