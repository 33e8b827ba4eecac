//! A peek shows bytes and leaves them.

use std::future::poll_fn;
use std::io;
use std::pin::pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::poll_once;
use crate::duplex::ReadEnd;
use crate::transport::Transport;

/// Peeks until all of `want` shows.
pub(super) async fn see(reader: &mut impl ReadEnd, want: &[u8]) -> io::Result<()> {
    let mut buf = vec![0; want.len() + 8];
    loop {
        let n = reader.peek(&mut buf).await?;
        assert!(n > 0 && want.starts_with(&buf[..n]), "{:?}", &buf[..n]);
        if n == want.len() {
            return Ok(());
        }
    }
}

pub(crate) async fn leaves_the_bytes<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    client.write_all(b"hello").await?;
    see(&mut server, b"hello").await?;
    see(&mut server, b"hello").await?;
    let mut two = [0; 2];
    assert_eq!(server.peek(&mut two).await?, 2);
    assert_eq!(&two, b"he");
    server.read_exact(&mut two).await?;
    assert_eq!(&two, b"he");
    see(&mut server, b"llo").await?;
    client.write_all(b" again").await?;
    see(&mut server, b"llo again").await?;
    let mut all = [0; 9];
    server.read_exact(&mut all).await?;
    assert_eq!(&all, b"llo again");
    assert!(poll_once(pin!(server.peek(&mut all))).await.is_pending());
    Ok(())
}

pub(crate) async fn waits_for_bytes_and_tells_the_end<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let mut buf = [0; 8];
    {
        let mut peek = pin!(server.peek(&mut buf));
        assert!(poll_once(peek.as_mut()).await.is_pending());
        client.write_all(b"x").await?;
        assert_eq!(peek.await?, 1);
    }
    client.shutdown().await?;
    see(&mut server, b"x").await?;
    assert_eq!(server.read_u8().await?, b'x');
    for _ in 0..3 {
        assert_eq!(server.peek(&mut buf).await?, 0);
    }
    assert_eq!(server.read(&mut buf).await?, 0);
    Ok(())
}

pub(crate) async fn dropped_peek_takes_nothing<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let mut buf = [0xee; 8];
    for round in 0..50 {
        assert!(poll_once(pin!(server.peek(&mut buf))).await.is_pending());
        assert_eq!(buf, [0xee; 8]);
        client.write_u8(round).await?;
        assert_eq!(server.read_u8().await?, round);
        // A read that was ready at once leaves a TCP stream's readiness set: use it up.
        while poll_once(pin!(server.peek(&mut [0; 1]))).await.is_ready() {}
    }
    Ok(())
}

pub(crate) async fn polls<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let mut storage = [0; 16];
    let mut buf = ReadBuf::new(&mut storage);
    buf.put_slice(b"kept ");
    {
        let mut peek = pin!(poll_fn(|cx| server.poll_peek(cx, &mut buf)));
        assert!(poll_once(peek.as_mut()).await.is_pending());
        client.write_all(b"x").await?;
        assert_eq!(peek.await?, 1);
    }
    assert_eq!(buf.filled(), b"kept x");
    assert_eq!(server.read_u8().await?, b'x');
    Ok(())
}
