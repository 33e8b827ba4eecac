//! A body that something lasts as long as.

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// The body of a service, which holds something of a layer until it came to its end or is dropped.
    #[derive(Debug)]
    pub struct HoldingBody<B, T> {
        #[pin]
        inner: B,
        held: Option<T>,
    }
}

impl<B: Body, T> HoldingBody<B, T> {
    pub(crate) fn new(inner: B, held: Option<T>) -> Self {
        // Nobody asks a body that is at its end for more.
        let held = held.filter(|_| !inner.is_end_stream());
        Self { inner, held }
    }
}

impl<B: Body, T> Body for HoldingBody<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            *this.held = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
