use super::*;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};
use serde::Deserialize;
use std::convert::Infallible;

const ID: ConnectionId = ConnectionId([7; 16]);

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn path(i: usize) -> PathId {
    PathId::new(i as u8).unwrap()
}

/// Second implementation of the field: logarithms to the base 3, filled by doubling and adding.
mod table {
    pub(super) struct Table {
        log: [usize; 256],
        exp: [u8; 510],
    }

    impl Table {
        pub(super) fn new() -> Self {
            let (mut log, mut exp, mut value) = ([0; 256], [0; 510], 1u16);
            for i in 0..255 {
                log[usize::from(value)] = i;
                exp[i] = value as u8;
                exp[i + 255] = value as u8;
                value ^= value << 1;
                if value > 255 {
                    value ^= 0x11b;
                }
            }
            assert_eq!(value, 1, "3 generates the field");
            Self { log, exp }
        }

        pub(super) fn mul(&self, a: u8, b: u8) -> u8 {
            if a == 0 || b == 0 { 0 } else { self.exp[self.log[usize::from(a)] + self.log[usize::from(b)]] }
        }

        pub(super) fn div(&self, a: u8, b: u8) -> u8 {
            assert_ne!(b, 0);
            if a == 0 { 0 } else { self.exp[255 + self.log[usize::from(a)] - self.log[usize::from(b)]] }
        }

        /// All coefficients of the polynomial through the points, by Gaussian elimination.
        pub(super) fn coefficients(&self, points: &[(u8, u8)]) -> Vec<u8> {
            let n = points.len();
            let mut rows: Vec<Vec<u8>> = points
                .iter()
                .map(|(x, y)| {
                    let mut row = vec![1];
                    for k in 1..n {
                        row.push(self.mul(row[k - 1], *x));
                    }
                    row.push(*y);
                    row
                })
                .collect();
            for col in 0..n {
                let pivot = (col..n).find(|r| rows[*r][col] != 0).unwrap();
                rows.swap(col, pivot);
                let by = rows[col][col];
                for cell in &mut rows[col] {
                    *cell = self.div(*cell, by);
                }
                let pivot = rows[col].clone();
                for (_, row) in rows.iter_mut().enumerate().filter(|(r, _)| *r != col) {
                    let by = row[col];
                    for (cell, p) in row.iter_mut().zip(&pivot) {
                        *cell ^= self.mul(by, *p);
                    }
                }
            }
            rows.into_iter().map(|row| row[n]).collect()
        }

        pub(super) fn evaluate(&self, coefficients: &[u8], x: u8) -> u8 {
            coefficients.iter().rev().fold(0, |sum, c| self.mul(sum, x) ^ c)
        }
    }
}

#[test]
fn the_field_agrees_with_a_table_for_all_pairs() {
    let t = table::Table::new();
    for a in 0..=255 {
        for b in 0..=255 {
            assert_eq!(field::mul(a, b), t.mul(a, b), "{a} * {b}");
        }
        assert_eq!(field::invert(a), if a == 0 { 0 } else { t.div(1, a) }, "1 / {a}");
    }
}

/// Gives out prepared blocks of 32 bytes instead of randomness.
struct Replay(std::vec::IntoIter<[u8; BYTES]>);

impl TryRng for Replay {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("split draws whole blocks");
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("split draws whole blocks");
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for block in out.chunks_mut(BYTES) {
            block.copy_from_slice(&self.0.next().expect("split draws 15 blocks"));
        }
        Ok(())
    }
}

impl TryCryptoRng for Replay {}

#[derive(Deserialize)]
struct Vector {
    name: String,
    secret: String,
    connection: String,
    coefficients: Vec<String>,
    shares: Vec<String>,
    root: String,
    proofs: Vec<Vec<String>>,
}

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    let bytes: Vec<u8> =
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

