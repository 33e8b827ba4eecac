//! What every store of posts must do. Each store runs all of it.

use super::*;

const fn who(serial: u32) -> Principal {
    Principal { network: 1, denomination: -1, serial }
}

const POSTER: Principal = who(1);
const RECEIVER: Principal = who(2);
const OTHER: Principal = who(3);
pub(super) const NOW: u64 = 1_800_000_000;

fn key(n: u8) -> KeyId {
    KeyId([n; 16])
}

pub(super) fn post(n: u8, entry: &[u8]) -> NewPost<'_> {
    NewPost { poster: POSTER, receiver: RECEIVER, key: key(n), entry, until: NOW + 100 }
}

fn get(n: u8, fetch: u8) -> Get {
    Get { poster: POSTER, key: key(n), fetch: FetchId([fetch; 16]) }
}

fn entry(bytes: &[u8]) -> Got {
    Got::Entry(Zeroizing::new(bytes.to_vec()))
}

pub(super) const QUOTA: PostQuota = PostQuota { per_poster: 4, per_receiver: 6 };

/// All rules, on an empty store.
pub(super) async fn keeps_the_rules(posts: &dyn Posts) {
    one_fetch(posts).await;
    names_are_not_used_twice(posts).await;
    posts_lapse(posts).await;
    quotas_hold(posts).await;
}

/// A post is its receiver's, and one fetch's.
async fn one_fetch(posts: &dyn Posts) {
    let kept = posts.post(NOW, QUOTA, post(1, b"share")).await.unwrap();
    assert_eq!(kept, Posted::Kept);
    assert_eq!(posts.get(NOW, OTHER, get(1, 1)).await.unwrap(), Got::NotFound, "a stranger");
    assert_eq!(posts.get(NOW, POSTER, get(1, 1)).await.unwrap(), Got::NotFound, "the poster itself");
    let foreign = Get { poster: OTHER, ..get(1, 1) };
    assert_eq!(posts.get(NOW, RECEIVER, foreign).await.unwrap(), Got::NotFound, "another poster");
    assert_eq!(posts.release(NOW, OTHER, get(1, 1)).await.unwrap(), Released::NotFound);
    assert_eq!(posts.get(NOW, RECEIVER, get(1, 1)).await.unwrap(), entry(b"share"));
    assert_eq!(posts.get(NOW, RECEIVER, get(1, 1)).await.unwrap(), entry(b"share"), "an answer may be lost");
    assert_eq!(posts.get(NOW, RECEIVER, get(1, 2)).await.unwrap(), Got::Taken, "a second fetch");
    assert_eq!(posts.release(NOW, RECEIVER, get(1, 2)).await.unwrap(), Released::Taken);
    assert_eq!(posts.release(NOW, RECEIVER, get(1, 1)).await.unwrap(), Released::Done);
    assert_eq!(posts.release(NOW, RECEIVER, get(1, 1)).await.unwrap(), Released::Done);
    for fetch in [1, 2] {
        assert_eq!(posts.get(NOW, RECEIVER, get(1, fetch)).await.unwrap(), Got::Taken, "the share is erased");
    }
    // A share may be released that nobody fetched here: sixteen others were enough.
    assert_eq!(posts.post(NOW, QUOTA, post(2, b"share")).await.unwrap(), Posted::Kept);
    assert_eq!(posts.release(NOW, RECEIVER, get(2, 3)).await.unwrap(), Released::Done);
    assert_eq!(posts.get(NOW, RECEIVER, get(2, 3)).await.unwrap(), Got::Taken);
    assert_eq!(posts.sweep(NOW + 100).await.unwrap(), 2);
}

