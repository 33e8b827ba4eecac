//! Processes of their own for what is measured by process: memory, and the CPU of one relay.
//!
//! This program starts itself again, gives a party its orders line by line and waits for a line that answers each. A party ends
//! with its standard input, so that none is left when this process is gone, however it went.

mod run;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use qsocket::Principal;
use qsocket::provision::Provision;
use qsocket_proto::ids::RELAYS;
use tempfile::TempDir;

pub(crate) use run::{Party, keys};

use crate::compare::peers::qsocket::NETWORK;

/// No order takes nearly as long on a machine that works.
const HANG: Duration = Duration::from_secs(300);

/// A party that runs.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl Process {
    /// Starts this program again with these arguments, and returns what it says when it is ready.
    pub(crate) fn start(arguments: &[String]) -> Result<(Self, String)> {
        let program = std::env::current_exe().context("this program's own file")?;
        let mut child = Command::new(program)
            .arg("party")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a party without its pipes");
        };
        let (send, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let process = Self { child, orders, answers };
        let ready = process.answer()?;
        Ok((process, ready))
    }

    /// Gives an order and waits for its answer.
    pub(crate) fn ask(&mut self, order: &str) -> Result<String> {
        writeln!(self.orders, "{order}")?;
        self.orders.flush()?;
        self.answer()
    }

    fn answer(&self) -> Result<String> {
        let answer = self.answers.recv_timeout(HANG);
        let answer = answer.map_err(|_| anyhow!("party {} did not answer", self.child.id()))?;
        match answer.strip_prefix("failed: ") {
            Some(why) => bail!("party {}: {why}", self.child.id()),
            None => Ok(answer),
        }
    }

    /// CPU time of all its threads that run.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu(self.child.id())
    }

    /// The same by thread.
    pub(crate) fn cpu_by_thread(&self) -> Result<BTreeMap<u32, Duration>> {
        by_thread(self.child.id())
    }

    /// Memory that it has in use, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages: u64 = statm.split_whitespace().nth(1).context("statm has no second field")?.parse()?;
        Ok(pages * rustix::param::page_size() as u64)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of all threads of a process that run, as the scheduler counts it.
pub(crate) fn cpu(process: u32) -> Result<Duration> {
    Ok(by_thread(process)?.values().sum())
}

fn by_thread(process: u32) -> Result<BTreeMap<u32, Duration>> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?;
        // A thread may end meanwhile.
        let Ok(schedstat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let nanos = schedstat.split_whitespace().next().context("schedstat is empty")?.parse()?;
        let id = task.file_name().to_string_lossy().parse()?;
        threads.insert(id, Duration::from_nanos(nanos));
    }
    Ok(threads)
}

/// Makes keys of some clients and servers, in a folder that goes with its owner.
pub(crate) fn provision(clients: u16, servers: u16) -> Result<TempDir> {
    let folder = TempDir::new()?;
    Provision::generate(NETWORK, clients, servers)?.save(folder.path())?;
    Ok(folder)
}

/// 25 relays in processes of their own, with the keys of some clients and servers.
#[derive(Debug)]
pub(crate) struct Relays {
    folder: TempDir,
    /// In the order of the relays.
    groups: Mutex<Vec<Process>>,
    addresses: [SocketAddr; RELAYS],
}

impl Relays {
    /// Starts one process for each number in `groups`, with so many of the relays.
    pub(crate) fn start(clients: u16, servers: u16, groups: &[usize]) -> Result<Self> {
        ensure!(groups.iter().sum::<usize>() == RELAYS, "there are {RELAYS} relays");
        let folder = provision(clients, servers)?;
        let (mut processes, mut addresses) = (Vec::new(), Vec::new());
        for count in groups {
            let (process, ready) = Process::start(&[
                "relays".to_owned(),
                folder.path().display().to_string(),
                addresses.len().to_string(),
                count.to_string(),
            ])?;
            addresses.extend(parse_addresses(&ready)?);
            processes.push(process);
        }
        let addresses = addresses.try_into().map_err(|_| anyhow!("not {RELAYS} relays came up"))?;
        Ok(Self { folder, groups: Mutex::new(processes), addresses })
    }

    /// All keys that the relays know.
    pub(crate) fn keys(&self) -> Result<Provision> {
        keys(self.folder.path())
    }

    /// The folder of the keys.
    pub(crate) fn folder(&self) -> String {
        self.folder.path().display().to_string()
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr; RELAYS] {
        &self.addresses
    }

    /// Tells every relay where a server listens for it.
    pub(crate) fn register(
        &self,
        server: Principal,
        service: SocketAddr,
        ports: &[SocketAddr; RELAYS],
    ) -> Result<()> {
        let order = format!("register {server} {service} {}", join(ports));
        self.each(|process| process.ask(&order)).map(drop)
    }

    /// What each process answers.
    pub(crate) fn each<T>(&self, mut order: impl FnMut(&mut Process) -> Result<T>) -> Result<Vec<T>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.iter_mut().map(&mut order).collect()
    }
}

/// Addresses as parties are told them.
pub(crate) fn join(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn parse_addresses(text: &str) -> Result<Vec<SocketAddr>> {
    text.split(',').map(|address| address.parse().with_context(|| format!("an address: {address}"))).collect()
}
