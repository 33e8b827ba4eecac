//! Vectored writes.

use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::poll_once;
use crate::data::{Pattern, Random};
use crate::transport::{Duplex, Transport};

/// Writes all slices, however few bytes each call takes.
async fn write_all_vectored(
    writer: &mut (impl AsyncWrite + Unpin),
    mut slices: &mut [IoSlice<'_>],
) -> io::Result<()> {
    while !slices.is_empty() {
        let n = writer.write_vectored(slices).await?;
        assert_ne!(n, 0, "bytes are left, so some must be taken");
        IoSlice::advance_slices(&mut slices, n);
    }
    Ok(())
}

pub(crate) async fn is_supported<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    assert!(client.is_write_vectored());
    let (_reader, writer) = server.into_split();
    assert!(writer.is_write_vectored());
    Ok(())
}

pub(crate) async fn skips_empty_slices<T: Transport>(net: T) -> io::Result<()> {
    let (client, mut server) = net.pair().await?;
    let (_reader, mut client) = client.into_split();
    let parts: [&[u8]; 8] = [b"", b"", b"he", b"", b"l", b"", b"lo", b""];
    for _ in 0..20 {
        write_all_vectored(&mut client, &mut parts.map(IoSlice::new)).await?;
        let mut received = [0; 5];
        server.read_exact(&mut received).await?;
        assert_eq!(&received, b"hello");
    }
    client.shutdown().await?;
    assert_eq!(server.read(&mut [0; 4]).await?, 0);
    Ok(())
}

pub(crate) async fn only_empty_slices_send_nothing<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    assert_eq!(client.write_vectored(&[]).await?, 0);
    assert_eq!(client.write_vectored(&[IoSlice::new(&[]), IoSlice::new(&[])]).await?, 0);
    client.write_all(b"x").await?;
    let mut buffer = [0; 4];
    assert_eq!(server.read(&mut buffer).await?, 1);
    assert_eq!(buffer[0], b'x');
    Ok(())
}

pub(crate) async fn many_slices<T: Transport>(net: T) -> io::Result<()> {
    // More slices than the kernel takes in one call (IOV_MAX is 1024), and more bytes than a buffer holds.
    const SLICES: usize = 5000;
    let (mut client, mut server) = net.pair().await?;
    let (pattern, mut random) = (Pattern::new(80), Random::new(81));
    let mut total = 0;
    let parts: Vec<Vec<u8>> = (0..SLICES)
        .map(|index| {
            let len = if index % 7 == 0 { 0 } else { random.up_to(900) };
            total += len;
            pattern.copy(total - len, len)
        })
        .collect();
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let writer = async {
        write_all_vectored(&mut client, &mut slices).await?;
        client.shutdown().await
    };
    tokio::try_join!(writer, pattern.expect_all(&mut server, 0, total))?;
    Ok(())
}

pub(crate) async fn takes_a_prefix_when_the_buffer_fills<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(82);
    // Slices of three lengths against a peer that does not read: every count must be a true prefix.
    let lens = [1000, 60_000, 7];
    pattern.send(&mut client, 0, 1).await?;
    let mut accepted = 1;
    loop {
        let mut start = accepted;
        let parts = lens.map(|len| {
            start += len;
            pattern.copy(start - len, len)
        });
        let slices = [0, 1, 2].map(|index| IoSlice::new(&parts[index]));
        let Poll::Ready(outcome) = poll_once(pin!(client.write_vectored(&slices))).await else {
            break;
        };
        accepted += outcome?;
        assert!(accepted <= T::DIFFERENCES.in_flight);
    }
    assert!(accepted > 1);
    let end = accepted + 100_000;
    let writer = async {
        pattern.send(&mut client, accepted, end).await?;
        client.shutdown().await
    };
    tokio::try_join!(writer, pattern.expect_all(&mut server, 0, end))?;
    Ok(())
}

pub(crate) async fn fails_after_shutdown<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    client.shutdown().await?;
    let outcome = client.write_vectored(&[IoSlice::new(b"a"), IoSlice::new(b"b")]).await;
    let kind = outcome.as_ref().map_err(io::Error::kind);
    assert!(
        matches!(kind, Err(kind) if T::DIFFERENCES.write_after_shutdown.contains(&kind)),
        "got {outcome:?}"
    );
    assert_eq!(server.read(&mut [0; 4]).await?, 0);
    Ok(())
}
