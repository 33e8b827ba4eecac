//! Who answers behind a name, where, and who says so.

use super::agree::{Contrary, Disagreement};
use super::dns::{self, Dns};
use super::message::{Answer, Question};
use crate::endpoint::Endpoint;
use crate::resolve::Target;
use hickory_proto::rr::{self, RData, RecordType};
use qsocket_proto::ids::{PathId, PathSet, Principal, SIXTEEN};
use qsocket_proto::names::{Membership, Name, NameError, TLD, zone};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Most places of one kind that are looked at: names have one or two.
const MAX_PLACES: usize = 8;

/// Where a name leads. None of this needs to be true: relays compare an address with what the server registered, and a
/// signal proves itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Places {
    /// The addresses of the service.
    pub addresses: Vec<IpAddr>,
    /// Its port, if the name says one.
    pub port: Option<u16>,
    /// Where signals of key exchanges are taken.
    pub signalling: Vec<SocketAddr>,
}

/// What a name leads to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Found {
    /// A `.raida` name, and sixteen relays say the same of it.
    Vouched(Vouched),
    /// Any other name, as the DNS has it: who decides what stands there may be anybody on the way.
    Hint(Hint),
}

/// What sixteen relays or more say of a `.raida` name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Vouched {
    /// The name.
    pub name: Name,
    /// Its RKE membership.
    pub membership: Membership,
    /// Where it leads.
    pub places: Places,
    /// The relays that said so, of each part of it.
    pub relays: PathSet,
    /// Relays that said otherwise of some part.
    pub contrary: Vec<(PathId, Contrary)>,
}

impl Vouched {
    /// Who answers behind the name.
    ///
    /// # Errors
    /// [`LookupError::NoServer`] if the owner of the name named nobody.
    pub fn server(&self) -> Result<Server, LookupError> {
        let principal = self.membership.server.ok_or_else(|| LookupError::NoServer(self.name.to_string()))?;
        Ok(Server { principal, places: self.places.clone(), settled: Settled::Relays(self.relays) })
    }
}

/// What the DNS says of a name, which proves nothing. The principal in it is not to be had without a pin: somebody who
/// could change the answer would otherwise choose with whom a key is exchanged.
#[derive(Clone, Debug)]
pub struct Hint {
    name: String,
    memberships: Vec<Membership>,
    places: Places,
    dns: Dns,
}

impl Hint {
    /// The name that was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The RKE memberships as they stand in the DNS, for people to read.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.memberships.iter().map(ToString::to_string)
    }

    /// Where the name leads.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Who was asked.
    pub fn dns(&self) -> &Dns {
        &self.dns
    }

    /// The server, if one of those that the user settled on is who the DNS names in a network.
    ///
    /// # Errors
    /// [`LookupError::Contradicted`] if the DNS names another.
    ///
    /// # Security
    /// A pin comes from where an attacker cannot write: a configuration, a key file, a person. Not from this hint.
    pub fn confirm(&self, pin: Principal) -> Result<Server, LookupError> {
        let of_network = self.memberships.iter().find(|m| m.network == pin.network);
        match of_network.and_then(|membership| membership.server) {
            Some(server) if server != pin => Err(LookupError::Contradicted {
                name: self.name.clone(),
                found: server.to_string(),
                by: self.dns.to_string(),
                pin,
            }),
            // Of another network, or of none: nothing that speaks against the pin.
            _ => Ok(Server { principal: pin, places: self.places.clone(), settled: Settled::Pin }),
        }
    }
}

/// On whose word a server is who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// That of these relays, sixteen or more.
    Relays(PathSet),
    /// That of the user: the configuration or a key file names the principal.
    Pin,
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relays(relays) => write!(f, "{} relays say so", relays.len()),
            Self::Pin => f.write_str("named here: in the configuration, or by an Encryption key"),
        }
    }
}

