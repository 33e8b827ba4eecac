use super::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Deserialize;
use std::thread;

/// A fixed seed: every run checks the same samples.
const SEED: u64 = 0x6772_6964;

fn rng(salt: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(SEED + salt)
}

fn random_bytes(rng: &mut impl Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn set(bits: u64) -> StripeSet {
    StripeSet::from_bits(bits).unwrap()
}

fn stripe(id: u8) -> StripeId {
    StripeId::new(id).unwrap()
}

/// Demands that every step makes its target from stripes that are there, and that the summary is true.
fn check_plan(have: StripeSet, plan: &Plan, generator: &[[u8; 16]; 34]) {
    let (mut known, mut recovered, mut needs) = (have, StripeSet::EMPTY, StripeSet::EMPTY);
    for step in plan.steps() {
        assert!(known.contains_all(step.sources()), "{have:?}: {step:?} uses what is not there");
        let mut sum = [0; 16];
        for source in step.sources().iter() {
            let factor = step.coefficient(source);
            assert!(factor != 0 && (factor == 1 || !step.is_xor()));
            for (s, g) in sum.iter_mut().zip(&generator[source.index()]) {
                *s ^= crate::gf256::mul(factor, *g);
            }
            if source.data_index().is_none() {
                needs.insert(source);
            }
        }
        assert_eq!(sum, generator[step.target().index()], "{have:?}: {step:?}");
        assert!(known.insert(step.target()) && recovered.insert(step.target()));
    }
    assert_eq!((plan.recovered(), plan.needs()), (recovered, needs));
    if known.contains_all(StripeSet::DATA) {
        assert!(needs.len() <= recovered.len(), "{have:?} opens {needs:?} for {recovered:?}");
    }
}

/// Damages what is lost, recovers, and demands the bytes of `block` back in all that `plan` claims.
fn check_bytes(have: StripeSet, plan: &Plan, block: &[u8], stripes: &[Vec<u8>], work: &mut [u8]) {
    let len = block.len() / 16;
    work.copy_from_slice(block);
    for lost in StripeSet::DATA.difference(have).iter().filter_map(StripeId::data_index) {
        work[lost * len..][..len].fill(0xEE);
    }
    plan.apply(work, |s| have.contains(s).then(|| stripes[s.index()].as_slice())).unwrap();
    for data in StripeSet::DATA.iter() {
        let slice = &work[data.data_index().unwrap() * len..][..len];
        if have.contains(data) || plan.recovered().contains(data) {
            assert_eq!(slice, stripes[data.index()], "{have:?}: {data:?} by {plan:?}");
        } else {
            assert!(slice.iter().all(|b| *b == 0xEE), "{have:?}: {data:?} was touched");
        }
    }
}

/// Every set of `pick` out of 25 stripes as bits, those for which `mine` says yes to the running number.
fn combinations(pick: u32, mine: impl Fn(usize) -> bool, mut visit: impl FnMut(u32)) -> usize {
    let mut count = 0;
    let mut bits: u32 = (1 << pick) - 1;
    while bits < 1 << 25 {
        if mine(count) {
            visit(bits);
        }
        count += 1;
        if bits == 0 {
            break;
        }
        // The next number with as many bits.
        let low = bits & bits.wrapping_neg();
        let carried = bits + low;
        bits = carried | (((bits ^ carried) >> 2) / low);
    }
    count
}

/// Data indices in 16 bits as stripe ids.
fn cells(data: u16) -> u64 {
    (0..4).fold(0, |bits, row| bits | u64::from(data >> (4 * row) & 0xF) << (5 * row))
}

#[test]
fn kinds_and_data_indices_follow_the_layout() {
    let kinds: Vec<String> = StripeId::all().map(|s| s.kind().to_string()).collect();
    assert_eq!(kinds[..5], ["data 0", "data 1", "data 2", "data 3", "row parity 0"]);
    assert_eq!(
        kinds[18..26],
        [
            "data 15",
            "row parity 3",
            "column parity 0",
            "column parity 1",
            "column parity 2",
            "column parity 3",
            "diagonal parity",
            "MDS parity 0"
        ]
    );
    assert_eq!(kinds[33], "MDS parity 8");
    let data: Vec<usize> =
        StripeId::all().filter(|s| s.data_index().is_some()).map(StripeId::index).collect();
    assert_eq!(data, oracle::DATA);
    for index in 0..16 {
        assert_eq!(StripeId::from_data_index(index).unwrap().data_index(), Some(index));
    }
    assert_eq!(StripeId::from_data_index(16), None);
    assert_eq!(StripeId::new(34), None);
    assert_eq!(StripeId::decode(&mut Reader::new(&[33])), Ok(stripe(33)));
    assert_eq!(StripeId::decode(&mut Reader::new(&[34])), Err(Malformed::Value("stripe id")));
    assert_eq!(StripeId::decode(&mut Reader::new(&[])), Err(Malformed::Short("stripe id")));
}

#[test]
fn sets_hold_what_was_put_in() {
    let mut some = StripeSet::EMPTY;
    assert!(some.insert(stripe(33)) && some.insert(stripe(0)) && !some.insert(stripe(0)));
    assert_eq!(some.iter().map(StripeId::get).collect::<Vec<_>>(), [0, 33]);
    assert_eq!(some.iter().collect::<StripeSet>(), some);
    assert!(some.remove(stripe(0)) && !some.remove(stripe(0)));
    assert_eq!((some.len(), some.bits(), some.is_empty()), (1, 1 << 33, false));
    assert_eq!(StripeSet::from_bits(1 << 34), None);
    assert_eq!(StripeSet::DATA.iter().map(StripeId::index).collect::<Vec<_>>(), oracle::DATA);
    assert_eq!(
        StripeSet::ALL.difference(StripeSet::DATA.union(StripeSet::GRID_PARITY)),
        StripeSet::MDS_PARITY
    );
    assert_eq!(StripeSet::DATA.intersection(StripeSet::GRID_PARITY), StripeSet::EMPTY);
    for parity in [ParitySet::Grid, ParitySet::Mds] {
        assert_eq!((parity.parity().len(), parity.stripes().len()), (9, 25));
    }
}

#[test]
fn the_stripes_of_a_block_fall_on_25_paths() {
    for set in [ParitySet::Grid, ParitySet::Mds] {
        for block in (0..50).chain(u64::MAX - 25..=u64::MAX) {
            let paths: crate::ids::PathSet = set.stripes().iter().map(|s| placement(s, block)).collect();
            assert_eq!(paths.len(), RELAYS, "{set:?}, block {block}");
        }
        for stripe in set.stripes().iter() {
            let paths: crate::ids::PathSet = (0..25).map(|block| placement(stripe, block)).collect();
            assert_eq!(paths.len(), RELAYS, "{stripe:?} visits every path");
        }
    }
}

#[test]
fn stripes_are_a_sixteenth_rounded_up() {
    for (block, stripe) in [(0, 0), (1, 1), (16, 1), (17, 2), (32, 2), (MAX_BLOCK_BYTES, 16_384)] {
        assert_eq!(stripe_len(block), stripe, "{block}");
    }
}

#[test]
fn the_encoder_agrees_with_the_oracle_at_all_lengths() {
    let generator = oracle::generator();
    for s in StripeId::all() {
        assert_eq!(std::array::from_fn(|k| coefficient(s, k)), generator[s.index()], "{s:?}");
        assert_eq!(coefficient(s, 16), 0);
    }
    for len in (0..=150).chain([1023, 1024, 1025, 2049]) {
        let block = random_bytes(&mut rng(len as u64), 16 * len);
        let stripes = oracle::encode(&block);
        for set in [ParitySet::Grid, ParitySet::Mds] {
            let mut out = vec![0xEE; 9 * len];
            parity(set, &block, &mut out).unwrap();
            let expected: Vec<u8> = set.parity().iter().flat_map(|s| stripes[s.index()].clone()).collect();
            assert!(out == expected, "{set:?}, stripes of {len} bytes");
        }
        for s in StripeId::all() {
            let mut out = vec![0xEE; len];
            parity_stripe(s, &block, &mut out).unwrap();
            assert!(out == stripes[s.index()], "{s:?} of {len} bytes");
        }
    }
}

#[test]
fn buffers_that_do_not_fit_are_refused_untouched() {
    let (block, mut out) = ([1; 32], [7; 18]);
    assert_eq!(parity(ParitySet::Mds, &block[1..], &mut out), Err(Misfit::Block(31)));
    assert_eq!(
        parity(ParitySet::Grid, &block, &mut out[1..]),
        Err(Misfit::Parity { expected: 18, actual: 17 })
    );
    assert_eq!(parity_stripe(stripe(4), &block, &mut out), Err(Misfit::Parity { expected: 2, actual: 18 }));
    assert_eq!(out, [7; 18]);

    let plan = Plan::new(ParitySet::Grid.stripes().difference(set(1)));
    let mut work = block;
    assert_eq!(plan.apply(&mut work, |_| None), Err(Misfit::Missing(stripe(4))));
    assert_eq!(plan.apply(&mut work, |_| Some(&[0; 3])), Err(Misfit::Parity { expected: 2, actual: 3 }));
    assert_eq!(plan.apply(&mut work[1..], |_| Some(&[0; 2])), Err(Misfit::Block(31)));
    assert_eq!(work, block);
}

#[test]
fn a_plan_says_how_a_stripe_was_recovered_and_opens_no_more_than_needed() {
    let sent = ParitySet::Grid.stripes();
    assert_eq!(format!("{:?}", Plan::new(sent)), "[]");
    let one = Plan::new(sent.difference(set(1 << 6)));
    assert_eq!(format!("{one:?}"), "[data 5 = data 4 + data 6 + data 7 + row parity 1]");
    assert_eq!(one.needs(), set(1 << 9));
    // The row parity is lost too: the column helps.
    let two = Plan::new(sent.difference(set(1 << 6 | 1 << 9)));
    assert_eq!(format!("{two:?}"), "[data 5 = data 1 + data 9 + data 13 + column parity 1]");
    // A single loss costs one XOR under MDS parity as well.
    let mds = Plan::new(ParitySet::Mds.stripes().difference(set(1 << 6)));
    assert!(mds.steps()[0].coefficient(stripe(25)) == 1 && mds.needs() == set(1 << 25));
    assert!(StripeSet::DATA.iter().all(|s| mds.steps()[0].coefficient(s) == u8::from(s.get() != 6)));
}

/// All 2^25 losses under grid parity: what is recovered is what is determined, stripe by stripe.
#[test]
fn every_loss_under_grid_parity_recovers_all_that_is_determined() {
    let generator = oracle::generator();
    let worker = |mine: u16| {
        let mut complete = [0u32; 26];
        for parity in (0..512).filter(|p| p % 2 == mine) {
            let parity_ids = (0..9).fold(0, |ids, i| ids | u64::from(parity >> i & 1) << PARITY_CELLS[i]);
            for (lost, open) in (0..=u16::MAX).zip(oracle::open_in_grid(parity)) {
                let have = set(parity_ids | cells(!lost));
                let determined = set(cells(!open));
                assert_eq!(recoverable(have), determined, "{have:?}");
                assert_eq!(is_complete(have), open == 0, "{have:?}");
                if have.len() >= SIXTEEN {
                    let plan = Plan::new(have);
                    assert_eq!(plan.recovered(), determined.difference(have));
                    check_plan(have, &plan, &generator);
                }
                complete[25 - have.len()] += u32::from(open == 0);
            }
        }
        complete
    };
    let complete = thread::scope(|scope| {
        let halves = [0, 1].map(|mine| scope.spawn(move || worker(mine)));
        let [even, odd] = halves.map(|half| half.join().unwrap());
        std::array::from_fn::<_, 26, _>(|lost| even[lost] + odd[lost])
    });

    assert_eq!(complete[..4], [1, 25, 300, 2288]);
    assert_eq!(complete[10..], [0; 16]);
    let mut patterns = 1.0;
    let shares: Vec<String> = (1..=9u32)
        .map(|lost| {
            patterns *= f64::from(26 - lost) / f64::from(lost);
            format!("{:.4}", 100.0 * f64::from(complete[lost as usize]) / patterns)
        })
        .collect();
    assert_eq!(
        shares,
        ["100.0000", "100.0000", "99.4783", "97.5968", "93.0887", "84.1988", "68.9128", "46.1990", "19.3818"]
    );
}

/// All 3,850,756 losses of up to nine stripes under MDS parity, with bytes.
#[test]
fn every_loss_of_nine_under_mds_parity_is_recovered() {
    let block = random_bytes(&mut rng(1), 16 * 16);
    let stripes = oracle::encode(&block);
    let ids: Vec<u8> = ParitySet::Mds.stripes().iter().map(StripeId::get).collect();
    let worker = |mine: usize| {
        let mut work = vec![0; block.len()];
        let mut patterns = [0; 10];
        for (lost, count) in (0..).zip(&mut patterns) {
            *count = combinations(
                lost,
                |n| n % 2 == mine,
                |bits| {
                    let lost = set((0..25).fold(0, |set, i| set | u64::from(bits >> i & 1) << ids[i]));
                    let have = ParitySet::Mds.stripes().difference(lost);
                    assert!(is_complete(have));
                    let plan = Plan::new(have);
                    assert_eq!(plan.recovered(), StripeSet::DATA.difference(have));
                    assert_eq!(plan.needs().len(), plan.recovered().len());
                    check_bytes(have, &plan, &block, &stripes, &mut work);
                },
            );
        }
        patterns
    };
    thread::scope(|scope| {
        for half in [0, 1].map(|mine| scope.spawn(move || worker(mine))) {
            let patterns = half.join().unwrap();
            assert_eq!(patterns, [1, 25, 300, 2300, 12650, 53130, 177_100, 480_700, 1_081_575, 2_042_975]);
        }
    });
}

/// Fewer than sixteen stripes of data and MDS parity determine nothing that is lost.
#[test]
fn ten_losses_under_mds_parity_recover_nothing() {
    let mut rng = rng(2);
    for _ in 0..10_000 {
        let mut have = ParitySet::Mds.stripes();
        while have.len() >= SIXTEEN {
            have.remove(stripe((rng.next_u32() % 34) as u8));
        }
        assert!(recoverable(have).difference(have).is_empty(), "{have:?}");
        assert_eq!(is_complete(have), have.contains_all(StripeSet::DATA));
    }
}

#[test]
fn mixtures_of_both_sets_recover_all_that_is_determined() {
    let generator = oracle::generator();
    let worker = |mine: u64| {
        let mut rng = rng(10 + mine);
        let block = random_bytes(&mut rng, 16 * 19);
        let stripes = oracle::encode(&block);
        let mut work = vec![0; block.len()];
        let (mut complete, mut partial) = (0, 0);
        for _ in 0..6_000 {
            // Around sixteen stripes are left, where the answer is not plain.
            let left = 12 + rng.next_u32() as usize % 10;
            let mut have = StripeSet::ALL;
            while have.len() > left {
                have.remove(stripe((rng.next_u32() % 34) as u8));
            }
            let determined = set(oracle::determined(have.bits(), &generator));
            assert_eq!(recoverable(have), determined, "{have:?}");
            assert_eq!(is_complete(have), determined == StripeSet::DATA, "{have:?}");
            let plan = Plan::new(have);
            assert_eq!(plan.recovered(), determined.difference(have), "{have:?}");
            check_plan(have, &plan, &generator);
            check_bytes(have, &plan, &block, &stripes, &mut work);
            complete += u32::from(determined == StripeSet::DATA);
            partial += u32::from(determined != StripeSet::DATA && !plan.recovered().is_empty());
        }
        assert!(complete > 1000 && partial > 1000, "{complete} complete, {partial} partial");
    };
    thread::scope(|scope| {
        for half in [0, 1].map(|mine| scope.spawn(move || worker(mine))) {
            half.join().unwrap();
        }
    });
}

#[test]
fn long_stripes_recover_across_tiles() {
    let mut rng = rng(3);
    for len in [1, 7, 1024, 1031, 4096, 16_384] {
        let block = random_bytes(&mut rng, 16 * len);
        let stripes: Vec<Vec<u8>> = StripeId::all()
            .map(|s| {
                let mut out = vec![0; len];
                parity_stripe(s, &block, &mut out).unwrap();
                out
            })
            .collect();
        let mut work = vec![0; block.len()];
        for lost in [0x1FF, 0xF_8000, 1 << 12, 1 | 1 << 25, 0x3_0403 | 1 << 30] {
            for set_of in [ParitySet::Grid, ParitySet::Mds] {
                let have = set_of.stripes().difference(set(lost));
                check_bytes(have, &Plan::new(have), &block, &stripes, &mut work);
            }
        }
    }
}

#[derive(Deserialize)]
struct Vectors {
    encode: Vec<EncodeVector>,
    recover: Vec<RecoverVector>,
    placement: Vec<PlacementVector>,
}

#[derive(Deserialize)]
struct EncodeVector {
    block: String,
    stripe_len: usize,
    stripes: Vec<String>,
}

#[derive(Deserialize)]
struct RecoverVector {
    have: Vec<u8>,
    complete: bool,
}

#[derive(Deserialize)]
struct PlacementVector {
    stripe: u8,
    block: u64,
    path: u8,
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn known_answers_of_another_implementation() {
    let vectors: Vectors = serde_json::from_str(include_str!("../../../vectors/grid.json")).unwrap();
    assert!(!vectors.encode.is_empty() && !vectors.recover.is_empty() && !vectors.placement.is_empty());
    for vector in &vectors.encode {
        let mut block = unhex(&vector.block);
        let len = stripe_len(block.len());
        assert_eq!(len, vector.stripe_len);
        block.resize(16 * len, 0);
        let stripes: Vec<Vec<u8>> = vector.stripes.iter().map(|s| unhex(s)).collect();
        assert_eq!(stripes.len(), STRIPES);
        for s in StripeId::all() {
            let mut out = vec![0; len];
            parity_stripe(s, &block, &mut out).unwrap();
            assert_eq!(out, stripes[s.index()], "{s:?} of {}", vector.block);
        }
        let mut work = vec![0; block.len()];
        for recover in &vectors.recover {
            let have = recover.have.iter().map(|id| stripe(*id)).collect();
            assert_eq!(is_complete(have), recover.complete, "{have:?}");
            check_bytes(have, &Plan::new(have), &block, &stripes, &mut work);
        }
    }
    for PlacementVector { stripe: id, block, path } in vectors.placement {
        assert_eq!(placement(stripe(id), block).get(), path, "stripe {id} of block {block}");
    }
}
