//! A stream with its peer, which the traits of other crates can be implemented for.

use crate::PeerInfo;
use qsocket::QSocketStream;
use std::io::{self, IoSlice};
use std::pin::Pin;
#[cfg(feature = "axum-08")]
use std::task::Waker;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A [`QSocketStream`] and its [`PeerInfo`].
///
/// # Cancel safety
/// That of the stream within.
#[derive(Debug)]
pub struct Stream {
    stream: QSocketStream,
    peer: PeerInfo,
    #[cfg(feature = "axum-08")]
    finish_on_drop: bool,
}

impl Stream {
    /// Takes a stream.
    ///
    /// # Errors
    /// Those of [`PeerInfo::of`].
    pub fn new(stream: QSocketStream) -> io::Result<Self> {
        let peer = PeerInfo::of(&stream)?;
        Ok(Self {
            stream,
            peer,
            #[cfg(feature = "axum-08")]
            finish_on_drop: false,
        })
    }

    /// Has a drop end the stream after what was written, as that of a TCP stream does, unless the thread panics.
    #[cfg(feature = "axum-08")]
    pub(crate) fn finishing(mut self) -> Self {
        self.finish_on_drop = true;
        self
    }

    /// Who is at the other end, as it stood when the stream came.
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }

    /// The stream within, for its counters.
    pub fn get_ref(&self) -> &QSocketStream {
        &self.stream
    }
}

#[cfg(feature = "axum-08")]
impl Drop for Stream {
    fn drop(&mut self) {
        if self.finish_on_drop && !std::thread::panicking() {
            // Says that the end follows; that it arrives is then the connection's business. Nobody is left to tell.
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut self.stream).poll_shutdown(&mut cx);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
