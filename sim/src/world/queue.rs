//! What will happen: packets that arrive, time-outs of the network, ends of faults.
//!
//! One queue for the whole world, ordered by time and then by the order in which things were
//! scheduled, so that a run is one sequence.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Something that happens to the world between two slices.
pub type Action = Box<dyn FnOnce() + Send>;

/// The queue and the time. Clones share both.
#[derive(Clone, Default)]
pub struct Queue(Arc<Inner>);

/// The number of the last action, and the actions by time and number.
type Waiting = (u64, BTreeMap<(u64, u64), Action>);

#[derive(Default)]
struct Inner {
    now_us: AtomicU64,
    done: AtomicU64,
    waiting: Mutex<Waiting>,
}

thread_local! {
    /// The slice that runs on this thread: its beginning in the world's time and in the host's.
    static SLICE: Cell<Option<(u64, Instant)>> = const { Cell::new(None) };
}

/// Says that a host's slice begins, and takes it back when dropped.
pub(super) struct Slice;

impl Slice {
    pub(super) fn begin(now_us: u64, host: Instant) -> Slice {
        SLICE.set(Some((now_us, host)));
        Slice
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        SLICE.set(None);
    }
}

impl Queue {
    /// The present, µs since the start of the run: inside a slice as its host sees it.
    pub fn now_us(&self) -> u64 {
        match SLICE.get() {
            Some((begin_us, host)) => {
                begin_us + Instant::now().saturating_duration_since(host).as_micros() as u64
            }
            None => self.0.now_us.load(Ordering::Relaxed),
        }
    }

    /// Sets the time, between slices.
    pub(super) fn set_now_us(&self, now_us: u64) {
        self.0.now_us.store(now_us, Ordering::Relaxed);
    }

    /// Lets something happen at a time; what is due already happens before the next slice.
    pub fn at(&self, at_us: u64, action: Action) {
        let (next, waiting) = &mut *self.0.waiting.lock();
        *next += 1;
        waiting.insert((at_us, *next), action);
    }

    /// Lets everything happen that is due.
    pub(super) fn run_due(&self) {
        let now = self.0.now_us.load(Ordering::Relaxed);
        loop {
            let action = {
                let (_, waiting) = &mut *self.0.waiting.lock();
                match waiting.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => return,
                }
            };
            self.0.done.fetch_add(1, Ordering::Relaxed);
            action();
        }
    }

    /// Things that happened so far.
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }
}
