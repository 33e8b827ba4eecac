use super::*;
use crate::names::Registry;
use crate::names::tests::{ALICE, keeps_the_rules, put, record, terms};
use crate::posts::postgres as server;
use qsocket_proto::names::State;
use sqlx::any::AnyPoolOptions;
use std::path::Path;
use std::sync::Arc;

fn relay(n: u8) -> PathId {
    PathId::new(n).unwrap()
}

async fn pool(url: &str, connections: u32) -> AnyPool {
    sqlx::any::install_default_drivers();
    AnyPoolOptions::new().max_connections(connections).connect(url).await.unwrap()
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite:{}?mode=rwc", folder.join("names.db").display())
}

/// Each rule at a relay of its own: they do not see each other's names.
#[tokio::test]
async fn sqlite_keeps_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(&sqlite(folder.path()), 1).await;
    keeps_the_rules(async |n| SqlNames::new(pool.clone(), relay(n)).await.unwrap()).await;
}

/// The process ends, and another one opens the file.
#[tokio::test]
async fn names_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = pool(&sqlite(folder.path()), 1).await;
    let registry = Registry::new(Arc::new(SqlNames::new(first.clone(), relay(3)).await.unwrap()), terms());
    let said = put(record("cloudcoin", 7, ALICE, 1, registry.now()), 2, 1);
    assert_eq!(registry.put(ALICE, &said, |_| false).await.unwrap().unwrap().state, State::Pending);
    first.close().await;
    let second = pool(&sqlite(folder.path()), 1).await;
    let registry = Registry::new(Arc::new(SqlNames::new(second, relay(3)).await.unwrap()), terms());
    assert_eq!(registry.confirm(said.reference, "operator").await.unwrap().unwrap().state, State::Active);
    assert_eq!(registry.resolve(&said.record.name).await.unwrap(), Some(said.record));
}

/// Two processes of one relay are asked for one name, one number and the last place of a quota in the same moment: one of
/// them is first, and a confirmation of one is known to the other.
async fn two_at_once(one: SqlNames, two: SqlNames) {
    let registries = [one, two].map(|store| Registry::new(Arc::new(store), terms()));
    let [one, two] = &registries;
    let now = one.now();
    let states = |answers: [Result<Standing, Status>; 2]| {
        let mut states = answers.map(|answer| answer.map(|standing| standing.state));
        states.sort_by_key(|state| state.is_err());
        states
    };
    let other = Principal { serial: 2, ..ALICE };
    let (a, b) =
        (put(record("cloudcoin", 7, ALICE, 1, now), 1, 1), put(record("cloudcoin", 8, other, 1, now), 1, 2));
    let both = tokio::join!(one.put(ALICE, &a, |_| true), two.put(other, &b, |_| true));
    assert_eq!(states([both.0.unwrap(), both.1.unwrap()]), [Ok(State::Pending), Err(Status::Exists)]);

    let (a, b) =
        (put(record("second", 20, ALICE, 1, now), 1, 3), put(record("third", 20, other, 1, now), 1, 4));
    let both = tokio::join!(one.put(ALICE, &a, |_| true), two.put(other, &b, |_| true));
    assert_eq!(states([both.0.unwrap(), both.1.unwrap()]), [Ok(State::Pending), Err(Status::Taken)]);

    let third = Principal { serial: 3, ..ALICE };
    for n in [30, 31] {
        let said = put(record(&format!("name-{n}"), n.into(), third, 1, now), 1, n);
        assert!(one.put(third, &said, |_| true).await.unwrap().is_ok());
    }
    let [a, b] = [32, 33].map(|n| put(record(&format!("name-{n}"), n.into(), third, 1, now), 1, n));
    let both = tokio::join!(one.put(third, &a, |_| true), two.put(third, &b, |_| true));
    assert_eq!(states([both.0.unwrap(), both.1.unwrap()]), [Ok(State::Pending), Err(Status::Quota)]);

    let reference = put(record("name-30", 30, third, 1, now), 1, 30).reference;
    let both = tokio::join!(one.confirm(reference, "x"), two.confirm(reference, "y"));
    assert_eq!(states([both.0.unwrap(), both.1.unwrap()]), [Ok(State::Active), Ok(State::Active)]);
    let name = record("name-30", 30, third, 1, now).name;
    for registry in &registries {
        assert!(registry.resolve(&name).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn two_processes_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = async || SqlNames::new(pool(&sqlite(folder.path()), 1).await, relay(3)).await.unwrap();
    two_at_once(store().await, store().await).await;
}

/// Real PostgreSQL: the rules, and two processes of one relay that share a database.
#[tokio::test]
async fn postgresql_keeps_the_rules_and_is_shared() {
    let Some(programs) = server::programs() else { return };
    let postgres = tokio::task::spawn_blocking(move || server::Postgres::start(&programs)).await.unwrap();
    let folder = postgres.socket().parent().unwrap().display().to_string();
    let url = format!("postgres://test@localhost/postgres?host={folder}");
    let shared = pool(&url, 4).await;
    keeps_the_rules(async |n| SqlNames::new(shared.clone(), relay(n)).await.unwrap()).await;
    let two = SqlNames::new(pool(&url, 4).await, relay(24)).await.unwrap();
    two_at_once(SqlNames::new(shared, relay(24)).await.unwrap(), two).await;
}

#[tokio::test]
async fn what_another_program_wrote_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(&sqlite(folder.path()), 1).await;
    let names = SqlNames::new(pool.clone(), relay(3)).await.unwrap();
    let name = Name::parse("cloudcoin").unwrap();
    for record in ["zz", "00", "é"] {
        let insert = "INSERT INTO names VALUES (3, 'cloudcoin', 1, '1.0.1', $1, 1, 1, 1) \
                      ON CONFLICT (relay, name) DO UPDATE SET record = $1";
        sqlx::query(insert).bind(record).execute(&pool).await.unwrap();
        assert!(names.find(&name).await.unwrap_err().to_string().contains("another program"), "{record}");
    }
}
