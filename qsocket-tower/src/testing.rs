//! What the tests of the layers share: a directory to edit, peers, requests.

use crate::PeerInfo;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use qsocket::Principal;
use qsocket::access::{Action, Denial, Directory, Permit, Reason, Resource, User};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::SystemTime;
use tokio::sync::{mpsc, watch};
use tower_test::mock::{Handle, Mock};

pub(crate) type Req = Request<Full<Bytes>>;
pub(crate) type Res = Response<Full<Bytes>>;
pub(crate) type Inner = Mock<Req, Res>;
pub(crate) type Behind = Handle<Req, Res>;

/// Users with groups, and resources with those who may dial them.
#[derive(Debug, Default)]
pub(crate) struct TestDirectory {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) black: BTreeSet<Principal>,
    pub(crate) users: BTreeMap<Principal, User>,
    /// Of a resource, who may dial it.
    pub(crate) grants: BTreeMap<&'static str, BTreeSet<Principal>>,
    /// What every permit says.
    pub(crate) until: Option<SystemTime>,
    /// How often something was asked.
    pub(crate) asked: usize,
}

impl TestDirectory {
    /// Ann is in the group staff and may dial the wiki; Bob is in no group and may dial nothing.
    pub(crate) fn new() -> Arc<Self> {
        let directory = Self::default();
        {
            let mut state = directory.state();
            state.users.insert(ann(), User::new("ann", ["staff"]));
            state.users.insert(bob(), User::new("bob", [""; 0]));
            state.grants.insert("wiki", [ann()].into());
        }
        Arc::new(directory)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes it, and tells.
    pub(crate) fn edit(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state());
        self.changes.send_modify(|version| *version += 1);
    }
}

impl Directory for TestDirectory {
    fn admit(&self, who: Principal) -> Result<(), Denial> {
        let mut state = self.state();
        state.asked += 1;
        if state.black.contains(&who) { Err(Reason::BlackListed.into()) } else { Ok(()) }
    }

    fn decide(
        &self,
        who: Principal,
        action: Action,
        resource: Resource<'_>,
        at: SystemTime,
    ) -> Result<Permit, Denial> {
        self.admit(who)?;
        assert_eq!(action, Action::Dial);
        let Resource::Id(id) = resource else { panic!("{resource}") };
        let state = self.state();
        let user = state.users.get(&who).ok_or(Reason::UnknownUser)?;
        let granted = state.grants.get(id).ok_or(Reason::UnknownResource)?;
        if !granted.contains(&who) {
            return Err(Denial::from(Reason::NotGranted).with_rule("the secret rule"));
        }
        let permit = Permit::new(user.clone(), id);
        match state.until {
            Some(until) if at >= until => Err(Reason::Expired.into()),
            Some(until) => Ok(permit.with_until(until)),
            None => Ok(permit),
        }
    }

    fn user(&self, who: Principal) -> Option<User> {
        self.state().users.get(&who).cloned()
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changes.subscribe())
    }
}

/// A body of what a sender sends, until it is dropped.
#[derive(Debug)]
pub(crate) struct Frames(mpsc::UnboundedReceiver<Frame<Bytes>>);

pub(crate) fn frames() -> (mpsc::UnboundedSender<Frame<Bytes>>, Frames) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Frames(receiver))
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

fn principal(serial: u32) -> Principal {
    Principal { network: 1, denomination: 0, serial }
}

pub(crate) fn ann() -> Principal {
    principal(7)
}

pub(crate) fn bob() -> Principal {
    principal(8)
}

/// In no directory.
pub(crate) fn stranger() -> Principal {
    principal(9)
}

pub(crate) fn peer(who: Principal) -> PeerInfo {
    PeerInfo::new(who, "web.example:80", "127.0.0.1:1".parse().unwrap())
}

pub(crate) fn bare() -> Req {
    Request::new(Full::from("a request"))
}

pub(crate) fn request(who: Principal) -> Req {
    let mut request = bare();
    request.extensions_mut().insert(peer(who));
    request
}

pub(crate) fn grpc(who: Principal) -> Req {
    let mut request = request(who);
    request.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    request
}

/// The answer of a layer that does not ask its service, which is there at once.
pub(crate) fn at_once<T>(answer: impl Future<Output = Result<T, impl std::fmt::Debug>>) -> T {
    match tokio_test::task::spawn(answer).poll() {
        Poll::Ready(answer) => answer.unwrap(),
        Poll::Pending => panic!("the request was let through"),
    }
}

pub(crate) fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

/// Status and code of a refusal, whose text it reads.
pub(crate) async fn refusal<B>(response: Response<B>) -> (StatusCode, Option<String>)
where
    B: Body<Error: std::fmt::Debug>,
{
    let (status, code) = (response.status(), header(&response, "x-qsocket-reason").map(str::to_owned));
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert!(!text.is_empty());
    (status, code)
}

/// What this thread logs while it lives.
pub(crate) struct Logs {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Logs {
    pub(crate) fn start() -> Self {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let written = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || Writer(written.clone()))
            .finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
