//! A principal that a relay knows enrols another one over a hop that stands. `docs/protocol.md`, 20.15 to 20.19.
//!
//! Request and answer are those of enrolment (section 16); the relay is that of the hop.

use crate::codec::{Malformed, Reader};
use crate::enrol::{Answer, Request, RequestId, Subject};
use crate::ids::{PathId, Principal, Role};
use crate::rotate;
use zeroize::Zeroizing;

/// The request of Enrol on the wire. Secret: it holds the new principal's half.
pub fn encode_request(request: &Request) -> Zeroizing<Vec<u8>> {
    let Subject { principal, role, id, .. } = request.subject;
    Zeroizing::new([&principal.to_bytes()[..], &[role as u8], &id.0, request.half.expose()].concat())
}

/// Reads a request that came over a hop of `relay`.
///
/// # Errors
/// Bytes of another length, a role that there is not, or a half that is all zero.
pub fn decode_request(relay: PathId, bytes: &[u8]) -> Result<Request, Malformed> {
    let mut r = Reader::new(bytes);
    let principal = Principal::decode(&mut r)?;
    let role = Role::decode(&mut r)?;
    let id = RequestId(r.array("request id")?);
    let half = rotate::half(&mut r)?;
    r.finish()?;
    Ok(Request { subject: Subject { principal, role, relay, id }, half })
}

/// The result of Enrol on the wire: that of RotateKey. Secret: it holds the relay's half.
pub fn encode_answer(answer: &Answer) -> Zeroizing<Vec<u8>> {
    rotate::encode_answer(answer)
}

/// Reads the answer to a request. [`Request::finish`] says whether it fits.
///
/// # Errors
/// Bytes of another length, or a half that is all zero.
pub fn decode_answer(request: Subject, bytes: &[u8]) -> Result<Answer, Malformed> {
    rotate::decode_answer(request, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrol::{Confirmation, Half};
    use proptest::prelude::*;
    use serde_json::Value;

    fn relay() -> PathId {
        PathId::new(9).unwrap()
    }

    fn bytes(value: &Value) -> Vec<u8> {
        let text = value.as_str().unwrap();
        let byte = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn requests_and_answers_match_the_known_answers() {
        let vectors: Value = serde_json::from_str(include_str!("../../vectors/register.json")).unwrap();
        let cases = vectors["enrol"].as_array().unwrap();
        assert_eq!(cases.len(), 3);
        for v in cases {
            let relay = PathId::new(v["relay"].as_u64().unwrap() as u8).unwrap();
            let request = decode_request(relay, &bytes(&v["request"])).unwrap();
            assert_eq!(request.subject.principal.to_string(), v["principal"].as_str().unwrap());
            assert_eq!(request.subject.role.to_string(), v["role"].as_str().unwrap());
            assert_eq!(encode_request(&request)[..], bytes(&v["request"]));
            let answer = decode_answer(request.subject, &bytes(&v["answer"])).unwrap();
            assert_eq!(encode_answer(&answer)[..], bytes(&v["answer"]));
            assert_eq!(request.finish(&answer).unwrap().expose(), bytes(&v["number"]));
        }
    }

    #[test]
    fn halves_of_zero_roles_that_there_are_not_and_other_lengths_are_malformed() {
        let principal = Principal { network: 1, denomination: 0, serial: 7 };
        let subject = Subject { principal, role: Role::Server, relay: relay(), id: RequestId([3; 16]) };
        let good = encode_request(&Request { subject, half: Half::new(&[1; 32]).unwrap() });
        assert_eq!(decode_request(relay(), &good).unwrap().subject, subject);
        let with = |at: usize, byte: u8| {
            let mut bad = good.to_vec();
            bad[at] = byte;
            decode_request(relay(), &bad).err()
        };
        assert_eq!(with(7, 0), Some(Malformed::Value("role")));
        assert_eq!(with(7, 3), Some(Malformed::Value("role")));
        let mut zero = good.to_vec();
        zero[24..].fill(0);
        assert_eq!(decode_request(relay(), &zero).err(), Some(Malformed::Value("half")));
        assert!(decode_request(relay(), &good[..55]).is_err());
        assert!(decode_request(relay(), &[&good[..], &[0]].concat()).is_err());
        // An answer is of one request.
        let answer =
            Answer { subject, half: Half::new(&[2; 32]).unwrap(), confirmation: Confirmation([0; 32]) };
        assert_eq!(encode_answer(&answer).len(), 64);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(request) = decode_request(relay(), &bytes) {
                prop_assert_eq!(&encode_request(&request)[..], &bytes[..]);
            }
        }
    }
}
