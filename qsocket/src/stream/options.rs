//! What tokio's `TcpStream` lets its owner choose: mapped, harmless without effect, or refused.

use super::QSocketStream;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The answer to whoever asks for the time to live of packets.
pub(crate) fn no_ttl() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "a QSocket stream has no time to live: its packets belong to 25 hops that it shares with other streams; \
         leave the option alone",
    )
}

impl QSocketStream {
    /// Whether small writes leave at once; `true` unless [`set_nodelay`](Self::set_nodelay) changed it. A TCP stream
    /// begins with `false`.
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.inner.conn.lock().connection.nodelay(self.inner.id))
    }

    /// Sends small writes at once (`true`), or lets them wait for company while an earlier block is unacknowledged
    /// (`false`), for at most 200 ms. A block of 256 KiB and the end of the stream never wait.
    ///
    /// `false` saves relays work: the smallest block travels as 25 stripes.
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.inner.conn.lock().connection.set_nodelay(self.inner.id, nodelay);
        self.inner.conn.wake();
        Ok(())
    }

    /// What happens to unacknowledged bytes when the stream is dropped: `None` unless
    /// [`set_zero_linger`](Self::set_zero_linger) changed it.
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.inner.abort_on_drop.load(Ordering::Relaxed).then_some(Duration::ZERO))
    }

    /// Sets what happens to unacknowledged bytes when the stream is dropped.
    ///
    /// `None`, the default: a stream that was not shut down is aborted, and one that was is still delivered.
    /// `Some(Duration::ZERO)` is [`set_zero_linger`](Self::set_zero_linger).
    ///
    /// # Errors
    /// `Unsupported` for any other time: dropping never blocks. Await
    /// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) within [`tokio::time::timeout`] instead.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        if linger.is_some_and(|time| !time.is_zero()) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "dropping a QSocket stream never blocks; await shutdown within a time limit before the drop",
            ));
        }
        self.inner.abort_on_drop.store(linger.is_some(), Ordering::Relaxed);
        Ok(())
    }

    /// Gives up on drop whatever the peer did not acknowledge, even after a `shutdown` that was not waited for: the
    /// peer reads an error unless everything had arrived.
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.set_linger(Some(Duration::ZERO))
    }

    /// `false`: acknowledgements wait up to 5 ms for company.
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn quickack(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Has no effect: acknowledgements wait at most 5 ms for company, whatever is asked. On a TCP stream too, this is
    /// a hint that the system may forget.
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn set_quickack(&self, _quickack: bool) -> io::Result<()> {
        Ok(())
    }

    /// Refused: see [`set_ttl`](Self::set_ttl).
    ///
    /// # Errors
    /// `Unsupported`, always.
    pub fn ttl(&self) -> io::Result<u32> {
        Err(no_ttl())
    }

    /// Refused: the packets of a stream belong to 25 hops that it shares with other streams.
    ///
    /// # Errors
    /// `Unsupported`, always.
    pub fn set_ttl(&self, _ttl: u32) -> io::Result<()> {
        Err(no_ttl())
    }

    /// What ended the stream other than its own ends, once, if no read or write told it before: the peer gave it up,
    /// or the connection ended. Reads and writes go on to fail after it was taken, unlike those of some TCP streams.
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.inner.take_error())
    }
}
