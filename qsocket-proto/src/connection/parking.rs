//! Parity that arrived and lies unopened: most of it is never needed.
//!
//! Nothing here is trusted. What lies here is charged to the path that brought it, and copies of one stripe from
//! different paths lie side by side, so that junk from one relay displaces nothing from another.

use super::paths::Paths;
use crate::fault_points::{Point, hit};
use crate::grid::{StripeId, StripeSet};
use crate::ids::{PathId, StreamId};
use crate::stripe::{StripeHeader, TAG_BYTES};
use std::collections::BTreeMap;

/// Unopened bytes that one path may bring: a path's part of the parity of a full window is far below it.
pub(crate) const MAX_PARKED_BYTES: usize = 1 << 20;

/// What one parked stripe is charged besides its bytes: its entry and its share of the map.
const ENTRY_BYTES: usize = 128;

/// A stripe that nobody opened yet.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) header: StripeHeader,
    pub(crate) path: PathId,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) tag: [u8; TAG_BYTES],
}

impl Parked {
    fn charge(&self) -> usize {
        self.ciphertext.len() + ENTRY_BYTES
    }
}

/// All parked stripes of a connection.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    blocks: BTreeMap<(StreamId, u64), Vec<Parked>>,
    bytes: usize,
}

impl Parking {
    /// Keeps a stripe. False if the path has used its room, or brought this stripe before.
    pub(crate) fn park(&mut self, parked: Parked, paths: &mut Paths) -> bool {
        let path = paths.get_mut(parked.path);
        let charge = parked.charge();
        if path.parked + charge > MAX_PARKED_BYTES || hit(Point::NoParking) {
            return false;
        }
        let block = self.blocks.entry((parked.header.stream, parked.header.block)).or_default();
        if block.iter().any(|p| p.header.stripe == parked.header.stripe && p.path == parked.path) {
            return false;
        }
        path.parked += charge;
        self.bytes += charge;
        block.push(parked);
        true
    }

    /// The stripes of a block that lie here.
    pub(crate) fn stripes(&self, stream: StreamId, block: u64) -> StripeSet {
        self.blocks
            .get(&(stream, block))
            .map(|b| b.iter().map(|p| p.header.stripe).collect())
            .unwrap_or_default()
    }

    /// Takes one copy of a stripe.
    pub(crate) fn take(
        &mut self,
        stream: StreamId,
        block: u64,
        stripe: StripeId,
        paths: &mut Paths,
    ) -> Option<Parked> {
        let list = self.blocks.get_mut(&(stream, block))?;
        let at = list.iter().position(|p| p.header.stripe == stripe)?;
        let parked = list.swap_remove(at);
        if list.is_empty() {
            self.blocks.remove(&(stream, block));
        }
        self.discharge(&parked, paths);
        Some(parked)
    }

    /// Throws away what lies here of a block.
    pub(crate) fn forget(&mut self, stream: StreamId, block: u64, paths: &mut Paths) {
        for parked in self.blocks.remove(&(stream, block)).unwrap_or_default() {
            self.discharge(&parked, paths);
        }
    }

    /// Throws away what lies here of a stream.
    pub(crate) fn forget_stream(&mut self, stream: StreamId, paths: &mut Paths) {
        let blocks: Vec<u64> =
            self.blocks.range((stream, 0)..=(stream, u64::MAX)).map(|((_, block), _)| *block).collect();
        blocks.into_iter().for_each(|block| self.forget(stream, block, paths));
    }

    /// Bytes that lie here, with what is charged for their keeping.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn discharge(&mut self, parked: &Parked, paths: &mut Paths) {
        paths.get_mut(parked.path).parked -= parked.charge();
        self.bytes -= parked.charge();
    }
}
