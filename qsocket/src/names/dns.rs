//! The DNS beside `.raida`: what it says is a hint and no proof.

use super::message::{Answer, Question};
use crate::endpoint::Endpoint;
use crate::resolve::parse_name_port;
use hickory_proto::op::Message;
use qsocket_files::rng::OsRng;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// For all questions of one look-up together, connecting included.
const DEADLINE: Duration = Duration::from_secs(8);

/// For one attempt at one server; two are made.
#[cfg(feature = "dns")]
const ATTEMPT: Duration = Duration::from_secs(2);

/// Answers on a stream that belong to no question before the server is given up.
const MAX_STRAYS: usize = 16;

/// Where names outside of `.raida` are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dns {
    /// The servers that the system uses (`/etc/resolv.conf`). Needs the feature `dns`.
    #[default]
    System,
    /// One server, over UDP and TCP. Needs the feature `dns`.
    Server(SocketAddr),
    /// A DNS server behind QSocket, by a `name:port` that the configuration's names know or that ends in `.raida`: nobody on
    /// the way reads what is asked or changes what is answered.
    QSocket(String),
}

impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system's DNS"),
            Self::Server(address) => write!(f, "the DNS server {address}"),
            Self::QSocket(name) => write!(f, "the DNS server {name} behind QSocket"),
        }
    }
}

/// Asks the questions, and gives their answers in the same order.
///
/// # Errors
/// When the server cannot be asked, or does not know.
///
/// # Cancel safety
/// Safe.
pub(super) async fn ask(endpoint: &Endpoint, questions: &[Question]) -> io::Result<Vec<Answer>> {
    let asked = async {
        match endpoint.dns() {
            Dns::QSocket(server) => over_qsocket(endpoint, server, questions).await,
            #[cfg(feature = "dns")]
            Dns::System => plain::ask(None, questions).await,
            #[cfg(feature = "dns")]
            Dns::Server(address) => plain::ask(Some(*address), questions).await,
            #[cfg(not(feature = "dns"))]
            Dns::System | Dns::Server(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this program is built without the feature `dns` of the crate qsocket; name a DNS server behind QSocket",
            )),
        }
    };
    timeout(DEADLINE, asked).await?
}

/// DNS over a stream (RFC 7766): all questions at once, answers in any order.
async fn over_qsocket(endpoint: &Endpoint, server: &str, questions: &[Question]) -> io::Result<Vec<Answer>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let (host, port) = parse_name_port(server)?;
    let targets = endpoint.known(host, port).await?;
    let mut stream = endpoint.connect_to(targets, server).await?;
    let first = (OsRng.unit() * f64::from(u16::MAX)) as u16;
    let id = |i: usize| first.wrapping_add(i as u16);
    let mut out = Vec::new();
    for (i, question) in questions.iter().enumerate() {
        let message = question.encode(id(i)).ok_or_else(|| bad("this cannot be asked"))?;
        // A question has below 300 bytes.
        out.extend_from_slice(&(message.len() as u16).to_be_bytes());
        out.extend_from_slice(&message);
    }
    stream.write_all(&out).await?;
    let mut answers = BTreeMap::new();
    let mut strays = 0;
    while answers.len() < questions.len() {
        let mut message = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut message).await?;
        let parsed = Message::from_vec(&message).map_err(|_| bad("the server answers no DNS message"))?;
        let asked =
            questions.iter().enumerate().find(|(i, question)| question.is_answered_by(id(*i), &parsed));
        match asked {
            Some((i, question)) => {
                let answer = Answer::read(question, id(i), &message);
                let answer = answer.map_err(|why| bad(&format!("the server cannot tell: {why:?}")))?;
                answers.insert(i, answer);
            }
            None if strays == MAX_STRAYS => return Err(bad("the server answers other questions")),
            None => strays += 1,
        }
    }
    // The server sees an orderly end; nothing hangs on it.
    stream.shutdown().await.unwrap_or_default();
    Ok(answers.into_values().collect())
}

/// The ordinary DNS, by a resolver that knows how to ask.
#[cfg(feature = "dns")]
mod plain {
    use super::{ATTEMPT, Answer, Question};
    use hickory_resolver::TokioResolver;
    use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use std::io;
    use std::net::SocketAddr;
    use tokio::task::JoinSet;

    pub(super) async fn ask(server: Option<SocketAddr>, questions: &[Question]) -> io::Result<Vec<Answer>> {
        let builder = match server {
            None => TokioResolver::builder_tokio().map_err(io::Error::other)?,
            Some(address) => {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for way in &mut server.connections {
                    way.port = address.port();
                }
                let config = ResolverConfig::from_name_servers(vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let mut builder = builder;
        let options = builder.options_mut();
        options.timeout = ATTEMPT;
        options.attempts = 2;
        options.preserve_intermediates = true;
        options.use_hosts_file = ResolveHosts::Never;
        // Nothing is remembered: it decides nothing, and who looks up a name wants to know how it stands.
        options.cache_size = 0;
        let resolver = builder.build().map_err(io::Error::other)?;
        let mut asking = JoinSet::new();
        for (i, question) in questions.iter().enumerate() {
            let (resolver, name, kind) = (resolver.clone(), question.name().clone(), question.kind());
            asking.spawn(async move { (i, resolver.lookup(name, kind).await) });
        }
        let mut answers = vec![None; questions.len()];
        while let Some(done) = asking.join_next().await {
            let (i, found) = done.map_err(io::Error::other)?;
            let answer = match found {
                Ok(found) => Answer::new(true, found.answers().to_vec()),
                Err(error) if error.is_no_records_found() => Answer::new(!error.is_nx_domain(), Vec::new()),
                Err(error) => return Err(io::Error::other(error)),
            };
            answers[i] = answer;
        }
        let whole: Option<Vec<_>> = answers.into_iter().collect();
        whole.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "an answer that cannot be written down")
        })
    }
}
