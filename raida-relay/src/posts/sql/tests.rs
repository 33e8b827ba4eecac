use super::*;
use crate::posts::tests::{NOW, QUOTA, keeps_the_rules, post};
use qsocket_proto::exchange::FetchId;
use sqlx::any::AnyPoolOptions;
use std::path::Path;

#[path = "../../../../tests/programs/postgres.rs"]
pub(crate) mod server;

fn relay(n: u8) -> PathId {
    PathId::new(n).unwrap()
}

async fn pool(url: &str, connections: u32) -> AnyPool {
    sqlx::any::install_default_drivers();
    AnyPoolOptions::new().max_connections(connections).connect(url).await.unwrap()
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite:{}?mode=rwc", folder.join("posts.db").display())
}

#[tokio::test]
async fn sqlite_keeps_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    keeps_the_rules(&SqlPosts::new(pool(&sqlite(folder.path()), 1).await, relay(3)).await.unwrap()).await;
}

/// The process ends, and another one opens the file.
#[tokio::test]
async fn posts_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = pool(&sqlite(folder.path()), 1).await;
    let posts = SqlPosts::new(first.clone(), relay(3)).await.unwrap();
    assert_eq!(posts.post(NOW, QUOTA, post(1, b"share")).await.unwrap(), Posted::Kept);
    first.close().await;
    let posts = SqlPosts::new(pool(&sqlite(folder.path()), 1).await, relay(3)).await.unwrap();
    let NewPost { poster, receiver, key, .. } = post(1, b"");
    let get = Get { poster, key, fetch: FetchId([1; 16]) };
    assert_eq!(posts.get(NOW, receiver, get).await.unwrap(), Got::Entry(Zeroizing::new(b"share".to_vec())));
}

/// Real PostgreSQL: the rules, and two processes of one relay and a second relay that share a database.
#[tokio::test]
async fn postgresql_keeps_the_rules_and_is_shared() {
    let Some(programs) = server::programs() else { return };
    let postgres = tokio::task::spawn_blocking(move || server::Postgres::start(&programs)).await.unwrap();
    let folder = postgres.socket().parent().unwrap().display().to_string();
    let url = format!("postgres://test@localhost/postgres?host={folder}");
    let one = SqlPosts::new(pool(&url, 4).await, relay(3)).await.unwrap();
    keeps_the_rules(&one).await;

    let two = SqlPosts::new(pool(&url, 4).await, relay(3)).await.unwrap();
    let another = SqlPosts::new(pool(&url, 4).await, relay(4)).await.unwrap();
    assert_eq!(one.post(NOW, QUOTA, post(1, b"share")).await.unwrap(), Posted::Kept);
    assert_eq!(two.post(NOW, QUOTA, post(1, b"other")).await.unwrap(), Posted::Exists);
    assert_eq!(another.post(NOW, QUOTA, post(1, b"its own")).await.unwrap(), Posted::Kept);
    // Both processes are asked by another fetch in the same moment: one of them has it.
    let NewPost { poster, receiver, key, .. } = post(1, b"");
    let get = |fetch| Get { poster, key, fetch: FetchId([fetch; 16]) };
    let (a, b) = tokio::join!(one.get(NOW, receiver, get(1)), two.get(NOW, receiver, get(2)));
    let answers = [a.unwrap(), b.unwrap()];
    assert_eq!(answers.iter().filter(|got| matches!(got, Got::Entry(_))).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|got| **got == Got::Taken).count(), 1, "{answers:?}");
}

#[test]
fn what_another_program_wrote_is_an_error() {
    assert_eq!(**unhex("00ff7f").unwrap(), [0, 0xff, 0x7f]);
    for bad in ["0", "zz", "0g", "é"] {
        assert!(unhex(bad).is_err(), "{bad}");
    }
}