/// A name is free again only when its post has lapsed: a replay puts nothing in the place of what was.
async fn names_are_not_used_twice(posts: &dyn Posts) {
    assert_eq!(posts.post(NOW, QUOTA, post(1, b"one")).await.unwrap(), Posted::Kept);
    let later = NewPost { until: NOW + 999, ..post(1, b"one") };
    assert_eq!(posts.post(NOW, QUOTA, later).await.unwrap(), Posted::Kept, "the receipt was lost");
    assert_eq!(posts.post(NOW, QUOTA, post(1, b"two")).await.unwrap(), Posted::Exists);
    assert_eq!(posts.get(NOW, RECEIVER, get(1, 1)).await.unwrap(), entry(b"one"));
    assert_eq!(posts.post(NOW, QUOTA, post(1, b"one")).await.unwrap(), Posted::Exists, "fetched already");
    assert_eq!(posts.release(NOW, RECEIVER, get(1, 1)).await.unwrap(), Released::Done);
    assert_eq!(posts.post(NOW, QUOTA, post(1, b"one")).await.unwrap(), Posted::Exists, "a replay");
    // The same name at another receiver, or of another poster, is another name.
    let elsewhere = NewPost { receiver: OTHER, ..post(1, b"three") };
    assert_eq!(posts.post(NOW, QUOTA, elsewhere).await.unwrap(), Posted::Kept);
    let of_another = NewPost { poster: OTHER, ..post(1, b"four") };
    assert_eq!(posts.post(NOW, QUOTA, of_another).await.unwrap(), Posted::Kept);
    // Saying it again did not make it live longer.
    assert_eq!(posts.post(NOW + 100, QUOTA, post(1, b"five")).await.unwrap(), Posted::Kept);
    assert_eq!(posts.sweep(NOW + 1000).await.unwrap(), 3);
}

async fn posts_lapse(posts: &dyn Posts) {
    assert_eq!(posts.post(NOW, QUOTA, post(1, b"share")).await.unwrap(), Posted::Kept);
    assert_eq!(posts.get(NOW + 99, RECEIVER, get(1, 1)).await.unwrap(), entry(b"share"));
    assert_eq!(posts.get(NOW + 100, RECEIVER, get(1, 1)).await.unwrap(), Got::NotFound);
    assert_eq!(posts.release(NOW + 100, RECEIVER, get(1, 1)).await.unwrap(), Released::NotFound);
    assert_eq!(posts.sweep(NOW + 99).await.unwrap(), 0);
    assert_eq!(posts.sweep(NOW + 100).await.unwrap(), 1);
    assert_eq!(posts.sweep(NOW + 100).await.unwrap(), 0);
}

/// Neither a poster nor all posters of one receiver together take more than their part, whatever was released.
async fn quotas_hold(posts: &dyn Posts) {
    for n in 0..4 {
        assert_eq!(posts.post(NOW, QUOTA, post(n, b"x")).await.unwrap(), Posted::Kept);
    }
    assert_eq!(posts.post(NOW, QUOTA, post(4, b"x")).await.unwrap(), Posted::Quota);
    assert_eq!(posts.release(NOW, RECEIVER, get(0, 1)).await.unwrap(), Released::Done);
    assert_eq!(posts.post(NOW, QUOTA, post(4, b"x")).await.unwrap(), Posted::Quota, "the name is kept");
    assert_eq!(posts.post(NOW, QUOTA, post(1, b"x")).await.unwrap(), Posted::Kept, "nothing new");
    for n in 0..2 {
        let of_another = NewPost { poster: OTHER, ..post(n, b"x") };
        assert_eq!(posts.post(NOW, QUOTA, of_another).await.unwrap(), Posted::Kept);
    }
    let seventh = NewPost { poster: OTHER, ..post(3, b"x") };
    assert_eq!(posts.post(NOW, QUOTA, seventh).await.unwrap(), Posted::Quota, "of the receiver");
    let elsewhere = NewPost { receiver: POSTER, ..seventh };
    assert_eq!(posts.post(NOW, QUOTA, elsewhere).await.unwrap(), Posted::Kept);
    // What has lapsed counts no more.
    assert_eq!(
        posts.post(NOW + 100, QUOTA, NewPost { until: NOW + 200, ..post(9, b"x") }).await.unwrap(),
        Posted::Kept
    );
    assert_eq!(posts.sweep(NOW + 200).await.unwrap(), 8);
}

#[tokio::test]
async fn memory_keeps_the_rules() {
    let posts = MemoryPosts::default();
    keeps_the_rules(&posts).await;
    assert!(posts.is_empty());
}

#[test]
fn nothing_shows_a_share() {
    let shown = format!("{:?} {:?}", post(1, b"secret share"), entry(b"secret share"));
    assert!(!shown.contains("115") && !shown.contains("secret"), "{shown}");
}
