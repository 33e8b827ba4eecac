//! tokio-postgres: a real PostgreSQL behind a listener, reached with `connect_raw`.

use crate::network::{NAME, start};
use crate::program::{absent, gateway, wait_for};
use qsocket::Endpoint;
use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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

/// The folder of PostgreSQL's programs, or `None` with a line that says how to install it.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps them out of the path, in a folder for each version.
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = std::env::split_paths(&path).chain(versions.map(|version| version.path().join("bin")));
    let found =
        folders.into_iter().find(|folder| ["initdb", "postgres"].iter().all(|p| folder.join(p).is_file()));
    if found.is_none() {
        absent("PostgreSQL", "postgresql");
    }
    found
}

/// A server of its own process, at a Unix socket only; it ends with the value.
struct Postgres {
    folder: tempfile::TempDir,
    child: Child,
}

impl Postgres {
    fn start(programs: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().metadata().unwrap().uid() == 0;
        let data = folder.path().join("data");
        let program = |name| {
            let program = programs.join(name);
            let mut command = if root {
                // It refuses to run as root. `setpriv` becomes the program: to kill one is to kill the other.
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
                command
            } else {
                Command::new(program)
            };
            command.arg("-D").arg(&data).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
            command
        };
        if root {
            std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        }
        let made = program("initdb")
            .args(["--auth=trust", "--username=test", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .status();
        assert!(made.unwrap().success());
        let mut child = program("postgres")
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "lc_messages=C", "-k"])
            .arg(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = child.stderr.take().unwrap();
        let postgres = Self { folder, child };
        wait_for(log, "ready to accept connections");
        postgres
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }
}

impl Drop for Postgres {
    /// Ends it in order, which gives its shared memory back.
    fn drop(&mut self) {
        let asked = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        if !asked.is_ok_and(|status| status.success()) {
            // It may have ended by itself.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
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
