//! Who may change what: from facts to what is written.

use super::{Decided, Facts, Held, LedgerEntry, Ruling, Terms, Write, due};
use qsocket_proto::call::Status;
use qsocket_proto::ids::Principal;
use qsocket_proto::names::{
    BEGIN_AHEAD, Name, Payment, PaymentKind, PaymentState, PutName, Record, Reference, RenewName, Standing,
    State,
};

/// How a name stands, as its owner is told.
fn standing<'a>(
    now: u64,
    terms: &Terms,
    held: &Held,
    open: impl IntoIterator<Item = &'a Payment>,
) -> Standing {
    Standing { state: held.state(now, terms), until: held.until(), due: due(open, terms) }
}

/// As anybody else is told, who knows all of the record.
fn standing_for_others(now: u64, terms: &Terms, held: &Held) -> Standing {
    standing(now, terms, held, [])
}

fn free(terms: &Terms) -> Standing {
    Standing { state: State::Free, until: 0, due: due([], terms) }
}

/// Whether nobody may register it here.
pub(super) fn is_reserved(name: &Name, terms: &Terms) -> bool {
    name.is_reserved() || terms.reserved.contains(name)
}

/// The record shall be so. `knows_owner` says whether the relay knows the principal that the record names.
pub(super) fn put(
    now: u64,
    terms: &Terms,
    caller: Principal,
    put: &PutName,
    knows_owner: bool,
    facts: &Facts,
) -> Ruling {
    match &facts.held {
        None => register(now, terms, caller, put, facts),
        // Said before, perhaps by the owner before this one, who cannot know which relays heard the transfer.
        Some(held) if held.record == put.record => {
            let owner = held.record.owner == caller;
            let open = if owner { &facts.open[..] } else { &[] };
            Ok((standing(now, terms, held, open), Vec::new()))
        }
        Some(held) if held.record.owner != caller => Err(Status::Exists),
        Some(held) => change(now, terms, &put.record, held, knows_owner, facts),
    }
}

fn register(now: u64, terms: &Terms, caller: Principal, put: &PutName, facts: &Facts) -> Ruling {
    let PutName { record, years, reference } = put;
    if record.owner != caller || is_reserved(&record.name, terms) {
        return Err(Status::NotPermitted);
    }
    // Begun earlier is well, so that a relay that was away is told later; it costs its owner what is over.
    let over = record.until((*years).into()) <= now;
    if over || record.begin > now.saturating_add(BEGIN_AHEAD) {
        return Err(Status::Malformed);
    }
    // Both are drawn at random: whoever hears this draws again.
    if facts.number_of.is_some() || facts.entry.is_some() {
        return Err(Status::Taken);
    }
    if facts.names >= terms.names_per_owner || facts.payments >= terms.payments_per_owner {
        return Err(Status::Quota);
    }
    let asked = ask(now, terms, caller, &record.name, *reference, PaymentKind::Registration, *years);
    let held = Held { record: record.clone(), years: 0, asked: now };
    let standing = standing(now, terms, &held, [&asked.payment]);
    Ok((standing, vec![Write::Hold(Box::new(held)), Write::Ask(Box::new(asked))]))
}

fn change(now: u64, terms: &Terms, record: &Record, held: &Held, knows_owner: bool, facts: &Facts) -> Ruling {
    if record.version <= held.record.version {
        return Err(Status::Outdated);
    }
    if (record.number, record.begin) != (held.record.number, held.record.begin) {
        return Err(Status::NotPermitted);
    }
    let transfer = record.owner != held.record.owner;
    if transfer {
        if !knows_owner {
            return Err(Status::NotFound);
        }
        // What is not paid for would take the other one's quota for nothing.
        if held.state(now, terms) != State::Active {
            return Err(Status::NotPermitted);
        }
        if facts.names >= terms.names_per_owner {
            return Err(Status::Quota);
        }
    }
    let held = Held { record: record.clone(), ..held.clone() };
    let standing = if transfer {
        standing_for_others(now, terms, &held)
    } else {
        standing(now, terms, &held, &facts.open)
    };
    Ok((standing, vec![Write::Hold(Box::new(held))]))
}

fn ask(
    now: u64,
    terms: &Terms,
    payer: Principal,
    name: &Name,
    reference: Reference,
    kind: PaymentKind,
    years: u8,
) -> LedgerEntry {
    let (amount, currency) = (terms.fees.amount(kind, years), terms.fees.currency);
    let payment = Payment { reference, kind, years, amount, currency, state: PaymentState::Asked };
    LedgerEntry { payment, name: name.clone(), payer, asked: now, decided: None }
}

/// The term shall be longer once this is paid.
pub(super) fn renew(now: u64, terms: &Terms, caller: Principal, renew: &RenewName, facts: &Facts) -> Ruling {
    let RenewName { name, years, reference } = renew;
    let Some(held) = &facts.held else { return Err(Status::NotFound) };
    if held.record.owner != caller {
        return Err(Status::NotPermitted);
    }
    if let Some(entry) = &facts.entry {
        let said = (&entry.name, entry.payer, entry.payment.kind, entry.payment.years);
        if said != (name, caller, PaymentKind::Renewal, *years) {
            return Err(Status::Taken);
        }
        return Ok((standing(now, terms, held, &facts.open), Vec::new()));
    }
    // The first term comes first: a confirmed renewal would stand in for it.
    if held.years == 0 {
        return Err(Status::NotPermitted);
    }
    if facts.payments >= terms.payments_per_owner {
        return Err(Status::Quota);
    }
    let asked = ask(now, terms, caller, name, *reference, PaymentKind::Renewal, *years);
    let standing = standing(now, terms, held, facts.open.iter().chain([&asked.payment]));
    Ok((standing, vec![Write::Ask(Box::new(asked))]))
}

/// Nobody shall hold the name. `caller` is `None` for the relay's operator.
pub(super) fn withdraw(terms: &Terms, caller: Option<Principal>, facts: &Facts) -> Ruling {
    let Some(held) = &facts.held else { return Err(Status::NotFound) };
    if caller.is_some_and(|caller| caller != held.record.owner) {
        return Err(Status::NotPermitted);
    }
    Ok((free(terms), vec![Write::Free]))
}

/// The operator says whether a payment arrived.
pub(super) fn decide(
    now: u64,
    terms: &Terms,
    reference: Reference,
    arrived: bool,
    by: &str,
    facts: &Facts,
) -> Ruling {
    let (Some(entry), held) = (&facts.entry, &facts.held) else { return Err(Status::NotFound) };
    let decision = if arrived { PaymentState::Confirmed } else { PaymentState::Refused };
    if entry.payment.state != PaymentState::Asked {
        return match held {
            _ if entry.payment.state != decision => Err(Status::Taken),
            Some(held) => Ok((standing(now, terms, held, &facts.open), Vec::new())),
            None => Ok((free(terms), Vec::new())),
        };
    }
    let Some(held) = held else { return Err(Status::NotFound) };
    let decided = Write::Decide(reference, decision, Decided { at: now, by: by.to_owned() });
    let open = facts.open.iter().filter(|payment| payment.reference != reference);
    if arrived {
        let years = held.years.saturating_add(entry.payment.years.into());
        let held = Held { years, ..held.clone() };
        return Ok((standing(now, terms, &held, open), vec![decided, Write::Hold(Box::new(held))]));
    }
    match entry.payment.kind {
        PaymentKind::Registration => Ok((free(terms), vec![decided, Write::Free])),
        PaymentKind::Renewal => Ok((standing(now, terms, held, open), vec![decided])),
    }
}
