//! The server's side of opening: count before storing, agree by sixteen, recover K, answer.
//!
//! `docs/protocol.md` section 8. Until 16 relays agree nobody is known to have said anything, so everything that
//! lies here is charged to the hop that brought it.

use super::Key;
use crate::connection::{Accept, Assembly, Buffers, Config, Hops, ReplyBytes, read_hello, reply_aad};
use crate::crypto::kem;
use crate::crypto::schedule::{
    Early, EncryptionKey, HeaderHash, KeyAndIv, Keyed, PhaseKeys, Root, TranscriptHash,
};
use crate::crypto::secret::Secret;
use crate::frame::{Proof, RouteError};
use crate::grid::is_complete;
use crate::ids::{
    ConnectionId, HopAt, KeyId, PathId, PathSet, Principal, RELAYS, RouteId, SIXTEEN, StreamId, TOLERATED,
};
use crate::open::{Hello, MlKem, OpenHeader, Parameters, Refusal, Reply, ReplyKey, SealedReply};
use crate::path::PathCounter;
use crate::share::{Offered, RecoverError, recover, verify};
use crate::stripe::{Payload, StripeHeader, TAG_BYTES};
use rand_core::CryptoRng;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The paths that brought one header, byte for byte, with what they brought.
type Group<'a> = (&'a Arc<[u8]>, Vec<(PathId, &'a Pending)>);

/// What a hello settled: the client's parameters, and ML-KEM's ciphertext and secret where both sides use it.
type Settled = (Parameters, Option<([u8; kem::CIPHERTEXT_BYTES], Secret<32>)>);

/// Connection ids that one hop may announce before they are accepted.
pub const PENDING_IDS: usize = 1024;

/// Bytes that one hop may occupy with them.
pub const PENDING_BYTES: usize = 4 << 20;

/// Time from the tenth relay's announcement to the sixteenth's, and from a first announcement to the tenth.
pub const QUORUM_DEADLINE: Duration = Duration::from_secs(5);

/// Connections of one client that it has not confirmed.
pub const MAX_UNCONFIRMED: usize = 64;

/// Longest stripe of a hello block that is kept: a hello is below 1,300 bytes, a sixteenth of it below 128.
const MAX_HELLO_STRIPE: usize = 128;

/// Relays that announce an id before a slot is made for it: one more than may lie.
const ANNOUNCED: usize = TOLERATED + 1;

/// Whom a server lets in, and which Encryption keys it holds.
pub trait Admission: Send {
    /// Whether this client, which 16 relays vouch for, may connect.
    ///
    /// # Errors
    /// The reason that the client is told.
    fn admit(&self, client: Principal) -> Result<(), Refusal>;

    /// Whether this server holds an Encryption key for the client; `none` is refused then.
    fn holds_key(&self, client: Principal) -> bool;

    /// The Encryption key of this id for the client.
    ///
    /// Shared and not lent: who holds the keys may put others in their place at any time.
    fn encryption_key(&self, client: Principal, id: KeyId) -> Option<Arc<EncryptionKey>>;
}

/// An OPEN that arrived on a path.
pub(super) struct Offer<'a> {
    pub(super) at: HopAt,
    pub(super) route: RouteId,
    pub(super) header: OpenHeader,
    pub(super) encoded: &'a [u8],
    pub(super) share: &'a [u8; 32],
    pub(super) proof: &'a Proof,
}

/// What an input led to.
pub(super) enum Outcome {
    Nothing,
    /// A connection, with the hops that brought it.
    Accepted(Box<Accept>, Vec<(HopAt, RouteId, PathCounter)>),
}

/// What one relay said of one connection.
#[derive(Debug)]
struct Pending {
    /// Which of the path's hops brought it last.
    nth: u8,
    route: RouteId,
    encoded: Arc<[u8]>,
    header: OpenHeader,
    share: Secret<32>,
    proof: Proof,
    hello: Option<(StripeHeader, Vec<u8>, [u8; TAG_BYTES])>,
    since: Instant,
    /// Counted from the first byte on, for the path counters of the connection to come.
    arrived: PathCounter,
}

