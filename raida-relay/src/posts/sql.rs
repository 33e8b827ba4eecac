//! Posts in a database: SQLite for a relay on one machine, PostgreSQL for one that is several processes.
//!
//! One text of SQL for both, through sqlx's `Any` driver. Bytes are kept as hex digits, the one form that both databases
//! and the driver treat alike.
//!
//! # Security
//! Shares are erased where this module holds them; copies inside of sqlx and the database are not. A released share is
//! replaced by nothing: SQLite overwrites it (`secure_delete`), PostgreSQL when it vacuums.

use super::{Got, NewPost, PostQuota, Posted, Posts, PostsFailed, Released};
use async_trait::async_trait;
use qsocket_proto::exchange::Get;
use qsocket_proto::ids::{PathId, Principal};
use sqlx::any::AnyRow;
use sqlx::{AnyPool, Row};
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// `taken_by` is empty before the first fetch, `entry` after a release.
const SCHEMA: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS posts (relay BIGINT NOT NULL, receiver TEXT NOT NULL, poster TEXT NOT NULL, \
     key_id TEXT NOT NULL, entry TEXT NOT NULL, until BIGINT NOT NULL, taken_by TEXT NOT NULL, \
     PRIMARY KEY (relay, receiver, poster, key_id))",
    "CREATE INDEX IF NOT EXISTS posts_by_poster ON posts (relay, poster)",
    "CREATE INDEX IF NOT EXISTS posts_by_end ON posts (relay, until)",
];

/// One relay's posts in a database that it may share with other relays, and with other processes of this one.
#[derive(Clone, Debug)]
pub struct SqlPosts {
    pool: AnyPool,
    relay: i64,
}

impl From<sqlx::Error> for PostsFailed {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

impl SqlPosts {
    /// Uses a database; makes the table in it if there is none.
    ///
    /// # Errors
    /// When the database refuses.
    ///
    /// # Cancel safety
    /// Safe: it makes what is missing, and may be called again.
    pub async fn new(pool: AnyPool, relay: PathId) -> Result<Self, PostsFailed> {
        for statement in SCHEMA {
            // Of two processes that make a table at once, PostgreSQL may tell one of them that it is there.
            let mut made = sqlx::query(statement).execute(&pool).await;
            if made.is_err() {
                made = sqlx::query(statement).execute(&pool).await;
            }
            made?;
        }
        Ok(Self { pool, relay: relay.get().into() })
    }

