//! Recovery: one solver for both parity sets and their mixtures (`docs/protocol.md` 1.7).
//!
//! Every parity stripe at hand is a relation: factors with which some stripes add up to zero. A relation in which
//! only one stripe is missing gives that stripe. The solver first uses such relations of the grid as they stand
//! (few sources, XOR only), then eliminates among the rest over the bits 0 and 1, and only then, if MDS parity is
//! there and needed, over the whole field. A relation that depends on those already taken is left out, so `n`
//! stripes are never recovered from more than `n` parity stripes when the block is complete.

use super::code::{Misfit, check, grid_relations, mds_relations};
use super::kernel::{self, Kernel, ROWS, Term};
use super::{PARITY, STRIPES, StripeId, StripeSet};
use crate::gf256::invert;
use crate::ids::SIXTEEN;
use std::fmt;

/// Whether all data of a block can be recovered from the stripes in `have`.
///
/// Cheap enough for every arriving stripe: fewer than 16 stripes are refused and data with MDS parity alone
/// accepted by counting; only blocks with grid parity are solved.
pub fn is_complete(have: StripeSet) -> bool {
    let missing = StripeSet::DATA.difference(have);
    if missing.is_empty() {
        return true;
    }
    // Data and MDS stripes: any 16 are enough.
    if have.difference(StripeSet::GRID_PARITY).len() >= SIXTEEN {
        return true;
    }
    have.len() >= SIXTEEN
        && !have.intersection(StripeSet::GRID_PARITY).is_empty()
        && solve(have, |_| ()) == missing
}

/// The data stripes that the stripes in `have` determine: those among them, and all that can be recovered.
///
/// Complete: a data stripe that is not in the result could have any content.
pub fn recoverable(have: StripeSet) -> StripeSet {
    have.intersection(StripeSet::DATA).union(solve(have, |_| ()))
}

/// How the missing data stripes of a block are made from the stripes at hand.
///
/// Of fixed size and made anew for every block; nothing is cached.
#[derive(Clone)]
pub struct Plan {
    /// In the order in which they are taken; entries from `len` are blank.
    steps: [Step; SIXTEEN],
    len: usize,
    recovered: StripeSet,
    needs: StripeSet,
}

impl Plan {
    /// Plans the recovery of every data stripe that the stripes in `have` determine.
    pub fn new(have: StripeSet) -> Self {
        let mut steps = [Step::BLANK; SIXTEEN];
        let mut len = 0;
        let mut needs = StripeSet::EMPTY;
        let recovered = solve(have, |step| {
            needs = needs.union(step.sources.difference(StripeSet::DATA));
            if let Some(place) = steps.get_mut(len) {
                *place = step;
                len += 1;
            }
        });
        Self { steps, len, recovered, needs }
    }

    /// The missing data stripes that the plan recovers.
    pub const fn recovered(&self) -> StripeSet {
        self.recovered
    }

    /// The parity stripes that must be opened to apply the plan.
    pub const fn needs(&self) -> StripeSet {
        self.needs
    }

    /// What the plan does, in order: a step may use stripes that an earlier one recovered.
    pub fn steps(&self) -> &[Step] {
        self.steps.get(..self.len).unwrap_or_default()
    }

    /// Fills the missing data stripes in.
    ///
    /// `block` is the whole block, 16 stripes of equal length, in which the slices of the missing stripes hold
    /// anything; slices that the plan cannot recover stay as they are. `parity` hands over each stripe of
    /// [`needs`](Self::needs), as long as a data stripe.
    ///
    /// # Errors
    ///
    /// [`Misfit`] if a length does not fit or a stripe is not handed over; `block` is untouched then.
    pub fn apply<'a>(
        &self,
        block: &mut [u8],
        parity: impl FnMut(StripeId) -> Option<&'a [u8]>,
    ) -> Result<(), Misfit> {
        self.apply_with(Kernel::detect(), block, parity)
    }

    /// As [`apply`](Self::apply), with a kernel of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn apply_with<'a>(
        &self,
        kernel: Kernel,
        block: &mut [u8],
        mut parity: impl FnMut(StripeId) -> Option<&'a [u8]>,
    ) -> Result<(), Misfit> {
        let len = block.len() / SIXTEEN;
        if !block.len().is_multiple_of(SIXTEEN) {
            return Err(Misfit::Block(block.len()));
        }
        let mut opened: [&[u8]; STRIPES] = [&[]; STRIPES];
        for stripe in self.needs.iter() {
            let bytes = parity(stripe).ok_or(Misfit::Missing(stripe))?;
            check(bytes.len(), len)?;
            opened[stripe.index()] = bytes;
        }
        let mut rest = block;
        let mut stripes: [&mut [u8]; SIXTEEN] = std::array::from_fn(|_| {
            let (stripe, behind) = std::mem::take(&mut rest).split_at_mut(len);
            rest = behind;
            stripe
        });
        let mut steps = self.steps();
        while !steps.is_empty() {
            let (together, later) = steps.split_at(doable_at_once(steps));
            apply(together, kernel, &mut stripes, &opened);
            steps = later;
        }
        Ok(())
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps()).finish()
    }
}

