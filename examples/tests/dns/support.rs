//! What the tests share: messages, servers in the test's own process, and programs started as children.

use std::future::Future;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use qsocket_examples::dns::server::{Limits, serve};
use qsocket_examples::dns::stub::{Stub, StubConfig};
use qsocket_examples::dns::wire::{MAX_MESSAGE_LEN, framing};
use qsocket_examples::dns::zone::Zone;
use qsocket_examples::dns::{Backend, ByteStream};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest that a test waits for anything; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The result of `future`, or the end of the test.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("nothing happened for too long")
}

/// The zone of `zones/example.zone`.
pub(crate) fn example_zone() -> Arc<dyn Backend> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("zones/example.zone");
    Arc::new(Zone::from_file(&path).unwrap())
}

/// A query for a name in the example zone, or elsewhere if it ends in a dot.
pub(crate) fn query(id: u16, name: &str, record_type: RecordType) -> Message {
    let name = if name.ends_with('.') { name.to_owned() } else { format!("{name}.raida.example.") };
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    message
}

/// The query with an EDNS record that announces `size`.
pub(crate) fn with_edns(mut query: Message, size: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size);
    query.set_edns(edns);
    query
}

/// An answer to `query` with the records that `data` says.
pub(crate) fn answer(query: &Message, data: Vec<RData>) -> Message {
    let mut answer = query.clone();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_available = true;
    let name = query.queries[0].name().clone();
    for data in data {
        answer.add_answer(Record::from_rdata(name.clone(), 60, data));
    }
    answer
}

pub(crate) fn bytes(message: &Message) -> Bytes {
    message.to_vec().unwrap().into()
}

/// The data of the answers, sorted.
pub(crate) fn data(message: &Message) -> Vec<String> {
    let mut data: Vec<_> = message.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort_unstable();
    data
}

/// A stream of DNS messages.
pub(crate) struct Messages<S>(pub(crate) Framed<S, LengthDelimitedCodec>);

impl<S: ByteStream> Messages<S> {
    pub(crate) fn on(stream: S) -> Self {
        Self(Framed::new(stream, framing(MAX_MESSAGE_LEN)))
    }

    pub(crate) async fn send(&mut self, message: &Message) {
        soon(self.0.send(bytes(message))).await.unwrap();
    }

    /// The next message; `None` if the peer has ended the stream, in whatever way.
    pub(crate) async fn receive(&mut self) -> Option<Message> {
        let message = soon(self.0.next()).await?.ok()?;
        Some(Message::from_vec(&message).unwrap())
    }

    pub(crate) async fn ask(&mut self, query: &Message) -> Message {
        self.send(query).await;
        self.receive().await.expect("an answer")
    }
}

/// A server over TCP in this process, which ends with the value.
pub(crate) struct TcpServer {
    pub(crate) address: SocketAddr,
    _stop: DropGuard,
}

impl TcpServer {
    pub(crate) async fn start(backend: Arc<dyn Backend>) -> Self {
        Self::start_with(backend, Limits::default()).await
    }

    pub(crate) async fn start_with(backend: Arc<dyn Backend>, limits: Limits) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, backend, limits, stop.clone()));
        Self { address, _stop: stop.drop_guard() }
    }

    pub(crate) async fn connect(&self) -> Messages<TcpStream> {
        Messages::on(TcpStream::connect(self.address).await.unwrap())
    }
}

/// A stub in this process, which ends with the value.
pub(crate) struct LocalStub {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) task: tokio::task::JoinHandle<std::io::Result<()>>,
    _guard: DropGuard,
}

impl LocalStub {
    /// One that carries queries over TCP.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        Self::start(StubConfig::default(), move || TcpStream::connect(server)).await
    }

    pub(crate) async fn start(config: StubConfig, connector: impl qsocket_examples::dns::Connector) -> Self {
        let stub = Stub::bind(LOOPBACK).await.unwrap();
        let address = stub.local_addr();
        let stop = CancellationToken::new();
        let task = tokio::spawn(stub.run(connector, config, stop.clone()));
        Self { address, task, _guard: stop.clone().drop_guard(), stop }
    }

    pub(crate) async fn tcp(&self) -> Messages<TcpStream> {
        Messages::on(TcpStream::connect(self.address).await.unwrap())
    }

    pub(crate) async fn udp(&self) -> UdpClient {
        UdpClient::to(self.address).await
    }
}

/// A client over UDP.
pub(crate) struct UdpClient(pub(crate) UdpSocket);

impl UdpClient {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
        socket.connect(address).await.unwrap();
        Self(socket)
    }

    pub(crate) async fn send(&self, message: &[u8]) {
        self.0.send(message).await.unwrap();
    }

    pub(crate) async fn receive(&self) -> Bytes {
        let mut buffer = vec![0; MAX_MESSAGE_LEN];
        let length = soon(self.0.recv(&mut buffer)).await.unwrap();
        Bytes::copy_from_slice(&buffer[..length])
    }

    pub(crate) async fn ask(&self, query: &Message) -> (Message, usize) {
        self.send(&bytes(query)).await;
        let answer = self.receive().await;
        (Message::from_vec(&answer).unwrap(), answer.len())
    }
}

