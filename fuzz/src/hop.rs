//! The hop: its handshake and its records, with an attacker on the wire.

use crate::Input;
use qsocket_proto::crypto::schedule::hop::{AuthenticityNumber, HopKeys, HopTranscript, ImportedKey};
use qsocket_proto::frame::{Frame, RouteError};
use qsocket_proto::hop::{
    Dial, Dialer, DialledBy, HopLimits, Inbox, Opener, Outbox, Principals, Responder, Sealer,
};
use qsocket_proto::ids::{PathId, Principal, Role, RouteId};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::time::{Duration, Instant};

pub(crate) const CLIENT: Principal = Principal { network: 1, denomination: 0, serial: 1000 };

fn key(role: Role) -> ImportedKey {
    let number = AuthenticityNumber::new(&[0x77; 32]).expect("32 bytes, not zero");
    ImportedKey::new(&number, CLIENT, path(), role)
}

fn path() -> PathId {
    PathId::new(7).expect("below 25")
}

struct Known;

impl Principals for Known {
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        (principal == CLIENT).then(|| key(role))
    }
}

/// Two ends of a hop, and whatever an attacker makes of what they say.
///
/// An end that is up has heard the other end's own words, byte for byte; bytes of nobody bring up none.
pub fn handshake(data: &[u8]) {
    let mut input = Input::new(data);
    let (start, mut now) = (Instant::now(), Duration::ZERO);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let role = input.of(&[Role::Client, Role::Server]);
    let dialled_by = input.of(&[DialledBy::Principal, DialledBy::Relay]);
    let dial = Dial { principal: CLIENT, role, relay: path(), dialled_by, limits: HopLimits::default() };
    let (mut out, mut back) = (Outbox::new(1 << 16), Outbox::new(1 << 16));
    let mut dialer = Dialer::new(start, dial, key(role), &mut rng, &mut out);
    let mut responder = Responder::new(start, path(), dialled_by, HopLimits::default());
    let (mut to_responder, mut to_dialer) = (Inbox::new(), Inbox::new());
    // What was sent and what was delivered, each way.
    let mut said: [Vec<u8>; 2] = Default::default();
    let mut heard: [Vec<u8>; 2] = Default::default();
    let (mut dialled, mut answered) = (false, false);
    while !input.is_empty() {
        let way = input.below(2);
        let outbox = if way == 0 { &mut out } else { &mut back };
        let fresh = outbox.wire().to_vec();
        said[way].extend(&fresh);
        outbox.consume(fresh.len());
        let pending = said[way].len() - heard[way].len().min(said[way].len());
        let piece: Vec<u8> = match input.below(6) {
            0 => input.take(pending).to_vec(),
            1 => {
                let n = input.below(300);
                input.take(n).to_vec()
            }
            2 => {
                now += Duration::from_millis(u64::from(input.u8()) * 40);
                Vec::new()
            }
            3 if pending > 0 => {
                let from = said[way].len() - pending;
                let mut piece = said[way][from..].to_vec();
                let at = input.below(pending);
                piece[at] ^= 1 << input.below(8);
                piece
            }
            _ => {
                let n = 1 + input.below(200);
                let from = said[way].len() - pending;
                said[way][from..from + n.min(pending)].to_vec()
            }
        };
        heard[way].extend(&piece);
        let inbox = if way == 0 { &mut to_responder } else { &mut to_dialer };
        inbox.extend(&piece);
        if way == 0 {
            let done = responder.handle(start + now, inbox, &mut back, &Known, &mut rng);
            answered |= matches!(done, Ok(Some(_)));
        } else {
            let done = dialer.handle(start + now, inbox, &mut out);
            dialled |= matches!(done, Ok(Some(_)));
        }
    }
    said[0].extend(out.wire());
    said[1].extend(back.wire());
    let is_prefix = |way: usize, of: usize| heard[way].len() >= of && heard[way][..of] == said[way][..of];
    if dialled {
        assert!(is_prefix(1, qsocket_proto::hop::ACCEPT), "the dialler took what the responder did not say");
    }
    if answered {
        let all = said[0].len();
        assert!(
            heard[0].len() >= all && is_prefix(0, all),
            "the responder took what the dialler did not say"
        );
        assert!(dialled, "and the dialler had no ACCEPT");
    }
}

/// Records that are changed, dropped, repeated, swapped and cut. What comes out is what went in, up to some frame.
pub fn records(data: &[u8]) {
    let mut input = Input::new(data);
    let keys = || -> HopKeys { key(Role::Client).hop(HopTranscript::of(b"hello", b"accept")) };
    let now = Instant::now();
    let limits = HopLimits {
        soft_records: input.of(&[1 << 20, 1, 3]),
        hard_records: input.of(&[1 << 22, 5]),
        ..HopLimits::default()
    };
    let mut sealer = Sealer::new(now, keys().initiator, limits);
    let mut opener = Opener::new(keys().initiator, limits);
    let (mut outbox, mut inbox) = (Outbox::new(1 << 20), Inbox::new());
    let (mut sent, mut wire): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    for _ in 0..1 + input.below(12) {
        for _ in 0..1 + input.below(4) {
            let mut bytes = vec![input.u8(); input.of(&[0, 1, 40, 3000])];
            let route = RouteId(u32::from(input.u8()));
            let frame = match input.below(5) {
                0 => Frame::Ping { token: u64::from(input.u8()) },
                1 => Frame::RouteError { route, reason: RouteError::Lost },
                2 => Frame::Congested { route, bytes: 7 },
                _ => Frame::Data { route, offset: u32::from(input.u8()), payload: &mut bytes },
            };
            let mut encoded = Vec::new();
            frame.encode(&mut encoded);
            if outbox.frame(&frame).is_ok() {
                sent.push(encoded);
            }
        }
        if sealer.seal(now, &mut outbox).is_err() {
            break;
        }
        wire.push(outbox.wire().to_vec());
        outbox.consume(outbox.queued_bytes());
    }
    for _ in 0..input.below(4) {
        let n = wire.len();
        let (a, b) = (input.below(n), input.below(n));
        match input.below(5) {
            0 => wire.swap(a, b),
            1 => wire[a].clear(),
            2 => {
                let again = wire[a].clone();
                wire.insert(b, again);
            }
            3 => {
                let at = input.below(wire[a].len().max(1));
                wire[a].truncate(at);
            }
            _ => {
                let at = input.below(wire[a].len().max(1));
                let bit = 1 << input.below(8);
                wire[a].iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
            }
        }
    }
    wire.push(input.rest().to_vec());
    let mut got: Vec<Vec<u8>> = Vec::new();
    for piece in wire.concat().chunks(1000) {
        let mut rest = piece;
        loop {
            rest = &rest[inbox.extend(rest)..];
            match opener.next_record(&mut inbox) {
                Ok(Some(frames)) => {
                    for frame in frames {
                        let mut encoded = Vec::new();
                        frame.expect("what was sealed").encode(&mut encoded);
                        got.push(encoded);
                    }
                }
                Ok(None) if rest.is_empty() => break,
                Ok(None) => {}
                Err(error) => {
                    assert_eq!(
                        opener.next_record(&mut inbox).err(),
                        Some(error),
                        "an error is the last word"
                    );
                    assert!(sent.starts_with(&got), "other frames than were sealed");
                    return;
                }
            }
        }
    }
    assert!(sent.starts_with(&got), "other frames than were sealed");
}