#[test]
fn known_answers() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../../../vectors/share.json")).unwrap();
    assert_eq!(vectors.len(), 4);
    for v in vectors {
        let coefficients: Vec<[u8; BYTES]> = v.coefficients.iter().map(|t| unhex(t)).collect();
        let mut replay = Replay(coefficients.into_iter());
        let shares = split(&Secret::new(unhex(&v.secret)), &mut replay);
        assert!(replay.0.next().is_none());
        let id = ConnectionId(unhex(&v.connection));
        let tree = Tree::new(id, &shares);
        assert_eq!(tree.root(), unhex(&v.root), "{}", v.name);
        for p in PathId::all() {
            assert_eq!(*shares.get(p).expose(), unhex(&v.shares[p.index()]), "{}, {p:?}", v.name);
            let proof: Vec<[u8; 32]> = v.proofs[p.index()].iter().map(|t| unhex(t)).collect();
            assert_eq!(tree.proof(p)[..], proof, "{}, {p:?}", v.name);
        }
    }
}

/// One client's sharing, and what each relay delivers of it.
struct World {
    secret: Secret<BYTES>,
    root: [u8; 32],
    delivered: Vec<(PathId, Secret<BYTES>, Proof)>,
}

impl World {
    fn new(rng: &mut ChaCha20Rng) -> Self {
        let secret = Secret::random(rng);
        let shares = split(&secret, rng);
        let tree = Tree::new(ID, &shares);
        let copy = |p| (p, Secret::new(*shares.get(p).expose()), tree.proof(p));
        Self { secret, root: tree.root(), delivered: PathId::all().map(copy).collect() }
    }

    fn recover(&self) -> Result<Recovered, RecoverError> {
        self.recover_committed(|s| s.ct_eq(&self.secret))
    }

    fn recover_committed(
        &self,
        check: impl FnOnce(&Secret<BYTES>) -> bool,
    ) -> Result<Recovered, RecoverError> {
        let offered: Vec<_> =
            self.delivered.iter().map(|(path, share, proof)| Offered { path: *path, share, proof }).collect();
        recover(&self.root, ID, &offered, check)
    }
}

/// A random subset of the paths in random order.
fn draw(rng: &mut ChaCha20Rng, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..RELAYS).collect();
    for i in 0..count {
        let j = i + rng.next_u32() as usize % (RELAYS - i);
        all.swap(i, j);
    }
    all.truncate(count);
    all
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    /// Random bytes with the true proof.
    Random,
    /// One bit of the share changed.
    Bit,
    /// The share and proof of another secret on the same path.
    OtherSecret,
    /// The true share with a changed proof.
    BrokenProof,
    /// The share and proof of another relay, from the same sharing.
    Swapped,
    /// The true share with the proof of another path.
    WrongSide,
}

const LIES: [Lie; 6] =
    [Lie::Random, Lie::Bit, Lie::OtherSecret, Lie::BrokenProof, Lie::Swapped, Lie::WrongSide];

fn lie(world: &mut World, other: &World, honest: &World, i: usize, kind: Lie, rng: &mut ChaCha20Rng) {
    let bit = rng.next_u32() as usize;
    let neighbour = (i + 1 + bit % (RELAYS - 1)) % RELAYS;
    let copy = |from: &World, j: usize| Secret::new(*from.delivered[j].1.expose());
    let (_, share, proof) = &mut world.delivered[i];
    match kind {
        Lie::Random => *share = Secret::random(rng),
        Lie::Bit => {
            let mut bytes = *share.expose();
            bytes[bit % BYTES] ^= 1 << (bit / BYTES % 8);
            *share = Secret::new(bytes);
        }
        Lie::OtherSecret => (*share, *proof) = (copy(other, i), other.delivered[i].2),
        Lie::BrokenProof => proof[bit % DEPTH][bit / DEPTH % 32] ^= 0x10,
        Lie::Swapped => (*share, *proof) = (copy(honest, neighbour), honest.delivered[neighbour].2),
        Lie::WrongSide => *proof = honest.delivered[neighbour].2,
    }
}

