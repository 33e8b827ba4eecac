//! Messages of the key exchange, and both its state machines under any order of answers.

use crate::Input;
use qsocket_proto::call::Calls;
use qsocket_proto::crypto::hkdf::MacKey;
use qsocket_proto::crypto::secret::Secret;
use qsocket_proto::exchange::{
    Fetch, FetchError, Get, MAX_MEMO, MAX_SIGNAL, Post, PostHeader, PostTerms, Signal, admit, receipt,
};
use qsocket_proto::ids::{PathId, Principal, RELAYS, SIXTEEN};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const POSTER: Principal = Principal { network: 1, denomination: 0, serial: 1 };
const RECEIVER: Principal = Principal { network: 1, denomination: 0, serial: 2 };

fn path(i: usize) -> PathId {
    PathId::all().nth(i % RELAYS).expect("below 25")
}

fn receipt_key(of: PathId) -> MacKey {
    MacKey::new(Secret::new([of.get() + 1; 32]))
}

/// Headers, posts, gets and signals.
pub fn messages(data: &[u8]) {
    if let Ok(header) = PostHeader::decode(data) {
        assert_eq!(header.encode(), data);
    }
    if let Ok(get) = Get::decode(data) {
        assert_eq!(get.encode(), data);
    }
    // A share that belongs to a root that somebody chose first is a collision.
    for i in [0, 11, 24] {
        if let Ok(admitted) = admit(data, POSTER, path(i)) {
            assert_eq!((admitted.header.poster, admitted.entry), (POSTER, data));
        }
    }
    if let Ok(signal) = Signal::verify(data, RECEIVER, receipt_key) {
        assert!(data.len() <= MAX_SIGNAL && signal.vouching().len() >= SIXTEEN);
    }
}

/// An exchange in which the input says which relays take, lie and are missing, in which order they answer, and what is
/// changed on the way.
pub fn exchange(data: &[u8]) {
    let mut input = Input::new(data);
    let (seed, len) = (input.u8(), input.u16());
    let memo = vec![7; usize::from(len) % (MAX_MEMO + 2)];
    // Of the length too: two memos never meet under one key, as they never do with true randomness.
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(seed) << 16 | u64::from(len));
    let terms =
        PostTerms { poster: POSTER, receiver: RECEIVER, ttl: input.u32(), lifetime: 0, relay_set: [0; 32] };
    let mut post = Post::new(terms, &memo, &mut rng);
    let mut calls = Calls::default();
    let mut kept: Vec<Option<Vec<u8>>> = vec![None; RELAYS];
    for _ in 0..40 {
        let at = path(input.u8().into());
        let call = calls.begin(at).expect("they are answered one by one");
        let mut body = post.body(at).to_vec();
        change(&mut input, &mut body);
        if let Ok(admitted) = admit(&body, POSTER, at) {
            let mut given = receipt(&receipt_key(at), admitted.encoded).to_vec();
            change(&mut input, &mut given);
            kept[at.index()] = Some(admitted.entry.to_vec());
            // One of another length is refused.
            let _ = post.handle(at, &given);
        }
        assert_eq!(calls.end(call), Some(at));
    }
    let taken = post.taken().len();
    let Ok(mut signal) = post.signal() else { return assert!(taken < SIXTEEN) };
    let clean = !change(&mut input, &mut signal);
    let Ok(signal) = Signal::verify(&signal, RECEIVER, receipt_key) else { return };
    let mut fetch = Fetch::new(signal, &mut rng);
    for _ in 0..60 {
        let at = path(input.u8().into());
        let mut entry = kept[at.index()].clone();
        if let Some(entry) = &mut entry {
            change(&mut input, entry);
        }
        fetch.handle(at, entry.as_deref());
    }
    match fetch.finish() {
        Ok(fetched) => {
            assert!(fetch.is_enough());
            assert!(post.is_confirmation(&fetched.confirmation), "a key that the poster does not have");
            assert_eq!(fetched.memo, memo[..memo.len().min(MAX_MEMO)]);
            assert_eq!(fetched.key.expose(), post.into_key().1.expose());
        }
        Err(FetchError::TooFew { good, .. }) => assert!(good < SIXTEEN && !fetch.is_enough()),
        Err(FetchError::PosterCheated) => assert!(!clean, "nobody changed what the poster said"),
    }
}

/// Flips a bit now and then; true if it did.
fn change(input: &mut Input<'_>, bytes: &mut [u8]) -> bool {
    if bytes.is_empty() || !input.one_in(8) {
        return false;
    }
    let at = usize::from(input.u16()) % bytes.len();
    bytes[at] ^= 1 << (input.u8() % 8);
    true
}
