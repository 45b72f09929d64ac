//! Cost of one placement decision and of one change of the ring, by cluster size.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use router::policy::ring::{PlacementRing, shares};
use shared::id::InstanceId;
use std::{collections::BTreeMap, hint::black_box};

const KEY: &str = "s3://manifold-demo/models/demo-subfolder/squeezenet_v1.0_3.tar.gz";

fn budgets(n_instances: usize) -> BTreeMap<InstanceId, u64> {
    (0..n_instances)
        .map(|n| (format!("worker-{n}").parse().expect("a valid id"), 1 << 30))
        .collect()
}

fn ring(n_instances: usize) -> PlacementRing {
    PlacementRing::empty().changed_to(&shares(&budgets(n_instances)))
}

fn place(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring/place");
    group.throughput(Throughput::Elements(1));
    for n_instances in [2, 16, 128] {
        let ring = ring(n_instances);
        group.bench_with_input(BenchmarkId::new("first", n_instances), &ring, |b, ring| {
            b.iter(|| black_box(ring.preference(black_box(KEY)).next()));
        });
        group.bench_with_input(BenchmarkId::new("three", n_instances), &ring, |b, ring| {
            b.iter(|| black_box(ring.preference(black_box(KEY)).take(3).count()));
        });
    }
    group.finish();
}

fn change(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring/join");
    group.sample_size(10);
    for n_instances in [2, 16, 128] {
        let before = ring(n_instances);
        let after = shares(&budgets(n_instances + 1));
        group.bench_with_input(BenchmarkId::from_parameter(n_instances), &after, |b, after| {
            b.iter(|| black_box(before.changed_to(after)));
        });
    }
    group.finish();
}

criterion_group!(benches, place, change);
criterion_main!(benches);