/// Requirement: every mix of missing and lying relays up to nine yields the secret and names exactly the liars.
#[test]
fn any_nine_may_be_missing_or_lie() {
    let mut rng = rng(1);
    let mut mixes = 0;
    for lying in 0..=9 {
        for missing in 0..=9 - lying {
            mixes += 1;
            // Each kind alone, then all kinds mixed.
            for round in 0..LIES.len() + 2 {
                let seed = rng.next_u64();
                let [honest, mut world] =
                    [seed, seed].map(|s| World::new(&mut ChaCha20Rng::seed_from_u64(s)));
                let other = World::new(&mut rng);
                let chosen = draw(&mut rng, lying + missing);
                let (liars, gone) = chosen.split_at(lying);
                for (n, i) in liars.iter().enumerate() {
                    let kind = *LIES.get(round).unwrap_or(&LIES[(n + round) % LIES.len()]);
                    lie(&mut world, &other, &honest, *i, kind, &mut rng);
                }
                world.delivered.retain(|(p, ..)| !gone.contains(&p.index()));
                // The order of arrival is not the order of the paths.
                let turn = rng.next_u32() as usize % world.delivered.len();
                world.delivered.rotate_left(turn);
                let recovered = world.recover().unwrap();
                assert!(recovered.secret.ct_eq(&world.secret), "{lying} lie, {missing} are missing");
                assert_eq!(recovered.liars, liars.iter().map(|i| path(*i)).collect());
            }
        }
    }
    assert_eq!(mixes, 55);
}

/// Requirement: 10 to 15 liars can prevent the opening, and never bring about another key.
#[test]
fn up_to_fifteen_liars_never_yield_a_wrong_secret() {
    let mut rng = rng(2);
    for lying in 10..=15 {
        for kind in LIES {
            let seed = rng.next_u64();
            let [honest, mut world] = [seed, seed].map(|s| World::new(&mut ChaCha20Rng::seed_from_u64(s)));
            let other = World::new(&mut rng);
            let liars = draw(&mut rng, lying);
            for i in &liars {
                lie(&mut world, &other, &honest, *i, kind, &mut rng);
            }
            let named = liars.iter().map(|i| path(*i)).collect();
            // Nothing is left to the commitment: the root alone must keep the liars out.
            let result = world.recover_committed(|_| true).map(|r| r.liars);
            assert_eq!(result, Err(RecoverError::TooFew { good: RELAYS - lying, liars: named }));
        }
    }
}

/// Fifteen relays that pool a polynomial, a tree and a root of their own are still off the root of the header.
#[test]
fn a_coordinated_lie_is_off_the_root() {
    let mut rng = rng(3);
    for lying in 1..=15 {
        let mut world = World::new(&mut rng);
        let mut other = World::new(&mut rng);
        let liars = draw(&mut rng, lying);
        for i in &liars {
            std::mem::swap(&mut world.delivered[*i], &mut other.delivered[*i]);
        }
        let named: PathSet = liars.iter().map(|i| path(*i)).collect();
        match world.recover_committed(|_| true) {
            Ok(r) => {
                assert!(lying <= 9 && r.secret.ct_eq(&world.secret));
                assert_eq!(r.liars, named);
            }
            Err(e) => {
                assert!(lying > 9);
                assert_eq!(e, RecoverError::TooFew { good: RELAYS - lying, liars: named });
            }
        }
    }
}

