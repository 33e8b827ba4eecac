//! How fast are the inner loops of the grid on one core, and what do vector instructions bring?
//!
//! Encodes grid parity, encodes MDS parity, and recovers nine lost data stripes, with every kernel that this processor
//! has. Stripes of 4 KiB; a rate counts the 64 KiB of *data* of a block, whatever else is read or written. The
//! recovery includes its plan, as it does in use.
//!
//! `cargo bench -p qsocket-benches --bench kernels`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qsocket_proto::grid::{Kernel, ParitySet, Plan, StripeId, StripeSet, parity_with};
use qsocket_proto::ids::SIXTEEN;
use std::hint::black_box;

const STRIPE: usize = 4096;
const LOST: usize = 9;

/// A block whose bytes differ from stripe to stripe.
fn block() -> Vec<u8> {
    (0..SIXTEEN * STRIPE).map(|i| (i ^ (i >> 7) ^ (i >> 13)) as u8).collect()
}

fn encode(c: &mut Criterion, name: &str, set: ParitySet) {
    let data = block();
    let mut parity = vec![0; LOST * STRIPE];
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(data.len() as u64));
    for kernel in Kernel::available() {
        group.bench_function(BenchmarkId::from_parameter(kernel.name()), |b| {
            b.iter(|| {
                parity_with(kernel, set, black_box(&data), black_box(&mut parity)).expect("lengths fit")
            });
        });
    }
}

fn decode(c: &mut Criterion) {
    let data = block();
    let mut parity = vec![0; LOST * STRIPE];
    parity_with(Kernel::detect(), ParitySet::Mds, &data, &mut parity).expect("lengths fit");
    let lost: StripeSet = StripeSet::DATA.iter().take(LOST).collect();
    let mds: Vec<StripeId> = StripeId::all().filter(|id| id.index() >= 25).collect();
    let have = mds.iter().fold(StripeSet::DATA.difference(lost), |mut have, id| {
        have.insert(*id);
        have
    });
    let mut group = c.benchmark_group("MDS decode, 9 lost");
    group.throughput(Throughput::Bytes(data.len() as u64));
    for kernel in Kernel::available() {
        let mut damaged = data.clone();
        damaged[..LOST * STRIPE].fill(0);
        group.bench_function(BenchmarkId::from_parameter(kernel.name()), |b| {
            b.iter(|| {
                let plan = Plan::new(black_box(have));
                let bytes = |id: StripeId| parity.chunks(STRIPE).nth(id.index() - 25);
                plan.apply_with(kernel, black_box(&mut damaged), bytes).expect("nine of nine are there");
            });
        });
        assert_eq!(damaged, data, "{kernel:?} recovered something else");
    }
}

fn kernels(c: &mut Criterion) {
    encode(c, "grid encode", ParitySet::Grid);
    encode(c, "MDS encode", ParitySet::Mds);
    decode(c);
}

criterion_group!(benches, kernels);
criterion_main!(benches);
