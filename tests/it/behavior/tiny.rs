//! Very small writes and reads.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Clock;
use crate::data::{Pattern, Random};
use crate::transport::Transport;

pub(crate) async fn one_byte_ping_pong<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let echo = tokio::spawn(async move {
        let mut byte = [0];
        while server.read(&mut byte).await? == 1 {
            server.write_all(&byte).await?;
        }
        server.shutdown().await
    });
    for byte in (0..=u8::MAX).chain(0..=u8::MAX) {
        client.write_all(&[byte]).await?;
        assert_eq!(client.read_u8().await?, byte);
    }
    client.shutdown().await?;
    assert_eq!(client.read(&mut [0; 4]).await?, 0);
    echo.await?
}

pub(crate) async fn thousands_of_tiny_writes<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 50_000;
    let (mut client, mut server) = net.pair().await?;
    let writer = tokio::spawn(async move {
        let (pattern, mut random) = (Pattern::new(70), Random::new(71));
        let mut position = 0;
        while position < TOTAL {
            let len = random.up_to(9).min(TOTAL - position);
            client.write_all(&pattern.copy(position, len)).await?;
            position += len;
        }
        client.shutdown().await
    });
    Pattern::new(70).expect_all(&mut server, 0, TOTAL).await?;
    writer.await?
}

pub(crate) async fn late_reader_gets_tiny_writes_in_few_reads<T: Transport>(net: T) -> io::Result<()> {
    const WRITES: usize = 2000;
    let mut clock = Clock::new(&net).await?;
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(72);
    for position in 0..WRITES {
        client.write_all(&pattern.at(position)[..1]).await?;
    }
    client.shutdown().await?;
    clock.pass().await?;
    let mut buffer = vec![0; 64 * 1024];
    let (mut position, mut reads) = (0, 0);
    loop {
        let n = server.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        pattern.check(position, &buffer[..n]);
        position += n;
        reads += 1;
    }
    assert_eq!(position, WRITES);
    // A stream has no message boundaries: a late reader must not pay one read per write.
    assert!(reads <= WRITES / 20, "{reads} reads for {WRITES} waiting bytes");
    Ok(())
}

pub(crate) async fn sizes_up_and_down<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(73);
    let mut buffer = [0; 128];
    let mut position = 0;
    for len in (1..=128).chain((1..128).rev()) {
        client.write_all(&pattern.copy(position, len)).await?;
        server.read_exact(&mut buffer[..len]).await?;
        pattern.check(position, &buffer[..len]);
        server.write_all(&buffer[..len]).await?;
        client.read_exact(&mut buffer[..len]).await?;
        pattern.check(position, &buffer[..len]);
        position += len;
    }
    Ok(())
}

pub(crate) async fn one_byte_reads<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 64 * 1024;
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(74);
    let data = pattern.copy(0, TOTAL);
    let writer = async {
        client.write_all(&data).await?;
        client.shutdown().await
    };
    let reader = async {
        for expected in &data {
            assert_eq!(server.read_u8().await?, *expected);
        }
        assert_eq!(server.read(&mut [0; 1]).await?, 0);
        Ok(())
    };
    tokio::try_join!(writer, reader)?;
    Ok(())
}
