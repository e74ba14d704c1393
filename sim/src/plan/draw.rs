//! Draws that the parts of the generator share: by weight, and over orders of magnitude.

use rand::RngExt;

use crate::stream::Stream;

/// One of these, by its weight. The list is not empty and has a weight above 0.
pub fn weighted<T: Clone>(rng: &mut Stream, choices: &[(u32, T)]) -> T {
    let total: u32 = choices.iter().map(|(w, _)| w).sum();
    let mut at = rng.random_range(0..total.max(1));
    for (weight, choice) in choices {
        if at < *weight {
            return choice.clone();
        }
        at -= weight;
    }
    choices[choices.len() - 1].1.clone()
}

/// A number from `low` to `high` in which every power of two is about as likely as another: small
/// ones stay common in a wide range. Integers alone, so that a seed is the same on every machine.
pub fn scaled(rng: &mut Stream, low: u64, high: u64) -> u64 {
    let (low, high) = (low + 1, high + 1);
    let bits = rng.random_range(low.ilog2()..=high.ilog2());
    let from = low.max(1 << bits);
    let to = high.min((1 << bits) + ((1 << bits) - 1));
    rng.random_range(from..=to) - 1
}

/// True once in `n` times.
pub fn one_in(rng: &mut Stream, n: u32) -> bool {
    rng.random_range(0..n) == 0
}

/// So many different numbers below `below`, in drawn order.
pub fn some(rng: &mut Stream, count: u32, below: u32) -> Vec<u32> {
    let mut all: Vec<u32> = (0..below).collect();
    let count = count.min(below) as usize;
    for i in 0..count {
        let j = rng.random_range(i..all.len());
        all.swap(i, j);
    }
    all.truncate(count);
    all
}

/// All numbers below `below`, in drawn order.
pub fn shuffled(rng: &mut Stream, below: u32) -> Vec<u32> {
    some(rng, below, below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::stream;

    #[test]
    fn draws_stay_in_their_range_and_reach_its_ends() {
        let rng = &mut stream(1, "draw", 0);
        let drawn: Vec<u64> = (0..2000).map(|_| scaled(rng, 0, 3)).collect();
        assert!((0..=3).all(|n| drawn.contains(&n)));
        assert!((0..2000).all(|_| (512..=8192).contains(&scaled(rng, 512, 8192))));
        assert!((0..2000).all(|_| weighted(rng, &[(0, 'a'), (3, 'b'), (1, 'c')]) != 'a'));
    }

    #[test]
    fn some_are_different_and_below_the_bound() {
        let rng = &mut stream(2, "draw", 0);
        for count in 0..6 {
            let mut drawn = some(rng, count, 4);
            assert_eq!(drawn.len(), count.min(4) as usize);
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), count.min(4) as usize);
            assert!(drawn.iter().all(|n| *n < 4));
        }
    }
}
