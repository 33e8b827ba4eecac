//! Enrolling another principal at the relays of a RAIDA, over the hops of one that they know (`docs/protocol.md`, 20.15 to
//! 20.19).
//!
//! [`Endpoint::enrol`](crate::Endpoint::enrol) asks over the hops of a program that runs, [`ask`] with a key alone. Either asks
//! the relays that a [`PartialKey`] misses; keep that between attempts, and it is complete one day.
//!
//! # Security
//! Whoever runs this knows the numbers of the new key. Hand it over by a way that nobody else can read.

use super::PartialKey;
use super::rotate::{AGAIN, TRIES, call, each};
use crate::config::Raida;
use crate::endpoint::Network;
use qsocket_files::rng::OsRng;
use qsocket_proto::call::{Service, Status};
use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
use qsocket_proto::enrol::Request;
use qsocket_proto::hop::HandshakeError;
use qsocket_proto::ids::PathId;
use qsocket_proto::raida_key::{RaidaKey, duplicate};
use qsocket_proto::sponsor;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Why a relay did not enrol the principal.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// No permit of its operator: none, one that is over or used up, or the relay knows the principal by another way.
    #[error(
        "not permitted: its operator has to run `raida-relay enroll permit`, or the principal is known there already"
    )]
    NotPermitted,
    /// It answers calls and does not do this.
    #[error("it does not enrol over hops (status {0}); ask its operator for another way")]
    Refused(Status),
    /// Its answer does not fit the request.
    #[error("its answer does not fit: it is damaged or lies; ask it again")]
    Mismatch,
    /// No hop, or no answer in time.
    #[error("no answer from it: {0}; ask again when it is there")]
    Silent(String),
}

/// Asks the relays that `key` misses, over hops that are made with the key of the sponsor. Returns what the others said
/// that are still missing.
///
/// # Cancel safety
/// Relays may have drawn numbers that nobody knows. They are replaced when they are asked again.
pub async fn ask(
    sponsor: &RaidaKey,
    key: &mut PartialKey,
    raida: &Raida,
    within: Duration,
) -> Vec<(PathId, Failure)> {
    let who = (sponsor.principal(), sponsor.role());
    let missing = key.missing();
    let answers = each(raida, within, |relay| {
        let number = missing.contains(&relay).then(|| duplicate(sponsor.number(relay)));
        let request = Request::new(key.principal(), key.role(), relay, &mut OsRng);
        move |address| async move {
            let Some(number) = number else { return Ok(None) };
            let body = sponsor::encode_request(&request);
            let (status, answer) = call(address, &number, (who, relay), Service::Enrol, &body).await?;
            Ok(Some(finish(&request, status, &answer)))
        }
    })
    .await;
    let mut failures = Vec::new();
    for (relay, answer) in PathId::all().zip(answers) {
        match answer {
            Ok(None) => {}
            Ok(Some(Ok(number))) => key.set(relay, number),
            Ok(Some(Err(failure))) => failures.push((relay, failure)),
            Err(super::rotate::Failure::Handshake(HandshakeError::Rejected)) => {
                failures.push((relay, Failure::Silent("it does not know the sponsor's number".to_owned())));
            }
            Err(failure) => failures.push((relay, Failure::Silent(failure.to_string()))),
        }
    }
    failures
}

/// The same over the hops of an endpoint.
pub(crate) async fn over(
    network: &Arc<Network>,
    key: &mut PartialKey,
    within: Duration,
) -> Vec<(PathId, Failure)> {
    network.want_hops();
    let mut asking = JoinSet::new();
    for relay in key.missing() {
        let (network, request) =
            (Arc::clone(network), Request::new(key.principal(), key.role(), relay, &mut OsRng));
        asking.spawn(async move {
            let answered = timeout(within, async {
                network.hop_up(relay).await;
                let body = sponsor::encode_request(&request);
                let mut tried = 0;
                loop {
                    tried += 1;
                    match network.call(relay, Service::Enrol, &body).await {
                        Some((Status::Busy, _)) if tried < TRIES => tokio::time::sleep(AGAIN).await,
                        Some((status, answer)) => return finish(&request, status, &answer),
                        None => return Err(Failure::Silent("the hop ended".to_owned())),
                    }
                }
            });
            (relay, answered.await.unwrap_or_else(|_| Err(Failure::Silent("it took too long".to_owned()))))
        });
    }
    // A task of them neither panics nor is cancelled.
    let mut failures = Vec::new();
    for (relay, answer) in asking.join_all().await {
        match answer {
            Ok(number) => key.set(relay, number),
            Err(failure) => failures.push((relay, failure)),
        }
    }
    failures.sort_by_key(|(relay, _)| *relay);
    failures
}

fn finish(request: &Request, status: Status, answer: &[u8]) -> Result<AuthenticityNumber, Failure> {
    match status {
        Status::Ok => {
            let answer = sponsor::decode_answer(request.subject, answer).map_err(|_| Failure::Mismatch)?;
            request.finish(&answer).map_err(|_| Failure::Mismatch)
        }
        Status::NotPermitted => Err(Failure::NotPermitted),
        status => Err(Failure::Refused(status)),
    }
}
