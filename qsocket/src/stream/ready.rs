//! Looking without taking, and polling for readiness.

use super::QSocketStream;
use std::io;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

impl QSocketStream {
    /// Reads into `buf` and leaves the bytes in the stream: the next read gives them again. Waits until something
    /// is there; 0 is the end of the stream. Any number of tasks may wait.
    ///
    /// # Errors
    /// What a read would give.
    ///
    /// # Cancel safety
    /// Safe: nothing is consumed, and `buf` is unchanged if the future is dropped before it is ready.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.try_peek(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                seen => return seen,
            }
        }
    }

    /// Polls for bytes as [`peek`](Self::peek) waits for them. Only the task that polled for reading last, by any
    /// `poll` method of the stream, is woken.
    ///
    /// # Errors
    /// What a read would give.
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.inner.poll_peek(cx, buf)
    }

    /// Polls as [`readable`](Self::readable) waits. Only the task that polled for reading last, by any `poll` method
    /// of the stream, is woken.
    ///
    /// # Errors
    /// None: what went wrong is told by the read. The result has tokio's form.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_read_ready(cx)
    }

    /// Polls as [`writable`](Self::writable) waits. Only the task that polled for writing last, by any `poll` method
    /// of the stream, is woken.
    ///
    /// # Errors
    /// None: what went wrong is told by the write. The result has tokio's form.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_write_ready(cx)
    }
}
