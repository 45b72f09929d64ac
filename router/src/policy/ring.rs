//! Ranks instances for a key by consistent hashing. The only file that names
//! `consistent_hash_ring`.
//!
//! # Invariants
//!
//! - The order is a pure function of the instances and their weights: no seed, no history, no
//!   insertion order. Every router computes the same.
//! - An instance never has fewer than one virtual node, so that the crate's search for the next
//!   distinct instance always ends.

use consistent_hash_ring::{Ring, RingBuilder};
use shared::id::InstanceId;
use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Virtual nodes of an instance of average memory: its share of the keys then deviates by about
/// 1/√512 = 4 %. A constant, not a flag: routers that differ would disagree on every model.
const VIRTUAL_NODES: u64 = 512;

/// The share of [`VIRTUAL_NODES`] by which weights step. Budgets are measured and wobble; steps of
/// a quarter keep the ring still until an instance really differs from the others.
const STEPS: u64 = 4;

/// At most four times the average, so that one giant cannot take nearly all models, nor fill the
/// ring. At least one step. Both together bound the ring to 1.25 × 512 virtual nodes per instance;
/// the number of instances has its own limit (`--max-instances`).
const MAX_STEPS: u64 = 4 * STEPS;

/// A hash that mixes well also for short keys that differ in their last character, unlike the
/// crate's FNV. Fixed: changing it moves every model.
const SEED: u64 = 0x6d61_6e69_666f_6c64;

/// The instances of a cluster, in an order of preference per key.
#[derive(Clone)]
pub struct PlacementRing {
    ring: Ring<Node, Xxh3>,
    shares: Shares,
}

/// How many virtual nodes each instance has.
pub type Shares = BTreeMap<InstanceId, usize>;

/// Returns each instance's virtual nodes by its memory budget, relative to the average budget.
pub fn shares(budgets: &BTreeMap<InstanceId, u64>) -> Shares {
    let total: u128 = budgets.values().copied().map(u128::from).sum();
    let n_instances = budgets.len() as u128;
    let share = |budget: u64| {
        // Rounded to the nearest step; an average of zero says nothing, so all are equal.
        let steps = (2 * u128::from(budget) * u128::from(STEPS) * n_instances + total)
            .checked_div(2 * total)
            .map_or(STEPS, |steps| u64::try_from(steps).unwrap_or(MAX_STEPS));
        let virtual_nodes = steps.clamp(1, MAX_STEPS) * VIRTUAL_NODES / STEPS;
        usize::try_from(virtual_nodes).expect("at most 2048")
    };
    budgets.iter().map(|(instance, budget)| (instance.clone(), share(*budget))).collect()
}

impl PlacementRing {
    pub fn empty() -> Self {
        Self { ring: RingBuilder::new(Xxh3).build(), shares: Shares::new() }
    }

    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Returns this ring with exactly the instances of `wanted`. Blocks: each virtual node that
    /// changes moves a part of the ring (about 0.1 ms per instance in a small ring, 30 ms beside
    /// 256 others), so call it from a blocking thread. What stays as it is costs nothing.
    #[must_use]
    pub fn changed_to(&self, wanted: &Shares) -> Self {
        let mut ring = self.ring.clone();
        for gone in self.shares.keys().filter(|instance| !wanted.contains_key(*instance)) {
            ring.remove(&Node::new(gone));
        }
        for (instance, virtual_nodes) in wanted {
            if self.shares.get(instance) != Some(virtual_nodes) {
                ring.insert_weight(Node::new(instance), *virtual_nodes);
            }
        }
        Self { ring, shares: wanted.clone() }
    }

    /// Returns every instance once, most preferred first. Lazy: the first costs a binary search.
    pub fn preference<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a InstanceId> + use<'a> {
        // The crate skips instances that it has given already: distinct, and all of them.
        self.ring.replicas(Key(key)).map(|node| &*node.0)
    }
}

impl fmt::Debug for PlacementRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlacementRing").field("shares", &self.shares).finish_non_exhaustive()
    }
}

/// An instance on the ring. Shared, because the ring holds it once per virtual node.
#[derive(Clone, PartialEq, Eq)]
struct Node(Arc<InstanceId>);

impl Node {
    fn new(instance: &InstanceId) -> Self {
        Self(Arc::new(instance.clone()))
    }
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        Key(self.0.as_str()).hash(hasher);
    }
}

/// Hashes as its bytes alone: what the standard library adds for strings is not promised to stay.
struct Key<'a>(&'a str);

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(self.0.as_bytes());
    }
}

/// XXH3 in one shot per write. The crate's streaming hasher sets up half a kilobyte for each key.
#[derive(Clone)]
struct Xxh3;

impl BuildHasher for Xxh3 {
    type Hasher = OneShot;

    fn build_hasher(&self) -> OneShot {
        OneShot(SEED)
    }
}

struct OneShot(u64);

impl Hasher for OneShot {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// The ring hashes hashes: the same bytes on every machine.
    fn write_u64(&mut self, value: u64) {
        self.write(&value.to_le_bytes());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
