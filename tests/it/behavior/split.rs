//! Owned halves work on different tasks, and each can go before the other.

use std::io;
use std::pin::pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::{Clock, poll_once};
use crate::data::Pattern;
use crate::transport::{Duplex, Transport};

pub(crate) async fn halves_run_on_two_tasks<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 3_000_000;
    let (client, server) = net.pair().await?;
    let mut tasks = Vec::new();
    for (stream, send, receive) in [(client, 20, 21), (server, 21, 20)] {
        let (mut reader, mut writer) = stream.into_split();
        tasks.push(tokio::spawn(async move {
            Pattern::new(send).send(&mut writer, 0, TOTAL).await?;
            writer.shutdown().await
        }));
        tasks
            .push(tokio::spawn(async move { Pattern::new(receive).expect_all(&mut reader, 0, TOTAL).await }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

pub(crate) async fn pending_read_half_lets_the_write_half_write<T: Transport>(net: T) -> io::Result<()> {
    let (client, mut server) = net.pair().await?;
    let (mut reader, mut writer) = client.into_split();
    let (polled, reader_polled) = oneshot::channel();
    let reading = tokio::spawn(async move {
        let mut read = pin!(reader.read_u8());
        assert!(poll_once(read.as_mut()).await.is_pending());
        assert!(polled.send(()).is_ok());
        read.await
    });
    assert!(reader_polled.await.is_ok());
    let pattern = Pattern::new(22);
    tokio::try_join!(pattern.send(&mut writer, 0, 500_000), pattern.expect(&mut server, 0, 500_000))?;
    server.write_all(b"!").await?;
    assert_eq!(reading.await??, b'!');
    Ok(())
}

pub(crate) async fn shutdown_of_the_write_half_is_a_half_close<T: Transport>(net: T) -> io::Result<()> {
    let (client, mut server) = net.pair().await?;
    let (mut reader, mut writer) = client.into_split();
    writer.write_all(b"request").await?;
    writer.shutdown().await?;
    let mut request = Vec::new();
    server.read_to_end(&mut request).await?;
    assert_eq!(request, b"request");
    drop(writer);
    server.write_all(b"response").await?;
    server.shutdown().await?;
    let mut response = Vec::new();
    reader.read_to_end(&mut response).await?;
    assert_eq!(response, b"response");
    Ok(())
}

pub(crate) async fn dropped_read_half_lets_the_write_half_write<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 500_000;
    let (client, mut server) = net.pair().await?;
    let (reader, mut writer) = client.into_split();
    drop(reader);
    Clock::new(&net).await?.pass().await?;
    let pattern = Pattern::new(23);
    let sender = async {
        pattern.send(&mut writer, 0, TOTAL).await?;
        writer.shutdown().await
    };
    tokio::try_join!(sender, pattern.expect_all(&mut server, 0, TOTAL))?;
    Ok(())
}

pub(crate) async fn dropped_write_half_ends_one_direction<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 500_000;
    let (client, mut server) = net.pair().await?;
    let (mut reader, mut writer) = client.into_split();
    writer.write_all(b"last").await?;
    let mut last = [0; 4];
    server.read_exact(&mut last).await?;
    assert_eq!(&last, b"last");
    drop(writer);
    T::DIFFERENCES.after_write_half_drop.check(&server.read(&mut last).await);

    // The other direction is untouched.
    let pattern = Pattern::new(24);
    let sender = async {
        pattern.send(&mut server, 0, TOTAL).await?;
        server.shutdown().await
    };
    tokio::try_join!(sender, pattern.expect_all(&mut reader, 0, TOTAL))?;
    Ok(())
}

pub(crate) async fn echo_server_by_copy<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 1_000_000;
    let (client, server) = net.pair().await?;
    let echo = tokio::spawn(async move {
        let (mut reader, mut writer) = server.into_split();
        let copied = tokio::io::copy(&mut reader, &mut writer).await?;
        writer.shutdown().await?;
        io::Result::Ok(copied)
    });
    let (mut reader, mut writer) = client.into_split();
    let pattern = Pattern::new(25);
    let sender = async {
        pattern.send(&mut writer, 0, TOTAL).await?;
        writer.shutdown().await
    };
    tokio::try_join!(sender, pattern.expect_all(&mut reader, 0, TOTAL))?;
    assert_eq!(echo.await??, TOTAL as u64);
    Ok(())
}

pub(crate) async fn generic_split_works<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 500_000;
    let (client, server) = net.pair().await?;
    let (mut client_reader, mut client_writer) = tokio::io::split(client);
    let (mut server_reader, mut server_writer) = tokio::io::split(server);
    let (there, back) = (Pattern::new(26), Pattern::new(27));
    tokio::try_join!(
        async {
            there.send(&mut client_writer, 0, TOTAL).await?;
            client_writer.shutdown().await
        },
        async {
            back.send(&mut server_writer, 0, TOTAL).await?;
            server_writer.shutdown().await
        },
        there.expect_all(&mut server_reader, 0, TOTAL),
        back.expect_all(&mut client_reader, 0, TOTAL),
    )?;
    Ok(())
}
