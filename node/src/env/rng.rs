//! Randomness: ids, tokens and jitter.

/// A source of random octets.
pub trait Rng: Send + Sync {
    /// Fills `out` with random octets, good enough for secrets.
    fn fill(&self, out: &mut [u8]);
}

/// Helpers over any [`Rng`].
impl dyn Rng {
    /// Sixteen random octets.
    pub fn id16(&self) -> [u8; 16] {
        let mut out = [0; 16];
        self.fill(&mut out);
        out
    }

    /// A random number.
    pub fn u64(&self) -> u64 {
        let mut out = [0; 8];
        self.fill(&mut out);
        u64::from_le_bytes(out)
    }
}

/// The operating system's generator.
pub struct OsRng;

impl Rng for OsRng {
    #[allow(clippy::disallowed_methods)]
    fn fill(&self, out: &mut [u8]) {
        use rand::Rng as _;
        rand::rng().fill_bytes(out);
    }
}
