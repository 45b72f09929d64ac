//! Ranks instances for a key by consistent hashing. The only file that names
//! `consistent_hash_ring`.
//!
//! The crate keeps a ring as one sorted vector, and an insertion moves half of it. So the ring is
//! cut into shards, each a ring of the crate with a part of every instance's virtual nodes; a key
//! belongs to one shard. The balance is that of one ring with all virtual nodes, and a change
//! moves a hundredth of the memory. See `docs/adr/0005-sharded-ring.md` for the figures.
//!
//! # Invariants
//!
//! - The order is a pure function of the instances and their weights: no seed, no history, no
//!   insertion order. Every router computes the same.
//! - Without an instance the order of all others is what it was, as long as their weights are:
//!   whoever is second for a key is first once the first is gone, and holds what was warmed there.
//! - An instance has at least one virtual node in each shard, so that every order is complete, and
//!   the crate's search for the next distinct instance always ends.

mod node;
mod shares;

pub use node::{ByHash, Key, Node};
pub use shares::{Shares, shares};

use self::node::{N_SHARDS, SEED};
use consistent_hash_ring::{Ring, RingBuilder};
use std::{
    fmt,
    hash::{BuildHasher, Hasher},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The instances of a cluster, in an order of preference per key.
#[derive(Clone)]
pub struct PlacementRing {
    shards: Vec<Ring<Node, Chain>>,
    shares: Shares,
}

impl PlacementRing {
    pub fn empty() -> Self {
        let shards = (0..N_SHARDS as u64).map(|shard| RingBuilder::new(Chain(shard)).build());
        Self { shards: shards.collect(), shares: Shares::new() }
    }

    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Returns this ring with exactly the instances of `wanted`. Blocks for milliseconds where
    /// there are hundreds of instances, so call it from a blocking thread.
    #[must_use]
    pub fn changed_to(&self, wanted: &Shares) -> Self {
        let mut shards = self.shards.clone();
        for gone in self.shares.keys().filter(|instance| !wanted.contains_key(*instance)) {
            for shard in &mut shards {
                shard.remove(&Node::of(gone));
            }
        }
        for (instance, share) in wanted {
            let (node, before) = (Node::of(instance), self.shares.get(instance));
            if before == Some(share) {
                continue;
            }
            for (idx, shard) in shards.iter_mut().enumerate() {
                let share = node.share_in(idx, *share);
                if before.map(|before| node.share_in(idx, *before)) != Some(share) {
                    shard.insert_weight(node, share);
                }
            }
        }
        Self { shards, shares: wanted.clone() }
    }

    /// Returns the most preferred instance: one binary search.
    pub fn first(&self, key: Key) -> Option<Node> {
        self.shards[key.shard()].try_get(key).copied()
    }

    /// Returns every instance once, most preferred first. Lazy; each further one costs a walk past
    /// all that were before it.
    pub fn preference(&self, key: Key) -> impl Iterator<Item = Node> {
        // The crate skips instances that it has given already: distinct, and all of them.
        self.shards[key.shard()].replicas(key).copied()
    }
}

impl fmt::Debug for PlacementRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlacementRing").field("shares", &self.shares).finish_non_exhaustive()
    }
}

/// Says where virtual nodes and keys lie on the ring of one shard.
///
/// The crate hashes an instance to its first virtual node, and the hash of each virtual node to
/// the next. It hashes a key, too, and for each further instance hashes that hash again: then the
/// second for a key would have nothing to do with who is first once the first is gone. So all
/// hashes of instances are even, all of keys are odd, and those of keys stay what they are: the
/// crate looks at the same place again, and walks on to the next instance.
#[derive(Clone)]
struct Chain(u64);

impl BuildHasher for Chain {
    type Hasher = Link;

    fn build_hasher(&self) -> Link {
        Link { shard: self.0, value: 0 }
    }
}

struct Link {
    shard: u64,
    value: u64,
}

impl Hasher for Link {
    fn write(&mut self, bytes: &[u8]) {
        self.value = xxh3_64_with_seed(bytes, SEED ^ self.shard) & !1;
    }

    fn write_u64(&mut self, value: u64) {
        match value % 2 {
            // The same bytes on every machine.
            0 => self.write(&value.to_le_bytes()),
            _ => self.value = value,
        }
    }

    fn finish(&self) -> u64 {
        self.value
    }
}

#[cfg(test)]
mod tests;