impl Pending {
    fn at(&self, path: PathId) -> HopAt {
        HopAt { path, nth: self.nth }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.encoded.len() + size_of::<Proof>() + MAX_HELLO_STRIPE
    }
}

/// What lies here of one path's hops. They share its bounds: a relay holds no more for having several.
#[derive(Debug, Default)]
struct Hop {
    pending: BTreeMap<Key, Pending>,
    routes: BTreeMap<(u8, RouteId), Key>,
    /// Oldest first; entries may be gone.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Hop {
    fn remove(&mut self, key: &Key) -> Option<Pending> {
        let pending = self.pending.remove(key)?;
        self.routes.remove(&(pending.nth, pending.route));
        self.bytes -= pending.bytes();
        if self.order.front() == Some(key) {
            // The usual one of a flood.
            self.order.pop_front();
        } else {
            self.order.retain(|k| k != key);
        }
        Some(pending)
    }
}

/// Sixteen relays agree: what follows from their header and shares.
#[derive(Debug)]
struct Agreed {
    header: OpenHeader,
    encoded: Arc<[u8]>,
    keyed: Keyed,
    zero: PhaseKeys,
    hello: Option<Assembly>,
    tried: PathSet,
}

/// A connection that ten relays announced.
#[derive(Debug)]
struct Slot {
    deadline: Instant,
    agreed: Option<Agreed>,
}

pub(super) struct Acceptor {
    principal: Principal,
    config: Arc<Config>,
    admission: Box<dyn Admission>,
    hops: [Hop; RELAYS],
    slots: BTreeMap<Key, Slot>,
    pub(super) liars: [u64; RELAYS],
    pub(super) other_headers: [u64; RELAYS],
}

