//! A principal enrols another one over its hop, and everything that is no right to.

use super::calls::ask_until_free;
use super::path;
use super::peer::{Dialling, Got, Peer, key, principal};
use crate::names::Registry;
use crate::posts::MemoryPosts;
use crate::principals::{MAX_PERMITS, MemoryPrincipals};
use crate::{Limits, Relay, RelayConfig};
use qsocket_files::rng::OsRng;
use qsocket_proto::call::{Service, Status};
use qsocket_proto::enrol::Request;
use qsocket_proto::frame::Frame;
use qsocket_proto::hop::HandshakeError;
use qsocket_proto::ids::{CallId, PathId, Principal, Role};
use qsocket_proto::raida_key::{RaidaKey, duplicate, relay_table};
use qsocket_proto::sponsor;
use std::net::SocketAddr;
use std::sync::Arc;

/// Far ahead of any clock.
const NEVER: u64 = u64::MAX;

/// A relay that knows a sponsor and a stranger, and what its operator may permit.
struct Scene {
    relay: Relay,
    principals: Arc<MemoryPrincipals>,
    sponsor: RaidaKey,
    stranger: RaidaKey,
}

impl Scene {
    fn new() -> Self {
        let (sponsor, stranger) = (key(5, Role::Client), key(6, Role::Client));
        let principals = Arc::new(MemoryPrincipals::default());
        let config = RelayConfig {
            path: path(),
            network: 1,
            table: relay_table([&sponsor, &stranger], path()),
            servers: vec![],
            listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            dial_any_address: true,
            limits: Limits::default(),
            posts: Arc::new(MemoryPosts::default()),
            names: Registry::default(),
            principals: Some(principals.clone()),
        };
        Self { relay: Relay::spawn(config).unwrap(), principals, sponsor, stranger }
    }

    fn permit(&self, who: (Principal, Role)) {
        assert!(self.principals.permit(self.sponsor.principal(), who, NEVER));
    }

    async fn dial(&self, key: &RaidaKey) -> Result<Peer, HandshakeError> {
        Peer::dial(self.relay.local_addr(), path(), key).await
    }
}

fn new() -> (Principal, Role) {
    (principal(1042), Role::Server)
}

fn request(who: (Principal, Role)) -> (Request, Vec<u8>) {
    let request = Request::new(who.0, who.1, path(), &mut OsRng);
    let body = sponsor::encode_request(&request).to_vec();
    (request, body)
}

/// The key that an answer makes; the numbers of other relays are nobody's.
fn finished(request: &Request, answer: &[u8]) -> RaidaKey {
    let answer = sponsor::decode_answer(request.subject, answer).unwrap();
    let number = request.finish(&answer).unwrap();
    let (who, role) = (request.subject.principal, request.subject.role);
    let others = key(who.serial, role);
    let one = |of: PathId| duplicate(if of == path() { &number } else { others.number(of) });
    RaidaKey::new(who, role, PathId::all().map(one).collect()).unwrap()
}

async fn enrol(hop: &mut Peer, who: (Principal, Role)) -> Result<RaidaKey, Status> {
    let (request, body) = request(who);
    match ask_until_free(hop, Service::Enrol, &body).await {
        (Status::Ok, answer) => Ok(finished(&request, &answer)),
        (status, answer) => {
            assert!(answer.is_empty(), "a refusal says nothing more");
            Err(status)
        }
    }
}

async fn is_served(hop: &mut Peer) {
    hop.send(Frame::Ping { token: 9 }).await;
    assert_eq!(hop.recv().await, Got::Pong(9));
}

#[tokio::test]
async fn a_permitted_principal_is_enrolled_and_known_at_once() {
    let scene = Scene::new();
    scene.permit(new());
    let mut hop = scene.dial(&scene.sponsor).await.unwrap();
    let key = enrol(&mut hop, new()).await.unwrap();
    is_served(&mut scene.dial(&key).await.unwrap()).await;
    is_served(&mut hop).await;
    is_served(&mut scene.dial(&key).await.unwrap()).await;
}

#[tokio::test]
async fn an_answer_that_got_lost_is_asked_for_again_until_the_number_is_used() {
    let scene = Scene::new();
    scene.permit(new());
    let mut hop = scene.dial(&scene.sponsor).await.unwrap();
    let lost = enrol(&mut hop, new()).await.unwrap();
    // A handshake that begins with it and ends behind the next one does not use the permit up.
    let half = Dialling::hello(scene.relay.local_addr(), path(), &lost).await;
    half.answered().await;
    let kept = enrol(&mut hop, new()).await.unwrap();
    assert_eq!(half.finish().await.unwrap().recv().await, Got::Eof);
    assert_eq!(scene.dial(&lost).await.err(), Some(HandshakeError::Rejected));
    let again = enrol(&mut hop, new()).await.unwrap();
    is_served(&mut scene.dial(&again).await.unwrap()).await;
    assert_eq!(enrol(&mut hop, new()).await.err(), Some(Status::NotPermitted), "it is used up");
    assert_eq!(scene.dial(&kept).await.err(), Some(HandshakeError::Rejected));
    is_served(&mut scene.dial(&again).await.unwrap()).await;
}