    /// The post of a name, if it has not lapsed: its entry and its fetch.
    async fn find(&self, name: &Name, now: i64) -> Result<Option<(Zeroizing<String>, String)>, PostsFailed> {
        let select = sqlx::query(
            "SELECT entry, taken_by FROM posts \
             WHERE relay = $1 AND receiver = $2 AND poster = $3 AND key_id = $4 AND until > $5",
        );
        let select =
            select.bind(self.relay).bind(&name.receiver).bind(&name.poster).bind(&name.key).bind(now);
        let row: Option<AnyRow> = select.fetch_optional(&self.pool).await?;
        row.map(|row| Ok((Zeroizing::new(row.try_get(0)?), row.try_get(1)?))).transpose()
    }
}

struct Name {
    receiver: String,
    poster: String,
    key: String,
}

impl Name {
    fn new(receiver: Principal, get: Get) -> Self {
        Self { receiver: receiver.to_string(), poster: get.poster.to_string(), key: hex(&get.key.0) }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string does not fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

pub(crate) fn unhex(text: &str) -> Result<Zeroizing<Vec<u8>>, PostsFailed> {
    let bad = || PostsFailed("an entry is not hex digits; another program wrote into the table".to_owned());
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    for [high, low] in pairs {
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(bad);
        out.push((digit(*high)? << 4 | digit(*low)?) as u8);
    }
    if rest.is_empty() { Ok(out) } else { Err(bad()) }
}

/// The database counts in signed numbers; times and quotas are far below that end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[async_trait]
impl Posts for SqlPosts {
    /// The quota is counted by the statement that inserts. On PostgreSQL, posts that several processes take in the same
    /// instant are not in each other's count: the quota may be passed by as many.
    async fn post(&self, now: u64, quota: PostQuota, post: NewPost<'_>) -> Result<Posted, PostsFailed> {
        let NewPost { poster, receiver, key, entry, until } = post;
        let (receiver, poster, key) = (receiver.to_string(), poster.to_string(), hex(&key.0));
        let name = Name { receiver, poster, key };
        let (entry, now) = (Zeroizing::new(hex(entry)), signed(now));
        let lapsed = sqlx::query(
            "DELETE FROM posts \
             WHERE relay = $1 AND receiver = $2 AND poster = $3 AND key_id = $4 AND until <= $5",
        );
        let lapsed = lapsed.bind(self.relay).bind(&name.receiver).bind(&name.poster).bind(&name.key);
        lapsed.bind(now).execute(&self.pool).await?;
        let insert = sqlx::query(
            "INSERT INTO posts (relay, receiver, poster, key_id, entry, until, taken_by) \
             SELECT CAST($1 AS BIGINT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), \
             CAST($6 AS BIGINT), '' \
             WHERE (SELECT COUNT(*) FROM posts WHERE relay = $1 AND poster = $3 AND until > $7) < $8 \
             AND (SELECT COUNT(*) FROM posts WHERE relay = $1 AND receiver = $2 AND until > $7) < $9 \
             ON CONFLICT (relay, receiver, poster, key_id) DO NOTHING",
        );
        let insert = insert.bind(self.relay).bind(&name.receiver).bind(&name.poster).bind(&name.key);
        let insert = insert.bind(entry.as_str()).bind(signed(until)).bind(now);
        let insert = insert.bind(i64::from(quota.per_poster)).bind(i64::from(quota.per_receiver));
        if insert.execute(&self.pool).await?.rows_affected() == 1 {
            return Ok(Posted::Kept);
        }
        Ok(match self.find(&name, now).await? {
            Some((kept, fetch)) if fetch.is_empty() && *kept == *entry => Posted::Kept,
            Some(_) => Posted::Exists,
            None => Posted::Quota,
        })
    }

    async fn get(&self, now: u64, receiver: Principal, get: Get) -> Result<Got, PostsFailed> {
        let (name, now) = (Name::new(receiver, get), signed(now));
        let update = sqlx::query(
            "UPDATE posts SET taken_by = $1 \
             WHERE relay = $2 AND receiver = $3 AND poster = $4 AND key_id = $5 AND until > $6 \
             AND entry <> '' AND (taken_by = '' OR taken_by = $1) RETURNING entry",
        );
        let update = update.bind(hex(&get.fetch.0)).bind(self.relay);
        let update = update.bind(&name.receiver).bind(&name.poster).bind(&name.key).bind(now);
        let row: Option<AnyRow> = update.fetch_optional(&self.pool).await?;
        if let Some(row) = row {
            let entry: Zeroizing<String> = Zeroizing::new(row.try_get(0)?);
            return Ok(Got::Entry(unhex(&entry)?));
        }
        Ok(if self.find(&name, now).await?.is_some() { Got::Taken } else { Got::NotFound })
    }

    async fn release(&self, now: u64, receiver: Principal, get: Get) -> Result<Released, PostsFailed> {
        let (name, now) = (Name::new(receiver, get), signed(now));
        let update = sqlx::query(
            "UPDATE posts SET taken_by = $1, entry = '' \
             WHERE relay = $2 AND receiver = $3 AND poster = $4 AND key_id = $5 AND until > $6 \
             AND (taken_by = '' OR taken_by = $1)",
        );
        let update = update.bind(hex(&get.fetch.0)).bind(self.relay);
        let update = update.bind(&name.receiver).bind(&name.poster).bind(&name.key).bind(now);
        if update.execute(&self.pool).await?.rows_affected() == 1 {
            return Ok(Released::Done);
        }
        Ok(if self.find(&name, now).await?.is_some() { Released::Taken } else { Released::NotFound })
    }

    async fn sweep(&self, now: u64) -> Result<u64, PostsFailed> {
        let delete = sqlx::query("DELETE FROM posts WHERE relay = $1 AND until <= $2");
        let done = delete.bind(self.relay).bind(signed(now)).execute(&self.pool).await?;
        Ok(done.rows_affected())
    }
}

#[cfg(test)]
pub(crate) mod tests;
