//! The demonstration: names are resolved across 25 relays while relays hang, stop and come back.
//!
//! ```text
//! UDP query ──▶ stub ──QSocketStream──▶ 25 relays ──▶ QSocketListener ── DNS server ── zone
//! ```

pub mod grid;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use qsocket::testing::Raida;
use qsocket::{Endpoint, PathId, PathStatus, QSocketStream, Stats};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::dns::server::{Limits, serve};
use crate::dns::stub::{Stub, StubConfig};
use crate::dns::zone::Zone;
use crate::local::Network;
use grid::{Recovered, Style};

/// Longest wait for one answer: as long as `dig` waits. The query is not sent again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest wait for paths to come up or to come back. The demonstration goes on without those that do not.
const SETTLE: Duration = Duration::from_secs(10);

/// Between two looks at the paths.
const LOOK: Duration = Duration::from_millis(20);

/// Between two queries: long enough for a step to be seen.
const PAUSE: Duration = Duration::from_millis(15);

/// Questions asked before the relays of a step fail, and while they do and after.
const ASKED_BEFORE: usize = 4;
const ASKED_AFTER: usize = 60;

/// The zone that is served: the one in `zones/`.
const ZONE: &str = include_str!("../zones/example.zone");

/// Names in it, their types, and how many records there are.
const QUESTIONS: [(&str, RecordType, usize); 7] = [
    ("www.raida.example.", RecordType::A, 2),
    ("raida.example.", RecordType::MX, 2),
    ("ns2.raida.example.", RecordType::AAAA, 1),
    ("_dns._tcp.raida.example.", RecordType::SRV, 2),
    ("quoted.raida.example.", RecordType::TXT, 1),
    ("anything.any.raida.example.", RecordType::A, 1),
    ("medium.raida.example.", RecordType::TXT, 4),
];

/// What is done to the relays while names are resolved.
struct Step {
    title: &'static str,
    hang: &'static [u8],
    stop: &'static [u8],
    restore: bool,
}

const STEPS: [Step; 6] = [
    Step { title: "All 25 relays run", hang: &[], stop: &[], restore: false },
    Step { title: "Relays 6 and 18 hang: 2 lost", hang: &[6, 18], stop: &[], restore: false },
    Step { title: "7 more are stopped: 9 lost", hang: &[], stop: &[0, 3, 7, 11, 14, 22, 24], restore: false },
    Step {
        title: "7 more are stopped: 16 lost",
        hang: &[],
        stop: &[1, 5, 9, 12, 16, 20, 23],
        restore: false,
    },
    Step {
        title: "8 more are stopped: 24 lost",
        hang: &[],
        stop: &[2, 4, 8, 10, 15, 17, 19, 21],
        restore: false,
    },
    Step { title: "All relays come back", hang: &[], stop: &[], restore: true },
];

/// How many questions were asked, and how many answered as the zone says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Asked in all.
    pub asked: usize,
    /// Answered with the right records in time.
    pub answered: usize,
    /// What the client of the relays recovered in the answers.
    pub recovered: Recovered,
}

/// 25 relays, a DNS server behind a QSocket listener, and a stub in front of it; all end with the value.
#[derive(Debug)]
pub struct Demo {
    raida: Raida,
    client: Endpoint,
    watched: Arc<Mutex<Option<QSocketStream>>>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<io::Result<()>>>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Demo {
    /// Starts everything on 127.0.0.1; the stub answers DNS over UDP and TCP at `port`, with 0 at a free one.
    ///
    /// # Errors
    /// When ports are not to be had.
    pub async fn start(port: u16) -> io::Result<Self> {
        let Network { raida, listener, client, target } = Network::start().await?;
        let stub = Stub::bind((Ipv4Addr::LOCALHOST, port).into()).await?;
        let address = stub.local_addr();
        let stop = CancellationToken::new();
        let zone = Arc::new(Zone::from_text(ZONE).map_err(io::Error::other)?);
        let server = tokio::spawn(serve(listener, zone, Limits::default(), stop.clone()));

        let watched = Arc::new(Mutex::new(None));
        let (endpoint, seen) = (client.clone(), Arc::clone(&watched));
        let connector = move || {
            let (endpoint, seen) = (endpoint.clone(), Arc::clone(&seen));
            async move {
                let stream = endpoint.connect_to(target, "dns").await?;
                // Streams to one server share a connection: this one, unused, shows how it stands.
                let second = endpoint.connect_to(target, "dns").await?;
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(second);
                Ok(stream)
            }
        };
        let stub = tokio::spawn(stub.run(connector, StubConfig::default(), stop.clone()));
        Ok(Self { raida, client, watched, address, stop, tasks: vec![server, stub] })
    }

    /// Where the stub answers DNS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves names while relays fail, tells `out` about it, and leaves all relays running.
    ///
    /// # Errors
    /// When `out` fails, or a socket or a relay cannot be started.
    pub async fn run(&self, out: &mut impl Write, style: Style) -> io::Result<Summary> {
        let begun = Instant::now();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        udp.connect(self.address).await?;
        writeln!(
            out,
            "25 relays, a DNS server and a stub run on this machine; the stub is at {}.",
            self.address
        )?;
        writeln!(
            out,
            "Each grid shows the 25 paths: +N counts data stripes of a path that parity stood in for."
        )?;
        // What falls short of 25 shows in the first grid.
        let _late = timeout(SETTLE, self.client.hops_up(25)).await;
        // The first question has the stub connect.
        let mut asker = Asker { udp, next: 0 };
        let first = asker.ask().await?;
        self.settle(25).await;
        writeln!(out, "{}", first.line)?;

        let mut summary = Summary { asked: 1, answered: first.ok.into(), ..Summary::default() };
        let mut hanging = Vec::new();
        for (step, number) in STEPS.iter().zip(1..) {
            writeln!(out, "\n{}", style.bold(&format!("{number}. {}", step.title)))?;
            let before = self.stats();
            let mut replies = Vec::new();
            for _ in 0..ASKED_BEFORE {
                replies.push(asker.ask().await?);
            }
            let failed_from = replies.len();
            let (asked, acted) = tokio::join!(
                async {
                    for _ in 0..ASKED_AFTER {
                        replies.push(asker.ask().await?);
                        sleep(PAUSE).await;
                    }
                    io::Result::Ok(())
                },
                self.act(step)
            );
            asked?;
            acted?;
            hanging.extend(paths(step.hang));
            if step.restore {
                hanging.clear();
                self.settle(25).await;
            }
            let now = self.stats();
            let recovered = Recovered::between(&before, &now);
            write!(out, "{}", grid::draw(&before, &now, &hanging, style))?;
            let mut times: Vec<Duration> = replies.iter().map(|reply| reply.time).collect();
            times.sort_unstable();
            let answered = replies.iter().filter(|reply| reply.ok).count();
            writeln!(
                out,
                "    {answered} of {} queries answered; half within {}, the slowest in {}",
                replies.len(),
                millis(times[times.len() / 2]),
                millis(times[times.len() - 1]),
            )?;
            writeln!(
                out,
                "    {recovered}; {} stripes sent again",
                now.stripes_resent - before.stripes_resent
            )?;
            for reply in replies.iter().filter(|reply| !reply.ok).chain(replies.get(failed_from)) {
                writeln!(out, "    {}", reply.line)?;
            }
            summary.asked += replies.len();
            summary.answered += answered;
            summary.recovered += recovered;
        }
        let Summary { asked, answered, recovered } = &summary;
        writeln!(out, "\n{}", style.bold(&format!("{answered} of {asked} queries were answered.")))?;
        writeln!(out, "Of the answers, {recovered}. It took {:.1} s.", begun.elapsed().as_secs_f64())?;
        out.flush()?;
        Ok(summary)
    }

    /// Ends the stub, the server and the relays in order.
    ///
    /// # Errors
    /// What the stub or the server failed with.
    pub async fn stop(mut self) -> io::Result<()> {
        self.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
            task.await.map_err(io::Error::other)??;
        }
        self.client.close().await;
        Ok(())
    }

