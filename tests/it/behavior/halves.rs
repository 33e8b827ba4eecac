//! Halves can do what the stream can, and come together again.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};

use super::peek::see;
use super::poll_once;
use super::ready::{read_ready, settle, write_ready};
use crate::duplex::{Duplex, End, ReadEnd, WriteEnd};
use crate::transport::Transport;

/// Uses every method of a reading and of a writing half against a whole stream.
async fn use_halves<S: Duplex>(
    reader: &mut (impl ReadEnd + AsRef<S>),
    writer: &mut (impl WriteEnd + AsRef<S>),
    peer: &mut S,
) -> io::Result<()> {
    for (local, remote) in
        [(reader.local_addr()?, reader.peer_addr()?), (writer.local_addr()?, writer.peer_addr()?)]
    {
        assert_eq!((remote, local), (End::local_addr(peer)?, End::peer_addr(peer)?));
    }
    assert_eq!(End::local_addr(reader.as_ref())?, writer.as_ref().local_addr()?);

    write_ready(writer, b"try").await?;
    writer.writable().await?;
    assert_eq!(writer.try_write_vectored(&[IoSlice::new(b"-"), IoSlice::new(b"it")])?, 3);
    writer.write_all(b"!").await?;
    assert!(writer.ready(Interest::WRITABLE).await?.is_writable());
    let mut sent = [0; 7];
    peer.read_exact(&mut sent).await?;
    assert_eq!(&sent, b"try-it!");

    settle(reader).await;
    peer.write_all(b"abcdefgh").await?;
    see(reader, b"abcdefgh").await?;
    assert!(reader.ready(Interest::READABLE).await?.is_readable());
    let mut buf = [0; 2];
    read_ready(reader, &mut buf).await?;
    assert_eq!(&buf, b"ab");
    assert_eq!(reader.try_read_vectored(&mut [IoSliceMut::new(&mut buf)])?, 2);
    assert_eq!(&buf, b"cd");
    let mut more = Vec::with_capacity(2);
    assert_eq!(reader.try_read_buf(&mut more)?, 2);
    assert_eq!(more, b"ef");
    reader.read_exact(&mut buf).await?;
    assert_eq!(&buf, b"gh");
    Ok(())
}

pub(crate) async fn borrowed_halves_have_every_method<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let (mut reader, mut writer) = client.split();
    use_halves(&mut reader, &mut writer, &mut server).await
}

pub(crate) async fn owned_halves_have_every_method<T: Transport>(net: T) -> io::Result<()> {
    let (client, mut server) = net.pair().await?;
    let (mut reader, mut writer) = client.into_split();
    use_halves(&mut reader, &mut writer, &mut server).await
}

pub(crate) async fn borrowed_halves_leave_the_stream_whole<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    for round in 0..3 {
        let (mut reader, mut writer) = client.split();
        let (wrote, read) = tokio::join!(writer.write_u8(round), async {
            let byte = server.read_u8().await?;
            server.write_u8(byte).await?;
            reader.read_u8().await
        });
        wrote?;
        assert_eq!(read?, round);
    }
    assert!(poll_once(pin!(server.read_u8())).await.is_pending(), "dropped halves end nothing");
    client.shutdown().await?;
    assert_eq!(server.read(&mut [0]).await?, 0);
    Ok(())
}

pub(crate) async fn reunited_halves_are_the_stream<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    for round in 0..4 {
        let (reader, mut writer) = client.into_split();
        writer.write_all(&[round]).await?;
        let whole = if round % 2 == 0 {
            T::Stream::reunite(reader, writer)
        } else {
            T::Stream::reunite_write(writer, reader)
        };
        client = whole.map_err(|_| io::Error::other("halves of one stream must reunite"))?;
        assert_eq!(server.read_u8().await?, round);
    }
    client.write_all(b"still open").await?;
    client.shutdown().await?;
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await?;
    assert_eq!(rest, b"still open");
    Ok(())
}

pub(crate) async fn halves_of_two_streams_do_not_reunite<T: Transport>(net: T) -> io::Result<()> {
    let (client, mut server) = net.pair().await?;
    let (other, _other_server) = net.pair().await?;
    let ((reader, writer), (other_reader, other_writer)) = (client.into_split(), other.into_split());
    let Err((other_reader, mut writer)) = T::Stream::reunite(other_reader, writer) else {
        return Err(io::Error::other("reunited"));
    };
    writer.write_all(b"unharmed").await?;
    let mut bytes = [0; 8];
    server.read_exact(&mut bytes).await?;
    assert_eq!(&bytes, b"unharmed");
    assert!(T::Stream::reunite(reader, writer).is_ok());
    assert!(T::Stream::reunite_write(other_writer, other_reader).is_ok());
    Ok(())
}

pub(crate) async fn a_forgotten_write_half_ends_nothing<T: Transport>(net: T) -> io::Result<()> {
    let (client, mut server) = net.pair().await?;
    let (mut reader, mut writer) = client.into_split();
    writer.write_all(b"x").await?;
    T::Stream::forget(writer);
    assert_eq!(server.read_u8().await?, b'x');
    assert!(poll_once(pin!(server.read_u8())).await.is_pending());
    server.write_all(b"y").await?;
    assert_eq!(reader.read_u8().await?, b'y');
    assert!(poll_once(pin!(server.read_u8())).await.is_pending());
    drop(reader);
    T::DIFFERENCES.after_drop.check(&server.read(&mut [0]).await);
    Ok(())
}