/// How one data stripe is recovered: as a sum of other stripes, each times a coefficient.
#[derive(Clone, Copy)]
pub struct Step {
    target: StripeId,
    sources: StripeSet,
    /// By stripe id. `None`: the coefficient of every source is 1.
    coefficients: Option<[u8; STRIPES]>,
}

impl Step {
    const BLANK: Self = match StripeId::from_data_index(0) {
        Some(target) => Self { target, sources: StripeSet::EMPTY, coefficients: None },
        None => unreachable!(),
    };

    /// `relation` has the factor 1 at `target`.
    fn new(target: StripeId, relation: &impl Relation) -> Self {
        let sources = StripeSet(relation.touches(StripeSet::ALL.bits() & !target.bit()));
        Self { target, sources, coefficients: relation.factors() }
    }

    /// The data stripe that the step recovers.
    pub const fn target(&self) -> StripeId {
        self.target
    }

    /// The stripes that it is recovered from.
    pub const fn sources(&self) -> StripeSet {
        self.sources
    }

    /// Whether all coefficients are 1.
    pub const fn is_xor(&self) -> bool {
        self.coefficients.is_none()
    }

    /// What a stripe is multiplied with; 0 if it is not a source.
    pub fn coefficient(&self, stripe: StripeId) -> u8 {
        match (&self.coefficients, self.sources.contains(stripe)) {
            (_, false) => 0,
            (None, true) => 1,
            (Some(coefficients), true) => coefficients[stripe.index() % STRIPES],
        }
    }
}

/// How many of the steps, which are some, one pass over their sources can do: those over the whole field that do
/// not use each other's targets. Steps of XOR have few sources and hardly share them.
fn doable_at_once(steps: &[Step]) -> usize {
    let mut targets = StripeSet::EMPTY;
    let together = steps.iter().take(ROWS).take_while(|step| {
        let fits = !step.is_xor() && step.sources.intersection(targets).is_empty();
        targets.insert(step.target);
        fits
    });
    together.count().max(1)
}

/// Makes the targets of at most [`ROWS`] steps that do not use each other's. `opened` holds parity by stripe id.
fn apply(steps: &[Step], kernel: Kernel, stripes: &mut [&mut [u8]; SIXTEEN], opened: &[&[u8]; STRIPES]) {
    let mut outs: [&mut [u8]; ROWS] = Default::default();
    let mut sources = StripeSet::EMPTY;
    for (step, out) in steps.iter().zip(&mut outs) {
        sources = sources.union(step.sources);
        if let Some(target) = step.target.data_index() {
            *out = std::mem::take(&mut stripes[target]);
        }
    }
    let mut terms = [Term::default(); STRIPES];
    for (stripe, term) in sources.iter().zip(&mut terms) {
        term.source = match stripe.data_index() {
            None => opened[stripe.index()],
            Some(k) => stripes[k],
        };
        for (step, factor) in steps.iter().zip(&mut term.factors) {
            *factor = step.coefficient(stripe);
        }
    }
    kernel.combine(&mut outs[..steps.len()], &terms[..sources.len()]);
    for (step, out) in steps.iter().zip(outs) {
        if let Some(target) = step.target.data_index() {
            stripes[target] = out;
        }
    }
}

impl fmt::Debug for Step {
    /// `data 5 = row parity 1 + data 4 + 3*data 6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} =", self.target.kind())?;
        for (i, stripe) in self.sources.iter().enumerate() {
            f.write_str(if i == 0 { " " } else { " + " })?;
            match self.coefficient(stripe) {
                1 => write!(f, "{}", stripe.kind())?,
                c => write!(f, "{c}*{}", stripe.kind())?,
            }
        }
        Ok(())
    }
}

/// Factors with which stripes add up to zero.
trait Relation: Copy {
    /// Those of `stripes` whose factor is not zero, as bits.
    fn touches(&self, stripes: u64) -> u64;

    /// The factors by stripe id, or `None` if all are 1.
    fn factors(&self) -> Option<[u8; STRIPES]>;

    /// Makes the factor of `stripe`, which is not zero, 1.
    fn normalise(&mut self, stripe: StripeId);

    /// Takes `stripe` out with the help of `other`, in which its factor is 1.
    fn eliminate(&mut self, stripe: StripeId, other: &Self);
}

/// A relation whose factors are 0 or 1, as bits.
impl Relation for u64 {
    fn touches(&self, stripes: u64) -> u64 {
        *self & stripes
    }

    fn factors(&self) -> Option<[u8; STRIPES]> {
        None
    }

    fn normalise(&mut self, _: StripeId) {}

    fn eliminate(&mut self, stripe: StripeId, other: &Self) {
        *self ^= other & 0u64.wrapping_sub(*self >> stripe.get() & 1);
    }
}

/// A relation with any factors: by stripe id, eight to a word, filled up to whole vector registers.
#[derive(Clone, Copy)]
struct Wide([u64; Self::WORDS]);

impl Wide {
    const WORDS: usize = STRIPES.next_multiple_of(16) / 8;

