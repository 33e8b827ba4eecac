//! A PostgreSQL server of a test's own. A module of several test programs, which name this file by its path.

use std::fs::Permissions;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The folder of PostgreSQL's programs, or `None` with a line that says how to install it.
pub(crate) fn programs() -> Option<PathBuf> {
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
pub(crate) struct Postgres {
    folder: tempfile::TempDir,
    child: Child,
}

impl Postgres {
    pub(crate) fn start(programs: &Path) -> Self {
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

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
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

/// Says how to install what is absent, or fails where it must not be.
pub(crate) fn absent(program: &str, package: &str) {
    let required = std::env::var_os("QSOCKET_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
    assert!(!required, "{program} is required by QSOCKET_REQUIRE_CLIENTS=1: apt-get install {package}");
    // Not by `eprintln!`, which the test harness would keep to itself.
    let _unheard = writeln!(io::stderr(), "skipped: apt-get install {package}");
}

/// Waits for a line of a log that contains `ready`, and has the rest read, so that it never fills up.
pub(crate) fn wait_for(log: impl Read + Send + 'static, ready: &str) {
    let mut lines = BufReader::new(log).lines();
    loop {
        let line = lines.next().expect("the server ended; its log is above").unwrap();
        println!("{line}");
        if line.contains(ready) {
            break;
        }
    }
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
}
