//! Posts in memory: for relays inside of tests and examples. They are gone with the process.

use super::{Got, NewPost, PostQuota, Posted, Posts, PostsFailed, Released, is_for};
use crate::state::lock;
use async_trait::async_trait;
use qsocket_proto::exchange::{FetchId, Get};
use qsocket_proto::ids::{KeyId, Principal};
use std::collections::BTreeMap;
use std::sync::Mutex;
use zeroize::Zeroizing;

/// Receiver, poster, key.
type Name = (Principal, Principal, KeyId);

#[derive(Debug)]
struct Kept {
    /// Empty when the share was released.
    entry: Zeroizing<Vec<u8>>,
    until: u64,
    fetch: Option<FetchId>,
}

/// Posts that live as long as this value.
#[derive(Debug, Default)]
pub struct MemoryPosts(Mutex<BTreeMap<Name, Kept>>);

impl MemoryPosts {
    /// How many posts are kept, released ones that have not lapsed included.
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[async_trait]
impl Posts for MemoryPosts {
    async fn post(&self, now: u64, quota: PostQuota, post: NewPost<'_>) -> Result<Posted, PostsFailed> {
        let mut posts = lock(&self.0);
        let name = (post.receiver, post.poster, post.key);
        if let Some(kept) = posts.get(&name).filter(|kept| kept.until > now) {
            let again = kept.fetch.is_none() && *kept.entry == post.entry;
            return Ok(if again { Posted::Kept } else { Posted::Exists });
        }
        let live = || posts.iter().filter(|(_, kept)| kept.until > now).map(|(name, _)| name);
        let of_poster = live().filter(|(_, poster, _)| *poster == post.poster).count();
        let of_receiver = live().filter(|(receiver, ..)| *receiver == post.receiver).count();
        if of_poster >= quota.per_poster as usize || of_receiver >= quota.per_receiver as usize {
            return Ok(Posted::Quota);
        }
        let entry = Zeroizing::new(post.entry.to_vec());
        posts.insert(name, Kept { entry, until: post.until, fetch: None });
        Ok(Posted::Kept)
    }

    async fn get(&self, now: u64, receiver: Principal, get: Get) -> Result<Got, PostsFailed> {
        let mut posts = lock(&self.0);
        let kept = posts.get_mut(&(receiver, get.poster, get.key)).filter(|kept| kept.until > now);
        let Some(kept) = kept else { return Ok(Got::NotFound) };
        if !is_for(kept.fetch, get.fetch) || kept.entry.is_empty() {
            return Ok(Got::Taken);
        }
        kept.fetch = Some(get.fetch);
        Ok(Got::Entry(kept.entry.clone()))
    }

    async fn release(&self, now: u64, receiver: Principal, get: Get) -> Result<Released, PostsFailed> {
        let mut posts = lock(&self.0);
        let kept = posts.get_mut(&(receiver, get.poster, get.key)).filter(|kept| kept.until > now);
        let Some(kept) = kept else { return Ok(Released::NotFound) };
        if !is_for(kept.fetch, get.fetch) {
            return Ok(Released::Taken);
        }
        kept.fetch = Some(get.fetch);
        kept.entry = Zeroizing::default();
        Ok(Released::Done)
    }

    async fn sweep(&self, now: u64) -> Result<u64, PostsFailed> {
        let mut posts = lock(&self.0);
        let before = posts.len();
        posts.retain(|_, kept| kept.until > now);
        Ok((before - posts.len()) as u64)
    }
}
