//! Having the relays of a RAIDA replace the numbers of a RAIDA key (`docs/protocol.md`, 20.10 to 20.14).
//!
//! In two steps, with the file of the key written in between: [`ask`] has each relay draw a number with this side and
//! keep it beside the old one, [`settle`] uses the new ones, upon which the relays forget the old ones. Whatever is
//! interrupted, the file that stands has a number for each relay that this relay knows.

use crate::config::Raida;
use crate::hop;
use qsocket_files::rng::OsRng;
use qsocket_net::{Socket, Transport, clock};
use qsocket_proto::call::{Service, Status};
use qsocket_proto::crypto::schedule::hop::{AuthenticityNumber, ImportedKey};
use qsocket_proto::enrol::Request;
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::{
    Dial, Dialer, DialledBy, Established, HandshakeError, HopLimits, Inbox, Opener, Outbox, Sealer,
};
use qsocket_proto::ids::{CallId, PathId, Principal, RELAYS, Role};
use qsocket_proto::raida_key::{RaidaKey, RaidaKeyError, duplicate};
use qsocket_proto::rotate;
use std::io;
use std::time::Duration;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

/// Room for what is sent here: a handshake, and one call.
const OUTBOX_BYTES: usize = 4096;

/// Before a relay is asked again that has no time for one more change, or whose other processes have not heard of the
/// new number yet: they look once a second.
pub(super) const AGAIN: Duration = Duration::from_millis(1100);

/// How often a relay is asked: the second time it has time, unless something is wrong.
pub(super) const TRIES: usize = 3;

/// The one call of a hop.
const CALL: CallId = CallId(1);

/// Why a relay did not do it.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// Nothing answers there, or what does breaks off.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("it did not answer in time")]
    TimedOut,
    /// The handshake failed.
    #[error("{0}")]
    Handshake(HandshakeError),
    /// It answers calls and not this one.
    #[error("it does not replace numbers (status {0}); enrol anew with it, or ask its operator")]
    Refused(Status),
    /// Its answer does not fit the request.
    #[error("its answer does not fit: it is damaged or lies; nothing was changed with this relay")]
    Mismatch,
}

/// What a relay did.
#[derive(Debug)]
pub struct Fresh {
    /// The number that it keeps from now on.
    pub next: AuthenticityNumber,
    /// The one that counts until that is used.
    pub used: AuthenticityNumber,
}

/// Has all relays draw new numbers, at once. A relay that does not take the number of `key` is tried with that of
/// `previous`. In the order of the relays.
///
/// # Cancel safety
/// Relays may have drawn numbers that nobody knows. They forget them when they are asked again.
pub async fn ask(
    key: &RaidaKey,
    previous: Option<&RaidaKey>,
    raida: &Raida,
    timeout: Duration,
) -> Vec<Result<Fresh, Failure>> {
    let numbers = |relay| {
        let mut numbers = vec![duplicate(key.number(relay))];
        numbers.extend(previous.map(|key| duplicate(key.number(relay))));
        numbers
    };
    let who = (key.principal(), key.role());
    each(raida, timeout, |relay| {
        let numbers = numbers(relay);
        move |address| async move {
            let mut failed = Failure::Handshake(HandshakeError::Rejected);
            for used in numbers {
                match draw(address, &used, who, relay).await {
                    Ok(next) => return Ok(Fresh { next, used }),
                    Err(e @ Failure::Handshake(HandshakeError::Rejected | HandshakeError::NotAuthentic)) => {
                        failed = e;
                    }
                    Err(e) => return Err(e),
                }
            }
            Err(failed)
        }
    })
    .await
}

/// The key as it is to stand from now on, and the one to keep beside it until all is settled: with a relay that drew
/// nothing both have what they had.
///
/// # Errors
/// When two relays drew the same number, which sound ones do not.
pub fn keys(
    key: &RaidaKey,
    previous: Option<&RaidaKey>,
    drawn: &[Result<Fresh, Failure>],
) -> Result<(RaidaKey, RaidaKey), RaidaKeyError> {
    let each = || PathId::all().zip(drawn);
    let next = each().map(|(relay, one)| match one {
        Ok(fresh) => duplicate(&fresh.next),
        Err(_) => duplicate(key.number(relay)),
    });
    let before = each().map(|(relay, one)| match one {
        Ok(fresh) => duplicate(&fresh.used),
        Err(_) => duplicate(previous.unwrap_or(key).number(relay)),
    });
    let key = |numbers| RaidaKey::new(key.principal(), key.role(), numbers);
    Ok((key(next.collect())?, key(before.collect())?))
}

/// Uses the numbers of a key with all relays, at once: what they kept beside them is forgotten. In the order of the
/// relays.
///
/// # Cancel safety
/// Safe: say it again.
pub async fn settle(key: &RaidaKey, raida: &Raida, timeout: Duration) -> Vec<Result<(), Failure>> {
    let who = (key.principal(), key.role());
    each(raida, timeout, |relay| {
        let number = duplicate(key.number(relay));
        move |address| async move {
            let mut tried = 0;
            loop {
                tried += 1;
                match use_once(address, &number, who, relay).await {
                    Err(Failure::Handshake(HandshakeError::Rejected)) if tried < TRIES => {
                        tokio::time::sleep(AGAIN).await;
                    }
                    done => return done,
                }
            }
        }
    })
    .await
}

