//! Opening the place where a relay keeps posts and names.

use super::config::PostsAt;
use super::store::{StoreError, private_file};
use qsocket_proto::ids::PathId;
use raida_relay::names::{NamesFailed, SqlNames};
use raida_relay::posts::{PostsFailed, SqlPosts};
use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;
use std::time::Duration;

/// Connections to PostgreSQL: as many calls of one relay are in the database at once.
const CONNECTIONS: u32 = 8;

/// How long a call waits for its turn. Below a caller's patience, so that it hears of the trouble.
const ACQUIRE: Duration = Duration::from_secs(5);

/// Why posts cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("posts: {0}")]
    File(#[from] StoreError),
    #[error("posts: {0}; check the setting `posts`, and that the database runs and lets this user in")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Table(#[from] PostsFailed),
    #[error(transparent)]
    Names(#[from] NamesFailed),
}

/// What one relay keeps for its principals.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Shares of keys.
    pub(crate) posts: SqlPosts,
    /// Names, and the ledger of their payments.
    pub(crate) names: SqlNames,
}

/// Opens the posts and names of one relay; makes the file or the tables if there are none.
///
/// # Errors
/// When others could read or change the file, or the database refuses.
pub(crate) async fn open(at: &PostsAt, relay: PathId) -> Result<Kept, OpenError> {
    let pool: AnyPool = match at {
        PostsAt::File(path) => private_file(path).await?,
        PostsAt::Postgres(url) => {
            sqlx::any::install_default_drivers();
            let options = AnyPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE);
            options.connect(url).await?
        }
    };
    Ok(Kept { posts: SqlPosts::new(pool.clone(), relay).await?, names: SqlNames::new(pool, relay).await? })
}
