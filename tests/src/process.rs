//! Processes that do not outlive the program, and the RAIDA that they are.

use anyhow::{Context, Result, anyhow, bail, ensure};
use qsocket::rng::OsRng;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How many relays there are.
const RELAYS: usize = 25;

/// Ports from one server to the next, as `raida-relay init` gives them.
const SERVER_STEP: usize = 100;

/// Longest wait for a line that says that something began.
const BEGIN: Duration = Duration::from_secs(60);

/// Between two looks at a process that is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Where runs of ports are looked for: below those that systems give to connections, among which the remains of earlier
/// connections leave no run of 25.
const BELOW_EPHEMERAL: std::ops::Range<u16> = 12_000..32_000;

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    errors: PathBuf,
}

impl Process {
    /// Starts it; what it says on standard error goes to a file of its name in `folder`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: impl Into<String>, folder: &Path, command: &mut Command) -> Result<Self> {
        let name = name.into();
        let errors = folder.join(format!("{name}.err"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors)?);
        let mut child = command.spawn().with_context(|| format!("{name}: {:?}", command.get_program()))?;
        let out = child.stdout.take().ok_or_else(|| anyhow!("{name} has no output"))?;
        let (sender, lines) = channel();
        // Ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name, child, lines, errors })
    }

    /// Its number at the system.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for this line.
    ///
    /// # Errors
    /// When it does not come, or the process ends before.
    pub fn says(&mut self, line: &str) -> Result<()> {
        self.line(Instant::now() + BEGIN, |said| (said == line).then_some(()))
            .with_context(|| format!("it never said {line:?}"))
    }

    /// Waits for a line that begins so, and gives the rest of it.
    ///
    /// # Errors
    /// As [`says`](Self::says).
    pub fn tells(&mut self, begin: &str, deadline: Instant) -> Result<String> {
        self.line(deadline, |said| said.strip_prefix(begin).map(str::to_owned))
    }

    /// Waits for the digest.
    ///
    /// # Errors
    /// As [`says`](Self::says).
    pub fn digest(&mut self, deadline: Instant) -> Result<String> {
        self.tells("digest ", deadline)
    }

    fn line<T>(&mut self, deadline: Instant, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(found) = wanted(&line) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("{} does not answer", self.name),
                Err(RecvTimeoutError::Disconnected) => bail!("{} ended: {}", self.name, self.errors()),
            }
        }
    }

    /// Fails if it ended badly.
    ///
    /// # Errors
    /// With what it said.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            // A sender that has sent everything is done.
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} ended with {status}: {}", self.name, self.errors()),
            None => Ok(()),
        }
    }

    /// Everything that it printed from now on, and how it ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn finish(&mut self, deadline: Instant) -> Result<(ExitStatus, Vec<String>)> {
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > deadline => bail!("{} does not end", self.name),
                None => std::thread::sleep(LOOK),
            }
        };
        Ok((status, self.lines.iter().collect()))
    }

    /// Ends it as a user would, and checks that it ends well.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(&mut self, deadline: Instant) -> Result<()> {
        self.signal(Signal::INT)?;
        let (status, _) = self.finish(deadline)?;
        ensure!(status.success(), "{} ended with {status}: {}", self.name, self.errors());
        Ok(())
    }

    /// How it ended, and what it said of it.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn fails(&mut self, deadline: Instant) -> Result<(ExitStatus, String)> {
        let (status, _) = self.finish(deadline)?;
        Ok((status, self.errors()))
    }

    /// What it said on standard error.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| anyhow!("no process id"))?;
        kill_process(pid, signal).with_context(|| self.name.clone())
    }

    /// Kills it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ = self.kill();
    }
}

/// A RAIDA on this machine, in a folder of its own.
#[derive(Debug)]
pub struct Raida {
    folder: TempDir,
    program: PathBuf,
    base: u16,
    server_port: u16,
    relays: std::cell::RefCell<Vec<Option<Process>>>,
}

