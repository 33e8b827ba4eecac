//! What principals tell relays about themselves: addresses, and numbers that are replaced.

use qsocket_proto::enrol::{RequestId, Subject};
use qsocket_proto::ids::{PathId, Principal, Role};
use qsocket_proto::register::Register;
use qsocket_proto::relay::MAX_ADDRESSES;
use qsocket_proto::{rotate, sponsor};

/// Register, and request and answer of RotateKey and of Enrol.
pub fn messages(data: &[u8]) {
    if let Ok(register) = Register::decode(data) {
        assert!(register.registrations.len() <= MAX_ADDRESSES);
        assert_eq!(register.encode(), data);
    }
    let principal = Principal { network: 1, denomination: 0, serial: 1 };
    for relay in PathId::all().take(1) {
        let hop = Subject { principal, role: Role::Client, relay, id: RequestId([0; 16]) };
        if let Ok(request) = rotate::decode_request(hop, data) {
            assert_eq!(&rotate::encode_request(&request)[..], data);
        }
        if let Ok(request) = sponsor::decode_request(relay, data) {
            assert_eq!(&sponsor::encode_request(&request)[..], data);
        }
        if let Ok(answer) = rotate::decode_answer(hop, data) {
            assert_eq!(&rotate::encode_answer(&answer)[..], data);
        }
    }
}