    fn new(factors: impl Iterator<Item = u8>) -> Self {
        let mut words = [0; Self::WORDS];
        for (i, factor) in factors.enumerate().take(STRIPES) {
            words[i / 8] |= u64::from(factor) << (i % 8 * 8);
        }
        Self(words)
    }

    fn factor(&self, stripe: StripeId) -> u8 {
        (self.0[stripe.index() / 8] >> (stripe.index() % 8 * 8)) as u8
    }
}

impl Relation for Wide {
    fn touches(&self, stripes: u64) -> u64 {
        StripeSet(stripes).iter().filter(|s| self.factor(*s) != 0).collect::<StripeSet>().bits()
    }

    fn factors(&self) -> Option<[u8; STRIPES]> {
        let mut factors = [0; STRIPES];
        for (stripe, factor) in StripeId::all().zip(&mut factors) {
            *factor = self.factor(stripe);
        }
        Some(factors)
    }

    fn normalise(&mut self, stripe: StripeId) {
        self.0 = kernel::mul_add([0; Self::WORDS], &self.0, invert(self.factor(stripe)));
    }

    fn eliminate(&mut self, stripe: StripeId, other: &Self) {
        self.0 = kernel::mul_add(self.0, &other.0, self.factor(stripe));
    }
}

/// Independent relations, reduced against each other: each has a stripe, its pivot, that no other has.
struct Reduced<R> {
    rows: [R; SIXTEEN],
    pivots: [StripeId; SIXTEEN],
    len: usize,
    missing: u64,
}

impl<R: Relation> Reduced<R> {
    fn new(missing: u64, blank: R) -> Self {
        Self { rows: [blank; SIXTEEN], pivots: [Step::BLANK.target; SIXTEEN], len: 0, missing }
    }

    /// Whether there are as many rows as missing stripes, so that all are determined.
    fn is_full(&self) -> bool {
        self.len >= self.missing.count_ones() as usize
    }

    /// Adds a relation, unless it says nothing new about the missing stripes.
    fn add(&mut self, mut row: R) {
        let known = self.rows.iter_mut().zip(&self.pivots).take(self.len);
        for (other, pivot) in known {
            row.eliminate(*pivot, other);
        }
        let Some(pivot) = StripeId::lowest(row.touches(self.missing)) else { return };
        row.normalise(pivot);
        for other in self.rows.iter_mut().take(self.len) {
            other.eliminate(pivot, &row);
        }
        if let (Some(place), Some(name)) = (self.rows.get_mut(self.len), self.pivots.get_mut(self.len)) {
            (*place, *name) = (row, pivot);
            self.len += 1;
        }
    }

    /// The rows in which the pivot is the only missing stripe, with the pivot.
    fn solved(&self) -> impl Iterator<Item = (StripeId, &R)> {
        self.rows().filter(|(pivot, row)| row.touches(self.missing) == pivot.bit())
    }

    /// The rows that leave more than one stripe open.
    fn unsolved(&self) -> impl Iterator<Item = &R> {
        self.rows().filter(|(pivot, row)| row.touches(self.missing) != pivot.bit()).map(|(_, row)| row)
    }

    fn rows(&self) -> impl Iterator<Item = (StripeId, &R)> {
        self.pivots.iter().copied().zip(&self.rows).take(self.len)
    }
}

/// Finds every missing data stripe that the stripes in `have` determine and hands out how, in order.
fn solve(have: StripeSet, mut found: impl FnMut(Step)) -> StripeSet {
    let wanted = StripeSet::DATA.difference(have);
    let mut missing = wanted.bits();
    let mut solve_for = |step: Step, missing: &mut u64| {
        *missing &= !step.target.bit();
        found(step);
    };

    // Relations of the grid that give a stripe as they stand, over and over.
    let mut relations = [0; PARITY];
    for (place, relation) in relations.iter_mut().zip(grid_relations(have)) {
        *place = relation;
    }
    let mut progress = true;
    while progress && missing != 0 {
        progress = false;
        for relation in &mut relations {
            let open = *relation & missing;
            if open.is_power_of_two()
                && let Some(target) = StripeId::lowest(open)
            {
                solve_for(Step::new(target, relation), &mut missing);
                *relation = 0;
                progress = true;
            }
        }
    }

    // The others together.
    let mut grid = Reduced::new(missing, 0u64);
    for relation in relations.into_iter().filter(|r| r & missing != 0) {
        grid.add(relation);
    }
    for (target, relation) in grid.solved() {
        solve_for(Step::new(target, relation), &mut missing);
    }

    // What the grid leaves open, with MDS parity.
    if missing != 0 && !have.intersection(StripeSet::MDS_PARITY).is_empty() {
        let mut mixed = Reduced::new(missing, Wide([0; Wide::WORDS]));
        for relation in grid.unsolved() {
            mixed.add(Wide::new((0..STRIPES).map(|id| (relation >> id & 1) as u8)));
        }
        for relation in mds_relations(have) {
            if mixed.is_full() {
                break;
            }
            mixed.add(Wide::new(relation.iter().copied()));
        }
        for (target, relation) in mixed.solved() {
            solve_for(Step::new(target, relation), &mut missing);
        }
    }
    StripeSet(wanted.bits() & !missing)
}
