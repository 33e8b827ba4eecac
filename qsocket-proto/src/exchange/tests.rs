use super::*;
use crate::call::Status;
use crate::crypto::schedule::EncryptionKey;
use crate::crypto::schedule::hop::{AuthenticityNumber, ImportedKey};
use crate::crypto::secret::Secret;
use crate::ids::{KeyId, PathId, Principal, RELAYS, Role, SIXTEEN, TOLERATED};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const POSTER: Principal = Principal { network: 1, denomination: 1, serial: 77 };
const RECEIVER: Principal = Principal { network: 1, denomination: 1, serial: 500 };
const STRANGER: Principal = Principal { network: 1, denomination: 1, serial: 666 };
const MEMO: &[u8] = b"from the laptop";

fn path(i: usize) -> PathId {
    PathId::all().nth(i).unwrap()
}

fn receipt_key(of: Principal, at: PathId) -> MacKey {
    let number = AuthenticityNumber::new(&[at.get() + 1; 32]).unwrap();
    ImportedKey::new(&number, of, at, Role::Server).receipt_key()
}

fn terms() -> PostTerms {
    PostTerms { poster: POSTER, receiver: RECEIVER, ttl: 600, lifetime: 0, relay_set: [7; 32] }
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// What each relay keeps, after it checked the post and gave its receipt.
fn posted(post: &mut Post, at: impl Iterator<Item = usize>) -> Vec<Option<Vec<u8>>> {
    let mut kept = vec![None; RELAYS];
    for i in at {
        let body = post.body(path(i));
        let admitted = admit(&body, POSTER, path(i)).unwrap();
        let receipt = receipt(&receipt_key(RECEIVER, path(i)), admitted.encoded);
        kept[i] = Some(admitted.entry.to_vec());
        post.handle(path(i), &receipt).unwrap();
    }
    kept
}

fn verified(signal: &[u8]) -> Result<Signal, SignalError> {
    Signal::verify(signal, RECEIVER, |at| receipt_key(RECEIVER, at))
}

fn same(a: &EncryptionKey, b: &EncryptionKey) -> bool {
    a.expose() == b.expose()
}

#[test]
fn any_mix_of_nine_missing_and_lying_relays_yields_the_key_and_the_liars() {
    let mut rng = rng(1);
    for missing in 0..=TOLERATED {
        for lying in 0..=TOLERATED - missing {
            let mut post = Post::new(terms(), MEMO, &mut rng);
            let kept = posted(&mut post, 0..RELAYS);
            let signal = verified(&post.signal().unwrap()).unwrap();
            assert_eq!(signal.vouching().len(), RELAYS);
            let mut fetch = Fetch::new(signal, &mut rng);
            // Which relays fail turns with the round, so that every one of them does at some time.
            let turn = (missing * 7 + lying * 3) % RELAYS;
            let mut liars = Vec::new();
            for k in 0..RELAYS {
                let i = (k + turn) % RELAYS;
                let mut entry = kept[i].clone().unwrap();
                if k < missing {
                    fetch.handle(path(i), None);
                    continue;
                }
                if k < missing + lying {
                    liars.push(path(i));
                    // A share, a proof, a header, or nonsense.
                    let at = [entry.len() - 1, 171 + 3, 60, 0][k % 4];
                    entry[at] ^= 1;
                }
                fetch.handle(path(i), Some(&entry));
            }
            assert!(fetch.is_over() && fetch.is_enough());
            let fetched = fetch.finish().unwrap();
            assert_eq!(
                fetched.liars.iter().collect::<std::collections::BTreeSet<_>>(),
                liars.into_iter().collect()
            );
            assert_eq!(fetched.memo, MEMO);
            assert!(post.is_confirmation(&fetched.confirmation));
            assert!(same(&fetched.key, &post.into_key().1), "{missing} missing, {lying} lying");
        }
    }
}

#[test]
fn with_ten_bad_relays_there_is_no_key_and_never_a_wrong_one() {
    for lying in 0..=10 {
        let mut rng = rng(lying as u64);
        let mut post = Post::new(terms(), MEMO, &mut rng);
        let kept = posted(&mut post, 0..RELAYS);
        let mut fetch = Fetch::new(verified(&post.signal().unwrap()).unwrap(), &mut rng);
        for (i, entry) in kept.into_iter().enumerate() {
            let mut entry = entry.unwrap();
            if i < lying {
                rng.fill_bytes(&mut entry[171..203]);
            }
            fetch.handle(path(i), (i < lying || i >= 10).then_some(&entry[..]));
        }
        assert_eq!(fetch.good(), 15);
        let error = fetch.finish().unwrap_err();
        assert!(matches!(error, FetchError::TooFew { good: 15, liars } if liars.len() == lying), "{error}");
    }
}

/// Ten liars that agree on a post of their own, for the same poster and key: its receipts are not sixteen.
#[test]
fn a_post_that_ten_relays_invent_is_not_even_fetched() {
    let mut forged = Post::new(terms(), b"forged", &mut rng(3));
    posted(&mut forged, 0..10);
    assert_eq!(forged.signal(), Err(TooFewReceipts { good: 10 }));
    // The others' receipts are made up.
    for i in 10..RELAYS {
        forged.handle(path(i), &[i as u8; 32]).unwrap();
    }
    assert_eq!(verified(&forged.signal().unwrap()).unwrap_err(), SignalError::NotVouched { good: 10 });
}

/// A receipt is for one receiver, one header and one relay.
#[test]
fn receipts_are_good_for_nothing_else() {
    let mut rng = rng(4);
    let mut post = Post::new(terms(), MEMO, &mut rng);
    posted(&mut post, 0..RELAYS);
    let bytes = post.signal().unwrap();
    let other = PostTerms { receiver: STRANGER, ..terms() };
    let mut elsewhere = Post::new(other, MEMO, &mut rng);
    posted(&mut elsewhere, 0..RELAYS);
    let foreign = elsewhere.signal().unwrap();
    assert_eq!(verified(&foreign).unwrap_err(), SignalError::NotForThis(STRANGER));
    // Receipts of one post under the header of another.
    let mut mixed = bytes.clone();
    let header = 2 + elsewhere.header().encode().len();
    mixed[header..header + 4 + 32 * RELAYS].copy_from_slice(&foreign[header..header + 4 + 32 * RELAYS]);
    assert_eq!(verified(&mixed).unwrap_err(), SignalError::NotVouched { good: 0 });
    // Receipts in another order.
    let mut swapped = bytes.clone();
    swapped[header + 4..header + 36].copy_from_slice(&bytes[header + 36..header + 68]);
    assert_eq!(verified(&swapped).unwrap().vouching().len(), RELAYS - 1);
    // Another receiver that holds other numbers, and even the same numbers under another name.
    assert!(Signal::verify(&bytes, STRANGER, |at| receipt_key(STRANGER, at)).is_err());
}

#[test]
fn fewer_than_sixteen_receipts_are_no_signal_and_sixteen_are() {
    for count in [0, 1, SIXTEEN - 1, SIXTEEN] {
        let mut rng = rng(5);
        let mut post = Post::new(terms(), MEMO, &mut rng);
        let kept = posted(&mut post, 9 - (count.min(9))..9 - count.min(9) + count);
        match post.signal() {
            Err(TooFewReceipts { good }) => assert!(good == count && count < SIXTEEN),
            Ok(signal) => {
                assert_eq!(count, SIXTEEN);
                let mut fetch = Fetch::new(verified(&signal).unwrap(), &mut rng);
                for (i, entry) in kept.iter().enumerate() {
                    fetch.handle(path(i), entry.as_deref());
                }
                assert!(fetch.is_over(), "only those that vouched are asked");
                assert!(same(&fetch.finish().unwrap().key, &post.into_key().1));
            }
        }
    }
}

/// Every single bit of a signal: it is refused, or loses receipts, or its memo is found out.
#[test]
fn no_bit_of_a_signal_can_be_changed_unseen() {
    let mut rng = rng(6);
    let mut post = Post::new(terms(), MEMO, &mut rng);
    let kept = posted(&mut post, 0..SIXTEEN);
    let bytes = post.signal().unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let Ok(signal) = verified(&wrong) else { continue };
        let mut fetch = Fetch::new(signal, &mut rng);
        for (i, entry) in kept.iter().enumerate() {
            fetch.handle(path(i), entry.as_deref());
        }
        assert_eq!(fetch.finish().unwrap_err(), FetchError::PosterCheated, "bit {bit}");
        assert!(bit / 8 >= bytes.len() - MEMO.len() - 16, "only the memo is left: bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(verified(&bytes[..len]).is_err(), "cut to {len}");
    }
    assert!(verified(&[&bytes[..], &[0]].concat()).is_err());
}

/// The poster shares out two secrets under one root, or commits to another: its own fault, and nobody else's.
#[test]
fn a_poster_that_cheats_is_found_out_and_no_relay_is_blamed() {
    let mut rng = rng(7);
    let (mut post, other) = (Post::new(terms(), MEMO, &mut rng), Post::new(terms(), MEMO, &mut rng));
    let mut shares: Vec<[u8; 32]> = Vec::new();
    for i in 0..RELAYS {
        let from = if i < 12 { &post } else { &other };
        shares.push(from.body(path(i))[171..203].try_into().unwrap());
    }
    post.set_shares(&shares);
    let kept = posted(&mut post, 0..RELAYS);
    let mut fetch = Fetch::new(verified(&post.signal().unwrap()).unwrap(), &mut rng);
    for (i, entry) in kept.iter().enumerate() {
        fetch.handle(path(i), entry.as_deref());
    }
    assert_eq!(fetch.finish().unwrap_err(), FetchError::PosterCheated);

    let mut post = Post::new(terms(), MEMO, &mut rng);
    post.set_commitment([9; 32]);
    let kept = posted(&mut post, 0..RELAYS);
    let mut fetch = Fetch::new(verified(&post.signal().unwrap()).unwrap(), &mut rng);
    for (i, entry) in kept.iter().enumerate() {
        fetch.handle(path(i), entry.as_deref());
    }
    assert_eq!(fetch.finish().unwrap_err(), FetchError::PosterCheated);
}

#[test]
fn a_relay_takes_a_post_from_its_poster_alone_and_only_its_own_share() {
    let post = Post::new(terms(), MEMO, &mut rng(8));
    let body = post.body(path(4));
    assert!(admit(&body, POSTER, path(4)).is_ok());
    assert_eq!(admit(&body, STRANGER, path(4)).unwrap_err(), Status::NotPermitted);
    assert_eq!(admit(&body, POSTER, path(5)).unwrap_err(), Status::Malformed);
    for bit in 0..body.len() * 8 {
        let mut wrong = body.to_vec();
        wrong[bit / 8] ^= 1 << (bit % 8);
        // What the root does not cover, the commitment and the header's hash do: it is another post then.
        let admitted = admit(&wrong, POSTER, path(4));
        assert!(
            admitted.is_err() || admitted.is_ok_and(|a| a.header != *post.header()),
            "bit {bit} changed and nobody sees it"
        );
    }
    for len in 0..body.len() {
        assert!(admit(&body[..len], POSTER, path(4)).is_err(), "cut to {len}");
    }
}

#[test]
fn nobody_else_can_confirm() {
    let mut rng = rng(9);
    let (post, other) = (Post::new(terms(), MEMO, &mut rng), Post::new(terms(), MEMO, &mut rng));
    let (hh, key) = (header::hash(&post.header().encode()), other.into_key().1);
    assert!(!post.is_confirmation(&key.confirmation_key(hh).tag(&[hh.as_bytes()])));
    assert!(!post.is_confirmation(&[0; 32]) && !post.is_confirmation(&[]));
}

/// Header fields that may not be: another network, the poster itself, a time to live out of range.
#[test]
fn headers_that_may_not_be_are_refused() {
    let good = Post::new(terms(), MEMO, &mut rng(10)).header().clone();
    assert_eq!(PostHeader::decode(&good.encode()), Ok(good.clone()));
    for bad in [
        PostHeader { receiver: Principal { network: 2, ..RECEIVER }, ..good.clone() },
        PostHeader { receiver: POSTER, ..good.clone() },
        PostHeader { ttl: MIN_TTL - 1, ..good.clone() },
        PostHeader { ttl: MAX_TTL + 1, ..good.clone() },
    ] {
        assert!(PostHeader::decode(&bad.encode()).is_err(), "{bad:?}");
    }
    assert!(PostHeader::decode(&[0; MAX_POST_HEADER + 1]).is_err());
    // A header of a connection is none of a post.
    let mut connection = good.encode();
    connection[2] = crate::open::SUITE;
    assert!(PostHeader::decode(&connection).is_err());
    assert!(crate::open::OpenHeader::decode(&good.encode()).is_err());
}

#[test]
fn gets_round_trip() {
    let get = Get { poster: POSTER, key: KeyId([3; 16]), fetch: FetchId([4; 16]) };
    assert_eq!(get.encode().len(), GET_BYTES);
    assert_eq!(Get::decode(&get.encode()), Ok(get));
    for len in 0..GET_BYTES {
        assert!(Get::decode(&get.encode()[..len]).is_err());
    }
    assert!(Get::decode(&[0; GET_BYTES + 1]).is_err());
}

/// `vectors/exchange.json`, made by `exchange.py` from the protocol's text.
#[test]
fn known_answers_hold() {
    let file = include_str!("../../../vectors/exchange.json");
    let v: serde_json::Value = serde_json::from_str(file).unwrap();
    let bytes = |name: &str| unhex(v[name].as_str().unwrap());
    let header = bytes("header");
    let decoded = PostHeader::decode(&header).unwrap();
    assert_eq!(decoded.encode(), header);
    let signal = bytes("signal");
    let numbers: Vec<Vec<u8>> =
        v["numbers"].as_array().unwrap().iter().map(|n| unhex(n.as_str().unwrap())).collect();
    let key = |at: PathId| {
        let number = AuthenticityNumber::new(&numbers[at.index()]).unwrap();
        ImportedKey::new(&number, decoded.receiver, at, Role::Server).receipt_key()
    };
    let signal = Signal::verify(&signal, decoded.receiver, key).unwrap();
    let vouching = v["vouching"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u8);
    assert_eq!(signal.vouching(), vouching.map(|n| PathId::new(n).unwrap()).collect());
    let mut fetch = Fetch::new(signal, &mut rng(11));
    for (i, entry) in v["posts"].as_array().unwrap().iter().enumerate() {
        let entry = unhex(entry.as_str().unwrap());
        assert!(admit(&entry, decoded.poster, path(i)).is_ok(), "{i}");
        fetch.handle(path(i), Some(&entry));
    }
    let fetched = fetch.finish().unwrap();
    assert_eq!(fetched.key.expose()[..], bytes("key"));
    assert_eq!(fetched.memo, bytes("memo"));
    assert_eq!(fetched.confirmation[..], bytes("confirmation"));
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap())
        .collect()
}

impl Post {
    /// Puts other shares under the root.
    fn set_shares(&mut self, shares: &[[u8; 32]]) {
        self.replace_shares(shares.iter().map(|s| Secret::new(*s)).collect());
    }
}
