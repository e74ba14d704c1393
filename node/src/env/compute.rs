//! Computations that last long enough to be kept off the threads that serve everybody.

use futures::future::BoxFuture;

/// Something to compute. What it finds, it hands over by itself.
pub type Work = Box<dyn FnOnce() + Send>;

/// Runs computations of many milliseconds.
pub trait Compute: Send + Sync {
    /// Runs `work`; ready when it has ended, or when it never will, because the process ends.
    /// Work that has begun goes on to its end, also when nobody waits for it any more.
    fn run(&self, work: Work) -> BoxFuture<'static, ()>;
}

/// On threads of their own.
pub struct Threads;

impl Compute for Threads {
    fn run(&self, work: Work) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            #[allow(clippy::disallowed_methods)]
            let done = tokio::task::spawn_blocking(work).await;
            if let Some(panic) = done.err().and_then(|e| e.try_into_panic().ok()) {
                std::panic::resume_unwind(panic);
            }
        })
    }
}

/// At once, where it is asked for: for simulators, whose time stands still meanwhile.
pub struct AtOnce;

impl Compute for AtOnce {
    fn run(&self, work: Work) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }
}
