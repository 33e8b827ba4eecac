//! What tokio's `TcpStream` and its halves offer beyond reading and writing, as traits: the same names, so that a
//! type that lacks one does not compile.

use std::fmt::Debug;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

/// What every end and half can tell and wait for.
pub(crate) trait End: Debug + Send + Sync + Unpin {
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    fn ready(&self, interest: Interest) -> impl Future<Output = io::Result<Ready>> + Send;
}

/// What reads.
pub(crate) trait ReadEnd: End + AsyncRead {
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;
    fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
    fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize>;
    fn peek(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
    fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>>;
}

/// What writes.
pub(crate) trait WriteEnd: End + AsyncWrite {
    fn writable(&self) -> impl Future<Output = io::Result<()>> + Send;
    fn try_write(&self, buf: &[u8]) -> io::Result<usize>;
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// A whole stream.
pub(crate) trait Duplex: ReadEnd + WriteEnd + AsRef<Self> + Sized + 'static {
    /// The owned half that reads.
    type ReadHalf: ReadEnd + AsRef<Self> + 'static;
    /// The owned half that writes.
    type WriteHalf: WriteEnd + AsRef<Self> + 'static;

    /// Splits the stream into halves that can move to different tasks.
    fn into_split(self) -> (Self::ReadHalf, Self::WriteHalf);
    /// Splits the stream into halves that borrow it.
    fn split(&mut self) -> (impl ReadEnd + AsRef<Self>, impl WriteEnd + AsRef<Self>);
    /// Puts halves together; an error gives them back.
    fn reunite(
        read: Self::ReadHalf,
        write: Self::WriteHalf,
    ) -> Result<Self, (Self::ReadHalf, Self::WriteHalf)>;
    /// The same by the writing half.
    fn reunite_write(
        write: Self::WriteHalf,
        read: Self::ReadHalf,
    ) -> Result<Self, (Self::ReadHalf, Self::WriteHalf)>;
    /// Drops a half without ending its direction.
    fn forget(write: Self::WriteHalf);
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn nodelay(&self) -> io::Result<bool>;
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()>;
    fn linger(&self) -> io::Result<Option<Duration>>;
    fn set_zero_linger(&self) -> io::Result<()>;
    fn set_quickack(&self, quickack: bool) -> io::Result<()>;
    fn quickack(&self) -> io::Result<bool>;
    fn take_error(&self) -> io::Result<Option<io::Error>>;
}

macro_rules! end {
    ($($type:ty),*) => {$(
        impl End for $type {
            fn local_addr(&self) -> io::Result<SocketAddr> {
                <$type>::local_addr(self)
            }
            fn peer_addr(&self) -> io::Result<SocketAddr> {
                <$type>::peer_addr(self)
            }
            async fn ready(&self, interest: Interest) -> io::Result<Ready> {
                <$type>::ready(self, interest).await
            }
        }
    )*};
}

macro_rules! read_end {
    ($($type:ty),*) => {$(
        impl ReadEnd for $type {
            async fn readable(&self) -> io::Result<()> {
                <$type>::readable(self).await
            }
            fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
                <$type>::try_read(self, buf)
            }
            fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                <$type>::try_read_vectored(self, bufs)
            }
            fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
                <$type>::try_read_buf(self, buf)
            }
            async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                <$type>::peek(self, buf).await
            }
            fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
                <$type>::poll_peek(self, cx, buf)
            }
        }
    )*};
}

macro_rules! write_end {
    ($($type:ty),*) => {$(
        impl WriteEnd for $type {
            async fn writable(&self) -> io::Result<()> {
                <$type>::writable(self).await
            }
            fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
                <$type>::try_write(self, buf)
            }
            fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                <$type>::try_write_vectored(self, bufs)
            }
        }
    )*};
}

macro_rules! duplex {
    ($stream:ty, $($halves:ident)::+) => {
        end!(
            $stream,
            $($halves)::+::ReadHalf<'_>,
            $($halves)::+::WriteHalf<'_>,
            $($halves)::+::OwnedReadHalf,
            $($halves)::+::OwnedWriteHalf
        );
        read_end!($stream, $($halves)::+::ReadHalf<'_>, $($halves)::+::OwnedReadHalf);
        write_end!($stream, $($halves)::+::WriteHalf<'_>, $($halves)::+::OwnedWriteHalf);

        impl Duplex for $stream {
            type ReadHalf = $($halves)::+::OwnedReadHalf;
            type WriteHalf = $($halves)::+::OwnedWriteHalf;

            fn into_split(self) -> (Self::ReadHalf, Self::WriteHalf) {
                <$stream>::into_split(self)
            }
            fn split(&mut self) -> (impl ReadEnd + AsRef<Self>, impl WriteEnd + AsRef<Self>) {
                <$stream>::split(self)
            }
            fn reunite(
                read: Self::ReadHalf,
                write: Self::WriteHalf,
            ) -> Result<Self, (Self::ReadHalf, Self::WriteHalf)> {
                read.reunite(write).map_err(|error| (error.0, error.1))
            }
            fn reunite_write(
                write: Self::WriteHalf,
                read: Self::ReadHalf,
            ) -> Result<Self, (Self::ReadHalf, Self::WriteHalf)> {
                write.reunite(read).map_err(|error| (error.0, error.1))
            }
            fn forget(write: Self::WriteHalf) {
                write.forget();
            }
            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                <$stream>::poll_read_ready(self, cx)
            }
            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                <$stream>::poll_write_ready(self, cx)
            }
            fn nodelay(&self) -> io::Result<bool> {
                <$stream>::nodelay(self)
            }
            fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
                <$stream>::set_nodelay(self, nodelay)
            }
            fn linger(&self) -> io::Result<Option<Duration>> {
                <$stream>::linger(self)
            }
            fn set_zero_linger(&self) -> io::Result<()> {
                <$stream>::set_zero_linger(self)
            }
            fn set_quickack(&self, quickack: bool) -> io::Result<()> {
                <$stream>::set_quickack(self, quickack)
            }
            fn quickack(&self) -> io::Result<bool> {
                <$stream>::quickack(self)
            }
            fn take_error(&self) -> io::Result<Option<io::Error>> {
                <$stream>::take_error(self)
            }
        }
    };
}

duplex!(tokio::net::TcpStream, tokio::net::tcp);
duplex!(qsocket::QSocketStream, qsocket);
