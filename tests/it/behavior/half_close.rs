//! Each direction ends on its own, and a shutdown delivers everything written before it.

use std::io;
use std::pin::pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::{Clock, poll_once};
use crate::data::Pattern;
use crate::transport::{Duplex, Transport};

/// Enough to outlast every buffer on the way several times.
const LONG: usize = 8 << 20;

/// `closer` ends its direction at once; `other` sees that and then sends for long.
async fn one_side_goes_on<S: Duplex>(mut closer: S, mut other: S) -> io::Result<()> {
    closer.write_all(b"request").await?;
    closer.shutdown().await?;
    let mut request = Vec::new();
    other.read_to_end(&mut request).await?;
    assert_eq!(request, b"request");

    let pattern = Pattern::new(30);
    let sender = async {
        pattern.send(&mut other, 0, LONG).await?;
        other.shutdown().await
    };
    tokio::try_join!(sender, pattern.expect_all(&mut closer, 0, LONG))?;
    Ok(())
}

pub(crate) async fn server_sends_long_after_the_clients_end<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    one_side_goes_on(client, server).await
}

pub(crate) async fn client_sends_long_after_the_servers_end<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    one_side_goes_on(server, client).await
}

pub(crate) async fn directions_end_independently<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    server.shutdown().await?;
    assert_eq!(client.read(&mut [0; 4]).await?, 0);
    // The client's direction is open: the server neither sees an end nor misses a byte.
    let mut byte = [0];
    for sent in 0..50 {
        {
            let mut read = pin!(server.read(&mut byte));
            assert!(poll_once(read.as_mut()).await.is_pending());
            client.write_all(&[sent]).await?;
            assert_eq!(read.await?, 1);
        }
        assert_eq!(byte, [sent]);
        assert_eq!(client.read(&mut [0; 4]).await?, 0);
    }
    client.shutdown().await?;
    assert_eq!(server.read(&mut byte).await?, 0);
    Ok(())
}

pub(crate) async fn shutdown_twice<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    client.write_all(b"x").await?;
    client.shutdown().await?;
    client.shutdown().await?;
    assert_eq!(server.read_u8().await?, b'x');
    assert_eq!(server.read(&mut [0; 4]).await?, 0);
    // Again after the peer has seen it, and while the other direction still works.
    client.shutdown().await?;
    server.write_all(b"y").await?;
    assert_eq!(client.read_u8().await?, b'y');
    Ok(())
}

pub(crate) async fn write_after_shutdown_fails<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    client.write_all(b"before").await?;
    client.shutdown().await?;
    for _ in 0..3 {
        let outcome = client.write(b"after").await;
        let kind = outcome.as_ref().map_err(io::Error::kind);
        let expected = T::DIFFERENCES.write_after_shutdown;
        assert!(matches!(kind, Err(kind) if expected.contains(&kind)), "got {outcome:?}");
    }
    let mut received = Vec::new();
    server.read_to_end(&mut received).await?;
    assert_eq!(received, b"before");
    // The failed writes did not harm the other direction.
    server.write_all(b"reply").await?;
    server.shutdown().await?;
    let mut reply = Vec::new();
    client.read_to_end(&mut reply).await?;
    assert_eq!(reply, b"reply");
    Ok(())
}

pub(crate) async fn simultaneous_shutdown<T: Transport>(net: T) -> io::Result<()> {
    for _ in 0..20 {
        let (mut client, mut server) = net.pair().await?;
        client.write_all(b"c").await?;
        server.write_all(b"s").await?;
        tokio::try_join!(client.shutdown(), server.shutdown())?;
        let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
        tokio::try_join!(server.read_to_end(&mut from_client), client.read_to_end(&mut from_server))?;
        assert_eq!((from_client, from_server), (b"c".to_vec(), b"s".to_vec()));
    }
    Ok(())
}

pub(crate) async fn data_before_shutdown_is_delivered<T: Transport>(net: T) -> io::Result<()> {
    for round in 0..10 {
        let len = 100_000 * round + 1;
        let (mut client, mut server) = net.pair().await?;
        let reader = tokio::spawn(async move { Pattern::new(31).expect_all(&mut server, 0, len).await });
        Pattern::new(31).send(&mut client, 0, len).await?;
        client.shutdown().await?;
        reader.await??;
    }
    Ok(())
}

pub(crate) async fn shutdown_then_drop_is_a_clean_end<T: Transport>(net: T) -> io::Result<()> {
    let pattern = Pattern::new(32);
    for _ in 0..20 {
        let (mut client, mut server) = net.pair().await?;
        pattern.send(&mut client, 0, 10_000).await?;
        client.shutdown().await?;
        drop(client);
        pattern.expect_all(&mut server, 0, 10_000).await?;
    }
    Ok(())
}

pub(crate) async fn shutdown_without_data<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    client.shutdown().await?;
    assert_eq!(server.read(&mut [0; 4]).await?, 0);
    server.shutdown().await?;
    assert_eq!(client.read(&mut [0; 4]).await?, 0);
    Ok(())
}

pub(crate) async fn shutdown_wakes_a_pending_read<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let (polled, reader_polled) = oneshot::channel();
    let reader = tokio::spawn(async move {
        let mut buffer = [0; 4];
        let mut read = pin!(server.read(&mut buffer));
        assert!(poll_once(read.as_mut()).await.is_pending());
        assert!(polled.send(()).is_ok());
        read.await
    });
    assert!(reader_polled.await.is_ok());
    client.shutdown().await?;
    assert_eq!(reader.await??, 0);
    Ok(())
}

pub(crate) async fn shutdown_behind_a_full_buffer<T: Transport>(net: T) -> io::Result<()> {
    let mut clock = Clock::new(&net).await?;
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(33);
    let accepted = clock.fill(&mut client, &pattern).await?;
    // The end must queue behind the data, whether or not shutdown waits for it.
    let (reader, mut writer) = client.into_split();
    let closing = tokio::spawn(async move { writer.shutdown().await });
    pattern.expect_all(&mut server, 0, accepted).await?;
    closing.await??;
    drop(reader);
    Ok(())
}
