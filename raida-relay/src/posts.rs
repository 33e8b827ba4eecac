//! The shares of keys that principals left for each other: what is kept, for whom, and until when.

mod memory;
#[cfg(feature = "daemon")]
mod sql;
#[cfg(test)]
mod tests;

pub use memory::MemoryPosts;
#[cfg(feature = "daemon")]
pub use sql::SqlPosts;
#[cfg(all(test, feature = "daemon"))]
pub(crate) use sql::tests::server as postgres;
#[cfg(feature = "daemon")]
pub(crate) use sql::{hex, unhex};

use async_trait::async_trait;
use qsocket_proto::exchange::{FetchId, Get};
use qsocket_proto::ids::{KeyId, Principal};
use std::fmt;
use zeroize::Zeroizing;

/// Posts that one poster may have at a relay at once, unless the relay's settings say otherwise. A key a minute for
/// four hours; each takes about 400 bytes.
pub const POSTS_PER_POSTER: u32 = 256;

/// Posts that may wait for one receiver at once, unless the relay's settings say otherwise: sixteen posters that use
/// all of theirs.
pub const POSTS_PER_RECEIVER: u32 = 4096;

/// How many posts a relay keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostQuota {
    /// [`POSTS_PER_POSTER`].
    pub per_poster: u32,
    /// [`POSTS_PER_RECEIVER`].
    pub per_receiver: u32,
}

impl Default for PostQuota {
    fn default() -> Self {
        Self { per_poster: POSTS_PER_POSTER, per_receiver: POSTS_PER_RECEIVER }
    }
}

/// A post, checked.
#[derive(Clone, Copy)]
pub struct NewPost<'a> {
    /// Who left it.
    pub poster: Principal,
    /// For whom.
    pub receiver: Principal,
    /// Which key.
    pub key: KeyId,
    /// Header, share and proof, as they came and as the receiver gets them.
    pub entry: &'a [u8],
    /// When it lapses, in seconds since 1970.
    pub until: u64,
}

impl fmt::Debug for NewPost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { poster, receiver, key, until, .. } = self;
        write!(f, "NewPost({poster:?} for {receiver:?}, {key:?}, until {until})")
    }
}

/// What became of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It is kept, for good even if the process ends now. So is one that is said again before anybody fetched it.
    Kept,
    /// Another one of that name is or was there. A name is free again when the post has lapsed.
    Exists,
    /// The poster or the receiver has all the posts that it may have.
    Quota,
}

/// What a receiver gets.
#[derive(PartialEq, Eq)]
pub enum Got {
    /// The entry of the post. From now on it is this fetch's alone.
    Entry(Zeroizing<Vec<u8>>),
    /// No post of that name waits for this receiver.
    NotFound,
    /// Another fetch has it, or it was released.
    Taken,
}

impl fmt::Debug for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entry(_) => "Entry(..)",
            Self::NotFound => "NotFound",
            Self::Taken => "Taken",
        })
    }
}

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The share is erased. The name stays taken until the post lapses.
    Done,
    /// No post of that name waits for this receiver.
    NotFound,
    /// Another fetch has it.
    Taken,
}

/// A store failed, and what it said.
#[derive(Debug, thiserror::Error)]
#[error("the store of posts: {0}")]
pub struct PostsFailed(pub String);

/// Where a relay keeps posts (`docs/protocol.md`, section 18).
///
/// Every method is one step: of two processes that share a store, or two calls at once, one comes first. A post that
/// has lapsed at `now` is not there any more, whether or not it has been swept. `now` is in seconds since 1970.
///
/// # Cancel safety
/// The relay does not cancel calls; a store may finish what was begun.
#[async_trait]
pub trait Posts: fmt::Debug + Send + Sync + 'static {
    /// Keeps a post.
    async fn post(&self, now: u64, quota: PostQuota, post: NewPost<'_>) -> Result<Posted, PostsFailed>;

    /// Gives a post to a fetch of its receiver, and to no other fetch from then on.
    async fn get(&self, now: u64, receiver: Principal, get: Get) -> Result<Got, PostsFailed>;

    /// Erases the share of a post for the fetch that has it, or that comes first.
    async fn release(&self, now: u64, receiver: Principal, get: Get) -> Result<Released, PostsFailed>;

    /// Removes what has lapsed; returns how many posts.
    async fn sweep(&self, now: u64) -> Result<u64, PostsFailed>;
}

/// Whether a fetch may have a post that was given to `before`.
fn is_for(before: Option<FetchId>, fetch: FetchId) -> bool {
    before.is_none_or(|before| before == fetch)
}