/// How a query reached the [`ScriptedServer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Udp,
    Tcp,
}

/// A DNS server in this process that answers as its script says, to check what a forwarder asks and takes.
pub(crate) struct ScriptedServer {
    pub(crate) address: SocketAddr,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl ScriptedServer {
    /// Starts it on UDP and TCP of one port; `script` makes the messages to send for each query.
    pub(crate) async fn start(script: impl Fn(Over, Message) -> Vec<Bytes> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind(LOOPBACK).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let script = Arc::new(script);
        let over_udp = Arc::clone(&script);
        let udp = tokio::spawn(async move {
            let mut buffer = vec![0; MAX_MESSAGE_LEN];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                for reply in over_udp(Over::Udp, Message::from_vec(&buffer[..length]).unwrap()) {
                    udp.send_to(&reply, from).await.unwrap();
                }
            }
        });
        let tcp = tokio::spawn(async move {
            loop {
                let (stream, _) = tcp.accept().await.unwrap();
                let mut messages = Messages::on(stream);
                while let Some(query) = messages.receive().await {
                    for reply in script(Over::Tcp, query) {
                        messages.0.send(reply).await.unwrap();
                    }
                }
            }
        });
        Self { address, tasks: vec![udp, tcp] }
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// The path of a program, or `None` with a line that says how to install it.
///
/// # Panics
/// Where it is absent although `QSOCKET_REQUIRE_CLIENTS=1` demands it.
pub(crate) fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder: PathBuf| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        let required = std::env::var_os("QSOCKET_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
        assert!(!required, "{name} is required by QSOCKET_REQUIRE_CLIENTS=1: apt-get install {package}");
        // Not by `eprintln!`, which the test harness would keep to itself.
        let _unheard = writeln!(std::io::stderr(), "skipped: apt-get install {package}");
    }
    found
}

/// A DNS server of its own process on a free port; killed with the value.
pub(crate) struct RealServer {
    pub(crate) address: SocketAddr,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl RealServer {
    /// Starts unbound with these records (in master file format) and no way to the Internet.
    pub(crate) async fn unbound(records: &[String]) -> Option<Self> {
        let program = program("unbound", "unbound")?;
        Self::start("start of service", |folder, port| {
            let data: String = records.iter().map(|record| format!("  local-data: '{record}'\n")).collect();
            let config = format!(
                "server:\n  directory: \"{folder}\"\n  username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  \
                 interface: 127.0.0.1\n  port: {port}\n  do-daemonize: no\n  use-syslog: no\n  logfile: \"\"\n  \
                 verbosity: 1\n  module-config: \"iterator\"\n  access-control: 127.0.0.0/8 allow\n  \
                 local-zone: \".\" refuse\n  local-zone: \"raida.example.\" static\n{data}\
                 remote-control:\n  control-enable: no\n",
                folder = folder.display()
            );
            let path = folder.join("unbound.conf");
            std::fs::write(&path, config).unwrap();
            let mut command = Command::new(&program);
            command.args(["-d", "-c"]).arg(path);
            command
        })
        .await
    }

    /// Starts dnsmasq with these arguments and no way to the Internet.
    pub(crate) async fn dnsmasq(arguments: &[String]) -> Option<Self> {
        let program = program("dnsmasq", "dnsmasq-base")?;
        Self::start("started, version", |folder, port| {
            let mut command = Command::new(&program);
            command
                .args(["--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--no-resolv"])
                .args(["--no-hosts", "--no-poll", "--bind-interfaces", "--listen-address=127.0.0.1"])
                .args(["--local=/raida.example/", "--user=root"])
                .arg(format!("--port={port}"))
                .arg(format!("--pid-file={}", folder.join("pid").display()))
                .args(arguments);
            command
        })
        .await
    }

    async fn start(ready: &str, command: impl Fn(&Path, u16) -> Command) -> Option<Self> {
        // Between finding a free port and using it, another test may take it.
        for _ in 0..8 {
            let folder = tempfile::tempdir().unwrap();
            let address = {
                let tcp = std::net::TcpListener::bind(LOOPBACK).unwrap();
                tcp.local_addr().unwrap()
            };
            let mut command = command(folder.path(), address.port());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
            let mut child = command.spawn().unwrap();
            let log = child.stderr.take().unwrap();
            if soon(wait_for(log, ready)).await {
                return Some(Self { address, _child: child, _folder: folder });
            }
        }
        panic!("the DNS server did not start; its log is above");
    }
}

/// Whether the log says `ready` before it ends; it is read on in the background, so that it never fills up.
async fn wait_for(log: impl AsyncRead + Send + Unpin + 'static, ready: &str) -> bool {
    let mut lines = BufReader::new(log).lines();
    let mut seen = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        let is_ready = line.contains(ready);
        seen.push(line);
        if is_ready {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return true;
        }
    }
    eprintln!("{}", seen.join("\n"));
    false
}
