//! What owners tell the relays about their names.

use super::agree::ask_all;
use crate::endpoint::{Endpoint, Reply};
use qsocket_proto::call::{CALL_DEADLINE, Service, Status};
use qsocket_proto::codec::Malformed;
use qsocket_proto::ids::{PathId, SIXTEEN};
use qsocket_proto::names::{Description, Name, PutName, RenewName, Standing, encode_name};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long hops and answers are awaited together: an answer has its own time, and a hop is built in one.
const DEADLINE: Duration = CALL_DEADLINE.saturating_add(Duration::from_secs(5));

/// How long further relays are awaited when sixteen have answered: as long as a handshake may take. Who is away hears it
/// another time.
const GRACE: Duration = Duration::from_secs(5);

/// Why a relay did not do what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NoReply {
    /// It says why.
    Refused(Status),
    /// What it answered is of another form.
    Malformed,
    /// It did not answer, or there is no hop to it. It may have done it.
    Silent,
}

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => fmt::Display::fmt(status, f),
            Self::Malformed => f.write_str("its answer cannot be read"),
            Self::Silent => f.write_str("no answer"),
        }
    }
}

/// What each of the 25 relays answered.
///
/// Each keeps its own registry, so some may do what others refuse. Telling the others again later is safe: a relay that knows
/// already does nothing.
#[derive(Clone, Debug)]
pub struct Replies<T>(BTreeMap<PathId, Result<T, NoReply>>);

impl<T> Replies<T> {
    /// Those that did it, and what they said.
    pub fn done(&self) -> impl Iterator<Item = (PathId, &T)> {
        self.0.iter().filter_map(|(path, reply)| Some((*path, reply.as_ref().ok()?)))
    }

    /// Those that did not.
    pub fn failed(&self) -> impl Iterator<Item = (PathId, NoReply)> {
        self.0.iter().filter_map(|(path, reply)| Some((*path, *reply.as_ref().err()?)))
    }
}

fn read<T>(reply: Option<Reply>, decode: impl Fn(&[u8]) -> Result<T, Malformed>) -> Result<T, NoReply> {
    match reply {
        None => Err(NoReply::Silent),
        Some((Status::Ok, body)) => decode(&body).map_err(|_| NoReply::Malformed),
        Some((status, _)) => Err(NoReply::Refused(status)),
    }
}

impl Endpoint {
    async fn tell<T>(
        &self,
        service: Service,
        body: Vec<u8>,
        decode: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Replies<T> {
        let network = self.first();
        network.want_hops();
        let mut asking = ask_all(network, service, body);
        let mut replies = BTreeMap::new();
        let mut until = Instant::now() + DEADLINE;
        while let Ok(Some(done)) = timeout_at(until, asking.join_next()).await {
            if let Ok((path, reply)) = done {
                replies.insert(path, read(reply, &decode));
            }
            if replies.len() == SIXTEEN {
                until = until.min(Instant::now() + GRACE);
            }
        }
        for path in PathId::all() {
            replies.entry(path).or_insert(Err(NoReply::Silent));
        }
        Replies(replies)
    }

    /// Tells all relays of the first network what shall be known of a name: registers it where it is free, changes it where
    /// it is this principal's. Sixteen must do it for others to see it.
    ///
    /// # Cancel safety
    /// Relays that were told do it; tell all again.
    pub async fn put_name(&self, put: &PutName) -> Replies<Standing> {
        self.tell(Service::PutName, put.encode(), Standing::decode).await
    }

    /// Asks all relays to extend the term of a name.
    ///
    /// # Cancel safety
    /// As [`put_name`](Self::put_name).
    pub async fn renew_name(&self, renew: &RenewName) -> Replies<Standing> {
        self.tell(Service::RenewName, renew.encode(), Standing::decode).await
    }

    /// Gives a name back at all relays: whoever comes first may register it then.
    ///
    /// # Cancel safety
    /// As [`put_name`](Self::put_name).
    pub async fn withdraw_name(&self, name: &Name) -> Replies<()> {
        self.tell(Service::WithdrawName, encode_name(name), |_| Ok(())).await
    }

    /// Asks each relay how a name stands there. What one says is its word alone.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn describe_name(&self, name: &Name) -> Replies<Description> {
        self.tell(Service::DescribeName, encode_name(name), Description::decode).await
    }
}