#[tokio::test]
async fn who_has_no_permit_enrols_nobody() {
    let scene = Scene::new();
    let (mut hop, mut mallory) =
        (scene.dial(&scene.sponsor).await.unwrap(), scene.dial(&scene.stranger).await.unwrap());
    assert_eq!(enrol(&mut hop, new()).await.err(), Some(Status::NotPermitted), "none");
    scene.permit(new());
    assert_eq!(enrol(&mut mallory, new()).await.err(), Some(Status::NotPermitted), "another one's");
    let other_role = (new().0, Role::Client);
    assert_eq!(enrol(&mut hop, other_role).await.err(), Some(Status::NotPermitted), "another role");
    let other = (principal(1043), new().1);
    assert_eq!(enrol(&mut hop, other).await.err(), Some(Status::NotPermitted), "another principal");
    // Over by the relay's clock.
    assert!(scene.principals.permit(scene.sponsor.principal(), other, 1));
    assert_eq!(enrol(&mut hop, other).await.err(), Some(Status::NotPermitted), "over");
    scene.principals.forget_permit(new());
    assert_eq!(enrol(&mut hop, new()).await.err(), Some(Status::NotPermitted), "taken back");
}

#[tokio::test]
async fn a_call_that_is_replayed_in_another_hop_brings_nothing() {
    let scene = Scene::new();
    scene.permit(new());
    let mut hop = scene.dial(&scene.sponsor).await.unwrap();
    let (asked, body) = request(new());
    let (status, answer) = ask_until_free(&mut hop, Service::Enrol, &body).await;
    assert_eq!(status, Status::Ok);
    let key = finished(&asked, &answer);
    // Byte for byte, by somebody else.
    let mut mallory = scene.dial(&scene.stranger).await.unwrap();
    let replayed = ask_until_free(&mut mallory, Service::Enrol, &body).await;
    assert_eq!(replayed, (Status::NotPermitted, vec![]));
    is_served(&mut scene.dial(&key).await.unwrap()).await;
    // In another hop of the sponsor, after the number was used.
    let mut again = scene.dial(&scene.sponsor).await.unwrap();
    assert_eq!(ask_until_free(&mut again, Service::Enrol, &body).await, (Status::NotPermitted, vec![]));
    is_served(&mut scene.dial(&key).await.unwrap()).await;
}

#[tokio::test]
async fn a_principal_that_is_known_by_another_way_is_never_replaced() {
    let scene = Scene::new();
    let victim = (scene.stranger.principal(), scene.stranger.role());
    scene.permit(victim);
    let mut hop = scene.dial(&scene.sponsor).await.unwrap();
    assert_eq!(enrol(&mut hop, victim).await.err(), Some(Status::NotPermitted));
    is_served(&mut scene.dial(&scene.stranger).await.unwrap()).await;
    // Nor is the sponsor itself.
    let own = (scene.sponsor.principal(), scene.sponsor.role());
    scene.permit(own);
    assert_eq!(enrol(&mut hop, own).await.err(), Some(Status::NotPermitted));
}

#[tokio::test]
async fn what_is_no_request_changes_nothing_and_enrolments_have_their_pace() {
    let scene = Scene::new();
    scene.permit(new());
    let mut hop = scene.dial(&scene.sponsor).await.unwrap();
    for body in [&[][..], &[1; 55], &[1; 57], &[0; 56]] {
        assert_eq!(ask_until_free(&mut hop, Service::Enrol, body).await.0, Status::Malformed);
    }
    enrol(&mut hop, new()).await.unwrap();
    let (_, body) = request(new());
    hop.send(Frame::Call { call: CallId(3), service: Service::Enrol as u8, body: &body }).await;
    assert_eq!(hop.recv().await, Got::Answer(CallId(3), Status::Busy as u8, vec![]));
}

#[test]
fn permits_have_a_bound() {
    let principals = MemoryPrincipals::default();
    let who = |serial| (principal(serial), Role::Client);
    for serial in 0..MAX_PERMITS as u32 {
        assert!(principals.permit(principal(5), who(serial), NEVER));
    }
    assert!(!principals.permit(principal(5), who(u32::MAX), NEVER));
    assert!(principals.permit(principal(5), who(7), NEVER), "one that is there may be changed");
    principals.forget_permit(who(7));
    assert!(principals.permit(principal(5), who(u32::MAX), NEVER));
}
