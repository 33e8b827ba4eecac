//! Streams that wait to be accepted, and those who wait for streams.

use crate::stream::QSocketStream;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use tokio::sync::{Notify, mpsc};

type Accepted = (QSocketStream, SocketAddr);

/// The receiving end, of which any number of tasks may wait for the next stream.
pub(super) struct Queue {
    receiver: Mutex<mpsc::Receiver<Accepted>>,
    waiting: Arc<Waiting>,
    /// Of `waiting`: what the receiver wakes.
    waker: Waker,
}

/// Everyone who waits for a stream. A receiver knows one waker only.
#[derive(Default)]
struct Waiting {
    tasks: Notify,
    poller: Mutex<Option<Waker>>,
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.tasks.notify_waiters();
        let poller = self.poller.lock().unwrap_or_else(PoisonError::into_inner).take();
        poller.into_iter().for_each(Waker::wake);
    }
}

impl Queue {
    /// Waits on `receiver` until the endpoint has dropped every sender.
    pub(super) fn new(receiver: mpsc::Receiver<Accepted>) -> Self {
        let waiting = Arc::new(Waiting::default());
        let waker = Waker::from(waiting.clone());
        Self { receiver: Mutex::new(receiver), waiting, waker }
    }

    fn lock(&self) -> MutexGuard<'_, mpsc::Receiver<Accepted>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next stream; `None` once the endpoint ended and the queue is empty.
    pub(super) async fn next(&self) -> Option<Accepted> {
        loop {
            // A receiver that has given as much as one turn of a task may take wakes at once, and gives nothing until the
            // task has rested. It rests here: a loop of `accept` would otherwise go round for ever.
            tokio::task::coop::consume_budget().await;
            let mut arrived = pin!(self.waiting.tasks.notified());
            arrived.as_mut().enable();
            if let Poll::Ready(next) = self.take() {
                return next;
            }
            arrived.await;
        }
    }

    /// Polls for the next stream. Remembers one poller.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Accepted>> {
        *self.waiting.poller.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        self.take()
    }

    fn take(&self) -> Poll<Option<Accepted>> {
        self.lock().poll_recv(&mut Context::from_waker(&self.waker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{Future, poll_fn};
    use std::time::Duration;
    use tokio::task::coop::poll_proceed;

    #[test]
    fn an_accept_rests_when_its_task_has_had_its_turn() {
        // In a thread of its own: what never rests lets no timeout beside it come.
        let (done, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (_sender, receiver) = mpsc::channel(1);
                let queue = Queue::new(receiver);
                poll_fn(|cx| {
                    while let Poll::Ready(turn) = poll_proceed(cx) {
                        turn.made_progress();
                    }
                    Poll::Ready(())
                })
                .await;
                let next = pin!(queue.next()).poll(&mut Context::from_waker(Waker::noop()));
                assert!(next.is_pending());
            });
            done.send(()).unwrap();
        });
        finished.recv_timeout(Duration::from_secs(20)).expect("it goes round for ever");
    }
}
