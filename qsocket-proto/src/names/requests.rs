//! What is asked of a relay about names, and what it answers.
//!
//! Every request says how things shall be, so that saying it again does nothing, and a relay that missed something is
//! repaired by hearing it.

use super::{MAX_NAME, MAX_RECORD, Name, Record};
use crate::codec::{Malformed, Reader, Write};
use crate::frame::MAX_CALL;
use std::fmt;
use std::str::FromStr;

/// Most years that one request pays for.
pub const MAX_YEARS: u8 = 10;

/// How far ahead of a relay's clock the begin of a term may lie, in seconds: a day, so that a wrong clock or time zone
/// is no obstacle, and nobody gets time that he does not pay for.
pub const BEGIN_AHEAD: u64 = 24 * 3600;

/// Most payments in one [`Description`]: the newest.
pub const MAX_PAYMENTS: usize = 16;

/// Names a payment: drawn at random by who pays, the same at all relays, and what he writes on the transfer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(pub [u8; 16]);

impl fmt::Display for Reference {
    /// 32 hex digits: what operators see and type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no payment reference.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a payment reference is 32 hex digits")]
pub struct ReferenceSyntax;

impl FromStr for Reference {
    type Err = ReferenceSyntax;

    fn from_str(text: &str) -> Result<Self, ReferenceSyntax> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let pairs: &[[u8; 2]; 16] = pairs.as_array().filter(|_| rest.is_empty()).ok_or(ReferenceSyntax)?;
        let mut out = [0; 16];
        for (byte, [high, low]) in out.iter_mut().zip(pairs) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or(ReferenceSyntax);
            *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
        }
        Ok(Self(out))
    }
}

/// Three capital letters, as in ISO 4217.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// US dollars.
    pub const USD: Self = Self(*b"USD");

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::new(r.array("currency")?).ok_or(Malformed::Value("currency"))
    }

    fn new(letters: [u8; 3]) -> Option<Self> {
        letters.iter().all(u8::is_ascii_uppercase).then_some(Self(letters))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no currency.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a currency is three capital letters, for example USD")]
pub struct CurrencySyntax;

impl FromStr for Currency {
    type Err = CurrencySyntax;

    fn from_str(text: &str) -> Result<Self, CurrencySyntax> {
        text.as_bytes().as_array().and_then(|letters| Self::new(*letters)).ok_or(CurrencySyntax)
    }
}

/// What one relay asks for names, in whole units of its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// For the first year.
    pub first: u32,
    /// For each further one.
    pub renewal: u32,
    /// Of both.
    pub currency: Currency,
}

impl Fees {
    /// What is asked for so many years.
    pub fn amount(&self, kind: PaymentKind, years: u8) -> u64 {
        let (years, renewal) = (u64::from(years), u64::from(self.renewal));
        match kind {
            PaymentKind::Registration => u64::from(self.first) + years.saturating_sub(1) * renewal,
            PaymentKind::Renewal => years * renewal,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.first);
        out.put_u32(self.renewal);
        out.put(&self.currency.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { first: r.u32("fee")?, renewal: r.u32("fee")?, currency: Currency::decode(r)? })
    }
}

/// The request of [`Service::PutName`](crate::call::Service::PutName): the record shall be so. It registers the name if
/// it is free, and changes it if it is the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutName {
    /// What the owner says.
    pub record: Record,
    /// For how many years the name is registered, 1 to [`MAX_YEARS`]. Nothing for a name that is held.
    pub years: u8,
    /// Under which reference that is paid. Nothing for a name that is held.
    pub reference: Reference,
}

/// The request of [`Service::RenewName`](crate::call::Service::RenewName): the term shall be longer once this is paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewName {
    /// The caller's name.
    pub name: Name,
    /// By how many years, 1 to [`MAX_YEARS`].
    pub years: u8,
    /// Under which reference that is paid: another one for each renewal.
    pub reference: Reference,
}

