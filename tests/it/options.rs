//! Where QSocket refuses what TCP takes, and goes beyond what TCP promises.

use crate::network::Network;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};

#[tokio::test]
async fn what_has_no_meaning_is_refused_with_a_sentence() -> io::Result<()> {
    let network = Network::start().await?;
    let (client, accepted) = tokio::join!(network.connect(), network.listener.accept());
    let (client, _server) = (client?, accepted?);
    let refused = [
        client.ttl().map(drop),
        client.set_ttl(9),
        network.listener.ttl().map(drop),
        network.listener.set_ttl(9),
        client.set_linger(Some(Duration::from_secs(1))),
        client.ready(Interest::PRIORITY).await.map(drop),
    ];
    for outcome in refused {
        let error = outcome.err().ok_or(ErrorKind::Other)?;
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().len() > 30, "{error}");
    }
    assert_eq!(client.linger()?, None, "a refusal changes nothing");
    assert!(client.nodelay()?, "unlike TCP");
    client.set_linger(Some(Duration::ZERO))?;
    client.set_linger(None)?;
    assert_eq!(client.linger()?, None);
    Ok(())
}

#[tokio::test]
async fn an_error_that_was_taken_is_still_told_by_reads_and_one_that_was_read_is_not_taken() -> io::Result<()>
{
    let network = Network::start().await?;
    for read_first in [false, true] {
        let (client, accepted) = tokio::join!(network.connect(), network.listener.accept());
        let (mut client, (mut server, _)) = (client?, accepted?);
        client.write_all(b"x").await?;
        assert_eq!(server.read_u8().await?, b'x');
        drop(client);
        if read_first {
            assert!(server.read_u8().await.is_err());
            assert!(server.take_error()?.is_none());
        } else {
            assert!(server.ready(Interest::ERROR).await?.is_error());
            assert!(server.take_error()?.is_some());
        }
        let error = server.read_u8().await.err().map(|e| e.kind());
        assert_eq!(error, Some(ErrorKind::ConnectionReset), "never a clean end");
    }
    Ok(())
}

#[tokio::test]
async fn a_shutdown_that_was_not_awaited_is_delivered_unless_linger_is_zero() -> io::Result<()> {
    const LEN: usize = 1 << 20;
    let network = Network::start().await?;
    for zero in [false, true] {
        let (client, accepted) = tokio::join!(network.connect(), network.listener.accept());
        let (mut client, (mut server, _)) = (client?, accepted?);
        client.write_all(&vec![7; LEN]).await?;
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut client).poll_shutdown(&mut cx).is_pending());
        if zero {
            client.set_zero_linger()?;
        }
        drop(client);
        let mut got = Vec::new();
        let read = server.read_to_end(&mut got).await;
        match read {
            Ok(n) => assert!(n == LEN && !zero, "{n} bytes, linger zero: {zero}"),
            Err(error) => assert!(zero && error.kind() == ErrorKind::ConnectionReset, "{error}"),
        }
    }
    Ok(())
}