/// A server of which it is settled who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    principal: Principal,
    places: Places,
    settled: Settled,
}

impl Server {
    /// Who it is.
    pub fn principal(&self) -> Principal {
        self.principal
    }

    /// Where it is.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Where a stream to `host:port` goes.
    pub(crate) fn target(&self, host: &str, port: u16) -> Result<Target, LookupError> {
        let ip = self.places.addresses.first().ok_or_else(|| LookupError::NoAddress(host.to_owned()))?;
        Ok(Target { server: self.principal, address: SocketAddr::new(*ip, port) })
    }

    /// On whose word.
    pub fn settled(&self) -> Settled {
        self.settled
    }
}

/// Why a name leads to no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// It cannot be a name.
    #[error("{0:?} is no name that can be looked up: write one as wiki.example or cloudcoin.{TLD}")]
    Syntax(String),
    /// It cannot be a `.raida` name.
    #[error("{name:?}: {source}")]
    Name {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// Sixteen relays say that there is no such name, or that its owner did not pay yet.
    #[error("{0} is not registered, or not active: {SIXTEEN} relays say so")]
    NotRegistered(String),
    /// Too few relays said the same.
    #[error("{0}; try again in a minute: an owner may be changing the name, or relays may be away")]
    Disagreed(#[from] Disagreement),
    /// What sixteen relays say cannot be made sense of.
    #[error("what the relays say of {0} is not of the agreed form; this program may be too old")]
    Incomprehensible(String),
    /// The owner of the name named no server.
    #[error(
        "the owner of {0} names no server that answers there; ask the owner, or name the principal itself"
    )]
    NoServer(String),
    /// Nobody says where it is.
    #[error(
        "it is known who answers behind {0}, and not where: write the address into the configuration, under [names]"
    )]
    NoAddress(String),
    /// The DNS could not be asked.
    #[error("{dns} does not tell about {name}: {source}")]
    Dns {
        /// Who was asked.
        dns: Dns,
        /// About what.
        name: String,
        /// What went wrong.
        source: io::Error,
    },
    /// There is no membership record.
    #[error(
        "{dns} knows no RKE membership of {name}: its owner adds a TXT record as {name} TXT \"v=rke1; network=1; server=1.0.7; number=1\""
    )]
    NoMembership {
        /// Who was asked.
        dns: Dns,
        /// About what.
        name: String,
    },
    /// There are two for one network.
    #[error("{dns} has several RKE memberships of {name} for network {network}; its owner keeps one")]
    Ambiguous {
        /// Who was asked.
        dns: Dns,
        /// About what.
        name: String,
        /// For which network.
        network: u16,
    },
    /// The DNS alone says who answers, and that is nobody's proof.
    #[error(
        "{by} says of {name}: {said}. Whoever can change such an answer could put another server there, so nothing is done on its word alone. Get the principal from its owner another way and write into the configuration, under [names]: \"{name}\" = {{ server = \"NETWORK.DENOMINATION.SERIAL\" }}"
    )]
    Unproven {
        /// The name.
        name: String,
        /// What was found.
        said: String,
        /// Who said it.
        by: String,
    },
    /// Somebody names another server than the user's own files.
    #[error(
        "{by} says that {found} answers behind {name}, and the configuration or a key file says {pin}: the answer is false, or the server is another now. Nothing was done; ask its owner another way, and correct the file if that is true"
    )]
    Contradicted {
        /// The name.
        name: String,
        /// Who was found.
        found: String,
        /// Who said so.
        by: String,
        /// Who is settled.
        pin: Principal,
    },
}

impl From<LookupError> for io::Error {
    fn from(error: LookupError) -> Self {
        use LookupError as E;
        let kind = match &error {
            E::Syntax(_) | E::Name { .. } => io::ErrorKind::InvalidInput,
            E::NotRegistered(_) | E::NoServer(_) | E::NoAddress(_) | E::NoMembership { .. } => {
                io::ErrorKind::NotFound
            }
            E::Disagreed(_) => io::ErrorKind::TimedOut,
            E::Incomprehensible(_) | E::Ambiguous { .. } => io::ErrorKind::InvalidData,
            E::Dns { source, .. } => source.kind(),
            E::Unproven { .. } | E::Contradicted { .. } => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, error)
    }
}

