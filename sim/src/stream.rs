//! Random streams with names, so that taking one fault away does not shift the draws of another.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A reproducible source of randomness.
pub type Stream = ChaCha8Rng;

/// The stream of `seed` with this name; `index` tells apart many of a kind (nodes, links, clients).
pub fn stream(seed: u64, name: &str, index: u64) -> Stream {
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes());
    hash.update(&index.to_le_bytes());
    hash.update(name.as_bytes());
    ChaCha8Rng::from_seed(*hash.finalize().as_bytes())
}