/// A client whose tree holds shares of two polynomials: the relays told the truth, and nobody is named.
#[test]
fn a_client_that_cheats_is_refused_and_no_relay_is_blamed() {
    let mut rng = rng(4);
    for odd in 0..RELAYS {
        let secret = Secret::random(&mut rng);
        let mut shares = split(&secret, &mut rng);
        shares.0[odd] = Secret::random(&mut rng);
        let tree = Tree::new(ID, &shares);
        let proofs: Vec<Proof> = PathId::all().map(|p| tree.proof(p)).collect();
        let offers = |from: usize| -> Vec<Offered<'_>> {
            PathId::all()
                .skip(from)
                .map(|p| Offered { path: p, share: shares.get(p), proof: &proofs[p.index()] })
                .collect()
        };
        let result = recover(&tree.root(), ID, &offers(0), |_| true).map(|_| ());
        assert_eq!(result, Err(RecoverError::OffPolynomial), "share {odd}");
        // With 16 shares and no more the polynomial always fits; then the commitment decides.
        let result = recover(&tree.root(), ID, &offers(9), |s| s.ct_eq(&secret)).map(|_| ());
        assert_eq!(result, if odd < 9 { Ok(()) } else { Err(RecoverError::Commitment) }, "share {odd}");
    }
}

#[test]
fn a_path_counts_once() {
    let mut rng = rng(5);
    let mut world = World::new(&mut rng);
    world.delivered.truncate(15);
    let (p, share, proof) = &world.delivered[3];
    let again = (*p, Secret::new(*share.expose()), *proof);
    world.delivered.push(again);
    let liars = PathSet::EMPTY;
    assert_eq!(world.recover().map(|_| ()), Err(RecoverError::TooFew { good: 15, liars }));

    // The first word of a path is its word: a later one neither helps nor accuses.
    let mut world = World::new(&mut rng);
    let p = world.delivered[3].0;
    world.delivered.push((p, Secret::random(&mut rng), [[0; 32]; DEPTH]));
    assert_eq!(world.recover().unwrap().liars, PathSet::EMPTY);
}

#[test]
fn a_share_belongs_to_one_connection_one_path_and_one_root() {
    let world = World::new(&mut rng(6));
    for (p, share, proof) in &world.delivered {
        assert!(verify(&world.root, ID, *p, share, proof));
        assert!(!verify(&world.root, ConnectionId([8; 16]), *p, share, proof));
        assert!(!verify(&[0; 32], ID, *p, share, proof));
        for q in PathId::all().filter(|q| q != p) {
            assert!(!verify(&world.root, ID, q, share, proof), "{p:?} as {q:?}");
        }
        for bit in 0..8 * 32 * DEPTH {
            let mut wrong = *proof;
            wrong[bit / 256][bit / 8 % 32] ^= 1 << (bit % 8);
            assert!(!verify(&world.root, ID, *p, share, &wrong), "{p:?}, bit {bit}");
        }
    }
}

#[test]
fn all_sixteen_share_subsets_of_a_window_agree() {
    let world = World::new(&mut rng(7));
    for start in 0..RELAYS {
        let points: Vec<_> = (0..SIXTEEN)
            .map(|k| &world.delivered[(start + k) % RELAYS])
            .map(|(p, s, _)| (x(*p), s))
            .collect();
        let points = points.try_into().unwrap();
        assert!(interpolate(&points, 0).ct_eq(&world.secret));
        for (p, share, _) in &world.delivered {
            assert!(interpolate(&points, x(*p)).ct_eq(share));
        }
    }
}

/// Requirement: whatever 15 relays hold, each value of each byte of the secret fits it with exactly one polynomial.
#[test]
fn fifteen_shares_leave_every_secret_possible() {
    let t = table::Table::new();
    let mut rng = rng(8);
    for _ in 0..3 {
        let world = World::new(&mut rng);
        let mut order = draw(&mut rng, RELAYS);
        let missing = order.split_off(15);
        for byte in [0, 13, 31] {
            let held: Vec<(u8, u8)> =
                order.iter().map(|i| (*i as u8 + 1, world.delivered[*i].1.expose()[byte])).collect();
            let mut sixteenth = [false; 256];
            for candidate in 0..=255 {
                let points = [&[(0, candidate)], &held[..]].concat();
                let polynomial = t.coefficients(&points);
                assert_eq!(polynomial.len(), SIXTEEN);
                assert!(points.iter().all(|(x, y)| t.evaluate(&polynomial, *x) == *y));
                sixteenth[usize::from(t.evaluate(&polynomial, missing[0] as u8 + 1))] = true;
            }
            assert!(sixteenth.iter().all(|s| *s), "each secret goes with one value of the share they lack");
        }
    }
}

