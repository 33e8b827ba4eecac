//! Processes that do not outlive the program, and the RAIDA that they are.

use crate::load::Load;
use crate::party::Role;
use anyhow::{Context, Result, anyhow, bail, ensure};
use qsocket::rng::OsRng;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for a line that says that something began.
const BEGIN: Duration = Duration::from_secs(60);

/// Between two looks at a process that is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Where runs of ports are looked for: below those that systems give to connections, among which the remains of earlier
/// connections leave no run of 25.
const BELOW_EPHEMERAL: std::ops::Range<u16> = 12_000..32_000;

/// A child process. Dropping it kills it.
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    errors: PathBuf,
}

impl Process {
    pub(crate) fn start(name: impl Into<String>, folder: &Path, command: &mut Command) -> Result<Self> {
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

    /// Waits for this line.
    pub(crate) fn says(&mut self, line: &str) -> Result<()> {
        self.line(Instant::now() + BEGIN, |said| (said == line).then_some(()))
            .with_context(|| format!("it never said {line:?}"))
    }

    /// Waits for the digest.
    pub(crate) fn digest(&mut self, deadline: Instant) -> Result<String> {
        self.line(deadline, |said| said.strip_prefix("digest ").map(str::to_owned))
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

    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            // A sender that has sent everything is done.
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} ended with {status}: {}", self.name, self.errors()),
            None => Ok(()),
        }
    }

    /// Everything that it printed from now on, and how it ended.
    pub(crate) fn finish(&mut self, deadline: Instant) -> Result<(ExitStatus, Vec<String>)> {
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
    pub(crate) fn stop(&mut self, deadline: Instant) -> Result<()> {
        self.signal(Signal::INT)?;
        let (status, _) = self.finish(deadline)?;
        ensure!(status.success(), "{} ended with {status}: {}", self.name, self.errors());
        Ok(())
    }

    pub(crate) fn fails(&mut self, deadline: Instant) -> Result<(ExitStatus, String)> {
        let (status, _) = self.finish(deadline)?;
        Ok((status, self.errors()))
    }

    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| anyhow!("no process id"))?;
        kill_process(pid, signal).with_context(|| self.name.clone())
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
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
pub(crate) struct Raida {
    folder: TempDir,
    program: PathBuf,
    server_port: u16,
    relays: std::cell::RefCell<Vec<Option<Process>>>,
}

impl Raida {
    /// Makes it with `raida-relay init` and starts 25 relays.
    pub(crate) fn start() -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("raida-relay");
        ensure!(
            program.exists(),
            "{} is not there; build it first: cargo build --release -p raida-relay",
            program.display()
        );
        let folder = tempfile::tempdir()?;
        let base = free_ports(0)?;
        let server_port = free_ports(base)?;
        let output = Command::new(&program)
            .arg("init")
            .arg(folder.path().join("raida"))
            .args([
                "--base",
                &format!("127.0.0.1:{base}"),
                "--server-address",
                &format!("127.0.0.1:{server_port}"),
            ])
            .output()?;
        ensure!(output.status.success(), "raida-relay init: {}", String::from_utf8_lossy(&output.stderr));
        let raida = Self { folder, program, server_port, relays: std::cell::RefCell::default() };
        for number in 0..25 {
            let relay = raida.relay(number)?;
            raida.relays.borrow_mut().push(Some(relay));
        }
        Ok(raida)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn relay(&self, number: usize) -> Result<Process> {
        let config = self.folder().join(format!("raida/relays/{number:02}/relay.toml"));
        Process::start(
            format!("relay {number}"),
            self.folder(),
            Command::new(&self.program).arg("run").arg("--config").arg(config),
        )
    }

    pub(crate) fn kill_relay(&self, number: usize) -> Result<()> {
        match self.relays.borrow_mut()[number].take() {
            Some(mut relay) => relay.kill(),
            None => Ok(()),
        }
    }

    pub(crate) fn start_relay(&self, number: usize) -> Result<()> {
        let relay = self.relay(number)?;
        self.relays.borrow_mut()[number] = Some(relay);
        Ok(())
    }

    pub(crate) fn signal_relay(&self, number: usize, signal: Signal) -> Result<()> {
        self.relays.borrow()[number].as_ref().map_or(Ok(()), |relay| relay.signal(signal))
    }

    pub(crate) fn check_relays(&self) -> Result<()> {
        self.relays.borrow_mut().iter_mut().flatten().try_for_each(Process::check_alive)
    }

    pub(crate) fn server(&self, loads: &[Load]) -> Result<Process> {
        let address = format!("127.0.0.1:{}", self.server_port);
        self.party("server", "server-1", &Role::serve(address), loads)
    }

    pub(crate) fn client(&self, role: Role, loads: &[Load]) -> Result<Process> {
        self.party("client", "client-1", &role, loads)
    }

    fn party(&self, name: &str, config: &str, role: &Role, loads: &[Load]) -> Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(role.arguments());
        for load in loads {
            command.arg("--forward").arg(load.forward());
        }
        command.env("QSOCKET_CONFIG", self.folder().join("raida").join(config).join("config.toml"));
        command.env("SOAK_SERVER", format!("server-1.example:{}", self.server_port));
        Process::start(name, self.folder(), &mut command)
    }
}

/// A port with 24 free ones behind it, none of them in the 25 from `taken` on.
pub(crate) fn free_ports(taken: u16) -> Result<u16> {
    for _ in 0..100 {
        let first = BELOW_EPHEMERAL.start + (OsRng.unit() * BELOW_EPHEMERAL.len() as f64) as u16;
        let last = first + 24;
        let bound: Result<Vec<_>, _> =
            (first..=last).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
        if bound.is_ok() && (last < taken || first > taken.saturating_add(24)) {
            return Ok(first);
        }
    }
    bail!("no 25 free ports in a row")
}
