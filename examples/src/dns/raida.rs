//! Names under `.raida`, which all relays are asked for, in front of a back end that answers for every other name.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hickory_proto::op::ResponseCode;
use qsocket::Endpoint;
use qsocket::names::is_raida;
use tracing::debug;

use super::Backend;
use super::wire::Query;

/// Answers for `.raida` what sixteen relays say alike, and lets another back end answer the rest.
pub struct Raida {
    endpoint: Endpoint,
    rest: Arc<dyn Backend>,
}

impl fmt::Debug for Raida {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raida").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Raida {
    /// Asks the relays of the endpoint's first network, and `rest` about other names.
    #[must_use]
    pub fn new(endpoint: Endpoint, rest: Arc<dyn Backend>) -> Self {
        Self { endpoint, rest }
    }
}

#[async_trait]
impl Backend for Raida {
    async fn answer(&self, query: &Query, from: SocketAddr) -> Bytes {
        let [asked] = &query.message().queries[..] else { return query.error(ResponseCode::FormErr) };
        if !is_raida(&asked.name().to_ascii()) {
            return self.rest.answer(query, from).await;
        }
        match self.endpoint.answer_dns(query.bytes()).await {
            Some(Ok(answer)) => answer.into(),
            Some(Err(disagreement)) => {
                debug!(%disagreement, "a query got SERVFAIL");
                query.error(ResponseCode::ServFail)
            }
            None => query.error(ResponseCode::FormErr),
        }
    }
}
