//! The name space `.raida`: names, what their owners say about them, and the requests to the relays that keep them.
//! `docs/protocol.md`, section 19.
//!
//! A *name* is one label under `raida` ([`Name`]). Its owner says the same [`Record`] to each of the 25 relays, and a
//! resolver believes what sixteen of them answer alike. So everything in an answer comes from the record or from a
//! constant of the protocol, never from one relay's clock or settings.

mod membership;
mod name;
mod record;
mod requests;
#[cfg(test)]
mod tests;

pub use membership::{Membership, MembershipSyntax};
pub use name::{MAX_NAME, MIN_NAME, Name, NameError, RESERVED, TLD};
pub use record::{MAX_BEGIN, MAX_RECORD, MAX_TTL, MIN_TTL, Record, YEAR};
pub use requests::{
    BEGIN_AHEAD, Currency, CurrencySyntax, Description, Due, Fees, MAX_PAYMENTS, MAX_YEARS, Payment,
    PaymentKind, PaymentState, PutName, Reference, ReferenceSyntax, RenewName, Standing, State, decode_name,
    encode_name,
};

/// Labels and values of the zone that every relay answers for.
pub mod zone {
    use std::time::Duration;

    /// `_raida._tcp.NAME.raida`: SRV, where the relays of a name are.
    pub const RAIDA_SERVICE: [&str; 2] = ["_raida", "_tcp"];
    /// `_rke._tcp.NAME.raida`: SRV, where signals of key exchanges are taken.
    pub const RKE_SERVICE: [&str; 2] = ["_rke", "_tcp"];
    /// `_qsocket._tcp.NAME.raida`: SRV, which port the service of a name has.
    pub const QSOCKET_SERVICE: [&str; 2] = ["_qsocket", "_tcp"];
    /// `N.number.raida`: PTR, which name has a number.
    pub const NUMBER: &str = "number";
    /// `rN.NAME.raida`: the letter before the number of a relay.
    pub const ENDPOINT_PREFIX: char = 'r';
    /// Who is named as the source of the zone.
    pub const SOA_MNAME: &str = "raida.";
    /// Whom its SOA names as responsible; nobody reads there.
    pub const SOA_RNAME: &str = "hostmaster.raida.";
    /// Serial number of the zone: always the same, for each relay has changes of its own.
    pub const SOA_SERIAL: u32 = 1;
    /// Nobody transfers the zone: refresh, retry and expire are usual values.
    pub const SOA_REFRESH: Duration = Duration::from_secs(3600);
    /// As [`SOA_REFRESH`].
    pub const SOA_RETRY: Duration = Duration::from_secs(600);
    /// As [`SOA_REFRESH`].
    pub const SOA_EXPIRE: Duration = Duration::from_secs(86_400);
    /// How long it may be remembered that there is nothing: so long does a new name stay unseen.
    pub const NEGATIVE_TTL: u32 = 60;
}
