//! A long way: what arrives at one end leaves at the other so much later.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Reads on their way: 64 MiB at most, far above what one path holds in flight.
const ON_THE_WAY: usize = 1024;

/// Bytes of one read.
const READ: usize = 64 * 1024;

/// Listens on loopback, and passes on to `to` what it reads, and back, `by` later.
pub(super) fn listen(to: SocketAddr, by: Duration, on: &Handle) -> Result<SocketAddr> {
    let _runtime = on.enter();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let listener = TcpListener::from_std(listener)?;
    on.spawn(async move {
        // Whatever fails here is an end of a connection, which both its ends notice.
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(join(near, to, by));
        }
    });
    Ok(address)
}

async fn join(near: TcpStream, to: SocketAddr, by: Duration) -> Result<()> {
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::try_join!(pass(near_read, far_write, by), pass(far_read, near_write, by))?;
    Ok(())
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, by: Duration) -> Result<()> {
    let (send, mut way) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let reading = async {
        let mut bytes = vec![0; READ];
        loop {
            let n = from.read(&mut bytes).await?;
            let read = bytes.get(..n).unwrap_or_default().to_vec();
            if n == 0 || send.send((Instant::now() + by, read)).await.is_err() {
                drop(send);
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((due, bytes)) = way.recv().await {
            sleep_until(due).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await?;
        anyhow::Ok(())
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_arrive_in_order_and_late_both_ways() {
        const BY: Duration = Duration::from_millis(40);
        let end = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listen(end.local_addr().unwrap(), BY, &Handle::current()).unwrap();
        let mut near = TcpStream::connect(at).await.unwrap();
        let (mut far, _) = end.accept().await.unwrap();
        let start = Instant::now();
        near.write_all(b"there").await.unwrap();
        let mut bytes = [0; 5];
        far.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"there");
        assert!(start.elapsed() >= BY);
        far.write_all(b"again").await.unwrap();
        far.shutdown().await.unwrap();
        near.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"again");
        assert!(start.elapsed() >= 2 * BY);
        assert_eq!(near.read(&mut bytes).await.unwrap(), 0);
    }
}
