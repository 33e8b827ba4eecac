//! The two halves of a stream.

use super::{Inner, Peer, QSocketStream};
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The reading half of a [`QSocketStream`].
pub struct OwnedReadHalf {
    inner: Arc<Inner>,
}

/// The writing half of a [`QSocketStream`]. Dropping it ends the direction cleanly, as with a TCP stream: the peer
/// reads the end after the last byte.
pub struct OwnedWriteHalf {
    inner: Arc<Inner>,
    /// Not after [`OwnedWriteHalf::reunite`].
    finish_on_drop: bool,
}

/// The two halves are not of one stream.
#[derive(Debug, Error)]
#[error("the two halves belong to different streams")]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

pub(super) fn split(inner: Arc<Inner>) -> (OwnedReadHalf, OwnedWriteHalf) {
    (OwnedReadHalf { inner: inner.clone() }, OwnedWriteHalf { inner, finish_on_drop: true })
}

impl OwnedReadHalf {
    /// Puts the halves together again.
    ///
    /// # Errors
    /// [`ReuniteError`] gives them back if they are not of one stream.
    pub fn reunite(self, mut other: OwnedWriteHalf) -> Result<QSocketStream, ReuniteError> {
        if !Arc::ptr_eq(&self.inner, &other.inner) {
            return Err(ReuniteError(self, other));
        }
        other.finish_on_drop = false;
        Ok(QSocketStream { inner: self.inner })
    }

    /// The address of the other side; see [`QSocketStream::peer_addr`].
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.remote)
    }

    /// The address of this side; see [`QSocketStream::local_addr`].
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.local)
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.inner.peer
    }
}

impl OwnedWriteHalf {
    /// Puts the halves together again.
    ///
    /// # Errors
    /// [`ReuniteError`] gives them back if they are not of one stream.
    pub fn reunite(self, other: OwnedReadHalf) -> Result<QSocketStream, ReuniteError> {
        other.reunite(self)
    }

    /// The address of the other side; see [`QSocketStream::peer_addr`].
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.remote)
    }

    /// The address of this side; see [`QSocketStream::local_addr`].
    ///
    /// # Errors
    /// None; the result has tokio's form.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.local)
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.inner.peer
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.finish_on_drop {
            self.inner.finish();
        }
    }
}

impl fmt::Debug for OwnedReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.describe("OwnedReadHalf", f)
    }
}

impl fmt::Debug for OwnedWriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.describe("OwnedWriteHalf", f)
    }
}

impl AsyncRead for OwnedReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_read(cx, buf)
    }
}

impl AsyncWrite for OwnedWriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_write(cx, std::iter::once(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_write(cx, bufs.iter().map(|b| &**b))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx)
    }
}
