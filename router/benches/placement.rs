//! Cost of one placement decision and of one change of the ring, by cluster size.
//! Figures are in `docs/benchmarks.md`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use router::{
    group::{Group, InService},
    instance::Instance,
    policy::{
        replicas::{Homes, Member},
        ring::{Node, PlacementRing, shares},
    },
};
use shared::{
    api::membership::{Heartbeat, InstanceState},
    id::InstanceId,
};
use std::{collections::BTreeMap, hint::black_box, sync::Arc};

const KEY: &str = "s3://manifold-demo/models/demo-subfolder/squeezenet_v1.0_3.tar.gz";

/// Replicas of the hot model, where there are as many instances.
const N_REPLICAS: usize = 8;

fn id(n: usize) -> InstanceId {
    format!("worker-{n}").parse().expect("a valid id")
}

fn budgets(n_instances: usize) -> BTreeMap<InstanceId, u64> {
    (0..n_instances).map(|n| (id(n), 1 << 30)).collect()
}

fn ring(n_instances: usize) -> PlacementRing {
    PlacementRing::empty().changed_to(&shares(&budgets(n_instances)))
}

fn instance(n: usize) -> Arc<Instance> {
    Arc::new(Instance::new(&Heartbeat {
        instance: id(n),
        fleet: None,
        address: "127.0.0.1:9".parse().expect("an address"),
        boot_id: String::new(),
        state: InstanceState::Serving,
        budget_bytes: 1 << 30,
        resident_bytes: 0,
        n_resident: 0,
        n_in_flight: 0,
        n_slots: 2,
        hot: Vec::new(),
    }))
}

/// A group with `n_hot` hot models, `KEY` among them if there are any.
fn group(n_instances: usize, n_hot: usize) -> Group {
    let instances: InService = (0..n_instances).map(|n| (id(n), instance(n))).collect();
    let members: Vec<Member> = (0..n_instances.min(N_REPLICAS))
        .map(|n| Member { node: Node::of(&id(n)), is_new: false })
        .collect();
    let names = (1..n_hot).map(|n| format!("s3://manifold-demo/models/hot_{n}.tar.gz"));
    let names = names.chain((n_hot > 0).then(|| KEY.to_owned()));
    let homes = Homes { members, spares: Vec::new() };
    let sets: Vec<(Arc<str>, Homes)> = names.map(|name| (Arc::from(name), homes.clone())).collect();
    Group::new(instances, Arc::new(ring(n_instances))).with_hot(&sets)
}

fn place(c: &mut Criterion) {
    let mut bench = c.benchmark_group("place");
    bench.throughput(Throughput::Elements(1));
    for n_instances in [8, 64, 1000] {
        let some_hot = group(n_instances, 1000);
        let groups = [("cold", group(n_instances, 0), KEY), ("hot", some_hot.clone(), KEY)];
        let not_hot = ("cold beside 1000 hot", some_hot, "s3://manifold-demo/models/cold.tar.gz");
        for (name, group, key) in groups.into_iter().chain([not_hot]) {
            bench.bench_function(BenchmarkId::new(name, n_instances), |b| {
                b.iter(|| black_box(group.place(black_box(key), &[], rand::random)));
            });
        }
        // Different models, so that the ring is read all over, as it is in life.
        let (group, names) = (group(n_instances, 0), names());
        let mut turns = names.iter().cycle();
        bench.bench_function(BenchmarkId::new("cold, many models", n_instances), |b| {
            b.iter(|| black_box(group.place(turns.next().expect("endless"), &[], rand::random)));
        });
    }
    bench.finish();
}

fn names() -> Vec<String> {
    (0..100_000).map(|n| format!("s3://manifold-demo/models/resnet_{n}.tar.gz")).collect()
}

fn change(c: &mut Criterion) {
    let mut bench = c.benchmark_group("ring");
    bench.sample_size(20);
    for n_instances in [8, 64, 1000] {
        let (few, many) = (ring(n_instances), ring(n_instances + 1));
        bench.bench_function(BenchmarkId::new("join", n_instances), |b| {
            b.iter(|| black_box(few.changed_to(many.shares())));
        });
        bench.bench_function(BenchmarkId::new("leave", n_instances), |b| {
            b.iter(|| black_box(many.changed_to(few.shares())));
        });
    }
    bench.finish();
}

criterion_group!(benches, place, change);
criterion_main!(benches);
