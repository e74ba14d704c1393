//! Randomness of one life of a process: a stream with a name, so that another life, another node
//! or one fault less draws nothing out of it.

use parking_lot::Mutex;
use posthouse_node::env::rng::Rng;
use rand::Rng as _;

use crate::stream::{Stream, stream};

/// The source of random octets of one life of one process.
pub struct SimRng(Mutex<Stream>);

impl SimRng {
    /// The stream of `seed` with this name; `index` tells nodes and lives apart.
    pub fn new(seed: u64, name: &str, index: u64) -> SimRng {
        SimRng(Mutex::new(stream(seed, name, index)))
    }
}

impl Rng for SimRng {
    fn fill(&self, out: &mut [u8]) {
        self.0.lock().fill_bytes(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_gives_the_same_octets() {
        let draw = |seed, name, index| {
            let rng: &dyn Rng = &SimRng::new(seed, name, index);
            (rng.id16(), rng.u64())
        };
        assert_eq!(draw(1, "node", 2), draw(1, "node", 2));
        assert_ne!(draw(1, "node", 2), draw(1, "node", 3));
        assert_ne!(draw(1, "node", 2), draw(1, "client", 2));
        assert_ne!(draw(1, "node", 2), draw(2, "node", 2));
    }
}
