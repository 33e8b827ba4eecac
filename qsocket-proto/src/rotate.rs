//! A principal and one relay put a fresh authenticity number in the place of the one that they share, over a hop that
//! stands. `docs/protocol.md`, 20.10 to 20.14.
//!
//! Request and answer are those of enrolment (section 16) without their subject, which the hop has authenticated.

use crate::codec::{Malformed, Reader};
use crate::crypto::hkdf::MAC_BYTES;
use crate::enrol::{Answer, Confirmation, Half, Request, RequestId, Subject};
use zeroize::Zeroizing;

/// The request of RotateKey on the wire. Secret: it holds the principal's half.
pub fn encode_request(request: &Request) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([&request.subject.id.0[..], request.half.expose()].concat())
}

/// Reads a request of the principal, role and relay of a hop; the id of `hop` does not count.
///
/// # Errors
/// Bytes of another length, or a half that is all zero.
pub fn decode_request(hop: Subject, bytes: &[u8]) -> Result<Request, Malformed> {
    let mut r = Reader::new(bytes);
    let id = RequestId(r.array("request id")?);
    let half = half(&mut r)?;
    r.finish()?;
    Ok(Request { subject: Subject { id, ..hop }, half })
}

/// The result of RotateKey on the wire. Secret: it holds the relay's half.
pub fn encode_answer(answer: &Answer) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([&answer.half.expose()[..], &answer.confirmation.0].concat())
}

/// Reads the answer to a request. [`Request::finish`] says whether it fits.
///
/// # Errors
/// Bytes of another length, or a half that is all zero.
pub fn decode_answer(request: Subject, bytes: &[u8]) -> Result<Answer, Malformed> {
    let mut r = Reader::new(bytes);
    let half = half(&mut r)?;
    let confirmation = Confirmation(r.array::<MAC_BYTES>("confirmation")?);
    r.finish()?;
    Ok(Answer { subject: request, half, confirmation })
}

pub(crate) fn half(r: &mut Reader<'_>) -> Result<Half, Malformed> {
    let bytes = Zeroizing::new(r.array::<32>("half")?);
    Half::new(&*bytes).map_err(|_| Malformed::Value("half"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PathId, Principal, Role};
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn subject() -> Subject {
        let principal = Principal { network: 1, denomination: 0, serial: 7 };
        Subject { principal, role: Role::Server, relay: PathId::new(9).unwrap(), id: RequestId([0; 16]) }
    }

    #[test]
    fn both_sides_get_one_number_from_what_travels() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let Subject { principal, role, relay, .. } = subject();
        let request = Request::new(principal, role, relay, &mut rng);
        let (answer, kept) = decode_request(subject(), &encode_request(&request)).unwrap().answer(&mut rng);
        let mut bytes = encode_answer(&answer);
        let got = decode_answer(request.subject, &bytes).unwrap();
        assert_eq!(request.finish(&got).unwrap().expose(), kept.expose());
        bytes[40] ^= 1;
        assert!(request.finish(&decode_answer(request.subject, &bytes).unwrap()).is_err(), "changed");
        let again = Request::new(principal, role, relay, &mut rng);
        let (other, _) = again.answer(&mut rng);
        let other = decode_answer(request.subject, &encode_answer(&other)).unwrap();
        assert!(request.finish(&other).is_err(), "the answer to another request");
    }

    #[test]
    fn halves_of_zero_and_other_lengths_are_malformed() {
        assert_eq!(decode_request(subject(), &[0; 48]).err(), Some(Malformed::Value("half")));
        assert_eq!(decode_answer(subject(), &[0; 64]).err(), Some(Malformed::Value("half")));
        assert!(decode_request(subject(), &[1; 47]).is_err() && decode_request(subject(), &[1; 49]).is_err());
        assert!(decode_answer(subject(), &[1; 63]).is_err() && decode_answer(subject(), &[1; 65]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(request) = decode_request(subject(), &bytes) {
                prop_assert_eq!(&encode_request(&request)[..], &bytes[..]);
            }
            if let Ok(answer) = decode_answer(subject(), &bytes) {
                prop_assert_eq!(&encode_answer(&answer)[..], &bytes[..]);
            }
        }
    }
}
