//! Many bytes, and many streams at once.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::data::{Pattern, Random, receive_random, send_random};
use crate::transport::{Duplex, Transport};

/// Sends and receives at once on one end, in one task per direction.
async fn exchange<S: Duplex>(stream: S, seed: u64, total: usize, most: u32) -> io::Result<Digests> {
    let (mut reader, mut writer) = stream.into_split();
    let sender = tokio::spawn(async move {
        let digest = send_random(&mut writer, seed, total, most).await?;
        writer.shutdown().await?;
        io::Result::Ok(digest)
    });
    let receiver = tokio::spawn(async move { receive_random(&mut reader, !seed, most).await });
    let (received, digest) = receiver.await??;
    assert_eq!(received, total);
    Ok(Digests { sent: sender.await??, received: digest })
}

#[derive(Debug)]
struct Digests {
    sent: [u8; 32],
    received: [u8; 32],
}

pub(crate) async fn both_directions_at_once<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    let (at_client, at_server) =
        tokio::try_join!(exchange(client, 60, 64 << 20, 200_000), exchange(server, 61, 64 << 20, 200_000))?;
    assert_eq!(at_client.sent, at_server.received);
    assert_eq!(at_server.sent, at_client.received);
    assert_ne!(at_client.sent, at_server.sent);
    Ok(())
}

pub(crate) async fn one_write_one_read<T: Transport>(net: T) -> io::Result<()> {
    const LEN: usize = 16 << 20;
    let (mut client, mut server) = net.pair().await?;
    let data = Random::new(62).bytes(LEN);
    let mut received = vec![0; LEN];
    tokio::try_join!(client.write_all(&data), server.read_exact(&mut received))?;
    assert!(data == received);
    Ok(())
}

pub(crate) async fn fifty_streams_at_once<T: Transport>(net: T) -> io::Result<()> {
    const STREAMS: u64 = 50;
    const LEN: usize = 400_000;
    let mut pairs = Vec::new();
    // All are open before the first byte moves.
    for seed in 0..STREAMS {
        pairs.push((seed, net.pair().await?));
    }
    let mut tasks = JoinSet::new();
    for (seed, (client, server)) in pairs {
        tasks.spawn(async move {
            let (seed, most) = (1000 + 2 * seed, 20_000);
            let (at_client, at_server) =
                tokio::try_join!(exchange(client, seed, LEN, most), exchange(server, seed + 1, LEN, most))?;
            assert_eq!(at_client.sent, at_server.received);
            assert_eq!(at_server.sent, at_client.received);
            io::Result::Ok(())
        });
    }
    let mut done = 0;
    while let Some(outcome) = tasks.join_next().await {
        outcome??;
        done += 1;
    }
    assert_eq!(done, STREAMS);
    Ok(())
}

pub(crate) async fn proxy_by_copy_bidirectional<T: Transport>(net: T) -> io::Result<()> {
    const THERE: usize = 3_000_000;
    const BACK: usize = 2_000_000;
    let (client, mut front) = net.pair().await?;
    let (mut back, server) = net.pair().await?;
    let proxy = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut front, &mut back).await });
    let (mut client_reader, mut client_writer) = client.into_split();
    let (mut server_reader, mut server_writer) = server.into_split();
    let (there, answer) = (Pattern::new(63), Pattern::new(64));
    tokio::try_join!(
        async {
            there.send(&mut client_writer, 0, THERE).await?;
            client_writer.shutdown().await
        },
        async {
            answer.send(&mut server_writer, 0, BACK).await?;
            server_writer.shutdown().await
        },
        there.expect_all(&mut server_reader, 0, THERE),
        answer.expect_all(&mut client_reader, 0, BACK),
    )?;
    assert_eq!(proxy.await??, (THERE as u64, BACK as u64));
    Ok(())
}
