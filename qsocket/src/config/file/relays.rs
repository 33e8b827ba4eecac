//! The 25 relays of a `[raida]` section, and the rule about who operates them.

use super::{RelayAddresses, Source};
use qsocket_files::settings::{SettingsError, Spanned};
use qsocket_proto::ids::{PathSet, RELAYS};
use qsocket_proto::operators::{Tags, Warning, check_operators, check_regions};
use serde::Deserialize;

/// One `[[raida.relay]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRelay {
    address: Spanned<String>,
    operator: Option<Spanned<String>>,
    region: Option<Spanned<String>>,
}

pub(super) type RawRelays = Spanned<Vec<Spanned<RawRelay>>>;

/// The addresses, in the order of the relays.
pub(super) fn addresses(source: &Source, relays: &RawRelays) -> Result<RelayAddresses, SettingsError> {
    let list = relays.get_ref();
    let parsed: Vec<_> =
        list.iter().map(|r| source.address(&r.get_ref().address)).collect::<Result<_, _>>()?;
    RelayAddresses::from_list(&parsed).map_err(|e| source.error(relays, e))
}

fn tags(all: &[Option<String>; RELAYS]) -> Tags<'_> {
    all.each_ref().map(Option::as_deref)
}

/// Applies the operator rule. Gives the warnings, each with file and line.
///
/// Call it when [`addresses`] found 25 of them.
pub(super) fn check(source: &Source, relays: &RawRelays) -> Result<Vec<String>, SettingsError> {
    let list = relays.get_ref();
    let operator = |i: usize| list.get(i).and_then(|r| r.get_ref().operator.as_ref());
    let region = |i: usize| list.get(i).and_then(|r| r.get_ref().region.as_ref());
    let text = |tag: Option<&Spanned<String>>| tag.map(|t| t.get_ref().clone());
    let operators: [_; RELAYS] = std::array::from_fn(|i| text(operator(i)));
    let regions: [_; RELAYS] = std::array::from_fn(|i| text(region(i)));

    // Where the mend begins: at the last relay of those that are too many.
    let last = |set: PathSet| set.iter().last().map_or(0, |path| path.index());
    let mut warnings = check_operators(&tags(&operators)).map_err(|e| match operator(last(e.relays)) {
        Some(tag) => source.error(tag, e),
        None => source.error(relays, e),
    })?;
    warnings.extend(check_regions(&tags(&regions)));
    let line = |warning: &Warning| match warning {
        Warning::Operator { relays: set, .. } => operator(last(*set)).map(|t| source.line(t)),
        Warning::Region { relays: set, .. } => region(last(*set)).map(|t| source.line(t)),
        Warning::Untagged { relays: set } => list.get(last(*set)).map(|r| source.line(r)),
        _ => None,
    };
    let shown = warnings.iter().map(|w| {
        let line = line(w).unwrap_or_else(|| source.line(relays));
        format!("{}:{line}: {w}", source.path().display())
    });
    Ok(shown.collect())
}
