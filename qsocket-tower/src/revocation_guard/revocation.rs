//! Waiting until a question that was answered with yes is answered with no.

use crate::check::Check;
use qsocket::Principal;
use qsocket::access::Denial;
use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// A permit that ends later is asked for again after this time, so that a clock that was set is noticed.
pub const ASK_AGAIN: Duration = Duration::from_secs(60);
/// A directory that still permits what it said would be over is not asked more often.
pub const ASK_AT_MOST: Duration = Duration::from_millis(10);

/// Resolves when one of some questions about a principal is answered with no. Asks them all when it is first polled.
pub(super) struct Revocation {
    who: Principal,
    /// One for each question: there are as many as layers.
    waits: Vec<Pin<Box<dyn Future<Output = Denial> + Send>>>,
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation").field("who", &self.who).field("questions", &self.waits.len()).finish()
    }
}

impl Revocation {
    pub(super) fn new(who: Principal, checks: impl Iterator<Item = Check>) -> Self {
        Self { who, waits: checks.map(|check| Box::pin(denied(check, who)) as _).collect() }
    }

    pub(super) fn who(&self) -> Principal {
        self.who
    }
}

impl Future for Revocation {
    type Output = Denial;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Denial> {
        let denied = self.waits.iter_mut().find_map(|wait| match wait.as_mut().poll(cx) {
            Poll::Ready(denial) => Some(denial),
            Poll::Pending => None,
        });
        denied.map_or(Poll::Pending, Poll::Ready)
    }
}

async fn denied(check: Check, who: Principal) -> Denial {
    // Before the question, so that no change falls between the two.
    let mut changes = check.directory.changes();
    loop {
        let until = match check.ask(who) {
            Ok(permit) => permit.until,
            Err(denial) => return denial,
        };
        tokio::select! {
            () = changed(&mut changes) => {}
            () = over(until) => {}
        }
    }
}

async fn changed(changes: &mut Option<watch::Receiver<u64>>) {
    if let Some(receiver) = changes
        && receiver.changed().await.is_ok()
    {
        return;
    }
    // No change comes any more, or ever did.
    *changes = None;
    pending().await
}

async fn over(until: Option<SystemTime>) {
    let Some(until) = until else { return pending().await };
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left.clamp(ASK_AT_MOST, ASK_AGAIN)).await;
}
