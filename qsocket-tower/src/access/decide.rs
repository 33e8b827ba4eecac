use crate::PeerInfo;
use crate::refusal::Forbidden;
use http::request::Parts;
use std::future::Future;

/// Decides about a request. Functions that return such a future do.
pub trait Decide {
    /// The decision, with why not: a code of the program (`Err("a-code".into())`), or what a directory said.
    type Future: Future<Output = Result<(), Forbidden>>;

    /// Decides whether the request gets through. The future takes from the request what it needs.
    fn decide(&self, peer: PeerInfo, request: &Parts) -> Self::Future;
}

impl<D, F> Decide for D
where
    D: Fn(PeerInfo, &Parts) -> F,
    F: Future<Output = Result<(), Forbidden>>,
{
    type Future = F;

    fn decide(&self, peer: PeerInfo, request: &Parts) -> F {
        self(peer, request)
    }
}
