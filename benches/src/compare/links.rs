//! Two hosts with 25 links between them, each with a rate of its own, in network namespaces without names: they are gone with
//! the processes that hold them, and those end with this one, however it ends.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use qsocket_proto::ids::RELAYS;

use super::place::Place;

/// Links that the kernel's MPTCP adds to the first: it takes no more.
pub(super) const MORE_LINKS: usize = 8;

/// A host, and the process that keeps it.
#[derive(Debug)]
struct Host {
    keeper: Child,
    place: Place,
}

impl Host {
    fn start() -> Result<Self> {
        // It ends when its input does.
        let mut keeper = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare (util-linux)")?;
        // What comes back comes from within.
        let pipes = keeper.stdin.as_mut().zip(keeper.stdout.as_mut());
        let (input, output) = pipes.context("a keeper without its pipes")?;
        input.write_all(b"?")?;
        let inside = output.read_exact(&mut [0]);
        let place = inside.map_err(Into::into).and_then(|()| Place::of(keeper.id()));
        match place {
            Ok(place) => Ok(Self { keeper, place }),
            Err(error) => {
                end(&mut keeper);
                Err(error.context("a network namespace: this needs root"))
            }
        }
    }

    /// Runs a program of iproute2 within, with its commands as a batch.
    fn batch(&self, program: &str, commands: &str) -> Result<()> {
        let network = format!("--net=/proc/{}/ns/net", self.keeper.id());
        let mut child = Command::new("nsenter")
            .args([&network, program, "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("nsenter (util-linux)")?;
        if let Some(mut input) = child.stdin.take() {
            // What it does not read it explains itself.
            let _ = input.write_all(commands.as_bytes());
        }
        let output = child.wait_with_output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} (iproute2): {}", error.trim());
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        end(&mut self.keeper);
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// The links.
#[derive(Debug)]
pub(super) struct Links {
    near: Host,
    far: Host,
}

/// What may leave at once, and how long the rest waits at most: as much as a link of such a rate usually buffers.
const BURST: &str = "burst 16kb latency 50ms";

impl Links {
    /// Makes both hosts and all links, with a rate in Mbit/s for each.
    pub(super) fn make(rates: &[f64; RELAYS]) -> Result<Self> {
        let links = Self { near: Host::start()?, far: Host::start()? };
        let (mut near, mut far) = ("link set lo up\n".to_owned(), "link set lo up\n".to_owned());
        for link in 0..RELAYS {
            // Writing to a string cannot fail.
            let _ = write!(
                near,
                "link add near{link} type veth peer name far{link} netns {}\n\
                 addr add 10.77.{link}.1/24 dev near{link}\nlink set near{link} up\n",
                links.far.keeper.id()
            );
            let _ = write!(far, "addr add 10.77.{link}.2/24 dev far{link}\nlink set far{link} up\n");
        }
        links.near.batch("ip", &near)?;
        links.far.batch("ip", &far)?;
        links.set(rates)?;

        let mut near = format!("mptcp limits set subflows {MORE_LINKS} add_addr_accepted {MORE_LINKS}\n");
        let mut far = near.clone();
        near.push_str("mptcp endpoint flush\n");
        for link in 1..=MORE_LINKS {
            let _ = writeln!(far, "mptcp endpoint add 10.77.{link}.2 dev far{link} signal");
        }
        links.near.batch("ip", &near)?;
        links.far.batch("ip", &far)?;
        Ok(links)
    }

    /// Gives each link its rate in both directions, in Mbit/s.
    pub(super) fn set(&self, rates: &[f64; RELAYS]) -> Result<()> {
        for (host, name) in [(&self.near, "near"), (&self.far, "far")] {
            let mut commands = String::new();
            for (link, rate) in rates.iter().enumerate() {
                let kilobits = (rate * 1e3).round();
                let _ =
                    writeln!(commands, "qdisc replace dev {name}{link} root tbf rate {kilobits}kbit {BURST}");
            }
            host.batch("tc", &commands)?;
        }
        Ok(())
    }

    /// Where the client is.
    pub(super) fn near(&self) -> Place {
        self.near.place.clone()
    }

    /// Where the relays and the server are.
    pub(super) fn far(&self) -> Place {
        self.far.place.clone()
    }

    /// The far address of each link.
    pub(super) fn addresses() -> Vec<IpAddr> {
        (0..RELAYS as u8).map(|link| IpAddr::from([10, 77, link, 2])).collect()
    }
}
