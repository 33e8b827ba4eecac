//! Known answers of the hop, against `vectors/hop.json` (checked by `vectors/hop.py` too).

use super::*;
use crate::crypto::schedule::hop::{AuthenticityNumber, HopTranscript, ImportedKey};
use crate::frame::{CloseReason, Frame, Frames, RouteError};
use crate::ids::{CallId, PathId, Principal, Role, RouteId};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Instant;

/// Draws 0, 1, 2, ...: a run that anybody can repeat.
struct Counting(u8);

impl rand_core::TryRng for Counting {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for byte in out {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Counting {}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const PRINCIPAL: Principal = Principal { network: 1, denomination: -2, serial: 1042 };

fn relay() -> PathId {
    PathId::new(3).unwrap()
}

fn imported() -> ImportedKey {
    let number: Vec<u8> = (0x40..0x50).collect();
    ImportedKey::new(&AuthenticityNumber::new(&number).unwrap(), PRINCIPAL, relay(), Role::Client)
}

struct Known;

impl Principals for Known {
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        (principal == PRINCIPAL && role == Role::Client).then(imported)
    }
}

/// One handshake with counted randomness, and the first record.
fn handshake() -> Value {
    crate::crypto::nonce_audit::forget();
    let now = Instant::now();
    let limits = HopLimits::default();
    let dial = Dial {
        principal: PRINCIPAL,
        role: Role::Client,
        relay: relay(),
        dialled_by: DialledBy::Principal,
        limits,
    };
    let (mut out, mut back) = (Outbox::new(1 << 20), Outbox::new(1 << 20));
    let (mut there, mut here) = (Inbox::new(), Inbox::new());
    let mut dialer = Dialer::new(now, dial, imported(), &mut Counting(0), &mut out);
    let mut responder = Responder::new(now, relay(), DialledBy::Principal, limits);
    let hello = out.wire().to_vec();
    out.consume(hello.len());
    there.extend(&hello);
    let answered = responder.handle(now, &mut there, &mut back, &Known, &mut Counting(0x80)).unwrap();
    assert!(answered.is_none());
    let accept = back.wire().to_vec();
    here.extend(&accept);
    let mut end = dialer.handle(now, &mut here, &mut out).unwrap().unwrap();
    let finish = out.wire().to_vec();
    out.consume(finish.len());
    out.frame(&Frame::Ping { token: 1 }).unwrap();
    out.data(RouteId(7), 0x0102_0304, 3, |p| p.copy_from_slice(b"abc")).unwrap();
    end.sealer.seal(now, &mut out).unwrap();
    there.extend(&finish);
    there.extend(out.wire());
    let mut other = responder.handle(now, &mut there, &mut back, &Known, &mut Counting(0)).unwrap().unwrap();
    assert_eq!(other.opener.next_record(&mut there).unwrap().unwrap().count(), 2);
    let keys = imported().hop(HopTranscript::of(&hello, &accept[..accept.len() - 32]));
    assert!(
        keys.responder_finished
            .verify(&[&hello, &accept[..accept.len() - 32]], accept[38..].as_array().unwrap())
    );
    json!({
        "authenticity_number": hex(&(0x40..0x50).collect::<Vec<u8>>()),
        "network": PRINCIPAL.network, "denomination": PRINCIPAL.denomination, "serial": PRINCIPAL.serial,
        "relay": relay().get(), "role": Role::Client as u8,
        "hello": hex(&hello), "accept": hex(&accept), "finish": hex(&finish), "record": hex(out.wire()),
        "record_plaintext": "0100080000000000000001" .to_owned() + "20000b0000000701020304616263",
    })
}

fn frames() -> Value {
    let (share, proof) = ([0x11; 32], [[0x21; 32], [0x22; 32], [0x23; 32], [0x24; 32], [0x25; 32]]);
    let route = RouteId(0x0a0b_0c0d);
    let mut payload = *b"payload";
    let all = [
        ("ping", Frame::Ping { token: 0x0102_0304_0506_0708 }),
        ("pong", Frame::Pong { token: 1 }),
        ("rekey", Frame::Rekey),
        ("close", Frame::Close { reason: CloseReason::Replaced }),
        ("open", Frame::Open { route, header: b"header", share: &share, proof: &proof }),
        ("attach", Frame::Attach { route, header: b"header" }),
        ("detach", Frame::Detach { route }),
        ("route_error", Frame::RouteError { route, reason: RouteError::UnknownConnection }),
        ("congested", Frame::Congested { route, bytes: 65_536 }),
        ("data", Frame::Data { route, offset: 0xffff_fffe, payload: &mut payload }),
        ("call", Frame::Call { call: CallId(route.0), service: 4, body: b"request" }),
        ("answer", Frame::Answer { call: CallId(route.0), status: 9, body: b"answer" }),
    ];
    let mut out = serde_json::Map::new();
    for (name, frame) in all {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        let mut again = wire.clone();
        assert_eq!(Frames::new(&mut again).next(), Some(Ok(frame)), "{name}");
        out.insert(name.into(), hex(&wire).into());
    }
    out.into()
}

#[test]
fn known_answers_hold() {
    let header = RequestHeader { relay: relay(), principal: PRINCIPAL, body_len: 64, nonce: *b"12345678" };
    let now = json!({
        "request_header": {
            "relay": 3, "network": 1, "denomination": -2, "serial": 1042, "body_len": 64,
            "nonce": hex(b"12345678"), "wire": hex(&header.encode()),
        },
        "reject": hex(&REJECT),
        "frames": frames(),
        "handshake": handshake(),
    });
    let file = include_str!("../../../vectors/hop.json");
    let expected: Value = serde_json::from_str(file).expect("vectors/hop.json is JSON");
    assert_eq!(now, expected, "\n{}", serde_json::to_string_pretty(&now).unwrap());
}