    /// How the connection that the stub uses stands.
    fn stats(&self) -> Stats {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.as_ref().map(QSocketStream::stats).unwrap_or_default()
    }

    /// Waits until `count` paths carry the connection, as long as [`SETTLE`].
    async fn settle(&self, count: usize) {
        let enough = async {
            while self.stats().paths.iter().filter(|path| path.status == PathStatus::Live).count() < count {
                sleep(LOOK).await;
            }
        };
        // The grid shows those that are missing.
        let _late = timeout(SETTLE, enough).await;
    }

    async fn act(&self, step: &Step) -> io::Result<()> {
        for path in paths(step.hang) {
            self.raida.freeze(path);
        }
        for path in paths(step.stop) {
            self.raida.stop_relay(path).await;
        }
        if step.restore {
            for path in PathId::all() {
                self.raida.thaw(path);
                self.raida.start_relay(path)?;
            }
        }
        Ok(())
    }
}

fn paths(numbers: &[u8]) -> impl Iterator<Item = PathId> {
    numbers.iter().filter_map(|number| PathId::new(*number))
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// An answer, or that there was none.
struct Reply {
    ok: bool,
    time: Duration,
    line: String,
}

/// Asks the stub over UDP, as any program does.
struct Asker {
    udp: UdpSocket,
    next: usize,
}

impl Asker {
    /// Asks the next question and checks the answer.
    async fn ask(&mut self) -> io::Result<Reply> {
        let (name, record_type, expected) = QUESTIONS[self.next % QUESTIONS.len()];
        let id = self.next as u16;
        self.next += 1;
        let mut query = Message::new(id, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).map_err(io::Error::other)?, record_type));
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        query.set_edns(edns);
        let asked = Instant::now();
        self.udp.send(&query.to_vec().map_err(io::Error::other)?).await?;
        let answer = timeout(PATIENCE, self.receive(id)).await.ok().transpose()?;
        let time = asked.elapsed();
        let (ok, what) = match answer {
            None => (false, "no answer".to_owned()),
            Some(answer) => {
                let data: Vec<_> = answer.answers.iter().map(|record| record.data.to_string()).collect();
                let code = answer.metadata.response_code;
                let ok = code == ResponseCode::NoError && data.len() == expected;
                (ok, if ok { shortened(&data.join(", ")) } else { format!("{code}, {} records", data.len()) })
            }
        };
        Ok(Reply { ok, time, line: format!("{name} {record_type} -> {what} ({})", millis(time)) })
    }

    async fn receive(&self, id: u16) -> io::Result<Message> {
        let mut buffer = [0; 1232];
        loop {
            let length = self.udp.recv(&mut buffer).await?;
            // Answers to questions that were given up on come late.
            if let Ok(answer) = Message::from_vec(&buffer[..length])
                && answer.metadata.id == id
            {
                return Ok(answer);
            }
        }
    }
}

/// The beginning of a text that is too long for its line.
fn shortened(text: &str) -> String {
    const LENGTH: usize = 60;
    if text.chars().count() <= LENGTH {
        return text.to_owned();
    }
    text.chars().take(LENGTH).chain("...".chars()).collect()
}