/// Whether relays answer for a name: it ends in `.raida`.
pub fn is_raida(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(TLD))
}

/// The name in the DNS of some text.
fn dns_name(text: &str) -> Result<rr::Name, LookupError> {
    let bad = || LookupError::Syntax(text.chars().take(253).collect());
    let mut name = rr::Name::from_utf8(text).map_err(|_| bad())?;
    if name.is_root() {
        return Err(bad());
    }
    name.set_fqdn(true);
    Ok(name)
}

fn below(labels: &[&str], name: &rr::Name) -> Result<rr::Name, LookupError> {
    let prefix = rr::Name::from_labels(labels.iter().map(|label| label.as_bytes()));
    let whole = prefix.and_then(|prefix| prefix.append_domain(name));
    whole.map_err(|_| LookupError::Syntax(name.to_string()))
}

fn addresses<'a>(data: impl IntoIterator<Item = &'a RData>) -> impl Iterator<Item = IpAddr> {
    data.into_iter().filter_map(|data| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    })
}

/// Targets and ports, the preferred first.
fn services(data: Vec<&RData>) -> Vec<(rr::Name, u16)> {
    let mut found: Vec<_> = data
        .into_iter()
        .filter_map(|data| match data {
            // "." says that there is none (RFC 2782).
            RData::SRV(srv) if !srv.target.is_root() && srv.port != 0 => {
                Some((srv.priority, srv.target.clone(), srv.port))
            }
            _ => None,
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, target, port)| (target, port)).take(MAX_PLACES).collect()
}

/// The RKE memberships among texts; those that are none are for others.
fn memberships(data: Vec<&RData>) -> Vec<Membership> {
    let texts = data.into_iter().filter_map(|data| match data {
        RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).ok(),
        _ => None,
    });
    texts.filter_map(|text| text.parse().ok()).take(MAX_PLACES).collect()
}

/// The questions about a name, in the order that the answers are taken in.
struct Questions([Question; 5]);

impl Questions {
    fn new(name: &rr::Name) -> Result<Self, LookupError> {
        Ok(Self([
            Question::new(name, RecordType::TXT),
            Question::new(&below(&zone::RKE_SERVICE, name)?, RecordType::SRV),
            Question::new(&below(&zone::QSOCKET_SERVICE, name)?, RecordType::SRV),
            Question::new(name, RecordType::A),
            Question::new(name, RecordType::AAAA),
        ]))
    }

    /// What the answers say: memberships, where signals go by name, and places without those.
    fn read(&self, answers: &[Answer; 5]) -> (Vec<Membership>, Vec<(rr::Name, u16)>, Places) {
        let data = |i: usize| answers[i].data(&self.0[i]);
        let places = Places {
            addresses: addresses(data(3).into_iter().chain(data(4))).take(MAX_PLACES).collect(),
            port: services(data(2)).first().map(|(_, port)| *port),
            signalling: Vec::new(),
        };
        (memberships(data(0)), services(data(1)), places)
    }
}

impl Endpoint {
    /// Looks up who answers behind a name, and where.
    ///
    /// A name that ends in `.raida` is asked of all relays of the first network, and what sixteen of them say alike is
    /// [`Found::Vouched`]. Any other is asked of the DNS that the configuration names ([`Dns`]), and what is found is a
    /// [`Found::Hint`].
    ///
    /// # Errors
    /// [`LookupError`]: also when a name exists and says nothing about key exchange.
    ///
    /// # Cancel safety
    /// Safe.
    ///
    /// # Security
    /// Relays learn which `.raida` names are asked for, the DNS server the others.
    pub async fn lookup(&self, name: &str) -> Result<Found, LookupError> {
        if is_raida(name) {
            self.vouched(name).await.map(Found::Vouched)
        } else {
            self.hint(name).await.map(Found::Hint)
        }
    }

