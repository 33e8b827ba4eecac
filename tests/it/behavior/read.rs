//! Reads return what is there, wait when nothing is, and end only after a clean shutdown.

use std::io;
use std::pin::{Pin, pin};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;

use super::poll_once;
use crate::data::Pattern;
use crate::duplex::End;
use crate::transport::Transport;

pub(crate) async fn returns_what_is_there<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let mut buffer = vec![0; 4096];
    for round in 0..20 {
        client.write_all(b"hello").await?;
        let mut have = 0;
        while have < 5 {
            // Must return although the buffer is far from full.
            let n = server.read(&mut buffer[have..]).await?;
            assert!(n > 0 && have + n <= 5, "round {round}: {n} bytes after {have}");
            have += n;
        }
        assert_eq!(&buffer[..5], b"hello");
    }
    Ok(())
}

pub(crate) async fn small_buffers_get_everything<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(1);
    pattern.send(&mut client, 0, 10_000).await?;
    let mut position = 0;
    let mut buffer = [0; 7];
    while position < 10_000 {
        let n = server.read(&mut buffer).await?;
        assert!(n > 0);
        pattern.check(position, &buffer[..n]);
        position += n;
    }
    assert_eq!(position, 10_000);
    Ok(())
}

pub(crate) async fn zero_length_read_takes_nothing<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    client.write_all(b"abc").await?;
    // One byte first, so that more bytes are known to be there.
    assert_eq!(server.read_u8().await?, b'a');
    for _ in 0..3 {
        assert_eq!(server.read(&mut []).await?, 0);
    }
    // It was not the end of the stream either.
    let mut rest = [0; 2];
    server.read_exact(&mut rest).await?;
    assert_eq!(&rest, b"bc");
    Ok(())
}

pub(crate) async fn pends_until_data_arrives<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let mut buffer = [0; 8];
    {
        let mut read = pin!(server.read(&mut buffer));
        assert!(poll_once(read.as_mut()).await.is_pending());
        client.write_all(b"x").await?;
        assert_eq!(read.await?, 1);
    }
    assert_eq!(buffer[0], b'x');
    Ok(())
}

pub(crate) async fn ends_only_after_shutdown<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    client.write_all(b"all").await?;
    let mut buffer = [0; 3];
    server.read_exact(&mut buffer).await?;
    assert_eq!(&buffer, b"all");
    {
        let mut read = pin!(server.read(&mut buffer));
        assert!(poll_once(read.as_mut()).await.is_pending());
        client.shutdown().await?;
        assert_eq!(read.await?, 0);
    }
    for _ in 0..3 {
        assert_eq!(server.read(&mut buffer).await?, 0, "the end must stay the end");
    }
    Ok(())
}

pub(crate) async fn read_to_end_gets_everything<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(2);
    let expected = pattern.copy(0, 300_000);
    let writer = tokio::spawn(async move {
        pattern.send(&mut client, 0, 300_000).await?;
        client.shutdown().await?;
        io::Result::Ok(client)
    });
    let mut received = Vec::new();
    assert_eq!(server.read_to_end(&mut received).await?, 300_000);
    assert!(received == expected);
    writer.await??;
    Ok(())
}

pub(crate) async fn read_buf_appends<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    client.write_all(b"world").await?;
    let mut storage = [0xee; 16];
    let mut buffer = ReadBuf::new(&mut storage);
    buffer.put_slice(b"hello ");
    while buffer.filled().len() < 11 {
        let before = buffer.filled().len();
        std::future::poll_fn(|cx| Pin::new(&mut server).poll_read(cx, &mut buffer)).await?;
        assert!(buffer.filled().len() > before);
    }
    assert_eq!(buffer.filled(), b"hello world");

    client.write_all(b"!").await?;
    let mut growing = b"kept".to_vec();
    assert_eq!(server.read_buf(&mut growing).await?, 1);
    assert_eq!(growing, b"kept!");
    Ok(())
}

pub(crate) async fn data_wakes_a_reader_in_another_task<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    for round in 0..100 {
        let (polled, reader_polled) = oneshot::channel();
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 8];
            let n = {
                let mut read = pin!(server.read(&mut buffer));
                assert!(poll_once(read.as_mut()).await.is_pending());
                assert!(polled.send(()).is_ok());
                read.await?
            };
            assert_eq!(&buffer[..n], [round]);
            io::Result::Ok(server)
        });
        assert!(reader_polled.await.is_ok());
        client.write_all(&[round]).await?;
        server = reader.await??;
    }
    Ok(())
}

pub(crate) async fn pending_reader_can_move_to_another_task<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    for round in 0..100 {
        // This task's waker is registered first; the other task's must replace it.
        assert!(poll_once(pin!(server.read_u8())).await.is_pending());
        let (polled, reader_polled) = oneshot::channel();
        let reader = tokio::spawn(async move {
            let byte = {
                let mut read = pin!(server.read_u8());
                assert!(poll_once(read.as_mut()).await.is_pending());
                assert!(polled.send(()).is_ok());
                read.await?
            };
            io::Result::Ok((server, byte))
        });
        assert!(reader_polled.await.is_ok());
        client.write_all(&[round]).await?;
        let byte;
        (server, byte) = reader.await??;
        assert_eq!(byte, round);
    }
    Ok(())
}

pub(crate) async fn addresses_match<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    assert_eq!(client.peer_addr()?, server.local_addr()?);
    assert_eq!(server.peer_addr()?, client.local_addr()?);
    Ok(())
}
