//! A future dropped before it is ready took nothing, or a prefix where tokio documents a prefix.

use std::io;
use std::pin::pin;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{Clock, poll_once};
use crate::data::{Pattern, Random};
use crate::transport::{Duplex, Transport};

pub(crate) async fn dropped_read_takes_nothing<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    let mut buffer = [0; 16];
    for round in 0..100 {
        assert!(poll_once(pin!(server.read(&mut buffer))).await.is_pending());
        client.write_all(&[round]).await?;
        assert_eq!(server.read(&mut buffer).await?, 1);
        assert_eq!(buffer[0], round);
    }
    Ok(())
}

pub(crate) async fn randomly_dropped_reads_lose_nothing<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 2_000_000;
    let (mut client, mut server) = net.pair().await?;
    let writer = tokio::spawn(async move {
        let (pattern, mut random) = (Pattern::new(40), Random::new(41));
        let mut position = 0;
        while position < TOTAL {
            let end = (position + random.up_to(3000)).min(TOTAL);
            pattern.send(&mut client, position, end).await?;
            if random.coin() {
                tokio::task::yield_now().await;
            }
            position = end;
        }
        client.shutdown().await
    });
    let (pattern, mut random) = (Pattern::new(40), Random::new(42));
    let mut buffer = vec![0; 5000];
    let mut position = 0;
    while position < TOTAL {
        let len = random.up_to(5000);
        let outcome = if random.coin() {
            poll_once(pin!(server.read(&mut buffer[..len]))).await
        } else {
            Poll::Ready(server.read(&mut buffer[..len]).await)
        };
        match outcome {
            Poll::Ready(n) => {
                let n = n?;
                assert_ne!(n, 0, "the stream ended at {position}");
                pattern.check(position, &buffer[..n]);
                position += n;
            }
            Poll::Pending => tokio::task::yield_now().await,
        }
    }
    assert_eq!(server.read(&mut buffer).await?, 0);
    writer.await?
}

pub(crate) async fn pinned_read_exact_in_select_loses_nothing<T: Transport>(net: T) -> io::Result<()> {
    const ROUNDS: usize = 100;
    const LEN: usize = 50;
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(43);
    let (ticks, mut ticked) = mpsc::channel(1);
    let writer = tokio::spawn(async move {
        let pattern = Pattern::new(43);
        for position in 0..ROUNDS * LEN {
            pattern.send(&mut client, position, position + 1).await?;
            if position % 10 == 5 && ticks.send(()).await.is_err() {
                break;
            }
        }
        drop(ticks);
        client.shutdown().await
    });
    let mut interruptions = 0;
    for round in 0..ROUNDS {
        let mut buffer = [0; LEN];
        {
            let mut read = pin!(server.read_exact(&mut buffer));
            loop {
                tokio::select! {
                    biased;
                    Some(()) = ticked.recv() => interruptions += 1,
                    outcome = &mut read => {
                        outcome?;
                        break;
                    }
                }
            }
        }
        pattern.check(round * LEN, &buffer);
    }
    assert!(interruptions > 0);
    assert_eq!(server.read(&mut [0; 4]).await?, 0);
    writer.await?
}

pub(crate) async fn dropped_read_exact_takes_a_prefix<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    for _ in 0..50 {
        client.write_all(b"0123456789").await?;
        // One byte is read first, so that the rest is on its way or there.
        assert_eq!(server.read_u8().await?, b'0');
        let mut buffer = [0; 20];
        assert!(poll_once(pin!(server.read_exact(&mut buffer))).await.is_pending());
        let taken = buffer.iter().take_while(|byte| **byte != 0).count();
        assert_eq!(&buffer[..taken], &b"123456789"[..taken]);

        // What follows is exactly what the dropped future did not take.
        client.write_all(b"\n").await?;
        let mut rest = Vec::new();
        while rest.last() != Some(&b'\n') {
            rest.push(server.read_u8().await?);
        }
        assert_eq!(rest, b"123456789\n"[taken..]);
    }
    Ok(())
}

