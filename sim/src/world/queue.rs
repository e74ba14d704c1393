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

#[derive(Default)]
struct Waiting {
    /// Number of the last action.
    last: u64,
    /// By time and number.
    actions: BTreeMap<(u64, u64), Action>,
    /// The world has ended.
    over: bool,
}

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
        let waiting = &mut *self.0.waiting.lock();
        if !waiting.over {
            waiting.last += 1;
            waiting.actions.insert((at_us, waiting.last), action);
        }
    }

    /// Lets nothing happen any more. What waits is dropped: it holds the world that holds the queue.
    pub(super) fn end(&self) {
        let waiting = {
            let waiting = &mut *self.0.waiting.lock();
            waiting.over = true;
            std::mem::take(&mut waiting.actions)
        };
        drop(waiting);
    }

    /// Lets everything happen that is due.
    pub(super) fn run_due(&self) {
        let now = self.0.now_us.load(Ordering::Relaxed);
        loop {
            let action = {
                let waiting = &mut *self.0.waiting.lock();
                match waiting.actions.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => return,
                }
            };
            self.0.done.fetch_add(1, Ordering::Relaxed);
            action();
        }
    }

    /// Is gone when nothing holds the queue any more.
    #[cfg(test)]
    pub fn left(&self) -> std::sync::Weak<dyn std::any::Any + Send + Sync> {
        let any: Arc<dyn std::any::Any + Send + Sync> = self.0.clone();
        Arc::downgrade(&any)
    }

    /// Things that happened so far.
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }
}
