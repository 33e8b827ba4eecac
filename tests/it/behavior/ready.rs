//! Readiness is told to everyone who waits, stays until it is used up, and costs nothing when not awaited to the end.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::pin::pin;

use tokio::io::{AsyncWriteExt, Interest};

use super::{Clock, poll_once};
use crate::data::Pattern;
use crate::duplex::{Duplex, End, ReadEnd, WriteEnd};
use crate::transport::Transport;

/// Reads without waiting until `buf` is full, and waits for readiness in between.
pub(super) async fn read_ready(reader: &impl ReadEnd, buf: &mut [u8]) -> io::Result<()> {
    let mut have = 0;
    while have < buf.len() {
        reader.readable().await?;
        match reader.try_read(&mut buf[have..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The same for writing.
pub(super) async fn write_ready(writer: &impl WriteEnd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        writer.writable().await?;
        match writer.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn would_block<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    matches!(&result, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Uses up readiness of which nothing came, as TCP's kernel events leave it behind now and then.
pub(super) async fn settle(reader: &impl ReadEnd) {
    loop {
        assert!(would_block(reader.try_read(&mut [0])));
        if poll_once(pin!(reader.readable())).await.is_pending() {
            return;
        }
    }
}

/// Writes without waiting until that gives `WouldBlock` although time passes; returns the count.
async fn fill<T: Transport>(net: &T, writer: &T::Stream, pattern: &Pattern) -> io::Result<usize> {
    let mut clock = Clock::new(net).await?;
    writer.writable().await?;
    let mut accepted = 0;
    let mut waited = false;
    loop {
        match writer.try_write(pattern.at(accepted)) {
            Ok(n) => {
                accepted += n;
                waited = false;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && waited => return Ok(accepted),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                clock.pass().await?;
                waited = true;
            }
            Err(error) => return Err(error),
        }
        assert!(accepted <= T::DIFFERENCES.in_flight, "{accepted} bytes for a peer that does not read");
    }
}

pub(crate) async fn try_read_takes_what_is_there<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    let mut buf = [0; 64];
    for round in 0..20 {
        assert!(would_block(server.try_read(&mut buf)), "round {round}");
        settle(&server).await;
        write_ready(&client, b"hello").await?;
        read_ready(&server, &mut buf[..5]).await?;
        assert_eq!(&buf[..5], b"hello");
    }
    Ok(())
}

pub(crate) async fn readable_tells_the_end<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, server) = net.pair().await?;
    settle(&server).await;
    {
        let mut readable = pin!(server.readable());
        assert!(poll_once(readable.as_mut()).await.is_pending());
        client.shutdown().await?;
        readable.await?;
    }
    for _ in 0..3 {
        server.readable().await?;
        assert_eq!(server.try_read(&mut [0; 8])?, 0);
    }
    let ready = server.ready(Interest::READABLE).await?;
    assert!(ready.is_readable() && ready.is_read_closed(), "{ready:?}");
    Ok(())
}

pub(crate) async fn everyone_who_waits_is_woken<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    for round in 0..20 {
        settle(&server).await;
        {
            let mut first = pin!(server.readable());
            let mut second = pin!(server.ready(Interest::READABLE));
            let mut third = pin!(server.readable());
            assert!(poll_once(first.as_mut()).await.is_pending());
            assert!(poll_once(second.as_mut()).await.is_pending());
            assert!(poll_once(third.as_mut()).await.is_pending());
            client.write_all(&[round]).await?;
            tokio::try_join!(first, second, third)?;
        }
        let mut byte = [0];
        tokio::io::AsyncReadExt::read_exact(&mut server, &mut byte).await?;
        assert_eq!(byte, [round]);
    }
    Ok(())
}

pub(crate) async fn try_write_fills_the_buffer_and_writable_waits<T: Transport>(net: T) -> io::Result<()> {
    let (client, mut server) = net.pair().await?;
    let pattern = Pattern::new(40);
    let accepted = fill(&net, &client, &pattern).await?;
    assert!(accepted >= 64 * 1024, "room for {accepted} bytes only");
    {
        let mut first = pin!(client.writable());
        let mut second = pin!(client.writable());
        assert!(poll_once(first.as_mut()).await.is_pending());
        assert!(poll_once(second.as_mut()).await.is_pending());
        tokio::try_join!(first, second, pattern.expect(&mut server, 0, accepted))?;
    }
    let sent = pattern.copy(accepted, 100_000);
    tokio::try_join!(write_ready(&client, &sent), pattern.expect(&mut server, accepted, accepted + 100_000))?;
    Ok(())
}

pub(crate) async fn an_empty_write_does_not_make_a_waiter_forgotten<T: Transport>(net: T) -> io::Result<()> {
    let (client, mut server) = net.pair().await?;
    let pattern = Pattern::new(41);
    let accepted = fill(&net, &client, &pattern).await?;
    let mut writable = pin!(client.writable());
    assert!(poll_once(writable.as_mut()).await.is_pending());
    assert!(matches!(client.try_write(b""), Ok(0) | Err(_)));
    tokio::try_join!(writable, pattern.expect(&mut server, 0, accepted))?;
    Ok(())
}

pub(crate) async fn ready_tells_both_directions<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, server) = net.pair().await?;
    let both = Interest::READABLE | Interest::WRITABLE;
    settle(&server).await;
    let ready = server.ready(both).await?;
    assert!(ready.is_writable() && !ready.is_readable() && !ready.is_read_closed(), "{ready:?}");
    assert!(poll_once(pin!(server.ready(Interest::READABLE))).await.is_pending());
    client.write_all(b"x").await?;
    let ready = server.ready(Interest::READABLE).await?;
    assert!(ready.is_readable() && !ready.is_writable(), "{ready:?}");
    let ready = server.ready(both).await?;
    assert!(ready.is_readable() && ready.is_writable(), "{ready:?}");
    Ok(())
}

