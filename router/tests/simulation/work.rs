//! How evenly work spreads when few models have most of it, and what that costs in copies.

mod instance;
mod router;
mod world;

use world::{Measured, Scenario, World};

/// Instances with two slots at two thirds of what they can do, two routers, Zipf 1.1.
fn scenario(n_instances: usize) -> Scenario {
    Scenario {
        n_instances,
        n_routers: 2,
        n_models: 1_000_000,
        exponent: 1.1,
        utilization: 0.65,
        // Until those of the first moments have given up who waited for models without replicas.
        warm_up_s: 80,
        measured_s: 60,
        has_replicas: true,
        seed: 20_261_123,
    }
}

#[track_caller]
fn check(scenario: Scenario, bound: f64) -> Measured {
    let measured = World::run(scenario);
    println!("{scenario:?}\n  {measured:?}");
    assert!(measured.served_max_to_mean <= bound, "served work {}", measured.served_max_to_mean);
    assert!(measured.copies_per_model <= 1.05, "copies {}", measured.copies_per_model);
    // In flight there may be loads of what is not resident yet.
    assert!(measured.loads_per_copy < 1.01, "loads {}", measured.loads_per_copy);
    measured
}

#[test]
fn work_is_even_among_8_instances() {
    check(scenario(8), 1.35);
}

#[test]
fn work_is_even_among_32_instances() {
    check(scenario(32), 1.45);
}

#[test]
fn work_is_even_among_128_instances() {
    check(scenario(128), 1.45);
}

#[test]
fn work_is_even_among_1000_instances() {
    check(scenario(1000), 1.45);
}

/// Copies count against the models that were used at all: with few models they are most.
#[test]
fn few_models_have_few_copies_as_well() {
    check(Scenario { n_models: 2000, ..scenario(8) }, 1.35);
}

/// What the replicas are for: the same without them.
#[test]
fn without_replicas_work_would_not_be_even() {
    let measured = World::run(Scenario { has_replicas: false, ..scenario(32) });
    println!("without replicas: {measured:?}");
    assert!(measured.served_max_to_mean > 1.5);
}
