//! What a stream's owner may choose.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};

use super::ready::settle;
use crate::data::Pattern;
use crate::duplex::{Duplex, End};
use crate::transport::Transport;

pub(crate) async fn nodelay_is_remembered<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    for nodelay in [false, true, false] {
        client.set_nodelay(nodelay)?;
        assert_eq!(client.nodelay()?, nodelay);
    }
    assert!(server.nodelay()?, "each end has its own");
    Ok(())
}

pub(crate) async fn small_writes_arrive_without_nodelay<T: Transport>(net: T) -> io::Result<()> {
    const TOTAL: usize = 2_000;
    let (mut client, mut server) = net.pair().await?;
    client.set_nodelay(false)?;
    let pattern = Pattern::new(50);
    let sending = async {
        for position in 0..TOTAL {
            client.write_all(&pattern.copy(position, 1)).await?;
        }
        io::Result::Ok(())
    };
    // Without a shutdown: the last bytes must not wait for more.
    tokio::try_join!(sending, pattern.expect(&mut server, 0, TOTAL))?;
    client.write_all(b"?").await?;
    assert_eq!(server.read_u8().await?, b'?');
    Ok(())
}

pub(crate) async fn zero_linger_aborts<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    assert_eq!(client.linger()?, None);
    client.set_zero_linger()?;
    assert_eq!(client.linger()?, Some(Duration::ZERO));
    client.write_all(b"x").await?;
    assert_eq!(server.read_u8().await?, b'x');
    drop(client);
    let error = server.read_u8().await.err().map(|e| e.kind());
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    Ok(())
}

pub(crate) async fn hints_are_taken<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    for quickack in [true, false] {
        client.set_quickack(quickack)?;
    }
    assert!(!client.quickack()?);
    client.write_all(b"x").await?;
    assert_eq!(server.read_u8().await?, b'x');
    Ok(())
}

pub(crate) async fn take_error_tells_a_reset_once<T: Transport>(net: T) -> io::Result<()> {
    let (mut client, mut server) = net.pair().await?;
    assert!(server.take_error()?.is_none());
    client.set_zero_linger()?;
    client.write_all(b"x").await?;
    assert_eq!(server.read_u8().await?, b'x');
    settle(&server).await;
    drop(client);
    let ready = server.ready(Interest::READABLE).await?;
    assert!(ready.is_read_closed(), "{ready:?}");
    assert_eq!(server.take_error()?.map(|e| e.kind()), Some(ErrorKind::ConnectionReset));
    assert!(server.take_error()?.is_none(), "once");
    Ok(())
}
