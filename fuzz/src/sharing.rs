//! The sharing of a secret: any mix of right, missing and lying shares.

use crate::Input;
use qsocket_proto::crypto::secret::Secret;
use qsocket_proto::ids::{ConnectionId, PathId, PathSet, SIXTEEN};
use qsocket_proto::share::{DEPTH, Offered, Proof, RecoverError, Shares, Tree, recover, split, verify};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

const ID: ConnectionId = ConnectionId([9; 16]);

/// A share and a proof of any bytes: none of them is under a root that they were not made for.
pub fn shares(data: &[u8]) {
    let mut input = Input::new(data);
    let shares = split(&Secret::new([3; 32]), &mut ChaCha8Rng::seed_from_u64(2));
    let tree = Tree::new(ID, &shares);
    let root = tree.root();
    let path = PathId::new(input.below(25) as u8).expect("below 25");
    let (mut share, mut proof) = (*shares.get(path).expose(), tree.proof(path));
    // Each byte of the input changes one of what is offered, or takes the place of another path's.
    let genuine = (share, proof);
    let mut offered = path;
    while !input.is_empty() {
        match input.below(4) {
            0 => offered = PathId::new(input.below(25) as u8).expect("below 25"),
            1 => share[input.below(32)] ^= input.u8(),
            2 => proof[input.below(DEPTH)][input.below(32)] ^= input.u8(),
            _ => proof.swap(input.below(DEPTH), input.below(DEPTH)),
        }
    }
    let right = offered == path && (share, proof) == genuine;
    assert_eq!(verify(&root, ID, offered, &Secret::new(share), &proof), right);
}

/// What one relay brings.
struct Brought {
    path: PathId,
    share: Secret<32>,
    proof: Proof,
    lies: bool,
}

fn bring(input: &mut Input<'_>, path: PathId, of: &[(Shares, Tree); 2]) -> Brought {
    let [(shares, tree), (others, other_tree)] = of;
    let (mut share, mut proof) = (*shares.get(path).expose(), tree.proof(path));
    let lie = input.below(8);
    match lie {
        0 => share[input.below(32)] ^= 1 << input.below(8),
        1 => proof[input.below(DEPTH)][input.below(32)] ^= 1 << input.below(8),
        2 => (share, proof) = (*others.get(path).expose(), other_tree.proof(path)),
        3 => {
            let other = PathId::new((path.get() + 1) % 25).expect("below 25");
            (share, proof) = (*shares.get(other).expose(), tree.proof(other));
        }
        _ => {}
    }
    Brought { path, share: Secret::new(share), proof, lies: lie < 4 }
}

/// Sixteen right shares make the secret whatever the others are, and name those that lied; fifteen make none.
pub fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(input.u8()));
    let secret: Secret<32> = Secret::random(&mut rng);
    let made = [(); 2].map(|()| {
        let shares = split(&secret, &mut rng);
        let tree = Tree::new(ID, &shares);
        (shares, tree)
    });
    let mut brought = Vec::new();
    for path in PathId::all() {
        // Two in three bring something, in any order, and some bring more than one thing.
        for _ in 0..input.of(&[1, 1, 1, 1, 0, 2]) {
            let one = bring(&mut input, path, &made);
            let at = input.below(brought.len() + 1);
            brought.insert(at, one);
        }
    }
    let (mut right, mut wrong) = (PathSet::EMPTY, PathSet::EMPTY);
    for one in &brought {
        // The first word of a relay counts.
        if !right.contains(one.path) && !wrong.contains(one.path) {
            if one.lies {
                wrong.insert(one.path)
            } else {
                right.insert(one.path)
            };
        }
    }
    let offered: Vec<_> = brought
        .iter()
        .map(|Brought { path, share, proof, .. }| Offered { path: *path, share, proof })
        .collect();
    match recover(&made[0].1.root(), ID, &offered, |found| found.ct_eq(&secret)) {
        Ok(recovered) => {
            assert!(right.len() >= SIXTEEN && recovered.secret.ct_eq(&secret));
            assert_eq!(recovered.liars, wrong);
        }
        Err(RecoverError::TooFew { good, liars }) => {
            assert_eq!((good, liars), (right.len(), wrong));
            assert!(good < SIXTEEN);
        }
        Err(other) => panic!("{other:?}: the client is honest"),
    }
}