impl Acceptor {
    pub(super) fn new(principal: Principal, config: Arc<Config>, admission: Box<dyn Admission>) -> Self {
        Self {
            principal,
            config,
            admission,
            hops: std::array::from_fn(|_| Hop::default()),
            slots: BTreeMap::new(),
            liars: [0; RELAYS],
            other_headers: [0; RELAYS],
        }
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.hops.iter().map(|h| h.bytes).sum()
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn client_of(&self, at: HopAt, route: RouteId) -> Option<Principal> {
        self.hops[at.path.index()].routes.get(&(at.nth, route)).map(|(client, _)| *client)
    }

    pub(super) fn hop_down(&mut self, HopAt { path, nth }: HopAt) {
        let hop = &mut self.hops[path.index()];
        let gone: Vec<Key> = hop.pending.iter().filter(|(_, p)| p.nth == nth).map(|(key, _)| *key).collect();
        if gone.len() == hop.pending.len() {
            // The usual case, and a flood at once.
            *hop = Hop::default();
        }
        for key in gone {
            self.hops[path.index()].remove(&key);
            self.withdraw(&key);
        }
    }

    fn announced(&self, key: &Key) -> usize {
        self.hops.iter().filter(|h| h.pending.contains_key(key)).count()
    }

    /// A hop no longer announces this connection. A slot that fewer than ten announce goes too: otherwise ten hops that
    /// change their minds fast enough would hold more slots than announcements.
    fn withdraw(&mut self, key: &Key) {
        if self.announced(key) < ANNOUNCED {
            self.slots.remove(key);
        }
    }

    pub(super) fn detach(&mut self, at: HopAt, route: RouteId) {
        let hop = &mut self.hops[at.path.index()];
        if let Some(key) = hop.routes.get(&(at.nth, route)).copied() {
            hop.remove(&key);
            self.withdraw(&key);
        }
    }

    /// Takes an OPEN whose connection does not exist yet.
    pub(super) fn open<H: Hops>(
        &mut self,
        now: Instant,
        offer: Offer<'_>,
        busy: bool,
        hops: &mut H,
        rng: &mut dyn CryptoRng,
    ) -> Outcome {
        let (at @ HopAt { path, nth }, route) = (offer.at, offer.route);
        if offer.header.server != self.principal || offer.header.client == self.principal {
            super::refuse(hops, at, route, RouteError::NoSuchServer);
            return Outcome::Nothing;
        }
        let key = (offer.header.client, offer.header.connection);
        let pending = Pending {
            nth,
            route,
            encoded: offer.encoded.into(),
            header: offer.header,
            share: Secret::new(*offer.share),
            proof: *offer.proof,
            hello: None,
            since: now,
            arrived: PathCounter::default(),
        };
        let hop = &mut self.hops[path.index()];
        hop.remove(&key);
        hop.bytes += pending.bytes();
        hop.routes.insert((nth, route), key);
        hop.order.push_back(key);
        hop.pending.insert(key, pending);
        let mut gone = Vec::new();
        while hop.pending.len() > PENDING_IDS || hop.bytes > PENDING_BYTES {
            let Some(oldest) = hop.order.front().copied() else { break };
            if let Some(dropped) = hop.remove(&oldest) {
                super::detach(hops, dropped.at(path), dropped.route);
            }
            gone.push(oldest);
        }
        gone.iter().for_each(|key| self.withdraw(key));
        let announced = self.announced(&key);
        if announced < ANNOUNCED {
            return Outcome::Nothing;
        }
        self.slots.entry(key).or_insert_with(|| Slot { deadline: now + QUORUM_DEADLINE, agreed: None });
        if announced < SIXTEEN {
            return Outcome::Nothing;
        }
        self.proceed(key, busy, hops, rng)
    }

    /// Takes a DATA payload for a connection that does not exist yet: a stripe of its hello block, or junk.
    pub(super) fn hello<H: Hops>(
        &mut self,
        at: HopAt,
        (route, offset): (RouteId, u32),
        payload: &mut [u8],
        busy: bool,
        hops: &mut H,
        rng: &mut dyn CryptoRng,
    ) -> Outcome {
        let hop = &mut self.hops[at.path.index()];
        let Some(key) = hop.routes.get(&(at.nth, route)).copied() else { return Outcome::Nothing };
        let Some(pending) = hop.pending.get_mut(&key) else { return Outcome::Nothing };
        pending.arrived.on_frame(offset, payload.len());
        let Ok(Payload::Stripe { header, ciphertext, tag }) = Payload::decode(payload) else {
            return Outcome::Nothing;
        };
        let is_hello = header.phase == 0 && header.stream == StreamId::HELLO && header.block == 0;
        if !is_hello || ciphertext.len() > MAX_HELLO_STRIPE || pending.hello.is_some() {
            return Outcome::Nothing;
        }
        pending.hello = Some((header, ciphertext.to_vec(), tag));
        if self.slots.contains_key(&key) { self.proceed(key, busy, hops, rng) } else { Outcome::Nothing }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.hops.iter().filter_map(|hop| hop.pending.get(hop.order.front()?));
        let alone = oldest.map(|pending| pending.since + QUORUM_DEADLINE);
        self.slots.values().map(|s| s.deadline).chain(alone).min()
    }

    pub(super) fn handle_timeout<H: Hops>(&mut self, now: Instant, hops: &mut H) {
        let dead: Vec<Key> = self.slots.iter().filter(|(_, s)| s.deadline <= now).map(|(k, _)| *k).collect();
        for key in dead {
            self.drop_slot(&key, hops);
        }
        // What fewer than ten relays announced does not stay longer either.
        let mut gone = Vec::new();
        for (path, hop) in PathId::all().zip(&mut self.hops) {
            while let Some(key) = hop.order.front().copied()
                && hop.pending.get(&key).is_none_or(|p| p.since + QUORUM_DEADLINE <= now)
            {
                match hop.remove(&key) {
                    Some(pending) => super::detach(hops, pending.at(path), pending.route),
                    None => _ = hop.order.pop_front(),
                }
                gone.push(key);
            }
        }
        gone.iter().for_each(|key| self.withdraw(key));
    }

    fn drop_slot<H: Hops>(&mut self, key: &Key, hops: &mut H) {
        self.slots.remove(key);
        for (path, hop) in PathId::all().zip(&mut self.hops) {
            if let Some(pending) = hop.remove(key) {
                super::detach(hops, pending.at(path), pending.route);
            }
        }
    }

    /// Goes as far as what is here allows: agree, open the hello block, answer.
    fn proceed<H: Hops>(&mut self, key: Key, busy: bool, hops: &mut H, rng: &mut dyn CryptoRng) -> Outcome {
        let agreed = match self.slots.get_mut(&key).and_then(|s| s.agreed.take()) {
            Some(agreed) => agreed,
            None => match self.agree(&key) {
                Step::Agreed(agreed) => *agreed,
                Step::Wait => return Outcome::Nothing,
                Step::Drop => {
                    self.drop_slot(&key, hops);
                    return Outcome::Nothing;
                }
                Step::Refuse(sealer, reason) => {
                    self.refuse(&key, *sealer, reason, hops, rng);
                    return Outcome::Nothing;
                }
            },
        };
        let refusal = match self.admission.admit(key.0) {
            Err(reason) => Some(reason),
            Ok(()) if busy => Some(Refusal::Busy),
            Ok(()) => None,
        };
        if let Some(reason) = refusal {
            self.refuse(&key, Sealer::Keyed(agreed.keyed), reason, hops, rng);
            return Outcome::Nothing;
        }
        self.answer(key, agreed, hops, rng)
    }

    /// Looks at the share of an OPEN that came when the connection stood: nothing needs it, and its relay may lie all
    /// the same.
    pub(super) fn judge(&mut self, path: PathId, header: &OpenHeader, share: &[u8; 32], proof: &Proof) {
        if !verify(&header.root, header.connection, path, &Secret::new(*share), proof) {
            self.liars[path.index()] += 1;
        }
    }

    /// Looks for one header that 16 relays brought, recovers K from their shares, and checks the commitment.
    fn agree(&mut self, key: &Key) -> Step {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for (path, hop) in PathId::all().zip(&self.hops) {
            let Some(pending) = hop.pending.get(key) else { continue };
            match groups.iter_mut().find(|(encoded, _)| **encoded == pending.encoded) {
                Some((_, members)) => members.push((path, pending)),
                None => groups.push((&pending.encoded, vec![(path, pending)])),
            }
        }
        let Some((encoded, members)) = groups.into_iter().find(|(_, m)| m.len() >= SIXTEEN) else {
            return Step::Wait;
        };
        let Some((_, first)) = members.first() else { return Step::Wait };
        let header = first.header.clone();
        let offered: Vec<Offered<'_>> = members
            .iter()
            .map(|(path, p)| Offered { path: *path, share: &p.share, proof: &p.proof })
            .collect();
        let hh = HeaderHash::of(OpenHeader::without_commitment(encoded), &[]);
        let held = header.encryption_key.map(|id| self.admission.encryption_key(key.0, id));
        let derive = |secret: &Secret<32>| Root::recovered(Secret::new(*secret.expose())).early(hh);
        let checked = |secret: &Secret<32>| match &held {
            // Without the key that the client named, its commitment cannot be checked: K serves the refusal only.
            Some(None) => true,
            Some(Some(ek)) => derive(secret).mix(Some(ek)).verify_commitment(&header.commitment),
            None => derive(secret).mix(None).verify_commitment(&header.commitment),
        };
        let recovered = match recover(&header.root, header.connection, &offered, checked) {
            Ok(recovered) => recovered,
            Err(RecoverError::TooFew { .. }) => return Step::Wait,
            // The client's own fault, and without a key there is no way to tell it so under seal.
            Err(RecoverError::OffPolynomial | RecoverError::Commitment) => return Step::Drop,
        };
        let (encoded, early) = (encoded.clone(), derive(&recovered.secret));
        let requires = self.admission.holds_key(key.0);
        let step = match &held {
            Some(None) => Step::Refuse(Box::new(Sealer::Early(early)), Refusal::UnknownEncryptionKey),
            None if requires => {
                let sealer = Sealer::Keyed(early.mix(None));
                Step::Refuse(Box::new(sealer), Refusal::EncryptionKeyRequired)
            }
            _ => {
                let keyed = early.mix(held.as_ref().and_then(Option::as_deref));
                let zero = keyed.client_zero();
                let agreed = Agreed { header, encoded, keyed, zero, hello: None, tried: PathSet::EMPTY };
                Step::Agreed(Box::new(agreed))
            }
        };
        for liar in recovered.liars.iter() {
            self.liars[liar.index()] += 1;
        }
        step
    }

    /// Opens what is here of the hello block, and answers once it is whole.
    fn answer<H: Hops>(
        &mut self,
        key: Key,
        mut agreed: Agreed,
        hops: &mut H,
        rng: &mut dyn CryptoRng,
    ) -> Outcome {
        for (path, hop) in PathId::all().zip(&self.hops) {
            let Some(pending) = hop.pending.get(&key).filter(|p| p.encoded == agreed.encoded) else {
                continue;
            };
            if let Some((header, ciphertext, tag)) = &pending.hello
                && agreed.tried.insert(path)
            {
                agreed.open_hello(header, ciphertext, tag);
            }
        }
        let whole = agreed.hello.as_mut().filter(|a| is_complete(a.have())).and_then(|assembly| {
            let len = assembly.block_len() as usize;
            assembly.solve(0, &mut Default::default()).then(|| (assembly.bytes().to_vec(), len))
        });
        let Some((block, len)) = whole else {
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.agreed = Some(agreed);
            }
            return Outcome::Nothing;
        };
        let block = block.get(..len).unwrap_or_default();
        let decision = read_hello(block)
            .ok_or(Refusal::BadHello)
            .and_then(|hello| self.settle_kem(&agreed.header, hello, rng));
        let (peer, kem) = match decision {
            Ok(settled) => settled,
            Err(reason) => {
                self.refuse(&key, Sealer::Keyed(agreed.keyed), reason, hops, rng);
                return Outcome::Nothing;
            }
        };
        let (ciphertext, secret) = kem.map_or((None, None), |(c, s)| (Some(Box::new(c)), Some(s)));
        let reply =
            Reply::Accepted { parameters: self.config.parameters(), kem_ciphertext: ciphertext }.encode();
        let nonce = draw(rng);
        let th = TranscriptHash::of(&agreed.encoded, block, &nonce, &reply);
        let payload = seal_reply(key.1, &agreed.keyed.reply_key(&nonce), ReplyKey::Reply, nonce, reply);
        let accept = Accept {
            phases: agreed.keyed.master(secret.as_ref()).phase_one(th),
            header: agreed.header,
            encoded: agreed.encoded.clone(),
            reply: ReplyBytes { payload, peer },
            ml_kem: secret.is_some(),
        };
        self.slots.remove(&key);
        let mut joins = Vec::with_capacity(RELAYS);
        for (path, hop) in PathId::all().zip(&mut self.hops) {
            let Some(pending) = hop.remove(&key) else { continue };
            if pending.encoded == agreed.encoded {
                joins.push((pending.at(path), pending.route, pending.arrived));
            } else {
                self.other_headers[path.index()] += 1;
                super::detach(hops, pending.at(path), pending.route);
            }
        }
        Outcome::Accepted(Box::new(accept), joins)
    }

