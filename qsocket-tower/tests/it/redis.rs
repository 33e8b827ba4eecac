//! redis: a real Redis behind a listener.

use crate::network::{NAME, start};
use crate::program::{absent, gateway, wait_for};
use futures_util::StreamExt as _;
use futures_util::stream;
use qsocket::Endpoint;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, AsyncConnectionConfig, RedisConnectionInfo};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Calls, and calls at a time.
const CALLS: i64 = 1000;
const AT_ONCE: usize = 64;

/// A connection whose clones share one stream.
async fn open(endpoint: &Endpoint, server: &str) -> redis::RedisResult<MultiplexedConnection> {
    let stream = endpoint.connect(server).await?;
    // Half a second by default, for a server nearby.
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
    let (connection, driver) =
        MultiplexedConnection::new_with_config(&RedisConnectionInfo::default(), stream, config).await?;
    tokio::spawn(driver);
    Ok(connection)
}

/// A server of its own process, at a Unix socket only; it ends with the value.
struct Redis {
    folder: tempfile::TempDir,
    child: Child,
}

impl Redis {
    /// `None`, with a line that says how to install it, where there is none.
    fn start() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Debian's `redis-tools` has it as `redis-check-rdb`: what the program does depends on what it is called.
        // The package `redis-server` is a link to it and a service.
        let programs = ["redis-server", "redis-check-rdb"]
            .into_iter()
            .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
        let Some(program) = programs.into_iter().find(|program| program.is_file()) else {
            absent("redis-server", "redis-tools");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .arg0("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", "socket", "--dir"])
            .arg(folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = child.stdout.take().unwrap();
        let redis = Self { folder, child };
        wait_for(log, "ready to accept connections");
        Some(redis)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands() {
    let Some(redis) = tokio::task::spawn_blocking(Redis::start).await.unwrap() else { return };
    let (network, listener) = start().await;
    let gateway = tokio::spawn(gateway(listener, redis.socket()));
    let mut connection = open(&network.client, &format!("{NAME}:6379")).await.unwrap();

    // Answers come back in order, whoever asked.
    let counted = stream::iter(0..CALLS)
        .map(|n| {
            let mut connection = connection.clone();
            async move {
                let key = format!("key {n}");
                let () = connection.set(&key, n).await.unwrap();
                let _: i64 = connection.incr("count", 1).await.unwrap();
                assert_eq!(connection.get::<_, i64>(&key).await.unwrap(), n);
            }
        })
        .buffer_unordered(AT_ONCE)
        .count()
        .await;
    assert_eq!(counted, CALLS as usize);
    assert_eq!(connection.get::<_, i64>("count").await.unwrap(), CALLS);

    let large = vec![7_u8; 5_000_000];
    let (kept, length): (Vec<u8>, usize) = redis::pipe()
        .atomic()
        .set("large", &large)
        .ignore()
        .get("large")
        .strlen("large")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(kept == large && length == large.len());

    let error = connection.lpush::<_, _, ()>("count", 1).await.unwrap_err();
    assert_eq!(error.code(), Some("WRONGTYPE"), "{error}");

    // A server that ends ends the stream, and with it what waits for an answer.
    let mut waiting = connection.clone();
    let waiting = tokio::spawn(async move { waiting.blpop::<_, Option<[String; 2]>>("nothing", 0.0).await });
    drop(redis);
    let error = waiting.await.unwrap().unwrap_err();
    assert!(error.is_connection_dropped() && !error.is_timeout(), "{error}");
    assert!(!gateway.is_finished());
}