const _: () = {
    assert!(2 + MAX_RECORD + 1 + 16 <= MAX_CALL, "a record with 25 IPv6 endpoints is put in one call");
    assert!(MAX_DESCRIPTION <= MAX_CALL, "and described in one answer");
    assert!(super::TLD.len() + 1 + MAX_NAME <= 253);
};

fn years(r: &mut Reader<'_>) -> Result<u8, Malformed> {
    Some(r.u8("years")?).filter(|years| (1..=MAX_YEARS).contains(years)).ok_or(Malformed::Value("years"))
}

impl PutName {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let record = self.record.encode();
        let mut out = Vec::with_capacity(2 + record.len() + 1 + 16);
        out.put_u16(record.len() as u16);
        out.put(&record);
        out.put_u8(self.years);
        out.put(&self.reference.0);
        out
    }

    /// Reads the wire form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let record = Record::decode(r.vec16(MAX_RECORD, "record")?)?;
        let put = Self { record, years: years(&mut r)?, reference: Reference(r.array("payment reference")?) };
        r.finish()?;
        Ok(put)
    }
}

impl RenewName {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + MAX_NAME + 1 + 16);
        self.name.encode(&mut out);
        out.put_u8(self.years);
        out.put(&self.reference.0);
        out
    }

    /// Reads the wire form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let renew = Self {
            name: Name::decode(&mut r)?,
            years: years(&mut r)?,
            reference: Reference(r.array("payment reference")?),
        };
        r.finish()?;
        Ok(renew)
    }
}

/// The request of [`Service::WithdrawName`](crate::call::Service::WithdrawName) and of
/// [`Service::DescribeName`](crate::call::Service::DescribeName): the name alone.
pub fn encode_name(name: &Name) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + MAX_NAME);
    name.encode(&mut out);
    out
}

/// Reads what [`encode_name`] writes.
pub fn decode_name(bytes: &[u8]) -> Result<Name, Malformed> {
    let mut r = Reader::new(bytes);
    let name = Name::decode(&mut r)?;
    r.finish()?;
    Ok(name)
}

/// How a name stands at one relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Whoever comes first may register it.
    Free = 0,
    /// Somebody registered it, and the relay's operator has not confirmed that it is paid. It does not resolve.
    Pending = 1,
    /// It resolves.
    Active = 2,
    /// Its term is over. It does not resolve, and its owner alone may renew it.
    Lapsed = 3,
    /// Nobody can register it at this relay.
    Reserved = 4,
}

impl State {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8("state")? {
            0 => Self::Free,
            1 => Self::Pending,
            2 => Self::Active,
            3 => Self::Lapsed,
            4 => Self::Reserved,
            _ => return Err(Malformed::Value("state")),
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "free",
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Lapsed => "lapsed",
            Self::Reserved => "reserved",
        })
    }
}

/// What is still to be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// In whole units; 0 if everything is confirmed.
    pub amount: u64,
    /// Of the amount.
    pub currency: Currency,
}

/// The result of a put and of a renewal: how the name stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// At this relay.
    pub state: State,
    /// When its term ends, in seconds since 1970, as far as it is confirmed; 0 while it is pending.
    pub until: u64,
    /// What this relay's operator has not confirmed yet.
    pub due: Due,
}

impl Standing {
    /// Length of the wire form.
    pub const BYTES: usize = 1 + 8 + 8 + 3;

    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::BYTES);
        out.put_u8(self.state as u8);
        out.put_u64(self.until);
        out.put_u64(self.due.amount);
        out.put(&self.due.currency.0);
        out
    }

    /// Reads the wire form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let standing = Self {
            state: State::decode(&mut r)?,
            until: r.u64("until")?,
            due: Due { amount: r.u64("amount")?, currency: Currency::decode(&mut r)? },
        };
        r.finish()?;
        Ok(standing)
    }
}