    /// What both sides' demands on ML-KEM-768 come to.
    fn settle_kem(
        &self,
        header: &OpenHeader,
        hello: Hello,
        rng: &mut dyn CryptoRng,
    ) -> Result<Settled, Refusal> {
        let (theirs, ours) = (header.ml_kem, self.config.ml_kem);
        if hello.kem_key.is_some() != (theirs != MlKem::Off) {
            return Err(Refusal::BadHello);
        }
        match (hello.kem_key, ours) {
            (None, MlKem::Require) => Err(Refusal::MlKemRequired),
            (Some(_), MlKem::Off) if theirs == MlKem::Require => Err(Refusal::MlKemRequired),
            (None, _) | (Some(_), MlKem::Off) => Ok((hello.parameters, None)),
            (Some(key), _) => {
                let sealed = kem::encapsulate(&key, rng).map_err(|_| Refusal::BadHello)?;
                Ok((hello.parameters, Some(sealed)))
            }
        }
    }

    /// Sends a sealed refusal on every path of the group and forgets the opening.
    fn refuse<H: Hops>(
        &mut self,
        key: &Key,
        sealer: Sealer,
        reason: Refusal,
        hops: &mut H,
        rng: &mut dyn CryptoRng,
    ) {
        let nonce = draw(rng);
        let (kind, sealing) = match &sealer {
            Sealer::Early(early) => (ReplyKey::Refuse, early.refuse_key(&nonce)),
            Sealer::Keyed(keyed) => (ReplyKey::Reply, keyed.reply_key(&nonce)),
        };
        let payload = seal_reply(key.1, &sealing, kind, nonce, Reply::Refused(reason).encode());
        for (path, hop) in PathId::all().zip(&self.hops) {
            let Some(pending) = hop.pending.get(key) else { continue };
            let (at, route) = (pending.at(path), pending.route);
            hops.outbox(at, |out| out.data(route, 0, payload.len(), |buf| buf.copy_from_slice(&payload)));
        }
        self.drop_slot(key, hops);
    }
}

