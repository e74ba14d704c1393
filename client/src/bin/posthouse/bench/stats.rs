//! Latencies of a bench: every one is kept, so that percentiles are exact.

use std::time::Duration;

/// Latencies in microseconds.
#[derive(Default)]
pub struct Latencies {
    us: Vec<u32>,
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, took: Duration) {
        self.us
            .push(took.as_micros().try_into().unwrap_or(u32::MAX));
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: Latencies) {
        self.us.extend(other.us);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.us.len()
    }

    /// The latency that `percent` of all do not exceed (nearest rank), in milliseconds; 0 when
    /// there are none.
    pub fn percentile_ms(&mut self, percent: f64) -> f64 {
        if self.us.is_empty() {
            return 0.0;
        }
        let rank = (percent / 100.0 * self.us.len() as f64).ceil() as usize;
        let at = rank.clamp(1, self.us.len()) - 1;
        let (_, value, _) = self.us.select_nth_unstable(at);
        f64::from(*value) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut l = Latencies::default();
        assert_eq!(l.percentile_ms(50.0), 0.0);
        for ms in (1..=100).rev() {
            l.add(Duration::from_millis(ms));
        }
        assert_eq!(l.percentile_ms(50.0), 50.0);
        assert_eq!(l.percentile_ms(99.0), 99.0);
        assert_eq!(l.percentile_ms(100.0), 100.0);
        let mut one = Latencies::default();
        one.add(Duration::from_micros(1500));
        one.merge(Latencies::default());
        assert_eq!((one.percentile_ms(99.0), one.count()), (1.5, 1));
    }
}