impl Raida {
    /// Makes it with `raida-relay init`, for so many clients and servers, and starts 25 relays.
    ///
    /// # Errors
    /// When `raida-relay` was not built beside this program, or ports are not to be had.
    pub fn start(clients: u16, servers: u16) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("raida-relay");
        ensure!(
            program.exists(),
            "{} is not there; build it first: cargo build --release -p raida-relay",
            program.display()
        );
        let folder = tempfile::tempdir()?;
        let base = free_ports(0, RELAYS)?;
        let server_port = free_ports(base, usize::from(servers) * SERVER_STEP)?;
        let output = Command::new(&program)
            .arg("init")
            .arg(folder.path().join("raida"))
            .args([
                "--base",
                &format!("127.0.0.1:{base}"),
                "--server-address",
                &format!("127.0.0.1:{server_port}"),
                "--clients",
                &clients.to_string(),
                "--servers",
                &servers.to_string(),
            ])
            .output()?;
        ensure!(output.status.success(), "raida-relay init: {}", String::from_utf8_lossy(&output.stderr));
        let raida = Self { folder, program, base, server_port, relays: std::cell::RefCell::default() };
        for number in 0..RELAYS {
            let relay = raida.relay(number, None)?;
            raida.relays.borrow_mut().push(Some(relay));
        }
        Ok(raida)
    }

    /// Where it is, and everything that its processes say on standard error.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration of a client or server, such as `client-1`.
    pub fn config(&self, name: &str) -> PathBuf {
        self.folder().join("raida").join(name).join("config.toml")
    }

    /// Where a relay listens.
    pub fn relay_address(&self, number: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base + number as u16))
    }

    /// Where the `number`-th server, from 0 on, is registered: it listens here and at the 24 ports that follow.
    pub fn server_address(&self, number: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.server_port + (number * SERVER_STEP) as u16))
    }

    /// A relay, with so many open files if that is given.
    fn relay(&self, number: usize, files: Option<u32>) -> Result<Process> {
        let config = self.folder().join(format!("raida/relays/{number:02}/relay.toml"));
        let mut command = match files {
            Some(files) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={files}:{files}")).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        Process::start(
            format!("relay {number}"),
            self.folder(),
            command.arg("run").arg("--config").arg(config),
        )
    }

    /// Does something with the process of a relay that runs.
    ///
    /// # Errors
    /// When it does not run, and those of `work`.
    pub fn with_relay<T>(&self, number: usize, work: impl FnOnce(&Process) -> Result<T>) -> Result<T> {
        let relays = self.relays.borrow();
        work(relays[number].as_ref().with_context(|| format!("relay {number} does not run"))?)
    }

    /// Kills a relay. Nothing happens if it does not run.
    ///
    /// # Errors
    /// Those of the system.
    pub fn kill_relay(&self, number: usize) -> Result<()> {
        match self.relays.borrow_mut()[number].take() {
            Some(mut relay) => relay.kill(),
            None => Ok(()),
        }
    }

    /// Starts a relay that was killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_relay(&self, number: usize) -> Result<()> {
        self.start_relay_with(number, None)
    }

    /// Starts a relay that was killed, with so many open files if that is given.
    ///
    /// # Errors
    /// As [`start_relay`](Self::start_relay).
    pub fn start_relay_with(&self, number: usize, files: Option<u32>) -> Result<()> {
        let relay = self.relay(number, files)?;
        self.relays.borrow_mut()[number] = Some(relay);
        Ok(())
    }

    /// Sends a relay a signal, if it runs.
    ///
    /// # Errors
    /// Those of the system.
    pub fn signal_relay(&self, number: usize, signal: Signal) -> Result<()> {
        self.relays.borrow()[number].as_ref().map_or(Ok(()), |relay| relay.signal(signal))
    }

    /// Fails if a relay ended by itself.
    ///
    /// # Errors
    /// With what it said.
    pub fn check_relays(&self) -> Result<()> {
        self.relays.borrow_mut().iter_mut().flatten().try_for_each(Process::check_alive)
    }

    /// Starts this very program, with these arguments, as a client or server of the RAIDA.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn party(&self, name: &str, config: &str, arguments: &[String]) -> Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).env("QSOCKET_CONFIG", self.config(config));
        Process::start(name, self.folder(), &mut command)
    }
}

/// A port with as many free ones behind it as make `count`, none of them in the 25 from `taken` on.
///
/// # Errors
/// When there are none.
pub fn free_ports(taken: u16, count: usize) -> Result<u16> {
    for _ in 0..100 {
        let first = BELOW_EPHEMERAL.start + (OsRng.unit() * BELOW_EPHEMERAL.len() as f64) as u16;
        let last = first + count as u16 - 1;
        let bound: Result<Vec<_>, _> =
            (first..=last).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
        if bound.is_ok() && (last < taken || first > taken.saturating_add(24)) {
            return Ok(first);
        }
    }
    bail!("no {count} free ports in a row")
}
