//! HKDF-SHA256 with labels, and HMAC-SHA256. `docs/protocol.md` 2.2 to 2.4, RFC 5869, RFC 2104.

use super::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroize;

/// Put before every label, so that no other protocol derives the same keys from the same secret.
pub const PREFIX: &str = "qs1 ";

/// Longest context in bytes: its length has one byte on the way into the hash.
pub const MAX_CONTEXT: usize = 255;

/// Length of every MAC and hash in bytes.
pub const MAC_BYTES: usize = 32;

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a derived value is for. Every label of the product stands here and nowhere else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Label {
            $($(#[$doc])* $name,)*
        }

        impl Label {
            /// Every label, in the order of the declaration.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The label's text, without [`PREFIX`].
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

labels! {
    /// A principal's key with one relay, from the authenticity number.
    Import = "imp",
    /// The key of a HELLO's binder.
    HopBinder = "hop bind",
    /// The secret of one hop, from its transcript.
    HopSecret = "hop hs",
    /// The key of the dialling side's MAC over the transcript.
    InitiatorFinished = "hop i fin",
    /// The key of the answering side's MAC over the transcript.
    ResponderFinished = "hop r fin",
    /// The secret of records from the dialling side.
    InitiatorTraffic = "hop i ap",
    /// The secret of records from the answering side.
    ResponderTraffic = "hop r ap",
    /// A sealing key.
    Key = "key",
    /// The fixed part of a sealing key's nonces.
    Iv = "iv",
    /// The next secret in a chain of rekeys.
    Update = "ku",
    /// The salt of the next Extract.
    Derived = "drv",
    /// The key of the commitment.
    Commit = "commit",
    /// The client's phase 0.
    ClientZero = "c 0",
    /// The key of the server's reply.
    ServerReply = "s reply",
    /// The key of a refusal for want of the Encryption key.
    ServerRefuse = "s refuse",
    /// The client's phase 1.
    ClientPhase = "c 1",
    /// The server's phase 1.
    ServerPhase = "s 1",
    /// The sealing key of a phase's stripes.
    StripeKey = "str key",
    /// The fixed part of the nonces of a phase's stripes.
    StripeIv = "str iv",
    /// The sealing key of a phase's control frames.
    ControlKey = "ctl key",
    /// The fixed part of the nonces of a phase's control frames.
    ControlIv = "ctl iv",
    /// An Encryption key from a key exchange that the relays store.
    Stored = "stored",
    /// The key of a memo that goes with a stored exchange.
    StoredMemo = "stored memo",
    /// The key of the receiver's confirmation of a stored exchange.
    StoredDone = "stored done",
    /// The key of a relay's receipt for a post, to the receiver.
    PostReceipt = "post receipt",
    /// An authenticity number from the halves of a principal and a relay.
    EnrolNumber = "enrol number",
    /// The key of an enrolment's confirmation.
    EnrolConfirm = "enrol confirm",
}

/// HKDF-Extract: condenses `ikm` into a uniform secret. The salt need not be secret.
pub fn extract(salt: &[u8], ikm: &[u8]) -> Secret<32> {
    let (mut prk, _) = hkdf::Hkdf::<Sha256>::extract(Some(salt), ikm);
    let secret = Secret::build(|out| out.copy_from_slice(&prk));
    prk.as_mut_slice().zeroize();
    secret
}

/// `L(secret, label, context)`: HKDF-Expand with the label structure of TLS 1.3 and the prefix `"qs1 "`.
///
/// The info is `u16 N ‖ u8 length ‖ "qs1 " label ‖ u8 length ‖ context` (RFC 8446, section 7.1). The context is an
/// array, so that its length is checked while compiling: callers hash what has no fixed size.
pub fn expand_label<const N: usize, const C: usize>(
    secret: &Secret<32>,
    label: Label,
    context: &[u8; C],
) -> Secret<N> {
    const {
        assert!(N > 0 && N <= 255 * MAC_BYTES, "HKDF-Expand yields at most 255 hashes");
        assert!(C <= MAX_CONTEXT, "a context has at most 255 bytes: hash it first");
    }
    let label = label.text().as_bytes();
    let head = (N as u16).to_be_bytes();
    let info: [&[u8]; 6] =
        [&head, &[(PREFIX.len() + label.len()) as u8], PREFIX.as_bytes(), label, &[C as u8], context];
    Secret::build(|out| expand(secret.expose(), &info, out))
}

fn expand(prk: &[u8; 32], info: &[&[u8]], out: &mut [u8]) {
    // `N` is bounded while compiling and the key has the length of the hash: neither error can occur.
    #[expect(clippy::expect_used, clippy::unwrap_used, reason = "both lengths are checked while compiling")]
    hkdf::Hkdf::<Sha256>::from_prk(prk).unwrap().expand_multi_info(info, out).expect("length is bounded");
}

/// HMAC-SHA256 over the parts, one behind the other.
///
/// Nothing separates the parts: they must have fixed widths or carry their lengths.
pub fn mac(key: &Secret<32>, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
    started(key, parts).finalize().into_bytes().into()
}

/// Whether `tag` is the MAC of the parts; takes the same time wherever a wrong one differs.
pub fn verify_mac(key: &Secret<32>, parts: &[&[u8]], tag: &[u8; MAC_BYTES]) -> bool {
    started(key, parts).verify(tag.into()).is_ok()
}

fn started(key: &Secret<32>, parts: &[&[u8]]) -> Hmac<Sha256> {
    #[expect(clippy::unwrap_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac
}

/// A key that makes and checks MACs, and does nothing else.
#[derive(Debug)]
pub struct MacKey(Secret<32>);

impl MacKey {
    /// Wraps a derived secret.
    pub fn new(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// [`mac`] under this key.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        mac(&self.0, parts)
    }

    /// [`verify_mac`] under this key.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8; MAC_BYTES]) -> bool {
        verify_mac(&self.0, parts, tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn labels_are_distinct_and_fit_their_length_byte() {
        let texts: BTreeSet<_> = Label::ALL.iter().map(|l| l.text()).collect();
        assert_eq!(texts.len(), Label::ALL.len());
        assert!(texts.iter().all(|t| !t.is_empty() && PREFIX.len() + t.len() <= 255));
    }

    /// Requirement: no two purposes share a value, whatever the secret, the label, the context or the length.
    #[test]
    fn derived_values_differ_over_secrets_labels_contexts_and_lengths() {
        let mut seen = BTreeSet::new();
        for secret in [[1; 32], [2; 32]].map(Secret::new) {
            for &label in Label::ALL {
                let mut add = |s: &[u8]| assert!(seen.insert(s[..12].to_vec()), "{label:?}");
                add(expand_label::<32, 0>(&secret, label, b"").expose());
                add(expand_label::<32, 1>(&secret, label, &[0]).expose());
                add(expand_label::<32, 1>(&secret, label, &[1]).expose());
                add(expand_label::<32, 2>(&secret, label, &[0, 0]).expose());
                add(expand_label::<32, 255>(&secret, label, &[0; 255]).expose());
                add(expand_label::<12, 0>(&secret, label, b"").expose());
                add(expand_label::<16, 0>(&secret, label, b"").expose());
            }
        }
        assert_eq!(seen.len(), 2 * 7 * Label::ALL.len());
    }

    /// RFC 5869, appendix A.1.
    #[test]
    fn extract_and_expand_match_the_rfc() {
        let salt: Vec<u8> = (0..=0x0c).collect();
        let prk = extract(&salt, &[0x0b; 22]);
        assert_eq!(
            prk.expose()[..8],
            [0x07, 0x77, 0x09, 0x36, 0x2c, 0x2e, 0x32, 0xdf],
            "first bytes of the RFC's PRK"
        );
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let mut okm = [0; 42];
        expand(prk.expose(), &[&info[..4], &info[4..]], &mut okm);
        assert_eq!(okm[..8], [0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a]);
        assert_eq!(okm[34..], [0x34, 0x00, 0x72, 0x08, 0xd5, 0xb8, 0x87, 0x18, 0x58, 0x65][2..]);
    }

    #[test]
    fn a_mac_verifies_only_as_made() {
        let key = Secret::new([3; 32]);
        let tag = mac(&key, &[b"ab", b"c"]);
        assert!(verify_mac(&key, &[b"abc"], &tag));
        assert!(!verify_mac(&key, &[b"abd"], &tag));
        assert!(!verify_mac(&Secret::new([4; 32]), &[b"abc"], &tag));
        for bit in 0..256 {
            let mut wrong = tag;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify_mac(&key, &[b"abc"], &wrong), "bit {bit}");
        }
    }
}
