//! The traits and methods that streams and halves have in common, each written once.
//!
//! Every type here has a private `inner()`, to which all of it leads.

/// `AsyncRead` for types with `inner()`.
macro_rules! async_read {
    ($($type:ty),*) => {$(
        impl tokio::io::AsyncRead for $type {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.inner().poll_read(cx, buf)
            }
        }
    )*};
}

/// `AsyncWrite` for types with `inner()`.
macro_rules! async_write {
    ($($type:ty),*) => {$(
        impl tokio::io::AsyncWrite for $type {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.inner().poll_write(cx, std::iter::once(buf))
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.inner().poll_write(cx, bufs.iter().map(|b| &**b))
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            /// Does nothing: bytes leave as soon as they are written.
            /// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) tells when they arrived.
            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }

            /// Ends the stream in this direction; ready when the peer has every byte and the end.
            fn poll_shutdown(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.inner().poll_shutdown(cx)
            }
        }
    )*};
}

/// What streams and all halves can tell and wait for.
macro_rules! common_methods {
    ($($type:ty),*) => {$(
        impl $type {
            /// The address of the other side: for a client the server's registered address, for a server the
            /// address that the client stated.
            ///
            /// # Errors
            /// None; the result has tokio's form.
            pub fn peer_addr(&self) -> std::io::Result<std::net::SocketAddr> {
                Ok(self.inner().remote)
            }

            /// The address of this side, as the other side sees it.
            ///
            /// # Errors
            /// None; the result has tokio's form.
            pub fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
                Ok(self.inner().local)
            }

            /// Who is at the other end.
            pub fn peer(&self) -> $crate::stream::Peer {
                self.inner().peer
            }

            /// Waits until the stream can do something of `interest`, and tells what. A closed direction counts as
            /// ready: a read or a write of it returns at once. May tell too much when another task is faster;
            /// then the attempt gives `WouldBlock`. Any number of tasks may wait.
            ///
            /// # Errors
            /// `Unsupported` for an interest in priority data alone, which a QSocket stream does not have.
            ///
            /// # Cancel safety
            /// Safe: nothing is consumed. What is ready stays so until a read or write uses it up.
            pub async fn ready(&self, interest: tokio::io::Interest) -> std::io::Result<tokio::io::Ready> {
                self.inner().ready(interest).await
            }
        }
    )*};
}

/// What streams and reading halves have beyond `AsyncRead`.
macro_rules! read_methods {
    ($($type:ty),*) => {$(
        impl $type {
            /// Waits until a read is worth a try: bytes, the end or an error are there. May be wrong when another
            /// task reads first. Any number of tasks may wait.
            ///
            /// # Errors
            /// None: what went wrong is told by the read. The result has tokio's form.
            ///
            /// # Cancel safety
            /// Safe: nothing is consumed.
            pub async fn readable(&self) -> std::io::Result<()> {
                self.inner().ready(tokio::io::Interest::READABLE).await.map(drop)
            }

            /// Reads what is there into `buf` and returns how many bytes, without waiting. `Ok(0)` is the end of
            /// the stream, or an empty buffer.
            ///
            /// # Errors
            /// `WouldBlock` if nothing is there; else what a read would give.
            pub fn try_read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.inner().try_read(buf)
            }

            /// Reads what is there into several buffers in turn, without waiting.
            ///
            /// # Errors
            /// As [`try_read`](Self::try_read).
            pub fn try_read_vectored(&self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                self.inner().try_read_vectored(bufs)
            }

            /// Reads what is there behind the bytes of `buf`, as far as its present allocation has room, without
            /// waiting.
            ///
            /// # Errors
            /// As [`try_read`](Self::try_read).
            pub fn try_read_buf<B: bytes::BufMut>(&self, buf: &mut B) -> std::io::Result<usize> {
                let room = buf.chunk_mut().len();
                self.inner().try_read_with(room, |piece| buf.put_slice(piece))
            }
        }
    )*};
}

/// What streams and writing halves have beyond `AsyncWrite`.
macro_rules! write_methods {
    ($($type:ty),*) => {$(
        impl $type {
            /// Waits until a write is worth a try: there is room, or the write would fail. May be wrong when
            /// another task writes first. Any number of tasks may wait.
            ///
            /// # Errors
            /// None: what went wrong is told by the write. The result has tokio's form.
            ///
            /// # Cancel safety
            /// Safe: nothing is consumed.
            pub async fn writable(&self) -> std::io::Result<()> {
                self.inner().ready(tokio::io::Interest::WRITABLE).await.map(drop)
            }

            /// Writes as much of `buf` as there is room for and returns how many bytes, without waiting.
            ///
            /// # Errors
            /// `WouldBlock` if there is no room; else what a write would give.
            pub fn try_write(&self, buf: &[u8]) -> std::io::Result<usize> {
                self.inner().try_write(std::iter::once(buf))
            }

            /// Writes as much of several buffers as there is room for, without waiting.
            ///
            /// # Errors
            /// As [`try_write`](Self::try_write).
            pub fn try_write_vectored(&self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                self.inner().try_write(bufs.iter().map(|b| &**b))
            }
        }
    )*};
}

/// Peeking with a reading half, which is `&mut` as tokio's is.
macro_rules! peek_methods {
    ($($type:ty),*) => {$(
        impl $type {
            /// Reads into `buf` and leaves the bytes in the stream: the next read gives them again. Waits until
            /// something is there; 0 is the end of the stream.
            ///
            /// # Errors
            /// What a read would give.
            ///
            /// # Cancel safety
            /// Safe: nothing is consumed, and `buf` is unchanged if the future is dropped before it is ready.
            pub async fn peek(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.stream().peek(buf).await
            }

            /// Polls for bytes as [`peek`](Self::peek) waits for them. Only the task that polled for reading last,
            /// by any `poll` method of the stream, is woken.
            ///
            /// # Errors
            /// What a read would give.
            pub fn poll_peek(
                &mut self,
                cx: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.inner().poll_peek(cx, buf)
            }
        }
    )*};
}

pub(super) use {async_read, async_write, common_methods, peek_methods, read_methods, write_methods};
