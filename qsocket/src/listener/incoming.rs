//! Accepted streams as a [`Stream`].

use super::QSocketListener;
use crate::stream::QSocketStream;
use futures_core::{FusedStream, Stream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The streams that come in at a listener, from [`QSocketListener::incoming`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a> {
    listener: &'a QSocketListener,
    ended: bool,
}

/// The streams that come in at a listener, from [`QSocketListener::into_incoming`].
///
/// ```no_run
/// # use futures_core::Stream;
/// # use qsocket::{QSocketListener, QSocketStream};
/// # async fn serve(_: impl Stream<Item = std::io::Result<QSocketStream>>) {}
/// # async fn run() -> std::io::Result<()> {
/// let incoming = QSocketListener::bind("0.0.0.0:7000").await?.into_incoming();
/// serve(incoming).await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct IntoIncoming {
    listener: QSocketListener,
    ended: bool,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(listener: &'a QSocketListener) -> Self {
        Self { listener, ended: false }
    }
}

impl IntoIncoming {
    pub(super) fn new(listener: QSocketListener) -> Self {
        Self { listener, ended: false }
    }

    /// The listener under it.
    pub fn get_ref(&self) -> &QSocketListener {
        &self.listener
    }

    /// Gives the listener back. Streams that wait stay in its queue.
    pub fn into_inner(self) -> QSocketListener {
        self.listener
    }
}

fn poll(
    listener: &QSocketListener,
    ended: &mut bool,
    cx: &Context<'_>,
) -> Poll<Option<io::Result<QSocketStream>>> {
    if *ended {
        return Poll::Ready(None);
    }
    let next = ready!(listener.accepted.poll_next(cx));
    *ended = next.is_none();
    Poll::Ready(next.map(|(stream, _)| Ok(stream)))
}

impl Stream for Incoming<'_> {
    type Item = io::Result<QSocketStream>;

    /// Gives a stream that was accepted. Never an error: the end is `None`.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        poll(this.listener, &mut this.ended, cx)
    }
}

impl Stream for IntoIncoming {
    type Item = io::Result<QSocketStream>;

    /// Gives a stream that was accepted. Never an error: the end is `None`.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        poll(&this.listener, &mut this.ended, cx)
    }
}

impl FusedStream for Incoming<'_> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl FusedStream for IntoIncoming {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}