/// What a payment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PaymentKind {
    /// The first term of a name.
    Registration = 1,
    /// A longer one.
    Renewal = 2,
}

impl fmt::Display for PaymentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registration => "registration",
            Self::Renewal => "renewal",
        })
    }
}

/// What the operator of a relay says about a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PaymentState {
    /// Nothing yet.
    Asked = 0,
    /// It arrived.
    Confirmed = 1,
    /// It did not, or is not wanted.
    Refused = 2,
}

impl fmt::Display for PaymentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "asked",
            Self::Confirmed => "confirmed",
            Self::Refused => "refused",
        })
    }
}

/// A payment as its payer is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Which one.
    pub reference: Reference,
    /// What for.
    pub kind: PaymentKind,
    /// How many years.
    pub years: u8,
    /// What the relay asked, in whole units.
    pub amount: u64,
    /// Of the amount.
    pub currency: Currency,
    /// What became of it.
    pub state: PaymentState,
}

/// Length of a payment on the wire.
const PAYMENT_BYTES: usize = 16 + 1 + 1 + 8 + 3 + 1;

/// Longest description: state, until, fees, record, payments.
const MAX_DESCRIPTION: usize = 1 + 8 + 11 + 2 + MAX_RECORD + 1 + MAX_PAYMENTS * PAYMENT_BYTES;

/// The result of [`Service::DescribeName`](crate::call::Service::DescribeName): how a name stands at one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// At this relay.
    pub state: State,
    /// When its term ends, in seconds since 1970; 0 for a name that is not active or lapsed.
    pub until: u64,
    /// What this relay asks.
    pub fees: Fees,
    /// What the owner says. Of a name that does not resolve only its owner is told.
    pub record: Option<Record>,
    /// The newest payments, newest first, at most [`MAX_PAYMENTS`]; for the owner alone.
    pub payments: Vec<Payment>,
}

impl Description {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_DESCRIPTION);
        out.put_u8(self.state as u8);
        out.put_u64(self.until);
        self.fees.encode(&mut out);
        let record = self.record.as_ref().map(Record::encode).unwrap_or_default();
        out.put_u16(record.len() as u16);
        out.put(&record);
        let payments = &self.payments[..self.payments.len().min(MAX_PAYMENTS)];
        out.put_u8(payments.len() as u8);
        for payment in payments {
            out.put(&payment.reference.0);
            out.put_u8(payment.kind as u8);
            out.put_u8(payment.years);
            out.put_u64(payment.amount);
            out.put(&payment.currency.0);
            out.put_u8(payment.state as u8);
        }
        out
    }

    /// Reads the wire form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let state = State::decode(&mut r)?;
        let until = r.u64("until")?;
        let fees = Fees::decode(&mut r)?;
        let record = match r.vec16(MAX_RECORD, "record")? {
            [] => None,
            record => Some(Record::decode(record)?),
        };
        let count = usize::from(r.u8("payments")?);
        if count > MAX_PAYMENTS {
            return Err(Malformed::TooLong { field: "payments", len: count, max: MAX_PAYMENTS });
        }
        let mut payments = Vec::with_capacity(count);
        for _ in 0..count {
            payments.push(Payment {
                reference: Reference(r.array("payment reference")?),
                kind: match r.u8("kind")? {
                    1 => PaymentKind::Registration,
                    2 => PaymentKind::Renewal,
                    _ => return Err(Malformed::Value("kind")),
                },
                years: years(&mut r)?,
                amount: r.u64("amount")?,
                currency: Currency::decode(&mut r)?,
                state: match r.u8("payment state")? {
                    0 => PaymentState::Asked,
                    1 => PaymentState::Confirmed,
                    2 => PaymentState::Refused,
                    _ => return Err(Malformed::Value("payment state")),
                },
            });
        }
        r.finish()?;
        Ok(Self { state, until, fees, record, payments })
    }
}
