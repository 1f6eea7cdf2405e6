//! Randomness that follows from a seed, and hashing that follows from the same seed.
//!
//! The shard mints client ids and epochs from [`Rng`]; the server seeds it from the operating system, the simulation
//! from the seed of the run. [`Keyed`] places channels on shards and keys the tables: without the seed nobody can
//! pick names that collide, with it every run iterates alike.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};

/// SplitMix64 (Steele, Lea, Flood 2014): small, full period, good enough for ids that need be unique and not secret.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Two generators with one seed give the same numbers.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0. The bias is below 2⁻³² for bounds below 2³².
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// SipHash under a secret prefix, the same on every shard of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keyed(pub(crate) u64);

impl Keyed {
    pub(crate) fn hash_of(self, value: impl Hash) -> u64 {
        self.hash_one(value)
    }
}

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}
