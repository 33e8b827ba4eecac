//! The answer of a layer that decides at once: that of its service, or a refusal.

use super::Refused;
use crate::body::ResponseBody;
use http::Response;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// What the futures of these layers are made of.
    #[project = AnswerProj]
    #[derive(Debug)]
    pub(crate) enum Answer<F> {
        Called { #[pin] future: F },
        Refused { refused: Refused },
    }
}

impl<F, B, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project() {
            AnswerProj::Called { future } => ready!(future.poll(cx))?.map(ResponseBody::new),
            AnswerProj::Refused { refused } => refused.response().map(ResponseBody::text),
        }))
    }
}

/// Defines the future of such a layer.
macro_rules! response_future {
    ($service:ident) => {
        use crate::refusal::answer::Answer;
        use crate::body::ResponseBody;
        use crate::refusal::Refused;
        use http::Response;
        use pin_project_lite::pin_project;
        use std::future::Future;
        use std::pin::Pin;
        use std::task::{Context, Poll};

        pin_project! {
            #[doc = concat!("The future of [`", stringify!($service), "`](super::", stringify!($service), ").")]
            #[derive(Debug)]
            pub struct ResponseFuture<F> {
                #[pin]
                answer: Answer<F>,
            }
        }

        impl<F> ResponseFuture<F> {
            pub(super) fn called(future: F) -> Self {
                Self { answer: Answer::Called { future } }
            }

            pub(super) fn refused(refused: Refused) -> Self {
                Self { answer: Answer::Refused { refused } }
            }
        }

        impl<F, B, E> Future for ResponseFuture<F>
        where
            F: Future<Output = Result<Response<B>, E>>,
        {
            type Output = Result<Response<ResponseBody<B>>, E>;

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.project().answer.poll(cx)
            }
        }
    };
}

pub(crate) use response_future;
