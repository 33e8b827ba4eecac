//! A stream dropped without shutdown: what its peer sees, and what it must not disturb.

use std::io;
use std::pin::pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::{Clock, poll_once};
use crate::data::Pattern;
use crate::transport::{Ending, Transport};

pub(crate) async fn without_shutdown_after_everything_was_read<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    client.write_all(b"data").await?;
    let mut buffer = [0; 4];
    server.read_exact(&mut buffer).await?;
    assert_eq!(&buffer, b"data");
    drop(client);
    for _ in 0..3 {
        T::DIFFERENCES.after_drop.check(&server.read(&mut buffer).await);
    }
    Ok(())
}

pub(crate) async fn without_shutdown_while_data_is_on_its_way<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 50_000;
    let pattern = Pattern::new(50);
    for _ in 0..20 {
        let (mut client, mut server) = net.pair().await?;
        pattern.send(&mut client, 0, TOTAL).await?;
        drop(client);
        let mut received = Vec::new();
        let end = server.read_to_end(&mut received).await.map(|_| 0);
        pattern.check(0, &received);
        T::DIFFERENCES.after_drop.check(&end);
        // Missing bytes must never look like a clean end.
        assert!(end.is_err() || received.len() == TOTAL);
    }
    Ok(())
}

pub(crate) async fn with_unread_data<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    server.write_all(&[7; 100]).await?;
    // One byte, so that the other 99 are known to be there.
    assert_eq!(client.read_u8().await?, 7);
    drop(client);
    T::DIFFERENCES.after_drop_unread.check(&server.read(&mut [0; 4]).await);
    Ok(())
}

pub(crate) async fn writes_to_a_dropped_peer_fail<T: Transport>(net: T) -> io::Result<()> {
    let (client, mut server) = net.pair().await?;
    drop(client);
    // The first writes may still be accepted; a failure must follow before the buffers are full.
    let block = vec![1; 16 * 1024];
    let mut accepted = 0;
    let error = loop {
        match server.write(&block).await {
            Ok(n) => accepted += n,
            Err(error) => break error,
        }
        assert!(accepted <= T::DIFFERENCES.in_flight);
    };
    assert!(T::DIFFERENCES.write_to_dropped.contains(&error.kind()), "got {error:?}");
    assert!(server.write(&block).await.is_err(), "the failure must stay");
    Ok(())
}

pub(crate) async fn wakes_a_pending_read<T: Transport>(net: T) -> io::Result<()> {
    let (client, mut server) = net.pair().await?;
    let (polled, reader_polled) = oneshot::channel();
    let reader = tokio::spawn(async move {
        let mut buffer = [0; 4];
        let mut read = pin!(server.read(&mut buffer));
        assert!(poll_once(read.as_mut()).await.is_pending());
        assert!(polled.send(()).is_ok());
        read.await
    });
    assert!(reader_polled.await.is_ok());
    drop(client);
    T::DIFFERENCES.after_drop.check(&reader.await?);
    Ok(())
}

pub(crate) async fn wakes_a_pending_write<T: Transport>(net: T) -> io::Result<()> {
    let mut clock = Clock::new(&net).await?;
    let (mut client, server) = net.pair().await?;
    let pattern = Pattern::new(51);
    let accepted = clock.fill(&mut client, &pattern).await?;
    let (polled, writer_polled) = oneshot::channel();
    let writer = tokio::spawn(async move {
        let block = vec![1; 2 * T::DIFFERENCES.in_flight];
        let mut write = pin!(client.write_all(&block));
        assert!(poll_once(write.as_mut()).await.is_pending());
        assert!(polled.send(()).is_ok());
        write.await
    });
    assert!(writer_polled.await.is_ok());
    assert!(accepted > 0);
    drop(server);
    let outcome = writer.await?;
    let kind = outcome.as_ref().map_err(io::Error::kind);
    assert!(
        matches!(kind, Err(kind) if T::DIFFERENCES.write_to_dropped.contains(&kind)),
        "the blocked write ended with {outcome:?}"
    );
    Ok(())
}

pub(crate) async fn leaves_other_streams_alone<T: Transport>(net: T) -> io::Result<()> {
    let mut clock = Clock::new(&net).await?;
    let mut buffer = [0; 4];
    for round in 0..10 {
        let (mut client, mut server) = net.pair().await?;
        client.write_all(b"data").await?;
        if round % 2 == 0 {
            server.read_exact(&mut buffer).await?;
        }
        drop(client);
        clock.pass().await?;
        drop(server);
        clock.pass().await?;
    }
    Ok(())
}

pub(crate) async fn after_both_ends_shut_down<T: Transport>(net: T) -> io::Result<()> {
    for _ in 0..20 {
        let (mut client, mut server) = net.pair().await?;
        client.write_all(b"bye").await?;
        client.shutdown().await?;
        let mut received = Vec::new();
        server.read_to_end(&mut received).await?;
        assert_eq!(received, b"bye");
        server.shutdown().await?;
        drop(server);
        // Both directions ended cleanly, so the drop cannot be seen on any transport.
        for _ in 0..3 {
            Ending::Eof.check(&client.read(&mut [0; 4]).await);
        }
    }
    Ok(())
}