pub(crate) async fn polling_is_woken<T: Transport>(net: T) -> io::Result<()> {
    let (client, mut server) = net.pair().await?;
    poll_fn(|cx| client.poll_write_ready(cx)).await?;
    settle(&server).await;
    let mut readable = pin!(poll_fn(|cx| server.poll_read_ready(cx)));
    assert!(poll_once(readable.as_mut()).await.is_pending());
    write_ready(&client, b"x").await?;
    readable.await?;
    let mut byte = [0];
    read_ready(&server, &mut byte).await?;
    assert_eq!(&byte, b"x");

    let pattern = Pattern::new(42);
    let accepted = fill(&net, &client, &pattern).await?;
    let mut writable = pin!(poll_fn(|cx| client.poll_write_ready(cx)));
    assert!(poll_once(writable.as_mut()).await.is_pending());
    tokio::try_join!(writable, pattern.expect(&mut server, 0, accepted))?;
    Ok(())
}

pub(crate) async fn vectored_reads_and_writes<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    client.writable().await?;
    let slices = [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"three")];
    assert_eq!(client.try_write_vectored(&slices)?, 8);
    let mut all = Vec::new();
    while all.len() < 8 {
        server.readable().await?;
        let (mut a, mut b, mut c) = ([0; 2], [0; 0], [0; 30]);
        let mut into = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b), IoSliceMut::new(&mut c)];
        match server.try_read_vectored(&mut into) {
            Ok(n) => {
                assert!(n > 0);
                all.extend_from_slice(&a[..n.min(2)]);
                all.extend_from_slice(&c[..n.saturating_sub(2)]);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert_eq!(all, b"onethree");
    assert!(would_block(server.try_read_vectored(&mut [IoSliceMut::new(&mut [0; 4])])));
    Ok(())
}

pub(crate) async fn try_read_buf_appends<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    write_ready(&client, b"world and more").await?;
    let mut buf = Vec::with_capacity(11);
    buf.extend_from_slice(b"hello ");
    while buf.len() < 11 {
        server.readable().await?;
        match server.try_read_buf(&mut buf) {
            Ok(n) => assert!(n > 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(buf.len() <= buf.capacity().max(11));
    }
    assert_eq!(&buf[..11], b"hello world");
    Ok(())
}

pub(crate) async fn dropped_waits_take_nothing<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    for round in 0..50_u8 {
        // Dropped before and after there is something to tell.
        settle(&server).await;
        write_ready(&client, &[round]).await?;
        drop(poll_once(pin!(server.readable())).await);
        let mut byte = [0];
        read_ready(&server, &mut byte).await?;
        assert_eq!(byte, [round]);
    }
    Ok(())
}