/// How far agreement came.
enum Step {
    Agreed(Box<Agreed>),
    Wait,
    Drop,
    Refuse(Box<Sealer>, Refusal),
}

/// What a refusal is sealed with.
enum Sealer {
    Early(Early),
    Keyed(Keyed),
}

impl Agreed {
    fn open_hello(&mut self, header: &StripeHeader, ciphertext: &[u8], tag: &[u8; TAG_BYTES]) {
        let mut plain = ciphertext.to_vec();
        let aad = header.associated_data(self.header.connection, crate::ids::Direction::ToServer);
        let nonce = self.zero.stripe.iv.xor_stripe(header.stream.0, header.block, header.stripe.get());
        if self.zero.stripe.key.open_in_place(nonce, &aad, &mut plain, tag).is_err() {
            return;
        }
        let assembly =
            self.hello.get_or_insert_with(|| Assembly::new(header.block_len, &mut Buffers::default()));
        if assembly.block_len() == header.block_len && !assembly.have().contains(header.stripe) {
            assembly.insert(header.stripe, &plain);
        }
    }
}

fn draw(rng: &mut dyn CryptoRng) -> [u8; 32] {
    let mut nonce = [0; 32];
    rng.fill_bytes(&mut nonce);
    nonce
}

/// Seals a reply: message 0 of a key that serves this one nonce.
fn seal_reply(
    connection: ConnectionId,
    sealing: &KeyAndIv,
    key: ReplyKey,
    nonce: [u8; 32],
    mut plain: Vec<u8>,
) -> Vec<u8> {
    let tag = sealing.key.seal_in_place(sealing.iv.xor_number(0), &reply_aad(connection), &mut plain);
    plain.extend_from_slice(&tag);
    Payload::encode_reply(&SealedReply { nonce, key, sealed: &plain })
}