/// Requirement: every coefficient is uniform, the top one too. Recovered from shares by the table's elimination.
#[test]
fn coefficients_are_uniform() {
    const ROUNDS: usize = 1000;
    let t = table::Table::new();
    let mut rng = rng(9);
    let secret = Secret::new([0x5a; BYTES]);
    let mut counts = vec![[0u32; 256]; SIXTEEN];
    let mut shares_seen = vec![[0u32; 256]; RELAYS];
    for _ in 0..ROUNDS {
        let shares = split(&secret, &mut rng);
        for byte in 0..BYTES {
            let value = |i: usize| shares.0[i].expose()[byte];
            for (i, seen) in shares_seen.iter_mut().enumerate() {
                seen[usize::from(value(i))] += 1;
            }
            let points: Vec<_> = (0..SIXTEEN).map(|i| (i as u8 + 1, value(i))).collect();
            for (k, c) in t.coefficients(&points).into_iter().enumerate() {
                counts[k][usize::from(c)] += 1;
            }
        }
    }
    let total = (ROUNDS * BYTES) as u32;
    assert_eq!(counts[0][0x5a], total, "the constant term is the secret");
    for (what, seen) in counts[1..].iter().chain(&shares_seen).enumerate() {
        let expected = f64::from(total) / 256.0;
        let chi2: f64 = seen.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
        // 255 degrees of freedom: mean 255, deviation 22.6; six deviations either way.
        assert!((120.0..391.0).contains(&chi2), "distribution {what}: chi-squared {chi2}");
    }
}

proptest! {
    #[test]
    fn split_and_recover_agree_with_the_table(seed: u64, secret: [u8; BYTES]) {
        let t = table::Table::new();
        let shares = split(&Secret::new(secret), &mut rng(seed));
        for byte in [0, 31] {
            let points: Vec<_> = (9..RELAYS).map(|i| (i as u8 + 1, shares.0[i].expose()[byte])).collect();
            let polynomial = t.coefficients(&points);
            prop_assert_eq!(polynomial[0], secret[byte]);
            for i in 0..RELAYS {
                prop_assert_eq!(t.evaluate(&polynomial, i as u8 + 1), shares.0[i].expose()[byte]);
            }
        }
    }
}

/// What is known already is no reason to look less closely: in any order, a share or proof that differs anywhere is
/// refused, and spoils nothing for those that come behind it.
#[test]
fn a_verifier_that_knows_the_tree_in_part_refuses_what_one_that_knows_nothing_does() {
    let mut rng = rng(77);
    let shares = split(&Secret::random(&mut rng), &mut rng);
    let tree = Tree::new(ID, &shares);
    for round in 0..200u32 {
        let mut verifier = Verifier::new(&tree.root(), ID);
        for _ in 0..40 {
            let p = path((rng.next_u32() % 25) as usize);
            let (mut share, mut proof) = (*shares.get(p).expose(), tree.proof(p));
            let (what, byte) = (rng.next_u32() as usize % 12, rng.next_u32() as usize % 32);
            match what {
                0 => share[byte] ^= 1,
                1..=DEPTH => proof[what - 1][byte] ^= 0x80,
                6 => proof.swap(round as usize % DEPTH, (round as usize + 1) % DEPTH),
                _ => {}
            }
            let share = Secret::new(share);
            assert_eq!(verifier.verify(p, &share, &proof), what > 6, "round {round}, {p}, {what}");
            assert_eq!(verify(&tree.root(), ID, p, &share, &proof), what > 6);
        }
    }
}
