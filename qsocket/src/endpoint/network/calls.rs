//! Calls over the hops of a network: asking a relay, and being asked by one.

use super::Network;
use crate::exchange::Told;
use crate::hop::Hop;
use qsocket_net::clock;
use qsocket_proto::call::{CALL_DEADLINE, MAX_CALLS, Service, Status};
use qsocket_proto::frame::Frame;
use qsocket_proto::ids::{CallId, HopAt, PathId};
use tokio::sync::oneshot;

/// An answer as it comes: its status, and its body.
pub(crate) type Reply = (Status, Vec<u8>);

/// A call that waits. Gives its place back however the waiting ends.
struct Asked<'a> {
    hop: &'a Hop,
    call: CallId,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.hop.asked().end(self.call);
    }
}

impl Network {
    /// Asks a relay, and waits for its answer; `None` if there is no hop, it breaks, or the answer does not come in time.
    ///
    /// # Cancel safety
    /// A dropped call was made or not; its answer is dropped.
    pub(crate) async fn call(&self, path: PathId, service: Service, body: &[u8]) -> Option<Reply> {
        self.call_over(self.hops(path).any()?, service, body).await
    }

    /// The same over one hop of the path.
    pub(crate) async fn call_over(&self, hop: &Hop, service: Service, body: &[u8]) -> Option<Reply> {
        let (sender, reply) = oneshot::channel();
        let call = hop.asked().begin(sender).ok()?;
        let asked = Asked { hop, call };
        hop.write(|out| out.frame(&Frame::Call { call, service: service as u8, body }))?.ok()?;
        hop.flush(clock::now());
        let reply = tokio::time::timeout(CALL_DEADLINE, reply).await.ok()?.ok();
        drop(asked);
        reply
    }

    /// Takes the answer of a relay. One that nobody waits for came too late.
    pub(crate) fn on_answer(&self, at: HopAt, call: CallId, status: u8, body: &[u8]) {
        if let Some(waiter) = self.hop(at).asked().end(call) {
            // Whoever waited may have gone meanwhile.
            let _: Result<(), Reply> = waiter.send((Status::from_u8(status), body.to_vec()));
        }
    }

    /// Takes a call of a relay, and has a task answer it.
    pub(crate) fn on_call(&self, at: HopAt, call: CallId, service: u8, body: &[u8]) {
        let Some(place) = self.hop(at).place() else { return self.answer(at, call, Status::Busy, &[]) };
        let (Some(me), body) = (self.me.upgrade(), body.to_vec()) else { return };
        self.spawn(async move {
            let told = match Service::from_u8(service) {
                Some(Service::Signal) => me.on_signal(&body).await,
                _ => Told { status: Status::NoSuchService, answer: Vec::new(), kept: None },
            };
            drop(place);
            me.answer(at, call, told.status, &told.answer);
            me.tell_kept(told.kept);
        });
    }

    fn answer(&self, at: HopAt, call: CallId, status: Status, body: &[u8]) {
        let hop = self.hop(at);
        // A full outbox loses the answer; the caller's deadline stands behind it.
        hop.write(|out| out.frame(&Frame::Answer { call, status: status as u8, body }));
        hop.flush(clock::now());
    }
}

const _: () = assert!(MAX_CALLS <= tokio::sync::Semaphore::MAX_PERMITS, "a hop has a place for each call");