    pub(crate) async fn vouched(&self, text: &str) -> Result<Vouched, LookupError> {
        let bad = |source| LookupError::Name { name: text.chars().take(253).collect(), source };
        let text = text.strip_suffix('.').unwrap_or(text);
        // The zone itself is no name, though a name may be written without it elsewhere.
        if !text.contains('.') {
            return Err(bad(NameError::Label));
        }
        let name = Name::parse(text).map_err(bad)?;
        let questions = Questions::new(&dns_name(&name.to_string())?)?;
        let network = self.first();
        let [texts, rke, qsocket, a, aaaa] = &questions.0;
        // All or none: what is only half known is not worth a guess.
        let (texts, rke, qsocket, a, aaaa) = tokio::try_join!(
            network.resolve(texts),
            network.resolve(rke),
            network.resolve(qsocket),
            network.resolve(a),
            network.resolve(aaaa),
        )?;
        let all = [texts, rke, qsocket, a, aaaa].map(|known| known.agreed);
        if !all[0].answer.exists {
            return Err(LookupError::NotRegistered(name.to_string()));
        }
        let answers = all.each_ref().map(|agreed| agreed.answer.clone());
        let (memberships, signals, mut places) = questions.read(&answers);
        let [membership] = memberships[..] else {
            return Err(LookupError::Incomprehensible(name.to_string()));
        };
        // In `.raida` signals go to the address of the name.
        let at = |(_, port): &(rr::Name, u16)| Some(SocketAddr::new(*places.addresses.first()?, *port));
        places.signalling = signals.iter().filter_map(at).collect();
        let said = |path: &PathId| all.iter().all(|agreed| agreed.relays.contains(*path));
        let mut contrary: Vec<(PathId, Contrary)> = Vec::new();
        for (path, how) in all.iter().flat_map(|agreed| &agreed.contrary) {
            if !contrary.iter().any(|(known, _)| known == path) {
                contrary.push((*path, *how));
            }
        }
        contrary.sort_by_key(|(path, _)| *path);
        Ok(Vouched { name, membership, places, relays: PathId::all().filter(said).collect(), contrary })
    }

    async fn hint(&self, text: &str) -> Result<Hint, LookupError> {
        let name = dns_name(text)?;
        let dns = self.dns().clone();
        let failed = |source| LookupError::Dns { dns: dns.clone(), name: text.to_owned(), source };
        let questions = Questions::new(&name)?;
        let answers = dns::ask(self, &questions.0).await.map_err(failed)?;
        let answers: [Answer; 5] =
            answers.try_into().map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
        let (memberships, signals, mut places) = questions.read(&answers);
        if memberships.is_empty() {
            return Err(LookupError::NoMembership { dns: dns.clone(), name: text.to_owned() });
        }
        let mut networks = BTreeSet::new();
        if let Some(twice) = memberships.iter().find(|m| !networks.insert(m.network)) {
            return Err(LookupError::Ambiguous {
                dns: dns.clone(),
                name: text.to_owned(),
                network: twice.network,
            });
        }
        // Where signals go has a name of its own.
        let both = |(target, _): &(rr::Name, u16)| {
            [RecordType::A, RecordType::AAAA].map(|kind| Question::new(target, kind))
        };
        let questions: Vec<_> = signals.iter().flat_map(both).collect();
        let answers = dns::ask(self, &questions).await.map_err(failed)?;
        for ((questions, answers), (_, port)) in questions.chunks(2).zip(answers.chunks(2)).zip(&signals) {
            let data = questions.iter().zip(answers).flat_map(|(question, answer)| answer.data(question));
            places.signalling.extend(addresses(data).map(|ip| SocketAddr::new(ip, *port)));
        }
        places.signalling.truncate(MAX_PLACES);
        Ok(Hint { name: text.to_owned(), memberships, places, dns })
    }

