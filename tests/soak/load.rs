//! Programs that know nothing of QSocket, through forwarded sockets: their servers, and the programs themselves.

use anyhow::{Context, Result, bail, ensure};
use qsocket_tests::process::{Process, free_ports};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest wait for a server to listen.
const BEGIN: Duration = Duration::from_secs(20);

/// Which of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Redis,
    Web,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Redis, Self::Web];

    /// What a stream to it is called.
    fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Web => "web",
        }
    }

    /// Its server and its client.
    fn programs(self) -> [&'static str; 2] {
        match self {
            Self::Redis => ["redis-server", "redis-benchmark"],
            Self::Web => ["nghttpd", "h2load"],
        }
    }
}

/// A server that runs on this machine, to which streams are forwarded.
pub(crate) struct Load {
    kind: Kind,
    folder: PathBuf,
    port: u16,
    _server: Process,
}

/// A program that loads it.
pub(crate) struct Running {
    kind: Kind,
    program: Process,
}

impl Load {
    /// Starts the servers that are installed.
    pub(crate) fn find(folder: &Path) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for kind in Kind::ALL {
            match kind.programs().into_iter().find(|program| which(program).is_none()) {
                Some(missing) => println!("{}: skipped, {missing} is not installed", kind.name()),
                None => found.push(Self::start(kind, folder)?),
            }
        }
        Ok(found)
    }

    fn start(kind: Kind, folder: &Path) -> Result<Self> {
        let port = free_ports(0, 1)?;
        let [server, _] = kind.programs();
        let mut command = Command::new(server);
        match kind {
            Kind::Redis => command
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
                .arg(port.to_string())
                .current_dir(folder),
            Kind::Web => {
                let site = folder.join("site");
                std::fs::create_dir(&site)?;
                std::fs::write(site.join("index.html"), "hello".repeat(200))?;
                command.args(["--no-tls", "--address=127.0.0.1", "--htdocs"]).arg(&site).arg(port.to_string())
            }
        };
        let server = Process::start(server, folder, &mut command)?;
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            ensure!(begun.elapsed() < BEGIN, "{} does not listen: {}", kind.name(), server.errors());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { kind, folder: folder.to_owned(), port, _server: server })
    }

    fn socket(&self) -> PathBuf {
        self.folder.join(format!("{}.sock", self.kind.name()))
    }

    /// What server and client need to know: `NAME=PORT=SOCKET`.
    pub(crate) fn forward(&self) -> String {
        format!("{}={}={}", self.kind.name(), self.port, self.socket().display())
    }

    /// Starts the program, which goes on for about `span`.
    pub(crate) fn run(&self, span: Duration) -> Result<Running> {
        let [_, program] = self.kind.programs();
        let mut command = Command::new(program);
        match self.kind {
            // It counts requests, not seconds: a shell repeats it.
            Kind::Redis => {
                command = Command::new("bash");
                command.args(["-c", "set -e; end=$((SECONDS + $1)); runs=0; while ((SECONDS < end)); do redis-benchmark -s \"$2\" -t set,get,lrange_100 -n 2000 -c 20 -d 512 -q >&2; runs=$((runs + 1)); done; echo runs $runs", "redis"]);
                command.arg(span.as_secs().to_string()).arg(self.socket())
            }
            Kind::Web => command
                .args(["-c", "10", "-m", "10", "-D"])
                .arg(span.as_secs().max(1).to_string())
                .arg("-B")
                .arg(format!("unix:{}", self.socket().display()))
                .arg("http://web/index.html"),
        };
        let program = Process::start(program, &self.folder, &mut command)?;
        Ok(Running { kind: self.kind, program })
    }
}

impl Running {
    /// Waits for its end and checks that it saw no error.
    pub(crate) fn finish(mut self, deadline: Instant) -> Result<String> {
        let (status, lines) = self.program.finish(deadline)?;
        let name = self.kind.name();
        ensure!(
            status.success(),
            "{name} ended with {status}: {} {}",
            lines.join("; "),
            self.program.errors()
        );
        match self.kind {
            Kind::Redis => {
                let told = self.program.errors();
                ensure!(!told.contains("rror") && !told.contains("closed"), "{name}: {told}");
                let runs = lines
                    .iter()
                    .find_map(|line| line.strip_prefix("runs "))
                    .context("redis-benchmark never ran")?;
                Ok(format!("redis-benchmark: {runs} runs of 20 clients and 6000 requests, no error"))
            }
            Kind::Web => {
                let Some(requests) = lines.iter().find(|line| line.starts_with("requests: ")) else {
                    bail!("h2load says {}", lines.join("; "))
                };
                ensure!(requests.contains(" 0 failed, 0 errored, 0 timeout"), "h2load: {requests}");
                Ok(format!("h2load: {}", requests.trim_start_matches("requests: ")))
            }
        }
    }
}

/// Where a program is.
fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