pub(crate) async fn dropped_write_takes_nothing<T: Transport>(net: T) -> io::Result<()> {
    let mut clock = Clock::new(&net).await?;
    let (mut client, mut server) = net.pair().await?;
    let pattern = Pattern::new(44);
    let accepted = clock.fill(&mut client, &pattern).await?;
    let mut expected = pattern.copy(0, accepted);
    let mut dropped = 0;
    while dropped < 20 {
        // Bytes that differ from what follows: had a dropped write taken them, the reader would see them.
        let other = [dropped; 100];
        match poll_once(pin!(client.write(&other))).await {
            Poll::Pending => dropped += 1,
            // A little room may appear late; it is bounded.
            Poll::Ready(taken) => expected.extend_from_slice(&other[..taken?]),
        }
        assert!(expected.len() <= T::DIFFERENCES.in_flight);
    }
    // Another pattern, so that bytes of the write that `fill` dropped would show as well.
    expected.extend(Pattern::new(47).copy(0, 100_000));
    let sent = expected.len() - 100_000;
    let mut received = Vec::new();
    let sender = async {
        client.write_all(&expected[sent..]).await?;
        client.shutdown().await
    };
    tokio::try_join!(sender, server.read_to_end(&mut received))?;
    assert!(received == expected);
    Ok(())
}

/// Drops a write of many bytes halfway, then ends the stream; returns how many of those bytes arrived.
async fn arrived_of_a_dropped_write_all<S: Duplex>(
    mut client: S,
    server: &mut S,
    marker: u8,
) -> io::Result<usize> {
    let mut received = Vec::new();
    // At once: the marker has to wait for room.
    let writer = async {
        client.write_all(&[marker]).await?;
        client.shutdown().await
    };
    tokio::try_join!(writer, server.read_to_end(&mut received))?;
    assert_eq!(received.pop(), Some(marker));
    Pattern::new(45).check(0, &received);
    Ok(received.len())
}

pub(crate) async fn dropped_write_all_takes_a_prefix<T: Transport>(net: T) -> io::Result<()> {
    let len = 2 * T::DIFFERENCES.in_flight;
    let data = Pattern::new(45).copy(0, len);
    let (mut client, mut server) = net.pair().await?;
    assert!(poll_once(pin!(client.write_all(&data))).await.is_pending());
    let arrived = arrived_of_a_dropped_write_all(client, &mut server, 0x5a).await?;
    assert!(arrived < len);
    Ok(())
}

pub(crate) async fn dropped_write_all_buf_knows_its_prefix<T: Transport>(net: T) -> io::Result<()> {
    let data = Pattern::new(45).copy(0, 2 * T::DIFFERENCES.in_flight);
    let (mut client, mut server) = net.pair().await?;
    let mut rest = &data[..];
    assert!(poll_once(pin!(client.write_all_buf(&mut rest))).await.is_pending());
    let taken = data.len() - rest.len();
    assert_eq!(arrived_of_a_dropped_write_all(client, &mut server, 0xa5).await?, taken);
    Ok(())
}

pub(crate) async fn dropped_shutdown_can_be_repeated<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    client.write_all(b"data").await?;
    // Whether it is ready at once differs; dropping it must be harmless in both cases.
    if let Poll::Ready(outcome) = poll_once(pin!(client.shutdown())).await {
        outcome?;
    }
    client.shutdown().await?;
    let mut received = Vec::new();
    server.read_to_end(&mut received).await?;
    assert_eq!(received, b"data");
    Ok(())
}

pub(crate) async fn select_over_both_halves<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 2_000_000;
    let (client, server) = net.pair().await?;
    // Each end serves both directions in one task by select over plain `read` and `write`.
    let ends = [(client, 46, 47), (server, 47, 46)].map(|(stream, send, receive)| {
        tokio::spawn(async move {
            let (mut reader, mut writer) = stream.into_split();
            let (send, receive) = (Pattern::new(send), Pattern::new(receive));
            let mut buffer = vec![0; 10_000];
            let (mut sent, mut received) = (0, 0);
            while sent < TOTAL || received < TOTAL {
                let bytes = send.at(sent);
                let bytes = &bytes[..bytes.len().min(TOTAL - sent)];
                tokio::select! {
                    n = reader.read(&mut buffer), if received < TOTAL => {
                        let n = n?;
                        assert_ne!(n, 0);
                        receive.check(received, &buffer[..n]);
                        received += n;
                    }
                    n = writer.write(bytes), if sent < TOTAL => sent += n?,
                }
            }
            writer.shutdown().await?;
            assert_eq!((reader.read(&mut buffer).await?, received), (0, TOTAL));
            io::Result::Ok(())
        })
    });
    for end in ends {
        end.await??;
    }
    Ok(())
}
