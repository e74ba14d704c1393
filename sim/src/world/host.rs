//! A host: one process at a time, on a runtime of its own with a paused clock.
//!
//! The runtime is what makes the shipped code killable: whatever a library spawns lives on it and
//! dies with it, timers follow the host's own clock, and tokio's own randomness is seeded.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use posthouse_node::rare::{self, Rare};
use rand::Rng as _;
use tokio::runtime::{Builder, RngSeed, Runtime};
use tokio::time::Instant;

use super::HostId;
use super::fence::Fence;
use super::queue::Slice;
use crate::stream::stream;

/// What the poll hook of one life shares with the world.
#[derive(Default)]
struct Polls {
    done: AtomicU64,
    /// The poll before which the process dies; 0: none.
    last: AtomicU64,
    /// The step of something long at which it dies.
    step: Mutex<Option<Step>>,
}

/// A step of something long, told by the marks that the process passes.
struct Step {
    /// Any of them.
    marks: &'static [Rare],
    /// How often they are still passed.
    left: u64,
    /// How often anybody in the world had passed them when this was last looked at.
    seen: u64,
}

impl Step {
    fn passed(&self) -> u64 {
        self.marks.iter().map(|mark| rare::of_thread(*mark)).sum()
    }
}

impl Polls {
    /// Another process may have passed marks since: they are not this one's.
    fn begin_slice(&self) {
        if let Some(step) = &mut *self.step.lock() {
            step.seen = step.passed();
        }
    }

    /// Whether the step is reached.
    fn at_step(&self) -> bool {
        let mut step = self.step.lock();
        let Some(of) = &mut *step else {
            return false;
        };
        let passed = of.passed();
        of.left = of.left.saturating_sub(passed - of.seen);
        of.seen = passed;
        let reached = of.left == 0;
        if reached {
            *step = None;
        }
        reached
    }
}

/// What a process is for.
type Main = Pin<Box<dyn Future<Output = ()>>>;

/// One life of a process.
pub struct Life {
    main: Option<Main>,
    runtime: Runtime,
    fence: Fence,
    polls: Arc<Polls>,
    began: Instant,
    /// Time that has passed for the host, µs of its own clock.
    lived_us: u64,
    /// ms of it that the runtime has seen.
    run_ms: u64,
}

impl Life {
    /// A new process on a host; everything random in it follows from the arguments.
    pub fn new(seed: u64, host: HostId, incarnation: u32) -> Life {
        let fence = Fence::default();
        let polls = Arc::new(Polls::default());
        let mut draw = stream(
            seed,
            "runtime",
            u64::from(host.0) << 32 | u64::from(incarnation),
        );
        let mut octets = [0; 32];
        draw.fill_bytes(&mut octets);
        let (counted, killed) = (Arc::clone(&polls), fence.clone());
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&octets))
            .on_before_task_poll(move |_| {
                let n = counted.done.fetch_add(1, Ordering::Relaxed) + 1;
                if n == counted.last.load(Ordering::Relaxed) || counted.at_step() {
                    killed.kill();
                }
            })
            .build()
            .expect("a runtime without any driver of the system can always be built");
        let began = runtime.block_on(async { Instant::now() });
        Life {
            main: None,
            runtime,
            fence,
            polls,
            began,
            lived_us: 0,
            run_ms: 0,
        }
    }

    /// Gives the process something to do.
    pub fn set_main(&mut self, main: impl Future<Output = ()> + 'static) {
        self.main = Some(Box::pin(main));
    }

    /// The fence of this life.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Its runtime, to spawn on.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Polls of tasks so far.
    pub fn polls(&self) -> u64 {
        self.polls.done.load(Ordering::Relaxed)
    }

    /// Lets the process die before its `n`-th poll from now on.
    pub fn die_at_poll(&self, n: u64) {
        self.polls
            .last
            .store(self.polls() + n.max(1), Ordering::Relaxed);
    }

    /// Lets the process die when it has passed these marks `n` times from now on.
    pub fn die_at_step(&self, marks: &'static [Rare], n: u64) {
        let mut step = Step {
            marks,
            left: n.max(1),
            seen: 0,
        };
        step.seen = step.passed();
        *self.polls.step.lock() = Some(step);
    }

    /// Lets the process die at no point of its work any more.
    pub fn spare(&self) {
        self.polls.last.store(0, Ordering::Relaxed);
        *self.polls.step.lock() = None;
    }

    /// Runs the slice of the world that begins at `now_us` and lasts `slice_us`, of which the
    /// host's clock sees `ppm` parts per million more or less.
    pub fn run(&mut self, now_us: u64, slice_us: u64, ppm: i32) {
        let drift = slice_us as i64 * i64::from(ppm) / 1_000_000;
        self.lived_us += (slice_us as i64 + drift).max(0) as u64;
        let until_ms = self.lived_us / 1000;
        // Timers are as fine as a millisecond, and so are slices.
        if until_ms == self.run_ms {
            return;
        }
        let from = self.began + Duration::from_millis(self.run_ms);
        let until = self.began + Duration::from_millis(until_ms);
        self.run_ms = until_ms;
        let _slice = Slice::begin(now_us, from);
        self.polls.begin_slice();
        let main = &mut self.main;
        self.runtime.block_on(async move {
            let mut end = std::pin::pin!(tokio::time::sleep_until(until));
            poll_fn(|cx| {
                // At the end of the slice `main` is not polled any more: whoever yields in that
                // poll is woken only when the runtime goes on, and this one returns at once. A
                // future that polls its parts by their wake-ups would wait for that one for ever.
                let over = end.as_mut().poll(cx);
                if over.is_pending()
                    && main
                        .as_mut()
                        .is_some_and(|m| m.as_mut().poll(cx).is_ready())
                {
                    *main = None;
                }
                over
            })
            .await;
        });
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _inside = self.runtime.enter();
        self.main = None;
    }
}
