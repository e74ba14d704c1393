//! The time of a host: what its wall clock shows, and how long its machine has been running.
//!
//! The world moves [`HostTime`] at the beginning of each slice, whether or not a process lives on
//! the host; disk and wall clock read it. Timers are tokio's and need nothing from here.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use posthouse_node::env::clock::Clock;

/// Milliseconds since a host began, by its own oscillator. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct HostTime(Arc<AtomicU64>);

impl HostTime {
    /// Now, ms.
    pub fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Moves it. The world alone does this.
    pub fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }
}

/// A value of `Shared::frozen` that says: it runs.
const RUNS: u64 = u64::MAX;

#[derive(Debug)]
struct Shared {
    time: HostTime,
    /// What is to be added to the host's time.
    offset_ms: AtomicI64,
    /// What it shows while it stands still.
    frozen: AtomicU64,
}

/// The wall clock of a host. It survives the host's processes; clones share it.
#[derive(Debug, Clone)]
pub struct SimClock(Arc<Shared>);

impl SimClock {
    /// A clock that shows `start_ms` (since 1970) when the host's time is 0. A host with a skewed
    /// clock begins with another value.
    pub fn new(start_ms: u64) -> SimClock {
        SimClock(Arc::new(Shared {
            time: HostTime::default(),
            offset_ms: AtomicI64::new(i64::try_from(start_ms).unwrap_or(i64::MAX)),
            frozen: AtomicU64::new(RUNS),
        }))
    }

    /// The time of the host, for the world to move and for the disk to read.
    pub fn time(&self) -> &HostTime {
        &self.0.time
    }

    /// As a process sees it.
    pub fn for_process(&self) -> Arc<dyn Clock> {
        Arc::new(self.clone())
    }

    /// Sets it forward, or back.
    pub fn jump(&self, by_ms: i64) {
        let jumped = |offset: i64| Some(offset.saturating_add(by_ms));
        let order = Ordering::Relaxed;
        // It never fails: the closure always answers.
        let _ = self.0.offset_ms.fetch_update(order, order, jumped);
        if self.0.frozen.load(order) != RUNS {
            self.0.frozen.store(self.running_ms(), order);
        }
    }

    /// Makes it stand still, or run again from where it would be by now.
    pub fn freeze(&self, frozen: bool) {
        let value = match frozen {
            true => self.now_ms(),
            false => RUNS,
        };
        self.0.frozen.store(value, Ordering::Relaxed);
    }

    fn running_ms(&self) -> u64 {
        let offset = self.0.offset_ms.load(Ordering::Relaxed);
        self.0.time.now_ms().saturating_add_signed(offset)
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        match self.0.frozen.load(Ordering::Relaxed) {
            RUNS => self.running_ms(),
            frozen => frozen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_host_jumps_and_freezes() {
        let clock = SimClock::new(1_000);
        let seen = clock.for_process();
        clock.time().set(5);
        assert_eq!(seen.now_ms(), 1_005);
        clock.jump(-900);
        assert_eq!(seen.now_ms(), 105);
        clock.freeze(true);
        clock.time().set(50);
        assert_eq!(seen.now_ms(), 105, "it stands still");
        clock.jump(10);
        assert_eq!(seen.now_ms(), 160, "setting it works all the same");
        clock.freeze(false);
        clock.time().set(60);
        assert_eq!(seen.now_ms(), 170);
        clock.jump(i64::MIN);
        assert_eq!(seen.now_ms(), 0, "never before 1970");
    }
}
