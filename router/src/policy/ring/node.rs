//! Instances and keys as the ring knows them: by their hashes.

use shared::id::InstanceId;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// As many that a shard of a thousand instances (8,000 virtual nodes, 200 KB) stays in a core's
/// cache while it changes. A power of two. Fixed, as the seed: a change moves every model.
pub(super) const N_SHARDS: usize = 128;

/// A hash that mixes well also for short keys that differ in their last character, unlike the
/// crate's FNV.
pub(super) const SEED: u64 = 0x6d61_6e69_666f_6c64;

/// An instance on the ring: the hash of its id, always even. Two instances whose hashes are equal,
/// one case in 10¹³ with a thousand instances, would count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(u64);

/// What is placed: the hash of its name, always odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Node {
    pub fn of(instance: &InstanceId) -> Self {
        Self(xxh3_64_with_seed(instance.as_str().as_bytes(), SEED) & !1)
    }

    /// A number that differs from other instances' as if by chance.
    pub(super) fn number(self) -> u64 {
        self.0 >> 1
    }

    /// Its virtual nodes in one shard: the shards have equal parts, and what is left over is one
    /// more in as many of them, beginning with another one for each instance.
    pub(super) fn share_in(self, shard: usize, n_virtual: usize) -> usize {
        let begin = usize::try_from(self.number() % N_SHARDS as u64).expect("less than 128");
        let rest = usize::from((shard + begin) % N_SHARDS < n_virtual % N_SHARDS);
        (n_virtual / N_SHARDS + rest).max(1)
    }
}

impl Key {
    pub fn of(name: &str) -> Self {
        Self(xxh3_64_with_seed(name.as_bytes(), SEED) | 1)
    }

    /// By bits that hardly count for the place within a shard.
    pub(super) fn shard(self) -> usize {
        usize::try_from((self.0 >> 1) % N_SHARDS as u64).expect("less than 128")
    }
}

/// For maps by [`Node`] or [`Key`]: these are hashes already.
pub type ByHash = BuildHasherDefault<Same>;

#[derive(Clone, Copy, Debug, Default)]
pub struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, value: u64) {
        // The lowest bit is the same for all.
        self.0 = value.rotate_right(1);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