pub(super) async fn each<T, F, W>(
    raida: &Raida,
    timeout: Duration,
    job: impl Fn(PathId) -> F,
) -> Vec<Result<T, Failure>>
where
    T: Send + 'static,
    F: FnOnce(std::net::SocketAddr) -> W,
    W: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let mut asked = JoinSet::new();
    for relay in PathId::all() {
        let done = job(relay)(raida.relays.get(relay));
        asked.spawn(async move {
            (relay, tokio::time::timeout(timeout, done).await.unwrap_or(Err(Failure::TimedOut)))
        });
    }
    // A task of them neither panics nor is cancelled.
    let mut done = asked.join_all().await;
    done.sort_by_key(|(relay, _)| *relay);
    debug_assert_eq!(done.len(), RELAYS);
    done.into_iter().map(|(_, done)| done).collect()
}

async fn draw(
    address: std::net::SocketAddr,
    number: &AuthenticityNumber,
    who: (Principal, Role),
    relay: PathId,
) -> Result<AuthenticityNumber, Failure> {
    let request = Request::new(who.0, who.1, relay, &mut OsRng);
    let body = rotate::encode_request(&request);
    match call(address, number, (who, relay), Service::RotateKey, &body).await? {
        (Status::Ok, answer) => {
            let answer = rotate::decode_answer(request.subject, &answer).map_err(|_| Failure::Mismatch)?;
            request.finish(&answer).map_err(|_| Failure::Mismatch)
        }
        (status, _) => Err(Failure::Refused(status)),
    }
}

/// Asks a relay over a hop of its own, again if it has no time.
pub(super) async fn call(
    address: std::net::SocketAddr,
    number: &AuthenticityNumber,
    (who, relay): ((Principal, Role), PathId),
    service: Service,
    body: &[u8],
) -> Result<(Status, Zeroizing<Vec<u8>>), Failure> {
    let mut hop = Hop::dial(address, number, who, relay).await?;
    let mut tried = 0;
    loop {
        tried += 1;
        hop.send(&Frame::Call { call: CALL, service: service as u8, body }).await?;
        let answered = hop
            .receive(|frame| match frame {
                Frame::Answer { call: CALL, status, body } => {
                    Some((Status::from_u8(*status), Zeroizing::new(body.to_vec())))
                }
                _ => None,
            })
            .await?;
        match answered.0 {
            Status::Busy if tried < TRIES => tokio::time::sleep(AGAIN).await,
            _ => return Ok(answered),
        }
    }
}

async fn use_once(
    address: std::net::SocketAddr,
    number: &AuthenticityNumber,
    who: (Principal, Role),
    relay: PathId,
) -> Result<(), Failure> {
    let mut hop = Hop::dial(address, number, who, relay).await?;
    hop.send(&Frame::Ping { token: 1 }).await?;
    // It serves the hop when the number is settled.
    hop.receive(|frame| matches!(frame, Frame::Pong { .. }).then_some(())).await
}

/// A hop for one call.
struct Hop {
    socket: Socket,
    inbox: Inbox,
    outbox: Outbox,
    sealer: Sealer,
    opener: Opener,
}

impl Hop {
    async fn dial(
        address: std::net::SocketAddr,
        number: &AuthenticityNumber,
        (principal, role): (Principal, Role),
        relay: PathId,
    ) -> Result<Self, Failure> {
        let socket = Transport::default().connect(address).await.map_err(unreachable)?;
        let limits = HopLimits::default();
        let dial = Dial { principal, role, relay, dialled_by: DialledBy::Principal, limits };
        let key = ImportedKey::new(number, principal, relay, role);
        let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(OUTBOX_BYTES));
        let mut dialer = Dialer::new(clock::now(), dial, key, &mut OsRng, &mut outbox);
        loop {
            hop::send(&socket, &mut outbox).await.map_err(unreachable)?;
            hop::receive(&socket, &mut inbox).await.map_err(unreachable)?;
            let step = dialer.handle(clock::now(), &mut inbox, &mut outbox).map_err(Failure::Handshake)?;
            if let Some(Established { sealer, opener, .. }) = step {
                return Ok(Self { socket, inbox, outbox, sealer, opener });
            }
        }
    }

    async fn send(&mut self, frame: &Frame<'_>) -> Result<(), Failure> {
        self.outbox.frame(frame).map_err(io::Error::other).map_err(unreachable)?;
        let sealed = self.sealer.seal(clock::now(), &mut self.outbox);
        sealed.map_err(io::Error::other).map_err(unreachable)?;
        hop::send(&self.socket, &mut self.outbox).await.map_err(unreachable)
    }

    /// The first frame that is wanted.
    async fn receive<T>(&mut self, wanted: impl Fn(&Frame<'_>) -> Option<T>) -> Result<T, Failure> {
        loop {
            while let Some(frames) =
                self.opener.next_record(&mut self.inbox).map_err(io::Error::other).map_err(unreachable)?
            {
                for frame in frames {
                    if let Some(found) = frame.ok().and_then(|frame| wanted(&frame)) {
                        return Ok(found);
                    }
                }
            }
            hop::receive(&self.socket, &mut self.inbox).await.map_err(unreachable)?;
        }
    }
}

fn unreachable(error: io::Error) -> Failure {
    Failure::Unreachable(error.to_string())
}
