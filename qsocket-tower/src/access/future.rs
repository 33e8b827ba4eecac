use crate::body::ResponseBody;
use crate::check::refuse;
use crate::refusal::answer::Answer;
use crate::refusal::{Forbidden, Refused, Why};
use http::{Request, Response};
use pin_project_lite::pin_project;
use qsocket::Principal;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::Timeout;
use tower_service::Service;

pin_project! {
    /// The future of [`Access`](super::Access).
    pub struct ResponseFuture<S, F, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, S::Future, F, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, SF, F, B> {
        Deciding {
            #[pin]
            decision: Timeout<F>,
            // Gone when it is decided.
            held: Option<(S, Request<B>)>,
            who: Principal,
        },
        Decided { #[pin] answer: Answer<SF> },
    }
}

impl<S: Service<Request<B>>, F, B> fmt::Debug for ResponseFuture<S, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Deciding { .. } => "deciding",
            State::Decided { .. } => "decided",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}

impl<S: Service<Request<B>>, F, B> ResponseFuture<S, F, B> {
    pub(super) fn deciding(inner: S, decision: Timeout<F>, request: Request<B>, who: Principal) -> Self {
        Self { state: State::Deciding { decision, held: Some((inner, request)), who } }
    }

    pub(super) fn refused(refused: Refused) -> Self {
        Self { state: State::Decided { answer: Answer::Refused { refused } } }
    }
}

impl<S, F, B, ResBody> Future for ResponseFuture<S, F, B>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    F: Future<Output = Result<(), Forbidden>>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let answer = match state.as_mut().project() {
                StateProj::Decided { answer } => return answer.poll(cx),
                StateProj::Deciding { decision, held, who } => {
                    let decided = ready!(decision.poll(cx));
                    // It is there as long as nothing is decided.
                    let Some((mut inner, request)) = held.take() else { return Poll::Pending };
                    match decided {
                        Ok(Ok(())) => Answer::Called { future: inner.call(request) },
                        Ok(Err(forbidden)) => {
                            let wanted = format_args!("{:?}", request.uri().path());
                            let refused = refuse(*who, &wanted, &forbidden, &request);
                            Answer::Refused { refused }
                        }
                        Err(_) => {
                            tracing::warn!(peer = %who, "a request is refused: no decision in time");
                            Answer::Refused { refused: Refused::new(Why::Undecided, request.headers()) }
                        }
                    }
                }
            };
            state.set(State::Decided { answer });
        }
    }
}
