//! Names: those under `.raida`, which the relays keep, and who answers behind a name of any kind.
//! `docs/names.md` is the manual, section 19 of `docs/protocol.md` the protocol.
//!
//! [`Endpoint::lookup`](crate::Endpoint::lookup) asks all relays about a `.raida` name and believes what sixteen say alike;
//! about any other name it asks the [DNS](Dns), which is believed in nothing that decides with whom keys are exchanged.
//! [`Endpoint::find`](crate::Endpoint::find) gives the server that is settled, or says what to do. Streams to
//! `cloudcoin.raida:7000` find their way by themselves.
//!
//! What owners do with their names is [`Endpoint::put_name`](crate::Endpoint::put_name) and what stands beside it.

mod agree;
mod cache;
mod dns;
mod lookup;
mod message;
mod owner;

pub use agree::{Contrary, Disagreement};
pub use dns::Dns;
pub use lookup::{Found, Hint, LookupError, Places, Server, Settled, Vouched, is_raida};
pub use owner::{NoReply, Replies};
pub use qsocket_proto::names::*;

use crate::endpoint::{Endpoint, Network};
use agree::agree;
use cache::{Cache, Known};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use message::{Question, response};
use qsocket_net::clock;
use qsocket_proto::ids::RELAYS;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Questions of one network under way at once; further ones wait. Each is a call on every hop, and half of the calls of a
/// hop ([`MAX_CALLS`](qsocket_proto::call::MAX_CALLS)) stay for everything else.
const MAX_ASKING: usize = 32;

/// What an endpoint knows of names in one network.
#[derive(Debug)]
pub(crate) struct Names {
    cache: Mutex<Cache>,
    places: Semaphore,
    /// Answers of each relay that sixteen others contradict.
    contrary: [AtomicU64; RELAYS],
}

impl Default for Names {
    fn default() -> Self {
        Self {
            cache: Mutex::default(),
            places: Semaphore::new(MAX_ASKING),
            contrary: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Names {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many answers of each relay sixteen others contradicted.
    pub(crate) fn contrary(&self) -> [u64; RELAYS] {
        std::array::from_fn(|i| self.contrary[i].load(Ordering::Relaxed))
    }

    /// What is remembered, or what the relays say now.
    ///
    /// # Cancel safety
    /// Safe: a dropped question is forgotten.
    async fn resolve<R: agree::Relays>(
        &self,
        relays: &Arc<R>,
        question: &Question,
    ) -> Result<Known, Disagreement> {
        let known = self.cache().get(question, clock::now());
        if let Some(known) = known {
            return Ok(known);
        }
        // Never closed.
        let _place = self.places.acquire().await;
        // Whoever waited here before may have asked the same.
        let known = self.cache().get(question, clock::now());
        if let Some(known) = known {
            return Ok(known);
        }
        let agreed = agree(relays, question).await?;
        for (relay, how) in &agreed.contrary {
            self.contrary[relay.index()].fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%relay, %question, "the relay answers otherwise than sixteen others: {how}");
        }
        let now = clock::now();
        let known = Known::new(Arc::new(agreed), now);
        self.cache().insert(question.clone(), known.clone(), now);
        Ok(known)
    }
}

impl Network {
    /// What sixteen relays say, now or since it may be remembered.
    pub(crate) async fn resolve(self: &Arc<Self>, question: &Question) -> Result<Known, Disagreement> {
        self.want_hops();
        self.names_known().resolve(self, question).await
    }
}

impl Endpoint {
    /// Answers a question of the DNS about a `.raida` name, message for message: for programs that know nothing but the
    /// DNS. What sixteen relays of the first network answer alike is the answer; it is remembered for its time to live, as
    /// is that there is none.
    ///
    /// A question about any other name is answered with REFUSED, one that is no question with FORMERR or NOTIMP. What is
    /// longer than the asker's UDP takes is the caller's to cut.
    ///
    /// # Errors
    /// [`Disagreement`] when no sixteen relays answer alike; tell the asker SERVFAIL. `None` for what deserves no answer: less
    /// than a header, or a response.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn answer_dns(&self, query: &[u8]) -> Option<Result<Vec<u8>, Disagreement>> {
        let Ok(query) = Message::from_vec(query) else {
            // The id and the first byte of the flags, if there is that much.
            let [a, b, flags, ..] = *query else { return None };
            if query.len() < HEADER || flags & RESPONSE != 0 {
                return None;
            }
            let id = u16::from_be_bytes([a, b]);
            return encode(&Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)).map(Ok);
        };
        if query.metadata.message_type != MessageType::Query {
            return None;
        }
        let refuse = |code| encode(&response(&query, code)).map(Ok);
        if query.metadata.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        let [asked] = &query.queries[..] else { return refuse(ResponseCode::FormErr) };
        if !is_raida(&asked.name().to_ascii()) || asked.query_class() != DNSClass::IN {
            return refuse(ResponseCode::Refused);
        }
        // Relays answer for one type at a time, and nobody transfers the zone; from 128 to 255 there are operations
        // (RFC 6895).
        let kind = u16::from(asked.query_type());
        if asked.query_type() == RecordType::OPT || (128..=255).contains(&kind) {
            return refuse(ResponseCode::NotImp);
        }
        let question = Question::new(asked.name(), asked.query_type());
        match self.first().resolve(&question).await {
            Ok(known) => {
                let age = known.age(clock::now());
                encode(&known.agreed.answer.respond(&query, age)).map(Ok)
            }
            Err(disagreement) => Some(Err(disagreement)),
        }
    }
}

/// Bytes of a header of the DNS.
const HEADER: usize = 12;

/// In the third byte of a header: this is a response.
const RESPONSE: u8 = 0x80;

fn encode(message: &Message) -> Option<Vec<u8>> {
    message.to_vec().ok()
}

#[cfg(test)]
mod tests;
