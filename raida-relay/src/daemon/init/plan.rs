//! What `init` is to make, checked before anything is written.

use super::{InitArgs, KEYS, hosts, hosts::Host, shown};
use crate::daemon::enrol;
use crate::daemon::principal;
use anyhow::bail;
use qsocket_proto::ids::{PathId, Principal, RELAYS, Role};
use qsocket_proto::relay::is_public_unicast;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// Ports between two servers: more than the 25 that one takes, and easy to read.
const SERVER_STEP: u16 = 100;

/// A client or a server to make.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) principal: Principal,
    pub(super) role: Role,
    /// `client-1` and so on.
    pub(super) folder: String,
    /// Where a server listens.
    pub(super) address: Option<SocketAddr>,
}

impl Member {
    pub(super) fn key_file(&self) -> String {
        format!("{}.key.toml", principal::name(self.role))
    }

    /// The name that clients give to a server.
    fn name(&self) -> String {
        format!("{}.example", self.folder)
    }
}

/// Everything that `init` writes, but the secrets.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) network: u16,
    pub(super) enrol: bool,
    pub(super) clients: Vec<Member>,
    pub(super) servers: Vec<Member>,
    pub(super) warnings: Vec<String>,
    hosts: Vec<Host>,
    /// Where relay 0 is, when all are on one machine.
    base: Option<SocketAddr>,
    dial_any_address: bool,
}

impl Plan {
    pub(super) fn new(args: &InitArgs) -> anyhow::Result<Self> {
        let (network, hosts, warnings, base) = match &args.hosts {
            Some(file) => {
                let (network, hosts, warnings) = hosts::read(file)?;
                (network, hosts, warnings, None)
            }
            None => (args.network, at_base(args.base)?, Vec::new(), Some(args.base)),
        };
        let first = match (args.server_address, base) {
            (Some(address), _) => address,
            (None, Some(_)) => SocketAddr::from((Ipv4Addr::LOCALHOST, 7000)),
            (None, None) if args.servers == 0 => SocketAddr::from((Ipv4Addr::LOCALHOST, 7000)),
            (None, None) => {
                bail!("--hosts needs --server-address IP:PORT, where the relays reach the first server")
            }
        };
        let member = |n: u16, serial: u32, role, address| Member {
            principal: Principal { network, denomination: 0, serial },
            role,
            folder: format!("{}-{n}", principal::name(role)),
            address,
        };
        let clients = (1..=args.clients).map(|n| member(n, n.into(), Role::Client, None)).collect();
        let mut servers = Vec::new();
        for n in 1..=args.servers {
            let address = server_address(first, n, &hosts)?;
            let serial = u32::from(args.clients) + u32::from(n);
            servers.push(member(n, serial, Role::Server, Some(address)));
        }
        let dial_any_address = !is_public_unicast(first.ip());
        let enrol = args.enroll;
        Ok(Self { network, enrol, clients, servers, warnings, hosts, base, dial_any_address })
    }

