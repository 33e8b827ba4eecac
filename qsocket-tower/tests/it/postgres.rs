//! tokio-postgres: a real PostgreSQL behind a listener, reached with `connect_raw`.

use crate::network::{NAME, start};
use crate::program::gateway;
use crate::server::{Postgres, programs};
use qsocket::Endpoint;
use std::error::Error;
use tokio_postgres::{Client, NoTls};

/// A client whose connection ends with it.
async fn open(endpoint: &Endpoint, server: &str) -> Result<Client, Box<dyn Error>> {
    let stream = endpoint.connect(server).await?;
    let mut config = tokio_postgres::Config::new();
    config.user("test").dbname("postgres");
    let (client, connection) = config.connect_raw(stream, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn queries() {
    let Some(programs) = programs() else { return };
    let postgres = tokio::task::spawn_blocking(move || Postgres::start(&programs)).await.unwrap();
    let (network, listener) = start().await;
    let gateway = tokio::spawn(gateway(listener, postgres.socket()));
    let client = open(&network.client, &format!("{NAME}:5432")).await.unwrap();
    client.batch_execute("create table item (id bigint primary key, note text)").await.unwrap();
    for id in 0..100_i64 {
        let note = format!("note {id}");
        let rows = client.execute("insert into item values ($1, $2)", &[&id, &note]).await.unwrap();
        assert_eq!(rows, 1);
    }
    let row = client.query_one("select count(*), max(note) from item", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, String>(1)), (100, "note 99".to_owned()));
    let row = client.query_one("select repeat('x', 5000000)", &[]).await.unwrap();
    assert!(row.get::<_, String>(0) == "x".repeat(5_000_000));
    assert!(client.query("select 1 / 0", &[]).await.unwrap_err().code().is_some());

    drop(client);
    assert!(!gateway.is_finished());
}
