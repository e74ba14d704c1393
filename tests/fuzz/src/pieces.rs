//! One input in many cuts, and whatever else is left to chance.

/// Numbers that depend on the input alone (xorshift over an FNV hash).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Drawn from an input.
    pub fn of(octets: &[u8]) -> Chance {
        let step = |hash: u64, &octet: &u8| (hash ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3);
        Chance(octets.iter().fold(0xcbf2_9ce4_8422_2325, step) | 1)
    }

    /// The next number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) as usize) % end.max(1)
    }
}

/// The octets in pieces: single octets, small pieces or larger ones.
pub fn cut<'a>(octets: &'a [u8], chance: &mut Chance) -> Vec<&'a [u8]> {
    let most = [1, 3, 20, 500][chance.below(4)];
    let mut pieces = Vec::new();
    let mut rest = octets;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + chance.below(most)).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}