    /// Clients and servers.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.clients.iter().chain(&self.servers)
    }

    /// A relay's `relay.toml`.
    pub(super) fn relay_config(&self, relay: PathId) -> String {
        let host = &self.hosts[relay.index()];
        let mut out = format!(
            "relay = {relay}\nnetwork = {}\nlisten = \"{}\"\nstore = \"principals.db\"\n",
            self.network, host.listen
        );
        // Writing to a String does not fail.
        for (name, tag) in [("operator", &host.operator), ("region", &host.region)] {
            if let Some(tag) = tag {
                let _ = writeln!(out, "{name} = {}", text(tag));
            }
        }
        if self.dial_any_address {
            out += "# The servers' addresses are not public ones.\ndial_any_address = true\n";
        }
        if let Some(admin) = host.admin {
            let _ = write!(out, "\n[admin]\nlisten = \"{admin}\"\n");
        }
        out
    }

    /// A principal's `config.toml`.
    pub(super) fn config(&self, member: &Member) -> String {
        let mut out = format!("key = \"{}\"\nkeys = \"{KEYS}\"\n", member.key_file());
        if member.role == Role::Server {
            out += "receive_keys = true\n";
        }
        let _ = write!(out, "\n[raida]\nnetwork = {}\n", self.network);
        match self.base {
            Some(base) => drop(writeln!(out, "base = \"{base}\"")),
            None => {
                for host in &self.hosts {
                    let _ = write!(out, "\n[[raida.relay]]\naddress = \"{}\"\n", host.address);
                    for (name, tag) in [("operator", &host.operator), ("region", &host.region)] {
                        if let Some(tag) = tag {
                            let _ = writeln!(out, "{name} = {}", text(tag));
                        }
                    }
                }
            }
        }
        if member.role == Role::Client && !self.servers.is_empty() {
            out += "\n[names]\n";
            for server in &self.servers {
                if let Some(address) = server.address {
                    let (name, port, who) = (server.name(), address.port(), server.principal);
                    let _ = writeln!(
                        out,
                        "\"{name}:{port}\" = {{ server = \"{who}\", address = \"{address}\" }}"
                    );
                }
            }
        }
        out
    }

    /// What was made and what to do next.
    pub(super) fn report(&self, dir: &Path) -> String {
        let mut out = format!(
            "{}: {RELAYS} relays of network {}, {} clients, {} servers\n",
            dir.display(),
            self.network,
            self.clients.len(),
            self.servers.len()
        );
        out += if self.enrol {
            "No number is drawn yet: each principal draws its numbers with the relays, and no other place then knows \
             all 25 of one.\n"
        } else {
            "This machine drew all numbers: it knows all 25 secrets of every key, and whoever reads this folder can \
             read and impersonate. Use --enroll for relays that are run separately.\n"
        };
        match self.base {
            Some(_) => {
                let _ = write!(
                    out,
                    "Next, the relays:\n  raida-relay check {0}\n  raida-relay cluster {0}\n",
                    shown(dir, "")
                );
            }
            None => {
                let _ = write!(
                    out,
                    "Next, the relays: bring {}/NN to the host of relay NN, and there\n  raida-relay run --config \
                     NN/relay.toml\n",
                    shown(dir, "relays")
                );
            }
        }
        if self.enrol {
            match self.base {
                Some(_) => self.report_local(dir, &mut out),
                None => {
                    for member in self.members() {
                        let all: Vec<_> = PathId::all().collect();
                        let address = member.address.map(|a| a.to_string());
                        out += &enrol::next_steps(&dir.join(&member.folder), &all, address.as_deref());
                    }
                }
            }
        }
        for member in self.members() {
            let config = shown(dir, &format!("{}/config.toml", member.folder));
            let _ = match member.address {
                Some(address) => writeln!(
                    out,
                    "A server that binds {address}, as {}:{}:\n  QSOCKET_CONFIG={config} PROGRAM",
                    member.name(),
                    address.port()
                ),
                None => writeln!(out, "A client:\n  QSOCKET_CONFIG={config} PROGRAM"),
            };
        }
        out
    }

    /// On one machine a loop enrols with all relays.
    fn report_local(&self, dir: &Path, out: &mut String) {
        let relays = shown(dir, "relays");
        for member in self.members() {
            let folder = shown(dir, &member.folder);
            let address = member.address.map(|a| format!(" --address {a}")).unwrap_or_default();
            let _ = write!(
                out,
                "Enrol {}:\n  for i in $(seq -w 0 24); do raida-relay enroll accept --config {relays}/$i/relay.toml{address} \
                 {folder}/request-$i.toml {folder}/answer-$i.toml; done\n  raida-relay enroll finish {folder}\n",
                member.folder
            );
        }
    }
}

/// A string as TOML takes it: tags hold no control characters.
fn text(tag: &str) -> String {
    format!("\"{}\"", tag.replace('\\', "\\\\").replace('"', "\\\""))
}

fn at_base(base: SocketAddr) -> anyhow::Result<Vec<Host>> {
    let hosts = PathId::all().map(|relay| {
        let port = base.port().checked_add(relay.get().into()).filter(|_| base.port() != 0)?;
        let address = SocketAddr::new(base.ip(), port);
        Some(Host { address, listen: address, operator: None, region: None, admin: None })
    });
    match hosts.collect() {
        Some(hosts) => Ok(hosts),
        None => bail!("--base {base}: from this port there are no 25 ports; write a port from 1 to 65511"),
    }
}

/// Where server `n`, from 1, listens: its 25 ports must exist and be no relay's.
fn server_address(first: SocketAddr, n: u16, hosts: &[Host]) -> anyhow::Result<SocketAddr> {
    let last = RELAYS as u16 - 1;
    let port = (n - 1)
        .checked_mul(SERVER_STEP)
        .and_then(|step| first.port().checked_add(step))
        .filter(|port| first.port() != 0 && port.checked_add(last).is_some());
    let Some(port) = port else {
        bail!("server {n} would need 25 ports above 65535; choose a lower --server-address than {first}");
    };
    let ports = port..=port + last;
    if let Some(host) = hosts.iter().find(|h| h.listen.ip() == first.ip() && ports.contains(&h.listen.port()))
    {
        bail!(
            "server {n} would listen at the ports {port} to {}, where a relay is ({}); choose another --server-address",
            port + last,
            host.listen
        );
    }
    Ok(SocketAddr::new(first.ip(), port))
}