    /// The server behind a name: sixteen relays vouch for it, or the user's own files name its principal.
    ///
    /// These are an entry of the configuration's names, with or without an address, and an Encryption key that is called
    /// so. They count more than anybody's answer: one that names another server is an error, and one that does not come
    /// only leaves open where the server is.
    ///
    /// # Errors
    /// [`LookupError`]; [`LookupError::Unproven`] where the DNS alone says who answers.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn find(&self, name: &str) -> Result<Server, LookupError> {
        // Boxed, as five questions at once are large and most names need none.
        match (Box::pin(self.lookup(name)).await, self.pins(name).first()) {
            (Ok(found), _) => self.settle(name, &found),
            // It says so itself.
            (Err(error @ LookupError::Ambiguous { .. }), _) | (Err(error), None) => Err(error),
            // Nobody says where it is, or can be asked; who it is stands here.
            (Err(error), Some(pin)) => {
                tracing::debug!(%name, %error, "the name is pinned, and nothing more is known of it");
                Ok(Server { principal: *pin, places: Places::default(), settled: Settled::Pin })
            }
        }
    }

    /// The server behind a name of which this was found; [`find`](Self::find) looks up and settles at once.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn settle(&self, name: &str, found: &Found) -> Result<Server, LookupError> {
        let pins = self.pins(name);
        let Some(first) = pins.first() else {
            return match found {
                Found::Vouched(vouched) => vouched.server(),
                Found::Hint(hint) => Err(LookupError::Unproven {
                    said: hint.texts().collect::<Vec<_>>().join(" and "),
                    by: hint.dns.to_string(),
                    name: hint.name.clone(),
                }),
            };
        };
        match found {
            Found::Vouched(vouched) => match vouched.membership.server {
                Some(server) if !pins.contains(&server) => Err(LookupError::Contradicted {
                    name: name.to_owned(),
                    found: server.to_string(),
                    by: format!("{} relays", vouched.relays.len()),
                    pin: *first,
                }),
                server => Ok(Server {
                    principal: server.unwrap_or(*first),
                    places: vouched.places.clone(),
                    settled: Settled::Pin,
                }),
            },
            Found::Hint(hint) => {
                let confirmed = hint.confirm(*first);
                confirmed.or_else(|error| pins.iter().find_map(|pin| hint.confirm(*pin).ok()).ok_or(error))
            }
        }
    }

    /// The principals that the user's own files name for a name, those of this endpoint's networks first, in their order.
    fn pins(&self, name: &str) -> Vec<Principal> {
        // Entries are in ASCII, and a name may be asked for in its own letters.
        let parsed = Some(name).filter(|name| is_raida(name));
        let parsed = parsed.and_then(|name| Name::parse(name.strip_suffix('.').unwrap_or(name)).ok());
        let parsed = parsed.map(|name| name.to_string());
        let name = parsed.as_deref().unwrap_or(name);
        let mut pins = self.first().names().pins(name);
        // What is written into the configuration counts more than what a key is called, which another's file may say.
        if let Some(keys) = self.keys().filter(|_| pins.is_empty()) {
            let called = |key: &qsocket_files::keys::KeyInfo| {
                let called = key.name.as_ref().map(ToString::to_string);
                called.is_some_and(|called| crate::resolve::same_host(&called, name))
            };
            pins.extend(keys.keyring().iter().filter(|key| called(key.info())).map(|key| key.info().with));
        }
        let networks = self.networks();
        pins.retain(|pin| networks.contains(&pin.network));
        pins.sort_by_key(|pin| networks.iter().position(|network| *network == pin.network));
        pins.dedup();
        pins
    }
}
